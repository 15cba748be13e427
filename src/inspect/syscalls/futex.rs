//! The arguments of the futex calls, which depend on the operation (man 2 futex).

use std::fmt;

use super::constants::{CLOCKS, FUTEX2_FLAGS};
use super::context::Context;
use super::signature::{Group, Kind, Writing};
use super::structures::{long, read, word};
use super::time::{write_deadline, write_relative};
use super::values::{write_choice, write_flags, write_futex_operation, write_pointer};

/// `futex(word, operation, value, timeout, word2, value3)`.
pub static FUTEX: Group = Group {
    plain: &[("", Kind::Pointer), ("", Kind::FutexOperation), ("", Kind::Int), ("", Kind::Pointer)],
    write: write_futex,
    separator: ", ",
};

fn write_futex(writing: &Writing<'_>, first: usize, f: &mut fmt::Formatter<'_>) -> Result<bool, fmt::Error> {
    let Some(context) = writing.context else {
        return Ok(false);
    };
    let argument = |index| writing.argument(first + index);
    let operation = argument(1) as i32;
    let clock = match operation & libc::FUTEX_CLOCK_REALTIME {
        0 => libc::CLOCK_MONOTONIC,
        _ => libc::CLOCK_REALTIME,
    };
    let command = operation & libc::FUTEX_CMD_MASK;
    if !matches!(
        command,
        libc::FUTEX_WAIT
            | libc::FUTEX_WAIT_BITSET
            | libc::FUTEX_WAIT_REQUEUE_PI
            | libc::FUTEX_LOCK_PI
            | libc::FUTEX_LOCK_PI2
    ) {
        return Ok(false);
    }
    write_word(argument(0), context, f)?;
    f.write_str(", ")?;
    write_futex_operation(operation, f)?;
    f.write_str(", ")?;
    match command {
        libc::FUTEX_WAIT => {
            write!(f, "{}, timeout=", argument(2) as u32)?;
            write_relative(argument(3), 1, context, f)?;
        }
        libc::FUTEX_LOCK_PI | libc::FUTEX_LOCK_PI2 => {
            if context.word().is_none() {
                write_owner(argument(0), context, f)?;
            }
            // FUTEX_LOCK_PI has no flag for its clock: it is CLOCK_REALTIME.
            let clock = if command == libc::FUTEX_LOCK_PI { libc::CLOCK_REALTIME } else { clock };
            write_deadline(argument(3), clock, context, f)?;
        }
        _ => {
            write!(f, "{}, ", argument(2) as u32)?;
            write_deadline(argument(3), clock, context, f)?;
        }
    }
    match (command, argument(5) as u32) {
        (libc::FUTEX_WAIT_REQUEUE_PI, _) => write!(f, ", requeue to {:#x}", argument(4))?,
        (libc::FUTEX_WAIT_BITSET, bits) if bits != u32::MAX => write!(f, ", bits {bits:#x}")?,
        _ => {}
    }
    Ok(true)
}

/// Writes the word's address and what is known of it.
fn write_word(address: u64, context: &dyn Context, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write_pointer(address, f)?;
    context.word().map_or(Ok(()), |word| write!(f, " {word}"))
}

/// The word of a priority-inheriting lock holds its owner's thread id.
fn write_owner(address: u64, context: &dyn Context, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match read::<4>(address, context).map(|bytes| u32::from_le_bytes(bytes) & libc::FUTEX_TID_MASK) {
        Some(owner) if owner != 0 => write!(f, "held by thread {owner}, "),
        _ => Ok(()),
    }
}

/// `futex_waitv(waiters, count, flags, timeout, clock)`; the timeout is absolute.
pub static FUTEX_VECTOR: Group = Group {
    plain: &[("", Kind::Pointer), ("", Kind::Int), ("", Kind::Hex), ("", Kind::Pointer), ("", Kind::Choice(CLOCKS))],
    write: write_futex_vector,
    separator: ", ",
};

fn write_futex_vector(writing: &Writing<'_>, first: usize, f: &mut fmt::Formatter<'_>) -> Result<bool, fmt::Error> {
    const SHOWN: usize = 8;
    // struct futex_waitv: val u64, uaddr u64, flags u32, reserved u32.
    let mut buffer = [0; 24 * SHOWN];
    let argument = |index| writing.argument(first + index);
    let count = u64::from(argument(1) as u32);
    let length = 24 * count.min(SHOWN as u64) as usize;
    let (Some(context), Some(bytes)) = (writing.context, buffer.get_mut(..length)) else {
        return Ok(false);
    };
    if count == 0 || context.memory().read(argument(0), bytes) != length {
        return Ok(false);
    }
    write!(f, "{count} word{}", if count == 1 { "" } else { "s" })?;
    for (index, waiter) in bytes.chunks_exact(24).enumerate() {
        write!(f, "{} {:#x} ", if index == 0 { ":" } else { "," }, long(waiter, 8))?;
        write_flags(word(waiter, 16), FUTEX2_FLAGS, f)?;
        write!(f, " {}", long(waiter, 0) as u64)?;
    }
    if count > SHOWN as u64 {
        write!(f, ", and {} more", count - SHOWN as u64)?;
    }
    f.write_str("; ")?;
    write_deadline(argument(3), argument(4) as i32, context, f)?;
    Ok(true)
}

/// `futex_wait(word, value, mask, flags, timeout, clock)`; the timeout is absolute.
pub static FUTEX_WAIT: Group = Group {
    plain: &[
        ("", Kind::Pointer),
        ("", Kind::Size),
        ("", Kind::Hex),
        ("", Kind::Flags(FUTEX2_FLAGS)),
        ("", Kind::Pointer),
        ("", Kind::Choice(CLOCKS)),
    ],
    write: write_futex_wait,
    separator: ", ",
};

fn write_futex_wait(writing: &Writing<'_>, first: usize, f: &mut fmt::Formatter<'_>) -> Result<bool, fmt::Error> {
    let Some(context) = writing.context else {
        return Ok(false);
    };
    let argument = |index| writing.argument(first + index);
    write_word(argument(0), context, f)?;
    write!(f, ", {}, mask={:#x}, ", argument(1), argument(2))?;
    write_flags(argument(3) as i32, FUTEX2_FLAGS, f)?;
    f.write_str(", ")?;
    write_choice(argument(5) as i32, CLOCKS, f)?;
    f.write_str(", ")?;
    write_deadline(argument(4), argument(5) as i32, context, f)?;
    Ok(true)
}
