//! The folders of `src` have an order: each imports those below it, and no other. This reads every import and holds it against the list.
//!
//! An import is a `use`, with its groups expanded, or a path in an expression that begins with `crate`, `super` or `self`. What is compiled for tests only
//! does not count.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};

/// From the bottom to the top. A folder may import what is in a line below its own; folders in one line do not know each other.
const LAYERS: &[&[&str]] = &[
    &["base"],
    &["process"],
    &["app", "bpf", "import"],
    &["config", "group", "wire"],
    &["client", "doctor", "supervisor"],
    &["server"],
    &["controller"],
    &["cli"],
];

/// Who may name the crate with the pure machine; all others know its identifiers and states by `base`.
const KNOW_THE_MACHINE: &[&str] = &["base", "app", "wire", "supervisor", "server", "controller", "cli"];

/// The task owns the components, and no component knows it: only who starts it does.
const TASK: [&str; 2] = ["supervisor", "task"];

/// In so many files may methods of the task stand: all it does is to route, and what it routes to are the components.
const TASK_FILES: usize = 5;

/// So many files may import each other in a loop.
const LARGEST_LOOP: usize = 9;

#[test]
fn folders_import_only_what_is_below_them() {
    let offences = offences(&Tree::read(&source()));
    let lines: Vec<String> = offences.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "imports that go up:\n{}", lines.join("\n"));
}

#[test]
fn files_import_each_other_in_small_loops_only() {
    let machine = Path::new(env!("CARGO_MANIFEST_DIR")).join("machine/src");
    for folder in [source(), machine] {
        let tree = Tree::read(&folder);
        let largest = tree.loops().into_iter().max_by_key(Vec::len).unwrap_or_default();
        assert!(
            largest.len() <= LARGEST_LOOP,
            "{}: {} files import each other:\n{}",
            folder.display(),
            largest.len(),
            largest.join("\n")
        );
    }
}

#[test]
fn the_task_stays_small() {
    let files = Tree::read(&source()).files_that_implement("Task");
    assert!(
        files.len() <= TASK_FILES,
        "{} files have an impl block for Task; what they do belongs to a component:\n{}",
        files.len(),
        files.join("\n")
    );
}

#[test]
fn a_planted_offence_is_found() {
    let folder = std::env::temp_dir().join(format!("reuse-layers-{}", std::process::id()));
    for (file, text) in [
        (
            "lib.rs",
            "mod base; mod cli; mod process; mod supervisor; #[cfg(test)] mod fake;",
        ),
        ("base.rs", "use crate::{process::{self, paths}, base::ids};"),
        (
            "process/mod.rs",
            "pub mod paths;\nuse std::fs;\n\nfn f() { super::cli::run() }\n#[cfg(test)] mod tests { use crate::cli::run; }",
        ),
        ("process/paths.rs", "use reuse_machine::ids;\nuse super::super::base;"),
        ("cli.rs", "use crate::{base, process};"),
        ("supervisor/mod.rs", "mod task; mod part;"),
        ("supervisor/part.rs", "use super::task::Task;"),
        (
            "supervisor/task.rs",
            "mod more;\npub struct Task;\nimpl Task {}\npub struct Tasks;\nimpl Tasks {}",
        ),
        (
            "supervisor/task/more.rs",
            "mod none;\nimpl super::Task {}\nimpl<'a> From<&'a super::Task> for u8 {}\nimpl Drop for super::Task {}",
        ),
        (
            "supervisor/task/more/none.rs",
            "#[cfg(test)] impl crate::supervisor::task::Task {}\n#[cfg(test)] mod tests { impl crate::supervisor::task::Task {} }",
        ),
        ("fake.rs", "use crate::cli;"),
    ] {
        let path = folder.join(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a temporary folder");
        fs::write(path, text).expect("a temporary file");
    }
    let tree = Tree::read(&folder);
    let found: Vec<String> = offences(&tree).iter().map(ToString::to_string).collect();
    let loops = tree.loops();
    let of_the_task = tree.files_that_implement("Task");
    fs::remove_dir_all(&folder).expect("ours");
    assert_eq!(
        found,
        [
            "base.rs:1: process",
            "base.rs:1: process::paths",
            "process/mod.rs:4: cli::run",
            "process/paths.rs:1: reuse_machine",
            "supervisor/part.rs:1: supervisor::task::Task"
        ]
    );
    assert_eq!(loops, [["base.rs", "cli.rs", "process/mod.rs", "process/paths.rs"]]);
    assert_eq!(of_the_task, ["supervisor/task.rs", "supervisor/task/more.rs"]);
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// An import that goes up, or aside.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Offence {
    file: String,
    line: usize,
    import: String,
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.import)
    }
}

