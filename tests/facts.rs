//! What `env`, `cmdline`, `auxv`, `status`, `cgroup`, `uptime`, `signals` and `timers` say is what `/proc`, `ps` and the
//! fixture itself say.

mod harness;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use harness::fixtures::fixture;
use harness::host::{Host, Launch};
use harness::session::Session;
use harness::{Scratch, is_ours};
use serde_json::Value;

fn launch() -> Launch {
    let launch = Launch::fixture("facts").env("FACTS_SAME", "same").env("FACTS_CHANGED", "before");
    launch.env("FACTS_REMOVED", "gone")
}

fn records(session: &mut Session, line: &str) -> Vec<Value> {
    let answer = session.command(&format!("{line} --json"));
    serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{line}: {error}: {answer}"))
}

/// The records of one kind.
fn of_kind(records: &[Value], kind: &str) -> Vec<Value> {
    records.iter().filter(|record| record["kind"] == kind).cloned().collect()
}

fn proc_text(host: &Host, name: &str) -> String {
    String::from_utf8_lossy(&std::fs::read(format!("/proc/{}/{name}", host.pid())).expect(name)).into_owned()
}

/// A field of `/proc/PID/status`.
fn status_field(host: &Host, name: &str) -> String {
    let status = proc_text(host, "status");
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).expect(name);
    line.trim().to_owned()
}

fn ps(host: &Host, column: &str) -> String {
    let output =
        Command::new("ps").env("TZ", "UTC").args(["-o", &format!("{column}="), "-p", &host.pid().to_string()]).output();
    String::from_utf8_lossy(&output.expect("ps").stdout).trim().to_owned()
}

#[test]
fn the_environment_now_and_at_the_start() {
    let mut host = launch().start();
    let mut session = host.connect();
    let text = session.command("env FACTS_*");
    let expected = "FACTS_SAME=\"same\"\n\
        FACTS_CHANGED=\"after\"   (changed since the start, was \"before\")\n\
        FACTS_ADDED=\"new\\x0a\\x1b[31m\\\"value\\\"\"   (added since the start)\n\
        FACTS_PUT=\"put\"   (added since the start)\n\
        FACTS_REMOVED   (removed since the start, was \"gone\")\n";
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&text), sorted(expected));

    // What did not change is what the kernel has, all of it.
    let records = records(&mut session, "env");
    let same: BTreeMap<String, String> = records
        .iter()
        .filter(|record| record["state"] == "same")
        .map(|record| (record["name"].as_str().unwrap().to_owned(), record["value"].as_str().unwrap().to_owned()))
        .collect();
    let environ = proc_text(&host, "environ");
    let theirs: BTreeMap<String, String> = environ
        .split('\0')
        .filter_map(|string| string.split_once('='))
        .filter(|(name, _)| !["FACTS_CHANGED", "FACTS_REMOVED"].contains(name))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    assert_eq!(same, theirs);
    let state = |name: &str| records.iter().find(|record| record["name"] == name).expect("listed")["state"].clone();
    assert_eq!([state("FACTS_ADDED"), state("FACTS_CHANGED"), state("FACTS_REMOVED")], ["added", "changed", "removed"]);
    assert!(session.command("env NO_SUCH_*").starts_with("error: no variable matches \"NO_SUCH_*\""));
    drop(session);
    assert_eq!(host.release(), "PASS");
}

