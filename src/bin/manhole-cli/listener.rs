//! Where the manhole of a process listens, when it is not at the usual place.
//!
//! Context: the client. The observer keeps its listener in a descriptor table of its own, which
//! `/proc/PID/fd` does not show; `/proc/PID/task/TID/fd` of the thread named `Manhole` does, to root and to
//! the process's owner. `/proc/PID/net/unix` then knows the path that it was bound to.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::process;

/// The paths of the listening sockets of the process's observer, as seen from here.
pub fn paths(pid: u32) -> Vec<PathBuf> {
    let inodes = observers_sockets(pid);
    if inodes.is_empty() {
        return Vec::new();
    }
    let table = fs::read(format!("/proc/{pid}/net/unix")).unwrap_or_default();
    let table = String::from_utf8_lossy(&table);
    table
        .lines()
        .filter_map(listening)
        .filter(|(inode, _)| inodes.contains(inode))
        .map(|(_, path)| from_here(pid, path))
        .collect()
}

fn observers_sockets(pid: u32) -> HashSet<String> {
    process::observers(pid)
        .filter_map(|thread| fs::read_dir(thread.join("fd")).ok())
        .flat_map(|descriptors| descriptors.flatten())
        .filter_map(|descriptor| fs::read_link(descriptor.path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect()
}

/// Inode and path of one line of `/proc/net/unix`, if it listens at a path.
fn listening(line: &str) -> Option<(String, &str)> {
    /// `__SO_ACCEPTCON` (include/uapi/linux/net.h).
    const ACCEPTS: &str = "00010000";
    // Num RefCount Protocol Flags Type St Inode Path; the inode is padded, and the path may hold spaces.
    let mut rest = line;
    let mut field = || {
        rest = rest.trim_start();
        let (word, after) = rest.split_once(' ')?;
        rest = after;
        Some(word)
    };
    let flags = field().and_then(|_| field()).and_then(|_| field()).and_then(|_| field())?;
    let inode = field().and_then(|_| field()).and_then(|_| field())?.to_owned();
    (flags == ACCEPTS && !rest.is_empty() && !rest.starts_with('@')).then_some((inode, rest))
}

/// A path of the process's world, reached through `/proc`.
fn from_here(pid: u32, path: &str) -> PathBuf {
    match path.strip_prefix('/') {
        Some(below_root) => Path::new(&format!("/proc/{pid}/root")).join(below_root),
        None => Path::new(&format!("/proc/{pid}/cwd")).join(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_listening_line() {
        let line = "ffff8881: 00000002 00000000 00010000 0001 01  4711 /run/a b/manhole";
        assert_eq!(listening(line), Some(("4711".to_owned(), "/run/a b/manhole")));
        for other in [
            "Num       RefCount Protocol Flags    Type St Inode Path",
            "ffff8881: 00000002 00000000 00010000 0001 01 4711 @abstract",
            "ffff8881: 00000003 00000000 00000000 0001 03 4711 /run/connected",
            "ffff8881: 00000003 00000000 00010000 0001 03 4711",
            "",
        ] {
            assert_eq!(listening(other), None, "{other}");
        }
    }
}
