//! When the program can't choose, the kernel does: that is counted and shown.

use std::time::Duration;

use nix::sys::signal::Signal;
use reuse_tests::http::get;
use reuse_tests::{App, Namespace, PORT, SERVER, commands, fault, kernel, wait};

#[test]
fn a_provoked_fallback_is_counted_and_shown() {
    let _namespace = Namespace::enter();
    let app = App::run(&["--workers", "2"], &commands::rust(&[]));
    app.ctl(&["drain", "0", "1", "--force"]).expect_code(0);
    assert_eq!(app.status().fallbacks, 0);

    // Nobody is published, and the backstop listener is taken away behind the controller's back: nothing is left to choose.
    let backstop: Vec<_> = kernel::listeners(PORT).iter().map(|socket| socket.inode).collect();
    let controller = app.pid();
    let (descriptor, _) = kernel::socket_descriptors(controller)
        .into_iter()
        .find(|(_, inode)| backstop.contains(inode))
        .expect("the controller holds the backstop listener");
    app.signal(Signal::SIGSTOP);
    wait::until("the controller is stopped", Duration::from_secs(5), || {
        kernel::is_stopped(controller)
    });
    fault::shut_down_socket_of(controller, descriptor).expect("shut the backstop listener down");
    get(SERVER, None).expect("the kernel's own choice answers");
    app.signal(Signal::SIGCONT);

    let status = app.wait_status("the fallback is counted", Duration::from_secs(5), |status| {
        status.fallbacks >= 1
    });
    assert_eq!(status.verdicts().fallback, status.fallbacks);
    let shown = app.ctl(&["status"]).expect_code(0).stdout;
    assert!(shown.contains("fallback"), "{shown}");
    app.stop();
}
