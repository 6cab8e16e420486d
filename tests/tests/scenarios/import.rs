//! `import`: PM2's ecosystem files, as they are found, against PM2's own schema and real runtimes.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::unistd::{User, chown, mkfifo};
use reuse_tests::app::controller_command;
use reuse_tests::binaries::{bun, node, node24, pm2, python};
use reuse_tests::run::{self, Output, assert_says};
use reuse_tests::scratch::Scratch;
use serde_json::{Value, json};

/// More than the ten seconds that a file may take.
const LIMIT: Duration = Duration::from_secs(40);

/// `reuse-ctl import FILE` with `runtime` as the only thing on PATH.
fn import_with(runtime: &str, file: &Path, more: &[&str]) -> Output {
    let folder = Path::new(runtime).parent().expect("a folder");
    let mut command = controller_command();
    command.arg("import").arg(file).args(more).env("PATH", folder);
    run::to_end(&mut command, LIMIT)
}

fn import(file: &Path) -> Output {
    import_with(&node24(), file, &[])
}

/// The JSON of `import --json`, with its TOML read by a real parser.
#[track_caller]
fn imported(file: &Path) -> (Value, Value) {
    let output = import_with(&node24(), file, &["--json"]).expect_code(0);
    let answer: Value = serde_json::from_str(&output.stdout).expect("JSON");
    assert_eq!(answer["ok"], true);
    let toml = parsed(answer["toml"].as_str().expect("a text"));
    (answer["options"].clone(), toml)
}

/// TOML, as Python's own library reads it.
#[track_caller]
fn parsed(toml: &str) -> Value {
    let scratch = Scratch::new();
    let file = scratch.write("reuse.toml", toml);
    let program = "import json, sys, tomllib; print(json.dumps(tomllib.load(open(sys.argv[1], 'rb'))))";
    let output = run::to_end(Command::new(python()).args(["-c", program]).arg(&file), LIMIT);
    assert_eq!(output.code, Some(0), "{}\n{toml}", output.stderr);
    serde_json::from_str(&output.stdout).expect("JSON")
}

/// It must be refused as usage, in two lines, with its place and all of `words`.
#[track_caller]
fn refused(name: &str, text: &str, words: &[&str]) {
    let scratch = Scratch::new();
    let file = scratch.write(name, text);
    let output = import(&file).expect_code(2).expect_complaint(words);
    assert!(output.stdout.is_empty(), "{}", output.stdout);
    assert!(output.stderr.contains(name), "no place in {}", output.stderr);
}

fn schema() -> serde_json::Map<String, Value> {
    let path = pm2("lib/API/schema.json");
    let text = fs::read_to_string(path).expect("PM2's schema");
    serde_json::from_str(&text).expect("JSON")
}

/// All names that PM2 takes for an option of its schema.
fn names_of(option: &str, schema: &Value) -> Vec<String> {
    let aliases: Vec<String> = match &schema["alias"] {
        Value::String(alias) => vec![alias.clone()],
        Value::Array(aliases) => aliases
            .iter()
            .filter_map(|alias| alias.as_str().map(str::to_owned))
            .collect(),
        _ => Vec::new(),
    };
    let mut words = option.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    let camel = words.fold(first, |text, word| {
        let (head, tail) = word.split_at(1.min(word.len()));
        let head = if tail.is_empty() {
            head.to_owned()
        } else {
            head.to_uppercase()
        };
        text + &head + tail
    });
    let mut names = vec![option.to_owned(), camel];
    names.extend(aliases);
    names.sort();
    names.dedup();
    names
}

/// A value that PM2 itself would take.
fn sample(option: &str, schema: &Value) -> Value {
    let kinds = match &schema["type"] {
        Value::String(kind) => vec![kind.as_str()],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        other => panic!("{option} has the type {other}"),
    };
    match (option, kinds.as_slice()) {
        ("max_memory_restart", _) => json!("100M"),
        ("min_uptime", _) => json!("10s"),
        ("exec_mode", _) => json!("fork"),
        ("cron_restart", _) => json!("0 * * * *"),
        ("watch", _) => json!(["src"]),
        (_, kinds) if kinds.contains(&"object") => json!({"A": "1"}),
        (_, kinds) if kinds.contains(&"array") => json!(["a"]),
        (_, kinds) if kinds.contains(&"string") => json!("text"),
        (_, kinds) if kinds.contains(&"number") => json!(3),
        (_, ["boolean"]) => json!(true),
        other => panic!("no sample for {other:?}"),
    }
}

