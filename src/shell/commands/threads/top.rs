//! `threads --top`: what each thread used of the processors during an interval.
//!
//! Each thread has its own interval, from its first reading to its second, so that its share is right however long the
//! rounds over all threads take.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::selects;
use crate::inspect::strings::Escaped;
use crate::inspect::threads::Reader;
use crate::inspect::usage::{Spent, Usage, percent};
use crate::protocol::Status;
use crate::record;
use crate::shell::commands::fail;
use crate::shell::interval::Interval;
use crate::shell::json::Bytes;
use crate::shell::output::Output;
use crate::shell::record::Line;
use crate::shell::{Job, Step, World};
use crate::sys::{clock, procfs};

/// How long one step reads.
const SLICE: Duration = Duration::from_millis(3);
/// Rows written in one step.
const ROWS: usize = 512;

/// The job.
pub struct Top {
    which: Option<String>,
    length: Duration,
    reader: Reader,
    stage: Stage,
    first: FxHashMap<i32, (Usage, Vec<u8>)>,
    /// The clock of the whole process, and the monotonic one, at the begin.
    process: (Duration, u64),
    rows: Vec<Share>,
    total: Total,
}

enum Stage {
    Listing,
    First(std::vec::IntoIter<i32>),
    Waiting(Interval),
    Second(std::vec::IntoIter<i32>),
    Writing(std::vec::IntoIter<Share>),
}

record! {
    /// A thread that ran, and what it used in the interval.
    struct Share as "share" {
        /// Its id.
        tid: i32,
        /// Its name.
        name: Bytes,
        /// The kernel's letter for its state at the end; null if it has exited.
        state: Option<String>,
        /// Its share of one processor.
        cpu_percent: f64,
        /// Time on a processor; of a thread that came meanwhile all of it; 0 of one that exited, which is unknown.
        cpu_seconds: Duration,
        /// The part in user space, counted in clock ticks.
        user_seconds: Duration,
        /// The part in the kernel, counted in clock ticks.
        system_seconds: Duration,
        /// How often it blocked or yielded.
        voluntary_switches: u64,
        /// How often it was preempted.
        involuntary_switches: u64,
        /// How long it was looked at.
        seconds: Duration,
        /// came, or exited, if it did during the interval.
        fate: Option<&'static str>,
    }
}

record! {
    /// All threads together.
    struct Total as "total" {
        /// Threads at the end.
        threads: usize,
        /// Those of them that ran: each has a record.
        ran: usize,
        /// Those that came meanwhile.
        came: usize,
        /// Threads that exited meanwhile.
        exited: usize,
        /// The share of one processor that the process used, threads that came and exited unseen included.
        process_percent: f64,
        /// The same as time.
        process_seconds: Duration,
        /// What the threads that are listed used of it.
        listed_seconds: Duration,
        /// How long the process was looked at.
        seconds: Duration,
    }
}

impl Top {
    /// Of the threads that `which` selects, over `length`.
    pub fn new(which: Option<String>, length: Duration) -> Self {
        Self {
            which,
            length,
            reader: Reader::new(),
            stage: Stage::Listing,
            first: FxHashMap::default(),
            process: (Duration::ZERO, 0),
            rows: Vec::new(),
            total: Total {
                threads: 0,
                ran: 0,
                came: 0,
                exited: 0,
                process_percent: 0.0,
                process_seconds: Duration::ZERO,
                listed_seconds: Duration::ZERO,
                seconds: Duration::ZERO,
            },
        }
    }

    fn is_meant(&self, tid: i32, name: &[u8]) -> bool {
        self.which.as_ref().is_none_or(|which| selects(which, tid, name))
    }

    /// The second reading of one thread.
    fn compare(&mut self, tid: i32) {
        let before = self.first.remove(&tid);
        let Ok((usage, name)) = Usage::read(&self.reader, tid) else {
            if let Some((usage, name)) = before {
                self.exited(tid, usage, name);
            }
            return;
        };
        let known = before.as_ref().and_then(|(before, _)| usage.since(before));
        let came = known.is_none();
        if let (true, Some((usage, name))) = (came, before) {
            self.exited(tid, usage, name);
        }
        if came && !self.is_meant(tid, &name) {
            return;
        }
        let spent = known.unwrap_or_else(|| usage.in_all(self.process.1));
        self.total.threads += 1;
        self.total.came += usize::from(came);
        self.total.listed_seconds += spent.cpu;
        if came || !spent.is_nothing() {
            self.total.ran += 1;
            let state = Some(char::from(usage.state).to_string());
            self.rows.push(Share::new(tid, name, state, spent, came.then_some("came")));
        }
    }

    fn exited(&mut self, tid: i32, before: Usage, name: Vec<u8>) {
        self.total.exited += 1;
        let time = Duration::from_nanos(clock::monotonic().saturating_sub(before.at));
        self.rows.push(Share::new(tid, name, None, Spent { time, ..Spent::default() }, Some("exited")));
    }

