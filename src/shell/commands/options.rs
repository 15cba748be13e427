//! `options`: each option, its value, and where that came from.

#![forbid(unsafe_code)]

use std::fmt::Write;

use super::{no_arguments, once};
use crate::config::{OPTIONS, VARIABLE};
use crate::shell::Command;

pub const COMMAND: Command = Command {
    name: "options",
    synopsis: "",
    summary: "Show every option, its value and where the value came from.",
    help: "Options are set at the start of the process, in the environment variable MANHOLE:\n    MANHOLE='max_frames=200,verbose=False' LD_PRELOAD=libmanhole.so ./app",
    start: |arguments| {
        no_arguments(arguments)?;
        Ok(once(|world| {
            let mut text = String::new();
            for option in OPTIONS {
                let (value, source) = match world.manhole.config.given(option.name) {
                    Some(value) => (value, VARIABLE),
                    None => (option.default, "default"),
                };
                let _ = writeln!(text, "{:<20} {value:<24} {source:<8} {}", option.name, option.help);
            }
            Ok(text)
        }))
    },
};
