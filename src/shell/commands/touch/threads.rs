//! Something done to threads of the application, one by one: those that were named, or all, also those that start
//! meanwhile.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use super::super::fail;
use super::super::threads::selects;
use crate::inspect::strings::Escaped;
use crate::inspect::threads::{Reader, ThreadFacts};
use crate::protocol::Status;
use crate::record;
use crate::shell::json::Bytes;
use crate::shell::output::Output;
use crate::shell::record::{Line, Record};
use crate::shell::{Job, Step, World};
use crate::sys::{Errno, process, procfs};

/// Threads a step, and looks for more of them: one that starts others faster than we follow is not followed for ever.
const BATCH: usize = 64;
const ROUNDS: usize = 100;

/// Does it to one thread, and says what is now.
pub type Work = Box<dyn FnMut(&ThreadFacts) -> Result<Box<dyn Record>, Errno>>;

/// The arguments of a command that takes a thread, a value, both, or nothing.
pub struct Words<V> {
    /// The threads, `None` for all.
    pub which: Option<String>,
    /// What to set, `None` to look.
    pub value: Option<V>,
    /// The only word may be a thread's id as well.
    pub doubtful: Option<i32>,
}

impl<V> Words<V> {
    /// Sorts `words`; `parse` knows a value, which `expected` names.
    pub fn sort(words: &[String], parse: impl Fn(&str) -> Option<V>, expected: &str) -> Result<Self, String> {
        match words {
            [] => Ok(Self { which: None, value: None, doubtful: None }),
            [one] => Ok(match parse(one) {
                Some(value) => Self { which: None, value: Some(value), doubtful: one.parse().ok() },
                None => Self { which: Some(one.clone()), value: None, doubtful: None },
            }),
            [which, value] => {
                let value = parse(value).ok_or_else(|| format!("{value:?} is no {expected}"))?;
                Ok(Self { which: Some(which.clone()), value: Some(value), doubtful: None })
            }
            _ => Err(format!("takes threads and {expected}, in two words")),
        }
    }
}

/// The job.
pub struct Threads {
    which: Option<String>,
    doubtful: Option<i32>,
    /// Threads that start meanwhile are looked for.
    changes: bool,
    work: Work,
    explain: fn(Errno) -> String,
    seen: BTreeSet<i32>,
    rest: std::vec::IntoIter<i32>,
    rounds: usize,
    matched: usize,
    refused: bool,
}

impl Threads {
    /// Does `work` to those that `words` name; `explain` says what an error means.
    pub fn job<V>(words: Words<V>, explain: fn(Errno) -> String, work: Work) -> Box<dyn Job> {
        Box::new(Self {
            which: words.which,
            doubtful: words.doubtful,
            changes: words.value.is_some(),
            work,
            explain,
            seen: BTreeSet::new(),
            rest: Vec::new().into_iter(),
            rounds: 0,
            matched: 0,
            refused: false,
        })
    }

    /// Lists the threads that were not seen yet; false when there is none.
    fn list(&mut self) -> Result<bool, String> {
        super::unfiltered()?;
        if self.rounds == 0 && !process::proc_is_of_our_namespace() {
            return Err("/proc shows the thread ids of another pid namespace, which no call takes here".to_owned());
        }
        if self.rounds > 0 && !self.changes || self.rounds == ROUNDS {
            return Ok(false);
        }
        self.rounds += 1;
        let mut ids = procfs::thread_ids().map_err(|error| format!("cannot list /proc/self/task: {}", error.desc()))?;
        if let Some(tid) = self.doubtful.filter(|tid| ids.contains(tid)) {
            return Err(format!("{tid} is a thread, and a value, too: '*' {tid} sets it for all threads"));
        }
        ids.retain(|tid| self.seen.insert(*tid));
        let any = !ids.is_empty();
        self.rest = ids.into_iter();
        Ok(any)
    }

    fn end(&self, out: &mut Output) -> Step {
        match &self.which {
            Some(which) if self.matched == 0 => fail(out, &format!("no thread of the application matches {which:?}")),
            _ if self.refused => Step::Done(Status::Failed),
            _ => Step::Done(Status::Success),
        }
    }
}

/// Whether thread `tid` is one of the manhole's, whatever it works at.
pub fn is_ours(world: &World, tid: i32) -> bool {
    Some(tid) == world.manhole.actor.tid() || tid == world.own_tid && world.interruption.is_none()
}

impl Job for Threads {
    fn step(&mut self, world: &mut World, out: &mut Output) -> Step {
        if self.rest.as_slice().is_empty() {
            match self.list() {
                Ok(true) => {}
                Ok(false) => return self.end(out),
                Err(error) => return fail(out, &error),
            }
        }
        let reader = Reader::new();
        for tid in self.rest.by_ref().take(BATCH) {
            // One that exits now is no thread any more.
            let Ok(facts) = reader.read(tid) else { continue };
            if self.which.as_ref().is_some_and(|which| !selects(which, tid, &facts.name)) {
                continue;
            }
            if is_ours(world, tid) {
                if self.which == Some(tid.to_string()) {
                    return fail(out, &format!("thread {tid} is the manhole's own"));
                }
                continue;
            }
            match (self.work)(&facts) {
                Ok(record) => out.put(record.as_ref()),
                Err(Errno::ESRCH) => continue,
                Err(error) => {
                    self.refused = true;
                    out.put(&Refused { tid, name: Bytes(facts.name), error: (self.explain)(error) });
                }
            }
            self.matched += 1;
        }
        Step::More
    }
}

record! {
    /// A thread for which it could not be done; the others are not affected.
    pub struct Refused as "refused" {
        /// Its id.
        tid: i32,
        /// Its name.
        name: Bytes,
        /// Why.
        error: String,
    }
}

impl Line for Refused {
    fn line(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("{}  refused: {}\n", head(self.tid, &self.name), self.error).as_bytes());
    }
}

/// Id and name, as the lines of these commands begin.
pub fn head(tid: i32, name: &Bytes) -> String {
    format!("{tid:>7} {:<15}", Escaped(&name.0).to_string())
}
