//! `timers`: what will expire, and what that does.

#![forbid(unsafe_code)]

use std::time::Duration;

use super::super::duration;
use super::{application_thread, fail, readable};
use crate::config::level::Level;
use crate::config::signals::Name;
use crate::inspect::descriptors::{self, info, kinds};
use crate::inspect::timers::{self, PosixTimer};
use crate::protocol::Status;
use crate::record;
use crate::shell::json::Hex;
use crate::shell::output::Output;
use crate::shell::place;
use crate::shell::record::Line;
use crate::shell::{Command, Job, Step, World};
use crate::stack::capture::dumpable::Dumpable;
use crate::sys::memory::Live;
use crate::sys::timers::{Remaining, interval_timer, posix_timer};
use crate::sys::{Errno, filter};

pub const COMMAND: Command = Command {
    name: "timers",
    level: Level::Observe,
    synopsis: "",
    summary: "Show timers: those of timer_create, setitimer and alarm, and timerfd descriptors, with what they do and when.",
    help: "For a timer of timer_create: clock, signal or function, time left and interval. alarm() and setitimer(ITIMER_REAL)\n\
           are the same timer. A timerfd's ticks are expirations that were not read. A timer that is not armed has no\n\
           time left. The function of SIGEV_THREAD is known where the C library is a glibc since 2.35.",
    schemas: &[Timer::schema],
    start: |arguments| {
        super::no_arguments(arguments)?;
        Ok(Box::new(Show { descriptors: None, tid: 0, refused: false, shown: 0 }))
    },
};

/// Descriptors looked at in one step.
const BATCH: usize = 256;

struct Show {
    descriptors: Option<std::vec::IntoIter<i32>>,
    tid: i32,
    /// The kernel shows descriptors only to root, unless the process is dumpable.
    refused: bool,
    shown: usize,
}

record! {
    /// A timer.
    struct Timer as "timer" {
        /// posix, itimer or timerfd.
        timer: &'static str,
        /// The kernel's number of a POSIX timer, the descriptor of a timerfd; null for the others.
        id: Option<i32>,
        /// The clock, or ITIMER_REAL and its kin.
        clock: String,
        /// The signal that it sends.
        signal: Option<String>,
        /// Only to this thread.
        tid: Option<i32>,
        /// The value that comes with the signal.
        value: Option<Hex>,
        /// The function that is called on a thread of its own (SIGEV_THREAD).
        function: Option<Hex>,
        /// Its name.
        symbol: Option<String>,
        /// A timerfd's expirations that were not read.
        unread: Option<u64>,
        /// It is armed.
        armed: bool,
        /// Until it expires.
        seconds: Duration,
        /// After which it expires again; 0 for once.
        interval_seconds: Duration,
    }
}

impl Timer {
    fn new(timer: &'static str, clock: String, remaining: Remaining) -> Self {
        Self {
            timer,
            id: None,
            clock,
            signal: None,
            tid: None,
            value: None,
            function: None,
            symbol: None,
            unread: None,
            armed: remaining.value > Duration::ZERO,
            seconds: remaining.value,
            interval_seconds: remaining.interval,
        }
    }

    fn posix(world: &World, timer: &PosixTimer, function: Option<u64>) -> Self {
        let remaining = posix_timer(timer.id).unwrap_or_default();
        let signals = timer.notify == "signal" && function.is_none();
        Self {
            id: Some(timer.id),
            signal: signals.then(|| Name(timer.signal).to_string()),
            tid: timer.tid.filter(|_| signals),
            value: signals.then_some(Hex(timer.value)),
            function: function.map(Hex),
            symbol: function.and_then(|address| place::symbol(world, address)),
            ..Self::new("posix", timers::clock_name(timer.clock), remaining)
        }
    }
}

