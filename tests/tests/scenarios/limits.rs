//! Limits of workers, and an older kernel: in virtual machines, because they depend on the kernel and on how it was set up.
#![cfg(target_arch = "x86_64")]

use reuse_tests::heavy::Heavy;
use reuse_tests::machine;

#[test]
fn limits_are_set_on_each_worker() {
    let _turn = Heavy::turn();
    machine::run("set", &[]);
}

#[test]
fn limits_of_memory_end_one_worker_alone() {
    let _turn = Heavy::turn();
    machine::run("memory", &[]);
}

#[test]
fn limits_of_the_processor_are_kept() {
    let _turn = Heavy::turn();
    machine::run("processor", &[]);
}

#[test]
fn limits_that_the_kernel_can_not_keep_are_refused() {
    let _turn = Heavy::turn();
    machine::run("missing", &["cgroup_disable=memory", "in_cgroup_v1=cpu"]);
}

#[test]
fn limits_aside_debians_kernel_steers_and_reloads_without_loss() {
    let _turn = Heavy::turn();
    machine::run("steering", &[]);
}
