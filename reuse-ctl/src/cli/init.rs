//! `init`: writes an initial `reuse.toml` for the server in this folder.

use super::{args, output};
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use serde::Serialize;

use crate::{
    app::names::paths_of,
    base::{Failure, toml_text::quoted},
    cli::context::Context,
    config,
};

const FILE: &str = "reuse.toml";

/// A guessed command, and the reason.
#[derive(Debug, PartialEq, Eq)]
struct Guess {
    command: Vec<String>,
    because: String,
}

#[derive(Serialize)]
struct Written {
    file: &'static str,
    name: Option<String>,
    command: Vec<String>,
    because: String,
}

pub(super) fn run(context: &Context, arguments: &args::Init) -> Result<(), Failure> {
    let folder = std::env::current_dir()
        .map_err(|error| Failure::failed(format!("the working folder: {error}"), "cd to one that exists"))?;
    let package = Package::read(&folder);
    let Guess { command, because } = match arguments.command.as_slice() {
        [] => guess(&folder, package.as_ref()).ok_or_else(|| {
            Failure::usage(
                "no command is given, and nothing in this folder looks like a server",
                "`reuse-ctl init -- node server.js`",
            )
        })?,
        given => Guess {
            command: given.to_vec(),
            because: "as given".into(),
        },
    };
    let name = match &arguments.name {
        Some(name) => Some(paths_of(name).map(|_| name.clone())?),
        None => name_of(&folder, package.as_ref()),
    };
    let text = describe(name.as_deref(), &command, &because);
    write_new(&folder.join(FILE), &text)?;
    // The file must be valid for `run -f`; an invalid command is reported with its place.
    config::load(Path::new(FILE), None)?;
    let said = shell_words::join(&command);
    if context.json {
        return output::print_json(&output::Okay::new(Written {
            file: FILE,
            name,
            command,
            because,
        }));
    }
    output::print(&format!(
        "{FILE} is written; its command is `{said}` ({because})\n  → edit it, then `reuse-ctl check` and `sudo reuse-ctl run -f {FILE}`\n"
    ))
}

fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Failure::usage(
            format!("there is a {FILE} already, and it stays as it is"),
            "`reuse-ctl check` shows what is in it",
        ),
        _ => Failure::failed(format!("write {FILE}: {error}"), "go to a folder that you may write to"),
    })
}

/// The relevant fields of a `package.json`.
struct Package {
    name: Option<String>,
    start: Option<String>,
    main: Option<String>,
}

impl Package {
    fn read(folder: &Path) -> Option<Self> {
        let text = fs::read(folder.join("package.json")).ok()?;
        let json: serde_json::Value = serde_json::from_slice(&text).ok()?;
        let text = |value: &serde_json::Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        Some(Self {
            name: text(&json["name"]),
            start: text(&json["scripts"]["start"]),
            main: text(&json["main"]),
        })
    }
}

/// Files that are a server by their name, and the programs that run them.
const KNOWN: [(&str, &str); 17] = [
    ("server.ts", "bun"),
    ("index.ts", "bun"),
    ("app.ts", "bun"),
    ("src/server.ts", "bun"),
    ("src/index.ts", "bun"),
    ("server.js", "node"),
    ("server.mjs", "node"),
    ("app.js", "node"),
    ("index.js", "node"),
    ("index.mjs", "node"),
    ("main.js", "node"),
    ("src/server.js", "node"),
    ("src/index.js", "node"),
    ("app.py", "python3"),
    ("server.py", "python3"),
    ("main.py", "python3"),
    ("app.rb", "ruby"),
];

