//! eu-stack (elfutils) as a second oracle: another unwinder, other heuristics. Where it and gdb agree and we
//! do not, there is nothing to discuss.

use std::process::Command;

use super::compare::{Frame, Stack};

/// All stacks of `pid` as `eu-stack -i` has them; `None` when it is not installed.
pub fn stacks(pid: i32) -> Option<Vec<Stack>> {
    let output = Command::new("timeout")
        .args(["-k", "5", "120", "eu-stack", "-i", "-r", "-n", "2000", "-p", &pid.to_string()])
        .env("DEBUGINFOD_URLS", "")
        .output()
        .ok()?;
    Some(parse(&String::from_utf8_lossy(&output.stdout)))
}

fn parse(text: &str) -> Vec<Stack> {
    let mut stacks: Vec<Stack> = Vec::new();
    for line in text.lines() {
        if let Some(tid) = line.strip_prefix("TID ").and_then(|it| it.trim_end_matches(':').parse().ok()) {
            stacks.push(Stack { tid, name: String::new(), frames: Vec::new(), ended_early: None });
        } else if let (Some(rest), Some(stack)) = (line.strip_prefix('#'), stacks.last_mut()) {
            // `#1  0x0000560e5f5d83e6     block`, `#1  0x0000560e5f5d83e6     block - file.c:1` with more options;
            // a frame that was inlined has blanks for its address.
            let mut words = rest.split_whitespace().skip(1);
            let first = words.next().unwrap_or_default();
            let address = first.strip_prefix("0x").and_then(|it| u64::from_str_radix(it, 16).ok());
            let name: Vec<&str> =
                if address.is_some() { words.collect() } else { [first].into_iter().chain(words).collect() };
            let name = if name.is_empty() { "??".to_owned() } else { name.join(" ") };
            stack.frames.push(Frame { address, function: name, linkage_name: None, inlined: false, synthetic: false });
        }
    }
    stacks
}
