//! `fork`: the child gets a manhole of its own, and nothing of its parent's.
//!
//! Context: `pthread_atfork` handlers, on the thread that forks. Child handlers run in order of
//! registration, so `malloc` is touched first: jemalloc registers its own at its first use, and must
//! be whole again before `pthread_create` runs here. `vfork`, `posix_spawn`, `_Fork` and raw `clone`
//! run no hooks: their children have no manhole, and [`super::exit`] compares the process id.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Manhole, installed, start_observer};
use crate::log;
use crate::stack::capture::{dumpable, signal};
use crate::sys::{Errno, descriptors, fork};

static REGISTERED: AtomicBool = AtomicBool::new(false);
/// The observer that starts next was started by a fork.
static FORKED: AtomicBool = AtomicBool::new(false);

/// Registers the handlers, once.
pub fn install() {
    if !REGISTERED.swap(true, Ordering::Relaxed) {
        fork::touch_malloc();
        if let Err(error) = fork::register(prepare, parent, child) {
            log!("pthread_atfork failed: {}; forked children will have no manhole", error.desc());
        }
    }
}

/// How long the observer that starts now must wait before it opens its socket.
pub fn take_delay(manhole: &Manhole) -> Duration {
    if FORKED.swap(false, Ordering::Relaxed) { manhole.config.reinstall_delay } else { Duration::ZERO }
}

/// Our heap is whole when the child gets its copy.
extern "C" fn prepare() {
    crate::ALLOCATOR.hold();
}

extern "C" fn parent() {
    crate::ALLOCATOR.let_go();
}

extern "C" fn child() {
    crate::ALLOCATOR.let_go();
    // What a dump of the parent changed for its time would stay so in the child.
    dumpable::put_back();
    signal::put_back_in_child();
    descriptors::forget_private();
    super::exit::forget_socket();
    let had_one = super::disown();
    let Some(manhole) = installed() else { return };
    if had_one && manhole.config.follows_forks() {
        FORKED.store(true, Ordering::Relaxed);
        let before = Errno::last_raw();
        // Nothing to do about an error here but to be without a manhole.
        let _ = start_observer(manhole);
        Errno::set_raw(before);
    }
}
