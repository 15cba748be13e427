//! What `set` writes: the format letters, and a text as the bytes of a variable.
//!
//! Context: the observer. Pure: text in, bytes out.

#![forbid(unsafe_code)]

use crate::shell::units::{Format, Letter};

/// What a variable holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An integer or a pointer.
    Integer,
    /// IEEE 754.
    Float,
    /// Bytes up to a NUL.
    String,
}

/// `/LETTERS`: what is written, and how many bytes, if they say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// What.
    pub kind: Kind,
    /// Its bytes: 1, 2, 4 or 8; of a string, how many there is room for.
    pub size: Option<usize>,
}

/// The sizes of words.
const SIZES: [usize; 4] = [1, 2, 4, 8];
/// A longer string is none that anybody types.
const LONGEST: usize = 4096;

impl Shape {
    /// Reads `bhwg`, `f` and `s`; nothing is an integer of the size that the symbol has.
    pub fn parse(letters: &str) -> Result<Self, String> {
        let mut shape = Self { kind: Kind::Integer, size: None };
        for letter in letters.chars() {
            let twice = match letter {
                'b' => shape.size.replace(1).is_some(),
                'h' => shape.size.replace(2).is_some(),
                'w' => shape.size.replace(4).is_some(),
                'g' => shape.size.replace(8).is_some(),
                'f' => std::mem::replace(&mut shape.kind, Kind::Float) != Kind::Integer,
                's' => std::mem::replace(&mut shape.kind, Kind::String) != Kind::Integer,
                other => return Err(format!("no format {other:?}: one of bhwg for the size, f or s")),
            };
            if twice {
                return Err(format!("{letters:?} has two formats or two sizes"));
            }
        }
        match (shape.kind, shape.size) {
            (Kind::Float, Some(1 | 2)) => Err("floating-point variables have 4 or 8 bytes (fw, fg)".to_owned()),
            (Kind::String, Some(_)) => Err("the size of a string is its symbol's".to_owned()),
            _ => Ok(shape),
        }
    }

    /// With the size of what is named, where the letters do not say one.
    pub fn sized(mut self, named: Option<u64>) -> Result<Self, String> {
        let named = named.map(|size| usize::try_from(size).unwrap_or(usize::MAX));
        if self.kind == Kind::String {
            self.size = named;
            return Ok(self);
        }
        self.size = self.size.or(named);
        let Some(size) = self.size else {
            return Err("its size is unknown: set/b, set/h, set/w or set/g for 1, 2, 4 or 8 bytes".to_owned());
        };
        let fits = if self.kind == Kind::Float { size == 4 || size == 8 } else { SIZES.contains(&size) };
        let advice = "set/b, set/h, set/w or set/g writes a word at its begin, set/s a string";
        if fits { Ok(self) } else { Err(format!("it has {size} bytes: {advice}")) }
    }

    /// The bytes of `text`. Of a string with its NUL.
    pub fn bytes(&self, text: &str) -> Result<Vec<u8>, String> {
        let size = self.size.unwrap_or(8);
        match self.kind {
            Kind::Integer => integer(text, size),
            Kind::Float => float(text, size),
            Kind::String if text.len() >= LONGEST => Err(format!("a string has at most {LONGEST} bytes")),
            Kind::String if text.contains('\0') => Err("a string ends at its NUL".to_owned()),
            Kind::String => match self.size {
                Some(size) if text.len() >= size => {
                    Err(format!("{} bytes and a NUL do not fit into its {size}", text.len()))
                }
                _ => Ok([text.as_bytes(), &[0]].concat()),
            },
        }
    }

    /// What `bytes` say, for eyes.
    pub fn show(&self, bytes: &[u8]) -> String {
        let letter = match self.kind {
            Kind::Integer => Letter::Signed,
            Kind::Float => Letter::Float,
            Kind::String => {
                let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
                return format!("\"{}\"", crate::inspect::strings::Escaped(text));
            }
        };
        let mut text = String::new();
        Format { count: 1, letter, size: bytes.len().max(1), is_cut: false }.write(bytes, &mut text);
        text
    }

    /// `4 bytes`, `double`, `string`.
    pub fn name(&self) -> String {
        match (self.kind, self.size) {
            (Kind::Integer, Some(1)) => "1 byte".to_owned(),
            (Kind::Integer, size) => format!("{} bytes", size.unwrap_or(8)),
            (Kind::Float, Some(4)) => "float".to_owned(),
            (Kind::Float, _) => "double".to_owned(),
            (Kind::String, _) => "string".to_owned(),
        }
    }
}

