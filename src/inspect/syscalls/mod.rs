//! System calls by name, with their arguments decoded.
//!
//! Context: the observer. Two forms of one call: [`brief`], for the header of a stack, prints numbers,
//! pointers and named constants and looks nothing up; [`describe`], for `threads`, follows pointers
//! and names descriptors through a [`Context`].
//!
//! What is printed is what the argument registers hold and what memory holds *now*. Where memory
//! cannot be read the pointer itself is printed. A 64-bit process that calls through `int 0x80` uses
//! the numbers of another table, which the kernel does not tell: its call would be misnamed.
//!
//! `numbers` name the calls, `table` says what their arguments are, `values` print one argument, and
//! `futex`, `polling` and `structures` print those that only make sense together.

// The tests make system calls of their own.
#![cfg_attr(not(test), forbid(unsafe_code))]

mod constants;
mod context;
mod counts;
mod futex;
pub mod numbers;
mod polling;
mod signature;
mod structures;
mod table;
#[cfg(test)]
mod tests;
mod time;
mod values;

use std::fmt;

use crate::stack::Call;

pub use constants::{CLOCKS, SIGNALS};
pub use context::{Context, ThreadContext};
pub use numbers::name;
pub use time::Span;
pub use values::{OpenFlags, write_choice, write_flags};

pub use signature::Names;
use signature::{Argument, Kind, Writing};

/// `call` with its constants named, nothing looked up: `futex(0x7f0c5c, FUTEX_WAIT_PRIVATE, 2, NULL)`.
pub fn brief(call: &Call) -> impl fmt::Display {
    Described { call: *call, context: None }
}

/// `call` with descriptors, timeouts and structures decoded through `context`:
/// `epoll_wait(fd 5 anon_inode:[eventpoll], events=0x7f0c5c, max=10128, timeout=100 ms)`.
pub fn describe<'a>(call: &Call, context: &'a dyn Context) -> impl fmt::Display + 'a {
    Described { call: *call, context: Some(context) }
}

struct Described<'a> {
    call: Call,
    context: Option<&'a dyn Context>,
}

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.call.number;
        if number < 0 {
            return f.write_str("none");
        }
        let arguments = &self.call.arguments;
        let Some(name) = name(number) else {
            write!(f, "syscall_{number}(")?;
            return write_plain(arguments, f);
        };
        write!(f, "{name}(")?;
        match signature::find(name) {
            Some(signature) => write_known(signature, &Writing { arguments, context: self.context }, f),
            None => write_plain(arguments.get(..counts::of(name)).unwrap_or(arguments), f),
        }
    }
}

fn write_plain(arguments: &[u64], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (index, argument) in arguments.iter().enumerate() {
        write!(f, "{}{argument:#x}", if index == 0 { "" } else { ", " })?;
    }
    f.write_str(")")
}

fn write_known(signature: &[Argument], writing: &Writing<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut next = 0;
    let mut separator = "";
    for &(label, kind) in signature {
        if let Kind::Group(group) = kind {
            f.write_str(separator)?;
            separator = ", ";
            match (group.write)(writing, next, f)? {
                true => separator = group.separator,
                false => write_each(group.plain, next, &mut "", writing, f)?,
            }
            next += group.plain.len();
        } else {
            write_each(&[(label, kind)], next, &mut separator, writing, f)?;
            next += 1;
        }
    }
    f.write_str(")")
}

/// Writes `pieces` for the arguments from number `first` on.
fn write_each(
    pieces: &[Argument],
    first: usize,
    separator: &mut &str,
    writing: &Writing<'_>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    for (index, (label, kind)) in (first..).zip(pieces) {
        f.write_str(separator)?;
        *separator = ", ";
        if !label.is_empty() && writing.context.is_some() {
            write!(f, "{label}=")?;
        }
        values::write(*kind, writing.argument(index), writing.context, f)?;
    }
    Ok(())
}
