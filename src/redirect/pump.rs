//! What runs between the application and its standard error while a session is on.
//!
//! Context: a process of its own in our memory, with a descriptor table of its own, made by [`super::tap`] and with
//! every signal blocked. It shares the thread pointer of the thread that made it, hence raw system calls only: no
//! errno, no thread-local, no allocation, no lock, no panic.
//!
//! It is a process, and not a thread, so that it outlives the application's death: what was written last before an
//! `abort` or a SIGKILL is in the pipe, and still reaches the log. It ends when nobody can write into the pipe any
//! more. What that costs, and what is done about it:
//! - It keeps the credentials that it was born with when the application drops its own, and the application could
//!   write into its memory. So before its first byte it gives up every system call but those of its loop
//!   ([`sandbox`]), with which it can do nothing that the application could not do.
//! - It would keep the memory of an application that died or made an `exec` while children write on. So it unmaps
//!   that ([`unmap`]) as soon as it is alone. Heap, stacks and shared memory go; code and statics stay, those of libc
//!   too.
//! - It leaves session and process group: a SIGKILL for the group kills the application alone.
//! - An application that made an `exec` does not know this child. Its end would send a SIGCHLD there, so it waits
//!   for its parent's end first.
//! - The kernel kills it with the application where it kills all that share a memory: out of memory, and for a core
//!   dump before Linux 5.16. What is on its way then (microseconds' worth) is lost. The same is true of the first
//!   process of a pid namespace at every death, which is why that one is not tapped.

use std::ops::Range;
use std::os::fd::{AsFd, RawFd};
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags};

use super::operator::Operator;
use crate::sys::fork::Child;
use crate::sys::futex::Guarded;
use crate::sys::poll::poll;
use crate::sys::procfs::File;
use crate::sys::sibling::{self, Descriptors, Mapping};
use crate::sys::{Errno, clock, process, sandbox, stat, table, thread, unmap};

/// Pumps at a time. One serves the session; others are of former sessions, whose children still write.
const PUMPS: usize = 8;
/// Bytes moved at a time, and the stack around that buffer.
const CHUNK: usize = 64 << 10;
const STACK: usize = CHUNK + (32 << 10);
/// PIPE_BUF: more than this is not written in one.
const PIECE: usize = 4096;
/// How long a pump may take to begin.
const PATIENCE: u64 = 1_000_000_000;
/// When the operator's end is gone: how soon it first looks whether the application is, and how seldom at last.
const FIRST_LOOK: Duration = Duration::from_millis(2);
const LAST_LOOK: Duration = Duration::from_secs(10);
/// All that a pump calls once it has begun.
const CALLS: [libc::c_long; 10] = [
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_ppoll,
    libc::SYS_restart_syscall,
    libc::SYS_futex,
    libc::SYS_close,
    libc::SYS_munmap,
    libc::SYS_unshare,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// States of a start; a failure is its errno.
const STARTING: u32 = 0;
const READY: u32 = u32::MAX;

/// What a pump and the process that made it share.
pub struct Slot {
    /// The pump; 0 for none, -1 while that changes.
    pid: AtomicI32,
    /// The process that made it.
    maker: AtomicI32,
    /// The descriptors it inherits: the pipe's end to read, the original, the operator's pipe or -1.
    inherited: [AtomicI32; 3],
    /// Which files the first two are: device and inode each.
    identities: [AtomicU64; 4],
    state: AtomicU32,
    /// 1 while the pipe is empty and everything that was in it has been passed on.
    idle: AtomicU32,
    /// How often it has read.
    reads: AtomicU32,
    /// Cleared by the kernel at its end.
    alive: AtomicU32,
    stack: AtomicPtr<Mapping>,
}

static SLOTS: [Slot; PUMPS] = [const { Slot::new() }; PUMPS];
/// Held by who reaps: nobody else may be between the end of a pump and the reuse of its number.
static REAPING: Guarded<()> = Guarded::new(());

/// What a new pump works with.
pub struct Order {
    /// The pipe's end to read from, and which pipe it is.
    pub source: (RawFd, (u64, u64)),
    /// The original, and which file it is.
    pub original: (RawFd, (u64, u64)),
    /// The end to write to of the operator's pipe, which does not block.
    pub operator: Option<RawFd>,
}

/// Starts a pump, and returns when it is ready to serve.
pub fn start(order: &Order) -> Result<&'static Slot, Errno> {
    reap();
    let slot = SLOTS.iter().find(|slot| slot.pid.compare_exchange(0, -1, Ordering::AcqRel, Ordering::Relaxed).is_ok());
    let slot = slot.ok_or(Errno::EUSERS)?;
    let started = slot.start(order);
    if started.is_err() {
        // Unless one is still on its way out: its slot is free once it was reaped.
        let _ = slot.pid.compare_exchange(-1, 0, Ordering::AcqRel, Ordering::Relaxed);
    }
    started.map(|()| slot)
}

