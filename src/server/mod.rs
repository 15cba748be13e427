//! The observer: one thread, one `poll` loop, every client.
//!
//! Context: the observer thread, in its own descriptor table, all signals blocked. It never runs
//! application code, never calls the application's `malloc`, and reads memory only through calls that
//! fail with an error. The way of an answer, top to bottom: [`listener`] lets a client in that
//! [`credentials`] approves, [`session`] has [`talk`] turn its bytes into lines, [`work`] has `shell` turn a line into
//! jobs, [`outbox`] sends what they answer as fast as the client takes it, and this loop gives each a slice of time.

#![forbid(unsafe_code)]

pub mod bell;
pub mod credentials;
pub mod lines;
pub mod listener;
pub mod outbox;
pub mod overheard;
pub mod session;
pub mod talk;
pub mod work;

use std::os::fd::AsFd;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags};

use crate::lifecycle::{self, Manhole, Wish, exit, fork, oneshot, signals};
use crate::log;
use crate::redirect::tap;
use crate::shell::World;
use crate::shell::client::RollCall;
use crate::sys::allocator::{self, Role};
use crate::sys::poll::{poll, select};
use crate::sys::{Errno, descriptors, dumpable, filter, futex, thread};
use bell::Bell;
use listener::{ListenError, Listener};
use overheard::Overheard;
use session::Session;

/// More clients than this wait in the listener's queue.
const MAX_SESSIONS: usize = 64;
/// How long the listener rests after `accept` failed for want of something.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// How long the loop rests after `poll` failed.
const POLL_PAUSE: Duration = Duration::from_millis(200);

