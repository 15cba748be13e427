//! A store into memory that may be gone, or read-only, at the moment when it happens.
//!
//! Context: the observer. The store is made by a process of ours in the same memory ([`sibling`]), which has handlers
//! of its own: if it faults, it ends, and nobody else notices. `process_vm_writev` would not fault either, but copies
//! as the kernel likes it best (`rep movsb`, arch/x86/include/asm/uaccess_64.h), of which nothing says that another
//! thread sees all of a word or nothing. One store instruction of an aligned word does (Intel SDM 3A 9.1.1, Arm ARM
//! B2.2.1). A new process may wait for its turn on a busy machine, for seconds: nobody waits for it here.

use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use super::signal::{self, Disposition};
use super::{Errno, filter, raw, sibling};

const STACK: usize = 64 << 10;
/// Nanoseconds that a look at it may wait, and how long it has to end once it is not wanted any more.
const LOOK: u64 = 2_000_000;
const LEAVE: u64 = 50_000_000;

/// Why it was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A seccomp filter that the application has added might kill it for what this takes.
    Filtered,
    /// There is no sibling.
    NoHelper(Errno),
    /// The memory is not there, or not writable.
    Fault,
}

/// What sibling and maker share.
struct Order {
    address: u64,
    bytes: Box<[u8]>,
    /// The kernel clears it at the end.
    alive: AtomicU32,
    done: AtomicU32,
}

/// A store on its way. Dropped before its end it is called off: it may have happened, or not.
pub struct Store {
    pid: i32,
    /// Both are the sibling's until it is gone.
    order: Option<Box<Order>>,
    stack: Option<sibling::Mapping>,
}

impl Store {
    /// Begins to write `bytes` to `address`. One, two, four or eight bytes at an address that is a multiple of that are
    /// seen by other threads all at once; others one by one, in order, and after a fault as far as they went.
    pub fn begin(address: u64, bytes: &[u8]) -> Result<Self, Failure> {
        if filter::has_grown() {
            return Err(Failure::Filtered);
        }
        let stack = sibling::Mapping::with_guard(STACK).map_err(Failure::NoHelper)?;
        let (alive, done) = (AtomicU32::new(1), AtomicU32::new(0));
        let order = Box::new(Order { address, bytes: bytes.into(), alive, done });
        let argument = std::ptr::from_ref(&*order).cast_mut().cast();
        // SAFETY: `run` keeps to raw calls and to `order`, which with the stack is kept until it is gone; of other
        // memory it touches what the operator has named, and what the caller has found not to be ours.
        let pid = unsafe {
            sibling::spawn_in_our_memory(run, stack.end(), argument, &order.alive, sibling::Descriptors::Shared)
        };
        let pid = pid.map_err(Failure::NoHelper)?;
        Ok(Self { pid, order: Some(order), stack: Some(stack) })
    }

    /// How it ended, if it has; looks for two milliseconds at most.
    pub fn end(&mut self) -> Option<Result<(), Failure>> {
        let order = self.order.as_ref()?;
        sibling::wait_while(&order.alive, 1, LOOK);
        if !sibling::reap(self.pid) {
            return None;
        }
        let done = order.done.load(Ordering::Acquire) == 1;
        (self.order, self.stack) = (None, None);
        Some(if done { Ok(()) } else { Err(Failure::Fault) })
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let Some(order) = self.order.take() else { return };
        sibling::kill(self.pid);
        if !sibling::wait_for_end(self.pid, &order.alive, LEAVE) {
            std::mem::forget(self.stack.take());
            Box::leak(order);
        }
    }
}

/// The sibling's handler: it has faulted.
extern "C" fn on_fault(_: libc::c_int) {
    loop {
        // SAFETY: exit_group touches no memory.
        let _ = unsafe { raw::syscall6(libc::SYS_exit_group, [1, 0, 0, 0, 0, 0]) };
    }
}

/// From here on a fault of the calling process, which has handlers of its own, is its end, and no core dump: that would
/// be one of the memory that it shares, and before Linux 5.16 the end of all who share it.
fn end_at_a_fault() {
    let handler = on_fault as *const () as usize;
    // The kernel wants a restorer (x86), to which nobody returns.
    let fault = Disposition { handler, flags: signal::SA_RESTORER, restorer: handler, mask: u64::MAX };
    for number in [libc::SIGSEGV, libc::SIGBUS] {
        // SAFETY: `on_fault` makes one system call.
        let _ = unsafe { signal::exchange(number, &fault) };
    }
    signal::set_blocked(!(signal::bit(libc::SIGSEGV) | signal::bit(libc::SIGBUS)));
}

/// The sibling's main function.
extern "C" fn run(argument: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the maker keeps it until this process is gone.
    let order = unsafe { &*argument.cast::<Order>() };
    end_at_a_fault();
    let value = order.bytes.iter().take(8).rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
    let target = order.address as usize;
    let aligned = order.address & (order.bytes.len() as u64).wrapping_sub(1) == 0;
    match order.bytes.len() {
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
        _ => {
            for (index, byte) in order.bytes.iter().enumerate() {
                // SAFETY: as above.
                unsafe { (target.wrapping_add(index) as *mut u8).write_volatile(*byte) };
            }
        }
    }
    order.done.store(1, Ordering::Release);
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(address: u64, bytes: &[u8]) -> Result<(), Failure> {
        let mut store = Store::begin(address, bytes)?;
        loop {
            if let Some(end) = store.end() {
                return end;
            }
        }
    }

    #[test]
    fn what_is_there_is_written_and_a_fault_is_an_error() {
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
        let handlers = [libc::SIGSEGV, libc::SIGBUS].map(|number| signal::disposition(number).unwrap());
        let code = store as fn(u64, &[u8]) -> Result<(), Failure> as usize as u64;
        for bad in [16, code & !7, u64::MAX - 7] {
            assert_eq!(store(bad, &[0; 8]), Err(Failure::Fault), "{bad:#x}");
        }
        assert_eq!(handlers, [libc::SIGSEGV, libc::SIGBUS].map(|number| signal::disposition(number).unwrap()));
        drop(Store::begin(address, &[1]));
    }
}
