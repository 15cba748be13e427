//! Memory as gdb's `x` shows it: the format letters, and one unit of each as text.
//!
//! Context: the observer. Pure: bytes in, text out.

#![forbid(unsafe_code)]

use std::fmt::Write;

/// How a unit is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Letter {
    /// `x` and `z`: hexadecimal, all digits.
    Hexadecimal,
    /// `d`.
    Signed,
    /// `u`.
    Unsigned,
    /// `o`.
    Octal,
    /// `t`: binary, all digits.
    Binary,
    /// `c`: a byte as number and character.
    Character,
    /// `f`: IEEE 754, of four or eight bytes.
    Float,
    /// `a`: a pointer, and the symbol that it points to.
    Address,
    /// `s`: bytes up to a NUL.
    String,
    /// `i`: machine instructions.
    Instruction,
}

impl Letter {
    /// Its units have no size of their own.
    pub fn is_of_any_size(self) -> bool {
        matches!(self, Self::String | Self::Instruction)
    }
}

/// `/COUNT LETTER SIZE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// How many units.
    pub count: usize,
    /// How each is shown.
    pub letter: Letter,
    /// Bytes of a unit: 1, 2, 4 or 8.
    pub size: usize,
    /// More were asked for than are shown.
    pub is_cut: bool,
}

/// Units shown at most.
pub const MOST_UNITS: usize = 65536;
/// Strings shown at most, since each is up to [`LONGEST_STRING`] bytes; and instructions, each a line of its own.
pub const MOST_STRINGS: usize = 4096;
/// Bytes of a string that are one unit; the rest is the next one, as in gdb.
pub const LONGEST_STRING: usize = 200;

impl Format {
    /// What is shown when nothing else was asked for.
    pub const DEFAULT: Self = Self { count: 1, letter: Letter::Hexadecimal, size: 4, is_cut: false };

    /// Reads what follows the slash: `8xg`, `4dw`, `s`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, letters) = text.split_at_checked(end).unwrap_or_default();
        let count = if digits.is_empty() { 1 } else { digits.parse().unwrap_or(usize::MAX) };
        if count == 0 {
            return Err("a count of 0".to_owned());
        }
        let (mut letter, mut size) = (None, None);
        for character in letters.chars() {
            let before = match character {
                'x' | 'z' => letter.replace(Letter::Hexadecimal).is_some(),
                'd' => letter.replace(Letter::Signed).is_some(),
                'u' => letter.replace(Letter::Unsigned).is_some(),
                'o' => letter.replace(Letter::Octal).is_some(),
                't' => letter.replace(Letter::Binary).is_some(),
                'c' => letter.replace(Letter::Character).is_some(),
                'f' => letter.replace(Letter::Float).is_some(),
                'a' => letter.replace(Letter::Address).is_some(),
                's' => letter.replace(Letter::String).is_some(),
                'b' => size.replace(1).is_some(),
                'h' => size.replace(2).is_some(),
                'w' => size.replace(4).is_some(),
                'g' => size.replace(8).is_some(),
                'i' => letter.replace(Letter::Instruction).is_some(),
                other => return Err(format!("no format {other:?}: a count, one of xduotcfasi, one of bhwg")),
            };
            if before {
                return Err(format!("{text:?} has two formats or two sizes"));
            }
        }
        let letter = letter.unwrap_or(Letter::Hexadecimal);
        let (usual, fits): (usize, &[usize]) = match letter {
            Letter::Character | Letter::String | Letter::Instruction => (1, &[1]),
            Letter::Float => (8, &[4, 8]),
            Letter::Address => (8, &[8]),
            _ => (4, &[1, 2, 4, 8]),
        };
        let size = size.unwrap_or(usual);
        if !fits.contains(&size) {
            return Err(format!("{text:?}: this format has no units of {size} bytes"));
        }
        let most = if letter.is_of_any_size() { MOST_STRINGS } else { MOST_UNITS };
        Ok(Self { count: count.min(most), letter, size, is_cut: count > most })
    }

    /// Units on one line, as gdb has them.
    pub fn per_line(&self) -> usize {
        match (self.letter, self.size) {
            (Letter::String | Letter::Instruction, _) => 1,
            (_, 8) => 2,
            (_, 4) => 4,
            _ => 8,
        }
    }

    /// Appends a unit's text. Symbols of addresses are the caller's.
    pub fn write(&self, unit: &[u8], text: &mut String) {
        let value = unsigned(unit);
        let signed = (value << (64 - 8 * self.size.clamp(1, 8))).cast_signed() >> (64 - 8 * self.size.clamp(1, 8));
        // Writing into a String cannot fail.
        let _ = match self.letter {
            Letter::Hexadecimal => write!(text, "0x{value:0width$x}", width = self.size * 2),
            Letter::Signed => write!(text, "{signed}"),
            Letter::Unsigned => write!(text, "{value}"),
            Letter::Octal if value == 0 => write!(text, "0"),
            Letter::Octal => write!(text, "0{value:o}"),
            Letter::Binary => write!(text, "{value:0width$b}", width = self.size * 8),
            Letter::Character => write!(text, "{signed} {}", character(value as u8)),
            Letter::Float if self.size == 4 => write!(text, "{}", float32(value as u32)),
            Letter::Float => write!(text, "{}", float64(value)),
            Letter::Address => write!(text, "{value:#x}"),
            Letter::String | Letter::Instruction => Ok(()),
        };
    }
}

