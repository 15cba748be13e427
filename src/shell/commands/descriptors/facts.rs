//! A descriptor's row, put together from what the kernel says in several places.
//!
//! Context: the observer. Nothing of the application's is opened: a named pipe or a device would notice.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use super::records::{Connection, End, InotifyWatch, Row, TimerState, Watched};
use crate::inspect::descriptors::holders::Search;
use crate::inspect::descriptors::info::{self, Info};
use crate::inspect::descriptors::{self, Access, Link, kinds, names};
use crate::inspect::signals;
use crate::inspect::sockets::{self, Socket, Sockets};
use crate::inspect::syscalls::OpenFlags;
use crate::redirect::tap;
use crate::shell::World;
use crate::shell::json::{Bytes, Hex};
use crate::sys;
use crate::sys::mounts::Mounts;
use crate::sys::procfs;

/// Entries of a list that are shown of a descriptor that is one among many, and of one that was asked for.
pub const FEW: usize = 20;
const ALL: usize = 100_000;

/// What the rows of one command have in common.
pub struct Table {
    /// A thread that has it.
    pub tid: i32,
    sockets: Sockets,
    mounts: Mounts,
    /// Who has what open in this process for reading, and for writing: pipes, sockets and paths.
    holders: BTreeMap<Vec<u8>, [Vec<(i32, Access)>; 2]>,
    /// Pipes and sockets that the observer has open.
    ours: BTreeSet<Vec<u8>>,
    /// Who has what open in others, when that was asked for.
    pub search: Option<Search>,
}

/// A descriptor and what is known at first sight.
pub struct Sight {
    /// Its number.
    pub number: i32,
    /// What its link says.
    pub link: Link,
    /// What it is, in a word.
    pub kind: &'static str,
    info: Info,
    /// Entries of a list that are shown.
    limit: usize,
    size: Option<u64>,
    deleted: bool,
    inode: Option<u64>,
    not_asked: Option<String>,
}

fn is_shareable(target: &[u8]) -> bool {
    target.starts_with(b"pipe:[") || target.starts_with(b"socket:[") || target.starts_with(b"/")
}

fn socket_link(inode: u64) -> Vec<u8> {
    format!("socket:[{inode}]").into_bytes()
}

impl Table {
    /// That of the application, nothing of it read.
    pub fn new(world: &World) -> Result<Self, String> {
        let apart = sys::descriptors::is_private().then_some(world.own_tid);
        let tid = descriptors::owner(apart).ok_or_else(|| match procfs::thread_ids() {
            Ok(_) => "the application has no descriptor open".to_owned(),
            Err(error) => format!("cannot list /proc/self/task: {}", error.desc()),
        })?;
        let ours = apart.and_then(|own| descriptors::channels(own).ok()).unwrap_or_default().into_iter().collect();
        let (sockets, mounts) = (Sockets::default(), Mounts::read());
        Ok(Self { tid, sockets, mounts, holders: BTreeMap::new(), ours, search: None })
    }

    /// Remembers what `number` has open, for the others' rows.
    pub fn note(&mut self, number: i32) {
        let Some(link) = self.link(number) else { return };
        if is_shareable(&link.target) {
            let [readers, writers] = self.holders.entry(link.target).or_default();
            readers.extend(link.access.read.then_some((number, link.access)));
            writers.extend(link.access.write.then_some((number, link.access)));
        }
    }

    /// What a descriptor's link says; `None` when it is not open any more.
    pub fn link(&self, number: i32) -> Option<Link> {
        descriptors::read(self.tid, number).ok()
    }

