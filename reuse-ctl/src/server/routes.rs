//! Every route: what it takes, what it answers, and who carries it out. The router and the description of the API are both made of this list, so
//! what is served is described.

use axum::extract::{DefaultBodyLimit, Path as UrlPath, State};
use axum::handler::Handler;
use axum::http::Method;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodFilter, MethodRouter, on};
use reuse_machine::interface::Command;
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::{
    BODY_BYTES, Body, SPEC_BYTES, Shared, apply, ask_worker, canary, events,
    messages::{self, SEND_BODY_BYTES},
    only_who_starts_commands, openapi, reload, spec, status,
};
use crate::{
    base::{ErrorKind, Failure},
    wire::{
        CanaryRequest, DrainRequest, GetRequest, PolicyRequest, ReloadRequest, RestartRequest, ScaleRequest,
        SendRequest, SpecReply, SpecRequest, Status, StopRequest, WeightRequest,
        commands::{self, WorkerVerb},
    },
};

/// The schema of a type, and of all that it is made of.
pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// One method of one path.
pub(super) struct Route {
    pub(super) method: Method,
    /// `{id}` stands for a worker's number.
    pub(super) path: &'static str,
    /// What it does, in one line.
    pub(super) summary: &'static str,
    pub(super) takes: Takes,
    pub(super) answers: Answers,
    pub(super) who: Who,
    /// The longest body that is read.
    pub(super) body_bytes: usize,
    handler: MethodRouter<Shared>,
}

/// What the body of a request is.
pub(super) enum Takes {
    /// It is empty.
    Nothing,
    /// It may be empty: every field has a default.
    Optional(SchemaOf),
    Required(SchemaOf),
}

/// What an answer is that is no refusal. A refusal is always a [`Reply`](crate::wire::Reply).
pub(super) enum Answers {
    /// A [`Reply`](crate::wire::Reply).
    Reply,
    /// The same, or a refusal because a deadline has passed.
    ReplyInTime,
    Json(SchemaOf),
    /// The description of the API.
    Description,
    /// What a worker says.
    Worker,
    /// The event stream.
    Events,
    /// The packets of the bus.
    Packets,
}

/// Who may ask (`SECURITY.md`). The socket's mode has let everybody else out already.
#[derive(Clone, Copy)]
pub(super) enum Who {
    /// All who can open the socket: root, the app's owner, the control group.
    Drives,
    /// Root, and the owner if the workers run as the owner: it runs any command as the workers' user, or shows what may be secret.
    StartsCommands(NotYours),
}

/// What everybody else is told.
#[derive(Clone, Copy)]
pub(super) struct NotYours {
    pub(super) error: &'static str,
    pub(super) hint: &'static str,
}

impl Route {
    fn new<T: 'static>(
        method: Method,
        path: &'static str,
        takes: Takes,
        answers: Answers,
        who: Who,
        handler: impl Handler<T, Shared>,
        summary: &'static str,
    ) -> Self {
        let filter = MethodFilter::try_from(method.clone()).expect("one of HTTP's own");
        Self {
            method,
            path,
            summary,
            takes,
            answers,
            who,
            body_bytes: BODY_BYTES,
            handler: on(filter, handler),
        }
    }

    /// A body may be so long.
    fn up_to(self, body_bytes: usize) -> Self {
        Self { body_bytes, ..self }
    }

    pub(super) fn handler(self, shared: &Shared) -> MethodRouter<Shared> {
        let handler = self.handler.layer(DefaultBodyLimit::max(self.body_bytes));
        match self.who {
            Who::Drives => handler,
            Who::StartsCommands(refusal) => {
                handler.layer(from_fn_with_state((shared.clone(), refusal), only_who_starts_commands))
            }
        }
    }

    pub(super) fn is_about_one_worker(&self) -> bool {
        self.path.contains("{id}")
    }

    /// How it may refuse.
    pub(super) fn refuses(&self) -> Vec<ErrorKind> {
        let is_late = matches!(self.answers, Answers::ReplyInTime | Answers::Worker);
        let kinds = [
            (ErrorKind::Usage, self.method != Method::GET),
            (ErrorKind::NotFound, self.is_about_one_worker()),
            (ErrorKind::Failed, !matches!(self.answers, Answers::Description)),
            (ErrorKind::Timeout, is_late),
        ];
        kinds
            .into_iter()
            .filter(|(_, may)| *may)
            .map(|(kind, _)| kind)
            .collect()
    }
}

const ASK_THE_OWNER: &str = "use sudo, or ask the app's owner";

const fn not_yours(error: &'static str, hint: &'static str) -> NotYours {
    NotYours { error, hint }
}

