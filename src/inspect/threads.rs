//! The threads of this process: name, state, CPU time, the system call each sits in.
//!
//! Context: the observer. Two small files of `/proc` a thread, into a buffer on the stack. Nothing of
//! the thread is touched; it may run or exit meanwhile, and each fact is true for the moment of its reading.

#![forbid(unsafe_code)]

use std::fmt::Write;
use std::time::Duration;

use crate::stack::Call;
use crate::stack::capture::parse_syscall;
use crate::sys::procfs::{Path, read_small};
use crate::sys::{Errno, Result, clock, process};

/// What `/proc` says about one thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadFacts {
    /// The thread id, as `/proc` shows it.
    pub tid: i32,
    /// The name (`comm`), at most 15 bytes, any but NUL.
    pub name: Vec<u8>,
    /// The state letter; [`state_word`] explains it.
    pub state: u8,
    /// CPU time in user space, counted in clock ticks (10 ms on Linux).
    pub user: Duration,
    /// CPU time in the kernel, counted likewise.
    pub system: Duration,
    /// CPU time in all: to the nanosecond where the thread's own clock can be read, else `user` and `system`.
    pub cpu: Duration,
    /// When it started, as time since boot, counted in clock ticks.
    pub started: Duration,
    /// The CPU that it runs on or last ran on.
    pub processor: u32,
    /// -20 to 19; means something under the policies `other` and `batch`.
    pub nice: i32,
    /// The scheduling policy (`SCHED_*`); [`policy_word`] names it.
    pub policy: u32,
    /// 1 to 99 under a real-time policy, else 0.
    pub priority: u32,
    /// The system call that it sits in; `None` while it runs in user space, or when the kernel would not say.
    pub call: Option<Call>,
}

/// Context switches of one thread since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Switches {
    /// It blocked or yielded.
    pub voluntary: u64,
    /// It was preempted.
    pub involuntary: u64,
}

/// Reads the facts of threads; made once a command.
#[derive(Clone, Copy, Debug)]
pub struct Reader {
    ticks: u64,
    /// Thread ids of `/proc` are those of system calls.
    same_namespace: bool,
}

impl Reader {
    /// Learns how this process's `/proc` counts.
    pub fn new() -> Self {
        Self { ticks: process::ticks_per_second(), same_namespace: process::proc_is_of_our_namespace() }
    }

    /// The facts of thread `tid`, `ENOENT` or `ESRCH` when it has exited.
    pub fn read(&self, tid: i32) -> Result<ThreadFacts> {
        let mut facts = self.read_stat(tid)?;
        let mut buffer = [0; 1024];
        facts.call = read_file(tid, "syscall", &mut buffer).ok().and_then(|text| Some(parse_syscall(text)?.0));
        Ok(facts)
    }

    /// The same without the system call, which is a file of its own.
    pub fn read_stat(&self, tid: i32) -> Result<ThreadFacts> {
        let mut facts = parse_stat(read_file(tid, "stat", &mut [0; 1024])?, self.ticks).ok_or(Errno::EBADMSG)?;
        if self.same_namespace {
            facts.cpu = clock::thread_run_time(tid).map_or(facts.cpu, Duration::from_nanos);
        }
        Ok(facts)
    }

    /// Whether the kernel lets us read the system call of thread `tid`.
    pub fn shows_calls(&self, tid: i32) -> bool {
        read_file(tid, "syscall", &mut [0; 256]) != Err(Errno::EACCES)
    }

    /// The context switches of thread `tid`.
    pub fn switches(&self, tid: i32) -> Result<Switches> {
        let mut buffer = [0; process::STATUS_BYTES];
        let status = read_file(tid, "status", &mut buffer)?;
        let field = |name| process::status_field(status, name).and_then(number).ok_or(Errno::EBADMSG);
        Ok(Switches { voluntary: field("voluntary_ctxt_switches")?, involuntary: field("nonvoluntary_ctxt_switches")? })
    }
}

impl Default for Reader {
    fn default() -> Self {
        Self::new()
    }
}

/// The name of thread `tid` alone; empty when it has exited.
pub fn name(tid: i32) -> Vec<u8> {
    let mut buffer = [0; 64];
    let name = read_file(tid, "comm", &mut buffer).unwrap_or_default();
    name.strip_suffix(b"\n").unwrap_or(name).to_vec()
}

/// The signals that thread `tid` blocks, as a mask; without those that it waits for with `sigwait`.
pub fn blocked_signals(tid: i32) -> Option<u64> {
    let mut buffer = [0; process::STATUS_BYTES];
    let mask = process::status_field(read_file(tid, "status", &mut buffer).ok()?, "SigBlk")?;
    u64::from_str_radix(std::str::from_utf8(mask).ok()?, 16).ok()
}

/// The stack pointer of thread `tid`; `None` while it runs, or when the kernel would not say.
pub fn stack_pointer(tid: i32) -> Option<u64> {
    Some(blocked(tid)?.1)
}

/// The call that thread `tid` sits in, and its stack pointer; `None` while it runs, or when the kernel would not say.
pub fn blocked(tid: i32) -> Option<(Call, u64)> {
    let mut buffer = [0; 256];
    let (call, sp, _) = parse_syscall(read_file(tid, "syscall", &mut buffer).ok()?)?;
    Some((call, sp))
}

fn read_file<'a>(tid: i32, file: &str, buffer: &'a mut [u8]) -> Result<&'a [u8]> {
    let mut path = Path::<64>::new();
    write!(path, "/proc/self/task/{tid}/{file}").map_err(|_| Errno::ENAMETOOLONG)?;
    read_small(libc::AT_FDCWD, path.as_c_str(), buffer)
}

