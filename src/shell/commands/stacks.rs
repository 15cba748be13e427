//! `stacks`: the stack of every thread.
//!
//! All threads are captured first, in batches, then all their addresses are named at once, then the
//! text is written thread by thread as fast as the client takes it.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use rustc_hash::{FxHashMap, FxHashSet};

use super::{fail, threads};
use crate::config::level::Level;
use crate::protocol::Status;
use crate::shell::output::{Form, Output};
use crate::shell::parse::Arguments;
use crate::shell::stack_text::{Style, Text};
use crate::shell::{Command, Job, Step, World, stack_record};
use crate::stack::{Ending, Frame, Limits, Method, Outcome, ThreadStack};
use crate::sys::Errno;
use crate::sys::memory::Live;
use crate::sys::procfs;

pub const COMMAND: Command = Command {
    name: "stacks",
    level: Level::Observe,
    synopsis: "[TID|NAME-GLOB] [--group] [--raw] [--limit N]",
    summary: "Show the stack of every thread, or of some.",
    help: "stacks                  every thread\n\
           stacks 4711             one thread\n\
           stacks 'io_thd_*'       threads by name\n\
           stacks --group          equal stacks once, the most frequent first, with the list of their threads\n\
           stacks --limit 5        at most 5 frames a thread\n\
           stacks --raw            module + offset instead of names: nothing is looked up\n\n\
           Each header says how the thread was captured: proc (read while it was blocked, not touched),\n\
           ptrace (stopped for microseconds), signal (only where ptrace is refused), interrupted (the thread\n\
           that serves an oneshot), or none.\n\
           A stack that did not reach the thread's first frame ends with a line that says why.",
    schemas: &[stack_record::Stack::schema, stack_record::Exited::schema, stack_record::Summary::schema],
    start: |arguments| Ok(Box::new(Stacks::new(arguments)?)),
};

/// Threads captured in one step.
const BATCH: usize = 256;
/// Text written in one step.
const PIECE: usize = 64 << 10;

struct Stacks {
    which: Option<String>,
    group: bool,
    style: Style,
    limit: Option<u32>,
    stage: Stage,
    began: Instant,
    /// Modules were unloaded during the first capture: this is the second.
    again: bool,
}

/// How far it has come.
enum Stage {
    Listing,
    Capturing { tids: std::vec::IntoIter<i32>, outcomes: Vec<Outcome>, frames: usize, cut: usize, stopped: Duration },
    Writing { groups: std::vec::IntoIter<Vec<Outcome>>, text: Text, tally: Tally },
}

/// What the last line counts.
#[derive(Default)]
struct Tally {
    threads: usize,
    by_proc: usize,
    by_ptrace: usize,
    by_signal: usize,
    interrupted: usize,
    truncated: usize,
    exited: usize,
    cut: usize,
    unloaded: bool,
    stopped: Duration,
}

impl Stacks {
    fn new(words: &[String]) -> Result<Self, String> {
        let arguments = Arguments::parse(words, &["--group", "--raw"], &["--limit"])?;
        if arguments.rest.len() > 1 {
            return Err("takes one thread id or glob".to_owned());
        }
        Ok(Self {
            which: arguments.rest.first().map(|which| (*which).to_owned()),
            group: arguments.has("--group"),
            style: if arguments.has("--raw") { Style::Raw } else { Style::Named },
            limit: arguments.number("--limit", 1)?,
            stage: Stage::Listing,
            began: Instant::now(),
            again: false,
        })
    }

    fn list(&mut self, world: &mut World) -> Result<Stage, String> {
        self.began = Instant::now();
        world.look()?;
        let mut tids =
            procfs::thread_ids().map_err(|error| format!("cannot list /proc/self/task: {}", error.desc()))?;
        if let Some(which) = &self.which {
            tids.retain(|tid| threads::selects(which, *tid, &crate::inspect::threads::name(*tid)));
            if tids.is_empty() {
                return Err(format!("no thread matches {which:?}"));
            }
        }
        let cut = tids.len().saturating_sub(world.manhole.config.max_threads);
        tids.truncate(world.manhole.config.max_threads);
        Ok(Stage::Capturing {
            outcomes: Vec::with_capacity(tids.len()),
            tids: tids.into_iter(),
            frames: 0,
            cut,
            stopped: Duration::ZERO,
        })
    }
}

