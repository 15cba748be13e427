//! `threads`: who there is and what each does now.

#![forbid(unsafe_code)]

use super::fail;
use crate::config::glob;
use crate::inspect::sockets::Sockets;
use crate::inspect::strings::Escaped;
use crate::inspect::syscalls::{self, ThreadContext};
use crate::inspect::threads::{self, Reader};
use crate::protocol::Status;
use crate::shell::{Command, Job, Step, World};
use crate::stack::capture::dumpable::Dumpable;
use crate::sys::procfs;

pub const COMMAND: Command = Command {
    name: "threads",
    synopsis: "[TID|NAME-GLOB]",
    summary: "List the threads: name, state, CPU time, the system call each sits in with its arguments.",
    help: "threads\nthreads 'io_thd_*'\n\nCPU time is in seconds, user and kernel together. A running thread has no system call to show.",
    start: |arguments| match arguments {
        [] => Ok(Box::new(List { which: None, rest: None, shown: 0, sockets: Sockets::default() })),
        [which] => Ok(Box::new(List { which: Some(which.clone()), rest: None, shown: 0, sockets: Sockets::default() })),
        _ => Err("takes one thread id or glob".to_owned()),
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
    fn step(&mut self, world: &mut World, out: &mut Vec<u8>) -> Step {
        let Some(rest) = &mut self.rest else {
            match procfs::thread_ids() {
                Ok(ids) => self.rest = Some(ids.into_iter()),
                Err(error) => return fail(out, &format!("cannot list /proc/self/task: {}", error.desc())),
            }
            out.extend_from_slice(b"    TID NAME            STATE                   CPU s  SYSTEM CALL\n");
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
            self.shown += 1;
            let call = match &facts.call {
                _ if tid == world.own_tid && world.interruption.is_some() => {
                    "(stands still and serves this)".to_owned()
                }
                _ if tid == world.own_tid => "(the manhole's own thread)".to_owned(),
                _ if Some(tid) == idle => "(the manhole's own thread, idle)".to_owned(),
                Some(call) => syscalls::describe(call, &ThreadContext::new(tid, Some(&self.sockets))).to_string(),
                None => "-".to_owned(),
            };
            let line = format!(
                "{tid:>7} {:<15} {} {:<16} {:>10.3}  {call}\n",
                Escaped(&facts.name).to_string(),
                char::from(facts.state),
                format!("({})", threads::state_word(facts.state)),
                facts.cpu.as_secs_f64(),
            );
            out.extend_from_slice(line.as_bytes());
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

/// Whether a thread is meant by `which`: its id, or a glob on its name.
pub fn selects(which: &str, tid: i32, name: &[u8]) -> bool {
    which.parse() == Ok(tid) || glob::matches(which.as_bytes(), name)
}
