//! What runs in the ptrace helper.
//!
//! Context: a process of its own in our memory and descriptor table, made by [`super::ptrace`], with
//! every signal blocked. A thread may not trace its own process, hence a process; it shares the
//! observer's thread pointer, hence raw system calls only: no errno, no thread-local, no allocation,
//! no lock, no panic. While it holds a thread stopped it reads registers, copies stack, and nothing else.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{native, restart};
use crate::sys::memory::{Live, Memory};
use crate::sys::ptrace::{self, Event};
use crate::sys::{Errno, clock, sibling};

/// Whose turn it is. The kernel itself stores 0 when the helper has ended.
pub const GONE: u32 = 0;
/// The observer's: nothing to do.
pub const IDLE: u32 = 1;
/// The helper's: there is a request.
pub const ASKED: u32 = 2;
/// The observer's: there is an answer.
pub const ANSWERED: u32 = 3;
/// The helper's: to end.
pub const END: u32 = 4;

/// How long the helper looks for the stop without sleeping, since waking it takes longer than most
/// stops; and how long it waits for a request before it concludes that nobody is left to ask.
const SPIN: u64 = 50_000;
const LONELY: u64 = 10_000_000_000;

/// What the observer wants.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// The thread to stop; 0 only tries whether ptrace may be called at all.
    pub tid: i32,
    /// Make a call that the stop cut run again.
    pub repeat: bool,
    /// Where the stack goes, from the red zone up, and how many bytes at most.
    pub stack: (*mut u8, usize),
    /// A second range to copy: from, to where, how many bytes at most.
    pub extra: (u64, *mut u8, usize),
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The thread was stopped, copied, and let go.
    Copied,
    /// It exited.
    Gone,
    /// The kernel refused.
    Refused(Errno),
}

/// What the helper found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// How it ended.
    pub ended: Ended,
    /// The general registers, before a repair.
    pub words: [u64; native::WORDS],
    /// Bytes copied of the stack and of the extra range.
    pub copied: [usize; 2],
    /// Nanoseconds from the last look that found the thread not yet stopped to its release.
    pub stopped: u64,
    /// A call was made to run again.
    pub repeated: bool,
}

/// What both sides share.
pub struct Exchange {
    /// Whose turn it is.
    pub turn: AtomicU32,
    request: UnsafeCell<Request>,
    answer: UnsafeCell<Answer>,
}

// SAFETY: `turn` says which side may touch the cells; it is stored with Release and read with Acquire.
unsafe impl Sync for Exchange {}

impl Exchange {
    /// Nothing asked yet.
    pub const fn new() -> Self {
        let nothing = std::ptr::null_mut();
        Self {
            turn: AtomicU32::new(IDLE),
            request: UnsafeCell::new(Request { tid: 0, repeat: false, stack: (nothing, 0), extra: (0, nothing, 0) }),
            answer: UnsafeCell::new(Answer {
                ended: Ended::Gone,
                words: [0; native::WORDS],
                copied: [0; 2],
                stopped: 0,
                repeated: false,
            }),
        }
    }

    /// Observer: hands over a request. Its buffers must stay until the answer is there or the helper is gone.
    pub fn ask(&self, request: Request) {
        // SAFETY: the turn is IDLE or ANSWERED: the helper does not look at the cell.
        unsafe { *self.request.get() = request };
        sibling::set_and_wake(&self.turn, ASKED);
    }

    /// Tracer of the thread that is asked about, which it holds stopped: answers.
    pub fn answer_stopped(&self) {
        // SAFETY: the turn is ASKED: the observer does not touch the request.
        let request = unsafe { &*self.request.get() };
        // SAFETY: nor the answer.
        let answer = unsafe { &mut *self.answer.get() };
        let since = clock::monotonic();
        answer.ended = look(request, answer);
        answer.stopped = clock::monotonic().wrapping_sub(since);
        sibling::set_and_wake(&self.turn, ANSWERED);
    }

    /// Observer: waits for the answer. The turn when there is none in time.
    pub fn answer(&self, nanoseconds: u64) -> Result<Answer, u32> {
        match sibling::wait_while(&self.turn, ASKED, nanoseconds) {
            // SAFETY: it is our turn: the helper does not touch the cell until the next request.
            ANSWERED => Ok(unsafe { *self.answer.get() }),
            turn => Err(turn),
        }
    }
}

