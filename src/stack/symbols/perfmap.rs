//! Names of code that a JIT compiler wrote: `/tmp/perf-PID.map`, the file that perf reads (node
//! `--perf-basic-prof`, java with perf-map-agent, Python's `-X perf`, .NET).
//!
//! Context: the observer. /tmp is anybody's: only a regular file of our own user's or root's is read, never
//! through a link, in pieces, once for all addresses. Later lines win: a compiler reuses memory.

use std::ffi::CString;
use std::sync::Arc;

use crate::sys::far::{self, Reached};

/// Bytes read of a map at most.
const LONGEST: u64 = 256 << 20;
const PIECE: usize = 256 << 10;

/// Names and starts of the functions at `addresses` (ascending, each once).
pub fn names(addresses: &[u64]) -> Vec<Option<(Arc<str>, u64)>> {
    let mut found = vec![None; addresses.len()];
    if let Some(file) = open() {
        scan(|buffer, offset| file.read_at(buffer, offset).unwrap_or(0), addresses, &mut found);
    }
    found
}

fn open() -> Option<Reached> {
    let path = CString::new(format!("/tmp/perf-{}.map", std::process::id())).ok()?;
    // A FIFO of that name would otherwise wait for its writer for ever.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = Reached::open(&path, flags, far::is_far_path(path.to_bytes())).ok()?;
    let status = file.status().ok()?;
    let own = status.uid == 0 || status.uid == nix::unistd::geteuid().as_raw();
    (status.is_regular() && own).then_some(file)
}

fn scan(mut read: impl FnMut(&mut [u8], u64) -> usize, addresses: &[u64], found: &mut [Option<(Arc<str>, u64)>]) {
    let mut buffer = vec![0; PIECE];
    let (mut kept, mut offset) = (0, 0);
    while offset < LONGEST {
        let count = buffer.get_mut(kept..).map_or(0, |room| read(room, offset));
        offset += count as u64;
        let filled = buffer.get(..kept + count).unwrap_or_default();
        // The last line may still be being written: one without a newline is not read.
        let end = filled.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        for line in filled.get(..end).unwrap_or_default().split(|byte| *byte == b'\n') {
            let _ = take(line, addresses, found);
        }
        if count == 0 {
            return;
        }
        kept = filled.len() - end;
        buffer.copy_within(end..end + kept, 0);
        if kept == PIECE {
            // A line longer than the buffer: drop what there is of it.
            kept = 0;
        }
    }
}

/// `START SIZE name`, both numbers hexadecimal.
fn take(line: &[u8], addresses: &[u64], found: &mut [Option<(Arc<str>, u64)>]) -> Option<()> {
    let mut fields = line.splitn(3, |byte| *byte == b' ');
    let (start, rest) = (hexadecimal(fields.next()?)?, hexadecimal(fields.next()?)?);
    let name = fields.next()?;
    let first = addresses.partition_point(|address| *address < start);
    let end = addresses.partition_point(|address| *address < start.saturating_add(rest));
    let range = found.get_mut(first..end).filter(|range| !range.is_empty())?;
    let name: Arc<str> = Arc::from(String::from_utf8_lossy(name.get(..name.len().min(4096))?));
    range.fill(Some((name, start)));
    Some(())
}

fn hexadecimal(digits: &[u8]) -> Option<u64> {
    let digits = digits.strip_prefix(b"0x").unwrap_or(digits);
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_lines_win_and_half_a_line_is_not_read() {
        let text = b"1000 100 Old:foo\n1000 80 New:bar baz\njunk\n0x2000 10 hex\n3000 10 half";
        let mut found = vec![None; 5];
        let addresses = [0xfff, 0x1000, 0x1080, 0x200f, 0x3001];
        let read = |buffer: &mut [u8], offset: u64| {
            // One byte at a time: lines cross pieces.
            let Some(byte) = text.get(offset as usize) else { return 0 };
            buffer[0] = *byte;
            1
        };
        scan(read, &addresses, &mut found);
        let names: Vec<_> = found.iter().map(|name| name.as_ref().map_or("", |name| &name.0)).collect();
        assert_eq!(names, ["", "New:bar baz", "Old:foo", "hex", ""]);
    }

    #[test]
    fn a_line_without_end_is_survived() {
        let mut found = vec![None; 1];
        scan(
            |buffer, offset| {
                if offset < 2 << 20 {
                    buffer.fill(b'a');
                    buffer.len()
                } else {
                    0
                }
            },
            &[1],
            &mut found,
        );
        assert_eq!(found, [None]);
    }
}
