//! The npm package of `clients/node`: PM2's names, and code that was written for them.

use std::fs;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reuse_tests::app::controller_command;
use reuse_tests::binaries::{bun, node, node24, script};
use reuse_tests::http::{get, get_path};
use reuse_tests::scratch::Scratch;
use reuse_tests::{App, Launch, Namespace, PORT, SERVER, run, wait};

/// How long one script may take.
const LIMIT: Duration = Duration::from_secs(60);

const RUN_FOLDER: &str = "/run/reuse-ctl";

fn package() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients/node")
}

fn words(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// Runs `test` where no other apps are than its own: a client without `app` talks to all that it finds.
fn alone(test: impl FnOnce() + Send) {
    let run = || {
        let _namespace = Namespace::enter();
        // Of this thread and what it starts; nobody else sees it.
        unshare(CloneFlags::CLONE_NEWNS).expect("unshare(CLONE_NEWNS)");
        fs::create_dir_all(RUN_FOLDER).expect("the folder of all apps");
        for arguments in [&["--make-rprivate", "/"][..], &["-t", "tmpfs", "tmpfs", RUN_FOLDER]] {
            run::to_end(Command::new("mount").args(arguments), LIMIT).expect_code(0);
        }
        test();
    };
    let name = thread::current().name().unwrap_or("test").to_owned();
    let ended = thread::scope(|scope| {
        let thread = thread::Builder::new().name(name).spawn_scoped(scope, run);
        thread.expect("start a thread").join()
    });
    if let Err(panic) = ended {
        resume_unwind(panic);
    }
}

/// Every function of the package, with workers and client in the same runtime.
fn all_of_it(runtime: &str) {
    alone(|| every_function(runtime));
}

fn every_function(runtime: &str) {
    let app = App::run(
        &["--workers", "3", "--ready", "ipc"],
        &words(&[runtime, &script("pm2-echo.js"), &PORT.to_string()]),
    );
    let mut client = Command::new(runtime);
    client
        .arg(script("pm2-client.js"))
        .arg(package())
        .env("REUSE_APP", app.name());
    let output = run::to_end(&mut client, LIMIT).expect_code(0);
    assert_eq!(output.stdout.trim(), "ok", "{}", output.stderr);
    app.stop();
}

#[test]
fn all_of_the_package_in_node() {
    all_of_it(&node24());
}

#[test]
fn all_of_the_package_in_an_older_node() {
    all_of_it(&node());
}

#[test]
fn all_of_the_package_in_bun() {
    all_of_it(&bun());
}

#[test]
fn the_package_is_imported_as_well_as_required() {
    let scratch = Scratch::new();
    let text = format!(
        "import pm2, {{ list, delete as remove, Client }} from '{}';\n\
         console.log(list === pm2.list, remove === pm2.delete, typeof Client, typeof pm2.launchBus);\n",
        package().join("index.mjs").display()
    );
    let file = scratch.write("import.mjs", &text);
    for runtime in [node(), node24(), bun()] {
        let output = run::to_end(Command::new(&runtime).arg(&file), LIMIT).expect_code(0);
        assert_eq!(output.stdout.trim(), "true true function function", "{runtime}");
    }
}

#[test]
fn an_app_that_is_not_there_is_said() {
    let text = format!(
        "require({:?}).connect({{ app: 'no-such-app' }}, (error) => console.log(error.code, error.message));",
        package()
    );
    for runtime in [node(), bun()] {
        let output = run::to_end(Command::new(&runtime).args(["-e", &text]), LIMIT).expect_code(0);
        assert!(
            output.stdout.starts_with("not_found no app no-such-app is running"),
            "{runtime}: {}{}",
            output.stdout,
            output.stderr
        );
    }
}

/// The tutorial's files, with the only line of them that has to be changed.
fn tutorial(scratch: &Scratch) -> PathBuf {
    let folder = Path::new(&script("pm2-chat/main.js"))
        .parent()
        .expect("a folder")
        .to_owned();
    let main = fs::read_to_string(folder.join("main.js")).expect("main.js");
    let changed = main.replace("require('pm2')", &format!("require({:?})", package()));
    let differences = main
        .lines()
        .zip(changed.lines())
        .filter(|(old, new)| old != new)
        .count();
    assert_eq!(differences, 1, "one line is another");
    scratch.write("main.js", &changed);
    folder
}

/// A process that must not outlive its test.
struct Main(Child);

impl Main {
    fn start(runtime: &str, main: &Path, app: &str, output: &Path) -> Self {
        let file = fs::File::create(output).expect("an output file");
        let child = Command::new(runtime)
            .arg(main)
            .env("REUSE_APP", app)
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("duplicate a descriptor"))
            .stderr(file)
            .spawn()
            .expect("start the main process");
        Self(child)
    }

    /// It ends by itself once it is disconnected.
    fn end(mut self) {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).expect("a process id"));
        kill(pid, Signal::SIGTERM).expect("signal a child of ours");
        let status = wait::until_some("the main process ends", LIMIT, || {
            self.0.try_wait().expect("a child of ours")
        });
        assert_eq!(status.code(), Some(0));
    }
}

