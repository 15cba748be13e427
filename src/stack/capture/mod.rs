//! Capturing the stacks of other threads, gentlest way first.
//!
//! Context: the observer, or a thread of the application that serves an oneshot or dumps. Two dumps at a time do no
//! harm, but only one may interrupt threads ([`signal`]). The order of decisions for one thread:
//!
//! 1. It is the caller itself, or the thread that the caller runs on and has interrupted: walked in place.
//! 2. **gaze**: if it is blocked, its registers SP and PC and a proven snapshot of its stack come from
//!    `/proc` ([`gaze`]); it is not touched. That is enough for most code.
//! 3. **ptrace**: it runs, kept moving, or unwinding needs another register: it is stopped for some
//!    microseconds by the helper ([`ptrace`]), if its system call survives that ([`restart`]).
//! 4. **signal**: ptrace is refused, and it is in no call: it copies its stack itself ([`signal`]).
//! 5. Otherwise the stack is what step 2 gave, truncated, with the reason.
//!
//! While a thread is stopped nothing is unwound, allocated or waited for: its registers and a copy of
//! its stack are taken, and the rest happens after it was let go.

pub mod dumpable;
mod gaze;
pub mod guard;
mod helper;
mod ptrace;
pub mod regs_aarch64;
pub mod regs_x86_64;
mod restart;
mod settle;
pub mod signal;
mod standing;
mod window;

#[cfg(target_arch = "aarch64")]
use regs_aarch64 as native;
#[cfg(target_arch = "x86_64")]
use regs_x86_64 as native;

use super::modules::Modules;
use super::unwind::Unwinder;
use super::{Call, Ending, Frame, Limits, Method, Outcome, Reason, ThreadStack};
use crate::sys::memory::Live;
use crate::sys::{Errno, process};
use dumpable::Dumpable;
pub use gaze::parse as parse_syscall;
use gaze::{Blocked, Gaze, Identity};
pub use native::restorer as signal_restorer;
use ptrace::{Copies, Failure, Patience, Snapshot, Tracer, Want};
pub use settle::LEFT as SETTLED_NANOSECONDS;
use settle::Settling;
pub use standing::{Standing, interrupted_registers, own_registers};
use window::{Copied, Pieces, Window};

/// How often a blocked thread that moved under our eyes is looked at again.
const LOOKS: u32 = 3;
/// Bytes of a stopped thread's stack that are copied at first; more only if unwinding asks for it,
/// since each 4 KB keep the thread stopped for a third of a microsecond longer.
const FIRST_COPY: usize = 32 << 10;

/// The ways of capture that may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Methods {
    /// Looking at blocked threads through `/proc`.
    pub proc: bool,
    /// Stopping a thread by ptrace.
    pub ptrace: bool,
    /// Interrupting a thread by a signal.
    pub signal: bool,
}

impl Default for Methods {
    fn default() -> Self {
        Self { proc: true, ptrace: true, signal: true }
    }
}

impl Methods {
    /// Where `/proc` belongs to another pid namespace, its thread ids name other threads to ptrace and to
    /// signals, or none.
    fn untouching(self) -> Self {
        Self { ptrace: false, signal: false, ..self }
    }
}

/// What the last dump did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Threads captured by `/proc`.
    pub proc: u32,
    /// By ptrace.
    pub ptrace: u32,
    /// By signal.
    pub signal: u32,
    /// Threads that could not be stopped when unwinding needed it.
    pub not_stopped: u32,
    /// System calls that a stop cut and that were made to run again.
    pub repeated_calls: u32,
    /// The longest time that a thread was stopped, in nanoseconds.
    pub max_stopped_ns: u64,
}

/// Captures threads of this process, one dump at a time.
#[derive(Default)]
pub struct Capture {
    /// The ways that may be used.
    pub methods: Methods,
    /// The calling thread, if it is one of the application.
    pub standing: Option<Standing>,
    /// The caller has just seen every thread run for longer than [`SETTLED_NANOSECONDS`]: none is leaving a call.
    pub are_settled: bool,
    tracer: Tracer,
    statistics: Statistics,
}

impl Capture {
    /// Captures by these ways only.
    pub fn with(methods: Methods) -> Self {
        Self { methods, ..Self::default() }
    }

