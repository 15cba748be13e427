//! `watch`: a command again and again.
//!
//! Context: the observer. A round begins when its time has come and the one before is done; between rounds nothing runs.

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::config::level::Level;
use crate::protocol::Status;
use crate::record;
use crate::shell::output::Output;
use crate::shell::parse::{self, Pipeline};
use crate::shell::record::Line;
use crate::shell::{self, Answer, Command, Job, Step, World};
use crate::sys::clock;

pub const COMMAND: Command = Command {
    name: "watch",
    level: Level::Observe,
    synopsis: "SECONDS COMMAND...",
    summary: "Run a command again every SECONDS, until ^C.",
    help: "watch 2 threads\nwatch 0.5 'threads | grep io_thd'      quoted, so that the filter is a part of it\n\
           watch 10 'sessions; threads | count'\n\
           watch 5 'call/s state_of(\"db\")'      and so that quotes are\n\n\
           A round never begins before the last one is done. ^C ends it, as it ends any command; with manhole-cli -c\n\
           it does so by leaving. A command that is used wrongly ends it too; one that fails is tried again.",
    schemas: &[Round::schema],
    start,
};

/// More often is of no use to eyes, and work for the process.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(86_400);

record! {
    /// What follows belongs to a new round.
    struct Round as "round" {
        /// Its number, from 1.
        number: u64,
        /// When it began, in seconds since 1970.
        unix_seconds: Duration,
        /// As often a round begins, unless the last one takes longer.
        every_seconds: Duration,
    }
}

impl Line for Round {
    fn line(&self, out: &mut Vec<u8>) {
        let (day, every) = (self.unix_seconds.as_secs() % 86_400, self.every_seconds.as_secs_f64());
        let (hours, minutes, seconds) = (day / 3600, day / 60 % 60, day % 60);
        let line = format!("-- {hours:02}:{minutes:02}:{seconds:02} UTC, every {every} s, ^C ends --\n");
        out.extend_from_slice(line.as_bytes());
    }
}

struct Watch {
    pipelines: Vec<Pipeline>,
    every: Duration,
    rounds: u64,
    /// When the next round begins.
    next: Instant,
    /// What is left of this round.
    rest: VecDeque<Pipeline>,
    current: Option<Answer>,
}

fn start(arguments: &[String]) -> Result<Box<dyn Job>, String> {
    let [seconds, command @ ..] = arguments else { return Err("takes a time and a command".to_owned()) };
    let every = seconds.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let every = every.filter(|every| (SHORTEST..=LONGEST).contains(every)).ok_or_else(|| {
        let (least, most) = (SHORTEST.as_secs_f64(), LONGEST.as_secs());
        format!("expects seconds from {least} to {most}, not {seconds:?}")
    })?;
    let pipelines = match command {
        // Quoted: a line of its own, perhaps with filters.
        [line] => parse::commands(line)?,
        [] => Vec::new(),
        words => vec![Pipeline { command: words.to_vec(), typed: words.to_vec(), filters: Vec::new() }],
    };
    if pipelines.is_empty() {
        return Err("takes a command".to_owned());
    }
    if pipelines.iter().any(|pipeline| pipeline.command.first().is_some_and(|name| name == COMMAND.name)) {
        return Err("one watch is enough".to_owned());
    }
    let next = Instant::now();
    Ok(Box::new(Watch { pipelines, every, rounds: 0, next, rest: VecDeque::new(), current: None }))
}

impl Job for Watch {
    fn step(&mut self, world: &mut World, out: &mut Output) -> Step {
        let Some(answer) = &mut self.current else { return self.begin(world, out) };
        match answer.step_within(world, out) {
            // A remark goes to a person on a line of its own, in a round as elsewhere.
            step @ (Step::More | Step::Waiting(_) | Step::Remark(_) | Step::Leave | Step::Done(Status::Usage)) => step,
            Step::Done(_) => {
                self.current = None;
                Step::More
            }
        }
    }

    fn interrupt(&mut self, world: &mut World, out: &mut Output) {
        // Between two rounds there is nothing to complain about.
        if let Some(answer) = self.current.take() {
            answer.interrupt_within(world, out);
        }
    }
}

impl Watch {
    /// Begins the next command of the round, or the next round.
    fn begin(&mut self, world: &World, out: &mut Output) -> Step {
        if self.rest.is_empty() {
            let now = Instant::now();
            if now < self.next {
                return Step::Waiting(self.next);
            }
            // One that took longer than the interval is followed by the next at once, and not by those it missed.
            self.next = (self.next + self.every).max(now);
            self.rounds += 1;
            self.rest = self.pipelines.clone().into();
            let unix_seconds = clock::now(libc::CLOCK_REALTIME).unwrap_or_default();
            out.put(&Round { number: self.rounds, unix_seconds, every_seconds: self.every });
        }
        self.current = self.rest.pop_front().map(|pipeline| match out.is_json() && !pipeline.filters.is_empty() {
            true => shell::refuse(shell::NO_FILTERS.to_owned(), &world.client),
            false => shell::start(&pipeline, &world.client),
        });
        Step::More
    }
}
