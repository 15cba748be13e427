//! `signals`: what happens on each, and which each thread blocks or has waiting.

#![forbid(unsafe_code)]

use super::{application_thread, fail, ours};
use crate::config::level::Level;
use crate::config::literal::Value;
use crate::config::signals::{Name, number};
use crate::inspect::signals::{self, C_LIBRARYS, LAST};
use crate::inspect::strings::Escaped;
use crate::inspect::threads;
use crate::lifecycle::signals::before_ours;
use crate::protocol::Status;
use crate::record;
use crate::shell::json::{Bytes, Hex};
use crate::shell::output::Output;
use crate::shell::place;
use crate::shell::record::Line;
use crate::shell::{Command, Job, Step, World};
use crate::sys::procfs;
use crate::sys::signal::{self, Disposition};

pub const COMMAND: Command = Command {
    name: "signals",
    level: Level::Observe,
    synopsis: "[SIGNAL]",
    summary: "Show what the process does on each signal (handler, flags, mask), and what its threads block and have pending.",
    help: "signals           all: handlers, what is ignored, what has its default, masks of threads\n\
           signals TERM      one, by name or number: also who blocks it, and where it waits\n\n\
           The mask is what is blocked while the handler runs. A handler of the manhole's own (activate_on, oneshot_on)\n\
           is shown with what was there before it, which it passes on to. In text, threads that block nothing and have\n\
           nothing pending are only counted, and so is the manhole's pair, which blocks all.",
    schemas: &[Action::schema, Queue::schema, Masks::schema],
    start: |arguments| {
        let which = match arguments {
            [] => None,
            [word] => {
                let value = word.parse().map_or_else(|_| Value::Text(word.clone()), Value::Integer);
                Some(number(&value).ok_or_else(|| format!("{word:?} is no signal: TERM, SIGTERM, 15, RTMIN+3"))?)
            }
            _ => return Err("takes one signal".to_owned()),
        };
        Ok(Box::new(Show { which, threads: None, quiet: 0 }))
    },
};

/// Threads a step.
const BATCH: usize = 64;

struct Show {
    which: Option<i32>,
    threads: Option<std::vec::IntoIter<i32>>,
    /// Threads that had nothing to show.
    quiet: usize,
}

record! {
    /// What the process does on a signal.
    struct Action as "signal" {
        /// Its name.
        signal: String,
        /// Its number.
        number: i32,
        /// handler, ignore or default.
        action: &'static str,
        /// The handler's address.
        handler: Option<Hex>,
        /// The handler's function, as SYMBOL+OFFSET.
        symbol: Option<String>,
        /// The module that it lies in.
        module: Option<Bytes>,
        /// SA_ flags.
        flags: Vec<&'static str>,
        /// Signals that are blocked while it runs.
        mask: Vec<String>,
        /// The manhole's option that put its own handler before this one.
        hidden_by: Option<&'static str>,
    }
}

record! {
    /// What waits for the process as a whole.
    struct Queue as "signal_queue" {
        /// Signals that wait until a thread takes them.
        pending: Vec<String>,
        /// Signals that wait in queues of all processes of this user.
        queued: Option<u64>,
        /// How many may (RLIMIT_SIGPENDING).
        queue_limit: Option<u64>,
    }
}

record! {
    /// The masks of a thread.
    struct Masks as "signal_masks" {
        /// The thread.
        tid: i32,
        /// Its name.
        name: Bytes,
        /// It is the manhole's.
        is_manholes: bool,
        /// Signals that it blocks.
        blocked: Vec<String>,
        /// Signals that were sent to it alone and wait.
        pending: Vec<String>,
        /// What it blocks, in words.
        blocked_words: String,
    }
}

