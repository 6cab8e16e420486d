//! How long a selection counts that has not become a connection.

use reuse_common::Policy;

use super::cells;
use crate::agenda::SECOND;
use crate::batch::{Effort, run_all};
use crate::law::{Arrivals, Law};
use crate::report::Section;
use crate::setup::{Act, Chooser, Flood, Server, Setup, rate_for};
use crate::variant::Tuning;

const SHIFTS: [u32; 5] = [26, 27, 28, 29, 30];
const WORKERS: u16 = 16;
/// Seconds.
const SERVICE: f64 = 0.005;

/// `shift` absent: nothing is reserved.
fn setup(service: f64, round_trip: f64, flood: f64, comes_back: bool, shift: Option<u32>, effort: Effort) -> Setup {
    let service = Law::Exponential(service);
    let rate = rate_for(WORKERS, service, 0.7);
    let server = Server::Serial { service };
    let connections = effort.connections(if flood > 1.0 { 25_000 } else { 40_000 });
    let chooser = Chooser::By(Policy::LeastLoaded);
    let mut setup = Setup::new(WORKERS, chooser, server, Arrivals::Poisson(rate), connections);
    setup.round_trip = Law::Lognormal {
        mean: round_trip,
        sigma: 0.5,
    };
    match shift {
        Some(shift) => setup.tuning.epoch_shift = shift,
        None => setup.tuning.reserves = false,
    }
    if flood > 0.0 {
        setup.flood = Some(Flood {
            rate: flood * rate,
            cookies: false,
        });
    }
    if comes_back {
        let seconds = crate::law::nanoseconds(setup.expected_length()) / SECOND;
        setup.script = (1..seconds / 2)
            .flat_map(|nth| {
                let slot = (nth % u64::from(WORKERS)) as u16;
                [
                    (2 * nth * SECOND, Act::Withdraw(slot)),
                    ((2 * nth + 1) * SECOND, Act::Publish(slot)),
                ]
            })
            .collect();
    }
    setup
}

pub(super) fn run(effort: Effort) -> Section {
    let mut section = Section::new(
        "How long a reservation lasts (2^28 ns)",
        "an epoch must be longer than a handshake, or `least-loaded` forgets the connections that are on their way and everybody runs to one worker: with \
         round trips of 300 ms, 2^28 ns (0.27 s, so 0.27 to 0.54 s) is still enough and 2^26 is not. Longer epochs keep a flood's reservations longer, which \
         costs little while they are even, and something when a worker comes back without any.",
    );
    section.say(
        "`least-loaded`, 16 workers, exponential service of 5 ms at 70 % load; handshakes are lognormal (σ 0.5) around the round trip; p99 wait, ms. A reservation counts for \
         one to two epochs. *None*: only established connections count. *Comes back*: one worker is drained every two seconds, for one second.",
    );
    let mut rows = Vec::new();
    for (flood, comes_back) in [(0.0, false), (0.0, true), (10.0, false), (10.0, true)] {
        for round_trip in [0.001, 0.05, 0.15, 0.3] {
            let shifts = std::iter::once(None).chain(SHIFTS.map(Some));
            let setups: Vec<Setup> = shifts
                .map(|shift| setup(SERVICE, round_trip, flood, comes_back, shift, effort))
                .collect();
            let outcomes = run_all(&setups, effort);
            let first = first_cells(flood, comes_back, round_trip);
            rows.push(
                first
                    .into_iter()
                    .chain(cells(&outcomes, |outcome| outcome.p99()))
                    .collect::<Vec<_>>(),
            );
        }
    }
    section.table(
        &[
            "flood",
            "a worker comes back",
            "round trip",
            "none",
            "2^26 (67 ms)",
            "2^27",
            "2^28 (268 ms)",
            "2^29",
            "2^30 (1.07 s)",
        ],
        rows,
    );
    other_ways(&mut section, effort);
    section
}

/// What else could be done about the reservations of a flood than to forget them sooner.
fn other_ways(section: &mut Section, effort: Effort) {
    section.say(
        "Other ways, added after the first run and without a prediction, at 2^28 if nothing else is said: at most so many reservations of a worker count; those of the epoch \
         before *fade* while this one goes on, instead of being forgotten all at once. With *cookies* the program runs again on the final ACK. p99 wait, ms:",
    );
    let capped = |cap| Tuning {
        pending_cap: Some(cap),
        ..Tuning::REAL
    };
    let faded = Tuning {
        fades: true,
        ..Tuning::REAL
    };
    let tunings = [
        ("as it is", Tuning::REAL),
        (
            "2^26",
            Tuning {
                epoch_shift: 26,
                ..Tuning::REAL
            },
        ),
        ("fading", faded),
        ("≤ 128", capped(128)),
        ("≤ 64", capped(64)),
        ("≤ 32", capped(32)),
        ("≤ 8", capped(8)),
        (
            "fading, ≤ 128",
            Tuning {
                pending_cap: Some(128),
                ..faded
            },
        ),
    ];
    let mut rows = Vec::new();
    for (service, flood, cookies, comes_back) in [
        (SERVICE, 0.0, false, false),
        (SERVICE / 10.0, 0.0, false, false),
        (SERVICE, 1.0, false, false),
        (SERVICE, 10.0, false, false),
        (SERVICE, 10.0, true, false),
        (SERVICE, 10.0, true, true),
    ] {
        for round_trip in [0.001, 0.05, 0.3] {
            let setups = tunings.map(|(_, tuning)| {
                let mut setup = setup(service, round_trip, flood, comes_back, None, effort);
                setup.tuning = tuning;
                if let Some(flood) = &mut setup.flood {
                    flood.cookies = cookies;
                }
                setup
            });
            let outcomes = run_all(&setups, effort);
            let mut first = first_cells(flood, comes_back, round_trip);
            if service < SERVICE {
                first[0].push_str(", service of 0.5 ms");
            }
            if cookies {
                first[0].push_str(", cookies");
            }
            rows.push(
                first
                    .into_iter()
                    .chain(cells(&outcomes, |outcome| outcome.p99()))
                    .collect::<Vec<_>>(),
            );
        }
    }
    let names = tunings.map(|(name, _)| name);
    let header: Vec<&str> = ["flood", "a worker comes back", "round trip"]
        .into_iter()
        .chain(names)
        .collect();
    section.table(&header, rows);
}

fn first_cells(flood: f64, comes_back: bool, round_trip: f64) -> [String; 3] {
    [
        if flood > 0.0 {
            format!("{flood} per real SYN")
        } else {
            "none".to_owned()
        },
        if comes_back { "yes" } else { "no" }.to_owned(),
        format!("{:.0} ms", 1000.0 * round_trip),
    ]
}
