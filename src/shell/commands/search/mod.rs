//! `search`: where a value, a string or a pointer stands in memory.

#![forbid(unsafe_code)]

mod wanted;

use std::ops::Range;
use std::time::{Duration, Instant};

use super::memory::human;
use super::{Cut, fail};
use crate::config::level::Level;
use crate::inspect::scan::{Counts, Needle, Piece, Scan};
use crate::inspect::strings::Escaped;
use crate::inspect::threads::{self, Reader};
use crate::protocol::Status;
use crate::record;
use crate::shell::address::Evaluation;
use crate::shell::json::{Bytes, Hex};
use crate::shell::output::Output;
use crate::shell::parse::Arguments;
use crate::shell::place;
use crate::shell::record::Line;
use crate::shell::{Command, Job, Step, World};
use crate::stack::capture::dumpable::Dumpable;
use crate::stack::modules::maps;
use crate::sys::Errno;
use crate::sys::memory::{Live, Memory};
use crate::sys::procfs::{self, File};
use wanted::{Wanted, Within, understand};

pub const COMMAND: Command = Command {
    name: "search",
    level: Level::Observe,
    synopsis: "VALUE|TEXT|hex:BYTES|ADDRESS [--in GLOB|START-END] [--width 1|2|4|8] [--aligned] [--all] [--swapped] [--limit N]",
    summary: "Find a number, a text, bytes or the pointers to an address in the memory of the process.",
    help: "search 4711                      a number, as a word of eight bytes\n\
           search -1 --width 4 --aligned    one of four bytes, at multiples of four\n\
           search 'connection refused'      a text; text:WORD where WORD could be taken for something else\n\
           search hex:7f454c46              bytes\n\
           search &server                   who points to it: any address as in x (&NAME, *NAME, NAME+8, MODULE:NAME+0)\n\
           search 4711 --in '[heap]'        in mappings by name or file name; anonymous is what has no name\n\
           search 4711 --in 0x7f00-0x8f00   or in a range\n\n\
           Looks in memory that can be written and is the process's own; with --all in all that can be read. Only pages\n\
           that are there are read, so that sparse memory stays sparse, and beside them the variables of files that are\n\
           mapped to be written privately; --swapped reads what was swapped out, too. The\n\
           manhole's own memory is left out. The process runs meanwhile: what moves may be missed.",
    schemas: &[Match::schema, Summary::schema, Cut::schema],
    start: |words| {
        let arguments = Arguments::parse(words, &["--aligned", "--all", "--swapped"], &["--in", "--limit", "--width"])?;
        let [wanted] = arguments.rest.as_slice() else {
            return Err("takes one value; a text with blanks needs quotes".to_owned());
        };
        let width = arguments.number("--width", 1)?.unwrap_or(8) as usize;
        if ![1, 2, 4, 8].contains(&width) {
            return Err(format!("--width expects 1, 2, 4 or 8, not {width}"));
        }
        Ok(Box::new(Find {
            wanted: (*wanted).to_owned(),
            width,
            aligned: arguments.has("--aligned"),
            all: arguments.has("--all"),
            swapped: arguments.has("--swapped"),
            within: arguments.value("--in").map(Within::new).transpose()?,
            limit: arguments.number("--limit", 1)?.unwrap_or(100) as usize,
            found: 0,
            stage: Stage::Looking,
        }))
    },
};

/// How long a step works.
const SLICE: Duration = Duration::from_millis(4);
/// How often a person hears of it.
const REMARK: Duration = Duration::from_secs(2);
/// Bytes that are searched for at most: in memory that repeats itself each place is compared as far as they go.
const LONGEST: usize = 1024;
/// Bytes of a match that are shown.
const PREVIEW: usize = 64;
/// Matches that are named in one step.
const BATCH: usize = 64;

struct Find {
    wanted: String,
    width: usize,
    aligned: bool,
    all: bool,
    swapped: bool,
    within: Option<Within>,
    limit: usize,
    found: usize,
    stage: Stage,
}

