//! Stopping one thread for some microseconds, by a helper process that traces it.
//!
//! Context: the observer. The helper ([`super::helper`]) is made at the first need of a dump and reaped at its
//! end; it is no child that the application's `wait` would see, and it dies with the observer.
//!
//! Everything is bounded: a thread that does not stop (state D), a helper that seccomp kills or that
//! somebody stops cost time out of one small purse a dump ([`Patience`]). A helper that must be given up
//! is killed: the kernel then lets go of what it traced.
//!
//! Under a seccomp filter, `crate::sys::filter` knows whether `ptrace` may be called at all.

use super::super::Registers;
use super::dumpable::Dumpable;
use super::helper::{self, Answer, Ended, Exchange, Request};
use super::{Call, guard, native};
use crate::sys::procfs::read_small;
use crate::sys::{Errno, clock, filter, raw, sibling};

/// Bytes of the helper's own stack.
const STACK: usize = 64 << 10;
/// Nanoseconds that one thread may take to stop, and all losses of a dump together.
const ONE: u64 = 50_000_000;
const ALL: u64 = 100_000_000;
/// Bytes of the second range that a copy may have.
pub const EXTRA: usize = 64 << 10;

/// What a dump may still spend on waiting for nothing.
#[derive(Debug)]
pub struct Patience {
    left: u64,
}

impl Patience {
    /// A full purse.
    pub fn new() -> Self {
        Self { left: ALL }
    }

    /// Nanoseconds that the next wait may take; 0 when all is spent.
    pub fn next(&self) -> u64 {
        self.left.min(ONE)
    }

    /// A wait since `start` was for nothing.
    pub fn lost_since(&mut self, start: u64) {
        self.left = self.left.saturating_sub(clock::monotonic().saturating_sub(start));
    }
}

/// Where the stack of a stopped or interrupted thread is copied to.
#[derive(Debug, Default)]
pub struct Copies {
    /// From the stack pointer (and the red zone below it) up.
    pub stack: Vec<u8>,
    /// A second range.
    pub extra: Vec<u8>,
}

impl Copies {
    /// Makes room.
    pub fn reserve(&mut self, stack: usize, extra: usize) {
        for (bytes, size) in [(&mut self.stack, stack), (&mut self.extra, extra)] {
            if bytes.len() < size {
                bytes.resize(size, 0);
            }
        }
    }
}

/// What is wanted of one thread.
#[derive(Clone, Copy, Debug)]
pub struct Want {
    /// Bytes of stack.
    pub stack: usize,
    /// A second range of [`EXTRA`] bytes.
    pub extra: Option<u64>,
    /// Make a call that the stop cut run again.
    pub repeat: bool,
}

/// A thread's registers, and how much of its stack is in [`Copies`].
#[derive(Clone, Copy, Debug)]
pub struct Snapshot {
    /// All registers.
    pub registers: Registers,
    /// The call that it was in.
    pub call: Option<Call>,
    /// Where the copy of the stack begins, and its bytes.
    pub stack: (u64, usize),
    /// The same for the second range.
    pub extra: (u64, usize),
}

/// Why there is no snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The thread exited.
    Gone,
    /// It did not stop in time, or time was up before.
    NoAnswer,
    /// The kernel refused.
    Refused(Errno),
}

/// The helper, as the observer holds it.
struct Helper {
    pid: i32,
    exchange: Box<Exchange>,
    stack: sibling::Mapping,
}

/// Takes snapshots by ptrace.
#[derive(Default)]
pub struct Tracer {
    helper: Option<Helper>,
    /// A helper died on us in this dump: none is made any more.
    broken: Option<Errno>,
    /// The process that made the helper: a forked child has only a copy of this.
    owner: i32,
    /// Yama was asked to let the helper in, with this result.
    admitted: Option<bool>,
    /// Helpers that did not die in time.
    unreaped: Vec<i32>,
    /// The longest time that a thread was stopped, in nanoseconds.
    pub max_stopped: u64,
    /// Calls that were made to run again.
    pub repeated: u32,
}

impl Tracer {
    /// Stops `tid`, copies what is wanted, lets it go.
    pub fn snapshot(
        &mut self,
        tid: i32,
        want: Want,
        copies: &mut Copies,
        dumpable: &mut Dumpable,
        patience: &mut Patience,
    ) -> Result<Snapshot, Failure> {
        copies.reserve(want.stack, want.extra.map_or(0, |_| EXTRA));
        let extra = want.extra.map_or((0, std::ptr::null_mut(), 0), |from| (from, copies.extra.as_mut_ptr(), EXTRA));
        let request = Request { tid, repeat: want.repeat, stack: (copies.stack.as_mut_ptr(), want.stack), extra };
        let mut answer = self.ask(request, copies, patience)?;
        if answer.ended == Ended::Refused(Errno::EPERM) && (dumpable.allow() || self.admit()) {
            answer = self.ask(request, copies, patience)?;
        }
        match answer.ended {
            Ended::Gone => return Err(Failure::Gone),
            Ended::Refused(errno) => return Err(Failure::Refused(errno)),
            Ended::Copied => {}
        }
        self.max_stopped = self.max_stopped.max(answer.stopped);
        self.repeated += u32::from(answer.repeated);
        let base = native::stack_pointer(&answer.words).wrapping_sub(native::RED_ZONE);
        let [stack, second] = answer.copied;
        Ok(Snapshot {
            registers: native::registers(&answer.words),
            call: native::call(&answer.words),
            stack: (base, stack),
            extra: (request.extra.0, second),
        })
    }

