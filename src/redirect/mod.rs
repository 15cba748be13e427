//! What the application writes on descriptor 2, shown to an operator as well.
//!
//! Context: the observer holds a [`Stderr`] while a session wants one; with `oneshot_on` the one thread that does
//! everything. Whatever must be done in the application's descriptor table goes through a [`Run`].
//!
//! The gentlest way first. A regular file is read a second time ([`tail`]), and nothing of the application is
//! touched. Anything else (pipe, terminal, socket, `/dev/null`, a file that we may not read) gets a pipe of ours in
//! its place for the time of the session ([`tap`]), whose bytes a process of ours moves to where they belong
//! ([`pump`]). Rejected: the application's own writes held up until we have read them (they would hang with us), a
//! thread as pump (it dies with the application, and its last words with it), `tee` on the pipe that is there (it
//! sees what its reader has not read yet, or not).

pub mod lines;
pub mod note;
pub mod operator;
pub mod pump;
pub mod tail;
pub mod tap;

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Instant;

use nix::fcntl::OFlag;

use crate::sys::futex::Guarded;
use crate::sys::procfs::File;
use crate::sys::{Errno, pipe, process, stat};
use lines::Lines;
use tail::{Look, Tail, Unfit};
use tap::{Order, Refusal};

/// How much the pipe on descriptor 2 holds, if the kernel lets us: as much as the application can write before
/// it waits for the pump.
const ROOM: usize = 1 << 20;

/// What the work is called that is done there.
const BEGINNING: &str = "leading standard error through a pipe";
const ENDING: &str = "putting standard error back";

/// Whether work of this name is done here: some hundred microseconds that concern nobody.
pub fn does(what: &str) -> bool {
    matches!(what, BEGINNING | ENDING)
}

/// Has work done on a thread in the application's descriptor table, at once or soon; false when there is none.
pub type Run = Box<dyn Fn(&'static str, Box<dyn FnOnce() + Send>) -> bool>;

/// How it stands with a [`Stderr`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nothing to read yet; look again when something happens.
    Waiting,
    /// On.
    On,
    /// It could not be had.
    Refused(Refusal),
    /// It is over, for descriptor 2 has something else now. A new one may be opened.
    Moved,
    /// It is over: the pump is gone, and descriptor 2 as it was.
    Broken,
}

/// Standard error, as an operator sees it. Dropping it puts everything back.
pub struct Stderr {
    source: Source,
    lines: Lines,
    run: Run,
}

enum Source {
    Tail(Tail),
    Tap(Tap),
}

impl Stderr {
    /// Begins to show descriptor 2 of the table that thread `tid` has; a file from its end, or, one that was put
    /// there meanwhile, from its begin.
    pub fn open(tid: i32, run: Run, is_new: bool) -> Result<Self, Refusal> {
        let source = match Tail::open(tid, is_new) {
            Ok(tail) => Source::Tail(tail),
            Err(Unfit::Refused(Errno::ENOENT)) => return Err(Refusal::NotWritable),
            // Whoever took it through a pipe would wait for the server, and the application for him.
            Err(Unfit::Far(error)) => return Err(Refusal::Far(error)),
            Err(_) => Source::Tap(Tap::begin(&run)?),
        };
        Ok(Self { source, lines: Lines::default(), run })
    }

    /// What to wait for with `poll`, for reading.
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.source {
            Source::Tail(tail) => tail.as_fd(),
            Source::Tap(tap) => tap.as_fd(),
        }
    }

    /// When to look though nothing happens.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.source {
            Source::Tail(tail) => Some(tail.deadline()),
            Source::Tap(_) => None,
        }
    }

    /// Appends whole lines to `out`: some hundred kilobytes at most.
    pub fn read(&mut self, out: &mut Vec<u8>) -> Condition {
        let condition = match &mut self.source {
            Source::Tail(tail) => match tail.read(&mut self.lines, out) {
                Look::Following => Condition::On,
                Look::Lost => Condition::Moved,
            },
            Source::Tap(tap) => tap.read(&self.run, &mut self.lines, out),
        };
        if matches!(condition, Condition::Moved | Condition::Broken) {
            self.lines.end(out);
        }
        condition
    }
}