    /// What the last dump did.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// Captures `tids` in order, handing each outcome to `each`.
    pub fn capture(
        &mut self,
        modules: &Modules,
        unwinder: &mut Unwinder,
        tids: &[i32],
        limits: &Limits,
        each: &mut dyn FnMut(Outcome),
    ) {
        self.tracer.begin();
        let turn = signal::Turn::take();
        let same_namespace = process::proc_is_of_our_namespace();
        let methods = if same_namespace { self.methods } else { self.methods.untouching() };
        let mut dump = Dump {
            methods: Methods { signal: methods.signal && turn.is_some(), ..methods },
            tracer: &mut self.tracer,
            gaze: Gaze::new(same_namespace),
            modules,
            unwinder,
            limits,
            own: self.standing.map_or_else(process::tid, |standing| standing.tid),
            standing: self.standing,
            are_settled: self.are_settled,
            total: 0,
            dumpable: Dumpable::default(),
            patience: Patience::new(),
            settling: Settling::new(),
            pieces: Pieces::default(),
            copies: Copies::default(),
            frames: Vec::new(),
            statistics: Statistics::default(),
        };
        for &tid in tids {
            each(dump.thread(tid));
        }
        let mut statistics = dump.statistics;
        drop(dump);
        statistics.max_stopped_ns = self.tracer.max_stopped;
        statistics.repeated_calls = self.tracer.repeated;
        self.statistics = statistics;
    }
}

/// One dump: buffers used over all threads, and what must be put back at its end.
struct Dump<'a> {
    methods: Methods,
    tracer: &'a mut Tracer,
    gaze: Result<Gaze, Errno>,
    modules: &'a Modules,
    unwinder: &'a mut Unwinder,
    limits: &'a Limits,
    own: i32,
    standing: Option<Standing>,
    are_settled: bool,
    /// Frames of all threads so far.
    total: usize,
    dumpable: Dumpable,
    patience: Patience,
    settling: Settling,
    pieces: Pieces,
    copies: Copies,
    /// The frames of the thread that is being unwound.
    frames: Vec<Frame>,
    statistics: Statistics,
}

impl Drop for Dump<'_> {
    fn drop(&mut self) {
        self.tracer.finish();
    }
}

/// What became of a thread whose frames are in [`Dump::frames`].
struct Found {
    method: Option<Method>,
    call: Option<Call>,
    ending: Ending,
}

/// What the `syscall` file told last.
enum Doing {
    /// Blocked in this call (number -1: outside any), with its stack pointer.
    Blocked(Call, u64),
    /// Running, or moving at each look.
    Running,
    /// The kernel would not tell.
    Unknown(Errno),
}

