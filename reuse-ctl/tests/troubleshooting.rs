//! Every error text of the program is in docs/troubleshooting.md, or says by itself what is to be done.
//!
//! This reads the source. An error text is a literal in one of these places, whatever it is wrapped in (`format!`, a `match`, …):
//!
//! - the text of a refusal: the first argument of `Failure::failed`, `usage`, `not_found`, `timeout` and of what is named like them, the second of
//!   `refusal`;
//! - the second argument of `Problem::new`: what is wrong in a file;
//! - `error: …` in the literal of a struct, and `let error = …`;
//! - `#[error("…")]`, and the `Display` of what is an `Error`.
//!
//! What stands in braces stands for anything. What is compiled for tests only does not count, nor what `select!` has inside.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};

const MANUAL: &str = include_str!("../../docs/troubleshooting.md");

/// Whose first argument is an error text.
const REFUSE: &[&str] = &["failed", "usage", "not_found", "timeout", "not_yours"];

/// Says by itself what is to be done.
const SELF_EVIDENT: &[&str] = &["no verb is given"];

#[test]
fn every_error_text_is_explained() {
    let texts = texts();
    assert!(texts.len() > 200, "only {} are found", texts.len());
    let unknown = unknown(&texts, MANUAL);
    assert!(
        unknown.is_empty(),
        "{} are not in docs/troubleshooting.md:\n{}",
        unknown.len(),
        unknown.join("\n")
    );
}

#[test]
fn a_planted_text_is_found() {
    let folder = std::env::temp_dir().join(format!("reuse-texts-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a temporary folder");
    for (file, text) in [
        ("lib.rs", "mod below; #[cfg(test)] mod tests;"),
        ("tests.rs", r#"fn f() { Failure::failed("only a test says so", "") }"#),
        (
            "below.rs",
            r#"
            fn f(moon: Moon) -> Result<(), Failure> {
                let error = format!("the moon {} is full", moon.name);
                let hint = "no text of an error";
                let all = vec![Problem::new(span, "the wind is still", "wait")];
                refuse(Failure::usage(match moon.phase { Phase::New => "no moon is there".into(), _ => error }, "wait"))?;
                refusal(ErrorKind::Failed, String::from("the sun is down"), "wait")
            }
            #[derive(Error)] enum TideError { #[error("the tide is {0}")] Low(Height), #[error("open: {0}")] Open(io::Error) }
            fn g() -> Reply { Reply { error: Some("the stars are hidden".into()), hint: Some("wait".into()) } }
            "#,
        ),
    ] {
        fs::write(folder.join(file), text).expect("a temporary file");
    }
    let mut reader = Reader::new(&folder);
    reader.read(&folder.join("lib.rs"));
    fs::remove_dir_all(&folder).expect("ours");
    let manual = "**`the moon NAME is full`**, **`NAME: the sun is down`**\n\nThe text `no moon is there`.\n\n| `the tide is HIGH` | wait |\n";
    assert_eq!(
        unknown(&reader.texts, manual),
        [
            "below.rs: no moon is there",
            "below.rs: the stars are hidden",
            "below.rs: the wind is still"
        ]
    );
}

fn texts() -> BTreeSet<Text> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut reader = Reader::new(root);
    for library in ["src", "machine/src"] {
        reader.read(&root.join(library).join("lib.rs"));
    }
    reader.texts
}

fn unknown(texts: &BTreeSet<Text>, manual: &str) -> Vec<String> {
    let messages = messages(manual);
    let is_known =
        |text: &Text| SELF_EVIDENT.contains(&text.words.as_str()) || messages.iter().any(|message| text.is_in(message));
    let unknown = texts.iter().filter(|text| !is_known(text));
    unknown.map(|text| format!("{}: {}", text.file, text.words)).collect()
}

/// What the manual quotes: code in bold lines, and in the first cell of a row.
fn messages(manual: &str) -> Vec<String> {
    let quoting = manual.lines().filter_map(|line| match line.strip_prefix("| ") {
        Some(row) => row.split(" | ").next(),
        None => line.starts_with("**").then_some(line),
    });
    quoting.flat_map(code_in).collect()
}

/// `` `x` `` and ``` ``x`y`` ```.
fn code_in(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = line;
    while let Some(start) = rest.find('`') {
        let fence: String = rest[start..].chars().take_while(|char| *char == '`').collect();
        let inside = &rest[start + fence.len()..];
        let Some(end) = inside.find(&fence) else { break };
        found.push(inside[..end].trim().to_owned());
        rest = &inside[end + fence.len()..];
    }
    found
}

/// An error text, with what stands for other words in braces.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Text {
    words: String,
    file: String,
}