/// A little-endian number of at most eight bytes.
pub fn unsigned(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn character(byte: u8) -> String {
    match byte {
        7 => r"'\a'".to_owned(),
        8 => r"'\b'".to_owned(),
        b'\t' => r"'\t'".to_owned(),
        b'\n' => r"'\n'".to_owned(),
        11 => r"'\v'".to_owned(),
        12 => r"'\f'".to_owned(),
        b'\r' => r"'\r'".to_owned(),
        b'\'' | b'\\' => format!("'\\{}'", char::from(byte)),
        b' '..=b'~' => format!("'{}'", char::from(byte)),
        _ => format!("'\\{byte:03o}'"),
    }
}

fn float64(bits: u64) -> String {
    let value = f64::from_bits(bits);
    if value.is_nan() { not_a_number(value.is_sign_negative(), bits & ((1 << 52) - 1)) } else { general(value, 17) }
}

fn float32(bits: u32) -> String {
    let value = f32::from_bits(bits);
    if value.is_nan() {
        not_a_number(value.is_sign_negative(), u64::from(bits & ((1 << 23) - 1)))
    } else {
        general(value.into(), 9)
    }
}

fn not_a_number(negative: bool, mantissa: u64) -> String {
    format!("{}nan({mantissa:#x})", if negative { "-" } else { "" })
}

/// C's `%.Ng`: N significant digits, without zeros at the end.
fn general(value: f64, digits: usize) -> String {
    if value.is_infinite() {
        return if value < 0.0 { "-inf" } else { "inf" }.to_owned();
    }
    let scientific = format!("{value:.*e}", digits - 1);
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |text: &str| {
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text.to_owned() }
    };
    if exponent < -4 || exponent >= digits as i32 {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trim(mantissa), exponent.abs());
    }
    trim(&format!("{value:.*}", (digits as i32 - 1 - exponent).max(0) as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(format: &str, bytes: &[u8]) -> String {
        let format = Format::parse(format).unwrap();
        let mut text = String::new();
        format.write(&bytes[..format.size], &mut text);
        text
    }

    /// What gdb 13 printed for the same bytes.
    #[test]
    fn units_are_gdbs() {
        let minus = (-2i64).to_le_bytes();
        for (format, expected) in [
            ("xg", "0xfffffffffffffffe"),
            ("xb", "0xfe"),
            ("z", "0xfffffffe"),
            ("d", "-2"),
            ("db", "-2"),
            ("dg", "-2"),
            ("uh", "65534"),
            ("ob", "0376"),
            ("tb", "11111110"),
            ("c", "-2 '\\376'"),
            ("a", "0xfffffffffffffffe"),
        ] {
            assert_eq!(shown(format, &minus), expected, "{format}");
        }
        assert_eq!(shown("ob", &[0]), "0");
        assert_eq!(shown("tb", &[5]), "00000101");
        for (byte, expected) in
            [(b'A', "65 'A'"), (10, r"10 '\n'"), (34, "34 '\"'"), (92, r"92 '\\'"), (27, r"27 '\033'")]
        {
            assert_eq!(shown("c", &[byte]), expected);
        }
        for (value, expected) in [
            (1.5, "1.5"),
            (-0.25, "-0.25"),
            (2.2, "2.2000000000000002"),
            (1e100, "1e+100"),
            (0.0, "0"),
            (1e-7, "9.9999999999999995e-08"),
            (123456789.0, "123456789"),
            (0.1, "0.10000000000000001"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan(0x8000000000000)"),
        ] {
            assert_eq!(shown("f", &value.to_le_bytes()), expected);
        }
        for (value, expected) in [(1.5f32, "1.5"), (2.2, "2.20000005"), (-1e10, "-1e+10"), (0.0, "0")] {
            assert_eq!(shown("fw", &value.to_le_bytes()), expected);
        }
    }

    #[test]
    fn formats() {
        let format = |count, letter, size| Ok(Format { count, letter, size, is_cut: false });
        assert_eq!(Format::parse(""), Ok(Format::DEFAULT));
        assert_eq!(Format::parse("8xg"), format(8, Letter::Hexadecimal, 8));
        assert_eq!(Format::parse("4gx"), format(4, Letter::Hexadecimal, 8));
        assert_eq!(Format::parse("4dw"), format(4, Letter::Signed, 4));
        assert_eq!(Format::parse("s"), format(1, Letter::String, 1));
        assert_eq!(Format::parse("f"), format(1, Letter::Float, 8));
        let cut = Format::parse("99999999999999999999xb").unwrap();
        assert_eq!((cut.count, cut.is_cut), (MOST_UNITS, true));
        assert_eq!(Format::parse("5i"), format(5, Letter::Instruction, 1));
        for bad in ["0x", "iw", "3q", "xd", "bw", "ah", "fb", "sw", "cg", "-1x"] {
            assert!(Format::parse(bad).is_err(), "{bad}");
        }
    }
}
