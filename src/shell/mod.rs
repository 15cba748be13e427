//! The interpreter: a line becomes a job, a job becomes text, a slice at a time.
//!
//! Context: the observer, or the thread of the application that serves an oneshot.

#![forbid(unsafe_code)]

pub mod address;
pub mod client;
pub mod commands;
pub mod crash;
pub mod errand;
pub mod filter;
pub mod growth;
pub mod history;
pub mod instructions;
pub mod interval;
pub mod json;
pub mod output;
pub mod parse;
pub mod place;
pub mod record;
pub mod registered;
pub mod spool;
pub mod stack_record;
pub mod stack_text;
pub mod units;
pub mod variables;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use crate::config::level::Level;
use crate::config::locals::Local;
use crate::inspect::process::ProcessFacts;
use crate::inspect::strings::Escaped;
use crate::lifecycle::{Manhole, panics};
use crate::protocol::Status;
use crate::redirect;
use crate::stack::capture::{Capture, Standing};
use crate::stack::modules::Modules;
use crate::stack::symbols::Symbolizer;
use crate::stack::unwind::Unwinder;
use crate::sys::far;
use crate::sys::memory::Live;
use crate::{log, sys};
use client::{Client, Mode, RollCall};
use filter::Filter;
use output::{Form, Missing, Output};
use parse::Pipeline;

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
    /// Whom the running command works for.
    pub client: Client,
    /// Who is connected, for those who ask.
    pub roll_call: RollCall,
    /// The thread id of whoever runs this.
    pub own_tid: i32,
    /// That is a thread of the application, which stands still meanwhile: why, for the banner.
    pub interruption: Option<String>,
    /// The operator's names and those of the application, as of the last [`World::look`].
    pub names: Vec<Local>,
    /// What `mem` found before.
    pub memory: growth::Past,
    /// How much had not come from file servers when the unwinder was last emptied for that.
    missed: u64,
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
            client: Client::nobody(),
            roll_call: RollCall::default(),
            own_tid: sys::process::proc_tid().unwrap_or_else(sys::process::tid),
            interruption: None,
            names: Vec::new(),
            memory: growth::Past::default(),
            missed: far::missed(),
        }
    }

    /// A world for a thread of the application: where it stands, and why.
    pub fn interrupting(manhole: &'static Manhole, standing: Standing, why: String) -> Self {
        let mut world = Self::new(manhole);
        world.capture.standing = Some(standing);
        world.interruption = Some(why);
        world
    }

    /// Looks at the process's mappings, and at what it gave names to, anew.
    pub fn look(&mut self) -> Result<(), String> {
        self.names = variables::beside(&self.manhole.config.locals);
        // What was learnt while a file server was silent may be half; what was known before is needed meanwhile.
        if self.missed != far::missed() && !far::is_silent() {
            self.missed = far::missed();
            self.unwinder = Unwinder::default();
        }
        self.modules.refresh(&Live).map_err(|error| format!("cannot read /proc/self/maps: {}", error.desc()))
    }

    /// The actor's thread id while it has nothing to do, or the session's own standard error.
    pub fn idle_actor(&self) -> Option<i32> {
        let busy = self.manhole.actor.busy().filter(|(what, _)| !redirect::does(what));
        self.manhole.actor.tid().filter(|_| busy.is_none())
    }

    /// Drops what can be learnt again.
    pub fn forget(&mut self) {
        let (standing, interruption) = (self.capture.standing, self.interruption.take());
        let (client, memory) = (self.client.clone(), std::mem::take(&mut self.memory));
        *self = Self { client, memory, ..Self::new(self.manhole) };
        (self.capture.standing, self.interruption) = (standing, interruption);
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
    /// There is nothing to do before the observer's bell rings, or this moment comes.
    Waiting(Instant),
    /// There is more to do, and a person is told this on a line of its own.
    Remark(String),
    /// It is done.
    Done(Status),
    /// It is done, and the client wants to leave.
    Leave,
}

/// A command at work. Each step takes some milliseconds at most and writes some kilobytes.
pub trait Job {
    /// Does a piece of the work, appending to `out`.
    fn step(&mut self, world: &mut World, out: &mut Output) -> Step;

    /// The client wants it to end now: what it has gathered may still be answered, as one step.
    fn interrupt(&mut self, _: &mut World, out: &mut Output) {
        out.fail("interrupted");
    }
}

