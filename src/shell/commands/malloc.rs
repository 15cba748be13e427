//! `malloc`, `trim`: the application's allocator.
//!
//! The actor asks it: that takes its locks, which a thread of the application may hold for ever. Then it hangs, and says so.

#![forbid(unsafe_code)]

use super::call::UNGUARDED;
use super::memory::human;
use super::no_arguments;
use crate::config::level::Level;
use crate::inspect::strings::Escaped;
use crate::record;
use crate::shell::Command;
use crate::shell::crash::Crashed;
use crate::shell::errand::{Errand, Guarding};
use crate::shell::json::Bytes;
use crate::shell::output::Text;
use crate::shell::parse::Arguments;
use crate::shell::record::Line;
use crate::shell::spool::Writer;
use crate::shell::stack_record::Stack;
use crate::sys::heap::{Heap, Kind};
use crate::sys::{process, procfs};

pub const COMMAND: Command = Command {
    name: "malloc",
    level: Level::Observe,
    synopsis: "[--raw] [--unguarded]",
    summary: "Show what the allocator has, and what of it is in use.",
    help: "malloc                  totals; of glibc's also each arena\n\
           malloc --raw            what the allocator prints about itself: malloc_info, malloc_stats_print ...\n\
           malloc --unguarded      where there can be no guard; takes the level operate\n\n\
           The allocator is the one that malloc means to the process: glibc, jemalloc, tcmalloc (gperftools) and mimalloc\n\
           are understood. It is asked on the actor and takes its own locks for that: where one is held for ever this\n\
           hangs, which stacks then shows, and exit leaves. A heap so corrupt that asking crashes is survived as by call;\n\
           but an arena that was being looked at then stays locked, and who allocates from it hangs.",
    schemas: &[Totals::schema, Arena::schema, Text::schema, Crashed::schema, Stack::schema],
    start: |words| {
        let arguments = Arguments::parse(words, &["--raw", UNGUARDED], &[])?;
        if let Some(word) = arguments.rest.first() {
            return Err(format!("takes no argument, not {word:?}"));
        }
        let guarding = if arguments.has(UNGUARDED) { Guarding::Never } else { Guarding::Always };
        let work = if arguments.has("--raw") { print } else { count };
        // An observer may ask, and not risk the process.
        let level = if guarding == Guarding::Never { Level::Operate } else { Level::Observe };
        Ok(Box::new(Errand::guarded("malloc".to_owned(), guarding, work).at_level(level)))
    },
};

pub const TRIM: Command = Command {
    name: "trim",
    level: Level::Operate,
    synopsis: "[--unguarded]",
    summary: "Have the allocator give free memory back to the kernel.",
    help: "malloc_trim(0) of glibc, a purge of all arenas of jemalloc, ReleaseFreeMemory of tcmalloc, mi_collect of mimalloc,\n\
           on the actor. Threads that allocate wait for it meanwhile. The resident memory before and after is that of the\n\
           whole process.",
    schemas: &[Trimmed::schema, Crashed::schema, Stack::schema],
    start: |words| {
        let arguments = Arguments::parse(words, &[UNGUARDED], &[])?;
        no_arguments(&arguments.rest.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())?;
        let guarding = if arguments.has(UNGUARDED) { Guarding::Never } else { Guarding::Always };
        Ok(Box::new(Errand::guarded("trim".to_owned(), guarding, trim)))
    },
};

record! {
    /// What an allocator has. Numbers that it does not give are null.
    struct Totals as "malloc" {
        /// glibc, jemalloc, tcmalloc or mimalloc.
        allocator: &'static str,
        /// The file that malloc is from.
        library: Bytes,
        /// Bytes that the application has and did not free.
        in_use_bytes: Option<u64>,
        /// Bytes that the allocator keeps for later.
        free_bytes: Option<u64>,
        /// Bytes that it has from the kernel.
        total_bytes: Option<u64>,
        /// Bytes of blocks with a mapping of their own, in use and in the total.
        mmapped_bytes: Option<u64>,
        /// How many of these there are.
        mmapped_blocks: Option<u64>,
        /// Bytes at the end of the main arena, free.
        top_bytes: Option<u64>,
        /// Bytes that are resident.
        resident_bytes: Option<u64>,
        /// Arenas; only of glibc.
        arenas: Option<u64>,
    }
}

