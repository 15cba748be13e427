//! `locks`: what threads wait for, who holds it, and who waits in a circle.
//!
//! The survey finds the waiters; then their holders are looked at, the wait-for graph is made, and what it claims is
//! looked at a second time before it is said.

#![forbid(unsafe_code)]

pub mod confirm;
mod record;
pub mod survey;

use std::collections::BTreeMap;
use std::time::Instant;

use rustc_hash::{FxHashMap, FxHashSet};

use super::{fail, threads as selection};
use crate::config::level::Level;
use crate::inspect::locks::graph::{Graph, Shape};
use crate::inspect::locks::{Holder, Object};
use crate::inspect::mappings::{self, Mapped};
use crate::inspect::strings::Escaped;
use crate::inspect::syscalls;
use crate::inspect::threads::{self, Reader};
use crate::protocol::Status;
use crate::shell::json::{Bytes, Hex};
use crate::shell::output::Output;
use crate::shell::place::symbol;
use crate::shell::{Command, Job, Step, World};
use crate::sys::process;
use confirm::{Claim, Confirmation, Progress};
use survey::{Survey, Waiter};

pub const COMMAND: Command = Command {
    name: "locks",
    level: Level::Observe,
    synopsis: "[TID|NAME-GLOB]",
    summary: "Show what threads wait for in futex(2), who holds it, and every deadlock.",
    help: "locks                   every lock that a thread waits for, its holder and its waiters; then every cycle\n\
           locks 4711              the locks that this thread waits for or holds while others wait\n\
           locks 'io_thd_*'        likewise, threads by name\n\n\
           Known are mutexes, rwlocks, condition variables, semaphores, barriers, joins, stdio locks and the locks of\n\
           malloc of glibc, and by name those of Rust's standard library. A mutex, the writer of a rwlock, a stdio lock\n\
           and a join tell who it is that one waits for; readers, semaphores, malloc's locks and Rust's do not.\n\
           DEADLOCK is said of a cycle that was looked at twice and in which no thread ran meanwhile; it ends only if a\n\
           wait has a time, or somebody unlocks what another thread holds. A CONVOY is two threads or more that wait, one\n\
           behind the other, for one that waits for no lock.",
    schemas: &[record::Lock::schema, record::Deadlock::schema, record::Convoy::schema, record::Summary::schema],
    start: |arguments| match arguments {
        [] => Ok(Box::new(Locks::new(None))),
        [which] => Ok(Box::new(Locks::new(Some(which.clone())))),
        _ => Err("takes one thread id or glob".to_owned()),
    },
};

/// Holders that are captured in one step.
const CAPTURED: usize = 64;
/// Text written in one step.
const PIECE: usize = 64 << 10;
/// From so many on, those who wait for one thread are a convoy.
const CONVOY: usize = 2;

struct Locks {
    which: Option<String>,
    began: Instant,
    survey: Survey,
    stage: Stage,
    /// Threads that hold what others wait for.
    holders: FxHashMap<i32, Held>,
    /// Objects, and the indices of their waiters; the one with the most waiters first.
    locks: Vec<(Object, Vec<usize>)>,
    /// The number of each in the answer.
    numbers: FxHashMap<Object, usize>,
    /// Symbol and place of each.
    places: Vec<(Option<String>, String)>,
    shape: Shape,
    /// Claims of cycles and of exited holders that stand.
    standing: FxHashSet<(i32, i32)>,
}

enum Stage {
    Surveying,
    Holders(std::vec::IntoIter<i32>),
    Places,
    Confirming(Confirmation),
    Writing { next: usize, shown: bool },
}

/// A holder, as it was found.
#[derive(Clone)]
struct Held {
    name: Option<Vec<u8>>,
    doing: &'static str,
    call: Option<String>,
    top: Option<String>,
}

impl Locks {
    fn new(which: Option<String>) -> Self {
        Self {
            which,
            began: Instant::now(),
            survey: Survey::new(),
            stage: Stage::Surveying,
            holders: FxHashMap::default(),
            locks: Vec::new(),
            numbers: FxHashMap::default(),
            places: Vec::new(),
            shape: Shape::default(),
            standing: FxHashSet::default(),
        }
    }

