//! What was expected, written down before the first run; and what is aimed at. The report calls a miss a miss.
//!
//! Reasoning, for a selection: two clock readings and the call are in the empty program too. Every policy shares five look-ups in
//! arrays (which the JIT compiler inlines), the coarse clock, the helper that selects (an indirect call into the sockarray, then the
//! chosen socket's memory), two atomic additions to the instance's line and one counter: about 50 ns with lines that went cold during
//! the connection before. On top: hash reads one bucket of a 16 KiB table (10 ns); round-robin adds an atomic and a division (10);
//! least-loaded reads one line per worker up to sixteen (2 ns each where they are in the second-level cache, and 20 for random
//! numbers), two lines above; sticky hashes the address and walks an LRU table's chain (60), and for a new client also reads the
//! lines of up to 32 workers (1.5 ns each). For the rate: 0.2 µs for the selection and 0.5 µs for counting state changes, of some 50 µs.

/// The cases of the bench `selection` besides the empty program, in the order of the report.
pub(crate) const CASES: [&str; 5] = [
    "hash",
    "round-robin",
    "least-loaded",
    "sticky, known client",
    "sticky, new client",
];

/// A predicted time is missed when the measured one is off by more than this share of it.
pub(crate) const TIME_TOLERANCE: f64 = 0.25;

/// A predicted ratio is missed when the measured one is off by more than this.
pub(crate) const RATIO_TOLERANCE: f64 = 0.02;

/// The connection rate under any policy, over that of plain `SO_REUSEPORT`, is to be at least this.
pub(crate) const RATIO_TARGET: f64 = 0.98;

/// Nanoseconds per selection above the empty program, as predicted.
pub(crate) fn selection_ns(case: &str, workers: u16) -> Option<f64> {
    let (four, sixteen, sixty_four) = match case {
        "hash" => (60.0, 60.0, 65.0),
        "round-robin" => (60.0, 60.0, 65.0),
        "least-loaded" => (80.0, 110.0, 80.0),
        "sticky, known client" => (120.0, 120.0, 125.0),
        "sticky, new client" => (130.0, 150.0, 180.0),
        _ => return None,
    };
    match workers {
        4 => Some(four),
        16 => Some(sixteen),
        64 => Some(sixty_four),
        _ => None,
    }
}

/// Nanoseconds per selection above the empty program, as aimed at.
pub(crate) fn selection_target_ns(case: &str, workers: u16) -> Option<f64> {
    match (case, workers) {
        ("hash", _) => Some(30.0),
        ("round-robin", _) => Some(20.0),
        ("least-loaded", 4 | 16) => Some(80.0),
        ("sticky, known client", _) => Some(100.0),
        _ => None,
    }
}

/// The connection rate under a policy, over that of plain `SO_REUSEPORT`, as predicted.
pub(crate) fn rate_ratio(policy: &str) -> Option<f64> {
    match policy {
        "control" => Some(1.0),
        "hash" | "round-robin" => Some(0.98),
        // Even queues gain a little of what the program costs.
        "least-loaded" => Some(0.99),
        "sticky" => Some(0.97),
        _ => None,
    }
}
