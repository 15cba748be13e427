//! Whether an observer answers: an empty request, which does nothing and needs no stack.
//!
//! Context: the client, a thread for each manhole, all at once. Only who would let us in is asked, and only after the
//! kernel has vouched for him ([`crate::peer`]).

use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use manhole::protocol::{self, Event, EventDecoder};
use nix::unistd::geteuid;

use super::{Entry, State};
use crate::connect::{self, Connection, Kind, Obstacle};
use crate::peer::Expected;

/// Asks those that listen and are ours, for at most `timeout`.
pub fn ask(entries: &mut [Entry], timeout: Duration) {
    let own = geteuid();
    let deadline = Instant::now() + timeout;
    std::thread::scope(|scope| {
        for entry in entries {
            // Without an observer one client is all that is served: `oneshot_on`.
            let has_observer = entry.pid.is_some_and(|pid| crate::process::observers(pid).next().is_some());
            if entry.state == State::Listening && has_observer && (own.is_root() || entry.uid == Some(own.as_raw())) {
                scope.spawn(move || one(entry, deadline));
            }
        }
    });
}

fn one(entry: &mut Entry, deadline: Instant) {
    let (Some(pid), Some(path)) = (entry.pid, entry.socket.clone()) else { return };
    match connect::try_one(&path, Expected::Process(pid), deadline, Kind::Frames) {
        Ok(connection) => entry.state = if answers(connection, deadline) { State::Answers } else { State::Silent },
        Err(obstacle) => describe(entry, &path, &obstacle),
    }
}

fn describe(entry: &mut Entry, path: &Path, obstacle: &Obstacle) {
    match obstacle {
        Obstacle::Busy => entry.state = State::Silent,
        Obstacle::Absent if path.to_string_lossy().starts_with('@') => {
            let pid = entry.pid.unwrap_or_default();
            entry.note = format!("in another network namespace: nsenter --net --target {pid}");
        }
        Obstacle::Absent | Obstacle::Refused { .. } => entry.note = "its name is gone".to_owned(),
        Obstacle::Impostor(who) => entry.note = who.clone(),
        Obstacle::Other(errno) => entry.note = errno.desc().to_owned(),
        Obstacle::Forbidden | Obstacle::TooLong => {}
    }
}

fn answers(mut connection: Connection, deadline: Instant) -> bool {
    const ID: u64 = 1;
    let mut request = Vec::new();
    protocol::encode_request(ID, "", &mut request);
    if connection.stream.write_all(&request).is_err() {
        return false;
    }
    let (mut decoder, mut buffer) = (EventDecoder::new(), [0; 512]);
    loop {
        let left = deadline.saturating_duration_since(Instant::now()).max(connect::PAUSE);
        let count =
            match connection.stream.set_read_timeout(Some(left)).and_then(|()| connection.stream.read(&mut buffer)) {
                Ok(count @ 1..) => count,
                _ => return false,
            };
        match decoder.decode(&mut &buffer[..count]) {
            Ok(Some(event)) => return matches!(event, Event::Done { id: ID, .. }),
            Ok(None) if Instant::now() < deadline => {}
            _ => return false,
        }
    }
}
