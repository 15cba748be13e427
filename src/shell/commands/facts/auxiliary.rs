//! `auxv`: what the kernel told the loader at the start.

#![forbid(unsafe_code)]

use super::{application_thread, no_arguments, once, readable};
use crate::config::level::Level;
use crate::inspect::auxiliary::{self, Form};
use crate::inspect::environment;
use crate::inspect::strings::Escaped;
use crate::record;
use crate::shell::Command;
use crate::shell::json::{Bytes, Hex};
use crate::shell::place::angled;
use crate::shell::record::Line;
use crate::sys::memory::Live;

pub const COMMAND: Command = Command {
    name: "auxv",
    level: Level::Observe,
    synopsis: "",
    summary: "Show the auxiliary vector, decoded: entry point, page size, hardware capabilities, ids, AT_SECURE.",
    help: "The vector is the kernel's word to the loader at the start of the program (man 3 getauxval). AT_RANDOM shows\n\
           where the sixteen random bytes are, and not what they are.",
    schemas: &[Entry::schema],
    start: |arguments| {
        no_arguments(arguments)?;
        Ok(once(|world, out| {
            world.look()?;
            let tid = application_thread(world)?;
            let entries = readable(|| auxiliary::read(tid))
                .map_err(|error| format!("cannot read /proc/self/auxv: {}", error.desc()))?;
            let addresses = entries.iter().filter(|entry| entry.form() == Form::Address).map(|entry| entry.value);
            world.symbolizer.resolve(&world.modules, &addresses.collect::<Vec<_>>());
            for entry in entries {
                let form = entry.form();
                let string = (form == Form::String).then(|| environment::string(&Live, entry.value, 4096).0);
                let symbol = if form == Form::Address { angled(world, entry.value) } else { String::new() };
                out.put(&Entry {
                    name: entry.name(),
                    number: entry.number,
                    value: Hex(entry.value),
                    count: (form == Form::Number).then_some(entry.value),
                    string: string.map(Bytes),
                    symbol: symbol.trim().to_owned(),
                });
            }
            Ok(())
        }))
    },
};

record! {
    /// An entry of the auxiliary vector.
    struct Entry as "auxv" {
        /// AT_…; null for one that is not known here.
        name: Option<&'static str>,
        /// Its number.
        number: u64,
        /// Its value.
        value: Hex,
        /// The value of a count, a size or an id.
        count: Option<u64>,
        /// What a string's address points to.
        string: Option<Bytes>,
        /// `<SYMBOL+OFFSET>` of what an address points to, or nothing.
        symbol: String,
    }
}

impl Line for Entry {
    fn line(&self, out: &mut Vec<u8>) {
        let name = self.name.map_or_else(|| format!("{}", self.number), str::to_owned);
        let value = match (&self.string, self.count) {
            (Some(string), _) => format!("\"{}\"", Escaped(&string.0)),
            (None, Some(count)) => count.to_string(),
            (None, None) => format!("{:#x} {}", self.value.0, self.symbol),
        };
        out.extend_from_slice(format!("{name:<22} {}\n", value.trim_end()).as_bytes());
    }
}
