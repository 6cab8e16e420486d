//! What PM2 itself accepts, so that an import fails only where PM2 would refuse the file as well: `lib/Common.js` and `lib/tools/Config.js`
//! of PM2 7. A test compares it with the real PM2.

use super::value::Value;

/// Whether PM2 accepts this value for an app's option, given the option's name in the table and the name it is written with.
pub(super) fn takes(option: &str, written: &str, value: &Value) -> bool {
    if is_forgotten(option, written, value) {
        return true;
    }
    let is_text = matches!(value, Value::Text(_));
    let is_list = matches!(value, Value::List(_));
    let is_truth = matches!(value, Value::Bool(_));
    match option {
        "name" => is_text || is_falsy(value),
        "env" => is_text || is_falsy(value) || value.kind() == "an object",
        "env_*" => is_text || value.kind() == "an object",
        "args" | "node_args" | "ignore_watch" => is_text || is_list,
        "watch" => is_text || is_list || is_truth,
        "wait_ready" | "shutdown_with_message" => is_truth,
        // PM2 converts any text to a number, usually to 0.
        "instances" => is_text || number(value).is_some(),
        "uid" | "cron_restart" => is_text || number(value).is_some(),
        "max_memory_restart" => number(value).is_some() || matches!(value, Value::Text(text) if is_size(text)),
        "port" | "listen_timeout" | "kill_timeout" | "watch_delay" => number(value).is_some(),
        _ => is_text,
    }
}

/// Whether PM2 drops the value before it checks it. If an option has several names, PM2 uses the first with a value that is not empty, 0 or
/// false. Each name of several words also has a form in camel case.
pub(super) fn is_forgotten(option: &str, written: &str, value: &Value) -> bool {
    let has_names = option != "env_*" && (option.contains('_') || option != written);
    has_names && is_falsy(value)
}

/// Whether the value is falsy in JavaScript. PM2 usually treats such a value as absent.
pub(super) fn is_falsy(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) | Value::Integer(0) => true,
        Value::Float(number) => *number == 0.0 || number.is_nan(),
        Value::Text(text) => text.is_empty(),
        _ => false,
    }
}

/// The number that PM2 converts a value to. It may be NaN, which PM2 treats as absent.
pub(super) fn number(value: &Value) -> Option<f64> {
    match value {
        #[expect(clippy::cast_precision_loss, reason = "as JavaScript has it")]
        Value::Integer(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        Value::Text(text) => of_text(text),
        // A list with one element converts like the element.
        Value::List(items) => match items.as_slice() {
            [] => Some(f64::NAN),
            [Value::Text(_) | Value::Integer(_) | Value::Float(_)] => number(&items[0]),
            _ => None,
        },
        _ => None,
    }
}

/// `isNaN(text)`, then `parseFloat(text)`.
fn of_text(text: &str) -> Option<f64> {
    let text = text.trim();
    let hexadecimal = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    match text {
        "" => Some(f64::NAN),
        "Infinity" | "+Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        // `parseFloat` reads the 0 and stops at the `x`.
        _ if hexadecimal.is_some_and(|digits| u64::from_str_radix(digits, 16).is_ok()) => Some(0.0),
        _ if text
            .chars()
            .any(|letter| letter.is_ascii_alphabetic() && !matches!(letter, 'e' | 'E')) =>
        {
            None
        }
        _ => text.parse().ok(),
    }
}

/// `parseInt(text) || 0`.
pub(super) fn leading_number(text: &str) -> f64 {
    let text = text.trim_start();
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    sign * rest[..digits].parse().unwrap_or(0.0)
}

/// `/^\d+(G|M|K)?$/`
fn is_size(text: &str) -> bool {
    let number = text.strip_suffix(['G', 'M', 'K']).unwrap_or(text);
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_made_as_javascript_makes_them() {
        let of = |text: &str| number(&Value::Text(text.into()));
        assert_eq!(of(" 12 "), Some(12.0));
        assert_eq!(of("0x10"), Some(0.0));
        assert!(of("").is_some_and(f64::is_nan));
        assert_eq!((of("3s"), of("nan"), number(&Value::Bool(true))), (None, None, None));
        assert_eq!(
            (leading_number(" 4abc"), leading_number("-2"), leading_number("many")),
            (4.0, -2.0, 0.0)
        );
    }
}