enum Stage {
    Looking,
    Evaluating(Evaluation),
    Scanning(Box<Scanning>),
}

/// A search under way.
struct Scanning {
    /// Threads whose stacks are yet to be placed.
    tids: std::vec::IntoIter<i32>,
    scan: Scan,
    mappings: Vec<Mapping>,
    is_text: bool,
    /// Found, and not shown yet.
    found: Vec<u64>,
    remarked: Instant,
    is_done: bool,
}

/// A mapping that is searched.
struct Mapping {
    range: Range<u64>,
    printed: Vec<u8>,
    /// Stack pointers of threads that lie in it.
    stacks: Vec<i32>,
}

record! {
    /// Where it stands.
    struct Match as "match" {
        /// The address.
        address: Hex,
        /// SYMBOL+OFFSET of what covers that.
        symbol: Option<String>,
        /// The mapping: file, heap, stack, anonymous memory.
        mapping: String,
        /// The thread whose stack lies in that mapping, if it is one only.
        stack_of: Option<i32>,
        /// For a text: it, and what follows it.
        text: Option<Bytes>,
    }
}

record! {
    /// What was looked through.
    struct Summary as "searched" {
        /// Matches that are shown.
        matches: usize,
        /// Bytes read.
        read_bytes: u64,
        /// Bytes of pages that are not there: never touched, or on disk.
        absent_bytes: u64,
        /// Bytes of pages that were swapped out, and not read.
        swapped_bytes: u64,
        /// Bytes that could not be read all the same.
        unreadable_bytes: u64,
    }
}

impl Line for Match {
    fn line(&self, out: &mut Vec<u8>) {
        let symbol = self.symbol.as_ref().map_or_else(String::new, |symbol| format!(" {symbol}"));
        let text = self.text.as_ref().map_or_else(String::new, |text| format!("   \"{}\"", Escaped(&text.0)));
        out.extend_from_slice(format!("{:#018x}{symbol} ({}){text}\n", self.address.0, self.mapping).as_bytes());
    }
}

impl Line for Summary {
    fn line(&self, out: &mut Vec<u8>) {
        let matches = match self.matches {
            0 => "no match".to_owned(),
            1 => "1 match".to_owned(),
            count => format!("{count} matches"),
        };
        let left = [
            (self.absent_bytes, "not in memory"),
            (self.swapped_bytes, "swapped out (--swapped reads it)"),
            (self.unreadable_bytes, "unreadable"),
        ];
        let left = left.iter().filter(|(bytes, _)| *bytes > 0).map(|(bytes, what)| format!("{} {what}", human(*bytes)));
        let left: Vec<String> = left.collect();
        let left = if left.is_empty() { String::new() } else { format!("; left out: {}", left.join(", ")) };
        out.extend_from_slice(format!("{matches} in {}{left}\n", human(self.read_bytes)).as_bytes());
    }
}

impl Find {
    fn needle(&self, bytes: Vec<u8>, is_number: bool) -> Result<Needle, String> {
        if self.aligned && !is_number {
            return Err("--aligned is for numbers and addresses: a text stands anywhere".to_owned());
        }
        if bytes.len() > LONGEST {
            return Err(format!("at most {LONGEST} bytes are searched for"));
        }
        let alignment = if self.aligned { bytes.len() as u64 } else { 1 };
        Needle::new(bytes, alignment).ok_or_else(|| "nothing to search for".to_owned())
    }

