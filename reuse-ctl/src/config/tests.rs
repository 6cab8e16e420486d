//! Files that are right, files that are wrong and how that is said, and that a key is its option.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use clap::ArgAction;
use proptest::prelude::*;

use super::keys::{Keys, Kind};
use super::*;
use crate::api::types::ErrorKind;
use crate::options::RunOptions;

/// A folder of one test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("reuse-ctl-config-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("temp dir");
        Self(path)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).expect("write");
        path
    }

    fn load(&self, text: &str) -> Result<Vec<NamedSpec>, Failure> {
        load(&self.file("reuse.toml", text), None)
    }

    /// What a person reads, with the folder left out.
    fn complaint(&self, text: impl AsRef<[u8]>) -> String {
        let failure = load(&self.file("reuse.toml", text), None).expect_err("wrong");
        self.said(&failure)
    }

    fn said(&self, failure: &Failure) -> String {
        assert_eq!(failure.kind, ErrorKind::Usage, "{failure:?}");
        let text = failure.to_text().replace(&format!("{}/", self.0.display()), "");
        text.replace(&self.0.display().to_string(), "FOLDER")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn words(text: &str) -> Vec<OsString> {
    text.split(' ').map(OsString::from).collect()
}

fn typed(line: &str) -> RunOptions {
    AppSpec {
        arguments: words(line),
        variables: Vec::new(),
    }
    .resolve()
    .unwrap_or_else(|failure| panic!("{line}: {failure:?}"))
}

#[test]
fn one_app_at_the_top() {
    let folder = Folder::new();
    folder.file(".env", "A=1\n");
    let apps = folder
        .load(
            "name = 'web'\ncommand = './server --fast'\nworkers = 4\nport = [8080, 0x1F91]\nstop_message = true\npm2_compat = false\n\
             env_file = '.env'\nwatch = ['.']\ncpu_limit = 0.5\nmax_memory = '300M'\n[env]\nB = 2\nA = 'x y'\nC = true\n[env.production]\nA = 1.50\n",
        )
        .expect("right");
    let root = folder.0.display();
    assert_eq!(apps.len(), 1);
    assert_eq!(apps[0].name, "web");
    let expected = typed(&format!(
        "--name web --workers 4 --port 8080 --port 8081 --stop-message --max-memory 300M --watch {root} --cpu-limit 0.5 --cwd {root} \
         --env-file {root}/.env -- {root}/server --fast"
    ));
    let mut options = apps[0].spec.resolve().expect("right");
    assert_eq!(options.environment.variables[0], ("A".into(), "x y".into()));
    assert_eq!(
        apps[0].spec.variables,
        ["A", "x y", "B", "2", "C", "true"].map(OsString::from)
    );
    options.environment.variables.clear();
    assert_eq!(options, expected);

    let path = folder.0.join("reuse.toml");
    let production = load(&path, Some("production")).expect("it is there");
    assert_eq!(production[0].spec.variables[..2], ["A", "1.50"].map(OsString::from));
    let failure = load(&path, Some("prod")).expect_err("it is not");
    insta::assert_snapshot!("an_unknown_environment", folder.said(&failure));
}

#[test]
fn several_apps() {
    let folder = Folder::new();
    fs::create_dir(folder.0.join("api")).expect("temp dir");
    let apps = folder
        .load(
            "[[app]]\nname = 'web'\ncommand = ['node', 'server.js']\nport = 80\nenv = { A = 1, production = { A = 2 } }\n\
             [[app]]\nname = 'api'\ncommand = 'python3 app.py'\ncwd = 'api'\nlisten = ['127.0.0.1:81']\n",
        )
        .expect("right");
    let names: Vec<&str> = apps.iter().map(|app| app.name.as_str()).collect();
    assert_eq!(names, ["web", "api"]);
    let cwd = |app: &NamedSpec| app.spec.resolve().expect("right").cwd.expect("always");
    assert_eq!((cwd(&apps[0]), cwd(&apps[1])), (folder.0.clone(), folder.0.join("api")));
    let production = load(&folder.0.join("reuse.toml"), Some("production")).expect("one app has it");
    assert_eq!(production[0].spec.variables, words("A 2"));
    assert_eq!(production[1], apps[1]);
}

#[test]
fn the_order_of_keys_does_not_matter_and_the_name_is_always_said() {
    let folder = Folder::new();
    let one = folder
        .load("workers = 2\ncommand = 'bun x'\npolicy = 'hash'\n")
        .expect("right");
    let other = folder
        .load("policy = 'hash'\ncommand = ['bun', 'x']\nworkers = '2'\n")
        .expect("right");
    assert_eq!(one, other);
    assert_eq!(one[0].spec.arguments[0], "--name=bun");
}

#[test]
fn what_is_typed_wins_over_the_file() {
    let folder = Folder::new();
    let apps = folder
        .load("command = 'node x'\nworkers = 2\nport = [1, 2]\npolicy = 'hash'\n")
        .expect("right");
    let raw = words("reuse-ctl run -f reuse.toml -v --port 3 --workers 5 --cwd sub");
    let spec = apps[0].spec.with_typed(&raw, Some(Path::new("/srv")));
    let options = spec.resolve().expect("right");
    assert_eq!(
        (options.workers, options.ports.as_slice(), options.policy.name()),
        (5, &[3][..], "hash")
    );
    assert_eq!(
        (options.cwd, options.command),
        (Some("/srv/sub".into()), words("node x"))
    );
    assert_eq!(AppSpec::typed_keys(&raw), ["workers", "port", "cwd"]);
    assert_eq!(
        AppSpec::typed_keys(&words("reuse-ctl run -f x --env a -d -vv --json")),
        [""; 0]
    );
}

#[test]
fn a_typed_specification_is_the_same_when_it_is_typed_again() {
    let raw = words(
        "reuse-ctl run -vd --workers 3 --name web --watch ./src --pm2-compat --port 1 --port 2 -- ./server -d --name x -- y",
    );
    let spec = AppSpec::typed(&raw, Some(Path::new("/srv")));
    let expected = words(
        "--name=web --workers=3 --port=1 --port=2 --pm2-compat --watch=/srv/src --cwd=/srv -- ./server -d --name x -- y",
    );
    assert_eq!(spec.arguments, expected);
    let again: Vec<OsString> = words("reuse-ctl run")
        .into_iter()
        .chain(spec.arguments.iter().cloned())
        .collect();
    assert_eq!(AppSpec::typed(&again, Some(Path::new("/elsewhere"))), spec);
}

#[test]
fn unknown_keys_and_wrong_values_are_shown_at_their_place() {
    let folder = Folder::new();
    insta::assert_snapshot!("unknown_keys_and_wrong_values_are_shown_at_their_place", folder.complaint(
        "name = 'web'\ncommand = 'node x'\nworker = 4\nmax-memory = '1G'\nworkers = 0\n\
         sticky_prefix4 = 33 # bits\ndrain_timeout = 30\nwhen_empty = 'wait'\nport = [80, 'http', 70000]\nlisten = '80'\n\
         policy = true\nstop_message = 'yes'\nmax_age = 1979-05-27\npolicies = 'x'\nzzz = 1\nmax_memory = 'much'\nhealth = 'up'\n\
         name2 = { a = 1 }\ncpu_limit = -1\n"
    ));
}

#[test]
fn mistakes_in_the_grammar() {
    let folder = Folder::new();
    let said: Vec<String> = [
        "command = 'x\nworkers = 2\n",
        "command = x\n",
        "workers = 1\nworkers = 2\ncommand = 'x'\n",
        "[env\nA = 1\n",
        "command = 'x'\n[env]\nA = 1\n[env]\nB = 2\n",
        "= 3",
        "a = 1 b = 2",
        "\u{1b}[31m",
        "日本 = 'x",
    ]
    .iter()
    .map(|text| folder.complaint(text))
    .collect();
    insta::assert_snapshot!("mistakes_in_the_grammar", said.join("\n"));
}

#[test]
fn apps_that_are_in_each_others_way() {
    let folder = Folder::new();
    insta::assert_snapshot!(
        "apps_that_are_in_each_others_way",
        folder.complaint(
            "[[app]]\nname = 'web'\ncommand = 'node x'\nport = 80\n\
         [[app]]\nname = 'web'\ncommand = 'node y'\nport = 81\n\
         [[app]]\ncommand = 'node z'\nlisten = ['127.0.0.1:81', '127.0.0.1:82']\n\
         [[app]]\nname = 'last'\ncommand = 'node z'\nlisten = '0.0.0.0:82'\nport = [90, 80]\n"
        )
    );
}

#[test]
fn tables_that_are_none() {
    let folder = Folder::new();
    let said: Vec<String> = [
        "",
        "\n\n# nothing\n",
        "workers = 2\n[[app]]\nname = 'a'\ncommand = 'x'\n",
        "app = []\n",
        "[app]\ncommand = 'x'\n",
        "app = ['x']\n",
        "app = 'x'\n",
        "command = 'x'\nenv = 'A=1'\n",
        "command = 'x'\n[env]\n'' = 1\n'A=B' = 2\nC = [1]\nD = 1979-05-27\n[env.production.deeper]\nE = 1\n",
        "command = 5\n",
        "command = ['node', 5]\n",
        "command = 'a && b'\n",
        "command = ''\n",
        "command = \"a\\u0000b\"\n",
        "command = 'x'\nname = \"a\\u0000b\"\n",
        "command = 'x'\nwatch_ignore = '*.log'\n",
        "command = 'x'\nhealth = 'tcp'\nhealth_interval = '1ms'\n",
        "command = '/'\n",
    ]
    .iter()
    .map(|text| folder.complaint(text))
    .collect();
    insta::assert_snapshot!("tables_that_are_none", said.join("\n"));
}

#[test]
fn files_that_are_none() {
    let folder = Folder::new();
    let mut said = vec![
        folder.complaint(b"command = 'node x'\nname = 'caf\xe9'\n"),
        folder.complaint(b"\xff\xfe\x00"),
        folder.complaint(vec![b'#'; (1 << 20) + 1]),
    ];
    let sparse = fs::File::create(folder.0.join("large")).expect("create");
    sparse.set_len(100 << 20).expect("a sparse file");
    symlink("round", folder.0.join("about")).expect("link");
    symlink("about", folder.0.join("round")).expect("link");
    for name in ["large", "missing", "round", ".", "missing/reuse.toml"] {
        let path = folder.0.join(name);
        said.push(folder.said(&load(&path, None).expect_err(name)));
    }
    let pipe = folder.0.join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).expect("mkfifo");
    said.push(folder.said(&load(&pipe, None).expect_err("a pipe")));
    insta::assert_snapshot!("files_that_are_none", said.join("\n"));
}

