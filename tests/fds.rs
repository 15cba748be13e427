//! `fds` says of every descriptor what /proc, ss and lsof say, and what the program that opened it knows.

mod harness;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use harness::Scratch;
use harness::fixtures::has_program;
use harness::host::{Host, Launch};
use harness::records::{of_kind, records};
use harness::session::Session;
use serde_json::{Value, json};

fn descriptors(session: &mut Session, line: &str) -> BTreeMap<i64, Value> {
    let rows = of_kind(records(session, line), "descriptor").into_iter();
    rows.map(|row| (row["fd"].as_i64().expect("fd"), row)).collect()
}

fn fixture() -> (Scratch, Host) {
    let scratch = Scratch::new();
    let host = Launch::fixture("descriptors").args([scratch.path()]).option("redirect_stderr=False").start();
    (scratch, host)
}

/// The line of the text form that begins with `number`, and the indented ones below it.
fn lines_of(text: &str, number: i64) -> Vec<String> {
    let mut lines = text.lines().skip_while(|line| line.split_whitespace().next() != Some(&number.to_string()));
    let first = lines.next().unwrap_or_else(|| panic!("no {number} in {text}")).to_owned();
    let below = lines.take_while(|line| line.starts_with("          ")).map(|line| line.trim().to_owned());
    std::iter::once(first).chain(below).collect()
}

