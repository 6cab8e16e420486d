//! Tests with whole documents.

use std::path::Path;

use super::report::{Fate, to_text};
use super::surroundings::{ScriptFile, Surroundings};
use super::table::{Becomes, TABLE, WrittenIn};
use super::translate::translate;
use super::value::Value;
use super::{ImportError, Imported};
use crate::base::manual::assert_has_table;

fn import(json: &str) -> Result<Imported, ImportError> {
    let document: Value = serde_json::from_str(json).expect("JSON");
    let around = Surroundings {
        processors: 4,
        look: Box::new(|path| match path.to_str() {
            Some("server" | "deep/server") => ScriptFile::Program,
            _ => ScriptFile::Absent,
        }),
    };
    translate(Path::new("ecosystem.config.js"), &document, &around)
}

fn imported(json: &str) -> Imported {
    import(json).expect(json)
}

fn refused(json: &str) -> String {
    import(json).expect_err(json).to_string()
}

/// The fate and key of one option of the only app.
fn fate(json: &str, option: &str) -> (Fate, Option<String>) {
    let findings = imported(json).findings;
    let finding = findings.iter().find(|finding| finding.option == option);
    let finding = finding.unwrap_or_else(|| panic!("{option} is not in {findings:?}"));
    assert!(
        finding.fate == Fate::Kept || finding.why.is_some(),
        "no reason: {finding:?}"
    );
    (finding.fate, finding.key.clone())
}

