//! `maps`, `mem` and `limits` say what /proc and prlimit say.

mod harness;

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use harness::fixtures::has_program;
use harness::host::{Host, Launch};
use harness::records::{of_kind, records};
use harness::session::Session;
use serde_json::Value;

fn quiet() -> Host {
    Launch::new("/bin/cat").option("redirect_stderr=False").start()
}

fn address(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().expect("an address").trim_start_matches("0x"), 16).expect("hexadecimal")
}

/// What the test reads itself: (start, end) to permissions, offset, inode and name.
fn mappings_of(pid: i32) -> BTreeMap<(u64, u64), (String, u64, u64, String)> {
    let text = fs::read_to_string(format!("/proc/{pid}/maps")).expect("maps");
    let parse = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let hexadecimal = |text: &str| u64::from_str_radix(text, 16).expect("hexadecimal");
        let (start, end) = words[0].split_once('-').expect("a range");
        let name = words.get(5).copied().unwrap_or_default().to_owned();
        let inode = words[4].parse().expect("inode");
        ((hexadecimal(start), hexadecimal(end)), (words[1].to_owned(), hexadecimal(words[2]), inode, name))
    };
    text.lines().map(parse).collect()
}

#[test]
fn maps_are_those_of_proc() {
    let mut host = quiet();
    let mut session = host.connect();
    // What the manhole maps for itself has settled by the second time.
    session.command("maps");
    let rows = records(&mut session, "maps --json");
    let truth = mappings_of(host.pid());
    let mut unknown = 0;
    for row in &rows {
        let Some((permissions, offset, inode, name)) = truth.get(&(address(&row["start"]), address(&row["end"])))
        else {
            assert_eq!(row["name"], "", "only our own memory may have changed: {row}");
            unknown += 1;
            continue;
        };
        assert_eq!(row["permissions"], *permissions);
        assert_eq!((address(&row["offset"]), row["inode"].as_u64()), (*offset, Some(*inode)), "{row}");
        assert_eq!(row["name"], *name, "{row}");
    }
    assert!(unknown <= 4 && rows.len().abs_diff(truth.len()) <= 4, "{} and {}", rows.len(), truth.len());
    let named = |what: &str| rows.iter().filter(|row| row["what"].as_str().expect("text").starts_with(what)).count();
    assert_eq!((named("heap"), named("code of libc.so.6"), named("code of cat")), (1, 1, 1));
    // Each thread that sits in a call has its stack: that of the main thread, and the actor's.
    assert_eq!(named(&format!("stack of thread {} (cat)", host.pid())), 1);

    let text = session.command("maps");
    for row in rows.iter().filter(|row| row["name"] != "") {
        let range = format!("{:#018x}-{:#018x} ", address(&row["start"]), address(&row["end"]));
        let line = text.lines().find(|line| line.starts_with(&range)).expect("the line");
        assert!(line.contains(row["what"].as_str().expect("text")), "{line} {row}");
    }
}

#[test]
fn maps_select_by_address_and_name() {
    let mut host = quiet();
    let mut session = host.connect();
    let main = records(&mut session, "maps &malloc+1 --json");
    assert_eq!((main.len(), &main[0]["what"]), (1, &Value::from("code of libc.so.6")));
    let start = main[0]["start"].as_str().expect("an address");
    assert_eq!(records(&mut session, &format!("maps {start} --json")), main);
    let libc = records(&mut session, "maps libc.so.6 --json");
    assert!(libc.len() >= 4 && libc.iter().all(|row| row["name"].as_str().expect("name").ends_with("/libc.so.6")));
    assert_eq!(records(&mut session, "maps [heap] --json"), records(&mut session, "maps heap --json"));
    assert_eq!(session.command("maps 16").lines().last(), Some("error: 0x10 is not mapped, nor is anything near"));
    assert_eq!(session.command("maps nowhere*").lines().last(), Some("error: no mapping matches \"nowhere*\""));
}

