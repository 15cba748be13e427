//! Taking a snapshot by interrupting a thread: the last resort, where ptrace is refused.
//!
//! Context: the observer, and [`handler`] in the thread that is captured. The handler makes raw system
//! calls only: no errno, no lock, no allocation, no panic.
//!
//! Only a thread that runs, or is blocked outside any call, is interrupted: a signal cuts 14 of 20 kinds
//! of blocked call. SIGURG, because its default is to be ignored, hence one that slips through does no harm.
//! Our handler is installed for the time of one snapshot only. It tells our signals by the value that they
//! carry; any other goes on to the handler of the application, which is installed with the flags and the mask it
//! had. Two kinds of handler are left alone, and ptrace's refusal stands: one without SA_RESTART, since its
//! flags would let our signal cut calls, and one with SA_RESETHAND, which the kernel would forget.
//!
//! A signal that is not taken in time may come at any later moment. Until then our handler stays, and
//! it puts the old disposition back itself when the last one has come; so none of ours ever reaches the
//! application's handler. A disposition that the application changed meanwhile is left as it is.
//!
//! The kernel keeps one pending SIGURG a thread: one that the application sends to the very thread in the
//! microseconds until ours is taken is merged with it, as it would be with another of its own.
//!
//! The state is one static, since a handler can reach nothing else; a dump takes its [`Turn`] first. A forked child finds a copy, which
//! it discards at its first use.

use std::ptr::null_mut;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use super::ptrace::{Copies, EXTRA, Failure, Patience, Snapshot, Want};
use super::{native, restart};
use crate::sys::memory::{Live, Memory};
use crate::sys::signal::{self, Disposition, Information};
use crate::sys::{Errno, clock, sibling};

const SIGNAL: i32 = libc::SIGURG;
/// Its bit in a thread's mask.
pub const MASK: u64 = 1 << (SIGNAL - 1);
/// The upper half of the value of our signals; the lower is the number of the request.
const MARK: u64 = 0x6d61_6e68;
/// Signals on their way, at most; beyond that there is something wrong with this process.
const PENDING: usize = 16;

/// Bits of [`State::duty`] above those of the signals: whoever finds no signal on its way is to put the old
/// disposition back; and somebody is doing so.
const LEAVE: u32 = 1 << 30;
const RESTORING: u32 = 1 << 31;

/// The stages of a request, in the lower two bits of [`State::stage`]; above them is its number.
const CLOSED: u32 = 0;
const WANTED: u32 = 1;
const COPYING: u32 = 2;
const DONE: u32 = 3;

/// What observer and handler share.
struct State {
    stage: AtomicU32,
    stack: AtomicPtr<u8>,
    stack_size: AtomicUsize,
    extra: AtomicPtr<u8>,
    extra_from: AtomicU64,
    extra_size: AtomicUsize,
    words: [AtomicU64; native::CONTEXT_WORDS],
    copied: [AtomicUsize; 2],
    /// Signals of ours on their way: request number (0: free) and thread.
    pending: [(AtomicU32, AtomicI32); PENDING],
    /// One bit for each of them, and who is to put the old disposition back. One word, so that "the last
    /// one has come, and it is my duty" is decided in one step.
    duty: AtomicU32,
    /// The process that this state belongs to.
    owner: AtomicI32,
    /// The application's disposition: handler, flags, restorer, mask.
    old: [AtomicU64; 4],
}

static STATE: State = State {
    stage: AtomicU32::new(CLOSED),
    stack: AtomicPtr::new(null_mut()),
    stack_size: AtomicUsize::new(0),
    extra: AtomicPtr::new(null_mut()),
    extra_from: AtomicU64::new(0),
    extra_size: AtomicUsize::new(0),
    words: [const { AtomicU64::new(0) }; native::CONTEXT_WORDS],
    copied: [const { AtomicUsize::new(0) }; 2],
    pending: [const { (AtomicU32::new(0), AtomicI32::new(0)) }; PENDING],
    duty: AtomicU32::new(0),
    owner: AtomicI32::new(0),
    old: [const { AtomicU64::new(0) }; 4],
};

