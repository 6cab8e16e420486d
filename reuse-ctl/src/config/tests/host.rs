//! Requirements that the host does not meet.

use super::Folder;
use crate::{app::requirements::Extent, config::Loaded};

/// Errors about missing requirements, as in `run -f` and `check`.
fn complaints(folder: &Folder, text: &str, extent: Extent) -> String {
    let loaded = Loaded::read(&folder.file("reuse.toml", text), None).expect("right in itself");
    let failure = loaded.judge(|_| Some(extent), &[]).expect_err("something is missing");
    folder.said(&failure)
}

#[test]
fn everything_that_the_machine_lacks_is_found_at_once() {
    let folder = Folder::new();
    folder.file("line.env", "PORT=1\nbad line\n");
    folder.file("plain", "#!/bin/sh\n");
    let text = "[[app]]\nname = 'a'\ncommand = 'no-such-command-anywhere --x'\nenv_file = 'line.env'\nuser = 'no-such-user'\n\
                control_group = 'no-such-group'\n\
                [[app]]\nname = 'b'\ncommand = ['./missing', 'x']\nwatch = ['.', 'src']\nuser = 4000000\n\
                [[app]]\nname = 'c'\ncommand = './plain'\nworkers = 3\nport_step = 10000\nenv = { PORT = 60000 }\n\
                [[app]]\nname = 'd'\ncommand = 'sh'\ncwd = 'nowhere'\n\
                [[app]]\nname = 'e'\ncommand = '.'\n";
    let text = text.replace("command = '.'", "command = './.'");
    let said = complaints(&folder, &text, Extent::Start);
    // The PATH of the test's user is removed from the snapshot.
    let said: Vec<&str> = said
        .lines()
        .map(|line| line.split("; looked in").next().expect("one"))
        .collect();
    insta::assert_snapshot!("everything_that_the_machine_lacks_is_found_at_once", said.join("\n"));
    // A running controller has another PATH, and another PORT.
    let said = complaints(&folder, &text, Extent::Change);
    for words in ["no-such-command-anywhere", "65535"] {
        assert!(!said.contains(words), "{said}");
    }
    for words in [
        "no-such-user",
        "no-such-group",
        "src",
        "missing",
        "plain",
        "nowhere",
        "line 2",
    ] {
        assert!(said.contains(words), "{words} is missing in {said}");
    }
}

#[test]
fn what_is_said_elsewhere_is_not_judged_here() {
    let folder = Folder::new();
    let text = "command = 'no-such-command-anywhere'\nuser = 'no-such-user'\nwatch = 'missing'\n";
    let loaded = Loaded::read(&folder.file("reuse.toml", text), None).expect("right in itself");
    let judge = |elsewhere: &[&str]| {
        let elsewhere: Vec<String> = elsewhere.iter().map(|long| (*long).to_owned()).collect();
        let judged = loaded.judge(|_| Some(Extent::Start), &elsewhere);
        judged
            .err()
            .map_or(0, |failure| failure.to_text().matches("reuse-ctl: ").count())
    };
    assert_eq!(judge(&[]), 3);
    assert_eq!(judge(&["name", "user"]), 2);
    assert_eq!(judge(&["cwd", "watch"]), 1);
    assert_eq!(judge(&["cwd", "user", "watch"]), 0);
    assert!(loaded.judge(|_| None, &[]).is_ok());
}
