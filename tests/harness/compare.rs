//! Our stacks against an oracle's, thread by thread and frame by frame.
//!
//! A frame agrees when its program counter and its function agree ([`super::names`] says when two spellings are one
//! function). What is not held against us: a stack that says `truncated` is compared as far as it goes, and counted;
//! a frame that the oracle cannot name or unwind from (JIT code: no module, no call frame information) ends what
//! it can attest, and the frames beyond it are counted as unattested when the oracle's differ.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::is_ours;
use super::names::{Aliases, canonical, demangle, same_function_at_one_pc};

/// One frame, as either side has it.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The program counter.
    pub address: Option<u64>,
    /// The name shown; `??` when unknown.
    pub function: String,
    /// The mangled name, where the oracle has it.
    pub linkage_name: Option<String>,
    /// Inlined into the next frame.
    pub inlined: bool,
    /// Not on the stack, but deduced (gdb's tail call frames).
    pub synthetic: bool,
}

/// One thread's stack, as either side has it.
#[derive(Clone, Debug)]
pub struct Stack {
    /// The kernel's thread id.
    pub tid: i32,
    /// Its name, where known.
    pub name: String,
    /// Innermost first.
    pub frames: Vec<Frame>,
    /// Why it is not whole.
    pub ended_early: Option<String>,
}

/// The outcome of a comparison.
#[derive(Debug, Default)]
pub struct Report {
    /// Threads that agree, wholly or up to their `truncated`.
    pub agreed: BTreeSet<i32>,
    /// Of those, threads that say `truncated`.
    pub truncated: BTreeSet<i32>,
    /// Frames that agree.
    pub frames: usize,
    /// Frames beyond what the oracle can attest.
    pub unattested: usize,
    /// `(tid, readable difference)`.
    pub mismatches: Vec<(i32, String)>,
}

/// Compares `ours` with `oracle`'s stacks of process `pid`.
pub fn compare(pid: i32, ours: &[Stack], oracle: &[Stack]) -> Report {
    let aliases = Aliases::of(pid);
    let mut report = Report::default();
    for theirs in oracle.iter().filter(|stack| !is_ours(&stack.name)) {
        let Some(mine) = ours.iter().find(|stack| stack.tid == theirs.tid) else {
            report.mismatches.push((theirs.tid, format!("thread {} {:?} is missing\n", theirs.tid, theirs.name)));
            continue;
        };
        match compare_stack(&aliases, mine, theirs) {
            Ok((frames, unattested)) => {
                report.agreed.insert(mine.tid);
                if mine.ended_early.is_some() {
                    report.truncated.insert(mine.tid);
                }
                report.frames += frames;
                report.unattested += unattested;
            }
            Err((index, why)) => report.mismatches.push((mine.tid, difference(mine, theirs, index, &why))),
        }
    }
    report
}

/// Counts of frames that agree and of frames unattested, or the first index that differs and why.
fn compare_stack(aliases: &Aliases, mine: &Stack, theirs: &Stack) -> Result<(usize, usize), (usize, String)> {
    let real: Vec<&Frame> = theirs.frames.iter().filter(|frame| !frame.synthetic).collect();
    for (index, frame) in mine.frames.iter().enumerate() {
        let beyond = mine.frames.len() - index;
        let Some(other) = real.get(index) else {
            return if theirs.ended_early.is_some() || attests_nothing_after(aliases, &real, index) {
                Ok((index, beyond))
            } else {
                Err((index, "the oracle's stack ends here".to_owned()))
            };
        };
        if let Err(why) = same_frame(aliases, frame, other) {
            if attests_nothing_after(aliases, &real, index) {
                return Ok((index, beyond));
            }
            return Err((index, why));
        }
    }
    let count = mine.frames.len();
    if count < real.len() && mine.ended_early.is_none() {
        if attests_nothing_after(aliases, &real, count) {
            return Ok((count, 0));
        }
        return Err((count, "ours ends here and does not say truncated".to_owned()));
    }
    Ok((count, 0))
}

