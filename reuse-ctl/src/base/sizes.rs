//! Parses and writes amounts of memory and CPU.

/// The minimum: no process runs with less, and a log file smaller than this is useless.
const MIN_BYTES: u64 = 64 << 10;

/// Why a text is not an amount of memory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SizeError {
    #[error("{0:?} is not a size: give one like 300M or 1.5G")]
    NotASize(String),
    #[error("{text} is less than 64K")]
    TooSmall {
        text: String,
        /// Whether it has no unit, and so is in bytes.
        is_bare: bool,
    },
}

impl SizeError {
    /// What the user should do next, in one line, if there is more to say.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::NotASize(_) => None,
            Self::TooSmall { text, is_bare: true } => Some(format!("did you mean {text}M?")),
            Self::TooSmall { .. } => Some("give one like 300M or 1.5G".into()),
        }
    }
}

/// Parses `300M`, `1.5G`, `100000000`, with or without a B: bytes, at least 64 KiB. K, M, G and T are powers of 1024.
///
/// # Errors
/// An error with an example that would be right.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, SizeError> {
    let no_size = || SizeError::NotASize(text.to_owned());
    let trimmed = text.trim();
    let upper = trimmed.to_ascii_uppercase();
    let upper = upper.strip_suffix("IB").or(upper.strip_suffix('B')).unwrap_or(&upper);
    let (number, unit) = match upper.char_indices().last() {
        Some((at, unit)) if unit.is_ascii_alphabetic() => (&upper[..at], Some(unit)),
        _ => (upper, None),
    };
    let exponent = match unit {
        None => 0,
        Some(unit) => 1 + "KMGT".find(unit).ok_or_else(no_size)?,
    };
    let number: f64 = number.trim().parse().map_err(|_| no_size())?;
    let bytes = number * 1024_f64.powi(i32::try_from(exponent).expect("at most 4"));
    if !bytes.is_finite() || bytes <= 0.0 || bytes > 2_f64.powi(60) {
        return Err(no_size());
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "in range, as was just seen"
    )]
    let bytes = bytes as u64;
    if bytes < MIN_BYTES {
        return Err(SizeError::TooSmall {
            text: trimmed.to_owned(),
            is_bare: !trimmed.ends_with(|last: char| last.is_ascii_alphabetic()),
        });
    }
    Ok(bytes)
}

/// The short form, such as `300M` or `1.5G`; the number of bytes if no short form is exact.
pub(crate) fn bytes_text(bytes: u64) -> String {
    const UNITS: [(char, u64); 4] = [('T', 1 << 40), ('G', 1 << 30), ('M', 1 << 20), ('K', 1 << 10)];
    for (unit, size) in UNITS.into_iter().filter(|(_, size)| *size <= bytes) {
        #[expect(clippy::cast_precision_loss, reason = "what is shown is read back and compared")]
        let number = bytes as f64 / size as f64;
        let texts = (0..=2).map(|decimals| format!("{number:.decimals$}{unit}"));
        for text in texts {
            if parse_bytes(&text) == Ok(bytes) {
                return text;
            }
        }
    }
    bytes.to_string()
}

/// `512K`, `50.0M`, `1.3G`, in powers of 1024.
pub(crate) fn short_bytes(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let kib = bytes as f64 / 1024.0;
    match kib {
        ..1024.0 => format!("{kib:.0}K"),
        ..1_048_576.0 => format!("{:.1}M", kib / 1024.0),
        _ => format!("{:.1}G", kib / 1_048_576.0),
    }
}

/// `312.4M`, `300M`, `2G`: rounded up, so that a size above a limit is never shown as equal to it.
pub(crate) fn bytes_rounded_up(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;
    if bytes >= GIB && bytes.is_multiple_of(GIB) {
        return format!("{}G", bytes / GIB);
    }
    let tenths = (u128::from(bytes) * 10).div_ceil(u128::from(MIB));
    match tenths % 10 {
        0 => format!("{}M", tenths / 10),
        tenth => format!("{}.{tenth}M", tenths / 10),
    }
}

/// Parses `0.5` or `2` to hundredths of a core.
///
/// # Errors
/// A text with an example that would be right.
pub(crate) fn parse_cores(text: &str) -> Result<u32, String> {
    let cores: f64 = text.trim().parse().unwrap_or(f64::NAN);
    if (0.01..=10_000.0).contains(&cores) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "in range, as was just seen"
        )]
        Ok((cores * 100.0).round() as u32)
    } else {
        Err(format!("{text:?} is not a number of cores: give one like 0.5 or 2"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("65536", 65_536),
            ("100000B", 100_000),
            ("64k", 65_536),
            ("300M", 300 << 20),
            ("1.5G", 3 << 29),
            ("2GiB", 2 << 30),
            ("1 TB", 1 << 40),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "M", "0", "-1M", "1X", "1e300G", "nanM", "ä"] {
            assert_eq!(parse_bytes(text), Err(SizeError::NotASize(text.into())), "{text}");
        }
        for (text, hint) in [
            ("300", "did you mean 300M?"),
            (" 0.5 ", "did you mean 0.5M?"),
            ("65535", "did you mean 65535M?"),
            ("300B", "give one like 300M or 1.5G"),
            ("63K", "give one like 300M or 1.5G"),
        ] {
            let error = parse_bytes(text).expect_err(text);
            assert_eq!(error.hint().as_deref(), Some(hint), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_as_they_are_typed() {
        for text in [
            "300M", "1.5G", "1.1G", "64K", "1025K", "512M", "2T", "100000", "1048577",
        ] {
            assert_eq!(bytes_text(parse_bytes(text).expect("a size")), text);
        }
        assert_eq!(bytes_text(2048 << 20), "2G");
    }

    #[test]
    fn short_forms() {
        for (bytes, text) in [
            (0, "0K"),
            (1_047_000, "1022K"),
            (52_428_800, "50.0M"),
            (1_395_864_371, "1.3G"),
        ] {
            assert_eq!(short_bytes(bytes), text);
        }
        for (bytes, text) in [(2 << 30, "2G"), (300 * (1 << 20) + 1, "300.1M"), (0, "0M")] {
            assert_eq!(bytes_rounded_up(bytes), text);
        }
        assert!(bytes_rounded_up(u64::MAX).ends_with('M'));
    }

    #[test]
    fn cores() {
        assert_eq!(parse_cores("0.5"), Ok(50));
        assert_eq!(parse_cores("2"), Ok(200));
        for text in ["", "0", "-1", "all", "nan"] {
            assert!(parse_cores(text).is_err(), "{text}");
        }
    }
}
