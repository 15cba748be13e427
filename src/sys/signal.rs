//! Signal dispositions, masks and sending, exactly as the kernel has them.
//!
//! Context: any, signal handlers included. Raw calls: a disposition that goes through libc comes
//! back with libc's restorer and may be seen by an interposer; ours must be put back to the bit.

use super::{Result, process, raw};

/// The kernel's `struct sigaction` (the same on x86-64 and arm64), which is not libc's.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disposition {
    /// Handler's address, 0 for the default, 1 for "ignore".
    pub handler: usize,
    /// SA_ flags.
    pub flags: u64,
    /// Where a handler returns to (SA_RESTORER).
    pub restorer: usize,
    /// Signals blocked while the handler runs.
    pub mask: u64,
}

/// SA_RESTORER, which libc crates do not name (asm/signal.h).
pub const SA_RESTORER: u64 = 0x0400_0000;

impl Disposition {
    /// The default disposition.
    pub const DEFAULT: Self = Self { handler: 0, flags: 0, restorer: 0, mask: 0 };

    /// Whether there is a function to call.
    pub fn is_handler(&self) -> bool {
        self.handler > 1
    }
}

/// Exchanges the disposition of `signal`, in one step; returns the one before.
///
/// # Safety
/// A handler in `new` must be fit to run in any thread at any moment.
pub unsafe fn exchange(signal: i32, new: &Disposition) -> Result<Disposition> {
    action(signal, std::ptr::from_ref(new) as usize)
}

/// The disposition of `signal`.
pub fn disposition(signal: i32) -> Result<Disposition> {
    action(signal, 0)
}

fn action(signal: i32, new: usize) -> Result<Disposition> {
    let mut old = Disposition::DEFAULT;
    let arguments = [signal as usize, new, &raw mut old as usize, size_of::<u64>(), 0, 0];
    // SAFETY: the kernel reads `new`, valid or null, and writes `old`.
    unsafe { raw::syscall6(libc::SYS_rt_sigaction, arguments)? };
    Ok(old)
}

/// Blocks every signal for the calling thread; returns the mask before.
pub fn block_all() -> u64 {
    mask(u64::MAX)
}

/// Does `work` with every signal blocked: no handler of the application keeps this thread from its end.
pub fn with_all_blocked<R>(work: impl FnOnce() -> R) -> R {
    let before = block_all();
    let result = work();
    set_blocked(before);
    result
}

/// Sets the calling thread's mask.
pub fn set_blocked(blocked: u64) {
    mask(blocked);
}

fn mask(new: u64) -> u64 {
    let mut old = 0u64;
    let how = libc::SIG_SETMASK as usize;
    let arguments = [how, &raw const new as usize, &raw mut old as usize, size_of::<u64>(), 0, 0];
    // SAFETY: both masks are eight bytes.
    let _ = unsafe { raw::syscall6(libc::SYS_rt_sigprocmask, arguments) };
    old
}

/// The head of the kernel's `siginfo_t` for a queued signal; 128 bytes in all.
#[repr(C)]
pub struct Information {
    signal: i32,
    errno: i32,
    code: i32,
    padding: i32,
    pid: i32,
    uid: u32,
    value: u64,
    rest: [u64; 12],
}

impl Information {
    /// The value that was sent along, if the signal was queued with one by process `pid`.
    pub fn queued_by(&self, pid: i32) -> Option<u64> {
        (self.code == libc::SI_QUEUE && self.pid == pid).then_some(self.value)
    }
}

/// Queues `signal` to one thread of this process, with a value.
pub fn queue(tid: i32, signal: i32, value: u64) -> Result<()> {
    let pid = process::pid();
    // SAFETY: getuid touches no memory.
    let uid = unsafe { raw::syscall6(libc::SYS_getuid, [0; 6]) }.unwrap_or(0) as u32;
    let information =
        Information { signal, errno: 0, code: libc::SI_QUEUE, padding: 0, pid, uid, value, rest: [0; 12] };
    let arguments = [pid as usize, tid as usize, signal as usize, &raw const information as usize, 0, 0];
    // SAFETY: the kernel reads 128 bytes, the size of `information`.
    unsafe { raw::syscall6(libc::SYS_rt_tgsigqueueinfo, arguments) }.map(drop)
}

const _: () = assert!(size_of::<Information>() == 128);
