//! The descriptors that `poll` and `select` wait for.

use std::fmt;

use super::constants::POLL_EVENTS;
use super::signature::{Group, Kind, Writing};
use super::structures::{half, word};
use super::values::write_flags;

/// How many descriptors of one call are listed.
const SHOWN: usize = 16;

/// The `struct pollfd` array of `poll` and its length: `3 fds: 3 POLLIN, 5 POLLIN|POLLOUT, 6 0`.
pub static POLL_DESCRIPTORS: Group =
    Group { plain: &[("", Kind::Pointer), ("", Kind::Size)], write: write_poll_descriptors, separator: "; " };

fn write_poll_descriptors(writing: &Writing<'_>, first: usize, f: &mut fmt::Formatter<'_>) -> Result<bool, fmt::Error> {
    let count = u64::from(writing.argument(first + 1) as u32);
    // struct pollfd: fd i32, events i16, revents i16.
    let mut buffer = [0; 8 * SHOWN];
    let length = 8 * count.min(SHOWN as u64) as usize;
    let (Some(context), Some(bytes)) = (writing.context, buffer.get_mut(..length)) else {
        return Ok(false);
    };
    if count > 0 && context.memory().read(writing.argument(first), bytes) != length {
        return Ok(false);
    }
    write!(f, "{count} fd{}", if count == 1 { "" } else { "s" })?;
    for (index, entry) in bytes.chunks_exact(8).enumerate() {
        write!(f, "{} {} ", if index == 0 { ":" } else { "," }, word(entry, 0))?;
        write_flags(i32::from(half(entry, 4) as u16), POLL_EVENTS, f)?;
    }
    write_more(count, SHOWN, f)?;
    Ok(true)
}

/// The limit and the three sets of `select`: `read: 3 5, write: 7`.
pub static SELECT_DESCRIPTORS: Group = Group {
    plain: &[("", Kind::Int), ("", Kind::Pointer), ("", Kind::Pointer), ("", Kind::Pointer)],
    write: write_select_descriptors,
    separator: "; ",
};

/// The bytes of a set that are looked at: as many as glibc's `fd_set` has.
const SET_BYTES: usize = 128;

fn write_select_descriptors(
    writing: &Writing<'_>,
    first: usize,
    f: &mut fmt::Formatter<'_>,
) -> Result<bool, fmt::Error> {
    let Some(context) = writing.context else {
        return Ok(false);
    };
    // Of a set the kernel reads as many whole longs as hold the descriptors below the limit.
    let limit = usize::try_from(writing.argument(first) as i32).unwrap_or_default();
    let length = limit.div_ceil(64) * 8;
    let mut sets = [[0; SET_BYTES]; 3];
    for (index, set) in sets.iter_mut().enumerate() {
        let address = writing.argument(first + 1 + index);
        let Some(bytes) = set.get_mut(..length) else {
            return Ok(false);
        };
        if address != 0 && context.memory().read(address, bytes) != length {
            return Ok(false);
        }
    }
    let mut separator = "";
    for (set, name) in sets.iter().zip(["read", "write", "except"]) {
        let is_set = |descriptor: &usize| set.get(descriptor / 8).is_some_and(|byte| byte >> (descriptor % 8) & 1 == 1);
        let members = || (0..limit).filter(is_set);
        let count = members().count();
        if count > 0 {
            write!(f, "{separator}{name}:")?;
            members().take(SHOWN).try_for_each(|descriptor| write!(f, " {descriptor}"))?;
            write_more(count as u64, SHOWN, f)?;
            separator = ", ";
        }
    }
    f.write_str(if separator.is_empty() { "0 fds" } else { "" })?;
    Ok(true)
}

fn write_more(count: u64, shown: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match count.saturating_sub(shown as u64) {
        0 => Ok(()),
        more => write!(f, ", and {more} more"),
    }
}
