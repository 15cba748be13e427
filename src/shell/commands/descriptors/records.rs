//! What `fds` answers with, and its lines.

#![forbid(unsafe_code)]

use std::fmt::Write;
use std::time::Duration;

use crate::inspect::strings::Escaped;
use crate::record;
use crate::shell::commands::duration;
use crate::shell::json::{Bytes, Hex};
use crate::shell::record::Line;

record! {
    /// A descriptor that has the same thing open.
    pub struct End as "end" {
        /// other_end: what one writes the other reads; same: the very same socket, or the same end of the pipe.
        relation: &'static str,
        /// Its number, in its process.
        fd: i32,
        /// That process; null for this one.
        pid: Option<i32>,
        /// Its name; null for this one.
        process: Option<Bytes>,
        /// r, w or rw.
        access: &'static str,
    }
}

record! {
    /// What is known of a socket.
    pub struct Connection as "socket" {
        /// TCP, UDP, UNIX and so on, with both addresses and the state, as in the text.
        description: String,
        /// LISTEN, ESTABLISHED, CONNECTED and so on, where there is such.
        state: Option<&'static str>,
        /// Its own address, or the path or name it is bound to.
        local: Option<Bytes>,
        /// Its peer's address.
        remote: Option<String>,
        /// Bytes that wait to be read; of one that listens, connections that wait to be accepted.
        receive_queue: Option<u32>,
        /// Bytes that the peer has not taken; of a Unix socket that listens, how many connections may wait.
        send_queue: Option<u32>,
        /// The inode of the socket at its other end, where that is on this machine.
        peer_inode: Option<u64>,
    }
}

record! {
    /// One descriptor in an epoll instance.
    pub struct Watched as "interest" {
        /// The number it was added by.
        fd: i32,
        /// EPOLL* names, without EPOLLERR and EPOLLHUP, which the kernel adds always.
        events: String,
        /// What epoll_wait answers with.
        data: Hex,
        /// What has that number open now.
        target: Option<Bytes>,
        /// The number has another file open now than the one that was added, or none.
        stale: bool,
    }
}

record! {
    /// A watch of an inotify instance.
    pub struct InotifyWatch as "watch" {
        /// Its number.
        wd: u64,
        /// What it watches: the inode.
        inode: u64,
        /// Its device, as MAJOR:MINOR.
        device: String,
        /// IN_* names.
        events: String,
    }
}

record! {
    /// A timer.
    pub struct TimerState as "timer" {
        /// CLOCK_* name.
        clock: String,
        /// The flags of timerfd_settime by name; 0 for none.
        flags: String,
        /// Seconds until it expires; 0 when it is not armed.
        remaining: Duration,
        /// Seconds between expirations; 0 for a timer that expires once.
        interval: Duration,
        /// Expirations that were not read.
        unread: u64,
    }
}

record! {
    /// An open descriptor of the application.
    pub struct Row as "descriptor" {
        /// Its number.
        fd: i32,
        /// file, directory, device, disk, pipe, fifo, tcp, udp, unix, netlink, packet, socket (of another kind), epoll,
        /// eventfd, timerfd, signalfd, inotify, pidfd, memfd, io_uring, userfaultfd, anonymous and so on.
        file_type: &'static str,
        /// As its link in /proc says it: a path, or socket:[INODE], pipe:[INODE], anon_inode:KIND.
        target: Bytes,
        /// r, w, rw, or - for O_PATH.
        access: &'static str,
        /// O_* names, with O_CLOEXEC where the descriptor has it.
        flags: Option<String>,
        /// Where the next read or write goes, in a file.
        position_bytes: Option<u64>,
        /// How long the file is.
        size_bytes: Option<u64>,
        /// The file has no name any more.
        deleted: bool,
        /// Why the file was not asked for its kind and size: its file system may hang.
        not_asked: Option<String>,
        /// Its inode.
        inode: Option<u64>,
        /// Of a socket.
        socket: Option<Connection>,
        /// Who holds the other ends, or shares it: in this process, and with --peers in others. At most 20, unless the
        /// descriptor is asked for by its number.
        ends: Vec<End>,
        /// How many there are.
        end_count: usize,
        /// Of an epoll instance: what it waits for, with the same limit.
        interests: Vec<Watched>,
        /// How many there are.
        interest_count: usize,
        /// Of an inotify instance: what it watches, with the same limit.
        watches: Vec<InotifyWatch>,
        /// How many there are.
        watch_count: usize,
        /// Of an eventfd: its count.
        event_count: Option<u64>,
        /// Of an eventfd: it counts down by one (known since Linux 6.5).
        semaphore: bool,
        /// Of a timerfd.
        timer: Option<TimerState>,
        /// Of a signalfd: the signals that it takes.
        signals: Option<Vec<String>>,
        /// Of a pidfd: the process, -1 when that was waited for.
        pid: Option<i32>,
        /// Locks on the file, as /proc/locks has them.
        locks: Vec<Bytes>,
        /// What it is to the manhole, when it is anything.
        role: Option<&'static str>,
    }
}

record! {
    /// With --peers: how far the search through other processes went.
    pub struct Searched as "searched" {
        /// Processes that may not be looked at with this process's rights.
        refused: usize,
        /// There are more holders than were looked at.
        cut: bool,
    }
}

/// The columns of [`Row`].
pub const HEADING: &str = "   FD TYPE       FLAGS                             WHAT\n";
const INDENT: &str = "                                                   ";

