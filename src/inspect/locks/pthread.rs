//! glibc's `struct pthread`, to which the lock of a `FILE` points: the id of the thread that holds it.

#![forbid(unsafe_code)]

use crate::sys::memory::Memory;

/// Where the id is (`nptl/descr.h`): behind the thread control block, padding of 24 words, and a list.
#[cfg(target_arch = "x86_64")]
const TID: u64 = 704 + 16;
#[cfg(target_arch = "aarch64")]
const TID: u64 = 192 + 16;
/// x86_64: the record begins with the thread control block, whose first and third words point to itself (psABI, TLS).
const HAS_SELF: bool = cfg!(target_arch = "x86_64");
const SELF: u64 = 16;

/// The id in the record at `address`; `None` when it is none, or its thread has exited.
fn tid(memory: &impl Memory, address: u64) -> Option<i32> {
    let points_to_itself = |at| memory.read_u64(address.wrapping_add(at)) == Some(address);
    if address == 0 || HAS_SELF && !(points_to_itself(0) && points_to_itself(SELF)) {
        return None;
    }
    let tid = memory.read_array(address.wrapping_add(TID)).map(i32::from_le_bytes)?;
    (tid > 0 && tid.cast_unsigned() <= libc::FUTEX_TID_MASK).then_some(tid)
}

/// Who holds the lock of a `FILE` at `address`: word, depth, owner (`sysdeps/nptl/stdio-lock.h`).
pub fn stdio_owner(memory: &impl Memory, address: u64) -> Option<i32> {
    let bytes: [u8; 16] = memory.read_array(address)?;
    let ([word, depth], [_, owner]) = (
        [0, 4].map(|at| bytes.get(at..at + 4).and_then(|it| it.try_into().ok()).map_or(0, u32::from_le_bytes)),
        [0, 8].map(|at| bytes.get(at..at + 8).and_then(|it| it.try_into().ok()).map_or(0, u64::from_le_bytes)),
    );
    if !matches!(word, 1 | 2) || depth == 0 {
        return None;
    }
    tid(memory, owner)
}
