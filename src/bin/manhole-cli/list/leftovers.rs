//! What bears a manhole's name and belongs to no process that we could examine: other users' manholes, python-manholes,
//! and the sockets that a killed process left in /tmp, which are removed.
//!
//! Context: the client. Removed is only `/tmp/manhole-PID` that is a socket (a symbolic link is none), that belongs to
//! us (as root: to anybody), that refuses a connection twice, a moment apart (a process that starts has bound its name
//! and does not listen yet), and whose process PID does not exist, or has no socket of that name. All is asked about
//! one inode, held open, and the name is removed only while it still stands for that inode. POSIX has no call that
//! compares and unlinks at once: between these two calls, microseconds, a new process PID could put its own name there.
//! In a sticky folder nobody but the owner and root can.

use std::collections::HashSet;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use manhole::protocol;
use manhole::sys::kill;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr, sockopt};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

use super::{Entry, State};
use crate::listener::{self, Socket};
use crate::process::Status;

/// The folder of the default path.
const FOLDER: &str = "/tmp";
/// Between the two connections: from `bind` to `listen` a process needs microseconds.
const MOMENT: Duration = Duration::from_millis(50);

/// A socket in [`FOLDER`] that refused a connection.
struct Leftover {
    name: String,
    pid: u32,
    /// Opened with `O_PATH`: the inode, whatever becomes of its name.
    file: OwnedFd,
    status: FileStat,
}

/// Everything of that name but what is `known`. False when a stale socket of ours could not be removed.
pub fn find(known: &HashSet<PathBuf>) -> (Vec<Entry>, bool) {
    let bound = listener::sockets(std::process::id()).unwrap_or_default();
    let listens = |path: &str| bound.iter().any(|socket| socket.listens && socket.path == path);
    let mut entries = abstract_names(&bound, known);
    let mut leftovers = Vec::new();
    let Ok(folder) = open(FOLDER, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()) else {
        return (entries, true);
    };
    for file in fs::read_dir(FOLDER).into_iter().flatten().flatten() {
        let Ok(name) = file.file_name().into_string() else { continue };
        let path = format!("{FOLDER}/{name}");
        let Some(pid) = protocol::pid_in_path(&path).filter(|_| !known.contains(Path::new(&path))) else { continue };
        let Some((file, status)) = socket_at(folder.as_fd(), &name) else { continue };
        if listens(&path) {
            entries.push(named(pid, status.st_uid, path));
            continue;
        }
        match connect(file.as_fd()) {
            Err(Errno::ECONNREFUSED) => leftovers.push(Leftover { name, pid, file, status }),
            Ok(peer) => entries.push(listening(peer.filter(|&peer| peer > 0), status.st_uid, path)),
            // Another user's, and nobody seen to listen: nothing to say about it.
            Err(_) => {}
        }
    }
    if !leftovers.is_empty() {
        std::thread::sleep(MOMENT);
    }
    let bound = listener::sockets(std::process::id()).unwrap_or_default();
    let mut all_removed = true;
    for leftover in leftovers {
        let note = match clear(folder.as_fd(), &leftover, &bound) {
            Ok(()) => "removed".to_owned(),
            Err(Kept::For(reason)) => format!("kept: {reason}"),
            Err(Kept::Against(errno)) => {
                all_removed = false;
                format!("cannot be removed: {}", errno.desc())
            }
        };
        let socket = Some(Path::new(FOLDER).join(&leftover.name));
        let (uid, program) = (Some(leftover.status.st_uid), String::new());
        entries.push(Entry { pid: Some(leftover.pid), uid, program, uptime: None, state: State::Stale, socket, note });
    }
    (entries, all_removed)
}

/// Abstract names like `@manhole-PID` that somebody listens at. They are not connected to: that would prove the pid,
/// and show as a refused client in the log of another user's process.
fn abstract_names(bound: &[Socket], known: &HashSet<PathBuf>) -> Vec<Entry> {
    let is_new = |socket: &&Socket| socket.listens && !known.contains(Path::new(&socket.path));
    let abstract_pid = |path: &str| protocol::abstract_name(path).and_then(|_| protocol::pid_in_path(path));
    bound
        .iter()
        .filter(is_new)
        .filter_map(|socket| Some((abstract_pid(&socket.path)?, socket.path.clone())))
        .map(|(pid, path)| match Status::read(pid) {
            Some(_) => Entry { note: "pid as the name says".to_owned(), ..listening(Some(pid), 0, path) },
            None => Entry { uid: None, ..listening(None, 0, path) },
        })
        .collect()
}

/// A listening socket whose name promises `pid`: believed when the file belongs to that process's user.
fn named(pid: u32, owner: u32, path: String) -> Entry {
    let fits = Status::read(pid).is_some_and(|status| status.effective_uid == owner || owner == 0);
    let note = if fits { "pid as the name says" } else { "" };
    Entry { note: note.to_owned(), ..listening(fits.then_some(pid), owner, path) }
}

fn listening(pid: Option<u32>, owner: u32, path: String) -> Entry {
    let (state, socket) = (State::Listening, Some(PathBuf::from(path)));
    match pid {
        Some(pid) => Entry::of(pid, state, socket),
        None => {
            let (program, note) = (String::new(), String::new());
            Entry { pid: None, uid: Some(owner), program, uptime: None, state, socket, note }
        }
    }
}

/// The inode of a name, if it is a socket.
fn socket_at(folder: BorrowedFd<'_>, name: &str) -> Option<(OwnedFd, FileStat)> {
    let file = openat(folder, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
    let status = fstat(&file).ok()?;
    (status.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFSOCK.bits()).then_some((file, status))
}

/// Connects to that very inode, and leaves again; the listener's pid.
fn connect(file: BorrowedFd<'_>) -> nix::Result<Option<u32>> {
    let address = UnixAddr::new(format!("/proc/self/fd/{}", file.as_raw_fd()).as_str())?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let probe = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    socket::connect(probe.as_raw_fd(), &address)?;
    let peer = socket::getsockopt(&probe, sockopt::PeerCredentials)?;
    Ok(u32::try_from(peer.pid()).ok())
}

/// Why a stale socket stays.
enum Kept {
    /// It is not ours to remove, or may not be stale.
    For(String),
    /// The kernel did not let us.
    Against(Errno),
}

fn clear(folder: BorrowedFd<'_>, leftover: &Leftover, bound: &[Socket]) -> Result<(), Kept> {
    let Leftover { name, pid, file, status } = leftover;
    let own = geteuid();
    if !own.is_root() && own.as_raw() != status.st_uid {
        return Err(Kept::For("it is another user's".to_owned()));
    }
    let has_that_name = |socket: &Socket| socket.path.rsplit('/').next() == Some(name);
    let exists = !matches!(kill::kill(*pid, 0), Err(Errno::ESRCH));
    let its_own = if exists { listener::sockets(*pid) } else { Ok(Vec::new()) };
    if !its_own.is_ok_and(|its_own| !its_own.iter().chain(bound).any(has_that_name)) {
        return Err(Kept::For("a process may be about to listen there".to_owned()));
    }
    if connect(file.as_fd()) != Err(Errno::ECONNREFUSED) {
        return Err(Kept::For("somebody listens now".to_owned()));
    }
    match fstatat(folder, name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(now) if (now.st_dev, now.st_ino) == (status.st_dev, status.st_ino) => {}
        Ok(_) => return Err(Kept::For("something new has that name".to_owned())),
        Err(Errno::ENOENT) => return Ok(()),
        Err(errno) => return Err(Kept::Against(errno)),
    }
    match unlinkat(folder, name.as_str(), UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(Kept::Against(errno)),
    }
}
