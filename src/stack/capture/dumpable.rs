//! Making a process that dropped its privileges look at itself.
//!
//! Context: the observer, for the time of one dump. A process that changed its user (nginx workers,
//! `memcached -u`) is not "dumpable": its files in `/proc` belong to root, and ptrace refuses it (man 2
//! prctl, PR_SET_DUMPABLE). LeakSanitizer sets the flag for the time of its work too. While it is
//! set, another process of the same user may attach, as it may to any process that never changed user.
//!
//! The flag is only touched when something was refused. A process whose flag was 2 (core dumps for
//! root only, `fs.suid_dumpable`) gets 0 back, since prctl does not accept 2: the same but for core dumps.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::sys::raw;

const NO: usize = 0;
const YES: usize = 1;

/// The flag was "no" and is set by us now. Static, for a child that is forked at this moment.
static CHANGED: AtomicBool = AtomicBool::new(false);

/// In a forked child, which inherits the flag of its parent's memory: puts it back. One system call at
/// most, fit for a fork handler.
pub fn put_back_in_child() {
    if CHANGED.swap(false, Ordering::Relaxed) {
        set(NO);
    }
}

/// Puts the flag back when dropped, also when a panic unwinds.
#[derive(Debug, Default)]
pub struct Dumpable {
    changed: bool,
}

impl Dumpable {
    /// After a refusal: sets the flag. True when that may have helped, so that trying again is worth it.
    pub fn allow(&mut self) -> bool {
        if self.changed || get() == YES {
            return false;
        }
        // Before the flag: a child forked in between puts back what is still there.
        CHANGED.store(true, Ordering::SeqCst);
        self.changed = set(YES);
        CHANGED.store(self.changed, Ordering::SeqCst);
        self.changed
    }

    /// Runs `work` with the flag cleared, so that a process which dies in it leaves no core dump.
    pub fn without_core_dumps<R>(work: impl FnOnce() -> R) -> R {
        struct Back(usize);
        impl Drop for Back {
            fn drop(&mut self) {
                set(self.0);
            }
        }
        let back = Back(get());
        set(NO);
        let result = work();
        drop(back);
        result
    }
}

impl Drop for Dumpable {
    fn drop(&mut self) {
        if self.changed {
            set(NO);
            CHANGED.store(false, Ordering::SeqCst);
        }
    }
}

fn get() -> usize {
    // SAFETY: this prctl touches no memory.
    unsafe { raw::syscall6(libc::SYS_prctl, [libc::PR_GET_DUMPABLE as usize, 0, 0, 0, 0, 0]) }.unwrap_or(YES)
}

fn set(value: usize) -> bool {
    // SAFETY: this prctl touches no memory.
    unsafe { raw::syscall6(libc::SYS_prctl, [libc::PR_SET_DUMPABLE as usize, value, 0, 0, 0, 0]) }.is_ok()
}
