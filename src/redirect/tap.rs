//! Descriptor 2 led through a pipe of ours, for a standard error that cannot be read a second time.
//!
//! Context: [`install`] and [`restore`] run on a thread in the application's descriptor table (the actor, or the one
//! thread that an oneshot has), [`before_fork`] and its two companions on a thread that forks. [`super::pump`] moves
//! the bytes. The heap's lock may be taken under ours, never the other way round; so does a fork.
//!
//! What the application can notice while a session is on: descriptor 2 is a pipe (`isatty`, `fstat`, terminal
//! `ioctl`s), and a close-on-exec descriptor of a high number keeps the original. For a few µs at the begin
//! a low number is in use, too. Its writes wake the pump instead of its reader, and a reader that went away is
//! no SIGPIPE until the session ends.
//!
//! The kernel has no step that replaces a descriptor only if it is still the same. So an application that leads
//! descriptor 2 elsewhere in the microsecond between our last look and the replacement finds that undone.
//!
//! Going back is not one step for the bytes: those in the pipe at that moment arrive after what is written directly
//! from then on. So going back waits for a moment of calm, which only an application that writes without a pause for
//! a second does not have. It then may find two neighbouring lines of the log exchanged; none is lost.

#![forbid(unsafe_code)]

use std::fmt;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;

use super::pump::{self, Slot};
use crate::sys::far;
use crate::sys::fork::Child;
use crate::sys::futex::{self, Guarded, Lock};
use crate::sys::passing::{Passing, high};
use crate::sys::procfs::File;
use crate::sys::stat::has;
use crate::sys::{Errno, filter, pipe, process, stat, table};

/// `/dev/kmsg`, in which each write is a record (Documentation/admin-guide/devices.txt).
const KMSG: (u32, u32) = (1, 11);
/// How long everything may take that waits for others.
const PATIENCE: Duration = Duration::from_secs(1);
/// The pipe is calm when nothing passed it for so long.
const CALM: Duration = Duration::from_millis(1);
/// How long a fork may wait for the pump; one whose standard error does not take anything waits so long each time.
const FORK: Duration = Duration::from_millis(50);

/// Why descriptor 2 is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is not open, or not for writing.
    NotWritable,
    /// It is this, and in a pipe the boundaries between its messages would be lost.
    Messages(&'static str),
    /// The pump would die with the application.
    FirstProcess,
    /// A seccomp filter that the application has added might kill it for what this takes.
    Filtered,
    /// A fork, or another manhole, is at it.
    Busy,
    /// The application has put something else there in the middle of it.
    Moved,
    /// The process ends.
    Ending,
    /// There is nobody in the application's table to do it.
    NoActor,
    /// It is a file on a server, which says this, or nothing.
    Far(Errno),
    /// What failed, and why.
    Failed(&'static str, Errno),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotWritable => f.write_str("descriptor 2 is not open for writing"),
            Self::Messages(what) => write!(f, "descriptor 2 is {what}"),
            Self::FirstProcess => f.write_str("in process 1 its last words could be lost"),
            Self::Filtered => f.write_str("the application has added a seccomp filter"),
            Self::Busy => f.write_str("descriptor 2 is being changed"),
            Self::Moved => f.write_str("the application has changed descriptor 2"),
            Self::Ending => f.write_str("the process ends"),
            Self::NoActor => f.write_str("there is no actor"),
            Self::Far(far::AWAY) => f.write_str("its file server does not answer"),
            Self::Far(error) => write!(f, "its file server says: {}", error.desc()),
            Self::Failed(what, error) => write!(f, "{what}: {}", error.desc()),
        }
    }
}

/// The pipes of a tap, as their maker names them to whoever installs it.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// The tap's number, by which it is known.
    pub number: u32,
    /// A thread in whose descriptor table they are.
    pub tid: i32,
    /// Both ends of the pipe for descriptor 2, and the operator's end to write to.
    pub numbers: [RawFd; 3],
    /// Which pipes they are: that for descriptor 2, the operator's.
    pub identities: [(u64, u64); 2],
}

/// What is installed.
struct State {
    /// Held while descriptors of ours are in the application's table for a moment, and by who forks.
    lock: Lock,
    /// The process that it is installed in, 0 for none.
    owner: AtomicI32,
    /// Which tap is installed, the last one that was given up, and the last that there is.
    number: AtomicU32,
    given_up: AtomicU32,
    numbers: AtomicU32,
    /// Which pipe.
    pipe: [AtomicU64; 2],
    /// Where the original is kept, and which file it is.
    saved: AtomicI32,
    original: [AtomicU64; 2],
    /// The process ends: nothing begins any more.
    closed: AtomicBool,
    /// The pipe was made not to block, as the original does not.
    nonblocking: AtomicBool,
    pump: Guarded<Option<&'static Slot>>,
}

