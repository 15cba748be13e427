//! Taking samples, a tick at a time, in steps of some milliseconds.
//!
//! A tick reads the CPU clock of every thread (0.3 µs each). A thread whose clock stands still has the stack that it had:
//! it costs nothing more. One whose clock moved is looked at again a moment later, and captured if it is on a processor
//! then ([`processor`]).
//!
//! - CPU profile: only those are. A sample weighs what the thread used since its last one, so that the weights of a thread
//!   sum up to what it used, whatever was missed. What it used and was never seen doing is told as that.
//! - Wall profile: all threads at every tick; a sample weighs the time since the last one.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use rustc_hash::{FxHashMap, FxHashSet};

use super::processor::{self, Candidate, MOMENT, Sorted};
use super::trie::{Key, Trie};
use crate::inspect::threads::name;
use crate::shell::commands::threads::selects;
use crate::shell::interval::Interval;
use crate::shell::{Step, World};
use crate::stack::{Ending, Frame, Limits, Method, Outcome, Reason, ThreadStack};
use crate::sys::pinning::{self, Pinned};
use crate::sys::{clock, filter, process, procfs};

/// How long one step works.
const SLICE: u64 = 3_000_000;
/// Threads captured in one go.
const BATCH: usize = 8;
/// How long it holds that a thread has just run.
const FRESH: u64 = 4_000_000;
/// More threads than this are not listed at every tick, but at every so-manyth.
const MANY: usize = 256;
const LISTED_EVERY: u64 = 32;
/// A new thread gets its name after its first breath: how often that is looked at.
const NAMING: u8 = 16;
/// Frames of a sample.
const FRAMES: u32 = 512;
/// How often the mappings are read again at most, when code was met that lies in none.
const LOOK: Duration = Duration::from_secs(1);

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long.
    pub length: Duration,
    /// Ticks a second.
    pub hz: u32,
    /// All threads, or those that run.
    pub wall: bool,
    /// Which threads.
    pub which: Option<String>,
}

/// What sampling was like.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// How long it took.
    pub length: Duration,
    /// Ticks that were held.
    pub ticks: u64,
    /// Ticks that were not, since the one before took too long or the observer had no processor.
    pub missed: u64,
    /// Samples taken.
    pub samples: u64,
    /// Threads that should have been sampled at a tick and were not, for want of time.
    pub skipped: u64,
    /// Samples among them of threads that had to make way for others at that moment.
    pub displaced: u64,
    /// CPU time of the process that belongs to no thread that was seen at two ticks, nor to the observer.
    pub ended: Duration,
    /// CPU time of the thread that did this.
    pub observer: Duration,
    /// The longest time that a thread was stopped, in nanoseconds.
    pub stopped: u64,
    /// Modules were unloaded meanwhile.
    pub unloaded: bool,
}

/// A thread.
struct Tracked {
    /// Its clock when it was met, when it was read last, and up to where samples account for it.
    born: u64,
    seen: u64,
    accounted: u64,
    /// When it was sampled last.
    sampled: u64,
    /// Its node, and that of its last stack with the clock at which it had it.
    root: Option<u32>,
    leaf: Option<(u32, u64)>,
    is_meant: bool,
    naming: u8,
}

enum Phase {
    Resting,
    Scanning { next: usize, moved: Vec<Candidate> },
    Looking { until: u64, moved: Vec<Candidate> },
    Capturing { running: Vec<Candidate>, others: Vec<Candidate>, since: u64 },
    Closing { next: usize, used: u64 },
    Over,
}

/// A profile that is being taken.
pub struct Sampler {
    settings: Settings,
    interval: Option<Interval>,
    phase: Phase,
    tids: Vec<i32>,
    tracked: FxHashMap<i32, Tracked>,
    /// The thread that does this, and another of ours if it sleeps: neither is sampled.
    own: i32,
    idle: Option<i32>,
    next_tick: u64,
    began: u64,
    /// The clock of the process: after the first reading of the threads' clocks, and before the last. So what is
    /// missed there is none of theirs.
    process_began: Duration,
    process_ended: Duration,
    /// What threads used that are gone.
    used_by_gone: u64,
    generation: u64,
    looked: Instant,
    /// Code was met that lies in no module.
    strange: bool,
    /// Nobody runs while the observer does.
    is_only_processor: bool,
    /// No seccomp filter watches what the observer calls.
    may_pin: bool,
    /// Samples.
    pub trie: Trie,
    /// What it was like so far.
    pub facts: Facts,
}