    /// Looks at a descriptor, whose list is wanted to its end if it was `asked_for` by its number.
    pub fn look(&self, number: i32, link: Link, asked_for: bool) -> Sight {
        let limit = if asked_for { ALL } else { FEW };
        let info = info::read(self.tid, number, limit).unwrap_or_default();
        let mut sight = Sight {
            number,
            limit,
            kind: kinds::named(&link.target).unwrap_or("path"),
            size: None,
            deleted: false,
            inode: info.inode,
            not_asked: None,
            link,
            info,
        };
        match sight.kind {
            "socket" => {
                sight.kind = match self.sockets.find(&sight.link.target) {
                    Some(socket) => socket.word(),
                    None => descriptors::protocol(self.tid, number).map_or("socket", |name| kinds::by_protocol(&name)),
                };
                sight.inode = sockets::inode(&sight.link.target);
            }
            "path" => match self.mounts.refuses(sight.info.mount) {
                None => self.ask(&mut sight),
                why => {
                    sight.not_asked = why;
                    let is_folder = sight.info.flags.is_some_and(|flags| flags & libc::O_DIRECTORY != 0);
                    sight.kind = if is_folder { "directory" } else { "path" };
                    sight.deleted = sight.link.target.ends_with(b" (deleted)");
                }
            },
            "memfd" => {
                self.ask(&mut sight);
                sight.kind = "memfd";
            }
            _ => (),
        }
        sight
    }

    fn ask(&self, sight: &mut Sight) {
        let Ok(status) = descriptors::status(self.tid, sight.number) else { return };
        sight.kind = kinds::by_mode(status.mode);
        sight.size = status.is_regular().then_some(status.size);
        sight.deleted = status.nameless && !sight.link.target.starts_with(b"/memfd:");
        sight.inode = Some(status.inode);
    }

    /// What to look for in other processes for the sake of a row.
    pub fn wanted(&self, sight: &Sight) -> Vec<Vec<u8>> {
        let target = &sight.link.target;
        if let Some(inode) = sockets::inode(target) {
            return [target.clone()].into_iter().chain(self.sockets.peer(inode).map(socket_link)).collect();
        }
        if matches!(sight.kind, "pipe" | "fifo") { vec![target.clone()] } else { Vec::new() }
    }

    /// The row of a descriptor.
    pub fn row(&self, sight: Sight) -> Row {
        let (ends, end_count) = self.ends(&sight);
        let socket = sockets::inode(&sight.link.target).map(|inode| self.connection(&sight, inode));
        let role = self.role(&sight);
        let Sight { number, link, info, kind, size, deleted, inode, not_asked, .. } = sight;
        let watch = |watch: &info::Watch| InotifyWatch {
            wd: watch.descriptor,
            inode: watch.inode,
            device: format!("{}:{}", watch.device >> 20, watch.device & 0xf_ffff),
            events: names::inotify_mask(watch.mask),
        };
        let timer = |timer: info::Timer| TimerState {
            clock: names::clock(timer.clock),
            flags: names::timer_flags(timer.flags),
            remaining: timer.remaining,
            interval: timer.interval,
            unread: timer.ticks,
        };
        Row {
            fd: number,
            file_type: kind,
            access: link.access.word(),
            target: Bytes(link.target),
            flags: info.flags.map(|flags| OpenFlags(flags).to_string()),
            position_bytes: info.position.filter(|_| kinds::has_position(kind)),
            size_bytes: size,
            deleted,
            not_asked,
            inode,
            socket,
            ends,
            end_count,
            interests: info.interests.iter().map(|interest| self.interest(interest)).collect(),
            interest_count: info.interest_count,
            watches: info.watches.iter().map(watch).collect(),
            watch_count: info.watch_count,
            event_count: info.event_count,
            semaphore: info.is_semaphore,
            timer: info.timer.map(timer),
            signals: info.signals.map(signals::names),
            pid: info.pid,
            locks: info.locks.into_iter().map(Bytes).collect(),
            role,
        }
    }

    fn interest(&self, interest: &info::Interest) -> Watched {
        let link = descriptors::read(self.tid, interest.number).ok();
        let inode = interest.inode.and_then(|_| info::read(self.tid, interest.number, 0).ok()?.inode);
        let stale = link.is_none() || inode.is_some() && inode != interest.inode;
        let describe = |link: Link| match self.sockets.find(&link.target) {
            Some(socket) => socket.to_string().into_bytes(),
            None => link.target,
        };
        Watched {
            fd: interest.number,
            events: names::epoll_events(interest.events),
            data: Hex(interest.data),
            target: link.map(describe).map(Bytes),
            stale,
        }
    }

