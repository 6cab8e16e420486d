//! What container engines' seccomp filters do to the controller: a call is refused (`bpf`), or said not to exist (`clone3`).

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use reuse_tests::load::{Load, Mode};
use reuse_tests::reconcile::{assert_all_ended, reconcile};
use reuse_tests::{Launch, Namespace, SERVER, commands, leftovers, run};

/// Has the kernel answer one system call of this process, and of all that it starts, with an error. It is what engines do, with longer lists.
fn forbid(command: &mut Command, call: libc::c_long, errno: i32) {
    let call = u32::try_from(call).expect("small");
    let errno = errno.cast_unsigned();
    // SAFETY: two system calls on what was moved into the closure; nothing of the parent's state is touched between fork and exec.
    unsafe {
        command.pre_exec(move || {
            let statement = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
            let mut filter = [
                // The number of the call is the first word. (Calls of another architecture are not looked for: this is no protection.)
                statement(load_word(), 0, 0, 0),
                statement(jump_if_equal(), 0, 1, call),
                statement(give_back(), 0, 0, libc::SECCOMP_RET_ERRNO | errno),
                statement(give_back(), 0, 0, libc::SECCOMP_RET_ALLOW),
            ];
            let program = libc::sock_fprog {
                len: 4,
                filter: filter.as_mut_ptr(),
            };
            // Root needs no PR_SET_NO_NEW_PRIVS.
            if libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) < 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
}

fn load_word() -> u16 {
    code(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS)
}

fn jump_if_equal() -> u16 {
    code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K)
}

fn give_back() -> u16 {
    code(libc::BPF_RET | libc::BPF_K)
}

fn code(bits: u32) -> u16 {
    u16::try_from(bits).expect("16 bits")
}

#[test]
fn a_filter_that_forbids_bpf_is_named_with_what_to_do() {
    let _namespace = Namespace::enter();
    let launch = Launch::new(&[]);
    let mut command = launch.command(&commands::rust(&[]));
    forbid(&mut command, libc::SYS_bpf, libc::EPERM);
    run::to_end(&mut command, Duration::from_secs(20))
        .expect_code(1)
        .expect_complaint(&["bpf", "seccomp", "--cap-add SYS_ADMIN", "docs/containers.md"]);
    leftovers::assert_nothing_left(launch.app_name());

    let mut doctor = reuse_tests::app::controller_command();
    forbid(doctor.arg("doctor"), libc::SYS_bpf, libc::EPERM);
    let seen = run::to_end(&mut doctor, Duration::from_secs(20)).expect_code(1);
    assert!(seen.stdout.contains("first missing: bpf"), "{}", seen.stdout);
}

#[test]
fn without_clone3_workers_start_in_their_cgroups_all_the_same() {
    let _namespace = Namespace::enter();
    let launch = Launch::new(&["--workers", "3"]);
    let mut app = launch.start_with(&commands::rust(&[]), |command| {
        forbid(command, libc::SYS_clone3, libc::ENOSYS);
    });
    app.wait_all_active(3);
    let load = Load::start(SERVER, 8, Mode::NewConnections, Duration::from_secs(60));
    load.wait_for(100, Duration::from_secs(20));
    app.ctl(&["reload"]).expect_code(0);
    app.ctl(&["scale", "4"]).expect_code(0);
    load.wait_for(100, Duration::from_secs(20));
    let report = load.stop();
    report.assert_nothing_failed();
    // Counted by cgroups: it holds only if workers and the controller's own listeners are where they belong.
    reconcile(&app, report.connections);
    assert_all_ended(&app);
    app.stop();
}
