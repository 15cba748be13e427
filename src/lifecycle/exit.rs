//! The end of the process: the socket's name goes.
//!
//! Context: the destructor on the exiting thread, and the observer when it gives up. Only the name
//! that this very process bound is removed: a child without hooks (`vfork`, raw `clone`) that exits
//! inherits this memory and must leave its parent's socket alone.

use std::ffi::CString;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU64, Ordering};

use crate::sys::{files, process};

/// The process that owns the name, 0 when there is none.
static OWNER: AtomicI32 = AtomicI32::new(0);
/// The path, leaked once a socket.
static PATH: AtomicPtr<CString> = AtomicPtr::new(std::ptr::null_mut());
/// Device and inode of the name that we made.
static DEVICE: AtomicU64 = AtomicU64::new(0);
static INODE: AtomicU64 = AtomicU64::new(0);

/// Remembers the name that was just bound.
pub fn remember_socket(path: CString) {
    let Ok((device, inode)) = files::identity(&path) else { return };
    DEVICE.store(device, Ordering::Relaxed);
    INODE.store(inode, Ordering::Relaxed);
    PATH.store(Box::into_raw(Box::new(path)), Ordering::Relaxed);
    OWNER.store(process::pid(), Ordering::Release);
}

/// In a forked child: the name is the parent's.
pub fn forget_socket() {
    OWNER.store(0, Ordering::Relaxed);
}

/// Removes the name if it is still the one that this process made.
pub fn remove_socket() {
    if OWNER.swap(0, Ordering::AcqRel) != process::pid() {
        return;
    }
    // SAFETY: set by `remember_socket`, never freed.
    let Some(path) = (unsafe { PATH.load(Ordering::Relaxed).as_ref() }) else { return };
    let ours = (DEVICE.load(Ordering::Relaxed), INODE.load(Ordering::Relaxed));
    if files::identity(path) == Ok(ours) {
        files::remove(path);
    }
}