/// A stack is the mapping that the thread's stack pointer lies in, its guard the one below.
#[test]
fn stacks_and_guards_are_those_of_the_threads() {
    let mut host = Launch::fixture("threads_deep").args(["12"]).start();
    let mut session = host.connect();
    let runs = |(tid, _): &(i32, String)| {
        let call = fs::read_to_string(format!("/proc/{}/task/{tid}/syscall", host.pid())).expect("syscall");
        call.starts_with("running")
    };
    while host.threads().iter().filter(|(_, name)| !harness::is_ours(name)).any(runs) {}
    let rows = records(&mut session, "maps --json");
    let mut met = 0;
    for (tid, name) in host.threads().into_iter().filter(|(_, name)| !harness::is_ours(name)) {
        let call = fs::read_to_string(format!("/proc/{}/task/{tid}/syscall", host.pid())).expect("syscall");
        let words: Vec<&str> = call.split_whitespace().collect();
        let pointer = words[words.len() - 2];
        let pointer = u64::from_str_radix(pointer.trim_start_matches("0x"), 16).expect("hexadecimal");
        let at = rows.iter().find(|row| (address(&row["start"])..address(&row["end"])).contains(&pointer)).expect("it");
        assert_eq!((&at["purpose"], &at["tid"]), (&"stack".into(), &tid.into()), "{name}: {at}");
        met += 1;
        if tid != host.pid() {
            let guard = rows.iter().find(|row| row["end"] == at["start"]).expect("a guard");
            assert_eq!(guard["what"], format!("guard of the stack of thread {tid} ({name})"));
        }
    }
    assert_eq!(met, 13);
}

/// Fields of a file in kB, as bytes.
fn kilobytes(text: &str, name: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).expect(name);
    value.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

fn bytes(record: &Value, name: &str) -> u64 {
    record[name].as_u64().unwrap_or_else(|| panic!("{name} in {record}"))
}

fn memory(session: &mut Session) -> (Value, Vec<Value>) {
    let all = records(session, "mem --json");
    let kinds = of_kind(all.clone(), "memory_kind");
    (of_kind(all, "memory").remove(0), kinds)
}

/// While nothing happens but our own looking.
const OWN: u64 = 1 << 20;

#[test]
fn memory_is_that_of_smaps_rollup_and_status() {
    let mut host = quiet();
    let mut session = host.connect();
    memory(&mut session);
    let (total, kinds) = memory(&mut session);
    let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", host.pid())).expect("smaps_rollup");
    let near = |ours: u64, truth: u64| assert!(ours.abs_diff(truth) <= OWN, "{ours} is not {truth}: {total}");
    near(bytes(&total, "rss_bytes"), kilobytes(&rollup, "Rss"));
    near(bytes(&total, "pss_bytes"), kilobytes(&rollup, "Pss"));
    near(bytes(&total, "private_bytes"), kilobytes(&rollup, "Private_Clean") + kilobytes(&rollup, "Private_Dirty"));
    near(bytes(&total, "shared_bytes"), kilobytes(&rollup, "Shared_Clean") + kilobytes(&rollup, "Shared_Dirty"));
    assert_eq!((&total["walked"], bytes(&total, "swap_bytes")), (&true.into(), kilobytes(&rollup, "Swap")));
    let status = fs::read_to_string(format!("/proc/{}/status", host.pid())).expect("status");
    near(bytes(&total, "peak_rss_bytes"), kilobytes(&status, "VmHWM"));
    near(bytes(&total, "size_bytes"), kilobytes(&status, "VmSize"));
    near(bytes(&total, "page_tables_bytes"), kilobytes(&status, "VmPTE"));
    // The parts are the whole.
    let sum = |name| kinds.iter().map(|kind| bytes(kind, name)).sum::<u64>();
    for name in ["rss_bytes", "pss_bytes", "size_bytes"] {
        assert_eq!(sum(name), bytes(&total, name), "{name}");
    }
    // What is not ours does not move, and agrees to the byte.
    let smaps = fs::read_to_string(format!("/proc/{}/smaps", host.pid())).expect("smaps");
    let heap = smaps.split_once("[heap]").expect("a heap").1;
    let kind = kinds.iter().find(|kind| kind["purpose"] == "heap").expect("heap");
    assert_eq!(bytes(kind, "rss_bytes"), kilobytes(heap, "Rss"));
    assert_eq!(bytes(kind, "pss_bytes"), kilobytes(heap, "Pss"));
    assert_eq!(bytes(kind, "private_dirty_bytes"), kilobytes(heap, "Private_Dirty"));
    // And `maps --rss` has the same.
    let row = &records(&mut session, "maps heap --rss --json")[0];
    assert_eq!((bytes(row, "rss_bytes"), bytes(row, "pss_bytes")), (kilobytes(heap, "Rss"), kilobytes(heap, "Pss")));
    assert!(bytes(&total, "manhole_bytes") > 0 && bytes(&total, "stacks") >= 2, "{total}");
    assert!(bytes(&total, "minor_faults") > 50, "{total}");
    let text = session.command("mem");
    assert!(text.lines().any(|line| line.starts_with("heap ")), "{text}");
    assert!(text.contains("\nsince the last call, "), "{text}");
}

