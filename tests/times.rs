//! `threads --top`, `stacks --diff` and `profile`, against the fixture's own CPU clocks and `/proc`.
//!
//! Timing decides nothing: shares are compared with what the fixture's threads measured themselves in the same time.

mod harness;

use std::io::Write;

use harness::host::{Host, Launch};
use harness::session::Session;
use serde_json::Value;

fn burners() -> Host {
    Launch::fixture("burners").start()
}

fn records(session: &mut Session, line: &str) -> Vec<Value> {
    let answer = session.command(line);
    let parsed: Value = serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{line}: {error}: {answer}"));
    parsed.as_array().expect("an array").clone()
}

fn of_kind<'a>(records: &'a [Value], kind: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| record["kind"] == kind).collect()
}

fn tid(host: &Host, name: &str) -> i32 {
    let threads = host.threads();
    threads.iter().find(|thread| thread.1 == name).unwrap_or_else(|| panic!("no {name} in {threads:?}")).0
}

/// Tells the fixture something, and returns its answer.
fn tell(host: &mut Host, what: &str, begins: &str) -> String {
    let before = host.lines().len();
    host.tell(&format!("{what}\n"));
    let end = std::time::Instant::now() + harness::DEADLINE;
    loop {
        host.look();
        if let Some(line) = host.lines().iter().skip(before).find(|line| line.starts_with(begins)) {
            return line.clone();
        }
        assert!(std::time::Instant::now() < end, "no {begins}: {}", host.story());
    }
}

/// CPU nanoseconds of the thread `burner` in burn_a and in burn_b, by its own clock.
fn used(host: &mut Host) -> [u64; 2] {
    let line = tell(host, "?", "used ");
    let mut numbers = line.split(' ').skip(1).map(|word| word.parse().expect("a number"));
    [numbers.next().expect("burn_a"), numbers.next().expect("burn_b")]
}

/// CPU seconds of a thread, from /proc, to the tick of 10 ms.
fn cpu_seconds(host: &Host, tid: i32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/task/{tid}/stat", host.pid())).expect("stat");
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
    (fields[11].parse::<f64>().expect("utime") + fields[12].parse::<f64>().expect("stime")) / 100.0
}

fn seconds(record: &Value, name: &str) -> f64 {
    record[name].as_f64().unwrap_or_else(|| panic!("no {name} in {record}"))
}

/// The clock that the fixture reads before and after encloses the interval: no more than it can have been used.
#[test]
fn top_says_what_each_thread_used() {
    let mut host = burners();
    let mut session = host.connect();
    let burner = tid(&host, "burner");
    let before = cpu_seconds(&host, burner);
    let all = records(&mut session, "threads --top 0.5 --json");
    let after = cpu_seconds(&host, burner);
    let shares = of_kind(&all, "share");
    let of = |tid: i32| shares.iter().find(|share| share["tid"] == tid).copied();
    let first = of(burner).unwrap_or_else(|| panic!("{all:#?}"));
    assert_eq!(shares[0], first, "the busiest is the first");
    let used = seconds(first, "cpu_seconds");
    assert!(used > 0.0 && used <= after - before + 0.02, "{used} of {before} to {after}");
    let share = seconds(first, "cpu_percent");
    assert!((share - used / seconds(first, "seconds") * 100.0).abs() < 0.01, "{first}");
    let split = seconds(first, "user_seconds") + seconds(first, "system_seconds");
    assert!((split - used).abs() <= 0.021, "two counts of 10 ms ticks: {first}");
    // It napped, and the others did nothing at all.
    assert!(of(tid(&host, "waker")).expect("waker")["voluntary_switches"].as_u64() > Some(0));
    for name in ["sleeper", "reader", "early"] {
        assert!(of(tid(&host, name)).is_none(), "{name} did not run: {all:#?}");
    }
    let total = of_kind(&all, "total")[0];
    assert!(seconds(total, "process_seconds") >= used * 0.9, "{total}");
    assert_eq!(total["threads"].as_u64(), Some(host.threads().len() as u64));

    let text = session.command("threads --top 0.05 burner");
    let row: Vec<&str> = text.lines().nth(2).expect("a row").split_whitespace().collect();
    assert_eq!((row[0], row[1]), (burner.to_string().as_str(), "burner"), "{text}");
    assert!(text.starts_with("1 of 1 threads ran in "), "{text}");
    assert!(session.command("threads --top 0.05 nobody").contains("no thread matches \"nobody\""));
    assert!(session.command("threads --top=x").contains("--top expects seconds"));
    drop(session);
    assert_eq!(host.release(), "PASS", "{}", host.story());
}

#[test]
fn top_names_threads_that_came_and_exited() {
    let mut host = burners();
    let mut session = host.connect();
    // It ends when it is told: however long that takes, it is an interval in which both happened.
    session.stream().write_all(b"threads --top 60\n").expect("send");
    // Its first round is over when the command waits: the observer sleeps.
    wait_until_asleep(&host);
    let early = tid(&host, "early");
    tell(&mut host, "-", "ended");
    tell(&mut host, "+", "started");
    session.stream().write_all(b"^C\n").expect("send");
    let text = session.answer();
    assert!(text.lines().any(|line| line.contains("late") && line.ends_with("came meanwhile")), "{text}");
    assert!(text.lines().any(|line| line.contains(&format!("{early} early")) && line.contains("exited")), "{text}");
    assert!(text.lines().next().is_some_and(|line| line.contains("1 came, 1 exited")), "{text}");
}

