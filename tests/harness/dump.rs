//! The text form of stacks, parsed.
//!
//! ```text
//! ######### ProcessID=71, ThreadID=71, name="redis-server", state=S (sleeping), syscall=poll(…), capture=proc #########
//! #0  0x00007f52f4a3ed56 in epoll_wait+0x56 at epoll_wait.c:30 (libc.so.6)
//! #1  0x000055d3c2a0e1b2 in aeApiPoll (inlined) at ae_epoll.c:113 (redis-server)
//! #2  0x00007f52f4900000 in ?? (no module) [frame pointer]
//! truncated: why
//! ```

use super::compare::{Frame, Stack};

/// An answer of `stacks`, or what a client sees on connect.
#[derive(Debug)]
pub struct Dump {
    /// What came before the first thread.
    pub banner: String,
    /// The threads, in order.
    pub threads: Vec<Thread>,
    /// Threads that exited while the dump was taken.
    pub exited: Vec<i32>,
    /// Lines that belong to no thread's frames, other than blank ones.
    pub other: Vec<String>,
}

/// One thread.
#[derive(Debug)]
pub struct Thread {
    /// As printed.
    pub process: i32,
    /// As printed.
    pub tid: i32,
    /// Without its quotes.
    pub name: String,
    /// `S (sleeping)`.
    pub state: String,
    /// The system call, when it sits in one.
    pub syscall: Option<String>,
    /// `proc`, `ptrace`, `signal`, or what is said when it was not captured.
    pub capture: String,
    /// Innermost first.
    pub frames: Vec<DumpFrame>,
    /// The reason, when the first frame was not reached.
    pub truncated: Option<String>,
    /// The reason, when it was not looked at.
    pub skipped: Option<String>,
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpFrame {
    /// As printed.
    pub number: usize,
    /// The program counter.
    pub address: u64,
    /// Without offset; `??` when unknown.
    pub function: String,
    /// The offset printed.
    pub offset: Option<u64>,
    /// Inlined into the next.
    pub inlined: bool,
    /// `file:line`.
    pub source: Option<String>,
    /// The module's file name.
    pub module: String,
    /// Found by the frame-pointer chain.
    pub by_frame_pointer: bool,
}

const FENCE: &str = "#########";

impl Dump {
    /// Parses `text`. A line that begins like a header or a frame and is none fails the test.
    pub fn parse(text: &str) -> Self {
        let mut dump = Self { banner: String::new(), threads: Vec::new(), exited: Vec::new(), other: Vec::new() };
        for line in text.lines() {
            if line.starts_with(FENCE) && line.contains(", has exited ") {
                dump.exited.extend(between(line, "ThreadID=", ",").and_then(|tid| tid.parse::<i32>().ok()));
                continue;
            }
            if line.starts_with(FENCE) && line.contains("ThreadID=") {
                dump.threads.push(parse_header(line));
                continue;
            }
            let Some(thread) = dump.threads.last_mut() else {
                dump.banner.push_str(line);
                dump.banner.push('\n');
                continue;
            };
            if let Some(reason) = line.strip_prefix("truncated: ") {
                thread.truncated = Some(reason.to_owned());
            } else if let Some(reason) = line.strip_prefix("skipped: ") {
                thread.skipped = Some(reason.to_owned());
            } else if line.starts_with('#') && line[1..].starts_with(|it: char| it.is_ascii_digit()) {
                let frame = parse_frame(line);
                assert_eq!(frame.number, thread.frames.len(), "frames are not numbered in order: {line}\n{text}");
                thread.frames.push(frame);
            } else if !line.trim().is_empty() {
                dump.other.push(line.to_owned());
            }
        }
        dump
    }

    /// The threads that are the application's.
    pub fn application(&self) -> impl Iterator<Item = &Thread> {
        self.threads.iter().filter(|thread| !super::is_ours(&thread.name))
    }