impl State {
    fn old(&self) -> Disposition {
        let [handler, flags, restorer, mask] = self.old.each_ref().map(|field| field.load(Ordering::Relaxed));
        Disposition { handler: handler as usize, flags, restorer: restorer as usize, mask }
    }

    fn set_old(&self, old: &Disposition) {
        let values = [old.handler as u64, old.flags, old.restorer as u64, old.mask];
        for (field, value) in self.old.iter().zip(values) {
            field.store(value, Ordering::Relaxed);
        }
    }

    /// Notes that request `number` is on its way to `tid`; false when too many are.
    fn expect(&self, number: u32, tid: i32) -> bool {
        for (bit, (pending, thread)) in self.pending.iter().enumerate() {
            if self.duty.load(Ordering::SeqCst) & 1 << bit == 0 {
                thread.store(tid, Ordering::Relaxed);
                self.duty.fetch_or(1 << bit, Ordering::SeqCst);
                pending.store(number, Ordering::SeqCst);
                return true;
            }
        }
        false
    }

    /// Request `number` is not on its way any more. Observer and handler may both say so; the one that
    /// takes the number away also clears the bit, and only then is the place used again.
    fn arrived(&self, number: u32) {
        for (bit, (pending, _)) in self.pending.iter().enumerate() {
            if pending.compare_exchange(number, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                self.duty.fetch_and(!(1 << bit), Ordering::SeqCst);
            }
        }
    }

    /// Forgets signals that will never come: their thread exited, or the kernel merged them with one of
    /// the application's. One that was just taken is already in our handler, which stays mapped.
    fn forget_lost(&self, is_pending: &dyn Fn(i32) -> bool) {
        for (pending, thread) in &self.pending {
            let number = pending.load(Ordering::SeqCst);
            if number != 0 && !is_pending(thread.load(Ordering::Relaxed)) {
                self.arrived(number);
            }
        }
    }

    /// Puts the old disposition back if that is to be done and no signal is on its way.
    fn settle(&self) {
        if self.duty.compare_exchange(LEAVE, RESTORING, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            put_back(&self.old());
            self.duty.fetch_and(!RESTORING, Ordering::SeqCst);
        }
    }

    /// In a forked child: no signal is on its way to it, and no thread of it is copying.
    fn discard_of_parent(&self) {
        let own = crate::sys::process::pid();
        if self.owner.swap(own, Ordering::Relaxed) != own {
            self.stage.store(CLOSED, Ordering::Relaxed);
            self.forget_lost(&|_| false);
            self.duty.store(0, Ordering::Relaxed);
        }
    }
}

/// The right to interrupt threads, for one dump.
pub struct Turn(());

static TAKEN: AtomicI32 = AtomicI32::new(0);

impl Turn {
    /// Takes it, unless another dump of this process has it.
    pub fn take() -> Option<Self> {
        let own = crate::sys::process::pid();
        // One of a parent, in a child that was forked during its dump, is void.
        let free = |holder: i32| (holder != own).then_some(own);
        TAKEN.fetch_update(Ordering::Acquire, Ordering::Relaxed, free).is_ok().then_some(Self(()))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        TAKEN.store(0, Ordering::Release);
    }
}

fn own_handler() -> usize {
    handler as *const () as usize
}

