//! Whoever a command works for.
//!
//! Context: the observer. Each session has one, and lends it to the [`World`](super::World) for each step of its jobs.

#![forbid(unsafe_code)]

use std::fmt;

use super::history::History;
use crate::config::level::Level;
use crate::sys::clock;

/// How a client talks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Banner, stacks, prompt.
    Person,
    /// Lines without these (`connection_handler=exec`).
    Exec,
    /// JSON lines.
    Program,
    /// The frames of `manhole-cli -c`.
    Command,
}

impl Mode {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Exec => "exec",
            Self::Program => "program",
            Self::Command => "command",
        }
    }
}

/// A connected client.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its number among all clients.
    pub number: u64,
    /// Its process, in our pid namespace; 0 if it is not visible there.
    pub pid: i32,
    /// Its effective user.
    pub uid: u32,
    /// What it may do. It never rises.
    pub level: Level,
    /// When it came, in nanoseconds of the monotonic clock.
    pub since: u64,
    /// How it talks.
    pub mode: Mode,
    /// What it has typed.
    pub history: History,
}

/// A client as the others see it.
#[derive(Clone, Debug)]
pub struct Guest {
    /// Who it is.
    pub client: Client,
    /// What it runs, since when (nanoseconds of the monotonic clock).
    pub running: Option<(String, u64)>,
    /// Bytes that it did not take yet.
    pub waiting: usize,
}

/// Who is connected: asked for by a command, answered by the server's loop after that command's step.
#[derive(Clone, Debug, Default)]
pub enum RollCall {
    /// Nobody asks.
    #[default]
    Quiet,
    /// A command wants to know.
    Asked,
    /// These are.
    Answered(Vec<Guest>),
}

impl Client {
    /// One that has just come.
    pub fn new(number: u64, pid: i32, uid: u32, level: Level, mode: Mode) -> Self {
        Self { number, pid, uid, level, since: clock::monotonic(), mode, history: History::default() }
    }

    /// Nobody, who may only look.
    pub fn nobody() -> Self {
        Self { since: 0, ..Self::new(0, 0, 0, Level::Observe, Mode::Exec) }
    }

    /// Whether it may use what needs `level`; if not, a sentence that says why.
    pub fn may(&self, level: Level, what: &str) -> Result<(), String> {
        if self.level >= level {
            return Ok(());
        }
        let (has, needs) = (self.level.name(), level.name());
        Err(format!("{what} needs the level {needs}, and this session has {has}"))
    }
}

/// As it stands in the log.
impl fmt::Display for Client {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "client {} (pid={} uid={} level={})", self.number, self.pid, self.uid, self.level.name())
    }
}
