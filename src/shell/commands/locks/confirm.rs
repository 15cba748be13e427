//! A second look, before anything is called a deadlock.
//!
//! Context: the observer. A snapshot of running threads may show a cycle that never was. A cycle stands when each of its
//! threads was in the call that was found at two moments and did not run between them (same context switches, same time on a
//! processor), and between these moments each lock named the next thread as its holder. A holder that does not run
//! unlocks nothing, and a waiter that was woken is no longer in its call; so at that moment all of them waited, in a
//! circle. The same is shown of a waiter whose holder has exited: gone first, and named afterwards.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use crate::inspect::locks::{Holder, Object, Version, Wait};
use crate::inspect::threads::{Reader, Switches, blocked};
use crate::stack::Call;
use crate::stack::capture::dumpable::Dumpable;
use crate::sys::clock;
use crate::sys::memory::Live;

/// Between the two looks. What proves is that nobody ran; the time only lets a clock tick where it is coarse.
const APART: Duration = Duration::from_millis(20);
/// Threads a step, some 40 µs each.
const BATCH: usize = 64;

/// A thread, and what it waits for while this other one holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Who waits.
    pub waiter: i32,
    /// In which call.
    pub wait: Wait,
    /// For what.
    pub object: Object,
    /// Held by whom.
    pub holder: i32,
}

/// What a thread that stands still does not change.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    call: Call,
    switches: Switches,
    /// `None` where the clock is not ours to read.
    ran: Option<u64>,
}

impl Mark {
    /// Of thread `tid`, unless it runs or has exited.
    pub fn of(tid: i32) -> Option<Self> {
        let ran = clock::thread_run_time(tid).ok();
        let (call, _) = blocked(tid)?;
        Some(Self { call, switches: Reader::new().switches(tid).ok()?, ran })
    }
}

/// The second look at work.
pub struct Confirmation {
    claims: Vec<Claim>,
    /// Of the first claims, as far as they were looked at.
    marks: Vec<Option<Mark>>,
    until: Option<Instant>,
    /// Whether each lock still named its holder, once they were asked.
    names: Option<Vec<bool>>,
    /// Claims whose thread was looked at again.
    again: usize,
    standing: Vec<Claim>,
}

/// How far it came.
pub enum Progress {
    /// There is more to do.
    More,
    /// There is nothing to do before this moment.
    Waiting(Instant),
    /// These claims stand.
    Done(Vec<Claim>),
}

impl Confirmation {
    /// Of `claims`.
    pub fn new(claims: Vec<Claim>) -> Self {
        Self { claims, marks: Vec::new(), until: None, names: None, again: 0, standing: Vec::new() }
    }

    /// Works for some milliseconds.
    pub fn step(&mut self, version: Version) -> Progress {
        if self.claims.is_empty() {
            return Progress::Done(Vec::new());
        }
        // As in `threads`: a process that dropped its privileges shows this to root alone.
        let mut dumpable = Dumpable::default();
        if self.claims.first().is_some_and(|claim| !Reader::new().shows_calls(claim.waiter)) {
            dumpable.allow();
        }
        if self.marks.len() < self.claims.len() {
            let next = self.claims.iter().skip(self.marks.len()).take(BATCH);
            let still = |claim: &Claim| Mark::of(claim.waiter).filter(|mark| Wait::of(&mark.call) == Some(claim.wait));
            let marks: Vec<Option<Mark>> = next.map(still).collect();
            self.marks.extend(marks);
            return Progress::More;
        }
        let until = *self.until.get_or_insert_with(|| Instant::now() + APART);
        if Instant::now() < until {
            return Progress::Waiting(until);
        }
        // Behind every first mark and before every second one.
        let names = |claim: &Claim| claim.object.look(&Live, version).holder == Holder::Thread(claim.holder);
        let names = self.names.get_or_insert_with(|| self.claims.iter().map(names).collect());
        let next = self.claims.iter().zip(&self.marks).zip(names).skip(self.again).take(BATCH);
        for ((claim, mark), names) in next {
            self.again += 1;
            if *names && mark.is_some() && *mark == Mark::of(claim.waiter) {
                self.standing.push(*claim);
            }
        }
        if self.again < self.claims.len() { Progress::More } else { Progress::Done(std::mem::take(&mut self.standing)) }
    }
}
