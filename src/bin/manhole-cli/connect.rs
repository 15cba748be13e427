//! Connecting to the right socket within a time.
//!
//! Context: the client. Nothing is written here: a stream leaves this file only with its server's
//! credentials checked.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use manhole::protocol;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr, sockopt};
use nix::sys::time::TimeVal;

use crate::arguments::Target;
use crate::hand::Hand;
use crate::peer::{self, Expected};
use crate::process::Status;
use crate::{Failure, Result, diagnose, listener, settings};

/// Between two looks at something that may appear.
pub const PAUSE: Duration = Duration::from_millis(10);

/// A stream to a manhole whose identity is proven.
#[derive(Debug)]
pub struct Connection {
    pub stream: UnixStream,
    /// The process that listens, in our pid namespace.
    pub pid: u32,
}

/// What the server is told by the name of our socket, before the first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Frames: one command for a script.
    Frames,
    /// A person, without colours.
    Person,
    /// A person at a terminal that shows colours.
    Terminal,
}

/// Why one try at one path did not succeed.
#[derive(Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Nothing is there.
    Absent,
    /// A socket file that nobody listens at, or no socket at all.
    Refused { is_socket: bool },
    /// The file's mode, or a folder's, forbids it.
    Forbidden,
    /// The server accepts nobody: its queue is full.
    Busy,
    /// Somebody else listens there.
    Impostor(String),
    /// A path of more bytes than an address holds.
    TooLong,
    /// Anything else the kernel says.
    Other(Errno),
}

/// Tries until `timeout` has passed, at least once. `sent` is the signal that was to open the manhole.
pub fn open(target: &Target, timeout: Duration, kind: Kind, hand: Hand, sent: Option<i32>) -> Result<Connection> {
    let deadline = Instant::now() + timeout;
    if let Target::Process(pid) = target {
        // Of a stopped process the queue may be full. When no hand can be lent, connecting may succeed all the same.
        let _ = hand.lend(*pid);
    }
    loop {
        let (path, obstacle) = match try_all(target, deadline, kind) {
            Ok(connection) => return Ok(connection),
            Err(obstacle) => obstacle,
        };
        let is_final = match target {
            Target::Process(pid) => Status::read(*pid).is_none_or(|status| status.state == 'Z'),
            Target::Socket(_) => obstacle == Obstacle::TooLong,
        };
        if is_final || Instant::now() >= deadline {
            return Err(Failure::Unreachable(diagnose::explain(target, &path, &obstacle, sent)));
        }
        std::thread::sleep(PAUSE);
    }
}

/// One try at each place where the socket may be; the most telling obstacle if none succeeds.
fn try_all(target: &Target, deadline: Instant, kind: Kind) -> std::result::Result<Connection, (PathBuf, Obstacle)> {
    let (expected, places) = match target {
        Target::Socket(path) => (target.pid().map_or(Expected::Own, Expected::Named), vec![path.clone()]),
        Target::Process(pid) => (Expected::Process(*pid), places(*pid)),
    };
    let mut worst = (places.first().cloned().unwrap_or_default(), Obstacle::Absent);
    for place in places {
        match try_one(&place, expected, deadline, kind) {
            Ok(connection) => return Ok(connection),
            Err(obstacle) if worst.1 == Obstacle::Absent => worst = (place, obstacle),
            Err(_) => {}
        }
    }
    Err(worst)
}

/// Where the manhole of a process may be: the usual path, the same path in the process's own mount and pid
/// namespaces, wherever its observer really listens, and, for an observer that may not be examined and for
/// `oneshot_on`, which has none, where its options and custom put it.
fn places(pid: u32) -> Vec<PathBuf> {
    let mut places = vec![PathBuf::from(protocol::default_path(pid))];
    if let Some(own) = Status::read(pid).and_then(|status| status.own_pid()) {
        places.push(PathBuf::from(format!("/proc/{pid}/root{}", protocol::default_path(own))));
    }
    places.extend(listener::paths(pid));
    match settings::socket(pid) {
        Ok(path) => places.extend(path.map(|path| listener::from_here(pid, &path))),
        Err(_) => places.push(PathBuf::from(format!("@manhole-{pid}"))),
    }
    places
}

