//! `key=value, …` with Python literals: strings, numbers, True, False, None, lists, tuples and dicts; and
//! bare words, since nobody wants to quote `USR2` inside a shell's quotes.
//!
//! Context: the constructor and the C API.

#![forbid(unsafe_code)]

use std::fmt;
use std::time::Duration;

/// A value as it was written.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// A decimal or `0x` number that fits into 64 bits, with a sign or without: addresses need the highest bit.
    Integer(i128),
    /// A number with a point or an exponent.
    Float(f64),
    /// A quoted string, or a bare word.
    Text(String),
    /// `[…]` or `(…)`.
    List(Vec<Value>),
    /// `{key: value, …}` in its order, each key once; keys are strings or bare words.
    Dict(Vec<(String, Value)>),
}

impl Value {
    /// True, False, 1 or 0.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            Self::Integer(0) => Some(false),
            Self::Integer(1) => Some(true),
            _ => None,
        }
    }

    /// A string.
    pub fn as_text(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            _ => None,
        }
    }

    /// A duration in seconds: finite, not negative, at most a day.
    pub fn as_seconds(&self) -> Option<Duration> {
        let seconds = match self {
            Self::Integer(value) => *value as f64,
            Self::Float(value) => *value,
            _ => return None,
        };
        (0.0..=86400.0).contains(&seconds).then(|| Duration::from_secs_f64(seconds))
    }

    /// A number within bounds, possibly with the suffix K, M or G (powers of 1024).
    pub fn as_size(&self, least: usize, most: usize) -> Option<usize> {
        let number = match self {
            Self::Integer(value) => usize::try_from(*value).ok()?,
            Self::Text(text) => {
                let (digits, shift) = match text.as_bytes().last()? {
                    b'K' | b'k' => (text.len() - 1, 10),
                    b'M' | b'm' => (text.len() - 1, 20),
                    b'G' | b'g' => (text.len() - 1, 30),
                    _ => return None,
                };
                text.get(..digits)?.parse::<usize>().ok()?.checked_mul(1 << shift)?
            }
            _ => return None,
        };
        (least..=most).contains(&number).then_some(number)
    }
}

/// One `key=value`.
#[derive(Debug, PartialEq)]
pub struct Pair {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Value,
    /// The value as it was written.
    pub spelling: String,
}

/// Where the text stops making sense.
#[derive(Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// The option whose value it is, if it got so far.
    option: String,
    expected: &'static str,
    at: usize,
    found: String,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.option.is_empty() {
            write!(f, "option {}: ", self.option)?;
        }
        write!(f, "expected {} at character {}, found ", self.expected, self.at + 1)?;
        if self.found.is_empty() { f.write_str("the end") } else { write!(f, "{:?}", self.found) }
    }
}

/// Reads a whole option string. A comma at the end is fine, as in Python.
pub fn pairs(text: &str) -> Result<Vec<Pair>, SyntaxError> {
    let mut reader = Reader { text, position: 0, dicts: 0 };
    let mut pairs = Vec::new();
    loop {
        reader.skip_space();
        if reader.rest().is_empty() {
            return Ok(pairs);
        }
        let key = reader.take_while(|c| c.is_ascii_alphanumeric() || c == '_').to_owned();
        if key.is_empty() {
            return Err(reader.error("an option's name"));
        }
        reader.skip_space();
        if !reader.eat('=') {
            return Err(reader.error("'='"));
        }
        reader.skip_space();
        let start = reader.position;
        let value = reader.value(0).map_err(|error| SyntaxError { option: key.clone(), ..error })?;
        let spelling = text.get(start..reader.position).unwrap_or_default().to_owned();
        pairs.push(Pair { key, value, spelling });
        reader.skip_space();
        if !reader.eat(',') && !reader.rest().is_empty() {
            return Err(reader.error("',' or the end"));
        }
    }
}

/// How deep lists and dicts may nest.
const DEPTH: usize = 8;
/// What ends a bare word; inside a dict a brace does, too, where elsewhere `{pid}` is part of a path.
const ENDS: &str = ",=[]()\"'";
const ENDS_IN_DICT: &str = ",=[]()\"'{}";

