//! `undrain ID…`: gives drained workers new connections again.

use std::collections::BTreeSet;

use super::{apps, args, output, progress::Request};
use crate::{base::Failure, cli::context::Context};

pub(super) async fn run(context: &Context, arguments: &args::Undrain) -> Result<(), Failure> {
    let app = apps::connect(context).await?;
    let ids: BTreeSet<u16> = arguments.ids.iter().copied().collect();
    let mut replies = Vec::new();
    for id in ids {
        replies.push(
            Request::post(format!("/v1/workers/{id}/undrain"), serde_json::json!({}))
                .send(&app)
                .await?,
        );
    }
    output::finish_all(context, replies)
}
