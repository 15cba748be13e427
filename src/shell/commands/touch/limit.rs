//! `rlimit`: the limits of the process, shown and set.

#![forbid(unsafe_code)]

use super::super::once;
use super::Warning;
use super::descriptor::application;
use crate::config::level::Level;
use crate::inspect::descriptors;
use crate::record;
use crate::shell::output::Output;
use crate::shell::parse::Arguments;
use crate::shell::record::Line;
use crate::shell::{Command, World};
use crate::sys::limits::{self, Limit, UNLIMITED};
use crate::sys::{Errno, clock, process, procfs};

pub const COMMAND: Command = Command {
    name: "rlimit",
    level: Level::Operate,
    synopsis: "[NAME [SOFT[:HARD]|:HARD]] [--force]",
    summary: "Show or set a resource limit of the process.",
    help: "rlimit                  all of them\n\
           rlimit nofile           one\n\
           rlimit nofile 4096      its soft limit, which is the one that counts\n\
           rlimit core unlimited   so that the next crash leaves a core file\n\
           rlimit stack 16M:64M    soft and hard; K, M, G, T are powers of 1024\n\
           rlimit nproc :500       the hard one only\n\n\
           Without CAP_SYS_RESOURCE a soft limit goes up to the hard one, and a hard one that was lowered stays so.\n\
           What is in use already stays in use: a lower nofile closes nothing. A limit on cpu below what was used\n\
           already has the kernel send SIGXCPU or SIGKILL, so it takes --force; so does a nofile below 3, with which the\n\
           manhole could let nobody in. The C library took the size of the\n\
           stacks of new threads from the limit stack when the process started, and does not look again.",
    schemas: &[Row::schema, Changed::schema, Warning::schema],
    start: |words| {
        let arguments = Arguments::parse(words, &[FORCE], &[])?;
        let force = arguments.has(FORCE);
        match arguments.rest.as_slice() {
            [] => Ok(once(|_, out| RESOURCES.iter().try_for_each(|resource| show(resource, out)))),
            [name] => {
                let resource = find(name)?;
                Ok(once(move |_, out| show(resource, out)))
            }
            [name, bounds] => {
                let resource = find(name)?;
                let wanted = parse(bounds, resource.unit)?;
                Ok(once(move |world, out| set(resource, wanted, force, world, out)))
            }
            _ => Err("takes a name and SOFT:HARD".to_owned()),
        }
    },
};

const FORCE: &str = "--force";

struct Resource {
    name: &'static str,
    number: u32,
    unit: &'static str,
    meaning: &'static str,
}

const fn resource(name: &'static str, number: u32, unit: &'static str, meaning: &'static str) -> Resource {
    Resource { name, number, unit, meaning }
}

const BYTES: &str = "bytes";
const SECONDS: &str = "seconds";

/// As setrlimit(2) has them.
const RESOURCES: &[Resource] = &[
    resource("as", libc::RLIMIT_AS, BYTES, "address space"),
    resource("core", libc::RLIMIT_CORE, BYTES, "core file"),
    resource("cpu", libc::RLIMIT_CPU, SECONDS, "CPU time, then SIGXCPU, at the hard limit SIGKILL"),
    resource("data", libc::RLIMIT_DATA, BYTES, "private writable memory"),
    resource("fsize", libc::RLIMIT_FSIZE, BYTES, "size of a file that it writes"),
    resource("locks", libc::RLIMIT_LOCKS, "", "file locks (not since Linux 2.4)"),
    resource("memlock", libc::RLIMIT_MEMLOCK, BYTES, "locked memory"),
    resource("msgqueue", libc::RLIMIT_MSGQUEUE, BYTES, "POSIX message queues of its user"),
    resource("nice", libc::RLIMIT_NICE, "", "20 minus the lowest nice value"),
    resource("nofile", libc::RLIMIT_NOFILE, "", "one more than the highest descriptor"),
    resource("nproc", libc::RLIMIT_NPROC, "", "processes and threads of its user"),
    resource("rss", libc::RLIMIT_RSS, BYTES, "resident memory (not since Linux 2.4)"),
    resource("rtprio", libc::RLIMIT_RTPRIO, "", "highest real-time priority"),
    resource("rttime", libc::RLIMIT_RTTIME, "µs", "real-time CPU time without a blocking call"),
    resource("sigpending", libc::RLIMIT_SIGPENDING, "", "queued signals of its user"),
    resource("stack", libc::RLIMIT_STACK, BYTES, "stack of the first thread"),
];

fn find(name: &str) -> Result<&'static Resource, String> {
    let lower = name.to_ascii_lowercase();
    let bare = lower.strip_prefix("rlimit_").unwrap_or(&lower);
    let names: Vec<&str> = RESOURCES.iter().map(|resource| resource.name).collect();
    let found = RESOURCES.iter().find(|resource| resource.name == bare);
    found.ok_or_else(|| format!("{name:?} is no limit: {}", names.join(", ")))
}

/// Soft and hard, as far as they are given.
type Wanted = (Option<u64>, Option<u64>);

