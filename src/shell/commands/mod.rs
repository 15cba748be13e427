//! The command table, one file a family.
//!
//! Context: the observer.

#![forbid(unsafe_code)]

mod call;
mod complete;
mod descriptors;
mod environment;
mod examine;
mod facts;
mod help;
mod history;
mod load;
mod locals;
mod locks;
mod lower;
mod malloc;
mod memory;
mod modules;
mod options;
mod profile;
mod search;
mod sessions;
mod stacks;
mod symbols;
mod syscalls;
mod threads;
mod touch;
mod watch;

use std::fmt::Write;
use std::time::Duration;

use super::{Command, Job, Step, World, registered};
use crate::config::level::Level;
use crate::config::nearest;
use crate::protocol::Status;
use crate::record;
use crate::shell::output::Output;
use crate::shell::record::Line;
pub use stacks::write_all as write_stacks;

/// All commands by what they are for, as `help` lists them: a heading, and its commands.
pub const TABLE: &[(&str, &[Command])] = &[
    ("Looking at threads", &[stacks::COMMAND, threads::COMMAND, syscalls::COMMAND, locks::COMMAND, profile::COMMAND]),
    (
        "Looking at memory and code",
        &[
            memory::totals::COMMAND,
            memory::mappings::COMMAND,
            malloc::COMMAND,
            modules::COMMAND,
            symbols::COMMAND,
            examine::COMMAND,
            search::COMMAND,
            locals::COMMAND,
        ],
    ),
    (
        "Looking at the process",
        &[
            facts::STATUS,
            facts::CMDLINE,
            facts::ENV,
            facts::AUXV,
            facts::UPTIME,
            facts::CGROUP,
            descriptors::COMMAND,
            memory::limits::COMMAND,
            facts::SIGNALS,
            facts::TIMERS,
        ],
    ),
    (
        "Touching",
        &[
            touch::SIGNAL,
            touch::NICE,
            touch::AFFINITY,
            touch::RLIMIT,
            touch::CLOSE,
            touch::DUP,
            touch::SET,
            environment::SET,
            environment::UNSET,
            malloc::TRIM,
            call::COMMAND,
            load::COMMAND,
        ],
    ),
    (
        "This session",
        &[
            help::COMMAND,
            options::COMMAND,
            lower::COMMAND,
            sessions::COMMAND,
            history::COMMAND,
            watch::COMMAND,
            complete::COMMAND,
            EXIT,
        ],
    ),
];

/// All commands.
pub fn all() -> impl Iterator<Item = &'static Command> {
    TABLE.iter().flat_map(|(_, commands)| commands.iter())
}

const EXIT: Command = Command {
    name: "exit",
    level: Level::Observe,
    synopsis: "",
    summary: "Leave. ^D does the same.",
    help: "The process goes on; only this connection ends.",
    schemas: &[],
    start: |arguments| no_arguments(arguments).map(|()| Box::new(Exit) as Box<dyn Job>),
};

struct Exit;

impl Job for Exit {
    fn step(&mut self, _: &mut World, _: &mut Output) -> Step {
        Step::Leave
    }
}

/// A line that no job could be made of, for those who want JSON.
pub struct Refusal(pub String);

impl Job for Refusal {
    fn step(&mut self, _: &mut World, out: &mut Output) -> Step {
        out.fail(&self.0);
        Step::Done(Status::Usage)
    }
}

record! {
    /// Not everything is shown.
    struct Cut as "cut" {
        /// As many are.
        limit: usize,
        /// What to know or do about it.
        note: String,
    }
}

impl Line for Cut {
    fn line(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("cut: {}\n", self.note).as_bytes());
    }
}

/// A job of one step.
struct Once<F>(F);

impl<F: FnMut(&mut World, &mut Output) -> Result<(), String>> Job for Once<F> {
    fn step(&mut self, world: &mut World, out: &mut Output) -> Step {
        match self.0(world, out) {
            Ok(()) => Step::Done(Status::Success),
            Err(error) => fail(out, &error),
        }
    }
}

/// The name of a command, built in or registered, that `word` may be meant for.
pub(super) fn nearest(word: &str) -> Option<String> {
    let registered = registered::each(|command| command.name.clone());
    let names = all().map(|command| command.name).chain(registered.iter().map(String::as_str));
    nearest::nearest(word, names).map(str::to_owned)
}

fn once(work: impl FnMut(&mut World, &mut Output) -> Result<(), String> + 'static) -> Box<dyn Job> {
    Box::new(Once(work))
}

/// Ends a job with an error.
pub(super) fn fail(out: &mut Output, error: &str) -> Step {
    out.fail(error);
    Step::Done(Status::Failed)
}

fn no_arguments(arguments: &[String]) -> Result<(), String> {
    arguments.first().map_or(Ok(()), |argument| Err(format!("takes no argument, not {argument:?}")))
}

/// A duration for people: `1.234 s`, `3m12s`, `2d03h`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{:.3} s", time.as_secs_f64()),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86400, seconds / 3600 % 24),
    }
}

/// Bytes as hexadecimal digits.
fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
