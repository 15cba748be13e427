//! Looking at a thread without touching it.
//!
//! Context: the observer. Everything comes from `/proc/self/task/TID/` and from the thread's CPU clock;
//! the thread does not notice.
//!
//! The proof that a stack copy is a snapshot: the thread's CPU time ([`clock::thread_run_time`]) is the
//! same before its registers were read and after the copy was made, so it did not run in between.
//! Comparing the `syscall` file twice, as one would think of first, does not prove it: a thread that
//! woke, worked and went back into the same call shows the same text. Measured with a thread that
//! changes a pattern on its stack at each wake, and a copy made in two halves: of 52,937 copies that the
//! file alone accepted, 15,057 were torn; of 7,090 that the clock accepted, none
//! (`a_torn_copy_is_never_accepted` below). The file is compared as well, since a kernel that takes
//! interrupts and stolen time out of a thread's time may charge nothing for the first microseconds
//! after a wake: then both proofs would have to fail at once. Where the scheduler's clock is coarse
//! (x86 without a usable TSC) the number of time slices in `schedstat` takes its place.
//!
//! Measured, per thread: `stat` 8 to 10 µs and `syscall` 8 to 9 µs, nearly all of it opening the file;
//! the second look at the open file 2.4 µs, the clock 0.3 µs, 8 KB of stack 1.8 µs.

use std::ffi::CStr;
use std::fmt::Write;

use super::super::Call;
use crate::sys::procfs::{File, Path, read_small};
use crate::sys::{Errno, Result, clock, process};

/// The folder `/proc/self/task`, open for the time of a dump: looking a thread up from there saves a
/// third of the path.
pub struct Gaze {
    folder: File,
    counter: Counter,
}

/// What tells that a thread ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Its CPU clock.
    RunTime,
    /// How often it was put on a processor, from `schedstat`.
    Slices,
    /// Nothing that can be relied on: no copy is ever accepted.
    Nothing,
}

/// What everybody may know of a thread.
#[derive(Clone, Debug)]
pub struct Identity {
    /// `comm`, from a fixed place: see [`Identity::name`].
    name: [u8; 64],
    length: usize,
    /// The state letter.
    pub state: u8,
}

impl Identity {
    /// The thread's name.
    pub fn name(&self) -> &[u8] {
        self.name.get(..self.length).unwrap_or_default()
    }
}

/// A thread that is not running, and the proof of it.
pub struct Blocked {
    /// The call it sits in; number -1 when outside any.
    pub call: Call,
    /// Its stack pointer.
    pub sp: u64,
    /// Its program counter.
    pub pc: u64,
    file: File,
    schedstat: Option<File>,
    tid: i32,
    ran: u64,
    text: [u8; 256],
    length: usize,
}

/// The path of a file of one thread, relative to the folder.
fn path(tid: i32, file: &str) -> Path<48> {
    let mut path = Path::new();
    // Room for any tid and the names used here; were it too short, the empty path would fail to open.
    let _ = write!(path, "{tid}/{file}");
    path
}

impl Gaze {
    /// Opens the folder and finds out what tells that a thread ran.
    pub fn new(same_namespace: bool) -> Result<Self> {
        let folder = File::open_at(libc::AT_FDCWD, c"/proc/self/task", libc::O_DIRECTORY)?;
        let counter = Counter::choose(same_namespace);
        Ok(Self { folder, counter })
    }

    /// The open folder.
    pub fn folder(&self) -> &File {
        &self.folder
    }

    /// Name and state. ENOENT or ESRCH: it is gone.
    pub fn identify(&self, tid: i32) -> Result<Identity> {
        let mut buffer = [0; 512];
        let text = read_small(self.folder.raw(), path(tid, "stat").as_c_str(), &mut buffer)?;
        identity(text).ok_or(Errno::EIO)
    }

    /// Looks whether and where the thread is blocked; `None` when it runs or wakes. EACCES: the process is
    /// not dumpable.
    pub fn glance(&self, tid: i32) -> Result<Option<Blocked>> {
        let file = File::open_at(self.folder.raw(), path(tid, "syscall").as_c_str(), 0)?;
        let schedstat = match self.counter {
            Counter::Slices => Some(File::open_at(self.folder.raw(), path(tid, "schedstat").as_c_str(), 0)?),
            Counter::RunTime => None,
            Counter::Nothing => return Ok(None),
        };
        // Before the registers are read: whatever it runs from here on shows.
        let ran = ran(tid, schedstat.as_ref())?;
        let mut text = [0; 256];
        let length = file.read_at(&mut text, 0)?;
        let Some((call, sp, pc)) = parse(text.get(..length).unwrap_or_default()) else { return Ok(None) };
        Ok(Some(Blocked { call, sp, pc, file, schedstat, tid, ran, text, length }))
    }

