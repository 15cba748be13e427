//! Looking for bytes in the memory of the process.
//!
//! Context: the observer, some milliseconds at a time. Only pages that are there are read, so a search neither loads
//! nor makes any; what the application writes meanwhile may be found or missed. Memory of ours is left out: it holds
//! what is looked for. Device memory cannot be read this way: the kernel refuses (get_user_pages, VM_IO).

#![cfg_attr(not(test), forbid(unsafe_code))]

use std::ops::Range;
use std::time::Instant;

use super::residency::{Residency, Where};
use crate::sys::memory::Memory;
use crate::sys::{Result, own};

/// Bytes read at once.
const CHUNK: usize = 256 << 10;

/// What is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needle {
    bytes: Vec<u8>,
    /// Matches begin at multiples of this.
    alignment: u64,
    /// The byte that is looked for first, and where it is: one that is rare in memory, if there is one.
    anchor: (usize, u8),
}

impl Needle {
    /// `None` for no bytes.
    pub fn new(bytes: Vec<u8>, alignment: u64) -> Option<Self> {
        let is_rare = |byte: &&u8| ![0, 0xff, b' ', 0x7f, 0x55].contains(*byte);
        let at = bytes.iter().position(|byte| is_rare(&byte)).unwrap_or(0);
        let anchor = (at, *bytes.get(at)?);
        Some(Self { bytes, alignment: alignment.max(1), anchor })
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Never.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Where it begins in `memory`, which lies at `address`.
    fn find(&self, memory: &[u8], address: u64, found: &mut Vec<u64>) {
        let (offset, anchor) = self.anchor;
        let mut from = offset;
        while let Some(at) = memory.get(from..).and_then(|rest| rest.iter().position(|byte| *byte == anchor)) {
            let begin = from + at - offset;
            if memory.get(begin..).is_some_and(|rest| rest.starts_with(&self.bytes)) {
                let place = address.wrapping_add(begin as u64);
                found.extend(place.is_multiple_of(self.alignment).then_some(place));
            }
            from += at + 1;
        }
    }
}

/// A piece of memory to look in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its addresses, whole pages.
    pub range: Range<u64>,
    /// What is absent is read all the same: data of a file that was not touched yet.
    pub with_absent: bool,
}

/// What was looked at and what was not, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Read.
    pub read: u64,
    /// Not there.
    pub absent: u64,
    /// Swapped out.
    pub swapped: u64,
    /// There, and not readable all the same.
    pub unreadable: u64,
}

/// A search at work.
pub struct Scan {
    needle: Needle,
    pieces: Vec<Piece>,
    with_swapped: bool,
    /// The piece that comes next or is at work, and how far that is done.
    index: usize,
    at: u64,
    residency: Residency,
    /// What is read next, in reverse order.
    runs: Vec<Range<u64>>,
    buffer: Vec<u8>,
    /// Bytes at the begin of `buffer` that were read before and may begin a match, and where they end.
    kept: usize,
    kept_end: u64,
    counts: Counts,
    total: u64,
}

impl Scan {
    /// Looks for `needle` in `pieces`, which ascend, without what is ours: `library` and what [`own`] knows.
    pub fn new(needle: Needle, pieces: Vec<Piece>, library: Option<Range<u64>>, with_swapped: bool) -> Self {
        let mut ours: Vec<Range<u64>> = library.into_iter().collect();
        own::for_each(|start, end| ours.push(start..end));
        let pieces = without(pieces, ours);
        let total = pieces.iter().map(|piece| piece.range.end - piece.range.start).sum();
        let at = pieces.first().map_or(0, |piece| piece.range.start);
        Self {
            needle,
            pieces,
            with_swapped,
            index: 0,
            at,
            residency: Residency::new(),
            runs: Vec::new(),
            buffer: Vec::new(),
            kept: 0,
            kept_end: 0,
            counts: Counts::default(),
            total,
        }
    }

    /// What was looked at.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Bytes done, and all.
    pub fn progress(&self) -> (u64, u64) {
        let Counts { read, absent, swapped, unreadable } = self.counts;
        (read + absent + swapped + unreadable, self.total)
    }

    /// Works until about `until`, appending matches to `found`; false when it is done.
    pub fn step(&mut self, memory: &impl Memory, until: Instant, found: &mut Vec<u64>) -> Result<bool> {
        loop {
            if let Some(run) = self.runs.pop() {
                self.read(memory, run, found);
            } else if !self.ask()? {
                return Ok(false);
            }
            if Instant::now() >= until || found.len() > CHUNK {
                return Ok(true);
            }
        }
    }

    /// Asks which of the next pages are there; false at the end.
    fn ask(&mut self) -> Result<bool> {
        let Some(piece) = self.pieces.get(self.index) else { return Ok(false) };
        if self.at >= piece.range.end {
            self.index += 1;
            self.at = self.pieces.get(self.index).map_or(0, |next| next.range.start);
            return Ok(self.index < self.pieces.len());
        }
        let runs = self.residency.runs(self.at..piece.range.end)?;
        let Some((last, _)) = runs.last() else {
            // It was unmapped at this moment.
            self.counts.absent += piece.range.end - self.at;
            self.at = piece.range.end;
            return Ok(true);
        };
        self.at = last.end.min(piece.range.end);
        for (run, kind) in runs {
            let length = run.end - run.start;
            match kind {
                Where::Absent if !piece.with_absent => self.counts.absent += length,
                Where::Swapped if !self.with_swapped => self.counts.swapped += length,
                _ => self.runs.push(run),
            }
        }
        self.runs.reverse();
        Ok(true)
    }