static STATE: State = State {
    lock: Lock::new(),
    owner: AtomicI32::new(0),
    number: AtomicU32::new(0),
    given_up: AtomicU32::new(0),
    numbers: AtomicU32::new(0),
    pipe: [const { AtomicU64::new(0) }; 2],
    saved: AtomicI32::new(-1),
    original: [const { AtomicU64::new(0) }; 2],
    closed: AtomicBool::new(false),
    nonblocking: AtomicBool::new(false),
    pump: Guarded::new(None),
};

/// Gives the lock back.
struct Held;

impl Drop for Held {
    fn drop(&mut self) {
        STATE.lock.release();
    }
}

/// A number for a new tap.
pub fn number() -> u32 {
    STATE.numbers.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
}

/// Instead of a number: whichever tap there is.
pub const LAST: u32 = u32::MAX;

/// The session of tap `number` is over, and [`restore`] may put back what was there. Async-signal-safe.
pub fn give_up(number: u32) {
    let last = STATE.numbers.load(Ordering::Relaxed);
    STATE.given_up.fetch_max(number.min(last), Ordering::Release);
}

/// Puts the pipe on descriptor 2.
pub fn install(order: &Order) -> Result<(), Refusal> {
    let own = process::pid();
    if own == 1 {
        return Err(Refusal::FirstProcess);
    }
    if filter::has_grown() {
        return Err(Refusal::Filtered);
    }
    // The actor that was asked to may hang in something else.
    restore();
    if !STATE.lock.acquire_within(PATIENCE) {
        return Err(Refusal::Busy);
    }
    let _held = Held;
    if STATE.closed.load(Ordering::Relaxed) {
        return Err(Refusal::Ending);
    }
    if STATE.owner.load(Ordering::Relaxed) == own {
        return Err(Refusal::Busy);
    }
    let flags = table::status_flags(2).map_err(|_| Refusal::NotWritable)?;
    let mode = OFlag::from_bits_truncate(flags) & (OFlag::O_ACCMODE | OFlag::O_PATH);
    if mode != OFlag::O_WRONLY && mode != OFlag::O_RDWR {
        return Err(Refusal::NotWritable);
    }
    let original = stat::of_number(2).map_err(|error| Refusal::Failed("fstat", error))?;
    if let Some(what) = keeps_messages(&original, flags) {
        return Err(Refusal::Messages(what));
    }
    let saved = table::duplicate_above(2, high())
        .map_err(|error| Refusal::Failed("no descriptor is left to keep the original", error))?;
    let is_same = has(saved, original.identity());
    let result = if is_same { lead_through(order, flags, saved, original.identity()) } else { Err(Refusal::Moved) };
    if result.is_err() {
        table::close(saved);
    }
    result
}

/// What descriptor 2 is, if each `write` to it is a message of its own.
fn keeps_messages(status: &stat::Status, flags: i32) -> Option<&'static str> {
    if status.is_socket() && table::socket_type(2) != Ok(nix::libc::SOCK_STREAM) {
        return Some("a datagram socket");
    }
    if status.is_pipe() && flags & nix::libc::O_DIRECT != 0 {
        return Some("a pipe in packet mode (O_DIRECT)");
    }
    (status.character_device() == Some(KMSG)).then_some("/dev/kmsg")
}

