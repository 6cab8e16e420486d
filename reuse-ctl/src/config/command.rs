//! `command`: a string that is split into words as a shell would, or a list of words. No shell runs it.

use std::ffi::OsString;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::DeValue;

use super::{source::Problem, value::a_kind};
use crate::{app::keys::absolute, base::toml_text::quoted};

/// Words that a shell would interpret and that are not supported here.
const OPERATORS: [&str; 12] = ["&&", "||", "|", ";", "&", ">", ">>", "<", "2>", "2>&1", ">&2", "&>"];

/// The command of an app with this working folder.
pub(super) fn words(value: &Spanned<DeValue<'_>>, folder: &Path) -> Result<Vec<OsString>, Problem> {
    let mut words = match value.get_ref() {
        DeValue::String(text) => split(text, value.span())?,
        DeValue::Array(array) => {
            let word = |item: &Spanned<DeValue<'_>>| match item.get_ref() {
                DeValue::String(text) => checked(text, item.span()),
                other => Err(Problem::new(
                    item.span(),
                    format!("a word of `command` is a string, not {}", a_kind(other)),
                    "put it in quotes",
                )),
            };
            array.iter().map(word).collect::<Result<_, _>>()?
        }
        other => {
            return Err(Problem::new(
                value.span(),
                format!("`command` is a string or a list of strings, not {}", a_kind(other)),
                "give one like \"node server.js\"",
            ));
        }
    };
    match words.first_mut() {
        Some(program) if !program.is_empty() => {
            if program.contains('/') {
                // Added as bytes, because the folder's path need not be UTF-8.
                let mut command: Vec<OsString> = vec![absolute(&*program, folder).into()];
                command.extend(words.drain(1..).map(OsString::from));
                return Ok(command);
            }
        }
        _ => {
            return Err(Problem::new(
                value.span(),
                "`command` is empty",
                "give one like \"node server.js\"",
            ));
        }
    }
    Ok(words.into_iter().map(OsString::from).collect())
}

/// Where the program is given in a valid command.
pub(super) fn program_span(value: &Spanned<DeValue<'_>>) -> Range<usize> {
    match value.get_ref() {
        DeValue::Array(words) => words.iter().next().map_or_else(|| value.span(), Spanned::span),
        _ => value.span(),
    }
}

fn split(text: &str, span: Range<usize>) -> Result<Vec<String>, Problem> {
    checked(text, span.clone())?;
    let words = shell_words::split(text).map_err(|error| {
        Problem::new(
            span.clone(),
            format!("`command`: {error}"),
            "close it, or give a list of words",
        )
    })?;
    let hint = || {
        format!(
            "start a shell if you want one: command = [\"sh\", \"-c\", {}]",
            quoted(text)
        )
    };
    if let Some(operator) = words.iter().find(|word| OPERATORS.contains(&word.as_str())) {
        return Err(Problem::new(
            span,
            format!("`command`: no shell runs it, and {operator} is for a shell"),
            hint(),
        ));
    }
    if let Some((name, _)) = words
        .first()
        .and_then(|first| first.split_once('='))
        .filter(|(name, _)| is_variable(name))
    {
        let error = format!("`command`: no shell runs it, and {name}=… is for a shell");
        return Err(Problem::new(span, error, format!("write it as env = {{ {name} = … }}")));
    }
    Ok(words)
}

fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && name
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

/// A word that a process can get as an argument.
pub(super) fn checked(text: &str, span: Range<usize>) -> Result<String, Problem> {
    if text.contains('\0') {
        return Err(Problem::new(
            span,
            "there is a NUL character in it",
            "no argument and no variable can have one",
        ));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Vec<String>, String> {
        let value = DeValue::parse(text).expect("TOML");
        words(&value, Path::new("/srv/web"))
            .map(|words| {
                words
                    .into_iter()
                    .map(|word| word.into_string().expect("text"))
                    .collect()
            })
            .map_err(|problem| format!("{} → {}", problem.error, problem.hint))
    }

    #[test]
    fn a_text_is_split_and_a_list_is_taken_as_it_is() {
        assert_eq!(of("'node server.js'").expect("right"), ["node", "server.js"]);
        assert_eq!(
            of(r#"'sh -c "echo a && b"'"#).expect("right"),
            ["sh", "-c", "echo a && b"]
        );
        assert_eq!(of(r#"["a b", "$X", "|"]"#).expect("right"), ["a b", "$X", "|"]);
        assert_eq!(of("'./bin/server -d'").expect("right"), ["/srv/web/bin/server", "-d"]);
        assert_eq!(of("'/bin/server ./x'").expect("right"), ["/bin/server", "./x"]);
    }

    #[test]
    fn what_can_not_be_run() {
        let said: Vec<String> = [
            "''",
            "[]",
            "['']",
            "['', 'x']",
            "5",
            "[1]",
            "'a && b'",
            "'A=1 node x'",
            "'a \"b'",
            "'node # x'",
            r#""a\u0000b""#,
        ]
        .iter()
        .map(|text| of(text).map_or_else(|error| error, |words| words.join(",")))
        .collect();
        insta::assert_snapshot!("commands_that_can_not_be_run", said.join("\n"));
    }
}
