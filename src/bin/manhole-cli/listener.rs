//! Where the manhole of a process listens, when it is not at the usual place.
//!
//! Context: the client. The observer keeps its listener in a descriptor table of its own, which
//! `/proc/PID/fd` does not show; `/proc/PID/task/TID/fd` of the thread named `Manhole` does, to root and to
//! the process's owner. `/proc/PID/net/unix` then knows the path that it was bound to. What the application's own
//! table shows is the application's: an observer that waits for its signal has not left that table yet.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

use manhole::protocol;

use crate::process;

/// The paths of the listening sockets of the process's observer, as seen from here; `@NAME` for abstract ones.
pub fn paths(pid: u32) -> Vec<PathBuf> {
    let inodes = observers_sockets(pid);
    if inodes.is_empty() {
        return Vec::new();
    }
    let ours = |socket: &Socket| socket.listens && inodes.contains(&socket.inode);
    sockets(pid).unwrap_or_default().iter().filter(|socket| ours(socket)).map(|s| from_here(pid, &s.path)).collect()
}

/// A socket with a name, as `/proc/PID/net/unix` shows it.
#[derive(Debug, PartialEq, Eq)]
pub struct Socket {
    inode: String,
    /// As it was bound; `@` stands for the NUL of an abstract name.
    pub path: String,
    /// It accepts clients; what does not is about to, or is one end of a connection.
    pub listens: bool,
}

/// The named sockets in the process's network namespace.
pub fn sockets(pid: u32) -> io::Result<Vec<Socket>> {
    let table = fs::read(format!("/proc/{pid}/net/unix"))?;
    Ok(String::from_utf8_lossy(&table).lines().filter_map(named).collect())
}

fn observers_sockets(pid: u32) -> HashSet<String> {
    // The first thread may have ended; the actor lives in the application's table, too.
    let application: HashSet<String> = std::iter::once(PathBuf::from(format!("/proc/{pid}")))
        .chain(process::threads_named(pid, process::ACTOR))
        .flat_map(|thread| sockets_in_table(&thread))
        .collect();
    let observers = process::observers(pid).flat_map(|thread| sockets_in_table(&thread));
    observers.filter(|inode| !application.contains(inode)).collect()
}

/// The inodes of the sockets in the descriptor table of a thread, given its folder in `/proc`.
fn sockets_in_table(thread: &Path) -> Vec<String> {
    let descriptors = fs::read_dir(thread.join("fd")).into_iter().flatten().flatten();
    descriptors
        .filter_map(|descriptor| fs::read_link(descriptor.path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect()
}

/// One line of `/proc/net/unix`, if its socket has a name.
fn named(line: &str) -> Option<Socket> {
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
    // The heading of the table is no socket.
    inode.bytes().all(|byte| byte.is_ascii_digit()).then_some(())?;
    (!rest.is_empty()).then(|| Socket { inode, path: rest.to_owned(), listens: flags == ACCEPTS })
}

/// A path of the process's world, reached through `/proc`. An abstract name is everybody's in its network namespace.
pub fn from_here(pid: u32, path: &str) -> PathBuf {
    if protocol::abstract_name(path).is_some() {
        return PathBuf::from(path);
    }
    match path.strip_prefix('/') {
        Some(below_root) => Path::new(&format!("/proc/{pid}/root")).join(below_root),
        None => Path::new(&format!("/proc/{pid}/cwd")).join(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_lines_with_names() {
        for (line, path, listens) in [
            ("ffff8881: 00000002 00000000 00010000 0001 01  4711 /run/a b/manhole", "/run/a b/manhole", true),
            ("ffff8881: 00000002 00000000 00010000 0001 01 4711 @manhole-7", "@manhole-7", true),
            ("ffff8881: 00000003 00000000 00000000 0001 03 4711 /run/connected", "/run/connected", false),
        ] {
            let socket = Socket { inode: "4711".to_owned(), path: path.to_owned(), listens };
            assert_eq!(named(line), Some(socket));
        }
        for other in [
            "Num       RefCount Protocol Flags    Type St Inode Path",
            "ffff8881: 00000003 00000000 00010000 0001 03 4711",
            "",
        ] {
            assert_eq!(named(other), None, "{other}");
        }
        assert_eq!(from_here(7, "@manhole-7"), Path::new("@manhole-7"));
        assert_eq!(from_here(7, "/tmp/x"), Path::new("/proc/7/root/tmp/x"));
    }
}
