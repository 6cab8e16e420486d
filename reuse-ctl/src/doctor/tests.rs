//! Run on the real kernel; they need root and cgroup v2.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use caps::{CapSet, Capability};

use super::*;
use crate::process::{cgroup::Hierarchy, paths::Paths};

const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until no doctor of this process has a cgroup or a folder for pins, because other tests may run one at the moment.
fn nothing_is_left() {
    let deadline = Instant::now() + PATIENCE;
    while !left_behind().is_empty() {
        assert!(Instant::now() < deadline, "{:?}", left_behind());
        #[expect(clippy::disallowed_methods, reason = "between two looks of a bounded wait")]
        thread::sleep(Duration::from_millis(5));
    }
}

fn left_behind() -> Vec<String> {
    let mine = format!("doctor@{}-", std::process::id());
    let cgroups = Hierarchy::find().expect("cgroup v2").mount().join("reuse-ctl");
    [cgroups.as_path(), Paths::default().pins.as_path()]
        .into_iter()
        .flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with(&mine))
        .collect()
}

fn outcome_of(checks: &[Check], name: &str) -> (CheckOutcome, String) {
    let check = checks.iter().find(|check| check.name == name).expect("checked");
    (check.outcome, check.detail.clone())
}

/// Runs `work` in its own thread, whose permissions and namespaces may be changed.
fn in_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(work).join().expect("no panic"))
}

fn examine_here(ports: &[u16]) -> Vec<Check> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(examine(ports))
}

#[test]
fn every_probe_succeeds_here_and_leaves_nothing() {
    let checks = examine_here(&[8080]);
    let text = render(&checks, false);
    assert!(is_fit(&checks), "{text}");
    assert_eq!(checks.len(), 19, "{text}");
    // The others depend on the machine's settings.
    for name in [
        "bpf",
        "bind hook",
        "no MPTCP",
        "select",
        "track",
        "in flight",
        "migrate",
        "notices",
        "service port",
    ] {
        assert_eq!(outcome_of(&checks, name).0, CheckOutcome::Works, "{text}");
    }
    nothing_is_left();
}

#[test]
fn without_rights_the_programs_are_missing_and_nothing_is_left() {
    let (required, checks) = in_thread(|| {
        for capability in [
            Capability::CAP_BPF,
            Capability::CAP_SYS_ADMIN,
            Capability::CAP_NET_ADMIN,
        ] {
            caps::drop(None, CapSet::Effective, capability).expect("fewer rights are always granted");
        }
        (required(), examine_here(&[8080]))
    });
    let text = render(&checks, false);
    let root = required.expect_err("rights are missing");
    assert_eq!((root.name, root.outcome), ("root", CheckOutcome::Missing));
    assert_eq!(root.detail, "root without CAP_NET_ADMIN, CAP_BPF");
    assert_eq!(outcome_of(&checks, "select").0, CheckOutcome::Missing, "{text}");
    assert!(
        outcome_of(&checks, "select").1.contains("Operation not permitted"),
        "{text}"
    );
    assert_eq!(
        outcome_of(&checks, "bpf"),
        (
            CheckOutcome::Missing,
            "not tried: root without CAP_NET_ADMIN, CAP_BPF".into()
        )
    );
    assert_eq!(
        outcome_of(&checks, "migrate"),
        (
            CheckOutcome::Missing,
            "not tried: the programs could not be loaded".into()
        )
    );
    // Features that don't need these permissions must still be found to work.
    for name in ["cgroup v2", "pidfd_getfd", "inet_diag", "service port"] {
        assert_eq!(outcome_of(&checks, name).0, CheckOutcome::Works, "{text}");
    }
    assert!(!is_fit(&checks));
    nothing_is_left();
}

#[test]
fn what_run_needs_is_asked_in_no_time() {
    required().expect("this machine is fit");
    let begin = Instant::now();
    required().expect("this machine is fit");
    let took = begin.elapsed();
    println!("{took:?}");
    // A loaded machine may take its time; a probe that loads programs or waits takes longer than this at any rate.
    assert!(took < Duration::from_millis(100), "{took:?}");
}

#[test]
fn a_network_without_loopback_is_told_apart() {
    let checks = in_thread(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("root");
        examine_here(&[])
    });
    let text = render(&checks, false);
    let select = checks.iter().find(|check| check.name == "select").expect("checked");
    assert_eq!(
        (select.outcome, select.remedy.as_str()),
        (CheckOutcome::Missing, "ip link set lo up"),
        "{text}"
    );
    assert_eq!(checks.len(), 19, "{text}");
}
