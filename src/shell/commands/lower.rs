//! `drop`: a session gives rights away, or sees which it has.

#![forbid(unsafe_code)]

use super::once;
use crate::config::level::Level;
use crate::record;
use crate::shell::Command;
use crate::shell::record::Line;

pub const COMMAND: Command = Command {
    name: "drop",
    level: Level::Observe,
    synopsis: "[observe|operate|admin]",
    summary: "Lower what this session may do, for good; alone, show it.",
    help: "drop            what this session may do\ndrop observe    only look from now on\n\n\
           observe looks; operate also sends signals, changes priorities and limits, and runs the application's own\n\
           commands; admin also changes memory and descriptors, and calls functions. The option level= says with what\n\
           a session begins.",
    schemas: &[Lowered::schema],
    start: |arguments| {
        let level = match arguments {
            [] => None,
            [name] => Some(Level::parse(name).ok_or_else(|| format!("{name:?} is no level"))?),
            _ => return Err("takes one level".to_owned()),
        };
        Ok(once(move |world, out| {
            let level = level.unwrap_or(world.client.level);
            if level > world.client.level {
                return Err(format!(
                    "this session has the level {}, which cannot be raised",
                    world.client.level.name()
                ));
            }
            world.client.level = level;
            out.put(&Lowered { level: level.name() });
            Ok(())
        }))
    },
};

record! {
    /// The level of this session.
    struct Lowered as "level" {
        /// observe, operate or admin.
        level: &'static str,
    }
}

impl Line for Lowered {
    fn line(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("this session has the level {}\n", self.level).as_bytes());
    }
}
