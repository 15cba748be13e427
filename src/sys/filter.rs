//! Which calls a seccomp filter lets the observer make.
//!
//! Context: the observer, at its start and at the begin of each command. A filter may answer a call by killing
//! the process: systemd's `SystemCallFilter=@system-service` does so for `ptrace` and `pidfd_getfd`, and kills
//! the host if the observer merely tries. So under a filter each such call is tried once in an expendable process
//! ([`sibling`]), while the host is not dumpable: a core dump would be one of our whole memory, and before Linux
//! 5.16 it killed every process that shares the memory.
//!
//! A filter that the application adds later, for all its threads, is usually a list of the few calls that it needs
//! from there on; `clone` may not be among them, so nothing is tried, and none of these calls made any more.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

use super::{dumpable, link, memory, netlink, process, ptrace, raw, sibling};

/// A call that filters like to punish, and that we can do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `pidfd_getfd`.
    CopyDescriptor = 1,
    /// `process_vm_readv`.
    ReadMemory = 2,
    /// `ptrace`, in a process of its own.
    Trace = 4,
    /// `socket` for netlink's `sock_diag`, and `getxattr`.
    AskSockets = 8,
}

const ALL: u32 = 15;
const STACK: usize = 64 << 10;
/// Nanoseconds that a trial may take.
const PATIENCE: u64 = 50_000_000;

/// The calls that may be made.
static ALLOWED: AtomicU32 = AtomicU32::new(ALL);
/// How many filters there were at the last look; -1 before the first.
static FILTERS: AtomicI32 = AtomicI32::new(-1);
static GROWN: AtomicBool = AtomicBool::new(false);

/// Whether the observer may make `call`.
pub fn allows(call: Call) -> bool {
    ALLOWED.load(Ordering::Relaxed) & call as u32 != 0
}

/// Whether the application has added a filter since the start: nobody knows what that one punishes.
pub fn has_grown() -> bool {
    GROWN.load(Ordering::Relaxed)
}

/// Looks whether filters were added since the last look, and tries what they do.
pub fn look() {
    // No program starts in strict mode, which alone would kill for this question: 0.2 µs instead of 30.
    if FILTERS.load(Ordering::Relaxed) == -1 && process::has_no_filter() {
        FILTERS.store(0, Ordering::Relaxed);
        return;
    }
    let filters = process::seccomp_filters();
    let before = FILTERS.swap(filters, Ordering::Relaxed);
    if filters == before || filters == 0 {
        return;
    }
    GROWN.store(before != -1, Ordering::Relaxed);
    let calls = [Call::CopyDescriptor, Call::ReadMemory, Call::Trace, Call::AskSockets];
    let allowed =
        if before == -1 { calls.into_iter().filter(|call| survives(*call)).map(|call| call as u32).sum() } else { 0 };
    ALLOWED.fetch_and(allowed, Ordering::Relaxed);
    if !allows(Call::ReadMemory) {
        memory::avoid_process_vm();
    }
}

/// What a trial and its maker share.
struct Trial {
    call: Call,
    /// The kernel clears it at the end.
    alive: AtomicU32,
    survived: AtomicU32,
}

/// Whether a process that makes `call`, with arguments that ask for nothing, goes on.
fn survives(call: Call) -> bool {
    let Ok(stack) = sibling::Mapping::with_guard(STACK) else { return false };
    let trial = Box::new(Trial { call, alive: AtomicU32::new(1), survived: AtomicU32::new(0) });
    dumpable::change(0);
    let argument = std::ptr::from_ref(&*trial).cast_mut().cast();
    // SAFETY: `attempt` keeps to raw calls and to `trial`, which with the stack is kept until it is gone.
    let pid = unsafe {
        sibling::spawn_in_our_memory(attempt, stack.end(), argument, &trial.alive, sibling::Descriptors::Shared)
    };
    let gone = pid.is_ok_and(|pid| sibling::wait_for_end(pid, &trial.alive, PATIENCE));
    dumpable::put_back();
    let survived = gone && trial.survived.load(Ordering::Acquire) == 1;
    if !gone && pid.is_ok() {
        std::mem::forget(stack);
        Box::leak(trial);
    }
    survived
}

extern "C" fn attempt(argument: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the maker keeps it until this process is gone.
    let trial = unsafe { &*argument.cast::<Trial>() };
    match trial.call {
        Call::CopyDescriptor => {
            // SAFETY: there is no descriptor -1, and no memory is touched.
            let _ = unsafe { raw::syscall6(libc::SYS_pidfd_getfd, [usize::MAX, usize::MAX, 0, 0, 0, 0]) };
        }
        Call::ReadMemory => {
            let own = process::tid() as usize;
            // SAFETY: no ranges: nothing is read or written.
            let _ = unsafe { raw::syscall6(libc::SYS_process_vm_readv, [own, 0, 0, 0, 0, 0]) };
        }
        Call::Trace => {
            let _ = ptrace::seize(0);
        }
        Call::AskSockets => {
            drop(netlink::diagnosis());
            let _ = link::attribute(c"/proc/self", c"system.sockprotoname", &mut [0; 8]);
        }
    }
    trial.survived.store(1, Ordering::Release);
    0
}