impl Drop for Stderr {
    fn drop(&mut self) {
        if let Source::Tap(tap) = &self.source
            && !tap.is_over()
        {
            tap::give_up(tap.number);
            (self.run)(ENDING, Box::new(tap::restore));
        }
    }
}

/// The observer's side of a tap.
struct Tap {
    number: u32,
    /// Held, not read: so that the application gets no SIGPIPE when somebody kills the pump.
    _source: File,
    operator: File,
    stage: Stage,
}

enum Stage {
    /// On its way to the actor; until then the ends to write to are ours.
    Beginning {
        _ends: [File; 2],
        result: Arc<Guarded<Option<Result<(), Refusal>>>>,
    },
    On,
    /// The pump has ended. What there was to put back is being put back.
    Ending(Arc<Guarded<Option<Condition>>>),
    Over,
}

impl Tap {
    fn begin(run: &Run) -> Result<Self, Refusal> {
        let failed = |error| Refusal::Failed("no pipe", error);
        let (source, sink) = pipe::pipe(0).map_err(failed)?;
        let (operator, operators_end) = pipe::pipe(OFlag::O_NONBLOCK.bits()).map_err(failed)?;
        pipe::enlarge(&source, ROOM);
        let identity = |file| stat::of(file).map(|status| status.identity()).map_err(failed);
        let number = tap::number();
        let order = Order {
            number,
            tid: process::proc_tid().unwrap_or_else(process::tid),
            numbers: [source.raw(), sink.raw(), operators_end.raw()],
            identities: [identity(&source)?, identity(&operator)?],
        };
        let result = Arc::new(Guarded::new(None));
        let place = result.clone();
        let work = move || {
            let installed = tap::install(&order);
            place.with(|place| *place = Some(installed));
        };
        if !run(BEGINNING, Box::new(work)) {
            return Err(Refusal::NoActor);
        }
        let stage = Stage::Beginning { _ends: [sink, operators_end], result };
        Ok(Self { number, _source: source, operator, stage })
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        matches!(self.stage, Stage::On).then(|| self.operator.as_fd())
    }

    fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    fn read(&mut self, run: &Run, lines: &mut Lines, out: &mut Vec<u8>) -> Condition {
        if let Stage::Beginning { result, .. } = &self.stage {
            match result.with(|result| *result) {
                None => return Condition::Waiting,
                Some(Ok(())) => self.stage = Stage::On,
                Some(Err(refusal)) => {
                    self.stage = Stage::Over;
                    return if refusal == Refusal::Moved { Condition::Moved } else { Condition::Refused(refusal) };
                }
            }
        }
        if let Stage::On = self.stage {
            let mut buffer = [0; 16384];
            for _ in 0..16 {
                match self.operator.read(&mut buffer) {
                    Ok(0) => {
                        self.stage = self.ending(run);
                        break;
                    }
                    Ok(count) => lines.push(buffer.get(..count).unwrap_or_default(), out),
                    Err(_) => break,
                }
            }
        }
        let Stage::Ending(result) = &self.stage else { return Condition::On };
        let Some(condition) = result.with(|result| *result) else { return Condition::Waiting };
        self.stage = Stage::Over;
        condition
    }

    /// The pump has ended: somebody has killed it, or the application has put something else on descriptor 2.
    fn ending(&self, run: &Run) -> Stage {
        let result = Arc::new(Guarded::new(None));
        let place = result.clone();
        tap::give_up(self.number);
        let work = move || {
            let condition = if tap::is_in_place() { Condition::Broken } else { Condition::Moved };
            tap::restore();
            place.with(|place| *place = Some(condition));
        };
        run(ENDING, Box::new(work));
        Stage::Ending(result)
    }
}

#[cfg(test)]
mod tests;