#[test]
fn every_option_of_the_real_schema_is_accounted_for() {
    let schema = schema();
    assert!(schema.len() > 60, "only {} options: is it the schema?", schema.len());
    let mut asked = Vec::new();
    for (option, rules) in &schema {
        if option.contains('\\') {
            assert_eq!(option, "^env_\\S*$", "a new pattern in PM2's schema");
            asked.push(("env_production".to_owned(), json!({"A": "1"})));
            continue;
        }
        asked.extend(
            names_of(option, rules)
                .into_iter()
                .map(|name| (name, sample(option, rules))),
        );
    }
    let apps: Vec<Value> = asked
        .iter()
        .map(|(name, value)| {
            let mut app = json!({ "script": "./a.js", "watch": true });
            if name == "exec" {
                app = json!({});
            }
            app[name] = value.clone();
            app
        })
        .collect();
    let scratch = Scratch::new();
    let file = scratch.write("ecosystem.json", &json!({ "apps": apps }).to_string());
    let (options, toml) = imported(&file);
    let written = toml["app"].as_array().expect("several apps");
    assert_eq!(written.len(), asked.len());
    for ((name, _), app) in asked.iter().zip(written) {
        let of_app = options.as_array().expect("a list").iter();
        let found = of_app
            .filter(|finding| finding["app"] == app["name"])
            .find(|finding| finding["option"] == **name);
        let finding = found.unwrap_or_else(|| panic!("{name} is dropped without a word"));
        assert_ne!(finding["fate"], "unknown", "{name} is not in the table");
        let has_reason = finding["why"].as_str().is_some_and(|why| why.len() > 5);
        assert!(finding["fate"] == "kept" || has_reason, "no reason: {finding}");
    }
}

#[test]
fn every_option_of_pm2s_command_line_is_accounted_for() {
    let path = pm2("lib/binaries/CLI.js");
    let text = fs::read_to_string(path).expect("PM2's command line");
    // Those of `pm2 start` are before the first command.
    let (options, _) = text.split_once(".command(").expect("commands");
    let schema = schema();
    let known: Vec<String> = schema
        .iter()
        .flat_map(|(option, rules)| names_of(option, rules))
        .collect();
    let manual =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/from-pm2.md")).expect("the manual");
    let mut count = 0;
    for line in options.lines().filter(|line| line.contains(".option('")) {
        let words = line.split('\'').nth(1).expect("quoted");
        let Some(long) = words.split(' ').find(|word| word.starts_with("--")) else {
            continue;
        };
        let long = long.trim_start_matches("--");
        count += 1;
        let positive = long.strip_prefix("no-").unwrap_or(long);
        let is_option = known.contains(&positive.replace('-', "_"));
        let is_in_manual = [long, positive]
            .iter()
            .any(|name| manual.contains(&format!("`--{name}`")));
        assert!(
            is_option || is_in_manual || positive == "env",
            "--{long} is nowhere: {line}"
        );
    }
    assert!(count > 50, "only {count} options: is it PM2's command line?");
}

const APP: &str = "{ apps: [{ name: 'web', script: './a.js', ignore_watch: [/logs/], watch: true, env: { N: 1 } }] }";