    fn scan(&self, world: &World, needle: Needle, is_text: bool) -> Result<Stage, String> {
        let (mut mappings, mut pieces) = (Vec::new(), Vec::new());
        let own =
            world.modules.find(Self::scan as fn(&Self, &World, Needle, bool) -> Result<Stage, String> as usize as u64);
        let own = own.map(|module| module.start..module.end);
        maps::for_each(|mapping| {
            let is_private = mapping.writable && !mapping.shared;
            // What a read may do to a device is not ours to try. The kernel's own pages hold no data of the application.
            let is_device = mapping.path.starts_with(b"/dev/")
                && ![&b"/dev/shm/"[..], b"/dev/zero"].iter().any(|name| mapping.path.starts_with(name));
            let is_kernels = mapping.path.starts_with(b"[v") && mapping.path != b"[vdso]";
            let is_wanted = mapping.readable && (self.all || is_private) && !is_device && !is_kernels;
            if !is_wanted {
                return;
            }
            let whole = mapping.start..mapping.end;
            let part =
                self.within.as_ref().map_or(Some(whole.clone()), |within| within.part(whole.clone(), mapping.path));
            let Some(part) = part else { return };
            // Whole pages: matches outside of the range are dropped again.
            let pages = part.start & !4095..part.end.next_multiple_of(4096).min(mapping.end);
            pieces.push(Piece { range: pages, with_absent: is_private && mapping.inode != 0 });
            mappings.push(Mapping { range: whole, printed: mapping.path.to_vec(), stacks: Vec::new() });
        })
        .map_err(|error| format!("cannot read /proc/self/maps: {}", error.desc()))?;
        if pieces.is_empty() {
            return Err("no memory to look in: nothing is mapped there that can be read, and written (--all) by this process alone".to_owned());
        }
        // A process that dropped its privileges shows root alone which pages are there.
        let mut dumpable = Dumpable::default();
        if File::open(c"/proc/thread-self/pagemap").is_err_and(|error| error == Errno::EACCES || error == Errno::EPERM)
        {
            dumpable.allow();
        }
        let scan = Scan::new(needle, pieces, own, self.swapped);
        Ok(Stage::Scanning(Box::new(Scanning {
            tids: procfs::thread_ids().unwrap_or_default().into_iter(),
            scan,
            mappings,
            is_text,
            found: Vec::new(),
            remarked: Instant::now(),
            is_done: false,
        })))
    }

    fn look(&self, world: &mut World) -> Result<Stage, String> {
        world.look()?;
        match understand(&self.wanted, self.width, &world.names)? {
            Wanted::Address => Evaluation::new(&self.wanted).map(Stage::Evaluating),
            Wanted::Text(text) => self.scan(world, self.needle(text, false)?, true),
            Wanted::Bytes(bytes) => {
                let is_number = !self.wanted.starts_with("hex:");
                self.scan(world, self.needle(bytes, is_number)?, false)
            }
        }
    }

    /// Looks on, and shows some of what was found.
    fn search(&mut self, world: &mut World, out: &mut Output) -> Result<Step, String> {
        let Stage::Scanning(scanning) = &mut self.stage else { return Ok(Step::More) };
        if scanning.place_stacks() {
            return Ok(Step::More);
        }
        if scanning.found.is_empty() && !scanning.is_done {
            let more = scanning.scan.step(&Live, Instant::now() + SLICE, &mut scanning.found);
            scanning.is_done = !more.map_err(|error| format!("cannot read /proc/self/pagemap: {}", error.desc()))?;
            if let Some(Within::Addresses(range)) = &self.within {
                scanning.found.retain(|address| range.contains(address));
            }
        }
        let count = scanning.found.len().min(BATCH).min(self.limit - self.found);
        let shown: Vec<u64> = scanning.found.drain(..count).collect();
        self.found += count;
        world.symbolizer.resolve(&world.modules, &shown);
        shown.iter().for_each(|address| out.put(&scanning.row(world, *address)));
        if self.found == self.limit && !(scanning.is_done && scanning.found.is_empty()) {
            out.put(&Cut {
                limit: self.limit,
                note: format!("stopped after {} matches; --limit N shows more", self.limit),
            });
        } else if !scanning.found.is_empty() || !scanning.is_done {
            return Ok(scanning.remark());
        }
        let Counts { read, absent, swapped, unreadable } = scanning.scan.counts();
        out.put(&Summary {
            matches: self.found,
            read_bytes: read,
            absent_bytes: absent,
            swapped_bytes: swapped,
            unreadable_bytes: unreadable,
        });
        Ok(Step::Done(Status::Success))
    }
}

