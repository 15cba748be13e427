//! `manhole-cli PID|PATH|@NAME`: opens the manhole of a process, for a person or for a script. `manhole-cli list`
//! shows those of the machine.
//!
//! Context: the client, an ordinary program: std and allocation are fine. It must never send a byte
//! before it knows who listens ([`peer`]), nor a signal that would kill ([`signal`]), nor trace any thread but the
//! observer of a stopped process ([`hand`]).
//!
//! Exit status: 0 success; 1 the command failed, or `list` could not remove a stale socket that is ours to remove;
//! 2 wrong usage, of this program or of the command;
//! 3 no manhole, not let in, or no answer; 130 ended by ^C; 141 our output was closed (as a shell reports SIGPIPE).
#![forbid(unsafe_code)]

mod absence;
mod arguments;
mod command;
mod connect;
mod diagnose;
mod hand;
mod list;
mod listener;
mod output;
mod peer;
mod process;
mod relay;
mod settings;
mod signal;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Goal};
use connect::Kind;
use hand::Hand;

/// Why this program ends without having done what it was asked for.
#[derive(Debug)]
pub enum Failure {
    /// No manhole, not let in, or no answer: exit status 3.
    Unreachable(String),
    /// The arguments make no sense together: 2.
    Usage(String),
    /// Nobody reads our output any more: 141, and nothing is said.
    OutputClosed,
}

/// The result of this program's parts.
type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// The connection broke.
    fn lost(reason: &str) -> Self {
        Self::Unreachable(format!("connection lost: {reason}"))
    }

    fn report(&self) -> ExitCode {
        let (message, code) = match self {
            Self::Unreachable(message) => (message, 3),
            Self::Usage(message) => (message, 2),
            Self::OutputClosed => return ExitCode::from(141),
        };
        say(message);
        ExitCode::from(code)
    }
}

/// One line to standard error, which may be closed.
pub fn say(message: &str) {
    let _ = writeln!(io::stderr(), "manhole-cli: {message}");
}

fn main() -> ExitCode {
    let arguments = Arguments::parse_from(arguments::respelled(std::env::args_os()));
    run(&arguments).unwrap_or_else(|failure| failure.report())
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    if arguments.command.as_ref().is_some_and(|command| command.contains(['\n', '\r'])) {
        return Err(Failure::Usage("a command is one line".to_owned()));
    }
    let sent = arguments.signal();
    let target = match &arguments.goal {
        Goal::List if arguments.command.is_some() || sent.is_some() => {
            return Err(Failure::Usage("list takes neither a command nor a signal".to_owned()));
        }
        Goal::List => return list::run(arguments.timeout, arguments.json),
        Goal::Open(_) if arguments.json => return Err(Failure::Usage("--json goes with list".to_owned())),
        Goal::Open(target) => target,
    };
    if let Some(number) = sent {
        let Some(pid) = target.pid() else {
            return Err(Failure::Usage("a signal needs a pid, or a path that ends in manhole-PID".to_owned()));
        };
        signal::send(pid, number, arguments.timeout)?;
    }
    let hand = Hand { speaks: arguments.command.is_none() };
    let kind = match &arguments.command {
        Some(_) => Kind::Frames,
        None if shows_colours() => Kind::Terminal,
        None => Kind::Person,
    };
    let connection = connect::open(target, arguments.timeout, kind, hand, sent)?;
    match &arguments.command {
        Some(line) => command::run(connection, line, arguments.timeout, hand),
        None => relay::run(connection, hand),
    }
}

/// Whether standard output is a terminal, and nobody says that it should have no colours (no-color.org).
fn shows_colours() -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    io::stdout().is_terminal() && set("NO_COLOR").is_none() && set("TERM").is_some_and(|term| term != "dumb")
}
