//! Clocks: how much a thread has run, and monotonic time without libc.
//!
//! Context: any, the ptrace helper included.

use std::time::Duration;

use super::{Errno, Result, raw};

/// Nanoseconds that thread `tid` of this process has spent on a processor.
///
/// The kernel knows this clock by number: the complement of the tid, "per thread" (4), "scheduler
/// time" (2): `make_thread_cpuclock` in include/linux/posix-timers.h. Any thread of the process may
/// read it, for about 0.3 µs.
pub fn thread_run_time(tid: i32) -> Result<u64> {
    now((!tid << 3) | 4 | 2).map(nanoseconds)
}

/// Nanoseconds of CLOCK_MONOTONIC.
pub fn monotonic() -> u64 {
    now(libc::CLOCK_MONOTONIC).map_or(0, nanoseconds)
}

/// What clock `clock` (`CLOCK_*`) shows now.
pub fn now(clock: libc::clockid_t) -> Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // The kernel takes the clock as an int; sign extension keeps its upper half out of the way.
    let arguments = [clock as isize as usize, &raw mut time as usize, 0, 0, 0, 0];
    // SAFETY: the kernel writes one timespec.
    unsafe { raw::syscall6(libc::SYS_clock_gettime, arguments)? };
    let seconds = u64::try_from(time.tv_sec).map_err(|_| Errno::EINVAL)?;
    Ok(Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default()))
}

fn nanoseconds(time: Duration) -> u64 {
    time.as_secs().wrapping_mul(1_000_000_000).wrapping_add(u64::from(time.subsec_nanos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_run_time_advances() {
        let tid = nix::unistd::gettid().as_raw();
        let before = thread_run_time(tid).expect("a clock");
        let start = monotonic();
        while monotonic() < start + 50_000 {}
        assert!(thread_run_time(tid).expect("a clock") > before);
        assert!(thread_run_time(0x0fff_ffff).is_err());
    }

    #[test]
    fn clocks_advance() {
        let (before, cpu) = (now(libc::CLOCK_MONOTONIC).unwrap(), thread_run_time(crate::sys::process::tid()).unwrap());
        while thread_run_time(crate::sys::process::tid()).unwrap() < cpu + 2_000_000 {}
        assert!(now(libc::CLOCK_MONOTONIC).unwrap() >= before + Duration::from_millis(2));
        assert_eq!(thread_run_time(1 << 28), Err(Errno::EINVAL));
    }
}
