//! Facts about a process, from `/proc`, for deciding whom we talk to and for saying why we cannot.
//!
//! Context: the client. A fact that may not be read is absent, never guessed.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};
use object::Endianness;
use object::elf::{self, FileHeader64};
use object::read::elf::{FileHeader, ProgramHeader};

/// The name that the observer gives its thread.
const OBSERVER: &str = "Manhole";
/// The actor's.
pub const ACTOR: &str = "Manhole actor";

/// Lines of `/proc/PID/status` (man 5 proc), readable by everybody.
#[derive(Debug)]
pub struct Status {
    /// `R`, `S`, `T`, `Z` …
    pub state: char,
    /// The thread that traces it; 0 when none does.
    pub tracer: u32,
    /// The second of the four numbers of `Uid:`.
    pub effective_uid: u32,
    /// The process's id in each pid namespace, from the reader's to its own.
    pub namespace_pids: Vec<u32>,
    /// Bit N-1 stands for signal N.
    pub caught: u64,
    pub ignored: u64,
    pub blocked: u64,
    /// Sent to the process as a whole, and taken by no thread yet.
    pub pending: u64,
}

impl Status {
    /// Nothing when there is no such process (or thread: every one has its file).
    pub fn read(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let line = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim);
        let mask = |key| line(key).and_then(|mask| u64::from_str_radix(mask, 16).ok()).unwrap_or_default();
        Some(Self {
            state: line("State")?.chars().next()?,
            tracer: line("TracerPid").unwrap_or_default().parse().unwrap_or_default(),
            effective_uid: line("Uid")?.split_whitespace().nth(1)?.parse().ok()?,
            // Absent in kernels without pid namespaces.
            namespace_pids: line("NSpid").unwrap_or_default().split_whitespace().flat_map(str::parse).collect(),
            caught: mask("SigCgt"),
            ignored: mask("SigIgn"),
            blocked: mask("SigBlk"),
            pending: mask("ShdPnd"),
        })
    }

    /// The process's id as the process itself knows it.
    pub fn own_pid(&self) -> Option<u32> {
        self.namespace_pids.last().copied()
    }
}

/// Whether no thread can run before a signal or a debugger lets it.
pub fn is_stopped(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    let mut states = threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok())
        .filter_map(|status| Status::parse(&status))
        .map(|status| status.state)
        .peekable();
    states.peek().is_some() && states.all(|state| matches!(state, 'T' | 't'))
}

/// Whether the process may open no descriptor at all.
pub fn can_open_nothing(pid: u32) -> bool {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
    let soft = limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next());
    soft == Some("0")
}

/// The `/proc` folders of the threads that have the observer's name.
pub fn observers(pid: u32) -> impl Iterator<Item = PathBuf> {
    threads_named(pid, OBSERVER)
}

/// The `/proc` folders of the threads that have this name.
pub fn threads_named(pid: u32, wanted: &str) -> impl Iterator<Item = PathBuf> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten().map(|entry| entry.path());
    threads.filter(move |thread| fs::read_to_string(thread.join("comm")).is_ok_and(|name| name.trim_end() == wanted))
}

/// Whether a file whose name begins with `libmanhole` is mapped. Fails when `maps` may not be read.
pub fn is_preloaded(pid: u32) -> io::Result<bool> {
    let maps = fs::read(format!("/proc/{pid}/maps"))?;
    let is_ours = |line: &[u8]| {
        let name = line.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        line.contains(&b'/') && name.starts_with(b"libmanhole")
    };
    Ok(maps.split(|&byte| byte == b'\n').any(is_ours))
}

/// A numeric field of `/proc/PID/stat`, by its number in man 5 proc (4 or more).
fn statistic(pid: u32, number: usize) -> Option<u64> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; field 3 follows the last one.
    line.rsplit_once(')')?.1.split_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

/// The parent, if the process was provably forked from it and has executed nothing since: both have the stack of one
/// and the same execve, whose place is random (with randomisation off, `setarch -R`, it is likely only).
pub fn forked_from(pid: u32) -> Option<u32> {
    const PARENT: usize = 4;
    const START_OF_STACK: usize = 28;
    let parent = u32::try_from(statistic(pid, PARENT)?).ok()?;
    // 0 or 1 stands for what may not be read.
    let stack = |pid| statistic(pid, START_OF_STACK).filter(|&address| address > 1);
    (stack(pid)? == stack(parent)?).then_some(parent)
}

/// How long it has run, to a clock tick.
pub fn uptime(pid: u32) -> Option<Duration> {
    const START: usize = 22;
    let ticks = statistic(pid, START)? as f64;
    let a_second = sysconf(SysconfVar::CLK_TCK).ok()?? as f64;
    let now = fs::read_to_string("/proc/uptime").ok()?.split_whitespace().next()?.parse::<f64>().ok()?;
    Some(Duration::from_secs_f64((now - ticks / a_second).max(0.0)))
}

