//! Messages to workers, and the bus.

use std::convert::Infallible;

use axum::extract::{Path as UrlPath, State};
use axum::response::sse::{self, Sse};
use axum::response::{IntoResponse as _, Response};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use super::{Body, Shared, answer};
use crate::{
    base::Failure,
    process::channel::MAX_LINE_BYTES,
    supervisor::bus::{BusReader, Heard},
    wire::commands,
};

/// Maximum size of a body: the longest message and the JSON around it.
pub(super) const SEND_BODY_BYTES: usize = MAX_LINE_BYTES + 64 * 1024;

/// Number of packets in transit to one reader. Each may be as long as the longest message; the others wait on the bus, which is bounded.
const BUS_BUFFER: usize = 1;

/// `POST /v1/workers/{id}/send`.
pub(super) async fn send_to_one(State(shared): State<Shared>, UrlPath(id): UrlPath<String>, body: Body) -> Response {
    send(&shared, Some(&id), body).await
}

/// `POST /v1/send`.
pub(super) async fn send_to_all(State(shared): State<Shared>, body: Body) -> Response {
    send(&shared, None, body).await
}

/// `GET /v1/bus`.
pub(super) async fn bus(State(shared): State<Shared>) -> Response {
    match shared.handle.bus().await {
        Ok(reader) => {
            let (sender, receiver) = mpsc::channel(BUS_BUFFER);
            tokio::spawn(forward(reader, shared.closing, sender));
            Sse::new(ReceiverStream::new(receiver))
                .keep_alive(sse::KeepAlive::default())
                .into_response()
        }
        Err(stopping) => answer(stopping.into()),
    }
}

async fn send(shared: &Shared, id: Option<&str>, body: Body) -> Response {
    let parsed = match body {
        Ok(body) => commands::send(id, &body),
        Err(rejection) => Err(Failure::usage(rejection.body_text(), "a message has at most 16 MiB")),
    };
    answer(match parsed {
        Ok((slot, message)) => shared.handle.send(slot, message).await,
        Err(refusal) => refusal.into(),
    })
}

/// Passes packets on until the reader disconnects or the server closes.
async fn forward(
    mut packets: BusReader,
    mut closing: watch::Receiver<bool>,
    reader: mpsc::Sender<Result<sse::Event, Infallible>>,
) {
    loop {
        let heard = tokio::select! {
            biased;
            () = reader.closed() => return,
            heard = packets.next() => heard,
            _ = closing.wait_for(|closing| *closing) => return,
        };
        let event = match heard {
            Some(Heard::Packet(packet)) => sse::Event::default().event(&packet.name).data(&packet.data),
            Some(Heard::Missed(missed)) => sse::Event::default()
                .event("missed")
                .data(format!(r#"{{"missed":{missed}}}"#)),
            None => return,
        };
        if reader.send(Ok(event)).await.is_err() {
            return;
        }
    }
}
