//! `locks` and `syscalls` against fixtures that print who holds what, and against gdb.

mod harness;

use std::collections::HashMap;
use std::ffi::CStr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use harness::fixtures::{Compiler, build, fixture, has_program};
use harness::host::{Host, Launch};
use harness::session::Session;
use serde_json::Value;

/// The lines `NAME VALUE` of a fixture.
fn told(host: &Host) -> HashMap<String, i64> {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    };
    host.lines()
        .iter()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(name, value)| Some((name.to_owned(), number(value)?)))
        .collect()
}

fn array(session: &mut Session, line: &str) -> Vec<Value> {
    let text = session.command(line);
    serde_json::from_str::<Value>(&text)
        .unwrap_or_else(|error| panic!("{error}: {text}"))
        .as_array()
        .expect("array")
        .clone()
}

/// The answer of `locks --json`, by kind.
struct Answer(Vec<Value>);

impl Answer {
    fn of(host: &mut Host) -> Self {
        Self(array(&mut host.connect(), "locks --json"))
    }

    fn kind(&self, kind: &str) -> Vec<&Value> {
        self.0.iter().filter(|record| record["kind"] == kind).collect()
    }

    /// The lock at `address`, of this kind.
    #[track_caller]
    fn lock(&self, address: i64, kind: &str) -> &Value {
        let address = format!("{address:#x}");
        let found = self.kind("lock").into_iter().find(|lock| lock["address"] == address.as_str());
        let found = found.unwrap_or_else(|| panic!("no lock at {address}: {:#?}", self.0));
        assert_eq!(found["lock_kind"], kind, "{found:#}");
        found
    }

    /// The lock that the thread of this name waits for.
    #[track_caller]
    fn awaited_by(&self, name: &str) -> &Value {
        let found = self.kind("lock").into_iter().find(|lock| waiters(lock).contains(&name.to_owned()));
        found.unwrap_or_else(|| panic!("{name} waits for nothing: {:#?}", self.0))
    }
}

/// The names of a lock's waiters, in order.
fn waiters(lock: &Value) -> Vec<String> {
    let waiters = lock["waiters"].as_array().expect("waiters");
    let mut names: Vec<String> =
        waiters.iter().map(|waiter| waiter["name"].as_str().expect("name").to_owned()).collect();
    names.sort();
    names
}

/// In a mount namespace where nobody finds separate debug files: libc is then known by what it exports.
fn without_debug_files(launch: Launch) -> Launch {
    launch.with(|command| {
        let hide = || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
            let mount = |source: &CStr, target: &CStr, kind: &CStr, flags| {
                let (source, target, kind) = (source.as_ptr(), target.as_ptr(), kind.as_ptr());
                // SAFETY: NUL-terminated paths, and no data.
                nix::errno::Errno::result(unsafe { libc::mount(source, target, kind, flags, std::ptr::null()) })
            };
            mount(c"none", c"/", c"none", libc::MS_REC | libc::MS_PRIVATE)?;
            mount(c"none", c"/usr/lib/debug", c"tmpfs", 0)?;
            Ok(())
        };
        // SAFETY: system calls only.
        unsafe { command.pre_exec(hide) };
    })
}

/// `launch` as it is, and where that can be had, without debug files.
fn both_ways(make: impl Fn() -> Launch, check: impl Fn(&mut Host)) {
    let mut host = make().start();
    check(&mut host);
    assert_eq!(host.release(), "PASS", "{}", host.story());
    if !nix::unistd::geteuid().is_root() || !Path::new("/usr/lib/debug").is_dir() {
        println!("skipped: hiding debug files needs root and /usr/lib/debug");
        return;
    }
    let mut host = without_debug_files(make()).start();
    check(&mut host);
    assert_eq!(host.release(), "PASS", "{}", host.story());
}

#[test]
fn three_threads_in_a_circle() {
    let builds: [(&[&str], bool); 3] = [
        (&["-O1", "-pthread"], true),
        (&["-O1", "-pthread", "-s", "-rdynamic"], true),
        (&["-O1", "-pthread", "-s"], false),
    ];
    for (flags, has_symbols) in builds {
        let program = build("locks_deadlock", Compiler::Gnu, flags);
        both_ways(|| Launch::new(&program).when_it_says("ready"), |host| circle(host, has_symbols));
    }
}

