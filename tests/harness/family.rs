//! Processes that a host made, or became: their manholes, threads and descriptors.
//!
//! Nothing here waits for a time to pass: a wait is for something to come true, and its end fails the test.

use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::host::{Host, socket_of, threads_of};
use super::session::Session;
use super::{DEADLINE, is_ours};

/// Waits until `condition`; the message tells what did not come true.
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "{what}: not in {DEADLINE:?}");
        sleep(Duration::from_millis(2));
    }
}

/// A process that is no child of this test: killed at drop, and its socket's name removed.
pub struct Relative(pub i32);

impl Relative {
    /// The one that `host` named last, in a line `child PID`.
    pub fn of(host: &mut Host) -> Self {
        host.wait_for_line("forked");
        let pid = host.lines().iter().rev().find_map(|line| line.strip_prefix("child ")?.parse().ok());
        Self(pid.unwrap_or_else(|| panic!("no `child PID`; {}", host.story())))
    }

    /// Its manhole, up to the first prompt, retrying until that stands.
    #[track_caller]
    pub fn connect(&self) -> Session {
        let mut session = None;
        until(&format!("the manhole of process {}", self.0), || {
            session = Session::open(&socket_of(self.0)).ok();
            session.is_some()
        });
        session.expect("a session")
    }

    /// Whether it runs, or is at least not collected yet.
    pub fn exists(&self) -> bool {
        Path::new(&format!("/proc/{}", self.0)).exists()
    }

    /// Sends it a signal.
    pub fn signal(&self, number: i32) {
        // SAFETY: plain system call.
        unsafe { libc::kill(self.0, number) };
    }
}

impl Drop for Relative {
    fn drop(&mut self) {
        self.signal(libc::SIGKILL);
        let _ = std::fs::remove_file(socket_of(self.0));
    }
}

/// How many threads of `pid` are ours. One that was just made is named like its maker: a thread that is not the
/// first and is not called anything else counts too, since our fixtures' children have no threads.
pub fn ours_of(pid: i32) -> usize {
    threads_of(pid).into_iter().filter(|(tid, name)| is_ours(name) || *tid != pid).count()
}

/// What the descriptors of `pid` are open on, in order of their numbers.
pub fn descriptors_of(pid: i32) -> Vec<(i32, String)> {
    let folder = format!("/proc/{pid}/fd");
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let mut all: Vec<_> = entries
        .flatten()
        .filter_map(|entry| {
            let target = std::fs::read_link(entry.path()).ok()?;
            Some((entry.file_name().to_str()?.parse().ok()?, target.to_string_lossy().into_owned()))
        })
        .collect();
    all.sort_unstable();
    all
}

/// Device, inode and the time of the last change of the name at `path`: another socket there has others.
pub fn identity(path: &Path) -> Option<(u64, u64, i64)> {
    let status = std::fs::symlink_metadata(path).ok()?;
    Some((status.dev(), status.ino(), status.ctime_nsec()))
}

/// How many sockets listen under the name `path`, of all processes in our network namespace.
pub fn listeners_at(path: &Path) -> usize {
    let table = std::fs::read_to_string("/proc/net/unix").expect("/proc/net/unix");
    // Num RefCount Protocol Flags Type St Inode Path; __SO_ACCEPTCON is 0x10000 (proc(5), net/unix/af_unix.c).
    let listens = |line: &&str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.get(3) == Some(&"00010000") && words.get(7).is_some_and(|it| Path::new(it) == path)
    };
    table.lines().filter(listens).count()
}

/// Whether nobody answers at `path`: no such name, or no listener.
pub fn is_closed(path: &Path) -> bool {
    UnixStream::connect(path).is_err()
}
