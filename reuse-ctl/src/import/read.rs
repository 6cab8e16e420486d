//! Reads a file into a [`Value`]. The file's name decides how: JSON and YAML are parsed here, JavaScript is run by a runtime.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use super::error::ImportError;
use super::value::Value;
use super::{json, runtime, yaml};

/// Larger than any configuration, and small enough to be read at once.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Reads a file, and evaluates it if it is JavaScript.
pub(super) async fn read(file: &Path) -> Result<Value, ImportError> {
    let text = text_of(file)?;
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("js" | "cjs" | "mjs") => runtime::evaluate(file).await,
        Some("json") => from_json(file, &text),
        Some("yaml" | "yml") => from_yaml(file, &text),
        _ => Err(ImportError::UnknownKind(file.to_owned())),
    }
}

fn text_of(file: &Path) -> Result<String, ImportError> {
    let failed = |call| {
        move |source| ImportError::File {
            call,
            file: file.to_owned(),
            source,
        }
    };
    // Checked before opening: opening a pipe would wait for a writer.
    let metadata = fs::metadata(file).map_err(failed("stat"))?;
    if !metadata.is_file() {
        return Err(ImportError::NoRegularFile(file.to_owned()));
    }
    let too_large = |bytes| ImportError::TooLarge {
        file: file.to_owned(),
        bytes,
        limit: MAX_FILE_BYTES,
    };
    if metadata.len() > MAX_FILE_BYTES {
        return Err(too_large(metadata.len()));
    }
    let mut bytes = Vec::new();
    let opened = File::open(file).map_err(failed("open"))?;
    // The file may have grown since.
    let count = opened
        .take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed("read"))?;
    if count as u64 > MAX_FILE_BYTES {
        return Err(too_large(count as u64));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let before = String::from_utf8_lossy(&error.as_bytes()[..good]).into_owned();
        let (line, column) = place_at(&before);
        ImportError::Wrong {
            place: format!("{}:{line}:{column}", file.display()),
            reason: format!("byte 0x{:02x} is not UTF-8", error.as_bytes()[good]),
            hint: "save it as UTF-8: iconv -f latin1 -t utf-8",
        }
    })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// Line and column, from 1, of the position after `before`.
fn place_at(before: &str) -> (usize, usize) {
    let line = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}

fn from_json(file: &Path, text: &str) -> Result<Value, ImportError> {
    serde_json::from_str(&json::plain(text)).map_err(|error| {
        let reason = error.to_string();
        let reason = reason
            .rsplit_once(" at line ")
            .map_or(reason.as_str(), |(reason, _)| reason);
        ImportError::Wrong {
            place: format!("{}:{}:{}", file.display(), error.line(), error.column()),
            reason: format!("it is not JSON: {reason}"),
            hint: "if it is JavaScript rather than JSON, give it the name ecosystem.config.js",
        }
    })
}

fn from_yaml(file: &Path, text: &str) -> Result<Value, ImportError> {
    yaml::read(text).map_err(|wrong| ImportError::Wrong {
        place: format!("{}:{}:{}", file.display(), wrong.line, wrong.column),
        reason: match wrong.is_syntax {
            true => format!("it is not YAML: {}", wrong.reason),
            false => wrong.reason,
        },
        hint: match wrong.is_syntax {
            true => "is the indentation right?",
            false => "correct it in the file",
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(result: Result<Value, ImportError>) -> String {
        result.expect_err("wrong").to_string()
    }

    #[test]
    fn places_are_counted_in_characters() {
        assert_eq!(place_at(""), (1, 1));
        assert_eq!(place_at("ä\nöü"), (2, 3));
    }

    #[test]
    fn json_with_comments() {
        let file = Path::new("apps.json");
        let value = from_json(file, "{ // two\n \"apps\": [1, 2,] }").expect("JSON");
        assert_eq!(value.to_json(), r#"{"apps":[1,2]}"#);
        assert_eq!(
            wrong(from_json(file, "{\n  \"apps\": [1 2]\n}")),
            "apps.json:2:14: it is not JSON: expected `,` or `]`"
        );
    }

    #[test]
    fn yaml_with_anchors() {
        let file = Path::new("apps.yaml");
        let text =
            "base: &base\n  watch: false\n  1: one\napps:\n  - <<: *base\n    script: ./a.js\n    instances: 2\n";
        let value = from_yaml(file, text).expect("YAML");
        let Some(Value::List(apps)) = value.get("apps") else {
            panic!("{value:?}")
        };
        assert_eq!(apps[0].get("watch"), Some(&Value::Bool(false)), "{value:?}");
        assert_eq!(apps[0].get("instances"), Some(&Value::Integer(2)));
        assert_eq!(apps[0].get("1"), Some(&Value::Text("one".into())));
    }

    #[test]
    fn what_is_no_yaml_has_a_place() {
        let file = Path::new("apps.yaml");
        let error = wrong(from_yaml(file, "apps:\n  - script: a\n   name: b\n"));
        assert!(error.starts_with("apps.yaml:3:") && !error.contains('\n'), "{error}");
        let error = wrong(from_yaml(file, "a: 1\na: 2\n"));
        assert_eq!(error, "apps.yaml:2:1: the key \"a\" is there twice");
        let cycle = wrong(from_yaml(file, "apps: &a\n  - *a\n"));
        assert!(cycle.starts_with("apps.yaml:2:"), "{cycle}");
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let items = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb += &format!("a{level}: &a{level} [{items}]\n");
        }
        assert!(wrong(from_yaml(file, &bomb)).starts_with("apps.yaml:"));
    }
}
