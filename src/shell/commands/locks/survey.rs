//! Who waits in futex(2), for what, and what that says about its holder: found out a slice at a time.
//!
//! Context: the observer. First `/proc` tells who sits in such a call, a file a thread; only these are unwound, and only
//! as far as names are needed. Each step takes some milliseconds.

#![forbid(unsafe_code)]

use rustc_hash::{FxHashMap, FxHashSet};

use crate::inspect::locks::callers::{in_glibc, is_glibc};
use crate::inspect::locks::{Awaited, Caller, Facts, Holder, Version, Wait, identify};
use crate::inspect::strings::Escaped;
use crate::inspect::threads::{self, Reader};
use crate::shell::World;
use crate::shell::place::symbol;
use crate::stack::arch::{Arch, Native};
use crate::stack::capture::dumpable::Dumpable;
use crate::stack::{Frame, Limits, Outcome, ThreadStack};
use crate::sys::memory::{Live, Memory};
use crate::sys::{glibc, process, procfs};

/// Threads whose `syscall` file is read in one step: some 10 µs each.
const LISTED: usize = 256;
/// Threads that are unwound in one step: some 30 µs each.
const CAPTURED: usize = 64;
/// Threads whose object is found out in one step.
const IDENTIFIED: usize = 256;
/// Frames a thread: enough to come out of libc and of what a standard library puts around it.
const FRAMES: u32 = 24;

/// A thread that waits.
pub struct Waiter {
    /// Its id.
    pub tid: i32,
    /// Its name.
    pub name: Vec<u8>,
    /// How it waits.
    pub wait: Wait,
    /// For what.
    pub awaited: Awaited,
    /// What that said when it was looked at.
    pub facts: Facts,
    /// The innermost function outside of glibc.
    pub top: Option<String>,
}

/// A look at all threads.
pub struct Survey {
    stage: Stage,
    /// The version of glibc that runs.
    pub version: Version,
    /// The ids of locks are those of `/proc`: if not, no holder can be told.
    pub same_namespace: bool,
    /// Stack pointers of the threads that block, and whose they are.
    pub stacks: Vec<(u64, i32)>,
    /// Those who wait in futex(2), by thread id.
    pub waiters: Vec<Waiter>,
    /// By return address, the function of glibc that is called before it.
    entries: Entries,
    /// Threads beyond the option max_threads.
    pub cut: usize,
}

/// Addresses of functions by the address behind a call.
type Entries = FxHashMap<u64, Option<u64>>;

enum Stage {
    Beginning,
    Listing { tids: std::vec::IntoIter<i32>, waiting: Vec<i32> },
    Capturing { tids: std::vec::IntoIter<i32>, stacks: Vec<ThreadStack> },
    Identifying { stacks: std::vec::IntoIter<ThreadStack> },
    Done,
}

impl Survey {
    /// Nobody was looked at yet.
    pub fn new() -> Self {
        Self {
            stage: Stage::Beginning,
            version: glibc::version(),
            same_namespace: process::proc_is_of_our_namespace(),
            stacks: Vec::new(),
            waiters: Vec::new(),
            entries: FxHashMap::default(),
            cut: 0,
        }
    }

    /// Works for some milliseconds; true when it is done.
    pub fn step(&mut self, world: &mut World) -> Result<bool, String> {
        let next = match &mut self.stage {
            Stage::Beginning => {
                world.look()?;
                let mut tids =
                    procfs::thread_ids().map_err(|error| format!("cannot list /proc/self/task: {}", error.desc()))?;
                let idle = world.idle_actor();
                tids.retain(|tid| Some(*tid) != idle && *tid != world.own_tid);
                self.cut = tids.len().saturating_sub(world.manhole.config.max_threads);
                tids.truncate(world.manhole.config.max_threads);
                Stage::Listing { tids: tids.into_iter(), waiting: Vec::new() }
            }
            Stage::Listing { tids, waiting } => {
                list(tids, waiting, &mut self.stacks);
                if tids.len() > 0 {
                    return Ok(false);
                }
                Stage::Capturing { tids: std::mem::take(waiting).into_iter(), stacks: Vec::new() }
            }
            Stage::Capturing { tids, stacks } => {
                let batch: Vec<i32> = tids.by_ref().take(CAPTURED).collect();
                stacks.extend(capture(world, &batch));
                if tids.len() > 0 {
                    return Ok(false);
                }
                // One that moved on meanwhile waits no more, or for something else.
                stacks.retain(|stack| stack.call.as_ref().is_some_and(|call| Wait::of(call).is_some()));
                name(world, stacks);
                find_entries(world, stacks, &mut self.entries);
                Stage::Identifying { stacks: std::mem::take(stacks).into_iter() }
            }
            Stage::Identifying { stacks } => {
                for stack in stacks.by_ref().take(IDENTIFIED) {
                    let Some(wait) = stack.call.as_ref().and_then(Wait::of) else { continue };
                    let awaited = identify(&Live, &wait, &called(world, &stack, &self.entries), self.version);
                    let mut facts = awaited.object.look(&Live, self.version);
                    if !self.same_namespace && matches!(facts.holder, Holder::Thread(_)) {
                        facts.holder = Holder::NotRecorded;
                    }
                    let top = top(world, &stack);
                    self.waiters.push(Waiter { tid: stack.tid, name: stack.name, wait, awaited, facts, top });
                }
                if stacks.len() > 0 {
                    return Ok(false);
                }
                Stage::Done
            }
            Stage::Done => return Ok(true),
        };
        self.stage = next;
        Ok(matches!(self.stage, Stage::Done))
    }

