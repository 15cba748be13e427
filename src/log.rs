//! One line, one `write`: `Manhole[PID:TIME]: …`, python-manhole's shape.
//!
//! Context: every thread of ours, the constructor and fork handlers. No allocation, no lock, no
//! descriptor held; a destination that would block costs the line, never the caller.

#![forbid(unsafe_code)]

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::poll::{PollFd, PollFlags};

use crate::config::Destination;
use crate::sys::leaked::Leaked;
use crate::sys::poll::poll;
use crate::sys::procfs::{File, Path};
use crate::sys::{Errno, descriptors, process};

/// A longer line is cut: a write of at most PIPE_BUF (4096) bytes is never mixed with another.
const LINE: usize = 1024;

/// Where lines go unless something else was said.
const STANDARD_ERROR: i32 = 2;

static SILENT: AtomicBool = AtomicBool::new(false);
/// The application's descriptor to write to, -1 for the path.
static DESCRIPTOR: AtomicI32 = AtomicI32::new(STANDARD_ERROR);
static PATH: Leaked<String> = Leaked::nothing();

/// Sets where lines go. A place that cannot be had now is told on standard error, once: it may come later.
pub fn configure(verbose: bool, destination: &Destination) {
    SILENT.store(!verbose, Ordering::Relaxed);
    let number = match destination {
        Destination::Descriptor(number) => *number,
        Destination::Path(path) => {
            PATH.set(path.clone());
            -1
        }
    };
    if number != STANDARD_ERROR
        && let Err(error) = open(number)
    {
        DESCRIPTOR.store(STANDARD_ERROR, Ordering::Relaxed);
        let error = error.desc();
        match destination {
            Destination::Path(path) => line(format_args!("verbose_destination: cannot open {path}: {error}")),
            Destination::Descriptor(number) => line(format_args!("verbose_destination: descriptor {number}: {error}")),
        }
    }
    DESCRIPTOR.store(number, Ordering::Relaxed);
}

/// Writes one line; newlines and control characters within it become spaces.
pub fn line(message: fmt::Arguments<'_>) {
    if SILENT.load(Ordering::Relaxed) {
        return;
    }
    let mut line = Line { bytes: [0; LINE], length: 0 };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let pid = process::pid();
    // Only a full buffer fails, and then the line is cut.
    let _ = write!(line, "Manhole[{pid}:{}.{:04}]: ", now.as_secs(), now.subsec_micros() / 100);
    let _ = line.write_fmt(message);
    let _ = send(line.finished());
}

/// `log!("…", …)`: one line.
#[macro_export]
macro_rules! log {
    ($($argument:tt)*) => { $crate::log::line(format_args!($($argument)*)) };
}

fn send(line: &[u8]) -> Result<(), Errno> {
    let file = open(DESCRIPTOR.load(Ordering::Relaxed))?;
    let descriptor = std::os::fd::AsFd::as_fd(&file);
    let mut ready = [PollFd::new(descriptor, PollFlags::POLLOUT)];
    // A terminal that is stopped or a pipe that nobody reads must not hold us up. One whose reader is gone
    // would raise SIGPIPE, in the constructor on a thread of the application: the line is not worth that.
    poll(&mut ready, Some(Duration::from_millis(100)))?;
    let [entry] = &ready;
    if entry.revents() == Some(PollFlags::POLLOUT) {
        file.write(line)?;
    }
    Ok(())
}

/// Descriptor `number` of the application, or, for -1, the path.
fn open(number: i32) -> Result<File, Errno> {
    if number >= 0 { descriptors::borrow(number) } else { open_path() }
}

fn open_path() -> Result<File, Errno> {
    let mut path = Path::<512>::new();
    path.write_str(PATH.get().map_or("", String::as_str)).map_err(|_| Errno::ENAMETOOLONG)?;
    let flags = nix::fcntl::OFlag::O_WRONLY | nix::fcntl::OFlag::O_APPEND | nix::fcntl::OFlag::O_CREAT;
    // A FIFO without a reader would hold up whoever logs, the application's start among them.
    let unblocking = nix::fcntl::OFlag::O_NOCTTY | nix::fcntl::OFlag::O_NONBLOCK;
    File::open_at(nix::libc::AT_FDCWD, path.as_c_str(), (flags | unblocking).bits())
}

struct Line {
    bytes: [u8; LINE],
    length: usize,
}

impl Line {
    /// The line with its newline, for which room was kept.
    fn finished(&mut self) -> &[u8] {
        if let Some(end) = self.bytes.get_mut(self.length) {
            *end = b'\n';
        }
        self.bytes.get(..=self.length).unwrap_or_default()
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if self.length + 1 >= LINE {
                return Err(fmt::Error);
            }
            let byte = if byte.is_ascii_control() { b' ' } else { byte };
            *self.bytes.get_mut(self.length).ok_or(fmt::Error)? = byte;
            self.length += 1;
        }
        Ok(())
    }
}
