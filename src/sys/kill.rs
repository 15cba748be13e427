//! Sending a signal by its number, real-time signals included (`nix` has no name for those).
//!
//! Context: the client sends to other processes; in the library, the observer sends to its own process what an
//! operator asks for, and nothing else.

use std::ops::RangeInclusive;

use super::{Errno, Result, process, raw};

/// `kill(2)` for one process: process groups (0 and below) are refused.
pub fn kill(pid: u32, signal: i32) -> Result<()> {
    let pid = usize::try_from(pid).ok().filter(|&pid| pid > 0 && pid <= i32::MAX as usize).ok_or(Errno::ESRCH)?;
    // SAFETY: kill touches no memory of ours.
    unsafe { raw::syscall6(libc::SYS_kill, [pid, signal as usize, 0, 0, 0, 0])? };
    Ok(())
}

/// Sends to one thread of this process (`tgkill`); signal 0 only asks whether it is there.
pub fn thread(tid: i32, signal: i32) -> Result<()> {
    let arguments = [process::pid() as usize, tid as usize, signal as usize, 0, 0, 0];
    // SAFETY: tgkill touches no memory of ours.
    unsafe { raw::syscall6(libc::SYS_tgkill, arguments) }.map(drop)
}

/// The numbers that libc leaves to applications (`SIGRTMIN` to `SIGRTMAX`; it keeps the first ones).
pub fn real_time_signals() -> RangeInclusive<i32> {
    libc::SIGRTMIN()..=libc::SIGRTMAX()
}