/// The middle of [`install`]: descriptor 2 has the file `original`, and so has `saved`.
fn lead_through(order: &Order, flags: i32, saved: RawFd, original: (u64, u64)) -> Result<(), Refusal> {
    let [source, sink, operator] = order.numbers;
    let [pipe, operators] = order.identities;
    let nonblocking = OFlag::from_bits_truncate(flags) & OFlag::O_NONBLOCK;
    let open = |number, identity, flags: OFlag| {
        Passing::open(order.tid, number, identity, flags.bits())
            .map_err(|error| Refusal::Failed("cannot open the pipe through /proc", error))
    };
    let source = open(source, pipe, OFlag::O_RDONLY)?;
    let sink = open(sink, pipe, OFlag::O_WRONLY | nonblocking)?;
    let operator = open(operator, operators, OFlag::O_WRONLY | OFlag::O_NONBLOCK)?;
    let pump = pump::start(&pump::Order {
        source: (source.number(), pipe),
        original: (saved, original),
        operator: Some(operator.number()),
    });
    let pump = pump.map_err(|error| Refusal::Failed("the pump did not start", error))?;
    STATE.keep(saved, original, pipe, !nonblocking.is_empty(), pump);
    let close_on_exec = table::is_close_on_exec(2).unwrap_or(false);
    // Starting the pump took a while, in which the application may have put something else there.
    if !has(2, original) {
        return Err(Refusal::Moved);
    }
    let replaced = table::replace(2, sink.number(), close_on_exec).map_err(|error| Refusal::Failed("dup3", error));
    // Another thread may have closed the sink and opened something else there.
    if replaced.is_ok() && !has(2, pipe) {
        let _ = table::replace(2, saved, close_on_exec);
        return Err(Refusal::Busy);
    }
    if replaced.is_ok() {
        STATE.number.store(order.number, Ordering::Relaxed);
        STATE.owner.store(process::pid(), Ordering::Release);
    }
    replaced
}

impl State {
    fn keep(&self, saved: RawFd, original: (u64, u64), pipe: (u64, u64), nonblocking: bool, pump: &'static Slot) {
        let words = self.pipe.iter().chain(&self.original);
        words
            .zip([pipe.0, pipe.1, original.0, original.1])
            .for_each(|(slot, word)| slot.store(word, Ordering::Relaxed));
        self.saved.store(saved, Ordering::Relaxed);
        self.nonblocking.store(nonblocking, Ordering::Relaxed);
        self.pump.with(|slot| *slot = Some(pump));
    }

    fn pipe(&self) -> (u64, u64) {
        pair(&self.pipe)
    }

    fn is_here(&self) -> bool {
        self.owner.load(Ordering::Acquire) == process::pid()
    }

    /// The number that the original is kept at, if it is still there: applications close what they do not know.
    fn saved(&self) -> Option<RawFd> {
        Some(self.saved.load(Ordering::Relaxed)).filter(|saved| has(*saved, pair(&self.original)))
    }
}

fn pair([first, second]: &[AtomicU64; 2]) -> (u64, u64) {
    (first.load(Ordering::Relaxed), second.load(Ordering::Relaxed))
}

/// Where the application's own standard error is kept in its table meanwhile, and which file that is.
pub fn kept() -> Option<(RawFd, (u64, u64))> {
    STATE.is_here().then(|| (STATE.saved.load(Ordering::Relaxed), pair(&STATE.original)))
}

/// Whether descriptor 2 is the pipe.
pub fn is_in_place() -> bool {
    STATE.is_here() && has(2, STATE.pipe())
}

/// Where the original is kept, if the file `identity` is the pipe that stands in for it. Whether it still is there
/// only a thread in the application's table can tell: [`keeps`].
pub fn kept_for(identity: (u64, u64)) -> Option<RawFd> {
    (STATE.is_here() && identity == STATE.pipe()).then(|| STATE.saved.load(Ordering::Relaxed))
}

/// Whether the original is kept at `number` of the calling thread's table.
pub fn keeps(number: RawFd) -> bool {
    STATE.is_here() && STATE.saved() == Some(number)
}

/// Puts the original back, if it is for us to do: descriptor 2 is still the pipe, and the original still there. What
/// the application has put there itself stays. If it has closed the original, the pump goes on: nothing is lost.
/// Only after [`give_up`]: a thread that comes late must not end the next session's.
pub fn restore() {
    if STATE.is_here() && STATE.number.load(Ordering::Relaxed) <= STATE.given_up.load(Ordering::Acquire) {
        put_original_back();
    }
}

fn put_original_back() {
    if STATE.pump.with(|slot| *slot).is_some_and(Slot::is_gone) {
        revive();
    }
    if let Some(pump) = STATE.pump.with(|slot| *slot) {
        wait_for_calm(pump);
    }
    let held = STATE.lock.acquire_within(PATIENCE).then_some(Held);
    if STATE.is_here() {
        put_back();
        STATE.owner.store(0, Ordering::Release);
    }
    drop(held);
    // It ends with the last writer, which we usually were.
    if let Some(pump) = STATE.pump.with(|slot| *slot) {
        pump.wait_for_end(Duration::from_millis(20));
    }
}