record! {
    /// An arena of glibc's malloc.
    struct Arena as "arena" {
        /// Its number; 0 is the main one.
        number: u64,
        /// Bytes that it has from the kernel.
        total_bytes: u64,
        /// Bytes of it that are in use, with what threads cache.
        in_use_bytes: u64,
        /// Bytes that are free, the end of the arena not counted.
        free_bytes: u64,
        /// Free pieces.
        free_chunks: u64,
    }
}

record! {
    /// Memory was given back.
    struct Trimmed as "trimmed" {
        /// The allocator.
        allocator: &'static str,
        /// Resident bytes of the process before.
        resident_before_bytes: Option<u64>,
        /// And after.
        resident_after_bytes: Option<u64>,
    }
}

/// Finds the allocator, or says what it is that is not understood.
fn known() -> Result<Heap, String> {
    let heap = Heap::find().ok_or("the loader does not know malloc")?;
    match heap.kind() {
        Kind::Unknown => Err(format!(
            "malloc is that of {}, which is none of glibc (from 2.33), jemalloc, tcmalloc and mimalloc",
            Escaped(heap.library.as_bytes())
        )),
        _ => Ok(heap),
    }
}

fn count(writer: &Writer) -> Result<(), String> {
    let heap = known()?;
    let mut totals = Totals {
        allocator: heap.kind().name(),
        library: Bytes(heap.library.as_bytes().to_vec()),
        in_use_bytes: None,
        free_bytes: None,
        total_bytes: None,
        mmapped_bytes: None,
        mmapped_blocks: None,
        top_bytes: None,
        resident_bytes: None,
        arenas: None,
    };
    let mut arenas = Vec::new();
    match heap.kind() {
        Kind::Glibc => {
            let information = heap.mallinfo().ok_or("mallinfo2 is gone")?;
            arenas = arenas_of(&heap.malloc_info().unwrap_or_default());
            totals.in_use_bytes = Some((information.used + information.mapped) as u64);
            totals.free_bytes = Some(information.free as u64);
            totals.total_bytes = Some((information.arena + information.mapped) as u64);
            totals.mmapped_bytes = Some(information.mapped as u64);
            totals.mmapped_blocks = Some(information.mapped_blocks as u64);
            totals.top_bytes = Some(information.top as u64);
            totals.arenas = Some(arenas.len() as u64);
        }
        Kind::Jemalloc => {
            heap.refresh_statistics();
            totals.in_use_bytes = heap.jemalloc(c"stats.allocated");
            totals.total_bytes = heap.jemalloc(c"stats.mapped");
            let active = heap.jemalloc(c"stats.active");
            totals.free_bytes = active.zip(totals.in_use_bytes).map(|(active, used)| active.saturating_sub(used));
            totals.resident_bytes = heap.jemalloc(c"stats.resident");
        }
        Kind::Tcmalloc => {
            totals.in_use_bytes = heap.tcmalloc(c"generic.current_allocated_bytes");
            totals.total_bytes = heap.tcmalloc(c"generic.heap_size");
            totals.free_bytes = heap.tcmalloc(c"tcmalloc.pageheap_free_bytes");
        }
        Kind::Mimalloc => totals.total_bytes = heap.mimalloc_committed(),
        Kind::Unknown => {}
    }
    writer.put(totals);
    arenas.into_iter().for_each(|arena| writer.put(arena));
    Ok(())
}

fn print(writer: &Writer) -> Result<(), String> {
    let printed = known()?.printed().ok_or("it prints nothing about itself")?;
    // The client may be gone; nothing depends on it.
    let _ = writer.write(&printed);
    if !printed.ends_with(b"\n") {
        let _ = writer.write(b"\n");
    }
    Ok(())
}