/// In the order of the documentation.
pub(super) fn all() -> Vec<Route> {
    use Answers::{Description, Events, Json, Packets, Reply, ReplyInTime, Worker};
    use Takes::{Nothing, Optional, Required};
    use Who::{Drives, StartsCommands};
    let worker = |verb: WorkerVerb| {
        async move |State(shared): State<Shared>, UrlPath(id): UrlPath<String>, body: Body| {
            shared.carry_out(body, |body| commands::worker(verb, &id, body)).await
        }
    };
    let whole = |parse: fn(&[u8]) -> Result<Command, Failure>| {
        async move |State(shared): State<Shared>, body: Body| shared.carry_out(body, parse).await
    };
    vec![
        Route::new(
            Method::GET,
            "/v1/openapi.json",
            Nothing,
            Description,
            Drives,
            async || axum::Json(openapi::document()),
            "Describes this API (OpenAPI 3.1)",
        ),
        Route::new(
            Method::GET,
            "/v1/status",
            Nothing,
            Json(of::<Status>),
            Drives,
            status,
            "Shows the app, its addresses and its workers",
        ),
        Route::new(
            Method::GET,
            "/v1/events",
            Nothing,
            Events,
            Drives,
            events,
            "Streams what happens, until the client leaves or the app ends",
        ),
        Route::new(
            Method::GET,
            "/v1/bus",
            Nothing,
            Packets,
            Drives,
            messages::bus,
            "Streams the packets of PM2's bus, until the client leaves or the app ends",
        ),
        Route::new(
            Method::POST,
            "/v1/workers/{id}/drain",
            Optional(of::<DrainRequest>),
            ReplyInTime,
            Drives,
            worker(WorkerVerb::Drain),
            "Withdraws a worker and waits until its connections have ended",
        ),
        Route::new(
            Method::POST,
            "/v1/workers/{id}/undrain",
            Nothing,
            Reply,
            Drives,
            worker(WorkerVerb::Undrain),
            "Publishes a withdrawn worker again",
        ),
        Route::new(
            Method::POST,
            "/v1/workers/{id}/restart",
            Optional(of::<RestartRequest>),
            ReplyInTime,
            Drives,
            worker(WorkerVerb::Restart),
            "Replaces a worker's process by a new one",
        ),
        Route::new(
            Method::PUT,
            "/v1/workers/{id}/weight",
            Required(of::<WeightRequest>),
            Reply,
            Drives,
            worker(WorkerVerb::Weigh),
            "Sets a worker's share of new connections",
        ),
        Route::new(
            Method::POST,
            "/v1/workers/{id}/get",
            Required(of::<GetRequest>),
            Worker,
            Drives,
            ask_worker,
            "Sends one HTTP/1.1 GET to one worker and passes on its answer",
        ),
        Route::new(
            Method::POST,
            "/v1/workers/{id}/send",
            Required(of::<SendRequest>),
            Reply,
            Drives,
            messages::send_to_one,
            "Sends a message to one worker",
        )
        .up_to(SEND_BODY_BYTES),
        Route::new(
            Method::POST,
            "/v1/send",
            Required(of::<SendRequest>),
            Reply,
            Drives,
            messages::send_to_all,
            "Sends a message to all workers that run",
        )
        .up_to(SEND_BODY_BYTES),
        Route::new(
            Method::PUT,
            "/v1/workers",
            Required(of::<ScaleRequest>),
            Reply,
            Drives,
            whole(commands::scale),
            "Sets the number of workers",
        ),
        Route::new(
            Method::PUT,
            "/v1/policy",
            Required(of::<PolicyRequest>),
            Reply,
            Drives,
            whole(commands::policy),
            "Sets how workers are chosen for new connections",
        ),
        Route::new(
            Method::POST,
            "/v1/reload",
            Optional(of::<ReloadRequest>),
            ReplyInTime,
            Drives,
            reload,
            "Replaces every worker's process by a new one",
        ),
        Route::new(
            Method::POST,
            "/v1/canary",
            Required(of::<CanaryRequest>),
            ReplyInTime,
            StartsCommands(not_yours(
                "a canary runs a command as the workers' user: only root may start one, and the app's owner if the workers run as the owner",
                "use sudo, or ask the app's owner; weights, promote and abort are yours",
            )),
            canary,
            "Starts one worker more, with another command and a share of new connections",
        ),
        Route::new(
            Method::POST,
            "/v1/canary/promote",
            Nothing,
            Reply,
            Drives,
            whole(commands::promote),
            "Rolls the canary's command out to all workers",
        ),
        Route::new(
            Method::POST,
            "/v1/canary/abort",
            Nothing,
            Reply,
            Drives,
            whole(commands::abort),
            "Removes the canary, or takes a failed rollout back",
        ),
        Route::new(
            Method::GET,
            "/v1/spec",
            Nothing,
            Json(of::<SpecReply>),
            StartsCommands(not_yours(
                "variables may be secrets: only root may read what the app was told to be, and its owner if the workers run as the owner",
                ASK_THE_OWNER,
            )),
            spec,
            "Shows what the app was told to be",
        ),
        Route::new(
            Method::PUT,
            "/v1/spec",
            Required(of::<SpecRequest>),
            ReplyInTime,
            StartsCommands(not_yours(
                "`apply` runs a command as the workers' user: only root may, and the app's owner if the workers run as the owner",
                ASK_THE_OWNER,
            )),
            apply,
            "Makes the app what the specification says, or says what that would take",
        )
        .up_to(SPEC_BYTES),
        Route::new(
            Method::POST,
            "/v1/stop",
            Optional(of::<StopRequest>),
            Reply,
            Drives,
            whole(commands::stop),
            "Ends the app",
        ),
    ]
}

fn of<T: JsonSchema>(schemas: &mut SchemaGenerator) -> Schema {
    schemas.subschema_for::<T>()
}
