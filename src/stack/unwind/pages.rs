//! A few pages of code and call frame information, so that a search touches the kernel once a page.
//!
//! Context: the observer. Holds only memory of loaded modules, which does not change while they are
//! loaded; [`Pages::forget`] when they change. Never stack memory, never a JIT's.

use std::cell::RefCell;

use crate::sys::memory::Memory;

const PAGE: usize = 4096;
/// A binary search through a large table, an FDE, its CIE and the code: about ten pages.
const SLOTS: usize = 16;

/// Direct-mapped by page number.
#[derive(Default)]
pub(super) struct Pages(RefCell<Vec<Page>>);

struct Page {
    address: u64,
    /// Bytes that could be read.
    filled: usize,
    bytes: Box<[u8]>,
}

impl Pages {
    /// Drops everything.
    pub(super) fn forget(&mut self) {
        self.0.get_mut().clear();
    }

    /// `memory`, seen through the pages.
    pub(super) fn over<'a, M: Memory>(&'a self, memory: &'a M) -> Cached<'a, M> {
        Cached { pages: self, memory }
    }

    /// Copies what can be had from one page; 0 at the first byte that cannot be read.
    fn copy(&self, memory: &impl Memory, address: u64, buffer: &mut [u8]) -> usize {
        let Ok(mut pages) = self.0.try_borrow_mut() else { return 0 };
        if pages.is_empty() {
            let empty = || Page { address: u64::MAX, filled: 0, bytes: vec![0; PAGE].into() };
            pages.extend(std::iter::repeat_with(empty).take(SLOTS));
        }
        let start = address & !(PAGE as u64 - 1);
        let Some(page) = pages.get_mut(address as usize / PAGE % SLOTS) else { return 0 };
        if page.address != start {
            page.filled = memory.read(start, &mut page.bytes);
            page.address = start;
        }
        let source = page.bytes.get((address - start) as usize..page.filled).unwrap_or_default();
        let count = source.len().min(buffer.len());
        if let (Some(target), Some(source)) = (buffer.get_mut(..count), source.get(..count)) {
            target.copy_from_slice(source);
        }
        count
    }
}

/// See [`Pages::over`].
pub(super) struct Cached<'a, M> {
    pages: &'a Pages,
    memory: &'a M,
}

impl<M: Memory> Memory for Cached<'_, M> {
    fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let Some(from) = address.checked_add(done as u64) else { break };
            let count = self.pages.copy(self.memory, from, rest);
            if count == 0 {
                break;
            }
            done += count;
        }
        done
    }
}
