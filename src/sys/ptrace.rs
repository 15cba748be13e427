//! The few `ptrace` requests that taking one snapshot needs, and running one thread of a stopped process
//! (man 2 ptrace). `nix` has no name for real-time signals, which pass through here.
//!
//! Context: the ptrace helper, hence raw system calls only: no errno, no allocation, no panic; and the client.

use super::signal::Information;
use super::{Result, raw};

/// The general registers, as PTRACE_GETREGSET calls them (elf.h).
const NT_PRSTATUS: usize = 1;

/// What `wait4` told of a traced thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing yet (only without blocking).
    Nothing,
    /// Stopped as a part of a process that this signal stopped; by an interrupt, or because that process
    /// goes on: SIGTRAP.
    Stopped(i32),
    /// Stopped on the way to taking this signal, which must be passed on.
    Signal(i32),
    /// It exited or was killed.
    Gone,
}

fn request(request: libc::c_uint, tid: i32, address: usize, data: usize) -> Result<usize> {
    // SAFETY: each caller below passes what its request reads or writes.
    unsafe { raw::syscall6(libc::SYS_ptrace, [request as usize, tid as usize, address, data, 0, 0]) }
}

/// Attaches without stopping. No options: the kernel lets everything go when the tracer dies.
pub fn seize(tid: i32) -> Result<()> {
    request(libc::PTRACE_SEIZE, tid, 0, 0).map(drop)
}

/// Attaches without stopping; a thread that calls `exec` stops there ([`Stop::Exec`]).
pub fn seize_until_exec(tid: i32) -> Result<()> {
    request(libc::PTRACE_SEIZE, tid, 0, libc::PTRACE_O_TRACEEXEC as usize).map(drop)
}

/// Asks a seized thread to stop.
pub fn interrupt(tid: i32) -> Result<()> {
    request(libc::PTRACE_INTERRUPT, tid, 0, 0).map(drop)
}

/// Lets a stopped thread go on and stays attached, also when its process is stopped; it takes `signal` first
/// (0: none).
pub fn resume(tid: i32, signal: i32) -> Result<()> {
    request(libc::PTRACE_CONT, tid, 0, signal as usize).map(drop)
}

/// Leaves a thread of a stopped process stopped, and hears of its going on.
pub fn listen(tid: i32) -> Result<()> {
    request(libc::PTRACE_LISTEN, tid, 0, 0).map(drop)
}

/// Lets go of a stopped thread, which goes on unless its process is stopped, taking `signal` first (0: none).
pub fn detach(tid: i32, signal: i32) -> Result<()> {
    request(libc::PTRACE_DETACH, tid, 0, signal as usize).map(drop)
}

/// Copies the general registers of a stopped thread (the kernel's `user_regs_struct`); returns how
/// many words there are.
pub fn general_registers(tid: i32, words: &mut [u64]) -> Result<usize> {
    let mut vector = libc::iovec { iov_base: words.as_mut_ptr().cast(), iov_len: size_of_val(words) };
    request(libc::PTRACE_GETREGSET, tid, NT_PRSTATUS, &raw mut vector as usize)?;
    Ok(vector.iov_len / size_of::<u64>())
}

/// Sets the general registers of a stopped thread.
pub fn set_general_registers(tid: i32, words: &[u64]) -> Result<()> {
    let vector = libc::iovec { iov_base: words.as_ptr().cast_mut().cast(), iov_len: size_of_val(words) };
    request(libc::PTRACE_SETREGSET, tid, NT_PRSTATUS, &raw const vector as usize).map(drop)
}

/// What a thread that stopped on the way to a signal is told with it.
pub fn signal_information(tid: i32) -> Result<Information> {
    let mut information = Information::NONE;
    request(libc::PTRACE_GETSIGINFO, tid, 0, &raw mut information as usize)?;
    Ok(information)
}

/// The signals that a stopped thread blocks.
pub fn blocked_signals(tid: i32) -> Result<u64> {
    let mut mask = 0u64;
    request(libc::PTRACE_GETSIGMASK, tid, size_of::<u64>(), &raw mut mask as usize)?;
    Ok(mask)
}

