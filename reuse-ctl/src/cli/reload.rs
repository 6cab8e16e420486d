//! `reload`: replaces every worker, `--surge` at a time.

use super::{
    apps, args, output,
    progress::{Request, changing_line, watch},
    restart,
};
use crate::{base::Failure, cli::context::Context, wire::ReloadRequest};

pub(super) async fn run(context: &Context, arguments: &args::Reload) -> Result<(), Failure> {
    let app = apps::connect(context).await?;
    let request = Request::post(
        "/v1/reload",
        ReloadRequest {
            stop_first: arguments.stop_first,
            new_address: arguments.new_address,
        },
    );
    let line = |status: &_, _| changing_line(status);
    let reply = watch(context, &app, line, request.send(&app), restart::interrupted).await?;
    output::finish(context, reply)
}
