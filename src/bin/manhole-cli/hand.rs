//! A hand for the observer of a stopped process.
//!
//! Context: the client. SIGSTOP and `^Z` stop every thread of a process, its observer too, so nobody in it
//! can answer. A thread that is attached with PTRACE_SEIZE may be resumed alone, while the process and its
//! other threads stay stopped (man 2 ptrace, "Group-stop"): that is done to the observer and to no other
//! thread, and nothing in it is read or changed. The process's parent sees none of it: neither a stop nor a
//! continuation is reported to `wait`.
//!
//! Ptrace requests must come from the thread that attached, hence a thread for it. It holds on only while
//! the process is stopped: when SIGCONT comes it lets go at once. When this client ends, well or killed, the
//! kernel detaches what is still held and puts it back into the stop: there is nothing to undo.
//!
//! A tracer that does not run itself would hold up the whole process once that goes on: its end waits for every
//! thread, and `setuid` for an answer of each. Hence `^Z` does nothing in this client from here on; SIGSTOP is
//! beyond its power. A debugger, too, can attach to the process only when this client has let go.

use std::io;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use manhole::sys::Errno;
use manhole::sys::ptrace::{self, Event};
use nix::sys::signal::{SigSet, Signal};

use crate::process::{self, Status};
use crate::say;

/// After so long a silence it is asked whether the process was stopped.
pub const SILENCE: Duration = Duration::from_millis(200);

/// Who lends a hand.
#[derive(Clone, Copy, Debug)]
pub struct Hand {
    /// Tell a person what is done.
    pub speaks: bool,
}

/// Whether the observer of a process can answer.
#[derive(Debug, PartialEq, Eq)]
enum Condition {
    /// As far as can be seen it can, perhaps because somebody lends it a hand.
    Runs,
    /// The process is stopped, and its observer, this thread, with it.
    Stopped(i32),
    /// The process is stopped, and no observer is in sight.
    StoppedUnobserved,
    /// A debugger, this process or thread, holds the observer.
    Held(u32),
}

impl Hand {
    /// If process `pid` is stopped, makes its observer run until this client ends or the process goes on. Otherwise,
    /// and when that was done already, does nothing. Fails with the sentence to say when there can be no answer.
    pub fn lend(self, pid: u32) -> Result<(), String> {
        let refusal = match condition(pid) {
            Condition::Runs => return Ok(()),
            Condition::Stopped(observer) => match hold(observer) {
                Ok(()) => {
                    if self.speaks {
                        say(&format!(
                            "process {pid} is stopped (SIGSTOP) and stays so; \
                             only its thread `Manhole` runs, as long as you are here (^Z is off)"
                        ));
                    }
                    return Ok(());
                }
                Err(errno) => errno.desc(),
            },
            Condition::StoppedUnobserved => "no thread `Manhole` in sight",
            Condition::Held(tracer) => {
                return Err(format!("process {pid} is stopped by a debugger (process {tracer}) and does not answer"));
            }
        };
        // Another client may have been quicker, or SIGCONT.
        if condition(pid) == Condition::Runs {
            return Ok(());
        }
        Err(format!(
            "process {pid} is stopped (SIGSTOP): only a client that may ptrace it gets answers ({refusal}); \
             continue it with kill -CONT {pid}"
        ))
    }
}

fn condition(pid: u32) -> Condition {
    // A thread of that name which is the program's first is not the observer.
    let tid = |folder: &Path| folder.file_name()?.to_str()?.parse::<u32>().ok().filter(|&tid| tid != pid);
    let Some(tid) = process::observers(pid).find_map(|folder| tid(&folder)) else {
        return if process::is_stopped(pid) { Condition::StoppedUnobserved } else { Condition::Runs };
    };
    // Attached by ourselves it shows as traced for the moment until it is resumed.
    let is_ours = |tracer: u32| Path::new(&format!("/proc/self/task/{tracer}")).exists();
    match Status::read(tid) {
        Some(status) if status.state == 'T' => Condition::Stopped(tid as i32),
        Some(status) if status.state == 't' && !is_ours(status.tracer) => Condition::Held(status.tracer),
        _ => Condition::Runs,
    }
}

/// Starts the thread that attaches to `observer` and keeps it running; returns when it is attached.
fn hold(observer: i32) -> Result<(), Errno> {
    let stops = SigSet::from_iter([Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU]);
    stops.thread_block()?;
    let (sender, attached) = mpsc::channel();
    let work = move || {
        // The interrupt tells, by the stop that it leads to, whether the process is still stopped.
        let result = ptrace::seize(observer).and_then(|()| ptrace::interrupt(observer));
        let is_attached = result.is_ok();
        let _ = sender.send(result);
        if is_attached {
            keep_running(observer);
        }
    };
    let spawned = std::thread::Builder::new().name("hand".to_owned()).spawn(work);
    spawned.map_err(|error: io::Error| Errno::from_raw(error.raw_os_error().unwrap_or_default()))?;
    attached.recv().unwrap_or(Err(Errno::EAGAIN))
}

/// Resumes the attached thread whenever it stops, until its process goes on.
fn keep_running(observer: i32) {
    loop {
        let resumed = match ptrace::wait(observer, true) {
            Ok(Event::Stopped(signal)) if signal == Signal::SIGTRAP as i32 => {
                // Should it be stopped again by now, it stops again.
                let _ = ptrace::detach(observer, 0);
                return;
            }
            Ok(Event::Stopped(_) | Event::Nothing) => ptrace::resume(observer, 0),
            Ok(Event::Signal(signal)) => ptrace::resume(observer, signal),
            Err(Errno::EINTR) => Ok(()),
            Ok(Event::Gone) | Err(_) => return,
        };
        // ESRCH: killed while it was stopped, which the next wait tells.
        if !matches!(resumed, Ok(()) | Err(Errno::ESRCH)) {
            return;
        }
    }
}
