//! Following the file that descriptor 2 has open, as `tail -F` does. Nothing of the application is touched.
//!
//! Context: the observer, in its own descriptor table, or the thread of an oneshot.
//!
//! A descriptor 2 that is pointed at another file (after a log rotation) tells nobody, so it is looked at once a
//! second while a session is on. The new file is followed from its beginning.

#![forbid(unsafe_code)]

use std::fmt::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;

use super::lines::Lines;
use super::note::Note;
use crate::sys::far::{self, Reached};
use crate::sys::inotify::Watch;
use crate::sys::link::read_link;
use crate::sys::procfs::Path;
use crate::sys::stat::Status;
use crate::sys::{Errno, filter};

/// What waits for the operator at most; more is skipped.
const MOST: u64 = 256 << 10;
/// How often descriptor 2 is looked at; and the file, when the kernel does not tell of its changes.
const CHECK: Duration = Duration::from_secs(1);
const CHECK_FILE: Duration = Duration::from_millis(100);

/// A file that is followed.
pub struct Tail {
    /// Descriptor 2 of the application, in `/proc`.
    path: Path<64>,
    file: Reached,
    identity: (u64, u64),
    offset: u64,
    watch: Option<Watch>,
    checked: Instant,
}

/// Why a file cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It is no regular file.
    NoFile,
    /// The kernel says no.
    Refused(Errno),
    /// So does its file server, or it is silent.
    Far(Errno),
}

/// What came of looking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// There may be more later.
    Following,
    /// Descriptor 2 has something else now that cannot be followed.
    Lost,
}

impl Tail {
    /// Follows what descriptor 2 of thread `tid` has open, from its end or its begin.
    pub fn open(tid: i32, from_begin: bool) -> Result<Self, Unfit> {
        let mut path = Path::new();
        write!(path, "/proc/self/task/{tid}/fd/2").map_err(|_| Unfit::Refused(Errno::ENAMETOOLONG))?;
        let (file, status) = open(&path)?;
        let watch = watch(&file);
        let offset = if from_begin { 0 } else { status.size };
        Ok(Self { path, file, identity: status.identity(), offset, watch, checked: Instant::now() })
    }

    /// What to wait for.
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(Watch::as_fd)
    }

    /// When to look though nothing happens.
    pub fn deadline(&self) -> Instant {
        self.checked + if self.watch.is_some() { CHECK } else { CHECK_FILE }
    }

    /// Appends what was written since the last look.
    pub fn read(&mut self, lines: &mut Lines, out: &mut Vec<u8>) -> Look {
        if let Some(watch) = &self.watch {
            watch.hush();
        }
        self.checked = Instant::now();
        self.follow(lines, out);
        match status(&self.path) {
            Ok(status) if status.identity() == self.identity => return Look::Following,
            Err(far::AWAY) => return Look::Following,
            _ => (),
        }
        // Not read from any more once we have gone: what came at the last moment.
        self.follow(lines, out);
        let Ok((file, status)) = open(&self.path) else { return Look::Lost };
        (self.watch, self.file, self.identity, self.offset) = (watch(&file), file, status.identity(), 0);
        self.follow(lines, out);
        Look::Following
    }

    fn follow(&mut self, lines: &mut Lines, out: &mut Vec<u8>) {
        let Ok(Status { size, .. }) = self.file.status() else { return };
        if size < self.offset {
            // Truncated, as `copytruncate` does.
            lines.end(out);
            self.offset = 0;
        }
        let behind = size - self.offset;
        if behind > MOST {
            lines.end(out);
            self.offset = size - MOST;
            let skipped = usize::try_from(behind - MOST).unwrap_or(usize::MAX);
            out.extend_from_slice(Note::skipped(skipped, true).bytes());
        }
        let mut buffer = [0; 16384];
        while self.offset < size {
            let room = usize::try_from(size - self.offset).map_or(buffer.len(), |left| left.min(buffer.len()));
            let Some(Ok(count @ 1..)) = buffer.get_mut(..room).map(|room| self.file.read_at(room, self.offset)) else {
                return;
            };
            self.offset += count as u64;
            lines.push(buffer.get(..count).unwrap_or_default(), out);
        }
    }
}

/// Whether it may be on a file server, as its link says.
fn is_far(path: &Path<64>) -> bool {
    read_link(path.as_c_str(), &mut [0; 4096]).is_ok_and(far::is_far_path)
}

fn status(path: &Path<64>) -> Result<Status, Errno> {
    far::status_at(path.as_c_str(), is_far(path))
}

/// Opens the file for reading, if it is one.
fn open(path: &Path<64>) -> Result<(Reached, Status), Unfit> {
    let far = is_far(path);
    let unfit = |error| if far { Unfit::Far(error) } else { Unfit::Refused(error) };
    let is_file = |status: Status| if status.is_regular() { Ok(status) } else { Err(Unfit::NoFile) };
    is_file(far::status_at(path.as_c_str(), far).map_err(unfit)?)?;
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = Reached::open(path.as_c_str(), flags.bits(), far).map_err(unfit)?;
    let status = is_file(file.status().map_err(unfit)?)?;
    Ok((file, status))
}

/// A filter that the application has added may kill it for a call that it does not make itself; and to watch a file on a
/// server may mean to wait for that.
fn watch(file: &Reached) -> Option<Watch> {
    if filter::has_grown() { None } else { Watch::on(file.near()?).ok() }
}
