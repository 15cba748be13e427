//! `maps`: what is mapped where, for what, and with `--rss` how much of it is in memory.

#![forbid(unsafe_code)]

use std::fmt::Write;
use std::time::{Duration, Instant};

use super::human;
use crate::config::glob;
use crate::config::level::Level;
use crate::inspect::mappings;
use crate::inspect::memory::layout::{Layout, Placed};
use crate::inspect::memory::stacks::Stacks;
use crate::inspect::memory::{Kind, Reader, Usage};
use crate::inspect::strings::Escaped;
use crate::inspect::threads;
use crate::protocol::Status;
use crate::record;
use crate::shell::address::Evaluation;
use crate::shell::commands::fail;
use crate::shell::json::{Bytes, Hex};
use crate::shell::output::Output;
use crate::shell::parse::Arguments;
use crate::shell::record::Line;
use crate::shell::{Command, Job, Step, World};
use crate::stack::capture::dumpable::Dumpable;
use crate::stack::modules::maps;

const RSS: &str = "--rss";

pub const COMMAND: Command = Command {
    name: "maps",
    level: Level::Observe,
    synopsis: "[GLOB|ADDRESS] [--rss]",
    summary: "List the mappings: addresses, permissions, size, what each is for, with --rss how much is in memory.",
    help: "maps                    all of them\n\
           maps libc.so.6          those of a file, by its path or name\n\
           maps 'stack*'           by what it is for: heap, stack, anonymous, code, data, file, shared, reserved, kernel\n\
           maps 0x7ffd12345678     the one that holds an address; &SYMBOL+8 and the like, too\n\
           maps --rss              with what is in memory: RSS, PSS (shared pages divided by their users), changed, swap\n\n\
           A word that begins with a digit or & is an address. The stack of a thread that runs just now is shown as\n\
           anonymous memory. With --rss the kernel walks the page tables with the lock of the address space held for\n\
           reading: threads that map or unmap memory meanwhile wait for as long as one mapping takes: 30 ms of processor\n\
           time for each GiB of it that is in memory in small pages, 0.4 s on a busy machine. Without --rss: microseconds.",
    schemas: &[Row::schema],
    start: |words| {
        let arguments = Arguments::parse(words, &[RSS], &[])?;
        let which = match arguments.rest.as_slice() {
            [] => Which::All,
            [word] if word.starts_with(|first: char| first.is_ascii_digit() || first == '&') => {
                Which::Address(Box::new(Evaluation::new(word)?))
            }
            [word] => Which::Glob((*word).to_owned()),
            _ => return Err("takes one glob or address".to_owned()),
        };
        Ok(Box::new(List { which, with_usage: arguments.has(RSS), stage: Stage::Looking, shown: 0 }))
    },
};

/// How long a step works.
pub const SLICE: Duration = Duration::from_millis(4);

enum Which {
    All,
    Glob(String),
    Address(Box<Evaluation>),
    Within(u64),
}

struct List {
    which: Which,
    with_usage: bool,
    stage: Stage,
    shown: usize,
}

enum Stage {
    Looking,
    Evaluating,
    Learning(Stacks),
    Reading { stacks: Stacks, reader: Reader, layout: Box<Layout> },
}

/// Some more stack pointers; a process that has dropped its privileges must be dumpable for that.
pub fn learn(stacks: &mut Stacks, end: Instant) -> bool {
    let mut dumpable = Dumpable::default();
    if !threads::Reader::new().shows_calls(crate::sys::process::proc_pid().unwrap_or_default()) {
        dumpable.allow();
    }
    stacks.step(end)
}

