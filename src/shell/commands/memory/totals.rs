//! `mem`: how much memory the process takes, for what, and what has grown since the last look.

#![forbid(unsafe_code)]

use std::fmt::Write;
use std::time::{Duration, Instant};

use super::mappings::{SLICE, learn};
use super::{human, signed};
use crate::config::level::Level;
use crate::inspect::memory::layout::{Layout, Placed};
use crate::inspect::memory::stacks::Stacks;
use crate::inspect::memory::{Kind, Reader, Usage};
use crate::inspect::numbers::{decimal, kilobytes};
use crate::protocol::Status;
use crate::record;
use crate::shell::commands::{duration, fail, no_arguments};
use crate::shell::growth::Figures;
use crate::shell::output::Output;
use crate::shell::record::Line;
use crate::shell::{Command, Job, Step, World};
use crate::sys::procfs::read_small;
use crate::sys::{allocator, clock, process};

pub const COMMAND: Command = Command {
    name: "mem",
    level: Level::Observe,
    synopsis: "",
    summary: "Show the memory of the process: in use, shared, swapped, by kind, peaks and faults, growth since the last call.",
    help: "mem\n\n\
           RSS is what is in memory; PSS the same with each page divided by the number of its users; DIRTY what this\n\
           process alone has and has changed. Growth is what RSS has gained since this session's last call, or, at\n\
           its first, since anybody's. The kinds are those of maps. A stack counts as such while its thread sits in a\n\
           system call. All of it is read once from /proc/self/smaps: help maps says what that costs.",
    schemas: &[Row::schema, Total::schema],
    start: |words| {
        no_arguments(words)?;
        let layout = Layout::default();
        Ok(Box::new(Sum { stage: Stage::Looking, layout, stacks: 0, kinds: [Part::default(); Kind::ALL.len()] }))
    },
};

struct Sum {
    stage: Stage,
    layout: Layout,
    kinds: [Part; Kind::ALL.len()],
    /// Stacks that were found.
    stacks: usize,
}

enum Stage {
    Looking,
    Learning(Stacks),
    Reading(Stacks, Reader),
}

/// The mappings of one kind.
#[derive(Clone, Copy, Default)]
struct Part {
    count: usize,
    size: u64,
    usage: Usage,
}

impl Job for Sum {
    fn step(&mut self, world: &mut World, out: &mut Output) -> Step {
        let end = Instant::now() + SLICE;
        match std::mem::replace(&mut self.stage, Stage::Looking) {
            Stage::Looking => {
                if let Err(error) = world.look() {
                    return fail(out, &error);
                }
                match Stacks::new(world.own_tid) {
                    Ok(stacks) => self.stage = Stage::Learning(stacks),
                    Err(error) => return fail(out, &format!("cannot list /proc/self/task: {}", error.desc())),
                }
            }
            Stage::Learning(mut stacks) => {
                self.stage = if learn(&mut stacks, end) {
                    Stage::Learning(stacks)
                } else {
                    match Reader::open(true) {
                        Ok(reader) => Stage::Reading(stacks, reader),
                        Err(error) => return fail(out, &format!("cannot read the mappings: {}", error.desc())),
                    }
                };
            }
            Stage::Reading(stacks, mut reader) => {
                loop {
                    let more = reader.read(|mapping| {
                        let placed = self.layout.push(mapping, &stacks, &world.modules);
                        placed.iter().for_each(|placed| add(&mut self.kinds, &mut self.stacks, placed));
                    });
                    match more {
                        Ok(true) if Instant::now() < end => (),
                        Ok(true) => break,
                        Ok(false) => return self.finish(&stacks, world, out),
                        Err(error) => {
                            return fail(out, &format!("cannot read on in the mappings: {}", error.desc()));
                        }
                    }
                }
                self.stage = Stage::Reading(stacks, reader);
            }
        }
        Step::More
    }
}

fn add(kinds: &mut [Part; Kind::ALL.len()], stacks: &mut usize, placed: &Placed) {
    *stacks += usize::from(placed.kind == Kind::Stack);
    let Some(part) = kinds.get_mut(placed.kind as usize) else { return };
    part.count += 1;
    part.size = part.size.saturating_add(placed.mapping.size());
    placed.mapping.usage.iter().for_each(|usage| part.usage.add(usage));
}

