//! `FUNCTION(ARGUMENT, …)` taken apart.
//!
//! Context: the observer. Pure.

#![forbid(unsafe_code)]

use std::iter::Peekable;
use std::str::Chars;

use crate::shell::address::Evaluation;

/// Arguments at most that go where integers go.
pub const MOST_GENERAL: usize = 16;
/// Floating-point arguments at most.
pub const MOST_FLOATS: usize = crate::sys::call::MOST_FLOATS;

/// An argument as it was written.
pub enum Argument {
    /// A number or a character.
    General(u64),
    /// The bits of a floating-point number.
    Float(u64),
    /// The bytes of a string.
    Text(Vec<u8>),
    /// What has an address.
    Address(Evaluation),
}

/// A call as it was written.
pub struct Expression {
    /// The function.
    pub function: Evaluation,
    /// Its arguments.
    pub arguments: Vec<Argument>,
}

impl Expression {
    /// Understands `text`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let form = || "a call is written FUNCTION(ARGUMENT, ...), with () where there is no argument".to_owned();
        let (function, inner) = split_call(text).ok_or_else(form)?;
        let function = function.trim();
        if function.is_empty() {
            return Err(form());
        }
        let function = Evaluation::new(function)?;
        let pieces = split_arguments(inner);
        let arguments = match pieces.as_slice() {
            [only] if only.trim().is_empty() => Vec::new(),
            pieces => pieces.iter().map(|piece| argument(piece.trim())).collect::<Result<Vec<_>, _>>()?,
        };
        let floats = arguments.iter().filter(|argument| matches!(argument, Argument::Float(_))).count();
        if floats > MOST_FLOATS || arguments.len() - floats > MOST_GENERAL {
            return Err(format!("at most {MOST_GENERAL} arguments, and {MOST_FLOATS} floating-point ones"));
        }
        Ok(Self { function, arguments })
    }
}

/// Calls `each` with every character outside of quotes, its offset, and how many parentheses are open before it.
fn outside_quotes(text: &str, mut each: impl FnMut(usize, char, usize)) {
    let (mut quote, mut escaped, mut depth) = (None, false, 0usize);
    for (at, character) in text.char_indices() {
        match (quote, character) {
            _ if escaped => escaped = false,
            (Some('"'), '\\') => escaped = true,
            (Some(open), _) if character == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(character),
            (None, _) => {
                depth = depth.saturating_sub(usize::from(character == ')'));
                each(at, character, depth);
                depth += usize::from(character == '(');
            }
        }
    }
}

/// What stands before the last parentheses of `text`, which must be its end, and inside of them.
fn split_call(text: &str) -> Option<(&str, &str)> {
    let (mut open, mut last) = (None, None);
    outside_quotes(text, |at, character, depth| match (character, depth) {
        ('(', 0) => open = Some(at),
        (')', 0) => last = open.take().map(|open| (open, at)),
        _ => {}
    });
    let (open, close) = last.filter(|(_, close)| close + 1 == text.len())?;
    Some((text.get(..open)?, text.get(open + 1..close)?))
}

fn split_arguments(text: &str) -> Vec<&str> {
    let mut commas = Vec::new();
    outside_quotes(text, |at, character, depth| {
        if character == ',' && depth == 0 {
            commas.push(at);
        }
    });
    let starts = std::iter::once(0).chain(commas.iter().map(|at| at + 1));
    let ends = commas.iter().copied().chain([text.len()]);
    starts.zip(ends).filter_map(|(start, end)| text.get(start..end)).collect()
}

fn argument(text: &str) -> Result<Argument, String> {
    match text {
        "" => return Err("an argument is missing between commas".to_owned()),
        "NULL" | "nullptr" | "false" => return Ok(Argument::General(0)),
        "true" => return Ok(Argument::General(1)),
        _ => {}
    }
    if let Some(inner) = text.strip_prefix('"') {
        let inner = inner.strip_suffix('"').ok_or_else(|| format!("{text} is no string"))?;
        let mut bytes = unescaped(inner)?;
        if bytes.contains(&0) {
            return Err(format!("{text} has a NUL inside; it ends with one anyway"));
        }
        bytes.push(0);
        return Ok(Argument::Text(bytes));
    }
    if let Some(inner) = text.strip_prefix('\'') {
        let inner = inner.strip_suffix('\'').ok_or_else(|| format!("{text} is no character"))?;
        return match unescaped(inner)?.as_slice() {
            [byte] => Ok(Argument::General(u64::from(*byte))),
            _ => Err(format!("{text} is no character of one byte")),
        };
    }
    if let Some(number) = integer(text) {
        return number.map(Argument::General);
    }
    if text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.')) && !text.starts_with("0x") {
        if let Some(value) = text.strip_suffix('f').and_then(|number| number.parse::<f32>().ok()) {
            return Ok(Argument::Float(u64::from(value.to_bits())));
        }
        if let Ok(value) = text.parse::<f64>() {
            return Ok(Argument::Float(value.to_bits()));
        }
    }
    Evaluation::new(text).map(Argument::Address)
}

