//! The server on `control.sock`. Every answer is JSON, including refusals, except event streams and a worker's answer to `get`.

use std::convert::Infallible;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path as UrlPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::sse::{self, Sse};
use axum::response::{IntoResponse, Response};
use axum::serve::IncomingStream;
use nix::unistd::Uid;
use tokio::net::UnixListener;
use tokio::sync::{broadcast, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

#[cfg(test)]
pub(crate) mod fake;
mod messages;
mod openapi;
#[cfg(test)]
mod round_trips;
mod routes;
mod socket;

use crate::{
    base::{ErrorKind, Failure, SlotId, Verb, whole_ms::unix_now_ms},
    supervisor::handle::{Handle, Stopping},
    wire::{
        Event, Got, Reply, SpecReply, WORKER_HEADER,
        commands::{self, CommandRequest},
    },
};
use routes::NotYours;
pub use socket::{BindError, bind};

/// How long pending answers may take once the app ends.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Maximum size of a body in bytes.
const BODY_BYTES: usize = 64 * 1024;

/// Maximum size of a specification in bytes: environments can be large.
const SPEC_BYTES: usize = 4 * 1024 * 1024;

/// Number of events in transit to one reader.
const EVENT_BUFFER: usize = 64;

/// Serves until `shutdown` resolves. Then it accepts no further client, ends the event streams, and gives pending answers one more second.
///
/// # Errors
/// Never fails at present: a failing accept is retried. The result is for listeners that can fail.
pub async fn serve(
    listener: UnixListener,
    handle: Handle,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (close, closing) = watch::channel(false);
    let mut closed = closing.clone();
    let shared = Shared {
        handle,
        closing,
        owner: owner_of(&listener),
    };
    let service = router(shared).into_make_service_with_connect_info::<Peer>();
    let server = axum::serve(listener, service).with_graceful_shutdown(async move {
        shutdown.await;
        close.send_replace(true);
    });
    let given_up = async {
        // An error means that the sender is gone: it has sent before, or the server ended by itself.
        drop(closed.wait_for(|closing| *closing).await);
        tokio::time::sleep(LAST_ANSWERS).await;
    };
    tokio::select! {
        served = server.into_future() => served,
        () = given_up => {
            tracing::warn!("an API client did not take its answer within a second");
            Ok(())
        }
    }
}

#[derive(Debug, Clone)]
struct Shared {
    handle: Handle,
    closing: watch::Receiver<bool>,
    /// The owner of the socket; `None` if the socket's file could not be examined.
    owner: Option<Uid>,
}

/// The user at the other end of a connection; `None` if the kernel doesn't tell.
#[derive(Debug, Clone, Copy)]
struct Peer(Option<Uid>);

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self(stream.io().peer_cred().ok().map(|peer| Uid::from_raw(peer.uid())))
    }
}

fn owner_of(listener: &UnixListener) -> Option<Uid> {
    let address = listener.local_addr().ok()?;
    let socket = address.as_pathname()?.symlink_metadata().ok()?;
    Some(Uid::from_raw(socket.uid()))
}

/// Who may have any command run as the workers' user: root, and the owner of the socket if the workers run as that same user. Other members
/// of a control group may only control the app. If the workers run as another user (`sudo reuse-ctl run --user www`), the owner may not
/// either: the owner was allowed to run one command as that user, not any command.
fn may_start_commands(peer: Option<Uid>, owner: Option<Uid>, workers: Uid) -> bool {
    peer.is_some_and(|peer| peer.is_root() || (Some(peer) == owner && peer == workers))
}

type Body = Result<Bytes, BytesRejection>;

fn router(shared: Shared) -> axum::Router {
    routes::all()
        .into_iter()
        .fold(axum::Router::new(), |router, route| {
            router.route(route.path, route.handler(&shared))
        })
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .with_state(shared)
}

impl Shared {
    async fn carry_out<A: Into<CommandRequest>>(
        &self,
        body: Body,
        parse: impl FnOnce(&[u8]) -> Result<A, Failure>,
    ) -> Response {
        answer(match parsed(body, parse) {
            Ok(asked) => self.handle.command(asked).await,
            Err(refusal) => refusal.into(),
        })
    }
}

fn parsed<T>(body: Body, parse: impl FnOnce(&[u8]) -> Result<T, Failure>) -> Result<T, Failure> {
    match body {
        Ok(body) => parse(&body),
        Err(rejection) => Err(Failure::usage(
            rejection.body_text(),
            format!("a body has at most {BODY_BYTES} bytes, a specification {SPEC_BYTES}"),
        )),
    }
}

/// Adds a note if another stop signal would let the workers finish their requests.
async fn reload(State(shared): State<Shared>, body: Body) -> Response {
    let mut reply = match parsed(body, commands::reload) {
        Ok(command) => shared.handle.command(command).await,
        Err(refusal) => refusal.into(),
    };
    if reply.ok
        && let Ok(spec) = shared.handle.spec().await
        && let Ok(options) = spec.resolve()
    {
        reply.notes.extend(options.stop.suggestion(&options.command));
    }
    answer(reply)
}

async fn canary(State(shared): State<Shared>, body: Body) -> Response {
    answer(match parsed(body, commands::canary) {
        Ok((share, request)) => shared.handle.canary(share, request).await,
        Err(refusal) => refusal.into(),
    })
}

async fn spec(State(shared): State<Shared>) -> Response {
    match shared.handle.spec().await {
        Ok(spec) => Json(SpecReply { ok: true, spec }).into_response(),
        Err(stopping) => answer(stopping.into()),
    }
}

