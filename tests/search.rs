//! `search` finds what the fixture planted, where it planted it, each place once, and leaves memory as it is.

mod harness;

use std::collections::BTreeSet;

use harness::host::{Host, Launch};
use harness::session::Session;
use serde_json::Value;

const NEEDLE: &str = "needle-4711-planted";
/// Where it stands in memory of the process's own.
const PRIVATE: [&str; 6] = ["heap", "data", "stack", "thread", "border", "sparse"];

fn planted(host: &Host, name: &str) -> u64 {
    let prefix = format!("planted {name} 0x");
    let digits = host.lines().iter().find_map(|line| line.strip_prefix(&prefix)).expect("planted");
    u64::from_str_radix(digits, 16).expect("an address")
}

fn all_planted(host: &Host, names: &[&str]) -> BTreeSet<u64> {
    names.iter().map(|name| planted(host, name)).collect()
}

/// The addresses of the matches, and what was said at the end.
fn search(session: &mut Session, line: &str) -> (Vec<u64>, String) {
    let answer = session.command(line);
    let address = |line: &str| u64::from_str_radix(line.strip_prefix("0x")?.split(' ').next()?, 16).ok();
    (answer.lines().filter_map(address).collect(), answer)
}

fn set(found: &[u64]) -> BTreeSet<u64> {
    let set: BTreeSet<u64> = found.iter().copied().collect();
    assert_eq!(set.len(), found.len(), "each place once");
    set
}

/// A field of `/proc/PID/status` in kB.
fn kilobytes(host: &Host, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", host.pid())).expect("status");
    let line = status.lines().find(|line| line.starts_with(&format!("{name}:"))).expect(name);
    line.split_whitespace().nth(1).expect("kB").parse().expect("a number")
}

#[test]
fn a_text_is_found_in_every_place_once() {
    let mut host = Launch::fixture("facts").start();
    let mut session = host.connect();
    let expected = all_planted(&host, &PRIVATE);
    // More than once: the session's own memory of the command is not found either.
    for _ in 0..3 {
        let (found, answer) = search(&mut session, &format!("search {NEEDLE}"));
        assert_eq!(set(&found), expected, "{answer}");
        assert!(answer.contains("6 matches in "), "{answer}");
    }
    let (_, answer) = search(&mut session, &format!("search text:{NEEDLE}"));
    let line = |name: &str| {
        let start = format!("{:#018x}", planted(&host, name));
        answer.lines().find(|line| line.starts_with(&start)).expect("a line").to_owned()
    };
    assert!(line("heap").contains("(heap + 0x") && line("heap").ends_with(&format!("\"{NEEDLE}\"")), "{answer}");
    assert!(line("data").contains(" planted_data+0x3 (facts-"), "{answer}");
    assert!(line("stack").contains("(stack of the first thread)"), "{answer}");
    assert!(line("thread").contains(", with the stack"), "{answer}");
    assert!(line("sparse").contains("(anonymous memory + 0x"), "{answer}");

    let with_shared: Vec<&str> = PRIVATE.into_iter().chain(["shared"]).collect();
    let (found, answer) = search(&mut session, &format!("search {NEEDLE} --all"));
    assert_eq!(set(&found), all_planted(&host, &with_shared), "{answer}");

    let records: Value = serde_json::from_str(&session.command(&format!("search {NEEDLE} --json"))).expect("JSON");
    let addresses: Vec<u64> = records
        .as_array()
        .expect("records")
        .iter()
        .filter(|record| record["kind"] == "match")
        .map(|record| u64::from_str_radix(&record["address"].as_str().unwrap()[2..], 16).unwrap())
        .collect();
    assert_eq!(set(&addresses), expected);
    drop(session);
    assert_eq!(host.release(), "PASS");
}

