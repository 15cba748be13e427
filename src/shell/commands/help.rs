//! `help`.

#![forbid(unsafe_code)]

use super::{TABLE, nearest, once};
use crate::shell::{Command, registered};

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
        text.push_str(&row(command.name, command.synopsis, command.summary));
    }
    let registered = registered::each(|command| row(&command.name, &command.synopsis, command.summary()));
    if !registered.is_empty() {
        text.push_str("\nRegistered by the application, run on its thread `Manhole actor`:\n");
        text.extend(registered);
    }
    text
}

fn row(name: &str, synopsis: &str, summary: &str) -> String {
    let usage = format!("{name} {synopsis}");
    if usage.len() < 20 { format!("{usage:<20}{summary}\n") } else { format!("{usage}\n{:<20}{summary}\n", "") }
}

fn explain(name: &str) -> Result<String, String> {
    let Some(command) = TABLE.iter().find(|command| command.name == name) else {
        let registered = registered::one(name, |it| format!("{} {}\n{}\n", it.name, it.synopsis, it.help.trim_end()));
        return registered.ok_or_else(|| match nearest(name) {
            Some(known) => format!("no command {name:?}; did you mean {known}?"),
            None => format!("no command {name:?}"),
        });
    };
    Ok(format!("{} {}\n{}\n\n{}\n", command.name, command.synopsis, command.summary, command.help.trim_end()))
}