/// A signed or unsigned number of `size` bytes.
fn integer(text: &str, size: usize) -> Result<Vec<u8>, String> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let hexadecimal = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let (digits, radix) = hexadecimal.map_or((digits, 10), |digits| (digits, 16));
    let is_number = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    if radix == 10 && digits.len() > 1 && digits.starts_with('0') {
        return Err(format!("{text:?} would be octal in C: write it in decimal or as 0x"));
    }
    if !is_number {
        return Err(format!("{text:?} is no integer (set/f writes floating point, set/s a string)"));
    }
    let value = i128::from_str_radix(digits, radix).ok().map(|value| sign * value);
    let bits = size * 8;
    let range = -(1i128 << (bits - 1))..1i128 << bits;
    let value = value.filter(|value| range.contains(value));
    let value = value.ok_or_else(|| format!("{text} does not fit into {size} bytes"))?;
    Ok(value.to_le_bytes().into_iter().take(size).collect())
}

fn float(text: &str, size: usize) -> Result<Vec<u8>, String> {
    let value: f64 = text.parse().map_err(|_| format!("{text:?} is no floating-point number"))?;
    let overflow = || format!("{text} does not fit into {size} bytes");
    let written_infinite = text.to_ascii_lowercase().contains("inf");
    if value.is_infinite() && !written_infinite {
        return Err(overflow());
    }
    if size == 8 {
        return Ok(value.to_le_bytes().to_vec());
    }
    let narrow: f32 = text.parse().map_err(|_| overflow())?;
    if narrow.is_infinite() && !written_infinite { Err(overflow()) } else { Ok(narrow.to_le_bytes().to_vec()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(letters: &str, text: &str) -> Result<Vec<u8>, String> {
        Shape::parse(letters).unwrap().bytes(text)
    }

    #[test]
    fn a_value_fits_or_is_refused() {
        assert_eq!(bytes("b", "255"), Ok(vec![255]));
        assert_eq!(bytes("b", "-128"), Ok(vec![128]));
        assert_eq!(bytes("h", "0x1234"), Ok(vec![0x34, 0x12]));
        assert_eq!(bytes("w", "-1"), Ok(vec![255; 4]));
        assert_eq!(bytes("g", "18446744073709551615"), Ok(vec![255; 8]));
        assert_eq!(bytes("g", "-9223372036854775808"), Ok(i64::MIN.to_le_bytes().to_vec()));
        assert_eq!(bytes("fw", "1.5"), Ok(1.5f32.to_le_bytes().to_vec()));
        assert_eq!(bytes("f", "-0.25"), Ok((-0.25f64).to_le_bytes().to_vec()));
        assert_eq!(bytes("fw", "inf"), Ok(f32::INFINITY.to_le_bytes().to_vec()));
        assert_eq!(bytes("s", "ab"), Ok(b"ab\0".to_vec()));
        for (letters, text) in [
            ("b", "256"),
            ("b", "-129"),
            ("h", "65536"),
            ("w", "4294967296"),
            ("g", "18446744073709551616"),
            ("g", "-9223372036854775809"),
            ("g", "999999999999999999999999999999999999999999"),
            ("w", "010"),
            ("w", "1.5"),
            ("w", "0x"),
            ("w", ""),
            ("w", "--1"),
            ("w", "yes"),
            ("fw", "1e39"),
            ("f", "1e309"),
            ("f", "x"),
        ] {
            assert!(bytes(letters, text).is_err(), "{letters} {text}");
        }
    }

    #[test]
    fn the_symbol_says_how_many_bytes_unless_the_letters_do() {
        let sized = |letters: &str, named| Shape::parse(letters).and_then(|shape| shape.sized(named)).map(|it| it.size);
        assert_eq!(sized("", Some(4)), Ok(Some(4)));
        assert_eq!(sized("b", Some(16)), Ok(Some(1)));
        assert_eq!(sized("f", Some(4)), Ok(Some(4)));
        assert_eq!(sized("s", Some(16)), Ok(Some(16)));
        assert_eq!(sized("s", None), Ok(None));
        for (letters, named) in [("", Some(16)), ("", None), ("f", Some(2)), ("", Some(0))] {
            assert!(sized(letters, named).is_err(), "{letters} {named:?}");
        }
        for wrong in ["bw", "ff", "fs", "sw", "fb", "x", "3w"] {
            assert!(Shape::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Shape::parse("s").unwrap().sized(Some(3)).unwrap().bytes("abc").is_err());
        assert!(Shape::parse("s").unwrap().sized(Some(4)).unwrap().bytes("abc").is_ok());
    }

    #[test]
    fn what_is_there_is_shown() {
        let show = |letters: &str, bytes: &[u8]| Shape::parse(letters).unwrap().show(bytes);
        assert_eq!(show("", &[255, 255]), "-1");
        assert_eq!(show("f", &1.5f64.to_le_bytes()), "1.5");
        assert_eq!(show("s", b"ab\0cd"), "\"ab\"");
    }
}
