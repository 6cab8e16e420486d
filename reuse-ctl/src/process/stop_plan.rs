//! Decides which processes of an instance get the stop signal, and in which order. A pure rule.
//!
//! A server must see the signal exactly once. Behind `npm start` or `sh -c` the server is not the main process, and it can't be known in
//! advance whether its parents pass a signal on: npm signals its shell, which dies; tsx and env-cmd signal their child; yarn 1 signals the
//! wrong process. So the signal goes down the process tree. The main process gets it first, while the processes below it are held. Then
//! each of those gets it from the controller, unless a process above has passed it on.
//!
//! A process that has a listener, handles the signal, and has an ancestor that has a listener too is left to that ancestor: they are a
//! master and its worker (nginx, gunicorn, puma, Node's cluster), and the master stops its workers in its own way. A process that was
//! forked from such an ancestor and still runs the same program is also left to it: servers that fork for each connection leave the
//! listener open in their children.

use std::collections::{BTreeMap, BTreeSet};

/// Which processes get the stop signal (`--kill-mode`). The meanings are systemd's, except that processes left at the end are always
/// killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum KillMode {
    #[expect(missing_docs, reason = "clap would show it as help, and make the help twice as long")]
    Process,
    #[expect(missing_docs, reason = "as above")]
    Mixed,
    #[expect(missing_docs, reason = "as above")]
    ControlGroup,
}

impl KillMode {
    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Mixed => "mixed",
            Self::ControlGroup => "control-group",
        }
    }
}

/// Whether processes that only have connections also get the signal when their time is over. Otherwise they are killed then.
pub const fn tells_rest(mode: Option<KillMode>) -> bool {
    match mode {
        Some(KillMode::Process | KillMode::Mixed) => false,
        Some(KillMode::ControlGroup) | None => true,
    }
}

/// A process of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstanceProcess {
    /// The process's pid.
    pub pid: u32,
    /// Its parent's pid. The parent may be outside the instance.
    pub parent: u32,
    /// Whether it has a descriptor of a listener of the app.
    pub listens: bool,
    /// Whether the process does anything but die from the signal, so that it may pass it on.
    pub catches: bool,
    /// Identifies the program that it runs: the same number for a process and those it has forked, until one of them executes a program. 0
    /// if unknown.
    pub image: u64,
}

impl InstanceProcess {
    /// Whether `other`, a process below this one with the same listener, is left to this one. A master stops its workers; and a process
    /// that a server forked for a connection has the listener only because it did not close it.
    fn is_master_of(&self, other: &Self) -> bool {
        let is_fork = self.image == other.image && self.image != 0;
        self.listens && (self.catches || is_fork)
    }
}

/// The order in which processes are signalled. Each process is named once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopPlan {
    /// All of these get the signal at once, in this order.
    AtOnce(Vec<u32>),
    /// One step after the other. Processes of later steps are held meanwhile.
    Downwards(Vec<Step>),
}

/// Processes at the same depth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The processes of this step.
    pub members: Vec<InstanceProcess>,
}

impl Step {
    /// Whether one of the processes may pass the signal on to those below.
    pub fn may_pass_on(&self) -> bool {
        self.members.iter().any(|member| member.catches)
    }

    fn pids(&self) -> impl Iterator<Item = u32> {
        self.members.iter().map(|member| member.pid)
    }
}

/// Decides which of `members` get the signal. `main` gets it even if it is not among them.
pub fn plan(main: u32, members: &[InstanceProcess], mode: Option<KillMode>) -> StopPlan {
    match mode {
        Some(KillMode::Process | KillMode::Mixed) => StopPlan::AtOnce(vec![main]),
        Some(KillMode::ControlGroup) => {
            let all: BTreeSet<u32> = members.iter().map(|member| member.pid).collect();
            let others = all.into_iter().filter(|pid| *pid != main);
            StopPlan::AtOnce([main].into_iter().chain(others).collect())
        }
        None => default_plan(main, members),
    }
}

