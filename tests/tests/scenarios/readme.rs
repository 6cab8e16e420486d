//! The examples of the README and of the pages behind it, as they stand there.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use reuse_tests::app::controller_command;
use reuse_tests::http::get;
use reuse_tests::scratch::Scratch;
use reuse_tests::{Launch, Namespace, SERVER, binaries, run};

/// Where the examples are. The README comes last: it repeats one of them.
const PAGES: [&str; 3] = ["docs/runtimes.md", "docs/canary.md", "README.md"];

/// A fenced block: what follows the fence, and the lines.
#[derive(PartialEq, Eq)]
struct Block {
    language: String,
    text: String,
}

impl Block {
    /// `server.ts` when the first line is the comment `// server.ts`.
    fn file_name(&self) -> Option<&str> {
        self.text.lines().next()?.strip_prefix("// ")
    }

    /// The verbs of a block of `reuse-ctl …   # why`.
    fn verbs(&self) -> Vec<Vec<&str>> {
        let lines = self.text.lines().map(|line| line.split('#').next().unwrap_or_default());
        lines
            .filter_map(|line| line.strip_prefix("reuse-ctl "))
            .map(|line| line.split_whitespace().collect())
            .collect()
    }

    /// The options and the command of `sudo reuse-ctl run OPTIONS -- COMMAND`, when that is the whole block.
    fn run_line(&self) -> Option<(Vec<&str>, Vec<&str>)> {
        let line = self
            .text
            .trim()
            .strip_prefix("sudo reuse-ctl run ")
            .filter(|_| self.language == "sh")?;
        let (options, command) = line.split_once("-- ")?;
        Some((
            options.split_whitespace().collect(),
            command.split_whitespace().collect(),
        ))
    }
}

#[test]
fn every_example_of_the_readme_and_its_pages_runs_and_reloads() {
    let scratch = Scratch::new();
    let blocks = blocks();
    let files: Vec<_> = blocks
        .iter()
        .filter_map(|block| Some((block.file_name()?, &block.text)))
        .collect();
    assert_eq!(
        files.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        ["server.ts", "server.js", "server.rs"]
    );
    for (name, text) in files {
        scratch.write(name, text);
    }
    compile(scratch.path());

    let runs: Vec<_> = blocks.iter().filter_map(Block::run_line).collect();
    assert_eq!(
        runs.iter().map(|(_, command)| command[0]).collect::<Vec<_>>(),
        ["bun", "node", "python3", "./server"]
    );
    for (options, command) in runs {
        let _namespace = Namespace::enter();
        let app = Launch::new(&options)
            .directory(scratch.path())
            .env("PATH", &path_with_bun())
            .run(&command);
        let answers: BTreeSet<_> = (0..40)
            .map(|_| {
                get(SERVER, None)
                    .unwrap_or_else(|failure| panic!("{command:?}: {failure}"))
                    .body
            })
            .collect();
        let hello = answers
            .iter()
            .filter(|body| body.starts_with("hello from worker "))
            .count();
        match command[0] {
            "python3" => assert!(
                answers.iter().all(|body| body.contains("server.rs")),
                "Python lists the folder: {answers:?}"
            ),
            // One client is always on one worker.
            "node" => assert_eq!(hello, 1, "{answers:?}"),
            _ => assert_eq!(hello, 4, "{answers:?}"),
        }
        app.ctl(&["reload"]).expect_code(0);
        get(SERVER, None).expect("an answer after the reload");
        assert_eq!(app.status().fallbacks, 0);
        app.stop();
    }
}

#[test]
fn the_canary_of_its_page_is_promoted() {
    let _namespace = Namespace::enter();
    let scratch = Scratch::new();
    let blocks = blocks();
    let server = blocks.iter().find(|block| block.file_name() == Some("server.js"));
    let server = &server.expect("the example in Node").text;
    scratch.write("server.js", server);
    scratch.write("server-v2.js", &server.replace("hello", "hello again"));
    let app = Launch::new(&["--workers", "4"])
        .directory(scratch.path())
        .run(&["node", "server.js"]);

    let mut verbs = blocks.iter().map(Block::verbs);
    let verbs = verbs
        .find(|verbs| verbs.first().is_some_and(|words| words[0] == "canary"))
        .expect("the example of a canary");
    assert_eq!(
        verbs.iter().map(|words| words[0]).collect::<Vec<_>>(),
        ["canary", "get", "promote"]
    );
    for words in verbs {
        let mut verb = controller_command();
        verb.args([words[0], "--app", app.name()]).args(&words[1..]);
        let output = run::to_end(verb.current_dir(scratch.path()), Duration::from_secs(60)).expect_code(0);
        if words[0] == "get" {
            assert_eq!(output.stdout, "hello again from worker 4\n");
        }
    }
    assert!(app.status().all_active(4));
    for _ in 0..8 {
        let answer = get(SERVER, None).expect("an answer");
        assert!(answer.body.starts_with("hello again from worker "), "{}", answer.body);
    }
    app.stop();
}

/// Every block once. One that stands on two pages must be the same on both: else the two are two examples, and one too many.
fn blocks() -> Vec<Block> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let root = root.expect("a folder of the workspace");
    let mut blocks = Vec::new();
    for page in PAGES {
        let text = fs::read_to_string(root.join(page)).expect(page);
        for block in fenced(&text) {
            if !blocks.contains(&block) {
                blocks.push(block);
            }
        }
    }
    blocks
}

fn fenced(page: &str) -> impl Iterator<Item = Block> {
    // Outside and inside of fences alternate.
    page.split("```")
        .skip(1)
        .step_by(2)
        .filter_map(|block| block.split_once('\n'))
        .map(|(language, text)| Block {
            language: language.to_owned(),
            text: text.to_owned(),
        })
}

fn compile(folder: &Path) {
    let mut rustc = Command::new("rustc");
    rustc
        .args(["--edition=2024", "-o", "server", "server.rs"])
        .current_dir(folder);
    run::to_end(&mut rustc, Duration::from_secs(120)).expect_code(0);
}

fn path_with_bun() -> String {
    let bun = binaries::bun();
    let folder = Path::new(&bun).parent().expect("a file in a folder");
    format!("{}:{}", folder.display(), env::var("PATH").expect("PATH is set"))
}
