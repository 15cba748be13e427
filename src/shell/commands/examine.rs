//! `x`: memory, as gdb's command of that name shows it.
//!
//! Everything is read first, in one go, and its addresses are named in one pass over the symbol tables; then the
//! lines are written as fast as the client takes them.

#![forbid(unsafe_code)]

use super::{Cut, fail, hexadecimal};
use crate::config::level::Level;
use crate::inspect::mappings;
use crate::inspect::strings::Escaped;
use crate::protocol::Status;
use crate::record;
use crate::shell::address::Evaluation;
use crate::shell::instructions;
use crate::shell::json::{Bytes, Hex};
use crate::shell::output::Output;
use crate::shell::place::angled;
use crate::shell::record::Line;
use crate::shell::units::{Format, LONGEST_STRING, Letter, unsigned};
use crate::shell::{Command, Job, Step, World};
use crate::sys::memory::{Live, Memory};

pub const COMMAND: Command = Command {
    name: "x",
    level: Level::Observe,
    synopsis: "[/FORMAT] ADDRESS...",
    summary: "Show memory, in gdb's formats: numbers, strings, pointers with symbols, instructions.",
    help: "x/8xg &server           eight words of eight bytes in hexadecimal\n\
           x/4dw *table+0x10       four signed numbers of four bytes, at 16 bytes from where table points to\n\
           x/3s version            three strings\n\
           x/6a &config            six pointers with their symbols\n\
           x/5i main               five instructions, as gdb writes them (AT&T's syntax)\n\
           x/16xb 0x7ffd12345678   sixteen bytes\n\n\
           FORMAT is a count, a letter and a size, in gdb's order or any: x hexadecimal, d signed, u unsigned,\n\
           o octal, t binary, c character, f floating point, a address, s string, i instruction; b 1 byte, h 2, w 4, g 8.\n\
           ADDRESS is a number, NAME or &NAME of a local or a symbol (both its address), MODULE:NAME,\n\
           *ADDRESS (the pointer stored there), ADDRESS+8, ADDRESS-0x10; parentheses group.\n\
           At most 65536 units (4096 strings or instructions) are shown. A string is cut at 200 bytes; the next unit goes on there.",
    schemas: &[Row::schema, Cut::schema],
    start: |words| {
        let (format, addresses) = match words.split_first() {
            Some((first, rest)) if first.starts_with('/') => (Format::parse(first.trim_start_matches('/'))?, rest),
            _ => (Format::DEFAULT, words),
        };
        if addresses.is_empty() {
            return Err("takes an address".to_owned());
        }
        let rest = addresses.iter().map(|text| Evaluation::new(text)).collect::<Result<Vec<_>, _>>()?;
        Ok(Box::new(Examine { format, rest: rest.into_iter(), stage: Stage::Looking }))
    },
};

/// Lines written in one step.
const LINES: usize = 256;

struct Examine {
    format: Format,
    rest: std::vec::IntoIter<Evaluation>,
    stage: Stage,
}

enum Stage {
    Looking,
    Evaluating(Evaluation),
    Writing { lines: std::vec::IntoIter<Units>, unreadable: Option<u64> },
}

/// What stands on one line.
struct Units {
    address: u64,
    bytes: Vec<u8>,
    /// It is a string that goes on.
    goes_on: bool,
    /// It is one.
    instruction: Option<instructions::Instruction>,
}

impl Examine {
    fn next(&mut self) -> Option<Step> {
        self.stage = Stage::Evaluating(self.rest.next()?);
        Some(Step::More)
    }

