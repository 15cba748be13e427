//! `status`: who runs here, with which rights, and how the kernel treats it.

#![forbid(unsafe_code)]

use std::time::Duration;

use super::{application_thread, fact, no_arguments, once, uptime::date};
use crate::config::level::Level;
use crate::inspect::credentials::{self, NAMESPACES, Names};
use crate::inspect::files;
use crate::inspect::strings::Escaped;
use crate::inspect::threads::{Reader, policy_word, state_word};
use crate::record;
use crate::shell::json::Bytes;
use crate::shell::record::Line;
use crate::shell::{Command, World};
use crate::sys::process::{self, status_field};
use crate::sys::{clock, procfs};

pub const COMMAND: Command = Command {
    name: "status",
    level: Level::Observe,
    synopsis: "",
    summary: "Show who runs here, with which rights: ids, capabilities, seccomp, namespaces, scheduling, tracer, OOM score.",
    help: "Rights and scheduling are those of the first thread (or of another once that has exited). Users and groups\n\
           have names where /etc/passwd and /etc/group do; no other service is asked. A namespace is compared with the\n\
           parent process's: own means that it was changed on the way, null in JSON that the kernel would not say.",
    schemas: &[Facts::schema],
    start: |arguments| {
        no_arguments(arguments)?;
        Ok(once(|world, out| {
            out.put(&read(world)?);
            Ok(())
        }))
    },
};

record! {
    /// An id, and its name.
    struct Id as "id" {
        /// real, effective, saved, file system or supplementary.
        role: &'static str,
        /// The number.
        id: u32,
        /// The name, where /etc/passwd or /etc/group has one.
        name: Option<String>,
    }
}

record! {
    /// A namespace.
    struct Namespace as "namespace" {
        /// Of what: mnt, net, pid, …
        namespace: &'static str,
        /// Its inode.
        inode: u64,
        /// It is the parent process's; null where that cannot be seen.
        is_parents: Option<bool>,
    }
}

record! {
    /// Who runs here.
    struct Facts as "status" {
        /// The process.
        pid: i32,
        /// Its first thread's name.
        name: Bytes,
        /// That thread's state, in a word.
        state: &'static str,
        /// Its parent, 0 for one outside of its pid namespace.
        parent_pid: Option<i32>,
        /// The parent's name.
        parent_name: Option<Bytes>,
        /// Its process group.
        process_group: Option<i32>,
        /// Its session.
        session: Option<i32>,
        /// Users.
        users: Vec<Id>,
        /// Groups, supplementary ones too.
        groups: Vec<Id>,
        /// Capabilities in effect, without cap_.
        capabilities_effective: Vec<String>,
        /// Capabilities that it may put into effect.
        capabilities_permitted: Vec<String>,
        /// Effective, permitted, inheritable, ambient and bounding sets in words.
        capabilities: Vec<String>,
        /// none, strict or filter.
        seccomp: &'static str,
        /// How many filters.
        seccomp_filters: Option<i32>,
        /// It and what it executes cannot gain rights.
        no_new_privileges: Option<bool>,
        /// 1 when its user may attach and it dumps core, 0 when not, 2 for root only.
        dumpable: usize,
        /// The process that traces it.
        tracer_pid: Option<i32>,
        /// That process's name.
        tracer_name: Option<Bytes>,
        /// Threads, the manhole's included.
        threads: usize,
        /// Namespaces.
        namespaces: Vec<Namespace>,
        /// The scheduling policy.
        policy: &'static str,
        /// -20 to 19.
        nice: i32,
        /// 1 to 99 under a real-time policy.
        priority: u32,
        /// CPUs that it may run on, as a list of ranges.
        affinity: Option<String>,
        /// How likely the kernel kills it when memory is short, 0 to 2000.
        oom_score: Option<i32>,
        /// What was added to that, -1000 to 1000.
        oom_score_adj: Option<i32>,
        /// The first thread's context switches: it blocked or yielded.
        voluntary_switches: Option<u64>,
        /// It was preempted.
        involuntary_switches: Option<u64>,
        /// When the process started, seconds since 1970 (UTC).
        started_at: Option<Duration>,
    }
}