#[test]
fn growth_is_what_was_allocated_since() {
    let mut host = Launch::fixture("grows").option("redirect_stderr=False").start();
    let mut session = host.connect();
    let (first, _) = memory(&mut session);
    assert!(first["since_seconds"].is_null() && first["rss_growth_bytes"].is_null(), "{first}");
    host.signal(libc::SIGUSR1);
    host.wait_for_line("grown");
    let (second, kinds) = memory(&mut session);
    let growth = 64 << 20..=(64 << 20) + 4 * OWN as i64;
    for name in ["rss_growth_bytes", "size_growth_bytes"] {
        assert!(growth.contains(&second[name].as_i64().expect(name)), "{name}: {second}");
    }
    // Who else maps the same libraries comes and goes.
    assert!(second["pss_growth_bytes"].as_i64().expect("growth") > 60 << 20, "{second}");
    assert_eq!(second["since_own_call"], true);
    assert!(second["since_seconds"].as_f64().expect("seconds") > 0.0);
    assert!(bytes(&second, "minor_faults_since") > 0);
    let anonymous = kinds.iter().find(|kind| kind["purpose"] == "anonymous").expect("anonymous memory");
    assert!(growth.contains(&anonymous["rss_growth_bytes"].as_i64().expect("growth")), "{anonymous}");
    // Another session is told the growth since that call, and each its own after that.
    let mut other = host.connect();
    let (third, _) = memory(&mut other);
    assert_eq!(third["since_own_call"], false);
    assert!(third["rss_growth_bytes"].as_i64().expect("growth") < OWN as i64);
    host.signal(libc::SIGUSR1);
    // The line is the same as before: its page faults tell.
    while memory(&mut other).0["rss_bytes"].as_u64() < Some(bytes(&second, "rss_bytes") + (64 << 20)) {}
    let text = session.command("mem");
    let line = text.lines().find(|line| line.starts_with("since the last call")).expect("the line");
    assert!(line.contains("RSS +64 MiB") || line.contains("RSS +64.") || line.contains("RSS +65."), "{line}");
    assert_eq!(host.release(), "PASS", "{}", host.story());
}

