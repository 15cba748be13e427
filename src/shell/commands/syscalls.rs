//! `syscalls`: the system call of each thread with its arguments in words, futex words with the lock that they are.
//!
//! `threads` decodes calls too; here the waiters are unwound first, so that a futex word says which lock it is and who
//! holds it, and a second look tells for how long at least a call has lasted.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::fail;
use super::locks::confirm::Mark;
use super::locks::survey::{Survey, Waiter};
use super::threads::selects;
use crate::config::level::Level;
use crate::inspect::locks::Holder;
use crate::inspect::sockets::Sockets;
use crate::inspect::strings::Escaped;
use crate::inspect::syscalls::{self, ThreadContext};
use crate::inspect::threads::{self, Reader, ThreadFacts};
use crate::protocol::Status;
use crate::record;
use crate::shell::json::{Bytes, Hex};
use crate::shell::output::Output;
use crate::shell::parse::Arguments;
use crate::shell::place::symbol;
use crate::shell::record::Line;
use crate::shell::{Command, Job, Step, World};
use crate::stack::capture::dumpable::Dumpable;
use crate::sys::procfs;

pub const COMMAND: Command = Command {
    name: "syscalls",
    level: Level::Observe,
    synopsis: "[TID|NAME-GLOB] [--over SECONDS]",
    summary: "Show the system call that each thread sits in, decoded; futex words with their lock and its holder.",
    help: "syscalls                every thread\n\
           syscalls 'io_thd_*'     threads by name\n\
           syscalls --over 5       looks twice, 5 seconds apart, and says of each call that did not end meanwhile\n\
           \u{20}                       that it lasts for 5 seconds at least\n\n\
           Descriptors show what they are, pointers what they lead to now. A running thread sits in no call.",
    schemas: &[Row::schema],
    start: |arguments| Ok(Box::new(Syscalls::new(arguments)?)),
};

/// Threads a step.
const BATCH: usize = 32;
/// The longest time between two looks.
const MOST_SECONDS: u32 = 3600;

struct Syscalls {
    which: Option<String>,
    over: Option<Duration>,
    stage: Stage,
    survey: Survey,
    /// The first look, and when it was.
    marks: FxHashMap<i32, (Mark, Instant)>,
    sockets: Sockets,
}

enum Stage {
    Beginning,
    Marking(std::vec::IntoIter<i32>),
    Waiting(Instant),
    Surveying,
    Listing(std::vec::IntoIter<i32>),
}

impl Syscalls {
    fn new(words: &[String]) -> Result<Self, String> {
        let arguments = Arguments::parse(words, &[], &["--over"])?;
        if arguments.rest.len() > 1 {
            return Err("takes one thread id or glob".to_owned());
        }
        let over = arguments.number("--over", 1)?;
        if over.is_some_and(|over| over > MOST_SECONDS) {
            return Err(format!("--over takes up to {MOST_SECONDS} seconds"));
        }
        Ok(Self {
            which: arguments.rest.first().map(|which| (*which).to_owned()),
            over: over.map(|seconds| Duration::from_secs(seconds.into())),
            stage: Stage::Beginning,
            survey: Survey::new(),
            marks: FxHashMap::default(),
            sockets: Sockets::default(),
        })
    }

    fn tids(&self, world: &World) -> Result<Vec<i32>, String> {
        let tids = procfs::thread_ids().map_err(|error| format!("cannot list /proc/self/task: {}", error.desc()))?;
        let idle = world.idle_actor();
        let is_wanted = |tid: &i32| self.which.as_ref().is_none_or(|which| selects(which, *tid, &threads::name(*tid)));
        Ok(tids.into_iter().filter(|tid| *tid != world.own_tid && Some(*tid) != idle && is_wanted(tid)).collect())
    }

    fn row(&self, world: &mut World, facts: ThreadFacts, since: Option<Instant>) -> Row {
        // What was found out of a call is about that call.
        let waiter = self.survey.waiter(facts.tid).filter(|waiter| {
            facts.call.as_ref().and_then(crate::inspect::locks::Wait::of).is_some_and(|wait| wait == waiter.wait)
        });
        let word = waiter.map(|waiter| about(world, waiter));
        let context = ThreadContext::new(facts.tid, Some(&self.sockets)).with_word(word.as_deref());
        let holder = waiter.and_then(|waiter| match waiter.facts.holder {
            Holder::Thread(tid) => Some(tid),
            _ => None,
        });
        Row {
            tid: facts.tid,
            name: Bytes(facts.name),
            state: char::from(facts.state).to_string(),
            call_name: facts.call.filter(|call| call.number >= 0).and_then(|call| syscalls::name(call.number)),
            call: facts.call.as_ref().map(|call| syscalls::describe(call, &context).to_string()),
            lock_kind: waiter.map(|waiter| waiter.awaited.object.kind.word()),
            lock: waiter.map(|waiter| Hex(waiter.awaited.object.address)),
            holder,
            at_least_seconds: since.map(|since| since.elapsed()),
        }
    }
}

