//! The command line, in python-manhole's spelling.
//!
//! Context: the client, before it does anything.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Parser};
use manhole::protocol;

use crate::signal;

/// Open the manhole of a process: see the stack of every thread, and get a prompt.
///
/// `manhole-cli list` shows every manhole of this machine that you may see, and removes the stale sockets in /tmp
/// that are yours (as root: anybody's).
///
/// ^C ends the running command, or gives a new prompt; a second one within a second that brings no answer ends this
/// program. ^D and `exit` leave. With -c, ^C ends both.
///
/// Exit status: 0 success; 1 the command failed, or a stale socket could not be removed; 2 wrong usage; 3 no manhole,
/// not let in, or no answer; 130 ended by ^C; 141 the output was closed.
#[derive(Debug, Parser)]
#[command(name = "manhole-cli", version)]
#[command(group(ArgGroup::new("before").args(["usr1", "usr2", "number"])))]
pub struct Arguments {
    /// How long to wait for the socket to appear and to accept.
    #[arg(short, long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub timeout: Duration,

    /// Run one command, print its output, exit with its status.
    #[arg(short, long, value_name = "COMMAND", allow_hyphen_values = true)]
    pub command: Option<String>,

    /// Send SIGUSR1 to the process before connecting (also -USR1).
    #[arg(short = '1', long = "USR1")]
    usr1: bool,

    /// Send SIGUSR2 to the process before connecting (also -USR2).
    #[arg(short = '2', long = "USR2")]
    usr2: bool,

    /// Send SIGNAL before connecting: a name with or without SIG, a number, or RTMIN+3.
    #[arg(short = 's', long = "signal", value_name = "SIGNAL", value_parser = signal::parse)]
    number: Option<i32>,

    /// With `list`: one JSON array instead of lines.
    #[arg(long)]
    pub json: bool,

    /// A process id, the path of a manhole's socket, @NAME for an abstract one, or the word `list`.
    #[arg(value_name = "PID|PATH|@NAME|list", value_parser = Goal::parse)]
    pub goal: Goal,
}

impl Arguments {
    /// The signal to send first.
    pub fn signal(&self) -> Option<i32> {
        let named = |wanted: bool, name| if wanted { signal::parse(name).ok() } else { None };
        self.number.or_else(|| named(self.usr1, "USR1")).or_else(|| named(self.usr2, "USR2"))
    }
}

/// Python-manhole's `-USR1` and `-USR2`, which a short-option parser would take apart.
pub fn respelled(arguments: impl Iterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    arguments.map(|argument| match argument.to_str() {
        Some("-USR1") => OsString::from("-1"),
        Some("-USR2") => OsString::from("-2"),
        _ => argument,
    })
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.parse::<f64>().map_err(|_| "a number of seconds is expected".to_owned())?;
    // A day is as good as for ever here, and keeps the arithmetic of deadlines far from overflow.
    Duration::try_from_secs_f64(number.min(86_400.0))
        .map_err(|_| "a number of seconds, 0 or more, is expected".to_owned())
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// All manholes in sight.
    List,
    /// A session with one, or a command to it.
    Open(Target),
}

impl Goal {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "list" { Ok(Self::List) } else { Target::parse(text).map(Self::Open) }
    }
}

/// What to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The process with this id, in our pid namespace.
    Process(u32),
    /// The socket at this path; an abstract one is written `@NAME`.
    Socket(PathBuf),
}

impl Target {
    fn parse(text: &str) -> Result<Self, String> {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // A bare word is rather a slip of the pen than a file of the working folder.
        let is_path =
            text.contains('/') || protocol::abstract_name(text).or(protocol::pid_in_path(text).map(|_| text)).is_some();
        if !is_number && !is_path {
            return Err("expected 1234, /tmp/manhole-1234, @manhole-1234, ./NAME or list".to_owned());
        }
        if !is_number {
            return Ok(Self::Socket(PathBuf::from(text)));
        }
        match text.parse() {
            Ok(pid @ 1..=0x7fff_ffff) => Ok(Self::Process(pid)),
            _ => Err("no process has this id (for a socket of that name write ./NAME)".to_owned()),
        }
    }

    /// The process that is asked for: given, or named by the last part of the path.
    pub fn pid(&self) -> Option<u32> {
        match self {
            Self::Process(pid) => Some(*pid),
            Self::Socket(path) => path.to_str().and_then(protocol::pid_in_path),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(pid) => write!(out, "process {pid}"),
            Self::Socket(path) => write!(out, "{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(respelled(line.split_whitespace().map(OsString::from)))
    }

    #[test]
    fn takes_python_manholes_spelling() {
        for (line, signal) in [
            ("cli 42", None),
            ("cli -1 42", Some(10)),
            ("cli -USR1 42", Some(10)),
            ("cli 42 -USR2", Some(12)),
            ("cli -s HUP -t 0.5 42", Some(1)),
            ("cli --signal=SIGHUP 42", Some(1)),
        ] {
            let arguments = parsed(line).expect(line);
            assert_eq!(arguments.signal(), signal, "{line}");
            assert_eq!(arguments.goal, Goal::Open(Target::Process(42)), "{line}");
        }
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        for line in [
            "cli",
            "cli 0",
            "cli 99999999999",
            "cli lsit",
            "cli @",
            "cli -t -1 42",
            "cli -t x 42",
            "cli -1 -2 42",
            "cli -s FOO 42",
        ] {
            assert_eq!(parsed(line).expect_err(line).exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn a_path_may_name_its_pid() {
        for (text, pid) in [
            ("/tmp/manhole-42", Some(42)),
            ("manhole-42", Some(42)),
            ("@manhole-42", Some(42)),
            ("@console", None),
            ("./42", None),
            ("./list", None),
        ] {
            let target = Target::parse(text).expect(text);
            assert_eq!((&target, target.pid()), (&Target::Socket(text.into()), pid));
        }
        assert_eq!(Goal::parse("list"), Ok(Goal::List));
    }
}
