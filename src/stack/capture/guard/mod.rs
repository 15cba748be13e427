//! The crash guard: what the actor runs for an operator may crash, and the process lives on.
//!
//! Context: the actor, which runs things under it, and the observer, which wants the actor's stack meanwhile.
//!
//! Not a signal handler: dispositions belong to the process, and the application's own must run for crashes of its own
//! threads only. So for the time of one piece of work a process in our memory ([`watch`]) traces the actor, as the helper
//! of [`super::ptrace`] does for a snapshot. It costs some 100 us, and while it is there no debugger can have that thread
//! (gdb 13 hangs when it tries; a SIGKILL to the process `Manhole guard` lets it).
//!
//! - The signals of crashes are unblocked on the actor meanwhile. The kernel sets the disposition of a fault that is
//!   blocked or ignored to its default, for the whole process (`force_sig_info_to_task`, kernel/signal.c), and `abort`
//!   does so, too. Where that happened all the same (it is ignored, or the work blocks it), it is put back afterwards.
//! - What crashed is abandoned where it stood, as by `longjmp`: what it had locked stays locked, what it had allocated is
//!   lost, what it had half changed stays so. Nobody can help that.
//! - What overflows a buffer on its stack overwrites [`HEADROOM`] first. Should the way back be gone all the same, or the
//!   thread end by the bare system call, there is no actor any more ([`lost`]), and the process lives on without.
//! - A guard that dies lets go of the actor; the work then runs unguarded. A process that ends or execs takes its guard
//!   along. A child that the work forks is not traced, and crashes as any other.
//! - A crash while the manhole itself holds a lock, or in its heap, which the work may have overwritten, is passed on: the
//!   observer would hang, and the application at its next fork.

mod watch;

use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::time::Duration;

use super::dumpable::Dumpable;
use super::helper::{self, Answer, Exchange, Request};
use super::ptrace::{Failure, admit, admit_nobody};
use super::{Copied, native};
use crate::stack::modules::Modules;
use crate::stack::unwind::Unwinder;
use crate::stack::{Ending, Frame, FrameSource, Limits, Method, Reason, ThreadStack};
use crate::sys::fork::Child;
use crate::sys::futex::{self, Guarded};
use crate::sys::memory::Live;
use crate::sys::sibling::{self, Mapping};
use crate::sys::signal::{self, Disposition, Information, bit};
use crate::sys::switch::{Abandoned, Point};
use crate::sys::{Errno, clock, filter, kill, process};

/// The signals by which a program crashes. SIGSYS is none: a sandbox answers it.
const SIGNALS: [i32; 6] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGABRT, libc::SIGTRAP];
const CRASHES: u64 = {
    let [a, b, c, d, e, f] = SIGNALS;
    bit(a) | bit(b) | bit(c) | bit(d) | bit(e) | bit(f)
};

/// More turns of the exchange, at its begin: the guard is to attach; the kernel refused that.
const STARTING: u32 = 5;
const REFUSED: u32 = 6;
/// Bytes of the guard's own stack.
const STACK: usize = 64 << 10;
/// Bytes of the actor's stack above what runs under guard that hold nothing: what overflows a buffer there finds no way
/// back to destroy. Untouched pages cost nothing.
pub const HEADROOM: usize = 1 << 20;
/// Bytes of the actor's stack that are copied at most: all of it (`lifecycle::STACK`).
const COPY: usize = (2 << 20) + HEADROOM + (64 << 10);
/// Nanoseconds that the guard may take to attach, and to end.
const PATIENCE: u64 = 1_000_000_000;
/// And for how long it tries while somebody else traces the actor.
const OTHERS: u64 = 200_000_000;

/// A crash as the guard saw it.
#[derive(Clone, Copy)]
struct Seen {
    signal: i32,
    information: Information,
    words: [u64; native::WORDS],
    /// The frame of what ran under guard.
    point: u64,
    /// Where the copy of the stack begins, and its bytes.
    base: u64,
    length: usize,
}

impl Seen {
    const NOTHING: Self =
        Self { signal: 0, information: Information::NONE, words: [0; native::WORDS], point: 0, base: 0, length: 0 };
}

