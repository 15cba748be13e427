//! `call`: a function of the application, called as its own code would.
//!
//! The observer finds out what the names mean; the actor calls, under a guard (`stack::capture::guard`).

#![forbid(unsafe_code)]

mod expression;
mod result;

use std::ffi::CString;
use std::sync::Arc;

use super::fail;
use crate::config::level::Level;
use crate::inspect::mappings;
use crate::protocol::Status;
use crate::shell::address::Evaluation;
use crate::shell::crash::Crashed;
use crate::shell::errand::{Errand, Guarding};
use crate::shell::output::{self, Output};
use crate::shell::spool::Writer;
use crate::shell::units::Format;
use crate::shell::{Command, Job, Step, World, stack_record};
use crate::sys::call::Returned;
use crate::sys::futex::Guarded;
use crate::sys::{application, diverted, loader};
use expression::{Argument, Expression};
pub use result::Outcome;

pub const COMMAND: Command = Command {
    name: "call",
    level: Level::Admin,
    synopsis: "[/FORMAT] [--stdout] [--unguarded] FUNCTION([ARGUMENT, ...])",
    summary: "Call a function of the application.",
    help: "call getpid()                        the result as hexadecimal, long and int\n\
           call/d strcmp(\"a\", \"b\")              as a signed int; /u unsigned, /c char, /dg a long, /db a byte\n\
           call/s getenv(\"HOME\")                as the string that it points to; /a as a pointer with its symbol\n\
           call/f sqrt(2.0)                     as a double; /fw as a float\n\
           call set_level(&config, 3, 0.5f)     addresses, integers (1, -1, 0x1f, 'c'), float and double\n\
           call (*hooks+8)(1)                   through a pointer\n\
           call --stdout dump_state()           what it prints is shown here, too\n\n\
           FORMAT is a letter and a size as of x. FUNCTION and addresses are written as for x; names are what they are\n\
           to the application, its indirect functions resolved. Nobody checks the types: a number with a point is a double,\n\
           with an f behind it a float. A string's memory is never given back, so that the callee may keep it; it must not\n\
           free it. errno is 0 before the call, and shown if it is not afterwards.\n\n\
           The function runs on the thread \"Manhole actor\", with a stack of 2 MB and most signals blocked. What it prints\n\
           goes where the application's output goes; standard error is shown here, too, as always. With --stdout so is the\n\
           standard output: descriptor 1 is a file in memory meanwhile, and what stands there when the function is done\n\
           goes here and then to where it belongs. That holds back what other threads print, too, as long as the function\n\
           runs: it grows in memory, and is lost if the process ends before. One that hangs can be left, and is seen with\n\
           stacks.\n\n\
           One that crashes (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, abort, a C++ exception that nobody catches,\n\
           pthread_exit) is abandoned where it stands, its stack is shown, and the process lives on; no signal handler runs\n\
           and none is replaced. But what it had locked stays locked, and what it had half done stays so: after a crash\n\
           inside malloc, for example, the application hangs at its next malloc. The guard is a process, \"Manhole guard\",\n\
           that traces the actor meanwhile, so no debugger can: kill -9 ends it, and the call goes on unguarded. Where\n\
           tracing is refused, --unguarded calls without. A SIGSEGV that the application handles on purpose (a virtual\n\
           machine's) counts as a crash here. The stack is shown down to what the manhole called.",
    schemas: &[Outcome::schema, output::Text::schema, Crashed::schema, stack_record::Stack::schema],
    start: |words| {
        let (format, mut words) = match words.split_first() {
            Some((first, rest)) if first.starts_with('/') => {
                let format = Format::parse(first.trim_start_matches('/'))?;
                if format.count != 1 {
                    return Err("a function has one result".to_owned());
                }
                (Some(format), rest)
            }
            _ => (None, words),
        };
        let (mut guarding, mut shows_stdout) = (Guarding::Always, false);
        while let Some((first, rest)) = words.split_first().filter(|(first, _)| first.starts_with("--")) {
            match first.as_str() {
                UNGUARDED => guarding = Guarding::Never,
                STDOUT => shows_stdout = true,
                _ => return Err(format!("unknown option {first}")),
            }
            words = rest;
        }
        let Expression { function, arguments } = Expression::parse(&words.join(" "))?;
        let (arguments, words) = (arguments.into_iter(), Vec::new());
        Ok(Box::new(Call {
            format,
            guarding,
            shows_stdout,
            text: function.text().to_owned(),
            stage: Stage::Looking { function, arguments, words },
        }))
    },
};

