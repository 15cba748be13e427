//! The job that has the actor do something, and shows what it writes.
//!
//! Context: the observer posts the work and shows its output; the work runs on the actor, and may allocate, lock, or
//! never return.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use super::commands::fail;
use super::crash;
use super::output::Output;
use super::spool::{self, Progress, Reader, Writer};
use super::{Job, Step, World};
use crate::config::level::Level;
use crate::inspect::threads;
use crate::lifecycle::exit;
use crate::log;
use crate::protocol::Status;
use crate::stack::capture::guard::{self, Crash, Loss, Post};
use crate::sys::{clock, process, procfs};

/// Work that wrote nothing for so long is remarked upon, once.
const SILENCE: Duration = Duration::from_secs(5);
/// Whoever waits for his turn for so long is told for what.
const TURN: Duration = Duration::from_millis(100);
/// How often a job looks without being told to: its actor may be unable to ring the bell.
const LOOK: Duration = Duration::from_secs(1);

/// Whether a crash of what the actor runs is survived (`stack::capture::guard`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarding {
    /// It runs under a guard, or not at all.
    Always,
    /// Under a guard if there can be one.
    IfPossible,
    /// A crash ends the process.
    Never,
}

/// What the actor does: it says [`Writer::begin`], writes, and says [`Writer::end`].
pub type Work = Box<dyn FnOnce(Writer) + Send>;

/// Runs what [`Errand::surrounded`] was given.
pub type Run<'a> = Box<dyn FnOnce(&Writer) -> Result<Progress, Box<Crash>> + 'a>;

/// Something for the actor, on its way.
pub struct Errand {
    name: String,
    /// What a session needs for it, beside what the command takes.
    level: Level,
    stage: Stage,
}

enum Stage {
    /// To be handed to the actor.
    New(Option<Work>),
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

impl Errand {
    /// `work` for the actor; `name` is what those who wait behind it are told.
    pub fn new(name: String, work: Work) -> Self {
        Self { name, level: Level::Observe, stage: Stage::New(Some(work)) }
    }

    /// Only for sessions of this level.
    pub fn at_level(self, level: Level) -> Self {
        Self { level, ..self }
    }

    /// `work` as of [`on_actor`], a crash of which is survived as `guarding` says.
    pub fn guarded(
        name: String,
        guarding: Guarding,
        work: impl FnOnce(&Writer) -> Result<(), String> + Send + 'static,
    ) -> Self {
        Self::surrounded(name, guarding, work, |writer, run| run(writer))
    }

    /// The same with something to do before and after it, on the actor and outside of the guard: `around` runs it.
    pub fn surrounded(
        name: String,
        guarding: Guarding,
        work: impl FnOnce(&Writer) -> Result<(), String> + Send + 'static,
        around: impl FnOnce(&Writer, Run<'_>) -> Result<Progress, Box<Crash>> + Send + 'static,
    ) -> Self {
        let what = name.clone();
        Self::new(
            name,
            Box::new(move |writer| {
                if writer.is_cancelled() {
                    return;
                }
                let work = |writer: &Writer| match work(writer) {
                    Ok(()) => Progress::Returned(0),
                    Err(why) => Progress::Failed(why),
                };
                let ended = around(&writer, Box::new(|writer| perform(guarding, &what, writer, work)));
                writer.end_as(ended);
            }),
        )
    }
}

/// Has the actor do `work`, which writes text and puts records, and fails with a sentence. It is not done at all if the
/// client has left before its turn. A crash in it is one of the process.
pub fn on_actor(
    name: impl Into<String>,
    work: impl FnOnce(&Writer) -> Result<(), String> + Send + 'static,
) -> Box<dyn Job> {
    Box::new(Errand::guarded(name.into(), Guarding::Never, work))
}

/// Runs `work` on the actor, as `guarding` says: how it ended.
pub fn perform(
    guarding: Guarding,
    what: &str,
    writer: &Writer,
    work: impl FnOnce(&Writer) -> Progress,
) -> Result<Progress, Box<Crash>> {
    let pid = process::pid();
    writer.begin();
    let post = match guarding {
        Guarding::Never => None,
        Guarding::IfPossible => Post::start().ok(),
        Guarding::Always => match Post::start() {
            Ok(post) => Some(post),
            Err(why) => {
                let why = format!("there can be no guard against a crash: {why}; --unguarded goes without");
                return Ok(Progress::Failed(why));
            }
        },
    };
    let ended = match post {
        Some(post) => post.run(|| work(writer)),
        None => Ok(work(writer)),
    };
    only_here(pid, what);
    ended
}

/// The application's code may have forked, and its child come back to us: a thread that has no way on there, since the
/// child has an actor of its own, or none. `pid` is the process that began.
pub fn only_here(pid: i32, what: &str) {
    if process::pid() != pid {
        log!("{what} forked, and its child came back to the manhole: the child ends");
        exit::leave(1);
    }
}

impl Job for Errand {
    fn step(&mut self, world: &mut World, out: &mut Output) -> Step {
        match &mut self.stage {
            Stage::New(work) => match work.take() {
                Some(work) => self.post(work, world, out),
                None => fail(out, "it was not handed over"),
            },
            Stage::Posted(posted) => posted.step(&self.name, world, out),
        }
    }

