//! A line cut into commands and words: blanks separate words, quotes keep together, a backslash keeps the next;
//! `;` separates commands, `|` leads to a filter, and what follows a `#` at the begin of a word is a comment.
//!
//! Context: the observer.

#![forbid(unsafe_code)]

use std::fmt;
use std::time::Duration;

/// A command and what its answer goes through, each as words. Never without a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pipeline {
    /// The command.
    pub command: Vec<String>,
    /// The same words as they were typed, with their quotes and backslashes.
    pub typed: Vec<String>,
    /// The filters, in order.
    pub filters: Vec<Vec<String>>,
}

/// As it could be written: the same words, those of the command as they were typed.
impl fmt::Display for Pipeline {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.typed.join(" "))?;
        for words in &self.filters {
            out.write_str(" |")?;
            for word in words {
                let is_plain = |c: char| !c.is_whitespace() && !"\"'\\;|#".contains(c);
                match word {
                    word if !word.is_empty() && word.chars().all(is_plain) => write!(out, " {word}")?,
                    word if word.contains('\'') => {
                        write!(out, " \"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))?
                    }
                    word => write!(out, " '{word}'")?,
                }
            }
        }
        Ok(())
    }
}

/// What stands in a line.
#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word { word: String, typed: String },
    Semicolon,
    Bar,
}

/// Where a line that is being typed ends: the words of its last command or filter, the one that is not ended yet last
/// (perhaps empty), and whether it is a filter. Nothing inside quotes or a comment.
pub fn end_of(line: &str) -> Option<(Vec<String>, bool)> {
    let tokens = tokens(line).ok()?;
    let from = tokens.iter().rposition(|token| !matches!(token, Token::Word { .. }));
    let last = tokens.get(from.map_or(0, |at| at + 1)..).unwrap_or_default();
    let mut words = words_of(last);
    if words.is_empty() || line.ends_with(char::is_whitespace) {
        words.push(String::new());
    }
    let is_filter = from.and_then(|at| tokens.get(at)) == Some(&Token::Bar);
    let is_comment = tokens.is_empty() && line.contains('#');
    (!is_comment).then_some((words, is_filter))
}

/// The commands of a line; none for an empty one.
pub fn commands(line: &str) -> Result<Vec<Pipeline>, String> {
    let mut pipelines = Vec::new();
    for part in tokens(line)?.split(|token| *token == Token::Semicolon) {
        if part.is_empty() {
            continue;
        }
        let mut stages = part.split(|token| *token == Token::Bar);
        let typed = stages.clone().next().unwrap_or_default().iter().filter_map(Token::typed).collect();
        let mut stages = stages.by_ref().map(words_of);
        let command = stages.next().unwrap_or_default();
        let filters: Vec<Vec<String>> = stages.collect();
        if command.is_empty() || filters.iter().any(Vec::is_empty) {
            return Err("a | stands between a command and a filter (help filters)".to_owned());
        }
        pipelines.push(Pipeline { command, typed, filters });
    }
    Ok(pipelines)
}

impl Token {
    fn word(&self) -> Option<String> {
        match self {
            Self::Word { word, .. } => Some(word.clone()),
            Self::Semicolon | Self::Bar => None,
        }
    }

    fn typed(&self) -> Option<String> {
        match self {
            Self::Word { typed, .. } => Some(typed.clone()),
            Self::Semicolon | Self::Bar => None,
        }
    }
}

fn words_of(tokens: &[Token]) -> Vec<String> {
    tokens.iter().filter_map(Token::word).collect()
}

