//! The pump's end of the operator's pipe.
//!
//! Context: the pump ([`super::pump`]): no allocation, no lock, no panic, never blocks.

#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd};

use super::note::Note;
use crate::sys::procfs::File;

/// The operator's end, which may be full, and never waited for.
pub struct Operator {
    pipe: File,
    /// Bytes that did not fit and were not told yet.
    skipped: usize,
    /// The line that is on its way was skipped in part, and the rest of it shall be.
    is_cut: bool,
    /// What was written last ended a line.
    at_line_start: bool,
}

impl Operator {
    /// Writes to `pipe`, which does not block.
    pub fn new(pipe: File) -> Self {
        Self { pipe, skipped: 0, is_cut: false, at_line_start: true }
    }

    /// Whether to wait for room: for the note that tells what was skipped.
    pub fn has_to_tell(&self) -> bool {
        self.skipped > 0 && !self.is_cut
    }

    /// Writes what there is room for, counts the rest.
    pub fn offer(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        if self.is_cut {
            let end = rest.iter().position(|byte| *byte == b'\n').map(|end| end + 1);
            let (skipped, next) = rest.split_at_checked(end.unwrap_or(rest.len())).unwrap_or_default();
            self.skip(skipped);
            rest = next;
        }
        if !rest.is_empty() && self.tell_skipped() {
            let taken = self.pipe.write(rest).unwrap_or(0);
            let (written, left) = rest.split_at_checked(taken).unwrap_or_default();
            self.at_line_start = written.last().map_or(self.at_line_start, |last| *last == b'\n');
            rest = left;
        }
        self.skip(rest);
    }

    fn skip(&mut self, bytes: &[u8]) {
        self.skipped = self.skipped.saturating_add(bytes.len());
        self.is_cut = bytes.last().map_or(self.is_cut, |last| *last != b'\n');
    }

    /// Tells what was skipped, if anything was; false when there is no room even for that.
    pub fn tell_skipped(&mut self) -> bool {
        if self.skipped > 0 {
            // All or nothing, as it is shorter than PIPE_BUF (man 7 pipe).
            if self.pipe.write(Note::skipped(self.skipped, self.at_line_start).bytes()).is_err() {
                return false;
            }
            (self.skipped, self.at_line_start) = (0, true);
        }
        true
    }
}

impl AsFd for Operator {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}