fn trim(writer: &Writer) -> Result<(), String> {
    let heap = known()?;
    let resident_before_bytes = resident();
    if !heap.trim() {
        return Err(format!("{} cannot be asked for it", heap.kind().name()));
    }
    let resident_after_bytes = resident();
    writer.put(Trimmed { allocator: heap.kind().name(), resident_before_bytes, resident_after_bytes });
    Ok(())
}

/// Resident bytes (man 5 proc_pid_statm), if /proc can be read here.
fn resident() -> Option<u64> {
    let mut buffer = [0; 256];
    let text = procfs::read_small(libc::AT_FDCWD, c"/proc/thread-self/statm", &mut buffer).ok()?;
    let pages: u64 = std::str::from_utf8(text).ok()?.split(' ').nth(1)?.parse().ok()?;
    Some(pages * process::auxiliary(libc::AT_PAGESZ))
}

/// The arenas of `malloc_info`'s XML, whose elements stand on lines of their own.
fn arenas_of(xml: &[u8]) -> Vec<Arena> {
    let xml = String::from_utf8_lossy(xml);
    let mut arenas = Vec::new();
    let mut arena: Option<Arena> = None;
    for line in xml.lines() {
        let value = |name: &str| {
            let (_, rest) = line.split_once(&format!(" {name}=\""))?;
            rest.split_once('"')?.0.parse::<u64>().ok()
        };
        if line.starts_with("<heap") {
            let number = value("nr").unwrap_or(0);
            arena = Some(Arena { number, total_bytes: 0, in_use_bytes: 0, free_bytes: 0, free_chunks: 0 });
        }
        let Some(current) = &mut arena else { continue };
        if line.starts_with("<total") {
            current.free_bytes += value("size").unwrap_or(0);
            current.free_chunks += value("count").unwrap_or(0);
        } else if line.starts_with("<system type=\"current\"") {
            current.total_bytes = value("size").unwrap_or(0);
        } else if line.starts_with("</heap") {
            current.in_use_bytes = current.total_bytes.saturating_sub(current.free_bytes);
            arenas.extend(arena.take());
        }
    }
    arenas
}

/// Bytes as people read them, and exactly.
fn bytes(count: u64) -> String {
    if count < 1024 { human(count) } else { format!("{} ({count})", human(count)) }
}

impl Line for Totals {
    fn line(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("{} ({})\n", self.allocator, Escaped(&self.library.0)).as_bytes());
        for (name, value) in [
            ("in use", self.in_use_bytes),
            ("free", self.free_bytes),
            ("total", self.total_bytes),
            ("mmapped", self.mmapped_bytes),
            ("top", self.top_bytes),
            ("resident", self.resident_bytes),
        ] {
            if let Some(value) = value {
                out.extend_from_slice(format!("  {name:<10}{}\n", bytes(value)).as_bytes());
            }
        }
        if let Some(arenas) = self.arenas {
            out.extend_from_slice(format!("  {:<10}{arenas}\n", "arenas").as_bytes());
        }
    }
}

impl Line for Arena {
    fn line(&self, out: &mut Vec<u8>) {
        let Self { number, total_bytes, in_use_bytes, free_bytes, free_chunks } = self;
        let (total, used, free) = (bytes(*total_bytes), bytes(*in_use_bytes), bytes(*free_bytes));
        out.extend_from_slice(
            format!("  arena {number}: total {total}, in use {used}, free {free} in {free_chunks} pieces\n").as_bytes(),
        );
    }
}

impl Line for Trimmed {
    fn line(&self, out: &mut Vec<u8>) {
        let known = |count: Option<u64>| count.map_or("unknown".to_owned(), bytes);
        let (before, after) = (known(self.resident_before_bytes), known(self.resident_after_bytes));
        out.extend_from_slice(format!("{}: resident {before} before, {after} after\n", self.allocator).as_bytes());
    }
}
