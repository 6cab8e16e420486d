//! `status`: shows the app as a table, once or every second.

use std::time::Duration;

use super::{
    apps::{self, App},
    args, output,
    table::{Align, Cell, table},
    terminal::{Paint, Tone},
};
use crate::{
    base::{Failure, FaultKind, WorkerState, count, durations::short_duration, sizes::short_bytes},
    cli::context::Context,
    wire::{FaultStatus, GroupStatus, InstanceStatus, LeftOutStatus, Status, WorkerStatus},
};

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
            // Moves to the top, clears each line to its end, and clears the rest of a longer earlier table.
            let text = render(&status, context.terminal.paint).replace('\n', "\x1b[K\n");
            output::print(&format!("\x1b[H{text}\x1b[J"))?;
        } else {
            show(context, &status)?;
        }
    }
}

/// The name of `state` for users.
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

/// The colour of `state`.
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

fn fault_name(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::Hung => "hung",
        FaultKind::Unhealthy => "unhealthy",
    }
}

/// The state as shown: `active`, `hung, withdrawn`, `active, canary`.
fn worker_state_cell(worker: &WorkerStatus) -> Cell {
    let (tone, mut text) = match &worker.fault {
        None => (state_tone(worker.state), state_name(worker.state).to_owned()),
        Some(FaultStatus { kind, withdrawn, .. }) => {
            let consequence = if *withdrawn { "withdrawn" } else { "still published" };
            (Tone::Bad, format!("{}, {consequence}", fault_name(*kind)))
        }
    };
    if worker.canary {
        text.push_str(", canary");
    }
    Cell::toned(tone, text)
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
    if let Some(problem) = &status.problem {
        text.push_str(&format!("  {}\n", paint.tone(Tone::Bad, problem)));
        text.push_str(&format!(
            "  → `reuse-ctl reload --app {0}` starts it anew, `reuse-ctl stop --app {0}` ends it\n",
            status.app
        ));
    }
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
        for reason in worker.fault.as_ref().map(fault_line).iter().chain(&worker.reason) {
            text.push_str(&format!("worker {}: {}\n", worker.id, paint.tone(Tone::Bad, reason)));
        }
    }
    for worker in &status.workers {
        for left_out in worker.instances.iter().flat_map(|instance| &instance.left_out) {
            let line = left_out_line(left_out);
            text.push_str(&format!("worker {}: {}\n", worker.id, paint.tone(Tone::Bad, &line)));
        }
    }
    for worker in &status.workers {
        if let Some(words) = &worker.status_text {
            text.push_str(&format!("worker {} says: {words}\n", worker.id));
        }
    }
    if let Some(line) = all_faulty_line(&status.workers) {
        text.push_str(&format!("{}\n", paint.tone(Tone::Bad, &line)));
    }
    text
}

/// The text for a fault: `hung for 42s: accepted nothing for 60 ms with 4 connections in its queue`.
fn fault_line(fault: &FaultStatus) -> String {
    format!(
        "{} for {}: {}",
        fault_name(fault.kind),
        short_duration(fault.for_ms / 1000),
        fault.reason
    )
}

/// `2 listeners on 0.0.0.0:8080 get no connection: …`.
fn left_out_line(left_out: &LeftOutStatus) -> String {
    let get = if left_out.listeners == 1 { "gets" } else { "get" };
    let listeners = count(left_out.listeners, "listener");
    format!(
        "{listeners} on {} {get} no connection: {}",
        left_out.addr, left_out.reason
    )
}

/// In an overload of the whole app, all active workers are faulty: says which of them are still chosen.
fn all_faulty_line(workers: &[WorkerStatus]) -> Option<String> {
    let active: Vec<&WorkerStatus> = workers
        .iter()
        .filter(|worker| worker.state == WorkerState::Active)
        .collect();
    let faults: Vec<&FaultStatus> = active.iter().filter_map(|worker| worker.fault.as_ref()).collect();
    if faults.is_empty() || faults.len() < active.len() {
        return None;
    }
    let is_all = |kind| faults.iter().all(|fault| fault.kind == kind);
    let how = if is_all(FaultKind::Hung) {
        "hung"
    } else if is_all(FaultKind::Unhealthy) {
        "unhealthy"
    } else {
        "hung or unhealthy"
    };
    let of_what = if active.len() == workers.len() {
        "workers"
    } else {
        "active workers"
    };
    let published = faults.iter().filter(|fault| !fault.withdrawn).count();
    Some(match (active.len(), published) {
        (1, _) if workers.len() == 1 => format!("the only worker is {how}: it stays published"),
        (1, _) => format!("the only active worker is {how}: it stays published"),
        (all, published) if published == all => format!("all {all} {of_what} are {how}: all stay published"),
        (all, published) => format!("all {all} {of_what} are {how}: {published} of them published"),
    })
}

fn group_line(group: &GroupStatus, paint: Paint) -> String {
    let mut parts = vec![format!("  {} {}", group.protocol, group.addr)];
    if group.handshakes > 0 {
        parts.push(count(group.handshakes, "handshake"));
    }
    if group.parked > 0 {
        parts.push(paint.tone(Tone::Changing, &format!("{} parked", group.parked)));
    }
    if !group.strangers.is_empty() {
        let strangers = format!("other programs share this port: {}", group.strangers.join(", "));
        parts.push(paint.tone(Tone::Bad, &strangers));
    }
    parts.join("  ") + "\n"
}

/// Connections that were not steered; normally there are none.
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
    let somebody_has_a_weight = workers.iter().any(|worker| worker.weight.is_some());
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
        (if somebody_has_a_weight { "WEIGHT" } else { "" }, Right),
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

fn worker_row(worker: &WorkerStatus, selected: u64) -> [Cell; 12] {
    let or_dash = |shown: Option<String>| Cell::new(shown.unwrap_or_else(|| "-".into()));
    let running = worker.pid.is_some();
    [
        Cell::toned(Tone::Strong, worker.id.to_string()),
        or_dash(worker.pid.map(|pid| pid.to_string())),
        worker_state_cell(worker),
        or_dash(running.then(|| short_duration(worker.uptime_s))),
        Cell::new(worker.restarts.to_string()),
        Cell::new(worker.connections.to_string()),
        Cell::toned(
            if worker.queue > 0 { Tone::Changing } else { Tone::Plain },
            worker.queue.to_string(),
        ),
        Cell::new(worker.selected_total.to_string()),
        Cell::new(share(worker.selected_total, selected)),
        Cell::new(worker.weight.clone().unwrap_or_default()),
        or_dash(running.then(|| format!("{:.1}%", worker.cpu_percent))),
        or_dash(running.then(|| short_bytes(worker.memory_bytes))),
    ]
}

/// The row of one of several processes of a slot, with only what is known of that process.
fn instance_row(instance: &InstanceStatus) -> [Cell; 12] {
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
#[path = "status_tests.rs"]
mod tests;
