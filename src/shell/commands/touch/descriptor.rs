//! `close` and `dup`: the application's descriptor table.
//!
//! The observer, whose table is another one, looks before and afterwards; the actor does it, since it is a thread in
//! the application's. It opens nothing there, so that no number is taken that the application expects.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use super::super::facts::application_thread;
use super::super::fail;
use crate::config::level::Level;
use crate::inspect::descriptors::{self, Link, info};
use crate::inspect::sockets::Sockets;
use crate::inspect::strings::Escaped;
use crate::protocol::Status;
use crate::record;
use crate::redirect::tap;
use crate::shell::errand::on_actor;
use crate::shell::output::Output;
use crate::shell::parse::Arguments;
use crate::shell::record::Line;
use crate::shell::{Command, Job, Step, World};
use crate::sys::mounts::Mounts;
use crate::sys::{Errno, lent, procfs, stat, table};

pub const CLOSE: Command = Command {
    name: "close",
    level: Level::Admin,
    synopsis: "FD [--shutdown]",
    summary: "Close a descriptor of the application, or shut a socket down.",
    help: "close 7               as if the application had called close(7)\n\
           close 7 --shutdown    ends both directions of a socket, and leaves the descriptor to the application\n\n\
           --shutdown is the gentle way for a connection: the application reads its end, and closes it itself. It also\n\
           wakes a thread that waits in a call on the socket, which close does not: a read that blocks goes on blocking\n\
           on the file that it began with. After close the application still has the number, and may use or close what\n\
           comes to bear it next.",
    schemas: &[Closed::schema, ShutDown::schema],
    start: |words| {
        let arguments = Arguments::parse(words, &[SHUTDOWN], &[])?;
        let [number] = arguments.rest.as_slice() else { return Err("takes one descriptor".to_owned()) };
        let task = if arguments.has(SHUTDOWN) { Task::ShutDown } else { Task::Close };
        Ok(Change::job(task, descriptor(number)?))
    },
};

pub const DUP: Command = Command {
    name: "dup",
    level: Level::Admin,
    synopsis: "OLD [NEW]",
    summary: "Duplicate a descriptor of the application, to a free number or in the place of another.",
    help: "dup 5       the lowest free number becomes a duplicate of 5, close-on-exec as 5 is\n\
           dup 5 2     descriptor 2 becomes what 5 is, in one step, close-on-exec as 2 was: what was there is closed\n\n\
           Both are the same open file then, with one position and one set of flags.",
    schemas: &[Duplicated::schema],
    start: |words| {
        let (old, new) = match words {
            [old] => (old, None),
            [old, new] => (old, Some(descriptor(new)?)),
            _ => return Err("takes a descriptor, and perhaps a second one".to_owned()),
        };
        let old = descriptor(old)?;
        if new == Some(old) {
            return Err(format!("{old} is {old} already"));
        }
        Ok(Change::job(Task::Duplicate(new), old))
    },
};

const SHUTDOWN: &str = "--shutdown";

fn descriptor(word: &str) -> Result<i32, String> {
    word.parse().ok().filter(|number| *number >= 0).ok_or_else(|| format!("{word:?} is no descriptor"))
}

/// A thread in the application's descriptor table.
pub fn application(world: &World) -> i32 {
    let actor = world.manhole.actor.tid().filter(|tid| procfs::has_thread(*tid));
    actor.or_else(|| application_thread(world).ok()).unwrap_or(world.own_tid)
}

#[derive(Clone, Copy)]
enum Task {
    Close,
    ShutDown,
    Duplicate(Option<i32>),
}

/// The job.
struct Change {
    task: Task,
    number: i32,
    /// What stood there before: at `number`, and where the duplicate goes.
    before: [Option<String>; 2],
    /// The number of the duplicate.
    made: Arc<AtomicI32>,
    errand: Option<Box<dyn Job>>,
}

impl Change {
    fn job(task: Task, number: i32) -> Box<dyn Job> {
        Box::new(Self { task, number, before: [None, None], made: Arc::new(AtomicI32::new(-1)), errand: None })
    }

