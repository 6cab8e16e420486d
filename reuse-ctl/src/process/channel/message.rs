//! Reads and writes the lines of a channel: Node's IPC in its JSON mode, and PM2's packets.
//!
//! Lines are never parsed into a tree: for 16 MiB of small numbers the tree would take 256 MiB.

use std::{borrow::Cow, fmt};

use hyper::body::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{MAX_LINE_BYTES, SizeInBytes};

/// The message that asks a worker to stop (`--stop-message`), in PM2's form.
pub const SHUTDOWN: &str = "\"shutdown\"";

/// The message by which a worker says that it is ready.
const READY: &str = "ready";

/// The type of PM2's packet from one worker to another.
const PACKET: &str = "process:msg";

/// Node's internal messages have a `cmd` with this prefix. Node crashes on an internal message that it doesn't expect.
const INTERNAL: &str = "NODE_";

/// Maximum nesting depth. Bun ignores its channel after a line with 200,000 levels, Python refuses 1,000.
const MAX_DEPTH: usize = 512;

/// The longest name of a worker's own event, in bytes.
const MAX_EVENT_BYTES: usize = 256;

/// Prefix of the controller's own events on the bus. Workers can't use it.
pub const OWN_EVENTS: &str = "reuse:";

/// What a worker's line means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning<'a> {
    /// An internal message of Node.
    Internal,
    /// `"ready"`.
    Ready,
    /// `{type: "process:msg", id, …}`, to be passed on unchanged.
    To(Addressee),
    /// `{type, data}`: an event for subscribers of the bus.
    Event {
        /// The event's name, without control characters.
        name: Cow<'a, str>,
        /// JSON.
        data: &'a str,
    },
    /// Anything else.
    Other,
}

/// The recipients of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Addressee {
    /// All other workers.
    All,
    /// The worker in this slot.
    Slot(u16),
    /// Not a slot number.
    Nobody(String),
}

/// Why a line can't be sent to a worker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsendable {
    /// The line is not JSON. It would crash Node, and make Bun close its channel.
    #[error("it is not JSON: {0}")]
    NotJson(String),
    /// The values are nested too deeply (more than 512 levels).
    #[error("more than {MAX_DEPTH} values lie within one another")]
    TooDeep,
    /// See [`MAX_LINE_BYTES`].
    #[error("it is longer than 16 MiB")]
    TooLong,
    /// The line is an internal message of Node.
    #[error("a `cmd` that begins with {INTERNAL} is Node's own")]
    Internal,
}

impl SizeInBytes for Bytes {
    fn bytes(&self) -> usize {
        self.len()
    }
}

/// The meaning of a line (without its newline).
///
/// # Errors
/// Fails if the line is not JSON, or too deeply nested to be passed on.
pub fn meaning(line: &[u8]) -> Result<Meaning<'_>, Unsendable> {
    let text = std::str::from_utf8(line).map_err(|error| Unsendable::NotJson(error.to_string()))?;
    let not_json = |error: serde_json::Error| Unsendable::NotJson(error.to_string());
    if depth(line) > MAX_DEPTH {
        // Such a line is refused in any case, so it isn't checked for JSON.
        return Err(Unsendable::TooDeep);
    }
    match text.trim_ascii_start().as_bytes().first() {
        Some(b'{') => Ok(serde_json::from_str::<Fields<'_>>(text).map_err(not_json)?.meaning()),
        Some(b'"') => {
            // Its escapes may stand for invalid Unicode (half a surrogate pair). That is still JSON, and certainly not "ready".
            serde_json::from_str::<&RawValue>(text).map_err(not_json)?;
            let is_ready = serde_json::from_str::<Cow<'_, str>>(text).is_ok_and(|text| text == READY);
            Ok(if is_ready { Meaning::Ready } else { Meaning::Other })
        }
        _ => {
            serde_json::from_str::<IgnoredAny>(text).map_err(not_json)?;
            Ok(Meaning::Other)
        }
    }
}

/// A line that can be sent: one JSON value and the newline. Newlines between its parts become spaces; strings can't contain any.
///
/// # Errors
/// See [`Unsendable`].
pub fn line_of(json: &str) -> Result<Bytes, Unsendable> {
    if json.len() > MAX_LINE_BYTES {
        return Err(Unsendable::TooLong);
    }
    if meaning(json.as_bytes())? == Meaning::Internal {
        return Err(Unsendable::Internal);
    }
    let mut line: Vec<u8> = json.bytes().map(without_newline).collect();
    line.push(b'\n');
    Ok(line.into())
}

/// A checked message that can be sent to any worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outgoing {
    /// The same line for all workers.
    Line(Bytes),
    /// PM2's packet, which contains the slot of the worker that gets it.
    Packet {
        /// The packet's topic.
        topic: String,
        /// JSON on one line.
        data: String,
    },
}