#[test]
fn each_kind_is_told_with_what_it_holds() {
    let (scratch, mut host) = fixture();
    let pid = host.pid();
    let mut session = host.connect();
    let all = descriptors(&mut session, "fds --json");
    let text = session.command("fds");
    let folder = scratch.path().display().to_string();
    let kinds = [
        (100, "file"),
        (101, "directory"),
        (102, "device"),
        (103, "fifo"),
        (104, "directory"),
        (105, "pipe"),
        (106, "pipe"),
        (107, "memfd"),
        (108, "pipe"),
        (120, "tcp"),
        (121, "tcp"),
        (122, "tcp"),
        (123, "udp"),
        (124, "unix"),
        (125, "unix"),
        (126, "unix"),
        (127, "netlink"),
        (128, "unix"),
        (129, "unix"),
        (130, "tcp"),
        (140, "epoll"),
        (141, "eventfd"),
        (142, "timerfd"),
        (143, "signalfd"),
        (144, "inotify"),
        (145, "pidfd"),
    ];
    for (number, kind) in kinds {
        assert_eq!(all[&number]["file_type"], kind, "{number}");
        assert_eq!(lines_of(&text, number)[0].split_whitespace().nth(1), Some(kind), "{number}");
    }

    let file = &all[&100];
    assert_eq!(file["target"], format!("{folder}/deleted (deleted)"));
    assert_eq!(
        (&file["position_bytes"], &file["size_bytes"], &file["deleted"]),
        (&json!(123), &json!(4711), &json!(true))
    );
    assert_eq!(file["flags"], "O_RDWR|O_APPEND|O_CLOEXEC");
    assert!(file["locks"][0].as_str().expect("a lock").starts_with("FLOCK  ADVISORY  WRITE"), "{file}");
    let lines = lines_of(&text, 100);
    assert!(lines[0].ends_with("(deleted) at 123 of 4711 bytes") && lines[1].starts_with("lock FLOCK"), "{lines:?}");
    assert_eq!(all[&101]["deleted"], false);
    assert_eq!((&all[&102]["access"], &all[&104]["access"]), (&json!("w"), &json!("-")));
    assert!(all[&104]["flags"].as_str().expect("flags").contains("O_PATH"));
    assert_eq!((&all[&107]["size_bytes"], &all[&107]["position_bytes"]), (&json!(5), &json!(5)));

    let end = |number: i64| &all[&number]["ends"][0];
    for (one, other) in [(105, 106), (106, 105), (121, 122), (122, 121), (124, 125), (125, 124), (128, 129)] {
        assert_eq!((&end(one)["fd"], &end(one)["relation"]), (&json!(other), &json!("other_end")), "{one}");
        assert_eq!(end(one)["pid"], Value::Null);
        assert!(lines_of(&text, one)[1].starts_with(&format!("<-> fd {other} ")), "{one}");
    }
    assert_eq!(end(105)["access"], "w");
    assert_eq!(all[&106]["flags"], "O_WRONLY");

    let socket = |number: i64| &all[&number]["socket"];
    assert_eq!((&socket(120)["state"], &socket(121)["state"]), (&json!("LISTEN"), &json!("ESTABLISHED")));
    assert_eq!(socket(121)["remote"], socket(120)["local"]);
    assert_eq!(socket(122)["receive_queue"], 11, "{}", socket(122));
    assert!(lines_of(&text, 122)[0].contains("11 bytes to read"));
    assert_eq!(socket(126)["local"], format!("@manhole-test-{pid}"));
    assert!(lines_of(&text, 126)[0].contains(&format!("\"@manhole-test-{pid}\" LISTEN")));
    assert!(socket(130)["description"].as_str().expect("text").starts_with("TCP socket:["), "{}", socket(130));

    let interests = all[&140]["interests"].as_array().expect("interests");
    let interest = |number: i64| interests.iter().find(|one| one["fd"] == number).expect("an interest");
    assert_eq!((&interest(105)["events"], &interest(105)["data"]), (&json!("EPOLLIN"), &json!("0xabc")));
    assert_eq!(interest(124)["events"], "EPOLLOUT|EPOLLET");
    assert_eq!(interest(120)["events"], "EPOLLIN|EPOLLRDHUP|EPOLLONESHOT");
    assert_eq!(interest(120)["target"], socket(120)["description"]);
    let stale: Vec<bool> = [105, 124, 120, 108].map(|it| interest(it)["stale"].as_bool().expect("stale")).to_vec();
    assert_eq!(stale, [false, false, false, true], "108 was added as a pipe, and is another one now");
    assert_eq!(all[&140]["interest_count"], 4);
    assert!(lines_of(&text, 140).iter().any(|line| line.starts_with("fd 105 EPOLLIN data 0xabc  pipe:[")));

    assert_eq!((&all[&141]["event_count"], &all[&141]["semaphore"]), (&json!(7), &json!(true)));
    let timer = &all[&142]["timer"];
    let remaining = timer["remaining"].as_f64().expect("seconds");
    assert!((3500.0..=3600.0).contains(&remaining), "{timer}");
    assert_eq!((&timer["clock"], &timer["interval"]), (&json!("CLOCK_MONOTONIC"), &json!(60.5)));
    assert!(lines_of(&text, 142)[0].contains("CLOCK_MONOTONIC expires in 59m"), "{:?}", lines_of(&text, 142));
    assert_eq!(all[&143]["signals"], json!(["SIGUSR1", "SIGRTMIN+1"]));
    let watch = &all[&144]["watches"][0];
    assert_eq!(watch["events"], "IN_MOVED_TO|IN_CREATE|IN_DELETE");
    let inode = std::os::unix::fs::MetadataExt::ino(&fs::metadata(scratch.path()).expect("folder"));
    assert_eq!(watch["inode"], inode);
    assert_eq!(all[&145]["pid"], pid);
    assert!(lines_of(&text, 145)[0].ends_with(&format!("process {pid}")));
    drop(session);
    assert_eq!(host.release(), "PASS", "{}", host.story());
}

/// The numbers, targets, positions and flags are those of /proc, and none of the manhole's are among them.
fn agrees_with_proc(session: &mut Session, pid: i32) {
    let all = descriptors(session, "fds --json");
    let listed: BTreeSet<i64> = fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("fd")
        .map(|entry| entry.expect("entry").file_name().to_str().expect("number").parse().expect("number"))
        .collect();
    assert_eq!(all.keys().copied().collect::<BTreeSet<_>>(), listed);
    for (number, row) in &all {
        let target = fs::read_link(format!("/proc/{pid}/fd/{number}")).expect("link");
        assert_eq!(row["target"].as_str(), target.to_str(), "{number}");
        let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).expect("fdinfo");
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).expect("a field").trim();
        // The manhole logs there, this very command too; nginx has it open by two numbers.
        let is_log = fs::read_link(format!("/proc/{pid}/fd/2")).is_ok_and(|log| log == target);
        if let Some(position) = row["position_bytes"].as_u64().filter(|_| !is_log) {
            assert_eq!(position.to_string(), field("pos:"), "{number}");
        }
        let flags = i32::from_str_radix(field("flags:"), 8).expect("octal");
        let text = row["flags"].as_str().expect("flags");
        for (bit, name) in [
            (libc::O_NONBLOCK, "O_NONBLOCK"),
            (libc::O_CLOEXEC, "O_CLOEXEC"),
            (libc::O_APPEND, "O_APPEND"),
            (libc::O_PATH, "O_PATH"),
        ] {
            assert_eq!(flags & bit != 0, text.split('|').any(|word| word == name), "{number}: {info} {text}");
        }
        let access = ["O_RDONLY", "O_WRONLY", "O_RDWR"][(flags & libc::O_ACCMODE) as usize];
        assert!(text.starts_with(access), "{number}: {text}");
        assert_eq!(row["role"], Value::Null, "{row}");
    }
}