    /// Who holds what others wait for, each once.
    fn list_holders(&self) -> Vec<i32> {
        let holder = |waiter: &Waiter| match waiter.facts.holder {
            Holder::Thread(tid) => Some(tid),
            _ => None,
        };
        let holders: FxHashSet<i32> = self.survey.waiters.iter().filter_map(holder).collect();
        let mut holders: Vec<i32> = holders.into_iter().collect();
        holders.sort_unstable();
        holders
    }

    /// Looks at some holders.
    fn look_at(&mut self, world: &mut World, tids: &[i32]) {
        let mut alive = Vec::new();
        let reader = Reader::new();
        for &tid in tids {
            let facts = reader.read(tid);
            let is_waiter = self.survey.waiter(tid).is_some();
            let held = match facts {
                // The first thread stays listed as a zombie until the others have exited, too.
                Ok(facts) if !matches!(facts.state, b'Z' | b'X') => {
                    if !is_waiter {
                        alive.push(tid);
                    }
                    let doing = if is_waiter { "waits" } else { "runs" };
                    Held { name: Some(facts.name), doing, call: None, top: None }
                }
                Ok(_) => Held { name: None, doing: "exited", call: None, top: None },
                Err(_) if process::exists(tid) => Held { name: None, doing: "elsewhere", call: None, top: None },
                Err(_) => Held { name: None, doing: "exited", call: None, top: None },
            };
            self.holders.insert(tid, held);
        }
        let stacks = survey::capture(world, &alive);
        survey::name(world, &stacks);
        for stack in &stacks {
            let Some(held) = self.holders.get_mut(&stack.tid) else { continue };
            held.call = stack.call.as_ref().map(|call| syscalls::brief(call).to_string());
            held.doing = if held.call.is_some() { "blocks" } else { "runs" };
            held.top = survey::top(world, stack);
        }
    }

    /// Groups waiters by lock, and finds out where each lock lies.
    fn place(&mut self, world: &mut World) {
        let mut groups: BTreeMap<Object, Vec<usize>> = BTreeMap::new();
        for (index, waiter) in self.survey.waiters.iter().enumerate() {
            groups.entry(waiter.awaited.object).or_default().push(index);
        }
        self.locks = groups.into_iter().collect();
        self.locks.sort_by_key(|(object, waiters)| (std::cmp::Reverse(waiters.len()), object.address));
        self.numbers = self.locks.iter().map(|(object, _)| *object).zip(1..).collect();
        let addresses: Vec<u64> = self.locks.iter().map(|(object, _)| object.address).collect();
        let given_up: FxHashSet<u64> =
            self.survey.waiters.iter().filter_map(|waiter| waiter.awaited.given_up).collect();
        let all: Vec<u64> = addresses.iter().copied().chain(given_up).collect();
        world.symbolizer.resolve(&world.modules, &all);
        let mapped = mappings::of_each(&addresses).unwrap_or_else(|_| vec![None; addresses.len()]);
        let places = addresses
            .iter()
            .zip(mapped)
            .map(|(address, mapped)| (symbol(world, *address), self.place_of(world, *address, mapped.as_ref())));
        self.places = places.collect();
    }

    fn place_of(&self, world: &World, address: u64, mapped: Option<&Mapped>) -> String {
        if let Some(module) = world.modules.find(address) {
            return format!("in {}", Escaped(module.name()));
        }
        let Some(mapped) = mapped else { return "not mapped any more".to_owned() };
        let inside = |(sp, _): &&(u64, i32)| (mapped.start..mapped.end).contains(sp);
        let mut owners = self.survey.stacks.iter().filter(inside);
        // Above the stack pointer: below it lies nothing that lives.
        match (owners.next(), owners.next()) {
            (Some((sp, tid)), None) if mapped.is_anonymous() && *sp <= address => {
                format!("on the stack of thread {tid} \"{}\"", Escaped(&threads::name(*tid)))
            }
            _ => format!("in {}", mapped.describe(address)),
        }
    }