#[test]
fn other_files_that_an_app_needs() {
    let folder = Folder::new();
    symlink("b.env", folder.0.join("a.env")).expect("link");
    symlink("a.env", folder.0.join("b.env")).expect("link");
    folder.file("latin.env", b"A=1\nB=caf\xe9\n");
    folder.file("good.env", "A=1\n");
    insta::assert_snapshot!(
        "other_files_that_an_app_needs",
        folder.complaint(
            "command = 'x'\nenv_file = ['good.env', 'a.env', 'missing.env', 'latin.env', '.', '']\ncwd = 'nowhere'\n"
        )
    );
}

#[test]
fn a_file_full_of_errors_is_not_shown_whole() {
    let folder = Folder::new();
    let text: String = (0..5000).map(|number| format!("key{number} = 1\n")).collect();
    let said = folder.complaint(text);
    assert_eq!(said.matches("reuse-ctl: ").count(), 20);
    assert!(said.ends_with("and 4981 more\n"), "{said}");
}

#[test]
fn errors_are_data_for_scripts() {
    let folder = Folder::new();
    let failure = load(&folder.file("reuse.toml", "command = 'x'\nworker = 1\n"), None).expect_err("wrong");
    let json = failure.to_json().replace(&format!("{}/", folder.0.display()), "");
    insta::assert_snapshot!("errors_are_data_for_scripts", json);
}