    /// Reads what is asked for, as far as it can be read: the lines, and the first address that could not be.
    fn read(&self, mut address: u64) -> (Vec<Units>, Option<u64>) {
        if self.format.letter == Letter::String {
            return self.read_strings(address);
        }
        if self.format.letter == Letter::Instruction {
            return self.read_instructions(address);
        }
        let mut bytes = vec![0; self.format.count * self.format.size];
        let count = Live.read(address, &mut bytes);
        let unreadable = (count < bytes.len()).then(|| address.wrapping_add(count as u64));
        // A unit is shown whole or not at all.
        bytes.truncate(count - count % self.format.size);
        let mut lines = Vec::new();
        for bytes in bytes.chunks(self.format.per_line() * self.format.size) {
            lines.push(Units { address, bytes: bytes.to_vec(), goes_on: false, instruction: None });
            address = address.wrapping_add(bytes.len() as u64);
        }
        (lines, unreadable)
    }

    fn read_strings(&self, mut address: u64) -> (Vec<Units>, Option<u64>) {
        let mut lines = Vec::new();
        let mut buffer = [0; LONGEST_STRING];
        while lines.len() < self.format.count {
            let count = Live.read(address, &mut buffer);
            let bytes = buffer.get(..count).unwrap_or_default();
            let end = bytes.iter().position(|byte| *byte == 0);
            let text = bytes.get(..end.unwrap_or(count)).unwrap_or_default();
            let goes_on = end.is_none();
            if count > 0 {
                lines.push(Units { address, bytes: text.to_vec(), goes_on, instruction: None });
            }
            address = address.wrapping_add(text.len() as u64 + u64::from(!goes_on));
            if goes_on && count < buffer.len() {
                return (lines, Some(address));
            }
        }
        (lines, None)
    }

    fn read_instructions(&self, mut address: u64) -> (Vec<Units>, Option<u64>) {
        let mut bytes = vec![0; self.format.count * instructions::LONGEST];
        let count = Live.read(address, &mut bytes);
        let mut rest = bytes.get(..count).unwrap_or_default();
        let mut lines = Vec::new();
        while lines.len() < self.format.count {
            let Some(found) = instructions::decode(rest, address) else { return (lines, Some(address)) };
            let (code, next) = rest.split_at_checked(found.length).unwrap_or((rest, &[]));
            lines.push(Units { address, bytes: code.to_vec(), goes_on: false, instruction: Some(found) });
            address = address.wrapping_add(code.len() as u64);
            rest = next;
        }
        (lines, None)
    }

    /// Names the lines, and what is shown as addresses.
    fn name(&self, world: &mut World, lines: &[Units]) {
        let mut addresses: Vec<u64> = lines.iter().map(|line| line.address).collect();
        if self.format.letter == Letter::Address {
            addresses.extend(lines.iter().flat_map(|line| line.bytes.chunks(self.format.size)).map(unsigned));
        }
        let targets = lines.iter().filter_map(|line| line.instruction.as_ref()?.target);
        addresses.extend(targets.map(instructions::Target::address));
        world.symbolizer.resolve(&world.modules, &addresses);
    }

    fn row(&self, world: &World, line: &Units) -> Row {
        let name = |address| angled(world, address).trim_start().to_owned();
        let mut row = Row {
            address: Hex(line.address),
            symbol: name(line.address),
            string: None,
            goes_on: line.goes_on,
            units: Vec::new(),
            instruction: None,
        };
        if let Some(found) = &line.instruction {
            row.instruction = Some(Instruction {
                bytes: hexadecimal(&line.bytes),
                text: found.text.clone(),
                target: found.target.map(|target| Hex(target.address())),
                target_is_shown: matches!(found.target, Some(instructions::Target::Shown(_))),
                target_symbol: found.target.map_or_else(String::new, |target| name(target.address())),
            });
            return row;
        }
        if self.format.letter == Letter::String {
            row.string = Some(Bytes(line.bytes.clone()));
            return row;
        }
        for bytes in line.bytes.chunks(self.format.size) {
            let mut text = String::new();
            self.format.write(bytes, &mut text);
            let symbol = if self.format.letter == Letter::Address { name(unsigned(bytes)) } else { String::new() };
            row.units.push(Unit { text, symbol });
        }
        row
    }
}

record! {
    /// A unit of memory.
    struct Unit as "unit" {
        /// As the format shows it.
        text: String,
        /// With format a: `<SYMBOL+OFFSET>` of what it points to, or nothing.
        symbol: String,
    }
}

