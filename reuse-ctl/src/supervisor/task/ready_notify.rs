//! What the task does about [`ready_notify`](crate::supervisor::ready_notify).

use crate::base::InstanceId;
use crate::supervisor::ready_notify::*;
use crate::supervisor::task::Task;

impl Task {
    /// An instance has said something.
    pub(crate) fn on_notified(&mut self, id: InstanceId, said: Said) {
        match said {
            Said::Ready => self.announce_ready(id),
            Said::Status(text) => {
                if let Some(live) = self.live.get_mut(&id) {
                    live.status_text = Some(text).filter(|text| !text.is_empty());
                }
            }
        }
    }
}
