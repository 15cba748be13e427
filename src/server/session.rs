//! One client, from the door to its last byte.
//!
//! Context: the observer. A session never waits: it takes the input there is, runs its job for a slice
//! of time while its output has room, and sends what the kernel takes.

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::poll::PollFlags;

use super::credentials;
use super::lines::{Input, Lines};
use crate::config::Handler;
use crate::log;
use crate::protocol::{self, Request, RequestDecoder, Status};
use crate::shell::client::Client;
use crate::shell::parse::{self, Pipeline};
use crate::shell::{self, Answer, Step, World};
use crate::sys::Errno;
use crate::sys::socket::Socket;

/// A job pauses while more than this waits to be sent.
const OUTPUT_HIGH: usize = 256 << 10;
/// How long one session may work before the others have their turn.
const SLICE: Duration = Duration::from_millis(10);

/// How the client talks.
enum Mode {
    /// A person: banner, stacks, prompt; or, with `connection_handler=exec`, the answers alone.
    Interactive(Lines, Handler),
    /// A program: frames, and requests that wait for their turn.
    Framed(RequestDecoder, Vec<u8>),
}

/// A command at work, and the request it answers.
struct Running {
    answer: Answer,
    id: u64,
    /// What comes after it on the same line.
    rest: VecDeque<Pipeline>,
    /// It has nothing to do before the bell rings, or this moment comes.
    waits: Option<Instant>,
    /// A person was told that it takes long: `exit` is understood at once.
    remarked: bool,
}

