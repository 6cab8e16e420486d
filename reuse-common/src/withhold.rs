//! Decides which of the faulty active instances are withdrawn.
//!
//! At most a part of the active instances is withdrawn at once, and never all: the others must bear the whole load. The instances that have
//! been faulty for longest go first, so that a withdrawn one stays withdrawn when another becomes faulty later. If all active instances are
//! faulty, none is withdrawn: none is worse than the others, and somebody has to serve.

/// An active instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Time since which it has been faulty without a break, in milliseconds; `None` if it is not faulty.
    pub faulty_since_ms: Option<u64>,
    /// Whether it is withdrawn, as [`decide`] decided.
    pub withdrawn: bool,
}

/// Number of `active` instances that may be withdrawn at once for faults: `at_most_percent` of them, rounded down, and never all.
pub const fn limit(active: usize, at_most_percent: u8) -> usize {
    let part = active * at_most_percent as usize / 100;
    if part >= active { active.saturating_sub(1) } else { part }
}

/// Decides for all active instances at once. Of instances that became faulty at the same time, the first in the list is withdrawn first.
pub fn decide(active: &mut [Candidate], at_most_percent: u8) {
    let mut faulty = 0;
    for candidate in active.iter_mut() {
        candidate.withdrawn = false;
        faulty += usize::from(candidate.faulty_since_ms.is_some());
    }
    if faulty == active.len() {
        return;
    }
    for _ in 0..faulty.min(limit(active.len(), at_most_percent)) {
        let still = active.iter_mut().filter(|candidate| !candidate.withdrawn);
        let longest = still
            .filter(|candidate| candidate.faulty_since_ms.is_some())
            .min_by_key(|candidate| candidate.faulty_since_ms);
        if let Some(longest) = longest {
            longest.withdrawn = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn withdrawn(since: &[Option<u64>], at_most_percent: u8) -> Vec<usize> {
        let mut active: Vec<_> = since
            .iter()
            .map(|since| Candidate {
                faulty_since_ms: *since,
                withdrawn: false,
            })
            .collect();
        decide(&mut active, at_most_percent);
        (0..active.len()).filter(|place| active[*place].withdrawn).collect()
    }

    #[test]
    fn the_longest_faulty_go_first_up_to_the_limit() {
        let since = [Some(30), None, Some(10), Some(20), None, None];
        assert_eq!(withdrawn(&since, 50), [0, 2, 3]);
        assert_eq!(withdrawn(&since, 34), [2, 3]);
        assert_eq!(withdrawn(&since, 100), [0, 2, 3]);
        assert_eq!(withdrawn(&since, 0), []);
        assert_eq!(withdrawn(&[Some(5), Some(5), None], 34), [0], "of equals the first");
    }

    #[test]
    fn if_all_are_faulty_nobody_is_withdrawn() {
        assert_eq!(withdrawn(&[Some(1); 4], 50), []);
        assert_eq!(withdrawn(&[Some(1)], 100), []);
        assert_eq!(withdrawn(&[], 100), []);
    }

    #[test]
    fn the_limit_is_rounded_down_and_never_all() {
        assert_eq!([1, 2, 3, 4, 5].map(|active| limit(active, 50)), [0, 1, 1, 2, 2]);
        assert_eq!([0, 1, 2, 4].map(|active| limit(active, 100)), [0, 0, 1, 3]);
        assert_eq!(limit(256, 255), 255, "more than all is all");
    }

    /// One thing that happens to an app whose instances come, go, become faulty and recover.
    #[derive(Debug, Clone)]
    enum Change {
        Come,
        Go(usize),
        Sicken(usize),
        Recover(usize),
    }

    fn change() -> impl Strategy<Value = Change> {
        let which = 0..8_usize;
        prop_oneof![
            2 => Just(Change::Come),
            1 => which.clone().prop_map(Change::Go),
            4 => which.clone().prop_map(Change::Sicken),
            2 => which.prop_map(Change::Recover),
        ]
    }

    proptest! {
        #[test]
        fn somebody_stays_and_nobody_flips(
            percent in 0..=100_u8,
            changes in proptest::collection::vec(change(), 0..200),
        ) {
            let mut active: Vec<Candidate> = Vec::new();
            for (now, change) in (0_u64..).zip(&changes) {
                let before = active.clone();
                match *change {
                    Change::Come => active.push(Candidate { faulty_since_ms: None, withdrawn: false }),
                    Change::Go(which) if which < active.len() => drop(active.remove(which)),
                    Change::Sicken(which) if which < active.len() => {
                        active[which].faulty_since_ms.get_or_insert(now);
                    }
                    Change::Recover(which) if which < active.len() => active[which].faulty_since_ms = None,
                    _ => {}
                }
                decide(&mut active, percent);
                let out = active.iter().filter(|one| one.withdrawn).count();
                prop_assert!(active.is_empty() || out < active.len(), "somebody is left");
                prop_assert!(out <= active.len() * usize::from(percent) / 100);
                prop_assert!(active.iter().all(|one| one.faulty_since_ms.is_some() || !one.withdrawn));
                let all_faulty = active.iter().all(|one| one.faulty_since_ms.is_some());
                if matches!(change, Change::Sicken(_)) && !all_faulty {
                    let kept = before.iter().zip(&active).all(|(was, is)| is.withdrawn || !was.withdrawn);
                    prop_assert!(kept, "a new fault does not bring an old one back");
                }
            }
        }
    }
}
