//! Valid files, and equivalent command lines.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use super::{Folder, words};
use crate::{
    app::{AppSpec, options::RunOptions},
    config::{NamedSpec, load},
};

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
             [[app]]\nname = 'api'\ncommand = './app.py'\ncwd = 'api'\nwatch = 'src'\nlisten = ['127.0.0.1:81']\n",
        )
        .expect("right");
    let names: Vec<&str> = apps.iter().map(|app| app.name.as_str()).collect();
    assert_eq!(names, ["web", "api"]);
    let cwd = |app: &NamedSpec| app.spec.resolve().expect("right").cwd.expect("always");
    assert_eq!((cwd(&apps[0]), cwd(&apps[1])), (folder.0.clone(), folder.0.join("api")));
    let api = apps[1].spec.resolve().expect("right");
    assert_eq!(api.command, [folder.0.join("api/app.py")]);
    assert_eq!(api.recycle.watch.expect("it is said").paths, [folder.0.join("api/src")]);
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
    let raw = words("reuse-ctl run -f reuse.toml -v --port 3 --workers 5 --cwd sub --watch x --env-file y");
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
    assert_eq!(
        options.recycle.watch.expect("it is said").paths,
        [Path::new("/srv/sub/x")]
    );
    assert!(spec.arguments.contains(&"--env-file=/srv/y".into()));
    assert_eq!(
        AppSpec::typed_keys(&raw),
        ["workers", "port", "watch", "cwd", "env-file"]
    );
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
