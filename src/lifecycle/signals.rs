//! The two signals that open a manhole: `activate_on` wakes the parked observer, `oneshot_on` serves one client on
//! the interrupted thread ([`super::oneshot`]).
//!
//! Context: install and release for the rest; [`on_activate`] and [`on_oneshot`] are handlers, in any thread of the
//! application at any moment. A handler makes raw system calls only (no lock, no allocation, no thread-local of ours,
//! errno kept), does its work, and then calls the handler that was there before ours, as the kernel would have. A
//! default or ignored disposition has no handler to call: the signal then only opens the manhole.
//!
//! Installed with SA_ONSTACK, for threads with small stacks, SA_RESTART, and every signal blocked. Where there was a
//! handler, its flags count: it may need more than the alternate stack has, and may be there to cut a system call;
//! and one that is for one time only (SA_RESETHAND) is called one time.
//!
//! A handler that the application installs later is its right; [`report_replaced`] says so in the log. A child
//! without fork hooks (`vfork`, raw `clone`) has no manhole ([`super::installed`]): there, handlers only pass on.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

use super::{Manhole, installed, oneshot};
use crate::config::signals::Name;
use crate::log;
use crate::stack::capture::signal_restorer;
use crate::sys::Errno;
use crate::sys::signal::{self, Disposition, Information};

/// What the kernel does for the handler before ours it goes on doing.
const KEPT: u64 = (libc::SA_ONSTACK | libc::SA_RESTART | libc::SA_NOCLDSTOP | libc::SA_NOCLDWAIT) as u64;

/// The handler is for one time only. As libc has it, it is a negative number.
const ONE_TIME: u64 = libc::SA_RESETHAND.cast_unsigned() as u64;

type Handler = extern "C" fn(libc::c_int, *mut Information, *mut libc::c_void);

/// One of the two signals.
struct Hook {
    option: &'static str,
    handler: Handler,
    /// The signal, 0 while the hook is not installed.
    signal: AtomicI32,
    /// The disposition before ours: handler, flags, restorer, mask. It stays when the hook is taken away, for threads
    /// that are in our handler at that moment.
    previous: [AtomicU64; 4],
    /// Which signal that was of.
    previous_of: AtomicI32,
    /// The log has said that the application replaced our handler.
    reported: AtomicBool,
}

static ACTIVATE: Hook = Hook::new("activate_on", on_activate);
static ONESHOT: Hook = Hook::new("oneshot_on", on_oneshot);

/// Installs what the options of `manhole` ask for.
pub fn install(manhole: &Manhole) {
    for (hook, signal) in [(&ACTIVATE, manhole.config.activate_on), (&ONESHOT, manhole.config.oneshot_on)] {
        if let Some(signal) = signal {
            hook.install(signal);
        }
    }
}

/// Puts back what was there, unless the application has changed it since.
pub fn uninstall() {
    [&ACTIVATE, &ONESHOT].into_iter().for_each(Hook::uninstall);
}

/// Says in the log, once, that the application has put its own handler in the place of ours.
pub fn report_replaced() {
    [&ACTIVATE, &ONESHOT].into_iter().for_each(Hook::report_replaced);
}

/// The option whose handler `found` is, and what was there before it.
pub fn before_ours(signal: i32, found: &Disposition) -> Option<(&'static str, Disposition)> {
    let hook = [&ACTIVATE, &ONESHOT].into_iter().find(|hook| hook.address() == found.handler)?;
    let is_known = hook.previous_of.load(Ordering::Relaxed) == signal;
    Some((hook.option, if is_known { hook.previous() } else { Disposition::DEFAULT }))
}

/// What is behind `found`: an application that had saved a handler of ours may have put it back after a release, and
/// a handler that passes on to itself would never return.
fn behind_ours(signal: i32, found: Disposition) -> Disposition {
    match [&ACTIVATE, &ONESHOT].into_iter().find(|hook| hook.address() == found.handler) {
        Some(hook) if hook.previous_of.load(Ordering::Relaxed) == signal => hook.previous(),
        Some(_) => Disposition::DEFAULT,
        None => found,
    }
}

impl Hook {
    const fn new(option: &'static str, handler: Handler) -> Self {
        Self {
            option,
            handler,
            signal: AtomicI32::new(0),
            previous: [const { AtomicU64::new(0) }; 4],
            previous_of: AtomicI32::new(0),
            reported: AtomicBool::new(false),
        }
    }

    fn address(&self) -> usize {
        self.handler as *const () as usize
    }

    fn previous(&self) -> Disposition {
        let [handler, flags, restorer, mask] = self.previous.each_ref().map(|field| field.load(Ordering::Relaxed));
        Disposition { handler: handler as usize, flags, restorer: restorer as usize, mask }
    }

