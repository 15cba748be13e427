//! `/proc/thread-self/maps`, line by line: that of `self` is empty once the first thread has exited.
//!
//! Context: the observer. A process of 10,000 threads has over 20,000 lines, nearly all of them
//! stacks: they are read through one buffer and parsed in place, with no allocation a line.

use crate::sys::procfs::File;
use crate::sys::{Errno, Result};

/// One mapping (Documentation/filesystems/proc.rst, section 1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping<'a> {
    /// First address.
    pub start: u64,
    /// Address behind the last.
    pub end: u64,
    /// As printed: `rwxp`, a `-` for what it may not be, `s` at the end for shared.
    pub permissions: [u8; 4],
    /// May be read.
    pub readable: bool,
    /// May be written.
    pub writable: bool,
    /// May be executed.
    pub executable: bool,
    /// What is written there others see: MAP_SHARED.
    pub shared: bool,
    /// Offset in the file.
    pub offset: u64,
    /// Device of the file, as `st_dev` has it.
    pub device: u64,
    /// Inode, 0 for anonymous memory.
    pub inode: u64,
    /// The path or the name in brackets, as printed: a newline is `\012`, ` (deleted)` may follow.
    pub path: &'a [u8],
}

/// Longest line that is understood: a path of PATH_MAX bytes, all of them newlines, and the numbers.
const BUFFER: usize = 4 * 4096 + 256;

/// Calls `each` for every mapping of this process, ascending by address.
pub fn for_each(each: impl FnMut(&Mapping<'_>)) -> Result<()> {
    read(&File::open(c"/proc/thread-self/maps")?, each)
}

/// Calls `each` for every line of a `maps` file.
pub fn read(file: &File, mut each: impl FnMut(&Mapping<'_>)) -> Result<()> {
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(BUFFER).map_err(|_| Errno::ENOMEM)?;
    buffer.resize(BUFFER, 0);
    let (mut filled, mut offset) = (0, 0u64);
    loop {
        let count = file.read_at(buffer.get_mut(filled..).unwrap_or_default(), offset)?;
        filled += count;
        offset += count as u64;
        let mut rest = buffer.get(..filled).unwrap_or_default();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, tail) = rest.split_at_checked(end).unwrap_or_default();
            if let Some(mapping) = parse(line) {
                each(&mapping);
            }
            rest = tail.get(1..).unwrap_or_default();
        }
        let left = rest.len();
        // A full buffer without a line's end is no line of the kernel's: drop it rather than stop.
        let left = if left == BUFFER { 0 } else { left };
        buffer.copy_within(filled - left..filled, 0);
        filled = left;
        if count == 0 {
            return Ok(());
        }
    }
}

/// `start-end perms offset major:minor inode   path`.
pub fn parse(line: &[u8]) -> Option<Mapping<'_>> {
    let (start, rest) = hexadecimal(line)?;
    let (end, rest) = hexadecimal(rest.strip_prefix(b"-")?)?;
    let [b' ', read, write, execute, share, b' ', rest @ ..] = rest else { return None };
    let (offset, rest) = hexadecimal(rest)?;
    let (major, rest) = hexadecimal(rest.strip_prefix(b" ")?)?;
    let (minor, rest) = hexadecimal(rest.strip_prefix(b":")?)?;
    let mut rest = rest.strip_prefix(b" ")?;
    let mut inode = 0u64;
    while let [digit @ b'0'..=b'9', tail @ ..] = rest {
        inode = inode.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
        rest = tail;
    }
    while let [b' ', tail @ ..] = rest {
        rest = tail;
    }
    let device = device(major, minor);
    let permissions = [*read, *write, *execute, *share];
    let (readable, writable) = (*read == b'r', *write == b'w');
    let (executable, shared) = (*execute == b'x', *share == b's');
    (start < end).then_some(Mapping {
        start,
        end,
        permissions,
        readable,
        writable,
        executable,
        shared,
        offset,
        device,
        inode,
        path: rest,
    })
}

/// Hexadecimal digits at the start of `text`, at least one, and what follows them.
fn hexadecimal(text: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    let mut rest = text;
    while let [byte, tail @ ..] = rest {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => break,
        };
        value = value << 4 | u64::from(digit);
        rest = tail;
    }
    (rest.len() < text.len()).then_some((value, rest))
}

/// `makedev(3)`: how glibc and the kernel pack a device number into `st_dev`.
fn device(major: u64, minor: u64) -> u64 {
    (major & 0xffff_f000) << 32 | (major & 0xfff) << 8 | (minor & 0xffff_ff00) << 12 | minor & 0xff
}

/// The path that a line prints: newlines unescaped, and whether ` (deleted)` was cut off.
///
/// The kernel escapes nothing but newlines (`seq_file_path(m, file, "\n")`), so a name that really
/// holds `\012` cannot be told from one that holds a newline.
pub fn path(printed: &[u8]) -> (Vec<u8>, bool) {
    let (printed, deleted) = match printed.strip_suffix(b" (deleted)") {
        Some(path) => (path, true),
        None => (printed, false),
    };
    let mut path = Vec::with_capacity(printed.len());
    let mut rest = printed;
    while let [first, tail @ ..] = rest {
        if let Some(tail) = rest.strip_prefix(b"\\012") {
            path.push(b'\n');
            rest = tail;
        } else {
            path.push(*first);
            rest = tail;
        }
    }
    (path, deleted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_parsed() {
        let line =
            b"7f52f4a3e000-7f52f4b93000 r-xp 00026000 103:02 12345678                  /lib/with space.so (deleted)";
        let mapping = parse(line).unwrap();
        assert_eq!((mapping.start, mapping.end), (0x7f52_f4a3_e000, 0x7f52_f4b9_3000));
        assert!(mapping.executable);
        assert_eq!((mapping.offset, mapping.inode), (0x26000, 12_345_678));
        assert_eq!(mapping.device, nix::sys::stat::makedev(0x103, 2));
        assert_eq!(path(mapping.path), (b"/lib/with space.so".to_vec(), true));
        let anonymous = parse(b"7ffd1000-7ffd2000 rw-p 00000000 00:00 0 ").unwrap();
        assert_eq!((anonymous.inode, anonymous.path), (0, &b""[..]));
        assert_eq!(path(b"/tmp/a\\012b\\0"), (b"/tmp/a\nb\\0".to_vec(), false));
        for bad in [&b""[..], b"1-", b"1-2", b"x-y r-xp 0 0:0 0", b"2-1 r-xp 0 0:0 0", b"1-2 r-xp 0 0:0"] {
            assert_eq!(parse(bad), None);
        }
    }

    #[test]
    fn this_process_is_listed_in_order() {
        let (mut last, mut own) = (0, false);
        let here = lines_are_parsed as fn() as usize as u64;
        for_each(|mapping| {
            assert!(mapping.start >= last);
            last = mapping.end;
            own |= mapping.executable && (mapping.start..mapping.end).contains(&here);
        })
        .unwrap();
        assert!(own);
    }
}