fn default_plan(main: u32, members: &[InstanceProcess]) -> StopPlan {
    let tree = Tree::new(main, members);
    let mut steps: BTreeMap<usize, Step> = BTreeMap::new();
    for pid in tree.targets() {
        let step = steps.entry(tree.depth(pid)).or_insert(Step { members: Vec::new() });
        step.members.push(tree.members[&pid]);
    }
    let steps: Vec<Step> = steps.into_values().collect();
    let above = steps.len().saturating_sub(1);
    if steps[..above].iter().any(Step::may_pass_on) {
        StopPlan::Downwards(steps)
    } else {
        StopPlan::AtOnce(steps.iter().flat_map(Step::pids).collect())
    }
}

/// An instance's processes by pid.
struct Tree {
    main: u32,
    members: BTreeMap<u32, InstanceProcess>,
}

impl Tree {
    fn new(main: u32, members: &[InstanceProcess]) -> Self {
        let mut members: BTreeMap<u32, InstanceProcess> = members.iter().map(|member| (member.pid, *member)).collect();
        // Its parent is the controller.
        let unknown = InstanceProcess {
            pid: main,
            parent: 0,
            listens: false,
            catches: false,
            image: 0,
        };
        members.entry(main).or_insert(unknown).parent = 0;
        Self { main, members }
    }

    /// The ancestors of a process inside the instance, from its parent up. Parents are read one by one while processes come and go, so a
    /// cycle is possible; it is cut.
    fn ancestors(&self, pid: u32) -> Vec<u32> {
        let mut found = Vec::new();
        let mut next = self.members.get(&pid).map(|member| member.parent);
        while let Some(parent) = next.and_then(|parent| self.members.get(&parent)) {
            if parent.pid == pid || found.contains(&parent.pid) {
                break;
            }
            found.push(parent.pid);
            next = Some(parent.parent);
        }
        found
    }

    fn targets(&self) -> BTreeSet<u32> {
        let mut targets = BTreeSet::from([self.main]);
        for member in self.members.values().filter(|member| member.listens) {
            let ancestors = self.ancestors(member.pid);
            if !ancestors.iter().any(|pid| self.members[pid].is_master_of(member)) {
                targets.insert(member.pid);
                targets.extend(ancestors);
            }
        }
        targets
    }