/// Go without a guard.
pub const UNGUARDED: &str = "--unguarded";

/// Show what is printed.
const STDOUT: &str = "--stdout";

struct Call {
    format: Option<Format>,
    guarding: Guarding,
    /// What is printed meanwhile is shown.
    shows_stdout: bool,
    /// The function as it was written.
    text: String,
    stage: Stage,
}

enum Stage {
    Looking {
        function: Evaluation,
        arguments: std::vec::IntoIter<Argument>,
        words: Vec<Word>,
    },
    /// What is evaluated, and what comes after that; the function comes first.
    Evaluating {
        now: Evaluation,
        arguments: std::vec::IntoIter<Argument>,
        words: Vec<Word>,
    },
    Running {
        errand: Errand,
        returned: Arc<Guarded<Option<(u64, Returned)>>>,
    },
}

/// What is passed, or called.
enum Word {
    General(u64),
    Float(u64),
    /// A string, given away for good.
    Text(Vec<u8>),
    /// An indirect function: its name and its module's file.
    Indirect(String, Vec<u8>),
}

impl Word {
    fn of(evaluation: &Evaluation, address: u64) -> Self {
        match evaluation.indirect() {
            Some((name, path)) => Self::Indirect(name.clone(), path.clone()),
            None => Self::General(address),
        }
    }

    /// On the actor: the number that is passed.
    fn resolve(self) -> Result<u64, String> {
        match self {
            Self::General(value) | Self::Float(value) => Ok(value),
            Self::Text(bytes) => Ok(bytes.leak().as_ptr().addr() as u64),
            Self::Indirect(name, path) => chosen(&name, path),
        }
    }
}

/// On the actor: the function that calls of an indirect one reach.
fn chosen(name: &str, path: Vec<u8>) -> Result<u64, String> {
    let nul = |_| format!("{name}: a NUL byte in a name");
    let (symbol, path) = (CString::new(name).map_err(nul)?, CString::new(path).map_err(nul)?);
    let module = loader::Module::loaded(&path).and_then(|module| module.symbol(&symbol));
    let address = module.or_else(|| loader::symbol(&symbol));
    let why =
        || format!("{name} is an indirect function, and the loader does not say which one is called by that name");
    address.map(|address| address as u64).ok_or_else(why)
}

impl Call {
    /// Takes the next argument; hands over when there is none.
    fn next(&mut self, mut arguments: std::vec::IntoIter<Argument>, mut words: Vec<Word>) -> Step {
        for argument in arguments.by_ref() {
            words.push(match argument {
                Argument::General(value) => Word::General(value),
                Argument::Float(bits) => Word::Float(bits),
                Argument::Text(bytes) => Word::Text(bytes),
                Argument::Address(now) => {
                    self.stage = Stage::Evaluating { now, arguments, words };
                    return Step::More;
                }
            });
        }
        let returned = Arc::new(Guarded::new(None));
        let shared = returned.clone();
        let shows_stdout = self.shows_stdout;
        let work = move |_: &Writer| {
            let mut words = words.into_iter();
            let function = words.next().ok_or("no function")?.resolve()?;
            let (mut general, mut floats) = (Vec::new(), Vec::new());
            for word in words {
                let to = if matches!(word, Word::Float(_)) { &mut floats } else { &mut general };
                to.push(word.resolve()?);
            }
            let returned = application::call(function, &general, &floats);
            shared.with(|shared| *shared = Some((function, returned)));
            if shows_stdout {
                diverted::flush();
            }
            Ok(())
        };
        let name = format!("call {}", self.text);
        let errand = match shows_stdout {
            false => Errand::guarded(name, self.guarding, work),
            true => with_stdout(name, self.guarding, work),
        };
        self.stage = Stage::Running { errand, returned };
        Step::More
    }
}

