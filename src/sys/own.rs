//! Which memory is ours: what a search of the process's memory must leave out, for it holds what is searched for.
//!
//! Context: any that may allocate, and the allocator itself, which holds its lock; readers take none. A fixed table of
//! atomics: should it ever be full, what no longer fits counts as the application's.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The allocator maps 64 KiB at least at a time.
const ROOM: usize = 2048;

/// Start and length of each piece; a length of 0 is a free place.
static PIECES: [[AtomicUsize; 2]; ROOM] = [const { [const { AtomicUsize::new(0) }; 2] }; ROOM];
/// Places in use are below this one.
static USED: AtomicUsize = AtomicUsize::new(0);

/// `length` bytes from `start` on are ours.
pub fn add(start: usize, length: usize) {
    for (index, [place, size]) in PIECES.iter().enumerate() {
        // A length that is set first keeps others out; of a start of 0 nothing is shown.
        if size.compare_exchange(0, length, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            place.store(start, Ordering::Release);
            USED.fetch_max(index + 1, Ordering::AcqRel);
            return;
        }
    }
}

/// They are not any more: whole pieces, or the begin or the end of one.
pub fn remove(start: usize, length: usize) {
    let end = start + length;
    for [place, size] in used() {
        let (from, bytes) = (place.load(Ordering::Acquire), size.load(Ordering::Acquire));
        let to = from + bytes;
        if bytes == 0 || from == 0 || end <= from || to <= start {
            continue;
        }
        if start <= from && to <= end {
            place.store(0, Ordering::Release);
            size.store(0, Ordering::Release);
        } else if start <= from {
            place.store(end, Ordering::Release);
            size.store(to - end, Ordering::Release);
        } else {
            size.store(start - from, Ordering::Release);
        }
    }
}

/// The stacks of our two threads: start and length. Those of a forked child take the places of its parent's.
static STACKS: [[AtomicUsize; 2]; 2] = [const { [const { AtomicUsize::new(0) }; 2] }; 2];

/// Whose stack it is.
#[derive(Clone, Copy, Debug)]
pub enum Thread {
    /// The observer.
    Observer,
    /// The actor.
    Actor,
}

/// The stack of a thread of ours is known as ours as long as this lives.
#[derive(Debug)]
pub struct Stack(Thread);

impl Stack {
    /// Called by the outermost function of the thread, whose stack has `size` bytes; what the C library keeps at its
    /// ends does not count.
    pub fn of(thread: Thread, size: usize) -> Self {
        const C_LIBRARY: usize = 64 << 10;
        let here = 0u8;
        let (top, size) = (&raw const here as usize, size.saturating_sub(C_LIBRARY));
        if let Some([start, length]) = STACKS.get(thread as usize) {
            start.store(top.saturating_sub(size), Ordering::Release);
            length.store(size, Ordering::Release);
        }
        Self(thread)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if let Some([_, length]) = STACKS.get(self.0 as usize) {
            length.store(0, Ordering::Release);
        }
    }
}

/// Calls `each` with start and end of every piece.
pub fn for_each(mut each: impl FnMut(u64, u64)) {
    for [place, size] in used().chain(&STACKS) {
        let (from, bytes) = (place.load(Ordering::Acquire), size.load(Ordering::Acquire));
        if from != 0 && bytes != 0 {
            each(from as u64, (from + bytes) as u64);
        }
    }
}

/// Whether `address` lies in one.
pub fn has(address: u64) -> bool {
    let mut found = false;
    for_each(|start, end| found |= (start..end).contains(&address));
    found
}

fn used() -> impl Iterator<Item = &'static [AtomicUsize; 2]> {
    PIECES.iter().take(USED.load(Ordering::Acquire))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(range: std::ops::Range<u64>) -> Vec<(u64, u64)> {
        let mut found = Vec::new();
        for_each(|start, end| found.extend(range.contains(&start).then_some((start, end))));
        found.sort_unstable();
        found
    }

    #[test]
    fn pieces_are_added_cut_and_removed() {
        // Where nothing is mapped: the table is the process's.
        let range = 0x1000..0x9000;
        add(0x1000, 0x1000);
        add(0x2000, 0x1000);
        add(0x5000, 0x2000);
        remove(0x6000, 0x1000);
        assert_eq!(pieces(range.clone()), [(0x1000, 0x2000), (0x2000, 0x3000), (0x5000, 0x6000)]);
        remove(0x1000, 0x1800);
        assert_eq!(pieces(range.clone()), [(0x2800, 0x3000), (0x5000, 0x6000)]);
        remove(0, 0x9000);
        assert_eq!(pieces(range), []);
    }

    #[test]
    fn what_is_allocated_is_ours() {
        let block = vec![1u8; 1 << 20];
        let at = block.as_ptr() as u64;
        // It may lie in two pieces.
        assert!((at..at + (1 << 20)).step_by(4096).all(has), "{at:#x}");
    }
}
