//! JSON as PM2 accepts it: with comments, and with trailing commas.

/// Replaces comments and trailing commas by spaces, so that places in the text don't change.
pub(super) fn plain(text: &str) -> String {
    let mut out = text.as_bytes().to_vec();
    let (mut at, mut comma) = (0, None);
    while at < out.len() {
        match (out[at], out.get(at + 1)) {
            (b'"', _) => {
                at = end_of_string(&out, at);
                comma = None;
                continue;
            }
            (b'/', Some(b'/')) => {
                let end = out[at..].iter().position(|byte| *byte == b'\n');
                blank(&mut out, at, end);
            }
            (b'/', Some(b'*')) => {
                let end = out[at + 2..].windows(2).position(|pair| pair == b"*/");
                blank(&mut out, at, end.map(|end| end + 4));
            }
            (b',', _) => comma = Some(at),
            (b']' | b'}', _) => {
                if let Some(comma) = comma.take() {
                    out[comma] = b' ';
                }
            }
            (b' ' | b'\t' | b'\r' | b'\n', _) => {}
            _ => comma = None,
        }
        at += 1;
    }
    // Only whole characters were replaced.
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

/// The index after the closing quote.
fn end_of_string(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < text.len() {
        match text[at] {
            b'\\' => at += 1,
            b'"' => return at + 1,
            _ => {}
        }
        at += 1;
    }
    text.len()
}

fn blank(text: &mut [u8], from: usize, length: Option<usize>) {
    let end = length.map_or(text.len(), |length| from + length);
    for byte in &mut text[from..end] {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_last_commas_go_and_places_stay() {
        let text = "{ // ünd\n \"a\": [1, 2, /* , */ ],\n \"b\": \"//x\\\",}\", /* \n */\n}";
        let plain = plain(text);
        assert_eq!(plain.lines().count(), text.lines().count());
        let value: serde_json::Value = serde_json::from_str(&plain).expect(&plain);
        assert_eq!(value, serde_json::json!({"a": [1, 2], "b": "//x\",}"}));
        assert_eq!(plain.find("\"b\""), text.find("\"b\""));
    }

    #[test]
    fn what_is_wrong_stays_wrong() {
        for text in ["{", "[,]x", "{\"a\":,}", "/*", "\"a"] {
            assert!(
                serde_json::from_str::<serde_json::Value>(&plain(text)).is_err(),
                "{text}"
            );
        }
    }
}