impl Show {
    /// The dispositions, and the process's queue.
    fn dispositions(&self, world: &mut World, out: &mut Output) -> Result<(), String> {
        world.look()?;
        let tid = application_thread(world)?;
        let wanted = (1..=LAST).filter(|number| self.which.is_none_or(|which| which == *number));
        let mut rows: Vec<(i32, Disposition, Option<&'static str>)> = Vec::new();
        for number in wanted {
            let Ok(found) = signal::disposition(number) else { continue };
            match before_ours(number, &found) {
                Some((option, before)) => rows.push((number, before, Some(option))),
                None => rows.push((number, found, None)),
            }
        }
        let handlers = rows.iter().filter(|(_, it, _)| it.is_handler()).map(|(_, it, _)| it.handler as u64);
        world.symbolizer.resolve(&world.modules, &handlers.collect::<Vec<_>>());
        let rows: Vec<Action> =
            rows.into_iter().map(|(number, found, hidden_by)| action(world, number, &found, hidden_by)).collect();
        let is_shown = |row: &&Action| self.which.is_some() || row.action == "handler" || row.hidden_by.is_some();
        if out.is_json() {
            rows.iter().for_each(|row| out.put(row));
        } else {
            rows.iter().filter(is_shown).for_each(|row| out.put(row));
            for (word, title) in [("ignore", "ignored"), ("default", "default")] {
                let rest = rows.iter().filter(|row| row.action == word && !is_shown(row));
                let names: Vec<&str> = rest.map(|row| row.signal.as_str()).collect();
                if !names.is_empty() {
                    out.note(format!("{title:<14} {}\n", ranges(&names)));
                }
            }
        }
        let masks = signals::masks(tid).map_err(|error| format!("cannot read /proc/self/status: {}", error.desc()))?;
        let pending = self.only(masks.process_pending);
        let (queued, queue_limit) = masks.queued.map_or((None, None), |(now, most)| (Some(now), Some(most)));
        out.put(&Queue { pending: signals::names(pending), queued, queue_limit });
        Ok(())
    }

    /// The part of a mask that was asked for.
    fn only(&self, mask: u64) -> u64 {
        self.which.map_or(mask, |which| mask & signal::bit(which))
    }

    /// The masks of the next threads.
    fn masks(&mut self, world: &World, tid: i32, out: &mut Output) {
        let Ok(masks) = signals::masks(tid) else { return };
        let is_manholes = ours(world).contains(&tid);
        let (blocked, pending) = (self.only(masks.blocked), self.only(masks.pending));
        if !out.is_json() && (is_manholes || blocked == 0 && pending == 0) {
            self.quiet += usize::from(!is_manholes);
            return;
        }
        out.put(&Masks {
            tid,
            name: Bytes(threads::name(tid)),
            is_manholes,
            blocked: signals::names(blocked),
            pending: signals::names(pending),
            blocked_words: signals::in_words(blocked),
        });
    }
}

fn action(world: &World, number: i32, found: &Disposition, hidden_by: Option<&'static str>) -> Action {
    let handler = found.is_handler().then_some(found.handler as u64);
    Action {
        signal: Name(number).to_string(),
        number,
        action: match found.handler {
            0 => "default",
            1 => "ignore",
            _ => "handler",
        },
        handler: handler.map(Hex),
        symbol: handler.and_then(|address| place::symbol(world, address)),
        module: handler.and_then(|address| Some(Bytes(world.modules.find(address)?.name().to_vec()))),
        flags: signals::flags(found.flags),
        mask: if handler.is_some() { signals::names(found.mask) } else { Vec::new() },
        hidden_by,
    }
}

/// Names with runs of real-time signals folded: `SIGRTMIN … SIGRTMIN+30`.
fn ranges(names: &[&str]) -> String {
    let is_real_time = |name: &&&str| name.starts_with("SIGRTMIN");
    let plain = names.iter().filter(|name| !is_real_time(name)).copied();
    let real_time: Vec<&str> = names.iter().filter(is_real_time).copied().collect();
    let folded = match real_time.as_slice() {
        // All but a few, which have handlers and are shown for themselves.
        [first, .., last] if real_time.len() > 8 => vec![*first, "…", *last],
        few => few.to_vec(),
    };
    plain.chain(folded).collect::<Vec<_>>().join(" ")
}

impl Line for Action {
    fn line(&self, out: &mut Vec<u8>) {
        let by = self.hidden_by.map_or_else(String::new, |option| format!("the manhole's ({option}), before: "));
        let what = match (&self.handler, &self.symbol) {
            (None, _) => self.action.to_owned(),
            (Some(Hex(address)), symbol) => {
                let symbol = symbol.as_deref().map_or_else(|| format!("{address:#x}"), str::to_owned);
                let module = self.module.as_ref().map_or_else(|| "no module".into(), |it| Escaped(&it.0).to_string());
                format!("{symbol} ({module})")
            }
        };
        let c_library = if C_LIBRARYS.contains(&self.number) { "   the C library's own" } else { "" };
        let flags = if self.flags.is_empty() { String::new() } else { format!("   {}", self.flags.join("|")) };
        let mask = self.mask.iter().filter_map(|name| number(&Value::Text(name.clone())));
        let mask = mask.fold(0, |mask, number| mask | signal::bit(number));
        let mask = if mask == 0 { String::new() } else { format!("   mask {}", signals::in_words(mask)) };
        out.extend_from_slice(format!("{:<14} {by}{what}{flags}{mask}{c_library}\n", self.signal).as_bytes());
    }
}

impl Line for Queue {
    fn line(&self, out: &mut Vec<u8>) {
        let pending = if self.pending.is_empty() { "none".to_owned() } else { self.pending.join(" ") };
        let queue = match (self.queued, self.queue_limit) {
            (Some(queued), Some(limit)) => format!("   ({queued} of {limit} queued by this user's processes)"),
            _ => String::new(),
        };
        out.extend_from_slice(format!("pending for the process: {pending}{queue}\n").as_bytes());
    }
}

impl Line for Masks {
    fn line(&self, out: &mut Vec<u8>) {
        let pending =
            if self.pending.is_empty() { String::new() } else { format!("; pending {}", self.pending.join(" ")) };
        let (name, words) = (Escaped(&self.name.0), &self.blocked_words);
        out.extend_from_slice(format!("thread {} ({name}) blocks {words}{pending}\n", self.tid).as_bytes());
    }
}

impl Job for Show {
    fn step(&mut self, world: &mut World, out: &mut Output) -> Step {
        let Some(mut threads) = self.threads.take() else {
            if let Err(error) = self.dispositions(world, out) {
                return fail(out, &error);
            }
            match procfs::thread_ids() {
                Ok(ids) => self.threads = Some(ids.into_iter()),
                Err(error) => return fail(out, &format!("cannot list /proc/self/task: {}", error.desc())),
            }
            return Step::More;
        };
        for tid in threads.by_ref().take(BATCH) {
            self.masks(world, tid, out);
        }
        if threads.len() > 0 {
            self.threads = Some(threads);
            return Step::More;
        }
        if self.quiet > 0 {
            let what =
                if self.which.is_some() { "does not block it" } else { "blocks nothing, and has nothing pending" };
            let what = if self.quiet == 1 {
                what.to_owned()
            } else {
                what.replacen("does", "do", 1).replace("blocks", "block").replace("has", "have")
            };
            out.note(format!("{} {} {what}\n", self.quiet, if self.quiet == 1 { "thread" } else { "threads" }));
        }
        Step::Done(Status::Success)
    }
}