/// In a large process what would hold others up is only done when it is asked for.
#[test]
fn a_large_process_is_only_walked_when_asked() {
    let mut host = Launch::fixture("grows").option("redirect_stderr=False").start();
    for _ in 0..5 {
        host.signal(libc::SIGUSR1);
        // Taken and done, or the next one would be lost in it.
        let lines = host.lines().len();
        while host.lines().len() == lines {
            host.look();
        }
    }
    let mut session = host.connect();
    let (total, kinds) = memory(&mut session);
    assert_eq!((&total["walked"], &total["pss_bytes"]), (&false.into(), &Value::Null), "{total}");
    assert!(kinds.iter().all(|kind| kind["rss_bytes"].is_null() && kind["size_bytes"].is_u64()), "{kinds:?}");
    let status = fs::read_to_string(format!("/proc/{}/status", host.pid())).expect("status");
    assert!(bytes(&total, "rss_bytes").abs_diff(kilobytes(&status, "VmRSS")) <= OWN, "{total}");
    assert!(session.command("mem").contains("mem --walk"));
    let walked = of_kind(records(&mut session, "mem --walk --json"), "memory").remove(0);
    assert!(bytes(&walked, "pss_bytes") > 5 * (64 << 20), "{walked}");
    assert!(walked["rss_growth_bytes"].as_i64().expect("growth").unsigned_abs() <= 2 * OWN, "{walked}");
}

#[test]
fn limits_are_those_of_prlimit() {
    if !has_program("prlimit") {
        return println!("skipped: no prlimit");
    }
    let mut host = quiet();
    let mut session = host.connect();
    let rows = records(&mut session, "limits --json");
    let text = session.command("limits");
    let arguments = ["--raw", "--noheadings", "--output", "RESOURCE,SOFT,HARD", "--pid", &host.pid().to_string()];
    let output = Command::new("prlimit").args(arguments).output().expect("prlimit");
    let mut met = 0;
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let [name, soft, hard] = line.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{line}") };
        let name = format!("RLIMIT_{name}");
        let row = rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("{name} is not listed"));
        assert_eq!(row["soft"].as_u64(), soft.parse().ok(), "{name}");
        assert_eq!(row["hard"].as_u64(), hard.parse().ok(), "{name}");
        assert!(text.lines().any(|line| line.starts_with(&format!("{name} "))), "{name} in {text}");
        met += 1;
    }
    assert_eq!(met, 16);
    let used = |name: &str| rows.iter().find(|row| row["name"] == name).expect("it")["used"].as_u64().expect("its use");
    assert_eq!(used("RLIMIT_NOFILE"), fs::read_dir(format!("/proc/{}/fd", host.pid())).expect("fd").count() as u64);
    let status = fs::read_to_string(format!("/proc/{}/status", host.pid())).expect("status");
    assert_eq!(used("RLIMIT_STACK"), kilobytes(&status, "VmStk"));
    assert!(used("RLIMIT_AS").abs_diff(kilobytes(&status, "VmSize")) <= OWN);
    // At least this test's own threads and those of the host.
    assert!(used("RLIMIT_NPROC") >= 3);
}

#[test]
fn a_limit_that_is_nearly_reached_is_noted() {
    let mut host = Launch::fixture("exhausted_descriptors").option("redirect_stderr=False").start();
    let mut session = host.connect();
    let rows = records(&mut session, "limits --json");
    let files = rows.iter().find(|row| row["name"] == "RLIMIT_NOFILE").expect("it");
    // One that it inherited may have a higher number than the limit allows.
    let open = fs::read_dir(format!("/proc/{}/fd", host.pid())).expect("fd").count() as u64;
    assert_eq!((files["used"].as_u64(), files["soft"].as_u64()), (Some(open), Some(64)));
    let percent = open * 100 / 64;
    assert!(percent >= 100 && files["used_percent"] == percent, "{files}");
    assert_eq!(files["note"], format!("{percent} % are used"));
    let text = session.command("limits");
    let line = text.lines().find(|line| line.starts_with("RLIMIT_NOFILE")).expect("it");
    assert!(line.ends_with(&format!("open files; note: {percent} % are used")), "{line}");
    assert_eq!(text.matches("note: ").count(), rows.iter().filter(|row| !row["note"].is_null()).count());
}
