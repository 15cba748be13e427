//! Servers that live by forking: redis that saves in a child, nginx that reloads its workers, PostgreSQL. They do
//! their work as ever while dumps are taken, every child that stays has a manhole, and none leaves a name.

mod harness;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use harness::Scratch;
use harness::dump::Dump;
use harness::family::until;
use harness::fixtures::has_program;
use harness::host::{Host, Launch};
use harness::session::Session;

/// Whether all of `programs` are here, and we are root if that is needed; says so if not.
fn can(programs: &[&str], as_root: bool) -> bool {
    let missing: Vec<&&str> = programs.iter().filter(|program| !has_program(program)).collect();
    let lacks_root = as_root && !nix::unistd::geteuid().is_root();
    if !missing.is_empty() || lacks_root {
        println!("skipped: {missing:?} not installed, root missing: {lacks_root}");
    }
    missing.is_empty() && !lacks_root
}

/// A TCP port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a free port").port()
}

/// The names in `directory` that are sockets of processes, as pids.
fn names_in(directory: &Path) -> Vec<i32> {
    let entries = fs::read_dir(directory).expect("scratch").flatten();
    let mut pids: Vec<i32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    pids
}

/// `socket_path` for names in `directory`.
fn named_in(directory: &Path) -> String {
    format!("socket_path='{}/{{pid}}'", directory.display())
}

