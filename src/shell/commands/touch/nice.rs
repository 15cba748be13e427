//! `nice`: the priority of threads.

#![forbid(unsafe_code)]

use super::threads::{Refused, Threads, Words, head};
use crate::config::level::Level;
use crate::inspect::threads::policy_word;
use crate::record;
use crate::shell::Command;
use crate::shell::json::Bytes;
use crate::shell::record::{Line, Record};
use crate::sys::{Errno, schedule};

pub const COMMAND: Command = Command {
    name: "nice",
    level: Level::Operate,
    synopsis: "[TID|NAME-GLOB] [VALUE]",
    summary: "Show or set the nice value of threads, from -20 (first) to 19 (last).",
    help: "nice                  what all threads have\n\
           nice 10               sets 10 for all threads of the application\n\
           nice 'bio_*' 19       for those of that name\n\
           nice 4711 -5          for one thread\n\n\
           Linux keeps the value for each thread; one that starts later has that of the thread that started it. It\n\
           counts under the policies other and batch; with autogroups, within its session only (man 7 sched).\n\
           Lowering it takes CAP_SYS_NICE, or room in rlimit nice.\n\
           The manhole's own threads are left as they are.",
    schemas: &[Row::schema, Refused::schema],
    start: |words| {
        let words = Words::sort(words, value, "value from -20 to 19")?;
        let new = words.value;
        Ok(Threads::job(
            words,
            explain,
            Box::new(move |thread| {
                let before = schedule::nice(thread.tid)?;
                if let Some(new) = new {
                    schedule::set_nice(thread.tid, new)?;
                }
                let nice = schedule::nice(thread.tid)?;
                let (tid, name) = (thread.tid, Bytes(thread.name.clone()));
                let row = Row { tid, name, policy: policy_word(thread.policy), before: new.map(|_| before), nice };
                Ok(Box::new(row) as Box<dyn Record>)
            }),
        ))
    },
};

fn value(word: &str) -> Option<i32> {
    word.parse().ok().filter(|value| (-20..20).contains(value))
}

fn explain(error: Errno) -> String {
    match error {
        Errno::EACCES => "to lower it takes CAP_SYS_NICE, or a higher limit `nice` (rlimit)".to_owned(),
        Errno::EPERM => "the thread runs for another user".to_owned(),
        other => other.desc().to_owned(),
    }
}

record! {
    /// The priority of a thread.
    struct Row as "nice" {
        /// Its id.
        tid: i32,
        /// Its name.
        name: Bytes,
        /// Its scheduling policy: the nice value counts under other and batch.
        policy: &'static str,
        /// The nice value before it was set; null if it was not.
        before: Option<i32>,
        /// The nice value that the kernel has now.
        nice: i32,
    }
}

impl Line for Row {
    fn line(&self, out: &mut Vec<u8>) {
        let before = self.before.map_or_else(String::new, |before| format!("{before} → "));
        let line = format!("{}  {:<8}  nice {before}{}\n", head(self.tid, &self.name), self.policy, self.nice);
        out.extend_from_slice(line.as_bytes());
    }
}
