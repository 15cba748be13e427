//! `stacks --diff`: two looks at all threads, and which of them moved in between: the first question about a hang.
//!
//! A thread is judged by what it used of the processors and by its stack. Capturing may wake a blocked thread (ptrace),
//! so its use is read first after the first look and last before the second: what lies in between is its own.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use rustc_hash::{FxHashMap, FxHashSet};

use super::gather::{self, Round};
use crate::inspect::strings::Escaped;
use crate::inspect::threads::Reader;
use crate::inspect::usage::{Spent, Usage};
use crate::protocol::Status;
use crate::record;
use crate::shell::commands::fail;
use crate::shell::interval::Interval;
use crate::shell::json::Bytes;
use crate::shell::output::Output;
use crate::shell::record::{Line, Schema};
use crate::shell::stack_record::{self, Function};
use crate::shell::stack_text::{Style, Text};
use crate::shell::{Job, Step, World};
use crate::stack::{Ending, Frame, Limits, Method, Outcome, ThreadStack};

/// A thread that was woken by the first look has time to fall asleep again.
const SETTLE: Duration = Duration::from_millis(20);
/// How long one step reads what threads use.
const SLICE: Duration = Duration::from_millis(3);
/// Text written in one step.
const PIECE: usize = 64 << 10;
/// Functions on a line for eyes.
const SHOWN: usize = 4;

/// The JSON Schemas of what it answers with, beside those of stacks.
pub const SCHEMAS: [Schema; 2] = [Difference::schema, Change::schema];

/// The job.
pub struct Diff {
    which: Option<String>,
    length: Duration,
    style: Style,
    limit: Option<u32>,
    reader: Reader,
    stage: Stage,
    before: FxHashMap<i32, ThreadStack>,
    /// The manhole's own threads, as far as a look has found them idle.
    own: FxHashSet<i32>,
    used_before: FxHashMap<i32, Usage>,
    used_after: FxHashMap<i32, Usage>,
    cut: usize,
    /// What was mapped where at the first look.
    generation: u64,
}

enum Stage {
    Listing,
    First(Round),
    Settling(Interval),
    UsedBefore(std::vec::IntoIter<i32>),
    Waiting(Interval),
    UsedAfter(std::vec::IntoIter<i32>, Round),
    Second(Round),
    Changes(std::vec::IntoIter<Moved>, Vec<Outcome>),
    Still(std::vec::IntoIter<Vec<Outcome>>, Text),
}

/// What is said of a thread that was not still, in the order in which it is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Moved,
    Woke,
    New,
    Gone,
}

/// A thread that was not still.
struct Moved {
    verdict: Verdict,
    before: Option<ThreadStack>,
    after: Option<ThreadStack>,
    spent: Spent,
}

record! {
    /// A thread that was not still.
    struct Change as "change" {
        /// moved: it ran, or is elsewhere. woke: it blocked at least once, and is where it was before. new: it came
        /// meanwhile. gone: it exited.
        verdict: &'static str,
        /// Its id.
        tid: i32,
        /// Its name.
        name: Bytes,
        /// The kernel's letter for its state at the second look; null if it is gone.
        state: Option<String>,
        /// Time on a processor in between.
        cpu_seconds: Duration,
        /// How often it blocked or yielded.
        voluntary_switches: u64,
        /// How often it was preempted.
        involuntary_switches: u64,
        /// Its stack at the first look; null if it is new, and if it is the same as after.
        before: Option<Vec<Function>>,
        /// Its stack at the second look; null if it is gone.
        after: Option<Vec<Function>>,
    }
}

record! {
    /// Two looks at the threads, compared.
    struct Difference as "difference" {
        /// Threads at the second look, without the manhole's own.
        threads: usize,
        /// Of them: ran, or are elsewhere.
        moved: usize,
        /// Blocked at least once, and are where they were before.
        woke: usize,
        /// Did not run at all: their stacks follow, equal ones once.
        still: usize,
        /// Came meanwhile.
        new: usize,
        /// Exited meanwhile; not among `threads`.
        gone: usize,
        /// Threads beyond the option max_threads.
        not_captured: usize,
        /// Modules were unloaded meanwhile: the frames before may be misnamed.
        unloaded: bool,
        /// The time in between.
        seconds: Duration,
    }
}

impl Diff {
    /// Of the threads that `which` selects, `length` apart.
    pub fn new(which: Option<String>, length: Duration, style: Style, limit: Option<u32>) -> Self {
        Self {
            which,
            length,
            style,
            limit,
            reader: Reader::new(),
            stage: Stage::Listing,
            before: FxHashMap::default(),
            own: FxHashSet::default(),
            used_before: FxHashMap::default(),
            used_after: FxHashMap::default(),
            cut: 0,
            generation: 0,
        }
    }

