//! The socket's name: its path, its mode, and what may already be there.
//!
//! Context: the observer. A name is removed only if it is a socket of this user on which nobody
//! listens: the leftover of an earlier process, or of the image before an `exec`, with this pid.
//!
//! A path that begins with `@` is an abstract address (unix(7)): no file, so no mode, nothing to clear
//! before and nothing to remove afterwards: it goes with the process however that ends. Anybody in the
//! network namespace may connect to it, or have taken it first: whom we let in is for [`super::credentials`],
//! whom a client trusts is for the client (`manhole-cli` compares the pid before it sends a byte).

#![forbid(unsafe_code)]

use std::ffi::CString;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::socket::UnixAddr;
use nix::sys::stat::SFlag;

use crate::lifecycle::{Manhole, exit};
use crate::protocol;
use crate::sys::socket::Socket;
use crate::sys::{Errno, descriptors, files, process};

/// Bytes of `sun_path` less its NUL (unix(7)).
const LONGEST: usize = 107;

/// A listening socket.
pub struct Listener {
    socket: Socket,
    path: String,
}

/// Why there is no socket.
#[derive(Debug)]
pub enum ListenError {
    /// The template is wrong.
    Template(protocol::BadTemplate),
    /// The path does not fit a socket address, or holds a NUL.
    TooLong(String),
    /// Something that is no stale socket of ours is in the way.
    Taken(String, &'static str),
    /// Somebody holds the name: the process that listens there, if that can be known.
    Live(String, Option<i32>),
    /// The kernel said no.
    Refused(String, Errno),
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Template(error) => write!(f, "socket_path: {error}"),
            Self::TooLong(path) => {
                write!(f, "socket path {path:?} has {} bytes, {LONGEST} fit: choose a shorter socket_path", path.len())
            }
            Self::Taken(path, what) => {
                write!(f, "{path} is {what}, left alone: remove it or choose another socket_path")
            }
            Self::Live(path, Some(pid)) => {
                write!(f, "{path} is served by process {pid}, left alone: choose another socket_path")
            }
            Self::Live(path, None) => {
                write!(f, "{path} is held by a process that cannot be seen from here: choose another socket_path")
            }
            Self::Refused(path, error) => write!(f, "cannot open {path}: {}; choose another socket_path", error.desc()),
        }
    }
}

impl Listener {
    /// Opens the socket of this process.
    pub fn open(manhole: &Manhole) -> Result<Self, ListenError> {
        let template = manhole.config.socket_path.as_deref().unwrap_or(protocol::DEFAULT_PATH);
        let pid = process::pid().unsigned_abs();
        let path = protocol::expand_path(template, pid, &manhole.program).map_err(ListenError::Template)?;
        let too_long = || ListenError::TooLong(path.clone());
        if let Some(name) = protocol::abstract_name(&path) {
            let socket = open_abstract(&path, &UnixAddr::new_abstract(name.as_bytes()).map_err(|_| too_long())?)?;
            return Ok(Self { socket, path });
        }
        let name = CString::new(path.as_str()).map_err(|_| too_long())?;
        if path.len() > LONGEST {
            return Err(too_long());
        }
        let address = UnixAddr::new(path.as_str()).map_err(|_| too_long())?;
        let refused = |error| ListenError::Refused(path.clone(), error);
        let socket = bind(&address).or_else(|error| match error {
            Errno::EADDRINUSE => {
                clear_stale(&path, &name, &address)?;
                bind(&address).map_err(refused)
            }
            other => Err(refused(other)),
        })?;
        exit::remember_socket(name);
        socket.listen().map_err(refused)?;
        Ok(Self { socket, path })
    }

    /// Where it is.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Refuses everybody but those who wait in the queue.
    pub fn close_queue(&self) {
        self.socket.close_queue();
    }

    /// The next client and the name it is bound to. Under a descriptor limit that leaves no room, the
    /// placeholders on 0 to 2 make some.
    pub fn accept(&self) -> Result<(Socket, Vec<u8>), Errno> {
        match self.socket.accept() {
            Err(Errno::EMFILE) if descriptors::give_up_placeholders() => self.socket.accept(),
            other => other,
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn bind(address: &UnixAddr) -> Result<Socket, Errno> {
    let socket = Socket::new()?;
    socket.bind_private(address)?;
    Ok(socket)
}

/// There is nothing to clear at an abstract address: it is taken as long as its holder lives.
fn open_abstract(path: &str, address: &UnixAddr) -> Result<Socket, ListenError> {
    let refused = |error| ListenError::Refused(path.to_owned(), error);
    let socket = bind(address).map_err(|error| match error {
        Errno::EADDRINUSE => ListenError::Live(path.to_owned(), who_listens(address)),
        other => refused(other),
    })?;
    socket.listen().map_err(refused)?;
    Ok(socket)
}

/// The process that listens at `address`; unknown when it does not listen, takes nobody now, or is in a pid
/// namespace that ours does not contain.
fn who_listens(address: &UnixAddr) -> Option<i32> {
    let probe = Socket::new().ok()?;
    probe.connect(address).ok()?;
    probe.peer().ok().map(|peer| peer.pid).filter(|&pid| pid > 0)
}

/// Removes a socket of this user that nobody serves; anything else is an error that says what it is.
fn clear_stale(path: &str, name: &CString, address: &UnixAddr) -> Result<(), ListenError> {
    let taken = |what| Err(ListenError::Taken(path.to_owned(), what));
    let status = match files::status(name) {
        Ok(status) => status,
        Err(Errno::ENOENT) => return Ok(()),
        Err(error) => return Err(ListenError::Refused(path.to_owned(), error)),
    };
    if status.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFSOCK.bits() {
        return taken("no socket");
    }
    if status.st_uid != process::effective_uid() {
        return taken("another user's socket");
    }
    let probe = Socket::new().map_err(|error| ListenError::Refused(path.to_owned(), error))?;
    match probe.connect(address) {
        Err(Errno::ECONNREFUSED) => {
            files::remove(name);
            Ok(())
        }
        Err(Errno::ENOENT) => Ok(()),
        _ => {
            let peer = probe.peer().ok().map(|peer| peer.pid).filter(|&pid| pid > 0);
            Err(ListenError::Live(path.to_owned(), peer))
        }
    }
}
