//! The descriptors of the application: number, what each refers to, flags, position, and what the kernel knows beside.
//!
//! Context: the observer, whose own table is another one: descriptors are looked up by the thread that
//! owns them. Nothing is opened but files and folders of `/proc`; a descriptor that is closed meanwhile is left out.

#![forbid(unsafe_code)]

pub mod holders;
pub mod info;
pub mod kinds;
pub mod names;

use std::fmt::{self, Write};

use super::sockets::Sockets;
use super::strings::Escaped;
use crate::sys::link::read_link;
use crate::sys::procfs::{self, File, Path, for_each_entry};
use crate::sys::{Errno, Result, files, link, stat};

/// The most of a target that is read; longer ones are printed with `...` at their end.
pub const TARGET_BYTES: usize = 1024;

/// What an open file may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Reading.
    pub read: bool,
    /// Writing.
    pub write: bool,
}

impl Access {
    /// `r`, `w`, `rw`, or `-` (O_PATH).
    pub fn word(self) -> &'static str {
        match (self.read, self.write) {
            (true, true) => "rw",
            (true, false) => "r",
            (false, true) => "w",
            (false, false) => "-",
        }
    }
}

/// What a descriptor's link says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// A path, or `socket:[INODE]`, `pipe:[INODE]`, `anon_inode:KIND`; cut to [`TARGET_BYTES`].
    pub target: Vec<u8>,
    /// What it may be used for.
    pub access: Access,
}

/// A thread that shares the application's table and has not exited: the first thread, or once that has exited another
/// one. `apart` has a table of its own. `None` when no thread has anything open.
pub fn owner(apart: Option<i32>) -> Option<i32> {
    let threads = procfs::thread_ids().ok()?;
    threads.into_iter().filter(|tid| Some(*tid) != apart).find(|tid| numbers(*tid).is_ok_and(|them| !them.is_empty()))
}

/// The open numbers in the table of thread `tid`, ascending.
pub fn numbers(tid: i32) -> Result<Vec<i32>> {
    let folder = File::open_at(libc::AT_FDCWD, path(tid, "fd", "")?.as_c_str(), libc::O_DIRECTORY)?;
    let own = folder.raw();
    let mut numbers = numbers_in(&folder)?;
    // Who has no table of his own sees his own reading.
    if procfs_tid() == Some(tid) {
        numbers.retain(|number| *number != own);
    }
    Ok(numbers)
}

fn procfs_tid() -> Option<i32> {
    crate::sys::process::proc_tid()
}

/// The numbers that an open folder `fd` lists.
fn numbers_in(folder: &File) -> Result<Vec<i32>> {
    let mut numbers: Vec<i32> = Vec::new();
    for_each_entry(folder, |name| numbers.extend(name.to_str().ok().and_then(|name| name.parse::<i32>().ok())))?;
    numbers.sort_unstable();
    Ok(numbers)
}

/// The pipes and sockets in the table of thread `tid`, as their links say: what else refers to one is an end of the same.
pub fn channels(tid: i32) -> Result<Vec<Vec<u8>>> {
    let targets = numbers(tid)?.into_iter().filter_map(|number| Some(read(tid, number).ok()?.target));
    Ok(targets.filter(|target| target.starts_with(b"pipe:[") || target.starts_with(b"socket:[")).collect())
}

/// What descriptor `number` of thread `tid` refers to; `ENOENT` when it is not open.
pub fn read(tid: i32, number: i32) -> Result<Link> {
    let path = path(tid, "fd", number)?;
    let mut buffer = [0; TARGET_BYTES];
    let target = read_link(path.as_c_str(), &mut buffer)?.to_vec();
    // The permissions of the link itself are those of the open file (proc_pid_fd(5)).
    let mode = files::status(path.as_c_str())?.st_mode;
    Ok(Link { target, access: Access { read: mode & 0o400 != 0, write: mode & 0o200 != 0 } })
}

/// Whether the link of descriptor `number` in the calling thread's table says `target`. Asks no file system, opens and
/// allocates nothing.
pub fn has_target(number: i32, target: &[u8]) -> bool {
    let mut path = Path::<64>::new();
    let written = write!(path, "/proc/thread-self/fd/{number}");
    written.is_ok() && read_link(path.as_c_str(), &mut [0; TARGET_BYTES]).is_ok_and(|found| found == target)
}

/// What the file that descriptor `number` of thread `tid` has open says of itself. On a network file system this may
/// wait for a server: ask [`crate::sys::mounts`] first.
pub fn status(tid: i32, number: i32) -> Result<stat::Status> {
    stat::at(path(tid, "fd", number)?.as_c_str())
}

/// The protocol that a socket says it is of, which may be in none of the tables: `TCP`, `AF_VSOCK`, `UNIX-STREAM`.
pub fn protocol(tid: i32, number: i32) -> Option<String> {
    if !crate::sys::filter::allows(crate::sys::filter::Call::AskSockets) {
        return None;
    }
    let mut buffer = [0; 64];
    let name = link::attribute(path(tid, "fd", number).ok()?.as_c_str(), c"system.sockprotoname", &mut buffer).ok()?;
    Some(Escaped(name.strip_suffix(b"\0").unwrap_or(name)).to_string())
}

/// `/proc/self/task/TID/FOLDER/NAME`.
fn path(tid: i32, folder: &str, name: impl fmt::Display) -> Result<Path<64>> {
    let mut path = Path::new();
    write!(path, "/proc/self/task/{tid}/{folder}/{name}").map_err(|_| Errno::ENAMETOOLONG)?;
    Ok(path)
}

/// Writes what a descriptor's link says, a socket by its addresses where `sockets` knows them.
pub fn write_target(target: &[u8], sockets: Option<&Sockets>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match sockets.and_then(|sockets| sockets.find(target)) {
        Some(socket) => write!(f, "{socket}"),
        None if target.len() >= TARGET_BYTES => write!(f, "{}...", Escaped(target)),
        None => write!(f, "{}", Escaped(target)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;
    use crate::sys::process;

    #[test]
    fn looks_into_the_table_of_the_thread() {
        std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_FILES).unwrap();
            let (own, end) = nix::unistd::pipe().unwrap();
            // High above anything that another test opens meanwhile.
            let high = nix::fcntl::fcntl(&own, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(700)).unwrap();
            let (first, second) = (read(process::tid(), own.as_raw_fd()).unwrap(), read(process::tid(), high).unwrap());
            assert_eq!(first, second);
            assert_eq!(first.access.word(), "r");
            assert_eq!(read(process::tid(), end.as_raw_fd()).unwrap().access.word(), "w");
            assert_eq!(read(process::pid(), high), Err(Errno::ENOENT));
            assert!(numbers(process::tid()).unwrap().contains(&high));
            assert!(!numbers(process::pid()).unwrap().contains(&high));
            assert_ne!(owner(Some(process::tid())), Some(process::tid()));
        })
        .join()
        .unwrap();
        assert_eq!(numbers(1 << 28), Err(Errno::ENOENT));
    }

    #[test]
    fn a_socket_without_address_knows_its_protocol() {
        use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
        let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None).unwrap();
        assert_eq!(protocol(process::pid(), socket.as_raw_fd()).as_deref(), Some("TCP"));
    }
}
