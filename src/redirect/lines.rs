//! Bytes of a standard error, cut into whole lines for the operator.
//!
//! Context: the observer.

#![forbid(unsafe_code)]

/// A line without an end is cut here.
const LONGEST: usize = 8 << 10;

/// What has come of a line.
#[derive(Default)]
pub struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Appends the lines that `bytes` complete to `out`. Zeros are left out: a file that was truncated under its
    /// writer has them as a hole.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend(piece.iter().filter(|byte| **byte != 0));
            if piece.ends_with(b"\n") {
                self.flush(out);
            } else if self.partial.len() > LONGEST {
                self.end(out);
            }
        }
    }

    /// The last line, though it has no end.
    pub fn end(&mut self, out: &mut Vec<u8>) {
        if !self.partial.is_empty() {
            self.partial.push(b'\n');
            self.flush(out);
        }
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        if !is_log(&self.partial) {
            out.extend_from_slice(&self.partial);
        }
        self.partial.clear();
    }
}

/// Whether it is a line of a manhole's log, this process's or a child's: `Manhole[PID:SECONDS.FRACTION]: …`. They are
/// no words of the application, and each command would add one.
fn is_log(line: &[u8]) -> bool {
    let stamp = line.strip_prefix(b"Manhole[").and_then(|rest| rest.split(|byte| *byte == b']').next());
    let mut parts = stamp.unwrap_or_default().split(|byte| matches!(byte, b':' | b'.'));
    let mut is_number = || parts.next().is_some_and(|part| !part.is_empty() && part.iter().all(u8::is_ascii_digit));
    is_number() && is_number() && is_number() && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_lines_and_none_of_ours() {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        lines.push(b"one\ntw", &mut out);
        assert_eq!(out, b"one\n");
        lines.push(b"o\nManhole[7:1.2]: client 1\nManhole[8:1.]: no log\n\0\0x", &mut out);
        assert_eq!(out, b"one\ntwo\nManhole[8:1.]: no log\n");
        out.clear();
        lines.end(&mut out);
        lines.end(&mut out);
        assert_eq!(out, b"x\n");
        out.clear();
        lines.push(&[b'y'; LONGEST + 1], &mut out);
        assert_eq!(out.len(), LONGEST + 2);
    }
}
