//! The table as users see it.

use super::*;
use crate::server::fake;

#[test]
fn the_table() {
    insta::assert_snapshot!(render(&fake::status(), Paint::OFF), @r"
    shop  policy sticky, up 1h 2m, controller 4711
      tcp 0.0.0.0:8080  1 handshake
      tcp [::]:8443  3 parked
      fallbacks 0  unsteered 0

    ID   PID  STATE        UPTIME  RESTARTS  CONNS  QUEUE  SELECTED  SHARE    CPU    MEM
     0  5000  active        1h 2m         0     12      0       750  75.0%  12.3%  50.0M
     1  5001  draining      1h 2m         0     17      3       250  25.0%  12.3%  50.0M
     2     -  backing off       -         4      0      0         0   0.0%      -      -
    worker 2: exit code 1, 4 times in a row; next try in 3.2 s
    ");
}

#[test]
fn trouble_is_pointed_at() {
    let mut status = fake::status();
    status.fallbacks = 2;
    status.unsteered = 1;
    status.groups[0].strangers = vec!["99 (python3)".into()];
    status.workers.truncate(1);
    let old = InstanceStatus {
        pid: 4999,
        state: WorkerState::Stopping,
        connections: 3,
        queue: 1,
        left_out: Vec::new(),
    };
    status.workers[0].instances.push(old);
    insta::assert_snapshot!(render(&status, Paint::OFF), @r"
    shop  policy sticky, up 1h 2m, controller 4711
      tcp 0.0.0.0:8080  1 handshake  other programs share this port: 99 (python3)
      tcp [::]:8443  3 parked
      fallbacks 2  unsteered 1  (!) the kernel's own hash decided for these

    ID   PID  STATE     UPTIME  RESTARTS  CONNS  QUEUE  SELECTED   SHARE    CPU    MEM
     0  5000  active     1h 2m         0     12      0       750  100.0%  12.3%  50.0M
     └  5000  active                         12      0
     └  4999  stopping                        3      1
    ");
}

fn fault(kind: FaultKind, withdrawn: bool) -> Option<FaultStatus> {
    let reason = match kind {
        FaultKind::Hung => "accepted nothing for 60 ms with 4 connections in its queue",
        FaultKind::Unhealthy => "its health check failed: status 503",
    };
    Some(FaultStatus {
        kind,
        for_ms: 12_345,
        withdrawn,
        reason: reason.into(),
    })
}

#[test]
fn faults_weights_and_canaries_are_seen_at_a_glance() {
    let mut status = fake::status();
    status.workers = (0..4)
        .map(|id| fake::worker(id, WorkerState::Active, [400, 300, 250, 50][usize::from(id)]))
        .collect();
    status.workers[1].fault = fault(FaultKind::Hung, true);
    status.workers[2].fault = fault(FaultKind::Unhealthy, false);
    status.workers[3].canary = true;
    status.workers[3].weight = Some("5%".into());
    insta::assert_snapshot!(render(&status, Paint::OFF), @r"
    shop  policy sticky, up 1h 2m, controller 4711
      tcp 0.0.0.0:8080  1 handshake
      tcp [::]:8443  3 parked
      fallbacks 0  unsteered 0

    ID   PID  STATE                       UPTIME  RESTARTS  CONNS  QUEUE  SELECTED  SHARE  WEIGHT    CPU    MEM
     0  5000  active                       1h 2m         0     12      0       400  40.0%          12.3%  50.0M
     1  5001  hung, withdrawn              1h 2m         0     12      0       300  30.0%          12.3%  50.0M
     2  5002  unhealthy, still published   1h 2m         0     12      0       250  25.0%          12.3%  50.0M
     3  5003  active, canary               1h 2m         0     12      0        50   5.0%      5%  12.3%  50.0M
    worker 1: hung for 12s: accepted nothing for 60 ms with 4 connections in its queue
    worker 2: unhealthy for 12s: its health check failed: status 503
    ");
    assert!(render(&status, Paint { enabled: true }).contains("\x1b[31mhung, withdrawn\x1b[0m"));
}

#[test]
fn when_all_are_faulty_it_is_said_who_is_still_chosen() {
    use FaultKind::{Hung, Unhealthy};
    let line = |faults: &[Option<FaultStatus>], drained: bool| {
        let mut workers: Vec<_> = (0..)
            .zip(faults)
            .map(|(id, fault)| WorkerStatus {
                fault: fault.clone(),
                ..fake::worker(id, WorkerState::Active, 0)
            })
            .collect();
        if drained {
            workers.push(fake::worker(9, WorkerState::Drained, 0));
        }
        all_faulty_line(&workers)
    };
    let (stays, gone) = (fault(Hung, false), fault(Hung, true));
    for (faults, drained, expected) in [
        (
            vec![stays.clone(); 4],
            false,
            Some("all 4 workers are hung: all stay published"),
        ),
        (
            vec![stays.clone(); 4],
            true,
            Some("all 4 active workers are hung: all stay published"),
        ),
        (
            vec![stays.clone(), gone.clone(), fault(Unhealthy, false)],
            false,
            Some("all 3 workers are hung or unhealthy: 2 of them published"),
        ),
        (
            vec![fault(Unhealthy, false)],
            false,
            Some("the only worker is unhealthy: it stays published"),
        ),
        (
            vec![stays.clone()],
            true,
            Some("the only active worker is hung: it stays published"),
        ),
        (vec![stays, gone, None], false, None),
        (vec![], true, None),
    ] {
        assert_eq!(line(&faults, drained).as_deref(), expected, "{faults:?} {drained}");
    }
}

#[test]
fn an_app_that_just_starts() {
    let mut status = fake::status();
    status.groups.clear();
    status.workers = vec![WorkerStatus {
        cpu_percent: 0.0,
        ..fake::worker(0, WorkerState::Starting, 0)
    }];
    insta::assert_snapshot!(render(&status, Paint::OFF), @r"
    shop  policy sticky, up 1h 2m, controller 4711
      no worker listens yet
      fallbacks 0  unsteered 0

    ID   PID  STATE     UPTIME  RESTARTS  CONNS  QUEUE  SELECTED  SHARE   CPU    MEM
     0  5000  starting   1h 2m         0     12      0         0      -  0.0%  50.0M
    ");
}

#[test]
fn colours_are_only_where_they_are_wanted() {
    assert!(!render(&fake::status(), Paint::OFF).contains('\x1b'));
    assert!(render(&fake::status(), Paint { enabled: true }).contains("\x1b[32mactive\x1b[0m"));
}
