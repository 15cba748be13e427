//! Which pages of memory are there: reading one that is not would make the kernel load it, or make tables for it.
//!
//! Context: the observer. `/proc/PID/pagemap` says it of each page (Documentation/admin-guide/mm/pagemap.rst; readable
//! by the process itself since Linux 4.2), by walking the tables that exist; `mincore` is asked where that is closed.

#![cfg_attr(not(test), forbid(unsafe_code))]

use std::ops::Range;

use crate::sys::procfs::File;
use crate::sys::{Result, memory, process};

/// Pages asked about at once.
const PAGES: usize = 8192;
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;

/// Where a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// Nowhere: never touched, or given back; a page of a file may be on disk.
    Absent,
    /// In memory.
    Present,
    /// Swapped out.
    Swapped,
}

/// Asks for pages.
pub struct Residency {
    pagemap: Option<File>,
    page: u64,
    buffer: Vec<u8>,
}

impl Residency {
    /// Opens what it asks.
    pub fn new() -> Self {
        let page = process::auxiliary(libc::AT_PAGESZ).max(4096);
        Self { pagemap: File::open(c"/proc/thread-self/pagemap").ok(), page, buffer: Vec::new() }
    }

    /// Runs of pages of one kind, ascending, that cover the begin of `range` (whole pages): some megabytes at most.
    pub fn runs(&mut self, range: Range<u64>) -> Result<Vec<(Range<u64>, Where)>> {
        let count = usize::try_from((range.end - range.start).div_ceil(self.page)).unwrap_or(PAGES).min(PAGES);
        let mut runs: Vec<(Range<u64>, Where)> = Vec::new();
        let mut at = range.start;
        let page = self.page;
        let mut push = |kind| {
            let next = at.saturating_add(page);
            match runs.last_mut().filter(|(_, before)| *before == kind) {
                Some((run, _)) => run.end = next,
                None => runs.push((at..next, kind)),
            }
            at = next;
        };
        match &self.pagemap {
            Some(pagemap) => {
                self.buffer.resize(count * 8, 0);
                let read = pagemap.read_at(&mut self.buffer, range.start / page * 8)?;
                let (entries, _) = self.buffer.get(..read).unwrap_or_default().as_chunks::<8>();
                for entry in entries.iter().map(|entry| u64::from_le_bytes(*entry)) {
                    push(match entry {
                        _ if entry & PRESENT != 0 => Where::Present,
                        _ if entry & SWAPPED != 0 => Where::Swapped,
                        _ => Where::Absent,
                    });
                }
            }
            None => {
                self.buffer.resize(count, 0);
                memory::resident(range.start, count as u64 * page, &mut self.buffer)?;
                self.buffer.iter().for_each(|bits| push(if bits & 1 == 1 { Where::Present } else { Where::Absent }));
            }
        }
        Ok(runs)
    }
}

impl Default for Residency {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touched_pages_are_there_and_others_are_not() {
        let mapping = crate::sys::sibling::Mapping::with_guard(1 << 20).unwrap();
        let start = mapping.range().start as u64;
        let touched = (start + 5 * 4096) as *mut u8;
        // SAFETY: the mapping is ours and writable.
        unsafe { touched.write(1) };
        for pagemap in [true, false] {
            let mut residency = Residency::new();
            residency.pagemap = residency.pagemap.filter(|_| pagemap);
            let runs = residency.runs(start..start + (16 << 12)).unwrap();
            // With transparent huge pages more than that page may be there.
            let at = |page: u64| runs.iter().find(|(run, _)| run.contains(&(start + page * 4096))).unwrap().1;
            assert_eq!(at(5), Where::Present, "{runs:?}");
            assert_eq!((runs[0].0.start, runs.last().unwrap().0.end), (start, start + (16 << 12)));
            assert!(runs.len() == 3 && at(4) == Where::Absent && at(6) == Where::Absent, "{runs:?}");
        }
    }
}
