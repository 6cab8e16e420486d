//! What the documents say of the code is there: the files they name, and the functions and types that they name with a file.

use std::fs;
use std::path::Path;

/// The short forms that ARCHITECTURE.md and CONTRIBUTING.md explain.
const SHORT: [(&str, &str); 4] = [
    ("src/", "reuse-ctl/src/"),
    ("machine/", "reuse-ctl/machine/src/"),
    ("common/", "reuse-common/src/"),
    ("ebpf/", "reuse-ebpf/src/"),
];

/// Says of the words before it, or of the word before it, that they are in the file that follows.
const IN_FILE: [&str; 3] = [" (", " in ", " of "];

#[test]
fn what_the_documents_name_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace");
    let files = Files::below(root);
    let documents: Vec<&String> = files.0.iter().filter(|file| is_document(file)).collect();
    assert!(documents.len() > 20, "only {documents:?}");
    let (mut wrong, mut named) = (Vec::new(), 0);
    for document in documents {
        let text = fs::read_to_string(root.join(document)).expect("it was listed");
        let found = claims(&text);
        named += found.len();
        wrong.extend(
            found
                .iter()
                .filter_map(|claim| Some(format!("{document}:{}: {}", claim.line, files.wrong(root, claim)?))),
        );
    }
    assert!(named > 200, "only {named} files are named");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_planted_claim_is_found() {
    let root = std::env::temp_dir().join(format!("reuse-documents-{}", std::process::id()));
    for (file, text) in [
        ("reuse-ctl/src/moon/rise.rs", "fn rises() {} impl Moon { fn new() {} }"),
        ("reuse-ctl/src/sun/dawn/rise.rs", ""),
        ("reuse-ctl/src/moon/dawn/rise.rs", ""),
        ("reuse-common/src/tide.rs", "fn ebb() {}"),
    ] {
        let path = root.join(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }
    let text = "`rises` and `Moon::new` (`moon/rise.rs`) are there, `sets` in `src/moon/rise.rs` is not.\n\
                `ebb`, `flood` (`common/tide.rs`); `dawn/rise.rs` are two, `set.rs` none. `cargo test`, `a/b` and `x.toml` are no files of code.";
    let files = Files::below(&root);
    let wrong: Vec<String> = claims(text)
        .iter()
        .filter_map(|claim| Some(format!("{}: {}", claim.line, files.wrong(&root, claim)?)))
        .collect();
    fs::remove_dir_all(&root).expect("removed");
    assert_eq!(
        wrong,
        [
            "1: reuse-ctl/src/moon/rise.rs has no `sets`",
            "2: reuse-common/src/tide.rs has no `flood`",
            "2: `dawn/rise.rs` is reuse-ctl/src/moon/dawn/rise.rs, reuse-ctl/src/sun/dawn/rise.rs",
            "2: `set.rs` is not there",
        ]
    );
}

fn is_document(file: &str) -> bool {
    file.ends_with(".md") && (!file.contains('/') || file.starts_with("docs/"))
}

/// A file of code that a document names, and what it says is in it.
struct Claim {
    line: usize,
    file: String,
    names: Vec<String>,
}

/// What is in back ticks, and the words between.
fn claims(text: &str) -> Vec<Claim> {
    let mut claims: Vec<Claim> = Vec::new();
    // What was named since the last full stop or file, and could be said to be in the next one.
    let mut names: Vec<String> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let mut parts = line.split('`');
        let mut between = parts.next().unwrap_or_default();
        while let (Some(quoted), Some(after)) = (parts.next(), parts.next()) {
            let joins = matches!(between.trim(), "," | "and" | ", and");
            if is_code_file(quoted) {
                let mut of = std::mem::take(&mut names);
                if !IN_FILE.contains(&between) {
                    of.clear();
                } else if between != IN_FILE[0] {
                    of = of.split_off(of.len().saturating_sub(1));
                }
                claims.push(Claim {
                    line: at + 1,
                    file: quoted.to_owned(),
                    names: of,
                });
            } else {
                if !joins {
                    names.clear();
                }
                names.push(quoted.to_owned());
            }
            between = after;
        }
    }
    claims
}

fn is_code_file(quoted: &str) -> bool {
    quoted.ends_with(".rs") && !quoted.contains([' ', '*', '{'])
}

struct Files(Vec<String>);

impl Files {
    fn below(root: &Path) -> Self {
        let mut files = Vec::new();
        let mut folders = vec![root.to_path_buf()];
        while let Some(folder) = folders.pop() {
            let entries = fs::read_dir(&folder).expect("a folder");
            for path in entries.map(|entry| entry.expect("an entry").path()) {
                if !path.is_dir() || path.is_symlink() {
                    files.push(relative(root, &path));
                } else if !is_passed_over(&path) {
                    folders.push(path);
                }
            }
        }
        files.sort();
        Self(files)
    }

    /// What is wrong about a claim.
    fn wrong(&self, root: &Path, claim: &Claim) -> Option<String> {
        let short = SHORT
            .iter()
            .find_map(|(short, long)| Some(format!("{long}{}", claim.file.strip_prefix(short)?)));
        let whole = [Some(&claim.file), short.as_ref()]
            .into_iter()
            .flatten()
            .find(|file| self.0.contains(file));
        let end = format!("/{}", claim.file);
        let found: Vec<&str> = match whole {
            Some(file) => vec![file],
            None => self
                .0
                .iter()
                .filter(|file| file.ends_with(&end))
                .map(String::as_str)
                .collect(),
        };
        // A name without a folder is explained by the words around it.
        let is_one = found.len() == 1 || (!found.is_empty() && !claim.file.contains('/'));
        if !is_one {
            let found = if found.is_empty() {
                "not there".to_owned()
            } else {
                found.join(", ")
            };
            return Some(format!("`{}` is {found}", claim.file));
        }
        let texts = found
            .iter()
            .map(|file| fs::read_to_string(root.join(file)).expect("it was listed"));
        let texts: Vec<String> = texts.collect();
        let is_there = |name: &&String| {
            let word = last_word(name);
            word.is_empty() || texts.iter().any(|text| is_word_of(text, word))
        };
        let missing = claim.names.iter().find(|name| !is_there(name))?;
        Some(format!("{} has no `{missing}`", found.join(", ")))
    }
}

fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).expect("below it").display().to_string()
}

/// What is built or fetched is no part of the sources.
fn is_passed_over(folder: &Path) -> bool {
    folder
        .file_name()
        .is_some_and(|name| ["target", "node_modules", ".git"].iter().any(|passed| name == *passed))
}

/// `departed` of `Slot::departed`, `place` of `place()`; nothing of what is no name.
fn last_word(name: &str) -> &str {
    let name = name.strip_suffix("()").unwrap_or(name);
    let name = name.rsplit("::").next().unwrap_or(name);
    if name.chars().all(is_name) { name } else { "" }
}

fn is_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

fn is_word_of(text: &str, word: &str) -> bool {
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(is_name) && !text[at + word.len()..].starts_with(is_name))
}
