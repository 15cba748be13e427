//! `fds`: every descriptor of the application, and what the kernel knows of it.

#![forbid(unsafe_code)]

mod facts;
mod records;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::fail;
use crate::config::glob;
use crate::config::level::Level;
use crate::inspect::descriptors;
use crate::inspect::descriptors::holders::Search;
use crate::inspect::descriptors::kinds;
use crate::protocol::Status;
use crate::shell::output::Output;
use crate::shell::parse::Arguments;
use crate::shell::{Command, Job, Step, World};
use facts::{Sight, Table};
use records::{HEADING, Row, Searched};

const PEERS: &str = "--peers";

pub const COMMAND: Command = Command {
    name: "fds",
    level: Level::Observe,
    synopsis: "[FD|TYPE|GLOB...] [--peers]",
    summary: "List the open descriptors: what each is, flags, position, addresses and queues, other ends, epoll interests.",
    help: "fds                     all of them\n\
           fds 7 12                these two, with their lists uncut\n\
           fds tcp unix            by type: file, directory, device, pipe, fifo, socket, tcp, udp, unix, netlink, epoll,\n\
           \x20                       eventfd, timerfd, signalfd, inotify, pidfd, memfd, io_uring and so on\n\
           fds '/var/log/*'        by what the link in /proc says\n\
           fds pipe --peers        also which other processes hold the ends\n\n\
           Other ends are those in this process; --peers looks through all processes that it may look at (some\n\
           microseconds for each descriptor of the machine). Nothing is opened. A file on a network file system is not\n\
           asked for its size: the server may be what the process hangs on. While the kernel writes the list of an epoll\n\
           instance, its epoll_wait waits: milliseconds with 10,000 descriptors.",
    schemas: &[Row::schema, Searched::schema],
    start: |words| {
        let arguments = Arguments::parse(words, &[PEERS], &[])?;
        let which = arguments.rest.iter().map(|word| Which::new(word)).collect();
        let with_peers = arguments.has(PEERS);
        Ok(Box::new(List { which, with_peers, table: None, numbers: Vec::new(), stage: Stage::Noting(0), shown: 0 }))
    },
};

/// How long a step works.
const SLICE: Duration = Duration::from_millis(4);
/// How often a long search is remarked upon.
const REMARK: Duration = Duration::from_secs(2);

/// What was asked for.
enum Which {
    Number(i32),
    Type(String),
    Glob(String),
}

impl Which {
    fn new(word: &str) -> Self {
        match word.parse() {
            Ok(number) => Self::Number(number),
            Err(_) if kinds::is_kind(word) => Self::Type(word.to_owned()),
            Err(_) => Self::Glob(word.to_owned()),
        }
    }

    /// Whether a descriptor may be meant, by what its link alone says.
    fn may_select(&self, number: i32, target: &[u8]) -> bool {
        match self {
            Self::Number(wanted) => *wanted == number,
            // The kinds of sockets, and of what has a path, show later.
            Self::Type(word) => kinds::named(target).is_none_or(|kind| kind == "socket" || kind == word),
            Self::Glob(glob) => glob::matches(glob.as_bytes(), target),
        }
    }

    fn selects(&self, sight: &Sight) -> bool {
        match self {
            Self::Number(number) => *number == sight.number,
            Self::Type(word) => word == sight.kind || word == "socket" && sight.link.target.starts_with(b"socket:["),
            Self::Glob(glob) => glob::matches(glob.as_bytes(), &sight.link.target),
        }
    }
}

struct List {
    which: Vec<Which>,
    with_peers: bool,
    table: Option<Table>,
    numbers: Vec<i32>,
    stage: Stage,
    shown: usize,
}

enum Stage {
    /// What each of the numbers from this one on refers to.
    Noting(usize),
    /// What to look for in other processes.
    Wanting(usize, BTreeSet<Vec<u8>>),
    Searching {
        since: Instant,
    },
    Showing(usize),
}

impl Job for List {
    fn step(&mut self, world: &mut World, out: &mut Output) -> Step {
        let end = Instant::now() + SLICE;
        let Some(table) = &mut self.table else { return self.begin(world, out) };
        match &mut self.stage {
            Stage::Noting(next) => {
                while let Some(number) = self.numbers.get(*next).filter(|_| Instant::now() < end) {
                    table.note(*number);
                    *next += 1;
                }
                if *next >= self.numbers.len() {
                    let next = if self.with_peers { Stage::Wanting(0, BTreeSet::new()) } else { Stage::Showing(0) };
                    self.stage = next;
                }
            }
            Stage::Wanting(next, wanted) => {
                while let Some(number) = self.numbers.get(*next).filter(|_| Instant::now() < end) {
                    let sight = selected(&self.which, table, *number);
                    wanted.extend(sight.iter().flat_map(|sight| table.wanted(sight)));
                    *next += 1;
                }
                if *next >= self.numbers.len() {
                    match Search::new(std::mem::take(wanted)) {
                        Ok(search) => table.search = Some(search),
                        Err(error) => return fail(out, &format!("cannot list /proc: {}", error.desc())),
                    }
                    self.stage = Stage::Searching { since: Instant::now() };
                }
            }
            Stage::Searching { since } => {
                let Some(search) = &mut table.search else { return fail(out, "nothing was searched for") };
                while search.step() {
                    if Instant::now() < end {
                        continue;
                    }
                    if since.elapsed() < REMARK {
                        return Step::More;
                    }
                    *since = Instant::now();
                    return Step::Remark(format!("looking through other processes, {} to go", search.left()));
                }
                self.stage = Stage::Showing(0);
            }
            Stage::Showing(next) => {
                while let Some(number) = self.numbers.get(*next).filter(|_| Instant::now() < end) {
                    *next += 1;
                    if let Some(sight) = selected(&self.which, table, *number) {
                        self.shown += 1;
                        out.put(&table.row(sight));
                    }
                }
                if *next >= self.numbers.len() {
                    return self.end(out);
                }
            }
        }
        Step::More
    }
}

/// Looks at a descriptor if it is open and meant.
fn selected(which: &[Which], table: &Table, number: i32) -> Option<Sight> {
    let link = table.link(number)?;
    if !which.is_empty() && !which.iter().any(|which| which.may_select(number, &link.target)) {
        return None;
    }
    let asked_for = which.iter().any(|which| matches!(which, Which::Number(wanted) if *wanted == number));
    let sight = table.look(number, link, asked_for);
    (which.is_empty() || which.iter().any(|which| which.selects(&sight))).then_some(sight)
}

impl List {
    fn begin(&mut self, world: &World, out: &mut Output) -> Step {
        let table = match Table::new(world) {
            Ok(table) => table,
            Err(error) => return fail(out, &error),
        };
        match descriptors::numbers(table.tid) {
            Ok(numbers) => self.numbers = numbers,
            Err(error) => {
                return fail(out, &format!("cannot list the descriptors of thread {}: {}", table.tid, error.desc()));
            }
        }
        out.note(HEADING);
        self.table = Some(table);
        Step::More
    }

    fn end(&self, out: &mut Output) -> Step {
        if let Some(search) = self.table.as_ref().and_then(|table| table.search.as_ref()) {
            out.put(&Searched { refused: search.refused, cut: search.is_cut });
        }
        match self.which.first() {
            Some(which) if self.shown == 0 => match which {
                Which::Number(number) => fail(out, &format!("descriptor {number} is not open")),
                Which::Type(word) | Which::Glob(word) => fail(out, &format!("no descriptor matches {word:?}")),
            },
            _ => Step::Done(Status::Success),
        }
    }
}