impl Job for Stacks {
    fn step(&mut self, world: &mut World, out: &mut Output) -> Step {
        match &mut self.stage {
            Stage::Listing => match self.list(world) {
                Ok(stage) => self.stage = stage,
                Err(error) => return fail(out, &error),
            },
            Stage::Capturing { tids, outcomes, frames, cut, stopped } => {
                let mut limits = world.manhole.config.limits;
                limits.frames = self.limit.map_or(limits.frames, |limit| limit.min(limits.frames));
                limits.total_frames = limits.total_frames.saturating_sub(*frames);
                let batch: Vec<i32> = tids.by_ref().take(BATCH).collect();
                let before = outcomes.len();
                let idle = self.which.is_none().then(|| world.idle_actor()).flatten();
                capture(world, &batch, idle, &limits, outcomes);
                *stopped = (*stopped).max(Duration::from_nanos(world.capture.statistics().max_stopped_ns));
                *frames += outcomes.iter().skip(before).map(frames_of).sum::<usize>();
                if tids.len() > 0 {
                    return Step::More;
                }
                // What was unloaded meanwhile must not be named by what came in its place.
                let unloaded = !world.modules.still_stand(&Live);
                if unloaded && !self.again {
                    self.again = true;
                    self.stage = Stage::Listing;
                    return Step::More;
                }
                let outcomes = std::mem::take(outcomes);
                let tally = Tally { unloaded, stopped: *stopped, ..Tally::count(&outcomes, *cut) };
                if self.style == Style::Named {
                    name(world, &outcomes);
                }
                let groups =
                    if self.group { group(outcomes) } else { outcomes.into_iter().map(|one| vec![one]).collect() };
                self.stage =
                    Stage::Writing { groups: groups.into_iter(), text: Text::new(self.style, self.limit), tally };
            }
            Stage::Writing { groups, text, tally } => {
                while out.len() < PIECE {
                    match groups.next() {
                        Some(group) if out.is_json() => stack_record::put(&group, self.style, self.limit, world, out),
                        Some(group) => text.write(&group, world, out.lines()),
                        None => {
                            let took = self.began.elapsed();
                            if out.is_json() {
                                out.put(&tally.record(took));
                            }
                            out.note(tally.line(took));
                            return Step::Done(Status::Success);
                        }
                    }
                }
            }
        }
        Step::More
    }
}

/// The whole dump for a caller without a session, piece by piece; how many threads it shows.
pub fn write_all(world: &mut World, sink: &mut dyn FnMut(&[u8]) -> Result<(), Errno>) -> Result<usize, Errno> {
    let mut job = Stacks::new(&[]).map_err(|_| Errno::EINVAL)?;
    let (mut threads, mut piece) = (0, Output::new(Form::Text));
    loop {
        let step = job.step(world, &mut piece);
        if let Stage::Writing { tally, .. } = &job.stage {
            threads = tally.threads;
        }
        sink(&piece.take())?;
        match step {
            // `stacks` never waits.
            Step::More | Step::Waiting(_) | Step::Remark(_) => {}
            Step::Done(Status::Success) | Step::Leave => return Ok(threads),
            Step::Done(_) => return Err(Errno::EIO),
        }
    }
}

fn frames_of(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Captured(stack) => stack.frames.len(),
        Outcome::Exited(_) => 0,
    }
}

fn capture(world: &mut World, tids: &[i32], idle: Option<i32>, limits: &Limits, outcomes: &mut Vec<Outcome>) {
    // A thread of ours that runs this cannot look at itself from outside; it says so in its place. An idle actor is noise.
    let writer = if world.capture.standing.is_some() { 0 } else { world.own_tid };
    let is_skipped = |tid: &i32| *tid == writer || Some(*tid) == idle;
    let (skipped, others): (Vec<i32>, Vec<i32>) = tids.iter().copied().partition(is_skipped);
    world.capture.capture(&world.modules, &mut world.unwinder, &others, limits, &mut |outcome| outcomes.push(outcome));
    for tid in skipped {
        let (name, state) = if tid == writer { ("Manhole", b'R') } else { ("Manhole actor", b'S') };
        outcomes.push(Outcome::Captured(ThreadStack {
            tid,
            name: name.as_bytes().to_vec(),
            state,
            call: None,
            method: Some(Method::Own),
            frames: Vec::new(),
            ending: Ending::FirstFrame,
        }));
    }
}

