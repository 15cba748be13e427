//! What a thread has used of the processors so far, to be compared with what it will have used later.
//!
//! Context: the observer. A clock and two small files of `/proc` a thread, some 20 µs; nothing of the thread is touched.

#![forbid(unsafe_code)]

use std::time::Duration;

use super::threads::Reader;
use crate::sys::{Errno, Result, clock};

/// What a thread had used at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// That moment, in nanoseconds of the monotonic clock.
    pub at: u64,
    /// When the thread started: together with its id that is who it is.
    pub started: Duration,
    /// Time on a processor, to the nanosecond where its own clock can be read.
    pub cpu: Duration,
    /// The part of it in user space, counted in clock ticks.
    pub user: Duration,
    /// The part of it in the kernel, counted likewise.
    pub system: Duration,
    /// How often it blocked or yielded.
    pub voluntary: u64,
    /// How often it was preempted.
    pub involuntary: u64,
    /// The state letter.
    pub state: u8,
}

/// What a thread used between two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// How long that was.
    pub time: Duration,
    /// On a processor.
    pub cpu: Duration,
    /// In user space.
    pub user: Duration,
    /// In the kernel.
    pub system: Duration,
    /// Voluntary context switches.
    pub voluntary: u64,
    /// Involuntary ones.
    pub involuntary: u64,
}

impl Usage {
    /// Of thread `tid`, with its name; an error when it has exited.
    pub fn read(reader: &Reader, tid: i32) -> Result<(Self, Vec<u8>)> {
        // The switches before the clock: a thread that ran in between has used time, and is not called still.
        let switches = reader.switches(tid)?;
        let facts = reader.read_stat(tid)?;
        if matches!(facts.state, b'Z' | b'X' | b'x') {
            return Err(Errno::ESRCH);
        }
        let usage = Self {
            at: clock::monotonic(),
            started: facts.started,
            cpu: facts.cpu,
            user: facts.user,
            system: facts.system,
            voluntary: switches.voluntary,
            involuntary: switches.involuntary,
            state: facts.state,
        };
        Ok((usage, facts.name))
    }

    /// What was used from `before` to `self`; `None` if that is another thread, which has got the same id.
    pub fn since(&self, before: &Self) -> Option<Spent> {
        (self.started == before.started && self.cpu >= before.cpu).then(|| Spent {
            time: Duration::from_nanos(self.at.saturating_sub(before.at)),
            cpu: self.cpu.saturating_sub(before.cpu),
            user: self.user.saturating_sub(before.user),
            system: self.system.saturating_sub(before.system),
            voluntary: self.voluntary.saturating_sub(before.voluntary),
            involuntary: self.involuntary.saturating_sub(before.involuntary),
        })
    }

    /// All that it has used, for a thread that is younger than the other moment.
    pub fn in_all(&self, since: u64) -> Spent {
        Spent {
            time: Duration::from_nanos(self.at.saturating_sub(since)),
            cpu: self.cpu,
            user: self.user,
            system: self.system,
            voluntary: self.voluntary,
            involuntary: self.involuntary,
        }
    }
}

impl Spent {
    /// Context switches of both kinds.
    pub fn switches(&self) -> u64 {
        self.voluntary.saturating_add(self.involuntary)
    }

    /// Whether the thread did not run at all.
    pub fn is_nothing(&self) -> bool {
        self.cpu.is_zero() && self.switches() == 0
    }

    /// The share of one processor, in percent.
    pub fn percent(&self, of: Duration) -> f64 {
        percent(of, self.time)
    }
}

/// `part` of `whole` in percent; 0 of nothing.
pub fn percent(part: Duration, whole: Duration) -> f64 {
    if whole.is_zero() { 0.0 } else { part.as_secs_f64() / whole.as_secs_f64() * 100.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process;

    #[test]
    fn work_shows_and_another_thread_of_the_same_id_does_not_pass_for_the_first() {
        let (reader, tid) = (Reader::new(), process::tid());
        let (before, _) = Usage::read(&reader, tid).unwrap();
        while clock::thread_run_time(tid).unwrap() < before.cpu.as_nanos() as u64 + 3_000_000 {}
        let (after, _) = Usage::read(&reader, tid).unwrap();
        let spent = after.since(&before).unwrap();
        assert!(spent.cpu >= Duration::from_millis(3) && !spent.is_nothing(), "{spent:?}");
        assert!(spent.percent(spent.cpu) > 0.0 && spent.percent(spent.cpu) <= 100.1, "{spent:?}");
        assert_eq!(before.since(&Usage { started: before.started + Duration::from_millis(10), ..before }), None);
        assert_eq!(before.since(&after), None);
        assert!(Usage::read(&reader, 0x0fff_ffff).is_err());
    }
}
