//! `scale N|+N|-N`: changes the number of workers.

use super::{
    apps, args, output,
    progress::{Request, changing_line, watch},
    restart,
};
use crate::{
    base::Failure,
    cli::context::Context,
    wire::{ScaleRequest, commands},
};

pub(super) async fn run(context: &Context, arguments: &args::Scale) -> Result<(), Failure> {
    commands::scale_target(&arguments.workers)?;
    let app = apps::connect(context).await?;
    let request = Request::put(
        "/v1/workers",
        ScaleRequest {
            workers: arguments.workers.clone(),
        },
    );
    let line = |status: &_, _| changing_line(status);
    let reply = watch(context, &app, line, request.send(&app), restart::interrupted).await?;
    output::finish(context, reply)
}
