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
    /// As `maps` prints them: `rw-p`.
    pub permissions: [u8; 4],
    /// Where in the file `start` is.
    offset: u64,
    /// As `maps` prints it: a path, `[heap]`, `[stack]`, `[anon:…]`; empty for memory without a name.
    printed: Vec<u8>,
}

impl Mapped {
    fn new(mapping: &maps::Mapping<'_>) -> Self {
        let (start, end, offset, permissions) = (mapping.start, mapping.end, mapping.offset, mapping.permissions);
        Self { start, end, permissions, offset, printed: mapping.path.to_vec() }
    }

    /// Whether nothing says what it is for; the stacks of threads are such.
    pub fn is_anonymous(&self) -> bool {
        self.printed.is_empty()
    }

    /// Whether it may be written.
    pub fn is_writable(&self) -> bool {
        matches!(self.permissions, [_, b'w', ..])
    }

    /// Whether it may be executed.
    pub fn is_executable(&self) -> bool {
        matches!(self.permissions, [_, _, b'x', _])
    }

    /// Whether other processes, or a file, see what is written.
    pub fn is_shared(&self) -> bool {
        matches!(self.permissions, [.., b's'])
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
        *slot = Some(Mapped::new(mapping));
    })?;
    Ok(around)
}

/// The mapping of each of `addresses`, in one reading.
pub fn of_each(addresses: &[u64]) -> Result<Vec<Option<Mapped>>> {
    let mut order: Vec<(u64, usize)> = addresses.iter().copied().zip(0..).collect();
    order.sort_unstable();
    let mut found = vec![None; addresses.len()];
    let mut rest = order.into_iter().peekable();
    // Both ascend.
    maps::for_each(|mapping| {
        while let Some((address, index)) = rest.next_if(|(address, _)| *address < mapping.end) {
            if let Some(slot) = found.get_mut(index).filter(|_| mapping.start <= address) {
                *slot = Some(Mapped::new(mapping));
            }
        }
    })?;
    Ok(found)
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
        let local_again = &raw const local as u64;
        let each = of_each(&[code, 0x1000, local_again, code]).unwrap();
        assert_eq!(each, [Some(at.clone()), None, around(local_again).unwrap().at, Some(at)]);
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
