//! The operator's names. Those from the option `locals`: `{"cfg": "&global_config", "log": 0x7f00, "note": "text"}`.
//!
//! Context: the constructor and the C API parse; the observer reads. What a name stands for is looked up when
//! a command uses it, never here: its symbol may come with a module that is loaded later.

#![forbid(unsafe_code)]

use std::fmt;

use super::literal::Value;

/// A name for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// An identifier.
    pub name: String,
    /// What it stands for.
    pub value: Target,
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An address.
    Address(u64),
    /// A variable that the application registered: its address and size, 0 if nobody knows.
    Variable(u64, u64),
    /// `&SYMBOL`, perhaps with a module and an offset: that symbol's address.
    Symbol(String),
    /// Any other text: an address if it begins with `0x`, else a note.
    Text(String),
}

/// As it was given.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) | Self::Variable(address, 0) => write!(f, "{address:#x}"),
            Self::Variable(address, size) => write!(f, "{address:#x}, {size} bytes"),
            Self::Symbol(symbol) => write!(f, "&{symbol}"),
            Self::Text(text) => write!(f, "{text:?}"),
        }
    }
}

/// Reads the option's value; `None` when a name is no identifier, or a value neither a string nor an address.
pub fn parse(value: &Value) -> Option<Vec<Local>> {
    match value {
        Value::None => Some(Vec::new()),
        Value::Dict(items) => items.iter().map(|(name, value)| local(name, value)).collect(),
        _ => None,
    }
}

fn local(name: &str, value: &Value) -> Option<Local> {
    let value = match value {
        Value::Integer(number) => Target::Address(u64::try_from(*number).ok()?),
        Value::Text(text) => match text.strip_prefix('&') {
            Some("") => return None,
            Some(symbol) => Target::Symbol(symbol.to_owned()),
            None => Target::Text(text.clone()),
        },
        _ => return None,
    };
    is_identifier(name).then(|| Local { name: name.to_owned(), value })
}

/// Whether `name` can be typed as one: a letter or an underscore, then digits, too.
pub fn is_identifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn addresses_symbols_and_text() {
        let config = Config::parse(r#"locals={"cfg": "&global_config", top: 0xffffffffff600000, note: "it's"}"#);
        let named = |name: &str, value| Local { name: name.to_owned(), value };
        let expected = [
            named("cfg", Target::Symbol("global_config".to_owned())),
            named("top", Target::Address(0xffff_ffff_ff60_0000)),
            named("note", Target::Text("it's".to_owned())),
        ];
        assert_eq!(config.unwrap().locals, expected);
        let shown: Vec<String> = expected.iter().map(|local| local.value.to_string()).collect();
        assert_eq!(shown, ["&global_config", "0xffffffffff600000", "\"it's\""]);
        assert!(Config::parse("locals=None").unwrap().locals.is_empty());
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["{1x: 1}", "{'a b': 1}", "{'': 1}", "{a: -1}", "{a: 1.5}", "{a: [1]}", "{a: '&'}", "[a]", "x", "1"]
        {
            let error = Config::parse(&format!("locals={text}")).unwrap_err().to_string();
            assert!(error.starts_with("option locals expects a dict of names"), "{error}");
        }
    }
}
