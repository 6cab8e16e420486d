//! Standard output, and the common form in which replies are shown.

use std::io::{self, Write as _};

use serde::Serialize;

use crate::{base::Failure, cli::context::Context, wire::Reply};

/// Prints `text` unchanged. A closed pipe (`| head`) is no failure.
///
/// # Errors
/// Fails if the output can't be written for another reason.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    print_bytes(text.as_bytes())
}

/// As [`print`], for data that need not be text.
///
/// # Errors
/// As [`print`].
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::failed(
            format!("write to the standard output: {error}"),
            "is the disk full?",
        )),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Prints a note to standard error: something that the user should know and that is no failure. Errors of writing are ignored.
pub(super) fn note(line: &str) {
    drop(writeln!(io::stderr(), "reuse-ctl: note: {line}"));
}

/// Prints one line of JSON.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let mut line = serde_json::to_string(value).expect("plain data");
    line.push('\n');
    print(&line)
}

/// `{"ok":true,…}` around what is already an object.
#[derive(Serialize)]
pub(crate) struct Okay<T> {
    ok: bool,
    #[serde(flatten)]
    rest: T,
}

impl<T> Okay<T> {
    pub(crate) fn new(rest: T) -> Self {
        Self { ok: true, rest }
    }
}

/// Shows the reply to one request.
pub(crate) fn finish(context: &Context, reply: Reply) -> Result<(), Failure> {
    finish_all(context, vec![reply])
}

/// Shows the replies to several requests as one: success if all succeeded, else the worst exit code.
pub(crate) fn finish_all(context: &Context, replies: Vec<Reply>) -> Result<(), Failure> {
    if !context.json {
        for message in replies.iter().filter_map(|reply| reply.message.as_deref()) {
            print(&format!("{message}\n"))?;
        }
        replies
            .iter()
            .flat_map(|reply| &reply.notes)
            .for_each(|line| note(line));
    }
    let reply = merge(replies);
    match reply.ok {
        true if context.json => print_json(&reply),
        true => Ok(()),
        false => Err(reply.into()),
    }
}

/// One reply that stands for all.
fn merge(replies: Vec<Reply>) -> Reply {
    let mut merged = Reply {
        ok: replies.iter().all(|reply| reply.ok),
        ..Reply::default()
    };
    let (mut messages, mut errors) = (Vec::new(), Vec::new());
    for reply in replies {
        let is_worse = reply.kind.map(|kind| kind.exit_code()) > merged.kind.map(|kind| kind.exit_code());
        if is_worse {
            merged.kind = reply.kind;
        }
        if (is_worse || merged.hint.is_none())
            && let Some(hint) = reply.hint
        {
            (merged.hint, merged.hint_app_at) = (Some(hint), reply.hint_app_at);
        }
        messages.extend(reply.message);
        errors.extend(reply.error);
        merged.notes.extend(reply.notes);
        merged.workers.extend(reply.workers);
        merged.output.extend(reply.output);
        merged.output_of = merged.output_of.or(reply.output_of);
    }
    merged.workers.sort_unstable();
    merged.workers.dedup();
    merged.message = (!messages.is_empty()).then(|| messages.join("; "));
    merged.error = (!errors.is_empty()).then(|| errors.join("; "));
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ErrorKind;

    #[test]
    fn the_worst_reply_decides() {
        let good = Reply {
            ok: true,
            message: Some("worker 1 is drained".into()),
            workers: vec![1],
            ..Reply::default()
        };
        let bad = |kind, text: &str| Reply {
            kind: Some(kind),
            error: Some(text.into()),
            hint: Some(format!("mend {text}")),
            ..Reply::default()
        };
        let merged = merge(vec![
            bad(ErrorKind::Failed, "a"),
            good.clone(),
            bad(ErrorKind::Timeout, "b"),
            bad(ErrorKind::NotFound, "c"),
        ]);
        assert_eq!(merged.kind, Some(ErrorKind::Timeout));
        assert_eq!(merged.error.as_deref(), Some("a; b; c"));
        assert_eq!(merged.hint.as_deref(), Some("mend b"));
        assert_eq!(merged.workers, [1]);
        assert!(!merged.ok);
        assert_eq!(merge(vec![good.clone()]), good);
    }
}