impl Sum {
    fn finish(&mut self, stacks: &Stacks, world: &mut World, out: &mut Output) -> Step {
        self.layout.end().iter().for_each(|placed| add(&mut self.kinds, &mut self.stacks, placed));
        let mut usage = Usage::default();
        self.kinds.iter().for_each(|part| usage.add(&part.usage));
        let size = self.kinds.iter().map(|part| part.size).sum();
        let now = Figures {
            at: clock::monotonic(),
            resident: usage.resident,
            proportional: usage.proportional,
            size,
            by_kind: self.kinds.map(|part| part.usage.resident),
            faults: faults(),
        };
        let before = world.memory.last(world.client.number);
        world.memory.keep(world.client.number, now);
        let grown = |field: fn(&Figures) -> u64| before.map(|(before, _)| difference(field(&now), field(&before)));
        out.note(HEADING);
        for (index, (kind, part)) in Kind::ALL.iter().zip(&self.kinds).enumerate() {
            let was = before.map(|(before, _)| before.by_kind.get(index).copied().unwrap_or_default());
            if part.count > 0 || was.unwrap_or_default() > 0 {
                out.put(&Row {
                    purpose: kind.word(),
                    mappings: part.count,
                    size_bytes: part.size,
                    rss_bytes: part.usage.resident,
                    pss_bytes: part.usage.proportional,
                    private_dirty_bytes: part.usage.private_dirty,
                    swap_bytes: part.usage.swapped,
                    rss_growth_bytes: was.map(|was| difference(part.usage.resident, was)),
                });
            }
        }
        let mut buffer = [0; process::STATUS_BYTES];
        let status = read_small(libc::AT_FDCWD, c"/proc/thread-self/status", &mut buffer).unwrap_or_default();
        let field = |name| process::status_field(status, name).and_then(kilobytes);
        let (manhole, manhole_peak) = allocator::usage();
        out.put(&Total {
            rss_bytes: usage.resident,
            pss_bytes: usage.proportional,
            private_bytes: usage.private_clean + usage.private_dirty,
            shared_bytes: usage.shared,
            swap_bytes: usage.swapped,
            peak_rss_bytes: field("VmHWM"),
            size_bytes: size,
            peak_size_bytes: field("VmPeak"),
            page_tables_bytes: field("VmPTE"),
            huge_bytes: usage.huge,
            locked_bytes: usage.locked,
            stacks: self.stacks,
            stacks_unknown: stacks.unknown,
            minor_faults: now.faults[0],
            major_faults: now.faults[1],
            manhole_bytes: manhole,
            manhole_peak_bytes: manhole_peak,
            since_seconds: before.map(|(before, _)| Duration::from_nanos(now.at.saturating_sub(before.at))),
            since_own_call: before.map(|(_, own)| own),
            rss_growth_bytes: grown(|figures| figures.resident),
            pss_growth_bytes: grown(|figures| figures.proportional),
            size_growth_bytes: grown(|figures| figures.size),
            minor_faults_since: before.map(|(before, _)| now.faults[0].saturating_sub(before.faults[0])),
            major_faults_since: before.map(|(before, _)| now.faults[1].saturating_sub(before.faults[1])),
        });
        Step::Done(Status::Success)
    }
}

fn difference(now: u64, before: u64) -> i64 {
    i64::try_from(now).unwrap_or(i64::MAX).saturating_sub(i64::try_from(before).unwrap_or(i64::MAX))
}

/// Page faults of the whole process until now: fields 10 and 12 of `stat` (man 5 proc_pid_stat).
fn faults() -> [u64; 2] {
    let mut buffer = [0; 1024];
    let stat = read_small(libc::AT_FDCWD, c"/proc/self/stat", &mut buffer).unwrap_or_default();
    let rest = stat.iter().rposition(|&byte| byte == b')').and_then(|close| stat.get(close + 1..)).unwrap_or_default();
    // The first word is field 3.
    let mut fields = rest.trim_ascii().split(|&byte| byte == b' ').skip(7);
    let mut next = |skip| fields.nth(skip).and_then(decimal).unwrap_or_default();
    [next(0), next(1)]
}

record! {
    /// The mappings of one kind.
    struct Row as "memory_kind" {
        /// heap (brk), anonymous, stack, code, data (of loaded objects), file, shared, reserved or kernel.
        purpose: &'static str,
        /// How many there are.
        mappings: usize,
        /// Address space.
        size_bytes: u64,
        /// In memory.
        rss_bytes: u64,
        /// In memory, each page divided by the number of its users.
        pss_bytes: u64,
        /// In memory and changed, this process's alone.
        private_dirty_bytes: u64,
        /// In swap space.
        swap_bytes: u64,
        /// What rss_bytes has gained since the last call; null at the first.
        rss_growth_bytes: Option<i64>,
    }
}