#[test]
fn javascript_of_all_kinds_in_all_runtimes() {
    let scratch = Scratch::new();
    let chatty = "console.log('noise'); console.error('noise'); require('fs').writeSync(1, '{}');";
    let files = [
        ("plain.config.js", format!("{chatty} module.exports = {APP};")),
        ("plain.config.cjs", format!("module.exports = {APP};")),
        (
            "esm.config.mjs",
            format!("const config = {APP};\nexport default config;"),
        ),
        ("named.config.mjs", format!("export const {{ apps }} = {APP};")),
        ("function.config.cjs", format!("module.exports = () => ({APP});")),
        ("async.config.mjs", format!("export default async () => ({APP});")),
        (
            "promise.config.cjs",
            format!("module.exports = Promise.resolve({APP});"),
        ),
        (
            "await.config.mjs",
            format!("const config = await Promise.resolve({APP});\nexport default config;"),
        ),
        (
            "busy.config.cjs",
            format!("setInterval(() => {{}}, 1000); process.exit = () => {{}}; module.exports = {APP};"),
        ),
        (
            "here.config.cjs",
            format!("require('fs').readFileSync('here.config.cjs'); module.exports = {APP};"),
        ),
    ];
    for runtime in [node(), node24(), bun()] {
        for (name, text) in &files {
            let output = import_with(&runtime, &scratch.write(name, text), &[]).expect_code(0);
            assert!(
                !output.stdout.contains("noise") && !output.stderr.contains("noise"),
                "{name}"
            );
            let toml = parsed(&output.stdout);
            assert_eq!(toml["command"], json!(["node", "./a.js"]), "{runtime} {name}");
            assert_eq!(toml["watch_ignore"], json!(["*logs*"]), "{runtime} {name}");
            assert_eq!(toml["env"], json!({"N": "1"}), "{runtime} {name}");
        }
    }
}

#[test]
fn json_and_yaml_need_no_runtime() {
    let scratch = Scratch::new();
    let json = "{ // as PM2 takes it\n \"apps\": [{ \"script\": \"./a.js\", \"instances\": 2, }] }";
    let yaml = "common: &common\n  instances: 2\napps:\n  - script: ./a.js\n    <<: *common\n";
    for (name, text) in [("a.json", json), ("a.yaml", yaml), ("a.yml", yaml)] {
        let file = scratch.write(name, text);
        let mut command = controller_command();
        let output = run::to_end(
            command
                .arg("import")
                .arg(&file)
                .env("PATH", "/nowhere")
                .env("HOME", "/nowhere"),
            LIMIT,
        );
        let toml = parsed(&output.expect_code(0).stdout);
        assert_eq!(toml["workers"], 2, "{name}");
        assert_eq!(toml["pm2_compat"], true, "{name}");
    }
}

/// Scalars that somebody may have written, and many that nobody has.
fn scalars() -> Vec<String> {
    let mut all: Vec<String> = "on off yes no y n On OFF Yes N true True TRUE tRUE false False null Null NULL nULL ~ Infinity NaN inf \
        007 0 -0 00 08 1_000 1,000 0x1F 0X1F 0xfg 0o17 0O17 0b11 0B1 -0x1f +0b1 1e3 1E+3 1e 1. .5 -.5 +.5 1.5e-7 4.0 -0.0 1e21 1e400 \
        .inf -.inf +.INF .iNF .nan -.nan 9007199254740993 123456789012345678901234567890 0x1fffffffffffffffff 12:30 1:2:3 \
        2024-02-29 2024-1-2 2024-02-30 2001-12-14t21:59:43.10-05:00 2001-12-14T21:59:43Z 0099-01-01 1.2.3 v1 1h 3000ms << = - -- +"
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    all.extend(
        [
            "2001-12-14 21:59:43",
            "2001-12-14  1:59:43.5 Z",
            "2001-12-14 21:59:43 +1:30",
            "'007'",
            "\"on\"",
            "!!str 7",
            "!!int '7'",
            "''",
        ]
        .map(str::to_owned),
    );
    // The same ones each time, by a plain generator.
    let (letters, mut state) = ("0123456789017xobeEfFaAnN.+-_:TZ~ytrul", 1_u64);
    let mut below = |limit: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).expect("31 bits") % limit
    };
    for _ in 0..4000 {
        let length = 1 + below(7);
        let text: String = (0..length)
            .map(|_| char::from(letters.as_bytes()[below(letters.len())]))
            .collect();
        // Those would not be scalars.
        if text != "-" && !text.ends_with(':') {
            all.push(text);
        }
    }
    all
}

