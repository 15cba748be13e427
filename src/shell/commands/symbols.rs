//! `sym`: from names to addresses, and from an address to everything that is known about it.

#![forbid(unsafe_code)]

use super::{Cut, fail};
use crate::config::level::Level;
use crate::inspect::mappings::{self, Mapped};
use crate::inspect::strings::Escaped;
use crate::inspect::threads::{self, Reader};
use crate::protocol::Status;
use crate::record;
use crate::shell::address::{self, Evaluation};
use crate::shell::json::{Bytes, Hex};
use crate::shell::output::Output;
use crate::shell::parse::Arguments;
use crate::shell::record::Line;
use crate::shell::{Command, Job, Step, World};
use crate::stack::capture::dumpable::Dumpable;
use crate::stack::symbols::SourceFrame;
use crate::stack::symbols::find::{Found, Kind, Search};
use crate::stack::symbols::pattern::Pattern;
use crate::sys::memory::Live;
use crate::sys::procfs;

pub const COMMAND: Command = Command {
    name: "sym",
    level: Level::Observe,
    synopsis: "ADDRESS|NAME|GLOB [--limit N]",
    summary: "Look symbols up: an address gives symbol, file and line, section and mapping; a name all its addresses.",
    help: "sym malloc                   every function and variable of that name\n\
           sym libc.so.6:malloc         in one module (a glob on its file name)\n\
           sym 'io_*' --limit 500       by glob, at most 500 (100 if not given)\n\
           sym ns::Class::method        C++ and Rust by their readable names, with or without parameters\n\
           sym 0x7f1e6b1adf36           what lies at an address: a number, &NAME, NAME+8, *(&NAME+16), a local\n\n\
           Here * before a name makes a glob; *(NAME) reads the pointer that is stored there.\n\
           tls: each thread has its own; the number is the offset in its block for that module. ifunc: the address\n\
           is that of the function that chooses at load time which code is called by that name.",
    schemas: &[Symbol::schema, Cut::schema, Place::schema],
    start: |words| {
        let arguments = Arguments::parse(words, &[], &["--limit"])?;
        let [wanted] = arguments.rest.as_slice() else { return Err("takes one address, name or glob".to_owned()) };
        let limit = arguments.number("--limit", 1)?.unwrap_or(100) as usize;
        Ok(Box::new(Lookup { wanted: (*wanted).to_owned(), limit, stage: Stage::Looking }))
    },
};

/// Threads whose stack pointer is read in one step.
const BATCH: usize = 64;
/// Lines written in one step.
const LINES: usize = 256;

struct Lookup {
    wanted: String,
    limit: usize,
    stage: Stage,
}

enum Stage {
    Looking,
    Evaluating(Evaluation),
    /// Whose stack is it?
    Asking {
        place: Box<Place>,
        mapped: Mapped,
        tids: std::vec::IntoIter<i32>,
        inside: Vec<i32>,
    },
    Searching(Box<Search>),
    Listing {
        found: std::vec::IntoIter<Found>,
        /// There are more than that.
        end: Option<usize>,
    },
}

impl Lookup {
    fn look(&self, world: &mut World) -> Result<Stage, String> {
        world.look()?;
        if address::is_expression(&self.wanted, &world.names) {
            return Evaluation::new(&self.wanted).map(Stage::Evaluating);
        }
        let search = Search::new(&world.modules, Pattern::new(&self.wanted), self.limit);
        Ok(Stage::Searching(Box::new(search)))
    }
}

/// What was found, in the order of addresses.
fn list(search: &Search, wanted: &str, limit: usize) -> Result<Stage, String> {
    let mut found = search.found().to_vec();
    if wanted.is_empty() {
        return Err("no name".to_owned());
    }
    if found.is_empty() {
        return Err(format!("no symbol {}{}", Escaped(wanted.as_bytes()), address::stripped(search.stripped())));
    }
    found.sort_by_key(|found| (found.module.start, found.address));
    let end = search.is_cut().then_some(limit);
    Ok(Stage::Listing { found: found.into_iter(), end })
}