    /// Two looks share the memory of one dump.
    fn limits(&self, world: &World) -> Limits {
        let limits = world.manhole.config.limits;
        let frames = self.limit.map_or(limits.frames, |limit| limit.min(limits.frames));
        Limits { frames, total_frames: limits.total_frames / 2, ..limits }
    }

    fn keep_first(&mut self, round: Round) -> Stage {
        self.own.extend(round.outcomes.iter().filter_map(own));
        self.before = round.outcomes.into_iter().filter_map(captured).map(|stack| (stack.tid, stack)).collect();
        Stage::Settling(Interval::of(SETTLE))
    }

    /// Reads what threads used into `used`, for a slice; whether that is all.
    fn read(reader: &Reader, tids: &mut std::vec::IntoIter<i32>, used: &mut FxHashMap<i32, Usage>) -> bool {
        let until = Instant::now() + SLICE;
        while Instant::now() < until {
            let Some(tid) = tids.next() else { break };
            used.extend(Usage::read(reader, tid).ok().map(|(usage, _)| (tid, usage)));
        }
        tids.len() == 0
    }

    /// Both looks are taken: judges, names, and tells the result.
    fn compare(&mut self, round: Round, world: &mut World, out: &mut Output) -> Stage {
        let seconds = self.seconds();
        let (mut changes, mut still) = (Vec::new(), Vec::new());
        // The actor, which had something to do at one look only, is neither new nor gone.
        self.own.extend(round.outcomes.iter().filter_map(own));
        self.before.retain(|tid, _| !self.own.contains(tid));
        for after in round.outcomes.into_iter().filter_map(captured) {
            let tid = after.tid;
            if self.own.contains(&tid) {
                continue;
            }
            let before = self.before.remove(&tid);
            let used = (self.used_before.get(&tid), self.used_after.get(&tid));
            let spent = if let (Some(first), Some(second)) = used { second.since(first) } else { None };
            let (Some(old), Some(spent)) = (before.as_ref(), spent) else {
                changes.extend(before.map(|before| Moved::without(Verdict::Gone, Some(before), None)));
                let spent = used.1.map(|usage| usage.in_all(usage.at)).unwrap_or_default();
                changes.push(Moved { spent, ..Moved::without(Verdict::New, None, Some(after)) });
                continue;
            };
            match judge(old, &after, &spent) {
                None => still.push(Outcome::Captured(after)),
                Some(verdict) => changes.push(Moved { verdict, before, after: Some(after), spent }),
            }
        }
        changes.extend(self.before.drain().map(|(_, before)| Moved::without(Verdict::Gone, Some(before), None)));
        let key = |moved: &Moved| (moved.verdict, std::cmp::Reverse(moved.spent.cpu), moved.tid());
        changes.sort_by_key(key);
        if self.style == Style::Named {
            let stacks = changes.iter().flat_map(|moved| moved.before.iter().chain(&moved.after));
            gather::name(world, stacks.map(|stack| stack.frames.as_slice()).chain(gather::all_frames(&still)));
        }
        let count = |verdict| changes.iter().filter(|moved| moved.verdict == verdict).count();
        let gone = count(Verdict::Gone);
        let difference = Difference {
            threads: changes.len() - gone + still.len(),
            moved: count(Verdict::Moved),
            woke: count(Verdict::Woke),
            still: still.len(),
            new: count(Verdict::New),
            gone,
            not_captured: self.cut.max(round.cut),
            unloaded: self.generation != world.modules.generation(),
            seconds,
        };
        out.put(&difference);
        if !changes.is_empty() {
            out.note("\n        TID NAME               CPU ms  SWITCHES  TOP FRAMES, before and after\n");
        }
        Stage::Changes(changes.into_iter(), still)
    }

    /// The time between the readings of any thread.
    fn seconds(&self) -> Duration {
        let times = self.used_after.iter().filter_map(|(tid, after)| after.since(self.used_before.get(tid)?));
        times.map(|spent| spent.time).next().unwrap_or(self.length)
    }
}

/// The manhole's own thread that this is of.
fn own(outcome: &Outcome) -> Option<i32> {
    match outcome {
        Outcome::Captured(stack) if stack.method == Some(Method::Own) => Some(stack.tid),
        _ => None,
    }
}

/// What is compared: neither who exited during a look nor what is the manhole's own.
fn captured(outcome: Outcome) -> Option<ThreadStack> {
    match outcome {
        Outcome::Captured(stack) if stack.method != Some(Method::Own) => Some(stack),
        _ => None,
    }
}

