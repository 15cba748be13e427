//! `modules`: what is loaded where, with which build ID and debug information.

#![forbid(unsafe_code)]

use std::fmt::Write;
use std::sync::Arc;

use super::{fail, hexadecimal, no_arguments};
use crate::inspect::strings::Escaped;
use crate::protocol::Status;
use crate::shell::{Command, Job, Step, World};
use crate::stack::modules::Module;

pub const COMMAND: Command = Command {
    name: "modules",
    synopsis: "",
    summary: "List the loaded objects: addresses, build ID, debug information found or where it was looked for.",
    help: "Debug information is looked for in the file itself, by build ID under /usr/lib/debug/.build-id,\nby .gnu_debuglink beside the file and under /usr/lib/debug, and in .gnu_debugdata.\ndebuginfod is never asked.",
    start: |arguments| {
        no_arguments(arguments)?;
        Ok(Box::new(List { rest: None }))
    },
};

/// One module a step: looking for debug information opens files.
struct List {
    rest: Option<std::vec::IntoIter<Arc<Module>>>,
}

impl Job for List {
    fn step(&mut self, world: &mut World, out: &mut Vec<u8>) -> Step {
        let Some(rest) = &mut self.rest else {
            if let Err(error) = world.look() {
                return fail(out, &error);
            }
            self.rest = Some(world.modules.iter().cloned().collect::<Vec<_>>().into_iter());
            return Step::More;
        };
        let Some(module) = rest.next() else { return Step::Done(Status::Success) };
        let mut text = String::new();
        let build_id = if module.build_id.is_empty() { "none".to_owned() } else { hexadecimal(&module.build_id) };
        let deleted = if module.deleted { " (deleted)" } else { "" };
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{:#x}-{:#x} {}{deleted}", module.start, module.end, Escaped(&module.path));
        let _ = writeln!(text, "    build ID {build_id}");
        let _ = writeln!(text, "    debug information: {}", world.symbolizer.debug_info(&module));
        out.extend_from_slice(text.as_bytes());
        Step::More
    }
}
