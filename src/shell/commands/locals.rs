//! `locals`: the operator's names, and where each leads.

#![forbid(unsafe_code)]

use super::{fail, no_arguments};
use crate::inspect::strings::Escaped;
use crate::protocol::Status;
use crate::shell::address::Evaluation;
use crate::shell::place::symbol;
use crate::shell::{Command, Job, Step, World};

pub const COMMAND: Command = Command {
    name: "locals",
    synopsis: "",
    summary: "List the operator's names: value as given, address, symbol and module.",
    help: "Names come from the option locals, as in MANHOLE='locals={\"cfg\": \"&global_config\", \"log\": 0x7f00}'.\n\
           A name stands wherever a command takes an address: x/8xg cfg, sym *cfg+8. A value that begins with &\n\
           is a symbol, looked up when it is used; any other text that does not begin with 0x is only a note.\n\
           The application's own come from manhole_register_variable(); they have a size.",
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
    fn step(&mut self, world: &mut World, out: &mut Vec<u8>) -> Step {
        let Some(local) = world.names.get(self.next).cloned() else {
            if world.names.is_empty() {
                out.extend_from_slice(b"no names: neither the option locals nor the application gives any\n");
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
        let place = match result {
            Ok(address) => {
                world.symbolizer.resolve(&world.modules, &[address]);
                let module = world.modules.find(address).map(|module| format!(" ({})", Escaped(module.name())));
                let symbol = symbol(world, address).map(|symbol| format!(" {symbol}")).unwrap_or_default();
                format!("{address:#018x}{symbol}{}", module.unwrap_or_default())
            }
            Err(error) => format!("- {error}"),
        };
        out.extend_from_slice(format!("{:<15} {:<24} {place}\n", local.name, local.value.to_string()).as_bytes());
        (self.next, self.at_work) = (self.next + 1, None);
        Step::More
    }
}