/// Numbers and types are those of lsof, addresses and peers those of ss.
fn agrees_with_lsof_and_ss(session: &mut Session, pid: i32) {
    let all = descriptors(session, "fds --json");
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().expect(program);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    if has_program("lsof") {
        let pid = pid.to_string();
        let text = run("lsof", &["-w", "-n", "-P", "-p", &pid, "-F", "ft"]);
        let mut met = 0;
        let lines: Vec<&str> = text.lines().collect();
        for pair in lines.windows(2) {
            let Some(number) = pair[0].strip_prefix('f').and_then(|number| number.parse::<i64>().ok()) else {
                continue;
            };
            let kind = all[&number]["file_type"].as_str().expect("type");
            let expected: &[&str] = match &pair[1][1..] {
                "REG" => &["file", "memfd"],
                "DIR" => &["directory"],
                "CHR" => &["device"],
                "FIFO" => &["pipe", "fifo"],
                "unix" => &["unix"],
                "IPv4" | "IPv6" => &["tcp", "udp"],
                "netlink" => &["netlink"],
                "sock" => &["socket", "tcp", "netlink"],
                "a_inode" => &["epoll", "eventfd", "timerfd", "signalfd", "inotify", "pidfd"],
                other => panic!("lsof has {other} for {number}: {kind}"),
            };
            assert!(expected.contains(&kind), "{number}: {kind}, lsof {}", pair[1]);
            met += 1;
        }
        assert_eq!(met, all.len(), "{text}");
    } else {
        println!("skipped: no lsof");
    }
    if !has_program("ss") {
        return println!("skipped: no ss");
    }
    let mut met = 0;
    for line in run("ss", &["-tuxanpH"]).lines().filter(|line| line.contains(&format!("pid={pid},"))) {
        let words: Vec<&str> = line.split_whitespace().collect();
        for number in line.split(&format!("pid={pid},fd=")).skip(1) {
            let number: i64 = number.split([')', ',']).next().expect("fd").parse().expect("a number");
            let socket = &all[&number]["socket"];
            met += 1;
            if words[0].starts_with("u_") {
                // Netid State Recv-Q Send-Q Local-Address Inode Peer-Address Peer-Inode
                let peer = words[7].parse::<u64>().ok().filter(|peer| *peer != 0);
                assert_eq!(socket["peer_inode"].as_u64(), peer, "{line}: {socket}");
                assert_eq!(words[5], all[&number]["inode"].to_string(), "{line}");
                let path = socket["local"].as_str().unwrap_or("*");
                assert_eq!(words[4], path, "{line}");
            } else {
                let local = socket["local"].as_str().expect("an address");
                let port = |address: &str| address.rsplit(':').next().expect("a port").to_owned();
                assert_eq!(port(words[4]), port(local), "{line}: {socket}");
                let state = match words[1] {
                    "ESTAB" => Some("ESTABLISHED"),
                    "UNCONN" => None,
                    other => Some(other),
                };
                assert_eq!(socket["state"].as_str(), state, "{line}");
                if words[1] == "ESTAB" {
                    assert_eq!(socket["remote"], words[5], "{line}");
                }
            }
            assert_eq!(words[2], socket["receive_queue"].to_string(), "{line}: {socket}");
        }
    }
    let has_address = |row: &&Value| !row["socket"]["local"].is_null() || !row["socket"]["state"].is_null();
    let sockets = all
        .values()
        .filter(has_address)
        .filter(|row| ["tcp", "udp", "unix"].contains(&row["file_type"].as_str().expect("type")));
    assert_eq!(met, sockets.count(), "every socket is known to ss");
}