/// A fork handler may run this: no allocation, no lock.
fn put_back() {
    let saved = STATE.saved();
    let mut done = true;
    if has(2, STATE.pipe()) {
        let Some(saved) = saved else { return };
        // What the application has changed of the pipe's flags meanwhile was meant for its standard error.
        let before = STATE.nonblocking.load(Ordering::Relaxed);
        let blocks_not = |number| table::status_flags(number).map(|flags| flags & OFlag::O_NONBLOCK.bits() != 0);
        if let (Ok(now), Ok(flags)) = (blocks_not(2), table::status_flags(saved))
            && now != before
        {
            let _ = table::set_status_flags(saved, flags ^ OFlag::O_NONBLOCK.bits());
        }
        let close_on_exec = table::is_close_on_exec(2).unwrap_or(false);
        // Unless another thread has put something else there meanwhile.
        done = !has(2, STATE.pipe()) || table::replace(2, saved, close_on_exec).is_ok();
    }
    if let Some(saved) = saved.filter(|_| done) {
        table::close(saved);
    }
}

/// Somebody has killed the pump. What is in the pipe is moved by a new one, which has no operator.
fn revive() {
    let Some(saved) = STATE.saved().filter(|_| has(2, STATE.pipe())) else { return };
    let flags = (OFlag::O_RDONLY | OFlag::O_CLOEXEC).bits();
    let Ok(source) = File::open_at(nix::libc::AT_FDCWD, c"/proc/thread-self/fd/2", flags) else { return };
    let (pipe, original) = (STATE.pipe(), pair(&STATE.original));
    let order = pump::Order { source: (source.raw(), pipe), original: (saved, original), operator: None };
    if let Ok(pump) = pump::start(&order) {
        STATE.pump.with(|slot| *slot = Some(pump));
    }
}

/// Waits until nothing has passed the pipe for [`CALM`]; at half of the time, until it is empty for a moment.
fn wait_for_calm(pump: &Slot) {
    let start = Instant::now();
    while start.elapsed() < PATIENCE && !pump.is_gone() && has(2, STATE.pipe()) {
        let reads = pump.reads();
        if pipe::waiting(2) == Ok(0) && pump.is_idle() {
            if start.elapsed() > PATIENCE / 2 {
                return;
            }
            futex::pause(CALM);
            if pipe::waiting(2) == Ok(0) && pump.is_idle() && pump.reads() == reads {
                return;
            }
        } else {
            futex::pause(Duration::from_micros(100));
        }
    }
}

/// The process ends: puts the original back, and waits until the log has what was written before.
pub fn finish() {
    STATE.closed.store(true, Ordering::Relaxed);
    if !STATE.is_here() {
        return;
    }
    let pump = STATE.pump.with(|slot| *slot);
    let flags = (OFlag::O_RDONLY | OFlag::O_NONBLOCK).bits();
    let reader = File::open_at(nix::libc::AT_FDCWD, c"/proc/thread-self/fd/2", flags);
    put_original_back();
    let (Some(pump), Ok(reader)) = (pump, reader) else { return };
    let start = Instant::now();
    while start.elapsed() < PATIENCE && !pump.is_gone() {
        if pipe::waiting(reader.raw()) == Ok(0) && pump.is_idle() {
            return;
        }
        futex::pause(Duration::from_micros(100));
    }
}

/// On a thread that forks: no descriptor of ours is in between, and what it has written so far has passed the pipe,
/// so that what the child writes comes after it.
pub fn before_fork() {
    STATE.lock.acquire();
    if !STATE.is_here() {
        return;
    }
    let pump = STATE.pump.with(|slot| *slot);
    let start = Instant::now();
    while let Some(pump) = pump.filter(|pump| !pump.is_gone()) {
        let calm = pipe::waiting(2) == Ok(0) && pump.is_idle();
        if calm || start.elapsed() > FORK || !has(2, STATE.pipe()) {
            break;
        }
        futex::pause(Duration::from_micros(20));
    }
}

/// On the same thread after it.
pub fn after_fork() {
    STATE.lock.release();
}

/// In the child: the original back on descriptor 2, of this table; the pump is the parent's.
pub fn after_fork_in_child(child: Child) {
    if STATE.owner.swap(0, Ordering::Relaxed) != 0 {
        put_back();
    }
    STATE.closed.store(false, Ordering::Relaxed);
    pump::forget(child);
    STATE.pump.replace_in_child(None, child);
    STATE.lock.release();
}