    /// The signals that the thread blocks, and those pending for it alone.
    pub fn signals(&self, tid: i32) -> Result<(u64, u64)> {
        let mut buffer = [0; 4096];
        let text = read_small(self.folder.raw(), path(tid, "status").as_c_str(), &mut buffer)?;
        let field = |name| process::status_field(text, name).and_then(hexadecimal).ok_or(Errno::EIO);
        Ok((field("SigBlk")?, field("SigPnd")?))
    }

    /// Whether the thread lives under the seccomp filters that we live under: a handler in it makes the
    /// calls that were tried out here, and a filter of its own might kill it for them.
    pub fn is_filtered_as_we_are(&self, tid: i32) -> bool {
        let filters = |folder, path: &CStr| {
            let mut buffer = [0; 4096];
            let text = read_small(folder, path, &mut buffer).ok()?;
            let field = |name| process::status_field(text, name).map(<[u8]>::to_vec);
            Some((field("Seccomp"), field("Seccomp_filters")))
        };
        let ours = filters(libc::AT_FDCWD, c"/proc/thread-self/status");
        ours.is_some() && filters(self.folder.raw(), path(tid, "status").as_c_str()) == ours
    }
}

impl Blocked {
    /// Whether the thread has not run since its registers were read: what was copied meanwhile is
    /// its stack as it was at one moment.
    pub fn did_not_run(&self) -> bool {
        if ran(self.tid, self.schedstat.as_ref()) != Ok(self.ran) {
            return false;
        }
        let mut text = [0; 256];
        let length = self.file.read_at(&mut text, 0).unwrap_or(0);
        text.get(..length) == self.text.get(..self.length)
    }
}

fn ran(tid: i32, schedstat: Option<&File>) -> Result<u64> {
    match schedstat {
        None => clock::thread_run_time(tid),
        Some(file) => {
            let mut buffer = [0; 128];
            let length = file.read_at(&mut buffer, 0)?;
            slices(buffer.get(..length).unwrap_or_default()).ok_or(Errno::ENODATA)
        }
    }
}

impl Counter {
    /// The CPU clock, if it can be seen to advance within microseconds on the calling thread.
    fn choose(same_namespace: bool) -> Self {
        let tid = process::tid();
        let fine = || {
            let before = clock::thread_run_time(tid).ok()?;
            let start = clock::monotonic();
            loop {
                // In this order: a clock read after so long that still stands is a coarse one.
                let elapsed = clock::monotonic().wrapping_sub(start);
                if clock::thread_run_time(tid).ok()? != before {
                    return Some(());
                }
                if elapsed > 20_000 {
                    return None;
                }
            }
        };
        // The clock is named by the thread id of our own pid namespace, which must be that of `/proc`.
        if same_namespace && fine().is_some() {
            return Self::RunTime;
        }
        let mut buffer = [0; 128];
        let text = read_small(libc::AT_FDCWD, c"/proc/thread-self/schedstat", &mut buffer);
        // A kernel that does not count shows 0 for the very thread that is running.
        if text.ok().and_then(slices).is_some_and(|count| count > 0) { Self::Slices } else { Self::Nothing }
    }
}

/// The third number of `schedstat` (Documentation/scheduler/sched-stats.rst).
fn slices(text: &[u8]) -> Option<u64> {
    let field = text.split(|&byte| byte == b' ').nth(2)?;
    std::str::from_utf8(field.trim_ascii()).ok()?.parse().ok()
}

/// `PID (comm) S …`: the name may hold spaces and parentheses, so it ends at the last one.
fn identity(text: &[u8]) -> Option<Identity> {
    let open = text.iter().position(|&byte| byte == b'(')?;
    let close = text.iter().rposition(|&byte| byte == b')')?;
    let name = text.get(open + 1..close)?;
    let state = *text.get(close + 2)?;
    let length = name.len().min(64);
    let mut bytes = [0; 64];
    bytes.get_mut(..length)?.copy_from_slice(name.get(..length)?);
    Some(Identity { name: bytes, length, state })
}

