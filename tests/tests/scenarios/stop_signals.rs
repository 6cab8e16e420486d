//! `run` and `reload` name the stop signal on which a known server finishes its requests.

use reuse_tests::app::App;
use reuse_tests::scratch::Scratch;
use reuse_tests::{Namespace, commands};

const SUGGESTION: &str = "nginx drops requests on SIGTERM; `--stop-signal SIGQUIT` lets it finish them";

#[test]
fn nginx_is_told_from_servers_that_end_cleanly_on_the_default_signal() {
    let _namespace = Namespace::enter();
    let folder = Scratch::new();
    let app = App::run(&[], &commands::nginx_one(folder.path()));
    let said = app.output();
    assert_eq!(said.matches(SUGGESTION).count(), 1, "{said}");

    let reload = app.ctl(&["reload"]).expect_code(0);
    assert_eq!(reload.stderr_lines(), [format!("reuse-ctl: note: {SUGGESTION}")]);
    let reload = app.ctl(&["reload", "--json"]).expect_code(0);
    let reply: serde_json::Value = serde_json::from_str(&reload.stdout).expect("JSON");
    assert_eq!(reply["notes"], serde_json::json!([SUGGESTION]));
    assert_eq!(reload.stderr, "");
}

#[test]
fn nothing_is_suggested_where_the_signal_is_right_or_the_server_unknown() {
    let _namespace = Namespace::enter();
    let folder = Scratch::new();
    for (options, command) in [
        (&["--stop-signal", "QUIT"][..], commands::nginx_one(folder.path())),
        (&[], commands::node_plain()),
    ] {
        let app = App::run(options, &command);
        let reload = app.ctl(&["reload", "--json"]).expect_code(0);
        let reply: serde_json::Value = serde_json::from_str(&reload.stdout).expect("JSON");
        assert_eq!(reply.get("notes"), None);
        let said = app.output();
        assert!(!said.contains("drops requests"), "{said}");
    }
}