#[test]
fn a_fixture_of_all_kinds_is_as_others_see_it() {
    let (_scratch, mut host) = fixture();
    let (mut session, pid) = (host.connect(), host.pid());
    agrees_with_proc(&mut session, pid);
    agrees_with_lsof_and_ss(&mut session, pid);
}

#[test]
fn redis_is_as_others_see_it() {
    if !has_program("redis-server") {
        return println!("skipped: no redis-server");
    }
    let scratch = Scratch::new();
    let socket = scratch.path().join("redis.sock");
    let mut host = Launch::new("redis-server")
        .args(["--port", "0", "--save", "", "--unixsocket"])
        .args([&socket])
        .directory(scratch.path())
        .option("redirect_stderr=False")
        .start();
    let _client = connect(&socket);
    // It has taken the connection when it answers.
    let (mut session, pid) = (host.connect(), host.pid());
    agrees_with_proc(&mut session, pid);
    agrees_with_lsof_and_ss(&mut session, pid);
    let all = descriptors(&mut host.connect(), "fds epoll --json");
    let count = |row: &Value| row["interest_count"].as_u64().expect("a count");
    assert!(all.values().any(|row| count(row) >= 3), "{all:?}");
}

/// Its workers drop their privileges when root starts it, and /proc refuses them to themselves.
#[test]
fn nginx_workers_are_as_others_see_them() {
    if !std::path::Path::new("/usr/sbin/nginx").exists() {
        return println!("skipped: no nginx");
    }
    let scratch = Scratch::new();
    let user = if nix::unistd::geteuid().is_root() { "user nobody nogroup; " } else { "" };
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
    let folder = scratch.path().display();
    let configuration = format!(
        "daemon off; worker_processes 1; {user}pid {folder}/pid; events {{ worker_connections 64; }} http {{ \
         access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f; \
         uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; server {{ listen 127.0.0.1:{port}; }} }}"
    );
    fs::write(scratch.path().join("conf"), configuration).expect("write");
    let arguments = ["-c", &format!("{folder}/conf"), "-e", &format!("{folder}/err")].map(str::to_owned);
    let mut host = Launch::new("/usr/sbin/nginx").args(arguments).option("redirect_stderr=False").start();
    let end = std::time::Instant::now() + harness::DEADLINE;
    let worker = loop {
        if let Some(worker) = host.children().first() {
            break *worker;
        }
        assert!(std::time::Instant::now() < end, "{}", host.story());
    };
    for pid in [host.pid(), worker] {
        let mut session = host.connect_to(&harness::host::socket_of(pid));
        agrees_with_proc(&mut session, pid);
        agrees_with_lsof_and_ss(&mut session, pid);
    }
}

fn connect(path: &std::path::Path) -> std::os::unix::net::UnixStream {
    use std::io::{Read, Write};
    let end = std::time::Instant::now() + harness::DEADLINE;
    let mut stream = loop {
        match std::os::unix::net::UnixStream::connect(path) {
            Ok(stream) => break stream,
            Err(error) => assert!(std::time::Instant::now() < end, "{error}"),
        }
        std::thread::yield_now();
    };
    stream.write_all(b"PING\r\n").expect("ping");
    stream.read_exact(&mut [0; 7]).expect("pong");
    stream
}

#[test]
fn other_processes_that_hold_an_end_are_named() {
    let (_scratch, mut host) = fixture();
    let mut session = host.connect();
    let own = std::process::id();
    let without = descriptors(&mut session, "fds 1 --json");
    assert_eq!(without[&1]["ends"], json!([]));
    let with = descriptors(&mut session, "fds 1 --peers --json");
    let ends = with[&1]["ends"].as_array().expect("ends");
    let end = ends.iter().find(|end| end["pid"] == own).expect("this test reads its standard output");
    assert_eq!((&end["relation"], &end["access"]), (&json!("other_end"), &json!("r")));
    let name = fs::read_to_string("/proc/self/comm").expect("comm");
    assert_eq!(end["process"].as_str(), Some(name.trim_end()));
    let link = fs::read_link(format!("/proc/self/fd/{}", end["fd"])).expect("link");
    assert_eq!(link.to_str(), with[&1]["target"].as_str());
    assert!(session.command("fds 1 --peers").contains(&format!("<-> fd {} of {own} (", end["fd"])));
}