    /// Looks what there is, and makes the work of it.
    fn begin(&mut self, world: &World) -> Result<Box<dyn Job>, String> {
        let (task, number, tid) = (self.task, self.number, application(world));
        let found = describe(tid, number).ok_or_else(|| format!("descriptor {number} is not open"))?;
        let identity = Identity::of(tid, number).map_err(|error| format!("descriptor {number}: {}", error.desc()))?;
        let replaced = if let Task::Duplicate(Some(new)) = task { describe(tid, new) } else { None };
        self.before = [Some(found), replaced];
        let name = match task {
            Task::Close | Task::ShutDown => CLOSE.name,
            Task::Duplicate(_) => DUP.name,
        };
        let made = self.made.clone();
        Ok(on_actor(name, move |_| {
            // A look and a call with nothing between them: the kernel has no step that does both.
            refuse_ours(number)?;
            if !identity.is(number) {
                return Err(format!("descriptor {number} has become another file meanwhile"));
            }
            match task {
                Task::Close => table::try_close(number).map_err(|error| match error {
                    Errno::EBADF => format!("descriptor {number} has been closed meanwhile"),
                    other => format!("descriptor {number} is closed, and the kernel says: {}", other.desc()),
                }),
                Task::ShutDown => shut_down(number),
                Task::Duplicate(new) => {
                    made.store(duplicate(number, &identity, new)?, Ordering::Release);
                    Ok(())
                }
            }
        }))
    }

    /// Says what was done, and what the kernel shows now.
    fn report(&mut self, world: &World, out: &mut Output) {
        let (fd, tid) = (self.number, application(world));
        let [was, replaced] = std::mem::take(&mut self.before);
        let was = was.unwrap_or_default();
        match self.task {
            Task::Close => {
                // The actor rings the observer's bell by a descriptor of a moment.
                let bell = descriptors::channels(world.own_tid).unwrap_or_default();
                let is_bell = descriptors::read(tid, fd).is_ok_and(|link| bell.contains(&link.target));
                out.put(&Closed { fd, was, now: describe(tid, fd).filter(|_| !is_bell) });
            }
            Task::ShutDown => out.put(&ShutDown { fd, was, now: describe(tid, fd) }),
            Task::Duplicate(_) => {
                let made = self.made.load(Ordering::Acquire);
                out.put(&Duplicated { fd: made, of: fd, was: replaced, now: describe(tid, made) });
            }
        }
    }
}

impl Job for Change {
    fn step(&mut self, world: &mut World, out: &mut Output) -> Step {
        if self.errand.is_none() {
            match self.begin(world) {
                Ok(errand) => self.errand = Some(errand),
                Err(error) => return fail(out, &error),
            }
        }
        let Some(errand) = &mut self.errand else { return Step::More };
        let step = errand.step(world, out);
        if let Step::Done(Status::Success) = step {
            self.report(world, out);
        }
        step
    }

    fn interrupt(&mut self, world: &mut World, out: &mut Output) {
        match &mut self.errand {
            Some(errand) => errand.interrupt(world, out),
            None => out.fail("interrupted"),
        }
    }
}

/// On the actor: what of ours is in the application's table is not for the operator's hands.
fn refuse_ours(number: i32) -> Result<(), String> {
    if tap::keeps(number) {
        return Err(format!(
            "descriptor {number} is the manhole's: it keeps the application's standard error, which a session sees"
        ));
    }
    if lent::has(number) {
        return Err(format!("descriptor {number} is the manhole's, for a moment"));
    }
    Ok(())
}

fn shut_down(number: i32) -> Result<(), String> {
    table::shut_down(number).map_err(|error| match error {
        Errno::ENOTSOCK => format!("descriptor {number} is no socket"),
        Errno::ENOTCONN => format!("descriptor {number} is a socket that is not connected"),
        other => format!("descriptor {number}: {}", other.desc()),
    })
}