/// Interrupts `tid`, which copies its registers and stack itself. `is_pending` tells whether [`MASK`] is
/// pending for a thread (SigPnd in its `status` file).
pub fn snapshot(
    tid: i32,
    want: Want,
    copies: &mut Copies,
    patience: &mut Patience,
    is_pending: &dyn Fn(i32) -> bool,
) -> Result<Snapshot, Failure> {
    STATE.discard_of_parent();
    let time = patience.next();
    STATE.forget_lost(is_pending);
    if time == 0 || copying() {
        return Err(Failure::NoAnswer);
    }
    copies.reserve(want.stack, want.extra.map_or(0, |_| EXTRA));
    STATE.stack.store(copies.stack.as_mut_ptr(), Ordering::Relaxed);
    STATE.stack_size.store(want.stack, Ordering::Relaxed);
    STATE.extra.store(copies.extra.as_mut_ptr(), Ordering::Relaxed);
    STATE.extra_from.store(want.extra.unwrap_or(0), Ordering::Relaxed);
    STATE.extra_size.store(want.extra.map_or(0, |_| EXTRA), Ordering::Relaxed);
    let number = (STATE.stage.load(Ordering::Relaxed) >> 2).wrapping_add(1) & (u32::MAX >> 2);
    // Never 0, which stands for none.
    let number = number.max(1);
    install()?;
    if !STATE.expect(number, tid) {
        uninstall();
        return Err(Failure::NoAnswer);
    }
    STATE.stage.store(number << 2 | WANTED, Ordering::Release);
    let start = clock::monotonic();
    if let Err(errno) = signal::queue(tid, SIGNAL, MARK << 32 | u64::from(number)) {
        STATE.stage.store(number << 2 | CLOSED, Ordering::Release);
        STATE.arrived(number);
        uninstall();
        return Err(if errno == Errno::ESRCH { Failure::Gone } else { Failure::Refused(errno) });
    }
    let taken = wait_for(number, time);
    if !taken {
        patience.lost_since(start);
        STATE.forget_lost(is_pending);
    }
    uninstall();
    if !taken {
        if copying() {
            // It was put to sleep in the middle: the buffers are its own from now on.
            std::mem::forget(std::mem::take(copies));
        }
        return Err(Failure::NoAnswer);
    }
    let words = STATE.words.each_ref().map(|word| word.load(Ordering::Relaxed));
    let [stack, extra] = STATE.copied.each_ref().map(|count| count.load(Ordering::Relaxed));
    let base = native::stack_pointer_of_context(&words).wrapping_sub(native::RED_ZONE);
    Ok(Snapshot {
        registers: native::registers_of_context(&words),
        call: None,
        stack: (base, stack),
        extra: (want.extra.unwrap_or(0), extra),
    })
}

/// Whether a handler has the buffers.
fn copying() -> bool {
    STATE.stage.load(Ordering::Acquire) & 3 == COPYING
}

/// Waits until request `number` is done; closes it when it is not in time.
fn wait_for(number: u32, time: u64) -> bool {
    let deadline = clock::monotonic().saturating_add(time);
    loop {
        let stage = STATE.stage.load(Ordering::Acquire);
        let left = deadline.saturating_sub(clock::monotonic());
        if stage == number << 2 | DONE {
            return true;
        }
        if left > 0 {
            sibling::wait_while(&STATE.stage, stage, left);
            continue;
        }
        let closed = number << 2 | CLOSED;
        if stage == number << 2 | COPYING
            || STATE.stage.compare_exchange(stage, closed, Ordering::AcqRel, Ordering::Acquire).is_ok()
        {
            return false;
        }
    }
}

/// Puts our handler in place of the application's disposition.
fn install() -> Result<(), Failure> {
    let stay = |duty: u32| (duty & RESTORING == 0).then_some(duty & !LEAVE);
    if STATE.duty.fetch_update(Ordering::SeqCst, Ordering::SeqCst, stay).is_err() {
        // A handler that was put to sleep in the middle of it.
        return Err(Failure::NoAnswer);
    }
    let old = signal::disposition(SIGNAL).map_err(Failure::Refused)?;
    if old.handler == own_handler() {
        // Still there, waiting for a late signal.
        return Ok(());
    }
    let (restart, reset) = (libc::SA_RESTART as u64, libc::SA_RESETHAND as u32 as u64);
    if old.is_handler() && (old.flags & restart == 0 || old.flags & reset != 0) {
        return Err(Failure::Refused(Errno::EBUSY));
    }
    let restorer = native::restorer();
    let flags = if old.is_handler() { old.flags & !signal::SA_RESTORER } else { libc::SA_ONSTACK as u64 };
    let ours = Disposition {
        handler: own_handler(),
        flags: flags | libc::SA_SIGINFO as u64 | restart | restorer.map_or(0, |_| signal::SA_RESTORER),
        restorer: restorer.unwrap_or(0),
        mask: if old.is_handler() { old.mask } else { 0 },
    };
    STATE.set_old(&old);
    // SAFETY: `handler` may run in any thread at any moment, see the head of this file.
    let replaced = unsafe { signal::exchange(SIGNAL, &ours) }.map_err(Failure::Refused)?;
    if replaced != old {
        // The application changed it between our two calls; the flags may be the former ones, for one snapshot.
        STATE.set_old(&replaced);
    }
    Ok(())
}

