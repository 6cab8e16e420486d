//! `weight`: fixed shares of new connections.

use reuse_common::Share;

use super::world::World;
use crate::ids::{RequestId, SlotId};
use crate::interface::{Command, Effect, Exit, NoteKind};
use crate::states::ErrorKind;

pub(super) fn percent(percent: u16) -> Share {
    Share::from_hundredths_of_a_percent(percent * 100).expect("1 to 99")
}

impl World {
    fn weigh(&mut self, slot: u16, share: Option<u16>) -> RequestId {
        self.ask(Command::Weigh {
            slot: SlotId(slot),
            share: share.map(percent),
        })
    }

    pub(super) fn published_shares(&self) -> Vec<Option<Share>> {
        self.referee.published.iter().map(|entry| entry.share).collect()
    }
}

#[test]
fn a_share_is_published_and_shown_and_can_be_taken_back() {
    let mut world = World::active(4);
    let weigh = world.weigh(3, Some(10));
    assert_eq!(world.done(weigh).message, "worker 3 gets 10% of new connections");
    assert_eq!(world.done(weigh).slots, [SlotId(3)]);
    assert_eq!(world.noted(NoteKind::Weighed), "worker 3 gets 10% of new connections");
    assert_eq!(world.published_shares(), [None, None, None, Some(percent(10))]);
    assert!(
        matches!(world.said[0], Effect::Publish(_)),
        "the answer means that it is so"
    );
    assert_eq!(world.slot(3).share, Some(percent(10)));
    let same = world.weigh(3, Some(10));
    assert_eq!(world.done(same).message, "worker 3 gets 10% of new connections already");
    let back = world.weigh(3, None);
    assert_eq!(world.done(back).message, "worker 3 has no fixed share any more");
    assert_eq!(world.published_shares(), [None; 4]);
}

#[test]
fn it_survives_restarts_reloads_and_crashes_but_not_its_slot() {
    let mut world = World::active(2);
    world.weigh(1, Some(10));
    world.restart(1);
    world.ready(1);
    assert_eq!(world.published_shares(), [None, Some(percent(10))]);
    world.exit(1, 1);
    world.pass(1_000);
    world.ready(1);
    assert_eq!(world.published_shares(), [None, Some(percent(10))]);
    world.scale(1);
    for leaving in world.slot(1).instances {
        world.gone(leaving.id, Exit::Code(0));
    }
    world.scale(2);
    world.ready(1);
    assert_eq!(world.published_shares(), [None, None]);
}

#[test]
fn something_must_be_left_for_the_others() {
    let mut world = World::active(3);
    let enough = world.weigh(0, Some(60));
    world.done(enough);
    let all = world.weigh(1, Some(40));
    assert_eq!(
        world.refused(all, ErrorKind::Usage).error,
        "the weights would add up to 100%: nothing would be left for 1 other worker"
    );
    let most = world.weigh(1, Some(39));
    world.done(most);
    let too_much = world.weigh(2, Some(2));
    assert_eq!(
        world.refused(too_much, ErrorKind::Usage).error,
        "the weights would add up to 101%"
    );
    let exactly = world.weigh(2, Some(1));
    world.done(exactly);
    let one_more = world.scale(4);
    assert_eq!(
        world.refused(one_more, ErrorKind::Usage).error,
        "the weights would add up to 100%: nothing would be left for 1 other worker"
    );
}

#[test]
fn at_most_32_have_one() {
    let mut world = World::active(34);
    for slot in 0..32 {
        let weigh = world.weigh(slot, Some(1));
        world.done(weigh);
    }
    let one_more = world.weigh(33, Some(1));
    assert_eq!(
        world.refused(one_more, ErrorKind::Usage).error,
        "at most 32 workers can have a weight of their own"
    );
}

#[test]
fn nobody_weighs_a_worker_that_is_not_there_or_goes() {
    let mut world = World::active(2);
    let none = world.weigh(7, Some(10));
    world.refused(none, ErrorKind::NotFound);
    world.scale(1);
    let leaving = world.weigh(1, Some(10));
    assert_eq!(
        world.refused(leaving, ErrorKind::Failed).error,
        "worker 1 is being removed"
    );
}

#[test]
fn a_worker_that_is_not_active_can_be_weighed() {
    let mut world = World::active(2);
    world.drain(0);
    let weigh = world.weigh(0, Some(10));
    world.done(weigh);
    assert_eq!(world.published_shares(), [None]);
    world.undrain(0);
    assert_eq!(world.published_shares(), [Some(percent(10)), None]);
}
