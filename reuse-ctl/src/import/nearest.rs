//! What somebody may have meant.

/// The candidate that is the fewest edits away, if that are few for a word of this length.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let fold = |text: &str| text.to_ascii_lowercase().replace(['-', '_'], "");
    let folded = fold(word);
    let limit = 1 + folded.len() / 4;
    candidates
        .into_iter()
        .map(|candidate| (strsim::osa_distance(&folded, &fold(candidate)), candidate))
        .filter(|(edits, _)| *edits <= limit)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
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
            ("colour", None),
        ] {
            assert_eq!(nearest(word, known), meant, "{word}");
        }
    }
}
