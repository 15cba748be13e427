//! An address in words.
//!
//! Context: the observer.

#![forbid(unsafe_code)]

use super::World;
use crate::inspect::strings::Escaped;

/// `SYMBOL+0xOFFSET` of what covers `address`, which the symbolizer has resolved; `SYMBOL` at its very start.
pub fn symbol(world: &World, address: u64) -> Option<String> {
    let (name, offset) = name(world, address)?;
    Some(if offset == 0 { name } else { format!("{name}+{offset:#x}") })
}

/// ` <SYMBOL+OFFSET>` as gdb has it, with a decimal offset; nothing where no symbol covers `address`.
pub fn angled(world: &World, address: u64) -> String {
    match name(world, address) {
        Some((name, 0)) => format!(" <{name}>"),
        Some((name, offset)) => format!(" <{name}+{offset}>"),
        None => String::new(),
    }
}

/// The function that was compiled there, or the data.
fn name(world: &World, address: u64) -> Option<(String, u64)> {
    let frame = world.symbolizer.lookup(&world.modules, address).last()?;
    Some((Escaped(frame.function.as_ref()?.as_bytes()).to_string(), frame.offset?))
}
