//! The nearest known name to one that is unknown, for "did you mean".

#![forbid(unsafe_code)]

/// The name among `known` with the smallest edit distance to `word`, unless all are too far.
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (word.len() / 3).clamp(1, 4);
    known
        .map(|name| {
            // What somebody began to type is nearer than any misspelling.
            let begun = word.len() > 1 && name.starts_with(word);
            (if begun { 0 } else { distance(word.as_bytes(), name.as_bytes()) }, name)
        })
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Optimal string alignment: insertions, deletions, replacements and swaps of neighbours.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let (a, b) = (a.get(..a.len().min(64)).unwrap_or_default(), b.get(..b.len().min(64)).unwrap_or_default());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX / 2);
            let mut best = (at(&above, j) + usize::from(x != y)).min(at(&above, j + 1) + 1).min(at(&row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                best = best.min(at(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn names_what_was_meant() {
        let known = ["stacks", "threads", "modules", "options", "help", "exit"];
        assert_eq!(nearest("stakcs", known.into_iter()), Some("stacks"));
        assert_eq!(nearest("thread", known.into_iter()), Some("threads"));
        assert_eq!(nearest("st", known.into_iter()), Some("stacks"));
        assert_eq!(nearest("frobnicate", known.into_iter()), None);
    }
}