record! {
    /// A machine instruction.
    struct Instruction as "instruction" {
        /// Its bytes, as hexadecimal digits.
        bytes: String,
        /// Its text.
        text: String,
        /// The address that an operand names.
        target: Option<Hex>,
        /// The text ends with that address: a jump or a call.
        target_is_shown: bool,
        /// `<SYMBOL+OFFSET>` of what covers that address, or nothing.
        target_symbol: String,
    }
}

record! {
    /// A line of memory.
    struct Row as "memory" {
        /// Where it lies.
        address: Hex,
        /// `<SYMBOL+OFFSET>` of what covers that, or nothing.
        symbol: String,
        /// With format s: the string.
        string: Option<Bytes>,
        /// That string was cut, and goes on.
        goes_on: bool,
        /// With format i: the instruction.
        instruction: Option<Instruction>,
        /// With the other formats: the units.
        units: Vec<Unit>,
    }
}

impl Line for Unit {
    fn line(&self, out: &mut Vec<u8>) {
        let blank = if self.symbol.is_empty() { "" } else { " " };
        out.extend_from_slice(format!("\t{}{blank}{}", self.text, self.symbol).as_bytes());
    }
}

impl Line for Instruction {
    fn line(&self, out: &mut Vec<u8>) {
        let target = match &self.target {
            Some(_) if self.target_is_shown => format!(" {}", self.target_symbol),
            Some(Hex(target)) => format!("        # {target:#x} {}", self.target_symbol),
            None => String::new(),
        };
        out.extend_from_slice(format!("\t{}{}", self.text, target.trim_end()).as_bytes());
    }
}

impl Line for Row {
    fn line(&self, out: &mut Vec<u8>) {
        // gdb leaves room for the arrow that marks where a thread stands.
        out.extend_from_slice(if self.instruction.is_some() { b"   " } else { b"" });
        let blank = if self.symbol.is_empty() { "" } else { " " };
        out.extend_from_slice(format!("{:#x}{blank}{}:", self.address.0, self.symbol).as_bytes());
        if let Some(string) = &self.string {
            let more = if self.goes_on { "..." } else { "" };
            out.extend_from_slice(format!("\t\"{}\"{more}", Escaped(&string.0)).as_bytes());
        }
        if let Some(instruction) = &self.instruction {
            instruction.line(out);
        }
        self.units.iter().for_each(|unit| unit.line(out));
        out.push(b'\n');
    }
}

impl Job for Examine {
    fn step(&mut self, world: &mut World, out: &mut Output) -> Step {
        match &mut self.stage {
            Stage::Looking => match world.look() {
                Ok(()) => self.next().unwrap_or(Step::Done(Status::Success)),
                Err(error) => fail(out, &error),
            },
            Stage::Evaluating(evaluation) => match evaluation.step(&world.names, &world.modules) {
                None => Step::More,
                Some(Err(error)) => fail(out, &error),
                Some(Ok(address)) => {
                    let (lines, unreadable) = self.read(address);
                    self.name(world, &lines);
                    self.stage = Stage::Writing { lines: lines.into_iter(), unreadable };
                    Step::More
                }
            },
            Stage::Writing { lines, unreadable } => {
                let unreadable = *unreadable;
                let piece: Vec<Units> = lines.by_ref().take(LINES).collect();
                let is_done = lines.as_slice().is_empty();
                piece.iter().for_each(|line| out.put(&self.row(world, line)));
                if !is_done {
                    return Step::More;
                }
                if let Some(address) = unreadable {
                    return fail(out, &format!("cannot read {address:#x}: {}", mappings::why_unreadable(address)));
                }
                if self.format.is_cut {
                    let limit = self.format.count;
                    out.put(&Cut { limit, note: format!("at most {limit} units are shown") });
                }
                self.next().unwrap_or(Step::Done(Status::Success))
            }
        }
    }
}
