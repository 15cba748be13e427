//! What `locks` answers.
//!
//! Context: the observer.

#![forbid(unsafe_code)]

use std::fmt::Write;
use std::time::Duration;

use crate::inspect::strings::Escaped;
use crate::record;
use crate::shell::json::{Bytes, Hex};
use crate::shell::record::Line;

/// Waiters of one lock that eyes are shown.
const SHOWN: usize = 8;

record! {
    /// A thread that waits for a lock.
    pub struct Waiter as "waiter" {
        /// Its id.
        tid: i32,
        /// Its name.
        name: Bytes,
        /// What it wants: lock, read or write.
        wants: &'static str,
        /// Its wait ends by itself at some time.
        timed: bool,
        /// The innermost function outside of libc that it is in, with module.
        top: Option<String>,
        /// The mutex that it gave up while it waits for a condition variable.
        gave_up: Option<Hex>,
        /// The symbol of that mutex.
        gave_up_symbol: Option<String>,
    }
}

record! {
    /// The thread that holds a lock.
    pub struct Holder as "holder" {
        /// Its id, as the lock has it.
        tid: i32,
        /// Its name; null when there is no such thread.
        name: Option<Bytes>,
        /// What it does: runs, waits, blocks (in another system call), exited, elsewhere (a thread, but none of this
        /// process), or gone (it was not there, but moved or came back under our eyes).
        doing: &'static str,
        /// The system call that it blocks in.
        call: Option<String>,
        /// The innermost function outside of libc that it is in, with module.
        top: Option<String>,
        /// The number of the lock that it waits for.
        waits_for: Option<usize>,
    }
}

record! {
    /// Something that threads wait for.
    pub struct Lock as "lock" {
        /// Its number in this answer.
        number: usize,
        /// Its address; that of the futex word where no more is known.
        address: Hex,
        /// What it is: mutex, rwlock, condition variable, join, semaphore, futex …
        lock_kind: &'static str,
        /// Its type, as recursive or robust; empty where there is one only.
        flavour: String,
        /// Its state in words; empty where that is unknown.
        state: String,
        /// The symbol that covers it, with offset.
        symbol: Option<String>,
        /// The module or memory that it lies in.
        place: String,
        /// Who holds it; null where nobody does, or the lock does not record who.
        holder: Option<Holder>,
        /// How many readers hold it; which, nobody records.
        readers: Option<u32>,
        /// It is held, or may be, and does not record by whom.
        holder_unrecorded: bool,
        /// Who waits for it.
        waiters: Vec<Waiter>,
    }
}

record! {
    /// A thread in a cycle.
    pub struct Link as "link" {
        /// Its id.
        tid: i32,
        /// Its name.
        name: Bytes,
        /// The number of the lock that it waits for.
        lock: usize,
        /// That lock's address.
        address: Hex,
        /// What that lock is.
        lock_kind: &'static str,
        /// That lock's symbol.
        symbol: Option<String>,
        /// Who holds it: the next thread of the cycle.
        held_by: i32,
        /// The wait ends by itself at some time.
        timed: bool,
        /// Where the thread is.
        top: Option<String>,
    }
}

record! {
    /// Threads each of which waits for the next.
    pub struct Deadlock as "deadlock" {
        /// Its number in this answer.
        number: usize,
        /// The cycle, from its smallest thread id on.
        links: Vec<Link>,
        /// Threads that wait for one of these, or for one who does, and are not part of it.
        threads_behind: usize,
    }
}

record! {
    /// A thread that waits for no lock, and for which several others wait, directly or one behind the other.
    pub struct Convoy as "convoy" {
        /// The thread.
        head: Holder,
        /// How many wait.
        threads_behind: usize,
    }
}

record! {
    /// What was looked at.
    pub struct Summary as "lock_summary" {
        /// Threads that wait.
        threads: usize,
        /// For as many locks.
        locks: usize,
        /// Cycles.
        deadlocks: usize,
        /// Threads beyond the option max_threads.
        not_looked_at: usize,
        /// How long it took.
        seconds: Duration,
    }
}

/// `thread 71 "a"`.
pub fn thread(tid: i32, name: &Bytes) -> String {
    format!("thread {tid} \"{}\"", Escaped(&name.0))
}

/// `mutex 0x5581d0 (lock_b)`; the address alone where no symbol covers it.
fn lock(kind: &str, address: Hex, symbol: Option<&String>) -> String {
    let symbol = symbol.map_or_else(String::new, |symbol| format!(" ({symbol})"));
    format!("{kind} {:#x}{symbol}", address.0)
}

fn within(top: Option<&String>) -> String {
    top.map_or_else(String::new, |top| format!(" in {top}"))
}

