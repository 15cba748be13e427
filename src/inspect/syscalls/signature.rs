//! What the arguments of a system call are: the vocabulary of [`super::table`].

use std::fmt;

use super::context::Context;
use super::table::TABLE;

/// Names of values or of bits; where bits overlap, the wider name comes first.
pub type Names = &'static [(i64, &'static str)];

/// One argument: a label, printed in the full form only, and what it is.
pub type Argument = (&'static str, Kind);

/// What an argument is, and so how it is printed.
#[derive(Clone, Copy)]
pub enum Kind {
    /// A descriptor.
    Descriptor,
    /// The descriptor of a folder that a path starts at, or `AT_FDCWD`.
    Folder,
    /// An address.
    Pointer,
    /// A number of bytes, unsigned.
    Size,
    /// An `int`.
    Int,
    /// A signed 64-bit number.
    Long,
    /// Bits without names.
    Hex,
    /// Permission bits.
    Mode,
    /// Named bits of an `int`.
    Flags(Names),
    /// One of several named values of an `int`.
    Choice(Names),
    /// The flags of `open`: an access mode, and bits.
    OpenFlags,
    /// The operation of `futex`: a command, and bits.
    FutexOperation,
    /// A timeout in milliseconds, negative for none.
    Millis,
    /// The address of a relative `struct timespec`.
    Timespec,
    /// The address of a relative `struct timeval`.
    Timeval,
    /// The address of an absolute `struct timespec` on this clock.
    Deadline(i32),
    /// The address of a path.
    Path,
    /// A signal's number.
    Signal,
    /// The address of a set of signals (64 bits).
    SignalSet,
    /// Several arguments that are printed together.
    Group(&'static Group),
}

/// Arguments that only make sense together.
pub struct Group {
    /// How each is printed where the group is not decoded: in the brief form, or with its memory unreadable.
    pub plain: &'static [Argument],
    /// Writes the group whose first argument has this number. `Ok(false)`: not decoded, nothing written.
    pub write: fn(&Writing<'_>, usize, &mut fmt::Formatter<'_>) -> Result<bool, fmt::Error>,
    /// What stands between a decoded group and the next argument.
    pub separator: &'static str,
}

/// One call on its way to text.
pub struct Writing<'a> {
    /// The argument registers.
    pub arguments: &'a [u64; 6],
    /// Where pointers lead; `None` in the brief form.
    pub context: Option<&'a dyn Context>,
}

impl Writing<'_> {
    /// Argument `index`, 0 beyond the sixth.
    pub fn argument(&self, index: usize) -> u64 {
        self.arguments.get(index).copied().unwrap_or_default()
    }
}

/// The signature of the call named `name`, if the table has it.
pub fn find(name: &str) -> Option<&'static [Argument]> {
    let index = TABLE.binary_search_by_key(&name, |entry| entry.0).ok()?;
    TABLE.get(index).map(|entry| entry.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_sorted_and_no_signature_is_wider_than_six() {
        assert!(TABLE.is_sorted_by(|a, b| a.0 < b.0));
        for (name, signature) in TABLE {
            let width: usize = signature
                .iter()
                .map(|(_, kind)| match kind {
                    Kind::Group(group) => group.plain.len(),
                    _ => 1,
                })
                .sum();
            assert!(width <= 6, "{name}");
        }
    }
}
