//! `set`: writes a variable.
//!
//! The observer looks whether the memory is there, writable, no code and not ours, and reads what it holds. The store
//! itself is one instruction for a word ([`Store`]), so that other threads see the old or the new value, never a mix;
//! and it cannot hurt if the memory has gone since. Then it is read back.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use super::super::fail;
use super::value::{Kind, Shape};
use crate::config::level::Level;
use crate::config::locals::Target;
use crate::inspect::mappings::{self, Mapped};
use crate::inspect::threads;
use crate::protocol::Status;
use crate::record;
use crate::shell::address::Evaluation;
use crate::shell::json::Hex;
use crate::shell::output::Output;
use crate::shell::place;
use crate::shell::record::Line;
use crate::shell::{Command, Job, Step, World};
use crate::sys::memory::{Live, Memory};
use crate::sys::own;
use crate::sys::store::{Failure, Store};

pub const COMMAND: Command = Command {
    name: "set",
    level: Level::Admin,
    synopsis: "[/FORMAT] SYMBOL|ADDRESS = VALUE",
    summary: "Write a variable of the application.",
    help: "set config_level = 3           an integer of the size that the symbol has: 1, 2, 4 or 8 bytes\n\
           set/g 0x7f52f4a00010 = -1      eight bytes at an address\n\
           set/f ratio = 0.75             float or double\n\
           set/s greeting = \"hello\"       a string with its NUL, within the bytes of the symbol\n\
           set/g head = &first_node       a pointer\n\n\
           FORMAT is b, h, w or g for 1, 2, 4 or 8 bytes, f for floating point, s for a string; x shows memory in more\n\
           forms and describes addresses. A word is written in one step: other threads see the old or the new value.\n\
           A string is written byte by byte; at a mere address it may not be longer than the string there.\n\
           Refused: memory that is not mapped, read-only or executable, the manhole's own, thread-local variables, a\n\
           value that does not fit. Nothing is known about types: what a symbol's size fits is written. A thread that\n\
           holds the variable in a register does not see it.",
    schemas: &[Written::schema],
    start: |words| {
        let (letters, words) = match words.split_first() {
            Some((first, rest)) if first.starts_with('/') => (first.trim_start_matches('/'), rest),
            _ => ("", words),
        };
        let shape = Shape::parse(letters)?;
        let (target, text) = split(words).ok_or("takes SYMBOL = VALUE")?;
        let target = Evaluation::new(&target)?;
        // Names are evaluated where they cannot be meant for anything else.
        let pointer = (shape.kind == Kind::Integer && text.starts_with(['&', '*'])).then(|| Evaluation::new(&text));
        Ok(Box::new(Set { shape, target, text, pointer: pointer.transpose()?, stage: Stage::Looking }))
    },
};

/// What stands on both sides of the first `=`: of one that is a word, if there is one.
fn split(words: &[String]) -> Option<(String, String)> {
    let (left, right) = match words.iter().position(|word| word == "=") {
        Some(at) => (words.get(..at)?.join(" "), words.get(at + 1..)?.join(" ")),
        None => {
            let line = words.join(" ");
            let (left, right) = line.split_once('=')?;
            (left.trim().to_owned(), right.trim().to_owned())
        }
    };
    (!left.is_empty()).then_some((left, right))
}

struct Set {
    shape: Shape,
    target: Evaluation,
    text: String,
    /// What the value points to.
    pointer: Option<Evaluation>,
    stage: Stage,
}

enum Stage {
    Looking,
    Evaluating,
    /// The address is known, that which is to be written there not yet.
    Pointing(u64),
    Storing(Storing),
}

/// A store on its way.
struct Storing {
    store: Store,
    since: Instant,
    address: u64,
    shape: Shape,
    before: Vec<u8>,
    bytes: Vec<u8>,
    mapped: Mapped,
}

/// How often one looks whether the store is done that took longer than usual.
const LOOK: Duration = Duration::from_millis(5);
/// A machine is as busy as this, or the page does not come.
const PATIENCE: Duration = Duration::from_secs(30);

