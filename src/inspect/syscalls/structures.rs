//! Reading the structures that arguments point to: socket addresses, file locks, semaphore operations.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::constants::{CLOCKS, FCNTL_COMMANDS, LOCK_TYPES, SEMOP_FLAGS, SLEEP_FLAGS, WHENCE};
use super::context::Context;
use super::signature::{Group, Kind, Writing};
use super::time;
use super::values::{write_choice, write_flags};
use crate::inspect::strings::Escaped;

/// The `N` bytes at `address`, or nothing.
pub fn read<const N: usize>(address: u64, context: &dyn Context) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    (address != 0 && context.memory().read(address, &mut bytes) == N).then_some(bytes)
}

/// The two bytes of `bytes` at `offset`, 0 beyond its end.
pub fn half(bytes: &[u8], offset: usize) -> i16 {
    let field = bytes.get(offset..).and_then(|rest| rest.first_chunk());
    field.map_or(0, |field| i16::from_le_bytes(*field))
}

/// The four bytes of `bytes` at `offset`, 0 beyond its end.
pub fn word(bytes: &[u8], offset: usize) -> i32 {
    let field = bytes.get(offset..).and_then(|rest| rest.first_chunk());
    field.map_or(0, |field| i32::from_le_bytes(*field))
}

/// The eight bytes of `bytes` at `offset`, 0 beyond its end.
pub fn long(bytes: &[u8], offset: usize) -> i64 {
    let field = bytes.get(offset..).and_then(|rest| rest.first_chunk());
    field.map_or(0, |field| i64::from_le_bytes(*field))
}

/// `struct sockaddr` and its length.
pub static ADDRESS: Group =
    Group { plain: &[("", Kind::Pointer), ("", Kind::Int)], write: write_address, separator: ", " };

fn write_address(writing: &Writing<'_>, first: usize, f: &mut fmt::Formatter<'_>) -> Result<bool, fmt::Error> {
    let (address, length) = (writing.argument(first), writing.argument(first + 1) as u32 as usize);
    let mut buffer = [0; 128]; // sizeof(struct sockaddr_storage): the kernel takes no longer address
    let (Some(context), Some(bytes)) = (writing.context, buffer.get_mut(..length)) else {
        return Ok(false);
    };
    if length < 2 || address == 0 || context.memory().read(address, bytes) != length {
        return Ok(false);
    }
    let port = u16::from_be_bytes(half(bytes, 2).to_le_bytes());
    match i32::from(half(bytes, 0)) {
        libc::AF_INET if length >= 8 => {
            write!(f, "{}:{port}", Ipv4Addr::from(word(bytes, 4).to_le_bytes()))?;
        }
        libc::AF_INET6 if length >= 24 => {
            let Some(address) = bytes.get(8..).and_then(|rest| rest.first_chunk::<16>()) else {
                return Ok(false);
            };
            write!(f, "[{}]:{port}", Ipv6Addr::from(*address))?;
        }
        // man 7 unix: an abstract name starts with NUL and takes the whole length.
        libc::AF_UNIX => match bytes.get(2..).unwrap_or_default() {
            [] => f.write_str("unix")?,
            [0, name @ ..] => write!(f, "unix \"@{}\"", Escaped(name))?,
            path => write!(f, "unix \"{}\"", Escaped(path.split(|&byte| byte == 0).next().unwrap_or_default()))?,
        },
        family => write!(f, "family {family}")?,
    }
    Ok(true)
}

/// The command of `fcntl` and its argument, where that is a `struct flock`.
pub static FILE_LOCK: Group =
    Group { plain: &[("", Kind::Choice(FCNTL_COMMANDS)), ("", Kind::Hex)], write: write_file_lock, separator: ", " };

fn write_file_lock(writing: &Writing<'_>, first: usize, f: &mut fmt::Formatter<'_>) -> Result<bool, fmt::Error> {
    let command = writing.argument(first) as i32;
    if !matches!(command, libc::F_SETLK | libc::F_SETLKW | libc::F_OFD_SETLK | libc::F_OFD_SETLKW) {
        return Ok(false);
    }
    // struct flock: type i16, whence i16, 4 bytes of padding, start i64, len i64.
    let Some(lock) = writing.context.and_then(|context| read::<24>(writing.argument(first + 1), context)) else {
        return Ok(false);
    };
    write_choice(command, FCNTL_COMMANDS, f)?;
    f.write_str(", ")?;
    write_choice(half(&lock, 0).into(), LOCK_TYPES, f)?;
    write!(f, " from {} of ", long(&lock, 8))?;
    write_choice(half(&lock, 2).into(), WHENCE, f)?;
    match long(&lock, 16) {
        0 => f.write_str(" to the end")?,
        length => write!(f, " for {length} bytes")?,
    }
    Ok(true)
}

/// The operations of `semop`, and how many.
pub static SEMAPHORE_OPERATIONS: Group =
    Group { plain: &[("", Kind::Pointer), ("", Kind::Size)], write: write_semaphore_operations, separator: ", " };

fn write_semaphore_operations(
    writing: &Writing<'_>,
    first: usize,
    f: &mut fmt::Formatter<'_>,
) -> Result<bool, fmt::Error> {
    const SHOWN: usize = 4;
    // struct sembuf: num u16, op i16, flg i16.
    let mut buffer = [0; 6 * SHOWN];
    let count = writing.argument(first + 1);
    let length = 6 * count.min(SHOWN as u64) as usize;
    let (Some(context), Some(bytes)) = (writing.context, buffer.get_mut(..length)) else {
        return Ok(false);
    };
    if count == 0 || context.memory().read(writing.argument(first), bytes) != length {
        return Ok(false);
    }
    for (index, operation) in bytes.chunks_exact(6).enumerate() {
        let separator = if index == 0 { "" } else { ", " };
        write!(f, "{separator}semaphore {} {:+}", half(operation, 0) as u16, half(operation, 2))?;
        if half(operation, 4) != 0 {
            f.write_str(" ")?;
            write_flags(half(operation, 4).into(), SEMOP_FLAGS, f)?;
        }
    }
    if count > SHOWN as u64 {
        write!(f, ", and {} more", count - SHOWN as u64)?;
    }
    Ok(true)
}

/// The clock of `clock_nanosleep`, its flags and its time, relative or absolute.
pub static SLEEP: Group = Group {
    plain: &[("", Kind::Choice(CLOCKS)), ("", Kind::Flags(SLEEP_FLAGS)), ("", Kind::Pointer)],
    write: write_sleep,
    separator: ", ",
};

fn write_sleep(writing: &Writing<'_>, first: usize, f: &mut fmt::Formatter<'_>) -> Result<bool, fmt::Error> {
    let Some(context) = writing.context else {
        return Ok(false);
    };
    let (clock, flags) = (writing.argument(first) as i32, writing.argument(first + 1) as i32);
    let address = writing.argument(first + 2);
    write_choice(clock, CLOCKS, f)?;
    f.write_str(", ")?;
    write_flags(flags, SLEEP_FLAGS, f)?;
    f.write_str(", ")?;
    if flags & libc::TIMER_ABSTIME == 0 {
        time::write_relative(address, 1, context, f)?;
    } else {
        time::write_deadline(address, clock, context, f)?;
    }
    Ok(true)
}
