//! `profile`: where the threads use the processors, or where they are.
//!
//! `sampler` takes samples in steps, into the `trie` of addresses; when the time is over they are named (`tree`) and
//! written (`forms`). Nothing is looked up while samples are taken.

#![forbid(unsafe_code)]

mod forms;
mod sampler;
mod tree;
mod trie;

use std::time::Duration;

use super::fail;
use crate::config::level::Level;
use crate::protocol::Status;
use crate::record;
use crate::shell::output::Output;
use crate::shell::parse::{self, Arguments};
use crate::shell::record::Line;
use crate::shell::{Command, Job, Step, World};
use crate::sys::process;
use forms::{Folded, Form, Records, Speedscope, Text};
use sampler::{Facts, Sampler, Settings};
use tree::{Roots, Tree};
use trie::Trie;

pub const COMMAND: Command = Command {
    name: "profile",
    level: Level::Observe,
    synopsis: "SECONDS [--hz N] [--wall] [--thread TID|NAME-GLOB] [--threads] [--lines] [--min PERCENT] [--limit N] \
               [--folded|--speedscope]",
    summary: "Sample the stacks for a while: where CPU time goes, or, with --wall, time.",
    help: "profile 5                       the tree of callers and callees that used the processors in 5 seconds\n\
           profile 5 --threads             the same below the names of the threads\n\
           profile 5 --lines               by lines of source instead of functions\n\
           profile 10 --thread 'io_*'      some threads only\n\
           profile 5 --wall                all threads at each tick, also those that wait\n\
           profile 5 --hz 997              more ticks a second than 99 (at most 1000)\n\
           profile 5 --min 5 --limit 40    no branch below 5 %, and 40 lines at most (1 % and 200 if not given)\n\
           profile 5 --folded              a line a stack, `thread;outer;inner MICROSECONDS`, for flamegraph.pl and others\n\
           profile 5 --speedscope          one JSON object for https://www.speedscope.app, a profile a thread\n\
           profile 5 --json                records: one of the whole, one a stack, as every command\n\n\
           ^C ends it early, and shows what there is. Weights are times, not counts: a sample stands for what its\n\
           thread used since the one before, by the thread's own clock, so threads sum up to what they used though\n\
           ticks were missed. What a thread used between ticks, never seen running, is told as that.\n\
           A running thread is stopped for some 30 us at a tick; one that waits is not touched in a CPU profile.\n\
           To a file: manhole-cli -c 'profile 5 --speedscope' PID > profile.json",
    schemas: &[Summary::schema, forms::SCHEMA],
    start,
};

/// Ticks a second unless told. No divisor of what programs do a hundred times a second.
const HZ: u32 = 99;
/// And at most.
const MOST_HZ: u32 = 1000;
/// Smaller parts of the tree are only counted, unless told.
const LEAST_PERCENT: f64 = 1.0;
/// Lines of the tree, unless told.
const LINES: u32 = 200;
/// What one answers who was interrupted comes in one step: no more than this.
const LAST_WORDS: usize = 4 << 20;

/// How it is told.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    Tree { by_thread: bool, least: f64, lines: usize },
    Folded,
    Speedscope,
}

struct Profile {
    shape: Shape,
    by_line: bool,
    mode: &'static str,
    hz: u32,
    stage: Stage,
}

enum Stage {
    Sampling(Box<Sampler>),
    Writing { tree: Box<Tree>, trie: Trie, form: Box<dyn Form> },
}

