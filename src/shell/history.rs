//! The lines that a session has run, and `!N`, `!!`, `!PREFIX` for them, as in bash.
//!
//! Context: the observer. Bounded: [`MOST`] lines of at most [`LONGEST`] bytes.

#![forbid(unsafe_code)]

use std::collections::VecDeque;

use crate::inspect::strings::Escaped;

/// Lines at most; the oldest go first.
pub const MOST: usize = 100;
/// A longer line is not remembered.
pub const LONGEST: usize = 4096;

/// What was typed.
#[derive(Clone, Debug, Default)]
pub struct History {
    lines: VecDeque<String>,
    /// How many are forgotten.
    forgotten: usize,
}

impl History {
    /// Remembers a line.
    pub fn add(&mut self, line: &str) {
        if line.len() > LONGEST {
            return;
        }
        if self.lines.len() == MOST {
            self.lines.pop_front();
            self.forgotten += 1;
        }
        self.lines.push_back(line.to_owned());
    }

    /// The lines with their numbers, from the oldest on.
    pub fn each(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines.iter().enumerate().map(|(index, line)| (self.forgotten + index + 1, line.as_str()))
    }

    /// The line that `line` stands for, if it is one of `!N`, `!!`, `!PREFIX`; what follows the first word is added.
    pub fn expand(&self, line: &str) -> Result<Option<String>, String> {
        let Some(event) = line.strip_prefix('!') else { return Ok(None) };
        let (event, rest) = event.split_at(event.find(char::is_whitespace).unwrap_or(event.len()));
        let found = match event.parse::<usize>() {
            _ if event == "!" => self.lines.back().map(String::as_str),
            _ if event.is_empty() => return Err("a lone !: try !!, !N or !PREFIX (history lists the lines)".to_owned()),
            Ok(number) => self.each().find(|(other, _)| *other == number).map(|(_, line)| line),
            Err(_) => self.lines.iter().rev().map(String::as_str).find(|line| line.starts_with(event)),
        };
        match found {
            Some(found) => Ok(Some(format!("{found}{rest}"))),
            None => {
                let event = Escaped(event.as_bytes()).to_string();
                Err(format!("!{event}: no such line, or not any more (history lists the last {MOST})"))
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn events_as_in_bash() {
        let mut history = History::default();
        assert!(history.expand("!!").is_err());
        ["threads", "stacks 7", "threads | count"].iter().for_each(|line| history.add(line));
        let expand = |line: &str| history.expand(line).unwrap().unwrap();
        assert_eq!(expand("!!"), "threads | count");
        assert_eq!(expand("!2 --json"), "stacks 7 --json");
        assert_eq!(expand("!th"), "threads | count");
        assert_eq!(expand("!s"), "stacks 7");
        assert_eq!(history.expand("sym !x").unwrap(), None);
        for wrong in ["!", "! 2", "!0", "!4", "!nothing", "!-1"] {
            assert!(history.expand(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_oldest_go_and_numbers_stay() {
        let mut history = History::default();
        (1..=MOST + 5).for_each(|number| history.add(&format!("line {number}")));
        history.add(&"x".repeat(LONGEST + 1));
        assert_eq!(history.each().count(), MOST);
        assert_eq!(history.each().next(), Some((6, "line 6")));
        assert_eq!(history.expand("!105").unwrap().unwrap(), "line 105");
        assert!(history.expand("!5").is_err());
    }
}