/// What the library makes of them that PM2 reads such files with, as they are in the environment of a process.
#[test]
fn a_scalar_of_yaml_is_what_it_is_under_pm2() {
    let scratch = Scratch::new();
    let mut text = String::from("apps:\n  - script: a.js\n    env:\n");
    for (number, scalar) in scalars().iter().enumerate() {
        // `-` alone begins a list.
        let scalar = if scalar == "-" { "'-'" } else { scalar };
        text += &format!("      V{number}: {scalar}\n");
    }
    let file = scratch.write("a.yaml", &text);
    let program = "const { env } = require('js-yaml').load(require('fs').readFileSync(process.argv[1], 'utf8')).apps[0];\
        const word = (value) => value instanceof Date ? value.toISOString() : String(value);\
        console.log(JSON.stringify(Object.fromEntries(Object.entries(env).map(([name, value]) => [name, word(value)]))));";
    let mut theirs = Command::new(node24());
    theirs.args(["-e", program]).arg(&file).env("NODE_PATH", pm2(".."));
    let wanted: Value = serde_json::from_str(&run::to_end(&mut theirs, LIMIT).expect_code(0).stdout).expect("JSON");
    let (_, toml) = imported(&file);
    for (number, scalar) in scalars().iter().enumerate() {
        let name = format!("V{number}");
        assert_eq!(toml["env"][&name], wanted[&name], "{scalar}");
    }
    assert!(wanted.as_object().is_some_and(|all| all.len() > 3000));
}

#[test]
fn what_it_prints_is_said_of_every_option() {
    let scratch = Scratch::new();
    let file = scratch.write(
        "ecosystem.config.js",
        "module.exports = { apps: [{ script: 'a.js', exec_mode: 'cluster', kill_timeout: 3000, cron: '0 3 * * *', instnces: 4 }], deploy: {} }",
    );
    let output = import(&file).expect_code(0);
    assert_says(
        &output.stderr,
        &[
            "kept            kill_timeout → stop_timeout",
            "changed         cron",
            "not applicable  exec_mode",
            "unknown         instnces",
            "is `instances` meant?",
            "not applicable  deploy",
            "6 options: 2 kept, 1 changed, 2 not applicable, 1 unknown",
        ],
    );
    assert_eq!(parsed(&output.stdout)["stop_timeout"], "3s");
}

/// What is printed is a file that `check` takes, for every option there is.
#[test]
fn what_it_prints_is_taken() {
    let scratch = Scratch::new();
    let everything = json!({
        "name": "my app", "script": "a.js", "args": "--a 'b c'", "interpreter": "bun", "node_args": ["--smol"], "cwd": ".",
        "instances": "max", "uid": "root", "port": 3000, "env": {"A": 1, "B.C": "\u{1}\"\\ü\n"}, "env_production": {"A": 2},
        "increment_var": "N", "wait_ready": true, "listen_timeout": 3000, "kill_timeout": 1600, "shutdown_with_message": true,
        "max_memory_restart": 100_000_000, "cron_restart": "0 3 * * *", "watch": ["src", "."], "ignore_watch": ["logs", "*.log"],
        "watch_delay": 250,
    });
    let second = json!({ "script": "python3 -m http.server 8080", "instances": 2, "instance_var": "ID", "max_memory_restart": "1G" });
    fs::create_dir(scratch.path().join("src")).expect("a folder");
    // `check` looks for the commands.
    let bun = PathBuf::from(bun());
    let path = std::env::var("PATH").expect("it is set");
    let path = format!("{}:{path}", bun.parent().expect("a folder").display());
    for (name, apps) in [("one", json!([everything])), ("two", json!([everything, second]))] {
        let file = scratch.write(&format!("{name}.json"), &json!({ "apps": apps }).to_string());
        let toml = scratch.write(&format!("{name}.toml"), &import(&file).expect_code(0).stdout);
        for environment in [&[][..], &["--env", "production"]] {
            let mut check = controller_command();
            check
                .args(["check", "-f"])
                .arg(&toml)
                .args(environment)
                .env("PATH", &path);
            run::to_end(&mut check, LIMIT).expect_code(0);
        }
    }
}

