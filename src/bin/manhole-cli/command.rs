//! One command for a script: framed mode, its output on standard output, its status as ours.
//!
//! Context: the client.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use manhole::protocol::{self, Event, EventDecoder, Status};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::connect::Connection;
use crate::hand::{self, Hand};
use crate::{Failure, Result, output, process, say};

/// The identifier of our only request on this connection.
const ID: u64 = 1;

/// Runs `line` and copies what it prints. A command may take as long as it needs; but a stopped process whose
/// observer cannot be made to run is not waited for longer than `timeout`.
pub fn run(mut connection: Connection, line: &str, timeout: Duration, hand: Hand) -> Result<ExitCode> {
    let mut request = Vec::new();
    protocol::encode_request(ID, line, &mut request);
    // A server that refuses us may have closed already: its reason is still to be read.
    let _ = connection.stream.write_all(&request);
    let status = copy_answer(&mut connection, timeout, hand)?;
    Ok(ExitCode::from(status.code()))
}

fn wait_for_more(connection: &Connection, answered: bool, timeout: Duration, hand: Hand) -> Result<()> {
    let begun = Instant::now();
    let patience = PollTimeout::try_from(hand::SILENCE).unwrap_or(PollTimeout::NONE);
    while poll(&mut [PollFd::new(connection.stream.as_fd(), PollFlags::POLLIN)], patience) == Ok(0) {
        match hand.lend(connection.pid) {
            Err(reason) if begun.elapsed() >= timeout => return Err(Failure::Unreachable(reason)),
            // Nobody has let us in: the kernel made the connection.
            _ if !answered && begun.elapsed() >= timeout && process::can_open_nothing(connection.pid) => {
                let pid = connection.pid;
                return Err(Failure::Unreachable(format!(
                    "process {pid} may open no descriptor (RLIMIT_NOFILE), so that its manhole can let nobody in; \
                     `prlimit --nofile=1024 --pid {pid}` helps"
                )));
            }
            _ => {}
        }
    }
    Ok(())
}

fn copy_answer(connection: &mut Connection, timeout: Duration, hand: Hand) -> Result<Status> {
    let (mut decoder, mut buffer, mut answered) = (EventDecoder::new(), vec![0; 64 * 1024], false);
    loop {
        wait_for_more(connection, answered, timeout, hand)?;
        answered = true;
        let count = match connection.stream.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
            Err(error) => return Err(Failure::lost(&error.to_string())),
        };
        if count == 0 {
            return Err(Failure::lost("its end came before the command's"));
        }
        let mut input = &buffer[..count];
        while let Some(event) = decoder.decode(&mut input).map_err(|error| Failure::lost(&error.to_string()))? {
            match event {
                Event::Data { id: ID, bytes } => output::write_all(io::stdout().as_fd(), bytes)?,
                Event::Done { id: ID, status } => return Ok(status),
                Event::Remark(text) => say(&text),
                Event::Refused(reason) => return Err(Failure::Unreachable(format!("{}{reason}", protocol::REFUSED))),
                Event::Data { .. } | Event::Done { .. } => return Err(Failure::lost("an answer to nobody's question")),
            }
        }
    }
}