/// The helper's main function; `argument` is the [`Exchange`].
pub extern "C" fn run(argument: *mut libc::c_void) -> libc::c_int {
    sibling::die_with_parent();
    // SAFETY: the observer keeps the exchange until this process is gone.
    let exchange = unsafe { &*argument.cast::<Exchange>() };
    let parent = sibling::parent();
    loop {
        match exchange.turn.load(Ordering::Acquire) {
            ASKED => {
                // SAFETY: it is our turn: the observer does not touch the request.
                let request = unsafe { &*exchange.request.get() };
                // SAFETY: nor the answer.
                let answer = unsafe { &mut *exchange.answer.get() };
                serve(request, answer);
                sibling::set_and_wake(&exchange.turn, ANSWERED);
            }
            END => return 0,
            turn => {
                if sibling::wait_while(&exchange.turn, turn, LONELY) == turn || sibling::parent() != parent {
                    return 1;
                }
            }
        }
    }
}

fn serve(request: &Request, answer: &mut Answer) {
    answer.copied = [0; 2];
    answer.repeated = false;
    answer.stopped = 0;
    answer.ended = match ptrace::seize(request.tid) {
        Ok(()) => stop(request, answer),
        Err(Errno::ESRCH) => Ended::Gone,
        Err(errno) => Ended::Refused(errno),
    };
}

/// Stops the seized thread, looks, and lets it go.
fn stop(request: &Request, answer: &mut Answer) -> Ended {
    let tid = request.tid;
    let start = clock::monotonic();
    if ptrace::interrupt(tid).is_err() {
        return Ended::Gone;
    }
    let mut since = start;
    let event = loop {
        let now = clock::monotonic();
        let block = now.wrapping_sub(start) > SPIN;
        match ptrace::wait(tid, block) {
            Ok(Event::Nothing) => since = now,
            Ok(event) => {
                if block {
                    since = clock::monotonic();
                }
                break event;
            }
            Err(_) => return Ended::Gone,
        }
    };
    let signal = match event {
        Event::Signal(signal) => signal,
        Event::Stopped(_) | Event::Nothing => 0,
        Event::Gone => return Ended::Gone,
    };
    let ended = look(request, answer);
    // A signal that was on its way goes on its way. A thread of a stopped process stays stopped.
    let _ = ptrace::detach(tid, signal);
    answer.stopped = clock::monotonic().wrapping_sub(since);
    ended
}

/// Takes what is wanted of the stopped thread.
fn look(request: &Request, answer: &mut Answer) -> Ended {
    let tid = request.tid;
    if let Err(errno) = ptrace::general_registers(tid, &mut answer.words) {
        return Ended::Refused(errno);
    }
    answer.repeated = request.repeat && repeat(tid, &answer.words);
    let base = native::stack_pointer(&answer.words).wrapping_sub(native::RED_ZONE);
    let (to, size) = request.stack;
    // SAFETY: the observer handed this buffer over, and waits.
    let stack = unsafe { copy(base, to, size) };
    let (from, to, size) = request.extra;
    // SAFETY: as above.
    let extra = unsafe { copy(from, to, size) };
    answer.copied = [stack, extra];
    Ended::Copied
}

/// # Safety
/// `size` bytes at `to` must be writable and nobody else's.
unsafe fn copy(from: u64, to: *mut u8, size: usize) -> usize {
    if size == 0 {
        return 0;
    }
    // SAFETY: as the caller vouches.
    let buffer = unsafe { std::slice::from_raw_parts_mut(to, size) };
    Live.read(from, buffer)
}

/// Makes the call that the stop cut run again, if it is one that may.
fn repeat(tid: i32, words: &[u64]) -> bool {
    let Some((number, offset, value)) = native::restart(words) else { return false };
    if !restart::is_repeatable(number) {
        return false;
    }
    // The 32-bit entry (`int 0x80`) has other numbers.
    let mut code = [0; 4];
    let Some(code) = code.get_mut(..native::SYSCALL.len()) else { return false };
    let address = native::program_counter(words).wrapping_sub(code.len() as u64);
    Live.read(address, code) == code.len() && code == native::SYSCALL && ptrace::poke_user(tid, offset, value).is_ok()
}
