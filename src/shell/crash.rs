//! What crashed on the actor, and where.
//!
//! Context: the observer.

#![forbid(unsafe_code)]

use super::output::Output;
use super::record::Line;
use super::stack_record;
use super::stack_text::{Style, Text};
use super::{Step, World};
use crate::log;
use crate::protocol::Status;
use crate::record;
use crate::shell::json::Hex;
use crate::stack::capture::guard::Crash;
use crate::stack::{Frame, Outcome};

record! {
    /// What ran on the actor crashed, and was abandoned. Its stack follows.
    pub struct Crashed as "crash" {
        /// What ran.
        what: String,
        /// The signal: SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP.
        signal: &'static str,
        /// What that means here.
        cause: &'static str,
        /// The address that it was about.
        address: Option<Hex>,
        /// The actor.
        tid: i32,
        /// It could not be abandoned: it stands still for ever, and there is no actor any more.
        lost: bool,
    }
}

impl Line for Crashed {
    fn line(&self, out: &mut Vec<u8>) {
        let Self { what, signal, cause, tid, .. } = self;
        let address = self.address.map_or_else(String::new, |address| format!(" at {:#x}", address.0));
        let how = if self.lost {
            "It has overwritten its way\nback, so that the thread stands still for ever: the manhole can touch nothing any \
             more. The process goes on."
        } else {
            "It was abandoned there, and the process\ngoes on."
        };
        let text = format!(
            "crashed: {what}: {signal}, {cause}{address}, on thread {tid} (Manhole actor). {how} What it had locked stays \
             locked, what it had half done stays so.\n\n"
        );
        out.extend_from_slice(text.as_bytes());
    }
}

/// Ends the errand `what` with the report of its crash.
pub fn report(what: &str, crash: &Crash, world: &mut World, out: &mut Output) -> Step {
    tell(what, crash, false, world, out)
}

/// The same for one that was the actor's end.
pub fn report_last(what: &str, crash: &Crash, world: &mut World, out: &mut Output) -> Step {
    tell(what, crash, true, world, out)
}

fn tell(what: &str, crash: &Crash, lost: bool, world: &mut World, out: &mut Output) -> Step {
    let (signal, cause) = words(crash.signal, crash.code);
    log!("{what} crashed on the manhole's actor: {signal}, {cause}");
    // Without the mappings there are no names, and the crash is still to be told.
    let _ = world.look();
    let stack = crash.unwind(&world.modules, &mut world.unwinder, &world.manhole.config.limits);
    let addresses: Vec<u64> = stack.frames.iter().map(Frame::lookup_address).collect();
    world.symbolizer.resolve(&world.modules, &addresses);
    let address = crash.address.map(Hex);
    out.put(&Crashed { what: what.to_owned(), signal, cause, address, tid: crash.tid, lost });
    let outcome = [Outcome::Captured(stack)];
    if out.is_json() {
        stack_record::put(&outcome, Style::Named, None, world, out);
    } else {
        Text::new(Style::Named, None).write(&outcome, world, out.lines());
    }
    Step::Done(Status::Failed)
}

/// The name of a signal, and what its `si_code` means (asm-generic/siginfo.h).
fn words(signal: i32, code: i32) -> (&'static str, &'static str) {
    /// The kernel does not know more (SI_KERNEL).
    const KERNEL: i32 = 0x80;
    match (signal, code) {
        (libc::SIGSEGV, 1) => ("SIGSEGV", "nothing is mapped"),
        (libc::SIGSEGV, 2) => ("SIGSEGV", "the memory there does not allow it"),
        (libc::SIGSEGV, KERNEL) => ("SIGSEGV", "an address that no memory can have, or a privileged instruction"),
        (libc::SIGSEGV, 1..) => ("SIGSEGV", "memory that may not be used so"),
        (libc::SIGSEGV, _) => ("SIGSEGV", "raised"),
        (libc::SIGBUS, 1) => ("SIGBUS", "an unaligned address"),
        (libc::SIGBUS, 2) => ("SIGBUS", "no memory behind the address (a file that is shorter than its mapping)"),
        (libc::SIGBUS, 1..) => ("SIGBUS", "memory that failed"),
        (libc::SIGBUS, _) => ("SIGBUS", "raised"),
        (libc::SIGFPE, 1) => ("SIGFPE", "an integer divided by zero"),
        (libc::SIGFPE, 1..) => ("SIGFPE", "an arithmetic trap"),
        (libc::SIGFPE, _) => ("SIGFPE", "raised"),
        (libc::SIGILL, 1..) => ("SIGILL", "an illegal instruction"),
        (libc::SIGILL, _) => ("SIGILL", "raised"),
        (libc::SIGABRT, _) => ("SIGABRT", "abort"),
        (libc::SIGTRAP, 1..) => ("SIGTRAP", "a breakpoint instruction"),
        _ => ("SIGTRAP", "raised"),
    }
}