impl Outgoing {
    /// The message `json` as it is, or as the data of a packet about `topic`.
    ///
    /// # Errors
    /// See [`Unsendable`].
    pub fn new(json: &str, topic: Option<&str>) -> Result<Self, Unsendable> {
        let Some(topic) = topic else {
            return line_of(json).map(Self::Line);
        };
        // Checked by itself first: `1,"id":2` is not one value.
        serde_json::from_str::<IgnoredAny>(json).map_err(|error| Unsendable::NotJson(error.to_string()))?;
        line_of(&packet(u16::MAX, topic, json))?;
        Ok(Self::Packet {
            topic: topic.into(),
            data: on_one_line(json).into_owned(),
        })
    }

    /// The line for the worker of this slot.
    pub fn line(&self, slot: u16) -> Bytes {
        match self {
            Self::Line(line) => line.clone(),
            Self::Packet { topic, data } => (packet(slot, topic, data) + "\n").into(),
        }
    }
}

/// PM2's packet for one worker.
fn packet(slot: u16, topic: &str, data: &str) -> String {
    let topic = serde_json::to_string(topic).expect("text");
    format!(r#"{{"id":{slot},"type":"{PACKET}","topic":{topic},"data":{data}}}"#)
}

/// Replaces newlines and other control characters in JSON by spaces. They can only stand between its parts: within strings they are not
/// JSON.
pub fn on_one_line(json: &str) -> Cow<'_, str> {
    if json.bytes().any(|byte| byte != without_newline(byte)) {
        Cow::Owned(json.replace(['\n', '\r'], " "))
    } else {
        Cow::Borrowed(json)
    }
}

fn without_newline(byte: u8) -> u8 {
    if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }
}

