//! A person's session: bytes both ways until the server ends it.
//!
//! Context: the client. Bytes pass unchanged; the terminal's line editing is the kernel's. Neither side
//! can block the other: while the server does not read, its output still flows. ^C is passed on as a byte, and ends
//! this program only when the server does not answer it.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use manhole::protocol;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{self, MsgFlags};

use crate::connect::Connection;
use crate::hand::{self, Hand};
use crate::{Failure, Result, output, say};

const CHUNK: usize = 64 * 1024;
/// The key ^C, as the server understands it.
const INTERRUPT: u8 = 3;
/// A second ^C so soon, and no answer to the first: the server does not hear.
const IMPATIENCE: Duration = Duration::from_secs(1);

/// Relays until the server closes: 0; at once, whether standard input has ended or not.
pub fn run(connection: Connection, hand: Hand) -> Result<ExitCode> {
    let (stdin, stdout) = (io::stdin(), io::stdout());
    let mut session = Session {
        connection,
        input: stdin.as_fd(),
        output: stdout.as_fd(),
        pending: Vec::new(),
        input_open: true,
        first: Vec::new(),
        interrupts: interrupts().map_err(|errno| Failure::Unreachable(format!("signalfd: {}", errno.desc())))?,
        interrupted: None,
    };
    session.connection.stream.set_nonblocking(true).map_err(|error| Failure::lost(&error.to_string()))?;
    let (mut silence, mut told) = (hand::SILENCE, None);
    loop {
        match session.step(PollTimeout::try_from(silence).unwrap_or(PollTimeout::NONE))? {
            Step::Ended => break,
            Step::Interrupted => return Ok(ExitCode::from(130)),
            Step::Moved => silence = hand::SILENCE,
            // Asked again after twice as long: a person may take hours to type, and the process may be stopped then.
            Step::Quiet => {
                silence = silence.saturating_mul(2);
                let refusal = hand.lend(session.connection.pid).err();
                if let Some(reason) = refusal.as_ref().filter(|_| refusal != told) {
                    say(&format!("connected; {reason}"));
                }
                told = refusal;
            }
        }
    }
    let refused = session.first.starts_with(protocol::REFUSED.as_bytes());
    Ok(ExitCode::from(if refused { 3 } else { 0 }))
}

enum Step {
    Moved,
    /// Nothing happened for as long as we wait.
    Quiet,
    Ended,
    /// Twice ^C, and no answer.
    Interrupted,
}

/// SIGINT, as something to wait for.
fn interrupts() -> nix::Result<SignalFd> {
    let signals = SigSet::from(Signal::SIGINT);
    signals.thread_block()?;
    SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
}

struct Session<'a> {
    connection: Connection,
    input: BorrowedFd<'a>,
    output: BorrowedFd<'a>,
    /// Typed and not sent yet. No more is read while there is some.
    pending: Vec<u8>,
    input_open: bool,
    /// The first bytes of the server's output, enough to see a refusal.
    first: Vec<u8>,
    interrupts: SignalFd,
    /// When ^C was passed on, and not answered yet.
    interrupted: Option<Instant>,
}

impl Session<'_> {
    fn step(&mut self, patience: PollTimeout) -> Result<Step> {
        let (may_read, may_send) = (self.input_open && self.pending.is_empty(), !self.pending.is_empty());
        let when = |wanted, flag| if wanted { flag } else { PollFlags::empty() };
        let mut ready = [
            PollFd::new(self.connection.stream.as_fd(), PollFlags::POLLIN | when(may_send, PollFlags::POLLOUT)),
            // Without events a pipe still reports that its reader has gone.
            PollFd::new(self.output, PollFlags::empty()),
            PollFd::new(self.interrupts.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.input, PollFlags::POLLIN),
        ];
        let watched = if may_read { &mut ready[..] } else { &mut ready[..3] };
        match poll(watched, patience) {
            Ok(0) => return Ok(Step::Quiet),
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(Step::Moved),
            Err(errno) => return Err(Failure::lost(errno.desc())),
        }
        let [server, output, interrupts, input] = ready.map(|entry| entry.revents().unwrap_or(PollFlags::empty()));
        if output.contains(PollFlags::POLLERR) {
            return Err(Failure::OutputClosed);
        }
        // The server first: its last words are shown even when it has hung up.
        if server.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR) && self.show()? {
            return Ok(Step::Ended);
        }
        if server.contains(PollFlags::POLLOUT) {
            self.send();
        }
        if may_read && !input.is_empty() {
            self.read_input();
        }
        // After the server's answer, and after what was typed before.
        if !interrupts.is_empty() && self.interrupt() {
            return Ok(Step::Interrupted);
        }
        Ok(Step::Moved)
    }

    /// Copies what the server sent to standard output; true at its end.
    fn show(&mut self) -> Result<bool> {
        let mut buffer = [0; CHUNK];
        let count = match nix::unistd::read(&self.connection.stream, &mut buffer) {
            // Closing with our bytes unread resets the connection.
            Ok(0) | Err(Errno::ECONNRESET) => return Ok(true),
            Ok(count) => count,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(false),
            Err(errno) => return Err(Failure::lost(errno.desc())),
        };
        let bytes = &buffer[..count];
        let missing = protocol::REFUSED.len().saturating_sub(self.first.len()).min(count);
        self.first.extend_from_slice(&bytes[..missing]);
        output::write_all(self.output, bytes)?;
        self.interrupted = None;
        Ok(false)
    }

    /// Passes ^C on; true when that is of no use any more.
    fn interrupt(&mut self) -> bool {
        if !matches!(self.interrupts.read_signal(), Ok(Some(_))) {
            return false;
        }
        let is_deaf = self.interrupted.is_some_and(|since| since.elapsed() < IMPATIENCE);
        if is_deaf || !self.input_open {
            return true;
        }
        self.interrupted = Some(Instant::now());
        self.pending.push(INTERRUPT);
        self.send();
        false
    }

    fn read_input(&mut self) {
        let mut buffer = [0; CHUNK];
        match nix::unistd::read(self.input, &mut buffer) {
            Ok(count) if count > 0 => self.pending.extend_from_slice(&buffer[..count]),
            Err(Errno::EAGAIN | Errno::EINTR) => return,
            // The end, or an error that reading on would only repeat (EIO from a terminal that is not ours).
            _ => {
                self.input_open = false;
                // Fails only when the server has gone, which the next read shows.
                let _ = self.connection.stream.shutdown(Shutdown::Write);
            }
        }
        self.send();
    }

    fn send(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        match socket::send(self.connection.stream.as_raw_fd(), &self.pending, MsgFlags::MSG_NOSIGNAL) {
            Ok(count) => drop(self.pending.drain(..count)),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            // The server has closed: what it wrote before is still to be shown.
            Err(_) => {
                self.pending.clear();
                self.input_open = false;
            }
        }
    }
}