impl Job for Set {
    fn step(&mut self, world: &mut World, out: &mut Output) -> Step {
        match &mut self.stage {
            Stage::Looking => match world.look() {
                Ok(()) => {
                    self.stage = Stage::Evaluating;
                    Step::More
                }
                Err(error) => fail(out, &error),
            },
            Stage::Evaluating => match self.target.step(&world.names, &world.modules) {
                None => Step::More,
                Some(Ok(address)) => {
                    self.stage = Stage::Pointing(address);
                    Step::More
                }
                Some(Err(error)) => fail(out, &error),
            },
            Stage::Pointing(address) => {
                let address = *address;
                if let Some(pointer) = &mut self.pointer {
                    match pointer.step(&world.names, &world.modules) {
                        None => return Step::More,
                        Some(Ok(value)) => self.text = format!("{value:#x}"),
                        Some(Err(error)) => return fail(out, &error),
                    }
                }
                match self.begin(address, world) {
                    Ok(storing) => {
                        self.stage = Stage::Storing(storing);
                        Step::More
                    }
                    Err(error) => fail(out, &error),
                }
            }
            Stage::Storing(storing) => match storing.store.end() {
                None if storing.since.elapsed() < PATIENCE => Step::Waiting(Instant::now() + LOOK),
                None => fail(out, "the write does not come to its end, and was called off"),
                Some(Err(failure)) => fail(out, &storing.explain(failure)),
                Some(Ok(())) => match storing.report(world) {
                    Ok(written) => {
                        out.put(&written);
                        Step::Done(Status::Success)
                    }
                    Err(error) => fail(out, &error),
                },
            },
        }
    }
}

impl Set {
    /// Looks whether it may be written, and begins.
    fn begin(&self, address: u64, world: &World) -> Result<Storing, String> {
        let about = |error| format!("{}: {error}", self.target.text());
        let size = self.size(address, world);
        let shape = self.shape.sized(size).map_err(about)?;
        let bytes = shape.bytes(&self.text).map_err(about)?;
        if let Some(size) = size.filter(|size| *size < bytes.len() as u64) {
            let name = self.target.text();
            return Err(format!(
                "{name} has {size} bytes: {} there would write on behind it; its address may",
                shape.name()
            ));
        }
        if shape.kind != Kind::String && !address.is_multiple_of(bytes.len() as u64) {
            return Err(format!(
                "{address:#x} is not aligned for {}: it could not be written in one step",
                shape.name()
            ));
        }
        let mapped = writable(address, bytes.len(), world)?;
        let room = if shape.kind == Kind::String { shape.size.unwrap_or(bytes.len()).min(4096) } else { bytes.len() };
        let before = read(address, room.max(bytes.len()))?;
        if shape.kind == Kind::String && shape.size.is_none() && before.iter().take(bytes.len() - 1).any(|it| *it == 0)
        {
            return Err("the string there is shorter, and an address does not say how much room there is".to_owned());
        }
        let store = Store::begin(address, &bytes).map_err(|failure| explain(failure, address, &mapped))?;
        Ok(Storing { store, since: Instant::now(), address, shape, before, bytes, mapped })
    }

    /// The bytes of what the target names, if that is known.
    fn size(&self, address: u64, world: &World) -> Option<u64> {
        let named = world.names.iter().find(|local| local.name == self.target.text());
        match named.map(|local| &local.value) {
            Some(Target::Variable(_, size)) => Some(*size).filter(|size| *size > 0),
            _ => self.target.size(address),
        }
    }
}

impl Storing {
    fn explain(&self, failure: Failure) -> String {
        explain(failure, self.address, &self.mapped)
    }

    /// What is there now.
    fn report(&self, world: &mut World) -> Result<Written, String> {
        let Self { address, shape, mapped, .. } = self;
        let after = read(*address, self.bytes.len())?;
        world.symbolizer.resolve(&world.modules, &[*address]);
        Ok(Written {
            address: Hex(*address),
            symbol: place::symbol(world, *address),
            shape: shape.name(),
            before: shape.show(&self.before),
            written: shape.show(&self.bytes),
            after: shape.show(&after),
            mapping: mapped.describe(*address),
            shared: mapped.is_shared(),
        })
    }
}

