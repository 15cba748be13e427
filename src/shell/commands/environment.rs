//! `setenv`, `unsetenv`: the environment of the application, changed by its own libc.

#![forbid(unsafe_code)]

use std::ffi::CString;

use crate::config::level::Level;
use crate::inspect::strings::Escaped;
use crate::record;
use crate::shell::crash::Crashed;
use crate::shell::errand::{Errand, Guarding};
use crate::shell::json::Bytes;
use crate::shell::record::Line;
use crate::shell::spool::Writer;
use crate::shell::stack_record::Stack;
use crate::shell::{Command, Job};
use crate::sys::variables;

pub const SET: Command = Command {
    name: "setenv",
    level: Level::Admin,
    synopsis: "NAME=VALUE",
    summary: "Set a variable of the application's environment.",
    help: "setenv LOG_LEVEL=debug\n\
           setenv 'GREETING=good morning'\n\n\
           By setenv(3), on the actor. Who has read the variable before does not notice; who reads it for the first time,\n\
           and programs that are started, do. getenv(3) takes no lock: a thread that reads the environment in the very\n\
           moment may crash, as when the application itself called setenv beside threads.",
    schemas: &[Variable::schema, Crashed::schema, Stack::schema],
    start: |words| match words {
        [word] => match word.split_once('=') {
            Some((name, value)) => change(name, Some(value)),
            None => Err(format!("{word:?} has no =; unsetenv removes a variable")),
        },
        _ => Err("takes one NAME=VALUE, in quotes where there are blanks".to_owned()),
    },
};

pub const UNSET: Command = Command {
    name: "unsetenv",
    level: Level::Admin,
    synopsis: "NAME",
    summary: "Remove a variable of the application's environment.",
    help: "unsetenv LD_PRELOAD             programs that are started from now on go without\n\n\
           By unsetenv(3), on the actor; what setenv's help says of threads holds here, too.",
    schemas: &[Variable::schema, Crashed::schema, Stack::schema],
    start: |words| match words {
        [name] if name.contains('=') => Err(format!("{name:?} is no name")),
        [name] => change(name, None),
        _ => Err("takes one NAME".to_owned()),
    },
};

fn change(name: &str, value: Option<&str>) -> Result<Box<dyn Job>, String> {
    let nul = |_| "a NUL byte in it".to_owned();
    if name.is_empty() {
        return Err("a name is missing".to_owned());
    }
    let what = format!("{} {name}", if value.is_some() { "setenv" } else { "unsetenv" });
    let name = CString::new(name).map_err(nul)?;
    let value = value.map(|value| CString::new(value).map_err(nul)).transpose()?;
    Ok(Box::new(Errand::guarded(what, Guarding::IfPossible, move |writer: &Writer| {
        let before = variables::get(&name);
        let changed = match &value {
            Some(value) => variables::set(&name, value),
            None => variables::unset(&name),
        };
        changed.map_err(|error| error.desc().to_owned())?;
        writer.put(Variable {
            name: Bytes(name.into_bytes()),
            before: before.map(Bytes),
            value: value.map(|value| Bytes(value.into_bytes())),
        });
        Ok(())
    })))
}

record! {
    /// A variable was changed.
    struct Variable as "variable" {
        /// Its name.
        name: Bytes,
        /// What it was; null if there was none.
        before: Option<Bytes>,
        /// What it is; null if it was removed.
        value: Option<Bytes>,
    }
}

impl Line for Variable {
    fn line(&self, out: &mut Vec<u8>) {
        let shown = |value: &Option<Bytes>| {
            value.as_ref().map_or_else(|| "not set".to_owned(), |value| format!("\"{}\"", Escaped(&value.0)))
        };
        let (before, value) = (shown(&self.before), shown(&self.value));
        out.extend_from_slice(format!("{}: {before} -> {value}\n", Escaped(&self.name.0)).as_bytes());
    }
}
