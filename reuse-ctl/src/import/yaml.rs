//! YAML as js-yaml 4, which PM2 uses, reads it: one document, plain scalars as in [`scalar`], merge keys, and no duplicate keys.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{Event, Marker, Parser, ScalarStyle, StrInput, Tag};

use super::scalar;
use super::value::Value;

/// Maximum number of values. Aliases count as the values they stand for, so that they can't grow without bound.
const MAX_VALUES: usize = 100_000;

/// Maximum nesting depth, the same as for JavaScript.
const MAX_DEPTH: usize = 60;

/// Why a text could not be parsed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// The line, from 1.
    pub(super) line: usize,
    /// The column in characters, from 1.
    pub(super) column: usize,
    /// The reason, in one line.
    pub(super) reason: String,
    /// Whether the text is not YAML at all.
    pub(super) is_syntax: bool,
}

/// Parses a text. An empty text is null.
pub(super) fn read(text: &str) -> Result<Value, Wrong> {
    let mut composer = Composer {
        parser: Parser::new_from_str(text),
        anchors: HashMap::new(),
        values: 0,
    };
    let mut document = None;
    loop {
        match composer.next()? {
            (Event::DocumentStart(..), at) if document.is_some() => {
                return Err(wrong(&at, "there is a second document, and PM2 takes one"));
            }
            (Event::DocumentStart(..), _) => {
                let (event, at) = composer.next()?;
                document = Some(composer.value(event, &at, 0)?);
            }
            (Event::StreamEnd, _) => return Ok(document.unwrap_or(Value::Null)),
            _ => {}
        }
    }
}

fn wrong(at: &Marker, reason: impl Into<String>) -> Wrong {
    Wrong {
        line: at.line(),
        column: at.col() + 1,
        reason: reason.into(),
        is_syntax: false,
    }
}

struct Composer<'a> {
    parser: Parser<'a, StrInput<'a>>,
    /// `None` while the value is being parsed, so that it can't contain itself.
    anchors: HashMap<usize, Option<Value>>,
    values: usize,
}

