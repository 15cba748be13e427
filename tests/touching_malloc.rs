//! `malloc` and `trim`, beside what glibc tells the program itself, and what redis tells of its jemalloc.

mod harness;

use std::io::Write;
use std::process::Command;
use std::time::Instant;

use harness::DEADLINE;
use harness::host::{Host, Launch};
use harness::session::Session;
use serde_json::Value;

fn host() -> Host {
    Launch::fixture("calls").option("redirect_stderr=False").start()
}

fn records(session: &mut Session, line: &str) -> Vec<Value> {
    let answer = session.command(&format!("{line} --json"));
    let parsed: Value = serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{line}: {error}: {answer}"));
    parsed.as_array().expect("an array").clone()
}

fn number(record: &Value, name: &str) -> u64 {
    record[name].as_u64().unwrap_or_else(|| panic!("{name}: {record}"))
}

#[test]
fn glibc_says_the_same_to_us_and_to_the_program() {
    let mut host = host();
    let mut session = host.connect();
    let before = records(&mut session, "malloc");
    session.command("call fill(100000)");
    session.command("call fill(50000000)");
    let after = records(&mut session, "malloc");
    assert_eq!(after[0]["allocator"], "glibc");
    assert!(after[0]["library"].as_str().expect("a path").contains("libc.so.6"));
    let grown = number(&after[0], "in_use_bytes") - number(&before[0], "in_use_bytes");
    assert!((50_100_000..50_200_000).contains(&grown), "{grown}");
    assert_eq!(number(&after[0], "mmapped_blocks"), number(&before[0], "mmapped_blocks") + 1);
    // The arenas are what the total is made of.
    let of_arenas: u64 = after.iter().skip(1).map(|arena| number(arena, "total_bytes")).sum();
    assert_eq!(of_arenas + number(&after[0], "mmapped_bytes"), number(&after[0], "total_bytes"));
    assert_eq!(number(&after[0], "arenas") as usize, after.len() - 1);
    host.tell("heap\n");
    let end = Instant::now() + DEADLINE;
    let line = loop {
        host.look();
        if let Some(line) = host.lines().iter().find_map(|line| line.strip_prefix("heap ").map(str::to_owned)) {
            break line;
        }
        assert!(Instant::now() < end, "{}", host.story());
    };
    let (used, total) = line.split_once(' ').expect("two numbers");
    let (used, total): (u64, u64) = (used.parse().expect("used"), total.parse().expect("total"));
    assert!(used.abs_diff(number(&after[0], "in_use_bytes")) < 16384, "{line} {}", after[0]);
    assert_eq!(total, number(&after[0], "total_bytes"), "{line} {}", after[0]);
    assert!(session.command("malloc").starts_with("glibc ("));
    assert!(session.command("malloc --raw").starts_with("<malloc version="));
    assert_eq!(host.release(), "PASS");
}

#[test]
fn trimming_gives_memory_back() {
    let mut host = host();
    let mut session = host.connect();
    // Many blocks below the size that gets a mapping of its own, and one above them that keeps the end in place.
    for _ in 0..100 {
        session.command("call keep(\"x\")");
    }
    let mut blocks = Vec::new();
    for _ in 0..60 {
        let answer = session.command("call/a fill(120000)");
        blocks.push(answer.trim_start_matches("= ").trim_end().split(' ').next().expect("an address").to_owned());
    }
    for block in blocks.iter().take(59) {
        session.command(&format!("call free({block})"));
    }
    let record = records(&mut session, "trim").remove(0);
    let freed = number(&record, "resident_before_bytes").saturating_sub(number(&record, "resident_after_bytes"));
    assert!(freed > 4 << 20, "{record}");
    assert!(session.command("trim").starts_with("glibc: resident "));
    assert_eq!(host.release(), "PASS");
}

/// redis-server tells `INFO memory` what its jemalloc told it a moment ago.
#[test]
fn jemalloc_says_the_same_to_us_and_to_redis() {
    let folder = harness::Scratch::new();
    let socket = folder.path().join("redis.sock");
    let launch = Launch::new("redis-server").args([
        "--port",
        "0",
        "--save",
        "",
        "--unixsocket",
        socket.to_str().expect("UTF-8"),
    ]);
    let mut host = launch.option("redirect_stderr=False").start();
    let cli = |words: &[&str]| {
        let output = Command::new("redis-cli").arg("-s").arg(&socket).args(words).output().expect("redis-cli");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let end = Instant::now() + DEADLINE;
    while !cli(&["ping"]).starts_with("PONG") {
        assert!(Instant::now() < end, "{}", host.story());
    }
    cli(&["debug", "populate", "100000", "key", "100"]);
    let mut session = host.connect();
    // Its cron takes the numbers ten times a second.
    loop {
        let ours = records(&mut session, "malloc").remove(0);
        let theirs = cli(&["info", "memory"]);
        let field = |name: &str| -> u64 {
            let line = theirs.lines().find_map(|line| line.strip_prefix(name)).expect("a field");
            line.trim_start_matches(':').trim().parse().expect("a number")
        };
        if !theirs.contains("mem_allocator:jemalloc") {
            println!("skipped: redis-server uses another allocator");
            return;
        }
        assert_eq!(ours["allocator"], "jemalloc");
        let near = |ours: u64, theirs: u64| ours.abs_diff(theirs) * 20 < theirs;
        if near(number(&ours, "in_use_bytes"), field("allocator_allocated"))
            && near(number(&ours, "resident_bytes"), field("allocator_resident"))
            && near(number(&ours, "in_use_bytes") + number(&ours, "free_bytes"), field("allocator_active"))
        {
            break;
        }
        assert!(Instant::now() < end, "{ours} {theirs}");
    }
    assert!(session.command("malloc --raw").contains("jemalloc"), "malloc_stats_print");
    assert!(session.command("trim").starts_with("jemalloc: resident "));
}

/// The lock of the main arena is held for ever: only the actor waits for it, and that is seen.
#[test]
fn a_wedged_allocator_holds_up_the_actor_alone() {
    let mut host = Launch::fixture("wedged_arena").option("redirect_stderr=False").start();
    let (mut asking, mut other) = (host.connect(), host.connect());
    asking.stream().write_all(b"malloc\n").expect("send");
    let end = Instant::now() + DEADLINE;
    loop {
        let answer = other.command("stacks 'Manhole actor'");
        if answer.contains("mallinfo") || answer.contains("malloc_info") {
            break;
        }
        assert!(Instant::now() < end, "{answer}");
    }
    drop(asking);
    assert!(other.command("stacks").contains("threads"));
    assert_eq!(host.release(), "PASS");
}