/// All names that the program goes by, as `only` counts them: its file's, its first thread's, and, last, the one that
/// it was called by. What may not be read is empty.
pub fn names(pid: u32) -> [String; 3] {
    let text =
        |path: &str| String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/{path}")).unwrap_or_default()).into_owned();
    let (first_thread, command) = (text("comm"), text("cmdline"));
    let called = command.split('\0').next().unwrap_or_default();
    let called = called.rsplit('/').next().unwrap_or_default();
    [program_file(pid), first_thread.trim_end_matches('\n').to_owned(), called.to_owned()]
}

/// The name of the executable's file, without the mark of a deleted one.
fn program_file(pid: u32) -> String {
    let path = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.strip_suffix(" (deleted)").unwrap_or(&name).to_owned()
}

/// Whether it lives in our network namespace, where abstract addresses are known; nothing when that may not be seen.
pub fn shares_our_network(pid: u32) -> Option<bool> {
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    Some(namespace(&pid.to_string())? == namespace("self")?)
}

/// `AT_SECURE` in the auxiliary vector: set-user-ID, set-group-ID or file capabilities.
pub fn is_secure(pid: u32) -> Option<bool> {
    const AT_SECURE: u64 = 23;
    let vector = fs::read(format!("/proc/{pid}/auxv")).ok()?;
    let mut words = vector.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap_or_default()));
    while let (Some(key), Some(value)) = (words.next(), words.next()) {
        if key == AT_SECURE {
            return Some(value != 0);
        }
    }
    None
}

/// How a program is linked, as far as preloading goes.
#[derive(Debug, PartialEq, Eq)]
pub enum Linkage {
    /// With a dynamic loader, or a dynamic loader itself.
    Dynamic,
    /// Without `PT_INTERP`.
    Static,
    /// For another word size than ours.
    OtherClass,
}

/// Nothing when the executable may not be read (or there is none: a kernel thread).
pub fn linkage(pid: u32) -> Option<Linkage> {
    use std::io::Read;
    let mut start = Vec::new();
    // Program headers follow the ELF header in every file that a linker writes.
    fs::File::open(format!("/proc/{pid}/exe")).ok()?.take(64 * 1024).read_to_end(&mut start).ok()?;
    match linkage_of(&start) {
        // `ld.so PROGRAM`: the loader needs no loader.
        Some(Linkage::Static) if program_file(pid).starts_with("ld") => Some(Linkage::Dynamic),
        linkage => linkage,
    }
}

fn linkage_of(start: &[u8]) -> Option<Linkage> {
    if start.starts_with(b"\x7fELF\x01") {
        return Some(Linkage::OtherClass);
    }
    let header = FileHeader64::<Endianness>::parse(start).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, start).ok()?;
    let has_loader = segments.iter().any(|segment| segment.p_type(endian) == elf::PT_INTERP);
    Some(if has_loader { Linkage::Dynamic } else { Linkage::Static })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_namespaced_status() {
        let text = "Name:\tState: Z\nState:\tT (stopped)\nUid:\t1000\t33\t0\t0\nNSpid:\t4242\t7\nTracerPid:\t99\nShdPnd:\t0000000000000400\nSigBlk:\t0000000000000200\n";
        let status = Status::parse(text).expect("status");
        assert_eq!((status.state, status.effective_uid, status.own_pid()), ('T', 33, Some(7)));
        assert_eq!((status.blocked, status.caught, status.pending, status.tracer), (0x200, 0, 0x400, 99));
        assert!(Status::parse("").is_none());
    }

    #[test]
    fn knows_this_very_process() {
        let pid = std::process::id();
        assert_eq!(Status::read(pid).expect("status").namespace_pids.first(), Some(&pid));
        assert_eq!(is_secure(pid), Some(false));
        assert!(!is_stopped(pid));
        assert_eq!(shares_our_network(pid), Some(true));
        assert_eq!(forked_from(pid), None);
        assert!(uptime(pid).expect("uptime") < Duration::from_secs(3600));
        let file = std::env::current_exe().expect("exe").file_name().expect("name").to_string_lossy().into_owned();
        assert!(names(pid).iter().all(|name| file.starts_with(name.as_str()) && !name.is_empty()));
        assert_eq!(linkage(pid), Some(Linkage::Dynamic));
        assert_eq!(linkage_of(b"#!/bin/sh\n"), None);
        assert_eq!(linkage_of(b"\x7fELF\x01"), Some(Linkage::OtherClass));
    }
}