/// Names every distinct address of the dump, in one go.
fn name(world: &mut World, outcomes: &[Outcome]) {
    let addresses: FxHashSet<u64> = outcomes
        .iter()
        .flat_map(|outcome| match outcome {
            Outcome::Captured(stack) => stack.frames.as_slice(),
            Outcome::Exited(_) => &[],
        })
        .map(Frame::lookup_address)
        .collect();
    let mut addresses: Vec<u64> = addresses.into_iter().collect();
    addresses.sort_unstable();
    world.symbolizer.resolve(&world.modules, &addresses);
}

/// Threads with equal frames and ending together, the largest group first.
fn group(outcomes: Vec<Outcome>) -> Vec<Vec<Outcome>> {
    let mut groups: Vec<Vec<Outcome>> = Vec::new();
    let mut known: FxHashMap<Vec<u64>, usize> = FxHashMap::default();
    for outcome in outcomes {
        let key = match &outcome {
            Outcome::Captured(stack) if !stack.is_placeholder() => {
                let whole = u64::from(stack.ending == Ending::FirstFrame);
                stack.frames.iter().map(|frame| frame.pc).chain([whole]).collect()
            }
            _ => Vec::new(),
        };
        match known.get(&key).and_then(|index| groups.get_mut(*index)) {
            Some(group) if !key.is_empty() => group.push(outcome),
            _ => {
                known.insert(key, groups.len());
                groups.push(vec![outcome]);
            }
        }
    }
    groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
    groups
}

impl Tally {
    fn count(outcomes: &[Outcome], cut: usize) -> Self {
        let mut tally = Self { cut, ..Self::default() };
        for outcome in outcomes {
            let Outcome::Captured(stack) = outcome else {
                tally.exited += 1;
                continue;
            };
            tally.threads += 1;
            match stack.method {
                Some(Method::Proc) => tally.by_proc += 1,
                Some(Method::Ptrace) => tally.by_ptrace += 1,
                Some(Method::Signal) => tally.by_signal += 1,
                Some(Method::Interrupted) => tally.interrupted += 1,
                Some(Method::Own) | None => {}
            }
            tally.truncated += usize::from(stack.ending != Ending::FirstFrame);
        }
        tally
    }

    fn record(&self, took: Duration) -> stack_record::Summary {
        stack_record::Summary {
            threads: self.threads,
            by_proc: self.by_proc,
            by_ptrace: self.by_ptrace,
            by_signal: self.by_signal,
            interrupted: self.interrupted,
            truncated: self.truncated,
            exited: self.exited,
            not_captured: self.cut,
            unloaded: self.unloaded,
            stopped_seconds: self.stopped,
            seconds: took,
        }
    }

    fn line(&self, took: Duration) -> String {
        let mut line = format!("{} threads", self.threads);
        for (count, word) in [
            (self.by_proc, "by proc"),
            (self.by_ptrace, "by ptrace"),
            (self.by_signal, "by signal"),
            (self.interrupted, "interrupted"),
            (self.truncated, "truncated"),
            (self.exited, "exited meanwhile"),
        ] {
            if count > 0 {
                line.push_str(&format!(", {count} {word}"));
            }
        }
        if self.by_ptrace > 0 {
            line.push_str(&format!("; none stopped for more than {:.1} us", self.stopped.as_secs_f64() * 1e6));
        }
        if self.cut > 0 {
            line.push_str(&format!("; {} more were not captured (option max_threads)", self.cut));
        }
        if self.unloaded {
            line.push_str("; modules were unloaded meanwhile, twice: frames in what took their place may be misnamed");
        }
        line.push_str(&format!("; {:.1} ms\n", took.as_secs_f64() * 1e3));
        line
    }
}
