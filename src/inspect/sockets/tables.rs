//! The tables of `/proc/net`, read whole and parsed line by line.

use std::collections::hash_map::Entry;
use std::ffi::CStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustc_hash::FxHashMap;

use super::{Queues, Socket};
use crate::inspect::lines::Lines;
use crate::inspect::numbers::{decimal, in_base};
use crate::sys::procfs::File;

/// The most that is read of one table: some 27,000 connections.
pub const TABLE_BYTES: u64 = 4 << 20;

/// One table: where it is, where else when the first thread has exited, and how a line is read.
struct Table {
    path: &'static CStr,
    fallback: &'static CStr,
    parse: fn(&[u8]) -> Option<(u64, Socket)>,
}

macro_rules! table {
    ($name:literal, $parse:expr) => {
        Table {
            path: in_folder!("/proc/self/net/", $name),
            fallback: in_folder!("/proc/thread-self/net/", $name),
            parse: $parse,
        }
    };
}

macro_rules! in_folder {
    ($folder:literal, $name:literal) => {
        match CStr::from_bytes_with_nul(concat!($folder, $name, "\0").as_bytes()) {
            Ok(path) => path,
            Err(_) => c"",
        }
    };
}

const TABLES: [Table; 13] = [
    table!("tcp", |line| parse_internet("TCP", line)),
    table!("tcp6", |line| parse_internet("TCP", line)),
    table!("udp", |line| parse_internet("UDP", line)),
    table!("udp6", |line| parse_internet("UDP", line)),
    table!("unix", parse_unix),
    table!("netlink", parse_netlink),
    table!("packet", parse_packet),
    table!("raw", |line| parse_internet("RAW", line)),
    table!("raw6", |line| parse_internet("RAW", line)),
    table!("icmp", |line| parse_internet("ICMP", line)),
    table!("icmp6", |line| parse_internet("ICMP", line)),
    table!("udplite", |line| parse_internet("UDPLITE", line)),
    table!("udplite6", |line| parse_internet("UDPLITE", line)),
];

/// All of them; `None` for an inode that two lines claim.
pub fn read() -> FxHashMap<u64, Option<Socket>> {
    let mut sockets = FxHashMap::default();
    for table in &TABLES {
        let Ok(file) = File::open(table.path).or_else(|_| File::open(table.fallback)) else {
            continue;
        };
        // What cannot be read on is not found.
        let _ = Lines::new(file).read_up_to(TABLE_BYTES, |line| {
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

/// A line of `tcp`, `udp` and their like (Documentation/networking/proc_net_tcp.rst).
fn parse_internet(protocol: &'static str, line: &[u8]) -> Option<(u64, Socket)> {
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).skip(1);
    let (local, remote) = (parse_address(words.next()?)?, parse_address(words.next()?)?);
    let state = u8::try_from(in_base(words.next()?, 16)?).ok()?;
    let queues = parse_queues(words.next()?)?;
    // After the queues: timer, retransmissions, uid, timeout.
    let inode = in_base(words.nth(4)?, 10).filter(|inode| *inode != 0)?;
    Some((inode, Socket::Internet { protocol, local, remote, state, queues }))
}

/// `0100007F:1F90`: 32-bit words of the address as the machine's integers, and the port.
fn parse_address(word: &[u8]) -> Option<SocketAddr> {
    let (digits, port) = word.split_at_checked(word.iter().position(|&byte| byte == b':')?)?;
    let port = u16::try_from(in_base(port.get(1..)?, 16)?).ok()?;
    let mut bytes = [0; 16];
    if digits.len() != 8 && digits.len() != 32 {
        return None;
    }
    for (digits, bytes) in digits.chunks_exact(8).zip(bytes.chunks_exact_mut(4)) {
        bytes.copy_from_slice(&u32::try_from(in_base(digits, 16)?).ok()?.to_ne_bytes());
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
    let (_, _, _, flags) = (word()?, word()?, word()?, in_base(word()?, 16)?);
    let (kind, state) = (u16::try_from(in_base(word()?, 16)?).ok()?, u8::try_from(in_base(word()?, 16)?).ok()?);
    let inode = in_base(word()?, 10).filter(|inode| *inode != 0)?;
    let path = rest.strip_prefix(b" ").unwrap_or_default().to_vec();
    // __SO_ACCEPTCON.
    Some((inode, Socket::Unix { kind, listening: flags & 0x10000 != 0, state, path }))
}

/// `00000000:0000000B`: what waits to be sent, and to be read.
fn parse_queues(word: &[u8]) -> Option<Queues> {
    let (send, receive) = word.split_at_checked(word.iter().position(|&byte| byte == b':')?)?;
    let number = |digits| u32::try_from(in_base(digits, 16)?).ok();
    Some(Queues { receive: number(receive.get(1..)?)?, send: number(send)? })
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

/// A line of `netlink` (`netlink_native_seq_show`, net/netlink/af_netlink.c).
fn parse_netlink(line: &[u8]) -> Option<(u64, Socket)> {
    let mut words = words(line).skip(1);
    let (protocol, port) = (decimal(words.next()?)?, decimal(words.next()?)?);
    let queues = Queues { receive: decimal(words.nth(1)?)?, send: decimal(words.next()?)? };
    // Dump, locks, drops.
    let inode = decimal(words.nth(3)?).filter(|inode| *inode != 0)?;
    Some((inode, Socket::Netlink { protocol, port, queues }))
}

/// A line of `packet` (`packet_seq_show`, net/packet/af_packet.c).
fn parse_packet(line: &[u8]) -> Option<(u64, Socket)> {
    let mut words = words(line).skip(3);
    let protocol = u32::try_from(in_base(words.next()?, 16)?).ok()?;
    let interface = decimal(words.next()?)?;
    let queues = Queues { receive: decimal(words.nth(1)?)?, send: 0 };
    let inode = decimal(words.nth(1)?).filter(|inode| *inode != 0)?;
    Some((inode, Socket::Packet { interface, protocol, queues }))
}

#[cfg(test)]
mod tests {
    use super::*;

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
            for parse in [parse_unix, parse_netlink, parse_packet] {
                assert_eq!(parse(line), None);
            }
        }
    }

    #[test]
    fn netlink_and_packet_lines_are_read() {
        let line = b"000000007cb3a929 16  490    00000001 12       0        0     2        0        4711    ";
        let queues = Queues { receive: 12, send: 0 };
        assert_eq!(parse_netlink(line), Some((4711, Socket::Netlink { protocol: 16, port: 490, queues })));
        let line = b"000000007cb3a929 3      3    88cc   2     1 12     0      4712  ";
        assert_eq!(parse_packet(line), Some((4712, Socket::Packet { interface: 2, protocol: 0x88cc, queues })));
    }
}
