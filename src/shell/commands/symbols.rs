//! `sym`: from names to addresses, and from an address to everything that is known about it.

#![forbid(unsafe_code)]

use super::fail;
use crate::inspect::mappings::{self, Around, Mapped};
use crate::inspect::strings::Escaped;
use crate::inspect::threads::{self, Reader};
use crate::protocol::Status;
use crate::shell::address::{self, Evaluation};
use crate::shell::parse::Arguments;
use crate::shell::{Command, Job, Step, World};
use crate::stack::capture::dumpable::Dumpable;
use crate::stack::symbols::find::{Found, Kind, Search};
use crate::stack::symbols::pattern::Pattern;
use crate::sys::memory::Live;
use crate::sys::procfs;

pub const COMMAND: Command = Command {
    name: "sym",
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
        mapped: Mapped,
        tids: std::vec::IntoIter<i32>,
        inside: Vec<i32>,
    },
    Searching(Box<Search>),
    Listing {
        found: std::vec::IntoIter<Found>,
        end: String,
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
    if found.is_empty() {
        return Err(format!("no symbol {}{}", Escaped(wanted.as_bytes()), address::stripped(search.stripped())));
    }
    found.sort_by_key(|found| (found.module.start, found.address));
    let end = if search.is_cut() {
        format!("cut: there are more than {limit}; --limit N shows more\n")
    } else {
        String::new()
    };
    Ok(Stage::Listing { found: found.into_iter(), end })
}

impl Job for Lookup {
    fn step(&mut self, world: &mut World, out: &mut Vec<u8>) -> Step {
        let next = match &mut self.stage {
            Stage::Looking => self.look(world),
            Stage::Evaluating(evaluation) => match evaluation.step(&world.names, &world.modules) {
                None => return Step::More,
                Some(Err(error)) => Err(error),
                Some(Ok(address)) => match describe(world, address, out) {
                    Some(mapped) => match procfs::thread_ids() {
                        Ok(tids) => Ok(Stage::Asking { mapped, tids: tids.into_iter(), inside: Vec::new() }),
                        Err(error) => Err(format!("cannot list /proc/self/task: {}", error.desc())),
                    },
                    None => return Step::Done(Status::Success),
                },
            },
            Stage::Asking { mapped, tids, inside } => {
                if ask(mapped, tids, inside) {
                    return Step::More;
                }
                out.extend_from_slice(whose(inside).as_bytes());
                return Step::Done(Status::Success);
            }
            Stage::Searching(search) => match search.step(&Live) {
                true => return Step::More,
                false => {
                    let stage = list(search, &self.wanted, self.limit);
                    if stage.is_ok() {
                        out.extend_from_slice(b"ADDRESS                  SIZE KIND     BINDING NAME\n");
                    }
                    stage
                }
            },
            Stage::Listing { found, end } => {
                for found in found.by_ref().take(LINES) {
                    out.extend_from_slice(row(&found).as_bytes());
                }
                if found.len() > 0 {
                    return Step::More;
                }
                out.extend_from_slice(end.as_bytes());
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

fn row(found: &Found) -> String {
    let Found { name, version, address, size, kind, binding, module, .. } = found;
    let address = if *kind == Kind::ThreadLocal { format!("tls+{address:#x}") } else { format!("{address:#018x}") };
    format!(
        "{address:<18} {size:>10} {:<8} {binding:<7} {}{} ({})\n",
        kind.word(),
        Escaped(name.as_bytes()),
        Escaped(version.as_bytes()),
        Escaped(module.name())
    )
}

/// Writes what is known about `address`; the mapping whose owner may be a thread.
fn describe(world: &mut World, address: u64, out: &mut Vec<u8>) -> Option<Mapped> {
    world.symbolizer.resolve(&world.modules, &[address]);
    let module = world.modules.find(address).cloned();
    let from = module.as_ref().map_or_else(String::new, |module| format!(" ({})", Escaped(module.name())));
    let frames = world.symbolizer.lookup(&world.modules, address);
    let mut text = String::new();
    for frame in frames {
        let name = frame.function.as_ref().map_or_else(|| "??".into(), |name| Escaped(name.as_bytes()).to_string());
        let offset = match frame.offset {
            _ if frame.inlined => " (inlined)".to_owned(),
            Some(offset) if offset > 0 => format!("+{offset:#x}"),
            _ => String::new(),
        };
        let place = frame.file.as_ref().map(|file| format!(" at {}:{}", Escaped(file.as_bytes()), frame.line));
        text.push_str(&format!("{address:#018x} {name}{offset}{}{from}\n", place.unwrap_or_default()));
    }
    if frames.is_empty() {
        text.push_str(&format!("{address:#018x} no symbol{from}\n"));
    }
    if let Some(module) = &module
        && let Some(section) = world.symbolizer.section(module, address)
    {
        let inside = address.wrapping_sub(module.bias);
        let (section, path) = (Escaped(section.as_bytes()), Escaped(&module.path));
        text.push_str(&format!("    section {section} of {path}, {inside:#x} there\n"));
    }
    let around = mappings::around(address).unwrap_or_default();
    let (line, mapped) = match around {
        Around { at: Some(mapped), .. } => {
            let Mapped { start, end, .. } = mapped;
            (format!("    mapping {start:#x}-{end:#x}: {}\n", mapped.describe(address)), Some(mapped))
        }
        _ => (format!("    {}\n", mappings::why_unreadable(address)), None),
    };
    text.push_str(&line);
    out.extend_from_slice(text.as_bytes());
    mapped.filter(|mapped| mapped.is_anonymous() && module.is_none())
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
