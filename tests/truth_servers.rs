//! Every frame of every thread equals gdb's, in real programs as Debian ships them: servers (also with workers that
//! dropped their privileges), interpreters, shells. What is truncated is counted; what is wrong fails.

mod harness;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use harness::compare::agree;
use harness::dump::Dump;
use harness::fixtures::has_program;
use harness::host::{Host, Launch, socket_of, threads_of};
use harness::session::Session;
use harness::{DEADLINE, Scratch, gdb, is_ours};

/// Whether all of `programs` are here; says so if not.
fn installed(programs: &[&str]) -> bool {
    let missing: Vec<&&str> = programs.iter().filter(|program| !has_program(program)).collect();
    if !missing.is_empty() {
        println!("skipped: {missing:?} not installed");
    }
    missing.is_empty()
}

/// A TCP port that was free a moment ago.
fn free_port() -> String {
    TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a free port").port().to_string()
}

/// Waits until every thread of `pid` sleeps: a server that has just started still works.
fn wait_until_it_rests(pid: i32) {
    let end = Instant::now() + DEADLINE;
    let mut calm = 0;
    while calm < 5 && Instant::now() < end {
        let stats = threads_of(pid)
            .into_iter()
            .filter_map(|(tid, _)| fs::read_to_string(format!("/proc/{pid}/task/{tid}/stat")).ok());
        let all_sleep =
            stats.into_iter().all(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S')));
        calm = if all_sleep { calm + 1 } else { 0 };
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A connection to the manhole of `pid`, which may be a forked child whose manhole opens with a delay.
fn connect_to(pid: i32) -> Session {
    let end = Instant::now() + DEADLINE;
    loop {
        match Session::open(&socket_of(pid)) {
            Ok(session) => return session,
            Err(error) => assert!(Instant::now() < end, "process {pid} has no manhole: {error}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Compares process `pid` with gdb, and every thread that the kernel lists with the dump.
fn compare(what: &str, pid: i32) {
    wait_until_it_rests(pid);
    let mut session = connect_to(pid);
    let report = agree(what, pid, || Dump::parse(&session.command("stacks")).stacks(), || gdb::stacks(pid));
    let report = report.unwrap_or_else(|text| panic!("{text}"));
    let alive = threads_of(pid).into_iter().filter(|(_, name)| !is_ours(name)).count();
    assert!(report.agreed.len() >= alive, "{what}: {} of {alive} threads agreed", report.agreed.len());
    if !report.truncated.is_empty() {
        let dump = Dump::parse(&session.command("stacks"));
        for thread in dump.application().filter(|thread| thread.truncated.is_some()) {
            println!(
                "{what}: {} {:?} truncated after {} frames: {}",
                thread.tid,
                thread.name,
                thread.frames.len(),
                thread.truncated.as_deref().unwrap_or_default()
            );
        }
    }
}

/// Waits until `host` has `count` children.
fn children(host: &mut Host, count: usize) -> Vec<i32> {
    let end = Instant::now() + DEADLINE;
    loop {
        let children = host.children();
        if children.len() >= count {
            return children;
        }
        assert!(Instant::now() < end, "{} of {count} children; {}", children.len(), host.story());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        println!("skipped: needs root");
    }
    root
}

#[test]
fn redis() {
    if installed(&["redis-server"]) {
        let scratch = Scratch::new();
        let dir = scratch.path().to_str().expect("UTF-8");
        let host = Launch::new("redis-server").args(["--port", &free_port(), "--dir", dir, "--save", ""]).start();
        compare("redis-server", host.pid());
    }
}

#[test]
fn memcached() {
    if installed(&["memcached"]) {
        let host =
            Launch::new("memcached").args(["-u", "root", "-l", "127.0.0.1", "-p", &free_port(), "-U", "0"]).start();
        compare("memcached", host.pid());
    }
}

#[test]
fn memcached_that_became_nobody() {
    if installed(&["memcached"]) && is_root() {
        let host =
            Launch::new("memcached").args(["-u", "nobody", "-l", "127.0.0.1", "-p", &free_port(), "-U", "0"]).start();
        compare("memcached -u nobody", host.pid());
    }
}

/// nginx with two workers, run as `user` when that is given.
fn nginx(what: &str, user: Option<&str>) {
    let scratch = Scratch::new();
    let dir = scratch.path();
    let user = user.map_or_else(String::new, |user| format!("user {user};\n"));
    let configuration = format!(
        "daemon off; master_process on; worker_processes 2; {user}pid {0}/nginx.pid;\n\
         events {{ worker_connections 64; }}\n\
         http {{ access_log off; client_body_temp_path {0}/b; proxy_temp_path {0}/p; fastcgi_temp_path {0}/f;\n\
         uwsgi_temp_path {0}/u; scgi_temp_path {0}/s; server {{ listen 127.0.0.1:{1}; }} }}\n",
        dir.display(),
        free_port()
    );
    fs::write(dir.join("nginx.conf"), configuration).expect("write");
    let path = |name: &str| dir.join(name).to_str().expect("UTF-8").to_owned();
    let program = if has_program("nginx") { "nginx" } else { "/usr/sbin/nginx" };
    let mut host =
        Launch::new(program).args(["-p", &path(""), "-c", &path("nginx.conf"), "-e", &path("error.log")]).start();
    compare(&format!("{what}, master"), host.pid());
    for (number, worker) in children(&mut host, 2).into_iter().enumerate() {
        compare(&format!("{what}, worker {number}"), worker);
    }
}

#[test]
fn nginx_with_workers_of_its_own_user() {
    if installed(&["/usr/sbin/nginx"]) {
        nginx("nginx", nix::unistd::geteuid().is_root().then_some("root"));
    }
}

#[test]
fn nginx_started_by_root_with_workers_of_nobody() {
    if installed(&["/usr/sbin/nginx"]) && is_root() {
        nginx("nginx as nobody", Some("nobody nogroup"));
    }
}

#[test]
fn a_forking_server() {
    let mut host = Launch::fixture("forking_server").start();
    compare("forking_server, parent", host.pid());
    for (number, child) in children(&mut host, 3).into_iter().enumerate() {
        compare(&format!("forking_server, child {number}"), child);
    }
    assert_eq!(host.release(), "PASS", "{}", host.story());
}

#[test]
fn python() {
    if installed(&["/usr/bin/python3"]) {
        let script = "
import queue, socket, sys, threading, time
threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
threading.Thread(target=queue.Queue().get, daemon=True).start()
server = socket.create_server(('127.0.0.1', 0))
threading.Thread(target=server.accept, daemon=True).start()
def recurse(n):
    return recurse(n - 1) + 1 if n else sorted([2, 1], key=lambda _: time.sleep(3600))
threading.Thread(target=recurse, args=(30,), daemon=True).start()
print('ready', flush=True)
threading.Event().wait()
";
        let host = Launch::new("/usr/bin/python3").args(["-c", script]).when_it_says("ready").start();
        compare("python3", host.pid());
    }
}

#[test]
fn node() {
    if installed(&["node"]) {
        let script = "setInterval(() => {}, 1e6); console.log('ready')";
        let host = Launch::new("node").args(["-e", script]).when_it_says("ready").start();
        compare("node", host.pid());
    }
}

#[test]
fn java() {
    if installed(&["java", "javac"]) {
        let scratch = Scratch::new();
        let source = scratch.path().join("Main.java");
        fs::write(&source, JAVA).expect("write");
        let compiled = std::process::Command::new("javac").arg(&source).status().expect("javac");
        assert!(compiled.success());
        let host = java_in(scratch.path());
        compare("java", host.pid());
    }
}

const JAVA: &str = r#"
public class Main {
    static int work(int depth) throws Exception {
        if (depth == 0) {
            Thread.sleep(3600_000);
        }
        return work(depth - 1) + 1;
    }
    public static void main(String[] arguments) throws Exception {
        Object lock = new Object();
        Runnable waits = () -> { synchronized (lock) { try { lock.wait(); } catch (InterruptedException e) { } } };
        new Thread(waits, "waits").start();
        new Thread(() -> { try { work(20); } catch (Exception e) { } }, "sleeps").start();
        System.out.println("ready");
        System.in.read();
    }
}
"#;

fn java_in(directory: &Path) -> Host {
    let arguments = ["-Xmx64m", "-XX:+UseSerialGC", "-cp", directory.to_str().expect("UTF-8"), "Main"];
    Launch::new("java").args(arguments).when_it_says("ready").start()
}

#[test]
fn bash() {
    if installed(&["bash"]) {
        let host = Launch::new("bash").args(["-c", "echo ready; read line"]).when_it_says("ready").start();
        compare("bash, read", host.pid());
        let host = Launch::new("bash").args(["-c", "sleep 1000 & echo ready; wait"]).when_it_says("ready").start();
        compare("bash, wait", host.pid());
    }
}

#[test]
fn perl() {
    if installed(&["perl"]) {
        let script = "$| = 1; sub deep { my $n = shift; $n ? deep($n - 1) : sleep 3600 } print qq(ready\\n); deep(10)";
        let host = Launch::new("perl").args(["-e", script]).when_it_says("ready").start();
        compare("perl", host.pid());
    }
}

#[test]
fn postgres() {
    if !installed(&["/usr/lib/postgresql/15/bin/postgres", "/usr/lib/postgresql/15/bin/initdb", "setpriv"])
        || !is_root()
    {
        return;
    }
    // It refuses to run as root.
    let scratch = Scratch::new();
    let data = scratch.path().join("data");
    let data = data.to_str().expect("UTF-8");
    let as_nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let made = std::process::Command::new("setpriv")
        .args(as_nobody)
        .args(["/usr/lib/postgresql/15/bin/initdb", "-D", data, "-N", "-A", "trust", "--no-locale"])
        .output()
        .expect("initdb");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    use std::os::unix::process::CommandExt;
    let socket = scratch.path().to_str().expect("UTF-8");
    let mut host = Launch::new("/usr/lib/postgresql/15/bin/postgres")
        .library_copied_to(scratch.path())
        .args(["-D", data, "-h", "", "-k", socket, "-F"])
        .with(|command| {
            command.uid(65534).gid(65534);
        })
        .start();
    compare("postgres, postmaster", host.pid());
    for child in children(&mut host, 5) {
        compare("postgres, child", child);
    }
}
