//! Who this process is: program, names, ids, how long it has run.
//!
//! Context: the observer, and the constructor, which is why nothing here but [`ProcessFacts`] allocates.
//! Read through `/proc/thread-self`: once the first thread has exited, `exe` and `cmdline` of `/proc/self` are empty.

#![forbid(unsafe_code)]

use std::time::Duration;

use super::threads::Reader;
use crate::sys::link::read_link;
use crate::sys::procfs::read_small;
use crate::sys::{Result, clock, process};

/// What to call this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessFacts {
    /// The process id.
    pub pid: i32,
    /// The file name of the executable, without ` (deleted)`; empty when the kernel would not say.
    pub program: Vec<u8>,
    /// The executable was deleted or replaced since it was started.
    pub deleted: bool,
    /// The name of the first thread (`comm`), which the program may have changed.
    pub comm: Vec<u8>,
    /// The first word of the command line, which the program may have overwritten, at most 4096 bytes of it;
    /// empty when there is none.
    pub argv0: Vec<u8>,
    /// When it started, as time since boot, counted in clock ticks; `None` when `/proc` would not say.
    pub started: Option<Duration>,
}

impl ProcessFacts {
    /// Reads what can be read; what cannot stays empty.
    pub fn read() -> Self {
        let mut buffer = [0; 4096];
        let (program, deleted) = match program_name(&mut buffer) {
            Ok((name, deleted)) => (name.to_vec(), deleted),
            Err(_) => (Vec::new(), false),
        };
        let command = read_small(libc::AT_FDCWD, c"/proc/thread-self/cmdline", &mut buffer).unwrap_or_default();
        let argv0 = command.split(|&byte| byte == 0).next().unwrap_or_default().to_vec();
        let first = process::proc_pid().and_then(|pid| Reader::new().read(pid).ok());
        let started = first.as_ref().map(|first| first.started);
        let comm = first.map(|first| first.name).unwrap_or_default();
        Self { pid: process::pid(), program, deleted, comm, argv0, started }
    }

    /// All names that the program goes by: its file's, its first thread's, and the one it was called by.
    pub fn names(&self) -> [Vec<u8>; 3] {
        let called = self.argv0.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        [self.program.clone(), self.comm.clone(), called.to_vec()]
    }

    /// How long the process has run, to a clock tick.
    pub fn uptime(&self) -> Option<Duration> {
        Some(clock::now(libc::CLOCK_BOOTTIME).ok()?.saturating_sub(self.started?))
    }
}

/// The file name of the executable, and whether it was deleted or replaced.
pub fn program_name(buffer: &mut [u8]) -> Result<(&[u8], bool)> {
    let path = read_link(c"/proc/thread-self/exe", buffer)?;
    // The kernel appends this to the link of an unlinked file (d_path); a file may have such a name itself,
    // and then the mark is wrong.
    let (path, deleted) = match path.strip_suffix(b" (deleted)") {
        Some(path) => (path, true),
        None => (path, false),
    };
    Ok((path.rsplit(|&byte| byte == b'/').next().unwrap_or(path), deleted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_test_program() {
        let facts = ProcessFacts::read();
        let exe = std::env::current_exe().unwrap();
        assert_eq!(facts.pid, std::process::id() as i32);
        assert_eq!(facts.program, exe.file_name().unwrap().as_encoded_bytes());
        assert!(!facts.deleted);
        assert!(facts.program.starts_with(&facts.comm));
        assert_eq!(facts.argv0, std::env::args_os().next().unwrap().as_encoded_bytes());
        let uptime = facts.uptime().unwrap();
        assert!(uptime < Duration::from_secs(3600), "{uptime:?}");
        while facts.uptime().unwrap() < uptime + Duration::from_millis(2) {}
    }
}
