//! `schema`: for editors that complete and check a file while it is written.

use super::output;
use crate::{base::Failure, config::schema};

pub(super) fn run() -> Result<(), Failure> {
    output::print(&schema::text())
}
