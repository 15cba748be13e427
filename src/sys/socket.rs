//! Unix stream sockets, non-blocking and close-on-exec, without `std`'s wrappers.
//!
//! Context: the observer. What runs after the start goes straight to the kernel: `recv`, `send` and
//! `accept4` are names that an application may define itself.

use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, RawFd};

use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, UnixAddr, sockopt};

use super::procfs::File;
use super::{Result, raw};

/// Who is at the other end, as the kernel recorded it at `connect` or `listen` (`SO_PEERCRED`, unix(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The process, in our pid namespace; 0 if it is not visible there.
    pub pid: i32,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
}

/// A socket of ours.
#[derive(Debug)]
pub struct Socket(File);

impl Socket {
    /// A new, unconnected one.
    pub fn new() -> Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        Ok(Self(File::from_raw(socket.into_raw_fd())))
    }

    /// The descriptor's number.
    pub fn raw(&self) -> RawFd {
        self.0.raw()
    }

    /// Binds to a path with mode 0600 from the first moment on: on Linux the mode of the socket's own
    /// inode, less the umask, becomes that of the name (`unix_bind`, net/unix/af_unix.c). An abstract
    /// address has no mode.
    pub fn bind_private(&self, address: &UnixAddr) -> Result<()> {
        nix::sys::stat::fchmod(self.as_fd(), nix::sys::stat::Mode::from_bits_truncate(0o600))?;
        socket::bind(self.raw(), address)
    }

    /// Begins to listen.
    pub fn listen(&self) -> Result<()> {
        socket::listen(self, Backlog::new(64)?)
    }

    /// Of a listening one: who connects from now on is refused, who waits in the queue can still be accepted.
    pub fn close_queue(&self) {
        // SAFETY: shutdown touches no memory.
        let _ = unsafe { raw::syscall6(libc::SYS_shutdown, [self.raw() as usize, libc::SHUT_RD as usize, 0, 0, 0, 0]) };
    }

    /// Connects; [`Errno::EAGAIN`] when the listener's queue is full.
    pub fn connect(&self, address: &UnixAddr) -> Result<()> {
        socket::connect(self.raw(), address)
    }

    /// The next client and the name it is bound to, empty for most.
    pub fn accept(&self) -> Result<(Self, Vec<u8>)> {
        // SAFETY: sockaddr_un is plain bytes, for which zero is a value.
        let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
        let mut length = size_of_val(&address) as libc::socklen_t;
        let (target, room) = (&raw mut address as usize, &raw mut length as usize);
        let flags = (libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) as usize;
        // SAFETY: `address` and `length` describe a buffer that outlives the call.
        let number = unsafe { raw::syscall6(libc::SYS_accept4, [self.raw() as usize, target, room, flags, 0, 0])? };
        let client = Self(File::from_raw(number as RawFd));
        let used = (length as usize).saturating_sub(std::mem::offset_of!(libc::sockaddr_un, sun_path));
        let name = address.sun_path.iter().take(used).map(|byte| *byte as u8).collect();
        Ok((client, name))
    }

    /// Who is at the other end.
    pub fn peer(&self) -> Result<Peer> {
        let credentials = socket::getsockopt(self, sockopt::PeerCredentials)?;
        Ok(Peer { pid: credentials.pid(), uid: credentials.uid(), gid: credentials.gid() })
    }

    /// Takes what has arrived; 0 is the end.
    pub fn receive(&self, buffer: &mut [u8]) -> Result<usize> {
        let (target, flags) = (buffer.as_mut_ptr() as usize, libc::MSG_DONTWAIT as usize);
        // SAFETY: the kernel writes only into `buffer`.
        unsafe { raw::syscall6(libc::SYS_recvfrom, [self.raw() as usize, target, buffer.len(), flags, 0, 0]) }
    }

    /// Sends what the kernel takes now, never raising SIGPIPE.
    pub fn send(&self, bytes: &[u8]) -> Result<usize> {
        let flags = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as usize;
        // SAFETY: the kernel only reads `bytes`.
        unsafe {
            raw::syscall6(libc::SYS_sendto, [self.raw() as usize, bytes.as_ptr() as usize, bytes.len(), flags, 0, 0])
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
