use super::*;

fn own(text: &str) -> TerminalLine {
    TerminalLine::Own(text.to_owned())
}

fn workers(bytes: usize) -> TerminalLine {
    TerminalLine::Workers("x".repeat(bytes - OVERHEAD_BYTES))
}

fn text(entry: Option<Entry>) -> String {
    match entry {
        Some(Entry::Line(TerminalLine::Own(text))) => text,
        Some(Entry::Line(TerminalLine::Workers(text))) => format!("{} bytes", text.len() + OVERHEAD_BYTES),
        Some(Entry::Lost(lost)) => format!("{lost} lost"),
        None => "nothing".to_owned(),
    }
}

#[test]
fn what_does_not_fit_is_counted_in_its_place_and_the_controller_has_room_of_its_own() {
    const TENTH: usize = MAX_WORKERS_BYTES / 10;
    let mut queue = Queue::default();
    for _ in 0..15 {
        queue.put(workers(TENTH));
    }
    queue.put(own("the controller's"));
    queue.put(workers(TENTH));
    for _ in 0..10 {
        assert_eq!(text(queue.take()), format!("{TENTH} bytes"));
    }
    // There is room again, after the dropped lines.
    queue.put(workers(TENTH));
    let rest: Vec<String> = std::iter::from_fn(|| queue.take())
        .map(|entry| text(Some(entry)))
        .collect();
    let expected = ["5 lost", "the controller's", "1 lost", &format!("{TENTH} bytes")];
    assert_eq!(rest, expected);
    assert_eq!(queue.bytes, 0);
}

#[test]
fn not_every_second_line_is_lost_while_the_terminal_is_slow() {
    const TENTH: usize = MAX_WORKERS_BYTES / 10;
    let mut queue = Queue::default();
    for _ in 0..100 {
        queue.put(workers(TENTH));
        queue.put(workers(TENTH));
        queue.take();
    }
    let gaps = queue
        .waiting
        .iter()
        .filter(|entry| matches!(entry, Entry::Lost(_)))
        .count();
    assert!(gaps <= 2, "{gaps} gaps in {} entries", queue.waiting.len());
}

#[test]
fn whatever_is_put_there_the_queue_is_bounded() {
    let mut queue = Queue::default();
    for _ in 0..100_000 {
        queue.put(own(""));
        queue.put(workers(1 << 16));
    }
    assert!(queue.bytes <= MAX_WAITING_BYTES);
    assert!(queue.waiting.len() <= 2 * MAX_WAITING_BYTES / OVERHEAD_BYTES);
}

#[test]
fn who_has_a_line_does_not_wait_and_who_waits_does_so_until_it_is_written() {
    let lines = TerminalLines::new();
    lines.clone().write_all(b"diagnostics\n").expect("it takes everything");
    lines.wait_until_written(Duration::from_millis(1));
    let reader = lines.clone();
    let written = std::thread::spawn(move || std::iter::from_fn(|| reader.next()).map(Some).map(text).collect());
    lines.put(own("the last"));
    lines.finish();
    lines.wait_until_written(Duration::from_secs(60));
    assert!(lines.queue().waiting.is_empty());
    let written: Vec<String> = written.join().expect("no panic");
    assert_eq!(written, ["diagnostics", "the last"]);
}

/// Runs in its own process, because the panic hook is shared by all threads.
#[test]
fn a_panic_is_said_behind_all_that_was_said_before() {
    const CHILD: &str = "REUSE_TEST_PANICS";
    const NAME: &str = "supervisor::terminal::tests::a_panic_is_said_behind_all_that_was_said_before";
    if std::env::var_os(CHILD).is_some() {
        let terminal = Terminal::start().expect("a thread");
        show_panics(terminal.lines());
        (0..1000).for_each(|number| terminal.lines().put(own(&format!("line {number}"))));
        panic!("as it should");
    }
    let child = std::process::Command::new(std::env::current_exe().expect("this one"))
        .args(["--exact", NAME, "--nocapture"])
        .env(CHILD, "1")
        .output()
        .expect("it runs");
    assert!(!child.status.success());
    let said = String::from_utf8_lossy(&child.stderr);
    let lines: Vec<&str> = said.lines().filter(|line| !line.is_empty()).collect();
    let begin = lines.iter().position(|line| *line == "line 0").expect("it is said");
    assert_eq!(lines[begin + 999], "line 999", "{said}");
    assert!(lines[begin + 1000].contains("panicked at"), "{said}");
    assert_eq!(lines[begin + 1001], "as it should");
}
