//! The report, as Markdown.

mod reasons;
mod selections;

use std::fmt::{self, Formatter};

use crate::document::{self, Target};
use crate::machine::Machine;
use crate::pairs::Rate;
use crate::predictions::{self, RATIO_TARGET, RATIO_TOLERANCE};
use crate::programs::Used;
use crate::selection::{Selection, Step};
use crate::server::Subject;
use crate::spread::Spread;
use selections::{Cost, Selections};

/// Everything that was measured.
pub(crate) struct Report {
    pub(crate) revision: String,
    pub(crate) date: String,
    pub(crate) machine: Machine,
    pub(crate) rates: Vec<Rate>,
    pub(crate) selection: Selection,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "# What steering costs\n")?;
        writeln!(
            f,
            "Written by `cargo xtask bench steering` on {} at commit {}. Numbers are medians, with quartiles in brackets. Predictions were written \
             down before the first run (`tests/src/bench/predictions.rs`); targets are what a later version is to reach.\n",
            self.date, self.revision
        )?;
        write!(f, "{}", self.machine)?;
        write!(f, "\n{}", document::targets(&self.targets()))?;
        self.write_rates(f)?;
        self.write_steps(f)?;
        write!(f, "{}", Selections(&self.selection))?;
        self.write_programs(f)
    }
}

impl Report {
    fn targets(&self) -> Vec<Target> {
        let steered = self.rates.iter().filter(|rate| rate.policy != "control");
        let rates = steered.map(|rate| {
            let ratio = Spread::of(&rate.ratio);
            let (low, high) = ratio.confidence;
            Target {
                what: format!(
                    "connection rate of {} with {} over plain `SO_REUSEPORT`, median of {} pairs",
                    rate.subject.name(),
                    rate.policy,
                    rate.ratio.len()
                ),
                goal: format!("≥ {RATIO_TARGET}"),
                measured: format!("{:.3}, 95 %: {low:.3} … {high:.3}", ratio.median),
                reached: ratio.reaches(RATIO_TARGET),
            }
        });
        let costs = Cost::all(&self.selection).into_iter().map(|cost| Target {
            what: format!(
                "a selection above an empty program, {}, {} workers",
                cost.case, cost.workers
            ),
            goal: format!("≤ {:.0} ns", cost.target_ns),
            measured: format!("{} ns", cost.above.shown(0)),
            reached: Some(cost.is_reached()),
        });
        rates.chain(costs).collect()
    }

