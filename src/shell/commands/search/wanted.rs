//! What `search` is asked for: a number, a text, bytes or an address; and where to look.
//!
//! Context: the observer. Pure: words in, values out.

#![forbid(unsafe_code)]

use std::ops::Range;

use crate::config::glob;
use crate::config::locals::Local;
use crate::shell::address;
use crate::stack::modules::maps;

/// Where to look.
#[derive(Debug, PartialEq, Eq)]
pub enum Within {
    /// In mappings of this name.
    Glob(String),
    /// In this range.
    Addresses(Range<u64>),
}

/// What is searched for.
#[derive(Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A number, or bytes.
    Bytes(Vec<u8>),
    /// A text.
    Text(Vec<u8>),
    /// An address that is yet to be evaluated.
    Address,
}

impl Within {
    /// Understands `START-END` or a glob.
    pub fn new(text: &str) -> Result<Self, String> {
        let number = |text: &str| u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok();
        match text.split_once('-').and_then(|(start, end)| Some(number(start)?..number(end)?)) {
            Some(range) if range.is_empty() => Err(format!("--in: {text} is empty")),
            Some(range) => Ok(Self::Addresses(range)),
            None => Ok(Self::Glob(text.to_owned())),
        }
    }

    /// The part of a mapping that is meant.
    pub fn part(&self, range: Range<u64>, printed: &[u8]) -> Option<Range<u64>> {
        match self {
            Self::Addresses(only) => {
                Some(range.start.max(only.start)..range.end.min(only.end)).filter(|it| !it.is_empty())
            }
            Self::Glob(glob) => {
                let (path, _) = maps::path(printed);
                let file = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
                // `[heap]` is a class of letters to a glob: it is taken for the name, too, and `heap` as well.
                let bare = path.strip_prefix(b"[").and_then(|name| name.strip_suffix(b"]")).unwrap_or(file);
                let names = [if path.is_empty() { &b"anonymous"[..] } else { &path }, bare];
                let is_meant = |name: &&[u8]| *name == glob.as_bytes() || glob::matches(glob.as_bytes(), name);
                names.iter().any(is_meant).then_some(range)
            }
        }
    }
}

/// Understands what is searched for.
pub fn understand(text: &str, width: usize, names: &[Local]) -> Result<Wanted, String> {
    if let Some(text) = text.strip_prefix("text:") {
        return Ok(Wanted::Text(text.as_bytes().to_vec()));
    }
    if let Some(digits) = text.strip_prefix("hex:") {
        let pairs = digits.as_bytes().chunks(2).map(|pair| {
            let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2 && !pair.starts_with('+'));
            pair.and_then(|pair| u8::from_str_radix(pair, 16).ok())
        });
        let bytes: Option<Vec<u8>> = pairs.collect();
        return bytes.map(Wanted::Bytes).ok_or_else(|| format!("{digits:?} is no even number of hexadecimal digits"));
    }
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let magnitude = match digits.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+')),
        None => digits.parse().ok().filter(|_| digits.starts_with(|c: char| c.is_ascii_digit())),
    };
    if let Some(magnitude) = magnitude {
        let bits = width as u32 * 8;
        let most = u64::MAX >> (64 - bits);
        let fits = if negative { magnitude <= most / 2 + 1 } else { magnitude <= most };
        let value = if negative { magnitude.wrapping_neg() } else { magnitude };
        let bytes = value.to_le_bytes().get(..width).unwrap_or_default().to_vec();
        return if fits { Ok(Wanted::Bytes(bytes)) } else { Err(format!("{text} has no room in {width} bytes")) };
    }
    if address::is_expression(text, names) {
        return Ok(Wanted::Address);
    }
    if text.is_empty() { Err("an empty text".to_owned()) } else { Ok(Wanted::Text(text.as_bytes().to_vec())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted() {
        let wanted = |text, width| understand(text, width, &[]);
        let bytes = |bytes: &[u8]| Ok(Wanted::Bytes(bytes.to_vec()));
        assert_eq!(wanted("0x1234", 8), bytes(&[0x34, 0x12, 0, 0, 0, 0, 0, 0]));
        assert_eq!(wanted("-2", 2), bytes(&[0xfe, 0xff]));
        assert_eq!(wanted("255", 1), bytes(&[255]));
        assert!(wanted("256", 1).is_err() && wanted("-129", 1).is_err() && wanted("-128", 1).is_ok());
        assert_eq!(wanted("18446744073709551615", 8), bytes(&[0xff; 8]));
        assert_eq!(wanted("hex:dead00", 8), bytes(&[0xde, 0xad, 0]));
        assert!(wanted("hex:dea", 8).is_err() && wanted("hex:+1", 8).is_err());
        for text in ["hello", "hello world", "-", "0xyz!", "libc.so.6:puts"] {
            assert_eq!(wanted(text, 8), Ok(Wanted::Text(text.as_bytes().to_vec())), "{text}");
        }
        assert_eq!(wanted("text:4711", 8), Ok(Wanted::Text(b"4711".to_vec())));
        for text in ["&server", "server+8", "*(p)"] {
            assert_eq!(wanted(text, 8), Ok(Wanted::Address), "{text}");
        }
        assert!(wanted("", 8).is_err());
    }

    #[test]
    fn where_to_look() {
        assert_eq!(Within::new("0x1000-3000"), Ok(Within::Addresses(0x1000..0x3000)));
        assert!(Within::new("3000-1000").is_err());
        let part = |text: &str, printed: &[u8]| Within::new(text).unwrap().part(0x2000..0x4000, printed);
        assert_eq!(part("1000-3000", b""), Some(0x2000..0x3000));
        assert_eq!(part("5000-6000", b""), None);
        assert_eq!(part("[heap]", b"[heap]"), Some(0x2000..0x4000));
        assert_eq!(part("heap", b"[heap]"), Some(0x2000..0x4000));
        assert_eq!(part("anonymous", b""), Some(0x2000..0x4000));
        assert_eq!(part("libc.so*", b"/usr/lib/libc.so.6"), Some(0x2000..0x4000));
        assert_eq!(part("/usr/*", b"/usr/lib/libc.so.6"), Some(0x2000..0x4000));
        assert_eq!(part("libm*", b"/usr/lib/libc.so.6"), None);
    }
}