fn circle(host: &mut Host, has_symbols: bool) {
    let told = told(host);
    let answer = Answer::of(host);
    for (lock, holder, wanting) in
        [("lock_a", "a", vec!["c", "d"]), ("lock_b", "b", vec!["a"]), ("lock_c", "c", vec!["b"])]
    {
        let lock_record = answer.lock(told[lock], "mutex");
        assert_eq!(lock_record["holder"]["tid"], told[holder], "{lock_record:#}");
        assert_eq!(lock_record["holder"]["name"], holder);
        assert_eq!(lock_record["holder"]["doing"], "waits");
        assert_eq!((&lock_record["flavour"], &lock_record["state"]), (&"normal".into(), &"locked".into()));
        assert_eq!(waiters(lock_record), wanting);
        assert_eq!(lock_record["symbol"], if has_symbols { lock.into() } else { Value::Null });
        assert!(lock_record["place"].as_str().expect("place").contains("locks_deadlock"), "{lock_record:#}");
    }
    let deadlocks = answer.kind("deadlock");
    let [deadlock] = deadlocks.as_slice() else { panic!("{:#?}", answer.0) };
    let links = deadlock["links"].as_array().expect("links");
    let cycle: Vec<i64> = links.iter().map(|link| link["tid"].as_i64().expect("tid")).collect();
    assert_eq!(cycle, [told["a"], told["b"], told["c"]], "the smallest id comes first");
    let held: Vec<i64> = links.iter().map(|link| link["held_by"].as_i64().expect("tid")).collect();
    assert_eq!(held, [told["b"], told["c"], told["a"]]);
    assert_eq!(deadlock["threads_behind"], 1, "d is behind it");
    assert!(answer.kind("convoy").is_empty());

    let text = host.connect().command("locks");
    let lock = |name: &str| match has_symbols {
        true => format!("mutex {:#x} ({name})", told[name]),
        false => format!("mutex {:#x}", told[name]),
    };
    let (a, b, c) = (told["a"], told["b"], told["c"]);
    let expected = format!(
        "DEADLOCK 1: thread {a} \"a\" waits for {} held by thread {b} \"b\", which waits for {} held by thread {c} \"c\", \
         which waits for {} held by thread {a} \"a\"\n",
        lock("lock_b"),
        lock("lock_c"),
        lock("lock_a")
    );
    assert!(text.contains(&expected), "{expected}{text}");
    assert!(host.connect().command("locks nobody").starts_with("error: no thread that matches"));
    // A thread's own view.
    let text = host.connect().command("locks d");
    assert!(text.contains(&lock("lock_a")) && !text.contains(&lock("lock_b")) && !text.contains("DEADLOCK"), "{text}");
}

/// gdb reads the same owners out of the same words.
#[test]
fn gdb_names_the_same_owners() {
    if !has_program("gdb") {
        println!("skipped: no gdb");
        return;
    }
    let program = build("locks_deadlock", Compiler::Gnu, &["-O1", "-g", "-pthread"]);
    let mut host = Launch::new(program).when_it_says("ready").start();
    let answer = Answer::of(&mut host);
    for name in ["lock_a", "lock_b", "lock_c"] {
        let output = Command::new("gdb")
            .args(["-nx", "-q", "-batch", "-iex", "set debuginfod enabled off", "-p", &host.pid().to_string()])
            .args(["-ex", &format!("printf \"owner=%d\\n\", {name}.__data.__owner")])
            .output()
            .expect("gdb");
        let text = String::from_utf8_lossy(&output.stdout);
        let owner: i64 = text
            .split("owner=")
            .nth(1)
            .and_then(|rest| rest.lines().next())
            .and_then(|it| it.parse().ok())
            .expect(&text);
        let lock = answer.kind("lock").into_iter().find(|lock| lock["symbol"] == name).expect("the lock");
        assert_eq!(lock["holder"]["tid"], owner);
    }
}

#[test]
fn the_holder_has_exited() {
    both_ways(
        || Launch::fixture("locks_exited"),
        |host| {
            let told = told(host);
            let answer = Answer::of(host);
            let lock = answer.lock(told["left_locked"], "mutex");
            assert_eq!((&lock["holder"]["tid"], &lock["holder"]["doing"]), (&told["gone"].into(), &"exited".into()));
            assert_eq!(waiters(lock), ["heir"]);
            let robust = answer.lock(told["robust"], "mutex");
            assert_eq!(
                (&robust["holder"]["tid"], &robust["holder"]["doing"]),
                (&told["second"].into(), &"blocks".into())
            );
            assert_eq!(robust["flavour"], "normal, robust");
            assert_eq!(robust["state"], "locked, its former owner died with it");
            assert_eq!(waiters(robust), ["third"]);
            assert!(answer.kind("deadlock").is_empty());
            let text = host.connect().command("locks");
            let expected = format!("    held by thread {}, which has exited: nobody will unlock it\n", told["gone"]);
            assert!(text.contains(&expected), "{text}");
        },
    );
}

