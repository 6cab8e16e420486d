//! Tests of what the bench counts: a bench without a harness can't have its own.
#![cfg(target_os = "linux")]

mod blind;
mod case;
mod count;

use count::Executed;

fn counted() -> Vec<Executed> {
    count::count(&[4, 16, 64]).expect("every case chooses")
}

fn of(all: &[Executed], case: &str) -> Vec<Executed> {
    let found: Vec<_> = all.iter().copied().filter(|executed| executed.case == case).collect();
    assert_eq!(found.len(), 3, "{case} in each size");
    found
}

#[test]
fn programs_whose_instructions_are_known() {
    let all = counted();
    for blind in of(&all, "a blind choice") {
        assert_eq!((blind.instructions, blind.atomics), (11, 0));
        assert_eq!((blind.helpers, blind.inlined), (1, 0));
    }
    for empty in of(&all, "empty") {
        assert_eq!((empty.instructions, empty.helpers), (2, 0));
    }
}

#[test]
fn what_depends_on_the_number_of_workers() {
    let all = counted();
    assert!(all.iter().all(|executed| executed.instructions > 0));
    for case in ["hash", "round-robin", "sticky, known client"] {
        let [four, sixteen, sixty_four] = of(&all, case)[..] else {
            panic!("three sizes");
        };
        assert_eq!(four.instructions, sixteen.instructions, "{case}");
        assert_eq!(four.instructions, sixty_four.instructions, "{case}");
        assert!(four.instructions > 11, "{case} does more than a blind choice");
    }
    let scans: Vec<u64> = of(&all, "least-loaded").iter().map(|scan| scan.instructions).collect();
    assert!(scans[0] < scans[1], "{scans:?}");
    assert!(scans[2] < 2 * scans[1], "at most sixteen are scanned: {scans:?}");
}

#[test]
fn what_a_selection_takes_besides() {
    let all = counted();
    for ours in all
        .iter()
        .filter(|executed| !["empty", "a blind choice"].contains(&executed.case))
    {
        // Two counters at the least; the two tables, and the selection itself.
        assert!(
            ours.atomics >= 2 && ours.inlined >= 2 && ours.helpers > ours.inlined,
            "{ours:?}"
        );
    }
    let helpers = |case| of(&all, case)[0].helpers;
    assert!(
        helpers("sticky, known client") > helpers("hash"),
        "the clients' table and the packet"
    );
}
