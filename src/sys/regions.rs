//! Which memory a heap has from the kernel.
//!
//! Context: changed by the allocator under its lock; asked by anyone, without one: the answer is that of a moment.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Ranges that are known at most; adjacent ones count as one. What comes beyond is not known.
const MOST: usize = 256;

/// A start and an end each; 0 and 0 is free.
pub struct Regions([[AtomicUsize; 2]; MOST]);

impl Regions {
    /// None.
    pub const fn new() -> Self {
        Self([const { [const { AtomicUsize::new(0) }; 2] }; MOST])
    }

    /// There is one more.
    pub fn add(&self, new: Range<usize>) {
        if let Some(below) = self.0.iter().find(|slot| read(slot).end == new.start) {
            return write(below, read(below).start..new.end);
        }
        if let Some(above) = self.0.iter().find(|slot| read(slot).start == new.end) {
            return write(above, new.start..read(above).end);
        }
        if let Some(free) = self.0.iter().find(|slot| read(slot).is_empty()) {
            write(free, new);
        }
    }

    /// That one is gone, whole ones or parts.
    pub fn remove(&self, gone: Range<usize>) {
        for slot in &self.0 {
            let now = read(slot);
            if now.end <= gone.start || gone.end <= now.start {
                continue;
            }
            let [head, tail] = [now.start..gone.start.max(now.start), gone.end.min(now.end)..now.end];
            let (kept, other) = if head.is_empty() { (tail, head) } else { (head, tail) };
            write(slot, if kept.is_empty() { 0..0 } else { kept });
            if !other.is_empty()
                && let Some(free) = self.0.iter().find(|slot| read(slot).is_empty())
            {
                write(free, other);
            }
        }
    }

    /// Whether `address` lies in one.
    pub fn has(&self, address: usize) -> bool {
        self.0.iter().any(|slot| read(slot).contains(&address))
    }
}

impl Default for Regions {
    fn default() -> Self {
        Self::new()
    }
}

fn read([start, end]: &[AtomicUsize; 2]) -> Range<usize> {
    start.load(Ordering::Relaxed)..end.load(Ordering::Relaxed)
}

fn write([start, end]: &[AtomicUsize; 2], range: Range<usize>) {
    start.store(range.start, Ordering::Relaxed);
    end.store(range.end, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_grow_together_and_are_cut() {
        let regions = Box::new(Regions::new());
        regions.add(10..20);
        regions.add(30..40);
        regions.add(20..25);
        regions.add(28..30);
        let all = |regions: &Regions| (0..60).filter(|address| regions.has(*address)).collect::<Vec<_>>();
        assert_eq!(all(&regions), (10..25).chain(28..40).collect::<Vec<_>>());
        regions.remove(12..15);
        regions.remove(20..30);
        assert_eq!(all(&regions), (10..12).chain(15..20).chain(30..40).collect::<Vec<_>>());
        regions.remove(0..60);
        assert!(all(&regions).is_empty());
        assert!(regions.0.iter().all(|slot| read(slot) == (0..0)));
    }
}
