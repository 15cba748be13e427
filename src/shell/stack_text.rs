//! Stacks as text: python-manhole's header, gdb's frames.
//!
//! Context: the observer. A thousand threads share most of their frames, so the text of a frame is
//! made once a dump and copied afterwards.

#![forbid(unsafe_code)]

use std::io::Write;

use rustc_hash::FxHashMap;

use super::World;
use crate::inspect::strings::Escaped;
use crate::inspect::{syscalls, threads};
use crate::stack::symbols::SourceFrame;
use crate::stack::{Ending, Frame, FrameSource, Method, Outcome, Reason, ThreadStack};
use crate::sys::process;

/// How frames are shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Function, file and line.
    Named,
    /// Module and offset.
    Raw,
}

/// Writes stacks and keeps the text of frames.
pub struct Text {
    style: Style,
    /// Frames a thread, inlined ones counted.
    limit: Option<u32>,
    pid: i32,
    /// The text of each address so far, a line per (possibly inlined) function.
    known: FxHashMap<(u64, FrameSource), Vec<Box<[u8]>>>,
}

impl Text {
    /// Nothing known yet.
    pub fn new(style: Style, limit: Option<u32>) -> Self {
        Self { style, limit, pid: process::pid(), known: FxHashMap::default() }
    }

    /// Writes one group of threads with equal stacks: a header, the frames, an empty line.
    pub fn write(&mut self, group: &[Outcome], world: &World, out: &mut Vec<u8>) {
        // Writing into a Vec cannot fail, here and below.
        match group {
            [] => {}
            [Outcome::Exited(tid)] => {
                let _ = writeln!(out, "######### ProcessID={}, ThreadID={tid}, has exited #########\n", self.pid);
            }
            [Outcome::Captured(stack)] => {
                self.header(stack, out);
                self.frames(stack, world, out);
            }
            [first, ..] => {
                self.group_header(group, out);
                if let Outcome::Captured(stack) = first {
                    self.frames(stack, world, out);
                }
            }
        }
    }

    fn header(&self, stack: &ThreadStack, out: &mut Vec<u8>) {
        let _ = write!(
            out,
            "######### ProcessID={}, ThreadID={}, name=\"{}\", state={} ({}), syscall=",
            self.pid,
            stack.tid,
            Escaped(&stack.name),
            char::from(stack.state),
            threads::state_word(stack.state),
        );
        let _ = match &stack.call {
            Some(call) => write!(out, "{}", syscalls::brief(call)),
            None => write!(out, "none"),
        };
        let _ = writeln!(out, ", capture={} #########", stack.method.map_or("none", Method::name));
    }

    /// The names once each, then every thread id.
    fn group_header(&self, group: &[Outcome], out: &mut Vec<u8>) {
        let stacks = || {
            group.iter().filter_map(|outcome| match outcome {
                Outcome::Captured(stack) => Some(stack),
                Outcome::Exited(_) => None,
            })
        };
        let mut names: Vec<&[u8]> = stacks().map(|stack| stack.name.as_slice()).collect();
        names.sort_unstable();
        names.dedup();
        let _ = write!(out, "######### ProcessID={}, {} threads, name=", self.pid, group.len());
        for (index, name) in names.iter().enumerate() {
            let _ = write!(out, "{}\"{}\"", if index == 0 { "" } else { " " }, Escaped(name));
        }
        for (index, stack) in stacks().enumerate() {
            let _ = write!(out, "{}{}", if index == 0 { ", ThreadID=" } else { " " }, stack.tid);
        }
        out.extend_from_slice(b" #########\n");
    }

    fn frames(&mut self, stack: &ThreadStack, world: &World, out: &mut Vec<u8>) {
        if stack.is_placeholder() {
            let doing = if stack.tid == world.own_tid { "which writes this" } else { "idle" };
            let _ = writeln!(out, "skipped: the manhole's own thread, {doing}\n");
            return;
        }
        let limit = self.limit.unwrap_or(u32::MAX);
        let mut number = 0;
        for frame in &stack.frames {
            let style = self.style;
            let lines = self.known.entry((frame.pc, frame.source)).or_insert_with(|| describe(frame, style, world));
            for line in lines {
                // An inlined function is a frame to whoever counts them.
                if number == limit {
                    let _ = writeln!(out, "truncated: {}\n", Reason::Depth(limit));
                    return;
                }
                push_number(number, out);
                out.extend_from_slice(line);
                number += 1;
            }
        }
        if let Ending::Truncated(reason) = stack.ending {
            let _ = writeln!(out, "truncated: {reason}");
        }
        out.push(b'\n');
    }
}

/// `#7  `, `#12 `, `#123 `: once for every frame of every thread, so not through a formatter.
fn push_number(number: u32, out: &mut Vec<u8>) {
    let digit = |value: u32| b'0' + (value % 10) as u8;
    match number {
        0..10 => out.extend_from_slice(&[b'#', digit(number), b' ', b' ']),
        10..100 => out.extend_from_slice(&[b'#', digit(number / 10), digit(number), b' ']),
        _ => {
            let _ = write!(out, "#{number} ");
        }
    }
}

/// The lines of one frame, without their number.
fn describe(frame: &Frame, style: Style, world: &World) -> Vec<Box<[u8]>> {
    let module = world.modules.find(frame.pc.saturating_sub(1)).map(|module| &**module);
    let nothing = [SourceFrame::default()];
    let functions = match style {
        Style::Raw => &nothing,
        Style::Named => match world.symbolizer.lookup(&world.modules, frame.lookup_address()) {
            [] => &nothing,
            found => found,
        },
    };
    let mut lines = Vec::new();
    for function in functions {
        let mut line = Vec::new();
        let _ = write!(line, "{:#018x} ", frame.pc);
        match (style, module) {
            (Style::Raw, Some(module)) => {
                let offset = frame.pc.wrapping_sub(module.bias);
                let _ = write!(line, "{}+{offset:#x}", Escaped(module.name()));
            }
            (Style::Raw, None) => line.extend_from_slice(b"(no module)"),
            (Style::Named, _) => {
                if frame.source == FrameSource::Trampoline {
                    line.extend_from_slice(b"in <signal handler called>");
                } else {
                    named(function, &mut line);
                }
                let _ = match module {
                    Some(module) => write!(line, " ({})", Escaped(module.name())),
                    None if function.function.is_some() => write!(line, " (perf map)"),
                    None => write!(line, " (no module)"),
                };
            }
        }
        if frame.source == FrameSource::FramePointer {
            line.extend_from_slice(b" [frame pointer]");
        }
        line.push(b'\n');
        lines.push(line.into_boxed_slice());
    }
    lines
}

fn named(function: &SourceFrame, line: &mut Vec<u8>) {
    line.extend_from_slice(b"in ");
    let _ = match &function.function {
        Some(name) => write!(line, "{}", Escaped(name.as_bytes())),
        None => write!(line, "??"),
    };
    if function.inlined {
        line.extend_from_slice(b" (inlined)");
    } else if let Some(offset) = function.offset {
        let _ = write!(line, "+{offset:#x}");
    }
    if let Some(file) = &function.file {
        let _ = write!(line, " at {}:{}", Escaped(file.as_bytes()), function.line);
    }
}
