//! Sockets by inode: protocol, addresses, state, what waits in their queues.
//!
//! Context: the observer. The tables of `/proc/net` are read at most once for each [`Sockets`], when
//! the first socket is asked for, and of each at most [`TABLE_BYTES`]: on a machine with very many
//! connections a socket may not be found, and is then shown by its inode alone.
//!
//! Asking the socket itself (`pidfd_getfd`, then `getpeername`) would be exact and need no table, but
//! while we held its duplicate the application's `close` would not close it: its next `bind` could fail.

#![forbid(unsafe_code)]

mod tables;

use std::cell::OnceCell;
use std::fmt;
use std::net::SocketAddr;

use rustc_hash::FxHashMap;

use super::numbers::in_base;
use super::strings::Escaped;
use crate::sys::netlink::{self, UnixPair};
pub use tables::TABLE_BYTES;

/// What waits in a socket's queues, in bytes; of one that listens, connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queues {
    /// To be read; connections that wait to be accepted.
    pub receive: u32,
    /// Not yet acknowledged or read by the peer; unused in the tables of one that listens.
    pub send: u32,
}

/// What the kernel's tables say about one socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Socket {
    /// TCP, UDP and what else runs over IPv4 or IPv6.
    Internet {
        /// `TCP`, `UDP`, `UDPLITE`, `RAW` or `ICMP`.
        protocol: &'static str,
        /// Its own address.
        local: SocketAddr,
        /// Its peer's; all zero when it has none.
        remote: SocketAddr,
        /// The state's number (include/net/tcp_states.h).
        state: u8,
        /// What waits.
        queues: Queues,
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
    /// A netlink socket.
    Netlink {
        /// `NETLINK_*`.
        protocol: i32,
        /// Its own address: often the process id.
        port: u32,
        /// What waits.
        queues: Queues,
    },
    /// A packet socket: it sees whole frames of an interface.
    Packet {
        /// The index of the interface; 0 for all.
        interface: u32,
        /// `ETH_P_*`.
        protocol: u32,
        /// What waits.
        queues: Queues,
    },
}

/// The sockets of this process's network namespace, read when first asked for.
#[derive(Debug, Default)]
pub struct Sockets {
    /// By inode; `None` for an inode that two lines claim.
    by_inode: OnceCell<FxHashMap<u64, Option<Socket>>>,
    /// TCP connections by protocol and both addresses.
    by_address: OnceCell<FxHashMap<(SocketAddr, SocketAddr), u64>>,
    /// Unix sockets by inode; nothing where the kernel does not tell.
    pairs: OnceCell<FxHashMap<u64, UnixPair>>,
}

/// The inode in `socket:[INODE]`.
pub fn inode(link: &[u8]) -> Option<u64> {
    in_base(link.strip_prefix(b"socket:[")?.strip_suffix(b"]")?, 10)
}

impl Sockets {
    /// The socket that a descriptor's link, `socket:[INODE]`, refers to.
    pub fn find(&self, link: &[u8]) -> Option<&Socket> {
        self.all().get(&inode(link)?)?.as_ref()
    }

    fn all(&self) -> &FxHashMap<u64, Option<Socket>> {
        self.by_inode.get_or_init(tables::read)
    }

    /// What Unix socket `inode` is connected with, and its queues.
    pub fn pair(&self, inode: u64) -> Option<&UnixPair> {
        let read = || {
            let pairs = netlink::unix_pairs().unwrap_or_default();
            pairs.into_iter().map(|pair| (u64::from(pair.inode), pair)).collect()
        };
        self.pairs.get_or_init(read).get(&inode)
    }

    /// The inode of the socket at the other end of `inode`, where that is on this machine and in this network
    /// namespace: a Unix socket's peer, or a TCP connection's.
    pub fn peer(&self, inode: u64) -> Option<u64> {
        match self.all().get(&inode)?.as_ref()? {
            Socket::Unix { .. } => Some(u64::from(self.pair(inode)?.peer)).filter(|peer| *peer != 0),
            Socket::Internet { protocol: "TCP", local, remote, .. } if remote.port() != 0 => {
                let connections = self.by_address.get_or_init(|| {
                    let both = |(inode, socket): (&u64, &Option<Socket>)| match socket.as_ref()? {
                        Socket::Internet { protocol: "TCP", local, remote, .. } => Some(((*local, *remote), *inode)),
                        _ => None,
                    };
                    self.all().iter().filter_map(both).collect()
                });
                connections.get(&(*remote, *local)).copied()
            }
            _ => None,
        }
    }
}