    /// The waiter with this thread id.
    pub fn waiter(&self, tid: i32) -> Option<&Waiter> {
        let index = self.waiters.binary_search_by_key(&tid, |waiter| waiter.tid).ok()?;
        self.waiters.get(index)
    }
}

/// Looks which of the next threads wait in futex(2), and where their stacks are.
fn list(tids: &mut std::vec::IntoIter<i32>, waiting: &mut Vec<i32>, stacks: &mut Vec<(u64, i32)>) {
    // As in `threads`: a process that dropped its privileges shows this to root alone.
    let mut dumpable = Dumpable::default();
    if tids.as_slice().first().is_some_and(|tid| !Reader::new().shows_calls(*tid)) {
        dumpable.allow();
    }
    for tid in tids.by_ref().take(LISTED) {
        let Some((call, sp)) = threads::blocked(tid) else { continue };
        stacks.push((sp, tid));
        if Wait::of(&call).is_some() {
            waiting.push(tid);
        }
    }
}

/// The innermost frames of `tids`, without those that have exited.
pub fn capture(world: &mut World, tids: &[i32]) -> Vec<ThreadStack> {
    let limits = Limits { frames: FRAMES, ..world.manhole.config.limits };
    let mut stacks = Vec::with_capacity(tids.len());
    world.capture.capture(&world.modules, &mut world.unwinder, tids, &limits, &mut |outcome| {
        if let Outcome::Captured(stack) = outcome {
            stacks.push(stack);
        }
    });
    stacks
}

/// Names every address of `stacks`, each once.
pub fn name(world: &mut World, stacks: &[ThreadStack]) {
    let addresses: FxHashSet<u64> = stacks.iter().flat_map(|stack| &stack.frames).map(Frame::lookup_address).collect();
    let mut addresses: Vec<u64> = addresses.into_iter().collect();
    addresses.sort_unstable();
    world.symbolizer.resolve(&world.modules, &addresses);
}

/// Finds out which functions of glibc were called from outside. Inside, one may have jumped to a static function
/// that has no name (pthread_join does), and be on the stack no more; but the call instruction still names it.
fn find_entries(world: &mut World, stacks: &[ThreadStack], entries: &mut Entries) {
    for stack in stacks {
        if let Some(frame) = stack.frames.get(in_glibc(&callers(world, stack))) {
            entries.entry(frame.pc).or_insert_with(|| entry(world, frame.pc));
        }
    }
    let addresses: Vec<u64> = entries.values().copied().flatten().collect();
    world.symbolizer.resolve(&world.modules, &addresses);
}

/// The frames of `stack`, and between those of glibc and the others the function that was called.
fn called<'a>(world: &'a World, stack: &ThreadStack, entries: &Entries) -> Vec<Caller<'a>> {
    let mut callers = callers(world, stack);
    let inside = in_glibc(&callers);
    let frame = stack.frames.get(inside);
    let entry = frame.and_then(|frame| Some((frame, entries.get(&frame.pc).copied()??)));
    if let Some((frame, address)) = entry
        && let [.., function] = world.symbolizer.lookup(&world.modules, address)
        && function.offset == Some(0)
    {
        let module = world.modules.find(address).map_or(&b""[..], |module| module.name());
        callers.insert(inside, Caller { function: function.function.as_deref(), module, sp: frame.sp });
    }
    callers
}

fn callers<'a>(world: &'a World, stack: &ThreadStack) -> Vec<Caller<'a>> {
    let caller = |frame: &Frame| Caller {
        function: world
            .symbolizer
            .lookup(&world.modules, frame.lookup_address())
            .last()
            .and_then(|frame| frame.function.as_deref()),
        module: module(world, frame),
        sp: frame.sp,
    };
    stack.frames.iter().map(caller).collect()
}

/// Where in glibc the call before `return_address` leads, by itself, through a PLT stub or through a slot.
fn entry(world: &World, return_address: u64) -> Option<u64> {
    let mut code = [0; 8];
    let read = Live.read(return_address.checked_sub(8)?, &mut code) == code.len();
    let site = Native::call_before(code.get(8 - Native::CALL_BYTES.min(8)..)?, return_address).filter(|_| read)?;
    let through = |target: u64| {
        let stub: [u8; 16] = Live.read_array(target)?;
        Live.read_u64(Native::stub_slot(&stub, target)?)
    };
    let slot = site.slot.and_then(|slot| Live.read_u64(slot));
    let ends = [site.target, site.target.and_then(through), slot];
    let in_glibc = |address: &u64| world.modules.find(*address).is_some_and(|module| is_glibc(module.name()));
    ends.into_iter().flatten().find(in_glibc)
}

fn module<'a>(world: &'a World, frame: &Frame) -> &'a [u8] {
    world.modules.find(frame.lookup_address()).map_or(b"", |module| module.name())
}

/// The innermost function outside of glibc, `FUNCTION+OFFSET (MODULE)`, or where there is none the innermost one;
/// `MODULE+OFFSET` where it has no name.
pub fn top(world: &World, stack: &ThreadStack) -> Option<String> {
    let inside = in_glibc(&callers(world, stack));
    let frame = stack.frames.get(inside).or(stack.frames.first())?;
    let module = world.modules.find(frame.lookup_address());
    let function = symbol(world, frame.lookup_address());
    Some(match (function, module) {
        (Some(function), Some(module)) => format!("{function} ({})", Escaped(module.name())),
        (None, Some(module)) => format!("{}+{:#x}", Escaped(module.name()), frame.pc.wrapping_sub(module.bias)),
        (Some(function), None) => format!("{function} (no module)"),
        (None, None) => format!("{:#x}", frame.pc),
    })
}
