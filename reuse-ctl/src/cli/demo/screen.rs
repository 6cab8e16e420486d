//! The demo's output: a picture that is redrawn while it runs, and the table at its end. Pure, except for [`History`]'s clock.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::tally::{ActSums, Tally};
use crate::{
    base::{WorkerState, count},
    cli::{
        status::{state_name, state_tone},
        table::{Align, Cell, table},
        terminal::{Paint, Tone},
    },
    wire::Status,
};

const BAR: usize = 32;
const SECOND: Duration = Duration::from_secs(1);

/// Requests per worker over the last second.
#[derive(Debug, Default)]
pub(super) struct History {
    moments: VecDeque<(Instant, BTreeMap<u16, u64>)>,
}

impl History {
    /// Records the current sums, and returns how much they grew within the last second.
    pub(super) fn grown(&mut self, now: Instant, sums: &BTreeMap<u16, u64>) -> BTreeMap<u16, u64> {
        self.moments.push_back((now, sums.clone()));
        while self.moments.len() > 2 && now.duration_since(self.moments[1].0) >= SECOND {
            self.moments.pop_front();
        }
        let before = &self.moments[0].1;
        sums.iter()
            .map(|(worker, sum)| (*worker, sum - before.get(worker).unwrap_or(&0)))
            .collect()
    }
}

/// The picture: the current act, each worker's share, and the outcome of all requests.
pub(super) fn picture(
    headline: &str,
    elapsed: Duration,
    status: Option<&Status>,
    recent: &BTreeMap<u16, u64>,
    tally: &Tally,
    paint: Paint,
) -> String {
    let total = tally.total();
    let mut text = format!(
        "  {:>4.1} s  {}\n\n",
        elapsed.as_secs_f64(),
        paint.tone(Tone::Strong, headline)
    );
    let sum: u64 = recent.values().sum();
    for worker in status.map_or(&[][..], |status| &status.workers) {
        let requests = recent.get(&worker.id).copied().unwrap_or(0);
        let state = format!("{:<11}", state_name(worker.state));
        let left = match worker.state {
            WorkerState::Draining => format!("  {} left", count(worker.connections, "connection")),
            WorkerState::Starting
            | WorkerState::Active
            | WorkerState::Drained
            | WorkerState::Stopping
            | WorkerState::BackingOff
            | WorkerState::Failed
            | WorkerState::Exited => String::new(),
        };
        text.push_str(&format!(
            "  worker {}  {}  {}  {requests:>5}/s  {:>5}{left}\n",
            worker.id,
            paint.tone(state_tone(worker.state), &state),
            paint.worker(worker.id, &bar(requests, sum)),
            percent(requests, sum),
        ));
    }
    let lost = paint.tone(
        if total.lost == 0 { Tone::Good } else { Tone::Bad },
        &format!("lost {}", total.lost),
    );
    text.push_str(&format!("\n  {} requests   {lost}", total.requests));
    if total.retried > 0 {
        text.push_str(&format!("   asked twice {}", total.retried));
    }
    if total.died > 0 {
        text.push_str(&format!("   died with the killed worker {}", total.died));
    }
    if total.caught > 0 {
        text.push_str(&format!("   caught in its close {}", total.caught));
    }
    text.push('\n');
    text
}

/// `requests` of `sum` as a bar that is full at one half: with four workers a larger share is rare.
fn bar(requests: u64, sum: u64) -> String {
    let width = u64::try_from(BAR).unwrap_or(u64::MAX);
    let filled = (requests * width * 2 + sum / 2)
        .checked_div(sum)
        .unwrap_or(0)
        .min(width);
    let filled = usize::try_from(filled).unwrap_or(BAR);
    format!("{}{}", "█".repeat(filled), "·".repeat(BAR - filled))
}

fn percent(part: u64, whole: u64) -> String {
    match (part * 100).checked_div(whole) {
        Some(percent) => format!("{percent}%"),
        None => "-".into(),
    }
}

/// The tables at the end: per worker, per act, and the number of lost requests.
pub(super) fn report(status: Option<&Status>, tally: &Tally, followed: &str, paint: Paint) -> String {
    let mut text = String::new();
    if let Some(status) = status {
        text.push_str(&workers(status, tally, paint));
        text.push('\n');
    }
    text.push_str(&acts(tally.acts(), tally.total(), paint));
    text.push('\n');
    if let Some(status) = status {
        text.push_str(&format!(
            "fallbacks {}, unsteered {}\n",
            status.fallbacks, status.unsteered
        ));
    }
    if !followed.is_empty() {
        text.push_str(&format!("{followed}\n"));
    }
    let total = tally.total();
    if total.died > 0 {
        text.push_str(&format!(
            "died with the killed worker (accepted by it): {}; what only waited in its queue was moved\n",
            total.died
        ));
    }
    if total.caught > 0 {
        text.push_str(&format!(
            "caught in its close: {}; handshakes that the kernel completed in the microseconds in which the killed worker's listener closed\n",
            total.caught
        ));
    }
    for reason in tally.reasons() {
        text.push_str(&format!("a lost request: {reason}\n"));
    }
    let tone = if total.lost == 0 { Tone::Good } else { Tone::Bad };
    text.push_str(&paint.tone(tone, &format!("lost: {}", total.lost)));
    text.push('\n');
    text
}