record! {
    /// A profile as a whole.
    struct Summary as "profile" {
        /// cpu or wall.
        mode: &'static str,
        /// Ticks a second that were wanted.
        hz: u32,
        /// How long it took.
        seconds: Duration,
        /// Ticks that were held.
        ticks: u64,
        /// Ticks that were left out: the one before took too long, or the observer had no processor.
        missed_ticks: u64,
        /// Samples taken.
        samples: u64,
        /// Samples for which there was no time at their tick; the next one of their thread weighs more.
        skipped_samples: u64,
        /// Samples of threads that had to make way at that moment, as all have where there is one processor: these stand
        /// at ends of system calls more often than is fair.
        displaced_samples: u64,
        /// Threads that have samples.
        threads: usize,
        /// The weight of all: CPU time, or with --wall time.
        weight_seconds: Duration,
        /// CPU time of threads that ended between two ticks.
        ended_seconds: Duration,
        /// CPU time that the observer took for it.
        observer_seconds: Duration,
        /// The longest time that a thread was stopped.
        stopped_seconds: Duration,
        /// Samples for whose stack there was no room.
        cut_samples: u64,
        /// Modules were unloaded meanwhile: frames in what took their place may be misnamed.
        unloaded: bool,
    }
}

fn start(words: &[String]) -> Result<Box<dyn Job>, String> {
    let flags = ["--wall", "--threads", "--lines", "--folded", "--speedscope"];
    let arguments = Arguments::parse(words, &flags, &["--hz", "--thread", "--min", "--limit"])?;
    let [seconds] = arguments.rest.as_slice() else { return Err("takes one number of seconds".to_owned()) };
    let length = parse::seconds(seconds).map_err(|expected| format!("expects {expected}"))?;
    let hz = arguments.number("--hz", 1)?.unwrap_or(HZ);
    if hz > MOST_HZ {
        return Err(format!("--hz is at most {MOST_HZ}"));
    }
    let least = match arguments.value("--min") {
        None => LEAST_PERCENT,
        Some(word) => word
            .parse()
            .ok()
            .filter(|number| (0.0..=100.0).contains(number))
            .ok_or(format!("--min expects a percentage, not {word:?}"))?,
    };
    let lines = arguments.number("--limit", 1)?.unwrap_or(LINES) as usize;
    let shape = match (arguments.has("--folded"), arguments.has("--speedscope")) {
        (false, false) => Shape::Tree { by_thread: arguments.has("--threads"), least, lines },
        (true, false) => Shape::Folded,
        (false, true) => Shape::Speedscope,
        (true, true) => return Err("either --folded or --speedscope".to_owned()),
    };
    let wall = arguments.has("--wall");
    let which = arguments.value("--thread").map(str::to_owned);
    let sampler = Sampler::new(Settings { length, hz, wall, which });
    Ok(Box::new(Profile {
        shape,
        by_line: arguments.has("--lines"),
        mode: if wall { "wall" } else { "cpu" },
        hz,
        stage: Stage::Sampling(Box::new(sampler)),
    }))
}

impl Job for Profile {
    fn step(&mut self, world: &mut World, out: &mut Output) -> Step {
        match &mut self.stage {
            Stage::Sampling(_) if !process::proc_is_of_our_namespace() => {
                return fail(
                    out,
                    "/proc belongs to another pid namespace here, and the clocks of threads are not known",
                );
            }
            Stage::Sampling(_) if out.is_json() && !matches!(self.shape, Shape::Tree { .. }) => {
                return fail(out, "--json gives records, --folded and --speedscope other forms: choose one");
            }
            Stage::Sampling(sampler) => match sampler.step(world) {
                Ok(Some(step)) => return step,
                Ok(None) => {
                    let (facts, trie) = (std::mem::take(&mut sampler.facts), std::mem::take(&mut sampler.trie));
                    self.stage = self.finish(&facts, trie, world, out);
                }
                Err(error) => return fail(out, &error),
            },
            Stage::Writing { tree, trie, form } => {
                if !form.write(tree, trie, out) {
                    return Step::Done(Status::Success);
                }
            }
        }
        Step::More
    }

    fn interrupt(&mut self, world: &mut World, out: &mut Output) {
        if let Stage::Sampling(sampler) = &mut self.stage {
            sampler.stop();
        }
        loop {
            match self.step(world, out) {
                Step::Done(_) | Step::Leave => return,
                _ if out.len() > LAST_WORDS => return out.fail("interrupted, and too much to tell: the rest is cut"),
                _ => {}
            }
        }
    }
}

