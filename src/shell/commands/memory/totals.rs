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
use crate::shell::parse::Arguments;
use crate::shell::record::Line;
use crate::shell::{Command, Job, Step, World};
use crate::sys::procfs::read_small;
use crate::sys::{allocator, clock, process};

pub const COMMAND: Command = Command {
    name: "mem",
    level: Level::Observe,
    synopsis: "[--walk]",
    summary: "Show the memory of the process: in use, shared, swapped, by kind, peaks and faults, growth since the last call.",
    help: "mem\n\
           mem --walk              also in a large process: PSS, private and shared, RSS by kind\n\n\
           RSS is what is in memory; PSS the same with each page divided by the number of its users; DIRTY what this\n\
           process alone has and has changed. Growth is what RSS has gained since this session's last call, or, at\n\
           its first, since anybody's. The kinds are those of maps. A stack counts as such while its thread sits in a\n\
           system call.\n\n\
           For all but the sums the kernel walks the page tables, and threads that map or unmap memory wait meanwhile\n\
           (help maps). So with an RSS of more than 256 MiB that is only done with --walk. Without it RSS comes from\n\
           counters of the kernel that may be some hundred KiB off.",
    schemas: &[Row::schema, Total::schema],
    start: |words| {
        let arguments = Arguments::parse(words, &[WALK], &[])?;
        no_arguments(&arguments.rest.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())?;
        let (stage, layout, walk) = (Stage::Looking, Layout::default(), arguments.has(WALK));
        Ok(Box::new(Sum { stage, layout, walk, stacks: 0, kinds: [Part::default(); Kind::ALL.len()] }))
    },
};

const WALK: &str = "--walk";
/// Page tables of no more memory than this are walked unasked.
const UNASKED: u64 = 256 << 20;