    /// Makes the graph; what it claims.
    fn claim(&mut self) -> Vec<Claim> {
        let (mut graph, mut claims) = (Graph::default(), Vec::new());
        let mut exited: FxHashSet<Object> = FxHashSet::default();
        for waiter in &self.survey.waiters {
            let Holder::Thread(holder) = waiter.facts.holder else { continue };
            let object = waiter.awaited.object;
            graph.add(waiter.tid, holder);
            let has_exited = self.holders.get(&holder).is_some_and(|held| held.doing == "exited");
            // One of the waiters proves it.
            if has_exited && exited.insert(object) {
                claims.push(Claim { waiter: waiter.tid, wait: waiter.wait, object, holder });
            }
        }
        self.shape = graph.shape();
        for tid in self.shape.cycles.iter().flat_map(|(cycle, _)| cycle) {
            if let Some(waiter) = self.survey.waiter(*tid)
                && let Holder::Thread(holder) = waiter.facts.holder
            {
                claims.push(Claim { waiter: *tid, wait: waiter.wait, object: waiter.awaited.object, holder });
            }
        }
        claims
    }

    /// Keeps of what was claimed what stands.
    fn settle(&mut self, standing: &[Claim]) {
        self.standing = standing.iter().map(|claim| (claim.waiter, claim.holder)).collect();
        let proved: FxHashSet<i32> = standing.iter().map(|claim| claim.holder).collect();
        for (tid, held) in &mut self.holders {
            if held.doing == "exited" && !proved.contains(tid) {
                held.doing = "gone";
            }
        }
        let stand = |cycle: &[i32]| {
            let next = cycle.iter().skip(1).chain(cycle.first());
            cycle.iter().zip(next).all(|(waiter, holder)| self.standing.contains(&(*waiter, *holder)))
        };
        self.shape.cycles.retain(|(cycle, _)| stand(cycle));
    }

    fn number_of(&self, tid: i32) -> Option<usize> {
        self.numbers.get(&self.survey.waiter(tid)?.awaited.object).copied()
    }

    fn holder(&self, tid: i32) -> record::Holder {
        let held = self.holders.get(&tid).cloned();
        let held = held.unwrap_or(Held { name: None, doing: "gone", call: None, top: None });
        let waiter = self.survey.waiter(tid);
        record::Holder {
            tid,
            name: held.name.map(Bytes),
            doing: held.doing,
            call: held.call,
            top: waiter.map_or(held.top, |waiter| waiter.top.clone()),
            waits_for: self.number_of(tid),
        }
    }
}

impl Locks {
    /// Whether the operator wants to see what this thread has to do with.
    fn wants(&self, tid: i32) -> bool {
        let Some(which) = &self.which else { return true };
        let waiter = self.survey.waiter(tid).map(|waiter| waiter.name.as_slice());
        let name = || self.holders.get(&tid).and_then(|held| held.name.as_deref());
        selection::selects(which, tid, waiter.or_else(name).unwrap_or_default())
    }

    /// The record of lock `index`; `None` beyond the last, `Some(None)` for one that is not wanted.
    fn lock(&self, index: usize, world: &World) -> Option<Option<record::Lock>> {
        let (object, waiters) = self.locks.get(index)?;
        let waiters: Vec<&Waiter> = waiters.iter().filter_map(|waiter| self.survey.waiters.get(*waiter)).collect();
        let (facts, (symbol, place)) = (&waiters.first()?.facts, self.places.get(index)?.clone());
        let holder = match facts.holder {
            Holder::Thread(tid) => Some(tid),
            _ => None,
        };
        if !waiters.iter().map(|waiter| waiter.tid).chain(holder).any(|tid| self.wants(tid)) {
            return Some(None);
        }
        Some(Some(record::Lock {
            number: index + 1,
            address: Hex(object.address),
            lock_kind: object.kind.word(),
            flavour: facts.flavour.clone(),
            state: facts.state.clone(),
            symbol,
            place,
            holder: holder.map(|tid| self.holder(tid)),
            readers: if let Holder::Readers(count) = facts.holder { Some(count) } else { None },
            holder_unrecorded: facts.holder == Holder::NotRecorded,
            waiters: waiters.into_iter().map(|waiter| waiter_record(waiter, world)).collect(),
        }))
    }

