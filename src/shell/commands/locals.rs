//! `locals`: the operator's names, and where each leads.

#![forbid(unsafe_code)]

use super::{fail, no_arguments};
use crate::config::level::Level;
use crate::inspect::strings::Escaped;
use crate::protocol::Status;
use crate::record;
use crate::shell::address::Evaluation;
use crate::shell::json::{Bytes, Hex};
use crate::shell::output::Output;
use crate::shell::place::symbol;
use crate::shell::record::Line;
use crate::shell::{Command, Job, Step, World};

pub const COMMAND: Command = Command {
    name: "locals",
    level: Level::Observe,
    synopsis: "",
    summary: "List the operator's names: value as given, address, symbol and module.",
    help: "Names come from the option locals, as in MANHOLE='locals={\"cfg\": \"&global_config\", \"log\": 0x7f00}'.\n\
           A name stands wherever a command takes an address: x/8xg cfg, sym *cfg+8. A value that begins with &\n\
           is a symbol, looked up when it is used; any other text that does not begin with 0x is only a note.\n\
           The application's own come from manhole_register_variable(); they have a size.",
    schemas: &[Name::schema],
    start: |arguments| {
        no_arguments(arguments)?;
        Ok(Box::new(List { next: 0, at_work: None }))
    },
};

struct List {
    next: usize,
    at_work: Option<Evaluation>,
}

impl Job for List {
    fn step(&mut self, world: &mut World, out: &mut Output) -> Step {
        let Some(local) = world.names.get(self.next).cloned() else {
            if world.names.is_empty() {
                out.note("no names: neither the option locals nor the application gives any\n");
            }
            return Step::Done(Status::Success);
        };
        let Some(evaluation) = &mut self.at_work else {
            if self.next == 0
                && let Err(error) = world.look()
            {
                return fail(out, &error);
            }
            match Evaluation::new(&local.name) {
                Ok(evaluation) => self.at_work = Some(evaluation),
                Err(error) => return fail(out, &error),
            }
            return Step::More;
        };
        let Some(result) = evaluation.step(&world.names, &world.modules) else { return Step::More };
        let mut name = Name {
            name: local.name,
            value: local.value.to_string(),
            address: None,
            symbol: None,
            module: None,
            problem: None,
        };
        match result {
            Ok(address) => {
                world.symbolizer.resolve(&world.modules, &[address]);
                name.address = Some(Hex(address));
                name.symbol = symbol(world, address);
                name.module = world.modules.find(address).map(|module| Bytes(module.name().to_vec()));
            }
            Err(error) => name.problem = Some(error),
        }
        out.put(&name);
        (self.next, self.at_work) = (self.next + 1, None);
        Step::More
    }
}

record! {
    /// A name of the operator's or of the application's.
    struct Name as "local" {
        /// The name.
        name: String,
        /// What it was given as.
        value: String,
        /// The address that it leads to.
        address: Option<Hex>,
        /// The symbol that covers that, with offset.
        symbol: Option<String>,
        /// The module that it lies in.
        module: Option<Bytes>,
        /// Why it leads nowhere.
        problem: Option<String>,
    }
}

impl Line for Name {
    fn line(&self, out: &mut Vec<u8>) {
        let Self { name, value, .. } = self;
        let place = match self.address {
            Some(Hex(address)) => {
                let module = self.module.as_ref().map(|module| format!(" ({})", Escaped(&module.0)));
                let symbol = self.symbol.as_ref().map(|symbol| format!(" {symbol}"));
                format!("{address:#018x}{}{}", symbol.unwrap_or_default(), module.unwrap_or_default())
            }
            None => format!("- {}", self.problem.as_deref().unwrap_or_default()),
        };
        out.extend_from_slice(format!("{name:<15} {value:<24} {place}\n").as_bytes());
    }
}
