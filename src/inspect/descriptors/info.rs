//! What `/proc/PID/fdinfo/N` says (man 5 proc_pid_fdinfo; the `*_show_fdinfo` functions of the kernel).
//!
//! Context: the observer. The kernel takes the lock of the object that it tells of for as long as it writes the lines:
//! that of an epoll instance with 10,000 descriptors for some milliseconds, in which `epoll_wait` waits, too.

#![forbid(unsafe_code)]

use std::time::Duration;

use super::path;
use crate::inspect::lines::Lines;
use crate::inspect::numbers::{decimal, in_base};
use crate::inspect::syscalls::numbers::O_LARGEFILE;
use crate::sys::Result;
use crate::sys::procfs::File;

/// The most that is read of one file: some 60,000 descriptors in one epoll instance.
const INFO_BYTES: u64 = 4 << 20;
/// File locks that are kept.
const LOCKS: usize = 16;

/// One descriptor in an epoll instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest {
    /// The number it was added by.
    pub number: i32,
    /// `EPOLL*` bits.
    pub events: u32,
    /// What `epoll_wait` answers with.
    pub data: u64,
    /// The inode of the file that was added; since Linux 5.3.
    pub inode: Option<u64>,
}

/// One watch of an inotify instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Its number.
    pub descriptor: u64,
    /// The inode watched.
    pub inode: u64,
    /// Its device, as the kernel composes it: major number times 2^20, and minor.
    pub device: u64,
    /// `IN_*` bits.
    pub mask: u32,
}

/// A timer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timer {
    /// `CLOCK_*`.
    pub clock: i32,
    /// Expirations that were not read.
    pub ticks: u64,
    /// `TFD_TIMER_*` bits of the last `timerfd_settime`.
    pub flags: u32,
    /// Until it expires; zero when it is not armed.
    pub remaining: Duration,
    /// Between expirations; zero for a timer that expires once.
    pub interval: Duration,
}

/// What the kernel tells of a descriptor; nothing that it does not tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// The position in the file; 0 for what has none.
    pub position: Option<u64>,
    /// The flags of `open`, with `O_CLOEXEC` where the descriptor has it.
    pub flags: Option<i32>,
    /// The mount that the file was opened on.
    pub mount: Option<u32>,
    /// Its inode; since Linux 5.14.
    pub inode: Option<u64>,
    /// Of an epoll instance: what it waits for, as many as were asked for.
    pub interests: Vec<Interest>,
    /// How many there are.
    pub interest_count: usize,
    /// Of an inotify instance, likewise.
    pub watches: Vec<Watch>,
    /// How many there are.
    pub watch_count: usize,
    /// Of an eventfd: its count.
    pub event_count: Option<u64>,
    /// It counts down by one (EFD_SEMAPHORE); since Linux 6.5.
    pub is_semaphore: bool,
    /// Of a timerfd.
    pub timer: Option<Timer>,
    /// Of a signalfd: the signals it takes, bit 0 for signal 1.
    pub signals: Option<u64>,
    /// Of a pidfd: the process; -1 when that has exited and was waited for.
    pub pid: Option<i32>,
    /// File locks (`flock`, and open file description locks), as `/proc/locks` has them.
    pub locks: Vec<Vec<u8>>,
}

/// Reads what the kernel tells of descriptor `number` of thread `tid`, with at most `limit` entries of a list.
pub fn read(tid: i32, number: i32, limit: usize) -> Result<Info> {
    let file = File::open(path(tid, "fdinfo", number)?.as_c_str())?;
    let mut info = Info::default();
    Lines::new(file).read_up_to(INFO_BYTES, |line| {
        info.understand(line, limit);
    })?;
    Ok(info)
}

impl Info {
    /// Takes a line; one that is damaged or unknown says nothing.
    fn understand(&mut self, line: &[u8], limit: usize) -> Option<()> {
        if let Some(rest) = line.strip_prefix(b"inotify ") {
            let watch = watch(rest)?;
            self.watch_count += 1;
            if self.watches.len() < limit {
                self.watches.push(watch);
            }
            return Some(());
        }
        let (name, value) = line.split_at_checked(line.iter().position(|&byte| byte == b':')?)?;
        let value = value.get(1..)?.trim_ascii();
        match name {
            b"pos" => self.position = decimal(value),
            b"flags" => self.flags = in_base(value, 8).map(|flags| flags as i32 & !O_LARGEFILE),
            b"mnt_id" => self.mount = decimal(value),
            b"ino" => self.inode = decimal(value),
            b"lock" if self.locks.len() < LOCKS => {
                // `1: FLOCK ...`: the number says nothing.
                let start = value.iter().position(|&byte| byte == b' ').map_or(0, |blank| blank + 1);
                self.locks.push(value.get(start..)?.trim_ascii().to_vec());
            }
            b"tfd" => {
                let interest = interest(value)?;
                self.interest_count += 1;
                if self.interests.len() < limit {
                    self.interests.push(interest);
                }
            }
            b"eventfd-count" => self.event_count = in_base(value, 16),
            b"eventfd-semaphore" => self.is_semaphore = value == b"1",
            b"sigmask" => self.signals = in_base(value, 16),
            b"Pid" => self.pid = decimal(value),
            b"clockid" => self.timer.get_or_insert_default().clock = decimal(value)?,
            b"ticks" => self.timer.as_mut()?.ticks = decimal(value)?,
            b"settime flags" => self.timer.as_mut()?.flags = in_base(value, 8)? as u32,
            b"it_value" => self.timer.as_mut()?.remaining = time(value)?,
            b"it_interval" => self.timer.as_mut()?.interval = time(value)?,
            _ => (),
        }
        Some(())
    }
}

