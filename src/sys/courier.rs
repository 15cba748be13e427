//! Somebody to make system calls that may never return.
//!
//! Context: the observer. Who opens, reads or looks at a file of a server that is gone waits for ever, and no signal
//! helps. So a process in our memory and descriptor table makes such a call. One that does not come back in time is left
//! where it is, and works again once it has come back. What the kernel may then still write to is a buffer of its own:
//! nothing else refers to memory of ours. It dies with the thread that made it, as far as the kernel lets it.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::sibling::{self, Mapping};
use super::{Errno, Result, raw};

/// Bytes of its buffer: of what a call reads or writes.
pub const ROOM: usize = 64 << 10;
const STACK: usize = 32 << 10;
/// Nanoseconds after which it looks whether its maker is still there.
const LONELY: u64 = 10_000_000_000;
/// Nanoseconds that it may take to end.
const END_PATIENCE: u64 = 100_000_000;

/// Whose turn it is; the kernel stores 0 when the process has ended, and [`sibling::wait_for_end`] waits while it is 1.
const END: u32 = 1;
const IDLE: u32 = 2;
const ASKED: u32 = 3;

/// What both sides share.
struct Desk {
    turn: AtomicU32,
    /// The call's number, and its arguments.
    call: [AtomicUsize; 7],
    /// What it returned: a value, and an errno or 0.
    result: [AtomicUsize; 2],
    stack: Mapping,
    buffer: Mapping,
}

/// The process.
pub struct Courier {
    /// Leaked when it does not come back.
    desk: Option<Box<Desk>>,
    pid: i32,
}

/// It has not come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Away;

impl Courier {
    /// Makes one.
    pub fn start() -> Result<Self> {
        let desk = Box::new(Desk {
            turn: AtomicU32::new(IDLE),
            call: [const { AtomicUsize::new(0) }; 7],
            result: [const { AtomicUsize::new(0) }; 2],
            stack: Mapping::with_guard(STACK)?,
            buffer: Mapping::with_guard(ROOM)?,
        });
        let argument = std::ptr::from_ref(&*desk).cast_mut().cast();
        // SAFETY: `run` keeps to raw calls and to the desk, which is kept until the process is gone: `drop` below.
        let pid = unsafe {
            sibling::spawn_in_our_memory(run, desk.stack.end(), argument, &desk.turn, sibling::Descriptors::Shared)?
        };
        Ok(Self { desk: Some(desk), pid })
    }

    /// Whether it has no call to make; it may have ended.
    pub fn is_back(&self) -> bool {
        self.desk.as_ref().is_some_and(|desk| desk.turn.load(Ordering::Acquire) != ASKED)
    }

    /// Whether it can be asked.
    pub fn is_ready(&self) -> bool {
        self.desk.as_ref().is_some_and(|desk| desk.turn.load(Ordering::Acquire) == IDLE)
    }

    /// What its last call returned. Only while it is ready.
    pub fn last(&self) -> Result<usize> {
        let Some(desk) = self.desk.as_ref().filter(|_| self.is_ready()) else { return Err(Errno::EAGAIN) };
        let [value, error] = desk.result.each_ref().map(|place| place.load(Ordering::Relaxed));
        if error == 0 { Ok(value) } else { Err(Errno::from_raw(error as i32)) }
    }

    /// The address of its buffer, which holds `bytes` from now on, as far as there is room. Only while it is back.
    pub fn put(&mut self, bytes: &[u8]) -> usize {
        let Some(desk) = self.desk.as_ref().filter(|_| self.is_back()) else { return 0 };
        let start = desk.buffer.range().start;
        // SAFETY: the buffer has ROOM bytes, and nobody else uses it while the process has no call to make.
        let room = unsafe { std::slice::from_raw_parts_mut(std::ptr::with_exposed_provenance_mut::<u8>(start), ROOM) };
        room.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        start
    }

