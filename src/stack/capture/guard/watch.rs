//! What runs in the guard: it watches the actor, and meets the crash of what that runs before anybody else does.
//!
//! Context: a process of its own in our memory and in the application's descriptor table, made by [`super::run`], with
//! every signal blocked. It shares the actor's thread pointer, hence raw system calls only: no errno, no thread-local,
//! no allocation, no lock, no panic.
//!
//! The kernel shows a signal to the tracer before it looks at the disposition. So the guard can take a crash away, and
//! have the actor go on behind what it ran: no handler runs, and no disposition is touched. Everything else it passes on.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::{helper, native};
use super::{CRASHES, Guard, REFUSED, STARTING, Seen};
use crate::sys::memory::{Live, Memory};
use crate::sys::ptrace::{self, Stop};
use crate::sys::signal::{self, Disposition, Information, bit};
use crate::sys::switch::Point;
use crate::sys::{Errno, sibling, thread};

/// How often the guard looks whether the process that it serves is still there; and how long it waits, refused, for
/// the actor to try something.
pub const LOOK: u64 = 1_000_000_000;
/// What wakes it: a stop of the thread that it traces, and [`sibling::nudge`] with the second.
pub const NUDGE: i32 = libc::SIGUSR1;
/// For how long another thread may hold a lock of ours, or our heap: one that forks a large process does for a second.
const PATIENCE: Duration = Duration::from_secs(5);
const PAGE: u64 = 4096;
/// Pages above a stack pointer that are tried: it may point into the guard below its stack, which overflowed.
const PAGES: u64 = 64;

/// The guard's main function; `argument` is the [`Guard`].
pub extern "C" fn watch(argument: *mut libc::c_void) -> libc::c_int {
    sibling::die_with_parent();
    sibling::leave_session();
    thread::set_name(c"Manhole guard");
    // SAFETY: the actor keeps it until this process is gone.
    let guard = unsafe { &*argument.cast::<Guard>() };
    // SIGCHLD must be sent to us; this process's dispositions are a copy.
    // SAFETY: no handler.
    let _ = unsafe { signal::exchange(libc::SIGCHLD, &Disposition::DEFAULT) };
    let turn = &guard.exchange.turn;
    while let Err(errno) = ptrace::seize_until_exec(guard.tid) {
        if errno == Errno::EPERM && ptrace::claim_capability() {
            continue;
        }
        guard.refusal.store(errno as i32, Ordering::Relaxed);
        sibling::set_and_wake(turn, REFUSED);
        if sibling::wait_while(turn, REFUSED, LOOK) != STARTING {
            return 1;
        }
    }
    sibling::set_and_wake(turn, helper::IDLE);
    let mut asked = false;
    while sibling::parent() == guard.owner && !guard.over.load(Ordering::Acquire) {
        match ptrace::poll() {
            Ok(Some((tid, stop))) => {
                if !guard.handle(tid, stop, &mut asked) {
                    return 0;
                }
            }
            Ok(None) => {
                if !asked && turn.load(Ordering::Acquire) == helper::ASKED {
                    asked = ptrace::interrupt(guard.tid).is_ok();
                }
                signal::take_within(bit(libc::SIGCHLD) | bit(NUDGE), LOOK);
            }
            Err(_) => return 0,
        }
    }
    1
}

/// What a signal of the actor is.
enum Met {
    /// None of ours.
    Nothing,
    /// A crash, behind which it goes on.
    Crash,
    /// A crash behind which it cannot go on.
    NoWayBack,
}