#[test]
fn the_command_line_and_its_title() {
    let scratch = Scratch::new();
    let mut host = launch().args(["title", "a b", ""]).directory(scratch.path()).start();
    let mut session = host.connect();
    let record = &records(&mut session, "cmdline")[0];
    let program = fixture("facts").to_str().expect("UTF-8").to_owned();
    assert_eq!(record["arguments"], serde_json::json!(["facts: a title"]));
    assert_eq!(record["argv"], serde_json::json!([program, "title", "a b", ""]));
    assert_eq!(
        (&record["is_title"], &record["deleted"], &record["replaced"]),
        (&true.into(), &false.into(), &false.into())
    );
    assert_eq!(
        record["executable"].as_str(),
        std::fs::read_link(format!("/proc/{}/exe", host.pid())).unwrap().to_str()
    );
    assert_eq!(record["working_folder"].as_str(), scratch.path().to_str());
    assert_eq!(record["root"], "/");
    assert_eq!(record["umask"].as_str().unwrap(), status_field(&host, "Umask"));
    let text = session.command("cmdline");
    assert!(text.starts_with("title              \"facts: a title\"\n"), "{text}");
    assert!(text.contains(&format!("argv               {program} title \"a b\" \"\"\n")), "{text}");
    drop(session);
    assert_eq!(host.release(), "PASS");

    // Without a title both are the kernel's.
    let mut host = launch().args(["plain"]).start();
    let mut session = host.connect();
    let record = &records(&mut session, "cmdline")[0];
    let cmdline = proc_text(&host, "cmdline");
    let theirs: Vec<&str> = cmdline.trim_end_matches('\0').split('\0').collect();
    assert_eq!((&record["arguments"], &record["argv"]), (&serde_json::json!(theirs), &serde_json::json!(theirs)));
    drop(session);
    assert_eq!(host.release(), "PASS");
}

#[test]
fn an_executable_that_was_deleted_or_replaced_is_said_to_be() {
    let scratch = Scratch::new();
    let program = scratch.path().join("program");
    std::fs::copy(fixture("facts"), &program).expect("copy");
    let mut host = Launch::new(&program).when_it_says("ready").start();
    let mut session = host.connect();
    let executable = |session: &mut Session| {
        let text = session.command("cmdline");
        text.lines().find(|line| line.starts_with("executable")).expect("a line").to_owned()
    };
    let path = program.to_str().expect("UTF-8");
    assert_eq!(executable(&mut session), format!("executable         {path}"));
    std::fs::remove_file(&program).expect("remove");
    assert_eq!(executable(&mut session), format!("executable         {path} (deleted)"));
    std::fs::write(&program, "another").expect("write");
    let expected = format!("executable         {path} (replaced: another file has this name now)");
    assert_eq!(executable(&mut session), expected);
    drop(session);
    assert_eq!(host.release(), "PASS");
}

#[test]
fn a_script_is_named_beside_its_interpreter() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new();
    let script = scratch.path().join("script");
    std::fs::write(&script, "#!/bin/sh -e\necho ready\nread line\necho PASS\n").expect("write");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    let mut host = Launch::new(&script).args(["one"]).when_it_says("ready").start();
    let mut session = host.connect();
    let record = &records(&mut session, "cmdline")[0];
    assert_eq!(record["script"].as_str(), script.to_str());
    let shell = std::fs::canonicalize("/bin/sh").expect("sh");
    assert_eq!(record["executable"].as_str(), shell.to_str());
    assert!(session.command("cmdline").contains(&format!("script             {}, which", script.display())));
    drop(session);
    assert_eq!(host.release(), "PASS");
}