/// Values that each kind of option takes.
fn value_of(name: &str) -> BoxedStrategy<String> {
    match name {
        "name" => "[a-z][a-z0-9._-]{0,10}".boxed(),
        "workers" => (1..=256_u16).prop_map(|count| count.to_string()).boxed(),
        "policy" => prop::sample::select(vec!["hash", "round-robin", "least-loaded", "sticky"])
            .prop_map(str::to_owned)
            .boxed(),
        "port" => (1..=65535_u16).prop_map(|port| port.to_string()).boxed(),
        "listen" => (1..=65535_u16).prop_map(|port| format!("127.0.0.1:{port}")).boxed(),
        "when_empty" => prop::sample::select(vec!["park", "refuse"])
            .prop_map(str::to_owned)
            .boxed(),
        "log" => prop::sample::select(vec!["file", "journald"])
            .prop_map(str::to_owned)
            .boxed(),
        "ready" => prop::sample::select(vec!["listener", "ipc", "notify", "http:/up"])
            .prop_map(str::to_owned)
            .boxed(),
        "health" => prop::sample::select(vec!["tcp", "/up?deep=1"])
            .prop_map(str::to_owned)
            .boxed(),
        "stop_signal" => prop::sample::select(vec!["SIGTERM", "int", "3"])
            .prop_map(str::to_owned)
            .boxed(),
        "cpu_limit" => (1..=400_u32)
            .prop_map(|part| format!("{}", f64::from(part) / 100.0))
            .boxed(),
        "max_memory" | "memory_limit" | "log_size" => (1..=999_u32).prop_map(|size| format!("{size}M")).boxed(),
        "increment_var" => "[A-Z]{1,5}=[0-9]{1,4}".boxed(),
        "max_hung" => (0..=100_u8).prop_map(|percent| percent.to_string()).boxed(),
        "sticky_prefix4" | "sticky_prefix6" => (1..=32_u8).prop_map(|bits| bits.to_string()).boxed(),
        // Those that name what must be there.
        "cwd" | "env_file" => Just("/".to_owned()).boxed(),
        "watch" => "/[a-z]{1,8}".boxed(),
        name if name.ends_with("_timeout")
            || name.ends_with("_after")
            || name.ends_with("_interval")
            || ["max_age", "watch_delay", "sticky_ttl"].contains(&name) =>
        {
            (10..=99_999_u32).prop_map(|ms| format!("{ms}ms")).boxed()
        }
        "cron" => prop::sample::select(vec!["0 4 * * *", "*/10 * * * * *"])
            .prop_map(str::to_owned)
            .boxed(),
        "watch_ignore" => prop::sample::select(vec!["*.log", "build/**"])
            .prop_map(str::to_owned)
            .boxed(),
        name if ["user", "control_group"].contains(&name) => "[ -~äß日]{1,12}".boxed(),
        _ => (1..=100_u32).prop_map(|number| number.to_string()).boxed(),
    }
}

