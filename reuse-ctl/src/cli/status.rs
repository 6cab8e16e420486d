//! `status`: the app in a table, once or every second.

use std::time::Duration;

use super::apps::{self, App};
use super::table::{Align, Cell, counted, short_bytes, short_duration, table};
use super::terminal::{Paint, Tone};
use super::{Context, Failure, args, output};
use crate::api::types::{GroupStatus, InstanceStatus, Status, WorkerState, WorkerStatus};

const EVERY: Duration = Duration::from_secs(1);

pub(super) async fn run(context: &Context, arguments: &args::Status) -> Result<(), Failure> {
    let app = apps::connect(context).await?;
    if arguments.watch {
        return watch(context, &app).await;
    }
    show(context, &ask(&app).await?)
}

async fn ask(app: &App) -> Result<Status, Failure> {
    app.client
        .status()
        .await
        .map_err(|error| apps::explain(&app.entry, error))
}

fn show(context: &Context, status: &Status) -> Result<(), Failure> {
    if context.json {
        output::print_json(&output::Okay::new(status))
    } else {
        output::print(&render(status, context.terminal.paint))
    }
}

async fn watch(context: &Context, app: &App) -> Result<(), Failure> {
    let is_drawn_over = context.terminal.stdout_is_tty && !context.json;
    if is_drawn_over {
        output::print("\x1b[2J")?;
    }
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = &mut interrupt => return Ok(()),
        }
        let status = ask(app).await?;
        if is_drawn_over {
            // Home, every line cleared to its end, and what is left of a longer table below.
            let text = render(&status, context.terminal.paint).replace('\n', "\x1b[K\n");
            output::print(&format!("\x1b[H{text}\x1b[J"))?;
        } else {
            show(context, &status)?;
        }
    }
}

/// The word of `state` for a person.
pub(crate) fn state_name(state: WorkerState) -> &'static str {
    match state {
        WorkerState::Starting => "starting",
        WorkerState::Active => "active",
        WorkerState::Draining => "draining",
        WorkerState::Drained => "drained",
        WorkerState::Stopping => "stopping",
        WorkerState::BackingOff => "backing off",
        WorkerState::Failed => "failed",
        WorkerState::Exited => "exited",
    }
}

/// Whether `state` is good news.
pub(crate) fn state_tone(state: WorkerState) -> Tone {
    match state {
        WorkerState::Active => Tone::Good,
        WorkerState::Starting | WorkerState::Draining | WorkerState::Drained | WorkerState::Stopping => Tone::Changing,
        WorkerState::BackingOff | WorkerState::Failed => Tone::Bad,
        WorkerState::Exited => Tone::Faint,
    }
}

fn state_cell(state: WorkerState) -> Cell {
    Cell::toned(state_tone(state), state_name(state))
}

/// The whole table, as text.
pub(super) fn render(status: &Status, paint: Paint) -> String {
    let mut text = format!(
        "{}  policy {}, up {}, controller {}\n",
        paint.tone(Tone::Strong, &status.app),
        status.policy,
        short_duration(status.uptime_s),
        status.pid
    );
    if status.groups.is_empty() {
        text.push_str("  no worker listens yet\n");
    }
    for group in &status.groups {
        text.push_str(&group_line(group, paint));
    }
    text.push_str(&trouble_line(status, paint));
    text.push('\n');
    text.push_str(&workers_table(&status.workers, paint));
    for worker in &status.workers {
        if let Some(reason) = &worker.reason {
            text.push_str(&format!("worker {}: {}\n", worker.id, paint.tone(Tone::Bad, reason)));
        }
    }
    text
}

fn group_line(group: &GroupStatus, paint: Paint) -> String {
    let mut parts = vec![format!("  {} {}", group.protocol, group.addr)];
    if group.handshakes > 0 {
        parts.push(counted(group.handshakes.into(), "handshake"));
    }
    if group.parked > 0 {
        parts.push(paint.tone(Tone::Changing, &format!("{} parked", group.parked)));
    }
    if !group.strangers.is_empty() {
        let strangers = format!("strangers share this port: {}", group.strangers.join(", "));
        parts.push(paint.tone(Tone::Bad, &strangers));
    }
    parts.join("  ") + "\n"
}

/// Connections that were not steered; none is the normal case.
fn trouble_line(status: &Status, paint: Paint) -> String {
    let count = |count: u64, word: &str, tone| {
        let text = format!("{word} {count}");
        if count == 0 { text } else { paint.tone(tone, &text) }
    };
    let fallbacks = count(status.fallbacks, "fallbacks", Tone::Bad);
    let unsteered = count(status.unsteered, "unsteered", Tone::Changing);
    let warning = if status.fallbacks > 0 {
        "  (!) the kernel's own hash decided for these"
    } else {
        ""
    };
    format!("  {fallbacks}  {unsteered}{}\n", paint.tone(Tone::Bad, warning))
}