fn parse(text: &str, unit: &str) -> Result<Wanted, String> {
    let (soft, hard) = text.split_once(':').map_or((text, ""), |(soft, hard)| (soft, hard));
    let bound = |text: &str| if text.is_empty() { Ok(None) } else { number(text, unit).map(Some) };
    match (bound(soft)?, bound(hard)?) {
        (None, None) => Err("SOFT, SOFT:HARD or :HARD".to_owned()),
        (Some(soft), Some(hard)) if soft > hard => Err(format!("the soft limit of {text} is above the hard one")),
        both => Ok(both),
    }
}

fn number(text: &str, unit: &str) -> Result<u64, String> {
    if text == "unlimited" {
        return Ok(UNLIMITED);
    }
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, suffix) = text.split_at_checked(end).unwrap_or_default();
    let shift = match suffix.to_ascii_uppercase().as_str() {
        "" => Some(0),
        "K" => Some(10),
        "M" => Some(20),
        "G" => Some(30),
        "T" => Some(40),
        _ => None,
    };
    let shift = shift.filter(|shift| *shift == 0 || unit == BYTES);
    let value = digits.parse::<u64>().ok().zip(shift).and_then(|(value, shift)| value.checked_mul(1 << shift));
    let expected = if unit == BYTES { "a number of bytes (K, M, G, T)" } else { "a number" };
    value.filter(|value| *value != UNLIMITED).ok_or_else(|| format!("{text:?} is neither {expected} nor unlimited"))
}

fn read(resource: &Resource) -> Result<Limit, String> {
    super::unfiltered()?;
    limits::get(resource.number).map_err(|error| format!("the limit {} is unknown: {}", resource.name, error.desc()))
}

fn show(resource: &Resource, out: &mut Output) -> Result<(), String> {
    let Resource { name, unit, meaning, .. } = *resource;
    let limit = read(resource)?;
    out.put(&Row { name, unit, meaning, soft: value(limit.soft), hard: value(limit.hard) });
    Ok(())
}

fn set(resource: &Resource, wanted: Wanted, force: bool, world: &World, out: &mut Output) -> Result<(), String> {
    let Resource { name, number, unit, .. } = *resource;
    let found = read(resource)?;
    let hard = wanted.1.unwrap_or(found.hard);
    // A soft limit cannot stay above the hard one.
    let soft = wanted.0.unwrap_or(found.soft.min(hard));
    if soft > hard {
        let (soft, hard) = (shown(soft, unit), shown(hard, unit));
        return Err(format!("{soft} is above the hard limit {hard}: SOFT:HARD raises that, too"));
    }
    let used = clock::now(libc::CLOCK_PROCESS_CPUTIME_ID).map_or(0, |used| used.as_secs());
    if number == libc::RLIMIT_CPU && soft <= used && !force {
        let end = if hard <= used { "SIGKILL" } else { "SIGXCPU" };
        return Err(format!("{used} s of CPU time are used: the kernel would send {end} at once; {FORCE} sets it"));
    }
    if number == libc::RLIMIT_NOFILE && soft < LEAST && !force {
        return Err(format!(
            "with less than {LEAST} the manhole can let nobody in any more, and read nothing; {FORCE} sets it"
        ));
    }
    let open = (number == libc::RLIMIT_NOFILE).then(|| descriptors::numbers(application(world)).ok()).flatten();
    let before = limits::set(number, Limit { soft, hard }).map_err(|error| match error {
        Errno::EPERM if hard > found.hard => {
            let hard = shown(found.hard, unit);
            format!("to raise the hard limit {name} above {hard} takes CAP_SYS_RESOURCE (or is above fs.nr_open)")
        }
        other => format!("the limit {name} was not set: {}", other.desc()),
    })?;
    let now = read(resource)?;
    let [soft_before, hard_before, soft, hard] = [before.soft, before.hard, now.soft, now.hard].map(value);
    out.put(&Changed { name, unit, soft_before, hard_before, soft, hard });
    if let Some(warning) = consequence(number, now.soft, open.as_deref()) {
        out.put(&Warning { warning });
    }
    Ok(())
}

/// What a new soft limit means for what is in use already, `open` descriptors among it.
fn consequence(number: u32, soft: u64, open: Option<&[i32]>) -> Option<String> {
    match number {
        libc::RLIMIT_NOFILE => {
            let open = open.unwrap_or_default();
            let above = open.iter().filter(|open| u64::try_from(**open).is_ok_and(|it| it >= soft)).count();
            let all = open.len();
            let closed = (above > 0).then(|| {
                format!(
                    "{above} of {all} open descriptors are at or above it; they stay open, but once closed are not to be had again"
                )
            });
            let ours = (soft < NEEDED)
                .then(|| "the manhole needs some of its own to let clients in and to read /proc".to_owned());
            let all: Vec<String> = closed.into_iter().chain(ours).collect();
            (!all.is_empty()).then(|| all.join("; "))
        }
        libc::RLIMIT_AS => exceeded("VmSize", soft, "every new mapping fails, threads and allocations among them"),
        libc::RLIMIT_DATA => exceeded("VmData", soft, "new private memory is refused, to malloc, too"),
        libc::RLIMIT_STACK => exceeded("VmStk", soft, "the first thread gets SIGSEGV as soon as its stack grows"),
        _ => None,
    }
}

