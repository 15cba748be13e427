//! `cgroup`: the process's control groups, and the limits that hold.

#![forbid(unsafe_code)]

use super::super::memory::human;
use super::{application_thread, fact, no_arguments, once};
use crate::config::level::Level;
use crate::inspect::cgroup::{self, Group, pair};
use crate::inspect::strings::Escaped;
use crate::record;
use crate::shell::Command;
use crate::shell::output::Output;
use crate::shell::record::Line;

pub const COMMAND: Command = Command {
    name: "cgroup",
    level: Level::Observe,
    synopsis: "",
    summary: "Show the process's control groups, and the limits on memory, CPU and processes that hold, with usage.",
    help: "Both versions of control groups. A limit of any group above holds too: the least one is shown, and the folder\n\
           where it stands, up to the root of what is visible here. Usage is that of the process's own group, with all\n\
           others in it.",
    schemas: &[Membership::schema, Memory::schema, Cpu::schema, Processes::schema],
    start: |arguments| {
        no_arguments(arguments)?;
        Ok(once(|world, out| {
            let tid = application_thread(world)?;
            let groups =
                cgroup::groups(tid).map_err(|error| format!("cannot read /proc/self/cgroup: {}", error.desc()))?;
            show(&groups, out);
            Ok(())
        }))
    },
};

record! {
    /// A hierarchy of control groups that the process is in.
    struct Membership as "cgroup" {
        /// 1 or 2.
        version: u8,
        /// The controllers of a hierarchy of version 1; empty for version 2.
        controllers: Vec<String>,
        /// The group.
        path: String,
        /// Its folder; null where that is not visible to this process.
        folder: Option<String>,
    }
}

record! {
    /// Memory of the group.
    struct Memory as "cgroup_memory" {
        /// Bytes in use by the group.
        current_bytes: Option<u64>,
        /// The least limit; null for none.
        limit_bytes: Option<u64>,
        /// The folder where it stands.
        limit_of: Option<String>,
        /// How often the limit was hit (version 2: memory.events max; version 1: failcnt).
        limit_hits: Option<u64>,
        /// Processes of the group that were killed because memory was short.
        oom_kills: Option<u64>,
    }
}

record! {
    /// CPU time of the group.
    struct Cpu as "cgroup_cpu" {
        /// The least limit, as a number of CPUs; null for none.
        limit_cpus: Option<f64>,
        /// The folder where it stands.
        limit_of: Option<String>,
        /// Periods in which the group had to wait.
        throttled_periods: Option<u64>,
        /// Of so many.
        periods: Option<u64>,
        /// Time that its threads waited so, in seconds.
        throttled_seconds: Option<f64>,
    }
}

record! {
    /// Processes and threads of the group.
    struct Processes as "cgroup_pids" {
        /// How many there are.
        current: Option<u64>,
        /// The least limit; null for none.
        limit: Option<u64>,
        /// The folder where it stands.
        limit_of: Option<String>,
    }
}

/// More than this is how version 1 writes "no limit".
const UNLIMITED: f64 = (1u64 << 62) as f64;

fn show(groups: &[Group], out: &mut Output) {
    for group in groups {
        out.put(&Membership {
            version: group.version,
            controllers: group.controllers.clone(),
            path: group.path.clone(),
            folder: group.folder.as_ref().map(|(folder, _)| folder.clone()),
        });
    }
    let visible = || groups.iter().filter(|group| group.folder.is_some());
    let of = |controller, file: &'static str| {
        visible().find(|group| group.has(controller) && (group.version == 1 || group.file(file).is_some()))
    };
    let memory = of("memory", "memory.current").map(memory);
    let cpu = of("cpu", "cpu.stat").map(cpu);
    let processes = of("pids", "pids.current").map(processes);
    if let Some(memory) = &memory {
        out.put(memory);
    }
    if let Some(cpu) = &cpu {
        out.put(cpu);
    }
    if let Some(processes) = &processes {
        out.put(processes);
    }
    let missing: Vec<&str> = [("memory", memory.is_none()), ("CPU", cpu.is_none()), ("processes", processes.is_none())]
        .iter()
        .filter(|(_, missing)| *missing)
        .map(|(name, _)| *name)
        .collect();
    if !missing.is_empty() {
        out.note(format!("limits on {} are not visible to this process\n", missing.join(", ")));
    }
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// The least limit in a file of one number, and where it stands.
fn limit(group: &Group, file: &str) -> (Option<u64>, Option<String>) {
    let least = group.least(file, |_, text| text.trim().parse().ok().filter(|limit| *limit < UNLIMITED));
    least.map_or((None, None), |(least, folder)| (Some(least as u64), Some(folder)))
}

