//! `help`.

#![forbid(unsafe_code)]

use std::fmt::Write;

use super::{TABLE, once};
use crate::config::nearest;
use crate::shell::Command;

pub const COMMAND: Command = Command {
    name: "help",
    synopsis: "[COMMAND]",
    summary: "List the commands, or explain one.",
    help: "help stacks",
    start: |arguments| match arguments {
        [] => Ok(once(|_| Ok(list()))),
        [name] => {
            let text = explain(name)?;
            Ok(once(move |_| Ok(text.clone())))
        }
        _ => Err("takes one command's name".to_owned()),
    },
};

fn list() -> String {
    let mut text = String::new();
    for command in TABLE {
        let usage = format!("{} {}", command.name, command.synopsis);
        // Writing into a String cannot fail.
        let _ = if usage.len() < 20 {
            writeln!(text, "{usage:<20}{}", command.summary)
        } else {
            writeln!(text, "{usage}\n{:<20}{}", "", command.summary)
        };
    }
    text
}

fn explain(name: &str) -> Result<String, String> {
    let Some(command) = TABLE.iter().find(|command| command.name == name) else {
        let known = nearest::nearest(name, TABLE.iter().map(|command| command.name));
        return Err(
            known.map_or(format!("no command {name:?}"), |known| format!("no command {name:?}; did you mean {known}?"))
        );
    };
    Ok(format!("{} {}\n{}\n\n{}\n", command.name, command.synopsis, command.summary, command.help.trim_end()))
}
