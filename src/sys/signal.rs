//! Signal dispositions, masks and sending, exactly as the kernel has them.
//!
//! Context: any, signal handlers included. Raw calls: a disposition that goes through libc comes
//! back with libc's restorer and may be seen by an interposer; ours must be put back to the bit.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::fork::Child;
use super::{Result, futex, process, raw};

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

    /// Calls the handler, if there is one, as the kernel would have.
    ///
    /// # Safety
    /// The kernel has told us of this disposition, and has called our handler with these arguments (SA_SIGINFO).
    pub unsafe fn call(&self, number: i32, information: *mut Information, context: *mut libc::c_void) {
        if !self.is_handler() {
            return;
        }
        let function = std::ptr::with_exposed_provenance::<()>(self.handler);
        if self.flags & libc::SA_SIGINFO as u64 == 0 {
            // SAFETY: the application installed it as a handler of this form.
            let function = unsafe { std::mem::transmute::<*const (), extern "C" fn(libc::c_int)>(function) };
            function(number);
        } else {
            type Full = extern "C" fn(libc::c_int, *mut Information, *mut libc::c_void);
            // SAFETY: as above, with SA_SIGINFO.
            let function = unsafe { std::mem::transmute::<*const (), Full>(function) };
            function(number, information, context);
        }
    }
}

/// The bit of `signal` in a mask.
pub const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
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

/// Threads that are inside of [`with_all_blocked`].
static INSIDE: AtomicU32 = AtomicU32::new(0);

/// Ends the work of [`with_all_blocked`], also where that panics.
struct AllBlocked(u64);

impl Drop for AllBlocked {
    fn drop(&mut self) {
        INSIDE.fetch_sub(1, Ordering::Release);
        set_blocked(self.0);
    }
}

/// Does `work` with every signal blocked: no handler of the application keeps this thread from its end.
pub fn with_all_blocked<R>(work: impl FnOnce() -> R) -> R {
    undisturbed(|_| work())
}

/// The same for `work` that wants to know the mask before.
pub fn undisturbed<R>(work: impl FnOnce(u64) -> R) -> R {
    let before = AllBlocked(block_all());
    INSIDE.fetch_add(1, Ordering::Acquire);
    work(before.0)
}

/// Whether within `patience` there is a moment at which no thread does the work of [`with_all_blocked`]: so long the
/// thread that one asks about, which stands still, does not. The mask alone does not say it: glibc blocks every signal,
/// too (`pthread_kill`, `posix_spawn`). Takes nothing: whoever asks may be killed at any moment.
pub fn is_seen_without_work(patience: Duration) -> bool {
    futex::is_seen_within(patience, || INSIDE.load(Ordering::Acquire) == 0)
}

/// In a forked child, which has none of the threads that were there.
pub fn forget_work_in_child(_: Child) {
    INSIDE.store(0, Ordering::Release);
}

/// Sets the calling thread's mask; returns the one before.
pub fn set_blocked(blocked: u64) -> u64 {
    mask(blocked)
}

/// The calling thread's mask.
pub fn blocked() -> u64 {
    change_mask(std::ptr::null())
}

fn mask(new: u64) -> u64 {
    change_mask(&raw const new)
}

fn change_mask(new: *const u64) -> u64 {
    let mut old = 0u64;
    let how = libc::SIG_SETMASK as usize;
    let arguments = [how, new as usize, &raw mut old as usize, size_of::<u64>(), 0, 0];
    // SAFETY: both masks are eight bytes, and `new` may be null.
    let _ = unsafe { raw::syscall6(libc::SYS_rt_sigprocmask, arguments) };
    old
}

/// The mask of the thread that a handler has interrupted.
///
/// # Safety
/// `context` is the third argument of a handler that was installed with SA_SIGINFO.
pub unsafe fn interrupted_mask(context: *const libc::c_void) -> u64 {
    let offset = std::mem::offset_of!(libc::ucontext_t, uc_sigmask);
    // SAFETY: the kernel wrote its mask of 64 signals there (asm-generic/ucontext.h, asm/ucontext.h).
    unsafe { context.cast::<u8>().wrapping_add(offset).cast::<u64>().read() }
}