    fn interrupt(&mut self, _: &mut World, out: &mut Output) {
        self.leave(out);
    }
}

impl Errand {
    /// What runs on another thread cannot be ended.
    fn leave(&mut self, out: &mut Output) {
        let runs = match &mut self.stage {
            Stage::Posted(posted) => matches!(posted.output.read(out), Progress::Running(_)),
            Stage::New(_) => false,
        };
        if runs {
            out.fail("interrupted: it was left, and goes on on the thread `Manhole actor`");
        } else {
            out.fail("interrupted");
        }
    }

    fn post(&mut self, work: Work, world: &World, out: &mut Output) -> Step {
        if let Err(error) = world.client.may(self.level, &self.name) {
            return fail(out, &error);
        }
        let (writer, output) = spool::pair(world.manhole);
        if world.manhole.actor.post(&self.name, Box::new(move || work(writer))).is_err() {
            let lost = world.manhole.actor.lost();
            let why = lost.unwrap_or_else(|| "there is none (oneshot_on, or the process ends)".to_owned());
            return fail(out, &format!("it runs on the thread `Manhole actor`, and {why}"));
        }
        self.stage = Stage::Posted(Posted { output, heard: None, remarked: false });
        Step::More
    }
}

/// What follows where the actor is lost.
const NO_ACTOR: &str = "the process goes on, and the manhole can touch nothing in it any more";

/// Looks whether the actor was lost in `what`, and tells everybody.
fn lose(what: &str, world: &World) -> Option<Loss> {
    let is_gone = || world.manhole.actor.tid().is_some_and(|tid| !procfs::has_thread(tid));
    let loss = guard::lost().or_else(|| is_gone().then_some(Loss::Ended))?;
    let how = match loss {
        Loss::Crashed(_) => "has destroyed its stack",
        Loss::Ended => "has ended it",
    };
    log!("{what} {how}: the manhole has no actor any more");
    world.manhole.actor.lose(format!("{what} {how}"));
    Some(loss)
}

/// Whether the actor is stopped. The client resumes the observer alone.
fn is_stopped(world: &World) -> bool {
    let facts = world.manhole.actor.tid().and_then(|tid| threads::Reader::new().read(tid).ok());
    facts.is_some_and(|facts| facts.state == b'T')
}

impl Posted {
    fn step(&mut self, name: &str, world: &mut World, out: &mut Output) -> Step {
        // Asked first: what it wrote before it left is then read below.
        let left = world.manhole.actor.has_left();
        let progress = self.output.read(out);
        if !out.is_empty() {
            self.heard = Some(clock::monotonic());
            return Step::More;
        }
        match progress {
            Progress::Returned(0) => Step::Done(Status::Success),
            Progress::Returned(2) => Step::Done(Status::Usage),
            Progress::Returned(_) => Step::Done(Status::Failed),
            Progress::Failed(why) => fail(out, &format!("{name}: {why}")),
            Progress::Crashed => match self.output.take_crash() {
                Some(crash) => crash::report(name, &crash, world, out),
                None => fail(out, &format!("{name}: it crashed")),
            },
            // It called exit(), which waits for the clients to leave, and never returns.
            Progress::Running(_) if left => Step::Done(Status::Success),
            Progress::Queued if left => fail(out, &format!("{name}: the process ends")),
            Progress::Queued => self.queue(name, world, out),
            Progress::Running(since) => match lose(name, world) {
                Some(Loss::Crashed(crash)) => crash::report_last(name, &crash, world, out),
                Some(Loss::Ended) => fail(out, &format!("{name}: it has ended its thread; {NO_ACTOR}")),
                None => self.wait(since, world),
            },
        }
    }

    fn queue(&mut self, name: &str, world: &World, out: &mut Output) -> Step {
        if let Some((what, _)) = world.manhole.actor.busy() {
            lose(&what, world);
        }
        if let Some(how) = world.manhole.actor.lost() {
            return fail(out, &format!("{name}: it was to run on the thread `Manhole actor`, and {how}"));
        }
        match world.manhole.actor.busy() {
            Some((what, time)) if time >= TURN && !self.remarked => {
                self.remarked = true;
                let seconds = time.as_secs();
                Step::Remark(format!("the actor is busy with {what} since {seconds} s; this waits, exit leaves it"))
            }
            None if !self.remarked && is_stopped(world) => {
                self.remarked = true;
                let why = "the process is stopped, and the thread that does this with it: it waits for SIGCONT, exit leaves it";
                Step::Remark(why.to_owned())
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
