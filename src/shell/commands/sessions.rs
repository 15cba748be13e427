//! `sessions`: who is connected, and what each does.
//!
//! Context: the observer. The server's loop answers who is there, after the step that asks.

#![forbid(unsafe_code)]

use std::fmt::Write;
use std::time::{Duration, Instant};

use super::{duration, no_arguments};
use crate::config::level::Level;
use crate::inspect::strings::Escaped;
use crate::protocol::Status;
use crate::record;
use crate::shell::client::{Guest, RollCall};
use crate::shell::json::Bytes;
use crate::shell::output::Output;
use crate::shell::record::Line;
use crate::shell::{Command, Job, Step, World};
use crate::sys::procfs::{Path, read_small};
use crate::sys::{clock, process};

pub const COMMAND: Command = Command {
    name: "sessions",
    level: Level::Observe,
    synopsis: "",
    summary: "List the connected clients: who, with which level, what each runs and for how long.",
    help: "sessions\n\n\
           * marks this session. MODE is how it talks: person (banner and prompt), exec (connection_handler=exec),\n\
           program (JSON lines), command (manhole-cli -c). WAITS is output that it has not taken yet, in bytes.",
    schemas: &[Row::schema],
    start: |arguments| no_arguments(arguments).map(|()| Box::new(Sessions) as Box<dyn Job>),
};

struct Sessions;

impl Job for Sessions {
    fn step(&mut self, world: &mut World, out: &mut Output) -> Step {
        let RollCall::Answered(mut guests) = std::mem::take(&mut world.roll_call) else {
            world.roll_call = RollCall::Asked;
            return Step::Waiting(Instant::now());
        };
        guests.sort_by_key(|guest| guest.client.number);
        out.note("  CLIENT     PID PROGRAM             UID LEVEL   MODE         SINCE    WAITS  RUNS\n");
        let own = world.client.number;
        guests.iter().for_each(|guest| out.put(&Row::new(guest, own)));
        Step::Done(Status::Success)
    }
}

record! {
    /// A connected client.
    struct Row as "session" {
        /// Its number.
        number: u64,
        /// It is the one that asks.
        own: bool,
        /// Its process; 0 if that is in a pid namespace that cannot be seen from here.
        pid: i32,
        /// The name of that process, where it can be read.
        program: Option<Bytes>,
        /// Its effective user.
        uid: u32,
        /// What it may do: observe, operate or admin.
        level: &'static str,
        /// How it talks: person, exec, program or command.
        mode: &'static str,
        /// How long it has been here.
        connected_seconds: Duration,
        /// What it runs.
        command: Option<String>,
        /// For how long.
        command_seconds: Option<Duration>,
        /// Output that it has not taken yet.
        waiting_bytes: usize,
    }
}

impl Row {
    fn new(guest: &Guest, own: u64) -> Self {
        let client = &guest.client;
        let since = |begin: u64| Duration::from_nanos(clock::monotonic().saturating_sub(begin));
        Self {
            number: client.number,
            own: client.number == own,
            pid: client.pid,
            program: name(client.pid).map(Bytes),
            uid: client.uid,
            level: client.level.name(),
            mode: client.mode.name(),
            connected_seconds: since(client.since),
            command: guest.running.as_ref().map(|(line, _)| line.clone()),
            command_seconds: guest.running.as_ref().map(|(_, begin)| since(*begin)),
            waiting_bytes: guest.waiting,
        }
    }
}

/// What process `pid` is called. Its number is one of our pid namespace, which `/proc` may not be.
fn name(pid: i32) -> Option<Vec<u8>> {
    if pid <= 0 || !process::proc_is_of_our_namespace() {
        return None;
    }
    let mut path = Path::<32>::new();
    write!(path, "/proc/{pid}/comm").ok()?;
    let mut buffer = [0; 64];
    let name = read_small(libc::AT_FDCWD, path.as_c_str(), &mut buffer).ok()?;
    Some(name.trim_ascii_end().to_vec())
}

impl Line for Row {
    fn line(&self, out: &mut Vec<u8>) {
        let program = self.program.as_ref().map_or("?".to_owned(), |name| Escaped(&name.0).to_string());
        let runs = match (&self.command, self.command_seconds) {
            (Some(command), Some(time)) => format!("{} ({})", Escaped(command.as_bytes()), duration(time)),
            _ => "-".to_owned(),
        };
        let Self { number, pid, uid, level, mode, waiting_bytes, .. } = self;
        let (mark, since) = (if self.own { '*' } else { ' ' }, duration(self.connected_seconds));
        let line = format!(
            "{mark} {number:>6} {pid:>7} {program:<15} {uid:>7} {level:<7} {mode:<7} {since:>10} {waiting_bytes:>8}  {runs}\n"
        );
        out.extend_from_slice(line.as_bytes());
    }
}
