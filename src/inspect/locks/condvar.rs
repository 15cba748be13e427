//! `pthread_cond_t` (glibc's `struct __pthread_cond_s`, and `nptl/pthread_cond_wait.c` for its protocol).
//!
//! Since 2.25 a waiter waits on one of two signal words: at 40 and 44, since 2.41 at 32 and 36. The object does not
//! record the mutex, but the waiter's own frame does: the buffer of its cancellation handler holds position, condition
//! variable, mutex and privacy. That names both beyond doubt, whatever the layout. Before 2.25 the object is 4 bytes
//! before the futex word and has the address of its mutex.

#![forbid(unsafe_code)]

use super::Version;
use super::callers::{Caller, in_glibc};
use super::mutex::Mutex;
use crate::sys::memory::Memory;

const SINCE: Version = (2, 25);
const SINCE_SHORT: Version = (2, 41);
/// Offsets of the first signal word, the usual one first.
const LONG: u64 = 40;
const SHORT: u64 = 32;
/// The count of waiters is the word before the first signal word.
const REFERENCES_BEFORE: u64 = 4;
const REFERENCE_SHIFT: u32 = 3;
/// Before 2.25.
const OLD_FUTEX: u64 = 4;
const OLD_MUTEX: u64 = 32;
const OLD_WAITERS: u64 = 40;
const OLD_WAITER_SHIFT: u32 = 1;
/// Bytes of the frames inside glibc that are searched for the buffer.
const MOST_BYTES: usize = 4096;

/// What a thread inside pthread_cond_wait waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// To be signalled.
    Waits { condition: u64, mutex: Option<u64> },
    /// It was signalled, and waits for its mutex, which is the futex word.
    LocksAgain,
}

/// Finds the condition variable whose waiter waits on `word`.
pub fn find(memory: &impl Memory, word: u64, frames: &[Caller<'_>], version: Version) -> Option<Found> {
    if version < SINCE {
        let condition = word.wrapping_sub(OLD_FUTEX);
        let mutex = memory.read_u64(condition.wrapping_add(OLD_MUTEX));
        let mutex = mutex.filter(|mutex| Mutex::read(memory, *mutex).is_some());
        return mutex.map(|mutex| Found::Waits { condition, mutex: Some(mutex) });
    }
    // Condition variables are aligned to 8 bytes, so this tells the first signal word from the second.
    let group = word >> 2 & 1;
    let bases = [LONG, SHORT].map(|offset| word.wrapping_sub(offset + 4 * group));
    for [position, condition, mutex, privacy] in buffers(memory, frames) {
        // A flag of 0 or 128 (FUTEX_PRIVATE_FLAG, inverted) in 32 bits.
        if !matches!(privacy as u32, 0 | 128) || Mutex::read(memory, mutex).is_none() {
            continue;
        }
        if bases.contains(&condition) && position & 1 == group {
            return Some(Found::Waits { condition, mutex: Some(mutex) });
        }
        if mutex == word && condition % 8 == 0 && memory.read_u64(condition).is_some_and(|end| end >= position) {
            return Some(Found::LocksAgain);
        }
    }
    let [long, short] = bases;
    let condition = if version < SINCE_SHORT { long } else { short };
    let references: u32 = memory.read_array(references(condition, version)).map(u32::from_le_bytes)?;
    (references >> REFERENCE_SHIFT > 0).then_some(Found::Waits { condition, mutex: None })
}

/// Four words each from every place on the stack below the first frame outside of glibc.
fn buffers(memory: &impl Memory, frames: &[Caller<'_>]) -> Vec<[u64; 4]> {
    let (Some(first), Some(last)) = (frames.first(), frames.get(in_glibc(frames))) else { return Vec::new() };
    let length = usize::try_from(last.sp.saturating_sub(first.sp)).unwrap_or(0).min(MOST_BYTES);
    let mut bytes = vec![0; length];
    let count = memory.read(first.sp, &mut bytes).min(length);
    bytes.truncate(count);
    let words: Vec<u64> = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
    words.windows(4).filter_map(|window| window.try_into().ok()).collect()
}

/// Where the count of waiters is.
fn references(condition: u64, version: Version) -> u64 {
    let signals = if version < SINCE_SHORT { LONG } else { SHORT };
    condition.wrapping_add(signals - REFERENCES_BEFORE)
}

/// How many wait.
pub fn state(memory: &impl Memory, condition: u64, version: Version) -> String {
    let (address, shift) = match version {
        _ if version < SINCE => (condition.wrapping_add(OLD_WAITERS), OLD_WAITER_SHIFT),
        _ => (references(condition, version), REFERENCE_SHIFT),
    };
    let count = memory.read_array(address).map(u32::from_le_bytes).map(|count| count >> shift);
    count.map_or_else(String::new, |count| format!("{count} waiting"))
}