fn tokens(line: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut word: Option<String> = None;
    // Where the word begins.
    let mut start = 0;
    let mut quote: Option<char> = None;
    let mut characters = line.char_indices();
    while let Some((at, character)) = characters.next() {
        if word.is_none() {
            start = at;
        }
        let typed = || line.get(start..at).unwrap_or_default().to_owned();
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => {
                let (_, next) = characters.next().ok_or("a backslash at the end of the line")?;
                word.get_or_insert_default().push(next);
            }
            (None, ';' | '|') => {
                tokens.extend(word.take().map(|word| Token::Word { word, typed: typed() }));
                tokens.push(if character == ';' { Token::Semicolon } else { Token::Bar });
            }
            (None, '#') if word.is_none() => break,
            (None, _) if character.is_whitespace() => {
                tokens.extend(word.take().map(|word| Token::Word { word, typed: typed() }));
            }
            _ => word.get_or_insert_default().push(character),
        }
    }
    if let Some(open) = quote {
        return Err(format!("the {open} is never closed"));
    }
    let typed = line.get(start..).unwrap_or_default().to_owned();
    tokens.extend(word.map(|word| Token::Word { word, typed }));
    Ok(tokens)
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
    /// `--limit 5` or `--limit=5`). What is both may stand alone, and takes the next word if that is a number.
    pub fn parse(words: &'a [String], flags: &[&str], options: &[&str]) -> Result<Self, String> {
        let mut found = Self { rest: Vec::new(), flags: Vec::new(), values: Vec::new() };
        let mut words = words.iter().peekable();
        while let Some(word) = words.next() {
            if !word.starts_with("--") {
                found.rest.push(word);
                continue;
            }
            let (name, value) = word.split_once('=').map_or((word.as_str(), None), |(name, value)| (name, Some(value)));
            let (is_flag, is_option) = (flags.contains(&name), options.contains(&name));
            if is_option {
                let is_meant = |next: &&String| !is_flag || next.parse::<f64>().is_ok();
                match value.or_else(|| words.next_if(is_meant).map(String::as_str)) {
                    Some(value) => found.values.push((name, value)),
                    None if is_flag => found.flags.push(name),
                    None => return Err(format!("{name} needs a value")),
                }
            } else if is_flag && value.is_none() {
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

    /// The value of an option.
    pub fn value(&self, option: &str) -> Option<&'a str> {
        self.values.iter().rev().find(|(name, _)| *name == option).map(|(_, value)| *value)
    }

    /// The value of an option as seconds.
    pub fn seconds(&self, option: &str) -> Result<Option<Duration>, String> {
        self.value(option).map(|value| seconds(value).map_err(|error| format!("{option} expects {error}"))).transpose()
    }

    /// The value of an option as a number from `least` on.
    pub fn number(&self, option: &str, least: u32) -> Result<Option<u32>, String> {
        let Some(value) = self.value(option) else { return Ok(None) };
        let number = value.parse().ok().filter(|number| *number >= least);
        number.map(Some).ok_or(format!("{option} expects a number from {least} on, not {value:?}"))
    }
}

/// The longest time that a command waits for.
const LONGEST: f64 = 86400.0;

/// A time to wait, in seconds; the error says what is expected.
pub fn seconds(word: &str) -> Result<Duration, String> {
    let number = word.parse().ok().filter(|number| (0.01..=LONGEST).contains(number));
    number.map(Duration::from_secs_f64).ok_or(format!("seconds, from 0.01 to {LONGEST}, not {word:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Result<Vec<String>, String> {
        tokens(line).map(|tokens| words_of(&tokens))
    }

    #[test]
    fn words_and_quotes() {
        assert_eq!(words(r#" stacks  "io thd"  'a"b' c\ d "" "#).unwrap(), ["stacks", "io thd", "a\"b", "c d", ""]);
        assert!(words("").unwrap().is_empty());
        assert!(words("'x").is_err() && words("x\\").is_err());
    }

    #[test]
    fn a_pipeline_is_written_as_it_can_be_read() {
        for line in ["threads", "sym 'a b' ''|grep \"it's\" ';|#' \"\\\"'\\\\\"", "a | head 3 | count"] {
            let read = commands(line).unwrap();
            assert_eq!(commands(&read[0].to_string()).unwrap(), read, "{}", read[0]);
        }
        assert_eq!(commands("a   'b' |  head").unwrap()[0].to_string(), "a 'b' | head");
        // What has text in it, such as `call`, needs the quotes.
        let typed = &commands(r#"call f("a \"b\"; c", 'd')  | head; b"#).unwrap()[0].typed;
        assert_eq!(typed.join("|"), r#"call|f("a \"b\"; c",|'d')"#);
    }

    #[test]
    fn where_a_line_ends() {
        let end = |line: &str| end_of(line).map(|(words, is_filter)| (words.join(","), is_filter));
        assert_eq!(end(""), Some((String::new(), false)));
        assert_eq!(end("thr"), Some(("thr".to_owned(), false)));
        assert_eq!(end("a; stacks 'x y' --g"), Some(("stacks,x y,--g".to_owned(), false)));
        assert_eq!(end("stacks "), Some(("stacks,".to_owned(), false)));
        assert_eq!(end("stacks |"), Some((String::new(), true)));
        assert_eq!(end("stacks | grep -"), Some(("grep,-".to_owned(), true)));
        assert_eq!((end("sym 'x"), end("# x")), (None, None));
    }

    #[test]
    fn commands_filters_and_comments() {
        let shown = |line: &str| {
            let stage = |words: &Vec<String>| words.join(" ");
            let pipeline = |pipeline: &Pipeline| {
                std::iter::once(&pipeline.command).chain(&pipeline.filters).map(stage).collect::<Vec<_>>().join(" > ")
            };
            commands(line).map(|all| all.iter().map(pipeline).collect::<Vec<_>>().join(" ; "))
        };
        assert_eq!(shown("a b; c|head 3 | count;;  # d; e").unwrap(), "a b ; c > head 3 > count");
        assert_eq!(shown(r#"sym 'a;b|#' x#y "|" \; "#).unwrap(), "sym a;b|# x#y | ;");
        assert_eq!(shown(" # nothing").unwrap(), "");
        for wrong in ["| head", "a |", "a | | b", "a;|b"] {
            assert!(shown(wrong).is_err(), "{wrong}");
        }
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
    #[test]
    fn an_option_whose_value_may_be_missing() {
        let parse = |line: &str| {
            let line = words(line).unwrap();
            let arguments = Arguments::parse(&line, &["--top"], &["--top"])?;
            let rest = arguments.rest.join(" ");
            Ok::<_, String>((arguments.has("--top"), arguments.seconds("--top")?.map(|it| it.as_secs_f64()), rest))
        };
        assert_eq!(parse("--top"), Ok((true, None, String::new())));
        assert_eq!(parse("12 --top 0.5"), Ok((false, Some(0.5), "12".to_owned())));
        assert_eq!(parse("--top=2 12"), Ok((false, Some(2.0), "12".to_owned())));
        assert_eq!(parse("--top worker*"), Ok((true, None, "worker*".to_owned())));
        for wrong in ["--top=x", "--top 0", "--top=-1", "--top inf", "--top NaN", "--top 1e9"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