/// A call whose standard output is shown. It is put back even if the call crashes; one that hangs keeps it.
fn with_stdout(
    name: String,
    guarding: Guarding,
    work: impl FnOnce(&Writer) -> Result<(), String> + Send + 'static,
) -> Errand {
    let work = move |writer: &Writer| {
        // What was printed before is not the function's.
        diverted::flush();
        diverted::begin().map_err(|error| format!("cannot hold descriptor 1: {}", error.desc()))?;
        work(writer)
    };
    Errand::surrounded(name, guarding, work, |writer, run| {
        let ended = run(writer);
        // The client may be gone: the application's output is not.
        diverted::end(|piece| {
            let _ = writer.write(piece);
        });
        ended
    })
}

/// Refuses what is no code.
fn check_function(address: u64, text: &str) -> Result<(), String> {
    // The child would come back in our frames, in memory that it shares with the parent, and end both.
    if text.rsplit(':').next().is_some_and(|name| matches!(name, "vfork" | "__vfork")) {
        return Err(format!("{text} cannot be called from here: its child must not return; fork can"));
    }
    let at = mappings::around(address).map_err(|error| format!("cannot read /proc/self/maps: {}", error.desc()))?.at;
    match at {
        Some(at) if at.is_executable() => Ok(()),
        Some(at) => {
            Err(format!("{text} is no function: {address:#x} is {}, which cannot be executed", at.describe(address)))
        }
        None => Err(format!("{text} is no function: {address:#x} is {}", mappings::why_unreadable(address))),
    }
}

impl Job for Call {
    fn step(&mut self, world: &mut World, out: &mut Output) -> Step {
        let stage = std::mem::replace(
            &mut self.stage,
            Stage::Evaluating {
                now: match Evaluation::new("0") {
                    Ok(nothing) => nothing,
                    Err(error) => return fail(out, &error),
                },
                arguments: Vec::new().into_iter(),
                words: Vec::new(),
            },
        );
        match stage {
            Stage::Looking { function, arguments, words } => {
                if let Err(error) = world.look() {
                    return fail(out, &error);
                }
                self.stage = Stage::Evaluating { now: function, arguments, words };
                Step::More
            }
            Stage::Evaluating { mut now, arguments, mut words } => match now.step(&world.names, &world.modules) {
                None => {
                    self.stage = Stage::Evaluating { now, arguments, words };
                    Step::More
                }
                Some(Err(error)) => fail(out, &error),
                Some(Ok(address)) => {
                    if words.is_empty()
                        && let Err(error) = check_function(address, &self.text)
                    {
                        return fail(out, &error);
                    }
                    words.push(Word::of(&now, address));
                    self.next(arguments, words)
                }
            },
            Stage::Running { mut errand, returned } => {
                let step = errand.step(world, out);
                if let Step::Done(Status::Success) = step
                    && let Some((function, returned)) = returned.with(|returned| returned.take())
                {
                    out.put(&Outcome::new(&self.text, function, &returned, self.format, world));
                }
                self.stage = Stage::Running { errand, returned };
                step
            }
        }
    }

    fn interrupt(&mut self, world: &mut World, out: &mut Output) {
        match &mut self.stage {
            Stage::Running { errand, .. } => errand.interrupt(world, out),
            _ => out.fail("interrupted"),
        }
    }
}
