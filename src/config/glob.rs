//! Shell globs: `*`, `?`, `[a-z]`, `[!a]`; anything else is itself. Bytes, not characters.

#![forbid(unsafe_code)]

/// Whether `text` as a whole matches `pattern`. Linear in both but for backtracking to the last `*`.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (pattern, text);
    // Where to go on when the rest does not match: after the last star, one byte of text further.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        match (p.split_first(), t.split_first()) {
            (Some((b'*', after)), _) => {
                retry = Some((after, t));
                p = after;
                continue;
            }
            (None, None) => return true,
            (Some(_), Some((&byte, rest))) => {
                if let Some(after) = matches_one(p, byte) {
                    (p, t) = (after, rest);
                    continue;
                }
            }
            _ => {}
        }
        match retry {
            Some((after, from)) if !from.is_empty() => {
                let from = from.get(1..).unwrap_or_default();
                retry = Some((after, from));
                (p, t) = (after, from);
            }
            _ => return false,
        }
    }
}

/// What is left of the pattern if its first element matches `byte`.
fn matches_one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    let (&first, rest) = pattern.split_first()?;
    match first {
        b'?' => Some(rest),
        b'[' => match class(rest, byte) {
            Some((true, after)) => Some(after),
            Some((false, _)) => None,
            None => (byte == b'[').then_some(rest),
        },
        _ => (first == byte).then_some(rest),
    }
}

/// Whether `byte` is in the class that `pattern` begins inside of, and what follows the class;
/// `None` when it is never closed.
fn class(pattern: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    let (negated, mut rest) = match pattern.split_first() {
        Some((b'!' | b'^', rest)) => (true, rest),
        _ => (false, pattern),
    };
    let mut found = false;
    let mut first = true;
    loop {
        let (&low, after) = rest.split_first()?;
        if low == b']' && !first {
            return Some((found != negated, after));
        }
        first = false;
        rest = match after {
            [b'-', high, after @ ..] if *high != b']' => {
                found |= (low..=*high).contains(&byte);
                after
            }
            _ => {
                found |= low == byte;
                after
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn globs() {
        for (pattern, text, expected) in [
            ("redis-*", "redis-server", true),
            ("*-server", "redis-server", true),
            ("*a*b*c", "xxaxxbxxbxxc", true),
            ("*a*b*c", "xxaxxbxxbxx", false),
            ("io_thd_?", "io_thd_1", true),
            ("io_thd_?", "io_thd_", false),
            ("[a-c]x[!0-9]", "bxq", true),
            ("[a-c]x[!0-9]", "bx7", false),
            ("a[", "a[", true),
            ("", "", true),
            ("*", "", true),
            ("a", "", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }
}
