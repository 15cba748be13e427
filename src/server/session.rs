//! One client, from the door to its last byte: bytes come in ([`Session::receive`]), are understood ([`talk`]), run
//! ([`work`]), answered, and sent ([`outbox`]).
//!
//! Context: the observer. A session never waits: it takes the input there is, runs its commands for a slice of time
//! while its output has room, and sends what the kernel takes.

#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::poll::PollFlags;

use super::credentials;
use super::outbox::Outbox;
use super::talk::frames::Frames;
use super::talk::person::Person;
use super::talk::program::Program;
use super::talk::{Input, Talk};
use super::work::{Progress, Work};
use crate::config::Handler;
use crate::log;
use crate::protocol::{self, Status};
use crate::shell::client::{self, Client, Guest};
use crate::shell::{self, World};
use crate::sys::Errno;
use crate::sys::socket::Socket;

/// How long one session may work before the others have their turn.
const SLICE: Duration = Duration::from_millis(10);

/// How the client talks.
enum Mode {
    Person(Person),
    Program(Program),
    Frames(Frames),
}

/// A client that was let in.
pub struct Session {
    client: Client,
    socket: Socket,
    mode: Mode,
    work: Option<Work>,
    outbox: Outbox,
    /// The client sends no more.
    at_end: bool,
    /// Close when the output is sent.
    leaving: bool,
    over: bool,
    /// The option `redirect_stderr`.
    redirects: bool,
}

/// Sends a client away with one line.
pub fn refuse(socket: &Socket, reason: &str) {
    let mut line = Vec::new();
    protocol::encode_refusal(reason, &mut line);
    let _ = socket.send(&line);
}

impl Session {
    /// Lets a client in, or sends it away with one line. `name` is what its socket is bound to.
    pub fn open(number: u64, socket: Socket, name: &[u8], world: &World) -> Option<Self> {
        let peer = match credentials::check(&socket) {
            Ok(peer) => peer,
            Err(reason) => {
                refuse(&socket, &reason);
                return None;
            }
        };
        let config = &world.manhole.config;
        let abstract_name = name.strip_prefix(b"\0").unwrap_or_default();
        let (mode, talks) = match protocol::requested_version(abstract_name) {
            Some(protocol::VERSION) => (Mode::Frames(Frames::default()), client::Mode::Command),
            Some(other) => {
                let version = protocol::VERSION;
                refuse(&socket, &format!("frames of version {other} are not spoken here, only {version}"));
                return None;
            }
            None => {
                let person = Person::new(config.connection_handler, protocol::is_terminal(abstract_name));
                let is_exec = config.connection_handler == Handler::Exec;
                (Mode::Person(person), if is_exec { client::Mode::Exec } else { client::Mode::Person })
            }
        };
        let client = Client::new(number, peer.pid, peer.uid, config.level, talks);
        let level = config.level.name();
        log!("client {number} connected: pid={} uid={} gid={} level={level}", peer.pid, peer.uid, peer.gid);
        let mut session = Self {
            client,
            socket,
            mode,
            work: None,
            outbox: Outbox::new(config.client_timeout),
            at_end: false,
            leaving: false,
            over: false,
            redirects: config.redirect_stderr,
        };
        if session.converses() {
            session.outbox.end().extend_from_slice(shell::banner(world).as_bytes());
            session.work = Some(Work::new("stacks", &session.client));
        }
        Some(session)
    }

    /// The events that this session can use now. An error or the end of both directions comes anyway.
    pub fn interest(&self) -> PollFlags {
        let mut flags = PollFlags::empty();
        // Of a running command's client it may be the wish to end it.
        let wanted = if self.work.is_some() { !self.talk().is_full() } else { !self.talk().has_input(self.at_end) };
        flags.set(PollFlags::POLLIN, !self.at_end && !self.leaving && wanted);
        flags.set(PollFlags::POLLOUT, self.outbox.waiting() > 0);
        flags
    }

    /// Whether there is work that waits for nobody.
    pub fn is_runnable(&self) -> bool {
        let has_work = match &self.work {
            Some(work) => work.waits().is_none(),
            None => self.has_input() || self.ends_now(),
        };
        !self.over && !self.outbox.is_full() && has_work
    }

    /// When this session must be looked at though nothing happens: its client takes no output, or its job said so.
    pub fn deadline(&self) -> Option<Instant> {
        let work = self.work.as_ref().and_then(Work::waits).filter(|_| !self.outbox.is_full());
        self.outbox.deadline().into_iter().chain(work).min()
    }

    /// The bell rang: a job that waits may have something to do.
    pub fn rouse(&mut self) {
        self.work.iter_mut().for_each(Work::rouse);
    }

