//! Bytes of a client, cut into lines, with a bound.
//!
//! Context: the observer.

#![forbid(unsafe_code)]

use crate::protocol::MAX_COMMAND;

/// One line of an interactive client.
#[derive(Debug, PartialEq, Eq)]
pub enum Input {
    /// Its bytes, without line ending.
    Line(Vec<u8>),
    /// It was longer than [`MAX_COMMAND`]: thrown away.
    TooLong,
    /// The key ^C where no whole line stands before it. What was typed before it is forgotten, as a terminal does.
    Interrupt,
}

/// What the key ^C is as a byte.
const INTERRUPT: u8 = 3;

/// What has arrived and was not run yet.
#[derive(Default)]
pub struct Lines {
    bytes: Vec<u8>,
    /// Inside a line that is being thrown away.
    skipping: bool,
}

impl Lines {
    /// Takes bytes in. Call [`Self::next`] until it has no more before the next call, or memory grows.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether the running command is to end: the key ^C, as a terminal or a client sends it, or a line `^C`. What was
    /// typed before it is forgotten, as a terminal does.
    pub fn take_interrupt(&mut self) -> bool {
        let key = self.bytes.iter().position(|byte| *byte == INTERRUPT).map(|at| at + 1);
        let mut end = 0;
        let line = self.bytes.split_inclusive(|byte| *byte == b'\n').find_map(|line| {
            end += line.len();
            (line.ends_with(b"\n") && line.trim_ascii() == b"^C").then_some(end)
        });
        let Some(end) = key.max(line) else { return false };
        self.bytes.drain(..end);
        true
    }

    /// Whether a whole line waits, or an interrupt; at the end of the stream, whether anything does.
    pub fn has_input(&self, at_end: bool) -> bool {
        at_end && !self.bytes.is_empty() || self.bytes.iter().any(|byte| matches!(*byte, b'\n' | INTERRUPT))
    }

    /// What waits, whole lines or not.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same, for another way to read it.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Whether more than any line may have waits already.
    pub fn is_full(&self) -> bool {
        self.bytes.len() > MAX_COMMAND
    }

    /// The next whole line; at the end of the stream, what is left counts as one.
    pub fn next(&mut self, at_end: bool) -> Option<Input> {
        let mark = self.bytes.iter().position(|byte| matches!(*byte, b'\n' | INTERRUPT));
        if let Some(at) = mark.filter(|at| self.bytes.get(*at) == Some(&INTERRUPT)) {
            self.bytes.drain(..=at);
            self.skipping = false;
            return Some(Input::Interrupt);
        }
        let newline = mark;
        if newline.is_none() && !at_end {
            if self.bytes.len() > MAX_COMMAND {
                self.skipping = true;
                self.bytes = Vec::new();
            }
            return None;
        }
        let end = newline.map_or(self.bytes.len(), |at| at + 1);
        let mut line: Vec<u8> = self.bytes.drain(..end).collect();
        while matches!(line.last(), Some(b'\n' | b'\r')) {
            line.pop();
        }
        let skipped = std::mem::take(&mut self.skipping);
        if skipped || line.len() > MAX_COMMAND {
            return Some(Input::TooLong);
        }
        if newline.is_none() && line.is_empty() {
            return None;
        }
        Some(Input::Line(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_the_end() {
        let mut lines = Lines::default();
        lines.push(b"stacks\r\nhelp\nex");
        assert_eq!(lines.next(false), Some(Input::Line(b"stacks".to_vec())));
        assert!(lines.has_input(false));
        assert_eq!(lines.next(false), Some(Input::Line(b"help".to_vec())));
        assert_eq!(lines.next(false), None);
        assert_eq!(lines.next(true), Some(Input::Line(b"ex".to_vec())));
        assert_eq!(lines.next(true), None);
    }

    #[test]
    fn an_interrupt_and_what_was_typed_before_it() {
        for (typed, rest) in [(&b"a\nb\n^C\nc\n"[..], &b"c\n"[..]), (b"a\n\x03", b""), (b" ^C \r\n", b"")] {
            let mut lines = Lines::default();
            lines.push(typed);
            assert!(lines.take_interrupt());
            assert_eq!(lines.bytes, rest);
        }
        let mut lines = Lines::default();
        lines.push(b"a ^C\n^C");
        assert!(!lines.take_interrupt());
        let mut lines = Lines::default();
        lines.push(b"a\nhalf\x03b\n");
        let all: Vec<_> = std::iter::from_fn(|| lines.next(false)).collect();
        assert_eq!(all, [Input::Line(b"a".to_vec()), Input::Interrupt, Input::Line(b"b".to_vec())]);
    }

    #[test]
    fn a_megabyte_without_a_newline_is_not_kept() {
        let mut lines = Lines::default();
        for _ in 0..256 {
            lines.push(&[b'x'; 4096]);
            assert_eq!(lines.next(false), None);
            assert!(lines.bytes.len() <= MAX_COMMAND + 4096);
        }
        lines.push(b"\nhelp\n");
        assert_eq!(lines.next(false), Some(Input::TooLong));
        assert_eq!(lines.next(false), Some(Input::Line(b"help".to_vec())));
    }
}
