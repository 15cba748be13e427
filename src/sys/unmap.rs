//! Giving the memory of a dead process back, by the one that shared it and outlives it.
//!
//! Context: a process of ours, alone in the memory of an application that ended or made an `exec`. What it unmaps
//! would otherwise stay until it ends itself: perhaps gigabytes. No allocation, no lock, no thread-local.

use std::ops::Range;

use super::procfs::File;
use super::raw;

/// One line of `/proc/PID/maps` (man 5 proc_pid_maps), as far as it has been read.
#[derive(Clone, Copy, Default)]
struct Line {
    /// Of its fields: start, end, permissions, offset, device, inode, path.
    field: u8,
    start: usize,
    end: usize,
    private: bool,
    has_file: bool,
}

impl Line {
    fn take(&mut self, byte: u8) {
        let digit = |value: usize| value << 4 | (byte as char).to_digit(16).unwrap_or(0) as usize;
        match (self.field, byte) {
            (0, b'-') => self.field = 1,
            (1..6, b' ') => self.field += 1,
            (0, _) => self.start = digit(self.start),
            (1, _) => self.end = digit(self.end),
            (2, b'p') => self.private = true,
            (5, b'1'..=b'9') => self.has_file = true,
            _ => {}
        }
    }
}

/// What is kept of the zeroed memory behind a program's or library's data: its statics, in there at the latest.
const STATICS: usize = 1 << 20;

/// Unmaps everything but `stack`, on which the caller runs, and what was mapped privately from files: programs and
/// libraries, the caller's code and data among them. `maps` is `/proc/self/maps`, not read from yet.
pub fn all_but(stack: &Range<usize>, maps: &File) {
    let mut line = Line::default();
    let mut data_end = 0;
    let mut buffer = [0; 2048];
    while let Ok(count @ 1..) = maps.read(&mut buffer) {
        for &byte in buffer.iter().take(count) {
            if byte != b'\n' {
                line.take(byte);
                continue;
            }
            let Line { start, end, private, has_file, .. } = std::mem::take(&mut line);
            if private && has_file {
                data_end = end;
                continue;
            }
            let start = if start == data_end { start.saturating_add(STATICS) } else { start };
            // The kernel joins neighbouring mappings of a kind: statics and stack may be part of a larger one.
            unmap(start, end.min(stack.start));
            unmap(start.max(stack.end), end);
        }
    }
}

fn unmap(start: usize, end: usize) {
    if let Some(length @ 1..) = end.checked_sub(start) {
        // SAFETY: nothing of ours lies there, as `all_but` says, and nobody else is left to use it.
        let _ = unsafe { raw::syscall6(libc::SYS_munmap, [start, length, 0, 0, 0, 0]) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        let mut line = Line::default();
        text.bytes().for_each(|byte| line.take(byte));
        line
    }

    #[test]
    fn reads_what_it_must_know_of_a_line() {
        let file = line("7f00a000-7f00b000 r-xp 00001000 fd:01 1050 /usr/lib/p s.so");
        assert_eq!((file.start, file.end), (0x7f00_a000, 0x7f00_b000));
        assert!(file.private && file.has_file);
        assert!(!line("7f00a000-7f00b000 rw-p 00000000 00:00 0 [heap]").has_file);
        assert!(!line("7f00a000-7f00b000 rw-s 00000000 00:05 12 /dev/shm/x").private);
    }
}