    fn deadlock(&self, number: usize, cycle: &[i32], behind: usize) -> record::Deadlock {
        let next = cycle.iter().skip(1).chain(cycle.first());
        let links = cycle.iter().zip(next).filter_map(|(tid, held_by)| {
            let waiter = self.survey.waiter(*tid)?;
            let (lock, object) = (self.number_of(*tid)?, waiter.awaited.object);
            Some(record::Link {
                tid: *tid,
                name: Bytes(waiter.name.clone()),
                lock,
                address: Hex(object.address),
                lock_kind: object.kind.word(),
                symbol: self.places.get(lock - 1).and_then(|place| place.0.clone()),
                held_by: *held_by,
                timed: waiter.wait.is_timed,
                top: waiter.top.clone(),
            })
        });
        record::Deadlock { number, links: links.collect(), threads_behind: behind }
    }

    /// What the locks together amount to.
    fn end(&self, out: &mut Output) {
        for (number, (cycle, behind)) in (1..).zip(&self.shape.cycles) {
            if cycle.iter().any(|tid| self.wants(*tid)) {
                out.put(&self.deadlock(number, cycle, *behind));
            }
        }
        for (&tid, &threads_behind) in self.shape.heads.iter().filter(|(_, behind)| **behind >= CONVOY) {
            if self.wants(tid) {
                out.put(&record::Convoy { head: self.holder(tid), threads_behind });
            }
        }
        if !self.survey.same_namespace {
            out.note("thread ids in locks are those of another pid namespace than /proc shows: no holder is named\n");
        }
        out.put(&record::Summary {
            threads: self.survey.waiters.len(),
            locks: self.locks.len(),
            deadlocks: self.shape.cycles.len(),
            not_looked_at: self.survey.cut,
            seconds: self.began.elapsed(),
        });
    }
}

fn waiter_record(waiter: &Waiter, world: &World) -> record::Waiter {
    let gave_up = waiter.awaited.given_up;
    record::Waiter {
        tid: waiter.tid,
        name: Bytes(waiter.name.clone()),
        wants: waiter.awaited.want.word(),
        timed: waiter.wait.is_timed,
        top: waiter.top.clone(),
        gave_up: gave_up.map(Hex),
        gave_up_symbol: gave_up.and_then(|mutex| symbol(world, mutex)),
    }
}

impl Job for Locks {
    fn step(&mut self, world: &mut World, out: &mut Output) -> Step {
        match &mut self.stage {
            Stage::Surveying => match self.survey.step(world) {
                Ok(false) => {}
                Ok(true) => self.stage = Stage::Holders(self.list_holders().into_iter()),
                Err(error) => return fail(out, &error),
            },
            Stage::Holders(tids) => {
                let batch: Vec<i32> = tids.by_ref().take(CAPTURED).collect();
                if batch.is_empty() {
                    self.stage = Stage::Places;
                } else {
                    self.look_at(world, &batch);
                }
            }
            Stage::Places => {
                self.place(world);
                self.stage = Stage::Confirming(Confirmation::new(self.claim()));
            }
            Stage::Confirming(confirmation) => match confirmation.step(self.survey.version) {
                Progress::More => {}
                Progress::Waiting(until) => return Step::Waiting(until),
                Progress::Done(standing) => {
                    self.settle(&standing);
                    self.stage = Stage::Writing { next: 0, shown: false };
                }
            },
            Stage::Writing { next, shown } => {
                let (mut index, mut shown) = (*next, *shown);
                while out.len() < PIECE {
                    match self.lock(index, world) {
                        Some(Some(lock)) => {
                            out.put(&lock);
                            shown = true;
                        }
                        Some(None) => {}
                        None => {
                            if let Some(which) = self.which.as_ref().filter(|_| !shown) {
                                let what = "waits in futex(2), or holds what another waits for";
                                return fail(out, &format!("no thread that matches {which:?} {what}"));
                            }
                            self.end(out);
                            return Step::Done(Status::Success);
                        }
                    }
                    index += 1;
                }
                self.stage = Stage::Writing { next: index, shown };
            }
        }
        Step::More
    }
}
