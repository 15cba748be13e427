//! `affinity`: the processors on which threads may run.

#![forbid(unsafe_code)]

use super::threads::{Refused, Threads, Words, head};
use crate::config::level::Level;
use crate::record;
use crate::shell::Command;
use crate::shell::json::Bytes;
use crate::shell::record::{Line, Record};
use crate::sys::Errno;
use crate::sys::schedule::{self, Processors};

pub const COMMAND: Command = Command {
    name: "affinity",
    level: Level::Operate,
    synopsis: "[TID|NAME-GLOB] [PROCESSORS]",
    summary: "Show or set on which processors threads may run.",
    help: "affinity                  what all threads have\n\
           affinity 0-3              all threads of the application run on the processors 0 to 3\n\
           affinity 'io_thd_*' 2,6   those of that name on 2 and 6\n\
           affinity 4711 all         one thread on all that there are\n\n\
           The kernel leaves out processors that do not exist or that the cpuset (cgroup) does not allow: what it took\n\
           is shown. A thread that starts later has the set of the thread that started it.\n\
           The manhole's own threads are left as they are.",
    schemas: &[Row::schema, Refused::schema],
    start: |words| {
        let processors = schedule::processors();
        let words = Words::sort(words, |text| parse(text, processors), "list of processors (0-3,8 or all)")?;
        let new = words.value;
        Ok(Threads::job(
            words,
            explain,
            Box::new(move |thread| {
                let before = schedule::affinity(thread.tid)?;
                if let Some(new) = &new {
                    schedule::set_affinity(thread.tid, new)?;
                }
                let now = schedule::affinity(thread.tid)?;
                let row = Row {
                    tid: thread.tid,
                    name: Bytes(thread.name.clone()),
                    before: new.map(|_| list(&before)),
                    asked: new.map(|new| if new == Processors::ALL { "all".to_owned() } else { list(&new) }),
                    processors: list(&now),
                };
                Ok(Box::new(row) as Box<dyn Record>)
            }),
        ))
    },
};

/// Reads `0-3,8` or `all`. A number that is no processor's may be a thread's.
fn parse(text: &str, processors: usize) -> Option<Processors> {
    if text == "all" {
        return Some(Processors::ALL);
    }
    let mut set = Processors::NONE;
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.parse().ok().filter(|number| *number < processors);
        let (first, last): (usize, usize) = (number(first)?, number(last)?);
        if first > last || !(first..=last).all(|number| set.add(number)) {
            return None;
        }
    }
    (set != Processors::NONE).then_some(set)
}

/// As [`parse`] reads it.
fn list(set: &Processors) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = 0;
    while let Some(first) = (next..Processors::MOST).find(|number| set.has(*number)) {
        next = (first..Processors::MOST).find(|number| !set.has(*number)).unwrap_or(Processors::MOST);
        let last = next - 1;
        parts.push(if first == last { first.to_string() } else { format!("{first}-{last}") });
    }
    parts.join(",")
}

fn explain(error: Errno) -> String {
    match error {
        Errno::EINVAL => "none of these processors exists and is allowed to it (cpuset)".to_owned(),
        other => other.desc().to_owned(),
    }
}

record! {
    /// Where a thread may run. Processors are listed as `0-3,8`.
    struct Row as "affinity" {
        /// Its id.
        tid: i32,
        /// Its name.
        name: Bytes,
        /// The processors before they were set; null if they were not.
        before: Option<String>,
        /// The processors that were asked for, or all.
        asked: Option<String>,
        /// The processors that the kernel allows it now.
        processors: String,
    }
}

impl Line for Row {
    fn line(&self, out: &mut Vec<u8>) {
        let before = self.before.as_ref().map_or_else(String::new, |before| format!("{before} → "));
        let less = self.asked.as_ref().filter(|asked| **asked != self.processors && *asked != "all");
        let less = less.map_or_else(String::new, |asked| format!(" (of {asked}: more are not there, or not allowed)"));
        let line = format!("{}  processors {before}{}{less}\n", head(self.tid, &self.name), self.processors);
        out.extend_from_slice(line.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors() {
        for text in ["0", "0-3", "0-3,8", "2,6", "63-64,8191"] {
            assert_eq!(list(&parse(text, Processors::MOST).unwrap()), text);
        }
        assert_eq!(list(&parse("3,1,2,1-2", 64).unwrap()), "1-3");
        assert_eq!(parse("all", 64), Some(Processors::ALL));
        for wrong in ["", "x", "1-", "-1", "3-1", "1,,2", "64", "0-64", "io_*"] {
            assert_eq!(parse(wrong, 64), None, "{wrong}");
        }
    }
}