impl Text {
    /// What stands before, between and behind what stands for other words.
    fn parts(&self) -> Vec<String> {
        let (mut parts, mut part, mut depth) = (Vec::new(), String::new(), 0);
        let mut chars = self.words.chars().peekable();
        while let Some(char) = chars.next() {
            match char {
                '{' | '}' if depth == 0 && chars.next_if_eq(&char).is_some() => part.push(char),
                '{' => {
                    depth += 1;
                    parts.push(std::mem::take(&mut part));
                }
                '}' => depth -= 1,
                char if depth == 0 => part.push(char),
                _ => {}
            }
        }
        parts.push(part);
        parts
    }

    fn has_words(&self) -> bool {
        self.parts().iter().any(|part| is_worded(part))
    }

    /// One word, alone or before what the kernel said: a system call or an option, which the manual explains once for all.
    fn is_a_call(&self) -> bool {
        let call = self
            .words
            .split_once(": {")
            .map_or(self.words.as_str(), |(call, _)| call);
        !call.contains([' ', '{'])
    }

    /// Whether a message of the manual is this text, alone or behind what has led to it: `--cwd: there is no folder PATH`.
    fn is_in(&self, message: &str) -> bool {
        let parts = self.parts();
        let begins = parts.first().is_some_and(|part| is_worded(part));
        let ends = parts.last().is_some_and(|part| is_worded(part));
        let worded: Vec<&str> = parts
            .iter()
            .map(String::as_str)
            .filter(|part| is_worded(part))
            .collect();
        let is_at = |at: usize| {
            let mut rest = &message[at..];
            let follow = worded.iter().enumerate().all(|(number, part)| {
                rest.find(part).is_some_and(|gap| {
                    rest = &rest[gap + part.len()..];
                    gap == 0 || number > 0 || !begins
                })
            });
            follow && (!ends || rest.is_empty() || rest.starts_with([':', ';', ',', ' ']))
        };
        let is_start = |at: &usize| *at == 0 || [": ", "; "].iter().any(|before| message[..*at].ends_with(before));
        message.char_indices().map(|(at, _)| at).filter(is_start).any(is_at)
    }
}

fn is_worded(part: &str) -> bool {
    part.chars().any(char::is_alphabetic)
}

/// Collects the texts of a file and of the modules below it.
struct Reader {
    root: PathBuf,
    file: PathBuf,
    texts: BTreeSet<Text>,
    below: Vec<String>,
}

impl Reader {
    fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            file: PathBuf::new(),
            texts: BTreeSet::new(),
            below: Vec::new(),
        }
    }

    fn read(&mut self, file: &Path) {
        let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let outer = std::mem::replace(&mut self.file, file.to_owned());
        self.visit_file(&parsed);
        let folder = match file.file_name().and_then(|name| name.to_str()) {
            Some("lib.rs" | "mod.rs") => file.parent().expect("a folder").to_owned(),
            _ => file.with_extension(""),
        };
        for below in std::mem::take(&mut self.below) {
            let flat = folder.join(format!("{below}.rs"));
            let nested = folder.join(&below).join("mod.rs");
            self.read(if flat.exists() { &flat } else { &nested });
        }
        self.file = outer;
    }

    fn note(&mut self, literals: Vec<String>) {
        let file = self
            .file
            .strip_prefix(&self.root)
            .expect("below the root")
            .display()
            .to_string();
        for words in literals {
            let text = Text {
                file: file.clone(),
                words,
            };
            if text.has_words() && !text.is_a_call() {
                self.texts.insert(text);
            }
        }
    }
}

