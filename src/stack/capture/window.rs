#![forbid(unsafe_code)]
//! What the unwinder sees of a stack: a window over a blocked thread's, or the copy of a stopped one's.
//!
//! Context: the observer. Both fail on what they do not hold, and neither allocates per thread.

use std::cell::{Cell, RefCell};

use super::gaze::Blocked;
use crate::sys::memory::{Live, Memory};

/// Bytes read first: enough for some thirty frames, and one system call of 1.8 µs.
const FIRST: usize = 8 << 10;
/// Bytes read at most at once; the window doubles up to this while unwinding asks for more.
const MOST: usize = 64 << 10;
/// How far below the address asked for a piece begins: saved registers of a frame are read downwards.
const BELOW: u64 = 512;

/// One piece of memory, copied.
#[derive(Debug, Default)]
struct Piece {
    base: u64,
    filled: usize,
    bytes: Vec<u8>,
}

impl Piece {
    /// What it holds from `address` on.
    fn held(&self, address: u64) -> &[u8] {
        held(self.base, self.bytes.get(..self.filled).unwrap_or_default(), address)
    }

    fn fill(&mut self, base: u64, size: usize) {
        if self.bytes.len() < size {
            self.bytes.resize(size, 0);
        }
        self.base = base;
        self.filled = self.bytes.get_mut(..size).map_or(0, |room| Live.read(base, room));
    }
}

/// What `bytes`, which begin at `base`, hold from `address` on.
fn held(base: u64, bytes: &[u8], address: u64) -> &[u8] {
    let offset = address.checked_sub(base).and_then(|offset| usize::try_from(offset).ok());
    offset.and_then(|offset| bytes.get(offset..)).unwrap_or_default()
}

/// Copies the start of `from` into `buffer`; how many bytes.
fn copy(from: &[u8], buffer: &mut [u8]) -> usize {
    let count = from.len().min(buffer.len());
    if let (Some(to), Some(from)) = (buffer.get_mut(..count), from.get(..count)) {
        to.copy_from_slice(from);
    }
    count
}

/// The two pieces that a window holds, kept from thread to thread. Two, because an unwinder moves up
/// one stack and may change once to another (a handler's alternate stack).
#[derive(Debug, Default)]
pub struct Pieces {
    pieces: [Piece; 2],
    latest: usize,
    next: usize,
}

/// The stack of a blocked thread, copied as it is asked for. Each piece is accepted only with the
/// proof that the thread has not run since its registers were read.
pub struct Window<'a> {
    pieces: RefCell<&'a mut Pieces>,
    thread: &'a Blocked,
    moved: Cell<bool>,
}

impl<'a> Window<'a> {
    /// A window over the stack of `thread`, from `below` bytes under its stack pointer.
    pub fn new(pieces: &'a mut Pieces, thread: &'a Blocked, below: u64) -> Self {
        for piece in &mut pieces.pieces {
            piece.filled = 0;
        }
        pieces.latest = 0;
        pieces.next = FIRST;
        let window = Self { pieces: RefCell::new(pieces), thread, moved: Cell::new(false) };
        window.look(thread.sp.saturating_sub(below));
        window
    }

    /// The thread ran before the last piece was copied: what was unwound from it is worth nothing.
    pub fn moved(&self) -> bool {
        self.moved.get()
    }

    /// Copies a piece from `base` on, in place of the older one.
    fn look(&self, base: u64) {
        let Ok(mut pieces) = self.pieces.try_borrow_mut() else { return };
        let (index, size) = (1 - pieces.latest.min(1), pieces.next);
        pieces.latest = index;
        pieces.next = (size * 2).min(MOST);
        let Some(piece) = pieces.pieces.get_mut(index) else { return };
        piece.fill(base, size);
        if piece.filled > 0 && !self.thread.did_not_run() {
            piece.filled = 0;
            self.moved.set(true);
        }
    }

    /// Copies as much as one piece holds; all of `buffer` if any piece does.
    fn held(&self, address: u64, buffer: &mut [u8]) -> usize {
        let Ok(pieces) = self.pieces.try_borrow() else { return 0 };
        let most = pieces.pieces.iter().map(|piece| piece.held(address)).max_by_key(|held| held.len());
        copy(most.unwrap_or_default(), buffer)
    }
}

impl Memory for Window<'_> {
    fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
        let mut count = self.held(address, buffer);
        // A piece that begins a little lower may begin in unreadable memory: then once more, exactly there.
        for below in [BELOW, 0] {
            if count == buffer.len() {
                break;
            }
            if self.moved() {
                return 0;
            }
            self.look(address.saturating_sub(below));
            count = self.held(address, buffer);
        }
        count
    }
}

/// Copies of stack memory taken while a thread was stopped.
pub struct Copied<'a> {
    /// Each a first address and the bytes from there.
    spans: [(u64, &'a [u8]); 2],
    missed: Cell<Option<u64>>,
}

impl<'a> Copied<'a> {
    /// What was copied, as first address and bytes.
    pub fn new(spans: [(u64, &'a [u8]); 2]) -> Self {
        Self { spans, missed: Cell::new(None) }
    }

    /// The first address that was asked for and is not held.
    pub fn missed(&self) -> Option<u64> {
        self.missed.get()
    }
}

impl Memory for Copied<'_> {
    fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
        let most = self.spans.iter().map(|&(base, bytes)| held(base, bytes, address)).max_by_key(|held| held.len());
        let count = copy(most.unwrap_or_default(), buffer);
        if count < buffer.len() && self.missed.get().is_none() {
            self.missed.set(Some(address.saturating_add(count as u64)));
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_tells_what_it_lacks() {
        let copy = Copied::new([(0x1000, &[1; 16]), (0x2000, &[2; 16])]);
        let mut buffer = [0; 8];
        assert_eq!((copy.read(0x1008, &mut buffer), buffer), (8, [1; 8]));
        assert_eq!((copy.read(0x2000, &mut buffer), buffer), (8, [2; 8]));
        assert_eq!(copy.missed(), None);
        assert_eq!(copy.read(0x100c, &mut buffer), 4);
        assert_eq!(copy.missed(), Some(0x1010));
        assert_eq!(copy.read(0xfff, &mut buffer), 0);
        assert_eq!(copy.read(u64::MAX, &mut buffer), 0);
    }
}