#[test]
fn the_auxiliary_vector_is_decoded() {
    let mut host = launch().start();
    let mut session = host.connect();
    let entries = records(&mut session, "auxv");
    let bytes = std::fs::read(format!("/proc/{}/auxv", host.pid())).expect("auxv");
    let words: Vec<u64> = bytes.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect();
    let theirs: Vec<(u64, u64)> =
        words.chunks(2).map(|pair| (pair[0], pair[1])).take_while(|pair| pair.0 != 0).collect();
    let number = |text: &Value| u64::from_str_radix(text.as_str().unwrap().trim_start_matches("0x"), 16).unwrap();
    let ours: Vec<(u64, u64)> =
        entries.iter().map(|entry| (entry["number"].as_u64().unwrap(), number(&entry["value"]))).collect();
    assert_eq!(ours, theirs);
    // What the loader shows of the vector (ld.so(8), LD_SHOW_AUXV) it names as we do.
    let shown = Command::new("/bin/true").env("LD_SHOW_AUXV", "1").output().expect("true");
    for line in String::from_utf8_lossy(&shown.stdout).lines() {
        let Some((name, _)) = line.split_once(':').filter(|(name, _)| !name.contains("?")) else { continue };
        assert!(entries.iter().any(|entry| entry["name"] == name), "{name}: {entries:?}");
    }
    let text = session.command("auxv");
    assert!(text.contains("AT_PAGESZ              4096\n") && text.contains("AT_SECURE              0\n"), "{text}");
    assert!(text.contains(&format!("AT_EXECFN              \"{}\"\n", fixture("facts").display())), "{text}");
    assert!(text.lines().any(|line| line.starts_with("AT_ENTRY ") && line.ends_with(" <_start>")), "{text}");
    drop(session);
    assert_eq!(host.release(), "PASS");
}

#[test]
fn the_status_is_that_of_ps_and_proc() {
    let mut host = launch().start();
    let mut session = host.connect();
    let record = &records(&mut session, "status")[0];
    let text = session.command("status");
    let own = std::process::id();
    assert_eq!(record["pid"], host.pid());
    assert_eq!(record["parent_pid"], own);
    assert_eq!((&record["name"], &record["state"]), (&"the first".into(), &"sleeping".into()));
    let parent = std::fs::read_to_string("/proc/self/comm").expect("comm");
    assert!(text.contains(&format!("parent             {own} ({})\n", parent.trim_end())), "{text}");
    assert_eq!(record["process_group"].to_string(), ps(&host, "pgid"));
    assert_eq!(record["session"].to_string(), ps(&host, "sess"));
    assert_eq!(record["nice"].to_string(), ps(&host, "nice"));
    assert_eq!(record["threads"].to_string(), ps(&host, "nlwp"));
    assert_eq!(record["users"][1]["id"].to_string(), ps(&host, "euid"));
    assert_eq!(record["users"][1]["name"].as_str().unwrap_or_default(), ps(&host, "euser"));
    assert_eq!(record["groups"][0]["name"].as_str().unwrap_or_default(), ps(&host, "rgroup"));
    assert_eq!(record["affinity"].as_str().unwrap(), status_field(&host, "Cpus_allowed_list"));
    assert_eq!(record["oom_score_adj"].to_string(), proc_text(&host, "oom_score_adj").trim());
    assert_eq!(
        (&record["policy"], &record["seccomp"], &record["dumpable"]),
        (&"other".into(), &"none".into(), &1.into())
    );
    let set = u64::from_str_radix(&status_field(&host, "CapEff"), 16).expect("CapEff");
    assert_eq!(record["capabilities_effective"].as_array().unwrap().len() as u32, set.count_ones());
    for namespace in record["namespaces"].as_array().expect("namespaces") {
        let kind = namespace["namespace"].as_str().expect("a kind");
        let theirs = std::fs::read_link(format!("/proc/{}/ns/{kind}", host.pid())).expect("link");
        assert_eq!(theirs.to_str().unwrap(), format!("{kind}:[{}]", namespace["inode"]));
        assert_eq!(namespace["is_parents"], true);
    }
    assert!(record["namespaces"].as_array().unwrap().len() >= 7);
    let lstart = Command::new("date").args(["-u", "-d", &ps(&host, "lstart"), "+%s"]).output().expect("date");
    let theirs: f64 = String::from_utf8_lossy(&lstart.stdout).trim().parse().expect("seconds");
    let started = record["started_at"].as_f64().expect("started_at");
    assert!((started - theirs).abs() < 2.5, "{started}, ps says {theirs}");
    drop(session);
    assert_eq!(host.release(), "PASS");
}

