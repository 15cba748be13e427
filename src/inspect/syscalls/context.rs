//! Where the decoder of system calls looks things up.

use std::fmt::{self, Write};
use std::time::Duration;

use crate::inspect::descriptors::{TARGET_BYTES, write_target};
use crate::inspect::sockets::Sockets;
use crate::sys::link::read_link;
use crate::sys::memory::{Live, Memory};
use crate::sys::procfs::Path;
use crate::sys::{Errno, clock as clocks};

/// What decoding asks about the process whose call it decodes.
pub trait Context {
    /// Its memory.
    fn memory(&self) -> &dyn Memory;

    /// Writes what descriptor `number` refers to, a blank before it; nothing when that cannot be told.
    fn write_descriptor(&self, number: i32, f: &mut fmt::Formatter<'_>) -> fmt::Result;

    /// What is known of the futex word that the thread waits for.
    fn word(&self) -> Option<&str> {
        None
    }

    /// What `clock` (`CLOCK_*`) shows now; `None` when it is not ours to read.
    fn now(&self, clock: i32) -> Option<Duration>;
}

/// A living thread of this process.
pub struct ThreadContext<'a> {
    tid: i32,
    sockets: Option<&'a Sockets>,
    word: Option<&'a str>,
}

impl<'a> ThreadContext<'a> {
    /// Looks descriptors up in the table of thread `tid`: threads may have tables of their own (as the
    /// observer does), and `/proc/self/fd` is empty once the first thread has exited. With `sockets`,
    /// prints the addresses of a socket instead of its inode.
    pub fn new(tid: i32, sockets: Option<&'a Sockets>) -> Self {
        Self { tid, sockets, word: None }
    }

    /// With this about the futex word that the thread waits for: which lock it is, who holds it.
    pub fn with_word(self, word: Option<&'a str>) -> Self {
        Self { word, ..self }
    }
}

impl Context for ThreadContext<'_> {
    fn memory(&self) -> &dyn Memory {
        &Live
    }

    fn write_descriptor(&self, number: i32, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut path = Path::<64>::new();
        write!(path, "/proc/self/task/{}/fd/{number}", self.tid)?;
        let mut buffer = [0; TARGET_BYTES];
        let target = match read_link(path.as_c_str(), &mut buffer) {
            Ok(target) => target,
            Err(Errno::ENOENT) => return f.write_str(" (not open)"),
            Err(_) => return Ok(()),
        };
        f.write_str(" ")?;
        write_target(target, self.sockets, f)
    }

    fn word(&self) -> Option<&str> {
        self.word
    }

    fn now(&self, clock: i32) -> Option<Duration> {
        // The CPU clock of a thread is that of the thread that asks.
        if clock < 0 || clock == libc::CLOCK_THREAD_CPUTIME_ID {
            return None;
        }
        clocks::now(clock).ok()
    }
}