    fn ask(&mut self, request: Request, copies: &mut Copies, patience: &mut Patience) -> Result<Answer, Failure> {
        if let Some(errno) = self.broken {
            return Err(Failure::Refused(errno));
        }
        let time = patience.next();
        if time == 0 {
            return Err(Failure::NoAnswer);
        }
        if let Some(answer) = guard::ask(request, time) {
            if answer == Err(Failure::NoAnswer) {
                // It may still write into the buffers, which must never be used again.
                std::mem::forget(std::mem::take(copies));
            }
            return answer;
        }
        if self.helper.is_none() {
            self.start()?;
        }
        let Some(helper) = &self.helper else { return Err(Failure::Refused(Errno::EAGAIN)) };
        let start = clock::monotonic();
        helper.exchange.ask(request);
        match helper.exchange.answer(time) {
            Ok(answer) => Ok(answer),
            Err(turn) => {
                patience.lost_since(start);
                if turn == helper::GONE {
                    self.broken = Some(Errno::EPERM);
                }
                if !self.end(true) {
                    // It may still write into the buffers, which must never be used again.
                    std::mem::forget(std::mem::take(copies));
                    self.broken = Some(Errno::EBUSY);
                }
                Err(if turn == helper::GONE { Failure::Refused(Errno::EPERM) } else { Failure::NoAnswer })
            }
        }
    }

    /// Makes the helper.
    fn start(&mut self) -> Result<(), Failure> {
        if !filter::allows(filter::Call::Trace) {
            return Err(Failure::Refused(Errno::EPERM));
        }
        self.unreaped.retain(|&pid| !sibling::reap(pid));
        let stack = sibling::Mapping::with_guard(STACK).map_err(Failure::Refused)?;
        let exchange = Box::new(Exchange::new());
        let argument = std::ptr::from_ref(&*exchange).cast_mut().cast();
        // SAFETY: `helper::run` keeps to raw calls and to the exchange, which with the stack outlives the
        // process: `end` frees them only when it is gone.
        let pid = unsafe {
            sibling::spawn_in_our_memory(
                helper::run,
                stack.end(),
                argument,
                &exchange.turn,
                sibling::Descriptors::Shared,
            )
        };
        let pid = pid.map_err(Failure::Refused)?;
        self.helper = Some(Helper { pid, exchange, stack });
        Ok(())
    }

    /// After a refusal: asks Yama to let the helper trace us. True when that may have helped.
    ///
    /// An earlier PR_SET_PTRACER of the application is lost, since the kernel does not show it.
    fn admit(&mut self) -> bool {
        let Some(helper) = self.helper.as_ref().filter(|_| self.admitted.is_none()) else { return false };
        let admitted = admit(helper.pid);
        self.admitted = Some(admitted);
        admitted
    }

    /// At the beginning of a dump: nothing measured yet, and nothing of a process that forked us.
    pub fn begin(&mut self) {
        (self.max_stopped, self.repeated) = (0, 0);
        let own = crate::sys::process::pid();
        if std::mem::replace(&mut self.owner, own) != own {
            // Another process's child, on a stack of its own: not ours to end, to free or to wait for.
            std::mem::forget(self.helper.take());
            self.unreaped.clear();
            self.admitted = None;
        }
    }

    /// At the end of a dump: ends the helper, if there is one, and takes back what was asked of Yama.
    pub fn finish(&mut self) {
        self.end(false);
        self.broken = None;
    }

    /// Ends the helper, at once by `kill`; false if it would not go.
    fn end(&mut self, kill: bool) -> bool {
        if self.admitted.take() == Some(true) {
            admit_nobody();
        }
        let Some(helper) = self.helper.take() else { return true };
        if !kill {
            sibling::set_and_wake(&helper.exchange.turn, helper::END);
        }
        if (!kill && helper.is_gone(ONE)) || {
            sibling::kill(helper.pid);
            helper.is_gone(ONE)
        } {
            return true;
        }
        self.unreaped.push(helper.pid);
        let Helper { exchange, stack, .. } = helper;
        std::mem::forget(stack);
        Box::leak(exchange);
        false
    }
}

impl Helper {
    /// Waits until the helper has ended and is reaped.
    fn is_gone(&self, nanoseconds: u64) -> bool {
        let deadline = clock::monotonic().saturating_add(nanoseconds);
        while clock::monotonic() < deadline {
            let turn = self.exchange.turn.load(std::sync::atomic::Ordering::Acquire);
            if sibling::reap(self.pid) {
                return true;
            }
            // Until the turn changes; the kernel clears it a moment before there is something to reap.
            sibling::wait_while(&self.exchange.turn, turn, if turn == helper::GONE { 20_000 } else { 1_000_000 });
        }
        sibling::reap(self.pid)
    }
}

/// Asks Yama to let process `pid` trace us. True when that may have helped.
pub fn admit(pid: i32) -> bool {
    let mut buffer = [0; 8];
    let scope = read_small(libc::AT_FDCWD, c"/proc/sys/kernel/yama/ptrace_scope", &mut buffer);
    scope.is_ok_and(|scope| scope.first() == Some(&b'1')) && set_tracer(pid as usize)
}

/// Takes that back.
pub fn admit_nobody() {
    set_tracer(0);
}

fn set_tracer(pid: usize) -> bool {
    // SAFETY: this prctl touches no memory.
    unsafe { raw::syscall6(libc::SYS_prctl, [libc::PR_SET_PTRACER as usize, pid, 0, 0, 0, 0]) }.is_ok()
}