impl Row {
    /// The thing itself, in a line.
    fn what(&self, out: &mut Vec<u8>) {
        match (&self.socket, self.detail()) {
            (Some(socket), _) => socket.line(out),
            (None, Some(detail)) => out.extend_from_slice(detail.as_bytes()),
            (None, None) => out.extend_from_slice(Escaped(&self.target.0).to_string().as_bytes()),
        }
        if let Some(timer) = &self.timer {
            timer.line(out);
        }
        let mut text = String::new();
        // Writing into a String or a Vec cannot fail, here and below.
        let _ = match (self.position_bytes, self.size_bytes) {
            (Some(position), Some(size)) => write!(text, " at {position} of {size} bytes"),
            (Some(position @ 1..), None) => write!(text, " at {position}"),
            _ => Ok(()),
        };
        if let Some(why) = &self.not_asked {
            let _ = write!(text, " ({why})");
        }
        if let Some(role) = self.role {
            let _ = write!(text, " [the manhole's: {role}]");
        }
        out.extend_from_slice(text.as_bytes());
    }

    /// What says more than its link does.
    fn detail(&self) -> Option<String> {
        if let Some(count) = self.event_count {
            return Some(format!("count {count}{}", if self.semaphore { " (semaphore)" } else { "" }));
        }
        if let Some(signals) = &self.signals {
            return Some(signals.join(" "));
        }
        Some(match (self.file_type, self.pid) {
            ("timerfd", _) if self.timer.is_some() => String::new(),
            ("pidfd", Some(-1)) => "a process that has ended".to_owned(),
            ("pidfd", Some(pid)) => format!("process {pid}"),
            ("epoll", _) => format!("{} of interest", self.interest_count),
            ("inotify", _) => format!("{} watched", self.watch_count),
            _ => return None,
        })
    }

    /// Lines of their own, indented.
    fn under(&self, lines: &mut Vec<u8>, part: &dyn Line) {
        lines.extend_from_slice(INDENT.as_bytes());
        part.line(lines);
        lines.push(b'\n');
    }

    fn more(&self, lines: &mut Vec<u8>, shown: usize, count: usize) {
        if shown < count {
            let text = format!("{INDENT}and {} more: fds {}\n", count - shown, self.fd);
            lines.extend_from_slice(text.as_bytes());
        }
    }
}

impl Line for TimerState {
    fn line(&self, out: &mut Vec<u8>) {
        let mut text = self.clock.clone();
        if self.remaining.is_zero() {
            text.push_str(" not armed");
        } else {
            let _ = write!(text, " expires in {}", duration(self.remaining));
        }
        if !self.interval.is_zero() {
            let _ = write!(text, ", then every {}", duration(self.interval));
        }
        if self.flags != "0" {
            let _ = write!(text, ", {}", self.flags);
        }
        if self.unread > 0 {
            let _ = write!(text, ", {} expirations not read", self.unread);
        }
        out.extend_from_slice(text.as_bytes());
    }
}

impl Line for Connection {
    fn line(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.description.as_bytes());
        let (receive, send) = (self.receive_queue.unwrap_or(0), self.send_queue.unwrap_or(0));
        if self.state == Some("LISTEN") {
            out.extend_from_slice(format!(", {receive} wait to be accepted").as_bytes());
        } else if (receive, send) != (0, 0) {
            // Of a Unix socket the kernel counts its buffers, not the bytes in them.
            let unit = if self.description.starts_with("UNIX") { " bytes of buffers" } else { "" };
            out.extend_from_slice(format!(", {receive} bytes to read, {send}{unit} sent and not taken").as_bytes());
        }
    }
}

impl Line for End {
    fn line(&self, out: &mut Vec<u8>) {
        let Self { fd, access, .. } = self;
        let relation = if self.relation == "same" { "shared with" } else { "<->" };
        let text = match (self.pid, &self.process) {
            (Some(pid), Some(name)) => format!("{relation} fd {fd} of {pid} ({}) {access}", Escaped(&name.0)),
            _ => format!("{relation} fd {fd} {access}"),
        };
        out.extend_from_slice(text.as_bytes());
    }
}

impl Line for Watched {
    fn line(&self, out: &mut Vec<u8>) {
        let what = match &self.target {
            _ if self.stale => "another file than this number is now".to_owned(),
            Some(target) => Escaped(&target.0).to_string(),
            None => String::new(),
        };
        out.extend_from_slice(format!("fd {} {} data {:#x}  {what}", self.fd, self.events, self.data.0).as_bytes());
    }
}

impl Line for InotifyWatch {
    fn line(&self, out: &mut Vec<u8>) {
        let Self { wd, inode, device, events } = self;
        out.extend_from_slice(format!("wd {wd} inode {inode} on device {device} {events}").as_bytes());
    }
}

impl Line for Row {
    fn line(&self, out: &mut Vec<u8>) {
        let flags = self.flags.as_deref().unwrap_or("?");
        out.extend_from_slice(format!("{:>5} {:<10} {flags:<33} ", self.fd, self.file_type).as_bytes());
        self.what(out);
        out.push(b'\n');
        self.ends.iter().for_each(|end| self.under(out, end));
        self.more(out, self.ends.len(), self.end_count);
        self.interests.iter().for_each(|interest| self.under(out, interest));
        self.more(out, self.interests.len(), self.interest_count);
        self.watches.iter().for_each(|watch| self.under(out, watch));
        self.more(out, self.watches.len(), self.watch_count);
        for lock in &self.locks {
            out.extend_from_slice(format!("{INDENT}lock {}\n", Escaped(&lock.0)).as_bytes());
        }
    }
}

impl Line for Searched {
    fn line(&self, out: &mut Vec<u8>) {
        if self.refused > 0 {
            let text = format!("{} processes of others may hold ends, and may not be looked at\n", self.refused);
            out.extend_from_slice(text.as_bytes());
        }
        if self.cut {
            out.extend_from_slice(b"there may be more holders than are shown\n");
        }
    }
}