    fn set_previous(&self, previous: &Disposition) {
        let values = [previous.handler as u64, previous.flags, previous.restorer as u64, previous.mask];
        for (field, value) in self.previous.iter().zip(values) {
            field.store(value, Ordering::Relaxed);
        }
    }

    fn install(&self, signal: i32) {
        let name = Name(signal);
        match self.exchange(signal) {
            Ok(()) => log!("{name} opens the manhole ({})", self.option),
            Err(error) => return log!("{} has no effect: no handler for {name}: {}", self.option, error.desc()),
        }
        if signal::blocked() & signal::bit(signal) != 0 {
            log!("{name} is blocked in this thread: {} waits until a thread unblocks it", self.option);
        }
    }

    fn exchange(&self, signal: i32) -> Result<(), Errno> {
        let found = signal::disposition(signal)?;
        let previous = behind_ours(signal, found);
        self.set_previous(&previous);
        self.previous_of.store(signal, Ordering::Relaxed);
        let kept =
            if previous.is_handler() { previous.flags & KEPT } else { (libc::SA_ONSTACK | libc::SA_RESTART) as u64 };
        let restorer = signal_restorer();
        let ours = Disposition {
            handler: self.address(),
            flags: libc::SA_SIGINFO as u64 | kept | restorer.map_or(0, |_| signal::SA_RESTORER),
            restorer: restorer.unwrap_or(0),
            mask: u64::MAX,
        };
        self.reported.store(false, Ordering::Relaxed);
        self.signal.store(signal, Ordering::Release);
        // SAFETY: our handlers may run in any thread at any moment, see the head of this file.
        let replaced = unsafe { signal::exchange(signal, &ours) };
        match replaced {
            // The application changed it between our two calls.
            Ok(replaced) if replaced != found => self.set_previous(&behind_ours(signal, replaced)),
            Ok(_) => {}
            Err(error) => {
                self.signal.store(0, Ordering::Relaxed);
                return Err(error);
            }
        }
        Ok(())
    }

    fn uninstall(&self) {
        let signal = self.signal.load(Ordering::Acquire);
        if signal == 0 {
            return;
        }
        if self.is_ours(signal) {
            // SAFETY: this was there before us.
            let replaced = unsafe { signal::exchange(signal, &self.previous()) };
            if let Ok(replaced) = replaced
                && replaced.handler != self.address()
            {
                // The application came between our two calls.
                // SAFETY: this is the application's disposition.
                let _ = unsafe { signal::exchange(signal, &replaced) };
            }
        }
        self.signal.store(0, Ordering::Release);
    }

    /// Whether it is installed for `signal`: it may be put back by an application that had saved it.
    fn is_for(&self, signal: i32) -> bool {
        self.signal.load(Ordering::Acquire) == signal
    }

    fn is_ours(&self, signal: i32) -> bool {
        signal::disposition(signal).is_ok_and(|now| now.handler == self.address())
    }

    fn report_replaced(&self) {
        let signal = self.signal.load(Ordering::Acquire);
        if signal != 0 && !self.is_ours(signal) && !self.reported.swap(true, Ordering::Relaxed) {
            log!("the application has installed its own handler for {}: {} is off", Name(signal), self.option);
        }
    }

    /// Calls the handler before ours as the kernel would have: with the mask that it asked for.
    ///
    /// # Safety
    /// The arguments are those that the kernel called our handler with.
    unsafe fn pass_on(&self, number: i32, information: *mut Information, context: *mut libc::c_void) {
        let mut previous = self.previous();
        if previous.is_handler() && previous.flags & ONE_TIME != 0 {
            // One thread gets it, once: from here on there is the default disposition behind ours.
            let [handler, ..] = &self.previous;
            previous.handler = handler.swap(Disposition::DEFAULT.handler as u64, Ordering::AcqRel) as usize;
        }
        if !previous.is_handler() {
            return;
        }
        let itself = if previous.flags & libc::SA_NODEFER as u64 == 0 { signal::bit(number) } else { 0 };
        // SAFETY: as the caller vouches.
        let interrupted = unsafe { signal::interrupted_mask(context) };
        signal::set_blocked(interrupted | previous.mask | itself);
        // SAFETY: the kernel told us of it, and the arguments are the kernel's.
        unsafe { previous.call(number, information, context) };
    }
}

/// The handler of `activate_on`: one word changes, and its waiter is woken.
extern "C" fn on_activate(number: libc::c_int, information: *mut Information, context: *mut libc::c_void) {
    let before = Errno::last_raw();
    if let Some(manhole) = installed().filter(|_| ACTIVATE.is_for(number)) {
        manhole.stage.activate();
    }
    Errno::set_raw(before);
    // SAFETY: the kernel's own arguments.
    unsafe { ACTIVATE.pass_on(number, information, context) };
}