    /// All is read: the order, and what the whole process used.
    fn conclude(&mut self) -> Stage {
        let gone: Vec<_> = self.first.drain().collect();
        for (tid, (usage, name)) in gone {
            self.exited(tid, usage, name);
        }
        self.rows.sort_by(|one, other| other.cpu_percent.total_cmp(&one.cpu_percent).then(one.tid.cmp(&other.tid)));
        let total = &mut self.total;
        total.seconds = Duration::from_nanos(clock::monotonic().saturating_sub(self.process.1));
        total.process_seconds = process_time().saturating_sub(self.process.0);
        total.process_percent = percent(total.process_seconds, total.seconds);
        Stage::Writing(std::mem::take(&mut self.rows).into_iter())
    }
}

impl Job for Top {
    fn step(&mut self, _: &mut World, out: &mut Output) -> Step {
        let until = Instant::now() + SLICE;
        let in_time = || Instant::now() < until;
        match &mut self.stage {
            Stage::Listing => {
                self.process = (process_time(), clock::monotonic());
                match procfs::thread_ids() {
                    Ok(tids) => self.stage = Stage::First(tids.into_iter()),
                    Err(error) => return fail(out, &format!("cannot list /proc/self/task: {}", error.desc())),
                }
            }
            Stage::First(tids) => {
                while let Some(tid) = in_time().then(|| tids.next()).flatten() {
                    let Ok((usage, name)) = Usage::read(&self.reader, tid) else { continue };
                    if self.which.as_ref().is_none_or(|which| selects(which, tid, &name)) {
                        self.first.insert(tid, (usage, name));
                    }
                }
                if tids.len() > 0 {
                    return Step::More;
                }
                if let (true, Some(which)) = (self.first.is_empty(), &self.which) {
                    return fail(out, &format!("no thread matches {which:?}"));
                }
                self.stage = Stage::Waiting(Interval::of(self.length));
            }
            Stage::Waiting(interval) => match interval.wait() {
                Some(step) => return step,
                None => match procfs::thread_ids() {
                    Ok(tids) => self.stage = Stage::Second(tids.into_iter()),
                    Err(error) => return fail(out, &format!("cannot list /proc/self/task: {}", error.desc())),
                },
            },
            Stage::Second(tids) => {
                let mut tids = std::mem::take(tids);
                while let Some(tid) = in_time().then(|| tids.next()).flatten() {
                    self.compare(tid);
                }
                self.stage = if tids.len() > 0 { Stage::Second(tids) } else { self.conclude() };
                if let Stage::Writing(_) = self.stage {
                    out.put(&self.total);
                    out.note("    TID NAME              CPU %  USER s   SYS s  SWITCHES    FORCED\n");
                }
            }
            Stage::Writing(rows) => {
                rows.by_ref().take(ROWS).for_each(|row| out.put(&row));
                if rows.len() == 0 {
                    return Step::Done(Status::Success);
                }
            }
        }
        Step::More
    }

    fn interrupt(&mut self, world: &mut World, out: &mut Output) {
        // An interval that was cut short is one all the same; each row says how long it was.
        if !matches!(self.stage, Stage::Waiting(_)) {
            return out.fail("interrupted");
        }
        self.stage = Stage::Waiting(Interval::of(Duration::ZERO));
        while let Step::More = self.step(world, out) {}
    }
}

/// Time on processors of all threads of this process, of those that have exited too.
fn process_time() -> Duration {
    clock::now(libc::CLOCK_PROCESS_CPUTIME_ID).unwrap_or_default()
}

impl Share {
    fn new(tid: i32, name: Vec<u8>, state: Option<String>, spent: Spent, fate: Option<&'static str>) -> Self {
        Self {
            tid,
            name: Bytes(name),
            state,
            cpu_percent: spent.percent(spent.cpu),
            cpu_seconds: spent.cpu,
            user_seconds: spent.user,
            system_seconds: spent.system,
            voluntary_switches: spent.voluntary,
            involuntary_switches: spent.involuntary,
            seconds: spent.time,
            fate,
        }
    }
}

impl Line for Share {
    fn line(&self, out: &mut Vec<u8>) {
        let (tid, name) = (self.tid, Escaped(&self.name.0).to_string());
        let line = match self.fate {
            Some("exited") => {
                format!("{tid:>7} {name:<15} exited meanwhile: what it used is part of the process's sum\n")
            }
            fate => format!(
                "{tid:>7} {name:<15} {:>7.1} {:>7.2} {:>7.2} {:>9} {:>9}{}\n",
                self.cpu_percent,
                self.user_seconds.as_secs_f64(),
                self.system_seconds.as_secs_f64(),
                self.voluntary_switches,
                self.involuntary_switches,
                if fate.is_some() { "  came meanwhile" } else { "" },
            ),
        };
        out.extend_from_slice(line.as_bytes());
    }
}

impl Line for Total {
    fn line(&self, out: &mut Vec<u8>) {
        let Self { threads, ran, came, exited, process_percent, .. } = self;
        let changes: String = [(came, "came"), (exited, "exited")]
            .iter()
            .filter(|(count, _)| **count > 0)
            .map(|(count, word)| format!(", {count} {word}"))
            .collect();
        let seconds = self.seconds.as_secs_f64();
        let line = format!(
            "{ran} of {threads} threads ran in {seconds:.1} s{changes}; the process used {process_percent:.1} % of one processor\n"
        );
        out.extend_from_slice(line.as_bytes());
    }
}

/// The JSON Schemas of what it answers with.
pub const SCHEMAS: [crate::shell::record::Schema; 2] = [Total::schema, Share::schema];