/// On the actor. Standard error while a session sees it is the original, not our pipe.
fn duplicate(number: i32, identity: &Identity, new: Option<i32>) -> Result<i32, String> {
    let source = identity.kept().filter(|kept| tap::keeps(*kept)).unwrap_or(number);
    let Some(new) = new else {
        let close_on_exec = table::is_close_on_exec(number).unwrap_or(false);
        return table::duplicate(source, close_on_exec).map_err(|error| match error {
            Errno::EMFILE => "no number is free below the limit (rlimit nofile)".to_owned(),
            other => other.desc().to_owned(),
        });
    };
    refuse_ours(new)?;
    let close_on_exec = table::is_close_on_exec(new).unwrap_or(false);
    table::replace(new, source, close_on_exec).map(|()| new).map_err(|error| match error {
        Errno::EBADF => format!("{new} is not below the limit (rlimit nofile)"),
        Errno::EBUSY => format!("another thread is just opening descriptor {new}"),
        other => other.desc().to_owned(),
    })
}

/// What descriptor `number` of the table of thread `tid` is, without its number.
fn describe(tid: i32, number: i32) -> Option<String> {
    let sockets = Sockets::default();
    let shown = |found: &Link| {
        let target = sockets.find(&found.target);
        let target = target.map_or_else(|| Escaped(&found.target).to_string(), ToString::to_string);
        format!("{target} {}", found.access.word())
    };
    let text = shown(&descriptors::read(tid, number).ok()?);
    let kept = Identity::of(tid, number).ok().and_then(|identity| identity.kept());
    let kept = kept.and_then(|kept| descriptors::read(tid, kept).ok());
    Some(kept.map_or(text, |kept| format!("{} (through a pipe of the manhole while a session sees it)", shown(&kept))))
}

/// Which file a descriptor has open.
enum Identity {
    /// By device and inode.
    Numbers((u64, u64)),
    /// By what its link says: its file server might not answer.
    Link(Vec<u8>),
}

impl Identity {
    fn of(tid: i32, number: i32) -> Result<Self, Errno> {
        let link = descriptors::read(tid, number)?.target;
        let is_path = link.starts_with(b"/") && !link.starts_with(b"/memfd:");
        if is_path && Mounts::read().refuses(info::read(tid, number, 0)?.mount).is_some() {
            return Ok(Self::Link(link));
        }
        Ok(Self::Numbers(descriptors::status(tid, number)?.identity()))
    }

    /// On the actor: whether `number` has it open.
    fn is(&self, number: i32) -> bool {
        match self {
            Self::Numbers(identity) => stat::has(number, *identity),
            Self::Link(link) => descriptors::has_target(number, link),
        }
    }

    /// The application's standard error, while this is our pipe in its place.
    fn kept(&self) -> Option<i32> {
        match self {
            Self::Numbers(identity) => tap::kept_for(*identity),
            Self::Link(_) => None,
        }
    }
}

record! {
    /// A descriptor was closed.
    struct Closed as "closed" {
        /// Its number.
        fd: i32,
        /// What it was.
        was: String,
        /// What has that number now: the application may have opened something at once.
        now: Option<String>,
    }
}

record! {
    /// Both directions of a socket were ended.
    struct ShutDown as "shut_down" {
        /// Its number.
        fd: i32,
        /// What it was.
        was: String,
        /// What it is now, if the application has not closed it yet.
        now: Option<String>,
    }
}

record! {
    /// A descriptor was duplicated.
    struct Duplicated as "duplicated" {
        /// The number of the duplicate.
        fd: i32,
        /// Of which one.
        of: i32,
        /// What had that number before.
        was: Option<String>,
        /// What it is now.
        now: Option<String>,
    }
}

impl Line for Closed {
    fn line(&self, out: &mut Vec<u8>) {
        let now = self.now.as_ref().map_or_else(String::new, |now| format!("; open again: {now}"));
        out.extend_from_slice(format!("closed {}: {}{now}\n", self.fd, self.was).as_bytes());
    }
}

impl Line for ShutDown {
    fn line(&self, out: &mut Vec<u8>) {
        let now = self.now.as_deref().unwrap_or("closed by the application");
        out.extend_from_slice(format!("shut down {}: {} → {now}\n", self.fd, self.was).as_bytes());
    }
}

impl Line for Duplicated {
    fn line(&self, out: &mut Vec<u8>) {
        let Self { fd, of, was, now } = self;
        let was = was.as_deref().unwrap_or("not open");
        let now = now.as_deref().unwrap_or("closed by the application");
        out.extend_from_slice(format!("{fd} is a duplicate of {of}: {was} → {now}\n").as_bytes());
    }
}