    fn write_rates(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let pairs = self.rates.first().map_or(0, |rate| rate.ratio.len());
        writeln!(f, "\n## Connection rate against plain `SO_REUSEPORT`\n")?;
        writeln!(
            f,
            "The same server, four processes: started by hand, and under `reuse-ctl run`. {pairs} pairs of rounds per policy, every other \
             pair in the other order; the ratio is taken within each pair, and stands with the 95 % interval of its median. Client, servers \
             and controller share one core, so that the rate is one over the CPU time of a connection (what two cores do to each other's caches is \
             not in it). *The bare server* does next to nothing: a connection is connect, one byte, one byte, close, so this is the case in which \
             steering weighs most. *Node's HTTP server* answers one GET per connection. *Control* is plain against a second plain group: what \
             the method itself adds. CPU is that of client, servers and controller together. *Wakes* is how often a server had gone to sleep and was \
             woken, per connection: a choice by hash gives one server two connections in a row every so often, and one wake does for both; an even \
             spread wakes a server for each.\n"
        )?;
        writeln!(
            f,
            "| server | policy | plain, connections/s | steered ÷ plain | 95 % | predicted | | target ≥ {RATIO_TARGET} | CPU per connection, steered ÷ plain | \
             wakes: plain, steered | controller's share of a core: busy, idle |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|---|---|")?;
        for rate in &self.rates {
            let ratio = Spread::of(&rate.ratio);
            let predicted = predictions::rate_ratio(rate.subject, rate.policy);
            let hit = predicted.is_some_and(|predicted| (ratio.median - predicted).abs() <= RATIO_TOLERANCE);
            writeln!(
                f,
                "| {} | {} | {} | {} | {:.3} … {:.3} | {} | {} | {} | {} | {:.2}, {:.2} | {} |",
                rate.subject.name(),
                rate.policy,
                Spread::of(&rate.plain).shown(0),
                ratio.shown(3),
                ratio.confidence.0,
                ratio.confidence.1,
                predicted.map_or_else(|| "–".to_owned(), |predicted| format!("{predicted:.2}")),
                document::foretold(hit),
                document::reached(ratio.reaches(RATIO_TARGET)),
                Spread::of(&rate.cpu_ratio).shown(3),
                Spread::of(&rate.wakes.0).median,
                Spread::of(&rate.wakes.1).median,
                controller(rate),
            )?;
        }
        let cpu = Subject::ALL.map(|subject| {
            let of_it = self.rates.iter().filter(|rate| rate.subject == subject);
            let cpu: Vec<f64> = of_it.flat_map(|rate| rate.plain_cpu_us.clone()).collect();
            format!("{} µs of CPU with {}", Spread::of(&cpu).shown(1), subject.name())
        });
        writeln!(
            f,
            "\nA plain connection took {}. A prediction is missed when the median is off by more than {RATIO_TOLERANCE}.",
            cpu.join(", ")
        )
    }

    fn write_steps(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n## Where the time of a connection goes\n")?;
        writeln!(
            f,
            "CPU time of connect, accept and close with nothing in between, client and server in one process, four workers. Each step has what the \
             step before has, and one thing more; the difference is taken within each round. The kernel's statistics are off here.\n"
        )?;
        writeln!(f, "| | ns per connection | more than the step before, ns | 95 % |")?;
        writeln!(f, "|---|---|---|---|")?;
        for (nth, step) in self.selection.steps.iter().enumerate() {
            let Step { adds, ns } = step;
            write!(f, "| {adds} | {} |", Spread::of(ns).shown(0))?;
            match nth.checked_sub(1) {
                None => writeln!(f, " | |")?,
                Some(before) => {
                    let more = Spread::of_differences(ns, &self.selection.steps[before].ns);
                    let (low, high) = more.confidence;
                    writeln!(f, " {} | {low:.0} … {high:.0} |", more.shown(0))?;
                }
            }
        }
        Ok(())
    }

    fn write_programs(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n## All program time of a connection\n")?;
        writeln!(
            f,
            "One round per policy under `reuse-ctl run` with the kernel's statistics on. `track` runs at every event of a connection's socket. \
             Times include what the statistics themselves add to each run, which is most of the empty program's time above.\n"
        )?;
        writeln!(
            f,
            "| server | policy | `select`: runs, ns per connection | `track`: runs, ns per connection |"
        )?;
        writeln!(f, "|---|---|---|---|")?;
        for rate in &self.rates {
            if let Some((programs, connections)) = &rate.programs {
                let shown = |used: Used| {
                    let per = |number: u64| number as f64 / *connections as f64;
                    format!("{:.2}, {:.0}", per(used.runs), per(used.ns))
                };
                writeln!(
                    f,
                    "| {} | {} | {} | {} |",
                    rate.subject.name(),
                    rate.policy,
                    shown(programs.select),
                    shown(programs.track)
                )?;
            }
        }
        Ok(())
    }
}

fn controller(rate: &Rate) -> String {
    if rate.controller_busy.is_empty() {
        return "–".to_owned();
    }
    let percent = |shares: &[f64]| 100.0 * shares.iter().sum::<f64>() / shares.len() as f64;
    format!(
        "{:.1} %, {:.1} %",
        percent(&rate.controller_busy),
        percent(&rate.controller_idle)
    )
}
