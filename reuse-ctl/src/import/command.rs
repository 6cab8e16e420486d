//! Builds the command that PM2 would run, from script, interpreter and arguments.

use std::path::Path;

use super::surroundings::ScriptFile;

/// The options that define an app's command.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) script: &'a str,
    /// `args`.
    pub(super) arguments: &'a [String],
    /// `interpreter`, if it is given.
    pub(super) interpreter: Option<&'a str>,
    /// `node_args`.
    pub(super) interpreter_arguments: &'a [String],
    /// `source_map_support: true`.
    pub(super) source_maps: bool,
}

/// The command, and how it differs from PM2's.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Made {
    pub(super) words: Vec<String>,
    /// A note for the option `script`.
    pub(super) script_note: Option<String>,
    /// A note for the option `interpreter`.
    pub(super) interpreter_note: Option<String>,
    /// Whether `args` are dropped. PM2 drops them as well.
    pub(super) drops_arguments: bool,
    /// Whether `node_args` are dropped, because there is no interpreter.
    pub(super) drops_interpreter_arguments: bool,
    /// Whether Node's source maps were enabled.
    pub(super) has_source_maps: bool,
}

/// Builds the command. `look` returns what is at a path relative to the app's working folder.
pub(super) fn make(wanted: &Wanted<'_>, look: &dyn Fn(&Path) -> ScriptFile) -> Made {
    let script = wanted.script;
    let kind = look(Path::new(script));
    if script.contains(' ') && kind == ScriptFile::Absent {
        return line(wanted);
    }
    let mut made = Made::default();
    let interpreter = match wanted.interpreter {
        Some("none") => None,
        Some(given) => Some(match given.split_once('@') {
            Some(("node", version)) => {
                made.interpreter_note = Some(format!(
                    "the node on PATH; for Node {version} give the full path of its program, as ~/.nvm/versions/node/v{version}/bin/node"
                ));
                "node"
            }
            _ => given,
        }),
        None => interpreter_of(script, kind),
    };
    match interpreter {
        Some(interpreter) => {
            made.words.push(interpreter.to_owned());
            made.has_source_maps = wanted.source_maps && file_name(interpreter) == "node";
            if made.has_source_maps {
                made.words.push("--enable-source-maps".into());
            }
            made.words.extend_from_slice(wanted.interpreter_arguments);
            made.words.push(script.to_owned());
        }
        None => {
            made.drops_interpreter_arguments = !wanted.interpreter_arguments.is_empty();
            // A command without a slash would be searched on PATH.
            let is_here = !script.contains('/') && kind != ScriptFile::Absent;
            made.words.push(if is_here {
                format!("./{script}")
            } else {
                script.to_owned()
            });
        }
    }
    made.words.extend_from_slice(wanted.arguments);
    made
}

/// Whether the command is Python, which PM2 runs with unbuffered output.
pub(super) fn is_python(words: &[String]) -> bool {
    words
        .first()
        .is_some_and(|program| file_name(program).starts_with("python"))
}

/// A script with spaces is a command line, which PM2 passes to a shell. Here a shell is used only if the line needs one.
fn line(wanted: &Wanted<'_>) -> Made {
    let words: Vec<String> = wanted.script.split_whitespace().map(str::to_owned).collect();
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || " _-./:,@+=%".contains(letter);
    let needs_shell = !wanted.script.chars().all(is_plain) || words.first().is_none_or(|word| word.contains('='));
    let (words, note) = if needs_shell {
        let words = ["bash", "-c", wanted.script].map(str::to_owned).to_vec();
        (
            words,
            "it runs in a shell, which must pass signals on: begin the last command with `exec`",
        )
    } else {
        (words, "it is split into words and run without the shell that PM2 uses")
    };
    Made {
        words,
        script_note: Some(note.into()),
        drops_arguments: !wanted.arguments.is_empty(),
        drops_interpreter_arguments: !wanted.interpreter_arguments.is_empty(),
        interpreter_note: wanted
            .interpreter
            .map(|_| "a script with spaces has no interpreter".to_owned()),
        ..Made::default()
    }
}

