//! The controller when nothing happens.

use reuse_tests::{App, Namespace};

use crate::clock;
use crate::document::{Document, Setting, Target, foretold};
use crate::predictions::{IDLE_CPU_TARGET_PERCENT, IDLE_MEMORY_TARGET_MB, idle};
use crate::process::{cpu_seconds, status_number};
use crate::server::Subject;
use crate::spread::Spread;

const SIZES: [usize; 2] = [4, 64];

/// The number of workers that the targets are about.
const TARGET_SIZE: usize = 64;

/// After the last worker has become active: what the start still has to do is over.
const SETTLE_S: f64 = 5.0;

/// The controller of one app.
struct Measured {
    workers: usize,
    /// Percent of a core, of each second.
    cpu_percent: Vec<f64>,
    resident_mb: f64,
    private_mb: f64,
    /// How often it was woken, a second.
    wakings: f64,
}

/// Measures, and writes the report.
///
/// # Errors
/// When an app does not start or a file can't be written.
pub(crate) fn measure(setting: &Setting) -> anyhow::Result<()> {
    let mut document = Document::begin("idle", "The controller when nothing happens")?;
    let seconds = if setting.quick { 5 } else { 30 };
    let _namespace = Namespace::enter();
    let measured = SIZES
        .into_iter()
        .map(|workers| controller(workers, seconds))
        .collect::<anyhow::Result<Vec<_>>>()?;
    write(&mut document, seconds, &measured);
    document.finish(setting)
}

fn controller(workers: usize, seconds: u32) -> anyhow::Result<Measured> {
    eprintln!("    {workers} workers");
    let count = workers.to_string();
    let command = Subject::Bare.command(([127, 0, 0, 1], 8100).into())?;
    let app = App::run(&["--workers", &count, "--policy", "least-loaded"], &command);
    let pid = app.status().pid;
    clock::sleep_until(clock::now_ns() + clock::nanoseconds(SETTLE_S));
    let begun = clock::now_ns();
    let woken = status_number(pid, "voluntary_ctxt_switches")?;
    let mut cpu_percent = Vec::new();
    let mut before = (begun, cpu_seconds(pid)?);
    for nth in 1..=seconds {
        clock::sleep_until(begun + clock::nanoseconds(f64::from(nth)));
        let after = (clock::now_ns(), cpu_seconds(pid)?);
        cpu_percent.push(100.0 * (after.1 - before.1) / ((after.0 - before.0) as f64 / 1e9));
        before = after;
    }
    let wakings = (status_number(pid, "voluntary_ctxt_switches")? - woken) as f64 / f64::from(seconds);
    let measured = Measured {
        workers,
        cpu_percent,
        resident_mb: status_number(pid, "VmRSS")? as f64 / 1024.0,
        private_mb: status_number(pid, "RssAnon")? as f64 / 1024.0,
        wakings,
    };
    app.stop();
    Ok(measured)
}

impl Measured {
    fn mean_percent(&self) -> f64 {
        self.cpu_percent.iter().sum::<f64>() / self.cpu_percent.len().max(1) as f64
    }
}

fn write(document: &mut Document, seconds: u32, measured: &[Measured]) {
    document.paragraph(&format!(
        "`reuse-ctl run --policy least-loaded` with servers that nobody asks anything, {SETTLE_S} s after the last one became active, for {seconds} s. \
         CPU is the process's own clock. *Resident* counts the program's file as well, *private* does not. *Woken* is the main thread only."
    ));
    let rows: Vec<Vec<String>> = measured.iter().map(row).collect();
    document.table(
        &[
            "workers",
            "CPU, % of a core: mean",
            "per second, median (quartiles)",
            "resident, MB",
            "private, MB",
            "woken per second",
            "predicted: %, MB",
            "",
        ],
        &rows,
    );
    document.paragraph("A prediction is a bound: it is missed when the CPU is more than twice, or the memory more than a quarter, above it.");
    for one in measured.iter().filter(|one| one.workers == TARGET_SIZE) {
        let mut target = |what: &str, goal: f64, measured: f64, unit: &str| {
            document.targets.push(Target {
                what: format!("the controller with {TARGET_SIZE} workers, idle: {what}"),
                goal: format!("< {goal}{unit}"),
                measured: format!("{measured:.2}{unit}"),
                reached: Some(measured < goal),
            });
        };
        target("share of a core", IDLE_CPU_TARGET_PERCENT, one.mean_percent(), " %");
        target("resident memory", IDLE_MEMORY_TARGET_MB, one.resident_mb, " MB");
    }
}

fn row(one: &Measured) -> Vec<String> {
    let predicted = idle(one.workers);
    let hit = predicted
        .is_some_and(|(percent, megabytes)| one.mean_percent() <= 2.0 * percent && one.resident_mb <= 1.25 * megabytes);
    vec![
        one.workers.to_string(),
        format!("{:.2}", one.mean_percent()),
        Spread::of(&one.cpu_percent).shown(2),
        format!("{:.1}", one.resident_mb),
        format!("{:.1}", one.private_mb),
        format!("{:.1}", one.wakings),
        predicted.map_or_else(
            || "–".to_owned(),
            |(percent, megabytes)| format!("{percent}, {megabytes}"),
        ),
        foretold(hit).to_owned(),
    ]
}