fn workers(status: &Status, tally: &Tally, paint: Paint) -> String {
    use Align::Right;
    let header = [
        ("WORKER", Right),
        ("CONNECTIONS", Right),
        ("MOVED IN", Right),
        ("REQUESTS", Right),
        ("RESTARTS", Right),
    ];
    let row = |worker: &crate::wire::WorkerStatus| {
        [
            Cell::toned(Tone::Strong, worker.id.to_string()),
            Cell::new(worker.established_total.to_string()),
            Cell::new(worker.migrated_in_total.to_string()),
            Cell::new(tally.answered().get(&worker.id).unwrap_or(&0).to_string()),
            Cell::new(worker.restarts.to_string()),
        ]
    };
    let rows: Vec<[Cell; 5]> = status.workers.iter().map(row).collect();
    table(header, &rows, paint)
}

fn acts(acts: &[ActSums], total: ActSums, paint: Paint) -> String {
    use Align::{Left, Right};
    let header = [
        ("ACT", Left),
        ("REQUESTS", Right),
        ("ASKED TWICE", Right),
        ("DIED", Right),
        ("LOST", Right),
    ];
    let row = |sums: &ActSums| {
        [
            Cell::new(&sums.act),
            Cell::new(sums.requests.to_string()),
            Cell::new(sums.retried.to_string()),
            Cell::new(sums.died.to_string()),
            Cell::toned(
                if sums.lost == 0 { Tone::Good } else { Tone::Bad },
                sums.lost.to_string(),
            ),
        ]
    };
    let rows: Vec<[Cell; 5]> = acts.iter().chain([&total]).map(row).collect();
    table(header, &rows, paint)
}

#[cfg(test)]
mod tests {
    use super::{
        super::tally::{RequestOutcome, Sample},
        *,
    };
    use crate::server::fake;

    fn tally() -> Tally {
        let mut tally = Tally::default();
        for act in ["steady", "kill -9 worker 1"] {
            tally.begin(act);
            let outcome = RequestOutcome::Answered { worker: 0 };
            tally.record(Sample {
                client: 0,
                outcome,
                was_retried: true,
                made: None,
            });
        }
        let client = "127.0.1.1:5".parse().expect("an address");
        tally.condemn([client]);
        let outcome = RequestOutcome::Failed {
            client: Some(client),
            reason: "reset".into(),
        };
        tally.record(Sample {
            client: 0,
            outcome,
            was_retried: false,
            made: None,
        });
        tally
    }

    #[test]
    fn the_picture() {
        let recent = BTreeMap::from([(0, 300), (1, 100)]);
        let shown = picture(
            "act 2 of 6: kill -9 worker 1",
            Duration::from_millis(5230),
            Some(&fake::status()),
            &recent,
            &tally(),
            Paint::OFF,
        );
        insta::assert_snapshot!(shown, @r"
         5.2 s  act 2 of 6: kill -9 worker 1

        worker 0  active       ████████████████████████████████    300/s    75%
        worker 1  draining     ████████████████················    100/s    25%  17 connections left
        worker 2  backing off  ································      0/s     0%

        3 requests   lost 0   asked twice 2   died with the killed worker 1
        ");
    }

    #[test]
    fn the_report() {
        insta::assert_snapshot!(report(Some(&fake::status()), &tally(), "", Paint::OFF), @r"
        WORKER  CONNECTIONS  MOVED IN  REQUESTS  RESTARTS
             0          750         0         2         0
             1          250         0         0         0
             2            0         0         0         4

        ACT               REQUESTS  ASKED TWICE  DIED  LOST
        steady                   1            1     0     0
        kill -9 worker 1         2            1     1     0
        all                      3            2     1     0

        fallbacks 0, unsteered 0
        died with the killed worker (accepted by it): 1; what only waited in its queue was moved
        lost: 0
        ");
    }

    #[test]
    fn growth_is_that_of_the_last_second() {
        let start = Instant::now();
        let mut history = History::default();
        let sums = |sum| BTreeMap::from([(0, sum)]);
        let mut grown = |ms, sum| history.grown(start + Duration::from_millis(ms), &sums(sum))[&0];
        assert_eq!(grown(0, 10), 0);
        assert_eq!(grown(500, 60), 50);
        assert_eq!(grown(1000, 110), 100);
        assert_eq!(grown(1500, 160), 100);
        assert_eq!(grown(5000, 170), 10);
    }
}
