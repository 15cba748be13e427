//! The stack of a thread: captured, unwound, named.
//!
//! Context: the observer (and the oneshot handler). The way of one stack through the room:
//! `capture` finds a thread's registers and a consistent view of its stack, [`unwind`] walks it with
//! the call frame information that [`modules`] finds in memory, and [`symbols`] names the frames
//! afterwards, for all threads at once, when no thread is stopped any more.
//!
//! This file holds the types that travel between them, and no logic.

pub mod arch;
pub mod capture;
pub mod modules;
pub mod symbols;
pub mod unwind;

use std::fmt;

/// The registers of a frame, by DWARF number, each possibly unknown.
///
/// A blocked thread shows only its stack pointer and program counter (`/proc/self/task/TID/syscall`);
/// callee-saved registers come back as inner frames are found to have saved them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Registers {
    known: u64,
    values: [u64; arch::REGISTERS],
}

impl Registers {
    /// All unknown.
    pub const fn unknown() -> Self {
        Self { known: 0, values: [0; arch::REGISTERS] }
    }

    /// Only program counter and stack pointer known.
    pub fn from_pc_sp(pc: u64, sp: u64) -> Self {
        let mut registers = Self::unknown();
        registers.set(arch::PC, pc);
        registers.set(arch::SP, sp);
        registers
    }

    /// The value of register `number`, if known.
    pub fn get(&self, number: u16) -> Option<u64> {
        let value = self.values.get(usize::from(number))?;
        (self.known >> number & 1 == 1).then_some(*value)
    }

    /// Makes register `number` known. A number that this architecture's unwinding does not follow is ignored.
    pub fn set(&mut self, number: u16, value: u64) {
        if let Some(slot) = self.values.get_mut(usize::from(number)) {
            *slot = value;
            self.known |= 1 << number;
        }
    }

    /// Makes every register unknown that `mask` has no bit for.
    pub fn keep(&mut self, mask: u64) {
        self.known &= mask;
    }

    /// Makes register `number` unknown.
    pub fn forget(&mut self, number: u16) {
        if usize::from(number) < arch::REGISTERS {
            self.known &= !(1 << number);
        }
    }
}

impl fmt::Debug for Registers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = (0..arch::REGISTERS as u16).filter_map(|number| Some((number, self.get(number)?)));
        f.debug_map().entries(known.map(|(number, value)| (number, format_args!("{value:#x}").to_string()))).finish()
    }
}

/// How the caller of a frame was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameSource {
    /// The innermost frame: the thread's own program counter.
    Innermost,
    /// Call frame information of the callee's module.
    Cfi,
    /// The callee has no call frame information (JIT code): the frame-pointer chain led here.
    FramePointer,
    /// The callee is a signal handler: this is where the kernel makes it return to.
    Trampoline,
    /// The callee is a signal frame: this frame was interrupted, not calling.
    Signal,
}

/// One frame of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The program counter: the instruction that runs (innermost, interrupted) or the one to return to.
    pub pc: u64,
    /// The stack pointer in this frame, as it is at `pc`.
    pub sp: u64,
    /// How this frame was found.
    pub source: FrameSource,
}

impl Frame {
    /// The address to name: inside the call instruction for a frame that is calling, since the
    /// return address may belong to the next line or even the next function.
    pub fn lookup_address(&self) -> u64 {
        match self.source {
            FrameSource::Innermost | FrameSource::Trampoline | FrameSource::Signal => self.pc,
            FrameSource::Cfi | FrameSource::FramePointer => self.pc.wrapping_sub(1),
        }
    }
}

/// Where unwinding ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// At the thread's first frame: its call frame information says that it has no caller.
    FirstFrame,
    /// Before that, and why.
    Truncated(Reason),
}

