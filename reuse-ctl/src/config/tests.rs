//! Files with mistakes, and the texts of the errors; below, files without.

mod any_keys;
mod host;
mod right;

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::base::ErrorKind;

/// A folder of one test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("reuse-ctl-config-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("temp dir");
        Self(path)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).expect("write");
        path
    }

    fn load(&self, text: &str) -> Result<Vec<NamedSpec>, Failure> {
        load(&self.file("reuse.toml", text), None)
    }

    /// The error text as users see it, without the folder.
    fn complaint(&self, text: impl AsRef<[u8]>) -> String {
        let failure = load(&self.file("reuse.toml", text), None).expect_err("wrong");
        self.said(&failure)
    }

    fn said(&self, failure: &Failure) -> String {
        assert_eq!(failure.kind, ErrorKind::Usage, "{failure:?}");
        let text = failure.to_text().replace(&format!("{}/", self.0.display()), "");
        text.replace(&self.0.display().to_string(), "FOLDER")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn words(text: &str) -> Vec<OsString> {
    text.split(' ').map(OsString::from).collect()
}

#[test]
fn unknown_keys_and_wrong_values_are_shown_at_their_place() {
    let folder = Folder::new();
    insta::assert_snapshot!("unknown_keys_and_wrong_values_are_shown_at_their_place", folder.complaint(
        "name = 'web'\ncommand = 'node x'\nworker = 4\nmax-memory = '1G'\nworkers = 0\n\
         sticky_prefix4 = 33 # bits\ndrain_timeout = 30\nwhen_empty = 'wait'\nport = [80, 'http', 70000]\nlisten = '80'\n\
         policy = true\nstop_message = 'yes'\nmax_age = 1979-05-27\npolicies = 'x'\nzzz = 1\nmax_memory = 'much'\nhealth = 'up'\n\
         name2 = { a = 1 }\ncpu_limit = -1\n"
    ));
}

#[test]
fn mistakes_in_the_grammar() {
    let folder = Folder::new();
    let said: Vec<String> = [
        "command = 'x\nworkers = 2\n",
        "command = x\n",
        "workers = 1\nworkers = 2\ncommand = 'x'\n",
        "[env\nA = 1\n",
        "command = 'x'\n[env]\nA = 1\n[env]\nB = 2\n",
        "= 3",
        "a = 1 b = 2",
        "\u{1b}[31m",
        "日本 = 'x",
    ]
    .iter()
    .map(|text| folder.complaint(text))
    .collect();
    insta::assert_snapshot!("mistakes_in_the_grammar", said.join("\n"));
}

#[test]
fn apps_that_are_in_each_others_way() {
    let folder = Folder::new();
    insta::assert_snapshot!(
        "apps_that_are_in_each_others_way",
        folder.complaint(
            "[[app]]\nname = 'web'\ncommand = 'node x'\nport = 80\n\
         [[app]]\nname = 'web'\ncommand = 'node y'\nport = 81\n\
         [[app]]\ncommand = 'node z'\nlisten = ['127.0.0.1:81', '127.0.0.1:82']\n\
         [[app]]\nname = 'last'\ncommand = 'node z'\nlisten = '0.0.0.0:82'\nport = [90, 80]\n"
        )
    );
}

#[test]
fn apps_that_are_told_one_port_by_their_environment() {
    let folder = Folder::new();
    folder.file("port.env", "PORT=3002\n");
    let two = |web: &str, api: &str| {
        format!("[[app]]\nname = 'web'\ncommand = 'node x'\n{web}\n[[app]]\nname = 'api'\ncommand = 'node y'\n{api}\n")
    };
    let said: Vec<String> = [
        ("env = { PORT = 3000 }", "env = { PORT = '3000' }"),
        // Each worker has its own port, and one of them is another app's.
        (
            "workers = 4\nport_step = 1\nenv = { PORT = 3000 }",
            "env_file = 'port.env'",
        ),
        ("increment_var = 'PORT=3001'\nworkers = 2", "env_file = 'port.env'"),
        ("listen = '127.0.0.1:3000'", "env = { PORT = 3000 }"),
        ("env = { PORT = 3000 }", "port = [80, 3000]"),
    ]
    .iter()
    .map(|(web, api)| folder.complaint(two(web, api)))
    .collect();
    insta::assert_snapshot!("apps_that_are_told_one_port_by_their_environment", said.join("\n"));
    for (web, api) in [
        ("env = { PORT = 3000 }", "env = { PORT = 3001 }"),
        ("port = 80\nenv = { PORT = 3000 }", "port = 81\nenv = { PORT = 3000 }"),
        (
            "workers = 2\nport_step = 1\nenv = { PORT = 3000 }",
            "env_file = 'port.env'",
        ),
        ("env = { PORT = 0 }", "env = { PORT = 0 }"),
        ("env = { PORT = 'http' }", "env = { PORT = 'http' }"),
    ] {
        folder
            .load(&two(web, api))
            .unwrap_or_else(|failure| panic!("{web}, {api}: {failure:?}"));
    }
    // In one environment only.
    let text = two(
        "env = { PORT = 3000, production = { PORT = 80 } }",
        "env = { PORT = 3001, production = { PORT = 80 } }",
    );
    folder.load(&text).expect("right");
    let failure = load(&folder.0.join("reuse.toml"), Some("production")).expect_err("both have 80");
    assert!(
        folder.said(&failure).starts_with("reuse-ctl: reuse.toml:8:"),
        "{failure:?}"
    );
}

#[test]
fn tables_that_are_none() {
    let folder = Folder::new();
    let said: Vec<String> = [
        "",
        "\n\n# nothing\n",
        "workers = 2\n[[app]]\nname = 'a'\ncommand = 'x'\n",
        "app = []\n",
        "[app]\ncommand = 'x'\n",
        "app = ['x']\n",
        "app = 'x'\n",
        "command = 'x'\nenv = 'A=1'\n",
        "command = 'x'\n[env]\n'' = 1\n'A=B' = 2\nC = [1]\nD = 1979-05-27\n[env.production.deeper]\nE = 1\n",
        "command = 5\n",
        "command = ['node', 5]\n",
        "command = 'a && b'\n",
        "command = ''\n",
        "command = \"a\\u0000b\"\n",
        "command = 'x'\nname = \"a\\u0000b\"\n",
        "command = 'x'\nwatch_ignore = '*.log'\n",
        "command = 'x'\nhealth = 'tcp'\nhealth_interval = '1ms'\n",
        "command = '/'\n",
        "[[app]]\nname = 'a/b'\ncommand = 'x'\n[[app]]\nname = 'b'\ncommand = 'y'\n",
    ]
    .iter()
    .map(|text| folder.complaint(text))
    .collect();
    insta::assert_snapshot!("tables_that_are_none", said.join("\n"));
}

#[test]
fn files_that_are_none() {
    let folder = Folder::new();
    let mut said = vec![
        folder.complaint(b"command = 'node x'\nname = 'caf\xe9'\n"),
        folder.complaint(b"\xff\xfe\x00"),
        folder.complaint(vec![b'#'; (1 << 20) + 1]),
    ];
    let sparse = fs::File::create(folder.0.join("large")).expect("create");
    sparse.set_len(100 << 20).expect("a sparse file");
    symlink("round", folder.0.join("about")).expect("link");
    symlink("about", folder.0.join("round")).expect("link");
    for name in ["large", "missing", "round", ".", "missing/reuse.toml"] {
        let path = folder.0.join(name);
        said.push(folder.said(&load(&path, None).expect_err(name)));
    }
    let pipe = folder.0.join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).expect("mkfifo");
    said.push(folder.said(&load(&pipe, None).expect_err("a pipe")));
    insta::assert_snapshot!("files_that_are_none", said.join("\n"));
}