struct Sum {
    stage: Stage,
    layout: Layout,
    /// To walk, or to count the mappings alone.
    walk: bool,
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
                self.walk |= Counters::read().field("VmRSS").is_some_and(|resident| resident <= UNASKED);
                match Stacks::new(world.own_tid) {
                    Ok(stacks) => self.stage = Stage::Learning(stacks),
                    Err(error) => return fail(out, &format!("cannot list /proc/self/task: {}", error.desc())),
                }
            }
            Stage::Learning(mut stacks) => {
                self.stage = if learn(&mut stacks, end) {
                    Stage::Learning(stacks)
                } else {
                    match Reader::open(self.walk) {
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
        let (counters, walked) = (Counters::read(), self.walk.then_some(usage));
        let size = self.kinds.iter().map(|part| part.size).sum();
        let resident = walked.map(|usage| usage.resident).or(counters.field("VmRSS")).unwrap_or_default();
        let now = Figures {
            at: clock::monotonic(),
            resident,
            proportional: walked.map(|usage| usage.proportional),
            size,
            by_kind: walked.map(|_| self.kinds.map(|part| part.usage.resident)),
            faults: faults(),
        };
        let before = world.memory.last(world.client.number);
        world.memory.keep(world.client.number, now);
        let (before, since_own_call) = before.unzip();
        out.note(HEADING);
        let was = before.and_then(|before| before.by_kind);
        for (index, (kind, part)) in Kind::ALL.iter().zip(&self.kinds).enumerate() {
            let was = was.and_then(|was| was.get(index).copied());
            if part.count == 0 && was.unwrap_or_default() == 0 {
                continue;
            }
            let usage = walked.map(|_| part.usage);
            out.put(&Row {
                purpose: kind.word(),
                mappings: part.count,
                size_bytes: part.size,
                rss_bytes: usage.map(|usage| usage.resident),
                pss_bytes: usage.map(|usage| usage.proportional),
                private_dirty_bytes: usage.map(|usage| usage.private_dirty),
                swap_bytes: usage.map(|usage| usage.swapped),
                rss_growth_bytes: usage.zip(was).map(|(usage, was)| difference(usage.resident, was)),
            });
        }
        let (manhole, manhole_peak) = allocator::usage();
        let pss = now.proportional.zip(before.and_then(|before| before.proportional));
        let [minor, major] = now.faults;
        out.put(&Total {
            walked: self.walk,
            rss_bytes: resident,
            pss_bytes: now.proportional,
            private_bytes: walked.map(|usage| usage.private_clean + usage.private_dirty),
            shared_bytes: walked.map(|usage| usage.shared),
            swap_bytes: walked.map(|usage| usage.swapped).or(counters.field("VmSwap")),
            peak_rss_bytes: counters.field("VmHWM"),
            rss_anonymous_bytes: counters.field("RssAnon"),
            rss_file_bytes: counters.field("RssFile"),
            rss_shared_memory_bytes: counters.field("RssShmem"),
            size_bytes: size,
            peak_size_bytes: counters.field("VmPeak"),
            page_tables_bytes: counters.field("VmPTE"),
            huge_bytes: walked.map(|usage| usage.huge),
            locked_bytes: counters.field("VmLck"),
            stacks: self.stacks,
            stacks_unknown: stacks.unknown,
            minor_faults: minor,
            major_faults: major,
            manhole_bytes: manhole,
            manhole_peak_bytes: manhole_peak,
            since_seconds: before.map(|before| Duration::from_nanos(now.at.saturating_sub(before.at))),
            since_own_call,
            rss_growth_bytes: before.map(|before| difference(resident, before.resident)),
            pss_growth_bytes: pss.map(|(now, before)| difference(now, before)),
            size_growth_bytes: before.map(|before| difference(size, before.size)),
            minor_faults_since: before.map(|before| minor.saturating_sub(before.faults[0])),
            major_faults_since: before.map(|before| major.saturating_sub(before.faults[1])),
        });
        Step::Done(Status::Success)
    }
}

/// What the kernel counts anyway: `status`.
struct Counters {
    buffer: [u8; process::STATUS_BYTES],
    length: usize,
}

impl Counters {
    fn read() -> Self {
        let mut buffer = [0; process::STATUS_BYTES];
        let length = read_small(libc::AT_FDCWD, c"/proc/thread-self/status", &mut buffer).map_or(0, <[u8]>::len);
        Self { buffer, length }
    }

    fn field(&self, name: &str) -> Option<u64> {
        kilobytes(process::status_field(self.buffer.get(..self.length)?, name)?)
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
        /// In memory; this and what follows only after a walk of the page tables.
        rss_bytes: Option<u64>,
        /// In memory, each page divided by the number of its users.
        pss_bytes: Option<u64>,
        /// In memory and changed, this process's alone.
        private_dirty_bytes: Option<u64>,
        /// In swap space.
        swap_bytes: Option<u64>,
        /// What rss_bytes has gained since the last call; null at the first, and without a walk then and now.
        rss_growth_bytes: Option<i64>,
    }
}

record! {
    /// The memory of the whole process.
    struct Total as "memory" {
        /// The page tables were walked; if not, what needs that is null, and rss_bytes some hundred KiB off at most.
        walked: bool,
        /// In memory.
        rss_bytes: u64,
        /// In memory, each page divided by the number of its users.
        pss_bytes: Option<u64>,
        /// In memory, this process's alone.
        private_bytes: Option<u64>,
        /// In memory, with other mappings of the same pages.
        shared_bytes: Option<u64>,
        /// In swap space.
        swap_bytes: Option<u64>,
        /// The most that ever was in memory (VmHWM).
        peak_rss_bytes: Option<u64>,
        /// Of RSS, as the kernel counts it: memory of no file.
        rss_anonymous_bytes: Option<u64>,
        /// Of files.
        rss_file_bytes: Option<u64>,
        /// Shared memory.
        rss_shared_memory_bytes: Option<u64>,
        /// Address space, the sum of all mappings.
        size_bytes: u64,
        /// The most that ever was (VmPeak).
        peak_size_bytes: Option<u64>,
        /// Page tables (VmPTE).
        page_tables_bytes: Option<u64>,
        /// In memory in transparent huge pages.
        huge_bytes: Option<u64>,
        /// Locked in memory.
        locked_bytes: Option<u64>,
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
        let mut text = format!("{:<10} {:>8} {:>10}", self.purpose, self.mappings, human(self.size_bytes));
        for bytes in [self.rss_bytes, self.pss_bytes, self.private_dirty_bytes, self.swap_bytes] {
            // Writing into a String cannot fail, here and below.
            let _ = write!(text, " {:>10}", bytes.map_or("-".to_owned(), human));
        }
        let growth = self.rss_growth_bytes.map_or("-".to_owned(), signed);
        let _ = writeln!(text, " {growth:>10}");
        out.extend_from_slice(text.as_bytes());
    }
}

impl Line for Total {
    fn line(&self, out: &mut Vec<u8>) {
        let known = |bytes: Option<u64>| bytes.map_or("unknown".to_owned(), human);
        let (rss, size) = (human(self.rss_bytes), human(self.size_bytes));
        let mut text = format!("RSS {rss} (most {})", known(self.peak_rss_bytes));
        // Writing into a String cannot fail, here and below.
        let _ = match (self.pss_bytes, self.private_bytes, self.shared_bytes) {
            (Some(pss), Some(private), Some(shared)) => {
                write!(text, ", PSS {}, private {}, shared {}", human(pss), human(private), human(shared))
            }
            _ => write!(
                text,
                ": anonymous {}, files {}, shared memory {}",
                known(self.rss_anonymous_bytes),
                known(self.rss_file_bytes),
                known(self.rss_shared_memory_bytes)
            ),
        };
        let _ = writeln!(text, ", swap {}", known(self.swap_bytes));
        let huge = self.huge_bytes.map(|bytes| format!(", huge pages {}", human(bytes))).unwrap_or_default();
        let _ = writeln!(
            text,
            "address space {size} (most {}), page tables {}, locked {}{huge}",
            known(self.peak_size_bytes),
            known(self.page_tables_bytes),
            known(self.locked_bytes),
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
        if let (Some(time), Some(rss), Some(size)) = (self.since_seconds, self.rss_growth_bytes, self.size_growth_bytes)
        {
            let whose = if self.since_own_call == Some(true) { "the last call" } else { "another session's last call" };
            let pss = self.pss_growth_bytes.map(|pss| format!(", PSS {}", signed(pss))).unwrap_or_default();
            let _ = writeln!(
                text,
                "since {whose}, {} ago: RSS {}{pss}, address space {}, {} minor and {} major page faults",
                duration(time),
                signed(rss),
                signed(size),
                self.minor_faults_since.unwrap_or_default(),
                self.major_faults_since.unwrap_or_default(),
            );
        }
        if !self.walked {
            text.push_str(
                "PSS and RSS by kind take a walk of the page tables, which may hold up other threads: mem --walk\n",
            );
        }
        out.extend_from_slice(text.as_bytes());
    }
}
