//! A helper process that shares our memory: made, talked to, reaped.
//!
//! Context: the observer makes and reaps; the waits and wakes are for both sides. They are not
//! "private", because the kernel wakes the word of an exiting process as a shared futex.

use std::sync::atomic::{AtomicU32, Ordering};

use super::procfs::File;
use super::{Errno, Result, clock, own, raw, signal};

/// A mapping of our own with an unmapped page below it, for a stack.
#[derive(Debug)]
pub struct Mapping {
    start: usize,
    length: usize,
}

impl Mapping {
    const GUARD: usize = 65536;

    /// Maps `length` zeroed bytes above a guard that faults.
    pub fn with_guard(length: usize) -> Result<Self> {
        let length = length.next_multiple_of(Self::GUARD) + Self::GUARD;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let arguments = [0, length, libc::PROT_NONE as usize, flags as usize, usize::MAX, 0];
        // SAFETY: a new anonymous mapping aliases nothing.
        let start = unsafe { raw::syscall6(libc::SYS_mmap, arguments)? };
        let mapping = Self { start, length };
        let protection = (libc::PROT_READ | libc::PROT_WRITE) as usize;
        let arguments = [start + Self::GUARD, length - Self::GUARD, protection, 0, 0, 0];
        // SAFETY: the range lies in the mapping made above.
        unsafe { raw::syscall6(libc::SYS_mprotect, arguments)? };
        own::add(mapping.start, mapping.length);
        Ok(mapping)
    }

    /// The addresses that may be used.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.start + Self::GUARD..self.end()
    }

    /// The address behind its last byte.
    pub fn end(&self) -> usize {
        self.start + self.length
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        own::remove(self.start, self.length);
        // SAFETY: the mapping is ours and its owner let go of it.
        let _ = unsafe { raw::syscall6(libc::SYS_munmap, [self.start, self.length, 0, 0, 0, 0]) };
    }
}

/// The descriptors of a sibling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Descriptors {
    /// Our table.
    Shared,
    /// A copy of it, and of our working folder and umask.
    Copied,
}

/// Starts `entry(argument)` on the stack that ends at `stack_end`, as a process of its own in our
/// memory. It has no exit signal, so the application's `wait` does not see
/// it; every signal is blocked in it; when it ends, the kernel clears `alive` and wakes its waiters.
///
/// # Safety
/// `entry` runs with our thread pointer while we run too: it must keep to raw system calls and to
/// memory that it was given. The stack, `argument` and `alive` must outlive the process.
pub unsafe fn spawn_in_our_memory(
    entry: extern "C" fn(*mut libc::c_void) -> libc::c_int,
    stack_end: usize,
    argument: *mut libc::c_void,
    alive: &AtomicU32,
    descriptors: Descriptors,
) -> Result<i32> {
    let shared = match descriptors {
        Descriptors::Shared => libc::CLONE_FILES | libc::CLONE_FS,
        Descriptors::Copied => 0,
    };
    let flags = libc::CLONE_VM | libc::CLONE_CHILD_CLEARTID | shared;
    let before = signal::block_all();
    let none = std::ptr::null_mut::<libc::c_void>();
    let stack = stack_end as *mut libc::c_void;
    // SAFETY: `entry` and the stack are as our caller vouches; the flags let it share what it may share.
    let pid = unsafe { libc::clone(entry, stack, flags, argument, none, none, alive.as_ptr()) };
    let error = Errno::last();
    signal::set_blocked(before);
    if pid < 0 { Err(error) } else { Ok(pid) }
}

/// Kills the process `pid`, a child of ours that was not reaped yet.
pub fn kill(pid: i32) {
    nudge(pid, libc::SIGKILL);
}

/// Sends `signal` to the process `pid`, a child of ours that was not reaped yet.
pub fn nudge(pid: i32, signal: i32) {
    // SAFETY: kill touches no memory.
    let _ = unsafe { raw::syscall6(libc::SYS_kill, [pid as usize, signal as usize, 0, 0, 0, 0]) };
}

/// Takes the exit status of `pid` if it has ended; true when nothing is left to reap.
pub fn reap(pid: i32) -> bool {
    let options = (libc::__WALL | libc::WNOHANG) as usize;
    // SAFETY: a null status pointer is allowed.
    match unsafe { raw::syscall6(libc::SYS_wait4, [pid as usize, 0, options, 0, 0, 0]) } {
        Ok(reaped) => reaped != 0,
        Err(error) => error == Errno::ECHILD,
    }
}

