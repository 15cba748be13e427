//! The end of the process: the socket's name goes.
//!
//! Context: the destructor on the exiting thread, and the observer when it gives up. Only the name
//! that this very process bound is removed: a child without hooks (`vfork`, raw `clone`) that exits
//! inherits this memory and must leave its parent's socket alone.

use std::ffi::CString;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::time::Duration;

use crate::sys::leaked::Leaked;
use crate::sys::{self, files, process, sibling};

/// The process that owns the name, 0 when there is none.
static OWNER: AtomicI32 = AtomicI32::new(0);
/// In a forked child: the process that owns the inherited name.
static PARENT: AtomicI32 = AtomicI32::new(0);
static PATH: Leaked<CString> = Leaked::nothing();
/// Device and inode of the name that we made.
static DEVICE: AtomicU64 = AtomicU64::new(0);
static INODE: AtomicU64 = AtomicU64::new(0);

/// How long an end waits for an observer that is making the name.
const OPENING: Duration = Duration::from_millis(100);

static REGISTERED: AtomicBool = AtomicBool::new(false);

/// Has `quick_exit` remove the name, too; the destructor does at `exit`.
pub fn install() {
    extern "C" fn at_quick_exit(_: *mut std::ffi::c_void) {
        super::finish();
    }
    if !REGISTERED.swap(true, Ordering::Relaxed) {
        sys::exit::at_quick_exit(at_quick_exit);
    }
}

/// Ends the process at once, as `_exit` does, without its socket's name. A child of `vfork` or raw `clone` leaves
/// its parent's alone.
pub fn leave(status: i32) -> ! {
    if let Some(manhole) = super::installed()
        && !manhole.stage.prevent()
    {
        manhole.stage.wait_while_opening(OPENING);
        remove_socket();
    }
    sys::exit::leave(status)
}

/// Remembers the name that was just bound.
pub fn remember_socket(path: CString) {
    let Ok((device, inode)) = files::identity(&path) else { return };
    DEVICE.store(device, Ordering::Relaxed);
    INODE.store(inode, Ordering::Relaxed);
    PATH.set(path);
    OWNER.store(process::pid(), Ordering::Release);
}

/// In a forked child: the name is the parent's.
pub fn forget_socket() {
    // A child that forks again before it has a name passes on its parent's: a daemon forks twice.
    let owner = OWNER.swap(0, Ordering::Relaxed);
    if sibling::parent() == 0 {
        // The parent is outside of this pid namespace, where nobody can tell whether it lives.
        PARENT.store(0, Ordering::Relaxed);
    } else if owner != 0 {
        PARENT.store(owner, Ordering::Relaxed);
    }
}

/// A process that forks and leaves by `_exit`, as `daemon()` does, leaves its name behind: its child removes it.
pub fn remove_socket_of_gone_parent() {
    let parent = PARENT.swap(0, Ordering::Relaxed);
    if parent != 0 && !process::exists(parent) {
        remove_if_ours();
    }
}

/// Removes the name if it is still the one that this process made.
pub fn remove_socket() {
    if OWNER.swap(0, Ordering::AcqRel) != process::pid() {
        return;
    }
    remove_if_ours();
}

fn remove_if_ours() {
    let Some(path) = PATH.get() else { return };
    let ours = (DEVICE.load(Ordering::Relaxed), INODE.load(Ordering::Relaxed));
    if files::identity(path) == Ok(ours) {
        files::remove(path);
    }
}
