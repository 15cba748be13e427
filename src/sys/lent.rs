//! Descriptors of ours in the application's table, while one of its threads works for us.
//!
//! Context: any; no allocation, no lock. Whoever opened them closes them, but for two cases, in which they are closed
//! by what is noted here: the work is left where it stands for want of memory, and a child is forked meanwhile.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use super::allocator::Role;
use super::{process, raw};

/// Higher numbers than 64 times this are not noted.
const WORDS: usize = 64;

struct Lent {
    /// The thread that works, 0 for none.
    tid: AtomicI32,
    /// A bit for each of its open descriptors.
    open: [AtomicU64; WORDS],
}

/// One for each role; the observer has a table of its own, and notes nothing.
static LENT: [Lent; 3] = [const { Lent { tid: AtomicI32::new(0), open: [const { AtomicU64::new(0) }; WORDS] } }; 3];

/// From here on the calling thread works in `role`.
pub fn begin(role: Role) {
    if let Some(lent) = LENT.get(role as usize) {
        lent.tid.store(process::tid(), Ordering::Relaxed);
    }
}

/// The work is done: closes what is still open. Also in a forked child, for the thread of its parent.
pub fn end(role: Role) {
    let Some(lent) = LENT.get(role as usize) else { return };
    if lent.tid.swap(0, Ordering::Relaxed) == 0 {
        return;
    }
    for (index, word) in lent.open.iter().enumerate() {
        let mut open = word.swap(0, Ordering::Relaxed);
        while open != 0 {
            let number = index * 64 + open.trailing_zeros() as usize;
            open &= open - 1;
            // SAFETY: it is noted, hence ours, and nobody is left to use it.
            let _ = unsafe { raw::syscall6(libc::SYS_close, [number, 0, 0, 0, 0, 0]) };
        }
    }
}

/// Whether descriptor `number` of the application's table is one of these.
pub fn has(number: RawFd) -> bool {
    let noted = |lent: &Lent| {
        let word = lent.open.get(number as usize / 64).map_or(0, |word| word.load(Ordering::Relaxed));
        lent.tid.load(Ordering::Relaxed) != 0 && word >> (number % 64) & 1 == 1
    };
    number >= 0 && LENT.iter().any(noted)
}

/// Notes that `descriptor` is open, or (before it is closed) not any more.
pub fn note(descriptor: RawFd, open: bool) {
    let works = |lent: &&Lent| match lent.tid.load(Ordering::Relaxed) {
        0 => false,
        tid => tid == process::tid(),
    };
    let Some(lent) = LENT.iter().find(works) else { return };
    let (index, bit) = (descriptor as usize / 64, 1 << (descriptor % 64));
    if let Some(word) = lent.open.get(index) {
        if open {
            word.fetch_or(bit, Ordering::Relaxed)
        } else {
            word.fetch_and(!bit, Ordering::Relaxed)
        };
    }
}

/// Whether the calling thread works for us and has noted `descriptor` as open.
pub fn is_noted(descriptor: RawFd) -> bool {
    let own = process::tid();
    let Some(lent) = LENT.iter().find(|lent| lent.tid.load(Ordering::Relaxed) == own) else { return false };
    lent.open
        .get(descriptor as usize / 64)
        .is_some_and(|word| word.load(Ordering::Relaxed) >> (descriptor % 64) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::procfs::File;

    #[test]
    fn what_was_left_open_is_closed() {
        let is_open = |number| std::fs::read_link(format!("/proc/self/fd/{number}")).is_ok();
        let before = File::open(c"/dev/null").unwrap();
        begin(Role::Dump);
        let (left, closed) = (File::open(c"/dev/null").unwrap(), File::open(c"/dev/null").unwrap());
        let number = left.raw();
        std::mem::forget(left);
        drop(closed);
        assert!(is_open(number));
        end(Role::Dump);
        assert!(!is_open(number) && is_open(before.raw()));
    }
}
