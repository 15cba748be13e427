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

use crate::sys::process;

const NO: usize = 0;
const YES: usize = 1;

/// The flag was "no" and is set by us now. Static, for a child that is forked at this moment.
static CHANGED: AtomicBool = AtomicBool::new(false);

/// Puts the flag back, where no [`Dumpable`] will: in a forked child, which inherits the flag of its parent's
/// memory, and when the observer gives up. One system call at most, fit for a fork handler.
pub fn put_back() {
    if CHANGED.swap(false, Ordering::Relaxed) {
        process::set_dumpable(NO);
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
        if self.changed || process::dumpable() == YES {
            return false;
        }
        // Before the flag: a child forked in between puts back what is still there.
        CHANGED.store(true, Ordering::SeqCst);
        self.changed = process::set_dumpable(YES);
        CHANGED.store(self.changed, Ordering::SeqCst);
        self.changed
    }
}

impl Drop for Dumpable {
    fn drop(&mut self) {
        if self.changed {
            process::set_dumpable(NO);
            CHANGED.store(false, Ordering::SeqCst);
        }
    }
}