#[test]
fn an_app_as_many_have_it() {
    let imported = imported(
        r#"{"apps":[{"name":"web","script":"./dist/server.js","instances":"max","exec_mode":"cluster",
        "max_memory_restart":"300M","kill_timeout":3000,"wait_ready":true,"listen_timeout":10500,
        "env":{"NODE_ENV":"development","PORT":3000,"OPTIONS":{"a":[1,null]},"DEBUG":false},"env_production":{"NODE_ENV":"production"},
        "out_file":"./out.log","watch":false,"ignore_watch":["node_modules"],"cron_restart":"0 3 * * *","instnces":2}],
        "deploy":{"production":{}}}"#,
    );
    insta::assert_snapshot!(imported.toml, @r#"
    # From ecosystem.config.js, by `reuse-ctl import`.
    name = "web"
    command = ["node", "./dist/server.js"]
    workers = "max"
    pm2_compat = true
    ready = "ipc"
    ready_timeout = "10500ms"
    stop_timeout = "3s"
    max_memory = "300M"
    cron = "0 3 * * *"

    [env]
    NODE_ENV = "development"
    PORT = "3000"
    OPTIONS = "{\"a\":[1,null]}"
    DEBUG = "false"

    [env.production]
    NODE_ENV = "production"
    "#);
    insta::assert_snapshot!(to_text("ecosystem.config.js", &imported.findings, &imported.notes), @r#"
    ecosystem.config.js: 16 options: 6 kept, 4 changed, 5 not applicable, 1 unknown

    web
      kept            name
      kept            script → command
      kept            instances → workers
      not applicable  exec_mode                        all workers share one port, in any language and without the cluster module
      changed         max_memory_restart → max_memory  the new worker is ready before the old one is stopped, so nothing is lost
      kept            kill_timeout → stop_timeout
      changed         wait_ready → ready               "ipc": a worker that is not ready in time has failed; PM2 reports it as online
      changed         listen_timeout → ready_timeout   a worker that is not ready by then has failed, and the old one stays; PM2 reports the new one as online
      kept            env
      kept            env_production → env.production
      not applicable  out_file                         each worker writes directly to its own file, rotated by size, or to the journal: `log`, `log_size`, `reuse-ctl logs`
      not applicable  watch                            it is off, which is the default
      not applicable  ignore_watch                     nothing is watched
      changed         cron_restart → cron              one worker after the other, and nothing is lost; PM2 restarts them all at once
      unknown         instnces                         PM2 does not know it, and does nothing with it: is `instances` meant?

    beside the apps
      not applicable  deploy                           reuse-ctl does not copy files to other machines: use another tool for that, then `reuse-ctl apply -f reuse.toml` over ssh
    "#);
}

#[test]
fn several_apps_are_tables_and_no_two_have_one_name() {
    let imported = imported(
        r#"[{"name":"my app","script":"main.py","args":"--port 1 'a b'","cwd":"/srv"},
        {"name":"my app","script":"server","interpreter":"none","uid":33,"watch":["src"],"ignore_watch":"logs/","watch_delay":1500},
        {"script":"npm run start","port":8080,"instance_var":"ID","shutdown_with_message":true}]"#,
    );
    insta::assert_snapshot!(imported.toml, @r#"
    # From ecosystem.config.js, by `reuse-ctl import`.

    [[app]]
    name = "my-app"
    command = ["python3", "main.py", "--port", "1", "a b"]
    cwd = "/srv"
    pm2_compat = true

    [app.env]
    PYTHONUNBUFFERED = "1"

    [[app]]
    name = "my-app-2"
    command = ["./server"]
    user = "33"
    pm2_compat = true
    watch = ["src"]
    watch_ignore = ["logs"]
    watch_delay = "1500ms"

    [[app]]
    name = "npm-run-start"
    command = ["npm", "run", "start"]
    pm2_compat = true
    stop_message = true
    increment_var = "ID=0"

    [app.env]
    PORT = "8080"
    "#);
    let names: Vec<_> = imported
        .findings
        .iter()
        .filter(|finding| finding.option == "name")
        .collect();
    assert!(names.iter().all(|finding| finding.fate == Fate::Changed), "{names:?}");
}

#[test]
fn every_row_with_a_key_sets_it() {
    for row in TABLE.iter().filter(|row| row.place == WrittenIn::App) {
        let (Becomes::Kept(key) | Becomes::Changed(key, _)) = row.becomes else {
            continue;
        };
        let (option, value) = match row.option {
            "env_*" => ("env_production", r#"{"A":"1"}"#),
            "env" => ("env", r#"{"A":"1"}"#),
            "wait_ready" | "shutdown_with_message" | "watch" | "source_map_support" => (row.option, "true"),
            "instances" | "kill_timeout" | "listen_timeout" | "watch_delay" | "port" => (row.option, "3"),
            "max_memory_restart" => (row.option, r#""3M""#),
            "cron_restart" => (row.option, r#""* * * * *""#),
            other => (other, r#""three""#),
        };
        let rest = match row.option {
            "script" => "",
            "ignore_watch" | "watch_delay" => r#","script":"x.js","watch":true"#,
            _ => r#","script":"x.js""#,
        };
        let json = format!(r#"{{"apps":[{{"{option}":{value}{rest}}}]}}"#);
        let (fate, at) = fate(&json, option);
        assert!(matches!(fate, Fate::Kept | Fate::Changed), "{json}: {fate:?}");
        let at = at.expect("a key");
        assert!(at == key || (key == "env.*" && at == "env.production"), "{json}: {at}");
        let text = imported(&json).toml;
        let is_there = text.contains(&format!("\n{at} = ")) || text.contains(&format!("\n[{at}]\n"));
        assert!(is_there, "{json} gives no {at}:\n{text}");
    }
}

#[test]
fn what_is_off_has_no_key() {
    for option in [
        r#""watch":false"#,
        r#""wait_ready":false"#,
        r#""shutdown_with_message":"false""#,
        r#""cron_restart":0"#,
        r#""source_map_support":false"#,
        r#""ignore_watch":["x"]"#,
        r#""watch_delay":100"#,
        r#""instances":null"#,
        r#""instance_var":"NODE_APP_INSTANCE""#,
    ] {
        let json = format!(r#"{{"script":"a.js",{option}}}"#);
        let name = option.split('"').nth(1).expect("a name");
        assert_eq!(fate(&json, name), (Fate::NotApplicable, None), "{option}");
    }
}

#[test]
fn of_two_names_of_one_option_one_counts_and_the_other_is_said() {
    let json = r#"{"script":"a.js","exec":"b.js","cron":"1 * * * *","cron_restart":"2 * * * *"}"#;
    let text = imported(json).toml;
    assert!(
        text.contains(r#"["node", "a.js"]"#) && text.contains(r#"cron = "2 * * * *""#),
        "{text}"
    );
    assert_eq!(fate(json, "exec").0, Fate::NotApplicable);
    assert_eq!(fate(json, "cron").0, Fate::NotApplicable);
    assert_eq!(fate(json, "cron_restart").0, Fate::Changed);
}

#[test]
fn instances_of_all_kinds() {
    for (instances, workers) in [
        ("0", "workers = \"max\""),
        (r#""max""#, "workers = \"max\""),
        ("-1", "workers = 3"),
        ("-9", "workers = 1"),
        (r#""2""#, "workers = 2"),
        ("1000", "workers = 256"),
    ] {
        let text = imported(&format!(r#"{{"script":"a.js","instances":{instances}}}"#)).toml;
        assert!(text.contains(workers), "{instances}: {text}");
    }
}

#[test]
fn what_pm2_does_not_know_is_said_with_what_is_meant() {
    let findings =
        imported(r#"{"apps":[{"script":"a.js","max_memory_restrt":"1G","container":true,"attach":true}],"app":1}"#)
            .findings;
    let of = |option: &str| {
        let finding = findings.iter().find(|finding| finding.option == option).expect(option);
        (finding.fate, finding.why.clone().expect("a reason"))
    };
    assert!(of("max_memory_restrt").1.contains("`max_memory_restart`"));
    assert_eq!(of("max_memory_restrt").0, Fate::Unknown);
    assert_eq!(of("app").0, Fate::Unknown);
    assert!(of("app").1.contains("`apps`"));
    assert_eq!(of("container").0, Fate::NotApplicable);
    assert!(of("attach").1.contains("not take it from a file"));
}

#[test]
fn nonsense_has_a_place() {
    for (json, error) in [
        ("{}", "ecosystem.config.js: it is empty: it has no apps"),
        ("3", "ecosystem.config.js: it is a number, and has no apps"),
        (r#"{"x":1}"#, "ecosystem.config.js: it has no `apps`"),
        (
            r#"{"apps":[]}"#,
            "ecosystem.config.js: apps: it has no apps: the list is empty",
        ),
        (
            r#"{"apps":[3]}"#,
            "ecosystem.config.js: apps[0]: it is a number, not an app",
        ),
        (
            r#"[{"name":"x"}]"#,
            "ecosystem.config.js: [0].script: it is missing: nothing says what is to run",
        ),
        (
            r#"{"apps":[{"script":"a.js"},{"script":"a.js","instances":true}]}"#,
            "ecosystem.config.js: apps[1].instances: it is true, and should be a whole number or \"max\"",
        ),
        (
            r#"{"script":"a.js","env":[1]}"#,
            "ecosystem.config.js: env: it is a list, and should be an object of variables",
        ),
        (
            r#"{"script":"a.js","max_memory_restart":"much"}"#,
            "ecosystem.config.js: max_memory_restart: it is \"much\", and should be a number of bytes, or one with K, M or G: \"300M\"",
        ),
        (
            r#"{"script":["a.js"]}"#,
            "ecosystem.config.js: script: it is a list, and should be a text",
        ),
    ] {
        assert_eq!(refused(json), error);
    }
}

#[test]
fn the_manual_has_the_table() {
    assert_has_table("from-pm2.md", &manual_table(), "import/table.rs");
}

fn manual_table() -> String {
    let mut text = String::new();
    for (place, title) in [
        (WrittenIn::App, "In an app"),
        (WrittenIn::Top, "Beside the apps"),
        (WrittenIn::CommandLine, "On PM2's command line only"),
        (WrittenIn::Program, "In the options of `pm2.start()` only"),
    ] {
        text += &format!("\n### {title}\n\n| PM2 | here | |\n|---|---|---|\n");
        for row in TABLE.iter().filter(|row| row.place == place) {
            let names: Vec<String> = std::iter::once(&row.option)
                .chain(row.aliases)
                .map(|name| match place {
                    WrittenIn::CommandLine => format!("`--{}`", name.replace('_', "-")),
                    _ => format!("`{name}`"),
                })
                .collect();
            let (key, why) = match row.becomes {
                Becomes::Kept(key) => (format!("`{key}`"), "the same"),
                Becomes::Changed(key, why) => (format!("`{key}`"), why),
                Becomes::Nothing(why) => ("—".to_owned(), why),
            };
            text += &format!("| {} | {key} | {why} |\n", names.join(", "));
        }
    }
    text + "\n"
}

/// The reason of an option that has no key.
fn reason(json: &str, option: &str) -> String {
    assert_eq!(fate(json, option), (Fate::NotApplicable, None), "{json}");
    let findings = imported(json).findings;
    let finding = findings.iter().find(|finding| finding.option == option);
    finding.and_then(|finding| finding.why.clone()).expect("a reason")
}

#[test]
fn one_strange_option_does_not_stop_the_others() {
    for (option, words) in [
        (r#""cron_restart":"""#, "empty"),
        (r#""cwd":"""#, "empty"),
        (r#""user":"""#, "empty"),
        (r#""max_memory_restart":"""#, "empty"),
        (r#""kill_timeout":"""#, "empty"),
        (r#""increment_var":"""#, "empty"),
        (r#""max_memory_restart":0"#, "off"),
        (r#""max_memory_restart":"0""#, "always find it exceeded"),
        (r#""max_memory_restart":"0M""#, "always find it exceeded"),
        (r#""env":"A=1""#, "a string"),
        (r#""env_x":"text""#, "a string"),
        (r#""port":0"#, "0 as a port"),
        (r#""kill_timeout":-1"#, "PM2 waits for 1"),
        (r#""ignore_watch":[3],"watch":true"#, "should be"),
        (r#""env_b":{"A":1},"env":{"b":1}"#, "another name"),
    ] {
        let json = format!(r#"{{"script":"a.js","instances":2,{option}}}"#);
        let name = option.split('"').nth(1).expect("a name");
        assert!(reason(&json, name).contains(words), "{json}: {}", reason(&json, name));
        assert!(imported(&json).toml.contains("workers = 2"), "the others are there");
    }
    assert!(imported(r#"{"script":"a.js","name":""}"#).toml.contains("name = \"a\""));
    let cut = imported(r#"{"script":"a.js","env":{"A":"1","":"2","B=":"3"}}"#).toml;
    assert!(cut.contains("A = \"1\"") && !cut.contains("\"2\""), "{cut}");
    let other = imported(r#"{"script":"a.js","cron_restart":"","cron":"1 * * * *"}"#).toml;
    assert!(other.contains("cron = \"1 * * * *\""), "{other}");
}

#[test]
fn zero_is_what_it_is_to_pm2() {
    for (option, words) in [
        ("kill_timeout", "1,600 ms"),
        ("listen_timeout", "3 s"),
        ("max_memory_restart", "it is off"),
        ("uid", "as no user"),
    ] {
        let json = format!(r#"{{"script":"a.js","{option}":0}}"#);
        assert!(reason(&json, option).contains(words), "{}", reason(&json, option));
    }
    let text = imported(r#"{"script":"a.js","watch":true,"watch_delay":0,"kill_timeout":0}"#).toml;
    assert!(
        text.contains("watch_delay = \"0s\"") && !text.contains("stop_timeout"),
        "{text}"
    );
}

#[test]
fn a_file_of_variables_is_one_here() {
    for (json, key) in [(r#"".env""#, r#"[".env"]"#), (r#"["a",".b"]"#, r#"["a", ".b"]"#)] {
        let text = imported(&format!(r#"{{"script":"a.js","env_file":{json}}}"#)).toml;
        assert!(text.contains(&format!("env_file = {key}")), "{text}");
    }
    let text = imported(r#"{"script":"a.js","env_file":{"A":1}}"#).toml;
    assert!(text.contains("[env.file]\nA = \"1\""), "{text}");
}

#[test]
fn what_serves_no_port_and_what_ends_is_said_once() {
    let json = r#"[{"script":"a.js"},{"script":"b.js","wait_ready":true},{"script":"c.js","autorestart":false,"cron_restart":"0 3 * * *"}]"#;
    let imported = imported(json);
    let [ready, job] = imported.notes.as_slice() else {
        panic!("{:?}", imported.notes)
    };
    assert!(
        ready.contains("`ready = \"started\"`") && ready.ends_with(": a, c"),
        "{ready}"
    );
    assert!(job.contains("systemd timer") && job.ends_with(": c"), "{job}");
    let says_so = |finding: &&super::Finding| finding.why.as_deref().is_some_and(|why| why.contains("is a job"));
    let of_c = imported
        .findings
        .iter()
        .filter(|finding| finding.app.as_deref() == Some("c"));
    assert_eq!(of_c.filter(says_so).count(), 2, "{:#?}", imported.findings);
    assert!(!imported.toml.contains("cron ="), "{}", imported.toml);
    let text = to_text("x", &imported.findings, &imported.notes);
    assert_eq!(
        text.lines().filter(|line| line.starts_with("note: ")).count(),
        2,
        "{text}"
    );
}

#[test]
fn instances_are_cut_as_javascript_cuts_them() {
    for (instances, workers) in [
        ("2.9", "workers = 2"),
        (r#""""#, "workers = \"max\""),
        (r#""many""#, "workers = \"max\""),
        (r#""3 of them""#, "workers = 3"),
    ] {
        let text = imported(&format!(r#"{{"script":"a.js","instances":{instances}}}"#)).toml;
        assert!(text.contains(workers), "{instances}: {text}");
    }
}
