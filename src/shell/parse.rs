//! A command line cut into words: blanks separate, quotes keep together, a backslash keeps the next.
//!
//! Context: the observer.

#![forbid(unsafe_code)]

/// The words of a line, as a shell would see them (without expansions).
pub fn words(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => {
                let next = characters.next().ok_or("a backslash at the end of the line")?;
                word.get_or_insert_default().push(next);
            }
            (None, _) if character.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    if let Some(open) = quote {
        return Err(format!("the {open} is never closed"));
    }
    words.extend(word);
    Ok(words)
}

/// Arguments of one command: flags, options with a value, and the rest in order.
pub struct Arguments<'a> {
    /// Words that belong to no flag.
    pub rest: Vec<&'a str>,
    flags: Vec<&'a str>,
    values: Vec<(&'a str, &'a str)>,
}

impl<'a> Arguments<'a> {
    /// Sorts `words`, knowing which `flags` stand alone and which `options` take a value (as
    /// `--limit 5` or `--limit=5`).
    pub fn parse(words: &'a [String], flags: &[&str], options: &[&str]) -> Result<Self, String> {
        let mut found = Self { rest: Vec::new(), flags: Vec::new(), values: Vec::new() };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if !word.starts_with("--") {
                found.rest.push(word);
                continue;
            }
            let (name, value) = word.split_once('=').map_or((word.as_str(), None), |(name, value)| (name, Some(value)));
            if options.contains(&name) {
                let value = value.or_else(|| words.next().map(String::as_str));
                found.values.push((name, value.ok_or(format!("{name} needs a value"))?));
            } else if flags.contains(&name) && value.is_none() {
                found.flags.push(name);
            } else {
                return Err(format!("unknown option {word}"));
            }
        }
        Ok(found)
    }

    /// Whether a flag was given.
    pub fn has(&self, flag: &str) -> bool {
        self.flags.contains(&flag)
    }

    /// The value of an option as a number from `least` on.
    pub fn number(&self, option: &str, least: u32) -> Result<Option<u32>, String> {
        let Some((_, value)) = self.values.iter().rev().find(|(name, _)| *name == option) else { return Ok(None) };
        let number = value.parse().ok().filter(|number| *number >= least);
        number.map(Some).ok_or(format!("{option} expects a number from {least} on, not {value:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_quotes() {
        assert_eq!(words(r#" stacks  "io thd"  'a"b' c\ d "" "#).unwrap(), ["stacks", "io thd", "a\"b", "c d", ""]);
        assert!(words("").unwrap().is_empty());
        assert!(words("'x").is_err() && words("x\\").is_err());
    }

    #[test]
    fn flags_options_and_the_rest() {
        let line = words("--group 12 --limit 5 --limit=7 --raw").unwrap();
        let arguments = Arguments::parse(&line, &["--group", "--raw"], &["--limit"]).unwrap();
        assert!(arguments.has("--group") && arguments.has("--raw"));
        assert_eq!(arguments.number("--limit", 1), Ok(Some(7)));
        assert_eq!(arguments.rest, ["12"]);
        assert!(Arguments::parse(&words("--what").unwrap(), &[], &[]).is_err());
        assert!(Arguments::parse(&words("--limit").unwrap(), &[], &["--limit"]).is_err());
        let line = words("--limit 0").unwrap();
        assert!(Arguments::parse(&line, &[], &["--limit"]).unwrap().number("--limit", 1).is_err());
    }
}