fn read(world: &World) -> Result<Facts, String> {
    let tid = application_thread(world)?;
    let cannot = |_| format!("cannot read /proc/self/task/{tid}: has it exited?");
    let status = files::of_thread(tid, "status", process::STATUS_BYTES).map_err(cannot)?;
    let thread = Reader::new().read(tid).map_err(cannot)?;
    let text = |name| status_field(&status, name).and_then(|value| std::str::from_utf8(value).ok());
    let set = |name| text(name).and_then(|value| u64::from_str_radix(value, 16).ok()).unwrap_or(0);
    let pid_of = |name| number::<i32>(text(name)?).filter(|pid| *pid != 0);
    let parent_pid = text("PPid").and_then(number);
    let tracer_pid = pid_of("TracerPid");
    let small = |name: &str| number(&String::from_utf8_lossy(&files::of_thread(tid, name, 64).ok()?));
    let (effective, permitted, bounding) = (set("CapEff"), set("CapPrm"), set("CapBnd"));
    // What the kernel knows: init's bounding set is not to be seen, its last capability is.
    let last = files::read(c"/proc/sys/kernel/cap_last_cap", 16).unwrap_or_default();
    let all = number::<u32>(&String::from_utf8_lossy(&last)).map_or(bounding, |last| u64::MAX >> (63 - last.min(63)));
    let words = [("effective", effective, all), ("permitted", permitted, all), ("inheritable", set("CapInh"), all)]
        .into_iter()
        .chain([("ambient", set("CapAmb"), all), ("bounding", bounding, all)])
        .map(|(name, set, all)| format!("{name}: {}", credentials::capabilities_in_words(set, all)));
    let first = process::proc_pid().and_then(|pid| Reader::new().read(pid).ok());
    let since_boot = clock::now(libc::CLOCK_BOOTTIME).ok().zip(clock::now(libc::CLOCK_REALTIME).ok());
    Ok(Facts {
        pid: process::pid(),
        name: Bytes(thread.name),
        state: state_word(thread.state),
        parent_pid,
        parent_name: parent_pid.and_then(name_of),
        process_group: text("NSpgid").and_then(last_number),
        session: text("NSsid").and_then(last_number),
        users: ids(text("Uid"), &Names::of_users(), ""),
        groups: groups(text("Gid"), text("Groups")),
        capabilities_effective: credentials::capabilities(effective),
        capabilities_permitted: credentials::capabilities(permitted),
        capabilities: words.collect(),
        seccomp: match text("Seccomp") {
            Some("0") => "none",
            Some("1") => "strict",
            Some("2") => "filter",
            _ => "unknown",
        },
        seccomp_filters: text("Seccomp_filters").and_then(number),
        no_new_privileges: text("NoNewPrivs").map(|value| value == "1"),
        dumpable: process::dumpable(),
        tracer_name: tracer_pid.and_then(name_of),
        tracer_pid,
        threads: procfs::thread_ids().map_or(0, |ids| ids.len()),
        namespaces: namespaces(tid, parent_pid),
        policy: policy_word(thread.policy),
        nice: thread.nice,
        priority: thread.priority,
        affinity: text("Cpus_allowed_list").map(str::to_owned),
        oom_score: small("oom_score"),
        oom_score_adj: small("oom_score_adj"),
        voluntary_switches: text("voluntary_ctxt_switches").and_then(number),
        involuntary_switches: text("nonvoluntary_ctxt_switches").and_then(number),
        started_at: first.zip(since_boot).map(|(first, (boot, real))| (real + first.started).saturating_sub(boot)),
    })
}

fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.trim().parse().ok()
}

/// The innermost pid namespace's number stands last.
fn last_number(text: &str) -> Option<i32> {
    number(text.split_whitespace().last()?)
}

/// The name of another process.
fn name_of(pid: i32) -> Option<Bytes> {
    let name = files::read_path(format!("/proc/{pid}/comm").into_bytes(), 64).ok()?;
    Some(Bytes(name.strip_suffix(b"\n").unwrap_or(&name).to_vec()))
}

/// The four ids of a field; `only` where it lists others.
fn ids(field: Option<&str>, names: &Names, only: &'static str) -> Vec<Id> {
    let roles = ["real", "effective", "saved", "file system"];
    let id = |(index, word): (usize, &str)| {
        let role = if only.is_empty() { roles.get(index).copied()? } else { only };
        let id = number(word)?;
        Some(Id { role, id, name: names.find(id).map(str::to_owned) })
    };
    field.unwrap_or_default().split_whitespace().enumerate().filter_map(id).collect()
}

fn groups(own: Option<&str>, more: Option<&str>) -> Vec<Id> {
    let names = Names::of_groups();
    let mut groups = ids(own, &names, "");
    groups.extend(ids(more, &names, "supplementary"));
    groups
}

fn namespaces(tid: i32, parent: Option<i32>) -> Vec<Namespace> {
    let namespace = |kind: &&'static str| {
        let inode = credentials::namespace(&format!("self/task/{tid}"), kind)?;
        let parents = parent.filter(|pid| *pid != 0).and_then(|pid| credentials::namespace(&pid.to_string(), kind));
        Some(Namespace { namespace: kind, inode, is_parents: parents.map(|parents| parents == inode) })
    };
    NAMESPACES.iter().filter_map(namespace).collect()
}

