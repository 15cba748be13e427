//! A store into memory that may be gone, or read-only, at the moment when it happens.
//!
//! Context: the observer. The store is made by a process of ours in the same memory ([`sibling`]): if it faults, that
//! process dies, and nobody else notices. `process_vm_writev` would not fault either, but copies by `rep movsb`
//! (copy_user_generic, arch/x86/include/asm/uaccess_64.h), of which nothing says that another thread sees all of a
//! word or nothing. One store instruction of an aligned word does (Intel SDM 3A 9.1.1, Arm ARM B2.2.1).
//!
//! The host is not dumpable meanwhile: a core dump of the sibling would be one of our memory, and before Linux 5.16
//! would end all that share it.

use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use super::{Errno, dumpable, filter, process, sibling};

const STACK: usize = 64 << 10;
/// Nanoseconds that the sibling may take: a page may have to come from a disk.
const PATIENCE: u64 = 1_000_000_000;

/// Why nothing is known to have been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A seccomp filter that the application has added might kill it for what this takes.
    Filtered,
    /// There is no sibling, or it did not come back.
    NoHelper(Errno),
    /// The memory is not there, or not writable.
    Fault,
}

/// What sibling and maker share.
struct Order {
    address: u64,
    bytes: *const u8,
    count: usize,
    /// The kernel clears it at the end.
    alive: AtomicU32,
    done: AtomicU32,
}

/// Writes `bytes` to `address`. One, two, four or eight bytes at an address that is a multiple of that are seen by
/// other threads all at once; others one by one, in order, and after a fault as far as they went.
pub fn store(address: u64, bytes: &[u8]) -> Result<(), Failure> {
    if filter::has_grown() {
        return Err(Failure::Filtered);
    }
    let stack = sibling::Mapping::with_guard(STACK).map_err(Failure::NoHelper)?;
    let (alive, done) = (AtomicU32::new(1), AtomicU32::new(0));
    let copy: Box<[u8]> = bytes.into();
    let order = Box::new(Order { address, bytes: copy.as_ptr(), count: copy.len(), alive, done });
    dumpable::change(0);
    if process::dumpable() == 1 {
        return Err(Failure::NoHelper(Errno::EPERM));
    }
    let argument = std::ptr::from_ref(&*order).cast_mut().cast();
    // SAFETY: `run` keeps to `order`, which with the stack is kept until it is gone; of other memory it touches what
    // the operator has named and the caller has found not to be ours.
    let pid =
        unsafe { sibling::spawn_in_our_memory(run, stack.end(), argument, &order.alive, sibling::Descriptors::Shared) };
    let gone = pid.map(|pid| sibling::wait_for_end(pid, &order.alive, PATIENCE));
    dumpable::put_back();
    match gone {
        Err(error) => Err(Failure::NoHelper(error)),
        Ok(true) if order.done.load(Ordering::Acquire) == 1 => Ok(()),
        Ok(true) => Err(Failure::Fault),
        Ok(false) => {
            std::mem::forget((stack, copy));
            Box::leak(order);
            Err(Failure::NoHelper(Errno::ETIMEDOUT))
        }
    }
}

/// The sibling's main function.
extern "C" fn run(argument: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the maker keeps it until this process is gone.
    let order = unsafe { &*argument.cast::<Order>() };
    let mut word = [0u8; 8];
    if order.count <= word.len() {
        // SAFETY: the maker's copy has so many bytes, and so has the word.
        unsafe { std::ptr::copy_nonoverlapping(order.bytes, word.as_mut_ptr(), order.count) };
    }
    let (value, target) = (u64::from_le_bytes(word), order.address as usize);
    let aligned = order.address % order.count.max(1) as u64 == 0;
    match order.count {
        1 => {
            // SAFETY: a fault ends this process only.
            unsafe { AtomicU8::from_ptr(target as *mut u8) }.store(value as u8, Ordering::Release);
        }
        2 if aligned => {
            // SAFETY: as above; aligned.
            unsafe { AtomicU16::from_ptr(target as *mut u16) }.store(value as u16, Ordering::Release);
        }
        4 if aligned => {
            // SAFETY: as above.
            unsafe { AtomicU32::from_ptr(target as *mut u32) }.store(value as u32, Ordering::Release);
        }
        8 if aligned => {
            // SAFETY: as above.
            unsafe { AtomicU64::from_ptr(target as *mut u64) }.store(value, Ordering::Release);
        }
        count => {
            for index in 0..count {
                // SAFETY: within the maker's copy.
                let byte = unsafe { order.bytes.add(index).read() };
                // SAFETY: as above.
                unsafe { (target.wrapping_add(index) as *mut u8).write_volatile(byte) };
            }
        }
    }
    order.done.store(1, Ordering::Release);
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_written_and_a_fault_is_an_error() {
        let before = process::dumpable();
        let words = [const { AtomicU64::new(u64::MAX) }; 2];
        let address = words[1].as_ptr() as u64;
        for (bytes, expected) in [
            (&[1][..], 0xffff_ffff_ffff_ff01u64),
            (&[2, 3], 0xffff_ffff_ffff_0302),
            (&[4, 5, 6, 7], 0xffff_ffff_0706_0504),
            (&[1, 2, 3, 4, 5, 6, 7, 8], 0x0807_0605_0403_0201),
            (&[9, 9, 9], 0x0807_0605_0409_0909),
        ] {
            assert_eq!(store(address, bytes), Ok(()));
            assert_eq!(words.each_ref().map(|word| word.load(Ordering::Acquire)), [u64::MAX, expected]);
        }
        let code = store as fn(u64, &[u8]) -> Result<(), Failure> as usize as u64;
        for bad in [16, code, u64::MAX - 7] {
            assert_eq!(store(bad, &[0; 8]), Err(Failure::Fault), "{bad:#x}");
        }
        assert_eq!(process::dumpable(), before);
    }
}
