//! What an address lies in when no symbol covers it: the heap, a stack, a file, memory without a name.
//!
//! Context: the observer. One reading of `maps` a question: microseconds, milliseconds with 10,000 threads.

#![forbid(unsafe_code)]

use std::fmt;

use super::strings::Escaped;
use crate::stack::modules::maps;
use crate::sys::Result;

/// A mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// First address.
    pub start: u64,
    /// Address behind the last.
    pub end: u64,
    /// May be executed.
    pub executable: bool,
    /// Where in the file `start` is.
    offset: u64,
    /// As `maps` prints it: a path, `[heap]`, `[stack]`, `[anon:…]`; empty for memory without a name.
    printed: Vec<u8>,
}

impl Mapped {
    /// Whether nothing says what it is for; the stacks of threads are such.
    pub fn is_anonymous(&self) -> bool {
        self.printed.is_empty()
    }

    /// What `address`, which lies in it, is, in words.
    pub fn describe(&self, address: u64) -> String {
        let at = address.wrapping_sub(self.start);
        match self.printed.as_slice() {
            b"" => format!("anonymous memory + {at:#x}"),
            b"[heap]" => format!("the heap (brk) + {at:#x}"),
            b"[stack]" => "the stack of the first thread".to_owned(),
            [b'/', ..] => {
                let (path, deleted) = maps::path(&self.printed);
                let deleted = if deleted { " (deleted)" } else { "" };
                format!("file {}{deleted} at offset {:#x}", Escaped(&path), self.offset.wrapping_add(at))
            }
            other => format!("{} + {at:#x}", Escaped(other)),
        }
    }
}

impl fmt::Display for Mapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}-{:#x} ", self.start, self.end)?;
        if self.is_anonymous() { f.write_str("(anonymous)") } else { write!(f, "{}", Escaped(&self.printed)) }
    }
}

/// The mappings at and around an address.
#[derive(Clone, Debug, Default)]
pub struct Around {
    /// The one that holds it.
    pub at: Option<Mapped>,
    /// The last one below it.
    pub below: Option<Mapped>,
    /// The first one above it.
    pub above: Option<Mapped>,
}

/// Looks where `address` lies.
pub fn around(address: u64) -> Result<Around> {
    let mut around = Around::default();
    maps::for_each(|mapping| {
        let slot = match mapping {
            _ if mapping.end <= address => &mut around.below,
            _ if mapping.start <= address => &mut around.at,
            _ if around.above.is_none() => &mut around.above,
            _ => return,
        };
        let (start, end, executable, offset) = (mapping.start, mapping.end, mapping.executable, mapping.offset);
        *slot = Some(Mapped { start, end, executable, offset, printed: mapping.path.to_vec() });
    })?;
    Ok(around)
}

/// Why memory at `address` could not be read, for an error line.
pub fn why_unreadable(address: u64) -> String {
    let Ok(Around { at, below, above }) = around(address) else { return "not readable".to_owned() };
    if let Some(at) = at {
        // PROT_NONE, or a file that ends before the mapping does (mmap(2), SIGBUS).
        return format!("it is mapped, but cannot be read: {at}");
    }
    let distance = |mapped: &Mapped| if mapped.end <= address { address - mapped.end } else { mapped.start - address };
    let nearest = below.into_iter().chain(above).min_by_key(distance);
    match nearest.filter(|mapped| distance(mapped) < 1 << 30) {
        Some(nearest) => format!("not mapped; the nearest mapping is {nearest}"),
        None => "not mapped, nor is anything near".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_there() {
        let local = 7u64;
        let at = around(&raw const local as u64).unwrap().at.unwrap();
        assert!(at.is_anonymous(), "a test runs on a thread of its own: {at}");
        let code = around as fn(u64) -> Result<Around> as usize as u64;
        let at = around(code).unwrap().at.unwrap();
        assert!(at.describe(code).starts_with("file /"), "{}", at.describe(code));
        let Around { at, below, above } = around(0x1000).unwrap();
        assert!(at.is_none() && below.is_none() && above.is_some());
    }

    #[test]
    fn says_why_memory_cannot_be_read() {
        assert_eq!(why_unreadable(16), "not mapped, nor is anything near");
        let code = around as fn(u64) -> Result<Around> as usize as u64;
        assert!(why_unreadable(code).starts_with("it is mapped, but"));
    }
}
