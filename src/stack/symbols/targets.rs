//! The addresses of a batch, as they lie in a file: sorted, so that a range finds its own by two searches.
//!
//! Context: the observer; no allocation beyond the list itself.

use std::ops::Range;

/// Steps that one lookup may take over targets, so that overlapping ranges in a hostile file cannot multiply
/// with the batch's size.
pub const FUEL: u64 = 20_000_000;

/// Addresses before the load bias, ascending, each once.
#[derive(Clone, Debug, Default)]
pub struct Targets(Vec<u64>);

impl Targets {
    /// Sorts `addresses`, and drops repetitions.
    pub fn new(mut addresses: Vec<u64>) -> Self {
        addresses.sort_unstable();
        addresses.dedup();
        Self(addresses)
    }

    /// The addresses, ascending.
    pub fn addresses(&self) -> &[u64] {
        &self.0
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Which of them lie in `begin..end`; none when `fuel`, of which each costs one, has run out.
    pub fn within(&self, begin: u64, end: u64, fuel: &mut u64) -> Range<usize> {
        let first = self.0.partition_point(|address| *address < begin);
        if self.0.get(first).is_none_or(|address| *address >= end) {
            return 0..0;
        }
        let last = self.0.partition_point(|address| *address < end);
        match fuel.checked_sub((last - first) as u64) {
            Some(left) => {
                *fuel = left;
                first..last
            }
            None => 0..0,
        }
    }
}
