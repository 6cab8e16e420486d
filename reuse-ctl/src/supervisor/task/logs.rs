//! What the task does about [`logs`](crate::supervisor::logs).

use crate::supervisor::logs::*;
use crate::supervisor::task::Task;

impl Task {
    /// Rotates all logs now, however small they are: what stays in each is less than a block of the file system.
    pub(crate) fn rotate_logs(&mut self) {
        self.logs.ask(LogRequest::RotateAll);
    }
}
