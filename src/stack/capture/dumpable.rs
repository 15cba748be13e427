//! Making a process that dropped its privileges look at itself.
//!
//! Context: the observer, for the time of one dump. A process that changed its user (nginx workers,
//! `memcached -u`) is not "dumpable": its files in `/proc` belong to root, and ptrace refuses it (man 2
//! prctl, PR_SET_DUMPABLE). LeakSanitizer sets the flag for the time of its work too. While it is
//! set, another process of the same user may attach, as it may to any process that never changed user.
//!
//! The flag is only touched when something was refused.

use crate::sys::{dumpable, process};

const YES: usize = 1;

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
        self.changed = dumpable::change(YES);
        self.changed
    }
}

impl Drop for Dumpable {
    fn drop(&mut self) {
        if self.changed {
            dumpable::put_back();
        }
    }
}
