//! `events`: prints events as they happen; with `--bus` or `--json` the packets of PM2's bus.

use std::io::{self, Write as _};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    apps, args,
    terminal::{Paint, Tone},
};
use crate::{
    base::Failure,
    cli::context::Context,
    client::ClientError,
    wire::{Event, Packet},
};

pub(super) async fn run(context: &Context, arguments: &args::Events) -> Result<(), Failure> {
    let app = apps::connect(context).await?;
    let explain = |error: ClientError| apps::explain(&app.entry, error);
    let follow = async {
        if context.json || arguments.bus {
            let mut packets = app.client.bus().await.map_err(explain)?;
            while let Some(packet) = packets.next().await
                && show(&packet_line(context, &packet.map_err(explain)?)?)?
            {}
        } else {
            let mut events = app.client.events().await.map_err(explain)?;
            while let Some(event) = events.next().await
                && show(&event_line(&event.map_err(explain)?, context.terminal.paint))?
            {}
        }
        Ok(())
    };
    tokio::select! {
        // The event stream ends with the app.
        result = follow => result,
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

/// Prints a line. Returns false if nobody reads the output any more (`| head`).
fn show(line: &str) -> Result<bool, Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::failed(
            format!("write to the standard output: {error}"),
            "is the disk full?",
        )),
    }
}

fn packet_line(context: &Context, packet: &Packet) -> Result<String, Failure> {
    #[derive(Serialize)]
    struct Line<'a> {
        event: &'a str,
        packet: &'a RawValue,
    }
    let name = &packet.name;
    if !context.json {
        let name = context.terminal.paint.tone(Tone::Strong, name);
        return Ok(format!("{name} {}\n", packet.data));
    }
    let data = serde_json::from_str(&packet.data).map_err(|error| {
        Failure::failed(
            format!("the bus: a packet that is not JSON: {error}"),
            "is the controller another version?",
        )
    })?;
    let line = Line {
        event: name,
        packet: data,
    };
    Ok(serde_json::to_string(&line).expect("plain data") + "\n")
}

/// `2026-01-31T12:00:00Z  active       worker 2 (pid 411) …`
fn event_line(event: &Event, paint: Paint) -> String {
    let at = SystemTime::UNIX_EPOCH + Duration::from_millis(event.at_ms);
    let tone = match event.event.as_str() {
        "active" | "recovered" | "hearing" => Tone::Good,
        "failed" | "all_failed" | "cut" | "hung" | "unhealthy" | "warning" | "deaf" | "lost" | "backing_off" => {
            Tone::Bad
        }
        _ => Tone::Plain,
    };
    let word = paint.tone(tone, &format!("{:<11}", event.event));
    let time = humantime::format_rfc3339_seconds(at).to_string();
    format!("{}  {word}  {}\n", paint.tone(Tone::Faint, &time), event.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_line() {
        let event = Event {
            at_ms: 1_700_000_000_999,
            worker: Some(2),
            pid: Some(411),
            event: "active".into(),
            message: "worker 2 (pid 411) is active".into(),
        };
        assert_eq!(
            event_line(&event, Paint::OFF),
            "2023-11-14T22:13:20Z  active       worker 2 (pid 411) is active\n"
        );
    }
}