fn number<T: std::str::FromStr>(field: &[u8]) -> Option<T> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// Parses `/proc/PID/stat` (man 5 proc_pid_stat). The name stands in parentheses and may hold anything,
/// parentheses and newlines too: it ends at the last `)`, since numbers and a letter follow.
fn parse_stat(stat: &[u8], ticks: u64) -> Option<ThreadFacts> {
    let open = stat.iter().position(|&byte| byte == b'(')?;
    let close = stat.iter().rposition(|&byte| byte == b')')?;
    let rest: Vec<&[u8]> = stat.get(close + 1..)?.trim_ascii().split(|&byte| byte == b' ').collect();
    // `rest` begins with field 3 of the manual page's numbering.
    let field = |index: usize| rest.get(index - 3).copied();
    let span = |index| {
        let count: u64 = number(field(index)?)?;
        let nanos = u128::from(count % ticks) * 1_000_000_000 / u128::from(ticks);
        Some(Duration::new(count / ticks, u32::try_from(nanos).ok()?))
    };
    let (user, system) = (span(14)?, span(15)?);
    Some(ThreadFacts {
        tid: number(stat.get(..open)?.trim_ascii())?,
        name: stat.get(open + 1..close)?.to_vec(),
        state: *field(3)?.first()?,
        user,
        system,
        cpu: user.saturating_add(system),
        started: span(22)?,
        processor: number(field(39)?)?,
        nice: number(field(19)?)?,
        policy: number(field(41)?)?,
        priority: number(field(40)?)?,
        call: None,
    })
}

/// A word for a state letter of `/proc/PID/stat` (`task_state_array` in the kernel's fs/proc/array.c).
pub fn state_word(state: u8) -> &'static str {
    match state {
        b'R' => "running",
        b'S' => "sleeping",
        b'D' => "uninterruptible",
        b'T' => "stopped",
        b't' => "traced",
        b'Z' => "zombie",
        b'X' | b'x' => "dead",
        b'I' => "idle",
        b'P' => "parked",
        _ => "unknown",
    }
}

/// The name of a scheduling policy (man 7 sched).
pub fn policy_word(policy: u32) -> &'static str {
    match policy {
        0 => "other",
        1 => "fifo",
        2 => "rr",
        3 => "batch",
        5 => "idle",
        6 => "deadline",
        7 => "ext",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_hold_anything() {
        let numbers =
            "S 1 1 1 0 -1 4194304 5 0 0 0 150 25 0 0 20 -5 3 0 12345 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 17 3 0 0 0 0 0";
        for name in [&b"plain"[..], b"a) S 1 (b", b")", b"", b" \n) R 7", b"\xff\x1b[31m"] {
            let mut stat = b"42 (".to_vec();
            stat.extend_from_slice(name);
            stat.extend_from_slice(b") ");
            stat.extend_from_slice(numbers.as_bytes());
            let facts = parse_stat(&stat, 100).unwrap();
            assert_eq!(facts.name, name);
            assert_eq!((facts.tid, facts.state, facts.nice, facts.processor), (42, b'S', -5, 3));
            assert_eq!((facts.user, facts.system), (Duration::from_millis(1500), Duration::from_millis(250)));
            assert_eq!(facts.started, Duration::from_millis(123_450));
        }
    }

    #[test]
    fn damaged_files_are_no_facts() {
        for stat in [&b""[..], b"1", b"1 (x", b"1 (x)", b"1 (x) ", b")(", b"x (y) S 1 2", b"1 (x) S 1 1 1 0 -1"] {
            assert_eq!(parse_stat(stat, 100), None);
        }
        for call in [&b""[..], b"running\n", b"x", b"7 0x1 0x2\n", b"7 1 2 3 4 5 6 7 8\n", b"\xff"] {
            assert_eq!(parse_syscall(call), None);
        }
    }

    #[test]
    fn calls_are_parsed() {
        let call = parse_syscall(b"232 0x5 0x7f00 0x2790 0x64 0x0 0xffffffffffffffff 0x7ffe 0x7f52\n").unwrap().0;
        assert_eq!(call, Call { number: 232, arguments: [5, 0x7f00, 0x2790, 0x64, 0, u64::MAX] });
        assert_eq!(parse_syscall(b"-1 0x7ffe 0x7f52\n").unwrap().0.number, -1);
    }

    #[test]
    fn a_sleeping_thread_is_read() {
        let (to_test, from_thread) = std::sync::mpsc::channel();
        let (stop, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::Builder::new().name("a) R (b".into()).spawn(move || {
            to_test.send(process::tid()).unwrap();
            wait.recv().unwrap_err();
        });
        let (tid, reader) = (from_thread.recv().unwrap(), Reader::new());
        let facts = loop {
            let facts = reader.read(tid).unwrap();
            if facts.state == b'S' && facts.call.is_some_and(|call| call.number == libc::SYS_futex) {
                break facts;
            }
            std::thread::yield_now();
        };
        assert_eq!(facts.name, b"a) R (b");
        assert_eq!(facts.tid, tid);
        assert!(facts.cpu > Duration::ZERO && facts.cpu < Duration::from_secs(5));
        assert!(facts.started <= clock::now(libc::CLOCK_BOOTTIME).unwrap());
        assert_eq!((policy_word(facts.policy), facts.priority), ("other", 0));
        assert!(reader.switches(tid).unwrap().voluntary > 0);
        drop(stop);
        thread.unwrap().join().unwrap();
        while reader.read(tid).is_ok() {
            std::thread::yield_now();
        }
        assert!(matches!(reader.read(tid), Err(Errno::ENOENT | Errno::ESRCH)));
    }
}