/// Waits until the observer has done 20 looks' worth of nothing: its job waits.
fn wait_until_asleep(host: &Host) {
    let path = format!("/proc/{}/task/{}/stat", host.pid(), tid(host, "Manhole"));
    let is_asleep = || std::fs::read_to_string(&path).is_ok_and(|stat| stat.contains(") S "));
    let mut in_a_row = 0;
    while in_a_row < 20 {
        in_a_row = if is_asleep() { in_a_row + 1 } else { 0 };
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn diff_tells_movers_wakers_and_the_still() {
    let mut host = burners();
    let mut session = host.connect();
    let mut met = Vec::new();
    // A loaded machine may keep the burner, or the waker, from running in so short a time; a thread that waits is still
    // in every try.
    while met.len() < 2 {
        let all = records(&mut session, "stacks --diff 0.2 --json");
        let changes = of_kind(&all, "change");
        let still: Vec<&Value> = of_kind(&all, "stack");
        let names: Vec<&str> = still
            .iter()
            .flat_map(|stack| stack["threads"].as_array())
            .flatten()
            .filter_map(|it| it["name"].as_str())
            .collect();
        for name in ["sleeper", "reader", "early"] {
            assert!(names.contains(&name), "{name} is still: {all:#?}");
        }
        for (name, verdict, function) in [("burner", "moved", "burner"), ("waker", "woke", "nap_here")] {
            let Some(change) = changes.iter().find(|change| change["name"] == name && change["verdict"] == verdict)
            else {
                continue;
            };
            let after = change["after"].as_array().expect("a stack");
            assert!(after.iter().any(|frame| frame["function"] == function), "{change}");
            assert!(seconds(change, "cpu_seconds") > 0.0, "{change}");
            if !met.contains(&name) {
                met.push(name);
            }
        }
        let whole = of_kind(&all, "difference")[0];
        let count = |name: &str| whole[name].as_u64().expect("a count");
        assert_eq!(count("threads"), count("moved") + count("woke") + count("still") + count("new"), "{whole}");
        // Without ours: main, burner, waker, sleeper, reader, early.
        assert_eq!(count("threads"), 6, "{whole}");
    }
    // Two that wait in the same place are told once.
    let text = session.command("stacks --diff 0.05");
    assert!(text.contains("\"early\" \"reader\""), "{text}");
    assert!(!text.contains("Manhole"), "{text}");
    drop(session);
    assert_eq!(host.release(), "PASS", "{}", host.story());
}

/// Nanoseconds of a profile's stacks that satisfy.
fn weight(stacks: &[&Value], satisfies: impl Fn(&Value) -> bool) -> f64 {
    stacks.iter().filter(|stack| satisfies(stack)).map(|stack| seconds(stack, "seconds")).sum()
}

fn shows(stack: &Value, function: &str) -> bool {
    stack["frames"].as_array().expect("frames").iter().any(|frame| frame["function"] == function)
}

#[test]
fn a_cpu_profile_weighs_what_was_used() {
    let mut host = burners();
    let mut session = host.connect();
    let before = used(&mut host);
    let all = records(&mut session, "profile 3 --json");
    let after = used(&mut host);
    let stacks = of_kind(&all, "profile-stack");
    let [a, b] = [after[0] - before[0], after[1] - before[1]].map(|nanoseconds| nanoseconds as f64 / 1e9);
    let burner: Vec<&Value> = stacks.iter().copied().filter(|stack| stack["thread"] == "burner").collect();
    // All that it used is there, seen or not. The fixture's two readings enclose the profile.
    let sum = weight(&burner, |_| true);
    assert!(sum > 0.0 && sum <= a + b + 0.02, "{sum} of {a} + {b}: {all:#?}");
    let summary = of_kind(&all, "profile")[0];
    let whole = weight(&stacks, |_| true);
    assert!((seconds(summary, "weight_seconds") - whole).abs() < 1e-6, "{summary}");
    // Three parts in four, give or take what some dozens of samples can tell.
    if burner.iter().filter_map(|stack| stack["samples"].as_u64()).sum::<u64>() >= 40 {
        let share = weight(&burner, |stack| shows(stack, "burn_a"))
            / weight(&burner, |stack| shows(stack, "burn_a") || shows(stack, "burn_b"));
        assert!((share - a / (a + b)).abs() < 0.25, "{share} in burn_a, {} by its own clock", a / (a + b));
    } else {
        println!("the machine is too busy for shares: {summary}");
    }
    // Who waits uses nothing: not one sample.
    for name in ["sleeper", "reader", "early"] {
        assert!(!stacks.iter().any(|stack| stack["thread"] == name), "{all:#?}");
    }
    drop(session);
    assert_eq!(host.release(), "PASS", "a call was disturbed: {}", host.story());
}

#[test]
fn a_wall_profile_shows_who_waits_and_disturbs_no_call() {
    let mut host = burners();
    let mut session = host.connect();
    let all = records(&mut session, "profile 1 --wall --hz 200 --json");
    let stacks = of_kind(&all, "profile-stack");
    let length = seconds(of_kind(&all, "profile")[0], "seconds");
    for (name, function) in [("sleeper", "sleeper"), ("reader", "reader"), ("early", "reader"), ("waker", "nap_here")] {
        let here = weight(&stacks, |stack| stack["thread"] == name && shows(stack, function));
        assert!(here > 0.0 && here <= length + 0.02, "{name}: {here} of {length}: {all:#?}");
    }
    let text = session.command("profile 0.3 --wall --threads --thread sleeper --min 0");
    assert!(text.contains("100.0     0.0  sleeper\n") && !text.contains("reader"), "{text}");
    drop(session);
    assert_eq!(host.release(), "PASS", "a call was disturbed: {}", host.story());
}

#[test]
fn folded_stacks_are_what_flame_graphs_read() {
    let mut host = burners();
    let mut session = host.connect();
    let mut text = String::new();
    // Until the burner had a processor.
    while !text.contains("burn_") {
        text = session.command("profile 0.5 --folded");
        for line in text.lines() {
            let (stack, count) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            assert!(count.parse::<u64>().is_ok_and(|count| count > 0), "{line}");
            assert!(stack.split(';').all(|frame| !frame.is_empty()), "{line}");
        }
    }
    assert!(text.lines().any(|line| line.starts_with("burner;") && line.contains(";burner;burn_")), "{text}");
    assert!(session.command("profile 0.05 --folded --json").contains("choose one"));
    assert!(session.command("profile 0.05 --folded --speedscope").contains("either --folded or --speedscope"));
    assert!(session.command("profile").contains("takes one number of seconds"));
}

/// The members that <https://www.speedscope.app/file-format-schema.json> requires of a file and of a sampled profile.
#[test]
fn speedscope_gets_a_file_of_its_format() {
    let mut host = burners();
    let mut session = host.connect();
    let text = session.command("profile 0.5 --wall --speedscope --lines");
    let file: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(file["$schema"], "https://www.speedscope.app/file-format-schema.json");
    let frames = file["shared"]["frames"].as_array().expect("frames");
    assert!(frames.iter().all(|frame| frame["name"].is_string()), "{text}");
    let nap = frames.iter().find(|frame| frame["name"] == "nap_here").expect("nap_here");
    assert!(nap["file"].as_str().is_some_and(|file| file.ends_with("burners.c")) && nap["line"].is_u64(), "{nap}");
    let profiles = file["profiles"].as_array().expect("profiles");
    assert!(profiles.len() >= 5, "{text}");
    for profile in profiles {
        assert_eq!((profile["type"].as_str(), profile["unit"].as_str()), (Some("sampled"), Some("nanoseconds")));
        assert!(profile["name"].is_string());
        let (samples, weights) = (profile["samples"].as_array().expect("samples"), profile["weights"].as_array());
        let weights = weights.expect("weights");
        assert_eq!(samples.len(), weights.len());
        let sum: u64 = weights.iter().map(|weight| weight.as_u64().expect("a weight")).sum();
        assert_eq!(profile["startValue"], 0);
        assert_eq!(profile["endValue"].as_u64(), Some(sum));
        let numbers = samples.iter().flat_map(|stack| stack.as_array().expect("a stack"));
        assert!(numbers.into_iter().all(|number| (number.as_u64().expect("a number") as usize) < frames.len()));
    }
    // Callers first.
    let waker = profiles.iter().find(|profile| profile["name"].as_str().is_some_and(|it| it.starts_with("waker ")));
    let stack = waker.expect("waker")["samples"][0].as_array().expect("a stack").clone();
    let name = |number: &Value| frames[number.as_u64().expect("a number") as usize]["name"].as_str().expect("a name");
    let position = |function: &str| stack.iter().position(|number| name(number) == function);
    assert!(position("waker") < position("nap_here") && position("waker").is_some(), "{stack:?}");
}

#[test]
fn an_interrupted_profile_shows_what_there_is_and_others_are_served_meanwhile() {
    let mut host = burners();
    let (mut session, mut other) = (host.connect(), host.connect());
    session.stream().write_all(b"profile 600 --wall --min 0\n").expect("send");
    // A whole dump, ended by its prompt, while the profile goes on.
    assert!(other.command("stacks").contains("nap_here"));
    while !other.command("threads Manhole").contains("Manhole") {}
    std::thread::sleep(std::time::Duration::from_millis(200));
    session.stream().write_all(b"^C\n").expect("send");
    let text = session.answer();
    assert!(text.contains("TOTAL %") && text.contains("sleeper (burners"), "{text}");
    // The session goes on.
    assert!(session.command("help profile").contains("--speedscope"));
}