/// The observer's life. Returns when it cannot begin, or must end.
pub fn run(manhole: &'static Manhole) {
    thread::set_name(c"Manhole");
    if let Err(error) = descriptors::leave_application() {
        // Living in the application's table would be seen, and closed, by the application.
        log!("cannot leave the application's descriptor table: {}; it runs on without a manhole", error.desc());
        return;
    }
    fork::tell();
    filter::look();
    // Without a bell (`pipe2` is refused, or no descriptor left) only a release and a farewell are lost.
    let bell = Bell::hang(&manhole.rope).ok();
    manhole.stage.wait_for_activation(signals::report_replaced);
    if !manhole.stage.begin_opening() {
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
    if !manhole.config.waits_for_signal() {
        manhole.tell_of_forks();
    }
    manhole.stage.opened();
    allocator::reserve();
    allocator::set_last_resort(Role::Observer, give_up);
    let mut observer = Observer::new(World::new(manhole), listener, bell);
    while observer.turn() {}
}

/// Serves one client on the calling thread, one of the application, which stands still meanwhile: in that thread's
/// descriptor table, and until the client leaves or the process ends. Who is refused does not count.
pub fn serve_one(manhole: &'static Manhole, world: World) -> Result<(), ListenError> {
    let listener = Listener::open(manhole)?;
    // Where there is an observer, the rope is its.
    let bell = if manhole.has_threads() { None } else { Bell::hang(&manhole.rope).ok() };
    log!("Manhole UDS path: {}", listener.path());
    let mut observer = Observer::new(world, listener, bell);
    observer.only_one = true;
    let _stay = oneshot::Stay(manhole);
    while observer.turn() && !observer.has_served_one() {}
    exit::remove_socket();
    observer.send_the_rest_away();
    Ok(())
}

/// There is no memory even in reserve: leaves everything, and this thread never goes on. No thread is stopped
/// while we allocate, so what is to be put back is the dumpable flag; the helper ends by itself.
fn give_up() -> ! {
    dumpable::put_back();
    // By the actor, which ends.
    tap::give_up(tap::LAST);
    log!("out of memory: the manhole closes; the application runs on without it");
    exit::remove_socket();
    descriptors::close_private();
    if let Some(manhole) = lifecycle::installed() {
        manhole.rope.cut();
        manhole.count_clients(0);
        manhole.stage.end();
        manhole.actor.close();
        manhole.observer_left();
    }
    loop {
        futex::wait(&AtomicU32::new(0), 0, None);
    }
}

struct Observer {
    bell: Option<Bell>,
    /// None when the process ends and only those who are in may finish.
    listener: Option<Listener>,
    sessions: Vec<Session>,
    overheard: Overheard,
    world: World,
    /// How many clients there ever were: the next one's number.
    clients: u64,
    /// Until when the listener is left alone.
    resting: Option<Instant>,
    /// Only one client is let in ([`serve_one`]).
    only_one: bool,
    /// A client was let in.
    served: bool,
}

/// What woke the loop.
struct Woken {
    bell: bool,
    listener: bool,
    sessions: Vec<PollFlags>,
}

impl Observer {
    fn new(world: World, listener: Listener, bell: Option<Bell>) -> Self {
        let (sessions, listener) = (Vec::new(), Some(listener));
        let overheard = Overheard::new(world.manhole);
        Self { bell, listener, sessions, overheard, world, clients: 0, resting: None, only_one: false, served: false }
    }

    /// Whether the only client has left, or none can come any more.
    fn has_served_one(&self) -> bool {
        (self.served || self.listener.is_none()) && self.sessions.is_empty()
    }

    /// Tells those who wait in the listener's queue that nobody will serve them.
    fn send_the_rest_away(&self) {
        let Some(listener) = &self.listener else { return };
        // One who comes in between would be cut off without a word.
        listener.close_queue();
        while let Ok((socket, _)) = listener.accept() {
            session::refuse(&socket, "one client was served here (oneshot): send the signal again");
        }
    }

    /// One round of the loop; false when the manhole is released.
    fn turn(&mut self) -> bool {
        let woken = self.wait();
        let now = Instant::now();
        if woken.bell && self.answer_bell() == Wish::Leave {
            return false;
        }
        if woken.listener || woken.sessions.iter().any(|events| events.contains(PollFlags::POLLIN)) {
            filter::look();
        }
        if woken.listener {
            self.let_in(now);
            // Before it has a prompt: what the application writes from then on is not missed.
            self.overheard.pass_on(&mut self.sessions, now);
        }
        for (session, events) in self.sessions.iter_mut().zip(woken.sessions) {
            session.run(events, now, &mut self.world);
        }
        if let RollCall::Asked = self.world.roll_call {
            self.world.roll_call = RollCall::Answered(self.sessions.iter().map(Session::guest).collect());
        }
        if allocator::take_exhausted() {
            self.sessions.iter_mut().for_each(Session::give_up_job);
            self.world.forget();
        }
        self.sessions.retain(|session| !session.is_over());
        self.overheard.pass_on(&mut self.sessions, now);
        self.world.manhole.count_clients(self.sessions.len());
        if self.sessions.is_empty() {
            self.world.rest();
        }
        true
    }

    /// Somebody rang: what is asked for.
    fn answer_bell(&mut self) -> Wish {
        self.bell.iter().for_each(Bell::hush);
        self.sessions.iter_mut().for_each(Session::rouse);
        let wish = self.world.manhole.wish();
        match wish {
            Wish::Serve => {}
            Wish::Finish if self.listener.take().is_some() => {
                let farewell = "the process ends, and waits for you to leave (daemon_connection=False)";
                self.sessions.iter_mut().for_each(|session| session.tell(farewell));
            }
            Wish::Finish => {}
            Wish::Leave => log!("released: the manhole closes, with {} clients connected", self.sessions.len()),
        }
        wish
    }

    /// Sleeps until something can be done.
    fn wait(&mut self) -> Woken {
        let now = Instant::now();
        self.resting = self.resting.filter(|until| *until > now);
        let accepting = self.resting.is_none() && self.sessions.len() < MAX_SESSIONS;
        let deadlines = self.sessions.iter().filter_map(Session::deadline).chain(self.resting);
        let deadline = deadlines.chain(self.overheard.deadline(&self.sessions)).min();
        let timeout = match deadline {
            _ if self.sessions.iter().any(Session::is_runnable) => Some(Duration::ZERO),
            deadline => deadline.map(|deadline| deadline.saturating_duration_since(now)),
        };
        let listener = self.listener.as_ref().filter(|_| accepting);
        let mut all: Vec<PollFd<'_>> = Vec::with_capacity(self.sessions.len() + 3);
        all.extend(self.bell.iter().map(|bell| PollFd::new(bell.as_fd(), PollFlags::POLLIN)));
        all.extend(listener.iter().map(|listener| PollFd::new(listener.as_fd(), PollFlags::POLLIN)));
        all.extend(self.sessions.iter().map(|session| PollFd::new(session.as_fd(), session.interest())));
        all.extend(self.overheard.as_fd(&self.sessions).map(|stderr| PollFd::new(stderr, PollFlags::POLLIN)));
        let outcome = poll(&mut all, timeout).or_else(|error| match error {
            // RLIMIT_NOFILE is below the number of entries. A filter that came later may kill for the other call.
            Errno::EINVAL if !has_new_filter() => select(&mut all, timeout),
            other => Err(other),
        });
        if let Err(error) = outcome {
            // EINTR with a sigmask that lets signals in: look again. EINVAL and ENOMEM, last: not at once, or we
            // would spin.
            if error != Errno::EINTR {
                futex::pause(POLL_PAUSE);
            }
            return Woken { bell: false, listener: false, sessions: vec![PollFlags::empty(); self.sessions.len()] };
        }
        let mut events = all.iter().map(|entry| entry.revents().unwrap_or(PollFlags::empty()));
        let mut one = |is_there: bool| is_there && events.next().is_some_and(|events| !events.is_empty());
        let (bell, listener) = (one(self.bell.is_some()), one(listener.is_some()));
        Woken { bell, listener, sessions: events.take(self.sessions.len()).collect() }
    }

    fn let_in(&mut self, now: Instant) {
        let Some(listener) = &self.listener else { return };
        match listener.accept() {
            Ok((socket, name)) => {
                self.clients += 1;
                if self.only_one && self.served {
                    return session::refuse(&socket, "one client is served here (oneshot), and that one is connected");
                }
                if let Some(session) = Session::open(self.clients, socket, &name, &self.world) {
                    self.served = true;
                    self.sessions.push(session);
                    self.world.manhole.count_clients(self.sessions.len());
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

/// Whether the application has added a seccomp filter, just now perhaps.
fn has_new_filter() -> bool {
    filter::look();
    filter::has_grown()
}
