//! The few `ptrace` requests that taking one snapshot needs, and running one thread of a stopped process
//! (man 2 ptrace). `nix` has no name for real-time signals, which pass through here.
//!
//! Context: the ptrace helper, hence raw system calls only: no errno, no allocation, no panic; and the client.

use super::{Result, raw};

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

/// Asks a seized thread to stop.
pub fn interrupt(tid: i32) -> Result<()> {
    request(libc::PTRACE_INTERRUPT, tid, 0, 0).map(drop)
}

/// Lets a stopped thread go on and stays attached, also when its process is stopped; it takes `signal` first
/// (0: none).
pub fn resume(tid: i32, signal: i32) -> Result<()> {
    request(libc::PTRACE_CONT, tid, 0, signal as usize).map(drop)
}

/// Lets go of a stopped thread, which goes on unless its process is stopped, taking `signal` first (0: none).
pub fn detach(tid: i32, signal: i32) -> Result<()> {
    request(libc::PTRACE_DETACH, tid, 0, signal as usize).map(drop)
}

/// Copies the general registers of a stopped thread (the kernel's `user_regs_struct`); returns how
/// many words there are.
pub fn general_registers(tid: i32, words: &mut [u64]) -> Result<usize> {
    const NT_PRSTATUS: usize = 1;
    let mut vector = libc::iovec { iov_base: words.as_mut_ptr().cast(), iov_len: size_of_val(words) };
    request(libc::PTRACE_GETREGSET, tid, NT_PRSTATUS, &raw mut vector as usize)?;
    Ok(vector.iov_len / size_of::<u64>())
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
