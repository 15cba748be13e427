//! `complete`: what may stand at the end of a line, from the command table.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use super::{all, help, once};
use crate::config::OPTIONS;
use crate::config::level::Level;
use crate::record;
use crate::shell::record::Line;
use crate::shell::{Command, JSON, World, filter, parse, registered};

pub const COMMAND: Command = Command {
    name: "complete",
    level: Level::Observe,
    synopsis: "[LINE...]",
    summary: "List what may stand at the end of LINE, a word a line; all words without one.",
    help: "complete thr            threads\ncomplete 'stacks --'     the options of stacks (a blank at the end needs quotes)\n\
           complete 'stacks | '     the filters\ncomplete                 every word, as for: rlwrap -f <(manhole-cli -c complete PID) nc -U PATH",
    schemas: &[Candidate::schema],
    start: |arguments| {
        let line = arguments.join(" ");
        Ok(once(move |world, out| {
            candidates(&line, world).into_iter().for_each(|word| out.put(&Candidate { word }));
            Ok(())
        }))
    },
};

record! {
    /// A word that may stand there.
    struct Candidate as "candidate" {
        /// The whole word.
        word: String,
    }
}

impl Line for Candidate {
    fn line(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("{}\n", self.word).as_bytes());
    }
}

fn candidates(line: &str, world: &World) -> BTreeSet<String> {
    if line.is_empty() {
        let commands = all().flat_map(|command| arguments_of(command.synopsis));
        let filters = filter::TABLE.iter().flat_map(|filter| arguments_of(filter.synopsis));
        let options = OPTIONS.iter().map(|option| option.name.to_owned());
        return names().chain(filter_names()).chain(commands).chain(filters).chain(options).collect();
    }
    let Some((words, is_filter)) = parse::end_of(line) else { return BTreeSet::new() };
    let Some((partial, before)) = words.split_last() else { return BTreeSet::new() };
    let possible: BTreeSet<String> = match before.first() {
        None if is_filter => filter_names().collect(),
        None => names().collect(),
        Some(name) if is_filter => {
            filter::TABLE.iter().filter(|filter| filter.name == name).flat_map(|it| arguments_of(it.synopsis)).collect()
        }
        Some(name) => arguments(name, before.len() == 1, world),
    };
    possible.into_iter().filter(|word| word.starts_with(partial.as_str())).collect()
}

/// What may be an argument of command `name`.
fn arguments(name: &str, is_first: bool, world: &World) -> BTreeSet<String> {
    let Some(command) = all().find(|command| command.name == name) else {
        return registered::one(name, |command| arguments_of(&command.synopsis).collect()).unwrap_or_default();
    };
    let mut possible: BTreeSet<String> = arguments_of(command.synopsis).collect();
    possible.insert(JSON.to_owned());
    let takes = |word: &str| words_of(command.synopsis).any(|it| it.trim_end_matches("...") == word);
    if takes("COMMAND") && (is_first || command.name != help::COMMAND.name) {
        possible.extend(names());
    }
    if command.name == help::COMMAND.name {
        possible.insert(help::FILTERS.to_owned());
    }
    if takes("ADDRESS") || takes("NAME") {
        possible.extend(world.names.iter().map(|local| local.name.clone()));
    }
    possible
}

fn names() -> impl Iterator<Item = String> {
    all().map(|command| command.name.to_owned()).chain(registered::each(|command| command.name.clone()))
}

fn filter_names() -> impl Iterator<Item = String> {
    filter::TABLE.iter().map(|filter| filter.name.to_owned())
}

fn words_of(synopsis: &str) -> impl Iterator<Item = &str> {
    synopsis.split(['[', ']', '|', ' ', '(', ')']).filter(|word| !word.is_empty())
}

/// What a synopsis says literally: options, and words in small letters; placeholders are in capitals.
fn arguments_of(synopsis: &str) -> impl Iterator<Item = String> {
    let is_literal = |word: &&str| word.starts_with('-') || word.bytes().all(|byte| byte.is_ascii_lowercase());
    words_of(synopsis).filter(is_literal).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_synopsis_says_what_can_be_typed() {
        let words = |synopsis: &str| arguments_of(synopsis).collect::<Vec<_>>().join(" ");
        assert_eq!(words("[TID|NAME-GLOB] [--group] [--limit N]"), "--group --limit");
        assert_eq!(words("[observe|operate|admin]"), "observe operate admin");
        assert_eq!(words("[-v] [-i] TEXT"), "-v -i");
        assert_eq!(words("SYMBOL = VALUE..."), "");
    }
}