impl Socket {
    /// In one word, lower-case: `tcp`, `udp`, `raw`, `icmp`, `udplite`, `unix`, `netlink`, `packet`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Internet { protocol, .. } => match *protocol {
                "TCP" => "tcp",
                "UDP" => "udp",
                "RAW" => "raw",
                "ICMP" => "icmp",
                _ => "udplite",
            },
            Self::Unix { .. } => "unix",
            Self::Netlink { .. } => "netlink",
            Self::Packet { .. } => "packet",
        }
    }

    /// The state of a connection, where the protocol has such.
    pub fn state(&self) -> Option<&'static str> {
        match self {
            // A UDP socket has no state but that of having a peer.
            Self::Internet { protocol: "TCP", state, .. } => Some(tcp_state(*state)),
            Self::Unix { listening: true, .. } => Some("LISTEN"),
            Self::Unix { state, .. } => match state {
                2 => Some("CONNECTING"),
                3 => Some("CONNECTED"),
                4 => Some("DISCONNECTING"),
                _ => None,
            },
            _ => None,
        }
    }

    /// What waits in its queues, where the table says so.
    pub fn queues(&self) -> Option<Queues> {
        match self {
            Self::Internet { queues, .. } | Self::Netlink { queues, .. } | Self::Packet { queues, .. } => Some(*queues),
            Self::Unix { .. } => None,
        }
    }
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Internet { protocol, local, remote, .. } => {
                write!(f, "{protocol} {local}")?;
                // Who connected to whom the tables do not say.
                if !remote.ip().is_unspecified() || remote.port() != 0 {
                    write!(f, " <-> {remote}")?;
                }
            }
            Self::Unix { kind, path, .. } => {
                f.write_str(match i32::from(*kind) {
                    libc::SOCK_STREAM => "UNIX stream",
                    libc::SOCK_DGRAM => "UNIX datagram",
                    libc::SOCK_SEQPACKET => "UNIX packet",
                    _ => "UNIX",
                })?;
                if !path.is_empty() {
                    write!(f, " \"{}\"", Escaped(path))?;
                }
            }
            Self::Netlink { protocol, port, .. } => {
                match NETLINK.iter().find(|(number, _)| number == protocol) {
                    Some((_, name)) => write!(f, "NETLINK {name}")?,
                    None => write!(f, "NETLINK {protocol}")?,
                }
                if *port != 0 {
                    write!(f, " port {port}")?;
                }
            }
            Self::Packet { interface, protocol, .. } => {
                write!(f, "PACKET protocol {protocol:#06x}")?;
                if *interface != 0 {
                    write!(f, " interface {interface}")?;
                }
            }
        }
        self.state().map_or(Ok(()), |state| write!(f, " {state}"))
    }
}

/// include/uapi/linux/netlink.h.
const NETLINK: [(i32, &str); 12] = [
    (libc::NETLINK_ROUTE, "ROUTE"),
    (libc::NETLINK_SOCK_DIAG, "SOCK_DIAG"),
    (libc::NETLINK_NFLOG, "NFLOG"),
    (libc::NETLINK_XFRM, "XFRM"),
    (libc::NETLINK_SELINUX, "SELINUX"),
    (libc::NETLINK_AUDIT, "AUDIT"),
    (libc::NETLINK_CONNECTOR, "CONNECTOR"),
    (libc::NETLINK_NETFILTER, "NETFILTER"),
    (libc::NETLINK_KOBJECT_UEVENT, "KOBJECT_UEVENT"),
    (libc::NETLINK_GENERIC, "GENERIC"),
    (libc::NETLINK_CRYPTO, "CRYPTO"),
    (libc::NETLINK_RDMA, "RDMA"),
];

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
    fn peers_are_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let server = listener.accept().unwrap().0;
        let number = |socket: &dyn AsRawFd| {
            let link = std::fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap();
            inode(link.as_os_str().as_encoded_bytes()).unwrap()
        };
        let sockets = Sockets::default();
        assert_eq!(sockets.peer(number(&client)), Some(number(&server)));
        assert_eq!(sockets.peer(number(&server)), Some(number(&client)));
        assert_eq!(sockets.peer(number(&listener)), None);
        assert_eq!(sockets.find(b"socket:[0]"), None);
        assert_eq!(sockets.find(b"anon_inode:[eventpoll]"), None);
    }
}
