//! Timers of the application: POSIX timers, interval timers, and descriptors of timers.
//!
//! Context: the observer. Looked at through `/proc` and calls that change nothing; a timer that expires meanwhile has
//! moved on by the time it is printed.

#![forbid(unsafe_code)]

use std::time::Duration;

use super::files;
use crate::sys::link::read_link;
use crate::sys::memory::Memory;
use crate::sys::procfs::{File, for_each_entry};
use crate::sys::timers::Remaining;
use crate::sys::{Errno, Result};

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

/// A descriptor of `timerfd_create`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimerDescriptor {
    /// Its number.
    pub number: i32,
    /// Its clock.
    pub clock: i32,
    /// Expirations that were not read.
    pub ticks: u64,
    /// How it stands.
    pub remaining: Remaining,
}

/// The numbers of the descriptors in the table of thread `tid`.
pub fn descriptors(tid: i32) -> Result<Vec<i32>> {
    let path = std::ffi::CString::new(format!("/proc/self/task/{tid}/fd")).map_err(|_| Errno::EINVAL)?;
    let folder = File::open_at(libc::AT_FDCWD, &path, libc::O_DIRECTORY)?;
    let mut numbers: Vec<i32> = Vec::new();
    for_each_entry(&folder, |name| numbers.extend(name.to_str().ok().and_then(|name| name.parse::<i32>().ok())))?;
    numbers.sort_unstable();
    Ok(numbers)
}

/// Descriptor `number` of thread `tid`, if it is a timer.
pub fn descriptor(tid: i32, number: i32) -> Option<TimerDescriptor> {
    let path = std::ffi::CString::new(format!("/proc/self/task/{tid}/fd/{number}")).ok()?;
    if read_link(&path, &mut [0; 32]).ok()? != b"anon_inode:[timerfd]" {
        return None;
    }
    parse_descriptor(number, &files::of_thread(tid, &format!("fdinfo/{number}"), 4096).ok()?)
}

/// `clockid: 1`, `ticks: 0`, `it_value: (0, 49406829)`, `it_interval: (1, 0)` (man 5 proc_pid_fdinfo).
fn parse_descriptor(number: i32, text: &[u8]) -> Option<TimerDescriptor> {
    let text = std::str::from_utf8(text).ok()?;
    let field = |name| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let time = |name| {
        let (seconds, nanoseconds) = field(name)?.strip_prefix('(')?.strip_suffix(')')?.split_once(", ")?;
        let nanoseconds: u32 = nanoseconds.parse().ok().filter(|it| *it < 1_000_000_000)?;
        Some(Duration::new(seconds.parse().ok()?, nanoseconds))
    };
    Some(TimerDescriptor {
        number,
        clock: field("clockid")?.parse().ok()?,
        ticks: field("ticks")?.parse().ok()?,
        remaining: Remaining { value: time("it_value")?, interval: time("it_interval")? },
    })
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
        let text = b"pos:\t0\nflags:\t02\nclockid: 1\nticks: 3\nsettime flags: 00\nit_value: (0, 49406829)\nit_interval: (1, 0)\n";
        let timer = parse_descriptor(5, text).unwrap();
        assert_eq!((timer.clock, timer.ticks, timer.remaining.interval), (1, 3, Duration::from_secs(1)));
        assert_eq!(timer.remaining.value, Duration::from_nanos(49_406_829));
        assert_eq!(parse_descriptor(5, b"clockid: 1\n"), None);
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
