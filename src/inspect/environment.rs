//! The environment: as the application sees it now, and as it was when the program was started.
//!
//! Context: the observer. Now: the array that `environ` points to, read as any memory, since the application may
//! change it at this very moment. At the start: the block that the kernel put on the first stack
//! (`/proc/PID/environ`), which `setenv` and its kin leave alone; a program that writes its title over it
//! (setproctitle) destroys it.

#![forbid(unsafe_code)]

use super::files;
use crate::sys::memory::Memory;
use crate::sys::{Result, environment};

/// Variables read at most.
const MOST: usize = 65_536;
/// Bytes of one, at most: what the kernel allows for one at the start (MAX_ARG_STRLEN).
const LONGEST: usize = 128 << 10;
/// Bytes in all.
const BYTES: usize = 4 << 20;

/// An environment, as strings `NAME=VALUE`, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// The strings.
    pub strings: Vec<Vec<u8>>,
    /// There are more, or one goes on.
    pub is_cut: bool,
}

/// Name and value; a string without `=` is a name alone.
pub fn split(string: &[u8]) -> (&[u8], Option<&[u8]>) {
    // A name may begin with `=` (Wine's drives do).
    match string.iter().skip(1).position(|byte| *byte == b'=') {
        Some(at) => (string.get(..=at).unwrap_or_default(), string.get(at + 2..)),
        None => (string, None),
    }
}

impl Environment {
    /// The value of the first variable called `name`, as `getenv` would find it.
    pub fn get(&self, name: &[u8]) -> Option<Option<&[u8]>> {
        self.strings.iter().map(|string| split(string)).find(|(found, _)| *found == name).map(|(_, value)| value)
    }
}

/// The environment as it is now; `None` when its memory cannot be read.
pub fn now(memory: &impl Memory) -> Option<Environment> {
    let array = memory.read_u64(environment::address())?;
    // `clearenv` makes it null.
    if array == 0 { Some(Environment::default()) } else { strings(memory, array) }
}

/// The strings that the pointers from `array` up to a null point to.
pub fn strings(memory: &impl Memory, array: u64) -> Option<Environment> {
    let mut environment = Environment::default();
    let mut left = BYTES;
    for index in 0.. {
        let pointer = memory.read_u64(array.wrapping_add(index * 8))?;
        if pointer == 0 {
            break;
        }
        if environment.strings.len() == MOST || left == 0 {
            environment.is_cut = true;
            break;
        }
        let (string, is_whole) = string(memory, pointer, left.min(LONGEST));
        left -= string.len();
        environment.is_cut |= !is_whole;
        environment.strings.push(string);
    }
    Some(environment)
}

/// The string at `address`, up to `limit` bytes or to where memory ends; and whether it ended by itself.
pub fn string(memory: &impl Memory, address: u64, limit: usize) -> (Vec<u8>, bool) {
    let mut text = Vec::new();
    let mut piece = [0; 512];
    while text.len() < limit {
        let count = memory.read(address.wrapping_add(text.len() as u64), &mut piece);
        let read = piece.get(..count).unwrap_or_default();
        let end = read.iter().position(|byte| *byte == 0);
        text.extend_from_slice(read.get(..end.unwrap_or(count)).unwrap_or_default());
        if end.is_some() && text.len() <= limit {
            return (text, true);
        }
        if count < piece.len() {
            break;
        }
    }
    text.truncate(limit);
    (text, false)
}

/// The environment that the program was started with.
pub fn at_start(tid: i32) -> Result<Environment> {
    let bytes = files::of_thread(tid, "environ", BYTES)?;
    let is_cut = bytes.len() == BYTES;
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
    let all = bytes.split(|byte| *byte == 0).filter(|string| !string.is_empty());
    Ok(Environment { strings: all.take(MOST).map(<[u8]>::to_vec).collect(), is_cut })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::memory::Live;
    use crate::sys::process;

    #[test]
    fn names_and_values() {
        assert_eq!(split(b"A=b=c"), (&b"A"[..], Some(&b"b=c"[..])));
        assert_eq!(split(b"A="), (&b"A"[..], Some(&b""[..])));
        assert_eq!(split(b"A"), (&b"A"[..], None));
        assert_eq!(split(b"=C:=x"), (&b"=C:"[..], Some(&b"x"[..])));
        assert_eq!((split(b""), split(b"=")), ((&b""[..], None), (&b"="[..], None)));
    }

    #[test]
    fn this_process() {
        let (now, start) = (now(&Live).unwrap(), at_start(process::tid()).unwrap());
        let path = std::env::var_os("PATH").unwrap();
        assert_eq!(now.get(b"PATH"), Some(Some(path.as_encoded_bytes())));
        assert_eq!(start.get(b"PATH"), Some(Some(path.as_encoded_bytes())));
        assert!(!now.is_cut && !start.is_cut);
    }

    #[test]
    fn hostile_memory_ends() {
        assert_eq!(strings(&Live, 16), None);
        let long = vec![b'x'; LONGEST + 1];
        let array = [long.as_ptr() as u64, 16, 0];
        let found = strings(&Live, array.as_ptr() as u64).unwrap();
        assert_eq!(found.strings.iter().map(Vec::len).collect::<Vec<_>>(), [LONGEST, 0]);
        assert!(found.is_cut);
    }
}
