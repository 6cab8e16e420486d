//! `doctor`: what this kernel can do.

use super::{Context, Failure};

pub(super) fn run(_context: &Context) -> Result<(), Failure> {
    Err(Failure::failed(
        "doctor is not part of this build",
        "`reuse-ctl --help` lists the verbs",
    ))
}