/// `(3598, 940880891)`.
fn time(value: &[u8]) -> Option<Duration> {
    let both = value.strip_prefix(b"(")?.strip_suffix(b")")?;
    let (seconds, nanos) = both.split_at_checked(both.iter().position(|&byte| byte == b',')?)?;
    let nanos: u32 = decimal(nanos.get(1..)?)?;
    Some(Duration::new(decimal(seconds)?, nanos.min(999_999_999)))
}

/// The words of a line that are `name:VALUE`, or `name:` and `VALUE` behind it.
fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let start = line.windows(name.len()).position(|window| window == name)? + name.len();
    line.get(start..)?.trim_ascii_start().split(|&byte| byte == b' ').next()
}

/// `124 events: 8000001c data:                2  pos:0 ino:330cec sdev:9`.
fn interest(value: &[u8]) -> Option<Interest> {
    Some(Interest {
        number: decimal(value.split(|&byte| byte == b' ').next()?)?,
        events: in_base(field(value, b" events:")?, 16)? as u32,
        data: in_base(field(value, b" data:")?, 16)?,
        inode: field(value, b" ino:").and_then(|inode| in_base(inode, 16)),
    })
}

/// `wd:1 ino:a5e039 sdev:fe00000 mask:380 ignored_mask:0 ...`.
fn watch(value: &[u8]) -> Option<Watch> {
    Some(Watch {
        descriptor: in_base(field(value, b"wd:")?, 16)?,
        inode: in_base(field(value, b" ino:")?, 16)?,
        device: in_base(field(value, b" sdev:")?, 16)?,
        mask: in_base(field(value, b" mask:")?, 16)? as u32,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Info {
        let mut info = Info::default();
        for line in text.split('\n') {
            let _ = info.understand(line.as_bytes(), 2);
        }
        info
    }

    #[test]
    fn each_kind_is_understood() {
        let info = parsed(
            "pos:\t12\nflags:\t02100001\nmnt_id:\t27\nino:\t4711\nlock:\t1: FLOCK  ADVISORY  WRITE 9 fe:00:1 0 EOF",
        );
        assert_eq!((info.position, info.mount, info.inode), (Some(12), Some(27), Some(4711)));
        assert_eq!(info.flags.unwrap() & !libc::O_CLOEXEC, libc::O_WRONLY);
        assert_eq!(info.locks, [b"FLOCK  ADVISORY  WRITE 9 fe:00:1 0 EOF"]);
        let line = "tfd:      124 events: 8000001c data:                2  pos:0 ino:330cec sdev:9\n";
        let info = parsed(&line.repeat(3));
        let interest = Interest { number: 124, events: 0x8000_001c, data: 2, inode: Some(0x33_0cec) };
        assert_eq!((info.interests, info.interest_count), (vec![interest; 2], 3));
        let info = parsed("eventfd-count:               1f\neventfd-id: 1\neventfd-semaphore: 1");
        assert_eq!((info.event_count, info.is_semaphore), (Some(31), true));
        let info = parsed(
            "clockid: 1\nticks: 3\nsettime flags: 01\nit_value: (3598, 940880891)\nit_interval: (60, 500000000)",
        );
        let (remaining, interval) = (Duration::new(3598, 940_880_891), Duration::from_millis(60_500));
        assert_eq!(info.timer, Some(Timer { clock: 1, ticks: 3, flags: 1, remaining, interval }));
        assert_eq!(parsed("sigmask:\t0000000400000200").signals, Some(0x4_0000_0200));
        assert_eq!(parsed("Pid:\t-1\nNSpid:\t-1").pid, Some(-1));
        let info = parsed("inotify wd:1 ino:a5e039 sdev:fe00000 mask:380 ignored_mask:0 fhandle-bytes:8");
        let watch = Watch { descriptor: 1, inode: 0xa5_e039, device: 0xfe0_0000, mask: 0x380 };
        assert_eq!((info.watches, info.watch_count), (vec![watch], 1));
    }

    #[test]
    fn damaged_information_is_left_out() {
        let info =
            parsed("pos:\t-1\nflags:\t9\ntfd: x\ninotify \nticks: 1\nit_value: (1,\nit_value: (1, )\n:\n\nlock:");
        assert_eq!(Info { locks: Vec::new(), ..info }, Info::default());
        let mut info = Info::default();
        info.understand(b"\xff\x00:\xff", 1);
        info.understand(b"clockid: 1", 1);
        info.understand(b"it_value: (99999999999999999999, 1)", 1);
        assert_eq!(info.timer, Some(Timer { clock: 1, ..Timer::default() }));
    }
}