impl Drop for Main {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }
}

#[test]
fn the_bus_is_there_again_when_the_controller_is() {
    let _namespace = Namespace::enter();
    let launch = Launch::new(&["--ready", "ipc"]);
    let command = words(&[&node24(), &script("pm2-echo.js"), &PORT.to_string()]);
    let scratch = Scratch::new();
    let text = format!(
        "const pm2 = require({:?});\n\
         pm2.connect({{ app: process.env.REUSE_APP }}, (error) => error ? process.exit(2) : pm2.launchBus((error, bus) => {{\n\
         if (error) throw error;\n\
         for (const name of ['close', 'connect']) bus.on(name, () => console.log(name));\n\
         process.on('SIGTERM', () => bus.close());\n\
         console.log('open');\n}}));\n",
        package()
    );
    let file = scratch.write("bus.js", &text);
    for runtime in [node24(), bun()] {
        let app = launch.run(&command);
        let output = scratch.path().join("output");
        let main = Main::start(&runtime, &file, app.name(), &output);
        let written = || fs::read_to_string(&output).unwrap_or_default();
        wait::until("the bus is open", LIMIT, || written() == "open\n");
        app.stop();
        wait::until("it is closed", LIMIT, || written() == "open\nclose\n");
        let app = launch.run(&command);
        wait::until("it is open again", LIMIT, || written() == "open\nclose\nconnect\n");
        main.end();
        app.stop();
    }
}

/// WebSocket → receiver → main → chat → main → db → main → chat → main → receiver → WebSocket.
fn the_tutorial(runtime: &str) {
    alone(|| three_workers(runtime));
}

fn three_workers(runtime: &str) {
    let scratch = Scratch::new();
    let folder = tutorial(&scratch);
    let workers = folder.join("workers.js");
    let app = Launch::new(&["--workers", "3", "--ready", "ipc"])
        .env("PORT", &PORT.to_string())
        .run(&words(&[runtime, workers.to_str().expect("a plain path")]));
    let output = scratch.path().join("main.output");
    let main = Main::start(runtime, &scratch.path().join("main.js"), app.name(), &output);
    let written = || fs::read_to_string(&output).unwrap_or_default();
    wait::until("the main process listens", LIMIT, || written().contains("listening\n"));
    assert_eq!(
        written(),
        "0 online true\n1 online true\n2 online true\nlistening\n",
        "the list"
    );

    let mut client = Command::new(node24());
    client.arg(folder.join("client.js")).args([&PORT.to_string(), "100"]);
    let heard = run::to_end(&mut client, LIMIT).expect_code(0).stdout;
    let wanted: String = (1..=100).map(|number| format!("{number} LINE {number}\n")).collect();
    assert_eq!(heard, wanted, "the main process wrote:\n{}", written());

    main.end();
    app.stop();
}

#[test]
fn a_tutorial_with_one_line_changed_in_node() {
    the_tutorial(&node24());
}

#[test]
fn a_tutorial_with_one_line_changed_in_bun() {
    the_tutorial(&bun());
}

