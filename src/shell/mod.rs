//! The interpreter: a line becomes a job, a job becomes text, a slice at a time.
//!
//! Context: the observer.

#![forbid(unsafe_code)]

pub mod commands;
pub mod json;
pub mod parse;
pub mod record;
pub mod stack_text;

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::config::nearest;
use crate::inspect::process::ProcessFacts;
use crate::inspect::strings::Escaped;
use crate::lifecycle::{Manhole, panics};
use crate::protocol::Status;
use crate::stack::capture::Capture;
use crate::stack::modules::Modules;
use crate::stack::symbols::Symbolizer;
use crate::stack::unwind::Unwinder;
use crate::sys::memory::Live;
use crate::{log, sys};

/// What commands work with, kept from one to the next.
pub struct World {
    /// The installed manhole.
    pub manhole: &'static Manhole,
    /// What is mapped where, as of the last [`World::look`].
    pub modules: Modules,
    /// Unwinding and what it learnt.
    pub unwinder: Unwinder,
    /// Naming and what it learnt.
    pub symbolizer: Symbolizer,
    /// Capturing and its buffers.
    pub capture: Capture,
    /// The observer's own thread id.
    pub own_tid: i32,
}

/// More than this is given back to the kernel when the last client leaves.
const RESTING_BYTES: usize = 24 << 20;

impl World {
    /// A world that has seen nothing yet.
    pub fn new(manhole: &'static Manhole) -> Self {
        Self {
            manhole,
            modules: Modules::default(),
            unwinder: Unwinder::default(),
            symbolizer: Symbolizer::default(),
            capture: Capture::with(manhole.config.capture),
            own_tid: sys::process::proc_tid().unwrap_or_else(sys::process::tid),
        }
    }

    /// Looks at the process's mappings anew.
    pub fn look(&mut self) -> Result<(), String> {
        self.modules.refresh(&Live).map_err(|error| format!("cannot read /proc/self/maps: {}", error.desc()))
    }

    /// Drops what can be learnt again.
    pub fn forget(&mut self) {
        *self = Self::new(self.manhole);
    }

    /// Called when nobody is connected.
    pub fn rest(&mut self) {
        if sys::allocator::usage().0 > RESTING_BYTES {
            self.forget();
        }
    }
}

/// How far a step brought a job.
pub enum Step {
    /// There is more to do.
    More,
    /// It is done.
    Done(Status),
    /// It is done, and the client wants to leave.
    Leave,
}

/// A command at work. Each step takes some milliseconds at most and writes some kilobytes.
pub trait Job {
    /// Does a piece of the work, appending to `out`.
    fn step(&mut self, world: &mut World, out: &mut Vec<u8>) -> Step;
}

/// Runs one step. A panic of ours ends the command, not the session, and tells the client.
pub fn step(job: &mut dyn Job, world: &mut World, out: &mut Vec<u8>) -> Step {
    let result = catch_unwind(AssertUnwindSafe(|| job.step(world, out)));
    result.unwrap_or_else(|_| {
        let note = panics::take();
        log!("a command panicked: {note}");
        out.extend_from_slice(format!("error: the manhole panicked, please report: {note}\n").as_bytes());
        world.forget();
        Step::Done(Status::Failed)
    })
}

/// Makes a job of a command's arguments.
pub type Start = fn(&[String]) -> Result<Box<dyn Job>, String>;

/// One row of the command table.
pub struct Command {
    /// What one types.
    pub name: &'static str,
    /// Its arguments.
    pub synopsis: &'static str,
    /// What it does, in a line.
    pub summary: &'static str,
    /// More, with examples, for `help NAME`.
    pub help: &'static str,
    /// Understands the arguments; an error is one line for the client.
    pub start: Start,
}

/// Understands a line. `None` for an empty one.
pub fn start(line: &str) -> Result<Option<Box<dyn Job>>, String> {
    let words = parse::words(line)?;
    let Some((name, arguments)) = words.split_first() else { return Ok(None) };
    // What a terminal that is not ours sends for "no more".
    let name = if name == "\u{4}" { "exit" } else { name };
    let Some(command) = commands::TABLE.iter().find(|command| command.name == name) else {
        let known = nearest::nearest(name, commands::TABLE.iter().map(|command| command.name));
        let hint = known.map_or("try help".to_owned(), |known| format!("did you mean {known}?"));
        return Err(format!("unknown command {:?}; {hint}", Escaped(name.as_bytes()).to_string()));
    };
    match (command.start)(arguments) {
        Ok(job) => Ok(Some(job)),
        Err(error) => Err(format!("{name}: {error}; usage: {name} {}", command.synopsis).trim_end().to_owned()),
    }
}

/// The first lines that a person sees.
pub fn banner(world: &World) -> String {
    let uptime = ProcessFacts::read().uptime().map_or("an unknown time".to_owned(), commands::duration);
    format!(
        "Manhole {} in {} (pid {}), running for {uptime}, on Linux {}.\nType help for the commands, ^D or exit to leave.\n\n",
        env!("CARGO_PKG_VERSION"),
        Escaped(world.manhole.program.as_bytes()),
        sys::process::pid(),
        std::env::consts::ARCH,
    )
}