/// Waits until `pid`, whose word is `alive`, has ended and is reaped; kills it when that takes longer than `nanoseconds`.
/// False when it is not gone even then: it may still use what it was given.
pub fn wait_for_end(pid: i32, alive: &AtomicU32, nanoseconds: u64) -> bool {
    let deadline = clock::monotonic().saturating_add(nanoseconds);
    while clock::monotonic() < deadline {
        wait_while(alive, 1, nanoseconds);
        if reap(pid) {
            return true;
        }
        // The kernel clears the word a moment before there is something to reap.
        wait_while(alive, 0, 20_000);
    }
    kill(pid);
    reap(pid)
}

/// Asks the kernel to kill the calling process when the thread that made it ends.
pub fn die_with_parent() {
    let arguments = [libc::PR_SET_PDEATHSIG as usize, libc::SIGKILL as usize, 0, 0, 0, 0];
    // SAFETY: this prctl touches no memory.
    let _ = unsafe { raw::syscall6(libc::SYS_prctl, arguments) };
}

/// Leaves session and process group: a signal to either is not meant for the caller.
pub fn leave_session() {
    // SAFETY: setsid touches no memory.
    let _ = unsafe { raw::syscall6(libc::SYS_setsid, [0; 6]) };
}

/// Goes to the root folder, so as to hold no mount busy.
pub fn leave_folder() {
    // SAFETY: the path is a constant.
    let _ = unsafe { raw::syscall6(libc::SYS_chdir, [c"/".as_ptr() as usize, 0, 0, 0, 0, 0]) };
}

/// A descriptor that `poll` finds readable when process `pid` ends (Linux 5.3).
pub fn watch(pid: i32) -> Result<File> {
    // SAFETY: pidfd_open touches no memory.
    let number = unsafe { raw::syscall6(libc::SYS_pidfd_open, [pid as usize, 0, 0, 0, 0, 0])? };
    Ok(File::from_raw(number as i32))
}

/// Whether no other process uses the memory of the caller any more: its maker has died or called `exec`. The
/// kernel lets `unshare(CLONE_VM)` pass only then, and it changes nothing (`check_unshare_flags`, kernel/fork.c).
pub fn is_alone_in_memory() -> bool {
    // SAFETY: unshare touches no memory.
    unsafe { raw::syscall6(libc::SYS_unshare, [libc::CLONE_VM as usize, 0, 0, 0, 0, 0]) }.is_ok()
}

/// The parent of the calling process.
pub fn parent() -> i32 {
    // SAFETY: getppid touches no memory.
    unsafe { raw::syscall6(libc::SYS_getppid, [0; 6]) }.unwrap_or(0) as i32
}

/// Sleeps until `word` is no longer `value`, at most `nanoseconds`; returns what it is then.
pub fn wait_while(word: &AtomicU32, value: u32, nanoseconds: u64) -> u32 {
    let deadline = clock::monotonic().saturating_add(nanoseconds);
    loop {
        let now = word.load(Ordering::Acquire);
        let left = deadline.saturating_sub(clock::monotonic());
        if now != value || left == 0 {
            return now;
        }
        let time = libc::timespec { tv_sec: (left / 1_000_000_000) as i64, tv_nsec: (left % 1_000_000_000) as i64 };
        let operation = libc::FUTEX_WAIT as usize;
        let arguments = [word.as_ptr() as usize, operation, value as usize, &raw const time as usize, 0, 0];
        // SAFETY: `word` and `time` outlive the call; every failure means "look again".
        let _ = unsafe { raw::syscall6(libc::SYS_futex, arguments) };
    }
}

/// Sets `word` and wakes who waits for it.
pub fn set_and_wake(word: &AtomicU32, value: u32) {
    word.store(value, Ordering::Release);
    wake(word);
}

/// Wakes who waits for `word`.
pub fn wake(word: &AtomicU32) {
    let arguments = [word.as_ptr() as usize, libc::FUTEX_WAKE as usize, i32::MAX as usize, 0, 0, 0];
    // SAFETY: FUTEX_WAKE only uses the address as a key.
    let _ = unsafe { raw::syscall6(libc::SYS_futex, arguments) };
}
