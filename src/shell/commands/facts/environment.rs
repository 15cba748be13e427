//! `env`: the environment now, and what differs from the one at the start.

#![forbid(unsafe_code)]

use super::{Cut, application_thread, fail, readable};
use crate::config::glob;
use crate::config::level::Level;
use crate::inspect::environment::{self, Environment, split};
use crate::inspect::strings::Escaped;
use crate::protocol::Status;
use crate::record;
use crate::shell::json::Bytes;
use crate::shell::output::Output;
use crate::shell::record::Line;
use crate::shell::{Command, Job, Step, World};
use crate::sys::memory::Live;

pub const COMMAND: Command = Command {
    name: "env",
    level: Level::Observe,
    synopsis: "[NAME-GLOB]",
    summary: "Show the environment as the application sees it now, and what differs from the one at its start.",
    help: "env                 all of it\n\
           env 'LC_*'          by name\n\
           env | grep since    only what the program itself changed\n\n\
           Now is what getenv() finds: setenv, putenv and unsetenv change it. The start is what the kernel put on the\n\
           first stack; a program that writes a title there (setproctitle) destroys that, and then much seems changed.\n\
           JSON gives a variable's state: same, changed, added or removed.",
    schemas: &[Variable::schema, Cut::schema],
    start: |arguments| match arguments {
        [] => Ok(Box::new(Show { which: None, rows: None, cut: false, shown: 0 })),
        [which] => Ok(Box::new(Show { which: Some(which.clone()), rows: None, cut: false, shown: 0 })),
        _ => Err("takes one glob".to_owned()),
    },
};

/// Bytes written in one step, about.
const PIECE: usize = 64 << 10;

struct Show {
    which: Option<String>,
    rows: Option<std::vec::IntoIter<Variable>>,
    cut: bool,
    shown: usize,
}

record! {
    /// A variable of the environment.
    struct Variable as "variable" {
        /// Its name.
        name: Bytes,
        /// Its value now; null when there is none.
        value: Option<Bytes>,
        /// same, changed, added or removed: against the environment at the start.
        state: &'static str,
        /// What it was then, where that differs.
        started_with: Option<Bytes>,
    }
}

impl Line for Variable {
    fn line(&self, out: &mut Vec<u8>) {
        let text =
            |value: &Option<Bytes>| value.as_ref().map_or_else(String::new, |it| format!("=\"{}\"", Escaped(&it.0)));
        let name = Escaped(&self.name.0);
        let before =
            self.started_with.as_ref().map_or_else(|| "no value".to_owned(), |it| format!("\"{}\"", Escaped(&it.0)));
        let line = match self.state {
            "changed" => format!("{name}{}   (changed since the start, was {before})\n", text(&self.value)),
            "added" => format!("{name}{}   (added since the start)\n", text(&self.value)),
            "removed" => format!("{name}   (removed since the start, was {before})\n"),
            _ => format!("{name}{}\n", text(&self.value)),
        };
        out.extend_from_slice(line.as_bytes());
    }
}

/// What there is now, in its order, and then what is no more.
fn compare(now: &Environment, start: &Environment) -> Vec<Variable> {
    let bytes = |value: Option<&[u8]>| value.map(|value| Bytes(value.to_vec()));
    let index = |environment: &Environment| -> std::collections::BTreeMap<Vec<u8>, Option<Vec<u8>>> {
        let pair = |string: &Vec<u8>| {
            let (name, value) = split(string);
            (name.to_vec(), value.map(<[u8]>::to_vec))
        };
        // The first one of a name counts: it must come last.
        environment.strings.iter().rev().map(pair).collect()
    };
    let (then, today) = (index(start), index(now));
    let mut rows = Vec::with_capacity(now.strings.len());
    for string in &now.strings {
        let (name, value) = split(string);
        let before = then.get(name);
        let state = match before {
            None => "added",
            Some(before) if before.as_deref() == value => "same",
            Some(_) => "changed",
        };
        let started_with = before.filter(|_| state == "changed").and_then(|before| bytes(before.as_deref()));
        rows.push(Variable { name: Bytes(name.to_vec()), value: bytes(value), state, started_with });
    }
    for string in &start.strings {
        let (name, value) = split(string);
        if !today.contains_key(name) {
            let name = Bytes(name.to_vec());
            rows.push(Variable { name, value: None, state: "removed", started_with: bytes(value) });
        }
    }
    rows
}

impl Show {
    fn read(&mut self, world: &World) -> Result<Vec<Variable>, String> {
        let tid = application_thread(world)?;
        let now = environment::now(&Live).ok_or("the memory that environ points to cannot be read")?;
        let start = readable(|| environment::at_start(tid))
            .map_err(|error| format!("cannot read /proc/self/environ: {}", error.desc()))?;
        self.cut = now.is_cut || start.is_cut;
        Ok(compare(&now, &start))
    }
}

impl Job for Show {
    fn step(&mut self, world: &mut World, out: &mut Output) -> Step {
        let Some(rows) = &mut self.rows else {
            match self.read(world) {
                Ok(rows) => self.rows = Some(rows.into_iter()),
                Err(error) => return fail(out, &error),
            }
            return Step::More;
        };
        let before = out.len();
        for row in rows.by_ref() {
            if self.which.as_ref().is_none_or(|which| glob::matches(which.as_bytes(), &row.name.0)) {
                out.put(&row);
                self.shown += 1;
            }
            if out.len() > before + PIECE {
                return Step::More;
            }
        }
        if self.cut {
            let note = "the environment is larger than what is read of it (65536 variables, 128K each, 4M in all)";
            out.put(&Cut { limit: self.shown, note: note.to_owned() });
        }
        match &self.which {
            Some(which) if self.shown == 0 => fail(out, &format!("no variable matches {which:?}, now or at the start")),
            _ => Step::Done(Status::Success),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states() {
        let of = |strings: &[&str]| Environment {
            strings: strings.iter().map(|string| string.as_bytes().to_vec()).collect(),
            is_cut: false,
        };
        let rows = compare(&of(&["A=1", "B=2", "C=3", "A=9"]), &of(&["B=1", "A=1", "D=4", "E"]));
        let mut text = Vec::new();
        rows.iter().for_each(|row| row.line(&mut text));
        let expected = "A=\"1\"\n\
            B=\"2\"   (changed since the start, was \"1\")\n\
            C=\"3\"   (added since the start)\n\
            A=\"9\"   (changed since the start, was \"1\")\n\
            D   (removed since the start, was \"4\")\n\
            E   (removed since the start, was no value)\n";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}
