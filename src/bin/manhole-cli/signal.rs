//! The signal that is sent before connecting, for a manhole that waits for one (`activate_on`).
//!
//! Context: the client. It must not kill the process it was asked to look into: a signal whose
//! default action would stand is not sent.

use std::time::{Duration, Instant};

use manhole::sys::{Errno, kill};
use nix::sys::signal::Signal;

use crate::process::Status;
use crate::{Failure, Result, connect};

/// A name with or without `SIG`, a number, `RTMIN+N` or `RTMAX-N`.
pub fn parse(text: &str) -> std::result::Result<i32, String> {
    let all = kill::real_time_signals();
    let unknown = || format!("no such signal (a name, a number from 1 to {}, RTMIN+N or RTMAX-N)", all.end());
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=*all.end()).contains(&number) { Ok(number) } else { Err(unknown()) };
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    if let Some(rest) = name.strip_prefix("RT") {
        let offset =
            |rest: &str, sign| if rest.is_empty() { Some(0) } else { rest.strip_prefix(sign)?.parse::<u8>().ok() };
        let number = match (rest.strip_prefix("MIN"), rest.strip_prefix("MAX")) {
            (Some(rest), _) => offset(rest, '+').map(|offset| all.start() + i32::from(offset)),
            (_, Some(rest)) => offset(rest, '-').map(|offset| all.end() - i32::from(offset)),
            _ => None,
        };
        return number.filter(|number| all.contains(number)).ok_or_else(unknown);
    }
    format!("SIG{name}").parse::<Signal>().map(|signal| signal as i32).map_err(|_| unknown())
}

/// The usual name of a signal.
pub fn name(number: i32) -> String {
    let real_time = kill::real_time_signals();
    match Signal::try_from(number) {
        Ok(signal) => signal.as_str().to_owned(),
        Err(_) if real_time.contains(&number) => format!("SIGRTMIN+{}", number - real_time.start()),
        Err(_) => format!("signal {number}"),
    }
}

/// The option of this program that sends it.
pub fn option(number: i32) -> String {
    match Signal::try_from(number) {
        Ok(Signal::SIGUSR1) => "-USR1".to_owned(),
        Ok(Signal::SIGUSR2) => "-USR2".to_owned(),
        _ => format!("-s {}", name(number).trim_start_matches("SIG")),
    }
}

/// Whether the process lives on when it gets the signal.
fn is_survived(status: &Status, number: i32) -> bool {
    let harmless = [Signal::SIGCHLD, Signal::SIGCONT, Signal::SIGURG, Signal::SIGWINCH];
    let bit = 1u64 << (number - 1);
    // A blocked signal is taken with sigwait, or through a signalfd.
    (status.caught | status.ignored | status.blocked) & bit != 0 || harmless.iter().any(|&fine| fine as i32 == number)
}

/// Sends the signal as soon as the process is ready for it; a process that is being started may not
/// have come to its handler yet.
pub fn send(pid: u32, number: i32, timeout: Duration) -> Result<()> {
    let deadline = Instant::now() + timeout;
    loop {
        let Some(status) = Status::read(pid) else {
            return Err(Failure::Unreachable(format!("no process {pid}")));
        };
        if is_survived(&status, number) {
            break;
        }
        if Instant::now() >= deadline {
            return Err(Failure::Unreachable(format!(
                "{} not sent: process {pid} neither handles, ignores nor blocks it, and would end or stop by it \
                 (is it started with MANHOLE='activate_on={}'?)",
                name(number),
                name(number).trim_start_matches("SIG")
            )));
        }
        std::thread::sleep(connect::PAUSE);
    }
    kill::kill(pid, number).map_err(|errno| {
        Failure::Unreachable(match errno {
            Errno::EPERM => format!("{} not sent: process {pid} belongs to another user", name(number)),
            other => format!("{} not sent to process {pid}: {}", name(number), other.desc()),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn understands_every_spelling() {
        let first = *kill::real_time_signals().start();
        for (text, number) in [
            ("USR1", 10),
            ("SIGUSR1", 10),
            ("sigusr2", 12),
            ("15", 15),
            ("RTMIN", first),
            ("SIGRTMIN+3", first + 3),
            ("rtmax-1", 63),
        ] {
            assert_eq!(parse(text), Ok(number), "{text}");
        }
        for text in ["", "0", "65", "-1", "SIG", "USR", "RTMIN-1", "RTMIN+31", "RTMIN+", "RTMAX-300", "RTFOO"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!((name(10).as_str(), name(first + 3).as_str()), ("SIGUSR1", "SIGRTMIN+3"));
        assert_eq!((option(12).as_str(), option(first + 3).as_str()), ("-USR2", "-s RTMIN+3"));
    }
}