#[test]
fn rwlocks_and_both_sides_of_them() {
    both_ways(
        || Launch::fixture("locks_rwlock"),
        |host| {
            let told = told(host);
            let answer = Answer::of(host);
            let written = answer.lock(told["written"], "rwlock");
            assert_eq!(written["holder"]["tid"], told["writer"], "{written:#}");
            assert_eq!(written["state"], "held by a writer");
            assert_eq!(waiters(written), ["reader1", "reader2", "writer2"]);
            let wants = |lock: &Value, name: &str| {
                let waiters = lock["waiters"].as_array().expect("waiters").clone();
                waiters.iter().find(|waiter| waiter["name"] == name).expect("waiter")["wants"].clone()
            };
            assert_eq!((wants(written, "reader1"), wants(written, "writer2")), ("read".into(), "write".into()));
            let read = answer.lock(told["being_read"], "rwlock");
            assert_eq!((&read["holder"], &read["readers"]), (&Value::Null, &2.into()), "{read:#}");
            assert_eq!(waiters(read), ["writer3"]);
            let first = answer.lock(told["writers_first"], "rwlock");
            assert_eq!(first["readers"], 2, "{first:#}");
            assert_eq!(waiters(first), ["reader3", "writer4"]);
            assert!(answer.kind("deadlock").is_empty());
        },
    );
}

#[test]
fn conditions_and_the_mutex_that_was_given_up() {
    both_ways(
        || Launch::fixture("locks_condition"),
        |host| {
            let told = told(host);
            let answer = Answer::of(host);
            let work = answer.lock(told["work"], "condition variable");
            assert_eq!(waiters(work), ["idle", "timed"], "{work:#}");
            assert_eq!((&work["state"], &work["symbol"]), (&"2 waiting".into(), &"work".into()));
            for waiter in work["waiters"].as_array().expect("waiters") {
                assert_eq!(waiter["gave_up"], format!("{:#x}", told["work_lock"]), "{work:#}");
                assert_eq!(waiter["gave_up_symbol"], "work_lock");
                assert_eq!(waiter["timed"], waiter["name"] == "timed");
            }
            let held = answer.lock(told["held_lock"], "mutex");
            assert_eq!(waiters(held), ["woken"], "{held:#}");
            assert_eq!(held["holder"]["tid"], told["signaller"]);
        },
    );
}

#[test]
fn every_kind_has_its_address_its_holder_and_its_waiters() {
    both_ways(
        || Launch::fixture("locks_kinds"),
        |host| {
            let told = told(host);
            let answer = Answer::of(host);
            let holder = told["holder"];
            for (name, flavour, state) in [
                ("plain", "normal", "locked"),
                ("recursive", "recursive", "locked 3 times"),
                ("errorcheck", "errorcheck", "locked"),
                ("inheriting", "normal, priority-inheriting", "locked"),
                ("shared", "normal, process-shared", "locked"),
                ("in_table", "normal", "locked"),
                ("on_heap", "normal", "locked"),
            ] {
                let lock = answer.lock(told[name], "mutex");
                assert_eq!(lock["holder"]["tid"], holder, "{lock:#}");
                assert_eq!(lock["holder"]["doing"], "blocks");
                assert!(lock["holder"]["call"].as_str().expect("call").starts_with("ppoll("), "{lock:#}");
                assert_eq!(
                    (lock["flavour"].as_str(), lock["state"].as_str()),
                    (Some(flavour), Some(state)),
                    "{lock:#}"
                );
                assert!(waiters(lock).contains(&format!("w_{name}")), "{lock:#}");
            }
            assert_eq!(answer.lock(told["in_table"], "mutex")["symbol"], "table+0xc8");
            let place = answer.lock(told["on_heap"], "mutex")["place"].clone();
            assert!(place.as_str().expect("place").contains("heap"), "{place}");
            assert_eq!(waiters(answer.lock(told["semaphore"], "semaphore")), ["w_semaphore"]);
            assert_eq!(answer.lock(told["semaphore"], "semaphore")["state"], "value 0, 1 waiting");
            assert_eq!(answer.lock(told["barrier"], "barrier")["state"], "1 of 3 have come");
            let join = answer.awaited_by("w_join");
            assert_eq!((&join["lock_kind"], &join["holder"]["tid"]), (&"join".into(), &holder.into()));
            let stdio = answer.awaited_by("w_stdio");
            assert_eq!(
                (&stdio["lock_kind"], &stdio["holder"]["tid"]),
                (&"stdio lock".into(), &holder.into()),
                "{stdio:#}"
            );
            // One that waits for itself is a cycle of its own.
            let deadlocks = answer.kind("deadlock");
            let [deadlock] = deadlocks.as_slice() else { panic!("{:#?}", answer.0) };
            assert_eq!(deadlock["links"].as_array().expect("links").len(), 1);
            assert_eq!(deadlock["links"][0]["name"], "w_itself");
            let convoys = answer.kind("convoy");
            let [convoy] = convoys.as_slice() else { panic!("{:#?}", answer.0) };
            assert_eq!((&convoy["head"]["tid"], &convoy["threads_behind"]), (&holder.into(), &10.into()));
            let text = host.connect().command("locks w_itself");
            assert!(text.contains("that it holds itself"), "{text}");
            let text = host.connect().command("locks w_timed");
            assert!(text.contains("\"w_timed\" in lock_for_an_hour+0x"), "{text}");
            assert!(text.contains(", for a limited time\n"), "{text}");
        },
    );
}