#[test]
fn other_files_that_an_app_needs() {
    let folder = Folder::new();
    symlink("b.env", folder.0.join("a.env")).expect("link");
    symlink("a.env", folder.0.join("b.env")).expect("link");
    folder.file("latin.env", b"A=1\nB=caf\xe9\n");
    folder.file("line.env", "PORT=1\nbad line\n");
    folder.file("good.env", "A=1\n");
    insta::assert_snapshot!(
        "other_files_that_an_app_needs",
        folder.complaint(
            "command = 'x'\nenv_file = ['good.env', 'a.env', 'missing.env', 'latin.env', 'line.env', '.']\ncwd = 'nowhere'\n"
        )
    );
    assert!(
        folder
            .complaint("command = 'x'\nenv_file = ''\n")
            .contains("`env_file` is empty")
    );
}

#[test]
fn a_file_full_of_errors_is_not_shown_whole() {
    let folder = Folder::new();
    let text: String = (0..5000).map(|number| format!("key{number} = 1\n")).collect();
    let said = folder.complaint(text);
    assert_eq!(said.matches("reuse-ctl: ").count(), 20);
    assert!(said.ends_with("and 4981 more\n"), "{said}");
    let said = folder.complaint(format!("command = 'x'\nport = [{}]\n", "1,".repeat(1001)));
    assert!(said.contains("`port` has 1001 values"), "{said}");
    let said = folder.complaint("[[app]]\n".repeat(1001));
    assert!(said.contains("there are 1001 apps"), "{said}");
}

#[test]
fn numbers_that_can_not_be_meant() {
    let folder = Folder::new();
    insta::assert_snapshot!("numbers_that_can_not_be_meant", folder.complaint(
        "command = 'x'\nmax_memory = 300\nmemory_limit = '300K'\nlog_size = '10'\nready_timeout = '0s'\nmax_age = '5ms'\nname = 5\n\
         env_file = [1]\n"
    ));
}

#[test]
fn errors_are_data_for_scripts() {
    let folder = Folder::new();
    let failure = load(&folder.file("reuse.toml", "command = 'x'\nworker = 1\n"), None).expect_err("wrong");
    let json = failure.to_json().replace(&format!("{}/", folder.0.display()), "");
    insta::assert_snapshot!("errors_are_data_for_scripts", json);
}