/// The nesting depth of a line, provided that it is JSON.
fn depth(line: &[u8]) -> usize {
    let (mut deep, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in line {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                deep += 1;
                deepest = deepest.max(deep);
            }
            b']' | b'}' => deep = deep.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// The fields of an object that decide what is done with it. If a name occurs several times the last one counts, as in JavaScript.
#[derive(Default)]
struct Fields<'a> {
    cmd: Option<&'a RawValue>,
    kind: Option<&'a RawValue>,
    id: Option<&'a RawValue>,
    data: Option<&'a RawValue>,
}

impl<'a> Fields<'a> {
    fn meaning(self) -> Meaning<'a> {
        if self.cmd.and_then(text_of).is_some_and(|cmd| cmd.starts_with(INTERNAL)) {
            return Meaning::Internal;
        }
        let kind = self.kind.and_then(text_of);
        let id = self.id.filter(|id| id.get() != "null");
        match (kind, id, self.data) {
            (Some(kind), Some(id), _) if kind == PACKET => Meaning::To(addressee(id)),
            (Some(name), _, Some(data)) if is_event_name(&name) => Meaning::Event { name, data: data.get() },
            _ => Meaning::Other,
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Fields::default();
                while let Some(key) = map.next_key::<Name<'de>>()? {
                    let place = match &*key.0 {
                        "cmd" => &mut fields.cmd,
                        "type" => &mut fields.kind,
                        "id" => &mut fields.id,
                        "data" => &mut fields.data,
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    *place = Some(map.next_value()?);
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// A field's name, copied only if it has escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

fn text_of(value: &RawValue) -> Option<Cow<'_, str>> {
    let text: Name<'_> = serde_json::from_str(value.get()).ok()?;
    Some(text.0)
}

/// The slot may also be written as a string, as in PM2's own examples.
fn addressee(id: &RawValue) -> Addressee {
    let text = text_of(id).unwrap_or(Cow::Borrowed(id.get()));
    match &*text {
        "all" => Addressee::All,
        number => number
            .parse()
            .map_or_else(|_| Addressee::Nobody(shortened(number)), Addressee::Slot),
    }
}

/// Enough of a text to recognise it, on one line.
pub fn shortened(text: &str) -> String {
    /// Number of characters.
    const SHOWN: usize = 60;
    let mut short: String = text
        .chars()
        .take(SHOWN)
        .map(|char| if char.is_control() { '\u{fffd}' } else { char })
        .collect();
    if text.chars().nth(SHOWN).is_some() {
        short.push('…');
    }
    short
}

fn is_event_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_EVENT_BYTES
        && !name.contains(char::is_control)
        && !name.starts_with(OWN_EVENTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event<'a>(name: &'a str, data: &'a str) -> Meaning<'a> {
        Meaning::Event {
            name: name.into(),
            data,
        }
    }

    fn to(slot: u16) -> Meaning<'static> {
        Meaning::To(Addressee::Slot(slot))
    }

    #[test]
    fn what_lines_say() {
        for (line, expected) in [
            (r#""ready""#, Meaning::Ready),
            (r#" "\u0072eady" "#, Meaning::Ready),
            (r#""ready?""#, Meaning::Other),
            (r#""\ud800""#, Meaning::Other),
            ("1", Meaning::Other),
            ("null", Meaning::Other),
            ("[\"ready\"]", Meaning::Other),
            ("1e999", Meaning::Other),
            (r#"{"type":"chat","data":{"a":[1]}}"#, event("chat", r#"{"a":[1]}"#)),
            (r#"{"data":1,"type":"a","type":"b","id":9}"#, event("b", "1")),
            (r#"{"type":"reuse:warning","data":1}"#, Meaning::Other),
            (r#"{"type":"process:msg","data":1}"#, event("process:msg", "1")),
            (
                r#"{"type":"process:msg","data":1,"id":null}"#,
                event("process:msg", "1"),
            ),
            (r#"{"type":"a\nb","data":1}"#, Meaning::Other),
            (r#"{"type":"chat"}"#, Meaning::Other),
            (r#"{"type":1,"data":1}"#, Meaning::Other),
            (r#"{"type":"process:msg","id":3}"#, to(3)),
            (r#"{"type":"process:msg","id":"3","topic":"t"}"#, to(3)),
            (r#"{"type":"process:msg","id":"all"}"#, Meaning::To(Addressee::All)),
            (
                r#"{"type":"process:msg","id":-1}"#,
                Meaning::To(Addressee::Nobody("-1".into())),
            ),
            (
                r#"{"type":"process:msg","id":{"a":1}}"#,
                Meaning::To(Addressee::Nobody(r#"{"a":1}"#.into())),
            ),
            (r#"{"cmd":"NODE_HANDLE_ACK"}"#, Meaning::Internal),
            (r#"{"\u0063md":"N\u004fDE_"}"#, Meaning::Internal),
            (
                r#"{"cmd":"x","cmd":"NODE_X","type":"process:msg","id":1}"#,
                Meaning::Internal,
            ),
            (r#"{"cmd":["NODE_X"]}"#, Meaning::Other),
            (r#"{"a":{"cmd":"NODE_X"}}"#, Meaning::Other),
        ] {
            assert_eq!(meaning(line.as_bytes()), Ok(expected), "{line}");
        }
    }

    #[test]
    fn what_is_no_json_is_told() {
        for line in [
            "",
            " ",
            "hello",
            "{",
            "{'a':1}",
            "\"a",
            "1 2",
            "{\"a\":1}x",
            "\u{feff}1",
            "NaN",
            "[1,]",
            "\"\t\"",
        ] {
            assert!(
                matches!(meaning(line.as_bytes()), Err(Unsendable::NotJson(_))),
                "{line:?}"
            );
        }
        assert!(matches!(meaning(b"\"\xff\""), Err(Unsendable::NotJson(_))));
        let nested = |levels: usize| ["[".repeat(levels), "]".repeat(levels)].concat();
        assert_eq!(meaning(nested(MAX_DEPTH).as_bytes()), Ok(Meaning::Other));
        assert_eq!(meaning(nested(MAX_DEPTH + 1).as_bytes()), Err(Unsendable::TooDeep));
        let text = format!(r#"["\"{}"]"#, "[".repeat(10_000));
        assert_eq!(meaning(text.as_bytes()), Ok(Meaning::Other), "brackets in a string");
    }

    #[test]
    fn what_is_sent_is_one_line_of_json() {
        let line = line_of("{\r\n \"a\": \"b\\n\"\n}").expect("JSON");
        assert_eq!(&line[..], b"{   \"a\": \"b\\n\" }\n");
        assert_eq!(
            line_of(""),
            Err(Unsendable::NotJson(
                "EOF while parsing a value at line 1 column 0".into()
            ))
        );
        assert_eq!(line_of(r#"{"cmd":"NODE_HANDLE"}"#), Err(Unsendable::Internal));
        let longest = format!("\"{}\"", "x".repeat(MAX_LINE_BYTES - 2));
        assert_eq!(line_of(&longest).map(|line| line.len()), Ok(MAX_LINE_BYTES + 1));
        assert_eq!(line_of(&format!("{longest} ")), Err(Unsendable::TooLong));
        assert_eq!(
            packet(2, "a\"b", "{\"x\":1}"),
            r#"{"id":2,"type":"process:msg","topic":"a\"b","data":{"x":1}}"#
        );
        assert_eq!(meaning(packet(2, "t", "1").as_bytes()), Ok(to(2)));
    }

    #[test]
    fn a_message_about_something_is_a_packet_for_each() {
        let outgoing = Outgoing::new("{\n\"cmd\":\"NODE_X\"}", Some("t")).expect("its data may be anything");
        let expected = "{\"id\":3,\"type\":\"process:msg\",\"topic\":\"t\",\"data\":{ \"cmd\":\"NODE_X\"}}\n";
        assert_eq!(outgoing.line(3), expected);
        assert_eq!(Outgoing::new("1", None).expect("JSON").line(3), "1\n");
        assert!(matches!(Outgoing::new("1}, 2", Some("t")), Err(Unsendable::NotJson(_))));
        assert!(matches!(
            Outgoing::new("1,\"id\":9", Some("t")),
            Err(Unsendable::NotJson(_))
        ));
    }

    #[test]
    fn long_texts_are_shortened() {
        assert_eq!(shortened("a\nb"), "a\u{fffd}b");
        assert_eq!(shortened(&"x".repeat(100)), format!("{}…", "x".repeat(60)));
    }
}