impl Line for Timer {
    fn line(&self, out: &mut Vec<u8>) {
        let id = self.id.map_or_else(String::new, |id| id.to_string());
        let when = match (self.armed, self.interval_seconds) {
            (false, _) => "not armed".to_owned(),
            (true, Duration::ZERO) => format!("in {}", duration(self.seconds)),
            (true, interval) => format!("in {}, then every {}", duration(self.seconds), duration(interval)),
        };
        let thread = self.tid.map_or_else(String::new, |tid| format!(" to thread {tid}"));
        let does = match (&self.function, &self.symbol, &self.signal, self.unread) {
            (Some(Hex(address)), symbol, _, _) => {
                format!(", calls {} on a thread of its own", symbol.as_deref().unwrap_or(&format!("{address:#x}")))
            }
            (_, _, Some(signal), _) => format!(", sends {signal}{thread}"),
            (_, _, _, Some(ticks)) => format!(", {ticks} unread"),
            _ => String::new(),
        };
        let value = self.value.map_or_else(String::new, |Hex(value)| format!(" with {value:#x}"));
        out.extend_from_slice(
            format!("{:<7} {id:>4}  {:<24} {when}{does}{value}\n", self.timer, self.clock).as_bytes(),
        );
    }
}

/// What descriptor `number` of thread `tid` says, if it is a timer's.
fn timer_of(tid: i32, number: i32) -> Option<info::Timer> {
    let link = descriptors::read(tid, number).ok()?;
    if kinds::named(&link.target) != Some("timerfd") {
        return None;
    }
    info::read(tid, number, 0).ok()?.timer
}

impl Show {
    /// All but descriptors, which come in pieces.
    fn signals(&mut self, world: &mut World, out: &mut Output) -> Result<(), String> {
        world.look()?;
        self.tid = application_thread(world)?;
        if filter::has_grown() {
            out.note("only descriptors are shown: the application has added a seccomp filter, which might kill it for more\n");
            return self.list();
        }
        let posix = match timers::posix() {
            Ok(posix) => posix,
            Err(error) => {
                out.note(format!("POSIX timers are not shown: cannot read /proc/self/timers: {}\n", error.desc()));
                Vec::new()
            }
        };
        let is_code = |address: &u64| world.modules.is_executable(*address);
        let functions: Vec<Option<u64>> =
            posix.iter().map(|timer| timer.thread_function(&Live).filter(is_code)).collect();
        world.symbolizer.resolve(&world.modules, &functions.iter().flatten().copied().collect::<Vec<_>>());
        for (timer, function) in posix.iter().zip(functions) {
            self.put(&Timer::posix(world, timer, function), out);
        }
        let names = [
            (libc::ITIMER_REAL, "ITIMER_REAL", "SIGALRM"),
            (libc::ITIMER_VIRTUAL, "ITIMER_VIRTUAL", "SIGVTALRM"),
            (libc::ITIMER_PROF, "ITIMER_PROF", "SIGPROF"),
        ];
        for (which, name, signal) in names {
            let remaining = interval_timer(which).unwrap_or_default();
            if remaining != Remaining::default() {
                let timer = Timer::new("itimer", name.to_owned(), remaining);
                self.put(&Timer { signal: Some(signal.to_owned()), ..timer }, out);
            }
        }
        self.list()
    }

    /// The descriptors to look at.
    fn list(&mut self) -> Result<(), String> {
        self.refused = matches!(descriptors::numbers(self.tid), Err(Errno::EACCES | Errno::EPERM));
        let numbers = readable(|| descriptors::numbers(self.tid))
            .map_err(|error| format!("cannot list /proc/self/task/{}/fd: {}", self.tid, error.desc()))?;
        self.descriptors = Some(numbers.into_iter());
        Ok(())
    }

    fn put(&mut self, timer: &Timer, out: &mut Output) {
        if self.shown == 0 {
            out.note("KIND      ID  CLOCK                    WHEN\n");
        }
        self.shown += 1;
        out.put(timer);
    }
}

impl Job for Show {
    fn step(&mut self, world: &mut World, out: &mut Output) -> Step {
        let Some(mut numbers) = self.descriptors.take() else {
            return match self.signals(world, out) {
                Ok(()) => Step::More,
                Err(error) => fail(out, &error),
            };
        };
        let mut dumpable = Dumpable::default();
        if self.refused {
            dumpable.allow();
        }
        for number in numbers.by_ref().take(BATCH) {
            let Some(found) = timer_of(self.tid, number) else { continue };
            let remaining = Remaining { value: found.remaining, interval: found.interval };
            let timer = Timer::new("timerfd", timers::clock_name(found.clock), remaining);
            self.put(&Timer { id: Some(number), unread: Some(found.ticks), ..timer }, out);
        }
        if numbers.len() > 0 {
            self.descriptors = Some(numbers);
            return Step::More;
        }
        if self.shown == 0 {
            out.note("no timers\n");
        }
        Step::Done(Status::Success)
    }
}
