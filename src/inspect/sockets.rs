//! Sockets by inode: protocol, addresses, state.
//!
//! Context: the observer. The tables of `/proc/net` are read at most once for each [`Sockets`], when
//! the first socket is asked for, and of each at most [`TABLE_BYTES`]: on a machine with very many
//! connections a socket may not be found, and is then shown by its inode alone.
//!
//! Asking the socket itself (`pidfd_getfd`, then `getpeername`) would be exact and need no table, but
//! while we held its duplicate the application's `close` would not close it: its next `bind` could fail.

#![forbid(unsafe_code)]

use std::cell::OnceCell;
use std::collections::hash_map::Entry;
use std::ffi::CStr;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustc_hash::FxHashMap;

use super::strings::Escaped;
use crate::sys::procfs::File;

/// The most that is read of one table: some 27,000 connections.
pub const TABLE_BYTES: u64 = 4 << 20;

/// One table of `/proc/net`: where it is, where else when the first thread has exited, and how a line is read.
struct Table {
    path: &'static CStr,
    fallback: &'static CStr,
    parse: fn(&[u8]) -> Option<(u64, Socket)>,
}

const TABLES: [Table; 5] = [
    Table {
        path: c"/proc/self/net/tcp",
        fallback: c"/proc/thread-self/net/tcp",
        parse: |line| parse_internet("TCP", line),
    },
    Table {
        path: c"/proc/self/net/tcp6",
        fallback: c"/proc/thread-self/net/tcp6",
        parse: |line| parse_internet("TCP", line),
    },
    Table {
        path: c"/proc/self/net/udp",
        fallback: c"/proc/thread-self/net/udp",
        parse: |line| parse_internet("UDP", line),
    },
    Table {
        path: c"/proc/self/net/udp6",
        fallback: c"/proc/thread-self/net/udp6",
        parse: |line| parse_internet("UDP", line),
    },
    Table { path: c"/proc/self/net/unix", fallback: c"/proc/thread-self/net/unix", parse: parse_unix },
];

/// What the kernel's tables say about one socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Socket {
    /// TCP or UDP over IPv4 or IPv6.
    Internet {
        /// `TCP` or `UDP`.
        protocol: &'static str,
        /// Its own address.
        local: SocketAddr,
        /// Its peer's; all zero when it has none.
        remote: SocketAddr,
        /// The state's number (include/net/tcp_states.h).
        state: u8,
    },
    /// A Unix socket.
    Unix {
        /// `SOCK_*`.
        kind: u16,
        /// It accepts connections.
        listening: bool,
        /// `SS_*` (include/uapi/linux/net.h).
        state: u8,
        /// The path it is bound to, an abstract name with `@` for each NUL; empty when it is not bound.
        path: Vec<u8>,
    },
}

/// The sockets of this process's network namespace, read when first asked for.
#[derive(Debug, Default)]
pub struct Sockets {
    /// By inode; `None` for an inode that two lines claim.
    by_inode: OnceCell<FxHashMap<u64, Option<Socket>>>,
}

impl Sockets {
    /// The socket that a descriptor's link, `socket:[INODE]`, refers to.
    pub fn find(&self, link: &[u8]) -> Option<&Socket> {
        let inode = number(link.strip_prefix(b"socket:[")?.strip_suffix(b"]")?, 10)?;
        self.by_inode.get_or_init(read_tables).get(&inode)?.as_ref()
    }
}

fn read_tables() -> FxHashMap<u64, Option<Socket>> {
    let mut sockets = FxHashMap::default();
    for table in &TABLES {
        let Ok(file) = File::open(table.path).or_else(|_| File::open(table.fallback)) else {
            continue;
        };
        for_each_line(&file, |line| {
            // The path of a Unix socket may hold a newline, and after it what looks like another line.
            if let Some((inode, socket)) = (table.parse)(line) {
                match sockets.entry(inode) {
                    Entry::Vacant(entry) => {
                        entry.insert(Some(socket));
                    }
                    Entry::Occupied(mut entry) => {
                        entry.insert(None);
                    }
                }
            }
        });
    }
    sockets
}