/// Takes leave of pumps that have ended. True while there are others.
pub fn reap() -> bool {
    REAPING.with(|()| SLOTS.iter().filter(|slot| !slot.reap()).count() > 0)
}

/// In a forked child: the pumps are the parent's.
pub fn forget(child: Child) {
    REAPING.replace_in_child((), child);
    SLOTS.iter().for_each(|slot| slot.pid.store(0, Ordering::Relaxed));
}

impl Slot {
    const fn new() -> Self {
        Self {
            pid: AtomicI32::new(0),
            maker: AtomicI32::new(0),
            inherited: [const { AtomicI32::new(-1) }; 3],
            identities: [const { AtomicU64::new(0) }; 4],
            state: AtomicU32::new(STARTING),
            idle: AtomicU32::new(0),
            reads: AtomicU32::new(0),
            alive: AtomicU32::new(0),
            stack: AtomicPtr::new(std::ptr::null_mut()),
        }
    }

    /// Whether it has ended.
    pub fn is_gone(&self) -> bool {
        self.alive.load(Ordering::Acquire) == 0
    }

    /// Whether it has passed on all that it has read, and sleeps. Look at the pipe first: empty, then idle, means
    /// that everything has arrived.
    pub fn is_idle(&self) -> bool {
        self.idle.load(Ordering::Acquire) == 1
    }

    /// How often it has read.
    pub fn reads(&self) -> u32 {
        self.reads.load(Ordering::Acquire)
    }

    /// Waits until it is gone and reaped; false when that took longer than `patience`.
    pub fn wait_for_end(&self, patience: Duration) -> bool {
        let nanoseconds = u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX);
        let deadline = clock::monotonic().saturating_add(nanoseconds);
        loop {
            if REAPING.with(|()| self.reap()) {
                return true;
            }
            let left = deadline.saturating_sub(clock::monotonic());
            if left == 0 {
                return false;
            }
            // The kernel clears the word a moment before there is something to reap.
            let (word, time) = if self.is_gone() { (0, left.min(50_000)) } else { (1, left) };
            sibling::wait_while(&self.alive, word, time);
        }
    }

    fn start(&'static self, order: &Order) -> Result<(), Errno> {
        let (source, original) = (order.source, order.original);
        let numbers = [source.0, original.0, order.operator.unwrap_or(-1)];
        self.inherited.iter().zip(numbers).for_each(|(slot, number)| slot.store(number, Ordering::Relaxed));
        let identities = [source.1.0, source.1.1, original.1.0, original.1.1];
        self.identities.iter().zip(identities).for_each(|(slot, word)| slot.store(word, Ordering::Relaxed));
        self.maker.store(process::pid(), Ordering::Relaxed);
        self.state.store(STARTING, Ordering::Relaxed);
        self.idle.store(0, Ordering::Relaxed);
        self.alive.store(1, Ordering::Release);
        let stack = Box::new(Mapping::with_guard(STACK)?);
        let end = stack.end();
        self.stack.store(Box::into_raw(stack), Ordering::Release);
        let argument = std::ptr::from_ref(self).cast_mut().cast();
        // SAFETY: `run` keeps to raw calls; the slot is static, and the stack stays until the pump was reaped.
        let pid = unsafe { sibling::spawn_in_our_memory(run, end, argument, &self.alive, Descriptors::Copied) };
        let pid = pid.inspect_err(|_| self.free_stack())?;
        let deadline = clock::monotonic().saturating_add(PATIENCE);
        while self.state.load(Ordering::Acquire) == STARTING && !self.is_gone() && clock::monotonic() < deadline {
            sibling::wait_while(&self.state, STARTING, 5_000_000);
        }
        let error = match self.state.load(Ordering::Acquire) {
            READY => {
                self.pid.store(pid, Ordering::Release);
                return Ok(());
            }
            STARTING => Errno::ETIMEDOUT,
            errno => Errno::from_raw(errno as i32),
        };
        self.pid.store(pid, Ordering::Release);
        sibling::kill(pid);
        // Killed in a call that does not end, it is reaped before a later start.
        self.wait_for_end(Duration::from_nanos(PATIENCE));
        Err(error)
    }

    /// True when there is no pump any more.
    fn reap(&self) -> bool {
        let pid = self.pid.load(Ordering::Acquire);
        if pid > 0 && sibling::reap(pid) {
            self.free_stack();
            self.pid.store(0, Ordering::Release);
            return true;
        }
        pid <= 0
    }

    fn free_stack(&self) {
        let stack = self.stack.swap(std::ptr::null_mut(), Ordering::AcqRel);
        if !stack.is_null() {
            // SAFETY: from `Box::into_raw` in `start`, taken out by this swap alone; the pump is gone.
            drop(unsafe { Box::from_raw(stack) });
        }
    }
}

