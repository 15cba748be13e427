//! Printing one argument.

use std::fmt;

use super::constants::{FUTEX_COMMANDS, OPEN_ACCESS, OPEN_FLAGS, SIGNALS};
use super::context::Context;
use super::signature::{Kind, Names};
use super::structures::read;
use super::time;
use crate::inspect::strings::Escaped;

/// The most of a path that is printed.
const PATH_BYTES: usize = 256;

/// Writes `value`, which is a `kind`. Without a context nothing is looked up.
pub fn write(kind: Kind, value: u64, context: Option<&dyn Context>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    // An `int` is the lower half of its register; the kernel ignores the upper (psABI, section 3.2.3).
    let int = value as i32;
    match (kind, context) {
        (Kind::Descriptor, Some(context)) => write_descriptor(int, context, f),
        (Kind::Folder, _) if int == libc::AT_FDCWD => f.write_str("AT_FDCWD"),
        (Kind::Folder, Some(context)) => write_descriptor(int, context, f),
        (Kind::Descriptor | Kind::Folder | Kind::Int, _) => write!(f, "{int}"),
        (Kind::Size, _) => write!(f, "{value}"),
        (Kind::Long, _) => write!(f, "{}", value as i64),
        (Kind::Hex, _) => write!(f, "{value:#x}"),
        (Kind::Mode, _) => write!(f, "0{:o}", value as u32),
        (Kind::Flags(names), _) => write_flags(int, names, f),
        (Kind::Choice(names), _) => write_choice(int, names, f),
        (Kind::OpenFlags, _) => write!(f, "{}", OpenFlags(int)),
        (Kind::FutexOperation, _) => write_futex_operation(int, f),
        (Kind::Signal, _) => write_choice(int, SIGNALS, f),
        (Kind::Millis, Some(_)) if int < 0 => f.write_str("infinite"),
        (Kind::Millis, Some(_)) => write!(f, "{int} ms"),
        (Kind::Millis, None) => write!(f, "{int}"),
        (Kind::Timespec, Some(context)) => time::write_relative(value, 1, context, f),
        (Kind::Timeval, Some(context)) => time::write_relative(value, 1000, context, f),
        (Kind::Deadline(clock), Some(context)) => time::write_deadline(value, clock, context, f),
        (Kind::Path, Some(context)) => write_path(value, context, f),
        (Kind::SignalSet, Some(context)) => write_signal_set(value, context, f),
        (
            Kind::Pointer
            | Kind::Timespec
            | Kind::Timeval
            | Kind::Deadline(_)
            | Kind::Path
            | Kind::SignalSet
            | Kind::Group(_),
            _,
        ) => write_pointer(value, f),
    }
}

/// Writes an address.
pub fn write_pointer(value: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if value == 0 { f.write_str("NULL") } else { write!(f, "{value:#x}") }
}

/// Writes a descriptor and what it refers to.
pub fn write_descriptor(number: i32, context: &dyn Context, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if number < 0 {
        return write!(f, "{number}");
    }
    write!(f, "fd {number}")?;
    context.write_descriptor(number, f)
}

/// Writes `value` by name, or as a number.
pub fn write_choice(value: i32, names: Names, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match names.iter().find(|name| name.0 as i32 == value) {
        Some((_, name)) => f.write_str(name),
        None => write!(f, "{value}"),
    }
}

/// Writes the bits of `value` by name, those without one in hexadecimal.
pub fn write_flags(value: i32, names: Names, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if value == 0 {
        return write_choice(0, names, f);
    }
    let mut rest = value as u32;
    let mut separator = "";
    for (bits, name) in names {
        let bits = *bits as u32;
        if bits != 0 && rest & bits == bits {
            write!(f, "{separator}{name}")?;
            rest &= !bits;
            separator = "|";
        }
    }
    if rest == 0 { Ok(()) } else { write!(f, "{separator}{rest:#x}") }
}

/// The flags of `open`, or of an open file: `O_RDWR|O_NONBLOCK`.
#[derive(Clone, Copy, Debug)]
pub struct OpenFlags(pub i32);

impl fmt::Display for OpenFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_choice(self.0 & libc::O_ACCMODE, OPEN_ACCESS, f)?;
        match self.0 & !libc::O_ACCMODE {
            0 => Ok(()),
            bits => {
                f.write_str("|")?;
                write_flags(bits, OPEN_FLAGS, f)
            }
        }
    }
}

/// Writes the operation of `futex`: `FUTEX_WAIT_BITSET_PRIVATE|FUTEX_CLOCK_REALTIME`.
pub fn write_futex_operation(value: i32, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write_choice(value & libc::FUTEX_CMD_MASK, FUTEX_COMMANDS, f)?;
    if value & libc::FUTEX_PRIVATE_FLAG != 0 {
        f.write_str("_PRIVATE")?;
    }
    if value & libc::FUTEX_CLOCK_REALTIME != 0 {
        f.write_str("|FUTEX_CLOCK_REALTIME")?;
    }
    Ok(())
}

/// Writes the NUL-terminated string at `address`, or the address when its end is not readable.
fn write_path(address: u64, context: &dyn Context, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut buffer = [0; PATH_BYTES];
    let count = context.memory().read(address, &mut buffer).min(PATH_BYTES);
    let bytes = buffer.get(..count).unwrap_or_default();
    match bytes.iter().position(|&byte| byte == 0) {
        Some(end) => write!(f, "\"{}\"", Escaped(bytes.get(..end).unwrap_or_default())),
        None if count == PATH_BYTES => write!(f, "\"{}\"...", Escaped(bytes)),
        None => write_pointer(address, f),
    }
}

/// Writes the set of signals at `address`, as what is missing when that is shorter.
fn write_signal_set(address: u64, context: &dyn Context, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(bytes) = read::<8>(address, context) else {
        return write_pointer(address, f);
    };
    let mut set = u64::from_le_bytes(bytes);
    if set.count_ones() > 32 {
        set = !set;
        f.write_str("all but ")?;
    }
    f.write_str("{")?;
    let mut separator = "";
    for signal in (1..=64).filter(|signal| set >> (signal - 1) & 1 == 1) {
        f.write_str(separator)?;
        write_choice(signal, SIGNALS, f)?;
        separator = " ";
    }
    f.write_str("}")
}