impl Job for List {
    fn step(&mut self, world: &mut World, out: &mut Output) -> Step {
        let end = Instant::now() + SLICE;
        match &mut self.stage {
            Stage::Looking => {
                if let Err(error) = world.look() {
                    return fail(out, &error);
                }
                self.stage = Stage::Evaluating;
            }
            Stage::Evaluating => {
                if let Which::Address(evaluation) = &mut self.which {
                    match evaluation.step(&world.names, &world.modules) {
                        None => return Step::More,
                        Some(Err(error)) => return fail(out, &error),
                        Some(Ok(address)) => self.which = Which::Within(address),
                    }
                }
                match Stacks::new(world.own_tid) {
                    Ok(stacks) => self.stage = Stage::Learning(stacks),
                    Err(error) => return fail(out, &format!("cannot list /proc/self/task: {}", error.desc())),
                }
            }
            Stage::Learning(_) => return self.learn(out, end),
            Stage::Reading { .. } => return self.read(world, out, end),
        }
        Step::More
    }
}

impl List {
    fn learn(&mut self, out: &mut Output, end: Instant) -> Step {
        if let Stage::Learning(stacks) = &mut self.stage
            && learn(stacks, end)
        {
            return Step::More;
        }
        let Stage::Learning(stacks) = std::mem::replace(&mut self.stage, Stage::Looking) else { return Step::More };
        match Reader::open(self.with_usage) {
            Ok(reader) => self.stage = Stage::Reading { stacks, reader, layout: Box::default() },
            Err(error) => return fail(out, &format!("cannot read the mappings: {}", error.desc())),
        }
        let columns = if self.with_usage { "       RSS        PSS      DIRTY       SWAP" } else { "" };
        out.note(format!("RANGE                                 PERM       SIZE{columns}  WHAT\n"));
        Step::More
    }

    fn read(&mut self, world: &World, out: &mut Output, end: Instant) -> Step {
        let Stage::Reading { stacks, reader, layout } = &mut self.stage else { return Step::More };
        let (which, shown) = (&self.which, &mut self.shown);
        let mut show = |placed: Placed| {
            let row = Row::new(placed);
            if row.is_meant(which) {
                *shown += 1;
                out.put(&row);
            }
        };
        loop {
            let more = reader.read(|mapping| {
                layout.push(mapping, stacks, &world.modules).into_iter().for_each(&mut show);
            });
            match more {
                Ok(true) if Instant::now() < end => (),
                Ok(true) => return Step::More,
                Ok(false) => break,
                Err(error) => return fail(out, &format!("cannot read on in the mappings: {}", error.desc())),
            }
        }
        layout.end().into_iter().for_each(show);
        match which {
            Which::Within(address) if *shown == 0 => {
                fail(out, &format!("{address:#x} is {}", mappings::why_unreadable(*address)))
            }
            Which::Glob(glob) if *shown == 0 => fail(out, &format!("no mapping matches {glob:?}")),
            _ => Step::Done(Status::Success),
        }
    }
}

record! {
    /// A mapping.
    struct Row as "mapping" {
        /// First address.
        start: Hex,
        /// Address behind the last.
        end: Hex,
        /// r, w, x or -, and p for private or s for shared.
        permissions: String,
        /// How long it is.
        size_bytes: u64,
        /// heap, anonymous, stack, code, data, file, shared, reserved or kernel.
        purpose: &'static str,
        /// The same in words, with the object or thread that it belongs to.
        what: String,
        /// The path of the file, or the kernel's name in brackets; empty for memory without a name.
        name: Bytes,
        /// The file was deleted or replaced.
        deleted: bool,
        /// Where in the file it begins.
        offset: Hex,
        /// The file's inode; 0 for memory without a file.
        inode: u64,
        /// The thread that has its stack there, or whose guard it is.
        tid: Option<i32>,
        /// With --rss: what is in memory.
        rss_bytes: Option<u64>,
        /// With --rss: the same, each page divided by the number of its users.
        pss_bytes: Option<u64>,
        /// With --rss: what is in memory and was changed, this process's alone.
        private_dirty_bytes: Option<u64>,
        /// With --rss: what is in memory and unchanged, this process's alone.
        private_clean_bytes: Option<u64>,
        /// With --rss: what is in memory and used by others, too.
        shared_bytes: Option<u64>,
        /// With --rss: what is in swap space.
        swap_bytes: Option<u64>,
        /// With --rss: what lies in huge pages.
        huge_bytes: Option<u64>,
    }
}