    /// Number of steps before the process's own. A process whose parent has ended comes after the main process, which may know it in
    /// another way than as its child.
    fn depth(&self, pid: u32) -> usize {
        let ancestors = self.ancestors(pid);
        let below_main = pid == self.main || ancestors.contains(&self.main);
        ancestors.len() + usize::from(!below_main)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    const MAIN: u32 = 10;

    /// `listens` and `catches` as letters, so that each case fits on a line.
    fn member(pid: u32, parent: u32, is: &str) -> InstanceProcess {
        InstanceProcess {
            pid,
            parent,
            listens: is.contains('l'),
            catches: is.contains('c'),
            // Each executes its own program, except forks.
            image: if is.contains('f') { u64::from(MAIN) } else { pid.into() },
        }
    }

    fn downwards(plan: StopPlan) -> Vec<Vec<u32>> {
        match plan {
            StopPlan::AtOnce(pids) => panic!("at once: {pids:?}"),
            StopPlan::Downwards(steps) => steps.iter().map(|step| step.pids().collect()).collect(),
        }
    }

    #[test]
    fn a_server_by_itself_gets_it_at_once() {
        for is in ["", "l", "c", "lc"] {
            let alone = plan(MAIN, &[member(MAIN, 1, is), member(11, MAIN, "")], None);
            assert_eq!(alone, StopPlan::AtOnce(vec![MAIN]), "{is}");
        }
        assert_eq!(plan(MAIN, &[], None), StopPlan::AtOnce(vec![MAIN]));
    }

    #[test]
    fn workers_are_left_to_their_master() {
        let nginx = [member(MAIN, 1, "lc"), member(11, MAIN, "lc"), member(12, MAIN, "lc")];
        assert_eq!(plan(MAIN, &nginx, None), StopPlan::AtOnce(vec![MAIN]));
        let behind_npm = [
            member(MAIN, 1, "c"),
            member(11, MAIN, "lc"),
            member(12, 11, "lc"),
            member(13, 12, "l"),
        ];
        assert_eq!(downwards(plan(MAIN, &behind_npm, None)), [[MAIN], [11]]);
    }

    #[test]
    fn a_master_that_dies_of_it_ends_nobody() {
        let prefork = [member(MAIN, 1, "l"), member(11, MAIN, "l"), member(12, MAIN, "lc")];
        assert_eq!(plan(MAIN, &prefork, None), StopPlan::AtOnce(vec![MAIN, 11, 12]));
    }

    #[test]
    fn what_a_server_has_forked_for_a_connection_goes_on() {
        let forking = [member(MAIN, 1, "l"), member(11, MAIN, "lf"), member(12, 11, "lf")];
        assert_eq!(plan(MAIN, &forking, None), StopPlan::AtOnce(vec![MAIN]));
    }

    #[test]
    fn behind_a_shell_nobody_has_to_wait() {
        let sh = [member(MAIN, 1, ""), member(11, MAIN, "lc")];
        assert_eq!(plan(MAIN, &sh, None), StopPlan::AtOnce(vec![MAIN, 11]));
    }

    #[test]
    fn wrappers_come_first_one_after_the_other() {
        let npx_tsx = [
            member(MAIN, 1, "c"),
            member(11, MAIN, ""),
            member(12, 11, "c"),
            member(13, 12, "lc"),
            member(14, 13, "c"),
        ];
        assert_eq!(downwards(plan(MAIN, &npx_tsx, None)), [[MAIN], [11], [12], [13]]);
    }

    #[test]
    fn a_server_whose_parent_has_ended_comes_after_the_main_process() {
        let daemon = [member(MAIN, 1, "c"), member(11, 1, "lc")];
        assert_eq!(downwards(plan(MAIN, &daemon, None)), [[MAIN], [11]]);
    }

    #[test]
    fn what_is_said_goes_before_the_rule() {
        let npm = [member(MAIN, 1, "c"), member(11, MAIN, "lc"), member(12, 11, "")];
        for mode in [KillMode::Process, KillMode::Mixed] {
            assert_eq!(plan(MAIN, &npm, Some(mode)), StopPlan::AtOnce(vec![MAIN]), "{mode:?}");
        }
        let all = plan(MAIN, &npm, Some(KillMode::ControlGroup));
        assert_eq!(all, StopPlan::AtOnce(vec![MAIN, 11, 12]));
    }

    #[test]
    fn a_circle_of_parents_ends() {
        let circle = [member(MAIN, 1, "c"), member(11, 12, "l"), member(12, 11, "c")];
        let StopPlan::Downwards(steps) = plan(MAIN, &circle, None) else {
            panic!("the main process may pass it on")
        };
        assert_eq!(
            steps.iter().flat_map(Step::pids).collect::<BTreeSet<_>>(),
            [MAIN, 11, 12].into()
        );
    }

    /// What a process does with the signal, for the model.
    #[derive(Debug, Clone, Copy)]
    struct Habits {
        passes_on: bool,
        to_all_below: bool,
    }

    /// Any tree: the parent of each process is an earlier process, or outside.
    fn any_tree() -> impl Strategy<Value = Vec<(InstanceProcess, Habits)>> {
        let one = (any::<prop::sample::Index>(), any::<[bool; 5]>());
        prop::collection::vec(one, 1..12).prop_map(|all| {
            let member = |(at, (parent, [listens, catches, orphan, passes_on, to_all_below])): (
                usize,
                (prop::sample::Index, [bool; 5]),
            )| {
                let pid = MAIN + u32::try_from(at).expect("small");
                let parent = if at == 0 || (orphan && at % 4 == 0) {
                    1
                } else {
                    MAIN + u32::try_from(parent.index(at)).expect("small")
                };
                let member = InstanceProcess {
                    pid,
                    parent,
                    listens,
                    catches,
                    image: pid.into(),
                };
                (
                    member,
                    Habits {
                        passes_on: passes_on && catches,
                        to_all_below,
                    },
                )
            };
            all.into_iter().enumerate().map(member).collect()
        })
    }

    /// How often each process acts on a signal when `steps` are carried out. Several signals pending for a held process count as one.
    fn run(tree: &[(InstanceProcess, Habits)], steps: &[Vec<u32>]) -> HashMap<u32, u32> {
        let mut seen = HashMap::new();
        let mut held: BTreeSet<u32> = steps.iter().skip(1).flatten().copied().collect();
        let mut pending: BTreeSet<u32> = BTreeSet::new();
        fn deliver(
            pid: u32,
            tree: &[(InstanceProcess, Habits)],
            held: &BTreeSet<u32>,
            pending: &mut BTreeSet<u32>,
            seen: &mut HashMap<u32, u32>,
        ) {
            if held.contains(&pid) {
                pending.insert(pid);
                return;
            }
            *seen.entry(pid).or_default() += 1;
            let habits = tree.iter().find(|(member, _)| member.pid == pid).expect("known").1;
            let is_below = |member: &InstanceProcess| {
                let mut at = member.parent;
                while let Some((up, _)) = tree.iter().find(|(other, _)| other.pid == at) {
                    if up.pid == pid {
                        return member.parent == pid || habits.to_all_below;
                    }
                    at = up.parent;
                }
                false
            };
            if habits.passes_on {
                for (below, _) in tree.iter().filter(|(member, _)| is_below(member)) {
                    deliver(below.pid, tree, held, pending, seen);
                }
            }
        }
        for step in steps {
            for pid in step {
                // The rule of `stop_steps`: a signal that was passed on is not sent again.
                held.remove(pid);
                pending.remove(pid);
                deliver(*pid, tree, &held, &mut pending, &mut seen);
            }
        }
        seen
    }

    proptest! {
        #[test]
        fn every_target_sees_it_once_whoever_passes_it_on(tree in any_tree()) {
            let members: Vec<InstanceProcess> = tree.iter().map(|(member, _)| *member).collect();
            let steps = match plan(MAIN, &members, None) {
                StopPlan::AtOnce(pids) => {
                    // No process above another one may pass the signal on.
                    let mut steps: Vec<Vec<u32>> = pids.into_iter().map(|pid| vec![pid]).collect();
                    steps.insert(0, Vec::new());
                    steps
                }
                StopPlan::Downwards(steps) => steps.iter().map(|step| step.pids().collect()).collect(),
            };
            let targets: Vec<u32> = steps.iter().flatten().copied().collect();
            let distinct: BTreeSet<u32> = targets.iter().copied().collect();
            prop_assert_eq!(distinct.len(), targets.len(), "nobody is named twice");
            prop_assert!(distinct.contains(&MAIN));
            prop_assert!(distinct.iter().all(|pid| members.iter().any(|member| member.pid == *pid)), "nobody else");
            let seen = run(&tree, &steps);
            for pid in &targets {
                prop_assert_eq!(seen.get(pid), Some(&1), "{} of {:?}", pid, &steps);
            }
            // Every process that listens gets the signal, or is below a master that does.
            for member in members.iter().filter(|member| member.listens && !distinct.contains(&member.pid)) {
                let mut at = member.parent;
                let mut has_master = false;
                while let Some(up) = members.iter().find(|up| up.pid == at) {
                    has_master |= up.listens && up.catches && distinct.contains(&up.pid);
                    at = up.parent;
                }
                prop_assert!(has_master, "{} is forgotten", member.pid);
            }
        }
    }
}