    /// Copies the begin of its buffer. Only while it is back.
    pub fn get(&self, bytes: &mut [u8]) {
        let Some(desk) = self.desk.as_ref().filter(|_| self.is_back()) else { return };
        let start = desk.buffer.range().start;
        // SAFETY: as above.
        let room = unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance::<u8>(start), ROOM) };
        bytes.iter_mut().zip(room).for_each(|(to, from)| *to = *from);
    }

    /// Has it make system call `number`: what that returned.
    ///
    /// # Safety
    /// Pointers among the arguments must be valid for ever for what the call does with them: into the buffer.
    pub unsafe fn call(
        &mut self,
        number: libc::c_long,
        arguments: [usize; 6],
        nanoseconds: u64,
    ) -> std::result::Result<Result<usize>, Away> {
        let Some(desk) = self.desk.as_ref().filter(|_| self.is_ready()) else { return Err(Away) };
        let [place, places @ ..] = &desk.call;
        place.store(number as usize, Ordering::Relaxed);
        places.iter().zip(arguments).for_each(|(place, argument)| place.store(argument, Ordering::Relaxed));
        sibling::set_and_wake(&desk.turn, ASKED);
        match sibling::wait_while(&desk.turn, ASKED, nanoseconds) {
            ASKED => Err(Away),
            IDLE => Ok(self.last()),
            // It was killed.
            _ => Err(Away),
        }
    }
}

impl Drop for Courier {
    fn drop(&mut self) {
        let Some(desk) = self.desk.take() else { return };
        let away = desk.turn.compare_exchange(IDLE, END, Ordering::AcqRel, Ordering::Acquire) == Err(ASKED);
        sibling::wake(&desk.turn);
        if !sibling::wait_for_end(self.pid, &desk.turn, if away { 0 } else { END_PATIENCE }) {
            Box::leak(desk);
        }
    }
}

/// Its main function; `argument` is the [`Desk`].
extern "C" fn run(argument: *mut libc::c_void) -> libc::c_int {
    sibling::die_with_parent();
    // SAFETY: the observer keeps it until this process is gone.
    let desk = unsafe { &*argument.cast::<Desk>() };
    let parent = sibling::parent();
    loop {
        match desk.turn.load(Ordering::Acquire) {
            ASKED => {
                let [number, arguments @ ..] = desk.call.each_ref().map(|place| place.load(Ordering::Relaxed));
                // SAFETY: as `call` was promised.
                let (value, error) = match unsafe { raw::syscall6(number as libc::c_long, arguments) } {
                    Ok(value) => (value, 0),
                    Err(errno) => (0, errno as usize),
                };
                let [value_place, error_place] = &desk.result;
                value_place.store(value, Ordering::Relaxed);
                error_place.store(error, Ordering::Relaxed);
                sibling::set_and_wake(&desk.turn, IDLE);
            }
            END => return 0,
            turn => {
                // The pid stays the same over an `exec`, which leaves the memory to us alone.
                let is_left = || sibling::parent() != parent || sibling::is_alone_in_memory();
                if sibling::wait_while(&desk.turn, turn, LONELY) == turn && is_left() {
                    return 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: u64 = 10_000_000_000;

    #[test]
    fn it_makes_calls_and_one_that_hangs_is_left_to_it() {
        let mut courier = Courier::start().unwrap();
        let path = courier.put(b"/proc/self/comm\0");
        // SAFETY: the path is in the buffer.
        let file = unsafe { courier.call(libc::SYS_openat, [libc::AT_FDCWD as usize, path, 0, 0, 0, 0], PATIENCE) };
        let file = super::super::procfs::File::from_raw(file.unwrap().unwrap() as i32);
        assert!(file.read(&mut [0; 16]).unwrap() > 1);
        // SAFETY: no pointers.
        let refused = unsafe { courier.call(libc::SYS_close, [usize::MAX, 0, 0, 0, 0, 0], PATIENCE) };
        assert_eq!(refused, Ok(Err(Errno::EBADF)));
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&reader) as usize;
        let buffer = courier.put(b"");
        // SAFETY: it reads into the buffer.
        let hanging = unsafe { courier.call(libc::SYS_read, [number, buffer, 8, 0, 0, 0], 1_000_000) };
        assert_eq!(hanging, Err(Away));
        assert!(!courier.is_back());
        nix::unistd::write(&writer, b"late").unwrap();
        while !courier.is_ready() {
            std::thread::yield_now();
        }
        let mut found = [0; 4];
        courier.get(&mut found);
        assert_eq!(&found, b"late");
        let pid = courier.pid;
        drop(courier);
        assert_eq!(nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None), Err(Errno::ESRCH));

        // One that is away when it is wanted no more ends as soon as it can.
        let mut courier = Courier::start().unwrap();
        let buffer = courier.put(b"");
        // SAFETY: it reads into the buffer.
        let hanging = unsafe { courier.call(libc::SYS_read, [number, buffer, 8, 0, 0, 0], 1_000_000) };
        assert_eq!(hanging, Err(Away));
        let pid = courier.pid;
        drop(courier);
        while !sibling::reap(pid) {
            std::thread::yield_now();
        }
    }
}