/// Makes CAP_SYS_PTRACE effective for the caller where it is permitted (man 2 capset): where a process has root as its
/// real user, and another one as its effective one, only this lets it trace itself. False where it is not to be had.
pub fn claim_capability() -> bool {
    const VERSION_3: u32 = 0x2008_0522;
    const SYS_PTRACE: u32 = 1 << 19;
    // Version and pid; effective, permitted, inheritable, twice.
    let (header, mut sets) = ([VERSION_3, 0], [0u32; 6]);
    let arguments = |sets: &mut [u32; 6]| [header.as_ptr() as usize, sets.as_mut_ptr() as usize, 0, 0, 0, 0];
    // SAFETY: the kernel reads the header, and writes the sets.
    if unsafe { raw::syscall6(libc::SYS_capget, arguments(&mut sets)) }.is_err() {
        return false;
    }
    let [effective, permitted, ..] = &mut sets;
    if *permitted & SYS_PTRACE == 0 || *effective & SYS_PTRACE != 0 {
        return false;
    }
    *effective |= SYS_PTRACE;
    // SAFETY: the kernel reads both.
    unsafe { raw::syscall6(libc::SYS_capset, arguments(&mut sets)) }.is_ok()
}

/// Sets the signals that a stopped thread blocks.
pub fn block_signals(tid: i32, mask: u64) -> Result<()> {
    request(libc::PTRACE_SETSIGMASK, tid, size_of::<u64>(), &raw const mask as usize).map(drop)
}

/// Writes one word of a stopped thread's `struct user`.
pub fn poke_user(tid: i32, offset: usize, value: u64) -> Result<()> {
    request(libc::PTRACE_POKEUSER, tid, offset, value as usize).map(drop)
}

/// Waits for the seized thread `tid`; returns at once unless `block`.
pub fn wait(tid: i32, block: bool) -> Result<Event> {
    let mut status = 0i32;
    let options = libc::__WALL | if block { 0 } else { libc::WNOHANG };
    let arguments = [tid as usize, &raw mut status as usize, options as usize, 0, 0, 0];
    // SAFETY: the kernel writes one int.
    if unsafe { raw::syscall6(libc::SYS_wait4, arguments)? } == 0 {
        return Ok(Event::Nothing);
    }
    if !libc::WIFSTOPPED(status) {
        return Ok(Event::Gone);
    }
    // PTRACE_EVENT_STOP in the third byte: our interrupt, or a group-stop. Otherwise a signal on its way.
    let signal = libc::WSTOPSIG(status);
    Ok(if status >> 16 == 0 { Event::Signal(signal) } else { Event::Stopped(signal) })
}

/// Why a thread that its tracer guards stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// On the way to taking this signal.
    Signal(i32),
    /// As a part of a process that this signal stopped.
    Group(i32),
    /// By an interrupt, or because its process goes on.
    Interrupt,
    /// It runs another program, under the number of its process.
    Exec,
    /// It exited or was killed.
    Gone,
}

/// What any thread of the calling tracer does, and its number; `None` when nothing happened. An error: it has none.
pub fn poll() -> Result<Option<(i32, Stop)>> {
    const EVENT_STOP: i32 = 128;
    let mut status = 0i32;
    let options = libc::__WALL | libc::WNOHANG;
    // SAFETY: the kernel writes one int.
    let tid =
        unsafe { raw::syscall6(libc::SYS_wait4, [usize::MAX, &raw mut status as usize, options as usize, 0, 0, 0])? };
    if tid == 0 {
        return Ok(None);
    }
    let signal = libc::WSTOPSIG(status);
    let stop = match status >> 16 {
        _ if !libc::WIFSTOPPED(status) => Stop::Gone,
        0 => Stop::Signal(signal),
        EVENT_STOP if signal == libc::SIGTRAP => Stop::Interrupt,
        EVENT_STOP => Stop::Group(signal),
        // Nothing else was asked for.
        _ => Stop::Exec,
    };
    Ok(Some((tid as i32, stop)))
}