#[test]
fn selections() {
    let (scratch, mut host) = fixture();
    let mut session = host.connect();
    let numbers = |session: &mut Session, line: &str| descriptors(session, line).into_keys().collect::<Vec<_>>();
    assert_eq!(numbers(&mut session, "fds 105 142 --json"), [105, 142]);
    assert_eq!(numbers(&mut session, "fds udp netlink --json"), [123, 127]);
    assert_eq!(numbers(&mut session, "fds socket --json").len(), 11);
    let line = format!("fds '{}*' --json", scratch.path().display());
    assert_eq!(numbers(&mut session, &line), [100, 101, 103, 104]);
    assert_eq!(session.command("fds 99").lines().last(), Some("error: descriptor 99 is not open"));
    assert_eq!(session.command("fds /nowhere/*").lines().last(), Some("error: no descriptor matches \"/nowhere/*\""));
    assert!(session.command("fds --all").starts_with("error: fds: unknown option --all; usage: fds "));
}

/// What the manhole has put into the application's table for the time of a session says so.
#[test]
fn the_manholes_own_are_marked() {
    let scratch = Scratch::new();
    let mut host = Launch::fixture("descriptors").args([scratch.path()]).start();
    let mut session = host.connect();
    let end = std::time::Instant::now() + harness::DEADLINE;
    let all = loop {
        let all = descriptors(&mut session, "fds --json");
        if all.values().filter(|row| !row["role"].is_null()).count() >= 2 || std::time::Instant::now() > end {
            break all;
        }
    };
    let marked: Vec<(&i64, &str)> =
        all.iter().filter_map(|(number, row)| Some((number, row["role"].as_str()?))).collect();
    assert_eq!(marked[0], (&2, "a session sees standard error"), "{marked:?}");
    assert_eq!((marked.len(), *marked[1].0 > 200), (2, true), "{marked:?}");
    assert!(marked[1].1.contains("kept while a session sees it"), "{marked:?}");
    assert!(session.command("fds 2").contains("[the manhole's: a session sees standard error]"));
}

/// Nothing can be opened any more, by nobody in this process; even a fourth descriptor is too much.
#[test]
fn with_three_descriptors_allowed() {
    let (_scratch, mut host) = fixture();
    let mut session = host.connect();
    let before = descriptors(&mut session, "fds --json");
    let limit = libc::rlimit { rlim_cur: 3, rlim_max: 3 };
    // SAFETY: a plain system call on a child of this process.
    let lowered = unsafe { libc::prlimit(host.pid(), libc::RLIMIT_NOFILE, &limit, std::ptr::null_mut()) };
    assert_eq!(lowered, 0);
    let after = descriptors(&mut session, "fds --json");
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    assert_eq!(after[&124]["ends"], before[&124]["ends"]);
    for command in ["fds --peers", "maps", "maps --rss", "mem", "limits"] {
        let answer = session.command(command);
        assert!(answer.lines().count() > 5 && !answer.contains("error"), "{command}: {answer}");
    }
    let limits = session.command("limits");
    let line = limits.lines().find(|line| line.starts_with("RLIMIT_NOFILE")).expect("the line");
    assert!(line.contains("note: "), "{line}");
}

/// A step is short: another session is served while 15,000 descriptors of one pipe are listed.
#[test]
fn very_many_descriptors_hold_up_nobody() {
    use std::io::Write;
    let scratch = Scratch::new();
    let many = 15_000;
    let mut host = Launch::fixture("descriptors")
        .args([scratch.path().to_str().expect("UTF-8"), &many.to_string()])
        .option("redirect_stderr=False")
        .start();
    let (mut long, mut short) = (host.connect(), host.connect());
    // The writing end's row has 15,001 other ends.
    long.stream().write_all(b"fds --json\n").expect("send");
    for _ in 0..10 {
        assert_eq!(short.command("fds 141 | count").trim(), "2");
    }
    let answer: Value = serde_json::from_str(&long.answer()).expect("JSON");
    let rows = answer.as_array().expect("an array");
    assert!(rows.len() > many, "{}", rows.len());
    let writer = rows.iter().find(|row| row["fd"] == 106).expect("the writing end");
    // The first one and its copies.
    assert_eq!(writer["end_count"], many + 1);
    assert_eq!(writer["ends"].as_array().expect("ends").len(), 20);
    let asked_for = descriptors(&mut short, "fds 106 --json");
    assert_eq!(asked_for[&106]["ends"].as_array().expect("ends").len(), many + 1);
}
