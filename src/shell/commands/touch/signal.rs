//! `signal`: a signal to the process, or to one of its threads.
//!
//! The observer sends it itself (`kill`, `tgkill`), with every signal blocked, so that a thread of the application
//! takes it.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use super::super::fail;
use super::threads::is_ours;
use crate::config::level::Level;
use crate::config::literal::Value;
use crate::config::signals::{self, Name};
use crate::inspect::strings::Escaped;
use crate::inspect::threads;
use crate::protocol::Status;
use crate::record;
use crate::shell::json::{Bytes, Hex};
use crate::shell::output::Output;
use crate::shell::parse::Arguments;
use crate::shell::place;
use crate::shell::record::Line;
use crate::shell::{Command, Job, Step, World};
use crate::sys::signal::{self as kernel, Disposition, bit};
use crate::sys::{kill, process, procfs};

pub const COMMAND: Command = Command {
    name: "signal",
    level: Level::Operate,
    synopsis: "SIGNAL [TID] [--force]",
    summary: "Send a signal to the process, or to one of its threads.",
    help: "signal USR1            to the process: whichever thread does not block it takes it\n\
           signal SIGRTMIN+3      real-time signals, too\n\
           signal 10 4711         to one thread\n\
           signal TERM --force    although it ends the process\n\n\
           What the process does about it is shown: its handler, default, or ignored. A signal that would end or stop\n\
           the process, since it has the default disposition, is sent with --force only. (A thread may wait for such a\n\
           signal with sigwait or signalfd: then it takes it, and nothing ends.) In a stopped process it\n\
           waits for kill -CONT PID, from outside. The numbers 32 and 33 belong to the C library and are refused.",
    schemas: &[Row::schema],
    start: |words| {
        let arguments = Arguments::parse(words, &[FORCE], &[])?;
        let (word, target) = match arguments.rest.as_slice() {
            [signal] => (*signal, None),
            [signal, tid] => (*signal, Some(*tid)),
            _ => return Err("takes a signal, and perhaps a thread id".to_owned()),
        };
        let value = word.parse().map_or_else(|_| Value::Text(word.to_owned()), Value::Integer);
        let signal = signals::number(&value).ok_or_else(|| format!("{word:?} is no signal"))?;
        if LIBC.contains(&signal) {
            return Err(format!("signal {signal} belongs to the C library, which would cancel or crash a thread"));
        }
        let number = |tid: &str| tid.parse().ok().filter(|tid| *tid > 0);
        let tid = target.map(|tid| number(tid).ok_or_else(|| format!("{tid:?} is no thread id"))).transpose()?;
        let stage = Stage::Beginning;
        Ok(Box::new(Send { signal, tid, force: arguments.has(FORCE), blocked: true, stage }))
    },
};

const FORCE: &str = "--force";
/// glibc's and musl's own: cancellation, and the broadcast of setuid (nptl(7)).
const LIBC: [i32; 2] = [32, 33];
/// Threads asked for their masks in a step.
const BATCH: usize = 64;
/// The answer is on its way so long before a signal that ends everything.
const HEAD_START: Duration = Duration::from_millis(20);

/// What the kernel does for a signal with the default disposition (man 7 signal).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Default {
    Ends,
    Dumps,
    Stops,
    Nothing,
}

impl Default {
    fn of(signal: i32) -> Self {
        match signal {
            libc::SIGCHLD | libc::SIGCONT | libc::SIGURG | libc::SIGWINCH => Self::Nothing,
            libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU => Self::Stops,
            libc::SIGQUIT | libc::SIGILL | libc::SIGTRAP | libc::SIGABRT | libc::SIGBUS | libc::SIGFPE => Self::Dumps,
            libc::SIGSEGV | libc::SIGSYS | libc::SIGXCPU | libc::SIGXFSZ => Self::Dumps,
            _ => Self::Ends,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Ends => "ends the process",
            Self::Dumps => "ends the process with a core dump",
            Self::Stops => "stops the process, the manhole too",
            Self::Nothing => "does nothing",
        }
    }
}

struct Send {
    signal: i32,
    tid: Option<i32>,
    force: bool,
    /// Every thread that could take it blocks it, of those that were looked at.
    blocked: bool,
    stage: Stage,
}

enum Stage {
    Beginning,
    /// Looking who blocks it.
    Looking(std::vec::IntoIter<i32>),
    Sending,
}

impl Send {
    /// Looks whom it is for; the threads that may take it.
    fn begin(&self, world: &World) -> Result<Vec<i32>, String> {
        super::unfiltered()?;
        let Some(tid) = self.tid else {
            let all = procfs::thread_ids().unwrap_or_default();
            return Ok(all.into_iter().filter(|tid| !is_ours(world, *tid)).collect());
        };
        if !process::proc_is_of_our_namespace() {
            return Err("/proc shows the thread ids of another pid namespace, which no call takes here".to_owned());
        }
        if is_ours(world, tid) {
            return Err(format!("thread {tid} is the manhole's own"));
        }
        kill::thread(tid, 0).map_err(|_| format!("there is no thread {tid}"))?;
        Ok(vec![tid])
    }

