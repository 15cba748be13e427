//! The commands that the application registered: their table, and the job that has the actor run one.
//!
//! Context: threads of the application register and unregister; the observer finds them and shows their output; the
//! actor runs them. Code of the application runs on the actor only.

#![forbid(unsafe_code)]

use std::ffi::CString;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use super::commands::fail;
use super::output::Output;
use super::spool::{self, Progress, Reader, Writer};
use super::{Job, Step, World};
use crate::lifecycle::exit;
use crate::log;
use crate::protocol::Status;
use crate::sys::slots::{NotAdded, Slots};
use crate::sys::{clock, process};

/// Commands at most.
pub const MOST: usize = 256;
/// A command that wrote nothing for so long is remarked upon, once.
const SILENCE: Duration = Duration::from_secs(5);
/// Whoever waits for his turn for so long is told for what.
const TURN: Duration = Duration::from_millis(100);
/// How often a job looks without being told to: its actor may be unable to ring the bell.
const LOOK: Duration = Duration::from_secs(1);

/// What a command does: writes, and returns its status (0, 1 or 2).
pub type Work = Box<dyn Fn(&Writer, &[CString]) -> i32 + Send + Sync>;

/// A command of the application.
pub struct Registered {
    /// What one types.
    pub name: String,
    /// Its arguments.
    pub synopsis: String,
    /// What it does; the first line is for the list.
    pub help: String,
    work: Work,
    /// The thread that runs it now, 0 for none.
    runner: AtomicI32,
}

static COMMANDS: Slots<Registered, MOST> = Slots::new();

/// The calling thread runs the very command that it wants to remove, and would wait for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunsItself;

impl Registered {
    /// A command that does `work`.
    pub fn new(name: String, synopsis: String, help: String, work: Work) -> Self {
        Self { name, synopsis, help, work, runner: AtomicI32::new(0) }
    }

    /// The first line of its help.
    pub fn summary(&self) -> &str {
        self.help.lines().next().unwrap_or_default()
    }
}

/// Adds one, unless there is one of that name.
pub fn add(command: Registered) -> Result<(), NotAdded> {
    let name = command.name.clone();
    COMMANDS.add(command, |other| other.name == name)
}

/// Removes one, and waits until it does not run any more. False when there is none of that name.
pub fn remove(name: &str) -> Result<bool, RunsItself> {
    let own = process::tid();
    let may = |command: &Registered| match command.runner.load(Ordering::Relaxed) == own {
        true => Err(RunsItself),
        false => Ok(()),
    };
    COMMANDS.remove(|command| command.name == name, may)
}

/// What `show` makes of each, by name.
pub fn each<R>(show: impl Fn(&Registered) -> R) -> Vec<R> {
    let mut all: Vec<_> = COMMANDS.iter().collect();
    all.sort_by(|left, right| left.name.cmp(&right.name));
    all.iter().map(|command| show(command)).collect()
}

/// What `show` makes of the command `name`, if there is one.
pub fn one<R>(name: &str, show: impl Fn(&Registered) -> R) -> Option<R> {
    COMMANDS.find(|command| command.name == name).map(|command| show(&command))
}

/// In a forked child, which keeps them.
pub fn reset_in_child() {
    COMMANDS.iter().for_each(|command| command.runner.store(0, Ordering::Relaxed));
    COMMANDS.reset_in_child();
}

/// The job of a line whose first word is `name`. `None` when no such command is registered.
pub fn start(name: &str, arguments: &[String]) -> Option<Result<Box<dyn Job>, String>> {
    let usage = one(name, |command| format!("usage: {name} {}", command.synopsis))?;
    let words = std::iter::once(name).chain(arguments.iter().map(String::as_str));
    let words: Result<Vec<CString>, _> = words.map(CString::new).collect();
    Some(match words {
        Ok(words) => Ok(Box::new(Call { name: name.to_owned(), usage, stage: Stage::New(words) })),
        Err(_) => Err(format!("{name}: an argument holds a NUL byte")),
    })
}