fn offences(tree: &Tree) -> BTreeSet<Offence> {
    let layer = |folder: &str| LAYERS.iter().position(|layer| layer.contains(&folder));
    let task = TASK.map(String::from);
    let mut offences = BTreeSet::new();
    for (file, module) in &tree.modules {
        let Some(own) = file.path.first() else { continue };
        let height = layer(own).unwrap_or_else(|| panic!("{own} is in no layer: add it to LAYERS"));
        for import in &module.imports {
            let is_allowed = match &import.target {
                Target::Machine => KNOW_THE_MACHINE.contains(&own.as_str()),
                Target::Own(path) if path.starts_with(&task) => file.path.starts_with(&task) || own == "controller",
                Target::Own(path) => match path.first() {
                    Some(other) => own == other || layer(other).is_none_or(|other| other < height),
                    None => true,
                },
            };
            if !is_allowed {
                offences.insert(Offence {
                    file: module.file.clone(),
                    line: import.line,
                    import: import.target.to_string(),
                });
            }
        }
    }
    offences
}

/// A module by its path from the crate's root.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    path: Vec<String>,
}

#[derive(Debug)]
struct Module {
    file: String,
    imports: Vec<Import>,
    /// The types that it has impl blocks for, by their last words.
    implements: BTreeSet<String>,
}

#[derive(Debug)]
struct Import {
    target: Target,
    line: usize,
}

#[derive(Debug)]
enum Target {
    /// From the crate's root.
    Own(Vec<String>),
    Machine,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(path) => f.write_str(&path.join("::")),
            Self::Machine => f.write_str("reuse_machine"),
        }
    }
}

/// The modules that are files and are not compiled for tests only.
#[derive(Debug)]
struct Tree {
    modules: BTreeMap<Name, Module>,
}

impl Tree {
    fn read(root: &Path) -> Self {
        let mut tree = Self {
            modules: BTreeMap::new(),
        };
        tree.add(root, &root.join("lib.rs"), Vec::new());
        tree
    }

    fn add(&mut self, root: &Path, file: &Path, path: Vec<String>) {
        let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let mut reader = Reader {
            module: path.clone(),
            imports: Vec::new(),
            implements: BTreeSet::new(),
            below: Vec::new(),
        };
        reader.visit_file(&parsed);
        let name = file.strip_prefix(root).expect("below the root").display().to_string();
        let folder = match file.file_name().and_then(|name| name.to_str()) {
            Some("lib.rs" | "mod.rs") => file.parent().expect("a folder").to_owned(),
            _ => file.with_extension(""),
        };
        for below in reader.below {
            let flat = folder.join(format!("{below}.rs"));
            let next = if flat.exists() {
                flat
            } else {
                folder.join(&below).join("mod.rs")
            };
            self.add(root, &next, path.iter().cloned().chain([below]).collect());
        }
        let module = Module {
            file: name,
            imports: reader.imports,
            implements: reader.implements,
        };
        self.modules.insert(Name { path }, module);
    }

    /// The file in which what this path names is.
    fn home(&self, path: &[String]) -> Option<&Name> {
        (1..=path.len()).rev().find_map(|length| {
            let path = path[..length].to_vec();
            self.modules.get_key_value(&Name { path }).map(|(name, _)| name)
        })
    }

