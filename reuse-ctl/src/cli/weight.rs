//! `weight ID PERCENT|auto`: gives one worker a fixed share of new connections, whatever the policy.

use super::{apps, args, output, progress::Request};
use crate::{
    base::Failure,
    cli::context::Context,
    wire::{WeightRequest, weight::weight_of},
};

pub(super) async fn run(context: &Context, arguments: &args::Weight) -> Result<(), Failure> {
    weight_of(&arguments.weight)?;
    let app = apps::connect(context).await?;
    let request = Request::put(
        format!("/v1/workers/{}/weight", arguments.id),
        WeightRequest {
            weight: arguments.weight.clone(),
        },
    );
    output::finish(context, request.send(&app).await?)
}
