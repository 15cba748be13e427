//! `options`: each option, its value, and where that came from.

#![forbid(unsafe_code)]

use super::{no_arguments, once};
use crate::config::level::Level;
use crate::config::{OPTIONS, VARIABLE};
use crate::record;
use crate::shell::Command;
use crate::shell::record::Line;

pub const COMMAND: Command = Command {
    name: "options",
    level: Level::Observe,
    synopsis: "",
    summary: "Show every option, its value and where the value came from.",
    help: "Options are set at the start of the process, in the environment variable MANHOLE:\n    MANHOLE='max_frames=200,verbose=False' LD_PRELOAD=libmanhole.so ./app",
    schemas: &[Setting::schema],
    start: |arguments| {
        no_arguments(arguments)?;
        Ok(once(|world, out| {
            for option in OPTIONS {
                let given = world.manhole.config.given(option.name);
                out.put(&Setting {
                    name: option.name,
                    value: given.unwrap_or(option.default).to_owned(),
                    source: if given.is_some() { VARIABLE } else { "default" },
                    help: option.help,
                    expects: option.expects,
                });
            }
            Ok(())
        }))
    },
};

record! {
    /// An option.
    struct Setting as "option" {
        /// Its name.
        name: &'static str,
        /// Its value, as it was spelt.
        value: String,
        /// MANHOLE (the environment, or the option string of the C interface) or default.
        source: &'static str,
        /// What it does.
        help: &'static str,
        /// What values it takes.
        expects: &'static str,
    }
}

impl Line for Setting {
    fn line(&self, out: &mut Vec<u8>) {
        let Self { name, value, source, help, .. } = self;
        out.extend_from_slice(format!("{name:<20} {value:<24} {source:<8} {help}\n").as_bytes());
    }
}