/// A number of 64 bits, with or without a sign; `None` when it is something else.
fn integer(text: &str) -> Option<Result<u64, String>> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let (digits, radix) = digits.strip_prefix("0x").map_or((digits, 10), |digits| (digits, 16));
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return None;
    }
    let value = u64::from_str_radix(digits, radix).ok().filter(|value| !negative || *value <= 1 << 63);
    let value = value.ok_or_else(|| format!("{text} is no number of 64 bits"));
    Some(value.map(|value| if negative { value.wrapping_neg() } else { value }))
}

/// The bytes that C's escapes in `text` stand for.
fn unescaped(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        if character != '\\' {
            bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let escape = characters.next().unwrap_or('\\');
        bytes.push(match escape {
            'n' => b'\n',
            't' => b'\t',
            'r' => b'\r',
            'a' => 7,
            'b' => 8,
            'e' => 27,
            'f' => 12,
            'v' => 11,
            '\\' | '"' | '\'' | '?' => escape as u8,
            'x' => digits(&mut characters, 16, 2, 0)?,
            '0'..='7' => digits(&mut characters, 8, 2, u32::from(escape) - u32::from('0'))?,
            _ => return Err(format!("\\{escape} is no escape: \\n \\t \\r \\a \\b \\e \\f \\v \\\\ \\\" \\xHH \\NNN")),
        });
    }
    Ok(bytes)
}

/// The byte of at most `most` digits that follow.
fn digits(text: &mut Peekable<Chars<'_>>, radix: u32, most: usize, first: u32) -> Result<u8, String> {
    let mut value = first;
    for _ in 0..most {
        let Some(digit) = text.peek().and_then(|digit| digit.to_digit(radix)) else { break };
        value = value * radix + digit;
        text.next();
    }
    u8::try_from(value).map_err(|_| "an escape beyond one byte".to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let Expression { function, arguments } = Expression::parse(text).unwrap();
        let arguments = arguments.iter().map(|argument| match argument {
            Argument::General(value) => format!("{}", value.cast_signed()),
            Argument::Float(bits) if *bits < 1 << 32 => format!("{}f", f32::from_bits(*bits as u32)),
            Argument::Float(bits) => format!("{:?}", f64::from_bits(*bits)),
            Argument::Text(bytes) => format!("{:?}", String::from_utf8_lossy(bytes)),
            Argument::Address(evaluation) => format!("<{}>", evaluation.text()),
        });
        format!("{}|{}", function.text(), arguments.collect::<Vec<_>>().join("|"))
    }

    #[test]
    fn calls_are_taken_apart() {
        for (text, expected) in [
            ("getpid()", "getpid|"),
            (" f ( 1 , -2,0x10, 'a' ) ", "f|1|-2|16|97"),
            (r#"puts("a, (b); \"c\" \x41\101\n")"#, r#"puts|"a, (b); \"c\" AA\n\0""#),
            ("f(1.5, -1.5f, 1e3, .5)", "f|1.5|-1.5f|1000.0|0.5"),
            ("f(&name, *p+8, NULL, 16+8)", "f|<&name>|<*p+8>|0|<16+8>"),
            ("ns::f(int, char)(5)", "ns::f(int, char)|5"),
            ("(*hook)(1)", "(*hook)|1"),
            ("*table+8(g(int))", "*table+8|<g(int)>"),
            ("f(18446744073709551615, -9223372036854775808)", "f|-1|-9223372036854775808"),
            ("f(0xffff, 0x1f)", "f|65535|31"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
        for bad in [
            "",
            "f",
            "f(",
            "f)",
            "(1)",
            "f(1) 2",
            "f(1,)",
            "f(,)",
            "f(18446744073709551616)",
            r#"f("a)"#,
            "f('ab')",
            r#"f("\q")"#,
            "f(-9223372036854775809)",
        ] {
            assert!(Expression::parse(bad).is_err(), "{bad}");
        }
        assert!(Expression::parse(&format!("f({}1)", "1,".repeat(16))).is_err());
        assert!(Expression::parse(&format!("f({}1.0)", "1.0,".repeat(8))).is_err());
    }
}