impl Holder {
    /// `thread 75 "slow", which sits in read(0, …), in main+0x20 (app)`.
    fn text(&self) -> String {
        let who = match &self.name {
            Some(name) => thread(self.tid, name),
            None => format!("thread {}", self.tid),
        };
        let top = within(self.top.as_ref());
        let doing = match (self.doing, self.waits_for, &self.call) {
            ("exited", ..) => "which has exited: nobody will unlock it".to_owned(),
            ("elsewhere", ..) => "which is no thread of this process".to_owned(),
            ("gone", ..) => "which was not there a moment ago".to_owned(),
            ("waits", Some(number), _) => format!("which waits for lock {number},{top}"),
            (_, _, Some(call)) => format!("which sits in {call},{top}"),
            _ => format!("which runs,{top}"),
        };
        format!("{who}, {}", doing.trim_end_matches(','))
    }
}

impl Line for Lock {
    fn line(&self, out: &mut Vec<u8>) {
        let mut text = format!("LOCK {}: {}", self.number, lock(self.lock_kind, self.address, self.symbol.as_ref()));
        for part in [&self.place, &self.flavour, &self.state].into_iter().filter(|part| !part.is_empty()) {
            text.push_str(", ");
            text.push_str(part);
        }
        text.push('\n');
        // Writing into a String cannot fail, here and below.
        let _ = match (&self.holder, self.readers) {
            (Some(holder), _) if self.lock_kind == "join" => writeln!(text, "    of {}", holder.text()),
            (Some(holder), _) => writeln!(text, "    held by {}", holder.text()),
            (None, Some(_)) => writeln!(text, "    by which, a rwlock does not record"),
            (None, None) if self.holder_unrecorded => writeln!(text, "    held by a thread that is not recorded in it"),
            (None, None) => Ok(()),
        };
        for waiter in self.waiters.iter().take(SHOWN) {
            let wants = if waiter.wants == "lock" { "" } else { &format!(" to {}", waiter.wants) };
            let timed = if waiter.timed { ", for a limited time" } else { "" };
            let mutex = waiter.gave_up.map(|mutex| lock(", without mutex", mutex, waiter.gave_up_symbol.as_ref()));
            let _ = writeln!(
                text,
                "    awaited{wants} by {}{}{}{timed}",
                thread(waiter.tid, &waiter.name),
                within(waiter.top.as_ref()),
                mutex.unwrap_or_default()
            );
        }
        if self.waiters.len() > SHOWN {
            let _ = writeln!(text, "    and by {} more threads", self.waiters.len() - SHOWN);
        }
        out.extend_from_slice(text.as_bytes());
    }
}

impl Line for Deadlock {
    fn line(&self, out: &mut Vec<u8>) {
        let mut text = format!("DEADLOCK {}: ", self.number);
        for (index, link) in self.links.iter().enumerate() {
            let who = if index == 0 { thread(link.tid, &link.name) } else { "which".to_owned() };
            let next = self.links.get(index + 1).or(self.links.first());
            let next = next.map_or_else(String::new, |next| thread(next.tid, &next.name));
            let itself = self.links.len() == 1;
            let what = match link.lock_kind {
                "join" if itself => "its own end".to_owned(),
                "join" => format!("the end of {next}"),
                kind => {
                    let lock = lock(kind, link.address, link.symbol.as_ref());
                    if itself { format!("{lock} that it holds itself") } else { format!("{lock} held by {next}") }
                }
            };
            let _ = write!(text, "{}{who} waits for {what}", if index == 0 { "" } else { ", " });
        }
        text.push('\n');
        for link in &self.links {
            let timed = if link.timed { "; its wait is limited, and then ends the cycle" } else { "" };
            let _ = writeln!(text, "    {}{}{timed}", thread(link.tid, &link.name), within(link.top.as_ref()));
        }
        if self.threads_behind > 0 {
            let (threads, wait) = if self.threads_behind == 1 { ("thread", "waits") } else { ("threads", "wait") };
            let _ = writeln!(text, "    {} more {threads} {wait} for these", self.threads_behind);
        }
        out.extend_from_slice(text.as_bytes());
    }
}

impl Line for Convoy {
    fn line(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(
            format!("CONVOY: {} threads stand behind {}\n", self.threads_behind, self.head.text()).as_bytes(),
        );
    }
}

impl Line for Summary {
    fn line(&self, out: &mut Vec<u8>) {
        let Self { threads, locks, .. } = self;
        let deadlocks = match self.deadlocks {
            0 => "no deadlock among those whose holder is known".to_owned(),
            1 => "1 deadlock".to_owned(),
            count => format!("{count} deadlocks"),
        };
        let cut = match self.not_looked_at {
            0 => String::new(),
            count => format!("; {count} threads were not looked at (option max_threads)"),
        };
        let took = self.seconds.as_secs_f64() * 1e3;
        let threads = format!("{threads} {}", if *threads == 1 { "thread waits" } else { "threads wait" });
        let locks = format!("{locks} {}", if *locks == 1 { "lock" } else { "locks" });
        let line = format!("{threads} for {locks}; {deadlocks}{cut}; {took:.1} ms\n");
        out.extend_from_slice(line.as_bytes());
    }
}

// Eyes get these inside of others.
impl Line for Waiter {
    fn line(&self, _: &mut Vec<u8>) {}
}
impl Line for Holder {
    fn line(&self, _: &mut Vec<u8>) {}
}
impl Line for Link {
    fn line(&self, _: &mut Vec<u8>) {}
}