/// Calls `each` with every whole line of the first [`TABLE_BYTES`] of `file`.
fn for_each_line(file: &File, mut each: impl FnMut(&[u8])) {
    let mut buffer = vec![0; 32 << 10];
    let (mut offset, mut kept) = (0, 0);
    while offset < TABLE_BYTES {
        let Some(Ok(count @ 1..)) = buffer.get_mut(kept..).map(|room| file.read_at(room, offset)) else {
            return;
        };
        offset += count as u64;
        let filled = buffer.get(..kept + count).unwrap_or_default();
        let whole = filled.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
        filled.get(..whole).unwrap_or_default().split(|&byte| byte == b'\n').for_each(&mut each);
        // A line as long as the buffer is none of the kernel's.
        kept = if whole == 0 && filled.len() == buffer.len() { 0 } else { filled.len() - whole };
        buffer.copy_within(whole..whole + kept, 0);
    }
}

fn number(digits: &[u8], radix: u32) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok()
}

/// A line of `tcp`, `tcp6`, `udp` or `udp6` (Documentation/networking/proc_net_tcp.rst).
fn parse_internet(protocol: &'static str, line: &[u8]) -> Option<(u64, Socket)> {
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).skip(1);
    let (local, remote) = (parse_address(words.next()?)?, parse_address(words.next()?)?);
    let state = u8::try_from(number(words.next()?, 16)?).ok()?;
    // After the state: queues, timer, retransmissions, uid, timeout.
    let inode = number(words.nth(5)?, 10).filter(|inode| *inode != 0)?;
    Some((inode, Socket::Internet { protocol, local, remote, state }))
}

/// `0100007F:1F90`: 32-bit words of the address as the machine's integers, and the port.
fn parse_address(word: &[u8]) -> Option<SocketAddr> {
    let (digits, port) = word.split_at_checked(word.iter().position(|&byte| byte == b':')?)?;
    let port = u16::try_from(number(port.get(1..)?, 16)?).ok()?;
    let mut bytes = [0; 16];
    if digits.len() != 8 && digits.len() != 32 {
        return None;
    }
    for (digits, bytes) in digits.chunks_exact(8).zip(bytes.chunks_exact_mut(4)) {
        bytes.copy_from_slice(&u32::try_from(number(digits, 16)?).ok()?.to_ne_bytes());
    }
    let address = match (digits.len(), bytes) {
        (8, [a, b, c, d, ..]) => IpAddr::from(Ipv4Addr::new(a, b, c, d)),
        _ => IpAddr::from(Ipv6Addr::from(bytes)),
    };
    Some(SocketAddr::new(address, port))
}

/// A line of `unix` (man 5 proc_pid_net).
fn parse_unix(line: &[u8]) -> Option<(u64, Socket)> {
    // Number, references, protocol, flags, type, state, inode (padded with blanks), path.
    let mut rest = line;
    let mut word = || {
        rest = rest.trim_ascii_start();
        let end = rest.iter().position(|&byte| byte == b' ').unwrap_or(rest.len());
        let (word, after) = rest.split_at_checked(end)?;
        rest = after;
        Some(word)
    };
    let (_, _, _, flags) = (word()?, word()?, word()?, number(word()?, 16)?);
    let (kind, state) = (u16::try_from(number(word()?, 16)?).ok()?, u8::try_from(number(word()?, 16)?).ok()?);
    let inode = number(word()?, 10).filter(|inode| *inode != 0)?;
    let path = rest.strip_prefix(b" ").unwrap_or_default().to_vec();
    // __SO_ACCEPTCON.
    Some((inode, Socket::Unix { kind, listening: flags & 0x10000 != 0, state, path }))
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Internet { protocol, local, remote, state } => {
                write!(f, "{protocol} {local}")?;
                // Who connected to whom the tables do not say.
                if !remote.ip().is_unspecified() || remote.port() != 0 {
                    write!(f, " <-> {remote}")?;
                }
                // A UDP socket has no state but that of having a peer.
                if *protocol == "TCP" { write!(f, " {}", tcp_state(*state)) } else { Ok(()) }
            }
            Self::Unix { kind, listening, state, path } => {
                f.write_str(match i32::from(*kind) {
                    libc::SOCK_STREAM => "UNIX stream",
                    libc::SOCK_DGRAM => "UNIX datagram",
                    libc::SOCK_SEQPACKET => "UNIX packet",
                    _ => "UNIX",
                })?;
                if !path.is_empty() {
                    write!(f, " \"{}\"", Escaped(path))?;
                }
                f.write_str(match (listening, state) {
                    (true, _) => " LISTEN",
                    (_, 2) => " CONNECTING",
                    (_, 3) => " CONNECTED",
                    (_, 4) => " DISCONNECTING",
                    _ => "",
                })
            }
        }
    }
}

