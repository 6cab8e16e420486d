//! The versions of an app that may still be needed, by their numbers.

use std::collections::{BTreeMap, BTreeSet};

use super::ids::VersionId;

/// The first is the version of `run`. `apply` and canaries add further ones, which are dropped when nothing names them any more.
#[derive(Debug)]
pub struct Versions<V> {
    kept: BTreeMap<VersionId, V>,
    next: VersionId,
}

impl<V> Versions<V> {
    /// Starts with `first` as the only version.
    pub fn new(first: V) -> Self {
        let id = VersionId::default();
        Self {
            kept: BTreeMap::from([(id, first)]),
            next: VersionId(id.0 + 1),
        }
    }

    /// Adds a version under a new number, and drops those that are not `in_use`.
    pub fn push(&mut self, version: V, in_use: &BTreeSet<VersionId>) -> VersionId {
        self.kept.retain(|id, _| in_use.contains(id));
        let id = self.next;
        self.next = VersionId(id.0.checked_add(1).expect("people ask for them one by one"));
        self.kept.insert(id, version);
        id
    }

    /// The version with this number.
    pub fn of(&self, id: VersionId) -> &V {
        self.kept.get(&id).expect("what the machine names is in use")
    }

    /// The version with this number; `None` if it was dropped meanwhile.
    pub fn get_mut(&mut self, id: VersionId) -> Option<&mut V> {
        self.kept.get_mut(&id)
    }

    /// The numbers of all versions that are kept.
    pub fn ids(&self) -> BTreeSet<VersionId> {
        self.kept.keys().copied().collect()
    }
}
