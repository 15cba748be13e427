//! Serving one client on a thread of the application, which stands still meanwhile.
//!
//! Context: the handler of `oneshot_on`, and [`now`] for the C API; on a stack of its own ([`super::aside`]). There is
//! no thread of ours. The other threads of the application run on. For the time of it our descriptors are in the
//! application's table (close-on-exec), and a child that is forked meanwhile closes its copies.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::aside::{Aside, Failure};
use super::signals::Cause;
use super::{Manhole, exit, installed};
use crate::config::signals::Name;
use crate::log;
use crate::redirect::tap;
use crate::server;
use crate::shell::World;
use crate::stack::capture::{self, Standing};
use crate::stack::{Method, Registers};
use crate::sys::allocator::Role;
use crate::sys::signal::{self, Information};
use crate::sys::{Errno, dumpable, filter, process};

static ASIDE: Aside = Aside::new(Role::Oneshot, "oneshot");
/// Signals that came while one was at work.
static MISSED: AtomicU32 = AtomicU32::new(0);
/// Pending signals that are taken off at most: as many as a process may have queued by far.
const MOST_PENDING: u32 = 1 << 20;

/// The time of an oneshot: at its end, also when a panic ends it, what the process knows of it is forgotten.
pub struct Stay(pub &'static Manhole);

impl Drop for Stay {
    fn drop(&mut self) {
        leave(self.0);
    }
}

fn leave(manhole: &Manhole) {
    exit::remove_socket();
    if !manhole.has_threads() {
        manhole.rope.cut();
        manhole.count_clients(0);
    }
}

/// In a forked child: the parent's oneshot is not its own.
pub fn leave_in_child() {
    ASIDE.reset_in_child();
    MISSED.store(0, Ordering::Relaxed);
}

/// Waits until no oneshot is at work, at most `patience`; whether there is none.
pub fn wait_for_end(patience: Duration) -> bool {
    ASIDE.wait_until_free(Some(patience))
}

/// Whether one is at work.
pub fn is_running() -> bool {
    ASIDE.is_busy()
}

/// What the handler does. When the process `dies` of the signal, a thread that comes second waits for the first.
///
/// # Safety
/// `context` is what the kernel passed to the handler, which still runs.
pub unsafe fn on_signal(
    manhole: &'static Manhole,
    number: i32,
    cause: &Information,
    dies: bool,
    context: *const libc::c_void,
) {
    // SAFETY: as the caller vouches.
    let mask = unsafe { signal::interrupted_mask(context) };
    let done = ASIDE.run(mask, give_up, || {
        // SAFETY: as the caller vouches, who waits for us.
        let registers = unsafe { capture::interrupted_registers(context) };
        let end = if dies { "the process dies of that when you leave" } else { "it goes on when you leave" };
        let why = format!("it was interrupted by {}, and {end}", Cause(number, cause));
        // An error is in the log.
        let _ = serve(manhole, registers, Method::Interrupted, &why);
        // Those that waited for this thread would begin another at once.
        let mut missed = MISSED.swap(0, Ordering::Relaxed);
        let pending = (0..MOST_PENDING).take_while(|_| signal::take_pending(number)).count();
        missed = missed.saturating_add(pending as u32);
        if missed > 0 {
            log!("dropped {missed} more {} that came during the oneshot", Name(number));
        }
    });
    if done == Err(Failure::Busy) {
        MISSED.fetch_add(1, Ordering::Relaxed);
        if dies {
            ASIDE.wait_until_free(None);
        }
    }
}

/// Serves one client now, on the calling thread.
pub fn now() -> Result<(), Errno> {
    let manhole = installed().ok_or(Errno::ENOENT)?;
    let registers = capture::own_registers();
    let why = "it called manhole_oneshot(), and goes on when you leave";
    ASIDE.run(signal::blocked(), give_up, || serve(manhole, registers, Method::Own, why))?
}

/// `why` completes "Thread 71 stands still: ".
fn serve(manhole: &'static Manhole, registers: Registers, method: Method, why: &str) -> Result<(), Errno> {
    filter::look();
    let tid = process::proc_tid().unwrap_or_else(process::tid);
    let standing = Standing { tid, registers, method };
    let world = World::interrupting(manhole, standing, format!("Thread {tid} stands still: {why}."));
    server::serve_one(manhole, world).map_err(|error| {
        log!("no oneshot: {error}");
        Errno::EIO
    })
}

/// There is no memory even in reserve: the application goes on. What was allocated is lost.
fn give_up() -> ! {
    dumpable::put_back();
    tap::give_up(tap::LAST);
    tap::restore();
    if let Some(manhole) = installed() {
        leave(manhole);
    }
    log!("out of memory: the oneshot ends; the application goes on");
    ASIDE.abandon()
}
