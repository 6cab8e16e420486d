//! `watch` and `ignore_watch`.

use super::value::Value;

/// The paths of `watch`: empty if nothing is watched, `None` if the value has another type.
pub(super) fn paths(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Bool(true) => Some(vec![".".into()]),
        Value::Bool(false) => Some(Vec::new()),
        Value::Text(text) if text.is_empty() => Some(Vec::new()),
        Value::Text(text) if text == "true" => Some(vec![".".into()]),
        Value::Text(text) if text == "false" => Some(Vec::new()),
        Value::Text(text) => Some(vec![text.clone()]),
        Value::List(items) => items.iter().map(Value::word).collect(),
        _ => None,
    }
}

/// The translation of `ignore_watch`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ignored {
    pub(super) globs: Vec<String>,
    /// Sources of regular expressions that no glob can express.
    pub(super) lost: Vec<String>,
}

/// The globs of `ignore_watch`; `None` if the value has another type.
pub(super) fn ignored(value: &Value) -> Option<Ignored> {
    let items = match value {
        Value::List(items) => items.as_slice(),
        single => std::slice::from_ref(single),
    };
    let mut ignored = Ignored::default();
    for item in items {
        match (item.regular_expression(), item) {
            (Some(source), _) => match plain_word(source) {
                // A glob without a slash is matched against every component of a path, and ignores everything below a match.
                Some(word) if word.contains('/') => ignored.globs.push(format!("**/*{word}*")),
                Some(word) => ignored.globs.push(format!("*{word}*")),
                None => ignored.lost.push(source.to_owned()),
            },
            (None, Value::Text(text)) => ignored.globs.extend(glob_of(text)),
            _ => return None,
        }
    }
    Some(ignored)
}

/// PM2's paths are also relative to the working folder.
fn glob_of(text: &str) -> Option<String> {
    let path = text.strip_prefix("./").unwrap_or(text).trim_end_matches('/');
    (!path.is_empty()).then(|| path.to_owned())
}

/// The literal text that a regular expression searches for, if it is nothing more.
fn plain_word(source: &str) -> Option<String> {
    let word = source.replace("\\.", ".").replace("\\/", "/").replace("\\-", "-");
    let is_plain = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '-' | ' ' | '/');
    let was_escaped = source.matches("\\.").count() == word.matches('.').count();
    let inner = word.trim_matches('/');
    let is_word = inner.chars().all(|letter| is_plain(letter) || letter == '.');
    (was_escaped && is_word && !inner.is_empty()).then(|| inner.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::value::REGULAR_EXPRESSION;
    use super::*;

    fn expression(source: &str) -> Value {
        Value::Map(vec![(REGULAR_EXPRESSION.into(), Value::Text(source.into()))])
    }

    #[test]
    fn what_is_watched() {
        let text = |text: &str| Value::Text(text.into());
        assert_eq!(paths(&Value::Bool(true)), Some(vec![".".into()]));
        assert_eq!(paths(&Value::Bool(false)), Some(vec![]));
        assert_eq!(paths(&text("src")), Some(vec!["src".into()]));
        assert_eq!(
            paths(&Value::List(vec![text("a"), text("b")])),
            Some(vec!["a".into(), "b".into()])
        );
        assert_eq!(paths(&Value::Integer(1)), None);
    }

    #[test]
    fn what_is_not() {
        let list = |items: Vec<Value>| ignored(&Value::List(items)).expect("texts");
        let strings = list(vec![Value::Text("./logs/".into()), Value::Text("*.log".into())]);
        assert_eq!(strings.globs, ["logs", "*.log"]);
        let words = list(vec![
            expression("node_modules"),
            expression("\\.git"),
            expression("^a|b$"),
        ]);
        assert_eq!(words.globs, ["*node_modules*", "*.git*"]);
        assert_eq!(words.lost, ["^a|b$"]);
        assert_eq!(list(vec![expression("a\\/b")]).globs, ["**/*a/b*"]);
        assert_eq!(list(vec![expression("a.b")]).lost, ["a.b"], "a bare dot is any letter");
        assert_eq!(ignored(&Value::Integer(3)), None);
    }
}