    /// The files with an impl block for a type of this name, sorted.
    fn files_that_implement(&self, name: &str) -> Vec<String> {
        let modules = self.modules.values().filter(|module| module.implements.contains(name));
        modules.map(|module| module.file.clone()).collect()
    }

    /// Files that import each other, each loop sorted.
    fn loops(&self) -> Vec<Vec<String>> {
        let reach: BTreeMap<&Name, BTreeSet<&Name>> =
            self.modules.keys().map(|name| (name, self.reachable(name))).collect();
        let mut loops = BTreeSet::new();
        for (name, reached) in &reach {
            let members = reached.iter().filter(|other| reach[**other].contains(name));
            let files: BTreeSet<String> = members.map(|member| self.modules[*member].file.clone()).collect();
            if files.len() > 1 {
                loops.insert(files.into_iter().collect::<Vec<_>>());
            }
        }
        loops.into_iter().collect()
    }

    fn reachable(&self, from: &Name) -> BTreeSet<&Name> {
        let mut reached = BTreeSet::new();
        let mut next = vec![from];
        while let Some(name) = next.pop() {
            for import in &self.modules[name].imports {
                let Target::Own(path) = &import.target else { continue };
                let Some(home) = self.home(path) else { continue };
                if home != name && reached.insert(home) {
                    next.push(home);
                }
            }
        }
        reached
    }
}

/// Collects the imports and impl blocks of one file, and the modules that are files below it.
struct Reader {
    /// Where it is, inline modules included.
    module: Vec<String>,
    imports: Vec<Import>,
    implements: BTreeSet<String>,
    below: Vec<String>,
}

impl Reader {
    fn import(&mut self, path: &[String], line: usize) {
        let target = match path.first().map(String::as_str) {
            Some("reuse_machine") => Target::Machine,
            Some("crate") => Target::Own(path[1..].to_vec()),
            Some("super" | "self") => {
                let mut own = self.module.clone();
                let mut rest = path;
                while let Some((first, others)) = rest.split_first() {
                    match first.as_str() {
                        "super" => drop(own.pop()),
                        "self" => {}
                        _ => break,
                    }
                    rest = others;
                }
                own.extend(rest.iter().cloned());
                Target::Own(own)
            }
            _ => return,
        };
        self.imports.push(Import { target, line });
    }

    fn expand(&mut self, tree: &syn::UseTree, before: &[String]) {
        let joined = |ident: &syn::Ident| [before, &[ident.to_string()]].concat();
        let line = |ident: &syn::Ident| ident.span().start().line;
        match tree {
            syn::UseTree::Path(path) => self.expand(&path.tree, &joined(&path.ident)),
            syn::UseTree::Name(name) if name.ident == "self" => self.import(before, line(&name.ident)),
            syn::UseTree::Name(name) => self.import(&joined(&name.ident), line(&name.ident)),
            syn::UseTree::Rename(rename) => self.import(&joined(&rename.ident), line(&rename.ident)),
            syn::UseTree::Glob(glob) => self.import(before, glob.star_token.spans[0].start().line),
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.expand(item, before)),
        }
    }
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
            Some((_, items)) => {
                self.module.push(item.ident.to_string());
                items.iter().for_each(|item| self.visit_item(item));
                self.module.pop();
            }
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !is_for_tests(&item.attrs) {
            self.expand(&item.tree, &[]);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if is_for_tests(&item.attrs) {
            return;
        }
        if let syn::Type::Path(of) = &*item.self_ty
            && let Some(last) = of.path.segments.last()
        {
            self.implements.insert(last.ident.to_string());
        }
        visit::visit_item_impl(self, item);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let words: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if words.len() > 1 {
            let line = path.segments[0].ident.span().start().line;
            self.import(&words, line);
        }
        visit::visit_path(self, path);
    }
}