    fn connection(&self, sight: &Sight, inode: u64) -> Connection {
        let peer_inode = self.sockets.peer(inode);
        let Some(socket) = self.sockets.find(&sight.link.target) else {
            let protocol = descriptors::protocol(self.tid, sight.number).map(|name| format!("{name} "));
            let protocol = protocol.unwrap_or_default();
            return Connection {
                description: format!("{protocol}socket:[{inode}], not in /proc/net (no address, or other namespace)"),
                state: None,
                local: None,
                remote: None,
                receive_queue: None,
                send_queue: None,
                peer_inode,
            };
        };
        let (local, remote) = match socket {
            Socket::Internet { local, remote, .. } => {
                let connected = !remote.ip().is_unspecified() || remote.port() != 0;
                (Some(local.to_string().into_bytes()), connected.then(|| remote.to_string()))
            }
            Socket::Unix { path, .. } => (Some(path.clone()).filter(|path| !path.is_empty()), None),
            Socket::Netlink { .. } | Socket::Packet { .. } => (None, None),
        };
        let pair = matches!(socket, Socket::Unix { .. }).then(|| self.sockets.pair(inode)).flatten();
        let queues = socket.queues().map(|queues| (queues.receive, queues.send));
        let queues = queues.or(pair.map(|pair| (pair.receive_queue, pair.send_queue)));
        Connection {
            description: socket.to_string(),
            state: socket.state(),
            local: local.map(Bytes),
            remote,
            receive_queue: queues.map(|queues| queues.0),
            send_queue: queues.map(|queues| queues.1),
            peer_inode,
        }
    }

    /// The other ends in this process, and whatever the search has found in others; how many there are.
    fn ends(&self, sight: &Sight) -> (Vec<End>, usize) {
        let (target, access) = (&sight.link.target, sight.link.access);
        let is_pipe = matches!(sight.kind, "pipe" | "fifo");
        let peer = sockets::inode(target).and_then(|inode| self.sockets.peer(inode)).map(socket_link);
        let opposite = if is_pipe { Some(target) } else { peer.as_ref() };
        let mut ends = Ends { limit: sight.limit, list: Vec::new(), count: 0 };
        if let Some([readers, writers]) = opposite.and_then(|link| self.holders.get(link)) {
            // What one writes the other reads; a socket is open for both.
            let facing = [(access.read && is_pipe, writers), (access.write, readers)];
            for (number, other) in facing.into_iter().filter(|(faces, _)| *faces).flat_map(|(_, numbers)| numbers) {
                if *number != sight.number {
                    ends.add(|| End { relation: OTHER, fd: *number, pid: None, process: None, access: other.word() });
                }
            }
        }
        let Some(search) = &self.search else { return (ends.list, ends.count) };
        let faces = |other: Access| access.write && other.read || access.read && other.write;
        let same = search.holders(target).iter().map(|holder| {
            let relation = if is_pipe && faces(holder.access) { OTHER } else { SAME };
            (holder, relation)
        });
        let others = peer.as_ref().map(|peer| search.holders(peer)).unwrap_or_default();
        for (holder, relation) in same.chain(others.iter().map(|holder| (holder, OTHER))) {
            ends.add(|| End {
                relation,
                fd: holder.number,
                pid: Some(holder.pid),
                process: Some(Bytes(holder.name.clone())),
                access: holder.access.word(),
            });
        }
        (ends.list, ends.count)
    }

    fn role(&self, sight: &Sight) -> Option<&'static str> {
        if let Some((number, identity)) = tap::kept()
            && number == sight.number
            && sight.inode == Some(identity.1)
        {
            return Some("the application's standard error, kept while a session sees it");
        }
        if self.ours.contains(&sight.link.target) {
            return Some(if sight.number == 2 { "a session sees standard error" } else { "for a moment" });
        }
        sys::lent::is_noted(sight.number).then_some("it serves this")
    }
}

/// The first ends of many.
struct Ends {
    limit: usize,
    list: Vec<End>,
    count: usize,
}

impl Ends {
    fn add(&mut self, end: impl FnOnce() -> End) {
        self.count += 1;
        if self.list.len() < self.limit {
            self.list.push(end());
        }
    }
}

const OTHER: &str = "other_end";
const SAME: &str = "same";
