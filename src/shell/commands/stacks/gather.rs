//! One look at the stacks of all threads, or of some: listed, captured in batches, named, grouped.

#![forbid(unsafe_code)]

use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::shell::World;
use crate::shell::commands::threads;
use crate::stack::{Ending, Frame, Limits, Method, Outcome, ThreadStack};
use crate::sys::procfs;

/// Threads captured in one step.
const BATCH: usize = 256;

/// A look that is being taken.
#[derive(Default)]
pub struct Round {
    tids: std::vec::IntoIter<i32>,
    /// What became of each thread so far.
    pub outcomes: Vec<Outcome>,
    frames: usize,
    /// Threads beyond the option `max_threads`.
    pub cut: usize,
    /// The longest time that one of them was stopped.
    pub stopped: Duration,
}

impl Round {
    /// Lists the threads that `which` selects.
    pub fn begin(world: &mut World, which: Option<&str>) -> Result<Self, String> {
        world.look()?;
        let mut tids =
            procfs::thread_ids().map_err(|error| format!("cannot list /proc/self/task: {}", error.desc()))?;
        if let Some(which) = which {
            tids.retain(|tid| threads::selects(which, *tid, &crate::inspect::threads::name(*tid)));
            if tids.is_empty() {
                return Err(format!("no thread matches {which:?}"));
            }
        }
        let cut = tids.len().saturating_sub(world.manhole.config.max_threads);
        tids.truncate(world.manhole.config.max_threads);
        Ok(Self { outcomes: Vec::with_capacity(tids.len()), tids: tids.into_iter(), cut, ..Self::default() })
    }

    /// The threads that are not captured yet.
    pub fn rest(&self) -> &[i32] {
        self.tids.as_slice()
    }

    /// Captures some more within `limits`, which are those of the whole round; true when all are. An idle actor is left
    /// out if it would be `noise`.
    pub fn step(&mut self, world: &mut World, mut limits: Limits, noise: bool) -> bool {
        limits.total_frames = limits.total_frames.saturating_sub(self.frames);
        let batch: Vec<i32> = self.tids.by_ref().take(BATCH).collect();
        let before = self.outcomes.len();
        let idle = noise.then(|| world.idle_actor()).flatten();
        capture(world, &batch, idle, &limits, &mut self.outcomes);
        self.stopped = self.stopped.max(Duration::from_nanos(world.capture.statistics().max_stopped_ns));
        self.frames += self.outcomes.iter().skip(before).map(|outcome| frames(outcome).len()).sum::<usize>();
        self.tids.len() == 0
    }
}

/// The frames of a thread; none of one that exited.
fn frames(outcome: &Outcome) -> &[Frame] {
    match outcome {
        Outcome::Captured(stack) => &stack.frames,
        Outcome::Exited(_) => &[],
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

/// Names every distinct address of these stacks, in one go.
pub fn name<'a>(world: &mut World, stacks: impl Iterator<Item = &'a [Frame]>) {
    let addresses: FxHashSet<u64> = stacks.flatten().map(Frame::lookup_address).collect();
    let mut addresses: Vec<u64> = addresses.into_iter().collect();
    addresses.sort_unstable();
    world.symbolizer.resolve(&world.modules, &addresses);
}

/// The frames of all, for [`name`].
pub fn all_frames(outcomes: &[Outcome]) -> impl Iterator<Item = &[Frame]> {
    outcomes.iter().map(frames)
}

/// Threads with equal frames and ending together, the largest group first.
pub fn group(outcomes: Vec<Outcome>) -> Vec<Vec<Outcome>> {
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
