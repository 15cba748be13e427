//! `uptime`: since when, and how busy.

#![forbid(unsafe_code)]

use std::time::Duration;

use super::super::duration;
use super::{fact, no_arguments, once};
use crate::config::level::Level;
use crate::inspect::files;
use crate::inspect::process::ProcessFacts;
use crate::record;
use crate::shell::Command;
use crate::shell::record::Line;
use crate::sys::clock;

pub const COMMAND: Command = Command {
    name: "uptime",
    level: Level::Observe,
    synopsis: "",
    summary: "Show how long the process has run, since when, with how much CPU time; load and uptime of the machine.",
    help: "CPU time is that of all threads, those included that have ended, user and kernel together. The share is that\n\
           of one CPU since the start. Times of day are UTC.",
    schemas: &[Uptime::schema],
    start: |arguments| {
        no_arguments(arguments)?;
        Ok(once(|_, out| {
            out.put(&read()?);
            Ok(())
        }))
    },
};

record! {
    /// How long things have run.
    struct Uptime as "uptime" {
        /// The process.
        seconds: Duration,
        /// When it started, seconds since 1970 (UTC).
        started_at: Duration,
        /// The same as a date.
        started: String,
        /// CPU time of the process.
        cpu_seconds: Duration,
        /// The machine.
        machine_seconds: Duration,
        /// Load of the machine over 1, 5 and 15 minutes.
        load: Vec<f64>,
    }
}

fn read() -> Result<Uptime, String> {
    let cannot = |what: &str| format!("cannot read {what}");
    let now = |clock| clock::now(clock).map_err(|_| cannot("a clock"));
    let started = ProcessFacts::read().started.ok_or_else(|| cannot("the time of the start in /proc/self/stat"))?;
    let machine_seconds = now(libc::CLOCK_BOOTTIME)?;
    let seconds = machine_seconds.saturating_sub(started);
    let started_at = now(libc::CLOCK_REALTIME)?.saturating_sub(seconds);
    let load = files::read(c"/proc/loadavg", 256).unwrap_or_default();
    let load = String::from_utf8_lossy(&load).split(' ').take(3).filter_map(|word| word.parse().ok()).collect();
    Ok(Uptime {
        seconds,
        started_at,
        started: date(started_at),
        cpu_seconds: now(libc::CLOCK_PROCESS_CPUTIME_ID)?,
        machine_seconds,
        load,
    })
}

/// `2026-11-25 02:21:07 UTC` (days to dates as in H. Hinnant, chrono-compatible low-level date algorithms).
pub fn date(since_1970: Duration) -> String {
    let seconds = since_1970.as_secs();
    let (days, second) = (seconds / 86400 + 719_468, seconds % 86400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

impl Line for Uptime {
    fn line(&self, out: &mut Vec<u8>) {
        fact(out, "running for", duration(self.seconds));
        fact(out, "started", &self.started);
        let share = 100.0 * self.cpu_seconds.as_secs_f64() / self.seconds.as_secs_f64().max(0.001);
        fact(out, "CPU time", format!("{} ({share:.1} % of one CPU)", duration(self.cpu_seconds)));
        let load: Vec<String> = self.load.iter().map(|load| format!("{load:.2}")).collect();
        fact(out, "machine", format!("up {}, load {}", duration(self.machine_seconds), load.join(" ")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (seconds, expected) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_827_696, "2000-02-29 12:34:56 UTC"),
            (1_795_573_267, "2026-11-25 02:21:07 UTC"),
            (4_107_542_399, "2100-02-28 23:59:59 UTC"),
        ] {
            assert_eq!(date(Duration::from_secs(seconds)), expected);
        }
    }
}
