//! What a newcomer runs first.

use std::time::Duration;

use reuse_tests::app::controller_command;
use reuse_tests::heavy::Heavy;
use reuse_tests::run::assert_says;
use reuse_tests::{Namespace, run};

#[test]
fn the_demo_loses_no_connection() {
    let _turn = Heavy::turn();
    let _namespace = Namespace::enter();
    let output = run::to_end(controller_command().arg("demo"), Duration::from_secs(120)).expect_code(0);
    assert!(output.stdout.contains("lost"), "{}", output.stdout);
    let last = output
        .stdout
        .lines()
        .rev()
        .find(|line| line.contains("lost"))
        .expect("a line about what was lost");
    assert!(last.contains('0'), "{last}");
}

#[test]
fn the_doctor_finds_this_machine_healthy() {
    let _namespace = Namespace::enter();
    let output = run::to_end(controller_command().arg("doctor"), Duration::from_secs(60)).expect_code(0);
    assert_says(
        &output.stdout,
        &[
            "select",
            "migrate",
            "track",
            "in flight",
            "BTF",
            "cgroup",
            "pidfd_getfd",
            "tcp_migrate_req",
            "bind hook",
            "service port",
            "root",
        ],
    );
    assert!(output.stdout.contains('✓'), "{}", output.stdout);
}

#[test]
fn every_verb_explains_itself() {
    for verb in [
        "run", "status", "ls", "drain", "undrain", "restart", "reload", "scale", "policy", "weight", "canary",
        "promote", "abort", "get", "import", "stop", "logs", "doctor", "try", "demo",
    ] {
        let output = run::to_end(controller_command().args([verb, "--help"]), Duration::from_secs(10)).expect_code(0);
        assert!(output.stdout.contains("Usage"), "{verb}: {}", output.stdout);
    }
}