struct Reader<'a> {
    text: &'a str,
    position: usize,
    /// How many dicts are open.
    dicts: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.position..).unwrap_or_default()
    }

    fn error(&self, expected: &'static str) -> SyntaxError {
        SyntaxError {
            option: String::new(),
            expected,
            at: self.position,
            found: self.rest().chars().take(12).collect(),
        }
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let length = rest.find(|c| !keep(c)).unwrap_or(rest.len());
        self.position += length;
        rest.get(..length).unwrap_or_default()
    }

    fn skip_space(&mut self) {
        self.take_while(char::is_whitespace);
    }

    fn eat(&mut self, wanted: char) -> bool {
        let found = self.rest().starts_with(wanted);
        if found {
            self.position += wanted.len_utf8();
        }
        found
    }

    fn value(&mut self, depth: usize) -> Result<Value, SyntaxError> {
        match self.rest().chars().next() {
            Some(quote @ ('"' | '\'')) => self.string(quote).map(Value::Text),
            Some(open @ ('[' | '(')) => self.list(if open == '[' { ']' } else { ')' }, depth),
            Some('{') => self.dict(depth),
            _ => {
                let ends = if self.dicts == 0 { ENDS } else { ENDS_IN_DICT };
                let word = self.take_while(|c| !c.is_whitespace() && !ends.contains(c));
                if word.is_empty() { Err(self.error("a value")) } else { Ok(bare(word)) }
            }
        }
    }

    fn string(&mut self, quote: char) -> Result<String, SyntaxError> {
        let start = self.position;
        self.position += 1;
        let mut text = String::new();
        let mut escaped = false;
        for character in self.rest().chars() {
            self.position += character.len_utf8();
            match character {
                _ if escaped => {
                    text.push(match character {
                        'n' => '\n',
                        't' => '\t',
                        other => other,
                    });
                    escaped = false;
                }
                '\\' => escaped = true,
                _ if character == quote => return Ok(text),
                _ => text.push(character),
            }
        }
        self.position = start;
        Err(self.error("a closing quote for the string"))
    }

    fn list(&mut self, close: char, depth: usize) -> Result<Value, SyntaxError> {
        if depth == DEPTH {
            return Err(self.error("no deeper nesting"));
        }
        self.position += 1;
        let mut items = Vec::new();
        loop {
            self.skip_space();
            if self.eat(close) {
                return Ok(Value::List(items));
            }
            items.push(self.value(depth + 1)?);
            self.skip_space();
            if !self.eat(',') && !self.rest().starts_with(close) {
                return Err(self.error("',' or the end of the list"));
            }
        }
    }

    fn dict(&mut self, depth: usize) -> Result<Value, SyntaxError> {
        if depth == DEPTH {
            return Err(self.error("no deeper nesting"));
        }
        self.position += 1;
        self.dicts += 1;
        let mut items: Vec<(String, Value)> = Vec::new();
        loop {
            self.skip_space();
            if self.eat('}') {
                self.dicts -= 1;
                return Ok(Value::Dict(items));
            }
            let start = self.position;
            let key = match self.rest().chars().next() {
                Some(quote @ ('"' | '\'')) => self.string(quote)?,
                _ => self.take_while(|c| !c.is_whitespace() && c != ':' && !ENDS_IN_DICT.contains(c)).to_owned(),
            };
            if self.position == start {
                return Err(self.error("a key or '}'"));
            }
            // Python takes the last of two; who wrote both made a mistake.
            if items.iter().any(|(known, _)| *known == key) {
                self.position = start;
                return Err(SyntaxError { found: key, ..self.error("each key once") });
            }
            self.skip_space();
            if !self.eat(':') {
                return Err(self.error("':' and a value"));
            }
            self.skip_space();
            let value = self.value(depth + 1)?;
            items.push((key, value));
            self.skip_space();
            if !self.eat(',') && !self.rest().starts_with('}') {
                return Err(self.error("',' or the end of the dict"));
            }
        }
    }
}

