//! Times in whole milliseconds, in which they are sent and compared.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Converts to milliseconds. A longer time than fits becomes the largest number.
pub(crate) fn whole_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds since the Unix epoch; 0 if the clock is before it.
pub(crate) fn unix_now_ms() -> u64 {
    whole_ms(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}