fn memory(group: &Group) -> Memory {
    let file = |name| group.file(name);
    let count = |name| number(&file(name)?);
    if group.version == 2 {
        let (limit_bytes, limit_of) = limit(group, "memory.max");
        let events = file("memory.events").unwrap_or_default();
        let (limit_hits, oom_kills) = (pair(&events, "max"), pair(&events, "oom_kill"));
        return Memory { current_bytes: count("memory.current"), limit_bytes, limit_of, limit_hits, oom_kills };
    }
    let (limit_bytes, limit_of) = limit(group, "memory.limit_in_bytes");
    Memory {
        current_bytes: count("memory.usage_in_bytes"),
        limit_bytes,
        limit_of,
        limit_hits: count("memory.failcnt"),
        oom_kills: file("memory.oom_control").and_then(|text| pair(&text, "oom_kill")),
    }
}

fn cpu(group: &Group) -> Cpu {
    let least = if group.version == 2 {
        // `QUOTA PERIOD`, in microseconds; `max` for no quota.
        group.least("cpu.max", |_, text| {
            let (quota, period) = text.split_once(' ')?;
            Some(quota.parse::<f64>().ok()? / period.trim().parse::<f64>().ok().filter(|period| *period > 0.0)?)
        })
    } else {
        group.least("cpu.cfs_quota_us", |folder, text| {
            let quota = text.trim().parse::<f64>().ok().filter(|quota| *quota > 0.0)?;
            let period = cgroup::read(folder, "cpu.cfs_period_us")?.parse::<f64>().ok()?;
            (period > 0.0).then(|| quota / period)
        })
    };
    let (limit_cpus, limit_of) = least.map_or((None, None), |(least, folder)| (Some(least), Some(folder)));
    let statistics = group.file("cpu.stat").unwrap_or_default();
    let microseconds = pair(&statistics, "throttled_usec").map(|time| time as f64 / 1e6);
    Cpu {
        limit_cpus,
        limit_of,
        throttled_periods: pair(&statistics, "nr_throttled"),
        periods: pair(&statistics, "nr_periods"),
        throttled_seconds: microseconds.or_else(|| pair(&statistics, "throttled_time").map(|time| time as f64 / 1e9)),
    }
}

fn processes(group: &Group) -> Processes {
    let (limit, limit_of) = limit(group, "pids.max");
    Processes { current: group.file("pids.current").and_then(|text| number(&text)), limit, limit_of }
}

impl Line for Membership {
    fn line(&self, out: &mut Vec<u8>) {
        let what = if self.version == 2 { "unified".to_owned() } else { self.controllers.join(",") };
        let seen = if self.folder.is_some() { "" } else { " (not visible to this process)" };
        fact(out, &format!("v{} {what}", self.version), format!("{}{seen}", Escaped(self.path.as_bytes())));
    }
}

fn from(folder: &Option<String>) -> String {
    folder.as_ref().map_or_else(String::new, |folder| format!(" (by {})", Escaped(folder.as_bytes())))
}

impl Line for Memory {
    fn line(&self, out: &mut Vec<u8>) {
        let current = self.current_bytes.map_or_else(|| "unknown".to_owned(), human);
        let limit = self.limit_bytes.map_or_else(|| "no limit".to_owned(), |limit| format!("limit {}", human(limit)));
        let count = |count: Option<u64>, what| count.map_or_else(String::new, |count| format!(", {count} {what}"));
        let hits = count(self.limit_hits, "times at the limit");
        let kills = count(self.oom_kills, "killed for lack of memory");
        fact(out, "memory", format!("{current} in use, {limit}{}{hits}{kills}", from(&self.limit_of)));
    }
}

impl Line for Cpu {
    fn line(&self, out: &mut Vec<u8>) {
        let limit = self.limit_cpus.map_or_else(|| "no limit".to_owned(), |limit| format!("limit {limit:.2} CPUs"));
        let throttled = match (self.throttled_periods, self.periods) {
            (Some(throttled), Some(periods)) if periods > 0 => format!(
                ", held up in {throttled} of {periods} periods, {:.3} s",
                self.throttled_seconds.unwrap_or_default()
            ),
            _ => String::new(),
        };
        fact(out, "CPU", format!("{limit}{}{throttled}", from(&self.limit_of)));
    }
}

impl Line for Processes {
    fn line(&self, out: &mut Vec<u8>) {
        // The root of a hierarchy does not count.
        let current = self.current.map_or_else(|| "not counted".to_owned(), |count| format!("{count} with threads"));
        let limit = self.limit.map_or_else(|| "no limit".to_owned(), |limit| format!("limit {limit}"));
        fact(out, "processes", format!("{current}, {limit}{}", from(&self.limit_of)));
    }
}
