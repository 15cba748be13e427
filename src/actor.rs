//! The actor: the thread that touches the application.
//!
//! Context: a thread in the application's own descriptor table, all signals blocked, parked on a futex. The
//! observer must survive whatever the application's code does, so it hands that over: what the actor runs may
//! allocate, lock, or never return. Then the observer goes on serving, and [`Actor::busy`] says what it is that
//! does not return.

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::time::Duration;

use crate::lifecycle::panics;
use crate::log;
use crate::sys::fork::Child;
use crate::sys::futex::{self, Guarded};
use crate::sys::{clock, process};

/// One piece of work.
struct Task {
    what: String,
    work: Box<dyn FnOnce() + Send>,
}

/// What it has to do, and what it does.
#[derive(Default)]
struct Desk {
    tasks: VecDeque<Task>,
    /// What runs now, and since when (nanoseconds of the monotonic clock).
    current: Option<(String, u64)>,
    /// No more tasks are taken, and the thread ends when it is done.
    closed: bool,
    /// What runs now ends the process and never returns.
    left: bool,
    /// What ran last has destroyed the thread: how.
    lost: Option<String>,
}

/// The thread, as others see it; none at first.
#[derive(Default)]
pub struct Actor {
    desk: Guarded<Desk>,
    /// Changes whenever there is something to look at; what the parked thread waits on.
    bell: AtomicU32,
    /// Its thread id as `/proc` shows it, 0 while there is none; what waits for its end waits on [`Self::gone`].
    tid: AtomicI32,
    gone: AtomicU32,
}

/// There is no actor: with `oneshot_on` none of our threads exist, and after a release they end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoActor;

impl Actor {
    /// Hands over `work`; `what` names it for those who wait. It runs after what was handed over before.
    pub fn post(&self, what: &str, work: Box<dyn FnOnce() + Send>) -> Result<(), NoActor> {
        if self.tid().is_none() {
            return Err(NoActor);
        }
        let task = Task { what: what.to_owned(), work };
        // The task is dropped outside the lock.
        let refused = self.desk.with(|desk| {
            if desk.closed {
                return Some(task);
            }
            desk.tasks.push_back(task);
            None
        });
        self.ring();
        if refused.is_some() { Err(NoActor) } else { Ok(()) }
    }

    /// What it works at, and for how long already.
    pub fn busy(&self) -> Option<(String, Duration)> {
        let (what, since) = self.desk.with(|desk| desk.current.clone())?;
        Some((what, Duration::from_nanos(clock::monotonic().saturating_sub(since))))
    }

    /// Its thread id as `/proc` shows it: a thread in the application's descriptor table.
    pub fn tid(&self) -> Option<i32> {
        Some(self.tid.load(Ordering::Acquire)).filter(|tid| *tid != 0)
    }

    /// The thread's life: what is handed over, until [`Self::close`].
    pub fn run(&self) {
        loop {
            let heard = self.bell.load(Ordering::Acquire);
            let task = self.desk.with(|desk| {
                let task = desk.tasks.pop_front();
                desk.current = task.as_ref().map(|task| (task.what.clone(), clock::monotonic()));
                (task, desk.closed)
            });
            match task {
                (Some(task), _) => {
                    if catch_unwind(AssertUnwindSafe(task.work)).is_err() {
                        log!("{} panicked: {}", task.what, panics::take());
                    }
                }
                (None, true) => break,
                (None, false) => futex::wait(&self.bell, heard, None),
            }
        }
        self.tid.store(0, Ordering::Release);
        self.gone.store(1, Ordering::Release);
        futex::wake(&self.gone);
    }

    /// The thread is there.
    pub fn begin(&self) {
        self.tid.store(process::proc_tid().unwrap_or_else(process::tid), Ordering::Release);
    }

    /// Takes no more work; the thread ends when it is done with what it has.
    pub fn close(&self) {
        self.desk.with(|desk| desk.closed = true);
        self.ring();
    }

    /// Waits for the thread's end; false when that took longer than `patience`: it hangs in what it runs, and ends if
    /// that ever returns.
    pub fn wait_for_end(&self, patience: Duration) -> bool {
        futex::wait_until_changed(&self.gone, 0, patience)
    }

    /// On the actor, when what it runs called `exit`: nothing comes after it.
    pub fn leave(&self) {
        self.desk.with(|desk| {
            desk.closed = true;
            desk.left = true;
        });
    }

    /// Whether what it runs called `exit`.
    pub fn has_left(&self) -> bool {
        self.desk.with(|desk| desk.left)
    }

    /// What it ran has destroyed it, in this way: nothing will be done any more.
    pub fn lose(&self, how: String) {
        let tasks = self.desk.with(|desk| {
            desk.closed = true;
            desk.lost = Some(how);
            std::mem::take(&mut desk.tasks)
        });
        drop(tasks);
    }

    /// How it was lost.
    pub fn lost(&self) -> Option<String> {
        self.desk.with(|desk| desk.lost.clone())
    }

    /// In a forked child: the thread and what it had to do are the parent's.
    pub fn reset_in_child(&self, child: Child) {
        self.desk.replace_in_child(Desk::default(), child);
        self.tid.store(0, Ordering::Relaxed);
        self.gone.store(0, Ordering::Relaxed);
    }

    fn ring(&self) {
        self.bell.fetch_add(1, Ordering::Release);
        futex::wake(&self.bell);
    }
}
