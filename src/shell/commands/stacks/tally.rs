//! What a dump was like: its last line, and its record.

#![forbid(unsafe_code)]

use std::time::Duration;

use crate::shell::stack_record;
use crate::stack::{Ending, Method, Outcome};

/// What the last line counts.
#[derive(Default)]
pub struct Tally {
    /// Threads that are shown.
    pub threads: usize,
    by_proc: usize,
    by_ptrace: usize,
    by_signal: usize,
    interrupted: usize,
    truncated: usize,
    exited: usize,
    cut: usize,
    /// Modules were unloaded meanwhile, twice.
    pub unloaded: bool,
    /// The longest time that a thread was stopped.
    pub stopped: Duration,
}

impl Tally {
    /// Of these threads, and `cut` that were not looked at.
    pub fn count(outcomes: &[Outcome], cut: usize) -> Self {
        let mut tally = Self { cut, ..Self::default() };
        for outcome in outcomes {
            let Outcome::Captured(stack) = outcome else {
                tally.exited += 1;
                continue;
            };
            tally.threads += 1;
            match stack.method {
                Some(Method::Proc) => tally.by_proc += 1,
                Some(Method::Ptrace) => tally.by_ptrace += 1,
                Some(Method::Signal) => tally.by_signal += 1,
                Some(Method::Interrupted) => tally.interrupted += 1,
                Some(Method::Own) | None => {}
            }
            tally.truncated += usize::from(stack.ending != Ending::FirstFrame);
        }
        tally
    }

    /// For programs.
    pub fn record(&self, took: Duration) -> stack_record::Summary {
        stack_record::Summary {
            threads: self.threads,
            by_proc: self.by_proc,
            by_ptrace: self.by_ptrace,
            by_signal: self.by_signal,
            interrupted: self.interrupted,
            truncated: self.truncated,
            exited: self.exited,
            not_captured: self.cut,
            unloaded: self.unloaded,
            stopped_seconds: self.stopped,
            seconds: took,
        }
    }

    /// For eyes.
    pub fn line(&self, took: Duration) -> String {
        let mut line = format!("{} threads", self.threads);
        for (count, word) in [
            (self.by_proc, "by proc"),
            (self.by_ptrace, "by ptrace"),
            (self.by_signal, "by signal"),
            (self.interrupted, "interrupted"),
            (self.truncated, "truncated"),
            (self.exited, "exited"),
        ] {
            if count > 0 {
                line.push_str(&format!(", {count} {word}"));
            }
        }
        if self.by_ptrace > 0 {
            line.push_str(&format!("; none stopped for more than {:.1} us", self.stopped.as_secs_f64() * 1e6));
        }
        if self.cut > 0 {
            line.push_str(&format!("; {} more were not captured (option max_threads)", self.cut));
        }
        if self.unloaded {
            line.push_str("; modules were unloaded meanwhile, twice: frames in what took their place may be misnamed");
        }
        line.push_str(&format!("; {:.1} ms\n", took.as_secs_f64() * 1e3));
        line
    }
}
