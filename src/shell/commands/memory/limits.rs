//! `limits`: the resource limits, and how near the process is to each.

#![forbid(unsafe_code)]

use std::ffi::CString;
use std::time::{Duration, Instant};

use super::human;
use super::mappings::SLICE;
use crate::config::level::Level;
use crate::inspect::descriptors;
use crate::inspect::limits::{self, Limit};
use crate::inspect::numbers::{decimal, kilobytes};
use crate::protocol::Status;
use crate::record;
use crate::shell::commands::{duration, fail, no_arguments};
use crate::shell::output::Output;
use crate::shell::record::Line;
use crate::shell::{Command, Job, Step, World};
use crate::sys::procfs::{self, File, read_small};
use crate::sys::{self, clock, process};

pub const COMMAND: Command = Command {
    name: "limits",
    level: Level::Observe,
    synopsis: "",
    summary: "Show the resource limits, soft and hard, with current use, and a note where that is above 80 %.",
    help: "limits\n\n\
           The kernel refuses at the soft limit; the process may raise it up to the hard one. Use is shown where it is\n\
           known. Threads are those of the real user, as far as /proc shows them: the kernel counts all of them against\n\
           the limit, and refuses nothing to a process with CAP_SYS_RESOURCE or CAP_SYS_ADMIN.",
    schemas: &[Row::schema],
    start: |words| {
        no_arguments(words)?;
        Ok(Box::new(List { count: None, user: 0, threads: 0 }))
    },
};

/// Use above this many percent of the soft limit is noted.
const NEAR: u64 = 80;

struct List {
    /// Processes whose threads were not counted yet.
    count: Option<std::vec::IntoIter<i32>>,
    user: u32,
    threads: u64,
}

fn status_of(path: &str, read: impl FnOnce(&dyn Fn(&str) -> Option<Vec<u8>>)) {
    let mut buffer = [0; process::STATUS_BYTES];
    let Ok(path) = CString::new(path) else { return };
    let status = read_small(libc::AT_FDCWD, &path, &mut buffer).unwrap_or_default();
    read(&|name| process::status_field(status, name).map(<[u8]>::to_vec));
}

/// The real user, the first number of `Uid`.
fn real_user(field: &[u8]) -> Option<u32> {
    decimal(field.split(u8::is_ascii_whitespace).next()?)
}

impl Job for List {
    fn step(&mut self, world: &mut World, out: &mut Output) -> Step {
        let end = Instant::now() + SLICE;
        let Some(rest) = &mut self.count else {
            status_of("/proc/thread-self/status", |field| {
                self.user = field("Uid").and_then(|uid| real_user(&uid)).unwrap_or_default();
            });
            let mut processes: Vec<i32> = Vec::new();
            if let Ok(folder) = File::open_at(libc::AT_FDCWD, c"/proc", libc::O_DIRECTORY) {
                let add =
                    |name: &std::ffi::CStr| processes.extend(name.to_str().ok().and_then(|it| it.parse::<i32>().ok()));
                // What cannot be listed is not counted.
                let _ = procfs::for_each_entry(&folder, add);
            }
            self.count = Some(processes.into_iter());
            return Step::More;
        };
        for pid in rest.by_ref() {
            status_of(&format!("/proc/{pid}/status"), |field| {
                if field("Uid").and_then(|uid| real_user(&uid)) == Some(self.user) {
                    self.threads += field("Threads").and_then(|count| decimal(&count)).unwrap_or(0u64);
                }
            });
            if Instant::now() >= end {
                return Step::More;
            }
        }
        let limits = match limits::read() {
            Ok(limits) => limits,
            Err(error) => return fail(out, &format!("cannot read /proc/self/limits: {}", error.desc())),
        };
        let used = Used::now(world, self.threads);
        out.note("LIMIT              SOFT          HARD          USED          WHAT\n");
        limits.iter().for_each(|limit| out.put(&Row::new(limit, used.of(limit.name))));
        Step::Done(Status::Success)
    }
}

/// What is used of what is limited.
struct Used(Vec<(&'static str, Option<u64>)>);

impl Used {
    fn now(world: &World, threads: u64) -> Self {
        let apart = sys::descriptors::is_private().then_some(world.own_tid);
        let open = descriptors::owner(apart).and_then(|tid| descriptors::numbers(tid).ok()).unwrap_or_default();
        let mut used = vec![("RLIMIT_NOFILE", Some(open.len() as u64)), ("RLIMIT_NPROC", Some(threads))];
        status_of("/proc/thread-self/status", |field| {
            let bytes = |name| field(name).and_then(|text| kilobytes(&text));
            // `1/96364`: queued, and the limit.
            let queued = field("SigQ").and_then(|text| decimal(text.split(|&byte| byte == b'/').next()?));
            used.extend([
                ("RLIMIT_AS", bytes("VmSize")),
                ("RLIMIT_DATA", bytes("VmData")),
                ("RLIMIT_STACK", bytes("VmStk")),
                ("RLIMIT_MEMLOCK", bytes("VmLck")),
                ("RLIMIT_RSS", bytes("VmRSS")),
                ("RLIMIT_SIGPENDING", queued),
            ]);
        });
        used.push(("RLIMIT_CPU", clock::now(libc::CLOCK_PROCESS_CPUTIME_ID).ok().map(|time| time.as_secs())));
        Self(used)
    }

    fn of(&self, name: &str) -> Option<u64> {
        self.0.iter().find(|(limit, _)| *limit == name)?.1
    }
}

record! {
    /// A resource limit.
    struct Row as "limit" {
        /// RLIMIT_* name.
        name: &'static str,
        /// What it limits.
        what: &'static str,
        /// descriptors, threads, bytes, seconds, locks, signals, microseconds; empty for priorities.
        unit: &'static str,
        /// What holds; null for no limit.
        soft: Option<u64>,
        /// Up to where the process may raise that; null for no limit.
        hard: Option<u64>,
        /// What is used now; null where that is not known.
        used: Option<u64>,
        /// Percent of the soft limit that is used; null where there is no limit or its use is not known.
        used_percent: Option<u64>,
        /// A warning when more than 80 % is used.
        note: Option<String>,
    }
}

impl Row {
    fn new(limit: &Limit, used: Option<u64>) -> Self {
        let percent = |used: u64, soft: u64| (u128::from(used) * 100 / u128::from(soft.max(1))).min(1000) as u64;
        let used_percent = used.zip(limit.soft).map(|(used, soft)| percent(used, soft));
        let note = used_percent.filter(|percent| *percent > NEAR).map(|percent| format!("{percent} % are used"));
        let Limit { name, title: what, unit, soft, hard } = *limit;
        Self { name, what, unit, soft, hard, used, used_percent, note }
    }

    fn shown(&self, value: u64) -> String {
        match self.unit {
            "bytes" => human(value),
            "seconds" => duration(Duration::from_secs(value)),
            "microseconds" => duration(Duration::from_micros(value)),
            _ => value.to_string(),
        }
    }
}

impl Line for Row {
    fn line(&self, out: &mut Vec<u8>) {
        let limit = |value: Option<u64>| value.map_or("unlimited".to_owned(), |value| self.shown(value));
        let used = self.used.map_or("-".to_owned(), |used| self.shown(used));
        let (soft, hard) = (limit(self.soft), limit(self.hard));
        let note = self.note.as_ref().map(|note| format!("; note: {note}")).unwrap_or_default();
        let text = format!("{:<18} {soft:<13} {hard:<13} {used:<13} {}{note}\n", self.name, self.what);
        out.extend_from_slice(text.as_bytes());
    }
}