#[test]
fn an_import_that_throws() {
    refused(
        "a.config.js",
        "const a = 1;\nfunction secret() {\n  throw new TypeError('no key\\nmore');\n}\nmodule.exports = secret();\n",
        &["a.config.js:3:9: TypeError: no key"],
    );
    refused(
        "a.config.mjs",
        "export default 1;\nthrow 'a text';\n",
        &["a.config.mjs", "it throws \"a text\""],
    );
    refused(
        "a.config.js",
        "module.exports = require('./none');\n",
        &["a.config.js:1:18", "Cannot find module './none'"],
    );
    refused(
        "a.config.mjs",
        "export default async () => { throw new Error('later') }\n",
        &["a.config.mjs:1:36", "later"],
    );
}

#[test]
fn a_syntax_error_has_its_line_in_every_runtime() {
    let scratch = Scratch::new();
    for runtime in [node(), node24(), bun()] {
        for (name, text) in [
            ("a.config.js", "const a = 1;\nmodule.exports = {\n  apps: [ {,\n"),
            ("a.config.mjs", "const a = 1;\nexport default {\n  apps: [ {,\n"),
        ] {
            let place = format!("{name}:3");
            let output = import_with(&runtime, &scratch.write(name, text), &[]);
            output.expect_code(2).expect_complaint(&[&place]);
        }
    }
    refused(
        "a.json",
        "{ \"apps\": [\n  { \"script\" \"a.js\" }\n]}",
        &["a.json:2:14: it is not JSON: expected `:`"],
    );
    refused(
        "a.yaml",
        "apps:\n  - script: a.js\n   name: b\n",
        &["a.yaml:3:", "it is not YAML"],
    );
}

#[test]
fn a_file_without_apps() {
    for (name, text, reason) in [
        ("a.config.js", "", "it is empty: it has no apps"),
        ("b.config.js", "module.exports = { apps: [] }", "the list is empty"),
        ("c.config.js", "module.exports = { app: [] }", "it has no `apps`"),
        ("d.config.js", "module.exports = 7", "it is a number, and has no apps"),
        ("e.json", "[]", "the list is empty"),
        ("f.yaml", "", "it is nothing, and has no apps"),
        (
            "g.config.js",
            "module.exports = { apps: [{ name: 'x' }] }",
            "apps[0].script: it is missing",
        ),
        (
            "h.config.js",
            "module.exports = { apps: [() => 1] }",
            "apps[0]: it is a function",
        ),
    ] {
        refused(name, text, &[reason]);
    }
}

#[test]
fn a_cycle() {
    let text = "const apps = [{ script: 'a.js', env: {} }];\napps[0].env.APPS = apps;\nmodule.exports = { apps };\n";
    refused("a.config.js", text, &["apps[0].env.APPS contains itself: a cycle"]);
    refused(
        "a.yaml",
        "apps: &apps\n  - script: a.js\n    env: *apps\n",
        &["a.yaml:3:"],
    );
    let endless = "const deep = {}; let at = deep; for (let i = 0; i < 1e4; i++) at = at.a = {};\nmodule.exports = { apps: [deep] };\n";
    refused("b.config.js", endless, &["nested too deeply"]);
    refused(
        "c.config.js",
        "module.exports = { apps: Array(2e5).fill({ script: 'a' }) };\n",
        &["more than 100000 values"],
    );
    let large = "module.exports = { apps: [{ script: 'a', env: { A: 'x'.repeat(9e6) } }] };\n";
    refused("d.config.js", large, &["larger than 4194304 bytes"]);
}

#[test]
fn a_file_that_does_not_end() {
    for text in [
        "for (;;) {}",
        "module.exports = new Promise(() => { setInterval(() => {}, 1000) })",
    ] {
        let scratch = Scratch::new();
        let started = format!(
            "require('fs').writeFileSync({:?}, String(process.pid));",
            scratch.path().join("pid")
        );
        let file = scratch.write("a.config.js", &format!("{started}\n{text}"));
        let output = import(&file)
            .expect_code(2)
            .expect_complaint(&["a.config.js", "has not ended after 10s"]);
        assert!(output.took < Duration::from_secs(20), "{:?}", output.took);
        let pid = fs::read_to_string(scratch.path().join("pid")).expect("it ran");
        assert!(!Path::new("/proc").join(pid).exists(), "it has been ended");
    }
}

