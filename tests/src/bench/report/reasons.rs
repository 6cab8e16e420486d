//! Why a selection takes longer than it was to take, told by the figures.

use std::fmt::{self, Display, Formatter};

use super::selections::Cost;
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
        writeln!(
            f,
            "What a missed target's time consists of, in the group that stands for the case above. Medians, which add up only nearly.\n"
        )?;
        for cost in missed {
            write!(f, "- **{}**, {} workers: ", cost.case, cost.workers)?;
            match Parts::of(self.0, &cost) {
                Some(parts) => writeln!(f, "{parts}")?,
                None => writeln!(f, "not counted.")?,
            }
        }
        Ok(())
    }
}

/// Where the time of a case goes. All times in nanoseconds.
struct Parts<'a> {
    above_ns: f64,
    aim_ns: f64,
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
    fn of(selection: &'a Selection, cost: &Cost) -> Option<Self> {
        let Cost {
            case,
            workers,
            aim_ns,
            above,
        } = *cost;
        let median = |base, traffic, case| Some(selection.above(base, traffic, case, workers)?.median);
        Some(Self {
            above_ns: above.median,
            aim_ns,
            floor_ns: median(EMPTY, Traffic::Connections, BLIND)?,
            warm_floor_ns: median(EMPTY, Traffic::Datagrams, BLIND)?,
            rest_ns: median(BLIND, Traffic::Connections, case)?,
            warm_rest_ns: median(BLIND, Traffic::Datagrams, case)?,
            floor: selection.executed(BLIND, workers)?,
            executed: selection.executed(case, workers)?,
        })
    }
}

impl Display for Parts<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            above_ns,
            aim_ns,
            floor_ns,
            warm_floor_ns,
            rest_ns,
            warm_rest_ns,
            floor,
            executed,
        } = *self;
        let Executed {
            instructions,
            atomics,
            helpers,
            inlined,
            ..
        } = executed;
        write!(
            f,
            "{above_ns:.0} ns above empty, target {aim_ns:.0}. {floor_ns:.0} of them ({warm_floor_ns:.0} warm) are the floor, the helper \
             `sk_select_reuseport` and {} instructions around it",
            floor.instructions
        )?;
        if floor_ns > aim_ns {
            write!(
                f,
                ": more than the target, which no program that selects can reach here"
            )?;
        }
        write!(
            f,
            ". The program executes {instructions} instructions, with {atomics} atomic operations among them and {helpers} calls of helpers, of which {inlined} \
             are look-ups in arrays, no calls any more once the kernel has loaded them. What is not the floor takes {rest_ns:.0} ns; warm {warm_rest_ns:.0}"
        )?;
        let more = instructions.saturating_sub(floor.instructions);
        if more > 0 && warm_rest_ns > 0.0 {
            write!(
                f,
                ", or {:.2} for each instruction more than the floor's {}",
                warm_rest_ns / more as f64,
                floor.instructions
            )?;
        }
        let waiting_ns = rest_ns - warm_rest_ns;
        if waiting_ns > 0.0 {
            write!(f, ", and {waiting_ns:.0} ns are waiting for memory")?;
        }
        write!(f, ".")
    }
}
