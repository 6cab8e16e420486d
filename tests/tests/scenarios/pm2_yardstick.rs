//! The same deploys and apps under the real PM2 and here: what people have suffered from, and that they do not any more.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use reuse_tests::binaries::{bun, node24, pm2, script};
use reuse_tests::http::{get, get_path};
use reuse_tests::load::{Load, Mode};
use reuse_tests::pm2::{COMMAND_LIMIT, NAME, Pm2};
use reuse_tests::run;
use reuse_tests::scratch::Scratch;
use reuse_tests::{App, Namespace, PORT, SERVER, wait};

/// How long something may take to happen under PM2.
const PM2_LIMIT: Duration = Duration::from_secs(20);

/// The script of an app that can be replaced by another version.
struct Deployed {
    scratch: Scratch,
}

impl Deployed {
    fn new() -> Self {
        let deployed = Self {
            scratch: Scratch::new(),
        };
        deployed.good();
        deployed
    }

    fn path(&self) -> PathBuf {
        self.scratch.path().join("server.js")
    }

    fn good(&self) {
        let text = format!(
            "const server = require('node:http').createServer((request, response) => response.end(`- ${{process.pid}}\\n`));\n\
             server.listen({PORT}, '127.0.0.1', () => process.send && process.send('ready'));\n\
             const end = () => server.close(() => process.exit(0));\n\
             process.on('SIGINT', end);\nprocess.on('SIGTERM', end);\n"
        );
        self.scratch.write("server.js", &text);
    }

    fn broken(&self) {
        self.scratch
            .write("server.js", "throw new Error('boom: this version does not work');\n");
    }
}

fn is_up() -> bool {
    get(SERVER, None).is_ok()
}

#[test]
fn a_broken_version_takes_the_site_down_under_pm2_and_says_success() {
    let _namespace = Namespace::enter();
    let server = Deployed::new();
    let theirs = Pm2::start(&serde_json::json!({
        "script": server.path(),
        "instances": 2,
        "exec_mode": "cluster",
        "wait_ready": true,
        "listen_timeout": 1000,
        "kill_timeout": 1000,
    }));
    wait::until("PM2's app answers", PM2_LIMIT, is_up);
    server.broken();
    let output = theirs.call(&["reload", NAME]);
    assert_eq!(output.code, Some(0), "{}{}", output.stdout, output.stderr);
    wait::until("nobody answers", PM2_LIMIT, || !is_up());
    assert!(!(0..20).any(|_| is_up()), "and it stays so");
}

#[test]
fn the_same_version_changes_nothing_here_and_says_failure() {
    let _namespace = Namespace::enter();
    let server = Deployed::new();
    let app = App::run(&["--workers", "2"], &[node24(), server.path().display().to_string()]);
    let before = app.status().pids();
    let load = Load::start(SERVER, 8, Mode::NewConnections, Duration::from_secs(30));
    load.wait_for(100, Duration::from_secs(10));
    server.broken();
    let output = app.ctl(&["reload"]).expect_code(1);
    assert!(
        output.stderr.contains("exited with code 1 before it was ready"),
        "{}",
        output.stderr
    );
    load.wait_for(100, Duration::from_secs(10));
    load.stop().assert_nothing_failed();
    assert_eq!(app.status().pids(), before, "the old version serves");
    app.stop();
}

/// Ordinary for Bun, and more than PM2's wrapper can load.
fn top_level_await(scratch: &Scratch) -> PathBuf {
    let text = format!(
        "await Bun.sleep(10);\n\
         Bun.serve({{ port: {PORT}, hostname: '127.0.0.1', fetch: () => new Response(`- ${{process.pid}}\\n`) }});\n\
         process.send('ready');\n\
         export {{}};\n"
    );
    scratch.write("server.mjs", &text)
}

#[test]
fn a_bun_app_with_top_level_await_restarts_for_ever_under_pm2() {
    let _namespace = Namespace::enter();
    let scratch = Scratch::new();
    let theirs = Pm2::start(&serde_json::json!({
        "script": top_level_await(&scratch),
        "interpreter": bun(),
        "exec_mode": "fork",
        "wait_ready": true,
        "listen_timeout": 1000,
        "max_restarts": 1000,
    }));
    wait::until("PM2 has restarted it three times", PM2_LIMIT, || theirs.restarts() >= 3);
}

#[test]
fn it_is_ready_and_stays_up_here() {
    let _namespace = Namespace::enter();
    let scratch = Scratch::new();
    let started = Instant::now();
    let app = App::run(
        &["--workers", "2", "--ready", "ipc", "--pm2-compat"],
        &[bun(), top_level_await(&scratch).display().to_string()],
    );
    let before = app.status();
    // As long as its start took, and longer: what falls over does so at the start.
    wait::until("it has run for a while", Duration::from_secs(60), || {
        assert!(is_up(), "it answers");
        app.status().worker(1).uptime_s >= 3
    });
    let after = app.status();
    assert_eq!(after.pids(), before.pids(), "after {:?}", started.elapsed());
    assert!(after.workers.iter().all(|worker| worker.restarts == 0), "{after:#?}");
    app.ctl(&["reload"]).expect_code(0);
    app.stop();
}

/// So what `pm2_client` changes one line of is code that works.
#[test]
fn the_tutorial_runs_under_pm2_as_it_stands() {
    let _namespace = Namespace::enter();
    let file = |name: &str| script(&format!("pm2-chat/{name}.js"));
    let theirs = Pm2::new();
    // In this order, because the main process knows them by their numbers.
    for name in ["receiver", "chat", "db"] {
        theirs.add(
            name,
            &serde_json::json!({
                "script": file(name),
                "interpreter": node24(),
                "exec_mode": "fork",
                "env": { "PORT": PORT.to_string() },
            }),
        );
    }
    wait::until("the receiver answers", PM2_LIMIT, is_up);
    theirs.add(
        "main",
        &serde_json::json!({
            "script": file("main"),
            "interpreter": node24(),
            "exec_mode": "fork",
            "env": { "NODE_PATH": pm2("..") },
        }),
    );
    let log = theirs.home().join("logs/main-out.log");
    wait::until("the main process listens", PM2_LIMIT, || {
        fs::read_to_string(&log).is_ok_and(|text| text.contains("listening\n"))
    });
    let mut client = Command::new(node24());
    client.arg(file("client")).args([&PORT.to_string(), "3"]);
    let heard = run::to_end(&mut client, COMMAND_LIMIT).expect_code(0).stdout;
    assert_eq!(heard, "1 LINE 1\n2 LINE 2\n3 LINE 3\n");
}

/// The same three apps, and the same main process, as `pm2_client` has them.
#[test]
fn three_apps_of_an_ecosystem_file_run_under_pm2_as_they_stand() {
    let _namespace = Namespace::enter();
    let theirs = Pm2::new();
    let file = PathBuf::from(script("pm2-apps/ecosystem.config.js"));
    let mut command = theirs.command(&["start", "ecosystem.config.js"]);
    command
        .current_dir(file.parent().expect("a folder"))
        .env("RUNTIME", node24())
        .env("PORT", PORT.to_string())
        .env("NODE_PATH", pm2(".."));
    run::to_end(&mut command, COMMAND_LIMIT).expect_code(0);
    wait::until("the main process answers", PM2_LIMIT, is_up);
    for number in 1..=5 {
        let answer = get_path(SERVER, &format!("/say/line%20{number}")).expect("an answer");
        assert_eq!(answer.body, format!("{number} LINE {number} by chat\n"));
    }
}