#[test]
fn a_file_that_ends_its_runtime() {
    refused(
        "a.config.js",
        "process.exit(3);",
        &["a.config.js", "exit status: 3", "before there was a configuration"],
    );
    refused("b.config.js", "process.kill(process.pid, 'SIGKILL');", &["signal: 9"]);
    refused(
        "c.config.js",
        "module.exports = new Promise(() => {});",
        &["before there was a configuration"],
    );
}

#[test]
fn files_that_are_none() {
    let scratch = Scratch::new();
    let folder = scratch.path();
    let fails = |file: &Path, words: &[&str]| {
        import(file).expect_code(2).expect_complaint(words);
    };
    fails(&folder.join("none.config.js"), &["none.config.js", "No such file"]);
    fs::create_dir(folder.join("folder.json")).expect("a folder");
    fails(&folder.join("folder.json"), &["folder.json is not a regular file"]);
    let pipe = folder.join("pipe.json");
    mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).expect("mkfifo");
    fails(&pipe, &["pipe.json is not a regular file"]);
    let large = folder.join("large.config.js");
    File::create(&large)
        .and_then(|file| file.set_len(100 << 20))
        .expect("a sparse file");
    fails(&large, &["large.config.js has 104857600 bytes"]);
    let latin = folder.join("latin.config.js");
    fs::write(&latin, b"// one\n// caf\xe9\n").expect("a file");
    fails(&latin, &["latin.config.js:2:7: byte 0xe9 is not UTF-8"]);
    fails(
        &scratch.write("ecosystem.config", "{}"),
        &["its name does not tell what it is"],
    );
}

#[test]
fn no_runtime_is_said() {
    let scratch = Scratch::new();
    let file = scratch.write("ecosystem.config.js", "module.exports = {}");
    let mut command = controller_command();
    command.arg("import").arg(&file).env("PATH", "/nowhere");
    // The usual places are looked through as well: those of a user who has nothing there, if this machine has Node in them.
    let output = run::to_end(&mut command, LIMIT);
    if !Path::new("/usr/local/bin/node").exists() && output.code != Some(0) {
        output
            .expect_code(2)
            .expect_complaint(&["there is neither node nor bun", "/nowhere"]);
    }
}

/// Under sudo the file is run by whoever called it, and can't do more than they.
#[test]
fn the_person_who_called_sudo_evaluates_it() {
    let nobody = User::from_name("nobody").expect("the user database").expect("nobody");
    let scratch = Scratch::new();
    let folder = scratch.path().join("home");
    fs::create_dir(&folder).expect("a folder");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("chmod");
    chown(&folder, Some(nobody.uid), Some(nobody.gid)).expect("chown");
    let file = folder.join("ecosystem.config.js");
    let text = "module.exports = { apps: [{ script: 'a.js', env: {\n\
                IDS: [process.getuid(), process.geteuid(), process.getgid(), process.getgroups().join('-')].join(),\n\
                HOME: process.env.HOME, USER: process.env.USER, CWD: process.cwd() } }] };";
    fs::write(&file, text).expect("a file");
    let runtime = readable_by_all(&node24(), &scratch);
    let mut command = controller_command();
    command
        .arg("import")
        .arg("ecosystem.config.js")
        .current_dir(&folder)
        .env("PATH", runtime.parent().expect("a folder"))
        .env("SUDO_UID", nobody.uid.to_string())
        .env("SUDO_GID", nobody.gid.to_string());
    let output = run::to_end(&mut command, LIMIT).expect_code(0);
    let env = parsed(&output.stdout)["env"].clone();
    let (uid, gid) = (nobody.uid, nobody.gid);
    assert_eq!(env["IDS"], format!("{uid},{uid},{gid},{gid}"));
    assert_eq!(env["HOME"], nobody.dir.display().to_string());
    assert_eq!(env["USER"], "nobody");
    assert_eq!(env["CWD"], folder.display().to_string());

    // And without root it works as well.
    let mut plain = controller_command();
    plain
        .arg("import")
        .arg(&file)
        .env("PATH", runtime.parent().expect("a folder"));
    plain.uid(uid.as_raw()).gid(gid.as_raw());
    let program = readable_by_all(plain.get_program().to_str().expect("a plain path"), &scratch);
    let mut plain = Command::new(program);
    plain
        .arg("import")
        .arg(&file)
        .env("PATH", runtime.parent().expect("a folder"));
    plain.uid(uid.as_raw()).gid(gid.as_raw());
    run::to_end(&mut plain, LIMIT).expect_code(0);
}