/// The handler of `oneshot_on`.
extern "C" fn on_oneshot(number: libc::c_int, information: *mut Information, context: *mut libc::c_void) {
    let before = Errno::last_raw();
    // SAFETY: with SA_SIGINFO the kernel passes a valid siginfo.
    let cause = unsafe { &*information };
    let dies = cause.is_fault() && !ONESHOT.previous().is_handler();
    if let Some(manhole) = installed().filter(|_| ONESHOT.is_for(number)) {
        // SAFETY: the kernel's own context, which stays while this handler runs.
        unsafe { oneshot::on_signal(manhole, number, cause, dies, context) };
    }
    if dies {
        // The instruction runs again and faults again, and what the process would have died of, it dies of.
        // SAFETY: this was there before us.
        let _ = unsafe { signal::exchange(number, &ONESHOT.previous()) };
    }
    Errno::set_raw(before);
    // SAFETY: the kernel's own arguments.
    unsafe { ONESHOT.pass_on(number, information, context) };
}

/// What interrupted a thread, for a person.
pub struct Cause<'a>(pub i32, pub &'a Information);

impl fmt::Display for Cause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(signal, information) = self;
        write!(f, "{}", Name(*signal))?;
        match (information.sender(), information.fault_address()) {
            (Some(pid), _) => write!(f, " from process {pid}"),
            (None, Some(address)) => write!(f, " at address {address:#x}"),
            (None, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::futex::Guarded;
    use std::sync::atomic::AtomicU32;

    static CALLS: AtomicU32 = AtomicU32::new(0);
    /// The hooks are there once, for all tests.
    static TURN: Guarded<()> = Guarded::new(());

    extern "C" fn count(_: libc::c_int) {
        CALLS.fetch_add(1, Ordering::Relaxed);
    }

    #[test]
    fn a_handler_for_one_time_is_called_once() {
        TURN.with(|()| {
            let number = libc::SIGWINCH;
            // SAFETY: sigaction is plain numbers, for which zero is a value.
            let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
            (action.sa_sigaction, action.sa_flags) = (count as *const () as libc::sighandler_t, libc::SA_RESETHAND);
            for hook in [&ACTIVATE, &ONESHOT] {
                // SAFETY: the handler only counts.
                unsafe { libc::sigaction(number, &action, std::ptr::null_mut()) };
                hook.install(number);
                let before = CALLS.load(Ordering::Relaxed);
                for _ in 0..3 {
                    // SAFETY: a handler is installed.
                    unsafe { libc::raise(number) };
                }
                assert_eq!(CALLS.load(Ordering::Relaxed), before + 1);
                // What the kernel itself would have left.
                hook.uninstall();
                let left = signal::disposition(number).unwrap();
                assert_eq!((left.handler, left.flags & ONE_TIME), (0, ONE_TIME));
            }
        });
    }

    #[test]
    fn a_saved_handler_of_ours_that_is_put_back_does_not_pass_on_to_itself() {
        TURN.with(|()| put_back_what_was_saved());
    }

    fn put_back_what_was_saved() {
        let number = libc::SIGURG;
        // SAFETY: the handler only counts.
        unsafe { libc::signal(number, count as *const () as libc::sighandler_t) };
        let theirs = signal::disposition(number).unwrap();
        ACTIVATE.install(number);
        let saved = signal::disposition(number).unwrap();
        ACTIVATE.uninstall();
        assert_eq!(signal::disposition(number).unwrap(), theirs);
        for hook in [&ACTIVATE, &ONESHOT] {
            // SAFETY: ours, which keeps to what a handler may do.
            unsafe { signal::exchange(number, &saved) }.unwrap();
            hook.install(number);
            let before = CALLS.load(Ordering::Relaxed);
            // SAFETY: a handler is installed.
            unsafe { libc::raise(number) };
            assert_eq!(CALLS.load(Ordering::Relaxed), before + 1);
            hook.uninstall();
            assert_eq!(signal::disposition(number).unwrap(), theirs);
        }
    }

    #[test]
    fn a_handler_that_cuts_system_calls_goes_on_cutting_them() {
        let number = libc::SIGIO;
        for flags in [0, libc::SA_RESTART] {
            // SAFETY: sigaction is plain numbers, for which zero is a value.
            let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
            (action.sa_sigaction, action.sa_flags) = (count as *const () as libc::sighandler_t, flags);
            // SAFETY: the handler only counts.
            unsafe { libc::sigaction(number, &action, std::ptr::null_mut()) };
            let hook = Hook::new("activate_on", on_activate);
            hook.install(number);
            assert_eq!(signal::disposition(number).unwrap().flags & libc::SA_RESTART as u64, flags as u64);
            hook.uninstall();
        }
    }
}
