//! The recipients of a message.

use std::collections::BTreeMap;

use crate::{base::SlotId, process::channel::message::Addressee};

/// The mailbox of the current instance of each existing slot. An instance that is to replace it gets no messages before it has the seat.
pub(crate) type Mailboxes<T> = BTreeMap<SlotId, Option<T>>;

/// Why a message reaches nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreachable {
    #[error("{0} is not a worker")]
    NoNumber(String),
    #[error("there is no worker {0}")]
    NoSlot(u16),
    #[error("nothing runs as worker {0} now")]
    Empty(u16),
    #[error("worker {0} has closed its channel")]
    Closed(u16),
}

/// The recipients of a message from slot `from`. "All" means all other slots: no worker gets its own message.
pub(crate) fn recipients<T>(
    to: &Addressee,
    from: SlotId,
    mailboxes: &Mailboxes<T>,
) -> Result<Vec<SlotId>, Unreachable> {
    match to {
        Addressee::All => {
            let others = mailboxes
                .iter()
                .filter(|(slot, mailbox)| **slot != from && mailbox.is_some());
            Ok(others.map(|(slot, _)| *slot).collect())
        }
        Addressee::Slot(number) => match mailboxes.get(&SlotId(*number)) {
            Some(Some(_)) => Ok(vec![SlotId(*number)]),
            Some(None) => Err(Unreachable::Empty(*number)),
            None => Err(Unreachable::NoSlot(*number)),
        },
        Addressee::Nobody(text) => Err(Unreachable::NoNumber(text.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn those_who_are_there_and_nobody_else() {
        let mailboxes = Mailboxes::from([(SlotId(0), Some(())), (SlotId(1), None), (SlotId(2), Some(()))]);
        let to = |to| recipients(&to, SlotId(0), &mailboxes);
        assert_eq!(to(Addressee::Slot(2)), Ok(vec![SlotId(2)]));
        assert_eq!(to(Addressee::Slot(0)), Ok(vec![SlotId(0)]), "to oneself, by number");
        assert_eq!(to(Addressee::Slot(1)), Err(Unreachable::Empty(1)));
        assert_eq!(to(Addressee::Slot(3)), Err(Unreachable::NoSlot(3)));
        assert_eq!(to(Addressee::All), Ok(vec![SlotId(2)]));
        let nobody = Addressee::Nobody("db".into());
        assert_eq!(to(nobody).expect_err("no number").to_string(), "db is not a worker");
    }

    proptest! {
        #[test]
        fn a_message_reaches_only_seats_that_are_taken(
            taken in proptest::collection::btree_map(0_u16..300, proptest::option::of(Just(())), 0..40),
            from in 0_u16..300,
            number in proptest::option::of(0_u16..300),
        ) {
            let mailboxes: Mailboxes<()> = taken.into_iter().map(|(slot, mailbox)| (SlotId(slot), mailbox)).collect();
            let to = number.map_or(Addressee::All, Addressee::Slot);
            let is_taken = |slot: &SlotId| mailboxes.get(slot).is_some_and(Option::is_some);
            match (recipients(&to, SlotId(from), &mailboxes), number) {
                (Ok(found), None) => {
                    let others = mailboxes.keys().filter(|slot| is_taken(slot) && slot.0 != from).count();
                    prop_assert_eq!(found.len(), others);
                    prop_assert!(found.iter().all(|slot| is_taken(slot) && slot.0 != from));
                }
                (Ok(found), Some(number)) => {
                    prop_assert_eq!(&found, &[SlotId(number)]);
                    prop_assert!(is_taken(&found[0]));
                }
                (Err(_), number) => prop_assert!(number.is_some_and(|number| !is_taken(&SlotId(number)))),
            }
        }
    }
}
