//! `threads`: who there is and what each does now; or, in `top`, what each uses of the processors.

#![forbid(unsafe_code)]

mod top;

use std::time::Duration;

use super::fail;
use crate::config::glob;
use crate::config::level::Level;
use crate::inspect::sockets::Sockets;
use crate::inspect::strings::Escaped;
use crate::inspect::syscalls::{self, ThreadContext};
use crate::inspect::threads::{self, Reader};
use crate::protocol::Status;
use crate::record;
use crate::shell::json::Bytes;
use crate::shell::output::Output;
use crate::shell::parse::Arguments;
use crate::shell::record::Line;
use crate::shell::{Command, Job, Step, World};
use crate::stack::capture::dumpable::Dumpable;
use crate::sys::procfs;

pub const COMMAND: Command = Command {
    name: "threads",
    level: Level::Observe,
    synopsis: "[TID|NAME-GLOB] [--top [SECONDS]]",
    summary: "List the threads: name, state, CPU time, system call; or, by CPU share, those that run.",
    help: "threads                 every thread, and the system call that it sits in, with its arguments\n\
           threads 'io_thd_*'      some\n\
           threads --top           who uses the processors: shares over one second, the largest first\n\
           threads 'io_*' --top 5  of some threads, over five seconds; ^C ends it early and shows what there is\n\n\
           CPU time is in seconds, user and kernel together. A running thread has no system call to show.\n\
           --top lists who ran at all. CPU % is a share of one processor, to the nanosecond; USER and SYS are\n\
           counted by the kernel in ticks of 10 ms; SWITCHES: it blocked or yielded; FORCED: it was preempted.",
    schemas: &[Row::schema, top::SCHEMAS[0], top::SCHEMAS[1]],
    start: |words| {
        let arguments = Arguments::parse(words, &["--top"], &["--top"])?;
        let which = match arguments.rest.as_slice() {
            [] => None,
            [which] => Some((*which).to_owned()),
            _ => return Err("takes one thread id or glob".to_owned()),
        };
        let seconds = arguments.seconds("--top")?;
        if arguments.has("--top") || seconds.is_some() {
            return Ok(Box::new(top::Top::new(which, seconds.unwrap_or(Duration::from_secs(1)))));
        }
        Ok(Box::new(List { which, rest: None, shown: 0, sockets: Sockets::default() }))
    },
};

/// Threads a step.
const BATCH: usize = 32;

struct List {
    which: Option<String>,
    rest: Option<std::vec::IntoIter<i32>>,
    shown: usize,
    sockets: Sockets,
}

impl Job for List {
    fn step(&mut self, world: &mut World, out: &mut Output) -> Step {
        let Some(rest) = &mut self.rest else {
            match procfs::thread_ids() {
                Ok(ids) => self.rest = Some(ids.into_iter()),
                Err(error) => return fail(out, &format!("cannot list /proc/self/task: {}", error.desc())),
            }
            return Step::More;
        };
        let reader = Reader::new();
        // The system calls of a process that dropped its privileges are only shown to root, unless it is dumpable.
        let mut dumpable = Dumpable::default();
        let refused = rest.as_slice().first().is_some_and(|tid| !reader.shows_calls(*tid));
        if refused {
            dumpable.allow();
        }
        let idle = world.idle_actor();
        for tid in rest.by_ref().take(BATCH) {
            // One that exits now is no thread any more.
            let Ok(facts) = reader.read(tid) else { continue };
            if self.which.as_ref().is_some_and(|which| !selects(which, tid, &facts.name)) {
                continue;
            }
            if self.shown == 0 {
                out.note("    TID NAME            STATE                   CPU s  SYSTEM CALL\n");
            }
            self.shown += 1;
            let role = match tid {
                _ if tid == world.own_tid && world.interruption.is_some() => Some("stands still and serves this"),
                _ if tid == world.own_tid => Some("the manhole's own thread"),
                _ if Some(tid) == idle => Some("the manhole's own thread, idle"),
                _ => None,
            };
            let context = ThreadContext::new(tid, Some(&self.sockets));
            let call = facts.call.as_ref().filter(|_| role.is_none());
            out.put(&Row {
                tid,
                name: Bytes(facts.name),
                state: char::from(facts.state).to_string(),
                state_word: threads::state_word(facts.state),
                cpu_seconds: facts.cpu,
                call: call.map(|call| syscalls::describe(call, &context).to_string()),
                role,
            });
        }
        if rest.len() > 0 {
            return Step::More;
        }
        match &self.which {
            Some(which) if self.shown == 0 => fail(out, &format!("no thread matches {which:?}")),
            _ => Step::Done(Status::Success),
        }
    }
}

record! {
    /// A thread.
    struct Row as "thread" {
        /// Its id.
        tid: i32,
        /// Its name.
        name: Bytes,
        /// The kernel's letter: R, S, D, T, t, Z, I.
        state: String,
        /// The same in a word.
        state_word: &'static str,
        /// Time on a processor, user and kernel together.
        cpu_seconds: Duration,
        /// The system call that it sits in, with its arguments decoded.
        call: Option<String>,
        /// What it is to the manhole, when it is anything.
        role: Option<&'static str>,
    }
}

impl Line for Row {
    fn line(&self, out: &mut Vec<u8>) {
        let Self { tid, state, .. } = self;
        let (name, word) = (Escaped(&self.name.0).to_string(), format!("({})", self.state_word));
        let call = match (self.role, &self.call) {
            (Some(role), _) => format!("({role})"),
            (None, Some(call)) => call.clone(),
            (None, None) => "-".to_owned(),
        };
        let cpu = self.cpu_seconds.as_secs_f64();
        out.extend_from_slice(format!("{tid:>7} {name:<15} {state} {word:<16} {cpu:>10.3}  {call}\n").as_bytes());
    }
}

/// Whether a thread is meant by `which`: its id, or a glob on its name.
pub fn selects(which: &str, tid: i32, name: &[u8]) -> bool {
    which.parse() == Ok(tid) || glob::matches(which.as_bytes(), name)
}