/// What became of a thread; `None` when it was still.
fn judge(before: &ThreadStack, after: &ThreadStack, spent: &Spent) -> Option<Verdict> {
    match (is_same(before, after), spent.is_nothing()) {
        (true, true) => None,
        (true, false) if spent.voluntary > 0 && after.call.is_some() => Some(Verdict::Woke),
        _ => Some(Verdict::Moved),
    }
}

/// Whether two stacks are one, as far as both are known.
fn is_same(one: &ThreadStack, other: &ThreadStack) -> bool {
    let pcs = one.frames.iter().zip(&other.frames).all(|(one, other)| one.pc == other.pc);
    let is_whole = |stack: &ThreadStack| stack.ending == Ending::FirstFrame;
    pcs && (one.frames.len() == other.frames.len() || !is_whole(one) || !is_whole(other))
}

impl Moved {
    fn without(verdict: Verdict, before: Option<ThreadStack>, after: Option<ThreadStack>) -> Self {
        Self { verdict, before, after, spent: Spent::default() }
    }

    fn tid(&self) -> i32 {
        self.after.as_ref().or(self.before.as_ref()).map_or(0, |stack| stack.tid)
    }

    fn record(self, diff: &Presented, world: &World) -> Change {
        let functions = |stack: &ThreadStack| {
            let all = stack.frames.iter().flat_map(|frame: &Frame| stack_record::functions(frame, diff.style, world));
            all.take(diff.limit.map_or(usize::MAX, |limit| limit as usize)).collect()
        };
        let name = self.after.as_ref().or(self.before.as_ref()).map(|stack| stack.name.clone()).unwrap_or_default();
        Change {
            verdict: match self.verdict {
                Verdict::Moved => "moved",
                Verdict::Woke => "woke",
                Verdict::New => "new",
                Verdict::Gone => "gone",
            },
            tid: self.tid(),
            name: Bytes(name),
            state: self.after.as_ref().map(|stack| char::from(stack.state).to_string()),
            cpu_seconds: self.spent.cpu,
            voluntary_switches: self.spent.voluntary,
            involuntary_switches: self.spent.involuntary,
            before: self.before.as_ref().filter(|_| self.verdict != Verdict::Woke).map(functions),
            after: self.after.as_ref().map(functions),
        }
    }
}

/// How stacks are shown.
struct Presented {
    style: Style,
    limit: Option<u32>,
}

impl Job for Diff {
    fn step(&mut self, world: &mut World, out: &mut Output) -> Step {
        let limits = self.limits(world);
        let noise = self.which.is_none();
        match &mut self.stage {
            Stage::Listing => match Round::begin(world, self.which.as_deref()) {
                Ok(round) => {
                    (self.cut, self.generation) = (round.cut, world.modules.generation());
                    self.stage = Stage::First(round);
                }
                Err(error) => return fail(out, &error),
            },
            Stage::First(round) => {
                if round.step(world, limits, noise) {
                    let round = std::mem::take(round);
                    self.stage = self.keep_first(round);
                }
            }
            Stage::Settling(interval) => match interval.wait() {
                Some(step) => return step,
                None => {
                    let tids: Vec<i32> = self.before.keys().copied().collect();
                    self.stage = Stage::UsedBefore(tids.into_iter());
                }
            },
            Stage::UsedBefore(tids) => {
                if Self::read(&self.reader, tids, &mut self.used_before) {
                    self.stage = Stage::Waiting(Interval::of(self.length));
                }
            }
            Stage::Waiting(interval) => match interval.wait() {
                Some(step) => return step,
                // A glob that matched before may match nothing now: all are gone.
                None => {
                    let round = Round::begin(world, self.which.as_deref()).unwrap_or_default();
                    self.stage = Stage::UsedAfter(round.rest().to_vec().into_iter(), round);
                }
            },
            Stage::UsedAfter(tids, round) => {
                if Self::read(&self.reader, tids, &mut self.used_after) {
                    self.stage = Stage::Second(std::mem::take(round));
                }
            }
            Stage::Second(round) => {
                if round.rest().is_empty() || round.step(world, limits, noise) {
                    let round = std::mem::take(round);
                    self.stage = self.compare(round, world, out);
                }
            }
            Stage::Changes(changes, still) => {
                let presented = Presented { style: self.style, limit: self.limit };
                while out.len() < PIECE {
                    let Some(change) = changes.next() else {
                        let groups = gather::group(std::mem::take(still));
                        if !groups.is_empty() {
                            out.note("\nStill, equal stacks once:\n\n");
                        }
                        self.stage = Stage::Still(groups.into_iter(), Text::new(self.style, self.limit));
                        break;
                    };
                    out.put(&change.record(&presented, world));
                }
            }
            Stage::Still(groups, text) => {
                while out.len() < PIECE {
                    match groups.next() {
                        Some(group) if out.is_json() => stack_record::put(&group, self.style, self.limit, world, out),
                        Some(group) => text.write(&group, world, out.lines()),
                        None => return Step::Done(Status::Success),
                    }
                }
            }
        }
        Step::More
    }
}

