use std::fs::{self, File};
use std::io::Write as _;

use super::{shown::History, *};
use crate::{
    cli::terminal::Paint,
    process::logs::{KeptLog, Limits, Merged},
    server::fake::Folder,
};

const ALL: Wanted = Wanted {
    id: None,
    stream: None,
    lines: None,
    since_ms: 0,
};

const TEXT: Shown = Shown {
    app: "shop",
    several: true,
    mark_err: true,
    timestamps: false,
    json: false,
    paint: Paint::OFF,
};

fn lines(logs: &mut [Written]) -> Vec<(u16, &'static str, String)> {
    let mut all = Vec::new();
    for log in logs {
        let key = log.key;
        all.extend(
            log.lines()
                .expect("readable")
                .into_iter()
                .map(|(_, line)| (key.0, key.1.as_str(), line)),
        );
    }
    all
}

#[test]
fn logs_of_both_streams_grow() {
    let folder = Folder::new("logs");
    for (name, text) in [
        ("worker-0.log", "a\nb\nc\nhal"),
        ("worker-0.err.log", "e\n"),
        ("worker-10.log", "x\n"),
        ("controller.log", "no\n"),
        ("worker-0.times", "no\n"),
        ("worker-0.log.1", ""),
    ] {
        fs::write(folder.0.join(name), text).expect("ours");
    }
    let logs = ALL.logs_in(&folder.0).expect("readable");
    assert_eq!(logs.len(), 3);
    let mut written = ALL.written(&logs).expect("readable");
    let expected = [
        (0, "out", "a"),
        (0, "out", "b"),
        (0, "out", "c"),
        (0, "err", "e"),
        (10, "out", "x"),
    ];
    assert_eq!(
        lines(&mut written),
        expected.map(|(id, stream, line)| (id, stream, line.to_owned()))
    );
    assert_eq!(lines(&mut written), []);
    let mut log = File::options()
        .append(true)
        .open(folder.0.join("worker-0.log"))
        .expect("ours");
    log.write_all(b"f\nmore\n").expect("ours");
    assert_eq!(lines(&mut written), [], "what came later is for those who follow");
    for log in &mut written {
        log.up_to(u64::MAX);
    }
    let expected = [(0, "out", "half"), (0, "out", "more")];
    assert_eq!(
        lines(&mut written),
        expected.map(|(id, stream, line)| (id, stream, line.to_owned()))
    );
}

#[test]
fn one_worker_or_stream_only() {
    let folder = Folder::new("logs-one");
    for name in ["worker-1.log", "worker-2.log", "worker-2.err.log"] {
        fs::write(folder.0.join(name), "a\n").expect("ours");
    }
    let keys = |id, stream| {
        let wanted = Wanted { id, stream, ..ALL };
        let logs = wanted.logs_in(&folder.0).expect("readable");
        logs.into_keys().collect::<Vec<_>>()
    };
    assert_eq!(keys(Some(2), None), [(2, Stream::Out), (2, Stream::Err)]);
    assert_eq!(keys(None, Some(Stream::Out)), [(1, Stream::Out), (2, Stream::Out)]);
    assert!(ALL.logs_in(&folder.0.join("none")).expect("none is fine").is_empty());
}

#[test]
fn they_are_merged_in_the_order_of_time() {
    let folder = Folder::new("logs-merged");
    let limits = Limits {
        max_bytes: 1 << 20,
        keep: 1,
    };
    for (ms, name, line) in [
        (1_000, "worker-0.log", "first\n"),
        (2_000, "worker-1.log", "second\n"),
        (2_000, "worker-0.err.log", "also second\n"),
        (3_000, "worker-0.log", "third\n"),
        (4_000, "worker-0.err.log", "last\n"),
    ] {
        let path = folder.0.join(name);
        let mut log = File::options().append(true).create(true).open(&path).expect("ours");
        log.write_all(line.as_bytes()).expect("ours");
        log.set_modified(UNIX_EPOCH + Duration::from_millis(ms)).expect("ours");
        KeptLog::new(path, limits).look().expect("marked");
    }
    let shown = |lines, since_ms| {
        let wanted = Wanted { lines, since_ms, ..ALL };
        let written = wanted
            .written(&wanted.logs_in(&folder.0).expect("readable"))
            .expect("readable");
        let (mut text, mut written) = (String::new(), written);
        let keys: Vec<Key> = written.iter().map(|log| log.key).collect();
        let sources = written.iter_mut().map(|log| History { log, with_rest: true });
        let mut merged = Merged::new(sources.collect());
        while let Some((at_ms, log, line)) = merged.next_item().expect("readable") {
            TEXT.add(&mut text, at_ms, keys[log], &line);
        }
        text
    };
    assert_eq!(
        shown(None, 0),
        "0| first\n0! also second\n1| second\n0| third\n0! last\n"
    );
    assert_eq!(shown(Some(2), 0), "1| second\n0| third\n0! last\n");
    assert_eq!(shown(None, 2_001), "0| third\n0! last\n");
    assert_eq!(shown(Some(1), 1_500), "1| second\n0! last\n");

    let mut json = String::new();
    let as_json = Shown { json: true, ..TEXT };
    as_json.add(&mut json, 1_700_000_000_123, (3, Stream::Err), "say \"hi\"");
    let expected = r#"{"at":"2023-11-14T22:13:20.123Z","app":"shop","worker":3,"stream":"err","line":"say \"hi\""}"#;
    assert_eq!(json, format!("{expected}\n"));
}
