//! The nearest known name to a mistyped one.

/// Number of letters from which a prefix of a name is recognised.
const ABBREVIATION: usize = 3;

/// The candidate with the fewest edits, if they are few for the word's length; else the shortest candidate that begins with the word. Case,
/// hyphens and underscores are ignored.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let fold = |text: &str| text.to_ascii_lowercase().replace(['-', '_'], "");
    let folded = fold(word);
    let limit = 1 + folded.len() / 4;
    let candidates: Vec<(String, &str)> = candidates.into_iter().map(|name| (fold(name), name)).collect();
    let mistyped = candidates
        .iter()
        .map(|(candidate, name)| (strsim::osa_distance(&folded, candidate), *name))
        .filter(|(edits, _)| *edits <= limit)
        .min_by_key(|(edits, _)| *edits);
    let shortened = || {
        let long_enough = folded.chars().count() >= ABBREVIATION;
        let meant = candidates
            .iter()
            .filter(|(candidate, _)| long_enough && candidate.starts_with(&folded));
        meant
            .min_by_key(|(candidate, _)| candidate.len())
            .map(|(_, name)| *name)
    };
    mistyped.map(|(_, name)| name).or_else(shortened)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_are_seen_through() {
        let known = ["instances", "max_memory_restart", "env", "cwd"];
        for (word, meant) in [
            ("instnces", Some("instances")),
            ("instacnes", Some("instances")),
            ("maxMemoryRestarts", Some("max_memory_restart")),
            ("max-memory-restart", Some("max_memory_restart")),
            ("evn", Some("env")),
            ("max_mem", Some("max_memory_restart")),
            ("ma", None),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), meant, "{word}");
        }
    }
}