/// `setpriv` takes rights away and `unshare` a namespace, and this is seen.
#[test]
fn changed_rights_and_namespaces_are_shown() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root");
        return;
    }
    let mut host = Launch::new("setpriv")
        .args(["--bounding-set", "-sys_admin", "--no-new-privs"])
        .args([fixture("facts")])
        .when_it_says("ready")
        .start();
    let mut session = host.connect();
    let record = &records(&mut session, "status")[0];
    let text = session.command("status");
    assert_eq!(record["no_new_privileges"], true);
    assert!(text.contains("bounding: all but ") && text.contains("sys_admin"), "{text}");
    let effective = record["capabilities_effective"].as_array().expect("names");
    assert!(!effective.contains(&"sys_admin".into()) && effective.contains(&"sys_ptrace".into()), "{record}");
    drop(session);
    assert_eq!(host.release(), "PASS");

    let mut host = Launch::new("unshare").args(["--uts"]).args([fixture("facts")]).when_it_says("ready").start();
    let mut session = host.connect();
    let text = session.command("status");
    assert!(text.contains("namespaces         own: uts; the parent's: "), "{text}");
    drop(session);
    assert_eq!(host.release(), "PASS");
}

#[test]
fn control_groups_are_those_of_proc() {
    let mut host = launch().start();
    let mut session = host.connect();
    let records = records(&mut session, "cgroup");
    let ours: Vec<(String, String)> = of_kind(&records, "cgroup")
        .iter()
        .map(|group| {
            let controllers: Vec<&str> =
                group["controllers"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
            (controllers.join(","), group["path"].as_str().unwrap().to_owned())
        })
        .collect();
    let theirs: Vec<(String, String)> = proc_text(&host, "cgroup")
        .lines()
        .map(|line| {
            let mut fields = line.splitn(3, ':').skip(1).map(str::to_owned);
            (fields.next().unwrap(), fields.next().unwrap())
        })
        .collect();
    assert_eq!(ours, theirs);
    // Limits where they are visible: read here by other code.
    for memory in of_kind(&records, "cgroup_memory") {
        let group = of_kind(&records, "cgroup").into_iter().find(|group| {
            let controllers = group["controllers"].as_array().unwrap();
            !group["folder"].is_null() && (controllers.is_empty() || controllers.contains(&"memory".into()))
        });
        let folder = group.expect("a group with memory")["folder"].as_str().unwrap().to_owned();
        let file = |names: [&str; 2]| {
            let text = names.iter().find_map(|name| std::fs::read_to_string(format!("{folder}/{name}")).ok());
            text.expect("a file").trim().parse::<u64>().expect("a number")
        };
        let theirs = file(["memory.current", "memory.usage_in_bytes"]);
        let ours = memory["current_bytes"].as_u64().expect("bytes");
        assert!(ours > theirs / 4 && ours < theirs.saturating_mul(4), "{ours} {theirs}");
        if let Some(limit_of) = memory["limit_of"].as_str() {
            let names = ["memory.max", "memory.limit_in_bytes"];
            let text = names.iter().find_map(|name| std::fs::read_to_string(format!("{limit_of}/{name}")).ok());
            assert_eq!(memory["limit_bytes"].to_string(), text.expect("the limit").trim());
        }
    }
    let text = session.command("cgroup");
    assert!(text.contains("memory ") && text.contains("processes "), "{text}");
    drop(session);
    assert_eq!(host.release(), "PASS");
}

#[test]
fn the_uptime_is_that_of_ps() {
    let before = SystemTime::now().duration_since(UNIX_EPOCH).expect("now").as_secs_f64();
    let mut host = launch().start();
    let mut session = host.connect();
    let record = &records(&mut session, "uptime")[0];
    let after = SystemTime::now().duration_since(UNIX_EPOCH).expect("now").as_secs_f64();
    let number = |name: &str| record[name].as_f64().expect("a number");
    // Clock ticks are 10 ms.
    let started = number("started_at");
    assert!(started > before - 0.02 && started < after, "{before} {started} {after}");
    assert!(number("seconds") < after - before + 0.02 && number("cpu_seconds") > 0.0, "{record}");
    let date = Command::new("date").args(["-u", "-d", &format!("@{}", started as u64), "+%F %T UTC"]).output();
    assert_eq!(record["started"].as_str().unwrap(), String::from_utf8_lossy(&date.expect("date").stdout).trim());
    let machine: f64 = std::fs::read_to_string("/proc/uptime").unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((number("machine_seconds") - machine).abs() < 5.0);
    assert_eq!(record["load"].as_array().unwrap().len(), 3);
    assert!(session.command("uptime").contains("started            20"));
    drop(session);
    assert_eq!(host.release(), "PASS");
}

#[test]
fn dispositions_masks_and_pending_signals() {
    let mut host = launch().start();
    let mut session = host.connect();
    let text = session.command("signals");
    let line = |name: &str| {
        let line = text.lines().find(|line| line.split_whitespace().next() == Some(name));
        line.unwrap_or_else(|| panic!("no {name}: {text}")).to_owned()
    };
    let program = fixture("facts");
    let program = program.file_name().unwrap().to_str().unwrap();
    let usr1 = format!("SIGUSR1        on_usr1 ({program})   SA_SIGINFO|SA_RESTART   mask SIGUSR2 SIGTERM");
    assert_eq!(line("SIGUSR1"), usr1);
    assert_eq!(line("SIGWINCH"), format!("SIGWINCH       on_winch ({program})   SA_NODEFER|SA_RESETHAND"));
    assert!(line("ignored").starts_with("ignored        SIGHUP"), "{text}");
    assert!(line("default").contains(" SIGTERM ") && !line("default").contains("SIGUSR1"), "{text}");
    assert!(text.contains("pending for the process: SIGRTMIN+2   ("), "{text}");
    let first = format!("thread {} (the first) blocks SIGURG SIGRTMIN+2; pending SIGURG\n", host.pid());
    assert!(text.contains(&first), "{text}");

    // Every signal against the kernel's masks of what is caught and ignored.
    let records = records(&mut session, "signals");
    let mask = |name: &str| u64::from_str_radix(&status_field(&host, name), 16).expect("a mask");
    let (caught, ignored) = (mask("SigCgt"), mask("SigIgn"));
    let actions = of_kind(&records, "signal");
    assert_eq!(actions.len(), 64);
    for action in &actions {
        let number = action["number"].as_u64().unwrap();
        let expected = match 1 << (number - 1) {
            bit if caught & bit != 0 => "handler",
            bit if ignored & bit != 0 => "ignore",
            _ => "default",
        };
        assert_eq!(action["action"], expected, "{action}");
    }
    let masks = of_kind(&records, "signal_masks");
    assert_eq!(masks.len(), host.threads().len());
    for (tid, name) in host.threads() {
        let ours = masks.iter().find(|mask| mask["tid"] == tid).expect("every thread");
        let status = std::fs::read_to_string(format!("/proc/{}/task/{tid}/status", host.pid())).expect("status");
        let field = |name: &str| {
            let text = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t")).expect("a field");
            u64::from_str_radix(text, 16).expect("a mask").count_ones() as usize
        };
        assert_eq!(ours["blocked"].as_array().unwrap().len(), field("SigBlk"), "{ours}");
        assert_eq!(ours["pending"].as_array().unwrap().len(), field("SigPnd"), "{ours}");
        assert_eq!(ours["is_manholes"], is_ours(&name));
    }
    let queue = &of_kind(&records, "signal_queue")[0];
    assert_eq!(queue["pending"], serde_json::json!(["SIGRTMIN+2"]));
    let limit = status_field(&host, "SigQ");
    assert_eq!(queue["queue_limit"].to_string(), limit.split_once('/').expect("SigQ").1);

    let one = session.command("signals urg");
    assert!(one.starts_with(&format!("SIGURG         on_winch ({program})")), "{one}");
    assert!(one.contains("(the first) blocks SIGURG; pending SIGURG\n"), "{one}");
    assert!(session.command("signals NOSUCH").starts_with("error: signals: \"NOSUCH\" is no signal"));
    drop(session);
    assert_eq!(host.release(), "PASS");
}

/// With `activate_on` the manhole's handler stands before the application's, which is shown.
#[test]
fn the_manholes_own_handler_is_shown_with_what_was_before() {
    let mut host = launch().option("activate_on=RTMIN+5").start();
    host.signal(libc::SIGRTMIN() + 5);
    let mut session = host.connect();
    let text = session.command("signals RTMIN+5");
    assert!(text.starts_with("SIGRTMIN+5     the manhole's (activate_on), before: default"), "{text}");
    let record = &records(&mut session, "signals RTMIN+5")[0];
    assert_eq!((&record["hidden_by"], &record["action"]), (&"activate_on".into(), &"default".into()));
    drop(session);
    assert_eq!(host.release(), "PASS");
}

#[test]
fn timers_of_every_kind() {
    let mut host = launch().start();
    let mut session = host.connect();
    let timers = records(&mut session, "timers");
    let find = |kind: &str, clock: &str| {
        let found = timers.iter().find(|timer| timer["timer"] == kind && timer["clock"] == clock);
        found.unwrap_or_else(|| panic!("no {kind} {clock}: {timers:?}")).clone()
    };
    let left = |timer: &Value, armed: f64| {
        let seconds = timer["seconds"].as_f64().expect("seconds");
        assert!(seconds <= armed && seconds > armed - 60.0, "{timer}");
        assert_eq!(timer["armed"], true);
    };
    if std::fs::exists(format!("/proc/{}/timers", host.pid())).expect("proc") {
        let posix = find("posix", "CLOCK_MONOTONIC");
        left(&posix, 1000.0);
        assert_eq!((&posix["interval_seconds"], &posix["signal"]), (&7.5.into(), &"SIGRTMIN+1".into()));
        assert_eq!(posix["value"], "0x4242");
        assert_eq!(find("posix", "CLOCK_REALTIME")["armed"], false);
        let thread = find("posix", "CLOCK_BOOTTIME");
        left(&thread, 2000.0);
        assert_eq!((&thread["symbol"], &thread["signal"]), (&"on_timer".into(), &Value::Null));
    } else {
        println!("the kernel lists no POSIX timers (CONFIG_CHECKPOINT_RESTORE)");
    }
    let virtual_timer = find("itimer", "ITIMER_VIRTUAL");
    left(&virtual_timer, 500.1);
    assert_eq!(
        (virtual_timer["interval_seconds"].as_f64(), &virtual_timer["signal"]),
        (Some(5.0), &"SIGVTALRM".into())
    );
    let alarm = find("itimer", "ITIMER_REAL");
    left(&alarm, 3000.0);
    assert_eq!(alarm["interval_seconds"].as_f64(), Some(0.0));
    let descriptor = find("timerfd", "CLOCK_MONOTONIC");
    left(&descriptor, 4000.0);
    let said = host.lines().iter().find_map(|line| line.strip_prefix("timerfd ")).expect("timerfd").to_owned();
    assert_eq!(descriptor["id"].to_string(), said);
    assert_eq!((descriptor["interval_seconds"].as_f64(), &descriptor["unread"]), (Some(60.0), &0.into()));
    let text = session.command("timers");
    assert!(text.contains("ITIMER_REAL              in ") && text.contains(", sends SIGALRM\n"), "{text}");
    assert!(text.contains("then every 1m00s, 0 unread\n"), "{text}");
    // Looking changed nothing: they run on.
    left(&records(&mut session, "timers").into_iter().find(|timer| timer["clock"] == "ITIMER_REAL").unwrap(), 3000.0);
    drop(session);
    assert_eq!(host.release(), "PASS");
}
