//! Which Unix sockets are connected with which: `sock_diag` over netlink (man 7 sock_diag), the only way to know.
//!
//! Context: the observer. The netlink socket is one of its own table and lives for one question. It needs no privilege;
//! where the kernel lacks `unix_diag`, or a filter forbids it, there is no answer. Nothing of the sockets is touched.

use std::os::fd::RawFd;

use super::procfs::File;
use super::{Errno, Result, filter, raw};

/// A Unix socket and what it is connected with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnixPair {
    /// Its inode.
    pub inode: u32,
    /// Its peer's; 0 when it has none.
    pub peer: u32,
    /// Bytes that wait to be read; of one that listens, connections that wait to be accepted.
    pub receive_queue: u32,
    /// Bytes sent that the peer has not read; of one that listens, how many may wait.
    pub send_queue: u32,
}

/// The most that is read of an answer: some 60,000 sockets.
const ANSWER_BYTES: usize = 4 << 20;

/// linux/netlink.h, linux/sock_diag.h, linux/unix_diag.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const UDIAG_SHOW_PEER: u32 = 4;
const UDIAG_SHOW_RQLEN: u32 = 16;
const UNIX_DIAG_PEER: u16 = 2;
const UNIX_DIAG_RQLEN: u16 = 4;
const HEADER: usize = 16;

/// A netlink socket for `sock_diag`.
pub fn diagnosis() -> Result<File> {
    let kind = (libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) as usize;
    let arguments = [libc::AF_NETLINK as usize, kind, libc::NETLINK_SOCK_DIAG as usize, 0, 0, 0];
    // SAFETY: socket touches no memory.
    let number = unsafe { raw::syscall6(libc::SYS_socket, arguments)? };
    Ok(File::from_raw(number as RawFd))
}

/// All Unix sockets of the network namespace. The kernel answers each `recvfrom` at once.
pub fn unix_pairs() -> Result<Vec<UnixPair>> {
    if !filter::allows(filter::Call::AskSockets) {
        return Err(Errno::EPERM);
    }
    let socket = diagnosis()?;
    send(&socket, &request())?;
    let mut pairs = Vec::new();
    let mut buffer = vec![0; 32 << 10];
    let mut total = 0;
    while total < ANSWER_BYTES {
        let count = receive(&socket, &mut buffer)?;
        total += count.max(1);
        if !parse(buffer.get(..count).unwrap_or_default(), &mut pairs)? {
            break;
        }
    }
    Ok(pairs)
}

/// `struct nlmsghdr` and `struct unix_diag_req`.
fn request() -> [u8; 40] {
    let mut bytes = [0; 40];
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    let mut rest = bytes.as_mut_slice();
    let mut put = |field: &[u8]| {
        let (place, after) = std::mem::take(&mut rest).split_at_mut_checked(field.len()).unwrap_or_default();
        place.copy_from_slice(field);
        rest = after;
    };
    put(&40u32.to_ne_bytes());
    put(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    put(&flags.to_ne_bytes());
    // Sequence number and port.
    put(&[0; 8]);
    put(&[libc::AF_UNIX as u8, 0, 0, 0]);
    // Every state, every inode.
    put(&u32::MAX.to_ne_bytes());
    put(&[0; 4]);
    put(&(UDIAG_SHOW_PEER | UDIAG_SHOW_RQLEN).to_ne_bytes());
    bytes
}

fn send(socket: &File, message: &[u8]) -> Result<usize> {
    let flags = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as usize;
    let arguments = [socket.raw() as usize, message.as_ptr() as usize, message.len(), flags, 0, 0];
    // SAFETY: the kernel only reads `message`; without an address the message is for the kernel.
    unsafe { raw::syscall6(libc::SYS_sendto, arguments) }
}

fn receive(socket: &File, buffer: &mut [u8]) -> Result<usize> {
    let flags = libc::MSG_DONTWAIT as usize;
    let arguments = [socket.raw() as usize, buffer.as_mut_ptr() as usize, buffer.len(), flags, 0, 0];
    // SAFETY: the kernel writes only into `buffer`.
    unsafe { raw::syscall6(libc::SYS_recvfrom, arguments) }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// Reads messages; false at the last one.
fn parse(mut messages: &[u8], pairs: &mut Vec<UnixPair>) -> Result<bool> {
    if messages.is_empty() {
        return Ok(false);
    }
    while let (Some(length), Some(kind)) = (word(messages, 0), half(messages, 4)) {
        let length = length as usize;
        let Some(message) = messages.get(HEADER..length) else { break };
        match kind {
            SOCK_DIAG_BY_FAMILY => pairs.extend(pair(message)),
            _ if i32::from(kind) == libc::NLMSG_DONE => return Ok(false),
            // struct nlmsgerr begins with the negative error.
            _ if i32::from(kind) == libc::NLMSG_ERROR => {
                let error = word(message, 0).unwrap_or_default() as i32;
                return Err(Errno::from_raw(error.wrapping_neg()));
            }
            _ => (),
        }
        messages = messages.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(true)
}

/// `struct unix_diag_msg` (family, type, state, padding, inode, cookie) and its attributes.
fn pair(message: &[u8]) -> Option<UnixPair> {
    let mut pair = UnixPair { inode: word(message, 4)?, peer: 0, receive_queue: 0, send_queue: 0 };
    let mut rest = message.get(16..).unwrap_or_default();
    while let (Some(length), Some(kind)) = (half(rest, 0), half(rest, 2)) {
        let length = usize::from(length);
        let Some(value) = rest.get(4..length) else { break };
        match kind {
            UNIX_DIAG_PEER => pair.peer = word(value, 0).unwrap_or_default(),
            UNIX_DIAG_RQLEN => {
                pair.receive_queue = word(value, 0).unwrap_or_default();
                pair.send_queue = word(value, 4).unwrap_or_default();
            }
            _ => (),
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(pair)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::linux::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_pair_knows_each_other() {
        let (mut one, other) = std::os::unix::net::UnixStream::pair().unwrap();
        one.write_all(b"twelve bytes").unwrap();
        let inode = |socket: &dyn std::os::fd::AsRawFd| {
            let path = format!("/proc/self/fd/{}", socket.as_raw_fd());
            std::fs::metadata(path).unwrap().st_ino() as u32
        };
        let pairs = match unix_pairs() {
            Ok(pairs) => pairs,
            Err(error) => return println!("skipped: no unix_diag: {}", error.desc()),
        };
        let find = |inode| pairs.iter().find(|pair| pair.inode == inode).unwrap();
        assert_eq!(find(inode(&one)).peer, inode(&other));
        assert_eq!(find(inode(&other)).peer, inode(&one));
        assert_eq!(find(inode(&other)).receive_queue, 12);
    }

    #[test]
    fn damaged_messages_are_left_out() {
        let mut pairs = Vec::new();
        for length in 0..64u32 {
            let mut message = vec![0xff; 40];
            message[..4].copy_from_slice(&length.to_ne_bytes());
            message[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
            assert!(parse(&message, &mut pairs).is_ok());
            let _ = parse(&message[..length.min(40) as usize], &mut pairs);
        }
        assert!(pairs.len() < 64);
        assert_eq!(parse(&[], &mut pairs), Ok(false));
    }
}
