//! Which session sees what the application writes on descriptor 2: one at a time, the first that wants to.
//!
//! Context: the observer. A session gets it in whole lines, between its own, and only while it takes its output:
//! what it does not take stays with [`crate::redirect`], which keeps a little of it and counts the rest.

#![forbid(unsafe_code)]

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use super::session::Session;
use crate::lifecycle::Manhole;
use crate::log;
use crate::redirect::tap::Refusal;
use crate::redirect::{Condition, Stderr, pump};
use crate::sys::{descriptors, process};

/// How often the pumps of former sessions are looked at, whose children write on.
const REAP: Duration = Duration::from_secs(2);

/// Who sees it, and what there is to see.
pub struct Overheard {
    manhole: &'static Manhole,
    /// The number of the session that has it.
    owner: Option<u64>,
    stderr: Option<Stderr>,
    /// Why the owner sees nothing.
    refused: Option<String>,
    /// The last session that was told.
    told: u64,
    /// When to look for pumps that have ended, while there may be any but the session's; the bell tells of most.
    reap: Option<Instant>,
}

impl Overheard {
    /// Nobody's yet.
    pub fn new(manhole: &'static Manhole) -> Self {
        Self { manhole, owner: None, stderr: None, refused: None, told: 0, reap: None }
    }

    /// What to wait for, if its owner would take it.
    pub fn as_fd(&self, sessions: &[Session]) -> Option<BorrowedFd<'_>> {
        self.stderr.as_ref().filter(|_| self.is_wanted(sessions)).and_then(Stderr::as_fd)
    }

    /// When to look though nothing happens.
    pub fn deadline(&self, sessions: &[Session]) -> Option<Instant> {
        let check = self.stderr.as_ref().filter(|_| self.is_wanted(sessions)).and_then(Stderr::deadline);
        check.into_iter().chain(self.reap).min()
    }

    fn is_wanted(&self, sessions: &[Session]) -> bool {
        sessions.iter().any(|session| Some(session.number()) == self.owner && session.can_overhear())
    }

    /// Hands over what has come, and the ownership when its owner has left.
    pub fn pass_on(&mut self, sessions: &mut [Session], now: Instant) {
        if self.reap.is_some() {
            self.reap = pump::reap().then(|| now + REAP);
        }
        if !sessions.iter().any(|session| Some(session.number()) == self.owner && session.wants_stderr()) {
            self.leave();
            self.owner = sessions.iter().find(|session| session.wants_stderr()).map(Session::number);
            self.open(false);
        }
        let Some(owner) = self.owner else { return };
        for session in sessions.iter_mut().filter(|session| session.wants_stderr()) {
            let number = session.number();
            if number == owner {
                self.show(session);
            } else if number > self.told {
                session.tell(&match &self.refused {
                    None => format!("standard error is shown to client {owner}, and to you when that one leaves"),
                    Some(refused) => refused.clone(),
                });
            }
            self.told = self.told.max(number);
        }
    }

    fn open(&mut self, is_new: bool) {
        self.refused = None;
        if self.owner.is_none() {
            return;
        }
        let manhole = self.manhole;
        // An oneshot lives in the application's table itself.
        let is_there = !descriptors::is_private();
        let run = move |what: &'static str, work: Box<dyn FnOnce() + Send>| {
            if is_there {
                work();
                return true;
            }
            let work = move || {
                work();
                // The observer waits for it. Without a bell it looks when something else happens.
                let _ = manhole.rope.ring();
            };
            manhole.actor.post(what, Box::new(work)).is_ok()
        };
        let tid = if is_there { process::proc_tid() } else { manhole.actor.tid() };
        match tid.ok_or(Refusal::NoActor).and_then(|tid| Stderr::open(tid, Box::new(run), is_new)) {
            Ok(stderr) => self.stderr = Some(stderr),
            Err(refusal) => self.refuse(&refusal),
        }
    }

    fn refuse(&mut self, why: &dyn std::fmt::Display) {
        self.leave();
        self.refused = Some(format!("standard error is not shown: {why}"));
    }

    fn show(&mut self, session: &mut Session) {
        if !session.can_overhear() {
            return;
        }
        let before = self.refused.is_some();
        if let Some(stderr) = &mut self.stderr {
            let mut text = Vec::new();
            let condition = stderr.read(&mut text);
            if !text.is_empty() {
                session.overhear(&text);
            }
            match condition {
                Condition::Waiting | Condition::On => {}
                Condition::Refused(refusal) => self.refuse(&refusal),
                Condition::Moved => {
                    self.leave();
                    self.open(true);
                }
                Condition::Broken => self.refuse(&"its pump has been killed"),
            }
        }
        if let Some(refused) = self.refused.as_ref().filter(|_| !before || session.number() > self.told) {
            log!("{refused}");
            session.tell(refused);
        }
    }

    fn leave(&mut self) {
        if self.stderr.take().is_some() {
            self.reap = Some(Instant::now() + REAP);
        }
    }
}