#[test]
fn a_join_closes_a_cycle() {
    let mut host = Launch::fixture("locks_join").start();
    let told = told(&host);
    let answer = Answer::of(&mut host);
    let deadlocks = answer.kind("deadlock");
    let [deadlock] = deadlocks.as_slice() else { panic!("{:#?}", answer.0) };
    let kind_of = |name: &str| {
        let links = deadlock["links"].as_array().expect("links");
        links.iter().find(|link| link["name"] == name).expect("link")["lock_kind"].clone()
    };
    assert_eq!((kind_of("joiner"), kind_of("needy")), ("join".into(), "mutex".into()));
    let text = host.connect().command("locks");
    let (needy, joiner) = (told["needy"], told["joiner"]);
    let needs = format!("waits for mutex {:#x} (needed) held by thread {joiner} \"joiner\"", told["needed"]);
    assert!(text.contains(&needs), "{text}");
    assert!(text.contains(&format!("waits for the end of thread {needy} \"needy\"")), "{text}");
}

#[test]
fn a_cpp_deadlock_without_any_debug_information() {
    both_ways(
        || Launch::fixture("locks_cpp"),
        |host| {
            let told = told(host);
            let answer = Answer::of(host);
            assert_eq!(answer.lock(told["one"], "mutex")["holder"]["tid"], told["forth"]);
            assert_eq!(answer.lock(told["two"], "mutex")["holder"]["tid"], told["back"]);
            assert_eq!(answer.kind("deadlock").len(), 1);
            // The main thread joins one of them, and stands behind.
            assert_eq!(answer.kind("deadlock")[0]["threads_behind"], 0);
        },
    );
}

#[test]
fn a_rust_mutex_is_known_and_its_holder_is_not() {
    let mut host = Launch::fixture("locks_rust").start();
    let told = told(&host);
    let answer = Answer::of(&mut host);
    let lock = answer.awaited_by("wanting");
    assert_eq!(lock["lock_kind"], "Rust mutex", "{lock:#}");
    let address = i64::from_str_radix(lock["address"].as_str().expect("address").trim_start_matches("0x"), 16);
    assert!((told["LOCK"]..told["LOCK"] + 12).contains(&address.expect("hexadecimal")), "{lock:#}");
    assert_eq!((&lock["holder"], &lock["holder_unrecorded"]), (&Value::Null, &true.into()));
    assert_eq!(answer.awaited_by("keeper")["lock_kind"], "Rust thread parker");
}

/// With the allocator's lock held for ever, too.
#[test]
fn the_lock_of_mallocs_arena() {
    both_ways(
        || {
            let one = "glibc.malloc.arena_max=1";
            Launch::fixture("locks_arena").option("start_timeout=20").env("GLIBC_TUNABLES", one)
        },
        |host| {
            let told = told(host);
            let answer = Answer::of(host);
            let lock = answer.lock(told["arena"], "low-level lock (malloc arena)");
            assert_eq!(waiters(lock), ["starved"], "{lock:#}");
            assert_eq!((&lock["holder"], &lock["holder_unrecorded"]), (&Value::Null, &true.into()));
            assert!(lock["place"].as_str().expect("place").contains("libc"), "{lock:#}");
        },
    );
}

