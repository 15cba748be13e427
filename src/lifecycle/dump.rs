//! Writing the stacks of all threads to a descriptor, for the C API: fit for a crash handler.
//!
//! Context: any thread of the application, on any stack, in a signal handler too; on a stack of its own
//! ([`super::aside`]). It needs no installed manhole. The calling thread is shown from the caller of the C function on.

use std::os::fd::RawFd;
use std::time::Duration;

use super::aside::Aside;
use super::{INSTALLED, Manhole, WAITING, installed};
use crate::log;
use crate::shell::World;
use crate::shell::commands::write_stacks;
use crate::stack::Method;
use crate::stack::capture::{self, Standing};
use crate::sys::allocator::Role;
use crate::sys::leaked::Leaked;
use crate::sys::output::Output;
use crate::sys::{Errno, dumpable, filter, process, signal};

static ASIDE: Aside = Aside::new(Role::Dump, "dump of stacks");
/// How long a descriptor that takes nothing is waited for, in all.
const PATIENCE: Duration = Duration::from_secs(5);
/// The options for a process that has no manhole.
static BARE: Leaked<Manhole> = Leaked::nothing();

/// Writes what the command `stacks` shows to `descriptor`; returns how many threads that are. Errors: `EBUSY` while
/// another thread does the same, `ETIMEDOUT` when the descriptor takes nothing, `EDEADLK` when this thread was
/// interrupted while it used our heap, `ENOMEM`, `EFAULT` for a bug of ours, and those of `write`.
pub fn dump_stacks(descriptor: RawFd) -> Result<usize, Errno> {
    let registers = capture::own_registers();
    let work = || {
        filter::look();
        let tid = process::proc_tid().unwrap_or_else(process::tid);
        let standing = Standing { tid, registers, method: Method::Own };
        let mut world = World::interrupting(options(), standing, String::new());
        let output = Output::new(descriptor, PATIENCE);
        write_stacks(&mut world, &mut |piece| output.write(piece))
    };
    ASIDE.run(signal::blocked(), give_up, work)?
}

/// Whose options bound the dump.
fn options() -> &'static Manhole {
    let bare = || BARE.get().unwrap_or_else(|| BARE.set(Manhole::new(WAITING.get().cloned().unwrap_or_default())));
    installed().or_else(|| INSTALLED.get()).unwrap_or_else(bare)
}

/// In a forked child: the parent's dump is not its own.
pub fn leave_in_child() {
    ASIDE.reset_in_child();
}

fn give_up() -> ! {
    dumpable::put_back();
    log!("out of memory: the dump of stacks ends early");
    ASIDE.abandon()
}