fn describe(placed: &Placed) -> String {
    let of = placed.module.as_ref().map(|name| format!(" of {}", Escaped(name))).unwrap_or_default();
    let thread = placed.thread.map(|tid| format!("thread {tid} ({})", Escaped(&threads::name(tid))));
    match (placed.kind, thread) {
        (Kind::Stack, Some(thread)) => format!("stack of {thread}"),
        (Kind::Reserved, Some(thread)) => format!("guard of the stack of {thread}"),
        (Kind::Reserved, None) => "reserved, no access".to_owned(),
        (Kind::Kernel, _) => "kernel's".to_owned(),
        (Kind::Code, _) => format!("code{of}"),
        (Kind::Data, _) if placed.mapping.permissions.get(1) == Some(&b'w') => format!("data{of}"),
        (Kind::Data, _) => format!("read-only data{of}"),
        (Kind::Shared, _) => "shared memory".to_owned(),
        (Kind::Anonymous, Some(thread)) => format!("anonymous, {thread} has its stack in it"),
        (kind, _) => kind.word().to_owned(),
    }
}

impl Row {
    fn new(placed: Placed) -> Self {
        let what = describe(&placed);
        let Placed { mapping, kind, thread, .. } = placed;
        let (name, deleted) = maps::path(&mapping.printed);
        let usage = |field: fn(&Usage) -> u64| mapping.usage.as_ref().map(field);
        Self {
            start: Hex(mapping.start),
            end: Hex(mapping.end),
            permissions: mapping.permissions.iter().map(|byte| char::from(*byte)).collect(),
            size_bytes: mapping.size(),
            purpose: kind.word(),
            what,
            deleted,
            offset: Hex(mapping.offset),
            inode: mapping.inode,
            tid: thread,
            rss_bytes: usage(|usage| usage.resident),
            pss_bytes: usage(|usage| usage.proportional),
            private_dirty_bytes: usage(|usage| usage.private_dirty),
            private_clean_bytes: usage(|usage| usage.private_clean),
            shared_bytes: usage(|usage| usage.shared),
            swap_bytes: usage(|usage| usage.swapped),
            huge_bytes: usage(|usage| usage.huge),
            name: Bytes(name),
        }
    }

    fn is_meant(&self, which: &Which) -> bool {
        match which {
            Which::All | Which::Address(_) => true,
            Which::Within(address) => (self.start.0..self.end.0).contains(address),
            Which::Glob(glob) => {
                let name = &self.name.0;
                let file = name.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
                let texts = [name.as_slice(), file, self.what.as_bytes(), self.purpose.as_bytes()];
                // `[heap]` is a class of characters to a glob.
                texts.iter().any(|text| *text == glob.as_bytes() || glob::matches(glob.as_bytes(), text))
            }
        }
    }
}

impl Line for Row {
    fn line(&self, out: &mut Vec<u8>) {
        let (start, end, permissions) = (self.start.0, self.end.0, &self.permissions);
        let mut text = format!("{start:#018x}-{end:#018x} {permissions} {:>10}", human(self.size_bytes));
        let usage = [self.rss_bytes, self.pss_bytes, self.private_dirty_bytes, self.swap_bytes];
        for bytes in usage.into_iter().flatten() {
            // Writing into a String cannot fail, here and below.
            let _ = write!(text, " {:>10}", human(bytes));
        }
        let _ = write!(text, "  {}", self.what);
        if !self.name.0.is_empty() {
            let _ = write!(text, "  {}", Escaped(&self.name.0));
        }
        if self.deleted {
            text.push_str(" (deleted)");
        }
        if self.inode != 0 {
            let _ = write!(text, " +{:#x}", self.offset.0);
        }
        text.push('\n');
        out.extend_from_slice(text.as_bytes());
    }
}
