//! The auxiliary vector: what the kernel told the loader at the start (man 3 getauxval, uapi/linux/auxvec.h).
//!
//! Context: the observer. Numbers of one architecture that another uses differently are not named.

#![forbid(unsafe_code)]

use super::files;
use crate::sys::Result;

/// What a value is, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A count, a size, an id: decimal.
    Number,
    /// A set of bits: hexadecimal.
    Bits,
    /// An address.
    Address,
    /// The address of a string.
    String,
}

/// An entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number, `AT_*`.
    pub number: u64,
    /// What stands there.
    pub value: u64,
}

/// Entries read at most; the kernel has some 25.
const MOST: usize = 128;

impl Entry {
    /// `AT_SECURE`, or `None` for what is not known here.
    pub fn name(&self) -> Option<&'static str> {
        known(self.number).map(|(name, _)| name)
    }

    /// How its value is shown.
    pub fn form(&self) -> Form {
        known(self.number).map_or(Form::Bits, |(_, form)| form)
    }
}

fn known(number: u64) -> Option<(&'static str, Form)> {
    use Form::{Address, Bits, Number, String};
    Some(match number {
        1 => ("AT_IGNORE", Number),
        2 => ("AT_EXECFD", Number),
        3 => ("AT_PHDR", Address),
        4 => ("AT_PHENT", Number),
        5 => ("AT_PHNUM", Number),
        6 => ("AT_PAGESZ", Number),
        7 => ("AT_BASE", Address),
        8 => ("AT_FLAGS", Bits),
        9 => ("AT_ENTRY", Address),
        10 => ("AT_NOTELF", Number),
        11 => ("AT_UID", Number),
        12 => ("AT_EUID", Number),
        13 => ("AT_GID", Number),
        14 => ("AT_EGID", Number),
        15 => ("AT_PLATFORM", String),
        16 => ("AT_HWCAP", Bits),
        17 => ("AT_CLKTCK", Number),
        23 => ("AT_SECURE", Number),
        24 => ("AT_BASE_PLATFORM", String),
        25 => ("AT_RANDOM", Address),
        26 => ("AT_HWCAP2", Bits),
        27 => ("AT_RSEQ_FEATURE_SIZE", Number),
        28 => ("AT_RSEQ_ALIGN", Number),
        29 => ("AT_HWCAP3", Bits),
        30 => ("AT_HWCAP4", Bits),
        31 => ("AT_EXECFN", String),
        32 => ("AT_SYSINFO", Address),
        33 => ("AT_SYSINFO_EHDR", Address),
        51 => ("AT_MINSIGSTKSZ", Number),
        _ => return None,
    })
}

/// The vector, without its end.
pub fn read(tid: i32) -> Result<Vec<Entry>> {
    Ok(parse(&files::of_thread(tid, "auxv", MOST * 16)?))
}

fn parse(bytes: &[u8]) -> Vec<Entry> {
    let (words, _) = bytes.as_chunks::<8>();
    let (pairs, _) = words.as_chunks::<2>();
    let entries = pairs
        .iter()
        .map(|[number, value]| Entry { number: u64::from_le_bytes(*number), value: u64::from_le_bytes(*value) });
    entries.take_while(|entry| entry.number != 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process;

    #[test]
    fn agrees_with_getauxval() {
        let entries = read(process::tid()).unwrap();
        assert!(entries.len() > 10);
        // glibc answers AT_HWCAP with what it made of that on x86-64.
        for entry in entries.iter().filter(|entry| entry.name() != Some("AT_HWCAP")) {
            assert_eq!(entry.value, process::auxiliary(entry.number), "{entry:?}");
            assert!(entry.name().is_some(), "{entry:?}");
        }
        assert_eq!(parse(&[1; 15]), []);
        assert_eq!(parse(&[0; 64]), []);
    }
}