/// Runs `work` while a thread asks for stacks at `path` again and again; each is answered.
fn while_dumping<R>(path: &Path, work: impl FnOnce() -> R) -> R {
    let (stop, dumps) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let dumper = scope.spawn(|| {
            let mut session = Session::open(path).expect("connect");
            while !stop.load(Ordering::Relaxed) {
                assert!(session.command("stacks").contains("ThreadID="));
                dumps.fetch_add(1, Ordering::Relaxed);
                // On two processors the servers need one.
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        until("a first dump", || dumps.load(Ordering::Relaxed) > 0);
        // A failure must not leave the thread running.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        stop.store(true, Ordering::Relaxed);
        dumper.join().expect("every dump is answered");
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A connection to redis: one command, one answer.
struct Redis(BufReader<TcpStream>);

impl Redis {
    fn connect(host: &mut Host, port: u16) -> Self {
        let mut stream = None;
        until("redis listens", || {
            stream = TcpStream::connect(("127.0.0.1", port)).ok();
            stream.is_some() || !host.is_alive()
        });
        let stream = stream.unwrap_or_else(|| panic!("{}", host.story()));
        stream.set_read_timeout(Some(harness::DEADLINE)).expect("timeout");
        Self(BufReader::new(stream))
    }

    fn ask(&mut self, command: &str) -> String {
        // In one piece, or the second waits for the first one's acknowledgement.
        self.0.get_mut().write_all(format!("{command}\r\n").as_bytes()).expect("send");
        let mut answer = String::new();
        self.0.read_line(&mut answer).expect("answer");
        // A bulk string: its length, then that much and a line's end.
        if let Some(length) = answer.strip_prefix('$').and_then(|it| it.trim().parse::<usize>().ok()) {
            let mut text = vec![0; length + 2];
            std::io::Read::read_exact(&mut self.0, &mut text).expect("answer");
            return String::from_utf8_lossy(&text).into_owned();
        }
        answer
    }
}

/// redis under a client's load and dumps: `saves` times a save in a child, which takes a millisecond a key if `slow`.
fn redis_saves(saves: usize, slow: bool, library: Option<&str>) {
    let (scratch, names) = (Scratch::new(), Scratch::new());
    let port = free_port();
    let dir = scratch.path().to_str().expect("UTF-8");
    let delay = if slow { "1000" } else { "0" };
    let arguments = ["--port", &port.to_string(), "--dir", dir, "--save", "", "--rdb-key-save-delay", delay];
    let mut launch = Launch::new("redis-server").args(arguments).option(&named_in(names.path()));
    launch = library.into_iter().fold(launch, Launch::also_preload).option("reinstall_delay=0.2");
    let mut host = launch.start_only();
    let path = names.path().join(host.pid().to_string());
    drop(host.connect_to(&path));
    let mut redis = Redis::connect(&mut host, port);
    for key in 0..1000 {
        assert_eq!(redis.ask(&format!("SET key{key} {key}")), "+OK\r\n");
    }
    let mut load = Redis::connect(&mut host, port);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                assert!(load.ask("INCR counter").starts_with(':'));
            }
        });
        while_dumping(&path, || {
            for _ in 0..saves {
                assert!(redis.ask("BGSAVE").starts_with("+Background saving started"));
                if slow {
                    child_shows_its_save(&mut host, names.path());
                }
                until("the save ends", || redis.ask("INFO persistence").contains("rdb_bgsave_in_progress:0"));
                let report = redis.ask("INFO persistence");
                assert!(report.contains("rdb_last_bgsave_status:ok"), "{report}");
            }
        });
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(names_in(names.path()), [host.pid()], "children left their names");
    host.signal(libc::SIGTERM);
    assert!(host.wait().success(), "{}", host.story());
    assert_eq!(names_in(names.path()), [0; 0]);
}

fn child_shows_its_save(host: &mut Host, names: &Path) {
    let child = *host.children().first().expect("a child that saves");
    let dump = Dump::parse(host.connect_to(&names.join(child.to_string())).greeting());
    let main = dump.thread(child);
    assert!(
        main.frames.iter().any(|frame| frame.function.contains("rdbSave")) || main.name.contains("redis"),
        "{main:#?}"
    );
}

#[test]
fn redis_saves_in_children() {
    if can(&["redis-server"], false) {
        redis_saves(10, false, None);
    }
}

#[test]
fn redis_saves_long_enough_for_a_manhole_in_its_child() {
    if can(&["redis-server"], false) {
        redis_saves(2, true, None);
    }
}

#[test]
fn redis_saves_with_another_allocator() {
    let places = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let found = places.map(|entry| entry.path().join("libtcmalloc_minimal.so.4")).find(|path| path.exists());
    match found {
        Some(path) if can(&["redis-server"], false) => redis_saves(5, false, path.to_str()),
        Some(_) => {}
        None => println!("skipped: no libtcmalloc_minimal.so.4"),
    }
}

#[test]
fn nginx_reloads() {
    if !can(&["/usr/sbin/nginx"], false) {
        return;
    }
    let (scratch, names) = (Scratch::new(), Scratch::new());
    let path = |name: &str| format!("{}/{name}", scratch.path().display());
    let user = if nix::unistd::geteuid().is_root() { "user root;" } else { "" };
    let port = free_port();
    let configuration = format!(
        "daemon off; {user} worker_processes 2; pid {};\nevents {{ }}\nhttp {{ access_log off; server {{ listen 127.0.0.1:{port}; return 200 works; }} }}\n",
        path("nginx.pid")
    );
    fs::write(path("nginx.conf"), configuration).expect("write");
    let arguments = ["-p", &path(""), "-c", &path("nginx.conf"), "-e", &path("error.log")].map(str::to_owned);
    let launch = Launch::new("/usr/sbin/nginx").args(&arguments).option(&named_in(names.path()));
    let mut host = launch.option("reinstall_delay=0").start_only();
    let workers_have_manholes = |host: &mut Host, before: &[i32]| {
        let mut expected = Vec::new();
        until("two new workers with manholes, and no other names", || {
            assert!(host.is_alive(), "{}", host.story());
            let workers = host.children();
            expected = [vec![host.pid()], workers.clone()].concat();
            expected.sort_unstable();
            workers.len() == 2 && workers.iter().all(|it| !before.contains(it)) && names_in(names.path()) == expected
        });
        let workers = host.children();
        for worker in &workers {
            let dump = Dump::parse(host.connect_to(&names.path().join(worker.to_string())).greeting());
            assert!(dump.threads.iter().all(|thread| thread.process == *worker), "{dump:#?}");
        }
        workers
    };
    let tell = |what: &str| {
        let output = Command::new("/usr/sbin/nginx").args(&arguments).args(["-s", what]).output().expect("nginx -s");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let request = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connect");
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("send");
        let answer = std::io::read_to_string(stream).expect("answer");
        assert!(answer.ends_with("works"), "{answer}");
    };
    let mut workers = workers_have_manholes(&mut host, &[]);
    for _ in 0..3 {
        request();
        tell("reload");
        workers = workers_have_manholes(&mut host, &workers);
    }
    request();
    tell("quit");
    assert!(host.wait().success(), "{}", host.story());
    assert_eq!(names_in(names.path()), [0; 0]);
}

const POSTGRES: &str = "/usr/lib/postgresql/15/bin/postgres";

/// PostgreSQL as nobody, since it refuses to run as root.
fn postgres(scratch: &Scratch, names: &Scratch) -> Host {
    let data = format!("{}/data", scratch.path().display());
    let as_nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let mut made = Command::new("setpriv");
    made.args(as_nobody).arg("/usr/lib/postgresql/15/bin/initdb");
    let made = made.args(["-D", &data, "-N", "-A", "trust", "--no-locale"]).output().expect("initdb");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let socket = scratch.path().to_str().expect("UTF-8");
    let launch =
        Launch::new(POSTGRES).library_copied_to(scratch.path()).args(["-D", &data, "-h", "", "-k", socket, "-F"]);
    // Workers even for a small table.
    let launch = launch.args(["-c", "min_parallel_table_scan_size=0", "-c", "parallel_setup_cost=0"]);
    let launch = launch.args(["-c", "parallel_tuple_cost=0"]).option(&named_in(names.path()));
    let mut host = launch
        .option("reinstall_delay=0.1")
        .with(|command| {
            command.uid(65534).gid(65534);
        })
        .start_only();
    drop(host.connect_to(&names.path().join(host.pid().to_string())));
    host.wait_for_stderr("ready to accept connections");
    host
}

#[test]
fn postgres_backends() {
    if !can(&[POSTGRES, "/usr/lib/postgresql/15/bin/initdb", "psql", "setpriv"], true) {
        return;
    }
    let (scratch, names) = (Scratch::new(), Scratch::new());
    let mut host = postgres(&scratch, &names);
    let query = |text: &str| {
        let mut psql = Command::new("psql");
        let folder = scratch.path().to_str().expect("UTF-8");
        psql.args(["-X", "-A", "-t", "-h", folder, "-U", "nobody", "-d", "postgres", "-c", text]);
        psql
    };
    let answer = |text: &str| {
        let output = query(text).output().expect("psql");
        assert!(output.status.success(), "{text}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    answer("create table numbers as select generate_series(1, 200000) as n");
    let postmaster = names.path().join(host.pid().to_string());
    while_dumping(&postmaster, || {
        // The backends of three clients that wait, each with a manhole of its own.
        let mut clients: Vec<_> = (0..3).map(|_| query("select pg_sleep(3600)").spawn().expect("psql")).collect();
        let backends = || {
            answer(
                "select string_agg(pid::text, ' ') from pg_stat_activity where query like '%3600%' and pid <> pg_backend_pid()",
            )
        };
        let mut pids: Vec<i32> = Vec::new();
        until("three backends", || {
            pids = backends().split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
            pids.len() == 3
        });
        let mut sessions: Vec<Session> =
            pids.iter().map(|pid| host.connect_to(&names.path().join(pid.to_string()))).collect();
        // Latches are process-directed SIGURG: parallel workers and their leader wake each other by it.
        for round in 0..5 {
            let count = answer("set max_parallel_workers_per_gather = 2; select count(*), sum(n) from numbers");
            assert!(count.ends_with("200000|20000100000"), "round {round}: {count}");
            for (session, pid) in sessions.iter_mut().zip(&pids) {
                let dump = Dump::parse(&session.command("stacks"));
                assert!(
                    dump.thread(*pid).syscall.as_deref().is_some_and(|call| call.starts_with("epoll_wait")),
                    "{dump:#?}"
                );
            }
        }
        let plan = answer("explain (analyze, costs off, timing off) select count(*) from numbers");
        assert!(plan.contains("Workers Launched: "), "{plan}");
        drop(sessions);
        assert_eq!(
            answer(
                "select count(pg_cancel_backend(pid)) from pg_stat_activity where query like '%3600%' and pid <> pg_backend_pid()"
            ),
            "3"
        );
        for client in &mut clients {
            assert!(!client.wait().expect("psql").success());
        }
        until("their names are gone", || pids.iter().all(|pid| !names_in(names.path()).contains(pid)));
    });
    // SIGINT: a fast shutdown. All exit.
    host.signal(libc::SIGINT);
    assert!(host.wait().success(), "{}", host.story());
    assert_eq!(names_in(names.path()), [0; 0]);
}

/// SIGQUIT: the postmaster's children leave by `_exit`.
#[test]
fn postgres_in_a_hurry() {
    if !can(&[POSTGRES, "/usr/lib/postgresql/15/bin/initdb", "setpriv"], true) {
        return;
    }
    let (scratch, names) = (Scratch::new(), Scratch::new());
    let mut host = postgres(&scratch, &names);
    until("its children have manholes", || names_in(names.path()).len() >= 4);
    host.signal(libc::SIGQUIT);
    host.wait();
    println!("after SIGQUIT: names of {:?}, postmaster {}", names_in(names.path()), host.pid());
    assert_eq!(names_in(names.path()), [0; 0]);
}