/// On the actor: runs the command, if it is still there and somebody waits for it.
fn run(name: &str, arguments: &[CString], writer: Writer) {
    if writer.is_cancelled() {
        return;
    }
    let Some(command) = COMMANDS.find(|command| command.name == name) else {
        return writer.end(Progress::Failed("it was unregistered while this waited".to_owned()));
    };
    let claimed = command.runner.compare_exchange(0, process::tid(), Ordering::Relaxed, Ordering::Relaxed);
    if let Err(other) = claimed {
        return writer.end(Progress::Failed(format!("thread {other} still runs it, from before a release")));
    }
    let pid = process::pid();
    writer.begin();
    let status = (command.work)(&writer, arguments);
    if process::pid() != pid {
        // This thread has no way on: the child has an actor of its own, or none.
        log!("the command {name} forked, and its child returned from the callback: the child ends");
        exit::leave(1);
    }
    command.runner.store(0, Ordering::Relaxed);
    // Before the client knows that it is done: it may ask the application to unload it.
    drop(command);
    writer.end(Progress::Returned(status));
}

/// A command at work on the actor.
struct Call {
    name: String,
    /// The line that answers wrong usage.
    usage: String,
    stage: Stage,
}

enum Stage {
    /// To be handed to the actor.
    New(Vec<CString>),
    /// Handed over.
    Posted(Posted),
}

struct Posted {
    output: Reader,
    /// When there was output last.
    heard: Option<u64>,
    /// That it is silent was said.
    remarked: bool,
}

impl Job for Call {
    fn step(&mut self, world: &mut World, out: &mut Output) -> Step {
        match &mut self.stage {
            Stage::New(arguments) => {
                let arguments = std::mem::take(arguments);
                self.post(arguments, world, out)
            }
            Stage::Posted(posted) => match posted.step(&self.name, world, out) {
                Step::Done(Status::Usage) => {
                    out.note(format!("{}\n", self.usage.trim_end()));
                    Step::Done(Status::Usage)
                }
                step => step,
            },
        }
    }
}

impl Call {
    fn post(&mut self, arguments: Vec<CString>, world: &World, out: &mut Output) -> Step {
        let (writer, output) = spool::pair(world.manhole);
        let name = self.name.clone();
        let work = Box::new(move || run(&name, &arguments, writer));
        if world.manhole.actor.post(&self.name, work).is_err() {
            return fail(
                out,
                "it runs on the thread `Manhole actor`, and there is none (oneshot_on, or the process ends)",
            );
        }
        self.stage = Stage::Posted(Posted { output, heard: None, remarked: false });
        Step::More
    }
}

impl Posted {
    fn step(&mut self, name: &str, world: &World, out: &mut Output) -> Step {
        // Asked first: what it wrote before it left is then read below.
        let left = world.manhole.actor.has_left();
        let progress = self.output.read(out.lines());
        if !out.is_empty() {
            self.heard = Some(clock::monotonic());
            return Step::More;
        }
        match progress {
            Progress::Returned(0) => Step::Done(Status::Success),
            Progress::Returned(2) => Step::Done(Status::Usage),
            Progress::Returned(_) => Step::Done(Status::Failed),
            Progress::Failed(why) => fail(out, &format!("{name}: {why}")),
            // It called exit(), which waits for the clients to leave, and never returns.
            Progress::Running(_) if left => Step::Done(Status::Success),
            Progress::Queued if left => fail(out, &format!("{name}: the process ends")),
            Progress::Queued => self.queue(world),
            Progress::Running(since) => self.wait(since, world),
        }
    }

    fn queue(&mut self, world: &World) -> Step {
        match world.manhole.actor.busy() {
            Some((what, time)) if time >= TURN && !self.remarked => {
                self.remarked = true;
                let seconds = time.as_secs();
                Step::Remark(format!("the actor is busy with {what} since {seconds} s; this waits, exit leaves it"))
            }
            _ => Step::Waiting(Instant::now() + if self.remarked { LOOK } else { TURN }),
        }
    }

    fn wait(&mut self, since: u64, world: &World) -> Step {
        let silent = Duration::from_nanos(clock::monotonic().saturating_sub(self.heard.unwrap_or(since).max(since)));
        if silent < SILENCE || self.remarked {
            let next = if self.remarked { LOOK } else { LOOK.min(SILENCE - silent) };
            return Step::Waiting(Instant::now() + next);
        }
        self.remarked = true;
        let tid = world.manhole.actor.tid().unwrap_or(0);
        Step::Remark(format!(
            "still running on thread {tid} (Manhole actor), silent for {} s; `stacks {tid}` in another session shows \
             where; exit leaves it",
            silent.as_secs()
        ))
    }
}
