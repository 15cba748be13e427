//! What stands behind a `|`: filters on the lines of an answer, for those whose client has none.
//!
//! Context: the observer.

#![forbid(unsafe_code)]

use crate::config::nearest;

/// A line that does not end is cut here for the filters.
const LONGEST: usize = 64 << 10;

/// One row of the table of filters.
pub struct Spec {
    /// What one types.
    pub name: &'static str,
    /// Its arguments.
    pub synopsis: &'static str,
    /// What it does.
    pub summary: &'static str,
    parse: fn(&[String]) -> Result<Kind, String>,
}

/// The filters.
pub const TABLE: &[Spec] = &[
    Spec {
        name: "grep",
        synopsis: "[-v] [-i] TEXT",
        summary: "Only lines that hold TEXT (-v: that do not; -i: in whatever case).",
        parse: |words| {
            let (mut inverted, mut any_case, mut text) = (false, false, None);
            for word in words {
                match word.as_str() {
                    "-v" if text.is_none() => inverted = true,
                    "-i" if text.is_none() => any_case = true,
                    _ if text.is_none() => text = Some(word.clone()),
                    _ => return Err("takes one TEXT; quote it if it has blanks".to_owned()),
                }
            }
            let text = text.filter(|text| !text.is_empty()).ok_or("takes a TEXT")?;
            Ok(Kind::Grep { text: if any_case { text.to_ascii_lowercase() } else { text }, inverted, any_case })
        },
    },
    Spec {
        name: "head",
        synopsis: "[N]",
        summary: "Only the first N lines (10 if not given); the command ends then.",
        parse: |words| match words {
            [] => Ok(Kind::Head { left: 10 }),
            [number] => {
                let left =
                    number.trim_start_matches('-').parse().map_err(|_| format!("{number:?} is no number of lines"))?;
                Ok(Kind::Head { left })
            }
            _ => Err("takes one number of lines".to_owned()),
        },
    },
    Spec {
        name: "count",
        synopsis: "",
        summary: "Only how many lines there are.",
        parse: |words| match words {
            [] => Ok(Kind::Count { lines: 0 }),
            [word, ..] => Err(format!("takes no argument, not {word:?}")),
        },
    },
];

enum Kind {
    Grep { text: String, inverted: bool, any_case: bool },
    Head { left: usize },
    Count { lines: u64 },
}

/// A filter at work.
pub struct Filter {
    kind: Kind,
    /// A line that has not ended yet.
    partial: Vec<u8>,
}

impl Filter {
    /// The filter that `words` ask for.
    pub fn new(words: &[String]) -> Result<Self, String> {
        let Some((name, arguments)) = words.split_first() else { return Err("a filter is missing".to_owned()) };
        let Some(spec) = TABLE.iter().find(|spec| spec.name == name) else {
            let known = nearest::nearest(name, TABLE.iter().map(|spec| spec.name));
            let all: Vec<&str> = TABLE.iter().map(|spec| spec.name).collect();
            let hint = known.map_or(format!("there are {}", all.join(", ")), |known| format!("did you mean {known}?"));
            return Err(format!("unknown filter {name:?}; {hint}"));
        };
        let kind =
            (spec.parse)(arguments).map_err(|error| format!("{name}: {error}; usage: | {name} {}", spec.synopsis))?;
        Ok(Self { kind, partial: Vec::new() })
    }

    /// Takes bytes in, and appends what passes to `out`.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.partial.len() > LONGEST {
                self.line(out);
            }
        }
    }

    /// There will be no more.
    pub fn end(&mut self, out: &mut Vec<u8>) {
        if !self.partial.is_empty() {
            self.line(out);
        }
        if let Kind::Count { lines } = self.kind {
            out.extend_from_slice(format!("{lines}\n").as_bytes());
        }
    }

    /// Whether nothing will pass any more.
    pub fn is_full(&self) -> bool {
        matches!(self.kind, Kind::Head { left: 0 })
    }

    fn line(&mut self, out: &mut Vec<u8>) {
        let passes = match &mut self.kind {
            Kind::Grep { text, inverted, any_case } => {
                let folded = if *any_case { self.partial.to_ascii_lowercase() } else { Vec::new() };
                let line = if *any_case { &folded } else { &self.partial };
                line.windows(text.len()).any(|window| window == text.as_bytes()) != *inverted
            }
            Kind::Head { left } => {
                let passes = *left > 0;
                *left = left.saturating_sub(1);
                passes
            }
            Kind::Count { lines } => {
                *lines += 1;
                false
            }
        };
        if passes {
            out.extend_from_slice(&self.partial);
        }
        self.partial.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filtered(words: &str, text: &str) -> String {
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        let mut filter = Filter::new(&words).unwrap();
        let mut out = Vec::new();
        // However it is cut.
        text.as_bytes().chunks(3).for_each(|piece| filter.push(piece, &mut out));
        filter.end(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_pass_or_do_not() {
        let text = "one Two\nthree\n\ntwo";
        assert_eq!(filtered("grep two", text), "two");
        assert_eq!(filtered("grep -i two", text), "one Two\ntwo");
        assert_eq!(filtered("grep -v o", text), "three\n\n");
        assert_eq!(filtered("head 2", text), "one Two\nthree\n");
        assert_eq!(filtered("head -1", text), "one Two\n");
        assert_eq!(filtered("count", text), "4\n");
        assert_eq!(filtered("count", ""), "0\n");
    }

    #[test]
    fn errors_name_the_way_out() {
        let error = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            Filter::new(&words).err().unwrap()
        };
        assert_eq!(error(&["gerp", "x"]), "unknown filter \"gerp\"; did you mean grep?");
        assert_eq!(error(&["awk"]), "unknown filter \"awk\"; there are grep, head, count");
        assert_eq!(error(&["grep"]), "grep: takes a TEXT; usage: | grep [-v] [-i] TEXT");
        assert!(error(&["head", "many"]).contains("is no number of lines"));
    }
}
