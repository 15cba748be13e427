//! `cmdline`: how the program was started.

#![forbid(unsafe_code)]

use super::{application_thread, fact, no_arguments, once, quoted};
use crate::config::level::Level;
use crate::inspect::commandline::{self, CommandLine};
use crate::inspect::strings::Escaped;
use crate::record;
use crate::shell::Command;
use crate::shell::json::Bytes;
use crate::shell::record::Line;
use crate::stack::capture::dumpable::Dumpable;
use crate::sys::memory::Live;

pub const COMMAND: Command = Command {
    name: "cmdline",
    level: Level::Observe,
    synopsis: "",
    summary: "Show the arguments, now and as they were; executable, script, working folder, root, file mode mask.",
    help: "A program may write a title over its arguments (setproctitle). Those that do so often move them away before,\n\
           and argv still points to them: then both are shown. An executable that was deleted, or whose name another\n\
           file has now, is said to be.",
    schemas: &[Started::schema],
    start: |arguments| {
        no_arguments(arguments)?;
        Ok(once(|world, out| {
            let tid = application_thread(world)?;
            let mut dumpable = Dumpable::default();
            let mut line = commandline::read(&Live, tid);
            if line.executed.is_none() && dumpable.allow() {
                line = commandline::read(&Live, tid);
            }
            out.put(&Started::from(line));
            Ok(())
        }))
    },
};

record! {
    /// How the program was started.
    struct Started as "cmdline" {
        /// The arguments as the kernel shows them now, or the title that the program wrote over them.
        arguments: Vec<Bytes>,
        /// What argv points to.
        argv: Vec<Bytes>,
        /// Those differ: the program wrote a title.
        is_title: bool,
        /// The path of the executable.
        executable: Bytes,
        /// Its file was deleted.
        deleted: bool,
        /// Another file has its name now; null where that cannot be seen.
        replaced: Option<bool>,
        /// What was executed, as it was named then.
        executed: Option<Bytes>,
        /// The script that the executable interprets.
        script: Option<Bytes>,
        /// The working folder.
        working_folder: Option<Bytes>,
        /// The root.
        root: Option<Bytes>,
        /// The file mode mask, as octal digits.
        umask: Option<String>,
    }
}

impl From<CommandLine> for Started {
    fn from(line: CommandLine) -> Self {
        let all = |words: Vec<Vec<u8>>| words.into_iter().map(Bytes).collect();
        Self {
            is_title: !line.vector.is_empty() && line.now != line.vector,
            arguments: all(line.now),
            argv: all(line.vector),
            executable: Bytes(line.executable),
            deleted: line.deleted,
            replaced: line.replaced,
            executed: line.executed.map(Bytes),
            script: line.script.map(Bytes),
            working_folder: line.folder.map(Bytes),
            root: line.root.map(Bytes),
            umask: line.umask.map(|umask| format!("{umask:04o}")),
        }
    }
}

impl Line for Started {
    fn line(&self, out: &mut Vec<u8>) {
        let words = |words: &[Bytes]| quoted(&words.iter().map(|word| word.0.clone()).collect::<Vec<_>>());
        let path =
            |path: &Option<Bytes>| path.as_ref().map_or_else(|| "unknown".to_owned(), |it| Escaped(&it.0).to_string());
        if self.is_title {
            fact(out, "title", words(&self.arguments));
            fact(out, "argv", words(&self.argv));
        } else {
            fact(out, "arguments", words(&self.arguments));
        }
        let state = match (self.deleted, self.replaced) {
            (_, Some(true)) => " (replaced: another file has this name now)",
            (true, _) => " (deleted)",
            _ => "",
        };
        fact(out, "executable", format!("{}{state}", Escaped(&self.executable.0)));
        if let Some(script) = &self.script {
            fact(out, "script", format!("{}, which the executable interprets", Escaped(&script.0)));
        }
        fact(out, "working folder", path(&self.working_folder));
        fact(out, "root", path(&self.root));
        fact(out, "umask", self.umask.as_deref().unwrap_or("unknown"));
    }
}