    /// Says what it is, or why it is not sent; then whether it may be the end.
    fn announce(&self, world: &mut World, out: &mut Output) -> Result<bool, String> {
        let Self { signal, tid, .. } = *self;
        let name = Name(signal);
        let found = kernel::disposition(signal)
            .map_err(|error| format!("the disposition of {name} is unknown: {}", error.desc()))?;
        let effect = Default::of(signal);
        let is_deadly = found.handler == Disposition::DEFAULT.handler && effect != Default::Nothing;
        if is_deadly && !self.force {
            return Err(format!(
                "{name} has the default disposition, which {}; {FORCE} sends it all the same",
                effect.word()
            ));
        }
        let handler = found.is_handler().then_some(found.handler as u64);
        if let Some(handler) = handler {
            world.look()?;
            world.symbolizer.resolve(&world.modules, &[handler]);
        }
        out.put(&Row {
            signal: name.to_string(),
            number: signal,
            pid: process::pid(),
            tid,
            name: tid.map(|tid| Bytes(threads::name(tid))),
            disposition: match found.handler {
                0 => "default",
                1 => "ignored",
                _ => "handler",
            },
            effect: (found.handler == 0).then(|| effect.word()),
            handler: handler.map(Hex),
            symbol: handler.and_then(|handler| place::symbol(world, handler)),
            blocked: self.blocked,
        });
        Ok(is_deadly)
    }

    fn send(&self) -> Result<(), String> {
        let pid = u32::try_from(process::pid()).unwrap_or_default();
        let sent = self.tid.map_or_else(|| kill::kill(pid, self.signal), |tid| kill::thread(tid, self.signal));
        sent.map_err(|error| format!("{} was not sent: {}", Name(self.signal), error.desc()))
    }
}

/// Whether thread `tid` blocks `signal`; one that has exited does.
fn blocks(tid: i32, signal: i32) -> bool {
    threads::blocked_signals(tid).is_none_or(|mask| mask & bit(signal) != 0)
}

impl Job for Send {
    fn step(&mut self, world: &mut World, out: &mut Output) -> Step {
        match &mut self.stage {
            Stage::Beginning => match self.begin(world) {
                Ok(threads) => {
                    self.stage = Stage::Looking(threads.into_iter());
                    Step::More
                }
                Err(error) => fail(out, &error),
            },
            Stage::Looking(threads) => {
                let signal = self.signal;
                // KILL and STOP cannot be blocked, and no mask says so.
                self.blocked = threads.by_ref().take(BATCH).all(|tid| blocks(tid, signal));
                if self.blocked && threads.len() > 0 {
                    return Step::More;
                }
                let deadly = match self.announce(world, out) {
                    Ok(deadly) => deadly,
                    Err(error) => return fail(out, &error),
                };
                self.stage = Stage::Sending;
                // Nothing can be said afterwards.
                if deadly { Step::Waiting(Instant::now() + HEAD_START) } else { Step::More }
            }
            Stage::Sending => match self.send() {
                Ok(()) => Step::Done(Status::Success),
                Err(error) => fail(out, &error),
            },
        }
    }
}

record! {
    /// A signal that is sent right after this, unless an error follows.
    struct Row as "signal" {
        /// Its name.
        signal: String,
        /// Its number.
        number: i32,
        /// The process that it is for.
        pid: i32,
        /// The thread that it is for; null when any may take it.
        tid: Option<i32>,
        /// The name of that thread.
        name: Option<Bytes>,
        /// handler, ignored or default.
        disposition: &'static str,
        /// What the default does.
        effect: Option<&'static str>,
        /// The handler's address.
        handler: Option<Hex>,
        /// The handler's symbol.
        symbol: Option<String>,
        /// Every thread that could take it blocks it: it stays pending until one unblocks it or waits for it.
        blocked: bool,
    }
}

impl Line for Row {
    fn line(&self, out: &mut Vec<u8>) {
        let target = match (self.tid, &self.name) {
            (Some(tid), Some(name)) => format!("thread {tid} ({})", Escaped(&name.0)),
            _ => format!("process {}", self.pid),
        };
        let disposition = match (self.handler, &self.symbol, self.effect) {
            (Some(Hex(address)), Some(symbol), _) => format!("handled by {symbol} ({address:#x})"),
            (Some(Hex(address)), None, _) => format!("handled by {address:#x}"),
            (None, _, Some(effect)) => {
                let is_sure =
                    [libc::SIGKILL, libc::SIGSTOP].contains(&self.number) || effect == Default::Nothing.word();
                let waited = if is_sure { "" } else { ", unless a thread waits for it" };
                format!("{}: {effect}{waited}", self.disposition)
            }
            (None, _, None) => self.disposition.to_owned(),
        };
        let who = if self.tid.is_some() { "the thread blocks it" } else { "every thread blocks it" };
        let blocked = if self.blocked { format!("; pending, {who}") } else { String::new() };
        out.extend_from_slice(format!("{} → {target}: {disposition}{blocked}\n", self.signal).as_bytes());
    }
}
