//! What somebody may have meant.

/// The candidate that is the fewest edits away, if that are few for a word of this length.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let fold = |text: &str| text.to_ascii_lowercase().replace(['-', '_'], "");
    let folded = fold(word);
    let limit = 1 + folded.len() / 4;
    candidates
        .into_iter()
        .map(|candidate| (distance(&folded, &fold(candidate)), candidate))
        .filter(|(edits, _)| *edits <= limit)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// Letters to insert, remove, replace or swap with their neighbour.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=right.len()).collect()];
    for (at, letter) in left.iter().enumerate() {
        let mut row = vec![at + 1];
        for (other_at, other) in right.iter().enumerate() {
            let replaced = rows[at][other_at] + usize::from(letter != other);
            let mut best = replaced.min(rows[at][other_at + 1] + 1).min(row[other_at] + 1);
            if at > 0 && other_at > 0 && left[at - 1] == *other && *letter == right[other_at - 1] {
                best = best.min(rows[at - 1][other_at - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[left.len()][right.len()]
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