impl Job for Lookup {
    fn step(&mut self, world: &mut World, out: &mut Output) -> Step {
        let next = match &mut self.stage {
            Stage::Looking => self.look(world),
            Stage::Evaluating(evaluation) => match evaluation.step(&world.names, &world.modules) {
                None => return Step::More,
                Some(Err(error)) => Err(error),
                Some(Ok(address)) => {
                    let (place, stack) = describe(world, address);
                    match stack.map(|mapped| (mapped, procfs::thread_ids())) {
                        Some((mapped, Ok(tids))) => Ok(Stage::Asking {
                            place: Box::new(place),
                            mapped,
                            tids: tids.into_iter(),
                            inside: Vec::new(),
                        }),
                        Some((_, Err(error))) => Err(format!("cannot list /proc/self/task: {}", error.desc())),
                        None => {
                            out.put(&place);
                            return Step::Done(Status::Success);
                        }
                    }
                }
            },
            Stage::Asking { place, mapped, tids, inside } => {
                if ask(mapped, tids, inside) {
                    return Step::More;
                }
                place.stacks = std::mem::take(inside);
                out.put(place.as_ref());
                return Step::Done(Status::Success);
            }
            Stage::Searching(search) => match search.step(&Live) {
                true => return Step::More,
                false => {
                    let stage = list(search, &self.wanted, self.limit);
                    if stage.is_ok() {
                        out.note("ADDRESS                  SIZE KIND     BINDING NAME\n");
                    }
                    stage
                }
            },
            Stage::Listing { found, end } => {
                for found in found.by_ref().take(LINES) {
                    out.put(&row(found));
                }
                if found.len() > 0 {
                    return Step::More;
                }
                if let Some(limit) = end {
                    out.put(&Cut { limit: *limit, note: format!("there are more than {limit}; --limit N shows more") });
                }
                return Step::Done(Status::Success);
            }
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

record! {
    /// A symbol.
    struct Symbol as "symbol" {
        /// Its readable name.
        name: String,
        /// Its version, with the @ or @@ before it.
        version: String,
        /// Where it is; null for a thread-local variable, which each thread has elsewhere.
        address: Option<Hex>,
        /// Where a thread-local variable is in the block of its module.
        thread_local_offset: Option<Hex>,
        /// Bytes.
        size: u64,
        /// function, object, ifunc, tls or another word of its table.
        symbol_kind: &'static str,
        /// global, local or weak.
        binding: String,
        /// Its module.
        module: Bytes,
    }
}

impl Line for Symbol {
    fn line(&self, out: &mut Vec<u8>) {
        let address = match (self.address, self.thread_local_offset) {
            (Some(Hex(address)), _) => format!("{address:#018x}"),
            (None, offset) => format!("tls+{:#x}", offset.map_or(0, |offset| offset.0)),
        };
        let Self { size, symbol_kind, binding, .. } = self;
        let (name, version, module) =
            (Escaped(self.name.as_bytes()), Escaped(self.version.as_bytes()), Escaped(&self.module.0));
        let line = format!("{address:<18} {size:>10} {symbol_kind:<8} {binding:<7} {name}{version} ({module})\n");
        out.extend_from_slice(line.as_bytes());
    }
}

fn row(found: Found) -> Symbol {
    let Found { name, version, address, size, kind, binding, module, .. } = found;
    let is_local = kind == Kind::ThreadLocal;
    Symbol {
        name: name.to_string(),
        version: version.to_string(),
        address: (!is_local).then_some(Hex(address)),
        thread_local_offset: is_local.then_some(Hex(address)),
        size,
        symbol_kind: kind.word(),
        binding: binding.to_string(),
        module: Bytes(module.name().to_vec()),
    }
}

record! {
    /// A function, or a variable, at an address.
    struct Cover as "cover" {
        /// Its readable name.
        name: Option<String>,
        /// Bytes from its start.
        offset: Option<u64>,
        /// Source file.
        file: Option<String>,
        /// Line in that file.
        line: Option<u32>,
        /// It was inlined into the next one.
        inlined: bool,
    }
}

record! {
    /// What is known about an address.
    struct Place as "place" {
        /// The address.
        address: Hex,
        /// What covers it, inlined functions first.
        covers: Vec<Cover>,
        /// The module that it lies in.
        module: Option<Bytes>,
        /// That module's file.
        path: Option<Bytes>,
        /// The section of that file.
        section: Option<String>,
        /// The address in that file's own numbering.
        module_offset: Option<Hex>,
        /// The mapping: where it begins.
        mapping_start: Option<Hex>,
        /// And where it ends.
        mapping_end: Option<Hex>,
        /// The mapping in words; or, where there is none, what is near.
        mapping: String,
        /// Threads whose stack it is, or whose stacks lie in the mapping.
        stacks: Vec<i32>,
    }
}

impl Line for Cover {
    fn line(&self, out: &mut Vec<u8>) {
        let name = self.name.as_ref().map_or_else(|| "??".into(), |name| Escaped(name.as_bytes()).to_string());
        let offset = match self.offset {
            _ if self.inlined => " (inlined)".to_owned(),
            Some(offset) if offset > 0 => format!("+{offset:#x}"),
            _ => String::new(),
        };
        let line = self.line.unwrap_or(0);
        let place = self.file.as_ref().map(|file| format!(" at {}:{line}", Escaped(file.as_bytes())));
        out.extend_from_slice(format!("{name}{offset}{}", place.unwrap_or_default()).as_bytes());
    }
}

impl Line for Place {
    fn line(&self, out: &mut Vec<u8>) {
        let Hex(address) = self.address;
        let from = self.module.as_ref().map_or_else(String::new, |module| format!(" ({})\n", Escaped(&module.0)));
        let from = if from.is_empty() { "\n" } else { &from };
        for cover in &self.covers {
            out.extend_from_slice(format!("{address:#018x} ").as_bytes());
            cover.line(out);
            out.extend_from_slice(from.as_bytes());
        }
        let mut text = if self.covers.is_empty() { format!("{address:#018x} no symbol{from}") } else { String::new() };
        if let (Some(section), Some(path), Some(Hex(inside))) = (&self.section, &self.path, self.module_offset) {
            let (section, path) = (Escaped(section.as_bytes()), Escaped(&path.0));
            text.push_str(&format!("    section {section} of {path}, {inside:#x} there\n"));
        }
        match (self.mapping_start, self.mapping_end) {
            (Some(Hex(start)), Some(Hex(end))) => {
                text.push_str(&format!("    mapping {start:#x}-{end:#x}: {}\n", self.mapping));
            }
            _ => text.push_str(&format!("    {}\n", self.mapping)),
        }
        text.push_str(&whose(&self.stacks));
        out.extend_from_slice(text.as_bytes());
    }
}

/// What is known about `address`, and the mapping whose owner may be a thread.
fn describe(world: &mut World, address: u64) -> (Place, Option<Mapped>) {
    world.symbolizer.resolve(&world.modules, &[address]);
    let module = world.modules.find(address).cloned();
    let frames = world.symbolizer.lookup(&world.modules, address);
    let cover = |frame: &SourceFrame| Cover {
        name: frame.function.as_deref().map(str::to_owned),
        offset: frame.offset,
        file: frame.file.as_deref().map(str::to_owned),
        line: frame.file.is_some().then_some(frame.line),
        inlined: frame.inlined,
    };
    let covers = frames.iter().map(cover).collect();
    let section = module.as_ref().and_then(|module| world.symbolizer.section(module, address));
    let mapped = mappings::around(address).unwrap_or_default().at;
    let place = Place {
        address: Hex(address),
        covers,
        module: module.as_ref().map(|module| Bytes(module.name().to_vec())),
        path: module.as_ref().map(|module| Bytes(module.path.clone())),
        section: section.map(|section| section.to_string()),
        module_offset: module.as_ref().map(|module| Hex(address.wrapping_sub(module.bias))),
        mapping_start: mapped.as_ref().map(|mapped| Hex(mapped.start)),
        mapping_end: mapped.as_ref().map(|mapped| Hex(mapped.end)),
        mapping: mapped.as_ref().map_or_else(|| mappings::why_unreadable(address), |mapped| mapped.describe(address)),
        stacks: Vec::new(),
    };
    (place, mapped.filter(|mapped| mapped.is_anonymous() && module.is_none()))
}

/// Adds to `inside` those of the next threads whose stack pointer lies in `mapped`; whether there are more.
fn ask(mapped: &Mapped, tids: &mut std::vec::IntoIter<i32>, inside: &mut Vec<i32>) -> bool {
    // As in `threads`: a process that dropped its privileges shows this to root alone.
    let mut dumpable = Dumpable::default();
    if tids.as_slice().first().is_some_and(|tid| !Reader::new().shows_calls(*tid)) {
        dumpable.allow();
    }
    let holds =
        |tid: &i32| threads::stack_pointer(*tid).is_some_and(|pointer| (mapped.start..mapped.end).contains(&pointer));
    inside.extend(tids.by_ref().take(BATCH).filter(holds));
    tids.len() > 0
}

/// A line about the threads on whose stack an address lies. Stacks without a guard page between them are one mapping.
fn whose(tids: &[i32]) -> String {
    let name = |tid: &i32| format!("{tid} ({})", Escaped(&threads::name(*tid)));
    match tids {
        [] => String::new(),
        [only] => format!("    the stack of thread {}\n", name(only)),
        [first, second, rest @ ..] => {
            let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
            format!("    the stacks of threads {}, {}{more} lie in it\n", name(first), name(second))
        }
    }
}
