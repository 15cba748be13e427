//! How far the observer has come: one word, which is also a futex for whoever waits.
//!
//! Context: every thread of ours, the constructor, the C API, fork handlers and the end of the process.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::sys::{clock, futex};

/// No observer was started.
const ABSENT: u32 = 0;
/// It was started and has not touched the socket's name yet.
const STARTING: u32 = 1;
/// It is making the name.
const OPENING: u32 = 2;
/// The socket is open.
const LISTENING: u32 = 3;
/// It was started, and waits for the signal of `activate_on`.
const PARKED: u32 = 5;
/// There is no socket any more: it could not be opened, and the log says why; or it was closed.
const ENDED: u32 = 4;

/// When a program has surely installed the signal handlers that it starts with.
const SOON: Duration = Duration::from_secs(1);

/// The word; no observer at first.
#[derive(Default)]
pub struct Stage(AtomicU32);

impl Stage {
    fn set(&self, stage: u32) {
        self.0.store(stage, Ordering::Release);
        futex::wake(&self.0);
    }

    fn is(&self, stage: u32) -> bool {
        self.0.load(Ordering::Acquire) == stage
    }

    fn turn(&self, from: u32, to: u32) -> bool {
        let turned = self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if turned {
            futex::wake(&self.0);
        }
        turned
    }

    /// The threads of the manhole are being started; the observer will wait for a signal if `parked`.
    pub fn start(&self, parked: bool) {
        self.set(if parked { PARKED } else { STARTING });
    }

    /// The signal of `activate_on` came. Async-signal-safe; once it has come, it comes to nothing.
    pub fn activate(&self) {
        self.turn(PARKED, STARTING);
    }

    /// The observer: waits for that signal, or for the end; `soon` is called once while it waits.
    pub fn wait_for_activation(&self, soon: impl FnOnce()) {
        self.rest_while(PARKED, SOON);
        if self.is_parked() {
            soon();
        }
        while self.is_parked() {
            futex::wait(&self.0, PARKED, None);
        }
    }

    /// Whether the signal of `activate_on` has yet to come.
    pub fn is_parked(&self) -> bool {
        self.is(PARKED)
    }

    /// In a forked child: the observer is the parent's.
    pub fn reset_in_child(&self) {
        self.0.store(ABSENT, Ordering::Relaxed);
    }

    /// The observer, before it makes the socket's name. False when it must not any more.
    pub fn begin_opening(&self) -> bool {
        self.turn(STARTING, OPENING)
    }

    /// The observer, when clients can connect.
    pub fn opened(&self) {
        self.set(LISTENING);
    }

    /// The observer, when it serves no more.
    pub fn end(&self) {
        self.set(ENDED);
    }

    /// Whether the socket is open.
    pub fn is_listening(&self) -> bool {
        self.is(LISTENING)
    }

    /// Whether there is no socket, and there will be none.
    pub fn has_ended(&self) -> bool {
        self.is(ENDED)
    }

    /// An observer that has not begun to open the socket never will. False when it has begun.
    pub fn prevent(&self) -> bool {
        self.turn(PARKED, ENDED) || self.turn(STARTING, ENDED)
    }

    /// Waits until the socket is open or will not be; false when that took longer than `patience`.
    pub fn wait_while_opening(&self, patience: Duration) -> bool {
        [STARTING, OPENING].into_iter().all(|stage| futex::wait_until_changed(&self.0, stage, patience))
    }

    /// Sleeps until the observer must not open any more, at most `time`.
    pub fn rest_while_starting(&self, time: Duration) {
        self.rest_while(STARTING, time);
    }

    fn rest_while(&self, stage: u32, time: Duration) {
        let deadline = clock::monotonic().saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        while let (true, left @ 1..) = (self.is(stage), deadline.saturating_sub(clock::monotonic())) {
            futex::wait(&self.0, stage, Some(Duration::from_nanos(left)));
        }
    }

    /// Waits until the observer has ended; false when that took longer than `patience`.
    pub fn wait_for_end(&self, patience: Duration) -> bool {
        [STARTING, OPENING, LISTENING].into_iter().all(|stage| futex::wait_until_changed(&self.0, stage, patience))
    }
}
