//! `stacks`: the stack of every thread.
//!
//! All threads are captured first, in batches, then all their addresses are named at once, then the
//! text is written thread by thread as fast as the client takes it. `gather` is one such look, `diff` compares two.

#![forbid(unsafe_code)]

mod diff;
mod gather;
mod tally;

use std::time::Instant;

use super::fail;
use crate::config::level::Level;
use crate::protocol::Status;
use crate::shell::output::{Form, Output};
use crate::shell::parse::Arguments;
use crate::shell::stack_text::{Style, Text};
use crate::shell::{Command, Job, Step, World, stack_record};
use crate::stack::Outcome;
use crate::sys::memory::Live;
use crate::sys::{Errno, far};
use gather::Round;
use tally::Tally;

pub const COMMAND: Command = Command {
    name: "stacks",
    level: Level::Observe,
    synopsis: "[TID|NAME-GLOB] [--group] [--diff SECONDS] [--raw] [--limit N]",
    summary: "Show the stack of every thread, or of some; or which of them move.",
    help: "stacks                  every thread\n\
           stacks 4711             one thread\n\
           stacks 'io_thd_*'       threads by name\n\
           stacks --group          equal stacks once, the most frequent first, with the list of their threads\n\
           stacks --limit 5        at most 5 frames a thread\n\
           stacks --raw            module + offset instead of names: nothing is looked up\n\
           stacks --diff 5         looks twice, 5 s apart, and says who moved (ran, or is elsewhere: top frames before\n\
                                   and after), who woke (blocked in between, and is where it was before), and who is\n\
                                   still (did not run at all: each such stack once). Threads of the manhole are left out\n\n\
           Each header says how the thread was captured: proc (read while it was blocked, not touched),\n\
           ptrace (stopped for microseconds), signal (only where ptrace is refused), interrupted (the thread\n\
           that serves an oneshot), or none.\n\
           A stack that did not reach the thread's first frame ends with a line that says why.",
    schemas: &[
        stack_record::Stack::schema,
        stack_record::Exited::schema,
        stack_record::Summary::schema,
        diff::SCHEMAS[0],
        diff::SCHEMAS[1],
    ],
    start,
};

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
    Capturing(Round),
    Writing { groups: std::vec::IntoIter<Vec<Outcome>>, text: Text, tally: Tally },
}

fn start(words: &[String]) -> Result<Box<dyn Job>, String> {
    let arguments = Arguments::parse(words, &["--group", "--raw"], &["--limit", "--diff"])?;
    if arguments.rest.len() > 1 {
        return Err("takes one thread id or glob".to_owned());
    }
    let which = arguments.rest.first().map(|which| (*which).to_owned());
    let style = if arguments.has("--raw") { Style::Raw } else { Style::Named };
    let limit = arguments.number("--limit", 1)?;
    match arguments.seconds("--diff")? {
        Some(length) => Ok(Box::new(diff::Diff::new(which, length, style, limit))),
        None => Ok(Box::new(Stacks { which, group: arguments.has("--group"), style, limit, ..Stacks::of_all() })),
    }
}

impl Stacks {
    fn of_all() -> Self {
        Self {
            which: None,
            group: false,
            style: Style::Named,
            limit: None,
            stage: Stage::Listing,
            began: Instant::now(),
            again: false,
        }
    }
}

impl Job for Stacks {
    fn step(&mut self, world: &mut World, out: &mut Output) -> Step {
        match &mut self.stage {
            Stage::Listing => {
                self.began = Instant::now();
                match Round::begin(world, self.which.as_deref()) {
                    Ok(round) => self.stage = Stage::Capturing(round),
                    Err(error) => return fail(out, &error),
                }
            }
            Stage::Capturing(round) => {
                let mut limits = world.manhole.config.limits;
                limits.frames = self.limit.map_or(limits.frames, |limit| limit.min(limits.frames));
                if !round.step(world, limits, self.which.is_none()) {
                    return Step::More;
                }
                // What was unloaded meanwhile must not be named by what came in its place.
                let unloaded = !world.modules.still_stand(&Live);
                if unloaded && !self.again {
                    self.again = true;
                    self.stage = Stage::Listing;
                    return Step::More;
                }
                let Round { outcomes, cut, stopped, .. } = std::mem::take(round);
                let mut tally = Tally::count(&outcomes, cut);
                (tally.unloaded, tally.stopped) = (unloaded, stopped);
                if self.style == Style::Named {
                    gather::name(world, gather::all_frames(&outcomes));
                }
                let groups = if self.group {
                    gather::group(outcomes)
                } else {
                    outcomes.into_iter().map(|one| vec![one]).collect()
                };
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
    let mut job = Stacks::of_all();
    let _far = far::Use::begin();
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