/// Three apps of an ecosystem file, of which one is the main process. Only the line with `require` is another than under PM2.
fn three_apps(runtime: &str) {
    let scratch = Scratch::new();
    let folder = Path::new(&script("pm2-apps/main.js"))
        .parent()
        .expect("a folder")
        .to_owned();
    for name in ["main.js", "chat.js", "db.js", "ecosystem.config.js"] {
        let text = fs::read_to_string(folder.join(name)).expect(name);
        let changed = text.replace("require('pm2')", &format!("require({:?})", package()));
        let differences = text.lines().zip(changed.lines()).filter(|(old, new)| old != new);
        assert_eq!(differences.count(), usize::from(name == "main.js"), "{name}");
        scratch.write(name, &changed);
    }
    let prefix = format!("t-apps-{}-{}-", std::process::id(), usize::from(runtime == bun()));
    let command = |arguments: &[&str]| {
        let mut command = controller_command();
        command
            .args(arguments)
            .current_dir(scratch.path())
            .env("RUNTIME", runtime)
            .env("PREFIX", &prefix)
            .env("PORT", PORT.to_string());
        let node = PathBuf::from(node24());
        let path = [
            node.parent().expect("a folder").to_owned(),
            PathBuf::from("/usr/bin"),
            PathBuf::from("/bin"),
        ];
        command.env("PATH", std::env::join_paths(path).expect("a plain PATH"));
        command
    };
    let imported = run::to_end(&mut command(&["import", "ecosystem.config.js"]), LIMIT).expect_code(0);
    scratch.write("reuse.toml", &imported.stdout);
    let output = scratch.path().join("output");
    let file = fs::File::create(&output).expect("an output file");
    let mut apps = Main(
        command(&["run", "-f", "reuse.toml"])
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("duplicate a descriptor"))
            .stderr(file)
            .spawn()
            .expect("start the apps"),
    );
    let list = || {
        run::to_end(&mut command(&["ls", "--json"]), LIMIT)
            .expect_code(0)
            .stdout
    };
    wait::until("three apps answer", LIMIT, || {
        let ended = apps.0.try_wait().expect("a child of ours");
        assert!(ended.is_none(), "{}", fs::read_to_string(&output).unwrap_or_default());
        get(SERVER, None).is_ok() && list().matches(&prefix).count() >= 3
    });
    // The others may have come after the main process, and have no word from it before they are ready.
    let first = wait::until_some("the first line comes back", LIMIT, || {
        get_path(SERVER, "/say/hello").ok()
    });
    assert_eq!(first.body, format!("1 HELLO by {prefix}chat\n"));
    for number in 2..=50 {
        let answer = get_path(SERVER, &format!("/say/line%20{number}")).expect("an answer");
        assert_eq!(answer.body, format!("{number} LINE {number} by {prefix}chat\n"));
    }
    apps.end();
}

#[test]
fn three_apps_with_one_line_changed_in_node() {
    alone(|| three_apps(&node24()));
}

#[test]
fn three_apps_with_one_line_changed_in_bun() {
    alone(|| three_apps(&bun()));
}

/// Two apps, a third that starts later, one that ends and comes back.
fn several_apps(runtime: &str) {
    let apps = |order: &str| {
        let name = format!(
            "t-many-{}-{}-{order}",
            std::process::id(),
            usize::from(runtime == bun())
        );
        Launch::new(&["--workers", if order == "c" { "1" } else { "2" }, "--ready", "ipc"]).name(&name)
    };
    let command = |more: u16| words(&[runtime, &script("pm2-echo.js"), &(PORT + more).to_string()]);
    let (first, second) = (apps("a").run(&command(0)), apps("b").run(&command(1)));
    let scratch = Scratch::new();
    let output = scratch.path().join("output");
    let file = fs::File::create(&output).expect("an output file");
    let client = Command::new(runtime)
        .arg(script("pm2-many.js"))
        .arg(package())
        .args([first.name(), second.name(), &first.name().replace("-a", "-c")])
        .env_remove("REUSE_APP")
        .stdin(Stdio::null())
        .stdout(file.try_clone().expect("duplicate a descriptor"))
        .stderr(file)
        .spawn()
        .expect("start the client");
    let mut client = Main(client);
    let mut says = |words: &str| {
        wait::until(words, LIMIT, || {
            let written = fs::read_to_string(&output).unwrap_or_default();
            let ended = client.0.try_wait().expect("a child of ours");
            assert!(ended.is_none_or(|status| status.success()), "{written}");
            written.ends_with(&format!("{words}\n"))
        });
    };
    says("start the third");
    let third = apps("c").run(&command(2));
    // Without a look at the list: the bus has found it.
    third.ctl(&["restart", "0"]).expect_code(0);
    says("stop the first");
    first.stop();
    says("start the first");
    let first = apps("a").run(&command(0));
    says("ok");
    drop(third);
    first.stop();
    second.stop();
}

#[test]
fn several_apps_in_node() {
    alone(|| several_apps(&node24()));
}

#[test]
fn several_apps_in_bun() {
    alone(|| several_apps(&bun()));
}