async fn apply(State(shared): State<Shared>, ConnectInfo(Peer(peer)): ConnectInfo<Peer>, body: Body) -> Response {
    answer(match parsed(body, commands::spec) {
        Ok(request) => shared.handle.apply(request, peer.is_some_and(Uid::is_root)).await,
        Err(refusal) => refusal.into(),
    })
}

/// Passes a request on only if it comes from someone who may have any command run.
async fn only_who_starts_commands(
    State((shared, refusal)): State<(Shared, NotYours)>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    if may_start_commands(peer, shared.owner, shared.handle.workers()) {
        next.run(request).await
    } else {
        answer(Failure::failed(refusal.error, refusal.hint).into())
    }
}

async fn ask_worker(State(shared): State<Shared>, UrlPath(id): UrlPath<String>, body: Body) -> Response {
    let (slot, request) = match parsed(body, |body| commands::get(&id, body)) {
        Ok(asked) => asked,
        Err(refusal) => return answer(refusal.into()),
    };
    match shared.handle.get(slot, request).await {
        Ok(got) => pass_on(slot, got),
        Err(reply) => answer(reply),
    }
}

/// The worker's own answer, with the header that says so.
fn pass_on(slot: SlotId, got: Got) -> Response {
    // A 1xx status announces an answer; it isn't one.
    let Some(status) = StatusCode::from_u16(got.status)
        .ok()
        .filter(|status| !status.is_informational())
    else {
        let error = format!(
            "worker {slot} answered with status {}, which is not a valid answer",
            got.status
        );
        let hint = Verb::Logs.with(slot) + " shows what it has written";
        return answer(Failure::failed(error, hint).into());
    };
    let mut response = (status, [(WORKER_HEADER, slot.to_string())], got.body).into_response();
    let content_type = got.content_type.and_then(|text| HeaderValue::try_from(text).ok());
    match content_type {
        Some(content_type) => response.headers_mut().insert(header::CONTENT_TYPE, content_type),
        None => response.headers_mut().remove(header::CONTENT_TYPE),
    };
    response
}

fn answer(reply: Reply) -> Response {
    let status = match (reply.ok, reply.kind) {
        (true, _) => StatusCode::OK,
        (false, kind) => {
            StatusCode::from_u16(kind.unwrap_or(ErrorKind::Failed).http_status()).expect("a listed status")
        }
    };
    (status, Json(reply)).into_response()
}

async fn status(State(shared): State<Shared>) -> Response {
    match shared.handle.status().await {
        Ok(status) => Json(status).into_response(),
        Err(stopping) => answer(stopping.into()),
    }
}

async fn unknown_path(uri: Uri) -> Response {
    let error = format!("there is no {}", uri.path());
    answer(Failure::not_found(error, "GET /v1/openapi.json describes all paths").into())
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    let reply = Failure::usage(
        format!("{} does not take {method}", uri.path()),
        "GET reads, POST acts, PUT sets the policy, a weight or the number of workers",
    );
    (StatusCode::METHOD_NOT_ALLOWED, Json(Reply::from(reply))).into_response()
}

async fn events(State(shared): State<Shared>) -> Response {
    if *shared.closing.borrow() {
        return answer(Stopping.into());
    }
    let (sender, receiver) = mpsc::channel(EVENT_BUFFER);
    tokio::spawn(forward(shared.handle.events(), shared.closing, sender));
    Sse::new(ReceiverStream::new(receiver))
        .keep_alive(sse::KeepAlive::default())
        .into_response()
}

/// Passes events on until the reader disconnects or the server closes. Earlier events are still delivered then.
async fn forward(
    mut events: broadcast::Receiver<Event>,
    mut closing: watch::Receiver<bool>,
    reader: mpsc::Sender<Result<sse::Event, Infallible>>,
) {
    loop {
        let event = tokio::select! {
            biased;
            () = reader.closed() => return,
            event = events.recv() => event,
            _ = closing.wait_for(|closing| *closing) => return,
        };
        let event = match event {
            Ok(event) => event,
            Err(broadcast::error::RecvError::Lagged(missed)) => missed_some(missed),
            Err(broadcast::error::RecvError::Closed) => return,
        };
        let data = serde_json::to_string(&event).expect("an event is plain data");
        if reader.send(Ok(sse::Event::default().data(data))).await.is_err() {
            return;
        }
    }
}

fn missed_some(missed: u64) -> Event {
    Event {
        at_ms: unix_now_ms(),
        worker: None,
        pid: None,
        event: "warning".into(),
        message: format!("this reader was too slow and missed {missed} events"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_started_for_root_and_the_owner_alone() {
        let (root, owner, member) = (Uid::from_raw(0), Uid::from_raw(1000), Uid::from_raw(1001));
        assert!(may_start_commands(Some(root), Some(owner), member));
        assert!(may_start_commands(Some(owner), Some(owner), owner));
        assert!(
            !may_start_commands(Some(owner), Some(owner), root),
            "workers run as root"
        );
        assert!(
            !may_start_commands(Some(owner), Some(owner), member),
            "or as somebody else"
        );
        assert!(!may_start_commands(Some(member), Some(owner), owner));
        assert!(!may_start_commands(Some(member), Some(owner), member));
        assert!(!may_start_commands(Some(member), Some(root), root));
        assert!(!may_start_commands(Some(member), None, member));
        assert!(!may_start_commands(None, None, owner) && !may_start_commands(None, Some(owner), owner));
    }
}
