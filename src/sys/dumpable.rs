//! The dumpable flag (man 2 prctl, PR_SET_DUMPABLE), changed for a time and put back, also in a child that is
//! forked meanwhile.
//!
//! Context: the observer changes it; fork handlers take note. `fork` copies the flag first and the memory later, so
//! a child may have the changed flag although its memory says that all is put back: it compares with what was noted
//! before the fork.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::process;

/// Odd while the flag is changed; higher by two after each change.
static CHANGES: AtomicU32 = AtomicU32::new(0);
/// [`CHANGES`] when the fork began that is under way.
static NOTED: AtomicU32 = AtomicU32::new(0);
/// The flag before the last change.
static BEFORE: AtomicUsize = AtomicUsize::new(1);

fn is_changed(changes: u32) -> bool {
    changes % 2 == 1
}

/// Sets the flag for a time, if it is not set for a time already. True when that was done.
pub fn change(value: usize) -> bool {
    if is_changed(CHANGES.load(Ordering::SeqCst)) {
        return false;
    }
    BEFORE.store(process::dumpable(), Ordering::SeqCst);
    CHANGES.fetch_add(1, Ordering::SeqCst);
    let changed = process::set_dumpable(value);
    if !changed {
        CHANGES.fetch_add(1, Ordering::SeqCst);
    }
    changed
}

/// Puts the flag back, if it is changed. A flag of 2 (core dumps for root only) becomes 0, since prctl does not
/// accept 2: the same but for core dumps.
pub fn put_back() {
    if is_changed(CHANGES.load(Ordering::SeqCst)) {
        set(BEFORE.load(Ordering::SeqCst));
        CHANGES.fetch_add(1, Ordering::SeqCst);
    }
}

fn set(value: usize) {
    process::set_dumpable(if value == 1 { 1 } else { 0 });
}

/// Before a fork, of which there is one at a time.
pub fn note_before_fork() {
    NOTED.store(CHANGES.load(Ordering::SeqCst), Ordering::SeqCst);
}

/// In the child: puts the flag back if it was changed at any time while the fork was under way. One system call
/// at most.
pub fn put_back_in_child() {
    let (noted, changes) = (NOTED.load(Ordering::SeqCst), CHANGES.load(Ordering::SeqCst));
    if is_changed(noted) || noted != changes {
        set(BEFORE.load(Ordering::SeqCst));
        CHANGES.store(0, Ordering::SeqCst);
    }
}
