//! The commands that the application registered: their table, and the job that has the actor run one.
//!
//! Context: threads of the application register and unregister; the observer finds them and shows their output; the
//! actor runs them. Code of the application runs on the actor only.

#![forbid(unsafe_code)]

use std::ffi::CString;
use std::sync::atomic::{AtomicI32, Ordering};

use super::errand::{Errand, Guarding, perform};
use super::output::Output;
use super::spool::{Progress, Writer};
use super::{Job, Step, World};
use crate::protocol::Status;
use crate::sys::fork::Child;
use crate::sys::process;
use crate::sys::slots::{NotAdded, Slots};

/// Commands at most.
pub const MOST: usize = 256;
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
pub fn reset_in_child(child: Child) {
    COMMANDS.iter().for_each(|command| command.runner.store(0, Ordering::Relaxed));
    COMMANDS.reset_in_child(child);
}

/// The job of a line whose first word is `name`. `None` when no such command is registered.
pub fn start(name: &str, arguments: &[String]) -> Option<Result<Box<dyn Job>, String>> {
    let usage = one(name, |command| format!("usage: {name} {}", command.synopsis))?;
    let words = std::iter::once(name).chain(arguments.iter().map(String::as_str));
    let words: Result<Vec<CString>, _> = words.map(CString::new).collect();
    let name = name.to_owned();
    Some(match words {
        Ok(words) => {
            let work = Box::new({
                let name = name.clone();
                move |writer| run(&name, &words, writer)
            });
            Ok(Box::new(Call { usage, errand: Errand::new(name, work) }))
        }
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
    let work = |writer: &Writer| Progress::Returned((command.work)(writer, arguments));
    let ended = perform(Guarding::IfPossible, &format!("the command {name}"), &writer, work);
    command.runner.store(0, Ordering::Relaxed);
    // Before the client knows that it is done: it may ask the application to unload it.
    drop(command);
    writer.end_as(ended);
}

/// A command at work on the actor.
struct Call {
    /// The line that answers wrong usage.
    usage: String,
    errand: Errand,
}

impl Job for Call {
    fn step(&mut self, world: &mut World, out: &mut Output) -> Step {
        let step = self.errand.step(world, out);
        if let Step::Done(Status::Usage) = step {
            out.note(format!("{}\n", self.usage.trim_end()));
        }
        step
    }
}
