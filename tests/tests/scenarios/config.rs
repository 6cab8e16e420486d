//! `reuse.toml`: what it says is what runs, and what is wrong in it is said before anything is started.

use std::fs::{self, File, Permissions};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reuse_tests::binaries::{node24, reuse_ctl};
use reuse_tests::http::get;
use reuse_tests::leftovers::{self, assert_nothing_left, assert_port_free};
use reuse_tests::run::{self, assert_says};
use reuse_tests::site::Site;
use reuse_tests::{App, Namespace, PORT, wait};

/// How long any one call may take.
const LIMIT: Duration = Duration::from_secs(90);

/// Answers with the variables that are named on its command line, and its folder.
const SERVER: &str = "\
const [port, ...names] = process.argv.slice(2);
const server = require('http').createServer((_, answer) => {
  answer.end(names.map(name => `${name}=${process.env[name]}`).concat(process.cwd()).join(' '));
});
console.log(`says hello on ${port}`);
server.listen(+port, '127.0.0.1');
for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => server.close());
";

/// A folder with the server in it.
fn site() -> Site {
    let site = Site::new();
    site.write("server.js", SERVER);
    site
}

fn start(site: &Site, arguments: &[&str]) -> Foreground {
    let output = site.path().join("output");
    let log = File::create(&output).expect("create the output file");
    let mut command = site.command(arguments);
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("dup"))
        .stderr(log)
        .process_group(0);
    Foreground {
        child: command.spawn().expect("start reuse-ctl"),
        output,
    }
}

/// A `run` in the foreground.
struct Foreground {
    child: Child,
    output: PathBuf,
}

