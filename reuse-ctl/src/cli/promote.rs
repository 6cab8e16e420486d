//! `promote`: rolls the canary's command out to all workers, `--surge` at a time; if one fails, all go back.

use super::{
    apps, output,
    progress::{Request, changing_line, watch},
};
use crate::{
    base::{Failure, Verb},
    cli::context::Context,
};

pub(super) async fn run(context: &Context) -> Result<(), Failure> {
    let app = apps::connect(context).await?;
    let request = Request::post("/v1/canary/promote", serde_json::json!({}));
    let line = |status: &_, _| changing_line(status);
    let reply = watch(context, &app, line, request.send(&app), interrupted).await?;
    output::finish(context, reply)
}

fn interrupted() -> Failure {
    Failure::failed(
        "no longer waiting; the controller goes on rolling out the canary's command",
        Verb::Status.with("--watch") + " shows how far it is, " + Verb::Abort.run() + " takes it back",
    )
}
