//! Who else has the same pipes and sockets open: the processes of this machine that we may look at.
//!
//! Context: the observer. A piece at a time: a machine may have 10,000 processes, and one of them 100,000 descriptors.
//! A link is read, nothing is opened but the folder itself.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fmt::Write;

use super::{Access, numbers_in};
use crate::sys::link::read_link_at;
use crate::sys::procfs::{File, Path, for_each_entry, read_small};
use crate::sys::{Errno, Result, files, process};

/// Descriptors that are looked at in one step.
const PIECE: usize = 2000;
/// Descriptors that are looked at in all.
const MOST: usize = 2_000_000;
/// Holders that are remembered of one pipe or socket.
const MOST_HOLDERS: usize = 64;

/// A descriptor of another process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The process, as `/proc` counts.
    pub pid: i32,
    /// Its name (`comm`).
    pub name: Vec<u8>,
    /// The number there.
    pub number: i32,
    /// What it may be used for.
    pub access: Access,
}

/// The search for them.
pub struct Search {
    wanted: BTreeMap<Vec<u8>, Vec<Holder>>,
    processes: std::vec::IntoIter<i32>,
    current: Option<Current>,
    looked: usize,
    /// Processes that the kernel did not let us look at.
    pub refused: usize,
    /// Not everything was looked at.
    pub is_cut: bool,
}

struct Current {
    pid: i32,
    folder: File,
    numbers: std::vec::IntoIter<i32>,
}

impl Search {
    /// For what these links say: `pipe:[INODE]`, `socket:[INODE]`, or the path of a named pipe.
    pub fn new(links: impl IntoIterator<Item = Vec<u8>>) -> Result<Self> {
        let folder = File::open_at(libc::AT_FDCWD, c"/proc", libc::O_DIRECTORY)?;
        let own = process::proc_pid().unwrap_or_else(process::pid);
        let mut processes = Vec::new();
        for_each_entry(&folder, |name| processes.extend(name.to_str().ok().and_then(|name| name.parse::<i32>().ok())))?;
        processes.retain(|pid| *pid != own);
        let wanted = links.into_iter().map(|link| (link, Vec::new())).collect();
        let processes = processes.into_iter();
        Ok(Self { wanted, processes, current: None, looked: 0, refused: 0, is_cut: false })
    }

    /// Looks on; false when everything was looked at.
    pub fn step(&mut self) -> bool {
        if self.wanted.is_empty() {
            return false;
        }
        if self.looked >= MOST {
            self.is_cut = true;
            return false;
        }
        let Some(current) = &mut self.current else {
            let Some(pid) = self.processes.next() else { return false };
            match open(pid) {
                Ok(current) => self.current = Some(current),
                Err(Errno::EACCES | Errno::EPERM) => self.refused += 1,
                // It has exited.
                Err(_) => (),
            }
            return true;
        };
        let mut buffer = [0; super::TARGET_BYTES];
        for number in current.numbers.by_ref().take(PIECE) {
            self.looked += 1;
            let mut name = Path::<16>::new();
            if write!(name, "{number}").is_err() {
                continue;
            }
            let Ok(link) = read_link_at(current.folder.raw(), name.as_c_str(), &mut buffer) else { continue };
            let Some(holders) = self.wanted.get_mut(link) else { continue };
            if holders.len() < MOST_HOLDERS {
                holders.extend(holder(current.pid, number));
            } else {
                self.is_cut = true;
            }
        }
        if current.numbers.len() == 0 {
            self.current = None;
        }
        true
    }

    /// The processes that were not looked at yet.
    pub fn left(&self) -> usize {
        self.processes.len()
    }

    /// Who has open what `link` says.
    pub fn holders(&self, link: &[u8]) -> &[Holder] {
        self.wanted.get(link).map(Vec::as_slice).unwrap_or_default()
    }
}

fn open(pid: i32) -> Result<Current> {
    let mut path = Path::<32>::new();
    write!(path, "/proc/{pid}/fd").map_err(|_| Errno::ENAMETOOLONG)?;
    let folder = File::open_at(libc::AT_FDCWD, path.as_c_str(), libc::O_DIRECTORY)?;
    let numbers = numbers_in(&folder)?.into_iter();
    Ok(Current { pid, folder, numbers })
}

fn holder(pid: i32, number: i32) -> Option<Holder> {
    let mut buffer = [0; 64];
    let comm = CString::new(format!("/proc/{pid}/comm")).ok()?;
    let name = read_small(libc::AT_FDCWD, &comm, &mut buffer).unwrap_or_default();
    let name = name.strip_suffix(b"\n").unwrap_or(name).to_vec();
    let link = CString::new(format!("/proc/{pid}/fd/{number}")).ok()?;
    let mode = files::status(&link).ok()?.st_mode;
    Some(Holder { pid, name, number, access: Access { read: mode & 0o400 != 0, write: mode & 0o200 != 0 } })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_childs_end_is_found() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pipe = child.stdin.as_ref().unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(pipe);
        let link = super::super::read(process::pid(), number).unwrap().target;
        let mut search = Search::new([link.clone()]).unwrap();
        while search.step() {}
        let holder = search.holders(&link).iter().find(|holder| holder.pid == child.id() as i32).unwrap();
        assert_eq!((holder.number, holder.access.word()), (0, "r"));
        // It may not have become `cat` yet when it was looked at, but has a name.
        assert!(!holder.name.is_empty());
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(!Search::new([]).unwrap().step());
    }
}