impl Foreground {
    fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.output).unwrap_or_default()).into_owned()
    }

    #[track_caller]
    fn wait_for(&self, words: &str) {
        let found = wait::poll(LIMIT, || self.output().contains(words).then_some(()));
        assert!(found.is_some(), "waited in vain for {words:?} in:\n{}", self.output());
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).expect("a pid")), signal).expect("signal reuse-ctl");
    }

    #[track_caller]
    fn wait_exit(&mut self) -> ExitStatus {
        wait::poll(LIMIT, || self.child.try_wait().expect("wait for a child of ours"))
            .unwrap_or_else(|| panic!("it has not ended; it wrote:\n{}", self.output()))
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- run wrote:\n{}----", self.output());
        }
        if matches!(self.child.try_wait(), Ok(None)) {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

fn on(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

#[track_caller]
fn wait_active(app: &App, workers: usize) {
    app.wait_status("its workers are active", LIMIT, |status| status.all_active(workers));
}

#[track_caller]
fn body(port: u16) -> String {
    get(on(port), None).expect("an answer").body
}

fn command_line(pid: i32) -> String {
    let raw = fs::read(format!("/proc/{pid}/cmdline")).expect("the process is there");
    String::from_utf8_lossy(&raw).replace('\0', " ")
}

#[test]
fn one_app_runs_here_with_all_that_its_file_says() {
    let _namespace = Namespace::enter();
    let site = site();
    site.write(".env", "FROM=file\nBOTH=file\n");
    site.file(
        "name = 'NAME(web)'\ncommand = ['NODE', 'server.js', '8080', 'FROM', 'BOTH', 'STAGE']\nworkers = 3\npolicy = 'round-robin'\nport = 8080\n\
         env_file = '.env'\n[env]\nBOTH = 'table'\nSTAGE = 'none'\n[env.production]\nSTAGE = 'SECRET-7'\n",
    );
    let app = App::detached(&site.name("web"));
    let mut here = start(&site, &["run", "-f", "FILE", "--env", "production", "--workers", "2"]);
    wait_active(&app, 2);
    assert_eq!(app.status().policy, "round-robin");
    assert_eq!(
        body(PORT),
        format!("FROM=file BOTH=table STAGE=SECRET-7 {}", site.path().display())
    );
    here.signal(Signal::SIGINT);
    assert_eq!(here.wait_exit().code(), Some(0));
    assert_nothing_left(app.name());
    assert_port_free(PORT);
}

#[test]
fn variables_go_to_a_background_controller_where_nobody_sees_them() {
    let _namespace = Namespace::enter();
    let site = site();
    let long = "x".repeat(100_000);
    site.file(&format!(
        "name = 'NAME(web)'\ncommand = ['NODE', 'server.js', '8080', 'SECRET']\n[env]\nSECRET = 'hush'\nLONG = '{long}'\nLONGER = '{long}'\n"
    ));
    let started = site.ctl(&["run", "-d", "-f", "FILE"]).expect_code(0);
    let name = site.name("web");
    assert_eq!(started.stdout, format!("{name} runs: 1 worker on 127.0.0.1:8080\n"));
    let app = App::detached(&name);
    assert_eq!(body(PORT), format!("SECRET=hush {}", site.path().display()));
    let line = command_line(app.pid());
    assert!(
        line.starts_with("reuse-ctl run ") && line.contains(&name) && line.contains("server.js"),
        "{line}"
    );
    assert!(!line.contains("hush") && !line.contains("SECRET="), "{line}");
    app.stop();
}

const TWO: &str = "\
[[app]]
name = 'NAME(web)'
command = ['NODE', 'server.js', '8080', 'WHO']
port = 8080
workers = 2
env = { WHO = 'web' }

[[app]]
name = 'NAME(api)'
command = ['NODE', 'server.js', '8081', 'WHO']
port = 8081
env = { WHO = 'api' }
";

/// Runs [`TWO`] in the foreground.
#[track_caller]
fn start_two(site: &Site) -> (Foreground, App, App) {
    let (web, api) = (App::detached(&site.name("web")), App::detached(&site.name("api")));
    let here = start(site, &["run", "-f", "FILE"]);
    wait_active(&web, 2);
    wait_active(&api, 1);
    (here, web, api)
}

#[test]
fn two_apps_run_side_by_side_and_end_together() {
    let _namespace = Namespace::enter();
    let site = site();
    site.file(TWO);
    let (mut here, web, api) = start_two(&site);
    assert!(body(8080).starts_with("WHO=web "));
    assert!(body(8081).starts_with("WHO=api "));
    here.wait_for(&format!("{} | 0| says hello on 8081\n", api.name()));
    here.wait_for(&format!("{} | 1| says hello on 8080\n", web.name()));
    here.signal(Signal::SIGINT);
    assert_eq!(here.wait_exit().code(), Some(0), "{}", here.output());
    for app in [&web, &api] {
        assert_nothing_left(app.name());
    }
    assert_port_free(8080);
    assert_port_free(8081);
}

#[test]
fn one_of_two_that_ends_or_fails_leaves_the_other_alone() {
    let _namespace = Namespace::enter();
    let site = site();
    site.file(&format!(
        "{TWO}[[app]]\nname = 'NAME(broken)'\ncommand = ['NODE', '-e', 'process.exit(3)']\n"
    ));
    let (mut here, web, api) = start_two(&site);
    api.stop();
    here.wait_for("every worker has failed");
    assert!(web.status().all_active(2));
    assert!(body(8080).starts_with("WHO=web "));
    here.signal(Signal::SIGTERM);
    assert_eq!(here.wait_exit().code(), Some(1));
    let complaint = format!(
        "reuse-ctl: 1 of 3 apps failed: {}: exit status: 1\n",
        site.name("broken")
    );
    assert!(here.output().contains(&complaint), "{}", here.output());
    assert_nothing_left(web.name());
    assert_nothing_left(&site.name("broken"));
}

#[test]
fn controllers_do_not_outlive_the_run_that_shows_them() {
    let _namespace = Namespace::enter();
    let site = site();
    site.file(TWO);
    let (mut here, web, api) = start_two(&site);
    here.signal(Signal::SIGKILL);
    here.wait_exit();
    wait::until("both have cleaned up", LIMIT, || {
        leftovers::of(web.name()).is_empty() && leftovers::of(api.name()).is_empty()
    });
}

#[test]
fn several_in_the_background_one_after_the_other() {
    let _namespace = Namespace::enter();
    let site = site();
    site.file(TWO);
    let (web, api) = (App::detached(&site.name("web")), App::detached(&site.name("api")));
    let started = site.ctl(&["run", "-d", "-f", "FILE"]).expect_code(0);
    let expected = format!(
        "{} runs: 2 workers on 127.0.0.1:8080\n{} runs: 1 worker on 127.0.0.1:8081\n",
        web.name(),
        api.name()
    );
    assert_eq!(started.stdout, expected);
    // Now both names are taken.
    let again = site.ctl(&["run", "-d", "-f", "FILE"]).expect_code(1);
    assert_eq!(again.stdout.matches("does not run").count(), 2, "{}", again.stdout);
    let json = site.ctl(&["run", "-d", "-f", "FILE", "--json"]).expect_code(1);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(json["apps"].as_array().map(Vec::len), Some(2), "{json}");
    assert!(web.status().all_active(2), "the first ones run on");
    web.stop();
    api.stop();

    let one = site
        .ctl(&["run", "-d", "-f", "FILE", "--name", &site.name("api"), "--workers", "2"])
        .expect_code(0);
    assert!(one.stdout.contains("2 workers on 127.0.0.1:8081"), "{}", one.stdout);
    let api = App::detached(&site.name("api"));
    assert_nothing_left(&site.name("web"));
    api.stop();
}

/// `run`, `apply` and `check` must refuse the file with this complaint, and nothing is started.
#[track_caller]
fn is_refused(site: &Site, words: &[&str]) {
    for verb in [
        &["run", "-f", "FILE"][..],
        &["run", "-d", "-f", "FILE"],
        &["apply", "-f", "FILE"],
        &["check", "-f", "FILE"],
    ] {
        let output = site.ctl(verb).expect_code(2);
        assert!(output.stdout.is_empty(), "{}", output.stdout);
        assert!(
            output.stderr.starts_with("reuse-ctl: ") && output.stderr.contains("\n  → "),
            "{}",
            output.stderr
        );
        assert_says(&output.stderr, words);
    }
    for app in ["web", "api", "t-site"] {
        assert_nothing_left(&site.name(app));
    }
    assert_port_free(8080);
    assert_port_free(8081);
}

#[test]
fn whatever_is_wrong_in_a_file_is_shown_at_its_place_and_nothing_starts() {
    let _namespace = Namespace::enter();
    let site = site();
    let one = "name = 'NAME(web)'\ncommand = ['NODE', 'server.js', '8080']\n";
    for (text, words) in [
        (
            format!("{one}worker = 4\n"),
            &[
                "reuse.toml:3:1: there is no key `worker`",
                "3 | worker = 4\n    | ^^^^^^\n",
                "did you mean `workers`?",
            ][..],
        ),
        (
            format!("{one}stop_message = 'yes'\n"),
            &["reuse.toml:3:16:", "true or false"],
        ),
        (format!("{one}workers = 0\n"), &["reuse.toml:3:11:", "out of range"]),
        (format!("{one}workers = \n"), &["reuse.toml:3:"]),
        (
            format!("{one}env_file = 'missing.env'\n"),
            &["reuse.toml:3:12:", "there is no such file"],
        ),
        (
            TWO.replace("NAME(api)", "NAME(web)"),
            &["reuse.toml:9:8:", "two apps have the name"],
        ),
        (
            TWO.replace("port = 8081", "port = 8080"),
            &["reuse.toml:11:8:", "port 8080", "in line 4"],
        ),
        (
            TWO.replace("port = 8081", "listen = '127.0.0.1:8080'"),
            &["reuse.toml:11:10:", "port 8080", "in line 4"],
        ),
        (TWO.replace("name = 'NAME(api)'\n", ""), &["no `name`"]),
        (
            TWO.replace("port = 8080\n", "")
                .replace("port = 8081\n", "")
                .replace("WHO =", "PORT = 8080, WHO ="),
            &["reuse.toml:10:16:", "port 8080", "in line 5"],
        ),
    ] {
        site.file(&text);
        is_refused(&site, words);
    }
}

#[test]
fn what_the_machine_lacks_is_found_before_the_first_app_is_started() {
    let _namespace = Namespace::enter();
    let site = site();
    site.write("bad.env", "PORT=1\nbad line\n");
    site.write("plain", "#!/bin/sh\n");
    let second = |more: &str| format!("{TWO}{more}\n");
    let other_command = |command: &str| TWO.replace("['NODE', 'server.js', '8081', 'WHO']", command);
    for (text, words) in [
        (
            second("env_file = 'bad.env'"),
            &[
                "reuse.toml:13:12: the env file ",
                "bad.env, line 2: ",
                "\n     |            ^^^^^^^^^\n",
            ][..],
        ),
        (
            second("user = 'nobody-has-this-name'"),
            &["reuse.toml:13:8: there is no user", "getent passwd"],
        ),
        (
            second("control_group = 'no-such-group'"),
            &["reuse.toml:13:17: there is no group"],
        ),
        (
            second("watch = ['.', 'missing']"),
            &["reuse.toml:13:15: ", "missing: there is no such file"],
        ),
        (second("cwd = 'nowhere'"), &["reuse.toml:13:7: there is no folder"]),
        (
            second("env_file = 'missing.env'"),
            &["reuse.toml:13:12: ", "there is no such file"],
        ),
        (
            other_command("'no-such-command-anywhere 1'"),
            &["reuse.toml:10:11: no command", "looked in"],
        ),
        (other_command("['./missing', '1']"), &["reuse.toml:10:12: no command"]),
        (
            other_command("'./plain'"),
            &["reuse.toml:10:11: ", "is not executable", "chmod +x"],
        ),
        (
            second("port_step = 10\nworkers = 2"),
            &["reuse.toml:13:13: port_step 10 has nothing to add to"],
        ),
        (
            second("max_memory = 300"),
            &["reuse.toml:13:14: ", "did you mean 300M?"],
        ),
        (second("ready_timeout = '0s'"), &["reuse.toml:13:17: ready_timeout 0s"]),
        // Of all apps at once.
        (
            TWO.replace("workers = 2", "user = 'nobody-has-this-name'")
                .replace("port = 8081", "watch = 'missing'"),
            &["reuse.toml:5:8: there is no user", "reuse.toml:11:9: "],
        ),
    ] {
        site.file(&text);
        is_refused(&site, words);
    }
}

#[test]
fn only_what_is_to_run_is_judged_and_by_what_was_said_last() {
    let _namespace = Namespace::enter();
    let site = site();
    site.file(&format!("{TWO}user = 'nobody-has-this-name'\n"));
    let (web, api) = (site.name("web"), site.name("api"));
    site.ctl(&["run", "-d", "-f", "FILE", "--name", &web]).expect_code(0);
    App::detached(&web).stop();
    site.ctl(&["apply", "-f", "FILE", "--app", &web]).expect_code(0);
    App::detached(&web).stop();
    site.ctl(&["run", "-d", "-f", "FILE", "--name", &api]).expect_code(2);
    site.ctl(&["run", "-d", "-f", "FILE", "--name", &api, "--user", "root"])
        .expect_code(0);
    App::detached(&api).stop();
}

#[test]
fn where_a_running_apps_command_is_its_controller_knows() {
    let _namespace = Namespace::enter();
    let site = site();
    fs::create_dir(site.path().join("bin")).expect("a folder");
    site.write_executable(
        "bin/t-server",
        &format!("#!/bin/sh\nexec {} server.js 8080\n", node24()),
    );
    site.file("name = 'NAME(web)'\ncommand = 't-server'\nenv_file = 'app.env'\n");
    site.write("app.env", "A=1\n");
    let path = std::env::var("PATH").expect("it is set");
    let path = format!("{}:{path}", site.path().join("bin").display());
    let mut start = site.command(&["run", "-d", "-f", "FILE"]);
    run::to_end(start.env("PATH", path), LIMIT).expect_code(0);
    let app = App::detached(&site.name("web"));
    // Nobody finds it on our PATH.
    site.ctl(&["check", "-f", "FILE"]).expect_code(2);
    let unchanged = site.apply(&[]).expect_code(0).stdout;
    assert!(unchanged.contains("unchanged"), "{unchanged}");
    site.write("app.env", "A=1\nbad line\n");
    let refused = site.apply(&[]).expect_code(2).stderr;
    assert!(
        refused.contains("reuse.toml:3:12: ") && refused.contains("line 2"),
        "{refused}"
    );
    app.stop();
}

#[test]
fn what_this_user_may_not_look_at_is_told_and_no_error() {
    let site = site();
    let copy = site.copy_program(&reuse_ctl(), "reuse-ctl");
    fs::set_permissions(site.path(), Permissions::from_mode(0o755)).expect("ours");
    fs::set_permissions(site.write("secret.env", "bad line\n"), Permissions::from_mode(0o600)).expect("ours");
    site.file("name = 'NAME(web)'\ncommand = '/bin/sleep 1'\nenv_file = 'secret.env'\n");
    let as_nobody = |arguments: &[&str]| {
        let mut command = Command::new(&copy);
        command.uid(65534).gid(65534).args(arguments).current_dir(site.path());
        run::to_end(&mut command, LIMIT)
    };
    let said = as_nobody(&["check"]).expect_code(0).stdout;
    assert!(said.contains("  not checked: reuse.toml:3:12: "), "{said}");
    assert!(said.contains("secret.env: Permission denied"), "{said}");
    let said = as_nobody(&["check", "--json"]).expect_code(0).stdout;
    let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(said["not_checked"].as_array().map(Vec::len), Some(1), "{said}");
    as_nobody(&["run", "-f", "reuse.toml"])
        .expect_code(1)
        .expect_complaint(&["root"]);
    let by_root = site.ctl(&["check", "-f", "FILE"]).expect_code(2).stderr;
    assert!(by_root.contains("secret.env, line 1"), "{by_root}");
}

#[test]
fn files_that_can_not_be_read_are_refused_at_once() {
    let _namespace = Namespace::enter();
    let site = site();
    let path = site.file("name = 'NAME(web)'\ncommand = ['NODE', 'server.js', '8080']\nenv_file = 'round.env'\n");
    symlink("round.env", site.path().join("about.env")).expect("link");
    symlink("about.env", site.path().join("round.env")).expect("link");
    is_refused(&site, &["reuse.toml:3:12:", "go round in a circle"]);
    fs::remove_file(site.path().join("round.env")).expect("unlink");
    fs::write(site.path().join("round.env"), b"A=1\nB=\xff\n").expect("write");
    is_refused(&site, &["reuse.toml:3:12:", "round.env, line 2: it is not UTF-8"]);

    fs::write(&path, b"name = 'web'\n# caf\xe9\ncommand = 'x'\n").expect("write");
    is_refused(&site, &["reuse.toml:2:6: this is not UTF-8"]);
    File::create(&path)
        .expect("create")
        .set_len(100 << 20)
        .expect("a sparse file");
    is_refused(&site, &["104857600 bytes"]);
    fs::remove_file(&path).expect("unlink");
    is_refused(&site, &["there is no such file", "reuse-ctl init"]);
    fs::create_dir(&path).expect("mkdir");
    is_refused(&site, &["it is a directory"]);
}

#[test]
fn calls_that_make_no_sense_with_a_file() {
    let _namespace = Namespace::enter();
    let site = site();
    site.file(&format!("{TWO}[app.env.staging]\nWHO = 'x'\n").replace("env = { WHO = 'api' }\n", ""));
    for (arguments, words) in [
        (
            &["run", "-f", "FILE", "--env", "production"][..],
            &["\"production\"", "staging"][..],
        ),
        (&["run", "-f", "FILE", "--name", "nobody"], &["nobody", "-web"]),
        (&["run", "-f", "FILE", "--workers", "3"], &["--workers", "--name"]),
        (&["run", "-f", "FILE", "--", "node"], &["--file"]),
        (&["run", "--env", "staging", "--", "node"], &["--env"]),
        (&["run", "--env", "staging"], &["CMD"]),
        (&["run"], &[]),
        (
            &["run", "--variables-on-stdin", "--", "node"],
            &["--variables-on-stdin"],
        ),
    ] {
        site.ctl(arguments).expect_code(2).expect_complaint(words);
    }
    for app in ["web", "api"] {
        assert_nothing_left(&site.name(app));
    }
}

#[test]
fn check_says_what_a_file_describes() {
    let site = site();
    site.file(TWO);
    let text = site.ctl(&["check", "-f", "FILE"]).expect_code(0).stdout;
    assert!(text.contains("reuse.toml: 2 apps\n"), "{text}");
    assert!(
        text.contains(&format!("  {} (2 workers, port 8080, 1 variable): ", site.name("web"))),
        "{text}"
    );
    let json = site.ctl(&["check", "-f", "FILE", "--json"]).expect_code(0).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["apps"][1]["ports"][0], 8081, "{json}");
    assert_eq!(json["apps"][0]["variables"][0], "WHO", "{json}");
    site.file("worker = 1\n");
    let json = site.ctl(&["check", "-f", "FILE", "--json"]).expect_code(2).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["places"][1]["column"], 1, "{json}");
}