impl Dump<'_> {
    fn thread(&mut self, tid: i32) -> Outcome {
        self.frames.clear();
        let identity = match self.gaze.as_ref().map_err(|&errno| errno).and_then(|gaze| gaze.identify(tid)) {
            Err(Errno::ENOENT | Errno::ESRCH) => return Outcome::Exited(tid),
            // A dead main thread stays listed until the others are gone too.
            Ok(identity) if matches!(identity.state, b'Z' | b'X') => return Outcome::Exited(tid),
            other => other,
        };
        let found = match &identity {
            Err(errno) => Some(Found::nothing(Reason::Refused(*errno as i32))),
            Ok(_) if self.total >= self.limits.total_frames => Some(Found::nothing(Reason::Budget)),
            Ok(_) if tid == self.own => Some(self.own()),
            Ok(identity) => self.other(tid, identity),
        };
        let Some(found) = found else { return Outcome::Exited(tid) };
        self.total += self.frames.len();
        match found.method {
            Some(Method::Proc) => self.statistics.proc += 1,
            Some(Method::Ptrace) => self.statistics.ptrace += 1,
            Some(Method::Signal) => self.statistics.signal += 1,
            Some(Method::Interrupted | Method::Own) | None => {}
        }
        Outcome::Captured(ThreadStack {
            tid,
            name: identity.as_ref().map(Identity::name).unwrap_or_default().to_vec(),
            state: identity.as_ref().map_or(b'?', |identity| identity.state),
            call: found.call.filter(|call| call.number >= 0),
            method: found.method,
            frames: self.frames.as_slice().to_vec(),
            ending: found.ending,
        })
    }

    /// Steps 2 to 5; `None` when the thread exited meanwhile.
    fn other(&mut self, tid: i32, identity: &Identity) -> Option<Found> {
        let (doing, mut found) = self.settled_look(tid)?;
        if found.method.is_some() && !matches!(found.ending, Ending::Truncated(Reason::UnknownRegister { .. })) {
            return Some(found);
        }
        let (stops, spared) = self.may_stop(tid, &doing, identity.state);
        let mut failure = spared;
        if stops && self.methods.ptrace {
            // What a call of a stopped process returns is between it and whoever stopped it.
            let repeat = identity.state != b'T';
            match self.stopped(tid, Method::Ptrace, repeat) {
                Ok(stopped) => return Some(stopped.or_call(found.call)),
                Err(Failure::Gone) => return None,
                Err(other) => failure = Some(other.into()),
            }
        }
        let in_no_call = matches!(doing, Doing::Running | Doing::Blocked(Call { number: ..0, .. }, _));
        let refused = !self.methods.ptrace || matches!(failure, Some(Reason::Refused(_)));
        if stops && refused && in_no_call && self.methods.signal && !matches!(identity.state, b'T' | b't') {
            match self.interrupted(tid) {
                Ok(interrupted) => return Some(interrupted),
                Err(None) => return None,
                Err(Some(reason)) => failure = Some(reason),
            }
        }
        if let Some(reason) = failure {
            self.statistics.not_stopped += 1;
            found.ending = Ending::Truncated(reason);
        }
        Some(found)
    }

    /// Step 2, again when a thread that seemed to run was only leaving a call.
    fn settled_look(&mut self, tid: i32) -> Option<(Doing, Found)> {
        for _ in 0..LOOKS {
            match self.look(tid)? {
                (Doing::Running, _) if !self.are_settled && !self.settling.has_run(tid) => {}
                settled => return Some(settled),
            }
        }
        self.look(tid)
    }

    /// What can be had without touching the thread.
    fn look(&mut self, tid: i32) -> Option<(Doing, Found)> {
        let mut found = Found::nothing(Reason::KeptMoving);
        for _ in 0..LOOKS {
            let blocked = match self.glance(tid) {
                Ok(Some(blocked)) => blocked,
                Ok(None) => return Some((Doing::Running, found)),
                Err(errno) => {
                    // ENOENT also from a kernel that has no such file: then the thread is still there.
                    self.gaze.as_ref().ok()?.identify(tid).ok()?;
                    found.ending = Ending::Truncated(Reason::Refused(errno as i32));
                    return Some((Doing::Unknown(errno), found));
                }
            };
            found.call = Some(blocked.call);
            let doing = Doing::Blocked(blocked.call, blocked.sp);
            if !self.methods.proc {
                found.ending = Ending::Truncated(Reason::WouldDisturb(blocked.call.number));
                return Some((doing, found));
            }
            self.frames.clear();
            let window = Window::new(&mut self.pieces, &blocked, native::RED_ZONE);
            let registers = super::Registers::from_pc_sp(blocked.pc, blocked.sp);
            let limit = frame_limit(self.limits, self.total);
            let ending = self.unwinder.unwind(self.modules, &Live, registers, &window, limit, &mut self.frames);
            if !window.moved() {
                found.method = Some(Method::Proc);
                found.ending = within(ending, self.limits, self.total);
                return Some((doing, found));
            }
            self.frames.clear();
            found.call = None;
        }
        Some((Doing::Running, found))
    }

    /// The `syscall` file, made readable if it is not.
    fn glance(&mut self, tid: i32) -> Result<Option<Blocked>, Errno> {
        let gaze = self.gaze.as_ref().map_err(|&errno| errno)?;
        match gaze.glance(tid) {
            Err(Errno::EACCES | Errno::EPERM) if self.dumpable.allow() => gaze.glance(tid),
            other => other,
        }
    }

    /// Whether the thread may be stopped; and if not, why, as far as that is worth telling.
    fn may_stop(&self, tid: i32, doing: &Doing, state: u8) -> (bool, Option<Reason>) {
        match *doing {
            Doing::Running => (true, None),
            Doing::Blocked(..) if state == b'D' => (false, None),
            Doing::Blocked(call, sp) => {
                let folder = self.gaze.as_ref().map(Gaze::folder);
                let may = folder.is_ok_and(|folder| restart::may_be_stopped(&call, tid, sp, folder));
                (may, (!may).then_some(Reason::WouldDisturb(call.number)))
            }
            Doing::Unknown(errno) => (state == b'R', Some(Reason::Refused(errno as i32))),
        }
    }

    /// Step 3, and the end of step 4: a snapshot, unwound; once or twice more if it proves too small.
    fn stopped(&mut self, tid: i32, method: Method, repeat: bool) -> Result<Found, Failure> {
        let mut want = Want { stack: FIRST_COPY.min(self.limits.stack_bytes), extra: None, repeat };
        let mut found = None;
        loop {
            let snapshot = if method == Method::Ptrace {
                self.tracer.snapshot(tid, want, &mut self.copies, &mut self.dumpable, &mut self.patience)
            } else {
                let gaze = self.gaze.as_ref().ok();
                let is_pending = |tid| {
                    let signals = gaze.and_then(|gaze| gaze.signals(tid).ok());
                    signals.is_some_and(|(_, pending)| pending & signal::MASK != 0)
                };
                signal::snapshot(tid, want, &mut self.copies, &mut self.patience, &is_pending)
            };
            let snapshot = match (snapshot, found) {
                (Ok(snapshot), _) => snapshot,
                // The smaller snapshot is better than none.
                (Err(_), Some(found)) => return Ok(found),
                (Err(failure), None) => return Err(failure),
            };
            let stack = self.copies.stack.get(..snapshot.stack.1).unwrap_or_default();
            let extra = self.copies.extra.get(..snapshot.extra.1).unwrap_or_default();
            let copied = Copied::new([(snapshot.stack.0, stack), (snapshot.extra.0, extra)]);
            let limit = frame_limit(self.limits, self.total);
            self.frames.clear();
            let start = snapshot.registers;
            let ending = self.unwinder.unwind(self.modules, &Live, start, &copied, limit, &mut self.frames);
            let missed = copied.missed().filter(|&address| ending != Ending::FirstFrame && is_readable(address));
            let ending = match (within(ending, self.limits, self.total), missed) {
                (Ending::Truncated(Reason::Unreadable(_)), Some(address)) => {
                    Ending::Truncated(Reason::CopyLimit(address))
                }
                (ending, _) => ending,
            };
            let latest = Found { method: Some(method), call: snapshot.call, ending };
            match missed.and_then(|address| larger(want, &snapshot, address, self.limits)) {
                Some(larger) => (want, found) = (larger, Some(latest)),
                None => return Ok(latest),
            }
        }
    }

    /// Step 4; `Err(None)` when the thread exited meanwhile.
    fn interrupted(&mut self, tid: i32) -> Result<Found, Option<Reason>> {
        let gaze = self.gaze.as_ref().map_err(|&errno| Some(Reason::Refused(errno as i32)))?;
        match gaze.signals(tid) {
            Ok((blocked, _)) if blocked & signal::MASK == 0 => {}
            Ok(_) => return Err(Some(Reason::SignalBlocked)),
            Err(errno) => return Err(Some(Reason::Refused(errno as i32))),
        }
        if !gaze.is_filtered_as_we_are(tid) {
            return Err(Some(Reason::Refused(Errno::EPERM as i32)));
        }
        self.stopped(tid, Method::Signal, false).map_err(|failure| match failure {
            Failure::Gone => None,
            other => Some(other.into()),
        })
    }
}