/// The pump's main function; `argument` is its [`Slot`].
extern "C" fn run(argument: *mut libc::c_void) -> libc::c_int {
    // SAFETY: slots are static.
    let slot = unsafe { &*argument.cast::<Slot>() };
    match Pump::settle(slot) {
        Ok(pump) => {
            sibling::set_and_wake(&slot.state, READY);
            pump.work();
            0
        }
        Err(error) => {
            sibling::set_and_wake(&slot.state, error as u32);
            1
        }
    }
}

/// The pump's view.
struct Pump {
    source: File,
    original: File,
    operator: Option<Operator>,
    /// The application's process, for `poll`.
    application: Option<File>,
    /// `/proc/self/maps`, until the memory was given back.
    maps: Option<File>,
    /// Part of that memory.
    slot: Option<&'static Slot>,
    stack: Range<usize>,
    /// When it looks for the application next.
    next_look: Duration,
}

impl Pump {
    /// Leaves everything that is not the pump's business.
    fn settle(slot: &'static Slot) -> Result<Self, Errno> {
        thread::set_name(c"Manhole pump");
        sibling::leave_session();
        sibling::leave_folder();
        let [source, original, operator] = &slot.inherited;
        // Out of the way of 0 to 2, where they go; the application may have closed those.
        let above = |number: &AtomicI32| table::duplicate_above(number.load(Ordering::Relaxed), 3).map(File::from_raw);
        let has_operator = operator.load(Ordering::Relaxed) >= 0;
        let (source, original) = (above(source)?, above(original)?);
        let operator = if has_operator { Some(above(operator)?) } else { None };
        // Another thread may have closed and opened since the numbers were written down.
        let [first, second, third, fourth] = &slot.identities;
        let words = [first, second, third, fourth].map(|word| word.load(Ordering::Relaxed));
        let (found, behind) = (stat::of(&source)?.identity(), stat::of(&original)?.identity());
        if [found.0, found.1, behind.0, behind.1] != words {
            return Err(Errno::EBADF);
        }
        table::replace(0, source.raw(), true)?;
        table::replace(1, original.raw(), true)?;
        operator.as_ref().map_or(Ok(()), |operator| table::replace(2, operator.raw(), true))?;
        drop((source, original, operator));
        table::close_from(if has_operator { 3 } else { 2 });
        let application = sibling::watch(slot.maker.load(Ordering::Relaxed)).ok();
        let maps = File::open(c"/proc/self/maps").ok();
        sandbox::keep_only(&CALLS)?;
        // SAFETY: set by `start` before this process was made, and not freed before its end.
        let stack = unsafe { slot.stack.load(Ordering::Acquire).as_ref() }.ok_or(Errno::EINVAL)?.range();
        Ok(Self {
            source: File::from_raw(0),
            original: File::from_raw(1),
            operator: has_operator.then(|| Operator::new(File::from_raw(2))),
            application,
            maps,
            slot: Some(slot),
            stack,
            next_look: FIRST_LOOK,
        })
    }

    fn work(mut self) {
        let mut buffer = [0; CHUNK];
        // Bytes at its begin that were read and not passed on yet.
        let mut kept = 0;
        loop {
            if kept == 0 || !self.has_more() {
                self.pass_on(buffer.get(..kept).unwrap_or_default());
                kept = 0;
                self.wait();
            }
            let count = match buffer.get_mut(kept..).map(|room| self.source.read(room)) {
                Some(Ok(count @ 1..)) => count,
                Some(Err(Errno::EINTR | Errno::EAGAIN)) => continue,
                _ => break,
            };
            let end = kept.saturating_add(count).min(CHUNK);
            // A full buffer may have cut a line in two. Its begin waits for its end, which is there already.
            let bytes = buffer.get(..end).unwrap_or_default();
            let lines =
                if end == CHUNK { bytes.iter().rposition(|byte| *byte == b'\n').map(|last| last + 1) } else { None };
            let done = lines.filter(|done| end - done < PIECE).unwrap_or(end);
            self.pass_on(bytes.get(..done).unwrap_or_default());
            buffer.copy_within(done.min(end)..end, 0);
            kept = end - done;
        }
        self.pass_on(buffer.get(..kept).unwrap_or_default());
        // Everything has arrived. Nobody shall wait for what these hold open.
        drop((self.source, self.original, self.operator));
        let Some(application) = &self.application else { return };
        let mut entry = [PollFd::new(application.as_fd(), PollFlags::POLLIN)];
        let has_made_exec = self.maps.as_ref().is_none_or(|_| sibling::is_alone_in_memory());
        if !has_made_exec || poll(&mut entry, Some(Duration::ZERO)) != Ok(0) {
            return;
        }
        // An `exec`: the process is there, with another memory, and knows nothing of this child.
        if let Some(maps) = self.maps {
            unmap::all_but(&self.stack, &maps);
        }
        while poll(&mut entry, None) != Ok(1) {}
    }

