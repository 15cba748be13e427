//! Timers of the process, looked at (man 2 getitimer, timer_gettime): neither call changes anything.
//!
//! Context: any; no allocation. Both kinds belong to the process, so that any thread of it may ask.

use std::time::Duration;

use super::{Result, raw};

/// How a timer stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remaining {
    /// Until it expires; zero when it is not armed.
    pub value: Duration,
    /// After which it expires again; zero for once.
    pub interval: Duration,
}

/// One of the three interval timers: `ITIMER_REAL`, which `alarm` is too, `ITIMER_VIRTUAL`, `ITIMER_PROF`.
pub fn interval_timer(which: i32) -> Result<Remaining> {
    let mut words = [0i64; 4];
    // SAFETY: the kernel writes a `struct itimerval`, four words of eight bytes.
    unsafe { raw::syscall6(libc::SYS_getitimer, [which as usize, words.as_mut_ptr() as usize, 0, 0, 0, 0])? };
    Ok(remaining(words, 1000))
}

/// The POSIX timer `id`, as the kernel numbers them.
pub fn posix_timer(id: i32) -> Result<Remaining> {
    let mut words = [0i64; 4];
    // SAFETY: the kernel writes a `struct itimerspec`, four words of eight bytes.
    unsafe { raw::syscall6(libc::SYS_timer_gettime, [id as usize, words.as_mut_ptr() as usize, 0, 0, 0, 0])? };
    Ok(remaining(words, 1))
}

/// Interval first, in seconds and fractions of `unit` nanoseconds.
fn remaining([seconds, fraction, value, value_fraction]: [i64; 4], unit: u32) -> Remaining {
    let time = |seconds: i64, fraction: i64| {
        let fraction = u32::try_from(fraction).unwrap_or_default().saturating_mul(unit).min(999_999_999);
        Duration::new(u64::try_from(seconds).unwrap_or_default(), fraction)
    };
    Remaining { value: time(value, value_fraction), interval: time(seconds, fraction) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_times() {
        let expected = Remaining { value: Duration::from_millis(1500), interval: Duration::from_secs(3) };
        assert_eq!(remaining([3, 0, 1, 500_000], 1000), expected);
        assert_eq!(remaining([0, -1, -5, i64::MAX], 1), Remaining::default());
        assert_eq!(interval_timer(libc::ITIMER_VIRTUAL), Ok(Remaining::default()));
        assert_eq!(posix_timer(0x7fff), Err(super::super::Errno::EINVAL));
    }
}
