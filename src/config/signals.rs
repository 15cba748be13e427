//! Signals by name or number.

#![forbid(unsafe_code)]

use std::fmt;

use nix::sys::signal::Signal;

use super::literal::Value;

/// The first real-time signal that programs may use: glibc keeps 32 and 33 (signal(7)).
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// A signal's number: `USR2`, `SIGUSR2`, `12`, `RTMIN+3`, `RTMAX-1`.
pub fn number(value: &Value) -> Option<i32> {
    match value {
        Value::Integer(number) => i32::try_from(*number).ok().filter(|number| (1..=RTMAX).contains(number)),
        Value::Text(name) => by_name(name),
        _ => None,
    }
}

fn by_name(name: &str) -> Option<i32> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = if let Some(rest) = bare.strip_prefix("RTMIN") {
        if rest.is_empty() { Some(RTMIN) } else { rest.strip_prefix('+')?.parse::<i32>().ok()?.checked_add(RTMIN) }
    } else if let Some(rest) = bare.strip_prefix("RTMAX") {
        if rest.is_empty() { Some(RTMAX) } else { RTMAX.checked_sub(rest.strip_prefix('-')?.parse::<i32>().ok()?) }
    } else {
        return format!("SIG{bare}").parse::<Signal>().ok().map(|signal| signal as i32);
    };
    real_time.filter(|number| (RTMIN..=RTMAX).contains(number))
}

/// A signal's number, shown as its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name(pub i32);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Signal::try_from(self.0) {
            Ok(signal) => f.write_str(signal.as_str()),
            Err(_) if self.0 == RTMIN => f.write_str("SIGRTMIN"),
            Err(_) if (RTMIN..=RTMAX).contains(&self.0) => write!(f, "SIGRTMIN+{}", self.0 - RTMIN),
            Err(_) => write!(f, "signal {}", self.0),
        }
    }
}

/// A signal that a handler may be installed for, or `None`. KILL and STOP cannot be caught, and 32 and 33 are
/// glibc's own (nptl(7)).
pub fn catchable(value: &Value) -> Option<Option<i32>> {
    if *value == Value::None {
        return Some(None);
    }
    let caught =
        number(value).filter(|number| ![Signal::SIGKILL as i32, Signal::SIGSTOP as i32, 32, 33].contains(number))?;
    Some(Some(caught))
}

/// A set of signals as a bit mask: `ALL_SIGNALS`, `None` for the empty set, a list, or one signal.
pub fn mask(value: &Value) -> Option<u64> {
    match value {
        Value::None => Some(0),
        Value::Text(name) if name == "ALL_SIGNALS" => Some(u64::MAX),
        Value::List(signals) => signals.iter().try_fold(0, |mask, signal| Some(mask | 1 << (number(signal)? - 1))),
        one => Some(1 << (number(one)? - 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        let text = |name: &str| number(&Value::Text(name.into()));
        assert_eq!(text("USR2"), Some(libc::SIGUSR2));
        assert_eq!(text("sigusr2"), Some(libc::SIGUSR2));
        assert_eq!(text("RTMIN+3"), Some(37));
        assert_eq!(text("SIGRTMAX"), Some(64));
        assert_eq!(text("RTMIN+99"), None);
        assert_eq!(text("FOO"), None);
        assert_eq!(number(&Value::Integer(65)), None);
        assert_eq!(mask(&Value::None), Some(0));
        assert_eq!([12, 34, 37].map(|number| Name(number).to_string()), ["SIGUSR2", "SIGRTMIN", "SIGRTMIN+3"]);
    }
}
