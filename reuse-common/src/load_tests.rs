use core::ptr;

use super::*;

fn table() -> Box<LoadTable> {
    Box::new(LoadTable {
        rows: [InstanceLoad::default(); MAX_ROWS],
    })
}

#[test]
fn the_tables_fit_into_little_memory() {
    assert_eq!(size_of::<LoadTable>(), 64 * 1024);
    assert_eq!(ptr::from_ref(&*table()).align_offset(64), 0);
}

#[test]
fn a_selection_counts_until_it_is_a_connection() {
    let mut table = table();
    // SAFETY: the table outlives the view.
    let loads = unsafe { Loads::new(&raw mut *table) };
    let load = |epoch| loads.load(Row(5), Moment::new(epoch, 0)) - Loads::BIAS;
    loads.reserve(Row(5), 100);
    loads.reserve(Row(5), 100);
    assert_eq!(load(100), 2);
    loads.entered(Row(5), true);
    loads.unreserve(Row(5), 100);
    assert_eq!(load(100), 2, "one established, one pending");
    assert_eq!(load(101), 2, "still recent");
    assert_eq!(load(102), 1, "the SYN that never completed is forgotten");
    loads.reserve(Row(5), 102);
    assert_eq!(load(102), 2);
    loads.entered(Row(5), true);
    loads.unreserve(Row(5), 103);
    assert_eq!(load(103), 2);
    loads.left(Row(5));
    loads.left(Row(5));
    assert_eq!(load(103), 0);
    loads.left(Row(5));
    assert!(
        loads.load(Row(5), Moment::new(103, 0)) < loads.load(Row(6), Moment::new(103, 0)),
        "an undershoot compares as small"
    );
    assert_eq!(table.rows()[5].established(), 0);
}

#[test]
fn what_waits_counts_more_until_the_row_begins_anew() {
    let mut table = table();
    // SAFETY: the table outlives the view.
    let loads = unsafe { Loads::new(&raw mut *table) };
    loads.reset(Row(5), InstanceLoad::new(SlotId(300)));
    loads.entered(Row(5), true);
    loads.unreserve(Row(5), 100);
    loads.set_queue(Row(5), 1);
    let moment = Moment::new(100, 7);
    assert_eq!(loads.load(Row(5), moment) - Loads::BIAS, 1 + QUEUE_WEIGHT);
    assert_eq!(loads.established(Row(5)) - Loads::BIAS, 1);
    assert_eq!((loads.slot(Row(5)), loads.copy(Row(5)).queue()), (SlotId(300), 1));
    loads.set_queue(Row(5), 1_000_000);
    assert_eq!(loads.copy(Row(5)).queue(), u16::MAX);
    assert!(loads.load(Row(5), moment) & 0x8000_0000 == 0, "31 bits are compared");
    loads.reset(Row(5), InstanceLoad::new(SlotId(2)));
    assert_eq!(
        (loads.copy(Row(5)).queue(), loads.load(Row(5), moment)),
        (0, Loads::BIAS)
    );
}

#[test]
fn selections_fade_in_the_epoch_after_theirs() {
    let mut table = table();
    // SAFETY: the table outlives the view.
    let loads = unsafe { Loads::new(&raw mut *table) };
    for _ in 0..64 {
        loads.reserve(Row(5), 100);
    }
    loads.reserve(Row(5), 101);
    let load = |epoch, fraction| loads.load(Row(5), Moment::new(epoch, fraction)) - Loads::BIAS;
    assert_eq!(
        [0, 64, 128, 192, 255].map(|fraction| load(101, fraction)),
        [65, 49, 33, 17, 1]
    );
    assert_eq!([0, 128, 255].map(|fraction| load(102, fraction)), [1, 0, 0]);
    assert_eq!(load(103, 0), 0);
    assert_eq!(load(100, 255), 65, "a processor's clock may be behind by an instant");
    assert_eq!(loads.copy(Row(5)).pending(101), (1, 64));
    assert_eq!(loads.copy(Row(5)).pending(102), (0, 1));
    assert_eq!(loads.copy(Row(5)).pending(103), (0, 0));
}

#[test]
fn a_flood_counts_little() {
    let mut table = table();
    // SAFETY: the table outlives the view.
    let loads = unsafe { Loads::new(&raw mut *table) };
    let load = |epoch, fraction| loads.load(Row(5), Moment::new(epoch, fraction)) - Loads::BIAS;
    let most = PENDING_AT_MOST;
    for _ in 0..most - 1 {
        loads.reserve(Row(5), 100);
    }
    assert_eq!(load(100, 0), most - 1);
    for _ in 0..most + 1 {
        loads.reserve(Row(5), 100);
    }
    loads.entered(Row(5), true);
    assert_eq!(load(100, 0), most + 1, "connections count all the same");
    assert_eq!([128, 192].map(|fraction| load(101, fraction)), [most + 1, most / 2 + 1]);
}

/// Two CPUs may both settle the last selection.
#[test]
fn a_count_below_zero_is_no_flood() {
    let mut table = table();
    table.rows[5].pending[0] = Pending {
        epoch: 100,
        count: u32::MAX,
    };
    // SAFETY: the table outlives the view.
    let loads = unsafe { Loads::new(&raw mut *table) };
    for moment in [Moment::new(100, 0), Moment::new(101, 200)] {
        assert_eq!(loads.load(Row(5), moment), Loads::BIAS - 1);
    }
    assert_eq!(loads.copy(Row(5)).pending(100), (0, 0));
}

#[test]
fn a_moment_is_an_epoch_and_what_is_over_of_it() {
    assert_eq!(Moment::at(0), Moment::new(0, 0));
    assert_eq!(Moment::at((100 << 28) - 1), Moment::new(99, 255));
    assert_eq!(Moment::at((100 << 28) + (1 << 27)), Moment::new(100, 128));
}

#[test]
fn a_migration_keeps_the_sum() {
    let mut table = table();
    // SAFETY: the table outlives the view.
    let loads = unsafe { Loads::new(&raw mut *table) };
    loads.entered(Row(1), true);
    loads.entered(Row(1), false);
    loads.migrated(Row(1), Row(2));
    let [_, one, two, ..] = table.rows();
    assert_eq!((one.established(), two.established()), (1, 1));
    assert_eq!(
        (one.migrated_out_total(), two.migrated_in_total(), one.unsteered_total()),
        (1, 1, 1)
    );
}