record! {
    /// The memory of the whole process.
    struct Total as "memory" {
        /// In memory.
        rss_bytes: u64,
        /// In memory, each page divided by the number of its users.
        pss_bytes: u64,
        /// In memory, this process's alone.
        private_bytes: u64,
        /// In memory, with other mappings of the same pages.
        shared_bytes: u64,
        /// In swap space.
        swap_bytes: u64,
        /// The most that ever was in memory (VmHWM).
        peak_rss_bytes: Option<u64>,
        /// Address space, the sum of all mappings.
        size_bytes: u64,
        /// The most that ever was (VmPeak).
        peak_size_bytes: Option<u64>,
        /// Page tables (VmPTE).
        page_tables_bytes: Option<u64>,
        /// In memory in transparent huge pages.
        huge_bytes: u64,
        /// Locked in memory.
        locked_bytes: u64,
        /// Stacks of threads that were found.
        stacks: usize,
        /// Threads whose stack pointer is not known, for they run: their stacks are among the anonymous memory.
        stacks_unknown: usize,
        /// Page faults that needed no reading, since the process began.
        minor_faults: u64,
        /// Page faults that had to read.
        major_faults: u64,
        /// What the manhole has mapped for itself, in memory or not; it is among the anonymous memory.
        manhole_bytes: usize,
        /// The most that ever was.
        manhole_peak_bytes: usize,
        /// Seconds since the call that growth is counted from; null when there was none.
        since_seconds: Option<Duration>,
        /// That call was this session's.
        since_own_call: Option<bool>,
        /// What rss_bytes has gained since then.
        rss_growth_bytes: Option<i64>,
        /// What pss_bytes has gained since then.
        pss_growth_bytes: Option<i64>,
        /// What size_bytes has gained since then.
        size_growth_bytes: Option<i64>,
        /// Minor faults since then.
        minor_faults_since: Option<u64>,
        /// Major faults since then.
        major_faults_since: Option<u64>,
    }
}

const HEADING: &str = "KIND       MAPPINGS       SIZE        RSS        PSS      DIRTY       SWAP     GROWTH\n";

impl Line for Row {
    fn line(&self, out: &mut Vec<u8>) {
        let mut text = format!("{:<10} {:>8}", self.purpose, self.mappings);
        let figures = [self.size_bytes, self.rss_bytes, self.pss_bytes, self.private_dirty_bytes, self.swap_bytes];
        for bytes in figures {
            // Writing into a String cannot fail, here and below.
            let _ = write!(text, " {:>10}", human(bytes));
        }
        let growth = self.rss_growth_bytes.map_or("-".to_owned(), signed);
        let _ = writeln!(text, " {growth:>10}");
        out.extend_from_slice(text.as_bytes());
    }
}

impl Line for Total {
    fn line(&self, out: &mut Vec<u8>) {
        let known = |bytes: Option<u64>| bytes.map_or("unknown".to_owned(), human);
        let mut text = format!(
            "RSS {} (most {}), PSS {}, private {}, shared {}, swap {}\n",
            human(self.rss_bytes),
            known(self.peak_rss_bytes),
            human(self.pss_bytes),
            human(self.private_bytes),
            human(self.shared_bytes),
            human(self.swap_bytes),
        );
        // Writing into a String cannot fail.
        let _ = writeln!(
            text,
            "address space {} (most {}), page tables {}, huge pages {}, locked {}",
            human(self.size_bytes),
            known(self.peak_size_bytes),
            known(self.page_tables_bytes),
            human(self.huge_bytes),
            human(self.locked_bytes),
        );
        let unknown = match self.stacks_unknown {
            0 => String::new(),
            unknown => format!(" ({unknown} threads run: theirs are among the anonymous memory)"),
        };
        let _ = writeln!(
            text,
            "{} stacks{unknown}, {} minor and {} major page faults; the manhole has mapped {} (most {})",
            self.stacks,
            self.minor_faults,
            self.major_faults,
            human(self.manhole_bytes as u64),
            human(self.manhole_peak_bytes as u64),
        );
        if let (Some(time), Some(rss), Some(pss), Some(size)) =
            (self.since_seconds, self.rss_growth_bytes, self.pss_growth_bytes, self.size_growth_bytes)
        {
            let whose = if self.since_own_call == Some(true) { "the last call" } else { "another session's last call" };
            let _ = writeln!(
                text,
                "since {whose}, {} ago: RSS {}, PSS {}, address space {}, {} minor and {} major page faults",
                duration(time),
                signed(rss),
                signed(pss),
                signed(size),
                self.minor_faults_since.unwrap_or_default(),
                self.major_faults_since.unwrap_or_default(),
            );
        }
        out.extend_from_slice(text.as_bytes());
    }
}
