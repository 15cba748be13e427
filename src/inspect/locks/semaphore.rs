//! `sem_t` and `pthread_barrier_t` (glibc's `struct new_sem` and `struct pthread_barrier` in `internaltypes.h`).

#![forbid(unsafe_code)]

use super::Version;
use crate::sys::memory::Memory;

/// Since 2.21 the waiters are counted in the upper half of the first word; before, behind it.
const SINCE: Version = (2, 21);
const OLD_WAITERS: u64 = 8;

/// The value of the semaphore at `address`, and how many wait.
pub fn state(memory: &impl Memory, address: u64, version: Version) -> String {
    let word = |address| memory.read_array(address).map(u32::from_le_bytes);
    let waiters = if version < SINCE { OLD_WAITERS } else { 4 };
    match (word(address), word(address.wrapping_add(waiters))) {
        (Some(value), Some(waiting)) => format!("value {value}, {waiting} waiting"),
        _ => String::new(),
    }
}

/// A barrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Barrier {
    arrived: u32,
    left_before: u32,
    count: u32,
}

impl Barrier {
    /// Reads the barrier whose waiters wait on the word `round`: arrived, round, count, shared, out.
    pub fn read(memory: &impl Memory, round: u64) -> Option<Self> {
        let bytes: [u8; 16] = memory.read_array(round.wrapping_sub(4))?;
        let (words, _) = bytes.as_chunks::<4>();
        let [arrived, left_before, count, shared] = *words else { return None };
        let [arrived, left_before, count, shared] = [arrived, left_before, count, shared].map(u32::from_le_bytes);
        let is_plausible = count > 0 && arrived >= left_before && matches!(shared, 0 | 1 | 128);
        is_plausible.then_some(Self { arrived, left_before, count })
    }

    /// How many have come.
    pub fn state(self) -> String {
        format!("{} of {} have come", self.arrived - self.left_before, self.count)
    }
}
