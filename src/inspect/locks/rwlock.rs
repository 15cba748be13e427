//! `pthread_rwlock_t` (glibc's `struct __pthread_rwlock_arch_t`, and `nptl/pthread_rwlock_common.c` for its protocol).
//!
//! Since 2.25: readers, writers, write-phase futex, writers' futex, two pads, current writer, shared. Before: lock,
//! readers, readers' wakeup, writers' wakeup, queued readers, queued writers, writer, shared. The futex words and the
//! writer's id are at the same offsets in both.

#![forbid(unsafe_code)]

use super::{Facts, Holder, Version, Wait};
use crate::sys::memory::Memory;

/// The protocol of today.
const SINCE: Version = (2, 25);
const WRITE_PHASE: u32 = 1;
const WRITE_LOCKED: u32 = 2;
const READERS_WAIT: u32 = 4;
const READER_SHIFT: u32 = 3;
/// The futex words hold 0 or 1, and this bit once somebody waits.
const USED: u32 = 2;
const PHASE_OFFSET: u64 = 8;
const WRITERS_OFFSET: u64 = 12;
/// `__flags`: what `pthread_rwlockattr_setkind_np` sets, 0 to 2.
const FLAGS: usize = 12;

/// On which side a thread waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// To read.
    Reader,
    /// To write.
    Writer,
}

/// Where the rwlock begins that a thread waits for.
pub fn find(memory: &impl Memory, wait: &Wait, side: Side, version: Version) -> Option<u64> {
    let offset = match side {
        Side::Reader if version < SINCE => PHASE_OFFSET,
        Side::Writer if version < SINCE => WRITERS_OFFSET,
        // Until the write phase ends; or, where writers go first, until the first of them is done.
        Side::Reader if wait.value == 1 | USED => PHASE_OFFSET,
        Side::Reader if wait.value & READERS_WAIT != 0 => 0,
        // Until the other writers are done; then until the readers are.
        Side::Writer if wait.value == 1 | USED => WRITERS_OFFSET,
        Side::Writer if wait.value == USED => PHASE_OFFSET,
        _ => return None,
    };
    let address = wait.word.wrapping_sub(offset);
    words(memory, address, version).map(|_| address)
}

/// The words of what may be a rwlock.
fn words(memory: &impl Memory, address: u64, version: Version) -> Option<[u32; 13]> {
    let bytes: [u8; 52] = memory.read_array(address)?;
    let mut words = [0; 13];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    let [_, _, phase, writers, _, _, writer, shared, ..] = words;
    let is_plausible = version < SINCE || (phase | writers) & !(1 | USED) == 0;
    let rest = shared <= 1 || shared == 128;
    (is_plausible && rest && writer <= libc::FUTEX_TID_MASK && *words.get(FLAGS)? <= 2).then_some(words)
}

/// Who holds it, and how.
pub fn facts(memory: &impl Memory, address: u64, version: Version) -> Option<Facts> {
    let [first, second, _, _, _, _, writer, shared, ..] = words(memory, address, version)?;
    let writer = i32::try_from(writer).ok().filter(|tid| *tid > 0).map(Holder::Thread);
    let (is_written, readers) = if version < SINCE {
        (writer.is_some(), second)
    } else {
        let in_write_phase = first & WRITE_PHASE != 0;
        // In a write phase those who are counted as readers wait.
        (in_write_phase && first & WRITE_LOCKED != 0, if in_write_phase { 0 } else { first >> READER_SHIFT })
    };
    let (state, holder) = match (is_written, readers) {
        (true, _) => ("held by a writer".to_owned(), writer.unwrap_or(Holder::NotRecorded)),
        (false, 0) => ("free".to_owned(), Holder::Nobody),
        (false, 1) => ("held by a reader".to_owned(), Holder::Readers(1)),
        (false, count) => (format!("held by {count} readers"), Holder::Readers(count)),
    };
    let flavour = if shared == 0 { String::new() } else { "process-shared".to_owned() };
    Some(Facts { flavour, state, holder })
}