/// The signals that have a handler, as a mask. 64 system calls.
pub fn handled() -> u64 {
    let has_handler = |signal: &i32| disposition(*signal).is_ok_and(|disposition| disposition.is_handler());
    (1..=64).filter(has_handler).fold(0, |mask, signal| mask | bit(signal))
}

/// The signals that are pending for the calling thread or its process, of those that it blocks.
pub fn pending() -> u64 {
    let mut pending = 0u64;
    // SAFETY: the kernel writes eight bytes.
    let _ =
        unsafe { raw::syscall6(libc::SYS_rt_sigpending, [&raw mut pending as usize, size_of::<u64>(), 0, 0, 0, 0]) };
    pending
}

/// Takes one pending `signal`, which the calling thread blocks, without running a handler. False when there is none.
pub fn take_pending(signal: i32) -> bool {
    let set = bit(signal);
    let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let arguments = [&raw const set as usize, 0, &raw const now as usize, size_of::<u64>(), 0, 0];
    // SAFETY: set and time outlive the call.
    unsafe { raw::syscall6(libc::SYS_rt_sigtimedwait, arguments) }.is_ok()
}

/// Takes one signal of `set`, all of which the calling thread blocks, within `nanoseconds`.
pub fn take_within(set: u64, nanoseconds: u64) {
    let limit = libc::timespec {
        tv_sec: (nanoseconds / 1_000_000_000) as libc::time_t,
        tv_nsec: (nanoseconds % 1_000_000_000) as libc::c_long,
    };
    let arguments = [&raw const set as usize, 0, &raw const limit as usize, size_of::<u64>(), 0, 0];
    // SAFETY: set and time outlive the call; every failure means "look again".
    let _ = unsafe { raw::syscall6(libc::SYS_rt_sigtimedwait, arguments) };
}

/// An alternate signal stack, as the kernel keeps it for a thread.
pub type AlternateStack = libc::stack_t;

/// No alternate stack: handlers run on the stack that is in use.
pub const NO_ALTERNATE_STACK: AlternateStack =
    AlternateStack { ss_sp: std::ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };

/// Exchanges the calling thread's alternate stack; refused while the thread runs on it.
///
/// # Safety
/// The memory of `new` is a stack that stays as long as it is set.
pub unsafe fn exchange_alternate_stack(new: &AlternateStack) -> Result<AlternateStack> {
    let mut old = NO_ALTERNATE_STACK;
    let arguments = [std::ptr::from_ref(new) as usize, &raw mut old as usize, 0, 0, 0, 0];
    // SAFETY: the kernel reads one and writes the other.
    unsafe { raw::syscall6(libc::SYS_sigaltstack, arguments)? };
    Ok(old)
}

/// The head of the kernel's `siginfo_t` for a queued signal; 128 bytes in all.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
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
    /// Of no signal.
    pub const NONE: Self = Self { signal: 0, errno: 0, code: 0, padding: 0, pid: 0, uid: 0, value: 0, rest: [0; 12] };

    /// Whether a thread of process `pid` sent it to this very thread, as `raise` and `abort` do.
    pub fn is_raised_in(&self, pid: i32) -> bool {
        self.code == libc::SI_TKILL && self.pid == pid
    }

    /// Which of its kinds it is (man 2 sigaction, `si_code`).
    pub fn code(&self) -> i32 {
        self.code
    }

    /// The kernel raised it because of what the interrupted instruction did (man 2 sigaction, `si_code`).
    pub fn is_fault(&self) -> bool {
        self.code > 0 && [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL].contains(&self.signal)
    }

    /// The address that a fault is about, where the kernel knows one: not of SI_KERNEL, for which it says 0.
    pub fn fault_address(&self) -> Option<u64> {
        const SI_KERNEL: i32 = 0x80;
        let known = self.is_fault() && self.code != SI_KERNEL;
        known.then(|| u64::from(self.uid) << 32 | u64::from(self.pid as u32))
    }

    /// The process that sent it, if one did.
    pub fn sender(&self) -> Option<i32> {
        [libc::SI_USER, libc::SI_QUEUE, libc::SI_TKILL].contains(&self.code).then_some(self.pid)
    }

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
