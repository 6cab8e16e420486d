//! Values that can be parsed but make no sense, such as a timeout of zero.

use std::time::Duration;

use humantime::format_duration;

use crate::{
    app::options::{HealthOptions, ReadyKind, RecycleOptions, RunOptions, STARTED_AFTER, StickyOptions, StopOptions},
    base::Failure,
};

/// Every dynamically linked process has more than this resident.
const MIN_MEMORY_BYTES: u64 = 1 << 20;

/// A worker younger than this has only just become ready.
const MIN_AGE: Duration = Duration::from_secs(1);

/// Clients are remembered in whole seconds, and 0 seconds means for ever.
const MIN_TTL: Duration = Duration::from_secs(1);

/// Longer times could overflow the clock.
const MAX_TIME: Duration = Duration::from_secs(100 * 365 * 86_400);

/// # Errors
/// Usage: the first option with a value that makes no sense.
pub(super) fn check(options: &RunOptions) -> Result<(), Failure> {
    for (option, time) in times(options) {
        if time > MAX_TIME {
            return Err(Failure::usage(
                format!("--{option} {} is longer than 100 years", format_duration(time)),
                "give a shorter time, or leave the option out",
            ));
        }
    }
    let RecycleOptions {
        max_memory_bytes,
        max_age,
        ..
    } = options.recycle;
    for (option, bytes) in [
        ("max-memory", max_memory_bytes),
        ("memory-limit", options.limits.memory_bytes),
    ] {
        if let Some(bytes) = bytes.filter(|bytes| *bytes < MIN_MEMORY_BYTES) {
            return Err(Failure::usage(
                format!("--{option}: every worker needs more than {bytes} bytes"),
                format!("give at least 1M, for example `--{option} 300M`"),
            ));
        }
    }
    if options.ready.timeout.is_zero() {
        return Err(Failure::usage(
            "--ready-timeout 0s: no worker is ready at once",
            "give one like `--ready-timeout 30s`",
        ));
    }
    if options.ready.kind == ReadyKind::Started && options.ready.timeout <= STARTED_AFTER {
        return Err(Failure::usage(
            format!(
                "--ready-timeout {}: a program has started when it has run for {}",
                format_duration(options.ready.timeout),
                format_duration(STARTED_AFTER)
            ),
            "leave it out, or give one like `--ready-timeout 5s`",
        ));
    }
    if options.hung.replace_after_ms == Some(0) {
        return Err(Failure::usage(
            "--replace-hung-after 0s leaves no time for a rescue",
            "give one like `--replace-hung-after 5s`, or leave it out: never",
        ));
    }
    if let Some(age) = max_age.filter(|age| *age < MIN_AGE) {
        return Err(Failure::usage(
            format!("--max-age {}: workers would do nothing but start", format_duration(age)),
            "give at least 1s, for example `--max-age 12h`",
        ));
    }
    let ttl = options.sticky.ttl;
    if !ttl.is_zero() && ttl < MIN_TTL {
        return Err(Failure::usage(
            format!(
                "--sticky-ttl {}: clients are remembered by the second",
                format_duration(ttl)
            ),
            "give at least 1s, for example `--sticky-ttl 1h`",
        ));
    }
    Ok(())
}

/// All durations that are added to a point in time.
fn times(options: &RunOptions) -> Vec<(&'static str, Duration)> {
    let StopOptions {
        drain_timeout, timeout, ..
    } = options.stop;
    let hung = options.hung;
    let StickyOptions { ttl, .. } = options.sticky;
    let mut times = vec![
        ("ready-timeout", options.ready.timeout),
        ("drain-timeout", drain_timeout),
        ("stop-timeout", timeout),
        ("settle", options.rollout.settle),
        ("hung-after", Duration::from_millis(hung.hung_after_ms)),
        ("rescue-after", Duration::from_millis(hung.rescue_after_ms)),
        ("sticky-ttl", ttl),
    ];
    let replace_after = hung.replace_after_ms.map(Duration::from_millis);
    times.extend(replace_after.map(|time| ("replace-hung-after", time)));
    times.extend(options.recycle.max_age.map(|time| ("max-age", time)));
    times.extend(options.recycle.watch.as_ref().map(|watch| ("watch-delay", watch.delay)));
    if let Some(HealthOptions { interval, timeout, .. }) = &options.health {
        times.extend([("health-interval", *interval), ("health-timeout", *timeout)]);
    }
    times
}

#[cfg(test)]
mod tests {
    use crate::app::AppSpec;

    fn refused(line: &str) -> Option<String> {
        let spec = AppSpec {
            arguments: line.split(' ').chain(["--", "x"]).map(Into::into).collect(),
            variables: Vec::new(),
        };
        let failure = spec.resolve().err()?;
        Some(format!("{} → {}", failure.error, failure.hint))
    }

    #[test]
    fn what_can_not_be_meant() {
        let said: Vec<String> = [
            "--max-memory 300",
            "--max-memory=0.5",
            "--memory-limit 512",
            "--log-size 10",
            "--log-size 10K",
            "--max-memory 300K",
            "--memory-limit 999K",
            "--ready-timeout 0s",
            "--replace-hung-after 0s",
            "--max-age 0s",
            "--max-age 500ms",
            "--sticky-ttl 500ms",
            "--drain-timeout 200years",
            "--health tcp --health-interval 9000000000000000000s",
            "--watch / --watch-delay 9000000000000000000s",
        ]
        .iter()
        .map(|line| format!("{line}: {}", refused(line).unwrap_or_else(|| panic!("{line} is taken"))))
        .collect();
        insta::assert_snapshot!("what_can_not_be_meant", said.join("\n"));
    }

    #[test]
    fn what_may_be_meant() {
        for line in [
            "--max-memory 1M",
            "--max-memory 314572800",
            "--memory-limit 1M",
            "--log-size 64K",
            "--log-size 65536",
            "--ready-timeout 1ms",
            "--max-age 1s",
            "--sticky-ttl 0s",
            "--hung-after 0s",
            "--stop-timeout 0s",
            "--drain-timeout 0s",
            "--drain-timeout 99years",
            "--watch / --watch-delay 0s",
        ] {
            assert_eq!(refused(line), None, "{line}");
        }
    }
}