impl Line for Difference {
    fn line(&self, out: &mut Vec<u8>) {
        let Self { threads, moved, woke, still, new, gone, .. } = self;
        let mut line = format!("{moved} of {threads} threads moved in {:.1} s", self.seconds.as_secs_f64());
        for (count, text) in [
            (woke, "woke and went back to the same place"),
            (still, "did not run at all"),
            (new, "new"),
            (gone, "gone"),
            (&self.not_captured, "more were not looked at (option max_threads)"),
        ] {
            if *count > 0 {
                line.push_str(&format!("; {count} {text}"));
            }
        }
        if self.unloaded {
            line.push_str("; modules were unloaded meanwhile: the frames before may be misnamed");
        }
        line.push('\n');
        out.extend_from_slice(line.as_bytes());
    }
}

impl Line for Change {
    fn line(&self, out: &mut Vec<u8>) {
        let switches = self.voluntary_switches.saturating_add(self.involuntary_switches);
        let (before, after) = (self.before.as_deref().map(top), self.after.as_deref().map(top));
        let (first, second) = match (before, after) {
            (Some(before), Some(after)) if before != after => (before, Some(format!("-> {after}"))),
            (Some(before), None) => (before, None),
            (_, after) => (after.unwrap_or_default(), None),
        };
        let name = Escaped(&self.name.0).to_string();
        let cpu = self.cpu_seconds.as_secs_f64() * 1e3;
        let mut text = format!("{:<5} {:>6} {name:<15} {cpu:>9.1} {switches:>9}  {first}\n", self.verdict, self.tid);
        if let Some(second) = second {
            text.push_str(&format!("{:45}{second}\n", ""));
        }
        out.extend_from_slice(text.as_bytes());
    }
}

/// The innermost functions on one line.
fn top(functions: &[Function]) -> String {
    let mut text = String::new();
    for (index, function) in functions.iter().take(SHOWN).enumerate() {
        text.push_str(if index == 0 { "" } else { " < " });
        match (&function.function, &function.module, &function.module_offset) {
            (Some(name), ..) => text.push_str(&Escaped(name.as_bytes()).to_string()),
            (None, Some(module), Some(offset)) => {
                let name = module.0.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
                text.push_str(&format!("{}+{:#x}", Escaped(name), offset.0));
            }
            _ => text.push_str(&format!("{:#x}", function.pc.0)),
        }
    }
    match (functions.len(), functions.get(SHOWN)) {
        (0, _) => text.push_str("(not captured)"),
        (_, Some(_)) => text.push_str(" < …"),
        _ => {}
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::{Call, FrameSource, Reason};

    fn stack(pcs: &[u64], whole: bool, blocked: bool) -> ThreadStack {
        let frame = |pc: &u64| Frame { pc: *pc, sp: 0, source: FrameSource::Cfi };
        ThreadStack {
            tid: 1,
            name: Vec::new(),
            state: b'S',
            call: blocked.then(Call::default),
            method: Some(Method::Proc),
            frames: pcs.iter().map(frame).collect(),
            ending: if whole { Ending::FirstFrame } else { Ending::Truncated(Reason::KeptMoving) },
        }
    }

    #[test]
    fn the_verdict_needs_both_stack_and_clock() {
        let (here, there) = (stack(&[1, 2], true, true), stack(&[3, 2], true, true));
        let nothing = Spent::default();
        let woke = Spent { voluntary: 1, cpu: Duration::from_micros(9), ..nothing };
        let ran = Spent { cpu: Duration::from_millis(9), involuntary: 3, ..nothing };
        assert_eq!(judge(&here, &here, &nothing), None);
        assert_eq!(judge(&here, &here, &woke), Some(Verdict::Woke));
        assert_eq!(judge(&here, &here, &ran), Some(Verdict::Moved));
        assert_eq!(judge(&here, &stack(&[1, 2], true, false), &woke), Some(Verdict::Moved));
        assert_eq!(judge(&here, &there, &woke), Some(Verdict::Moved));
        assert_eq!(judge(&here, &there, &nothing), Some(Verdict::Moved));
        assert_eq!(judge(&here, &stack(&[1, 2, 4], true, true), &nothing), Some(Verdict::Moved));
        // One look did not reach the first frame: as far as both are known they are one.
        assert_eq!(judge(&here, &stack(&[1], false, true), &nothing), None);
        assert_eq!(judge(&here, &stack(&[], false, true), &nothing), None);
    }
}