impl<'a> Composer<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Marker), Wrong> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, span.start)),
            Some(Err(error)) => Err(Wrong {
                reason: error.info().lines().next().unwrap_or_default().to_owned(),
                is_syntax: true,
                ..wrong(error.marker(), "")
            }),
            None => Ok((Event::StreamEnd, Marker::new(0, 1, 0))),
        }
    }

    fn count(&mut self, more: usize, at: &Marker) -> Result<(), Wrong> {
        self.values += more;
        if self.values > MAX_VALUES {
            return Err(wrong(at, format!("it has more than {MAX_VALUES} values")));
        }
        Ok(())
    }

    fn value(&mut self, event: Event<'a>, at: &Marker, depth: usize) -> Result<Value, Wrong> {
        if depth > MAX_DEPTH {
            return Err(wrong(at, "it is nested too deeply"));
        }
        self.count(1, at)?;
        let (anchor, value) = match event {
            Event::Alias(anchor) => return self.alias(anchor, at),
            Event::Scalar(text, style, anchor, tag) => (anchor, scalar_of(&text, style, tag.as_deref(), at)?),
            Event::SequenceStart(_, anchor, tag) => {
                expect_tag(tag.as_deref(), "seq", at)?;
                self.anchors.insert(anchor, None);
                (anchor, self.list(depth)?)
            }
            Event::MappingStart(_, anchor, tag) => {
                expect_tag(tag.as_deref(), "map", at)?;
                self.anchors.insert(anchor, None);
                (anchor, self.map(depth)?)
            }
            _ => return Err(wrong(at, "a value is missing")),
        };
        // A value without an anchor has the number 0, which nothing refers to.
        if anchor != 0 {
            self.anchors.insert(anchor, Some(value.clone()));
        }
        Ok(value)
    }

    fn alias(&mut self, anchor: usize, at: &Marker) -> Result<Value, Wrong> {
        match self.anchors.get(&anchor).cloned() {
            Some(Some(value)) => {
                self.count(size(&value), at)?;
                Ok(value)
            }
            Some(None) => Err(wrong(at, "the value contains itself: a cycle")),
            None => Err(wrong(at, "there is no such anchor")),
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value, Wrong> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                (event, at) => items.push(self.value(event, &at, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, Wrong> {
        let mut entries: Vec<(String, Value)> = Vec::new();
        // The index of each key, and whether it came from a merge: merged keys give way to written ones.
        let mut places: HashMap<String, (usize, bool)> = HashMap::new();
        loop {
            let (event, at) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(Value::Map(entries));
            }
            let is_merge = is_merge(&event);
            let key = self.value(event, &at, depth + 1)?;
            let (event, value_at) = self.next()?;
            let value = self.value(event, &value_at, depth + 1)?;
            if is_merge {
                for (key, value) in sources(value).ok_or_else(|| wrong(&value_at, "only maps can be merged"))? {
                    if !places.contains_key(&key) {
                        places.insert(key.clone(), (entries.len(), true));
                        entries.push((key, value));
                    }
                }
                continue;
            }
            let key = key.word().ok_or_else(|| wrong(&at, "a key can't be a list or a map"))?;
            match places.get_mut(&key) {
                None => {
                    places.insert(key.clone(), (entries.len(), false));
                    entries.push((key, value));
                }
                Some((place, is_merged)) if *is_merged => {
                    entries[*place].1 = value;
                    *is_merged = false;
                }
                Some(_) => return Err(wrong(&at, format!("the key {key:?} is there twice"))),
            }
        }
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Map(entries) => 1 + entries.iter().map(|(_, value)| size(value)).sum::<usize>(),
        _ => 1,
    }
}

fn is_merge(event: &Event<'_>) -> bool {
    match event {
        Event::Scalar(text, ScalarStyle::Plain, _, None) => text == "<<",
        Event::Scalar(_, _, _, Some(tag)) => name_of(tag).as_deref() == Some("merge"),
        _ => false,
    }
}

/// The entries of a map, or of a list of maps, in which earlier ones have priority.
fn sources(value: Value) -> Option<Vec<(String, Value)>> {
    let maps = match value {
        Value::Map(entries) => return Some(entries),
        Value::List(maps) => maps,
        _ => return None,
    };
    let each = maps.into_iter().map(|map| match map {
        Value::Map(entries) => Some(entries),
        _ => None,
    });
    each.collect::<Option<Vec<_>>>().map(|maps| maps.concat())
}

/// The name of one of YAML's own tags.
fn name_of(tag: &Tag) -> Option<String> {
    format!("{}{}", tag.handle(), tag.suffix())
        .strip_prefix("tag:yaml.org,2002:")
        .map(str::to_owned)
}

fn unknown_tag(tag: &Tag, at: &Marker) -> Wrong {
    wrong(
        at,
        format!("the tag {}{} is unknown", tag.original_handle(), tag.suffix()),
    )
}

fn expect_tag(tag: Option<&Tag>, name: &str, at: &Marker) -> Result<(), Wrong> {
    match tag {
        Some(tag) if name_of(tag).as_deref() != Some(name) => Err(unknown_tag(tag, at)),
        _ => Ok(()),
    }
}

fn scalar_of(text: &str, style: ScalarStyle, tag: Option<&Tag>, at: &Marker) -> Result<Value, Wrong> {
    let own = || Value::Text(text.to_owned());
    let Some(tag) = tag else {
        return Ok(if style == ScalarStyle::Plain {
            scalar::plain(text)
        } else {
            own()
        });
    };
    if format!("{}{}", tag.handle(), tag.suffix()) == "!" {
        return Ok(own());
    }
    let value = match name_of(tag).as_deref() {
        Some("str" | "merge") => Some(own()),
        Some("null") => scalar::null(text),
        Some("bool") => scalar::truth(text),
        Some("int") => scalar::integer(text),
        Some("float") => scalar::float(text),
        Some("timestamp") => scalar::time(text),
        _ => return Err(unknown_tag(tag, at)),
    };
    value.ok_or_else(|| wrong(at, format!("{text:?} is not what its tag !!{} says", tag.suffix())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> String {
        read(text).expect(text).to_json()
    }

    #[test]
    fn tags_anchors_and_merges() {
        assert_eq!(
            json("a: !!str 7\nb: ! 7\nc: !!int '7'\nd: 'on'\ne: |\n  7\n"),
            r#"{"a":"7","b":"7","c":7,"d":"on","e":"7\n"}"#
        );
        assert_eq!(
            json("a: &a {x: 1, y: 2}\nb: {y: 3, <<: *a, x: 4}\n"),
            r#"{"a":{"x":1,"y":2},"b":{"y":3,"x":4}}"#
        );
        assert_eq!(
            json("- &a {x: 1}\n- &b {x: 2, z: 3}\n- {<<: [*a, *b]}\n"),
            r#"[{"x":1},{"x":2,"z":3},{"x":1,"z":3}]"#
        );
        assert_eq!(
            json("007: a\non: b\n~: c\n\"<<\": d\n"),
            r#"{"7":"a","on":"b","null":"c","<<":"d"}"#
        );
        assert_eq!(json(""), "null");
    }

    #[test]
    fn what_can_not_be_taken_has_a_place() {
        for (text, line, reason) in [
            ("a: 1\na: 2\n", 2, "twice"),
            ("a: 1\n---\nb: 2\n", 2, "second document"),
            ("a: !!int x\n", 1, "!!int"),
            ("a: !own x\n", 1, "!own"),
            ("a:\n  <<: 3\n", 2, "merged"),
            ("? [1]\n: 2\n", 1, "key"),
            ("a: *b\n", 1, ""),
            ("a: &a\n  - *a\n", 2, "cycle"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.line == line && error.reason.contains(reason), "{text}: {error:?}");
        }
        let deep = "[".repeat(70) + &"]".repeat(70);
        assert!(read(&deep).expect_err("deep").reason.contains("deeply"));
    }
}
