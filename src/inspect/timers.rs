//! Timers of the application: POSIX timers, and the names of clocks. Descriptors of timers are in [`super::descriptors`].
//!
//! Context: the observer. Looked at through `/proc` and calls that change nothing; a timer that expires meanwhile has
//! moved on by the time it is printed.

#![forbid(unsafe_code)]

use super::files;
use crate::sys::Result;
use crate::sys::memory::Memory;

/// Bytes of `/proc/self/timers` that are read: some thousand timers.
const BYTES: usize = 1 << 20;

/// A timer of `timer_create`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PosixTimer {
    /// The kernel's number.
    pub id: i32,
    /// The signal that it sends.
    pub signal: i32,
    /// The value that comes with that.
    pub value: u64,
    /// `signal` or `none`, as the kernel says it; SIGEV_THREAD is a signal for a thread of the C library's.
    pub notify: String,
    /// The thread that is told, where it is one only.
    pub tid: Option<i32>,
    /// Its clock.
    pub clock: i32,
}

/// The process's POSIX timers; `ENOENT` where the kernel does not list them (CONFIG_CHECKPOINT_RESTORE).
pub fn posix() -> Result<Vec<PosixTimer>> {
    files::read(c"/proc/self/timers", BYTES).map(|text| parse(&text))
}

/// `ID: 0`, `signal: 14/000000000000002a`, `notify: signal/pid.42`, `ClockID: 1`, for each.
fn parse(text: &[u8]) -> Vec<PosixTimer> {
    let text = String::from_utf8_lossy(text);
    let mut timers: Vec<PosixTimer> = Vec::new();
    for (name, value) in text.lines().filter_map(|line| line.split_once(": ")) {
        if name == "ID" {
            let id = value.parse().unwrap_or(-1);
            timers.push(PosixTimer { id, signal: 0, value: 0, notify: String::new(), tid: None, clock: 0 });
        }
        let Some(timer) = timers.last_mut() else { continue };
        match (name, value.split_once('/')) {
            ("signal", Some((signal, value))) => {
                timer.signal = signal.parse().unwrap_or(0);
                timer.value = u64::from_str_radix(value, 16).unwrap_or(0);
            }
            ("notify", Some((how, whom))) => {
                how.clone_into(&mut timer.notify);
                timer.tid = whom.strip_prefix("tid.").and_then(|tid| tid.parse().ok());
            }
            ("ClockID", _) => timer.clock = value.parse().unwrap_or(0),
            _ => {}
        }
    }
    timers
}

impl PosixTimer {
    /// The function that SIGEV_THREAD calls, if this timer looks like one of glibc's: its signal (32) carries a
    /// pointer to the C library's own record, which begins with the kernel's number and the function
    /// (`struct timer`, sysdeps/unix/sysv/linux/kernel-posix-timers.h since 2.35).
    pub fn thread_function(&self, memory: &impl Memory) -> Option<u64> {
        if self.signal != 32 || self.tid.is_none() {
            return None;
        }
        let id = i32::from_le_bytes(memory.read_array(self.value)?);
        (id == self.id).then(|| memory.read_u64(self.value.wrapping_add(8)))?
    }
}

/// The name of a clock (man 2 clock_gettime).
pub fn clock_name(clock: i32) -> String {
    let name = match clock {
        0 => "CLOCK_REALTIME",
        1 => "CLOCK_MONOTONIC",
        2 => "CLOCK_PROCESS_CPUTIME_ID",
        3 => "CLOCK_THREAD_CPUTIME_ID",
        4 => "CLOCK_MONOTONIC_RAW",
        7 => "CLOCK_BOOTTIME",
        8 => "CLOCK_REALTIME_ALARM",
        9 => "CLOCK_BOOTTIME_ALARM",
        11 => "CLOCK_TAI",
        // See `sys::clock::thread_run_time`: a clock of a thread or a process has its id's complement above 3 bits.
        // Number 0 is the one that made it.
        -2 => "CLOCK_PROCESS_CPUTIME_ID",
        -6 => "CLOCK_THREAD_CPUTIME_ID",
        _ if clock < 0 => {
            return format!("CPU clock of {} {}", if clock & 4 != 0 { "thread" } else { "process" }, !(clock >> 3));
        }
        _ => return format!("clock {clock}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::memory::Live;

    #[test]
    fn kernel_texts_are_parsed() {
        let text = b"ID: 0\nsignal: 34/000000000000002a\nnotify: signal/pid.42\nClockID: 1\nID: 3\nsignal: 32/00007fff86e452a8\nnotify: signal/tid.77\nClockID: -6\n";
        let timers = parse(text);
        assert_eq!((timers.len(), timers[0].signal, timers[0].value, timers[0].tid), (2, 34, 42, None));
        assert_eq!((timers[1].id, timers[1].tid, timers[1].clock), (3, Some(77), -6));
        assert_eq!(timers[1].notify, "signal");
        assert!(parse(b"signal: 1/2\n\xff: \nID").is_empty());
        assert_eq!(clock_name(1), "CLOCK_MONOTONIC");
        assert_eq!(clock_name(!5 << 3 | 2), "CPU clock of process 5");
    }

    #[test]
    fn a_thread_function_is_believed_when_its_record_is_the_timers() {
        let record = [7u64, 0x1234];
        let timer = |id| PosixTimer {
            id,
            signal: 32,
            value: record.as_ptr() as u64,
            notify: "signal".to_owned(),
            tid: Some(1),
            clock: 0,
        };
        assert_eq!(timer(7).thread_function(&Live), Some(0x1234));
        assert_eq!(timer(8).thread_function(&Live), None);
    }
}
