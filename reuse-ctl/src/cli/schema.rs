//! `schema`: prints the JSON Schema of `reuse.toml`, with which editors complete and check the file.

use super::output;
use crate::{base::Failure, config::schema};

pub(super) fn run() -> Result<(), Failure> {
    output::print(&schema::text())
}