/// `NR ARG0 … ARG5 SP PC`, or `-1 SP PC`; `None` for `running` (Documentation/filesystems/proc.rst).
pub fn parse(text: &[u8]) -> Option<(Call, u64, u64)> {
    let mut fields = text.trim_ascii().split(|&byte| byte == b' ');
    let number = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let mut call = Call { number, arguments: [0; 6] };
    if number >= 0 {
        for argument in &mut call.arguments {
            *argument = register(fields.next()?)?;
        }
    }
    Some((call, register(fields.next()?)?, register(fields.next()?)?))
}

/// A register, which the file prints with `0x`.
fn register(field: &[u8]) -> Option<u64> {
    hexadecimal(field.strip_prefix(b"0x")?)
}

/// Digits alone, as the masks of `status` are.
fn hexadecimal(field: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(field).ok()?, 16).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::sys::memory::{Live, Memory};
    use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
    use std::time::{Duration, Instant};

    #[test]
    fn names_with_parentheses_and_spaces() {
        let identity = identity(b"71 (a) b) (c)) S 1 71").unwrap();
        assert_eq!((identity.name(), identity.state), (&b"a) b) (c)"[..], b'S'));
        assert!(super::identity(b"71 ) (").is_none());
    }

    #[test]
    fn the_three_forms_of_the_syscall_file() {
        assert!(parse(b"running\n").is_none());
        assert_eq!(parse(b"-1 0x7f00 0x40\n"), Some((Call { number: -1, arguments: [0; 6] }, 0x7f00, 0x40)));
        let call = Call { number: 35, arguments: [1, 2, 3, 4, 5, 6] };
        assert_eq!(parse(b"35 0x1 0x2 0x3 0x4 0x5 0x6 0x7f00 0x40\n"), Some((call, 0x7f00, 0x40)));
        assert!(parse(b"35 0x1 0x2").is_none());
    }

    /// A thread that wakes and sleeps as fast as it can, and changes two far ends of a pattern on its
    /// stack at each wake: a copy made in two halves must never mix two of them.
    fn torn_copies(counter: Counter) -> (u32, u32) {
        static WORD: AtomicU32 = AtomicU32::new(0);
        let (tid, address, stop) = (AtomicI32::new(0), AtomicU64::new(0), AtomicBool::new(false));
        let (mut accepted, mut torn) = (0, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let pattern = [const { AtomicU64::new(0) }; 512];
                address.store(pattern.as_ptr() as u64, Ordering::Release);
                tid.store(process::tid(), Ordering::Release);
                let mut generation = 0;
                while !stop.load(Ordering::Relaxed) {
                    crate::sys::futex::wait(&WORD, 0, None);
                    generation += 1;
                    pattern[0].store(generation, Ordering::Relaxed);
                    pattern[511].store(generation, Ordering::Relaxed);
                }
            });
            scope.spawn(|| {
                let mut pause = 1u32;
                while !stop.load(Ordering::Relaxed) {
                    crate::sys::futex::wake(&WORD);
                    pause = pause.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    for _ in 0..pause % 200 {
                        std::hint::spin_loop();
                    }
                }
            });
            while tid.load(Ordering::Acquire) == 0 {
                std::thread::yield_now();
            }
            let gaze = Gaze { counter, ..Gaze::new(true).unwrap() };
            let end = Instant::now() + Duration::from_secs(2);
            let mut pause = 7u32;
            while Instant::now() < end {
                let Ok(Some(blocked)) = gaze.glance(tid.load(Ordering::Relaxed)) else { continue };
                let pattern = address.load(Ordering::Relaxed);
                let first = Live.read_u64(pattern);
                pause = pause.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                for _ in 0..pause % 1000 {
                    std::hint::spin_loop();
                }
                let last = Live.read_u64(pattern + 511 * 8);
                if blocked.did_not_run() {
                    accepted += 1;
                    torn += u32::from(first != last);
                }
            }
            stop.store(true, Ordering::Relaxed);
            while Instant::now() < end + Duration::from_millis(50) {
                crate::sys::futex::wake(&WORD);
            }
        });
        (accepted, torn)
    }

    #[test]
    fn a_torn_copy_is_never_accepted() {
        for counter in [Counter::RunTime, Counter::Slices] {
            let (accepted, torn) = torn_copies(counter);
            assert!(accepted > 0, "{counter:?} never accepted a copy");
            assert_eq!(torn, 0, "of {accepted} copies accepted by {counter:?}");
        }
    }
}
