//! `doctor`: shows which features work on this machine.

use super::{args, output};
use crate::{
    base::Failure,
    cli::context::Context,
    doctor::{self, CheckOutcome},
};

pub(super) async fn run(context: &Context, arguments: &args::Doctor) -> Result<(), Failure> {
    let checks = doctor::examine(&arguments.ports).await;
    let is_fit = doctor::is_fit(&checks);
    if !context.json {
        output::print(&doctor::render(&checks, context.terminal.paint.enabled))?;
    } else if is_fit {
        output::print_json(&doctor::to_json(&checks))?;
    }
    if is_fit {
        return Ok(());
    }
    let missing = || checks.iter().filter(|check| check.outcome == CheckOutcome::Missing);
    let names: Vec<_> = missing().map(|check| check.name).collect();
    let mut failure = Failure::failed(
        format!("`run` needs what is missing here: {}", names.join(", ")),
        "`reuse-ctl doctor` shows how to get each",
    );
    failure.left = missing()
        .map(|check| format!("{}: {}; {}", check.name, check.detail, check.remedy))
        .collect();
    Err(failure)
}