/// What the actor, the observer and the guard share.
struct Guard {
    /// Whose turn it is; the kernel stores [`helper::GONE`] when the guard has ended.
    exchange: Exchange,
    /// The actor, and its process.
    tid: i32,
    owner: i32,
    /// The guard.
    pid: AtomicI32,
    /// Why it could not attach.
    refusal: AtomicI32,
    /// There is nothing more to guard: for one that cannot be killed, since the actor has changed its user.
    over: AtomicBool,
    /// Where the actor goes on after a crash.
    point: Point,
    /// It was sent there.
    left: AtomicBool,
    /// It could not come from there: it sleeps for ever.
    lost: AtomicBool,
    seen: UnsafeCell<Seen>,
    copy: Mapping,
}

// SAFETY: the guard alone writes `seen` and the copy, while the actor stands still, and the actor alone reads them.
unsafe impl Sync for Guard {}
// SAFETY: as above.
unsafe impl Send for Guard {}

/// The guards that are there: one, but for actors that hang from before a release.
static GUARDS: Guarded<Vec<Arc<Guard>>> = Guarded::new(Vec::new());

/// A crash: everything that is needed to show it.
pub struct Crash {
    /// The signal.
    pub signal: i32,
    /// Its kind (`si_code`).
    pub code: i32,
    /// The address that a fault is about.
    pub address: Option<u64>,
    /// The thread.
    pub tid: i32,
    words: [u64; native::WORDS],
    /// Frames above this are the manhole's.
    point: u64,
    base: u64,
    stack: Vec<u8>,
}

impl Post {
    /// Runs `work` on the calling thread. What crashes is abandoned where it stands.
    pub fn run<R>(self, work: impl FnOnce() -> R) -> Result<R, Box<Crash>> {
        let guard = &self.guard;
        let before = SIGNALS.map(|signal| signal::disposition(signal).unwrap_or(Disposition::DEFAULT));
        let mask = signal::blocked();
        signal::set_blocked(mask & !CRASHES);
        // SAFETY: a panic is caught on this side.
        let result = unsafe { guard.point.run_here(HEADROOM, || catch_unwind(AssertUnwindSafe(work))) };
        signal::set_blocked(mask);
        match result {
            Ok(result) => {
                drop(self);
                Ok(result.unwrap_or_else(|panic| resume_unwind(panic)))
            }
            Err(Abandoned) => {
                // SAFETY: the guard wrote it before it let this thread go on here, and writes no more.
                let met = unsafe { *guard.seen.get() };
                put_back(met.signal, &before);
                Err(Box::new(guard.crash(&met)))
            }
        }
    }
}

/// Puts the disposition of `signal` back if the kernel, or `abort`, has set it to the default.
fn put_back(signal: i32, before: &[Disposition; 6]) {
    let before = SIGNALS.iter().zip(before).find(|(other, _)| **other == signal);
    let Some((_, before)) = before.filter(|(_, before)| before.handler != 0) else { return };
    if signal::disposition(signal).is_ok_and(|now| now.handler == 0) {
        // SAFETY: it was the application's a moment ago.
        let _ = unsafe { signal::exchange(signal, before) };
    }
}

impl Guard {
    fn crash(&self, met: &Seen) -> Crash {
        let range = self.copy.range();
        let start = std::ptr::with_exposed_provenance::<u8>(range.start);
        // SAFETY: the guard wrote that much of the mapping, and writes no more.
        let stack = unsafe { std::slice::from_raw_parts(start, met.length.min(range.len())) };
        Crash {
            signal: met.signal,
            code: met.information.code(),
            address: met.information.fault_address(),
            tid: self.tid,
            words: met.words,
            point: met.point,
            base: met.base,
            stack: stack.to_vec(),
        }
    }

    /// Waits until the guard is `turn` no more.
    fn settled(&self, turn: u32) -> u32 {
        sibling::wait_while(&self.exchange.turn, turn, PATIENCE)
    }
}

/// A guard at its post.
pub struct Post {
    guard: Arc<Guard>,
    stack: Option<Mapping>,
    /// Yama was asked to let it in.
    admitted: bool,
}