#[test]
fn two_thousand_threads_behind_one() {
    let mut host = Launch::fixture("locks_convoy").args(["2000"]).start();
    let told = told(&host);
    let began = Instant::now();
    let answer = Answer::of(&mut host);
    println!("2,000 waiters: {} with connecting", humantime(began.elapsed()));
    let lock = answer.lock(told["crowded"], "mutex");
    assert_eq!(waiters(lock).len(), 2000);
    let convoys = answer.kind("convoy");
    let [convoy] = convoys.as_slice() else { panic!("{convoys:#?}") };
    assert_eq!((&convoy["head"]["tid"], &convoy["threads_behind"]), (&told["slow"].into(), &2000.into()));
    let text = host.connect().command("locks");
    assert!(text.contains("CONVOY: 2000 threads stand behind thread"), "{text}");
    assert!(text.contains("    and by 1992 more threads\n") && text.lines().count() < 20, "{text}");
}

fn humantime(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

/// Contention is no deadlock, however often one looks.
#[test]
fn a_busy_process_never_has_a_deadlock() {
    let mut host = Launch::fixture("locks_busy").start();
    let mut session = host.connect();
    let mut waiting = 0;
    for _ in 0..200 {
        let records = array(&mut session, "locks --json");
        assert!(records.iter().all(|record| record["kind"] != "deadlock"), "{records:#?}");
        let gone = records.iter().any(|record| record["holder"]["doing"] == "exited");
        assert!(!gone, "{records:#?}");
        waiting += records.iter().filter(|record| record["kind"] == "lock").count();
    }
    assert!(waiting > 50, "there was contention: {waiting} locks with waiters");
    println!("{waiting} locks with waiters in 200 looks");
    drop(session);
    assert_eq!(host.release(), "PASS");
}

#[test]
fn system_calls_name_the_lock_and_its_holder() {
    both_ways(
        || Launch::fixture("locks_deadlock"),
        |host| {
            let told = told(host);
            let mut session = host.connect();
            let text = session.command("syscalls a");
            let (a, b) = (told["a"], told["b"]);
            let expected = format!(
                "{a:>7} a               futex({:#x} mutex lock_b held by thread {b} \"b\", FUTEX_WAIT_PRIVATE, 2, timeout=none)\n",
                told["lock_b"]
            );
            assert!(text.ends_with(&expected), "{expected}{text}");
            let rows = array(&mut session, "syscalls a --over 1 --json");
            let [row] = rows.as_slice() else { panic!("{rows:#?}") };
            assert_eq!((&row["call_name"], &row["holder"]), (&"futex".into(), &b.into()));
            assert_eq!(row["lock"], format!("{:#x}", told["lock_b"]));
            assert!(row["at_least_seconds"].as_f64().expect("seconds") >= 1.0, "{row:#}");
            assert!(session.command("syscalls nobody").starts_with("error: no thread matches"));
        },
    );
}

#[test]
fn system_calls_say_how_long_only_of_threads_that_stay_in_them() {
    let mut host = Launch::fixture("blocking_calls").start();
    let mut session = host.connect();
    let rows = array(&mut session, "syscalls --over 1 --json");
    let names = ["poll", "nanosleep", "recv", "accept", "condition", "futex_timed"];
    for name in names {
        let row = rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("{name}: {rows:#?}"));
        assert!(row["at_least_seconds"].as_f64().is_some_and(|seconds| seconds >= 1.0), "{row:#}");
    }
    let of = |name: &str| {
        rows.iter().find(|row| row["name"] == name).expect("row")["call"].as_str().expect("call").to_owned()
    };
    assert!(of("pipe_read").starts_with("read(fd ") && of("pipe_read").contains(" pipe:["), "{}", of("pipe_read"));
    assert!(of("condition").contains(" condition variable"), "{}", of("condition"));
    drop(session);
    assert_eq!(host.release(), "PASS", "{}", host.story());

    let mut host = Launch::fixture("endless_loop").start();
    let pid = host.pid();
    let row = array(&mut host.connect(), &format!("syscalls {pid} --over 1 --json")).remove(0);
    assert_eq!((&row["call"], &row["at_least_seconds"]), (&Value::Null, &Value::Null), "{row:#}");
    assert!(host.connect().command(&format!("syscalls {pid}")).contains("(running)"));
    assert!(fixture("endless_loop").exists());
}