impl Scanning {
    /// Notes in which mappings the next threads have their stacks; whether there were any left.
    fn place_stacks(&mut self) -> bool {
        let Some(first) = self.tids.as_slice().first() else { return false };
        // As in `threads`: a process that dropped its privileges shows this to root alone.
        let mut dumpable = Dumpable::default();
        if !Reader::new().shows_calls(*first) {
            dumpable.allow();
        }
        for tid in self.tids.by_ref().take(BATCH) {
            let Some(pointer) = threads::stack_pointer(tid) else { continue };
            let at = self.mappings.partition_point(|mapping| mapping.range.end <= pointer);
            if let Some(mapping) = self.mappings.get_mut(at).filter(|mapping| mapping.range.start <= pointer) {
                mapping.stacks.push(tid);
            }
        }
        true
    }

    fn remark(&mut self) -> Step {
        if self.remarked.elapsed() < REMARK {
            return Step::More;
        }
        self.remarked = Instant::now();
        let (done, total) = self.scan.progress();
        let percent = done as f64 * 100.0 / (total.max(1)) as f64;
        Step::Remark(format!("{percent:.0} % of {} looked through", human(total)))
    }

    fn row(&self, world: &World, address: u64) -> Match {
        let at = self.mappings.partition_point(|mapping| mapping.range.end <= address);
        let mapping = self.mappings.get(at);
        let stack_of = mapping.and_then(|mapping| match mapping.stacks.as_slice() {
            [only] => Some(*only),
            _ => None,
        });
        let text = self.is_text.then(|| {
            let mut bytes = [0; PREVIEW];
            let count = Live.read(address, &mut bytes);
            let bytes = bytes.get(..count).unwrap_or_default();
            Bytes(bytes.split(|byte| byte.is_ascii_control()).next().unwrap_or_default().to_vec())
        });
        Match {
            address: Hex(address),
            symbol: place::symbol(world, address),
            mapping: mapping.map_or_else(String::new, |mapping| mapping.describe(address)),
            stack_of,
            text,
        }
    }
}

impl Mapping {
    fn describe(&self, address: u64) -> String {
        let at = address.wrapping_sub(self.range.start);
        match (self.printed.as_slice(), self.stacks.as_slice()) {
            (b"[heap]", _) => format!("heap + {at:#x}"),
            (b"[stack]", _) => "stack of the first thread".to_owned(),
            (b"", [only]) => {
                let name = threads::name(*only);
                format!("anonymous memory + {at:#x}, with the stack of thread {only} \"{}\"", Escaped(&name))
            }
            (b"", [_, _, ..]) => {
                format!("anonymous memory + {at:#x}, with the stacks of {} threads", self.stacks.len())
            }
            (b"", []) => format!("anonymous memory + {at:#x}"),
            ([b'/', ..], _) => {
                Escaped(self.printed.rsplit(|byte| *byte == b'/').next().unwrap_or_default()).to_string()
            }
            (other, _) => format!("{} + {at:#x}", Escaped(other)),
        }
    }
}

impl Job for Find {
    fn step(&mut self, world: &mut World, out: &mut Output) -> Step {
        let next = match &mut self.stage {
            Stage::Looking => self.look(world),
            Stage::Evaluating(evaluation) => match evaluation.step(&world.names, &world.modules) {
                None => return Step::More,
                Some(Err(error)) => Err(format!("{error}; text:{} searches for the text", self.wanted)),
                Some(Ok(address)) => {
                    let needle = self.needle(address.to_le_bytes().to_vec(), true);
                    needle.and_then(|needle| self.scan(world, needle, false))
                }
            },
            Stage::Scanning(_) => match self.search(world, out) {
                Ok(step) => return step,
                Err(error) => Err(error),
            },
        };
        match next {
            Ok(stage) => {
                self.stage = stage;
                Step::More
            }
            Err(error) => fail(out, &error),
        }
    }
}