impl Post {
    /// Posts one for the calling thread; an error says why there can be none.
    pub fn start() -> Result<Self, String> {
        if !filter::allows(filter::Call::Trace) {
            return Err("a seccomp filter forbids ptrace".to_owned());
        }
        let no_memory = |errno: Errno| format!("no memory for it: {}", errno.desc());
        let stack = Mapping::with_guard(STACK).map_err(no_memory)?;
        let guard = Arc::new(Guard {
            exchange: Exchange::new(),
            tid: process::tid(),
            owner: process::pid(),
            pid: AtomicI32::new(0),
            refusal: AtomicI32::new(0),
            over: AtomicBool::new(false),
            point: Point::nowhere(),
            left: AtomicBool::new(false),
            lost: AtomicBool::new(false),
            seen: UnsafeCell::new(Seen::NOTHING),
            copy: Mapping::with_guard(COPY).map_err(no_memory)?,
        });
        let turn: &AtomicU32 = &guard.exchange.turn;
        turn.store(STARTING, Ordering::Release);
        let (end, argument) = (stack.end(), Arc::as_ptr(&guard).cast_mut().cast());
        // SAFETY: `watch` keeps to raw calls and to the guard, which with the stack outlives the process: `drop` below.
        let pid =
            unsafe { sibling::spawn_in_our_memory(watch::watch, end, argument, turn, sibling::Descriptors::Shared) };
        let pid = pid.map_err(|errno| format!("its process cannot be made: {}", errno.desc()))?;
        guard.pid.store(pid, Ordering::Relaxed);
        let mut held = Self { guard, stack: Some(stack), admitted: false };
        let mut dumpable = Dumpable::default();
        let mut turn = held.guard.settled(STARTING);
        // Another session's `stacks` may have the actor, for some microseconds.
        let deadline = clock::monotonic().saturating_add(OTHERS);
        let again = || {
            futex::pause(Duration::from_millis(1));
            clock::monotonic() < deadline
        };
        while turn == REFUSED && (dumpable.allow() || !held.admitted && held.admit() || again()) {
            sibling::set_and_wake(&held.guard.exchange.turn, STARTING);
            turn = held.guard.settled(STARTING);
        }
        match turn {
            helper::IDLE => {
                let guard = held.guard.clone();
                signal::with_all_blocked(|| GUARDS.with(|guards| guards.push(guard)));
                Ok(held)
            }
            REFUSED => Err(match Errno::from_raw(held.guard.refusal.load(Ordering::Relaxed)) {
                Errno::EPERM => "ptrace is refused (the process is being traced, its user ids differ from each other, or Yama forbids it)".to_owned(),
                errno => format!("ptrace is refused: {}", errno.desc()),
            }),
            _ => Err("it does not answer".to_owned()),
        }
    }

    fn admit(&mut self) -> bool {
        self.admitted = admit(self.guard.pid.load(Ordering::Relaxed));
        self.admitted
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        if process::pid() != self.guard.owner {
            // A child that the work forked: the guard is its parent's.
            std::mem::forget(self.stack.take());
            std::mem::forget(self.guard.clone());
            return;
        }
        let (guard, pid) = (&self.guard, self.guard.pid.load(Ordering::Relaxed));
        signal::with_all_blocked(|| GUARDS.with(|guards| guards.retain(|other| !Arc::ptr_eq(other, guard))));
        if self.admitted {
            admit_nobody();
        }
        // The kernel lets go of what it traced. What ran may have called setuid: then the signal is refused, and the guard
        // looks for itself.
        guard.over.store(true, Ordering::Release);
        sibling::kill(pid);
        let deadline = clock::monotonic().saturating_add(PATIENCE.max(2 * watch::LOOK));
        while !sibling::reap(pid) {
            if clock::monotonic() > deadline {
                std::mem::forget(self.stack.take());
                std::mem::forget(self.guard.clone());
                return;
            }
            let turn = guard.exchange.turn.load(Ordering::Acquire);
            // The kernel clears it a moment before there is something to reap.
            sibling::wait_while(&guard.exchange.turn, turn, if turn == helper::GONE { 20_000 } else { 1_000_000 });
        }
    }
}