    /// Whether it can be forgotten.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Its number among all clients.
    pub fn number(&self) -> u64 {
        self.client.number
    }

    /// Who it is and what it does.
    pub fn guest(&self) -> Guest {
        let running = self.work.as_ref().and_then(Work::running);
        Guest { client: self.client.clone(), running, waiting: self.outbox.waiting() }
    }

    /// Does what can be done now without waiting.
    pub fn run(&mut self, events: PollFlags, now: Instant, world: &mut World) {
        if events.intersects(PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL) {
            return self.end("went away");
        }
        if events.contains(PollFlags::POLLIN) {
            self.receive();
        }
        if self.work.as_ref().and_then(Work::waits).is_some_and(|until| until <= now) {
            self.rouse();
        }
        let until = now + SLICE;
        std::mem::swap(&mut self.client, &mut world.client);
        while !self.over && !self.outbox.is_full() {
            self.look_for_interrupt(world);
            if !self.step(world) || Instant::now() >= until {
                break;
            }
        }
        std::mem::swap(&mut self.client, &mut world.client);
        if !self.over && self.outbox.send(&self.socket, now).is_err() {
            self.end("went away");
        }
        if self.ends_now() && self.outbox.waiting() == 0 {
            self.end("disconnected");
        } else if self.outbox.deadline().is_some_and(|deadline| deadline <= now) {
            self.end("took no output for client_timeout and was dropped");
        }
    }

    fn receive(&mut self) {
        let mut buffer = [0; 16384];
        let bytes = match self.socket.receive(&mut buffer) {
            Ok(0) => return self.at_end = true,
            Ok(count) => buffer.get(..count).unwrap_or_default(),
            Err(Errno::EAGAIN | Errno::EINTR) => return,
            Err(_) => return self.end("went away"),
        };
        let may_exit = self.converses() && self.work.as_ref().is_some_and(Work::has_remarked);
        match &mut self.mode {
            Mode::Person(person) if may_exit && is_exit(bytes) => {
                person.forget();
                self.leaving = true;
                self.leave_work("left by its client");
            }
            Mode::Person(person) => {
                person.push(bytes);
                if let Some(request) = person.take_request() {
                    self.become_program(&request);
                }
            }
            Mode::Program(program) => program.push(bytes),
            Mode::Frames(frames) => frames.push(bytes),
        }
    }

    /// The first thing that this client sent is a request: what a person would see ends here, at a line's end.
    fn become_program(&mut self, request: &[u8]) {
        self.leave_work("given up: the client is a program");
        self.outbox.drop_lines();
        let mut program = Program::default();
        program.push(request);
        self.mode = Mode::Program(program);
        self.client.mode = client::Mode::Program;
    }

    /// One step: of the line at work, or the begin of the next one. False when there is none to do now.
    fn step(&mut self, world: &mut World) -> bool {
        let Some(work) = &mut self.work else { return self.next_line(world) };
        if work.waits().is_some() {
            return false;
        }
        let mut text = Vec::new();
        let progress = work.step(world, &mut text);
        self.answer(&text);
        match progress {
            Progress::More => {}
            Progress::Remark(text) => {
                let Self { mode, outbox, .. } = self;
                mode.talk_mut().remark(&text, outbox.end());
                self.tell(&text);
            }
            Progress::Done(status, why) => self.finish(status, why.as_deref()),
            Progress::Leave => {
                self.leaving = true;
                if let Mode::Person(_) = self.mode {
                    self.work = None;
                } else {
                    self.finish(Status::Success, None);
                }
            }
        }
        true
    }

    /// Begins what the client sent next. The session has lent its client to the world.
    fn next_line(&mut self, world: &mut World) -> bool {
        if self.leaving {
            return false;
        }
        let at_end = self.at_end;
        let Some(input) = self.talk_mut().next(at_end) else { return false };
        match input {
            Input::Line(line) => match self.recalled(line, world) {
                Ok(line) => self.work = Some(Work::new(&line, &world.client)),
                Err(error) => self.wrong(&error, &world.client),
            },
            Input::Wrong(error) => self.wrong(&error, &world.client),
            Input::Interrupt => {
                let line_end: &[u8] = if self.converses() { b"\n" } else { b"" };
                self.outbox.end().extend_from_slice(line_end);
                self.finish(Status::Success, None);
            }
            Input::Unreadable(refusal) => {
                self.outbox.end().extend_from_slice(refusal.as_bytes());
                self.leaving = true;
            }
        }
        true
    }

