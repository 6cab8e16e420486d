//! `--cron`: when all workers are replaced, by the wall clock in the local time zone.

use std::{fmt::Display, time::Duration};

use chrono::{DateTime, TimeZone};
use croner::{
    Cron,
    parser::{CronParser, Seconds},
};

/// Longest time between two looks at the wall clock, which may be set at any time.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// The times of a cron pattern, from now on.
#[derive(Debug)]
pub(crate) struct Timetable<Tz: TimeZone> {
    cron: Cron,
    next: Option<DateTime<Tz>>,
    looked: DateTime<Tz>,
}

/// Parses five fields, or six with seconds first.
///
/// # Errors
/// What is wrong, in words.
pub(crate) fn parse(pattern: &str) -> Result<Cron, String> {
    let parser = CronParser::builder().seconds(Seconds::Optional).build();
    let cron = parser.parse(pattern).map_err(|error| error.to_string())?;
    match cron.find_next_occurrence(&chrono::Utc::now(), false) {
        Ok(_) => Ok(cron),
        Err(_) => Err("there is no such time".into()),
    }
}

impl<Tz: TimeZone<Offset: Display>> Timetable<Tz> {
    pub(crate) fn new(cron: Cron, now: DateTime<Tz>) -> Self {
        Self {
            next: cron.find_next_occurrence(&now, false).ok(),
            cron,
            looked: now,
        }
    }

    /// How long to wait before the next call of [`is_due`](Self::is_due).
    pub(crate) fn look_in(&self, now: &DateTime<Tz>) -> Duration {
        let left = self.next.clone().map(|next| next - now.clone());
        let left = left.map_or(LOOK_EVERY, |left| left.to_std().unwrap_or_default());
        left.min(LOOK_EVERY)
    }

    /// Whether a time has come since the last look. Several missed times (the machine slept) count as one.
    pub(crate) fn is_due(&mut self, now: DateTime<Tz>) -> bool {
        let is_due = self.next.as_ref().is_some_and(|next| *next <= now);
        // The clock was set back, so the next time may be earlier than computed.
        if is_due || now < self.looked || self.next.is_none() {
            self.next = self.cron.find_next_occurrence(&now, false).ok();
        }
        self.looked = now;
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{Utc, offset::FixedOffset};

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    fn table(pattern: &str, now: &str) -> Timetable<Utc> {
        Timetable::new(parse(pattern).expect("right"), at(now))
    }

    #[test]
    fn five_fields_or_six() {
        for good in ["0 4 * * *", "*/10 * * * * *", "0 0 * * MON", "@daily", "0 12 L * *"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in ["", "x", "61 * * * *", "* * * *", "0 0 30 2 *", "* * * * * * * *"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn each_time_comes_once() {
        let mut table = table("*/10 * * * * *", "2030-01-01T00:00:03Z");
        assert_eq!(table.look_in(&at("2030-01-01T00:00:03Z")), Duration::from_secs(7));
        assert!(!table.is_due(at("2030-01-01T00:00:09Z")));
        assert!(table.is_due(at("2030-01-01T00:00:10Z")));
        assert!(!table.is_due(at("2030-01-01T00:00:11Z")));
        assert!(table.is_due(at("2030-01-01T05:00:00Z")), "the machine slept");
        assert!(!table.is_due(at("2030-01-01T05:00:01Z")), "which counts once");
    }

    #[test]
    fn a_clock_that_is_set_back_holds_nothing_up() {
        let mut table = table("0 4 * * *", "2030-01-02T05:00:00Z");
        assert_eq!(table.look_in(&at("2030-01-02T05:00:00Z")), LOOK_EVERY);
        assert!(!table.is_due(at("2030-01-01T03:00:00Z")));
        assert!(table.is_due(at("2030-01-01T04:00:00Z")));
    }

    #[test]
    fn hours_are_those_of_the_time_zone() {
        let east = FixedOffset::east_opt(2 * 3600).expect("a zone");
        let now = at("2030-01-01T00:00:00Z").with_timezone(&east);
        let table = Timetable::new(parse("0 4 * * *").expect("right"), now);
        assert_eq!(table.next.expect("comes"), at("2030-01-01T02:00:00Z"));
    }
}
