//! The npm package of `clients/node`: PM2's names, and code that was written for them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reuse_tests::binaries::{bun, node, node24, script};
use reuse_tests::scratch::Scratch;
use reuse_tests::{App, Launch, Namespace, PORT, run, wait};

/// How long one script may take.
const LIMIT: Duration = Duration::from_secs(60);

fn package() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients/node")
}

fn words(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// Every function of the package, with workers and client in the same runtime.
fn all_of_it(runtime: &str) {
    let _namespace = Namespace::enter();
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
        "require({:?}).launchBus((error, bus) => {{\n\
         if (error) throw error;\n\
         for (const name of ['close', 'connect']) bus.on(name, () => console.log(name));\n\
         process.on('SIGTERM', () => bus.close());\n\
         console.log('open');\n}});\n",
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
    let _namespace = Namespace::enter();
    let scratch = Scratch::new();
    let folder = tutorial(&scratch);
    let workers = folder.join("workers.js");
    let app = Launch::new(&["--workers", "3", "--ready", "ipc"])
        .env("PORT", &PORT.to_string())
        .run(&words(&[runtime, workers.to_str().expect("a plain path")]));
    // The chat and the data base take messages, not clients.
    app.ctl(&["drain", "1", "2"]).expect_code(0);

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
