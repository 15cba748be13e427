//! The commands of one line at work, one after the other, with a line in the log before and after each.
//!
//! Context: the observer. A step takes some milliseconds at most.

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::log;
use crate::protocol::Status;
use crate::shell::client::Client;
use crate::shell::parse::{self, Pipeline};
use crate::shell::{self, Answer, Step, World};
use crate::sys::clock;

/// A line at work.
pub struct Work {
    current: Option<Command>,
    rest: VecDeque<Pipeline>,
    /// There is nothing to do before the bell rings, or this moment comes.
    waits: Option<Instant>,
    /// A person was told that it takes long.
    remarked: bool,
}

/// The command that runs.
struct Command {
    answer: Answer,
    /// As it was written, more or less.
    line: String,
    /// In nanoseconds of the monotonic clock.
    begun: u64,
}

/// How far a step brought the line.
pub enum Progress {
    /// There is more to do.
    More,
    /// A person is told this.
    Remark(String),
    /// It is done: the status of its last command, and why.
    Done(Status, Option<String>),
    /// It is done, and the client wants to leave.
    Leave,
}

impl Work {
    /// The commands of `line`. An empty one is done at once.
    pub fn new(line: &str, client: &Client) -> Self {
        let mut work = Self { current: None, rest: VecDeque::new(), waits: None, remarked: false };
        match parse::commands(line) {
            Ok(pipelines) => work.rest = pipelines.into(),
            Err(error) => work.current = Some(Command::begin(line.to_owned(), shell::refuse(error, client), client)),
        }
        work
    }

    /// Until when there is nothing to do, unless the bell rings.
    pub fn waits(&self) -> Option<Instant> {
        self.waits
    }

    /// There may be something to do.
    pub fn rouse(&mut self) {
        self.waits = None;
    }

    /// Whether a person was told that it takes long: `exit` is understood at once then.
    pub fn has_remarked(&self) -> bool {
        self.remarked
    }

    /// The command that runs, and since when.
    pub fn running(&self) -> Option<(String, u64)> {
        self.current.as_ref().map(|command| (command.line.clone(), command.begun))
    }

    /// One step of the command that runs, or the begin of the next, for `world.client`.
    pub fn step(&mut self, world: &mut World, text: &mut Vec<u8>) -> Progress {
        let command = match &mut self.current {
            Some(command) => command,
            None => {
                let Some(pipeline) = self.rest.pop_front() else { return Progress::Done(Status::Success, None) };
                let answer = shell::start(&pipeline, &world.client);
                self.current.insert(Command::begin(pipeline.to_string(), answer, &world.client))
            }
        };
        match command.answer.step(world, text) {
            Step::More => Progress::More,
            Step::Waiting(until) => {
                self.waits = Some(until);
                Progress::More
            }
            Step::Remark(text) => {
                self.remarked = true;
                Progress::Remark(text)
            }
            Step::Leave => {
                self.leave("ok", &world.client);
                Progress::Leave
            }
            Step::Done(status) => {
                let why = command.why(status);
                command.tell(&command.outcome(status), &world.client);
                self.current = None;
                if self.rest.is_empty() { Progress::Done(status, why) } else { Progress::More }
            }
        }
    }

    /// Ends the line because the client wants that: why, for its reply.
    pub fn interrupt(mut self, world: &mut World, text: &mut Vec<u8>) -> String {
        self.leave("interrupted", &world.client);
        let why = match self.current {
            Some(command) => command.answer.interrupt(world, text),
            // Before it has begun.
            None => shell::refuse("interrupted".to_owned(), &world.client).interrupt(world, text),
        };
        why.unwrap_or_else(|| "interrupted".to_owned())
    }

    /// Gives the line up: what it answers ends with this error.
    pub fn give_up(mut self, error: &str, client: &Client, text: &mut Vec<u8>) {
        self.leave(&format!("failed: {error}"), client);
        if let Some(command) = self.current {
            command.answer.give_up(error, text);
        }
    }

    /// The line ends before its end, or the client leaves.
    pub fn leave(&mut self, how: &str, client: &Client) {
        self.current.iter().for_each(|command| command.tell(how, client));
    }
}

impl Command {
    fn begin(line: String, answer: Answer, client: &Client) -> Self {
        log!("{client} runs: {line}");
        Self { answer, line, begun: clock::monotonic() }
    }

    fn why(&self, status: Status) -> Option<String> {
        let default = match status {
            Status::Success => return None,
            Status::Failed => "the command failed",
            Status::Usage => "the command was used wrongly",
        };
        Some(self.answer.failure().unwrap_or(default).to_owned())
    }

    fn outcome(&self, status: Status) -> String {
        let why = self.why(status).unwrap_or_default();
        match status {
            Status::Success => "ok".to_owned(),
            Status::Failed => format!("failed: {why}"),
            Status::Usage => format!("refused: {why}"),
        }
    }

    fn tell(&self, outcome: &str, client: &Client) {
        let time = Duration::from_nanos(clock::monotonic().saturating_sub(self.begun)).as_secs_f64();
        log!("{client} {outcome} ({time:.3} s): {}", self.line);
    }
}