fn guess(folder: &Path, package: Option<&Package>) -> Option<Guess> {
    let is_file = |name: &str| folder.join(name).is_file();
    let has_bun = ["bun.lock", "bun.lockb", "bunfig.toml"]
        .iter()
        .any(|name| is_file(name));
    let runner = |file: &str| {
        if has_bun || file.ends_with(".ts") {
            "bun"
        } else {
            "node"
        }
    };
    if let Some(start) = package.and_then(|package| package.start.as_deref()) {
        let because = "scripts.start of package.json".to_owned();
        return Some(match plain_words(start) {
            Some(command) => Guess { command, because },
            // The script needs a shell, which the package manager starts.
            None => Guess {
                command: [if has_bun { "bun" } else { "npm" }, "run", "start"]
                    .map(str::to_owned)
                    .to_vec(),
                because,
            },
        });
    }
    if let Some(main) = package
        .and_then(|package| package.main.as_deref())
        .filter(|main| is_file(main))
    {
        return Some(Guess {
            command: vec![runner(main).to_owned(), main.to_owned()],
            because: "main of package.json".into(),
        });
    }
    let (file, runner) = KNOWN.iter().find(|(file, _)| is_file(file)).map(|(file, usual)| {
        let is_script = matches!(*usual, "bun" | "node");
        (*file, if is_script { runner(file) } else { usual })
    })?;
    Some(Guess {
        command: vec![runner.to_owned(), file.to_owned()],
        because: format!("there is a {file}"),
    })
}

/// The words of a command that needs no shell.
fn plain_words(line: &str) -> Option<Vec<String>> {
    if line.contains(['&', '|', ';', '<', '>', '$', '`', '(', '*', '~', '#', '\\']) {
        return None;
    }
    let words = shell_words::split(line).ok()?;
    let first = words.first()?;
    (!first.contains('=')).then_some(words)
}

/// The package's name, else the folder's, made valid for an app.
fn name_of(folder: &Path, package: Option<&Package>) -> Option<String> {
    let of_package = package
        .and_then(|package| package.name.as_deref())
        .and_then(|name| name.rsplit('/').next());
    let of_folder = folder.file_name().and_then(|name| name.to_str());
    let fits = |name: &&str| paths_of(name).is_ok();
    of_package.filter(fits).or(of_folder.filter(fits)).map(str::to_owned)
}

/// The text of the file.
fn describe(name: Option<&str>, command: &[String], because: &str) -> String {
    let mut text = String::from(
        "# Apps for reuse-ctl. Every option of `reuse-ctl run` is a key here, with _ for -; `reuse-ctl schema` prints them for editors.\n\
         # `reuse-ctl check` checks this file, `sudo reuse-ctl run -f reuse.toml` runs it. Paths are relative to its folder.\n\n",
    );
    let mut line = |line: &str| writeln!(text, "{line}").expect("a string takes everything");
    match name {
        Some(name) => line(&format!("name = {}", quoted(name))),
        None => line("# name = \"web\""),
    }
    line(&format!("# {because}"));
    let words: Vec<String> = command.iter().map(|word| quoted(word)).collect();
    line(&format!("command = [{}]", words.join(", ")));
    for rest in REST {
        line(rest);
    }
    text
}

/// Options that users are likely to want next.
const REST: [&str; 24] = [
    "",
    "# A number, or \"max\": one per processor.",
    "workers = 2",
    "# least-loaded, round-robin, hash, or sticky: a client keeps its worker.",
    "# policy = \"least-loaded\"",
    "# Without it, every TCP port that a worker binds.",
    "# port = 8080",
    "",
    "# When a worker is ready: once it listens, or says so (\"ipc\", \"notify\"), or answers (\"http:/ready\").",
    "# ready = \"listener\"",
    "# health = \"/health\"",
    "# stop_timeout = \"10s\"",
    "",
    "# Replace a worker, losing nothing, when it needs more memory, or at a time.",
    "# max_memory = \"300M\"",
    "# cron = \"0 4 * * *\"",
    "",
    "# env_file = \".env\"",
    "# [env]",
    "# LOG_LEVEL = \"info\"",
    "",
    "# With --env production these are added.",
    "# [env.production]",
    "# NODE_ENV = \"production\"",
];

#[cfg(test)]
#[path = "init_tests.rs"]
mod tests;