fn workers_table(workers: &[WorkerStatus], paint: Paint) -> String {
    use Align::{Left, Right};
    let header = [
        ("ID", Right),
        ("PID", Right),
        ("STATE", Left),
        ("UPTIME", Right),
        ("RESTARTS", Right),
        ("CONNS", Right),
        ("QUEUE", Right),
        ("SELECTED", Right),
        ("SHARE", Right),
        ("CPU", Right),
        ("MEM", Right),
    ];
    let selected = workers.iter().map(|worker| worker.selected_total).sum();
    let mut rows = Vec::new();
    for worker in workers {
        rows.push(worker_row(worker, selected));
        if worker.instances.len() > 1 {
            rows.extend(worker.instances.iter().map(instance_row));
        }
    }
    table(header, &rows, paint)
}

fn worker_row(worker: &WorkerStatus, selected: u64) -> [Cell; 11] {
    let or_dash = |shown: Option<String>| Cell::new(shown.unwrap_or_else(|| "-".into()));
    let running = worker.pid.is_some();
    [
        Cell::toned(Tone::Strong, worker.id.to_string()),
        or_dash(worker.pid.map(|pid| pid.to_string())),
        state_cell(worker.state),
        or_dash(running.then(|| short_duration(worker.uptime_s))),
        Cell::new(worker.restarts.to_string()),
        Cell::new(worker.connections.to_string()),
        Cell::toned(
            if worker.queue > 0 { Tone::Changing } else { Tone::Plain },
            worker.queue.to_string(),
        ),
        Cell::new(worker.selected_total.to_string()),
        Cell::new(share(worker.selected_total, selected)),
        or_dash(running.then(|| format!("{:.1}%", worker.cpu_percent))),
        or_dash(running.then(|| short_bytes(worker.memory_bytes))),
    ]
}

/// One of several processes of a slot: only what is known of it alone.
fn instance_row(instance: &InstanceStatus) -> [Cell; 11] {
    let none = || Cell::new("");
    [
        Cell::toned(Tone::Faint, "└"),
        Cell::new(instance.pid.to_string()),
        state_cell(instance.state),
        none(),
        none(),
        Cell::new(instance.connections.to_string()),
        Cell::new(instance.queue.to_string()),
        none(),
        none(),
        none(),
        none(),
    ]
}

fn share(part: u64, whole: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    let percent = part as f64 * 100.0 / whole as f64;
    if whole == 0 {
        "-".into()
    } else {
        format!("{percent:.1}%")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::fake;

    #[test]
    fn the_table() {
        insta::assert_snapshot!(render(&fake::status(), Paint::OFF), @r"
        shop  policy sticky, up 1h 2m, controller 4711
          tcp 0.0.0.0:8080  1 handshake
          tcp [::]:8443  3 parked
          fallbacks 0  unsteered 0

        ID   PID  STATE        UPTIME  RESTARTS  CONNS  QUEUE  SELECTED  SHARE    CPU    MEM
         0  5000  active        1h 2m         0     12      0       750  75.0%  12.3%  50.0M
         1  5001  draining      1h 2m         0     17      3       250  25.0%  12.3%  50.0M
         2     -  backing off       -         4      0      0         0   0.0%      -      -
        worker 2: exit code 1, 4 times in a row; next try in 3.2 s
        ");
    }

    #[test]
    fn trouble_is_pointed_at() {
        let mut status = fake::status();
        status.fallbacks = 2;
        status.unsteered = 1;
        status.groups[0].strangers = vec!["99 (python3)".into()];
        status.workers.truncate(1);
        let old = InstanceStatus {
            pid: 4999,
            state: WorkerState::Stopping,
            connections: 3,
            queue: 1,
        };
        status.workers[0].instances.push(old);
        insta::assert_snapshot!(render(&status, Paint::OFF), @r"
        shop  policy sticky, up 1h 2m, controller 4711
          tcp 0.0.0.0:8080  1 handshake  strangers share this port: 99 (python3)
          tcp [::]:8443  3 parked
          fallbacks 2  unsteered 1  (!) the kernel's own hash decided for these

        ID   PID  STATE     UPTIME  RESTARTS  CONNS  QUEUE  SELECTED   SHARE    CPU    MEM
         0  5000  active     1h 2m         0     12      0       750  100.0%  12.3%  50.0M
         └  5000  active                         12      0
         └  4999  stopping                        3      1
        ");
    }

    #[test]
    fn an_app_that_just_starts() {
        let mut status = fake::status();
        status.groups.clear();
        status.workers = vec![WorkerStatus {
            cpu_percent: 0.0,
            ..fake::worker(0, WorkerState::Starting, 0)
        }];
        insta::assert_snapshot!(render(&status, Paint::OFF), @r"
        shop  policy sticky, up 1h 2m, controller 4711
          no worker listens yet
          fallbacks 0  unsteered 0

        ID   PID  STATE     UPTIME  RESTARTS  CONNS  QUEUE  SELECTED  SHARE   CPU    MEM
         0  5000  starting   1h 2m         0     12      0         0      -  0.0%  50.0M
        ");
    }

    #[test]
    fn colours_are_only_where_they_are_wanted() {
        assert!(!render(&fake::status(), Paint::OFF).contains('\x1b'));
        assert!(render(&fake::status(), Paint { enabled: true }).contains("\x1b[32mactive\x1b[0m"));
    }
}
