//! `modules`: what is loaded where, with which build ID and debug information.

#![forbid(unsafe_code)]

use std::io::Write;
use std::sync::Arc;

use super::{fail, hexadecimal, no_arguments};
use crate::config::level::Level;
use crate::inspect::strings::Escaped;
use crate::protocol::Status;
use crate::record;
use crate::shell::json::{Bytes, Hex};
use crate::shell::output::Output;
use crate::shell::record::Line;
use crate::shell::{Command, Job, Step, World};
use crate::stack::modules::Module;

pub const COMMAND: Command = Command {
    name: "modules",
    level: Level::Observe,
    synopsis: "",
    summary: "List the loaded objects: addresses, build ID, debug information found or where it was looked for.",
    help: "Debug information is looked for in the file itself, by build ID under /usr/lib/debug/.build-id,\nby .gnu_debuglink beside the file and under /usr/lib/debug, and in .gnu_debugdata.\ndebuginfod is never asked.",
    schemas: &[Loaded::schema],
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
    fn step(&mut self, world: &mut World, out: &mut Output) -> Step {
        let Some(rest) = &mut self.rest else {
            if let Err(error) = world.look() {
                return fail(out, &error);
            }
            self.rest = Some(world.modules.iter().cloned().collect::<Vec<_>>().into_iter());
            return Step::More;
        };
        let Some(module) = rest.next() else { return Step::Done(Status::Success) };
        out.put(&Loaded {
            start: Hex(module.start),
            end: Hex(module.end),
            path: Bytes(module.path.clone()),
            deleted: module.deleted,
            build_id: (!module.build_id.is_empty()).then(|| hexadecimal(&module.build_id)),
            debug_information: world.symbolizer.debug_info(&module).to_string(),
        });
        Step::More
    }
}

record! {
    /// A loaded object.
    struct Loaded as "module" {
        /// Where its first mapping begins.
        start: Hex,
        /// Where its last mapping ends.
        end: Hex,
        /// Its file, as the kernel names it.
        path: Bytes,
        /// That file was deleted or replaced.
        deleted: bool,
        /// In hexadecimal.
        build_id: Option<String>,
        /// Where debug information was found, or where it was looked for.
        debug_information: String,
    }
}

impl Line for Loaded {
    fn line(&self, out: &mut Vec<u8>) {
        let (Hex(start), Hex(end), path) = (self.start, self.end, Escaped(&self.path.0));
        let deleted = if self.deleted { " (deleted)" } else { "" };
        let build_id = self.build_id.as_deref().unwrap_or("none");
        // Writing into a Vec cannot fail.
        let _ = writeln!(out, "{start:#x}-{end:#x} {path}{deleted}");
        let _ = writeln!(out, "    build ID {build_id}\n    debug information: {}", self.debug_information);
    }
}