/// A client that was let in.
pub struct Session {
    client: Client,
    socket: Socket,
    mode: Mode,
    running: Option<Running>,
    /// The answer has not ended its line yet.
    mid_line: bool,
    /// Waiting to be sent; `sent` bytes of it are gone.
    output: Vec<u8>,
    sent: usize,
    /// The client sends no more.
    at_end: bool,
    /// Close when the output is sent.
    leaving: bool,
    over: bool,
    /// Since when the client takes nothing although there is something.
    stuck_since: Option<Instant>,
    patience: Duration,
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
        let abstract_name = name.strip_prefix(b"\0").unwrap_or_default();
        let mode = match protocol::requested_version(abstract_name) {
            Some(protocol::VERSION) => Mode::Framed(RequestDecoder::new(), Vec::new()),
            Some(other) => {
                let version = protocol::VERSION;
                refuse(&socket, &format!("frames of version {other} are not spoken here, only {version}"));
                return None;
            }
            None => Mode::Interactive(Lines::default(), world.manhole.config.connection_handler),
        };
        log!("client {number} connected: pid={} uid={} gid={}", peer.pid, peer.uid, peer.gid);
        let mut session = Self {
            client: Client::new(number, peer.pid, peer.uid, world.manhole.config.level),
            socket,
            mode,
            running: None,
            mid_line: false,
            output: Vec::new(),
            sent: 0,
            at_end: false,
            leaving: false,
            over: false,
            stuck_since: None,
            patience: world.manhole.config.client_timeout,
            redirects: world.manhole.config.redirect_stderr,
        };
        if let Mode::Interactive(_, Handler::Repl) = session.mode {
            session.output.extend_from_slice(shell::banner(world).as_bytes());
            session.begin(0, b"stacks");
        }
        Some(session)
    }

    /// The events that this session can use now. An error or the end of both directions comes anyway.
    pub fn interest(&self) -> PollFlags {
        let mut flags = PollFlags::empty();
        // Of a running command's client it may be the wish to end it.
        let wanted = !self.has_input() || self.running.is_some();
        flags.set(PollFlags::POLLIN, !self.at_end && !self.leaving && wanted && !self.is_full());
        flags.set(PollFlags::POLLOUT, self.waiting() > 0);
        flags
    }

    /// Whether there is work that waits for nobody.
    pub fn is_runnable(&self) -> bool {
        let has_work = match &self.running {
            Some(running) => running.waits.is_none(),
            None => self.has_input() || self.ends_now(),
        };
        !self.over && self.waiting() < OUTPUT_HIGH && has_work
    }

    /// When this session must be looked at though nothing happens: its client takes no output, or its job said so.
    pub fn deadline(&self) -> Option<Instant> {
        let job = self.running.as_ref().and_then(|running| running.waits).filter(|_| self.waiting() < OUTPUT_HIGH);
        self.dropped_at().into_iter().chain(job).min()
    }

    /// When the client will have taken no output for too long.
    fn dropped_at(&self) -> Option<Instant> {
        self.stuck_since.map(|since| since + self.patience)
    }

    /// The bell rang: a job that waits may have something to do.
    pub fn rouse(&mut self) {
        if let Some(running) = &mut self.running {
            running.waits = None;
        }
    }

    /// Whether it can be forgotten.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Does what can be done now without waiting.
    pub fn run(&mut self, events: PollFlags, now: Instant, world: &mut World) {
        if events.intersects(PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL) {
            return self.end("went away");
        }
        if events.contains(PollFlags::POLLIN) {
            self.receive();
        }
        if self.running.as_ref().and_then(|running| running.waits).is_some_and(|until| until <= now) {
            self.rouse();
        }
        let until = now + SLICE;
        while !self.over && self.waiting() < OUTPUT_HIGH {
            self.look_for_interrupt(world);
            if !self.work(world) || Instant::now() >= until {
                break;
            }
        }
        if !self.over {
            self.send(now);
        }
        if self.ends_now() && self.waiting() == 0 {
            self.end("disconnected");
        } else if self.dropped_at().is_some_and(|deadline| deadline <= now) {
            self.end("took no output for client_timeout and was dropped");
        }
    }

    /// Says something that no command asked for, to a person: on a line of its own, with a new prompt if one stood there.
    pub fn tell(&mut self, message: &str) {
        if let Mode::Interactive(_, Handler::Repl) = self.mode {
            let before = if self.running.is_none() || self.mid_line { "\n" } else { "" };
            let after = if self.running.is_none() { protocol::PROMPT } else { "" };
            self.output.extend_from_slice(format!("{before}# {message}\n{after}").as_bytes());
            self.mid_line = false;
        }
    }

    /// Its number among all clients.
    pub fn number(&self) -> u64 {
        self.client.number
    }

    /// Whether it is one to see the application's standard error: a person's.
    pub fn wants_stderr(&self) -> bool {
        self.redirects && !self.over && matches!(self.mode, Mode::Interactive(_, Handler::Repl))
    }

    /// Whether it could be shown something now: it takes its output, and no line of it is cut.
    pub fn can_overhear(&self) -> bool {
        !self.over && !self.leaving && self.waiting() < OUTPUT_HIGH && (self.running.is_none() || !self.mid_line)
    }

    /// Shows whole lines of the application's standard error, with the prompt again after them.
    pub fn overhear(&mut self, lines: &[u8]) {
        let prompt = protocol::PROMPT.as_bytes();
        if self.running.is_some() {
            self.output.extend_from_slice(lines);
            return;
        }
        let unsent = self.output.get(self.sent..).unwrap_or_default();
        if unsent.ends_with(prompt) {
            self.output.truncate(self.output.len() - prompt.len());
        } else {
            self.output.push(b'\n');
        }
        self.output.extend_from_slice(lines);
        self.output.extend_from_slice(prompt);
    }

    /// Gives the running command up: there is no memory for it.
    pub fn give_up_job(&mut self) {
        if let Some(running) = self.running.take() {
            log!("out of memory: the command of client {} was given up", self.client.number);
            let mut text = Vec::new();
            running.answer.give_up("out of memory, the command was given up", &mut text);
            self.answer(running.id, &text);
            self.finish(running.id, Status::Failed);
        }
    }

    /// One step: of the running job, or the begin of the next command. False when there is none to do now.
    fn work(&mut self, world: &mut World) -> bool {
        let Some(mut running) = self.running.take() else { return self.next_command() };
        if running.waits.is_some() {
            self.running = Some(running);
            return false;
        }
        let mut text = Vec::new();
        std::mem::swap(&mut self.client, &mut world.client);
        let step = running.answer.step(world, &mut text);
        std::mem::swap(&mut self.client, &mut world.client);
        self.answer(running.id, &text);
        match step {
            Step::More => self.running = Some(running),
            Step::Waiting(until) => self.running = Some(Running { waits: Some(until), ..running }),
            Step::Remark(text) => {
                self.running = Some(Running { remarked: true, ..running });
                self.tell(&text);
            }
            Step::Done(status) => self.go_on(running.id, running.rest, status),
            Step::Leave => {
                if let Mode::Framed(..) = self.mode {
                    self.finish(running.id, Status::Success);
                }
                self.leaving = true;
            }
        }
        true
    }

    fn next_command(&mut self) -> bool {
        if self.leaving {
            return false;
        }
        match &mut self.mode {
            Mode::Interactive(lines, _) => match lines.next(self.at_end) {
                None => return false,
                Some(Input::Line(line)) => self.begin(0, &line),
                Some(Input::TooLong) => {
                    self.answer(0, format!("error: a line may have {} bytes\n", protocol::MAX_COMMAND).as_bytes());
                    self.finish(0, Status::Usage);
                }
            },
            Mode::Framed(decoder, bytes) => {
                let mut rest = bytes.as_slice();
                let decoded = decoder.decode(&mut rest);
                let used = bytes.len() - rest.len();
                bytes.drain(..used);
                match decoded {
                    Ok(None) => return false,
                    Ok(Some(Request { id, command })) => self.begin(id, &command),
                    Err(error) => {
                        protocol::encode_refusal(&error.to_string(), &mut self.output);
                        self.leaving = true;
                    }
                }
            }
        }
        true
    }

    /// Starts the commands of a line; an empty line only prompts.
    fn begin(&mut self, id: u64, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        // Who interrupts when there is nothing to interrupt gets a new prompt.
        let line = if line.trim() == "^C" || line.contains('\u{3}') { "" } else { line.trim() };
        if !line.is_empty() {
            log!("client {} (pid={} uid={}): {line}", self.client.number, self.client.pid, self.client.uid);
        }
        match parse::commands(line) {
            Ok(pipelines) => self.go_on(id, pipelines.into(), Status::Success),
            Err(error) => {
                self.refuse_command(id, &error);
                self.finish(id, Status::Usage);
            }
        }
    }

    /// Starts the next of the commands of a line. After the last, its status is that of the line.
    fn go_on(&mut self, id: u64, mut rest: VecDeque<Pipeline>, mut status: Status) {
        while let Some(pipeline) = rest.pop_front() {
            match shell::start(&pipeline, &self.client) {
                Ok(answer) => {
                    self.running = Some(Running { answer, id, rest, waits: None, remarked: false });
                    return;
                }
                Err(error) => {
                    self.refuse_command(id, &error);
                    status = Status::Usage;
                }
            }
        }
        self.finish(id, status);
    }

    fn refuse_command(&mut self, id: u64, error: &str) {
        log!("client {} (pid={} uid={}): refused: {error}", self.client.number, self.client.pid, self.client.uid);
        self.answer(id, format!("error: {error}\n").as_bytes());
    }

    /// Ends the running command, if that was asked for.
    fn look_for_interrupt(&mut self, world: &mut World) {
        let Mode::Interactive(lines, _) = &mut self.mode else { return };
        if self.running.is_none() || !lines.take_interrupt() {
            return;
        }
        if let Some(running) = self.running.take() {
            let mut text = Vec::new();
            std::mem::swap(&mut self.client, &mut world.client);
            running.answer.interrupt(world, &mut text);
            std::mem::swap(&mut self.client, &mut world.client);
            if self.mid_line {
                text.insert(0, b'\n');
            }
            self.answer(running.id, &text);
            self.finish(running.id, Status::Failed);
        }
    }

    fn answer(&mut self, id: u64, text: &[u8]) {
        match self.mode {
            Mode::Interactive(..) => {
                self.output.extend_from_slice(text);
                self.mid_line = text.last().map_or(self.mid_line, |last| *last != b'\n');
            }
            Mode::Framed(..) => protocol::encode_data(id, text, &mut self.output),
        }
    }

    fn finish(&mut self, id: u64, status: Status) {
        match self.mode {
            Mode::Interactive(_, handler) => {
                // A command of the application may end in the middle of a line.
                self.output.extend_from_slice(if std::mem::take(&mut self.mid_line) { b"\n" } else { b"" });
                if handler == Handler::Repl {
                    self.output.extend_from_slice(protocol::PROMPT.as_bytes());
                }
            }
            Mode::Framed(..) => protocol::encode_done(id, status, &mut self.output),
        }
    }

    fn receive(&mut self) {
        let mut buffer = [0; 16384];
        match self.socket.receive(&mut buffer) {
            Ok(0) => self.at_end = true,
            Ok(count) => {
                let bytes = buffer.get(..count).unwrap_or_default();
                match &mut self.mode {
                    Mode::Interactive(lines, Handler::Repl)
                        if self.running.as_ref().is_some_and(|it| it.remarked) && is_exit(bytes) =>
                    {
                        *lines = Lines::default();
                        self.leaving = true;
                        self.running = None;
                    }
                    Mode::Interactive(lines, _) => lines.push(bytes),
                    Mode::Framed(_, waiting) => waiting.extend_from_slice(bytes),
                }
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(_) => self.end("went away"),
        }
    }

    fn send(&mut self, now: Instant) {
        let before = self.sent;
        while let Some(rest) = self.output.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match self.socket.send(rest) {
                Ok(count) => self.sent += count,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break,
                Err(_) => return self.end("went away"),
            }
        }
        if self.waiting() == 0 {
            self.output.clear();
            self.sent = 0;
            self.stuck_since = None;
        } else if self.sent > before {
            self.stuck_since = None;
            if self.sent >= OUTPUT_HIGH {
                self.output.drain(..self.sent);
                self.sent = 0;
            }
        } else {
            self.stuck_since = self.stuck_since.or(Some(now));
        }
    }

    fn waiting(&self) -> usize {
        self.output.len() - self.sent
    }

    /// Whether a whole command waits in the input.
    fn has_input(&self) -> bool {
        !self.leaving
            && match &self.mode {
                Mode::Interactive(lines, _) => lines.has_line(),
                Mode::Framed(_, bytes) => !bytes.is_empty(),
            }
    }

    /// A line has no end yet although it is too long, and nobody can throw it away while a job runs.
    fn is_full(&self) -> bool {
        matches!(&self.mode, Mode::Interactive(lines, _) if self.running.is_some() && lines.is_full())
    }

    /// The client sends no more (or wants to leave), and everything it asked for is done.
    fn ends_now(&self) -> bool {
        (self.leaving || self.at_end && !self.has_input()) && self.running.is_none()
    }

    fn end(&mut self, how: &str) {
        if !self.over {
            log!("client {} {how}", self.client.number);
            self.over = true;
            self.running = None;
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