impl Line for Id {
    fn line(&self, out: &mut Vec<u8>) {
        let name = self.name.as_ref().map_or_else(String::new, |name| format!(" ({})", Escaped(name.as_bytes())));
        out.extend_from_slice(format!("{}{name}", self.id).as_bytes());
    }
}

impl Line for Namespace {
    fn line(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.namespace.as_bytes());
    }
}

/// Ids in words: once where all are the same, each with its role where not.
fn shown(ids: &[Id]) -> String {
    let text = |id: &Id| {
        let mut line = Vec::new();
        id.line(&mut line);
        String::from_utf8_lossy(&line).into_owned()
    };
    let (own, more): (Vec<&Id>, Vec<&Id>) = ids.iter().partition(|id| id.role != "supplementary");
    let same = own.iter().all(|id| Some(id.id) == own.first().map(|first| first.id));
    let mut words: Vec<String> = match own.first() {
        Some(first) if same => vec![text(first)],
        _ => own.iter().map(|id| format!("{} {}", id.role, text(id))).collect(),
    };
    words.extend(
        (!more.is_empty())
            .then(|| format!("supplementary {}", more.iter().map(|id| text(id)).collect::<Vec<_>>().join(" "))),
    );
    words.join(", ")
}

impl Line for Facts {
    fn line(&self, out: &mut Vec<u8>) {
        let named = |pid: Option<i32>, name: &Option<Bytes>| match (pid, name) {
            (None, _) => "none".to_owned(),
            (Some(0), _) => "0 (outside of this pid namespace)".to_owned(),
            (Some(pid), None) => pid.to_string(),
            (Some(pid), Some(name)) => format!("{pid} ({})", Escaped(&name.0)),
        };
        let known = |value: Option<i32>| value.map_or_else(|| "unknown".to_owned(), |value| value.to_string());
        let yes = |value| match value {
            Some(true) => "yes",
            Some(false) => "no",
            None => "unknown",
        };
        fact(out, "process", format!("{} ({}), {}", self.pid, Escaped(&self.name.0), self.state));
        fact(out, "parent", named(self.parent_pid, &self.parent_name));
        fact(out, "group, session", format!("{}, {}", known(self.process_group), known(self.session)));
        if let Some(started) = self.started_at {
            fact(out, "started", date(started));
        }
        fact(out, "threads", self.threads);
        fact(out, "users", shown(&self.users));
        fact(out, "groups", shown(&self.groups));
        for (index, set) in self.capabilities.iter().enumerate() {
            fact(out, if index == 0 { "capabilities" } else { "" }, set);
        }
        let filters = self.seccomp_filters.filter(|count| *count > 0).map(|count| format!(", {count} of them"));
        fact(out, "seccomp", format!("{}{}", self.seccomp, filters.unwrap_or_default()));
        fact(out, "no new privileges", yes(self.no_new_privileges));
        let dumpable = match self.dumpable {
            0 => "no (its files in /proc belong to root, nobody else attaches)",
            1 => "yes",
            _ => "for root only",
        };
        fact(out, "dumpable", dumpable);
        fact(out, "tracer", named(self.tracer_pid, &self.tracer_name));
        let list = |wanted: Option<bool>| {
            let names = self.namespaces.iter().filter(|it| it.is_parents == wanted).map(|it| it.namespace);
            names.collect::<Vec<_>>().join(" ")
        };
        let parts = [("own", Some(false)), ("the parent's", Some(true)), ("not comparable", None)];
        let parts = parts.map(|(words, wanted)| (words, list(wanted)));
        let parts = parts.iter().filter(|(_, list)| !list.is_empty()).map(|(words, list)| format!("{words}: {list}"));
        fact(out, "namespaces", parts.collect::<Vec<_>>().join("; "));
        let priority = if self.priority > 0 { format!(", priority {}", self.priority) } else { String::new() };
        fact(out, "scheduling", format!("{}, nice {}{priority}", self.policy, self.nice));
        fact(out, "affinity", self.affinity.as_deref().map_or("unknown".to_owned(), |list| format!("CPUs {list}")));
        fact(out, "OOM score", format!("{} (adjusted by {})", known(self.oom_score), known(self.oom_score_adj)));
        if let (Some(voluntary), Some(involuntary)) = (self.voluntary_switches, self.involuntary_switches) {
            fact(out, "switches", format!("{voluntary} voluntary, {involuntary} involuntary (first thread)"));
        }
    }
}
