//! `help`.

#![forbid(unsafe_code)]

use super::{TABLE, nearest, once};
use crate::config::level::Level;
use crate::record;
use crate::shell::json::Raw;
use crate::shell::record::Line;
use crate::shell::{Command, filter, output, registered};

pub const COMMAND: Command = Command {
    name: "help",
    level: Level::Observe,
    synopsis: "[COMMAND]",
    summary: "List the commands, or explain one.",
    help: "help               the commands, a line each\n\
           help stacks        one of them, with examples\n\
           help filters       | grep, | head, | count; more commands on a line; comments\n\
           help --json        for programs: each with the JSON Schemas of the records that it answers with\n\n\
           Any command takes --json, and answers with an array of records then, one a line; each says its kind.\n\
           An error is a record of kind error; what a file server did not bring is one of kind missing.",
    schemas: &[Entry::schema, FilterEntry::schema, output::Failure::schema, output::Missing::schema],
    start: |arguments| match arguments {
        [] => {
            Ok(once(|_, out| {
                for (index, (family, commands)) in TABLE.iter().enumerate() {
                    out.note(format!("{}{family}:\n", if index > 0 { "\n" } else { "" }));
                    commands.iter().for_each(|command| out.put(&Entry::built_in(family, command)));
                }
                let registered = registered::each(Entry::registered);
                if !registered.is_empty() {
                    out.note(format!("\n{REGISTERED}:\n"));
                    registered.iter().for_each(|entry| out.put(entry));
                }
                out.note("\nhelp COMMAND explains one, help filters what can stand behind a command: | grep, | head, | count.\n");
                Ok(())
            }))
        }
        [name] if name == FILTERS => Ok(once(|_, out| {
            out.note("The lines of an answer can go through filters, as in: stacks | grep ThreadID | head 3\n\n");
            for filter in filter::TABLE {
                out.put(&FilterEntry { name: filter.name, synopsis: filter.synopsis, summary: filter.summary });
            }
            out.note("\n; separates commands on a line, # begins a comment, ^C ends the running command.\n");
            Ok(())
        })),
        [name] => {
            let entry = find(name)?;
            Ok(once(move |_, out| {
                if out.is_json() {
                    out.put(&entry);
                }
                out.note(entry.explanation());
                Ok(())
            }))
        }
        _ => Err("takes one command's name".to_owned()),
    },
};

/// What `help` explains beside the commands.
pub const FILTERS: &str = "filters";

/// The heading of the application's commands.
const REGISTERED: &str = "Registered by the application, run on its thread `Manhole actor`";

record! {
    /// A filter.
    struct FilterEntry as "filter" {
        /// What one types behind a `|`.
        name: &'static str,
        /// Its arguments.
        synopsis: &'static str,
        /// What it does.
        summary: &'static str,
    }
}

impl Line for FilterEntry {
    fn line(&self, out: &mut Vec<u8>) {
        let usage = format!("{} {}", self.name, self.synopsis);
        out.extend_from_slice(format!("| {usage:<22} {}\n", self.summary).as_bytes());
    }
}

record! {
    /// A command.
    struct Entry as "command" {
        /// What one types.
        name: String,
        /// What it is for: the heading under which it is listed.
        family: &'static str,
        /// The level that a session needs for it: observe, operate or admin.
        level: &'static str,
        /// Its arguments.
        synopsis: String,
        /// What it does, in a line.
        summary: String,
        /// More, with examples.
        help: String,
        /// It belongs to the application, and answers with text only.
        registered: bool,
        /// JSON Schemas of the records that it answers with, beside those of kind error.
        schemas: Vec<Raw>,
    }
}

impl Entry {
    fn built_in(family: &'static str, command: &Command) -> Self {
        let schema = |schema: &crate::shell::record::Schema| {
            let mut bytes = Vec::new();
            schema(&mut bytes);
            Raw(bytes)
        };
        Self {
            name: command.name.to_owned(),
            family,
            level: command.level.name(),
            synopsis: command.synopsis.to_owned(),
            summary: command.summary.to_owned(),
            help: command.help.trim_end().to_owned(),
            registered: false,
            schemas: command.schemas.iter().map(schema).collect(),
        }
    }

    fn registered(command: &registered::Registered) -> Self {
        Self {
            name: command.name.clone(),
            family: REGISTERED,
            level: Level::Operate.name(),
            synopsis: command.synopsis.clone(),
            summary: command.summary().to_owned(),
            help: command.help.trim_end().to_owned(),
            registered: true,
            schemas: Vec::new(),
        }
    }

    fn explanation(&self) -> String {
        // The first line of a registered command's help is its summary.
        let summary = if self.registered { String::new() } else { format!("{}\n\n", self.summary) };
        format!("{} {}\n{summary}{}\nLevel: {}.\n", self.name, self.synopsis, self.help, self.level)
    }
}

impl Line for Entry {
    fn line(&self, out: &mut Vec<u8>) {
        let usage = format!("{} {}", self.name, self.synopsis);
        let line = if usage.len() < 20 {
            format!("{usage:<20}{}\n", self.summary)
        } else {
            format!("{usage}\n{:<20}{}\n", "", self.summary)
        };
        out.extend_from_slice(line.as_bytes());
    }
}

fn find(name: &str) -> Result<Entry, String> {
    let in_family = |(family, commands): &(&'static str, &[Command])| {
        commands.iter().find(|command| command.name == name).map(|command| Entry::built_in(family, command))
    };
    let built_in = TABLE.iter().find_map(in_family);
    built_in.or_else(|| registered::one(name, Entry::registered)).ok_or_else(|| match nearest(name) {
        Some(known) => format!("no command {name:?}; did you mean {known}?"),
        None => format!("no command {name:?}"),
    })
}
