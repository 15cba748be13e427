//! `history`: what this session has run.

#![forbid(unsafe_code)]

use super::{no_arguments, once};
use crate::config::level::Level;
use crate::record;
use crate::shell::Command;
use crate::shell::record::Line;

pub const COMMAND: Command = Command {
    name: "history",
    level: Level::Observe,
    synopsis: "",
    summary: "List the lines of this session, for !N, !! and !PREFIX.",
    help: "history\n!!             the last line again\n!3 --json      line 3 again, with more behind it\n\
           !stacks        the last line that begins so\n\n\
           The line that is run is shown first. The last 100 lines are kept, of at most 4096 bytes, until the session\n\
           ends. A program's requests are listed too, but it has no use for !.",
    schemas: &[Entry::schema],
    start: |arguments| {
        no_arguments(arguments)?;
        Ok(once(|world, out| {
            for (number, line) in world.client.history.each() {
                out.put(&Entry { number, line: line.to_owned() });
            }
            Ok(())
        }))
    },
};

record! {
    /// A line that was run.
    struct Entry as "line" {
        /// Its number.
        number: usize,
        /// The line.
        line: String,
    }
}

impl Line for Entry {
    fn line(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("{:>5}  {}\n", self.number, self.line).as_bytes());
    }
}
