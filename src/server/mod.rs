//! The observer: one thread, one `poll` loop, every client.
//!
//! Context: the observer thread, in its own descriptor table, all signals blocked. It never runs
//! application code, never calls the application's `malloc`, and reads memory only through calls that
//! fail with an error. The way of an answer, top to bottom: [`listener`] lets a client in that
//! [`credentials`] approves, [`session`] turns its bytes into lines, `shell` turns a line into a job,
//! and this loop gives every job a slice of time and every client its output as fast as it takes it.

#![forbid(unsafe_code)]

pub mod credentials;
pub mod lines;
pub mod listener;
pub mod session;

use std::os::fd::AsFd;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags};

use crate::lifecycle::{self, Manhole, exit};
use crate::log;
use crate::shell::World;
use crate::stack::capture::dumpable;
use crate::sys::clock::monotonic;
use crate::sys::poll::poll;
use crate::sys::{Errno, allocator, descriptors, filter, futex, thread};
use listener::Listener;
use session::Session;

/// More clients than this wait in the listener's queue.
const MAX_SESSIONS: usize = 64;
/// How long the listener rests after `accept` failed for want of something.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// How long the loop rests after `poll` failed.
const POLL_PAUSE: Duration = Duration::from_millis(200);

/// Sleeps, by a call that no library can come between.
fn pause(time: Duration) {
    let deadline = monotonic().saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    while let left @ 1.. = deadline.saturating_sub(monotonic()) {
        futex::wait(&AtomicU32::new(0), 0, Some(Duration::from_nanos(left)));
    }
}

/// The observer's life, after `delay` for a forked child. Returns only when it cannot begin.
pub fn run(manhole: &'static Manhole, delay: Duration) {
    thread::set_name(c"Manhole");
    if !delay.is_zero() {
        pause(delay);
    }
    if let Err(error) = descriptors::leave_application() {
        // Living in the application's table would be seen, and closed, by the application.
        log!("cannot leave the application's descriptor table: {}; it runs on without a manhole", error.desc());
        return;
    }
    filter::look();
    if !lifecycle::begin_opening() {
        return;
    }
    let listener = match Listener::open(manhole) {
        Ok(listener) => listener,
        Err(error) => {
            log!("{error}; the application runs on without a manhole");
            return;
        }
    };
    log!("Manhole UDS path: {}", listener.path());
    lifecycle::opened();
    allocator::reserve();
    allocator::set_last_resort(give_up);
    Observer { listener, sessions: Vec::new(), world: World::new(manhole), clients: 0, resting: None }.serve();
}

/// There is no memory even in reserve: leaves everything, and this thread never goes on. No thread is stopped
/// while we allocate, so what is to be put back is the dumpable flag; the helper ends by itself.
fn give_up() -> ! {
    dumpable::put_back();
    log!("out of memory: the manhole closes; the application runs on without it");
    exit::remove_socket();
    descriptors::close_private();
    lifecycle::ended();
    loop {
        futex::wait(&AtomicU32::new(0), 0, None);
    }
}

struct Observer {
    listener: Listener,
    sessions: Vec<Session>,
    world: World,
    /// How many clients there ever were: the next one's number.
    clients: u64,
    /// Until when the listener is left alone.
    resting: Option<Instant>,
}

impl Observer {
    fn serve(mut self) {
        loop {
            let (listening, events) = self.wait();
            let now = Instant::now();
            if listening || events.iter().any(|events| events.contains(PollFlags::POLLIN)) {
                filter::look();
            }
            if listening {
                self.let_in(now);
            }
            for (session, events) in self.sessions.iter_mut().zip(events) {
                session.run(events, now, &mut self.world);
            }
            if allocator::take_exhausted() {
                self.sessions.iter_mut().for_each(Session::give_up_job);
                self.world.forget();
            }
            self.sessions.retain(|session| !session.is_over());
            if self.sessions.is_empty() {
                self.world.rest();
            }
        }
    }

    /// Sleeps until something can be done; whether the listener is ready, and each session's events.
    fn wait(&mut self) -> (bool, Vec<PollFlags>) {
        let now = Instant::now();
        self.resting = self.resting.filter(|until| *until > now);
        let accepting = self.resting.is_none() && self.sessions.len() < MAX_SESSIONS;
        let deadline = self.sessions.iter().filter_map(Session::deadline).chain(self.resting).min();
        let timeout = match deadline {
            _ if self.sessions.iter().any(Session::is_runnable) => Some(Duration::ZERO),
            deadline => deadline.map(|deadline| deadline.saturating_duration_since(now)),
        };
        let mut all: Vec<PollFd<'_>> = Vec::with_capacity(self.sessions.len() + 1);
        let wanted = if accepting { PollFlags::POLLIN } else { PollFlags::empty() };
        all.push(PollFd::new(self.listener.as_fd(), wanted));
        all.extend(self.sessions.iter().map(|session| PollFd::new(session.as_fd(), session.interest())));
        if let Err(error) = poll(&mut all, timeout) {
            // EINTR with a sigmask that lets signals in: look again. EINVAL when the application has lowered
            // RLIMIT_NOFILE below the number of entries, and ENOMEM, last: not at once, or we would spin.
            if error != Errno::EINTR {
                pause(POLL_PAUSE);
            }
            return (false, vec![PollFlags::empty(); self.sessions.len()]);
        }
        let mut events = all.iter().map(|entry| entry.revents().unwrap_or(PollFlags::empty()));
        let listening = events.next().is_some_and(|events| !events.is_empty());
        (listening, events.collect())
    }

    fn let_in(&mut self, now: Instant) {
        match self.listener.accept() {
            Ok((socket, name)) => {
                self.clients += 1;
                if let Some(session) = Session::open(self.clients, socket, &name, &self.world) {
                    self.sessions.push(session);
                }
            }
            Err(Errno::EAGAIN | Errno::ECONNABORTED | Errno::EINTR) => {}
            Err(error) => {
                log!("cannot accept a client: {}; trying again in a second", error.desc());
                self.resting = Some(now + ACCEPT_PAUSE);
            }
        }
    }
}