/// The texts in an expression. What is compared, looked up or handed to another function is none.
#[derive(Default)]
struct Literals(Vec<String>);

impl Literals {
    fn of(expression: &syn::Expr) -> Vec<String> {
        let mut literals = Self::default();
        literals.visit_expr(expression);
        literals.0
    }

    fn first_of(tokens: TokenStream) -> Vec<String> {
        let literal = tokens.into_iter().find_map(|tree| match tree {
            TokenTree::Literal(literal) => syn::parse_str::<syn::LitStr>(&literal.to_string()).ok(),
            _ => None,
        });
        literal.map(|literal| literal.value()).into_iter().collect()
    }
}

impl<'ast> Visit<'ast> for Literals {
    fn visit_lit_str(&mut self, literal: &'ast syn::LitStr) {
        self.0.push(literal.value());
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        if ["format", "write"].iter().any(|name| call.path.is_ident(name)) {
            self.0.extend(Self::first_of(call.tokens.clone()));
        }
    }

    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        self.visit_expr(&call.receiver);
        if call.method == "write_str" {
            call.args.iter().for_each(|argument| self.visit_expr(argument));
        }
    }

    fn visit_pat(&mut self, _: &'ast syn::Pat) {}
}

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Path>()
                .is_ok_and(|condition| condition.is_ident("test"))
    })
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if is_for_tests(&item.attrs) {
            return;
        }
        match &item.content {
            None => self.below.push(item.ident.to_string()),
            Some(_) => visit::visit_item_mod(self, item),
        }
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        if attribute.path().is_ident("error")
            && let syn::Meta::List(list) = &attribute.meta
        {
            self.note(Literals::first_of(list.tokens.clone()));
        }
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        let is_display = item
            .trait_
            .as_ref()
            .and_then(|(_, path, _)| path.segments.last())
            .is_some_and(|last| last.ident == "Display");
        let of = match &*item.self_ty {
            syn::Type::Path(path) => path.path.segments.last().map(|last| last.ident.to_string()),
            _ => None,
        };
        if is_display && of.is_some_and(|of| of.ends_with("Error") || of.ends_with("Problem")) {
            let mut literals = Literals::default();
            literals.visit_item_impl(item);
            self.note(literals.0);
        }
        visit::visit_item_impl(self, item);
    }

    /// `vec![…]` and the like have expressions in them.
    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        let inside = call.parse_body_with(Punctuated::<syn::Expr, syn::Token![,]>::parse_terminated);
        for expression in inside.into_iter().flatten() {
            // What is parsed here lives no longer than this.
            let mut reader = Self {
                root: self.root.clone(),
                file: self.file.clone(),
                texts: BTreeSet::new(),
                below: Vec::new(),
            };
            reader.visit_expr(&expression);
            self.texts.append(&mut reader.texts);
        }
    }

    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        if let syn::Expr::Path(path) = &*call.func
            && let Some(name) = path.path.segments.last()
        {
            let of = path.path.segments.iter().rev().nth(1);
            let position = match name.ident.to_string().as_str() {
                "refusal" => Some(1),
                "new" if of.is_some_and(|of| of.ident == "Problem") => Some(1),
                name if REFUSE.contains(&name) => Some(0),
                _ => None,
            };
            if let Some(error) = position.and_then(|position| call.args.get(position)) {
                self.note(Literals::of(error));
            }
        }
        visit::visit_expr_call(self, call);
    }

    fn visit_field_value(&mut self, field: &'ast syn::FieldValue) {
        if matches!(&field.member, syn::Member::Named(name) if name == "error") {
            self.note(Literals::of(&field.expr));
        }
        visit::visit_field_value(self, field);
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        if let (syn::Pat::Ident(name), Some(value)) = (&local.pat, &local.init)
            && name.ident == "error"
        {
            self.note(Literals::of(&value.expr));
        }
        visit::visit_local(self, local);
    }
}
