//! Why a selection takes longer than it was to take, told by the figures.

use std::fmt::{self, Display, Formatter};

use super::selections::Cost;
use crate::predictions::CASES;
use crate::selection::{BLIND, EMPTY, Executed, Selection, Traffic};

/// A section for the cases that miss their targets, as Markdown; nothing if none does.
pub(super) struct Reasons<'a>(pub(super) &'a Selection);

impl Display for Reasons<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let costs = Cost::all(self.0).into_iter();
        let missed: Vec<Cost> = costs.filter(|cost| !cost.is_reached()).collect();
        if missed.is_empty() {
            return Ok(());
        }
        writeln!(f, "\n### Why the targets are missed\n")?;
        let longest = self.longest();
        write!(
            f,
            "The floor is a blind choice: it calls the helper `sk_select_reuseport`, without which nothing is steered, and looks at nothing. Beside it \
             there are the program's own instructions, atomic operations and other helpers (look-ups in arrays are no calls any more once \
             the kernel has loaded the program). "
        )?;
        if let Some((case, workers, parts)) = &longest {
            write!(
                f,
                "Where nothing else weighs, an instruction takes {:.2} ns: so much it is in {case} with {workers} workers, which executes the most, {}. \
                 What is above that price is for atomic operations, calls, instructions that wait for one another, jumps that were guessed wrong, and \
                 data that is not in the nearest cache even when the program runs in a row. ",
                parts.ns_per_instruction(),
                parts.executed.instructions
            )?;
        }
        writeln!(
            f,
            "What a selection among connections takes more than a warm one is waiting for memory. These are medians, which add up only nearly.\n"
        )?;
        let price_ns = longest.map(|(_, _, parts)| parts.ns_per_instruction());
        for cost in missed {
            write!(f, "- **{}**, {} workers: ", cost.case, cost.workers)?;
            match Parts::of(self.0, cost.case, cost.workers) {
                Some(parts) => parts.write(f, cost.target_ns, price_ns)?,
                None => writeln!(f, "not counted.")?,
            }
        }
        Ok(())
    }
}

impl Reasons<'_> {
    /// The case that executes the most: what a single instruction takes, other things weigh the least in.
    fn longest(&self) -> Option<(&'static str, u16, Parts<'_>)> {
        let sizes = self.0.sizes();
        let all = sizes
            .iter()
            .flat_map(|&workers| CASES.map(|case| Some((case, workers, Parts::of(self.0, case, workers)?))));
        all.flatten()
            .filter(|(_, _, parts)| parts.more_instructions() > 0)
            .max_by_key(|(_, _, parts)| parts.executed.instructions)
    }
}

/// Where the time of a case goes, in nanoseconds.
struct Parts<'a> {
    above_ns: f64,
    /// Of the blind choice, above the empty program.
    floor_ns: f64,
    warm_floor_ns: f64,
    /// Of the case, above the blind choice.
    rest_ns: f64,
    warm_rest_ns: f64,
    floor: &'a Executed,
    executed: &'a Executed,
}

impl<'a> Parts<'a> {
    fn of(selection: &'a Selection, case: &str, workers: u16) -> Option<Self> {
        let median = |base, traffic, case| Some(selection.above(base, traffic, case, workers)?.median);
        Some(Self {
            above_ns: median(EMPTY, Traffic::Connections, case)?,
            floor_ns: median(EMPTY, Traffic::Connections, BLIND)?,
            warm_floor_ns: median(EMPTY, Traffic::Datagrams, BLIND)?,
            rest_ns: median(BLIND, Traffic::Connections, case)?,
            warm_rest_ns: median(BLIND, Traffic::Datagrams, case)?,
            floor: selection.executed(BLIND, workers)?,
            executed: selection.executed(case, workers)?,
        })
    }

    /// Than the floor executes.
    fn more_instructions(&self) -> u64 {
        self.executed.instructions.saturating_sub(self.floor.instructions)
    }

    /// Warm, of those that are more than the floor's.
    fn ns_per_instruction(&self) -> f64 {
        self.warm_rest_ns / self.more_instructions() as f64
    }

    /// `price_ns` is what an instruction by itself takes.
    fn write(&self, f: &mut Formatter<'_>, target_ns: f64, price_ns: Option<f64>) -> fmt::Result {
        let Self {
            above_ns,
            floor_ns,
            warm_floor_ns,
            rest_ns,
            warm_rest_ns,
            ..
        } = *self;
        write!(
            f,
            "{above_ns:.0} ns above empty. The target is {target_ns:.0}, and the floor {floor_ns:.0} ({warm_floor_ns:.0} warm)"
        )?;
        if floor_ns > target_ns {
            write!(f, ": no program that selects reaches that here")?;
        }
        let waiting_ns = rest_ns - warm_rest_ns;
        if waiting_ns > 0.0 {
            write!(
                f,
                ". Of the other {rest_ns:.0} ns, {warm_rest_ns:.0} are left warm, and {waiting_ns:.0} are waiting for memory."
            )?;
        } else {
            write!(f, ". The other {rest_ns:.0} ns are no less warm ({warm_rest_ns:.0}).")?;
        }
        let Executed {
            instructions,
            atomics,
            helpers,
            inlined,
            ..
        } = self.executed;
        write!(
            f,
            " It executes {instructions} instructions ({} the floor), {atomics} atomic operations and {helpers} helpers ({inlined} of them look-ups in arrays)",
            self.floor.instructions
        )?;
        if self.more_instructions() > 0 {
            write!(
                f,
                ": {:.2} ns, warm, for each instruction more than the floor's",
                self.ns_per_instruction()
            )?;
            if let Some(price_ns) = price_ns.filter(|&price_ns| price_ns < self.ns_per_instruction()) {
                let own_ns = price_ns * self.more_instructions() as f64;
                write!(f, "; at the price above all of them are {own_ns:.0} ns")?;
            }
        }
        writeln!(f, ".")
    }
}
