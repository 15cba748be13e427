//! Resource limits of this process, as `/proc` has them (man 2 getrlimit).
//!
//! Context: the observer. The file and not `prlimit`, which filters may punish.

#![forbid(unsafe_code)]

use super::numbers::decimal;
use crate::sys::Result;
use crate::sys::procfs::read_small;

/// A limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// `RLIMIT_*`.
    pub name: &'static str,
    /// What it limits.
    pub title: &'static str,
    /// Of what it counts; empty for a priority.
    pub unit: &'static str,
    /// What holds; `None` for no limit.
    pub soft: Option<u64>,
    /// Up to where that may be raised.
    pub hard: Option<u64>,
}

/// Title in the file, name, title, unit.
const NAMES: [(&str, &str, &str, &str); 16] = [
    ("Max open files", "RLIMIT_NOFILE", "open files", "descriptors"),
    ("Max processes", "RLIMIT_NPROC", "processes and threads of the user", "threads"),
    ("Max address space", "RLIMIT_AS", "address space", "bytes"),
    ("Max data size", "RLIMIT_DATA", "data", "bytes"),
    ("Max stack size", "RLIMIT_STACK", "stack of the first thread", "bytes"),
    ("Max locked memory", "RLIMIT_MEMLOCK", "locked memory", "bytes"),
    ("Max resident set", "RLIMIT_RSS", "resident set (not enforced)", "bytes"),
    ("Max cpu time", "RLIMIT_CPU", "processor time", "seconds"),
    ("Max file size", "RLIMIT_FSIZE", "file size", "bytes"),
    ("Max core file size", "RLIMIT_CORE", "core file", "bytes"),
    ("Max file locks", "RLIMIT_LOCKS", "file locks (not enforced)", "locks"),
    ("Max pending signals", "RLIMIT_SIGPENDING", "queued signals of the user", "signals"),
    ("Max msgqueue size", "RLIMIT_MSGQUEUE", "POSIX message queues of the user", "bytes"),
    ("Max nice priority", "RLIMIT_NICE", "nice ceiling (20 - nice)", ""),
    ("Max realtime priority", "RLIMIT_RTPRIO", "real-time priority", ""),
    ("Max realtime timeout", "RLIMIT_RTTIME", "real-time run", "microseconds"),
];

/// All of them, those first that one hits most.
pub fn read() -> Result<Vec<Limit>> {
    let mut buffer = [0; 4096];
    let text = read_small(libc::AT_FDCWD, c"/proc/thread-self/limits", &mut buffer)?;
    Ok(parse(text))
}

fn parse(text: &[u8]) -> Vec<Limit> {
    let lines = || text.split(|&byte| byte == b'\n');
    let limit = |&(begin, name, title, unit): &(&str, &'static str, &'static str, &'static str)| {
        let rest = lines().find_map(|line| line.strip_prefix(begin.as_bytes()))?;
        let mut words = rest.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let mut value = || match words.next()? {
            b"unlimited" => Some(None),
            word => decimal(word).map(Some),
        };
        Some(Limit { name, title, unit, soft: value()?, hard: value()? })
    };
    NAMES.iter().filter_map(limit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agree_with_the_kernel() {
        let limits = read().unwrap();
        assert_eq!(limits.len(), NAMES.len());
        let (soft, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!((limits[0].name, limits[0].soft, limits[0].hard), ("RLIMIT_NOFILE", Some(soft), Some(hard)));
        assert_eq!(
            parse(b"Max open files  x 1 files\nMax processes 1\nMax cpu time unlimited 7"),
            [Limit { name: "RLIMIT_CPU", title: "processor time", unit: "seconds", soft: None, hard: Some(7) }]
        );
    }
}