/// Why a stack is not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The caller's position depends on register `register`, unknown without stopping the thread.
    UnknownRegister {
        /// The DWARF number.
        register: u16,
        /// The program counter of the frame.
        pc: u64,
    },
    /// Stack memory at this address cannot be read.
    Unreadable(u64),
    /// The program counter lies in no executable mapping.
    NotCode(u64),
    /// The return address does not follow a call: the stack is damaged, or a coroutine begins here.
    NotCall(u64),
    /// The code there has neither call frame information nor a frame-pointer chain.
    NoUnwindInfo(u64),
    /// The call frame information of this program counter is damaged or beyond what is supported.
    BadUnwindInfo(u64),
    /// The frame chain does not move up the stack.
    NotAscending(u64),
    /// The limit on frames was reached.
    Depth(u32),
    /// The copy of a running thread's stack ends here: limit on bytes.
    CopyLimit(u64),
    /// The thread kept running between two looks, and could not be stopped.
    KeptMoving,
    /// The thread did not stop in time.
    NoAnswer,
    /// Stopping this thread would break a call that cannot be made whole (its number).
    WouldDisturb(i64),
    /// The kernel refused, with this errno.
    Refused(i32),
    /// The thread blocks the signal that would have captured it.
    SignalBlocked,
    /// The total bound on frames or time of one dump was reached.
    Budget,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::UnknownRegister { register, pc } => {
                write!(
                    f,
                    "the caller of {pc:#x} depends on {}, which the kernel does not show",
                    arch::register_name(register)
                )
            }
            Self::Unreadable(address) => write!(f, "stack memory at {address:#x} is unreadable"),
            Self::NotCode(pc) => write!(f, "return address {pc:#x} is not in executable memory"),
            Self::NotCall(pc) => write!(f, "return address {pc:#x} does not follow a call"),
            Self::NoUnwindInfo(pc) => write!(f, "no unwind information for {pc:#x}, and no frame pointer chain"),
            Self::BadUnwindInfo(pc) => write!(f, "unwind information for {pc:#x} is damaged or unsupported"),
            Self::NotAscending(sp) => write!(f, "the frame chain loops at stack address {sp:#x}"),
            Self::Depth(limit) => write!(f, "more than {limit} frames (option max_frames, or --limit)"),
            Self::CopyLimit(address) => {
                write!(f, "the stack copy of a running thread ends at {address:#x} (option stack_bytes)")
            }
            Self::KeptMoving => write!(f, "the thread kept running and could not be stopped"),
            Self::NoAnswer => write!(f, "the thread did not stop in time"),
            Self::WouldDisturb(number) => write!(f, "stopping it would break the timeout of system call {number}"),
            Self::Refused(errno) => write!(f, "the kernel refused: {}", crate::sys::Errno::from_raw(errno).desc()),
            Self::SignalBlocked => write!(f, "ptrace is refused and the thread blocks the capture signal"),
            Self::Budget => write!(f, "the dump's total bound was reached"),
        }
    }
}

/// How a thread's registers and stack were had, gentlest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Read from `/proc` while it was blocked; the thread was not touched and did not run meanwhile.
    Proc,
    /// Stopped by ptrace for some microseconds.
    Ptrace,
    /// Interrupted by a signal.
    Signal,
    /// It was interrupted by the signal whose handler runs this (`oneshot_on`), and stands still since.
    Interrupted,
    /// The calling thread itself.
    Own,
}

impl Method {
    /// The word printed in a thread's header.
    pub fn name(self) -> &'static str {
        match self {
            Self::Proc => "proc",
            Self::Ptrace => "ptrace",
            Self::Signal => "signal",
            Self::Interrupted => "interrupted",
            Self::Own => "own",
        }
    }
}

/// The system call that a thread sits in, from `/proc/self/task/TID/syscall` (Documentation/filesystems/proc.rst).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// The number; -1 for a thread that is blocked outside any call (page fault, stopped in user code).
    pub number: i64,
    /// The six argument registers.
    pub arguments: [u64; 6],
}

/// The stack of one thread.
#[derive(Clone, Debug)]
pub struct ThreadStack {
    /// The kernel's thread id in the process's own pid namespace.
    pub tid: i32,
    /// The name (`comm`), at most 15 bytes.
    pub name: Vec<u8>,
    /// The state letter of `/proc/self/task/TID/stat`: R running, S sleeping, D uninterruptible, T stopped, t traced, Z zombie.
    pub state: u8,
    /// The call it sits in; `None` while it runs in user space or when the kernel would not say.
    pub call: Option<Call>,
    /// How it was captured; `None` when it was not.
    pub method: Option<Method>,
    /// The frames, innermost first.
    pub frames: Vec<Frame>,
    /// Where unwinding ended.
    pub ending: Ending,
}

impl ThreadStack {
    /// The observer's thread does not look at itself.
    pub fn is_placeholder(&self) -> bool {
        self.method == Some(Method::Own) && self.frames.is_empty()
    }
}

/// What became of one thread in a dump: every thread of `/proc/self/task` is accounted for.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Captured, wholly or not: [`ThreadStack::ending`] says.
    Captured(ThreadStack),
    /// It exited between the listing and its turn.
    Exited(i32),
}

/// Bounds of one dump.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Frames a thread.
    pub frames: u32,
    /// Bytes of stack copied of a thread that had to be stopped.
    pub stack_bytes: usize,
    /// Frames of all threads together.
    pub total_frames: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { frames: 1024, stack_bytes: 256 << 10, total_frames: 2 << 20 }
    }
}
