//! What serves in a slot after a new instance has failed, as data: texts are made of it.

/// Who serves in a slot whose new instance has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// The process with this pid, which served before and was not touched.
    Survivor(u32),
    /// The process with this pid, which served before: it was withdrawn and is published again.
    Restored(u32),
    /// Nobody: no instance served before, or it had ended (stop-first).
    Nobody {
        /// What will happen in the slot.
        next: Next,
        /// Whether another slot serves.
        others_serve: bool,
    },
    /// Nobody, and the slot is removed.
    Removed,
}

/// What will happen in a slot in which nobody serves, without a further request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// A new instance is being started.
    Starts,
    /// A new instance is started after a delay.
    StartsIn {
        /// The delay in milliseconds.
        ms: u64,
    },
    /// A new instance is started as soon as the failed one is gone.
    StartsWhenGone,
    /// Nothing.
    IsLeftAlone,
}