    /// The line that a person means, which is remembered; one that was recalled is shown.
    fn recalled(&mut self, line: String, world: &mut World) -> Result<String, String> {
        let history = &mut world.client.history;
        let recalled = match self.mode {
            Mode::Person(_) => history.expand(&line)?,
            Mode::Program(_) | Mode::Frames(_) => None,
        };
        let shown = recalled.as_ref().map(|line| format!("{line}\n"));
        let line = recalled.unwrap_or(line);
        if !line.trim().is_empty() {
            history.add(&line);
        }
        self.answer(shown.unwrap_or_default().as_bytes());
        Ok(line)
    }

    /// Answers to what was no line to run.
    fn wrong(&mut self, error: &str, client: &Client) {
        log!("{client} refused: {error}");
        match &mut self.mode {
            // Its reply holds the error.
            Mode::Program(_) => {}
            Mode::Person(_) | Mode::Frames(_) => self.answer(format!("error: {error}\n").as_bytes()),
        }
        self.finish(Status::Usage, Some(error));
    }

    /// Ends the line at work, if that was asked for.
    fn look_for_interrupt(&mut self, world: &mut World) {
        if self.work.is_none() || !self.talk_mut().take_interrupt() {
            return;
        }
        if let Some(work) = self.work.take() {
            let mut text = Vec::new();
            let why = work.interrupt(world, &mut text);
            self.begin_line();
            self.answer(&text);
            self.finish(Status::Failed, Some(&why));
        }
    }

    /// Gives the line at work up: there is no memory for it.
    pub fn give_up_job(&mut self) {
        if let Some(work) = self.work.take() {
            let (why, mut text) = ("out of memory, the command was given up", Vec::new());
            work.give_up(why, &self.client, &mut text);
            self.answer(&text);
            self.finish(Status::Failed, Some(why));
        }
    }

    fn begin_line(&mut self) {
        let Self { mode, outbox, .. } = self;
        mode.talk_mut().break_line(outbox.end());
    }

    fn answer(&mut self, text: &[u8]) {
        let Self { mode, outbox, .. } = self;
        mode.talk_mut().answer(text, outbox.end());
    }

    fn finish(&mut self, status: Status, why: Option<&str>) {
        let Self { mode, outbox, work, .. } = self;
        *work = None;
        mode.talk_mut().finish(status, why, outbox.end());
    }

    /// Says something that no command asked for, to a person.
    pub fn tell(&mut self, message: &str) {
        if let Mode::Person(person) = &mut self.mode {
            person.tell(message, self.work.is_none(), self.outbox.end());
        }
    }

    /// Whether it is one to see the application's standard error: a person's.
    pub fn wants_stderr(&self) -> bool {
        self.redirects && !self.over && self.converses()
    }

    /// Whether it could be shown something now: it takes its output, and no line of it is cut.
    pub fn can_overhear(&self) -> bool {
        let is_cut = matches!(&self.mode, Mode::Person(person) if person.is_mid_line());
        !self.over && !self.leaving && !self.outbox.is_full() && (self.work.is_none() || !is_cut)
    }

    /// Shows whole lines of the application's standard error.
    pub fn overhear(&mut self, lines: &[u8]) {
        if let Mode::Person(person) = &self.mode {
            person.overhear(lines, self.work.is_none(), &mut self.outbox);
        }
    }

    /// Whether there are banner, prompt and remarks.
    fn converses(&self) -> bool {
        matches!(&self.mode, Mode::Person(person) if person.converses())
    }

    fn talk(&self) -> &dyn Talk {
        self.mode.talk()
    }

    fn talk_mut(&mut self) -> &mut dyn Talk {
        self.mode.talk_mut()
    }

    fn has_input(&self) -> bool {
        !self.leaving && self.talk().has_input(self.at_end)
    }

    /// The client sends no more (or wants to leave), and everything it asked for is done.
    fn ends_now(&self) -> bool {
        (self.leaving || self.at_end && !self.has_input()) && self.work.is_none()
    }

    fn leave_work(&mut self, how: &str) {
        if let Some(mut work) = self.work.take() {
            work.leave(how, &self.client);
        }
    }

    fn end(&mut self, how: &str) {
        if !self.over {
            self.leave_work("given up: its client left");
            log!("client {} {how}", self.client.number);
            self.over = true;
        }
    }
}

impl Mode {
    fn talk(&self) -> &dyn Talk {
        match self {
            Self::Person(person) => person,
            Self::Program(program) => program,
            Self::Frames(frames) => frames,
        }
    }

    fn talk_mut(&mut self) -> &mut dyn Talk {
        match self {
            Self::Person(person) => person,
            Self::Program(program) => program,
            Self::Frames(frames) => frames,
        }
    }
}

/// Whether a person typed nothing but a farewell.
fn is_exit(bytes: &[u8]) -> bool {
    matches!(bytes.trim_ascii(), b"exit" | b"\x04")
}

impl AsFd for Session {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
