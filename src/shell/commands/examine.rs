//! `x`: memory, as gdb's command of that name shows it.
//!
//! Everything is read first, in one go, and its addresses are named in one pass over the symbol tables; then the
//! lines are written as fast as the client takes them.

#![forbid(unsafe_code)]

use super::fail;
use crate::inspect::mappings;
use crate::inspect::strings::Escaped;
use crate::protocol::Status;
use crate::shell::address::Evaluation;
use crate::shell::place::angled;
use crate::shell::units::{Format, LONGEST_STRING, Letter, unsigned};
use crate::shell::{Command, Job, Step, World};
use crate::sys::memory::{Live, Memory};

pub const COMMAND: Command = Command {
    name: "x",
    synopsis: "[/FORMAT] ADDRESS...",
    summary: "Show memory, in gdb's formats.",
    help: "x/8xg &server           eight words of eight bytes in hexadecimal\n\
           x/4dw *table+0x10       four signed numbers of four bytes, at 16 bytes from where table points to\n\
           x/3s version            three strings\n\
           x/6a &config            six pointers with their symbols\n\
           x/16xb 0x7ffd12345678   sixteen bytes\n\n\
           FORMAT is a count, a letter and a size, in gdb's order or any: x hexadecimal, d signed, u unsigned,\n\
           o octal, t binary, c character, f floating point, a address, s string; b 1 byte, h 2, w 4, g 8.\n\
           ADDRESS is a number, NAME or &NAME of a local or a symbol (both its address), MODULE:NAME,\n\
           *ADDRESS (the pointer stored there), ADDRESS+8, ADDRESS-0x10; parentheses group.\n\
           At most 65536 units (4096 strings) are shown. A string is cut at 200 bytes; the next unit goes on there.",
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
    Writing { lines: std::vec::IntoIter<Line>, unreadable: Option<u64> },
}

/// What stands on one line.
struct Line {
    address: u64,
    bytes: Vec<u8>,
    /// It is a string that goes on.
    goes_on: bool,
}

impl Examine {
    fn next(&mut self) -> Option<Step> {
        self.stage = Stage::Evaluating(self.rest.next()?);
        Some(Step::More)
    }

    /// Reads what is asked for, as far as it can be read: the lines, and the first address that could not be.
    fn read(&self, mut address: u64) -> (Vec<Line>, Option<u64>) {
        if self.format.letter == Letter::String {
            return self.read_strings(address);
        }
        let mut bytes = vec![0; self.format.count * self.format.size];
        let count = Live.read(address, &mut bytes);
        let unreadable = (count < bytes.len()).then(|| address.wrapping_add(count as u64));
        // A unit is shown whole or not at all.
        bytes.truncate(count - count % self.format.size);
        let mut lines = Vec::new();
        for bytes in bytes.chunks(self.format.per_line() * self.format.size) {
            lines.push(Line { address, bytes: bytes.to_vec(), goes_on: false });
            address = address.wrapping_add(bytes.len() as u64);
        }
        (lines, unreadable)
    }

    fn read_strings(&self, mut address: u64) -> (Vec<Line>, Option<u64>) {
        let mut lines = Vec::new();
        let mut buffer = [0; LONGEST_STRING];
        while lines.len() < self.format.count {
            let count = Live.read(address, &mut buffer);
            let bytes = buffer.get(..count).unwrap_or_default();
            let end = bytes.iter().position(|byte| *byte == 0);
            let text = bytes.get(..end.unwrap_or(count)).unwrap_or_default();
            let goes_on = end.is_none();
            if count > 0 {
                lines.push(Line { address, bytes: text.to_vec(), goes_on });
            }
            address = address.wrapping_add(text.len() as u64 + u64::from(!goes_on));
            if goes_on && count < buffer.len() {
                return (lines, Some(address));
            }
        }
        (lines, None)
    }

    /// Names the lines, and what is shown as addresses.
    fn name(&self, world: &mut World, lines: &[Line]) {
        let mut addresses: Vec<u64> = lines.iter().map(|line| line.address).collect();
        if self.format.letter == Letter::Address {
            addresses.extend(lines.iter().flat_map(|line| line.bytes.chunks(self.format.size)).map(unsigned));
        }
        world.symbolizer.resolve(&world.modules, &addresses);
    }

    fn write(&self, world: &World, line: &Line, out: &mut Vec<u8>) {
        let mut text = format!("{:#x}{}:", line.address, angled(world, line.address));
        if self.format.letter == Letter::String {
            let more = if line.goes_on { "..." } else { "" };
            text.push_str(&format!("\t\"{}\"{more}", Escaped(&line.bytes)));
        } else {
            for unit in line.bytes.chunks(self.format.size) {
                text.push('\t');
                self.format.write(unit, &mut text);
                if self.format.letter == Letter::Address {
                    text.push_str(&angled(world, unsigned(unit)));
                }
            }
        }
        text.push('\n');
        out.extend_from_slice(text.as_bytes());
    }
}

impl Job for Examine {
    fn step(&mut self, world: &mut World, out: &mut Vec<u8>) -> Step {
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
                let piece: Vec<Line> = lines.by_ref().take(LINES).collect();
                let is_done = lines.as_slice().is_empty();
                piece.iter().for_each(|line| self.write(world, line, out));
                if !is_done {
                    return Step::More;
                }
                if let Some(address) = unreadable {
                    return fail(out, &format!("cannot read {address:#x}: {}", mappings::why_unreadable(address)));
                }
                if self.format.is_cut {
                    out.extend_from_slice(format!("cut: at most {} units are shown\n", self.format.count).as_bytes());
                }
                self.next().unwrap_or(Step::Done(Status::Success))
            }
        }
    }
}