    /// The thread `tid`.
    pub fn thread(&self, tid: i32) -> &Thread {
        let found = self.threads.iter().find(|thread| thread.tid == tid);
        found.unwrap_or_else(|| panic!("thread {tid} is not in the dump: {self:#?}"))
    }

    /// The first thread called `name`.
    pub fn named(&self, name: &str) -> &Thread {
        let found = self.threads.iter().find(|thread| thread.name == name);
        found.unwrap_or_else(|| panic!("no thread {name:?} in the dump: {self:#?}"))
    }

    /// As the comparison wants it, without our own threads.
    pub fn stacks(&self) -> Vec<Stack> {
        self.application().map(Thread::stack).collect()
    }
}

impl Thread {
    /// Whether some frame is `function`.
    pub fn shows(&self, function: &str) -> bool {
        self.position(function).is_some()
    }

    /// The number of the first frame that is `function`.
    pub fn position(&self, function: &str) -> Option<usize> {
        self.frames.iter().position(|frame| frame.function == function)
    }

    fn stack(&self) -> Stack {
        let frames = self.frames.iter().map(|frame| Frame {
            address: Some(frame.address),
            function: frame.function.clone(),
            linkage_name: None,
            inlined: frame.inlined,
            synthetic: false,
        });
        Stack { tid: self.tid, name: self.name.clone(), frames: frames.collect(), ended_early: self.truncated.clone() }
    }
}

/// The text between `key` and `end` in `line`.
fn between<'a>(line: &'a str, key: &str, end: &str) -> Option<&'a str> {
    let start = line.find(key)? + key.len();
    let length = line[start..].find(end)?;
    Some(&line[start..start + length])
}

fn parse_header(line: &str) -> Thread {
    let bad = || -> ! { panic!("not a thread's header: {line}") };
    let number = |key| between(line, key, ",").and_then(|text| text.trim().parse().ok());
    let (Some(process), Some(tid)) = (number("ProcessID="), number("ThreadID=")) else { bad() };
    let Some(name) = between(line, "name=\"", "\", state=") else { bad() };
    let Some(capture) = between(line, ", capture=", &format!(" {FENCE}")) else { bad() };
    let syscall = between(line, ", syscall=", ", capture=").filter(|it| *it != "none").map(str::to_owned);
    let state = between(line, ", state=", ", syscall=");
    Thread {
        process,
        tid,
        name: name.to_owned(),
        state: state.unwrap_or_else(|| bad()).to_owned(),
        syscall,
        capture: capture.to_owned(),
        frames: Vec::new(),
        truncated: None,
        skipped: None,
    }
}

fn parse_frame(line: &str) -> DumpFrame {
    let parse = || -> Option<DumpFrame> {
        let (number, rest) = line.strip_prefix('#')?.split_once(' ')?;
        let (address, rest) = rest.trim_start().strip_prefix("0x")?.split_once(" in ")?;
        let (rest, by_frame_pointer) = match rest.strip_suffix(" [frame pointer]") {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let (rest, module) = rest.strip_suffix(')')?.rsplit_once(" (")?;
        // A C++ name may hold ` at `, no file name ends without `:LINE`.
        let (rest, source) = match rest.rsplit_once(" at ") {
            Some((before, source)) if source.rsplit_once(':').is_some_and(|(_, it)| it.parse::<u32>().is_ok()) => {
                (before, Some(source.to_owned()))
            }
            _ => (rest, None),
        };
        let (rest, inlined) = match rest.strip_suffix(" (inlined)") {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let (function, offset) = match rest.rsplit_once("+0x") {
            Some((function, offset)) => (function, Some(u64::from_str_radix(offset, 16).ok()?)),
            None => (rest, None),
        };
        Some(DumpFrame {
            number: number.parse().ok()?,
            address: u64::from_str_radix(address, 16).ok()?,
            function: function.to_owned(),
            offset,
            inlined,
            source,
            module: module.to_owned(),
            by_frame_pointer,
        })
    };
    parse().unwrap_or_else(|| panic!("not a frame: {line}"))
}