impl Profile {
    /// Names what was sampled.
    fn finish(&self, facts: &Facts, trie: Trie, world: &mut World, out: &mut Output) -> Stage {
        let roots = match self.shape {
            Shape::Speedscope => Roots::Threads,
            Shape::Tree { .. } if out.is_json() => Roots::Threads,
            Shape::Tree { by_thread: false, .. } => Roots::Merged,
            Shape::Tree { .. } | Shape::Folded => Roots::Names,
        };
        let tree = Box::new(Tree::grow(&trie, roots, self.by_line, world));
        let what = format!("{} profile of {:.1} s at {} Hz", self.mode, facts.length.as_secs_f64(), self.hz);
        let form: Box<dyn Form> = match self.shape {
            Shape::Folded => Box::new(Folded::new()),
            Shape::Speedscope => Box::new(Speedscope::new(&tree, forms::title(&world.manhole.program, &what))),
            Shape::Tree { least, lines, .. } => {
                out.put(&self.summary(facts, &tree, &trie));
                if out.is_json() {
                    Box::new(Records::new())
                } else {
                    out.note("TOTAL %  SELF %\n");
                    Box::new(Text::new(&tree, least, lines))
                }
            }
        };
        Stage::Writing { tree, trie, form }
    }

    fn summary(&self, facts: &Facts, tree: &Tree, trie: &Trie) -> Summary {
        Summary {
            mode: self.mode,
            hz: self.hz,
            seconds: facts.length,
            ticks: facts.ticks,
            missed_ticks: facts.missed,
            samples: facts.samples,
            skipped_samples: facts.skipped,
            displaced_samples: facts.displaced,
            // The first stands for what there was no room for.
            threads: trie.threads().len().saturating_sub(1),
            weight_seconds: Duration::from_nanos(tree.total),
            ended_seconds: facts.ended,
            observer_seconds: facts.observer,
            stopped_seconds: Duration::from_nanos(facts.stopped),
            cut_samples: trie.cut,
            unloaded: facts.unloaded,
        }
    }
}

impl Line for Summary {
    fn line(&self, out: &mut Vec<u8>) {
        let (weight, seconds) = (self.weight_seconds.as_secs_f64(), self.seconds.as_secs_f64());
        let what = match self.mode {
            "cpu" => format!("{weight:.3} s of CPU time, {:.0} % of one processor", weight / seconds * 100.0),
            _ => format!("{weight:.3} s of threads' time"),
        };
        let mut line =
            format!("{seconds:.1} s at {} Hz: {what}; {} samples of {} threads", self.hz, self.samples, self.threads);
        for (count, text) in [
            (self.missed_ticks, format!("of {} ticks were missed", self.ticks + self.missed_ticks)),
            (self.skipped_samples, "samples had no time at their tick: the next ones weigh more".to_owned()),
            (self.displaced_samples, "samples stand where a thread had to make way, often after a call".to_owned()),
            (self.cut_samples, "samples had no room for their stacks".to_owned()),
        ] {
            if count > 0 {
                line.push_str(&format!("; {count} {text}"));
            }
        }
        if self.mode == "cpu" && self.ended_seconds >= Duration::from_millis(1) {
            let ended = self.ended_seconds.as_secs_f64();
            line.push_str(&format!("; {ended:.3} s more by threads that ended between ticks"));
        }
        if self.unloaded {
            line.push_str("; modules were unloaded meanwhile: frames in what took their place may be misnamed");
        }
        let (observer, stopped) = (self.observer_seconds.as_secs_f64() * 1e3, self.stopped_seconds.as_secs_f64() * 1e6);
        line.push_str(&format!(
            "; it cost {observer:.1} ms of CPU time, no thread was stopped for more than {stopped:.0} us\n"
        ));
        out.extend_from_slice(line.as_bytes());
    }
}