/// `mutex lock_b held by thread 72 "b"`.
fn about(world: &mut World, waiter: &Waiter) -> String {
    let object = waiter.awaited.object;
    world.symbolizer.resolve(&world.modules, &[object.address]);
    let mut text = object.kind.word().to_owned();
    if let Some(symbol) = symbol(world, object.address) {
        text = format!("{text} {symbol}");
    }
    match waiter.facts.holder {
        Holder::Thread(tid) => {
            let of = if object.kind == crate::inspect::locks::Kind::Join { "of" } else { "held by" };
            match threads::name(tid).as_slice() {
                [] => format!("{text} {of} thread {tid}, which is none of this process (any more)"),
                name => format!("{text} {of} thread {tid} \"{}\"", Escaped(name)),
            }
        }
        Holder::Readers(count) => format!("{text} held by {count} reader{}", if count == 1 { "" } else { "s" }),
        Holder::NotRecorded | Holder::Nobody => text,
    }
}

impl Job for Syscalls {
    fn step(&mut self, world: &mut World, out: &mut Output) -> Step {
        // As in `threads`: a process that dropped its privileges shows its calls to root alone.
        let mut dumpable = Dumpable::default();
        if !Reader::new().shows_calls(world.own_tid) {
            dumpable.allow();
        }
        match &mut self.stage {
            Stage::Beginning => match (self.over, self.tids(world)) {
                (_, Err(error)) => return fail(out, &error),
                (_, Ok(tids)) if tids.is_empty() => {
                    return fail(out, &format!("no thread matches {:?}", self.which.as_deref().unwrap_or_default()));
                }
                (Some(_), Ok(tids)) => self.stage = Stage::Marking(tids.into_iter()),
                (None, Ok(_)) => self.stage = Stage::Surveying,
            },
            Stage::Marking(tids) => {
                for tid in tids.by_ref().take(BATCH) {
                    self.marks.extend(Mark::of(tid).map(|mark| (tid, (mark, Instant::now()))));
                }
                if tids.len() == 0 {
                    self.stage = Stage::Waiting(Instant::now() + self.over.unwrap_or_default());
                }
            }
            Stage::Waiting(until) if Instant::now() < *until => return Step::Waiting(*until),
            Stage::Waiting(_) => self.stage = Stage::Surveying,
            Stage::Surveying => match self.survey.step(world) {
                Ok(false) => {}
                Ok(true) => match self.tids(world) {
                    Ok(tids) => {
                        out.note("    TID NAME            SYSTEM CALL\n");
                        self.stage = Stage::Listing(tids.into_iter());
                    }
                    Err(error) => return fail(out, &error),
                },
                Err(error) => return fail(out, &error),
            },
            Stage::Listing(tids) => {
                let batch: Vec<i32> = tids.by_ref().take(BATCH).collect();
                let reader = Reader::new();
                for tid in &batch {
                    let first = self.marks.get(tid).copied();
                    let since = first.filter(|(mark, _)| Mark::of(*tid) == Some(*mark)).map(|(_, since)| since);
                    // One that exits now is no thread any more.
                    let Ok(facts) = reader.read(*tid) else { continue };
                    let row = self.row(world, facts, since);
                    out.put(&row);
                }
                if batch.is_empty() {
                    return Step::Done(Status::Success);
                }
            }
        }
        Step::More
    }
}

record! {
    /// A thread and its system call.
    struct Row as "syscall" {
        /// The thread's id.
        tid: i32,
        /// Its name.
        name: Bytes,
        /// The kernel's letter: R, S, D, T, t, Z, I.
        state: String,
        /// The call's name; null while it runs in user space.
        call_name: Option<&'static str>,
        /// The call with its arguments decoded.
        call: Option<String>,
        /// What the futex word belongs to that it waits for: mutex, rwlock …
        lock_kind: Option<&'static str>,
        /// Where that begins.
        lock: Option<Hex>,
        /// The thread that holds it.
        holder: Option<i32>,
        /// With --over: the call has lasted for so long at least.
        at_least_seconds: Option<Duration>,
    }
}

impl Line for Row {
    fn line(&self, out: &mut Vec<u8>) {
        let name = Escaped(&self.name.0).to_string();
        let call = match &self.call {
            Some(call) => call.clone(),
            None => format!("({})", threads::state_word(self.state.bytes().next().unwrap_or(b'?'))),
        };
        let lasts = self.at_least_seconds.map(|time| format!(", for at least {:.1} s", time.as_secs_f64()));
        let line = format!("{:>7} {name:<15} {call}{}\n", self.tid, lasts.unwrap_or_default());
        out.extend_from_slice(line.as_bytes());
    }
}
