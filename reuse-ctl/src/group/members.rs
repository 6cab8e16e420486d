//! The members of one group, by instance.

use std::collections::{BTreeMap, HashMap};

use reuse_common::{
    ids::Row,
    limits::{LISTENERS_PER_INSTANCE, MAX_MEMBERS},
};

use super::member::Member;

/// Thousands of listeners may come and go at once, so nothing here looks at all of them.
#[derive(Debug, Default)]
pub(super) struct Members {
    /// The members of each instance; none of the lists is empty.
    of_row: BTreeMap<Row, Vec<Member>>,
    /// The instance of each member, by the listener's cookie.
    row_of: HashMap<u64, Row>,
}

/// Why a listener can't be a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// Its instance has [`LISTENERS_PER_INSTANCE`].
    Instance,
    /// The group has [`MAX_MEMBERS`].
    Group,
}

impl Members {
    pub(super) fn is_empty(&self) -> bool {
        self.row_of.is_empty()
    }

    /// Number of members of the instance in `row`.
    pub(super) fn count(&self, row: Row) -> u16 {
        u16::try_from(self.of(row).len()).expect("at most 128")
    }

    /// The members of the instance in `row`.
    pub(super) fn of(&self, row: Row) -> &[Member] {
        self.of_row.get(&row).map_or(&[], Vec::as_slice)
    }

    pub(super) fn get(&self, cookie: u64) -> Option<&Member> {
        let row = self.row_of.get(&cookie)?;
        self.of(*row).iter().find(|member| member.cookie == cookie)
    }

    pub(super) fn get_mut(&mut self, cookie: u64) -> Option<&mut Member> {
        let row = self.row_of.get(&cookie)?;
        let members = self.of_row.get_mut(row)?;
        members.iter_mut().find(|member| member.cookie == cookie)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.of_row.values().flatten()
    }

    /// The number that a further listener of the instance in `row` gets.
    ///
    /// # Errors
    /// There are too many.
    pub(super) fn next(&self, row: Row) -> Result<u16, Full> {
        let count = self.count(row);
        if usize::from(count) >= LISTENERS_PER_INSTANCE {
            Err(Full::Instance)
        } else if self.row_of.len() >= MAX_MEMBERS {
            Err(Full::Group)
        } else {
            Ok(count)
        }
    }

    pub(super) fn add(&mut self, member: Member) {
        self.row_of.insert(member.cookie, member.row);
        self.of_row.entry(member.row).or_default().push(member);
    }

    pub(super) fn remove(&mut self, cookie: u64) -> Option<Member> {
        let row = self.row_of.remove(&cookie)?;
        let members = self.of_row.get_mut(&row)?;
        let at = members.iter().position(|member| member.cookie == cookie)?;
        let member = members.swap_remove(at);
        if members.is_empty() {
            self.of_row.remove(&row);
        }
        Some(member)
    }

    /// Removes all members of the instance in `row`.
    pub(super) fn remove_all(&mut self, row: Row) -> Vec<Member> {
        let members = self.of_row.remove(&row).unwrap_or_default();
        for member in &members {
            self.row_of.remove(&member.cookie);
        }
        members
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_by_cookie_and_by_row() {
        let mut members = Members::default();
        for (row, nth, cookie) in [(1, 0, 11), (1, 1, 12), (2, 0, 21)] {
            members.add(Member::new(Row(row), nth, cookie));
        }
        assert_eq!(
            (members.count(Row(1)), members.count(Row(2)), members.count(Row(3))),
            (2, 1, 0)
        );
        members.get_mut(12).expect("there").nth = 7;
        assert_eq!(
            members.get(12).map(|member| (member.row, member.nth)),
            Some((Row(1), 7))
        );
        assert_eq!(members.remove(11).map(|member| member.cookie), Some(11));
        assert_eq!(members.remove(11), None);
        assert_eq!(members.remove_all(Row(1)).len(), 1);
        assert_eq!(members.iter().map(|member| member.cookie).collect::<Vec<_>>(), [21]);
        assert!(!members.is_empty());
        assert_eq!(members.remove_all(Row(2)).len(), 1);
        assert!(members.is_empty() && members.get(21).is_none());
    }

    #[test]
    fn there_is_room_for_so_many_of_an_instance_and_of_all() {
        let mut members = Members::default();
        let mut cookies = 0..;
        for row in (1..=128).map(Row) {
            for nth in 0..128 {
                assert_eq!(members.next(row), Ok(nth));
                members.add(Member::new(row, nth, cookies.next().expect("endless")));
            }
            assert_eq!(members.next(row), Err(Full::Instance));
        }
        assert_eq!(members.next(Row(129)), Err(Full::Group));
        members.remove(0);
        assert_eq!(members.next(Row(129)), Ok(0));
    }
}