    /// Reads the begin of `run` and looks through it; the rest comes next.
    fn read(&mut self, memory: &impl Memory, run: Range<u64>, found: &mut Vec<u64>) {
        if run.start != self.kept_end {
            self.kept = 0;
        }
        let length = usize::try_from(run.end - run.start).unwrap_or(CHUNK).min(CHUNK);
        self.buffer.resize(self.kept + length, 0);
        let count = memory.read(run.start, self.buffer.get_mut(self.kept..).unwrap_or_default());
        self.counts.read += count as u64;
        let filled = self.buffer.get(..self.kept + count).unwrap_or_default();
        self.needle.find(filled, run.start.wrapping_sub(self.kept as u64), found);
        // One byte less than a match, so that none is found twice.
        let keep = filled.len().min(self.needle.len() - 1);
        self.buffer.copy_within(self.kept + count - keep..self.kept + count, 0);
        (self.kept, self.kept_end) = (keep, run.start + count as u64);
        let mut next = run.start + count as u64;
        if count < length {
            // To the next page.
            let page = 4096 - next % 4096;
            self.counts.unreadable += page.min(run.end - next);
            next = (next + page).min(run.end);
        }
        if next < run.end {
            self.runs.push(next..run.end);
        }
    }
}

/// `pieces` without what lies in `holes`. Holes need not be whole pages; pages of theirs in part are left out.
fn without(pieces: Vec<Piece>, mut holes: Vec<Range<u64>>) -> Vec<Piece> {
    holes.sort_unstable_by_key(|hole| hole.start);
    let mut left = Vec::new();
    for piece in pieces {
        let mut start = piece.range.start;
        for hole in holes.iter().filter(|hole| hole.end > piece.range.start && hole.start < piece.range.end) {
            let (from, to) = (hole.start & !4095, hole.end.next_multiple_of(4096));
            if start < from {
                left.push(Piece { range: start..from, ..piece });
            }
            start = start.max(to);
        }
        if start < piece.range.end {
            left.push(Piece { range: start..piece.range.end, ..piece });
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::memory::Live;

    fn all(scan: &mut Scan) -> Vec<u64> {
        let mut found = Vec::new();
        while scan.step(&Live, Instant::now(), &mut found).unwrap() {}
        found
    }

    /// Memory that is none of ours: ours would be left out.
    fn foreign(pages: usize) -> &'static mut [u8] {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let (length, protection) = (pages * 4096, libc::PROT_READ | libc::PROT_WRITE);
        // SAFETY: a new mapping aliases nothing; it stays for the rest of the test.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0) };
        assert_ne!(start, libc::MAP_FAILED);
        // SAFETY: as long as the mapping, zeroed.
        unsafe { std::slice::from_raw_parts_mut(start.cast(), length) }
    }

    fn scan(memory: &[u8], needle: &[u8], alignment: u64) -> Scan {
        let start = memory.as_ptr() as u64;
        let range = start..start + memory.len() as u64;
        Scan::new(
            Needle::new(needle.to_vec(), alignment).unwrap(),
            vec![Piece { range, with_absent: false }],
            None,
            false,
        )
    }

    #[test]
    fn matches_across_borders_are_found_once() {
        let memory = foreign(1024);
        let start = memory.as_ptr() as u64;
        let needle = b"needle-4711";
        let places = [0, 4090, 8192, CHUNK - 3, 2 * CHUNK - needle.len(), 3 * CHUNK - 1, memory.len() - needle.len()];
        for place in places {
            memory[place..place + needle.len()].copy_from_slice(needle);
        }
        let mut scan = scan(memory, needle, 1);
        assert_eq!(all(&mut scan), places.map(|place| start + place as u64));
        let (done, total) = scan.progress();
        assert_eq!((done, total), (memory.len() as u64, memory.len() as u64));
        assert!(scan.counts().absent > 0 && scan.counts().read < 40 * 4096 + total / 2, "{:?}", scan.counts());
    }

    #[test]
    fn overlapping_and_aligned_matches() {
        let memory = foreign(2);
        let start = memory.as_ptr() as u64;
        memory[100..110].fill(b'a');
        assert_eq!(all(&mut scan(memory, b"aaaaaaaa", 1)), [start + 100, start + 101, start + 102]);
        assert_eq!(all(&mut scan(memory, b"aaaa", 4)), [start + 100, start + 104]);
        memory[8..16].copy_from_slice(&1u64.to_le_bytes());
        assert_eq!(all(&mut scan(memory, &1u64.to_le_bytes(), 8)), [start + 8]);
    }

    #[test]
    fn holes_are_cut_out() {
        let piece = |range| Piece { range, with_absent: false };
        let cut = without(vec![piece(0x1000..0x9000)], vec![0x3800..0x4001, 0x8000..0xa000, 0x0..0x10]);
        assert_eq!(cut, [piece(0x1000..0x3000), piece(0x5000..0x8000)]);
        assert_eq!(without(vec![piece(0x1000..0x2000)], vec![0x0..0x1800, 0x1000..0x9000]), []);
    }

    #[test]
    fn sparse_memory_stays_sparse() {
        let tables = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find(|line| line.starts_with("VmPTE:")).unwrap().to_owned();
            line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
        };
        let memory = foreign((8 << 30) / 4096);
        let middle = memory.len() / 2;
        memory[middle..middle + 6].copy_from_slice(b"sparse");
        let before = tables();
        let mut scan = scan(memory, b"sparse", 1);
        assert_eq!(all(&mut scan), [memory.as_ptr() as u64 + middle as u64]);
        // Other tests map memory, too; all of it would be 16 MiB of tables.
        assert!(tables() < before + 4096, "{} kB, before {before} kB", tables());
    }
}