fn explain(failure: Failure, address: u64, mapped: &Mapped) -> String {
    match failure {
        Failure::Fault => format!("{address:#x} could not be written: {mapped}"),
        Failure::Filtered => super::FILTERED.to_owned(),
        Failure::NoHelper(error) => format!("no helper process for the write: {}", error.desc()),
    }
}

fn read(address: u64, count: usize) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0; count];
    match Live.read(address, &mut bytes) {
        read if read == count => Ok(bytes),
        _ => Err(format!("cannot read {address:#x}: {}", mappings::why_unreadable(address))),
    }
}

/// The mapping of `count` bytes that may be written.
fn writable(address: u64, count: usize, world: &World) -> Result<Mapped, String> {
    let end = address.checked_add(count as u64).ok_or("the end of the address space")?;
    let around = mappings::around(address).map_err(|error| format!("cannot read maps: {}", error.desc()))?;
    let Some(mapped) = around.at else {
        return Err(format!("{address:#x}: {}", mappings::why_unreadable(address)));
    };
    let place = mapped.describe(address);
    if end > mapped.end {
        return Err(format!("{address:#x}: what is written would reach beyond {mapped}"));
    }
    if !mapped.is_writable() {
        return Err(format!("{address:#x} is read-only: {place}"));
    }
    if mapped.is_executable() {
        return Err(format!("{address:#x} is executable: {place}"));
    }
    if is_ours(address, &mapped, world) {
        return Err(format!("{address:#x} belongs to the manhole: {place}"));
    }
    Ok(mapped)
}

/// Our heap, our statics, our stacks.
fn is_ours(address: u64, mapped: &Mapped, world: &World) -> bool {
    static HERE: u8 = 0;
    let module = |address| world.modules.find(address).map(|module| module.start);
    let statics = module(&raw const HERE as u64).is_some_and(|ours| module(address) == Some(ours));
    let holds = |address: u64| (mapped.start..mapped.end).contains(&address);
    let local = 0u8;
    let observers = world.interruption.is_none() && holds(&raw const local as u64);
    let actors = world.manhole.actor.tid().and_then(threads::stack_pointer).is_some_and(holds);
    statics || observers || actors || own::has(address)
}

record! {
    /// Memory was written.
    struct Written as "written" {
        /// Where.
        address: Hex,
        /// `SYMBOL+0xOFFSET` of what covers that.
        symbol: Option<String>,
        /// What: `4 bytes`, `float`, `double`, `string`.
        shape: String,
        /// What stood there before, as text: numbers in decimal, signed.
        before: String,
        /// What was written.
        written: String,
        /// What was read back: something else if another thread writes there, too.
        after: String,
        /// What that memory is.
        mapping: String,
        /// Other processes see it, or a file is changed.
        shared: bool,
    }
}

impl Line for Written {
    fn line(&self, out: &mut Vec<u8>) {
        let Self { address: Hex(address), before, written, after, shape, .. } = self;
        let place = self.symbol.as_ref().map_or(format!("{address:#x}"), |symbol| format!("{symbol} ({address:#x})"));
        let other =
            if after == written { String::new() } else { format!(", but now {after}: another thread writes there") };
        let shared = if self.shared { format!("; shared memory: {}", self.mapping) } else { String::new() };
        out.extend_from_slice(format!("{place}, {shape}: {before} → {written}{other}{shared}\n").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_and_value() {
        let cut = |line: &str| {
            let words: Vec<String> = line.split('|').map(str::to_owned).collect();
            split(&words)
        };
        let both = |left: &str, right: &str| Some((left.to_owned(), right.to_owned()));
        assert_eq!(cut("level|=|3"), both("level", "3"));
        assert_eq!(cut("level=3"), both("level", "3"));
        assert_eq!(cut("level|=3"), both("level", "3"));
        assert_eq!(cut("p|+|8|=|a=b"), both("p + 8", "a=b"));
        assert_eq!(cut("name|=|two  words"), both("name", "two  words"));
        assert_eq!(cut("name|="), both("name", ""));
        assert_eq!(cut("=|3"), None);
        assert_eq!(cut("level|3"), None);
    }
}