/// Whether the oracle guessed how to get from some frame below `index` to the next: that frame lies in no file.
fn attests_nothing_after(aliases: &Aliases, frames: &[&Frame], index: usize) -> bool {
    frames.iter().take(index).any(|frame| frame.address.is_some_and(|pc| aliases.module(pc).is_none()))
}

fn same_frame(aliases: &Aliases, mine: &Frame, theirs: &Frame) -> Result<(), String> {
    if let (Some(left), Some(right)) = (mine.address, theirs.address)
        && left != right
    {
        return Err(format!("program counters differ: {left:#x} and {right:#x}"));
    }
    // At the same place, a name where the oracle has none is no contradiction.
    if theirs.function == "??" && mine.address == theirs.address {
        return Ok(());
    }
    let name = canonical(&mine.function);
    let mut spellings = vec![canonical(&theirs.function)];
    spellings.extend(theirs.linkage_name.as_deref().map(|it| canonical(&demangle(it))));
    let pc = mine.address.unwrap_or_default();
    let same = |other: &String| {
        name == *other
            || theirs.address == mine.address && same_function_at_one_pc(&name, other)
            || aliases.are_aliases(pc, &name, other)
    };
    if spellings.iter().any(same) { Ok(()) } else { Err("names differ".to_owned()) }
}

/// Both stacks side by side, with a mark at the first difference.
fn difference(mine: &Stack, theirs: &Stack, at: usize, why: &str) -> String {
    let mut text = format!("thread {} {:?}, frame {at}: {why}\n", theirs.tid, theirs.name);
    let show = |frame: Option<&&Frame>| match frame {
        Some(frame) => {
            let pc = frame.address.map_or_else(|| "-".to_owned(), |pc| format!("{pc:#x}"));
            format!("{pc} {}{}", frame.function, if frame.inlined { " (inlined)" } else { "" })
        }
        None => "-".to_owned(),
    };
    let left: Vec<&Frame> = mine.frames.iter().collect();
    let right: Vec<&Frame> = theirs.frames.iter().filter(|frame| !frame.synthetic).collect();
    for index in at.saturating_sub(3)..(at + 4).min(left.len().max(right.len())) {
        let mark = if index == at { ">" } else { " " };
        let _ = writeln!(
            text,
            "{mark} #{index:<3} ours   {}\n       oracle {}",
            show(left.get(index)),
            show(right.get(index))
        );
    }
    for (who, stack) in [("ours", mine), ("oracle", theirs)] {
        if let Some(reason) = &stack.ended_early {
            let _ = writeln!(text, "  {who} ended early: {reason}");
        }
    }
    text
}

/// Looks at process `pid` by turns through `ours` and `oracle` until every thread has agreed at least once.
///
/// Two looks are two moments: a thread that ran between them differs for no fault. A thread that is always shown
/// wrong never agrees, so a few turns tell the two apart. Prints one line of counts; returns the last report, with
/// what was truncated in any turn, or all differences.
pub fn agree(
    what: &str,
    pid: i32,
    mut ours: impl FnMut() -> Vec<Stack>,
    mut oracle: impl FnMut() -> Vec<Stack>,
) -> Result<Report, String> {
    const TURNS: usize = 6;
    let (mut agreed, mut truncated) = (BTreeSet::new(), BTreeSet::new());
    for turn in 1.. {
        let mine = ours();
        let mut report = compare(pid, &mine, &oracle());
        agreed.append(&mut report.agreed);
        truncated.append(&mut report.truncated);
        report.mismatches.retain(|(tid, _)| !agreed.contains(tid));
        if report.mismatches.is_empty() {
            report.agreed = agreed;
            report.truncated = truncated;
            if report.agreed.is_empty() {
                return Err(format!("{what}: no thread was compared"));
            }
            println!(
                "{what}: {} threads, {} frames equal, {} truncated, {} frames beyond the oracle, {turn} turns",
                report.agreed.len(),
                report.frames,
                report.truncated.len(),
                report.unattested
            );
            return Ok(report);
        }
        if turn == TURNS {
            let all: Vec<&str> = report.mismatches.iter().map(|(_, text)| text.as_str()).collect();
            return Err(format!("{what}: {} threads never agreed\n{}", all.len(), all.join("\n")));
        }
    }
    unreachable!("the last turn returns")
}
