//! `fork`: the child gets a manhole of its own, and nothing of its parent's.
//!
//! Context: `pthread_atfork` handlers, on the thread that forks. Child handlers run in order of
//! registration, so `malloc` is touched first: jemalloc registers its own at its first use, and must
//! be whole again before `pthread_create` runs here. `vfork`, `posix_spawn`, `_Fork` and raw `clone`
//! run no hooks: their children have no manhole, and [`super::Manhole::is_here`] compares the process id.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{INSTALLED, Manhole, Wish, dump, exit, oneshot, start_threads};
use crate::log;
use crate::redirect::tap as redirect;
use crate::shell::{registered, variables};
use crate::stack::capture::{guard, signal};
use crate::sys::fork::{self, Child};
use crate::sys::{self, Errno, descriptors, diverted, dumpable, process};

static REGISTERED: AtomicBool = AtomicBool::new(false);
/// The threads that start next were started by a fork.
static FORKED: AtomicBool = AtomicBool::new(false);
/// The observer that starts next is a forked child's.
static REINSTALLS: AtomicBool = AtomicBool::new(false);
/// The mask of the thread that forks, while it forks with all signals blocked.
static MASK: AtomicU64 = AtomicU64::new(0);

/// Registers the handlers, once.
pub fn install() {
    if !REGISTERED.swap(true, Ordering::Relaxed) {
        fork::touch_malloc();
        if let Err(error) = fork::register(prepare, parent, child) {
            log!("pthread_atfork failed: {}; forked children will have no manhole", error.desc());
        }
    }
}

/// On the actor of a forked child, before it makes the observer: gives an `exec` its time.
pub fn after_delay(manhole: &Manhole) {
    // One that waits for its signal opens nothing now.
    if !FORKED.swap(false, Ordering::Relaxed) || manhole.stage.is_parked() {
        return;
    }
    manhole.stage.rest_while_starting(manhole.config.reinstall_delay);
    if !manhole.stage.has_ended() {
        exit::remove_socket_of_gone_parent();
        REINSTALLS.store(true, Ordering::Relaxed);
    }
}

/// On the observer of a forked child, in its own descriptor table: a line of the log takes a descriptor, which the
/// child's program would see.
pub fn tell() {
    if REINSTALLS.swap(false, Ordering::Relaxed) {
        log!("Fork detected. Reinstalling Manhole.");
    }
}

/// Our heap is whole when the child gets its copy. Signals wait meanwhile: a handler that forks would wait for ever
/// for what this thread holds. That is ours, and glibc's lock of the fork handlers, which it takes in a process that
/// has threads, hence only because of us where the application has none. An oneshot needs our heap, too.
extern "C" fn prepare() {
    let mask = sys::signal::block_all();
    redirect::before_fork();
    crate::ALLOCATOR.hold();
    // Forks of other threads wait above, so these are this one's.
    dumpable::note_before_fork();
    MASK.store(mask, Ordering::Relaxed);
}

fn let_go() {
    let mask = MASK.load(Ordering::Relaxed);
    crate::ALLOCATOR.let_go();
    sys::signal::set_blocked(mask);
}

extern "C" fn parent() {
    redirect::after_fork();
    let_go();
    // With `oneshot_on` no thread of ours could look by itself.
    super::signals::report_replaced();
}

extern "C" fn child() {
    let before = Errno::last_raw();
    // SAFETY: glibc runs this in the child, whose only thread is the one that forked. That is in the middle of none of
    // what is reset: threads of the application use it with all signals blocked, and call nothing there that forks.
    let only = unsafe { Child::new() };
    // What a dump of the parent changed for its time would stay so in the child.
    dumpable::put_back_in_child();
    signal::put_back_in_child();
    redirect::after_fork_in_child(only);
    descriptors::forget_private();
    exit::forget_socket();
    oneshot::leave_in_child();
    dump::leave_in_child();
    super::CHANGE.replace_in_child((), only);
    registered::reset_in_child(only);
    diverted::forget_in_child(only);
    guard::reset_in_child(only);
    sys::far::reset_in_child(only);
    sys::signal::forget_work_in_child(only);
    variables::reset_in_child(only);
    if let Some(manhole) = INSTALLED.get() {
        inherit(manhole, only);
    }
    let_go();
    Errno::set_raw(before);
}

/// Makes the parent's install the child's, or forgets it.
fn inherit(manhole: &'static Manhole, only: Child) {
    let follows = manhole.has_threads() && manhole.config.follows_forks();
    if !(manhole.config.waits_for_signal() || follows) {
        INSTALLED.clear();
        return;
    }
    manhole.owner.store(process::pid(), Ordering::Relaxed);
    manhole.stage.reset_in_child();
    manhole.actor.reset_in_child(only);
    manhole.rope.cut();
    manhole.observing.store(0, Ordering::Relaxed);
    manhole.connected.store(0, Ordering::Relaxed);
    manhole.wish.store(Wish::Serve as u32, Ordering::Relaxed);
    if manhole.has_threads() {
        FORKED.store(true, Ordering::Relaxed);
        // Nothing to do about an error here but to be without a manhole.
        let _ = start_threads(manhole, MASK.load(Ordering::Relaxed));
    }
}
