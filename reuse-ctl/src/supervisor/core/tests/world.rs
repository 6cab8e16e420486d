use crate::supervisor::interface::Config;
pub(in crate::supervisor::core) fn config() -> Config {
    Config {
        workers: 4,
        ready_timeout_ms: 30_000,
        drain_timeout_ms: 30_000,
        stop_timeout_ms: 10_000,
        backoff_min_ms: 500,
        backoff_max_ms: 30_000,
        crash_limit: 5,
        stable_ms: 10_000,
        seed: 1,
    }
}
