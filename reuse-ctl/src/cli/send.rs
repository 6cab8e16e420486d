//! `send ID|all MESSAGE`: sends a message over the workers' IPC channel.

use std::io::Read as _;

use serde_json::value::RawValue;

use super::{apps, args, output, progress::Request};
use crate::{
    base::Failure,
    cli::context::Context,
    process::channel::MAX_LINE_BYTES,
    wire::{SendRequest, commands},
};

pub(super) async fn run(context: &Context, arguments: &args::Send) -> Result<(), Failure> {
    let message = match arguments.message.as_str() {
        "-" => from_input()?,
        given => given.to_owned(),
    };
    let request = SendRequest {
        message: json_of(message, arguments.text)?,
        topic: arguments.topic.clone(),
    };
    commands::outgoing(request.message.get(), request.topic.as_deref())?;
    let app = apps::connect(context).await?;
    let path = match arguments.to {
        args::Recipient::All => "/v1/send".into(),
        args::Recipient::Worker(id) => format!("/v1/workers/{id}/send"),
    };
    output::finish(context, Request::post(path, request).send(&app).await?)
}

/// Reads no more than is needed to see that the message is too long.
fn from_input() -> Result<String, Failure> {
    let mut text = String::new();
    let limit = u64::try_from(MAX_LINE_BYTES).unwrap_or(u64::MAX).saturating_add(2);
    std::io::stdin()
        .take(limit)
        .read_to_string(&mut text)
        .map_err(|error| Failure::failed(format!("read the standard input: {error}"), "a message is text"))?;
    // Output of shell commands ends with a newline.
    let end = text.strip_suffix('\n').map_or(text.len(), str::len);
    text.truncate(end);
    Ok(text)
}

fn json_of(message: String, is_text: bool) -> Result<Box<RawValue>, Failure> {
    let json = if is_text {
        serde_json::to_string(&message).expect("text")
    } else {
        message
    };
    RawValue::from_string(json).map_err(|error| {
        Failure::usage(
            format!("the message is not JSON: {error}"),
            "use `--text` to send a text as it is",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_json_only_if_it_is_said_to_be_none() {
        let json = |message: &str, is_text| json_of(message.into(), is_text).map(|json| json.get().to_owned());
        assert_eq!(json(r#"{"a": 1}"#, false).as_deref(), Ok(r#"{"a": 1}"#));
        assert_eq!(json("hello", true).as_deref(), Ok("\"hello\""));
        assert_eq!(json("{\"a\":1}\n", true).as_deref(), Ok(r#""{\"a\":1}\n""#));
        let failure = json("hello", false).expect_err("no JSON");
        insta::assert_snapshot!(failure.to_text(), @r"
        reuse-ctl: the message is not JSON: expected value at line 1 column 1
          → use `--text` to send a text as it is
        ");
    }
}