fn bare(word: &str) -> Value {
    match word {
        "None" => return Value::None,
        "True" | "true" => return Value::Bool(true),
        "False" | "false" => return Value::Bool(false),
        _ => {}
    }
    // Not from_str_radix alone: it takes a sign.
    if let Some(hex) = word.strip_prefix("0x").filter(|hex| hex.starts_with(|c: char| c.is_ascii_hexdigit()))
        && let Ok(number) = u64::from_str_radix(hex, 16)
    {
        return Value::Integer(number.into());
    }
    if let Ok(number) = word.parse::<i128>()
        && (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&number)
    {
        return Value::Integer(number);
    }
    let numeric = word.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '.');
    match word.parse::<f64>() {
        Ok(number) if numeric => Value::Float(number),
        _ => Value::Text(word.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Value {
        pairs(&format!("key={text}")).unwrap().remove(0).value
    }

    #[test]
    fn literals() {
        assert_eq!(one("USR2"), Value::Text("USR2".into()));
        assert_eq!(one("\"a, \\\"b\\\"\""), Value::Text("a, \"b\"".into()));
        assert_eq!(one("'it'"), Value::Text("it".into()));
        assert_eq!(one("-0x1"), Value::Text("-0x1".into()));
        assert_eq!(one("0x10"), Value::Integer(16));
        assert_eq!(one("0xffffffffffffffff"), Value::Integer(u64::MAX.into()));
        assert_eq!(one("18446744073709551615"), Value::Integer(u64::MAX.into()));
        assert_eq!(one("18446744073709551616"), Value::Float(18446744073709551616.0));
        assert_eq!(one("0x10000000000000000"), Value::Text("0x10000000000000000".into()));
        assert_eq!(one("0x+1"), Value::Text("0x+1".into()));
        assert_eq!(one("-2"), Value::Integer(-2));
        assert_eq!(one(".5"), Value::Float(0.5));
        assert_eq!(one("None"), Value::None);
        assert_eq!(one("(1, 'a',)"), Value::List(vec![Value::Integer(1), Value::Text("a".into())]));
        assert_eq!(one("[]"), Value::List(vec![]));
        assert_eq!(one("inf"), Value::Text("inf".into()));
    }

    #[test]
    fn dicts() {
        let text = |text: &str| Value::Text(text.into());
        let found = one(r#"{"cfg": "&global, {x}", log:0x7f00, 'inner' : {a: [1, {}]}, }, b=/run/{pid}"#);
        let inner = Value::List(vec![Value::Integer(1), Value::Dict(vec![])]);
        let expected = vec![
            ("cfg".to_owned(), text("&global, {x}")),
            ("log".to_owned(), Value::Integer(0x7f00)),
            ("inner".to_owned(), Value::Dict(vec![("a".to_owned(), inner)])),
        ];
        assert_eq!(found, Value::Dict(expected));
        // Outside of a dict braces belong to the word.
        assert_eq!(one("/run/{pid}"), text("/run/{pid}"));
        assert_eq!(one("{a:b::c}"), Value::Dict(vec![("a".to_owned(), text("b::c"))]));
        let error = |text: &str| pairs(&format!("a={text}")).unwrap_err().to_string();
        assert_eq!(error("{x: 1, 'x': 2}"), "option a: expected each key once at character 10, found \"x\"");
        assert_eq!(error("{x 1}"), "option a: expected ':' and a value at character 6, found \"1}\"");
        assert_eq!(error("{: 1}"), "option a: expected a key or '}' at character 4, found \": 1}\"");
        assert_eq!(error("{x: 1"), "option a: expected ',' or the end of the dict at character 8, found the end");
        assert!(error(&"{a:".repeat(100)).contains("no deeper nesting"));
    }

    #[test]
    fn pairs_with_spaces_and_a_trailing_comma() {
        let found = pairs(" a = 1 ,b=x, ").unwrap();
        assert_eq!(found.iter().map(|pair| pair.key.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert!(pairs("").unwrap().is_empty());
    }

    #[test]
    fn errors_say_what_was_expected_and_where() {
        assert_eq!(pairs("a").unwrap_err().to_string(), "expected '=' at character 2, found the end");
        assert_eq!(pairs("a=1 b=2").unwrap_err().to_string(), "expected ',' or the end at character 5, found \"b=2\"");
        assert_eq!(
            pairs("a='x").unwrap_err().to_string(),
            "option a: expected a closing quote for the string at character 3, found \"'x\""
        );
        assert!(pairs(&format!("a={}", "[".repeat(100))).is_err());
    }
}