/// Descriptors that the observer may have open at a time with a few clients; and with how many it serves one.
const NEEDED: u64 = 16;
const LEAST: u64 = 3;

fn exceeded(field: &str, soft: u64, then: &str) -> Option<String> {
    let mut buffer = [0; process::STATUS_BYTES];
    let status = procfs::read_small(libc::AT_FDCWD, c"/proc/thread-self/status", &mut buffer).ok()?;
    let kilobytes = process::status_field(status, field)?.strip_suffix(b" kB")?;
    let kilobytes: u64 = std::str::from_utf8(kilobytes).ok()?.parse().ok()?;
    let used = kilobytes.checked_mul(1024).filter(|used| *used > soft)?;
    Some(format!("{} are in use already: {then}", shown(used, BYTES)))
}

fn value(bound: u64) -> Option<u64> {
    Some(bound).filter(|bound| *bound != UNLIMITED)
}

/// `64K`, `1048576`, `unlimited`.
fn shown(bound: u64, unit: &str) -> String {
    let units = [(40, "T"), (30, "G"), (20, "M"), (10, "K")];
    let whole = units.into_iter().find(|(shift, _)| bound != 0 && bound.is_multiple_of(1u64 << shift));
    match (bound, whole) {
        (UNLIMITED, _) => "unlimited".to_owned(),
        (_, Some((shift, letter))) if unit == BYTES => format!("{}{letter}", bound >> shift),
        _ => bound.to_string(),
    }
}

record! {
    /// A limit.
    struct Row as "limit" {
        /// Its name, as setrlimit(2) has it after RLIMIT_.
        name: &'static str,
        /// Of soft and hard; empty for a mere number.
        unit: &'static str,
        /// What is limited.
        meaning: &'static str,
        /// What counts; null for unlimited.
        soft: Option<u64>,
        /// Up to which the soft limit may be raised; null for unlimited.
        hard: Option<u64>,
    }
}

record! {
    /// A limit was set.
    struct Changed as "limit_changed" {
        /// Its name.
        name: &'static str,
        /// Of the limits; empty for a mere number.
        unit: &'static str,
        /// The soft limit before; null for unlimited, here and below.
        soft_before: Option<u64>,
        /// The hard limit before.
        hard_before: Option<u64>,
        /// The soft limit that the kernel has now.
        soft: Option<u64>,
        /// The hard limit that the kernel has now.
        hard: Option<u64>,
    }
}

impl Line for Row {
    fn line(&self, out: &mut Vec<u8>) {
        let bound = |bound: Option<u64>| shown(bound.unwrap_or(UNLIMITED), self.unit);
        let unit = if self.unit.is_empty() { String::new() } else { format!(" ({})", self.unit) };
        let (soft, hard) = (bound(self.soft), bound(self.hard));
        let line = format!("{:<10}  soft {soft:<12}  hard {hard:<12}  {}{unit}\n", self.name, self.meaning);
        out.extend_from_slice(line.as_bytes());
    }
}

impl Line for Changed {
    fn line(&self, out: &mut Vec<u8>) {
        let change = |before: Option<u64>, after: Option<u64>| {
            let [before, after] = [before, after].map(|bound| shown(bound.unwrap_or(UNLIMITED), self.unit));
            if before == after { after } else { format!("{before} → {after}") }
        };
        let (soft, hard) = (change(self.soft_before, self.soft), change(self.hard_before, self.hard));
        out.extend_from_slice(format!("{:<10}  soft {soft}  hard {hard}\n", self.name).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds() {
        assert_eq!(parse("4096", ""), Ok((Some(4096), None)));
        assert_eq!(parse("16M:1g", BYTES), Ok((Some(16 << 20), Some(1 << 30))));
        assert_eq!(parse(":unlimited", ""), Ok((None, Some(UNLIMITED))));
        for wrong in ["", ":", "2:1", "x", "-1", "1.5M", "5Q", "18446744073709551615", "99999999T"] {
            assert!(parse(wrong, BYTES).is_err(), "{wrong}");
        }
        assert!(parse("1K", SECONDS).is_err());
        for (bound, expected) in [(0, "0"), (16 << 20, "16M"), (1000, "1000"), (UNLIMITED, "unlimited")] {
            assert_eq!(shown(bound, BYTES), expected);
        }
        assert_eq!(shown(4096, ""), "4096");
    }

    #[test]
    fn names() {
        assert!(
            ["nofile", "NOFILE", "RLIMIT_NOFILE"].iter().all(|name| find(name).is_ok_and(|it| it.name == "nofile"))
        );
        assert!(find("files").is_err_and(|error| error.contains("nofile")));
    }
}
