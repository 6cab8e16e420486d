//! Time as it travels and is compared: whole milliseconds.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds; an absurdly long time is as good as the longest.
pub(crate) fn whole_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds since the Unix epoch; 0 on a clock that is before it.
pub(crate) fn unix_now_ms() -> u64 {
    whole_ms(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}
