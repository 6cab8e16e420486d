//! `policy [NAME]`: shows the policy, or changes it for new connections.

use super::{apps, args, output, progress::Request};
use crate::{app::words::policy_named, base::Failure, cli::context::Context, wire::PolicyRequest};
use serde::Serialize;

pub(super) async fn run(context: &Context, arguments: &args::Policy) -> Result<(), Failure> {
    let wanted = arguments.name.as_deref().map(policy_named).transpose()?;
    let app = apps::connect(context).await?;
    let Some(policy) = wanted else {
        return show(context, &app).await;
    };
    let reply = Request::put(
        "/v1/policy",
        PolicyRequest {
            policy: policy.name().into(),
        },
    )
    .send(&app)
    .await?;
    output::finish(context, reply)
}

async fn show(context: &Context, app: &apps::App) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Current {
        policy: String,
    }
    let status = app
        .client
        .status()
        .await
        .map_err(|error| apps::explain(&app.entry, error))?;
    if context.json {
        output::print_json(&output::Okay::new(Current { policy: status.policy }))
    } else {
        output::print(&format!("{}\n", status.policy))
    }
}