/// The address of a path, or of an abstract name (`@NAME`); and what must stay open until it is used: a path that is
/// too long for an address is gone through a descriptor.
fn address(path: &Path) -> std::result::Result<(UnixAddr, Option<File>), Obstacle> {
    if let Some(name) = path.to_str().and_then(protocol::abstract_name) {
        return UnixAddr::new_abstract(name.as_bytes()).map(|address| (address, None)).map_err(|_| Obstacle::TooLong);
    }
    if let Ok(address) = UnixAddr::new(path.as_os_str().as_bytes()) {
        return Ok((address, None));
    }
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_PATH.bits()).open(path);
    let file = file.map_err(|_| Obstacle::TooLong)?;
    let address = UnixAddr::new(format!("/proc/self/fd/{}", file.as_raw_fd()).as_str()).map_err(Obstacle::Other)?;
    Ok((address, Some(file)))
}

/// One try at one place; the stream's server is `expected`.
pub fn try_one(
    path: &Path,
    expected: Expected,
    deadline: Instant,
    kind: Kind,
) -> std::result::Result<Connection, Obstacle> {
    let (address, _open) = address(path)?;
    let stream = fresh(kind).map_err(Obstacle::Other)?;
    // The send timeout bounds a connect that waits for a place in the server's queue (man 7 socket). 0 would be
    // no bound at all.
    let left = deadline.saturating_duration_since(Instant::now()).max(PAUSE);
    let limit = TimeVal::new(left.as_secs() as i64, i64::from(left.subsec_micros()));
    socket::setsockopt(&stream, sockopt::SendTimeout, &limit).map_err(Obstacle::Other)?;
    socket::connect(stream.as_raw_fd(), &address).map_err(|errno| match errno {
        Errno::ENOENT | Errno::ENOTDIR => Obstacle::Absent,
        // Nobody has the abstract name.
        Errno::ECONNREFUSED if address.as_abstract().is_some() => Obstacle::Absent,
        Errno::ECONNREFUSED => {
            Obstacle::Refused { is_socket: fs::metadata(path).is_ok_and(|file| file.file_type().is_socket()) }
        }
        Errno::EACCES | Errno::EPERM => Obstacle::Forbidden,
        Errno::EAGAIN => Obstacle::Busy,
        other => Obstacle::Other(other),
    })?;
    socket::setsockopt(&stream, sockopt::SendTimeout, &TimeVal::new(0, 0)).map_err(Obstacle::Other)?;
    let credentials = peer::check(&stream, expected).map_err(Obstacle::Impostor)?;
    Ok(Connection { stream, pid: credentials.pid })
}

/// An unconnected socket, with the name that says what it is for.
fn fresh(kind: Kind) -> nix::Result<UnixStream> {
    loop {
        let socket = socket::socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        let stream = UnixStream::from(socket);
        let name = match kind {
            Kind::Person => return Ok(stream),
            Kind::Frames => protocol::client_name(std::process::id(), nonce()),
            Kind::Terminal => protocol::terminal_name(std::process::id(), nonce()),
        };
        match socket::bind(stream.as_raw_fd(), &UnixAddr::new_abstract(name.as_bytes())?) {
            Err(Errno::EADDRINUSE) => {}
            result => return result.map(|()| stream),
        }
    }
}

/// A number that another client is unlikely to have chosen. It is no secret: `fresh` only needs a free name.
fn nonce() -> u64 {
    let mut bytes = [0; 8];
    match fs::File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut bytes)) {
        Ok(()) => u64::from_ne_bytes(bytes),
        Err(_) => std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |time| u64::from(time.subsec_nanos())),
    }
}
