//! gdb as the oracle.

use std::process::Command;

use super::compare::{Frame, Stack};
use super::fixtures;

/// All stacks of `pid` as gdb has them. gdb stops the process and disturbs its system calls: dump first.
pub fn stacks(pid: i32) -> Vec<Stack> {
    let script = fixtures::root().join("tests/harness/gdb_frames.py");
    let output = Command::new("timeout")
        .args(["-k", "5", "120", "gdb", "-nx", "-q", "-batch", "-iex", "set auto-load off"])
        .args(["-iex", "set debuginfod enabled off", "-iex", "set auto-solib-add on"])
        // main has callers too, and we show them.
        .args(["-iex", "set backtrace past-main on", "-iex", "set backtrace past-entry on"])
        .args(["-p", &pid.to_string(), "-x"])
        .arg(&script)
        .env_remove("LD_PRELOAD")
        .output()
        .expect("cannot start gdb");
    let text = String::from_utf8_lossy(&output.stdout);
    let stacks = parse(&text);
    assert!(!stacks.is_empty(), "gdb shows no thread of {pid}: {text}\n{}", String::from_utf8_lossy(&output.stderr));
    stacks
}

fn parse(text: &str) -> Vec<Stack> {
    let mut stacks: Vec<Stack> = Vec::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        match (fields.as_slice(), stacks.last_mut()) {
            (["thread", tid, name], _) => {
                let tid = tid.parse().expect("LWP");
                stacks.push(Stack { tid, name: (*name).to_owned(), frames: Vec::new(), ended_early: None });
            }
            (["frame", pc, kind, name, linkage], Some(stack)) => stack.frames.push(Frame {
                address: u64::from_str_radix(pc.trim_start_matches("0x"), 16).ok(),
                function: if *kind == "signal" { "<signal handler called>".to_owned() } else { (*name).to_owned() },
                linkage_name: (!linkage.is_empty()).then(|| (*linkage).to_owned()),
                inlined: *kind == "inlined",
                // gdb adds the frames that tail calls gave up, from call site entries: they are no longer on the stack.
                synthetic: *kind == "tailcall",
            }),
            (["end", reason], Some(stack)) if !reason.is_empty() => stack.ended_early = Some((*reason).to_owned()),
            _ => (),
        }
    }
    stacks
}
