//! The descriptors of the application: number, what each refers to, flags, position.
//!
//! Context: the observer, whose own table is another one: descriptors are looked up by the thread that
//! owns them. Nothing is opened but files of `/proc`; a descriptor that is closed meanwhile is left out.

#![forbid(unsafe_code)]

use std::fmt::{self, Write};

use super::sockets::Sockets;
use super::strings::Escaped;
use super::syscalls::OpenFlags;
use super::syscalls::numbers::O_LARGEFILE;
use crate::sys::link::read_link;
use crate::sys::procfs::{File, Path, for_each_entry, read_small};
use crate::sys::{Errno, Result};

/// The most of a target that is read; longer ones are printed with `...` at their end.
pub const TARGET_BYTES: usize = 1024;

/// One open descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Its number.
    pub number: i32,
    /// What its link says: a path, or `socket:[INODE]`, `pipe:[INODE]`, `anon_inode:KIND`; cut to [`TARGET_BYTES`].
    pub target: Vec<u8>,
    /// The flags of `open`, with `O_CLOEXEC` where the descriptor has it; `None` when the kernel would not say.
    pub flags: Option<i32>,
    /// The position in the file; 0 for what has none.
    pub position: Option<u64>,
}

/// The descriptors of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Ascending by number, as many as were asked for.
    pub descriptors: Vec<Descriptor>,
    /// How many there were in all.
    pub total: usize,
}

/// The first `limit` descriptors in the table of thread `tid`: that of the first thread for the
/// application's, or of any other that lives once the first has exited.
pub fn list(tid: i32, limit: usize) -> Result<Listing> {
    let mut numbers = numbers(tid)?;
    let total = numbers.len();
    numbers.truncate(limit);
    Ok(Listing { descriptors: numbers.into_iter().filter_map(|number| read(tid, number).ok()).collect(), total })
}

/// The numbers that are open in the table of thread `tid`, ascending.
pub fn numbers(tid: i32) -> Result<Vec<i32>> {
    let folder = File::open_at(libc::AT_FDCWD, path(tid, "fd", "")?.as_c_str(), libc::O_DIRECTORY)?;
    let mut numbers: Vec<i32> = Vec::new();
    for_each_entry(&folder, |name| numbers.extend(name.to_str().ok().and_then(|name| name.parse::<i32>().ok())))?;
    numbers.sort_unstable();
    Ok(numbers)
}

/// Descriptor `number` in the table of thread `tid`; `ENOENT` when it is not open.
pub fn read(tid: i32, number: i32) -> Result<Descriptor> {
    let mut buffer = [0; TARGET_BYTES];
    let target = read_link(path(tid, "fd", number)?.as_c_str(), &mut buffer)?.to_vec();
    let info = read_small(libc::AT_FDCWD, path(tid, "fdinfo", number)?.as_c_str(), &mut buffer).unwrap_or_default();
    let (position, flags) = parse_info(info);
    Ok(Descriptor { number, target, flags, position })
}

/// `/proc/self/task/TID/FOLDER/NAME`.
fn path(tid: i32, folder: &str, name: impl fmt::Display) -> Result<Path<64>> {
    let mut path = Path::new();
    write!(path, "/proc/self/task/{tid}/{folder}/{name}").map_err(|_| Errno::ENAMETOOLONG)?;
    Ok(path)
}

/// The fields `pos` and `flags` (octal) of a file of `/proc/PID/fdinfo` (man 5 proc_pid_fdinfo).
fn parse_info(info: &[u8]) -> (Option<u64>, Option<i32>) {
    let field = |name: &[u8]| {
        let value = info.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(name))?;
        std::str::from_utf8(value.trim_ascii()).ok()
    };
    let flags = field(b"flags:").and_then(|flags| i32::from_str_radix(flags, 8).ok());
    (field(b"pos:").and_then(|position| position.parse().ok()), flags.map(|flags| flags & !O_LARGEFILE))
}

/// Writes what a descriptor's link says, a socket by its addresses where `sockets` knows them.
pub fn write_target(target: &[u8], sockets: Option<&Sockets>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match sockets.and_then(|sockets| sockets.find(target)) {
        Some(socket) => write!(f, "{socket}"),
        None if target.len() >= TARGET_BYTES => write!(f, "{}...", Escaped(target)),
        None => write!(f, "{}", Escaped(target)),
    }
}

impl Descriptor {
    /// One line: `7 TCP 127.0.0.1:7777 LISTEN O_RDWR|O_NONBLOCK`, `3 /var/log/app O_WRONLY|O_APPEND at 4711`.
    pub fn describe<'a>(&'a self, sockets: Option<&'a Sockets>) -> impl fmt::Display + 'a {
        Described { descriptor: self, sockets }
    }
}

struct Described<'a> {
    descriptor: &'a Descriptor,
    sockets: Option<&'a Sockets>,
}

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.descriptor.number)?;
        write_target(&self.descriptor.target, self.sockets, f)?;
        if let Some(flags) = self.descriptor.flags {
            write!(f, " {}", OpenFlags(flags))?;
        }
        match self.descriptor.position {
            Some(position) if position != 0 => write!(f, " at {position}"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;
    use std::os::fd::AsRawFd;

    use super::*;
    use crate::sys::process;

    #[test]
    fn lists_files_and_sockets() {
        let path = std::env::temp_dir().join(format!("manhole-descriptors-{}", std::process::id()));
        let mut file = std::fs::File::create(&path).unwrap();
        file.write_all(b"four").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let listing = list(process::pid(), usize::MAX).unwrap();
        assert!(listing.descriptors.is_sorted_by_key(|descriptor| descriptor.number));
        let sockets = Sockets::default();
        let shown = |open: &dyn AsRawFd| {
            let descriptor = listing.descriptors.iter().find(|found| found.number == open.as_raw_fd()).unwrap();
            descriptor.describe(Some(&sockets)).to_string()
        };
        let (number, name) = (file.as_raw_fd(), path.display());
        assert_eq!(shown(&file), format!("{number} {name} O_WRONLY|O_CLOEXEC at 4"));
        let (number, address) = (listener.as_raw_fd(), listener.local_addr().unwrap());
        assert_eq!(shown(&listener), format!("{number} TCP {address} LISTEN O_RDWR|O_CLOEXEC"));
        let first = list(process::pid(), 2).unwrap();
        assert_eq!(first.descriptors.len(), 2);
        assert!(first.total > 2);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn looks_into_the_table_of_the_thread() {
        std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_FILES).unwrap();
            let (own, _end) = nix::unistd::pipe().unwrap();
            let number = own.as_raw_fd();
            // High above anything that another test opens meanwhile.
            let high = nix::fcntl::fcntl(&own, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(700)).unwrap();
            assert_eq!(read(process::tid(), high).unwrap().target, read(process::tid(), number).unwrap().target);
            assert_eq!(read(process::pid(), high), Err(Errno::ENOENT));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn damaged_information_is_left_out() {
        assert_eq!(parse_info(b"pos:\t12\nflags:\t02000001\nmnt_id:\t9\n"), (Some(12), Some(0o2000001)));
        assert_eq!(parse_info(b"pos:\t-1\nflags:\t9\n"), (None, None));
        assert_eq!(parse_info(b"\xff\x00"), (None, None));
        assert_eq!(list(1 << 28, 10), Err(Errno::ENOENT));
    }
}