/// The interpreter by the script's extension, else Node for text, as in PM2. But a script that names its own interpreter runs with that.
fn interpreter_of(script: &str, kind: ScriptFile) -> Option<&'static str> {
    let extension = Path::new(script).extension().and_then(|extension| extension.to_str());
    match (extension, kind) {
        (Some("js" | "cjs" | "mjs"), _) => Some("node"),
        (Some("ts" | "tsx" | "mts" | "cts"), _) => Some("bun"),
        (Some("py"), _) => Some("python3"),
        (Some("sh"), _) => Some("bash"),
        (Some("rb"), _) => Some("ruby"),
        (Some("php"), _) => Some("php"),
        (Some("pl"), _) => Some("perl"),
        (Some("coffee"), _) => Some("coffee"),
        (Some("ls"), _) => Some("lsc"),
        (_, ScriptFile::Text | ScriptFile::Folder) => Some("node"),
        (_, ScriptFile::Program | ScriptFile::Absent) => None,
    }
}

fn file_name(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

/// Splits a string of arguments at spaces outside of quotes. Quotes are removed if they enclose a whole word.
pub(super) fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let mut quote = None;
        let end = rest.find(|letter: char| {
            match quote {
                Some(open) if open == letter => quote = None,
                None if matches!(letter, '"' | '\'') => quote = Some(letter),
                None => return letter.is_whitespace(),
                Some(_) => {}
            }
            false
        });
        let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
        let is_quoted = |mark| word.len() >= 2 && word.starts_with(mark) && word.ends_with(mark);
        let inner = if is_quoted('"') || is_quoted('\'') {
            &word[1..word.len() - 1]
        } else {
            word
        };
        if !inner.trim().is_empty() {
            words.push(inner.to_owned());
        }
        rest = after.trim_start();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(path: &Path) -> ScriptFile {
        match path.to_str() {
            Some("server" | "./server" | "run") => ScriptFile::Program,
            Some("text" | "a b.js") => ScriptFile::Text,
            Some("./service/") => ScriptFile::Folder,
            _ => ScriptFile::Absent,
        }
    }

    fn wanted(script: &str) -> Wanted<'_> {
        Wanted {
            script,
            arguments: &[],
            interpreter: None,
            interpreter_arguments: &[],
            source_maps: false,
        }
    }

    fn words(wanted: &Wanted<'_>) -> String {
        make(wanted, &look).words.join("|")
    }

    #[test]
    fn the_extension_says_who_runs_it() {
        for (script, command) in [
            ("./a.js", "node|./a.js"),
            ("a.mjs", "node|a.mjs"),
            ("server.ts", "bun|server.ts"),
            ("app/main.py", "python3|app/main.py"),
            ("start.sh", "bash|start.sh"),
            ("server", "./server"),
            ("./server", "./server"),
            ("text", "node|text"),
            ("./service/", "node|./service/"),
            ("npm", "npm"),
            ("/usr/bin/ruby", "/usr/bin/ruby"),
            ("a b.js", "node|a b.js"),
        ] {
            assert_eq!(words(&wanted(script)), command);
        }
    }

    #[test]
    fn an_interpreter_that_is_named_runs_it() {
        let arguments = ["--port".to_owned(), "1".to_owned()];
        let with = |interpreter| Wanted {
            interpreter: Some(interpreter),
            arguments: &arguments,
            ..wanted("server")
        };
        assert_eq!(words(&with("bun")), "bun|server|--port|1");
        assert_eq!(words(&with("none")), "./server|--port|1");
        let made = make(&with("node@18.1.0"), &look);
        assert_eq!(made.words[0], "node");
        assert!(made.interpreter_note.expect("said").contains("v18.1.0/bin/node"));
        let maps = Wanted {
            interpreter_arguments: &["--harmony".to_owned()],
            source_maps: true,
            ..wanted("a.js")
        };
        assert_eq!(words(&maps), "node|--enable-source-maps|--harmony|a.js");
    }

    #[test]
    fn a_line_goes_to_a_shell_only_if_it_needs_one() {
        assert_eq!(
            words(&wanted("bun run server.ts --port=1")),
            "bun|run|server.ts|--port=1"
        );
        for script in ["A=1 node a.js", "node a.js && node b.js", "node 'a b.js'"] {
            assert_eq!(words(&wanted(script)), format!("bash|-c|{script}"));
        }
    }

    #[test]
    fn arguments_in_one_text() {
        assert_eq!(split(r#"--a  'b c' "d" e="f g" ''"#), ["--a", "b c", "d", "e=\"f g\""]);
        assert_eq!(split("  "), Vec::<String>::new());
        assert_eq!(split("'open end"), ["'open end"]);
    }
}