#[test]
fn numbers_by_width_alignment_place_and_limit() {
    let mut host = Launch::fixture("facts").start();
    let mut session = host.connect();
    let number = u64::from_le_bytes(*b"needle-4");
    let (found, answer) = search(&mut session, &format!("search {number:#x}"));
    assert_eq!(set(&found), all_planted(&host, &PRIVATE), "{answer}");
    let (found, answer) = search(&mut session, "search hex:6e6565646c652d34373131");
    assert_eq!(set(&found), all_planted(&host, &PRIVATE), "{answer}");
    // malloc's blocks are aligned; the others are odd.
    let (found, answer) = search(&mut session, &format!("search {number} --aligned --in heap"));
    assert_eq!(set(&found), all_planted(&host, &["heap"]), "{answer}");
    let (found, _) = search(&mut session, &format!("search {number} --aligned --in facts-*"));
    assert_eq!(set(&found), BTreeSet::new());
    let (found, _) = search(&mut session, &format!("search {number} --in facts-*"));
    assert_eq!(set(&found), all_planted(&host, &["data"]));

    let half = u32::from_le_bytes(*b"lant");
    let (found, answer) = search(&mut session, &format!("search {half} --width 4"));
    let expected: BTreeSet<u64> = all_planted(&host, &PRIVATE).into_iter().map(|address| address + 13).collect();
    assert!(set(&found).is_superset(&expected), "{answer}");

    let border = planted(&host, "border");
    let range = |from: u64, to: u64| format!("search {NEEDLE} --in {from:#x}-{to:#x}");
    assert_eq!(search(&mut session, &range(border, border + 64)).0, [border]);
    assert!(search(&mut session, &range(border + 1, border + 64)).0.is_empty());
    let (found, answer) = search(&mut session, &format!("search {NEEDLE} --limit 2"));
    assert_eq!(found.len(), 2);
    assert!(answer.contains("cut: stopped after 2 matches; --limit N shows more\n"), "{answer}");
    let answer = session.command("search 300 --width 1");
    assert!(answer.starts_with("error: 300 has no room in 1 bytes"), "{answer}");
    let answer = session.command("search no-such-text-anywhere-here");
    assert!(answer.starts_with("no match in "), "{answer}");
    drop(session);
    assert_eq!(host.release(), "PASS");
}

#[test]
fn who_points_to_an_object() {
    let mut host = Launch::fixture("facts").start();
    let mut session = host.connect();
    let (found, answer) = search(&mut session, "search &anchor_node --aligned");
    assert!(found.contains(&planted(&host, "pointer")), "{answer}");
    assert!(answer.lines().any(|line| line.contains(" node_pointer (facts-")), "{answer}");
    let (same, _) = search(&mut session, "search *node_pointer+0 --aligned --in nonsense");
    assert!(same.is_empty());
    let answer = session.command("search &no_such_symbol");
    assert!(answer.starts_with("error: no symbol or local no_such_symbol"), "{answer}");
    assert!(answer.contains("text:&no_such_symbol searches for the text"), "{answer}");
    drop(session);
    assert_eq!(host.release(), "PASS");
}

/// 64 GiB that were never touched cost neither memory nor page tables.
#[test]
fn sparse_memory_stays_sparse() {
    let mut host = Launch::fixture("facts").start();
    let mut session = host.connect();
    session.command("search warm-up --in heap");
    let before = ["VmPTE", "VmRSS"].map(|name| kilobytes(&host, name));
    let answer = session.command(&format!("search {NEEDLE} --all --json"));
    let records: Value = serde_json::from_str(&answer).expect("JSON");
    let summary = records.as_array().unwrap().iter().find(|record| record["kind"] == "searched").expect("a summary");
    assert!(summary["absent_bytes"].as_u64().unwrap() > 63 << 30, "{summary}");
    assert!(summary["read_bytes"].as_u64().unwrap() < 256 << 20, "{summary}");
    let after = ["VmPTE", "VmRSS"].map(|name| kilobytes(&host, name));
    // Read as a whole it would be 128 MiB of tables.
    assert!(after[0] < before[0] + 512, "VmPTE {before:?} {after:?}");
    assert!(after[1] < before[1] + 8192, "VmRSS {before:?} {after:?}");
    drop(session);
    assert_eq!(host.release(), "PASS");
}