impl Guard {
    /// Lets the stopped thread `tid` go on; false when there is nothing more to guard. `asked`: it was interrupted for
    /// somebody who wants its stack.
    fn handle(&self, tid: i32, stop: Stop, asked: &mut bool) -> bool {
        if *asked && matches!(stop, Stop::Interrupt | Stop::Group(_)) {
            *asked = false;
            self.exchange.answer_stopped();
        }
        let went_on = match stop {
            Stop::Signal(signal) => match self.meets(signal) {
                Met::Nothing => ptrace::resume(tid, signal),
                Met::Crash => ptrace::resume(tid, 0),
                Met::NoWayBack => {
                    self.lost.store(true, Ordering::Release);
                    let _ = ptrace::detach(tid, 0);
                    return false;
                }
            },
            Stop::Interrupt => ptrace::resume(tid, 0),
            Stop::Group(_) => ptrace::listen(tid),
            // Another program, to which nobody promised a guard.
            Stop::Exec => {
                let _ = ptrace::detach(tid, 0);
                return false;
            }
            Stop::Gone => return false,
        };
        // It may have been killed as it stood; then it is gone at the next look.
        went_on.is_ok() || ptrace::poll().is_ok()
    }

    /// What `signal` is. A crash of what is guarded is noted, and the thread goes on behind it. One on the way there means
    /// that the crash has destroyed that way: then the thread sleeps for ever.
    fn meets(&self, signal: i32) -> Met {
        let Some((pc, argument, sp)) = self.point.exit() else { return Met::Nothing };
        let Ok(information) = ptrace::signal_information(self.tid) else { return Met::Nothing };
        if !self.is_crash(signal, &information) {
            return Met::Nothing;
        }
        let mut words = [0; native::WORDS];
        let Ok(count) = ptrace::general_registers(self.tid, &mut words) else { return Met::Nothing };
        let mut changed = words;
        let met = if self.left.swap(true, Ordering::Relaxed) {
            native::redirect(&mut changed, Point::park(), 0, sp);
            if ptrace::block_signals(self.tid, u64::MAX).is_err() {
                return Met::Nothing;
            }
            Met::NoWayBack
        } else {
            native::redirect(&mut changed, pc, argument, sp);
            let (base, length) = self.copy_stack(native::stack_pointer(&words).wrapping_sub(native::RED_ZONE));
            let seen = Seen { signal, information, words, point: argument, base, length };
            // SAFETY: the actor, which alone looks at it, stands still.
            unsafe { *self.seen.get() = seen };
            Met::Crash
        };
        let went = ptrace::set_general_registers(self.tid, changed.get(..count).unwrap_or_default());
        if went.is_ok() { met } else { Met::Nothing }
    }

    /// The kernel's word on what the thread did, or what it raised itself (`abort`). Not where it holds a lock of ours,
    /// or is inside of our heap: that would stay held, and so would the observer.
    fn is_crash(&self, signal: i32, information: &Information) -> bool {
        if CRASHES & bit(signal) == 0 || !(information.code() > 0 || information.is_raised_in(self.owner)) {
            return false;
        }
        let blocked = ptrace::blocked_signals(self.tid).unwrap_or(u64::MAX);
        // We hold our locks with every signal blocked; but glibc blocks them, too.
        let may_hold_lock = (blocked | bit(signal)) & CRASHES == CRASHES;
        (!may_hold_lock || signal::is_seen_without_work(PATIENCE)) && crate::ALLOCATOR.is_seen_free_within(PATIENCE)
    }

    /// Copies the stack from `sp` up, or from the first page above that can be read: where, and how many bytes.
    fn copy_stack(&self, sp: u64) -> (u64, usize) {
        let range = self.copy.range();
        let start = std::ptr::with_exposed_provenance_mut(range.start);
        // SAFETY: the mapping is this process's to write until the actor goes on.
        let buffer = unsafe { std::slice::from_raw_parts_mut::<u8>(start, range.len()) };
        let pages = (1..PAGES).map(|page| (sp & !(PAGE - 1)).wrapping_add(page * PAGE));
        for base in std::iter::once(sp).chain(pages) {
            let length = Live.read(base, buffer);
            if length > 0 {
                return (base, length);
            }
        }
        (sp, 0)
    }
}