impl Found {
    fn nothing(reason: Reason) -> Self {
        Self { method: None, call: None, ending: Ending::Truncated(reason) }
    }

    /// The call of a stopped thread, where its registers do not tell it.
    fn or_call(self, looked: Option<Call>) -> Self {
        Self { call: self.call.or(looked), ..self }
    }
}

impl From<Failure> for Reason {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Gone | Failure::NoAnswer => Self::NoAnswer,
            Failure::Refused(errno) => Self::Refused(errno as i32),
        }
    }
}

/// Frames that one more thread may have.
fn frame_limit(limits: &Limits, total: usize) -> u32 {
    let left = limits.total_frames.saturating_sub(total);
    limits.frames.min(u32::try_from(left).unwrap_or(u32::MAX))
}

/// A thread that was cut where the whole dump ends says so.
fn within(ending: Ending, limits: &Limits, total: usize) -> Ending {
    match ending {
        Ending::Truncated(Reason::Depth(_)) if frame_limit(limits, total) < limits.frames => {
            Ending::Truncated(Reason::Budget)
        }
        other => other,
    }
}

fn is_readable(address: u64) -> bool {
    use crate::sys::memory::Memory;
    Live.read_array::<1>(address).is_some()
}

/// What to ask for so that `address`, which the snapshot lacks, is in the next one; `None` when it
/// cannot be.
fn larger(want: Want, snapshot: &Snapshot, address: u64, limits: &Limits) -> Option<Want> {
    let above = address.checked_sub(snapshot.stack.0).and_then(|offset| usize::try_from(offset).ok());
    if want.stack < limits.stack_bytes && above.is_some_and(|offset| offset < limits.stack_bytes) {
        return Some(Want { stack: limits.stack_bytes, ..want });
    }
    // Another stack, such as the one that a handler on its alternate stack has interrupted.
    want.extra.is_none().then_some(Want { extra: Some(address.saturating_sub(512)), ..want })
}

#[cfg(test)]
mod tests;
