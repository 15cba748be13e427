//! Times: spans as people write them, timeouts and deadlines as the kernel reads them.

use std::fmt;
use std::time::Duration;

use super::context::Context;
use super::structures::read;

/// A span of time with its unit: `100 ms`, `1.5 s`, `250 us`, exact to the nanosecond.
#[derive(Clone, Copy, Debug)]
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, name, width) = match self.0.as_nanos() {
            0 => return f.write_str("0 s"),
            1..1_000 => (1, "ns", 0),
            1_000..1_000_000 => (1_000, "us", 3),
            1_000_000..1_000_000_000 => (1_000_000, "ms", 6),
            _ => (1_000_000_000, "s", 9),
        };
        write!(f, "{}", self.0.as_nanos() / unit)?;
        let mut fraction = self.0.as_nanos() % unit;
        let mut width = width;
        if fraction != 0 {
            while fraction.is_multiple_of(10) {
                fraction /= 10;
                width -= 1;
            }
            write!(f, ".{fraction:0width$}")?;
        }
        write!(f, " {name}")
    }
}

/// The `struct timespec` at `address`, as two words; its fields may be nonsense.
fn read_pair(address: u64, context: &dyn Context) -> Option<(i64, i64)> {
    let [a0, a1, a2, a3, a4, a5, a6, a7, b @ ..] = read::<16>(address, context)?;
    Some((i64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7]), i64::from_le_bytes(b)))
}

/// The time at `address` whose second word counts in units of `nanos` nanoseconds; `None` when it is
/// unreadable or no time.
fn read_time(address: u64, nanos: i64, context: &dyn Context) -> Option<Duration> {
    let (seconds, fraction) = read_pair(address, context)?;
    let fraction = u32::try_from(fraction.checked_mul(nanos)?).ok().filter(|fraction| *fraction < 1_000_000_000)?;
    Some(Duration::new(u64::try_from(seconds).ok()?, fraction))
}

/// Writes the relative time at `address`, or the address where there is none to be read.
pub fn write_relative(address: u64, nanos: i64, context: &dyn Context, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match read_time(address, nanos, context) {
        _ if address == 0 => f.write_str("none"),
        Some(time) => write!(f, "{}", Span(time)),
        None => write!(f, "{address:#x}"),
    }
}

/// Writes the absolute time at `address` on `clock` as what is left until then, label included:
/// `timeout in 1.5 s`, `timeout 20 ms ago`, `timeout=none`.
pub fn write_deadline(address: u64, clock: i32, context: &dyn Context, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if address == 0 {
        return f.write_str("timeout=none");
    }
    let Some(deadline) = read_time(address, 1, context) else {
        return write!(f, "timeout={address:#x}");
    };
    let Some(now) = context.now(clock) else {
        return write!(f, "timeout at {}", Span(deadline));
    };
    let to_millis = |span: Duration| Span(Duration::from_millis(span.as_millis() as u64));
    match deadline.checked_sub(now) {
        Some(left) => write!(f, "timeout in {}", to_millis(left)),
        None => write!(f, "timeout {} ago", to_millis(now.saturating_sub(deadline))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_exact_and_short() {
        for (nanos, shown) in [
            (0, "0 s"),
            (7, "7 ns"),
            (1_500, "1.5 us"),
            (100_000_000, "100 ms"),
            (1_020_000, "1.02 ms"),
            (1_500_000_000, "1.5 s"),
            (60_000_000_001, "60.000000001 s"),
        ] {
            assert_eq!(Span(Duration::from_nanos(nanos)).to_string(), shown);
        }
        assert_eq!(Span(Duration::MAX).to_string(), "18446744073709551615.999999999 s");
    }
}
