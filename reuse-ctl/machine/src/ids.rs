//! Types for slots, instances, versions, requests and times.

/// A slot's number. The machine and the kernel share the type.
pub use reuse_common::ids::SlotId;

/// Milliseconds on the controller's monotonic clock, whose start is arbitrary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Millis(pub u64);

impl Millis {
    /// This time plus `ms`, saturating.
    pub const fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds since `earlier`; 0 if that is later.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// One process incarnation of a slot. Never reused during a controller's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(pub u32);

/// A request whose sender waits for [`Effect::Reply`](crate::interface::Effect::Reply).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// What workers are started from: a command, and all options of its start. 0 is the version of `run`; each canary, and each `apply` that
/// changes it, adds the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct VersionId(pub u32);