    fn pass_on(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.deliver(bytes);
            if let Some(operator) = &mut self.operator {
                operator.offer(bytes);
            }
        }
    }

    /// Whether something can be read now.
    fn has_more(&self) -> bool {
        poll(&mut [PollFd::new(self.source.as_fd(), PollFlags::POLLIN)], Some(Duration::ZERO)) == Ok(1)
    }

    /// Sleeps until something can be read.
    fn wait(&mut self) {
        loop {
            let mut events = self.look(Some(Duration::ZERO));
            if events == [PollFlags::empty(); 3] {
                self.tell_idle(1);
                let timeout = (self.operator.is_none() && self.maps.is_some()).then_some(self.next_look);
                events = self.look(timeout);
                self.tell_idle(0);
            }
            let [source, operator, application] = events;
            if operator.contains(PollFlags::POLLERR) {
                self.operator = None;
            } else if let Some(it) = self.operator.as_mut().filter(|_| !operator.is_empty()) {
                let _ = it.tell_skipped();
            }
            if !application.is_empty() {
                // Nobody reads the operator's pipe any more, though a child may hold it.
                (self.application, self.operator, self.next_look) = (None, None, FIRST_LOOK);
            }
            if !source.is_empty() {
                if let Some(slot) = self.slot {
                    slot.reads.fetch_add(1, Ordering::AcqRel);
                }
                return;
            }
            self.give_memory_back();
        }
    }

    /// What there is, of the source, the operator's pipe and the application.
    fn look(&self, timeout: Option<Duration>) -> [PollFlags; 3] {
        let source = self.source.as_fd();
        let operator = self.operator.as_ref().map_or(source, |operator| operator.as_fd());
        let has_to_tell = self.operator.as_ref().is_some_and(Operator::has_to_tell);
        // It always tells when nobody is left to read.
        let room = if has_to_tell { PollFlags::POLLOUT } else { PollFlags::empty() };
        let application = self.application.as_ref().map(|application| application.as_fd());
        let wanted = if application.is_some() { PollFlags::POLLIN } else { PollFlags::empty() };
        let mut all = [
            PollFd::new(source, PollFlags::POLLIN),
            PollFd::new(operator, room),
            PollFd::new(application.unwrap_or(source), wanted),
        ];
        let _ = poll(&mut all, timeout);
        let mut events = all.map(|entry| entry.revents().unwrap_or(PollFlags::empty()));
        if self.application.is_none()
            && let [source, _, application] = &mut events
        {
            // The place was taken by the source, whose end must not be told twice.
            *source |= *application;
            *application = PollFlags::empty();
        }
        events
    }

    fn tell_idle(&self, idle: u32) {
        if let Some(slot) = self.slot {
            slot.idle.store(idle, Ordering::Release);
        }
    }

    /// If nobody else uses the memory any more: gives it back, the slot included.
    fn give_memory_back(&mut self) {
        if self.operator.is_some() {
            return;
        }
        let Some(maps) = self.maps.as_ref().filter(|_| sibling::is_alone_in_memory()) else {
            self.next_look = self.next_look.saturating_mul(2).min(LAST_LOOK);
            return;
        };
        self.slot = None;
        unmap::all_but(&self.stack, maps);
        self.maps = None;
    }

    /// Writes all of `bytes` to the original, however long that takes, and whole lines at a time. What it does not take any more (a reader that
    /// is gone, a full disk) is dropped, as it would have been without us.
    fn deliver(&self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.original.write(piece(rest)) {
                Ok(0) => return,
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    let _ = poll(&mut [PollFd::new(self.original.as_fd(), PollFlags::POLLOUT)], None);
                }
                Err(_) => return,
            }
        }
    }
}

/// As many whole lines as the kernel writes into a pipe without mixing them with others' (man 7 pipe): the
/// application's were not mixed either, and other writers may share its log.
fn piece(bytes: &[u8]) -> &[u8] {
    let Some(first) = bytes.get(..PIECE) else { return bytes };
    let lines = first.iter().rposition(|byte| *byte == b'\n').map_or(PIECE, |last| last + 1);
    first.get(..lines).unwrap_or(first)
}
