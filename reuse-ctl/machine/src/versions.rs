//! The versions of an app that may still be asked for, by their numbers.

use std::collections::{BTreeMap, BTreeSet};

use super::ids::VersionId;

/// The first is that of `run`; further ones come with `apply` and canaries, and go when nothing names them any more.
#[derive(Debug)]
pub struct Versions<V> {
    kept: BTreeMap<VersionId, V>,
    next: VersionId,
}

impl<V> Versions<V> {
    /// With `first` as the only one.
    pub fn new(first: V) -> Self {
        let id = VersionId::default();
        Self {
            kept: BTreeMap::from([(id, first)]),
            next: VersionId(id.0 + 1),
        }
    }

    /// Gives a version a number that no other has had. Those that are not `in_use` are forgotten.
    pub fn push(&mut self, version: V, in_use: &BTreeSet<VersionId>) -> VersionId {
        self.kept.retain(|id, _| in_use.contains(id));
        let id = self.next;
        self.next = VersionId(id.0.checked_add(1).expect("people ask for them one by one"));
        self.kept.insert(id, version);
        id
    }

    /// What the machine means by this number.
    pub fn of(&self, id: VersionId) -> &V {
        self.kept.get(&id).expect("what the machine names is in use")
    }

    /// Absent: it was forgotten meanwhile.
    pub fn get_mut(&mut self, id: VersionId) -> Option<&mut V> {
        self.kept.get_mut(&id)
    }

    /// Of all that are kept.
    pub fn ids(&self) -> BTreeSet<VersionId> {
        self.kept.keys().copied().collect()
    }
}