/// Any choice of keys, each with values that are right.
fn any_values() -> impl Strategy<Value = Vec<(usize, Vec<String>)>> {
    let keys = Keys::new();
    let one = |(at, key): (usize, &keys::Key)| {
        let count = match key.kind {
            Kind::Flag => 0..=0,
            Kind::One => 1..=1,
            Kind::Many => 1..=3,
        };
        let values = prop::collection::vec(value_of(&key.name), count);
        let is_file = key.name == "env_file";
        prop::option::of(values.prop_map(move |values| (at, values)))
            .prop_map(move |chosen| chosen.filter(|_| !is_file))
    };
    let all: Vec<_> = keys.all().iter().enumerate().map(one).collect();
    all.prop_map(|chosen| chosen.into_iter().flatten().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_key_is_its_option(mut chosen in any_values(), reversed in any::<bool>(), as_number in any::<bool>()) {
        let keys = Keys::new();
        let is = |at: usize, name: &str| keys.all()[at].name == name;
        // Globs are for what is watched.
        if !chosen.iter().any(|(at, _)| is(*at, "watch")) {
            chosen.retain(|(at, _)| !is(*at, "watch_ignore"));
        }
        let mut line = words("reuse-ctl run");
        let mut text = Vec::new();
        for (at, values) in &chosen {
            let key = &keys.all()[*at];
            prop_assert_eq!(matches!(key.argument.get_action(), ArgAction::SetTrue), key.kind == Kind::Flag);
            if key.kind == Kind::Flag {
                line.push(format!("--{}", key.long).into());
                text.push(format!("{} = true", key.name));
                continue;
            }
            for value in values {
                line.push(format!("--{}={value}", key.long).into());
            }
            let toml = |value: &String| if as_number && value.parse::<u32>().is_ok() { value.clone() } else { value::quoted(value) };
            let values: Vec<String> = values.iter().map(toml).collect();
            text.push(if let [one] = &values[..] { format!("{} = {one}", key.name) } else { format!("{} = [{}]", key.name, values.join(", ")) });
        }
        text.push("command = 'node server.js'".into());
        if reversed {
            text.reverse();
        }
        line.extend(words("-- node server.js"));

        let folder = Folder::new();
        let apps = folder.load(&text.join("\n")).map_err(|failure| TestCaseError::fail(failure.to_text()))?;
        let mut typed = AppSpec::typed(&line, Some(&folder.0));
        let from_file = apps[0].spec.resolve().expect("it was checked");
        prop_assert_eq!(&from_file, &typed.resolve().expect("right"));
        // And the way to a controller changes nothing.
        if !chosen.iter().any(|(at, _)| is(*at, "name")) {
            let name = typed.resolve().expect("right").name;
            typed.arguments.insert(0, format!("--name={name}").into());
        }
        prop_assert_eq!(&apps[0].spec, &typed);
        let again: Vec<OsString> = words("reuse-ctl run").into_iter().chain(typed.arguments.iter().cloned()).collect();
        prop_assert_eq!(AppSpec::typed(&again, None), typed);
    }
}