/// A copy where everybody may read it: the checkout may be in a home that is closed to others.
fn readable_by_all(program: &str, scratch: &Scratch) -> PathBuf {
    let program = Path::new(program);
    scratch.copy_program(program, &program.file_name().expect("a name").to_string_lossy())
}

/// What the real PM2 takes, of a list of apps.
fn taken_by_pm2(apps: &Path) -> Vec<bool> {
    // It wants users that exist, which is not what is asked.
    let program = "console.log = console.error = () => {};
        const common = require('pm2/lib/Common.js');
        const config = require('pm2/lib/tools/Config.js');
        const takes = (app) => {
          try {
            if ('user' in app) return config.validateJSON(app).errors.length === 0;
            return Array.isArray(common.verifyConfs([app]));
          } catch {
            return false;
          }
        };
        const apps = JSON.parse(require('fs').readFileSync(process.argv[1], 'utf8'));
        process.stdout.write(JSON.stringify(apps.map(takes)));";
    let mut theirs = Command::new(node24());
    theirs
        .args(["-e", program])
        .arg(apps)
        .env("NODE_PATH", pm2(".."))
        .env("NODE_ENV", "test");
    let output = run::to_end(&mut theirs, LIMIT).expect_code(0).stdout;
    serde_json::from_str(&output).expect("JSON")
}

/// Each of many values for each option that has a key: what is refused, the real PM2 refuses too.
#[test]
fn nothing_is_refused_that_pm2_takes() {
    let options = "name cwd args interpreter node_args instances user port env env_file env_x increment_var instance_var wait_ready \
                   shutdown_with_message listen_timeout kill_timeout watch_delay max_memory_restart cron_restart watch ignore_watch \
                   autorestart source_map_support";
    let values = json!([
        "", 0, -1, 2.5, 1e12, true, false, null, [], [3], [{}], {}, {"A": 1}, "text", "0", "12", " 12 ", "0x10", "12M", "0M", "1.5G", "3s",
        "true", "0 3 * * *", ".env"
    ]);
    let values = values.as_array().expect("a list");
    let apps: Vec<Value> = options
        .split(' ')
        .flat_map(|option| {
            values
                .iter()
                .map(move |value| json!({ "script": "./a.js", option: value }))
        })
        .collect();
    let scratch = Scratch::new();
    let taken = taken_by_pm2(&scratch.write("all.json", &json!(apps).to_string()));
    let mut refused = 0;
    for (app, is_taken) in apps.iter().zip(&taken) {
        let output = import(&scratch.write("one.json", &json!({ "apps": [app] }).to_string()));
        if output.code == Some(0) {
            let is_whole = output.stdout.contains("\nname = \"") && output.stdout.contains("\ncommand = [");
            assert!(is_whole, "{app}: {}", output.stdout);
            continue;
        }
        assert!(
            output.code == Some(2) && !is_taken,
            "PM2 takes {app}: {}",
            output.stderr
        );
        assert!(
            output.stderr.contains("PM2 would not take it either"),
            "{}",
            output.stderr
        );
        refused += 1;
    }
    let all = taken.iter().filter(|taken| **taken).count();
    assert!(refused > 80 && all > 150, "{refused} refused, PM2 takes {all}");
}
