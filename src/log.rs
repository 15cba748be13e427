//! One line, one `write`: `Manhole[PID:TIME]: …`, python-manhole's shape.
//!
//! Context: every thread of ours, the constructor and fork handlers. No allocation, no lock, no
//! descriptor held; a destination that would block costs the line, never the caller.

#![cfg_attr(not(test), forbid(unsafe_code))]

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::config::Destination;
use crate::sys::far::{self, Reached};
use crate::sys::leaked::Leaked;
use crate::sys::procfs::Path;
use crate::sys::{Errno, descriptors, output, process, table};

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
        && let Err(error) = place(number)
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

/// A terminal that is stopped or a pipe that nobody reads must not hold us up for longer.
const PATIENCE: Duration = Duration::from_millis(100);

fn send(line: &[u8]) -> Result<(), Errno> {
    match place(DESCRIPTOR.load(Ordering::Relaxed))? {
        Place::Here(number) => output::write_line(number, line, PATIENCE),
        Place::Copy(file) => file.write_line(line, PATIENCE),
    }
}

/// Where lines go, for the calling thread.
enum Place {
    /// A number in its table, which is the application's.
    Here(i32),
    /// Something that is closed afterwards.
    Copy(Reached),
}

/// Descriptor `number` of the application, or, for -1, the path.
fn place(number: i32) -> Result<Place, Errno> {
    match number {
        0.. if far::is_log_silent() => Err(far::AWAY),
        0.. if descriptors::is_private() => descriptors::borrow(number).map(|file| Place::Copy(Reached::adopt(file))),
        0.. => table::status_flags(number).map(|_| Place::Here(number)),
        _ => open_path().map(Place::Copy),
    }
}

fn open_path() -> Result<Reached, Errno> {
    let mut path = Path::<512>::new();
    path.write_str(PATH.get().map_or("", String::as_str)).map_err(|_| Errno::ENAMETOOLONG)?;
    let flags = nix::fcntl::OFlag::O_WRONLY | nix::fcntl::OFlag::O_APPEND | nix::fcntl::OFlag::O_CREAT;
    // A FIFO without a reader would hold up whoever logs, the application's start among them.
    let unblocking = nix::fcntl::OFlag::O_NOCTTY | nix::fcntl::OFlag::O_NONBLOCK;
    Reached::open(path.as_c_str(), (flags | unblocking).bits(), far::is_far_path(path.as_c_str().to_bytes()))
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_line_leaves_the_applications_record_locks_alone() {
        let path = std::env::temp_dir().join(format!("manhole-log-{}", std::process::id()));
        let file = std::fs::File::create(&path).unwrap();
        // SAFETY: flock is plain numbers, for which zero is a value.
        let mut lock: nix::libc::flock = unsafe { std::mem::zeroed() };
        lock.l_type = nix::libc::F_WRLCK as i16;
        nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_SETLK(&lock)).unwrap();
        // A lock of an open file meets those of the process, also of its own; that file stays open, or it would go.
        let other = std::fs::File::open(&path).unwrap();
        let is_locked = || {
            let mut wanted = lock;
            nix::fcntl::fcntl(&other, nix::fcntl::FcntlArg::F_OFD_GETLK(&mut wanted)).unwrap();
            wanted.l_type != nix::libc::F_UNLCK as i16
        };
        assert!(is_locked());
        configure(true, &Destination::Descriptor(file.as_raw_fd()));
        log!("a line of the application's thread");
        configure(true, &Destination::Descriptor(STANDARD_ERROR));
        assert!(is_locked());
        assert!(std::fs::read_to_string(&path).unwrap().contains("a line of the application's thread"));
        std::fs::remove_file(path).unwrap();
    }
}