impl Sampler {
    /// Has not begun.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            interval: None,
            phase: Phase::Resting,
            tids: Vec::new(),
            tracked: FxHashMap::default(),
            own: 0,
            idle: None,
            next_tick: 0,
            began: 0,
            process_began: Duration::ZERO,
            process_ended: Duration::ZERO,
            used_by_gone: 0,
            generation: 0,
            looked: Instant::now(),
            strange: false,
            is_only_processor: false,
            may_pin: false,
            trie: Trie::default(),
            facts: Facts::default(),
        }
    }

    /// No more ticks: what there is counts.
    pub fn stop(&mut self) {
        self.process_ended = process_time();
        self.phase = Phase::Closing { next: 0, used: 0 };
    }

    /// A piece of the work; `None` when all is sampled.
    pub fn step(&mut self, world: &mut World) -> Result<Option<Step>, String> {
        let Some(interval) = &mut self.interval else { return self.begin(world).map(Some) };
        let now = clock::monotonic();
        match &mut self.phase {
            Phase::Resting => {
                if interval.elapsed() >= self.settings.length {
                    self.stop();
                } else if now < self.next_tick {
                    let tick = Instant::now() + Duration::from_nanos(self.next_tick - now);
                    return Ok(Some(interval.remark().unwrap_or(Step::Waiting(tick.min(interval.end())))));
                } else {
                    self.tick(now, world)?;
                }
            }
            Phase::Scanning { next, moved } => {
                let (from, moved) = (*next, std::mem::take(moved));
                self.phase = self.scan(from, moved);
            }
            Phase::Looking { until, moved } => {
                if let Some(left) = until.checked_sub(now).filter(|left| *left > 0) {
                    return Ok(Some(Step::Waiting(Instant::now() + Duration::from_nanos(left))));
                }
                let moved = std::mem::take(moved);
                self.phase = self.look_again(moved);
            }
            Phase::Capturing { running, others, since } => {
                let (running, others, since) = (std::mem::take(running), std::mem::take(others), *since);
                self.phase = self.capture(running, others, since, world);
            }
            Phase::Closing { next, used } => {
                let (from, used) = (*next, *used);
                self.phase = self.close(from, used, world);
            }
            Phase::Over => return Ok(None),
        }
        Ok(Some(Step::More))
    }

    fn period(&self) -> u64 {
        1_000_000_000 / u64::from(self.settings.hz.max(1))
    }

    /// The first look at all threads: where their clocks stand.
    fn begin(&mut self, world: &mut World) -> Result<Step, String> {
        if !process::proc_is_of_our_namespace() {
            return Err("/proc is that of another pid namespace, and the clocks of threads are not known".to_owned());
        }
        self.may_pin = process::seccomp_filters() == 0;
        self.is_only_processor = self.may_pin && pinning::processors() == Ok(1);
        world.look()?;
        self.generation = world.modules.generation();
        self.list(world)?;
        self.look_for_meant()?;
        self.began = clock::monotonic();
        self.next_tick = self.began + self.period();
        self.interval = Some(Interval::of(self.settings.length));
        self.phase = Phase::Scanning { next: 0, moved: Vec::new() };
        Ok(Step::More)
    }

    fn tick(&mut self, now: u64, world: &mut World) -> Result<(), String> {
        let late = (now - self.next_tick) / self.period();
        self.next_tick += (late + 1) * self.period();
        self.facts.missed += late;
        self.facts.ticks += 1;
        if self.tids.len() < MANY || self.facts.ticks.is_multiple_of(LISTED_EVERY) {
            self.list(world)?;
        }
        // One that the application adds now may punish what was allowed before.
        filter::look();
        self.may_pin &= !filter::has_grown();
        if self.strange && self.looked.elapsed() > LOOK {
            // A module was loaded meanwhile, maybe.
            world.look()?;
            (self.strange, self.looked) = (false, Instant::now());
        }
        self.phase = Phase::Scanning { next: 0, moved: Vec::new() };
        Ok(())
    }

    fn list(&mut self, world: &World) -> Result<(), String> {
        let tids = procfs::thread_ids().map_err(|error| format!("cannot list /proc/self/task: {}", error.desc()))?;
        if self.tracked.len() > tids.len() {
            let there: FxHashSet<i32> = tids.iter().copied().collect();
            let gone: Vec<i32> = self.tracked.keys().copied().filter(|tid| !there.contains(tid)).collect();
            for tid in gone {
                self.forget(tid);
            }
        }
        self.tids = tids;
        (self.own, self.idle) = (world.own_tid, world.idle_actor());
        Ok(())
    }

    /// Whether a thread is meant at all.
    fn look_for_meant(&self) -> Result<(), String> {
        match &self.settings.which {
            Some(which) if !self.tids.iter().any(|tid| selects(which, *tid, &name(*tid))) => {
                Err(format!("no thread matches {which:?}"))
            }
            _ => Ok(()),
        }
    }

    /// A thread is gone: what it used since its last sample was not seen.
    fn forget(&mut self, tid: i32) {
        if let Some(mut thread) = self.tracked.remove(&tid) {
            self.used_by_gone += thread.seen.saturating_sub(thread.born);
            let unseen = thread.seen.saturating_sub(thread.accounted);
            if !self.settings.wall && thread.is_meant {
                unseen_running(&mut self.trie, tid, &mut thread, unseen);
            }
        }
    }

    /// Reads the clocks from the thread number `from` on; who moved since the last tick is added to `moved`.
    fn scan(&mut self, from: usize, mut moved: Vec<Candidate>) -> Phase {
        let now = clock::monotonic();
        let is_first = self.facts.ticks == 0;
        let tids = std::mem::take(&mut self.tids);
        let mut next = from;
        for tid in tids.iter().skip(from) {
            next += 1;
            let Ok(used) = clock::thread_run_time(*tid) else { continue };
            if self.tracked.get(tid).is_some_and(|thread| used < thread.seen) {
                // Another thread, which has got the same id.
                self.forget(*tid);
            }
            let thread = self.tracked.entry(*tid).or_insert_with(|| {
                // One that came after the begin has used all that it used since then.
                let born = if is_first { used } else { 0 };
                Tracked {
                    born,
                    seen: born,
                    accounted: born,
                    sampled: if is_first {
                        now
                    } else {
                        now.saturating_sub(1_000_000_000 / u64::from(self.settings.hz))
                    },
                    root: None,
                    leaf: None,
                    is_meant: self.settings.which.is_none(),
                    naming: NAMING,
                }
            });
            if let (false, 1.., Some(which)) = (thread.is_meant, thread.naming, &self.settings.which) {
                thread.naming -= 1;
                thread.is_meant = selects(which, *tid, &name(*tid));
            }
            let before = std::mem::replace(&mut thread.seen, used);
            if is_first || !thread.is_meant || *tid == self.own || Some(*tid) == self.idle {
                continue;
            }
            match thread.leaf {
                Some((leaf, at)) if self.settings.wall && at == used => {
                    self.trie.give(leaf, now.saturating_sub(thread.sampled), 1);
                    thread.sampled = now;
                    self.facts.samples += 1;
                }
                _ if self.settings.wall || used > before => moved.push((*tid, used)),
                _ => {}
            }
            if next.is_multiple_of(64) && clock::monotonic() > now + SLICE {
                break;
            }
        }
        let is_end = next >= tids.len();
        self.tids = tids;
        if is_first && is_end {
            self.process_began = process_time();
        }
        match (is_end, moved.is_empty()) {
            (false, _) => Phase::Scanning { next, moved },
            (true, true) => Phase::Resting,
            (true, false) => Phase::Looking { until: clock::monotonic() + MOMENT, moved },
        }
    }

    /// Tells those that run from those that do not.
    fn look_again(&mut self, mut moved: Vec<Candidate>) -> Phase {
        // Nobody is always the last one, for whom there is no time.
        let turn = self.facts.ticks as usize % moved.len().max(1);
        moved.rotate_left(turn);
        let Sorted { mut running, mut displaced, mut others } = Sorted::look(moved);
        if self.settings.wall {
            // Waiting for a processor is waiting like any other.
            running.append(&mut displaced);
        } else {
            others.clear();
        }
        if self.is_only_processor {
            self.facts.displaced += displaced.len() as u64;
            running.append(&mut displaced);
        } else if running.is_empty() && self.may_pin {
            running = processor::step_aside(&displaced);
        }
        Phase::Capturing { running, others, since: clock::monotonic() }
    }

    fn capture(
        &mut self,
        mut running: Vec<Candidate>,
        mut others: Vec<Candidate>,
        since: u64,
        world: &mut World,
    ) -> Phase {
        let begin = clock::monotonic();
        while clock::monotonic() < begin + SLICE {
            if clock::monotonic() > since + FRESH {
                self.facts.skipped += running.len() as u64;
                running.clear();
            }
            if clock::monotonic() > self.next_tick.max(since + FRESH) {
                self.facts.skipped += others.len() as u64;
                others.clear();
            }
            let are_running = !running.is_empty();
            let queue = if are_running { &mut running } else { &mut others };
            let batch: Vec<Candidate> = queue.drain(..queue.len().min(BATCH)).collect();
            if batch.is_empty() {
                return Phase::Resting;
            }
            self.sample(&batch, are_running, world);
        }
        Phase::Capturing { running, others, since }
    }

    fn sample(&mut self, batch: &[Candidate], are_running: bool, world: &mut World) {
        let tids: Vec<i32> = batch.iter().map(|(tid, _)| *tid).collect();
        let configured = world.manhole.config.limits;
        let limits = Limits { frames: configured.frames.min(FRAMES), ..configured };
        let mut stacks = Vec::with_capacity(tids.len());
        world.capture.are_settled = are_running;
        let _pinned = (are_running && self.may_pin && !self.is_only_processor).then(Pinned::here);
        let (capture, unwinder) = (&mut world.capture, &mut world.unwinder);
        capture.capture(&world.modules, unwinder, &tids, &limits, &mut |outcome| match outcome {
            Outcome::Captured(stack) => stacks.push(stack),
            Outcome::Exited(_) => {}
        });
        world.capture.are_settled = false;
        self.facts.stopped = self.facts.stopped.max(world.capture.statistics().max_stopped_ns);
        for stack in stacks {
            let used = batch.iter().find(|(tid, _)| *tid == stack.tid).map_or(0, |(_, used)| *used);
            self.count(&stack, used);
        }
    }

    /// Counts one captured stack of a thread whose clock stood at `used` before.
    fn count(&mut self, stack: &ThreadStack, used: u64) {
        // It has blocked since: it is no place where it uses a processor.
        if !self.settings.wall && stack.method == Some(Method::Proc) {
            return;
        }
        let Some(thread) = self.tracked.get_mut(&stack.tid) else { return };
        let trie = &mut self.trie;
        let root = *thread.root.get_or_insert_with(|| trie.thread(stack.tid, &stack.name));
        let doubt = match (stack.ending, stack.frames.is_empty()) {
            (_, true) => Some(Key::NotCaptured),
            (Ending::FirstFrame, false) => None,
            (Ending::Truncated(reason), false) => {
                self.strange |= matches!(reason, Reason::NotCode(_) | Reason::NoUnwindInfo(_));
                Some(Key::Truncated)
            }
        };
        let frames = stack.frames.iter().rev().map(Frame::lookup_address).map(Key::Address);
        let leaf = trie.leaf(root, doubt.into_iter().chain(frames));
        let now = clock::monotonic();
        let weight = if self.settings.wall {
            now.saturating_sub(std::mem::replace(&mut thread.sampled, now))
        } else {
            used.saturating_sub(std::mem::replace(&mut thread.accounted, used))
        };
        // Only what was not touched is known to stay: a stop makes a thread run.
        thread.leaf = Some((leaf, used)).filter(|_| stack.method == Some(Method::Proc));
        trie.give(leaf, weight, 1);
        self.facts.samples += 1;
    }

    /// What was used and not seen, of the threads from number `from` on; and what the whole cost.
    fn close(&mut self, from: usize, mut used_by_all: u64, world: &mut World) -> Phase {
        let begin = clock::monotonic();
        let tids = std::mem::take(&mut self.tids);
        let mut next = from;
        for tid in tids.iter().skip(from) {
            next += 1;
            let Some(thread) = self.tracked.get_mut(tid) else { continue };
            let used = clock::thread_run_time(*tid).unwrap_or(thread.seen);
            used_by_all += used.saturating_sub(thread.born);
            if *tid == world.own_tid {
                self.facts.observer = Duration::from_nanos(used.saturating_sub(thread.born));
            } else if !self.settings.wall && thread.is_meant {
                let unseen = used.saturating_sub(thread.accounted);
                unseen_running(&mut self.trie, *tid, thread, unseen);
            }
            if next.is_multiple_of(64) && clock::monotonic() > begin + SLICE {
                break;
            }
        }
        let is_end = next >= tids.len();
        self.tids = tids;
        if !is_end {
            return Phase::Closing { next, used: used_by_all };
        }
        self.facts.length = Duration::from_nanos(clock::monotonic().saturating_sub(self.began));
        let process = self.process_ended.saturating_sub(self.process_began);
        self.facts.ended = process.saturating_sub(Duration::from_nanos(used_by_all + self.used_by_gone));
        // What was unloaded must not be named by what came in its place.
        self.facts.unloaded = world.look().is_err() || world.modules.generation() != self.generation;
        Phase::Over
    }
}

fn unseen_running(trie: &mut Trie, tid: i32, thread: &mut Tracked, nanoseconds: u64) {
    if nanoseconds < 1000 {
        return;
    }
    let root = *thread.root.get_or_insert_with(|| trie.thread(tid, &name(tid)));
    let leaf = trie.leaf(root, std::iter::once(Key::Unseen));
    trie.give(leaf, nanoseconds, 0);
}

/// Time on processors of all threads of this process, of those that have exited too.
fn process_time() -> Duration {
    clock::now(libc::CLOCK_PROCESS_CPUTIME_ID).unwrap_or_default()
}