/// A job, what it answers, and what that goes through.
pub struct Answer {
    job: Box<dyn Job>,
    output: Output,
    filters: Vec<Filter>,
    far: far::Use,
}

impl Answer {
    fn new(job: Box<dyn Job>, form: Form, filters: Vec<Filter>) -> Self {
        Self { job, output: Output::new(form), filters, far: far::Use::begin() }
    }

    /// Runs one step of the job, and appends what it answers to `out`. A panic of ours ends the command, not the
    /// session, and tells the client.
    pub fn step(&mut self, world: &mut World, out: &mut Vec<u8>) -> Step {
        let step = self.guarded(world, |job, world, output| job.step(world, output));
        let step = step.unwrap_or(Step::Done(Status::Failed));
        let is_done = matches!(step, Step::Done(_) | Step::Leave);
        if let Some(path) = self.far.missing().filter(|_| is_done) {
            self.output.put(&Missing::silent(path));
        }
        let step =
            if !is_done && self.filters.iter().any(Filter::is_full) { Step::Done(Status::Success) } else { step };
        self.pass(matches!(step, Step::Done(_) | Step::Leave), out);
        step
    }

    /// The same for a job whose answer is a part of another's.
    pub fn step_within(&mut self, world: &mut World, out: &mut Output) -> Step {
        // Filters are for text only, so here there are none.
        if out.is_json() { self.job.step(world, out) } else { self.step(world, out.lines()) }
    }

    /// The last error that it answered with.
    pub fn failure(&self) -> Option<&str> {
        self.output.failure()
    }

    /// Ends the job because the client wants that; the error that it answered with, if any.
    pub fn interrupt(mut self, world: &mut World, out: &mut Vec<u8>) -> Option<String> {
        self.guarded(world, |job, world, output| job.interrupt(world, output));
        self.pass(true, out);
        self.failure().map(str::to_owned)
    }

    /// The same for a job whose answer is a part of another's.
    pub fn interrupt_within(mut self, world: &mut World, out: &mut Output) {
        if out.is_json() {
            self.job.interrupt(world, out);
        } else {
            self.interrupt(world, out.lines());
        }
    }

    /// What `work` makes of the job; nothing if it panicked.
    fn guarded<R>(
        &mut self,
        world: &mut World,
        work: impl FnOnce(&mut dyn Job, &mut World, &mut Output) -> R,
    ) -> Option<R> {
        let result = catch_unwind(AssertUnwindSafe(|| work(&mut *self.job, world, &mut self.output)));
        if result.is_err() {
            let note = panics::take();
            log!("a command panicked: {note}");
            self.output.fail(&format!("the manhole panicked, please report: {note}"));
            world.forget();
        }
        result.ok()
    }

    /// What was answered since the last time, through the filters; the rest too, if the answer `ends`.
    fn pass(&mut self, ends: bool, out: &mut Vec<u8>) {
        if ends {
            self.output.end();
        }
        let mut bytes = self.output.take();
        for filter in &mut self.filters {
            let mut passed = Vec::new();
            filter.push(&bytes, &mut passed);
            if ends {
                filter.end(&mut passed);
            }
            bytes = passed;
        }
        out.append(&mut bytes);
    }

    /// Gives the job up: what it answers ends with this error.
    pub fn give_up(mut self, error: &str, out: &mut Vec<u8>) {
        self.output.fail(error);
        self.pass(true, out);
    }
}

/// Makes a job of a command's arguments.
pub type Start = fn(&[String]) -> Result<Box<dyn Job>, String>;

/// One row of the command table.
pub struct Command {
    /// What one types.
    pub name: &'static str,
    /// What a session needs for it.
    pub level: Level,
    /// Its arguments. One that begins with [`FORMAT`] may be glued to the name, as in `x/8xg`.
    pub synopsis: &'static str,
    /// What it does, in a line.
    pub summary: &'static str,
    /// More, with examples, for `help NAME`.
    pub help: &'static str,
    /// The JSON Schemas of the records that it answers with, but for [`output::Failure`] and
    /// [`output::Missing`], which any may.
    pub schemas: &'static [record::Schema],
    /// Understands the arguments; an error is one line for the client.
    pub start: Start,
}

/// What any command takes: its answer as JSON.
pub const JSON: &str = "--json";

/// Why JSON goes through no filter.
pub const NO_FILTERS: &str = "filters work on lines for eyes: leave --json, or filter at your side";

/// How the synopsis of a command begins that takes a format as gdb's commands do.
pub const FORMAT: &str = "[/FORMAT]";

