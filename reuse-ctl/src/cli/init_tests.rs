//! Which commands are guessed, and that the written file is valid.

use super::*;

/// A folder with these files.
struct Folder(std::path::PathBuf);

impl Folder {
    fn with(name: &str, files: &[(&str, &str)]) -> Self {
        let path = std::env::temp_dir().join(format!("reuse-ctl-init-{}-{name}", std::process::id()));
        for (file, text) in files {
            let file = path.join(file);
            fs::create_dir_all(file.parent().expect("in the folder")).expect("temp dir");
            fs::write(file, text).expect("write");
        }
        Self(path)
    }

    fn guessed(&self) -> Option<(String, String)> {
        let guess = guess(&self.0, Package::read(&self.0).as_ref())?;
        Some((guess.command.join(" "), guess.because))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

#[test]
fn the_command_is_guessed_from_what_is_there() {
    type Files<'a> = &'a [(&'a str, &'a str)];
    let cases: [(&str, Files<'_>, Option<&str>); 10] = [
        (
            "start",
            &[(
                "package.json",
                r#"{"scripts":{"start":"node --enable-source-maps 'a b.js'"},"main":"x.js"}"#,
            )],
            Some("node --enable-source-maps a b.js"),
        ),
        (
            "shell",
            &[("package.json", r#"{"scripts":{"start":"tsc && node dist"}}"#)],
            Some("npm run start"),
        ),
        (
            "variable",
            &[
                ("package.json", r#"{"scripts":{"start":"PORT=1 node x"}}"#),
                ("bun.lock", ""),
            ],
            Some("bun run start"),
        ),
        (
            "main",
            &[("package.json", r#"{"main":"lib/x.js"}"#), ("lib/x.js", "")],
            Some("node lib/x.js"),
        ),
        (
            "bun",
            &[("package.json", r#"{"main":"x.js"}"#), ("x.js", ""), ("bun.lockb", "")],
            Some("bun x.js"),
        ),
        (
            "gone",
            &[("package.json", r#"{"main":"gone.js"}"#), ("app.py", "")],
            Some("python3 app.py"),
        ),
        (
            "broken",
            &[("package.json", "{"), ("server.ts", "")],
            Some("bun server.ts"),
        ),
        ("order", &[("index.js", ""), ("server.js", "")], Some("node server.js")),
        ("source", &[("src/index.ts", "")], Some("bun src/index.ts")),
        ("nothing", &[("README.md", "")], None),
    ];
    for (name, files, expected) in cases {
        let folder = Folder::with(name, files);
        assert_eq!(
            folder.guessed().map(|(command, _)| command).as_deref(),
            expected,
            "{name}"
        );
    }
}

#[test]
fn the_file_is_one_that_run_takes_as_it_is_and_with_all_that_is_commented() {
    let folder = Folder::with("file", &[(".env", "A=1\n")]);
    let command = ["sh", "-c", "echo \"a\" \\ \n'b'"].map(str::to_owned);
    let text = describe(Some("web"), &command, "as given");
    let path = folder.0.join(FILE);
    fs::write(&path, &text).expect("write");
    let apps = config::load(&path, None).expect("right");
    assert_eq!(apps[0].name, "web");
    assert_eq!(
        apps[0].spec.resolve().expect("right").command,
        command.map(std::ffi::OsString::from)
    );
    // Comments that are sentences stay comments.
    let all: Vec<&str> = text
        .lines()
        .map(|line| {
            line.strip_prefix("# ")
                .filter(|line| line.contains(" = ") || line.starts_with('['))
                .unwrap_or(line)
        })
        .collect();
    fs::write(&path, all.join("\n")).expect("write");
    let apps = config::load(&path, Some("production")).expect("right");
    let variables: Vec<_> = apps[0]
        .spec
        .variables
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    assert_eq!(variables, ["LOG_LEVEL", "info", "NODE_ENV", "production"]);
    assert!(matches!(write_new(&path, &text), Err(failure) if failure.error.contains("already")));
}
