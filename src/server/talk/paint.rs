//! Colours for a terminal that asked for them: which line has which, seen from how it begins.
//!
//! Context: the observer; after the filters, so that they see no colour. A line of JSON begins with none of these words,
//! so it has none either.

#![forbid(unsafe_code)]

const RESET: &[u8] = b"\x1b[0m";
const BOLD: &str = "\x1b[1m";

/// How a line begins, and its colour (ECMA-48, "SGR").
const COLOURS: [(&str, &str); 6] = [
    ("#########", BOLD),
    ("error:", "\x1b[31m"),
    ("truncated:", "\x1b[33m"),
    ("cut:", "\x1b[33m"),
    ("DEADLOCK", "\x1b[1;31m"),
    ("-- ", "\x1b[2m"),
];

/// Paints lines as they pass, however they are cut.
pub struct Paint {
    is_on: bool,
    /// The next byte begins a line.
    at_start: bool,
    /// The line that has not ended yet is coloured.
    is_open: bool,
}

impl Paint {
    /// One that paints, or leaves everything as it is.
    pub fn new(is_on: bool) -> Self {
        Self { is_on, at_start: true, is_open: false }
    }

    /// The prompt.
    pub fn prompt(&self, prompt: &str) -> String {
        if self.is_on { format!("{BOLD}{prompt}\x1b[0m") } else { prompt.to_owned() }
    }

    /// Appends `text`, painted. A line whose first word is cut in two stays plain.
    pub fn text(&mut self, text: &[u8], out: &mut Vec<u8>) {
        if !self.is_on {
            return out.extend_from_slice(text);
        }
        for piece in text.split_inclusive(|byte| *byte == b'\n') {
            let colour = COLOURS.iter().find(|(begin, _)| piece.starts_with(begin.as_bytes()));
            if let Some((_, colour)) = colour.filter(|_| self.at_start) {
                out.extend_from_slice(colour.as_bytes());
                self.is_open = true;
            }
            let line = piece.strip_suffix(b"\n");
            out.extend_from_slice(line.unwrap_or(piece));
            if line.is_some() {
                out.extend_from_slice(if std::mem::take(&mut self.is_open) { RESET } else { b"" });
                out.push(b'\n');
            }
            self.at_start = line.is_some();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn painted(is_on: bool, pieces: &[&str]) -> String {
        let (mut paint, mut out) = (Paint::new(is_on), Vec::new());
        pieces.iter().for_each(|piece| paint.text(piece.as_bytes(), &mut out));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_are_painted_by_their_begin() {
        let text = "######### ProcessID=1\n#0  error: in main\ntruncated: no\n[{\"error\":\"error:\"}]\n";
        assert_eq!(
            painted(true, &[text]),
            "\x1b[1m######### ProcessID=1\x1b[0m\n#0  error: in main\n\x1b[33mtruncated: no\x1b[0m\n[{\"error\":\"error:\"}]\n"
        );
        assert_eq!(painted(false, &[text]), text);
        assert_eq!(painted(true, &["error: a", " b\nc"]), "\x1b[31merror: a b\x1b[0m\nc");
        assert_eq!(painted(true, &["x", "error: a\n"]), "xerror: a\n");
        assert_eq!(Paint::new(true).prompt("> "), "\x1b[1m> \x1b[0m");
    }
}