/// What the synopsis of a command contains that gets its words with their quotes and backslashes: text has quotes there.
pub const TYPED: &str = "FUNCTION(";

/// Starts a command of `client`, with its filters; what cannot be understood answers with an error.
pub fn start(pipeline: &Pipeline, client: &Client) -> Answer {
    let mut words = if takes_typed(&pipeline.command) { pipeline.typed.clone() } else { pipeline.command.clone() };
    unglue_format(&mut words);
    let is_ours = words.first().is_some_and(|name| commands::all().any(|command| command.name == name));
    let before = words.len();
    if is_ours {
        words.retain(|word| word != JSON);
    }
    let wants_json = words.len() < before;
    let form = match client.mode {
        Mode::Program => Form::Records,
        _ if wants_json => Form::Json,
        _ => Form::Text,
    };
    if form != Form::Text && !pipeline.filters.is_empty() {
        // A reply is JSON whatever happens; a person reads this.
        let form = if form == Form::Json { Form::Text } else { form };
        return refusal(NO_FILTERS.to_owned(), form);
    }
    let filters = pipeline.filters.iter().map(|words| Filter::new(words)).collect::<Result<_, _>>();
    match filters.and_then(|filters: Vec<_>| Ok((job(&words, client)?, filters))) {
        Ok((job, filters)) => Answer::new(job, form, filters),
        Err(error) => refusal(error, form),
    }
}

/// The answer to what cannot be understood at all.
pub fn refuse(error: String, client: &Client) -> Answer {
    refusal(error, if client.mode == Mode::Program { Form::Records } else { Form::Text })
}

fn refusal(error: String, form: Form) -> Answer {
    Answer::new(Box::new(commands::Refusal(error)), form, Vec::new())
}

fn job(words: &[String], client: &Client) -> Result<Box<dyn Job>, String> {
    let Some((name, arguments)) = words.split_first() else { return Err("try help".to_owned()) };
    // What a terminal that is not ours sends for "no more".
    let name = if name == "\u{4}" { "exit" } else { name };
    let Some(command) = commands::all().find(|command| command.name == name) else {
        if let Some(registered) = registered::start(name, arguments) {
            return client.may(Level::Operate, name).and(registered);
        }
        let known = commands::nearest(name);
        let hint = known.map_or("try help".to_owned(), |known| format!("did you mean {known}?"));
        return Err(format!("unknown command \"{}\"; {hint}", Escaped(name.as_bytes())));
    };
    client.may(command.level, name)?;
    match (command.start)(arguments) {
        Ok(job) => Ok(job),
        Err(error) => Err(format!("{name}: {error}; usage: {name} {}", command.synopsis).trim_end().to_owned()),
    }
}

/// Whether the command wants its words as they were typed.
fn takes_typed(words: &[String]) -> bool {
    let name = words.first().and_then(|word| word.split('/').next()).unwrap_or_default();
    commands::all().any(|command| command.name == name && command.synopsis.contains(TYPED))
}

/// Makes two words of `x/8xg`.
fn unglue_format(words: &mut Vec<String>) {
    let Some((name, format)) = words.first().and_then(|word| word.split_once('/')) else { return };
    let takes_it = |command: &Command| command.name == name && command.synopsis.starts_with(FORMAT);
    if commands::all().any(takes_it) {
        let split = [name.to_owned(), format!("/{format}")];
        words.splice(..1, split);
    }
}

/// The first lines that a person sees.
pub fn banner(world: &World) -> String {
    let uptime = ProcessFacts::read().uptime().map_or("an unknown time".to_owned(), commands::duration);
    let interruption = world.interruption.as_ref().map(|why| format!("{why}\n")).unwrap_or_default();
    format!(
        "Manhole {} in {} (pid {}), running for {uptime}, on Linux {}.\n{interruption}Type help for the commands, ^D or exit to leave.\n\n",
        env!("CARGO_PKG_VERSION"),
        Escaped(world.manhole.program.as_bytes()),
        sys::process::pid(),
        std::env::consts::ARCH,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_cut_off_the_name_of_a_command_that_takes_one() {
        for (line, expected) in [("x/8xg a b", "x|/8xg|a|b"), ("x a", "x|a"), ("stacks/3", "stacks/3"), ("/x", "/x")] {
            let mut words = parse::commands(line).unwrap().remove(0).command;
            unglue_format(&mut words);
            assert_eq!(words.join("|"), expected);
        }
    }
}
