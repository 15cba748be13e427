//! `load`: a shared object, into the application.
//!
//! The actor has the loader do it: that runs the constructors of what is loaded.

#![forbid(unsafe_code)]

use std::ffi::CString;

use super::call::{Outcome, UNGUARDED};
use crate::config::level::Level;
use crate::record;
use crate::shell::Command;
use crate::shell::crash::Crashed;
use crate::shell::errand::{Errand, Guarding};
use crate::shell::json::{Bytes, Hex};
use crate::shell::parse::Arguments;
use crate::shell::record::Line;
use crate::shell::stack_record::Stack;
use crate::sys::{application, loader};

pub const COMMAND: Command = Command {
    name: "load",
    level: Level::Admin,
    synopsis: "PATH [SYMBOL] [--unguarded]",
    summary: "Load a shared object into the application.",
    help: "load /opt/plugins/stats.so             dlopen(PATH, RTLD_NOW | RTLD_LOCAL): its constructors run\n\
           load /opt/plugins/stats.so start       and then its function start, without arguments\n\n\
           PATH is absolute: the application's working folder is not yours. What is loaded stays; a plugin that registers\n\
           commands by manhole.h has them listed by help at once. A crash of a constructor or of the function is survived\n\
           as that of a call; but the loader's lock is held while constructors run, and after a crash there it is held for\n\
           ever: every other thread hangs in its next dlopen, and some in their first use of a thread-local variable.",
    schemas: &[Loaded::schema, Outcome::schema, Crashed::schema, Stack::schema],
    start: |words| {
        let arguments = Arguments::parse(words, &[UNGUARDED], &[])?;
        let guarding = if arguments.has(UNGUARDED) { Guarding::Never } else { Guarding::Always };
        let (path, symbol) = match arguments.rest.as_slice() {
            [path] => (*path, None),
            [path, symbol] => (*path, Some(*symbol)),
            _ => return Err("takes a path and at most one symbol".to_owned()),
        };
        if !path.starts_with('/') {
            return Err(format!("{path:?} is no absolute path"));
        }
        let nul = |_| "a NUL byte in a name".to_owned();
        let path = CString::new(path).map_err(nul)?;
        let symbol = symbol.map(|symbol| CString::new(symbol).map_err(nul)).transpose()?;
        let what = format!("load {}", path.to_string_lossy());
        Ok(Box::new(Errand::guarded(what, guarding, move |writer| {
            let before = loader::Module::loaded(&path).is_some();
            let handle = application::open(&path)?;
            let module = loader::Module::from_address(handle);
            writer.put(Loaded { path: Bytes(path.as_bytes().to_vec()), handle: Hex(handle as u64), before });
            let Some(symbol) = symbol else { return Ok(()) };
            let Some(function) = module.symbol(&symbol) else { return Err(loader::error()) };
            let returned = application::call(function as u64, &[], &[]);
            writer.put(Outcome::plain(&symbol.to_string_lossy(), function as u64, &returned));
            Ok(())
        })))
    },
};

record! {
    /// A shared object was loaded.
    struct Loaded as "loaded" {
        /// Its file.
        path: Bytes,
        /// What dlopen returned.
        handle: Hex,
        /// It was loaded before.
        before: bool,
    }
}

impl Line for Loaded {
    fn line(&self, out: &mut Vec<u8>) {
        let before = if self.before { "was loaded before, and is used once more" } else { "loaded" };
        let path = crate::inspect::strings::Escaped(&self.path.0);
        out.extend_from_slice(format!("{path}: {before}, handle {:#x}\n", self.handle.0).as_bytes());
    }
}
