//! `get ID PATH`: sends one HTTP request to one worker behind the shared port, and prints its answer unchanged.

use serde::Serialize;

use super::{apps, args, output};
use crate::{
    app::words::check_path,
    base::{Failure, Verb, whole_ms::whole_ms},
    cli::context::Context,
    wire::{GetRequest, Got},
};

/// Statuses from this one on are errors.
const FIRST_ERROR: u16 = 400;

pub(super) async fn run(context: &Context, arguments: &args::Get) -> Result<(), Failure> {
    check_path(&arguments.path)?;
    let app = apps::connect(context).await?;
    let request = GetRequest {
        path: arguments.path.clone(),
        addr: arguments.addr,
        timeout_ms: Some(whole_ms(arguments.timeout)),
    };
    let got = app.client.get(arguments.id, &request).await;
    let got = got.map_err(|error| apps::explain(&app.entry, error))?;
    if !context.json {
        output::print_bytes(&got.body)?;
    }
    let failure = failure_of(arguments.id, &got);
    match failure {
        None if context.json => output::print_json(&output::Okay::new(answered(got))),
        None => Ok(()),
        Some(failure) => Err(failure.with_detail(answered(got))),
    }
}

/// The answer of a worker to `get`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Answered {
    /// The HTTP status.
    status: u16,
    /// The content type, if the worker sent one.
    content_type: Option<String>,
    /// The body as text. Invalid UTF-8 is replaced by U+FFFD.
    body: String,
}

fn failure_of(id: u16, got: &Got) -> Option<Failure> {
    (got.status >= FIRST_ERROR).then(|| {
        Failure::failed(
            format!("worker {id} answered {}", got.status),
            Verb::Logs.with(id) + " shows what it has written",
        )
    })
}

fn answered(got: Got) -> Answered {
    Answered {
        status: got.status,
        content_type: got.content_type,
        body: String::from_utf8_lossy(&got.body).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_a_failure_that_still_has_its_answer_in_json() {
        let got = |status| Got {
            status,
            content_type: Some("text/plain".into()),
            body: b"busy\n".to_vec(),
        };
        assert!(
            [200, 204, 302, 399]
                .iter()
                .all(|status| failure_of(2, &got(*status)).is_none())
        );
        let failure = failure_of(2, &got(503))
            .expect("an error")
            .with_detail(answered(got(503)));
        insta::assert_snapshot!(failure.to_text(), @r"
        reuse-ctl: worker 2 answered 503
          → `reuse-ctl logs 2` shows what it has written
        ");
        insta::assert_snapshot!(failure.to_json(), @r#"{"ok":false,"error":"worker 2 answered 503","hint":"`reuse-ctl logs 2` shows what it has written","kind":"failed","status":503,"content_type":"text/plain","body":"busy\n"}"#);
        assert_eq!(
            serde_json::to_value(output::Okay::new(answered(got(200)))).expect("plain data"),
            serde_json::json!({"ok": true, "status": 200, "content_type": "text/plain", "body": "busy\n"})
        );
    }
}