#[test]
fn init_writes_a_file_that_runs_and_never_overwrites_one() {
    let _namespace = Namespace::enter();
    let site = site();
    let init =
        |arguments: &[&str]| run::to_end(site.command(&["init"]).args(arguments).current_dir(site.path()), LIMIT);
    let said = init(&["--name", &site.name("web")]).expect_code(0).stdout;
    assert!(said.contains("`node server.js` (there is a server.js)"), "{said}");
    let written = fs::read_to_string(site.path().join("reuse.toml")).expect("it is there");
    init(&["--", "bun", "x"]).expect_code(2).expect_complaint(&["already"]);
    assert_eq!(
        fs::read_to_string(site.path().join("reuse.toml")).expect("it is there"),
        written
    );

    fs::remove_file(site.path().join("reuse.toml")).expect("unlink");
    init(&["--name", &site.name("web"), "--", &node24(), "server.js", "8080"]).expect_code(0);
    site.ctl(&["check", "-f", "FILE"]).expect_code(0);
    site.ctl(&["run", "-d", "-f", "FILE"]).expect_code(0);
    App::detached(&site.name("web")).stop();

    fs::remove_file(site.path().join("reuse.toml")).expect("unlink");
    fs::remove_file(site.path().join("server.js")).expect("unlink");
    init(&[])
        .expect_code(2)
        .expect_complaint(&["no command", "reuse-ctl init -- "]);
    assert!(!site.path().join("reuse.toml").exists());
}

#[test]
fn the_schema_is_the_committed_one() {
    let site = site();
    let printed = site.ctl(&["schema"]).expect_code(0).stdout;
    let committed = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reuse.schema.json");
    assert_eq!(printed, fs::read_to_string(committed).expect("docs/reuse.schema.json"));
}