/// Observer: has the guard of thread `request.tid` take the snapshot, since nobody else can trace it. `None` when that
/// thread has none.
pub fn ask(request: Request, nanoseconds: u64) -> Option<Result<Answer, Failure>> {
    let asked = signal::with_all_blocked(|| {
        GUARDS.with(|guards| {
            let here = process::pid();
            let guard = guards.iter().find(|guard| guard.tid == request.tid && guard.owner == here)?;
            let turn = guard.exchange.turn.load(Ordering::Acquire);
            match turn {
                helper::IDLE | helper::ANSWERED => {}
                // It was killed: anybody may trace the actor.
                helper::GONE => return None,
                _ => return Some(None),
            }
            guard.exchange.ask(request);
            // Under the lock: the actor reaps it only afterwards, so the number is its.
            sibling::nudge(guard.pid.load(Ordering::Relaxed), watch::NUDGE);
            Some(Some(guard.clone()))
        })
    })?;
    let Some(guard) = asked else { return Some(Err(Failure::Refused(Errno::EBUSY))) };
    Some(match guard.exchange.answer(nanoseconds) {
        Ok(answer) => Ok(answer),
        Err(helper::GONE) => Err(Failure::Refused(Errno::EPERM)),
        Err(_) => Err(Failure::NoAnswer),
    })
}

/// What became of an actor that is no more.
pub enum Loss {
    /// It crashed, and stands still for ever: its way back was destroyed.
    Crashed(Box<Crash>),
    /// The thread has ended.
    Ended,
}

/// Observer: whether there was a loss since the last look.
pub fn lost() -> Option<Loss> {
    // A guard dies with the thread that made it.
    let is_alone = |guard: &Guard| guard.exchange.turn.load(Ordering::Acquire) == helper::GONE;
    let is_lost = |guard: &Guard| {
        guard.lost.load(Ordering::Acquire) || is_alone(guard) && kill::thread(guard.tid, 0) == Err(Errno::ESRCH)
    };
    let lost = |guard: &Arc<Guard>| guard.owner == process::pid() && is_lost(guard);
    let guard = signal::with_all_blocked(|| {
        GUARDS.with(|guards| guards.iter().position(lost).map(|index| guards.swap_remove(index)))
    })?;
    let pid = guard.pid.load(Ordering::Relaxed);
    // It ends in this moment, if it has not already.
    sibling::wait_for_end(pid, &guard.exchange.turn, PATIENCE);
    if !guard.left.load(Ordering::Relaxed) {
        return Some(Loss::Ended);
    }
    // SAFETY: the guard wrote it before it said that the actor is lost, and neither of them does anything any more.
    let seen = unsafe { *guard.seen.get() };
    Some(Loss::Crashed(Box::new(guard.crash(&seen))))
}

/// In a forked child: they are the parent's.
pub fn reset_in_child(only: Child) {
    GUARDS.replace_in_child(Vec::new(), only);
}

impl Crash {
    /// The stack of the crash, down to what the manhole called. Observer.
    pub fn unwind(&self, modules: &Modules, unwinder: &mut Unwinder, limits: &Limits) -> ThreadStack {
        let copied = Copied::new([(self.base, &self.stack), (0, &[])]);
        let mut frames = Vec::new();
        let start = native::registers(&self.words);
        let mut ending = unwinder.unwind(modules, &Live, start, &copied, limits.frames, &mut frames);
        // A call that led to no code: its caller is known all the same.
        if let (Ending::Truncated(Reason::NotCode(_)), 0..=1) = (ending, frames.len())
            && let Some(caller) = native::caller(&start, &copied)
        {
            let first = frames.len();
            ending = unwinder.unwind(modules, &Live, caller, &copied, limits.frames, &mut frames);
            if let Some(frame) = frames.get_mut(first) {
                frame.source = FrameSource::Cfi;
            }
        }
        let inside = frames.iter().take_while(|frame| frame.sp < self.point).count();
        if inside < frames.len() {
            let own = modules.find(watch::watch as *const () as u64).map(Arc::as_ptr);
            let is_own = |frame: &Frame| modules.find(frame.pc.saturating_sub(1)).map(Arc::as_ptr) == own;
            let foreign = frames.iter().take(inside).rposition(|frame| !is_own(frame));
            frames.truncate(foreign.map_or(inside, |last| last + 1));
            ending = Ending::FirstFrame;
        }
        ThreadStack {
            tid: self.tid,
            name: b"Manhole actor".to_vec(),
            state: b'R',
            call: None,
            method: Some(Method::Ptrace),
            frames,
            ending,
        }
    }
}