/// Puts the application's disposition back, or leaves that to the last late signal.
fn uninstall() {
    STATE.duty.fetch_or(LEAVE, Ordering::SeqCst);
    STATE.settle();
}

/// In a forked child: the disposition is a copy of the parent's, and nobody is left to put it back.
pub fn put_back_in_child() {
    let parents = STATE.owner.load(Ordering::Relaxed);
    if parents == 0 || parents == crate::sys::process::pid() {
        return;
    }
    STATE.discard_of_parent();
    if signal::disposition(SIGNAL).is_ok_and(|now| now.handler == own_handler()) {
        put_back(&STATE.old());
    }
}

fn put_back(old: &Disposition) {
    // SAFETY: this is the disposition that was installed before ours.
    let replaced = unsafe { signal::exchange(SIGNAL, old) };
    if let Ok(replaced) = replaced
        && replaced.handler != own_handler()
    {
        // The application has set its own meanwhile.
        // SAFETY: this is the application's disposition.
        let _ = unsafe { signal::exchange(SIGNAL, &replaced) };
    }
}

/// The handler of our signal, and of the application's while ours is installed.
extern "C" fn handler(number: libc::c_int, information: *mut Information, context: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes a valid siginfo.
    let value = unsafe { &*information }.queued_by(crate::sys::process::pid());
    let Some(value) = value.filter(|value| value >> 32 == MARK) else {
        // SAFETY: the kernel gave us that disposition, and these arguments.
        return unsafe { STATE.old().call(number, information, context) };
    };
    let words = context.cast::<u64>().wrapping_add(native::CONTEXT);
    // SAFETY: with SA_SIGINFO the kernel passes a ucontext, which has this many register words there,
    // and nobody else uses it while the handler runs.
    let words = unsafe { std::slice::from_raw_parts_mut(words, native::CONTEXT_WORDS) };
    let request = (value as u32) << 2;
    let claim = STATE.stage.compare_exchange(request | WANTED, request | COPYING, Ordering::AcqRel, Ordering::Acquire);
    if claim.is_ok() {
        for (to, from) in STATE.words.iter().zip(words.iter()) {
            to.store(*from, Ordering::Relaxed);
        }
        let base = native::stack_pointer_of_context(words).wrapping_sub(native::RED_ZONE);
        let ranges = [
            (base, &STATE.stack, &STATE.stack_size),
            (STATE.extra_from.load(Ordering::Relaxed), &STATE.extra, &STATE.extra_size),
        ];
        for ((from, to, size), count) in ranges.into_iter().zip(&STATE.copied) {
            let (to, size) = (to.load(Ordering::Relaxed), size.load(Ordering::Relaxed));
            // SAFETY: the stage COPYING makes the buffers ours until it is DONE.
            count.store(unsafe { copy(from, to, size) }, Ordering::Relaxed);
        }
    }
    repeat_cut_call(words);
    // Before the observer may go on: it then finds nothing on its way, and puts the disposition back itself.
    STATE.arrived(request >> 2);
    if claim.is_ok() {
        sibling::set_and_wake(&STATE.stage, request | DONE);
    }
    STATE.settle();
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

/// A running thread may enter a call just before the signal, which then cuts it with EINTR. Not for
/// calls that swap the mask: another handler may have run, and the application waits for its EINTR.
fn repeat_cut_call(words: &mut [u64]) {
    let mut code = [0; 7];
    let before = native::program_counter_of_context(words).wrapping_sub(code.len() as u64);
    if Live.read(before, &mut code) != code.len() {
        return;
    }
    let Some(number) = native::cut_call(words, code) else { return };
    if !restart::is_repeatable(number) || restart::swaps_mask(number) {
        return;
    }
    for (index, value) in native::rewound(words, number) {
        if let Some(word) = words.get_mut(index) {
            *word = value;
        }
    }
}