/// The name of a state (include/net/tcp_states.h).
fn tcp_state(state: u8) -> &'static str {
    match state {
        1 => "ESTABLISHED",
        2 => "SYN_SENT",
        3 | 12 => "SYN_RECV",
        4 => "FIN_WAIT1",
        5 => "FIN_WAIT2",
        6 => "TIME_WAIT",
        7 => "CLOSE",
        8 => "CLOSE_WAIT",
        9 => "LAST_ACK",
        10 => "LISTEN",
        11 => "CLOSING",
        _ => "UNKNOWN",
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    fn shown(socket: &impl AsRawFd) -> String {
        let link = std::fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap();
        Sockets::default().find(link.as_os_str().as_encoded_bytes()).expect("in the tables").to_string()
    }

    #[test]
    fn names_tcp_and_udp_sockets() {
        for host in ["127.0.0.1", "[::1]"] {
            let Ok(listener) = TcpListener::bind(format!("{host}:0")) else {
                eprintln!("skipped: no {host}");
                continue;
            };
            let address = listener.local_addr().unwrap();
            let client = TcpStream::connect(address).unwrap();
            let server = listener.accept().unwrap().0;
            let peer = client.local_addr().unwrap();
            assert_eq!(shown(&listener), format!("TCP {address} LISTEN"));
            assert_eq!(shown(&server), format!("TCP {address} <-> {peer} ESTABLISHED"));
            assert_eq!(shown(&client), format!("TCP {peer} <-> {address} ESTABLISHED"));
            let datagram = UdpSocket::bind(format!("{host}:0")).unwrap();
            assert_eq!(shown(&datagram), format!("UDP {}", datagram.local_addr().unwrap()));
        }
    }

    #[test]
    fn names_unix_sockets() {
        let path = std::env::temp_dir().join(format!("manhole test {} \u{1b}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let client = UnixStream::connect(&path).unwrap();
        let escaped = path.to_str().unwrap().replace('\u{1b}', "\\x1b");
        assert_eq!(shown(&listener), format!("UNIX stream \"{escaped}\" LISTEN"));
        assert_eq!(shown(&client), "UNIX stream CONNECTED");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn damaged_lines_are_no_sockets() {
        for line in [
            &b""[..],
            b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
            b"0: 0100007F:1F90 00000000:0000 0A 0:0 0:0 0 0 0 0 1",
            b"0: 0100007F:1F90 00000000:0000 0A 0:0 0:0 0 0 0",
            b"0: 7F:1F90 00000000:0000 0A 0:0 0:0 0 0 0 7 1",
            b"0: 0100007F1F90 00000000:0000 0A 0:0 0:0 0 0 0 7 1",
            b"0: \xff\xff:1F90 00000000:0000 0A 0:0 0:0 0 0 0 7 1",
        ] {
            assert_eq!(parse_internet("TCP", line), None);
            assert_eq!(parse_unix(line), None);
        }
        assert_eq!(Sockets::default().find(b"socket:[0]"), None);
        assert_eq!(Sockets::default().find(b"anon_inode:[eventpoll]"), None);
    }
}
