//! Doing our work on a thread of the application, aside from what it was doing.
//!
//! Context: signal handlers and the C API, on whatever stack the application has there. The thread may hold any lock
//! of the application, and have been interrupted in the middle of ours: so the work runs on a stack of its own, only
//! when our heap is free, and nothing of the application is called. While it runs
//! - signals that have a handler wait, for that handler belongs to what was interrupted; the others act as ever, so
//!   that one can still kill or stop the process. SIGPIPE waits, too: writing is no reason to die of. glibc's
//!   signal for cancelling (32) waits, since it would unwind our frames; its signal for `setuid` (33) does not,
//!   since the whole process would wait for this thread.
//! - the thread has no alternate signal stack: a handler that came all the same would overwrite what we left on it.
//!
//! A panic is caught and logged. When there is no memory at all, the work is left where it stands
//! ([`Aside::abandon`]): its descriptors are closed, what it allocated is lost, and the application goes on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::{STACK, panics};
use crate::log;
use crate::sys::allocator::{self, Role};
use crate::sys::sibling::Mapping;
use crate::sys::signal::{self, AlternateStack, NO_ALTERNATE_STACK};
use crate::sys::switch::Point;
use crate::sys::{Errno, futex, lent};

/// How long another thread may use our heap before we conclude that this very thread does.
const PATIENCE: Duration = Duration::from_secs(2);
/// glibc's internal signals (nptl(7)).
const SIGCANCEL: i32 = 32;
const SIGSETXID: i32 = 33;

/// A kind of work that one thread at a time does.
pub struct Aside {
    role: Role,
    /// What it is called in the log.
    what: &'static str,
    busy: AtomicU32,
    point: Point,
}

/// Why the work was not done, or not to its end. The log says so, but for [`Failure::Busy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Another thread does such work.
    Busy,
    /// No stack could be mapped.
    NoStack(Errno),
    /// Our heap stayed locked: this thread was interrupted in the middle of it.
    HeapHeld,
    /// A bug of ours.
    Panicked,
    /// There was no memory.
    OutOfMemory,
}

impl From<Failure> for Errno {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Busy => Self::EBUSY,
            Failure::HeapHeld => Self::EDEADLK,
            Failure::NoStack(_) | Failure::OutOfMemory => Self::ENOMEM,
            Failure::Panicked => Self::EFAULT,
        }
    }
}

/// What is put back on the thread afterwards, whatever became of the work.
struct Before {
    mask: u64,
    alternate: Option<AlternateStack>,
}

impl Aside {
    /// Nobody at work.
    pub const fn new(role: Role, what: &'static str) -> Self {
        Self { role, what, busy: AtomicU32::new(0), point: Point::nowhere() }
    }

    /// Whether a thread is at it.
    pub fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire) != 0
    }

    /// Sleeps while a thread is at it, at most `patience`; whether none is.
    pub fn wait_until_free(&self, patience: Option<Duration>) -> bool {
        match patience {
            Some(patience) => futex::wait_until_changed(&self.busy, 1, patience),
            None => {
                while self.is_busy() {
                    futex::wait(&self.busy, 1, None);
                }
                true
            }
        }
    }

    /// In a forked child: the thread that was at it is the parent's.
    pub fn reset_in_child(&self) {
        self.busy.store(0, Ordering::Relaxed);
        allocator::clear_last_resort(self.role);
        lent::end(self.role);
    }

    /// Runs `work` on a stack of its own with the signals of `mask` blocked, and those that the head of this file
    /// names. `give_up` is for when there is no memory: it ends in [`Self::abandon`].
    /// The frame that stays on the caller's stack is small.
    pub fn run<R>(&'static self, mask: u64, give_up: fn() -> !, work: impl FnOnce() -> R) -> Result<R, Failure> {
        if self.busy.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
            return Err(Failure::Busy);
        }
        let result = match Mapping::with_guard(STACK) {
            Ok(stack) => {
                let mut before = Before { mask: signal::block_all(), alternate: None };
                let noted = &mut before;
                // SAFETY: `prepared` catches panics, and `busy` lets one thread in.
                let result = unsafe { self.point.run(&stack, || self.prepared(mask, give_up, noted, work)) };
                before.put_back();
                allocator::clear_last_resort(self.role);
                lent::end(self.role);
                result.unwrap_or(Err(Failure::OutOfMemory))
            }
            Err(error) => Err(self.without_stack(error)),
        };
        self.busy.store(0, Ordering::Release);
        futex::wake(&self.busy);
        result
    }

    /// Leaves the work where it stands, and goes on behind [`Self::run`]. On the thread that works, holding no lock of
    /// ours; everything that the work owns is lost.
    pub fn abandon(&self) -> ! {
        // SAFETY: called by `give_up`, which the allocator calls on the thread and the stack of the work, with its lock
        // free.
        unsafe { self.point.abandon() };
        // Not reached: the last resort is cleared before `run` returns.
        loop {
            futex::wait(&AtomicU32::new(0), 0, None);
        }
    }

    fn prepared<R>(
        &self,
        mask: u64,
        give_up: fn() -> !,
        before: &mut Before,
        work: impl FnOnce() -> R,
    ) -> Result<R, Failure> {
        if !crate::ALLOCATOR.is_usable_within(PATIENCE) {
            log!("no {}: this thread was interrupted while it used the manhole's memory", self.what);
            return Err(Failure::HeapHeld);
        }
        // SAFETY: it sets none.
        before.alternate = unsafe { signal::exchange_alternate_stack(&NO_ALTERNATE_STACK) }.ok();
        let waiting = mask | signal::handled() | signal::bit(libc::SIGPIPE) | signal::bit(SIGCANCEL);
        signal::set_blocked(waiting & !signal::bit(SIGSETXID));
        lent::begin(self.role);
        allocator::reserve();
        allocator::set_last_resort(self.role, give_up);
        let result = catch_unwind(AssertUnwindSafe(work));
        // What comes from here on comes to the handlers that it is meant for.
        signal::block_all();
        result.map_err(|_| {
            log!("the {} panicked: {}; the application goes on", self.what, panics::take());
            Failure::Panicked
        })
    }

    #[cold]
    #[inline(never)]
    fn without_stack(&self, error: Errno) -> Failure {
        log!("no {}: cannot map a stack for it: {}", self.what, error.desc());
        Failure::NoStack(error)
    }
}

impl Before {
    /// On the application's stack again.
    fn put_back(&self) {
        if let Some(alternate) = &self.alternate {
            // The kernel reports, but does not take, that the thread was on it.
            let alternate = AlternateStack { ss_flags: alternate.ss_flags & !libc::SS_ONSTACK, ..*alternate };
            // SAFETY: the application's own, which it had set until now.
            let _ = unsafe { signal::exchange_alternate_stack(&alternate) };
        }
        signal::set_blocked(self.mask);
    }
}
