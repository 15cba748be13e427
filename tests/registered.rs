//! Commands and variables of the application, registered through the C interface: what they may do, and that none of it
//! holds up the manhole.

mod harness;

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use harness::DEADLINE;
use harness::dump::Dump;
use harness::host::{Host, Launch, socket_of};
use harness::session::{PROMPT, Session, read_to_end};

/// The fixture whose commands do what these tests need, with its manhole from the start.
fn host() -> Host {
    Launch::fixture("api_calls").bare().option("redirect_stderr=False").start()
}

/// Tells it one call, and waits for its answer.
fn call(host: &mut Host, line: &str, result: i64) {
    host.tell(&format!("{line}\n"));
    let name = line.split(' ').next().expect("a word");
    hears(host, &format!("{name} {result}"));
}

/// Waits until the host has said `line`, in whatever order.
fn hears(host: &mut Host, line: &str) {
    let end = Instant::now() + DEADLINE;
    while !host.lines().iter().any(|it| it == line) {
        assert!(Instant::now() < end, "no {line:?}; {}", host.story());
        host.look();
    }
}

fn send(session: &mut Session, line: &str) {
    session.stream().write_all(format!("{line}\n").as_bytes()).expect("send");
}

/// The host serves a new client.
fn serves(host: &mut Host) {
    assert_eq!(host.connect().command("echo ok"), "echo|ok\n");
}

#[test]
fn arguments_output_and_help() {
    let mut host = host();
    let mut session = host.connect();
    assert_eq!(session.command("echo a 'b  c' \"\" d\\ e"), "echo|a|b  c||d e\n");
    assert_eq!(session.command("misuse"), format!("{} {} 0 0\n", -libc::EINVAL, -libc::EINVAL));
    let help = session.command("help");
    let (built_in, registered) = help.split_once("\nRegistered by the application").expect("a section");
    assert!(built_in.contains("stacks") && !built_in.contains("flood"), "{help}");
    assert!(registered.contains("echo [WORD...]      One of the test.\n"), "{help}");
    assert_eq!(session.command("help echo"), "echo [WORD...]\nOne of the test.\nMore of it.\nLevel: operate.\n");
    assert_eq!(session.command("ehco"), "error: unknown command \"ehco\"; did you mean echo?\n");
    assert!(session.command("help floood").contains("did you mean flood?"));
    assert_eq!(host.release(), "PASS");
}

/// The status of `manhole-cli -c COMMAND`, and what it wrote.
fn cli(host: &Host, command: &str) -> Option<(i32, String)> {
    let client = std::env::var_os("MANHOLE_CLI").map(Into::into);
    let client: std::path::PathBuf = client.or_else(|| Some(option_env!("CARGO_BIN_EXE_manhole-cli")?.into()))?;
    // Ended by timeout(1), which says 124, where the answer never comes.
    let mut timed = Command::new("timeout");
    timed.arg(DEADLINE.as_secs().to_string()).arg(client);
    let output = timed.args(["-c", command, &host.pid().to_string()]).output().expect("manhole-cli");
    Some((output.status.code().expect("a status"), String::from_utf8_lossy(&output.stdout).into_owned()))
}

#[test]
fn the_callbacks_return_value_is_the_status() {
    let mut host = host();
    drop(host.connect());
    for (value, status, output) in
        [(0, 0, ""), (1, 1, ""), (2, 2, "usage: outcome [WORD...]\n"), (77, 1, ""), (-1, 1, "")]
    {
        let Some(answer) = cli(&host, &format!("outcome {value}")) else {
            println!("skipped: no manhole-cli");
            return;
        };
        assert_eq!(answer, (status, output.to_owned()), "{value}");
    }
    // A program gets the bytes as they are.
    assert_eq!(cli(&host, "echo a"), Some((0, "echo|a".to_owned())));
    assert_eq!(host.release(), "PASS");
}

#[test]
fn bad_registrations_are_refused_and_the_table_is_bounded() {
    let mut host = host();
    call(&mut host, "wrong", 0);
    serves(&mut host);
    assert_eq!(host.release(), "PASS");
}

#[test]
fn what_is_registered_outlives_a_release() {
    let mut host = host();
    serves(&mut host);
    call(&mut host, "release", 0);
    call(&mut host, "install", 0);
    serves(&mut host);
    assert_eq!(host.release(), "PASS");
}

#[test]
fn a_forked_child_has_the_commands() {
    let mut host = host();
    let mut session = host.connect();
    send(&mut session, "hang");
    hears(&mut host, "hang begins");
    host.tell("fork\n");
    let end = Instant::now() + DEADLINE;
    let child = loop {
        host.look();
        if let Some(pid) = host.lines().iter().find_map(|line| line.strip_prefix("fork ")) {
            break pid.parse().expect("a pid");
        }
        assert!(Instant::now() < end, "{}", host.story());
    };
    let mut theirs = host.connect_to(&socket_of(child));
    // The parent's call counts for nothing here.
    assert_eq!(theirs.command("echo child"), "echo|child\n");
    send(&mut theirs, "hang");
    let twice = |host: &mut Host, line: &str| {
        while host.lines().iter().filter(|it| *it == line).count() < 2 {
            assert!(Instant::now() < end, "{line:?} is not said twice; {}", host.story());
            host.look();
        }
    };
    twice(&mut host, "hang begins");
    drop((session, theirs));
    twice(&mut host, &format!("hang cancelled {}", -libc::EPIPE));
    assert_eq!(host.release(), "PASS");
}

#[test]
fn a_callback_that_forks() {
    let mut host = host();
    assert_eq!(host.connect().command("forking"), "child ended with 1\n");
    hears(&mut host, &format!("child writes {}", -libc::EPIPE));
    hears(&mut host, "child is cancelled 1");
    host.wait_for_stderr("its child came back to the manhole");
    serves(&mut host);
    assert_eq!(host.release(), "PASS");
}

#[test]
fn a_slow_reader_gets_ten_megabytes() {
    let mut host = host();
    let mut fast = host.connect();
    let mut slow = UnixStream::connect(host.socket()).expect("connect");
    slow.write_all(b"flood 10\nexit\n").expect("send");
    // It takes nothing for a while: the command waits, the manhole serves, and memory stays bounded.
    sleep(Duration::from_millis(300));
    let dump = Dump::parse(&fast.command("stacks"));
    assert!(dump.named("Manhole actor").shows("flood"), "{dump:#?}");
    let text = std::fs::read_to_string(format!("/proc/{}/status", host.pid())).expect("status");
    println!("{}", text.lines().find(|line| line.starts_with("VmRSS")).expect("VmRSS"));
    let text = read_to_end(&mut slow);
    let (_, text) = text.split_once(PROMPT).expect("a prompt");
    let mut lines = text.lines();
    for expected in 0..10 << 14 {
        assert_eq!(lines.next().and_then(|line| line.parse().ok()), Some(expected));
    }
    // Longer than the room that manhole_printf has.
    assert_eq!(lines.next().map(str::len), Some(5000));
    assert_eq!(host.release(), "PASS");
}

#[test]
fn a_client_that_goes_cancels_its_command() {
    let mut host = host();
    let mut session = host.connect();
    send(&mut session, "hang");
    hears(&mut host, "hang begins");
    drop(session);
    hears(&mut host, &format!("hang cancelled {}", -libc::EPIPE));
    let mut session = host.connect();
    send(&mut session, "flood 1000");
    sleep(Duration::from_millis(50));
    drop(session);
    hears(&mut host, &format!("flood stopped {}", -libc::EPIPE));
    serves(&mut host);
    assert_eq!(host.release(), "PASS");
}

/// Involuntary and voluntary switches of thread `tid`: how often it ran.
fn switches(host: &Host, tid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/task/{tid}/status", host.pid())).expect("status");
    let counts = text.lines().filter_map(|line| line.split_once("ctxt_switches:")?.1.trim().parse::<u64>().ok());
    counts.sum()
}

#[test]
fn a_callback_that_never_returns_holds_up_nothing_else_and_is_shown() {
    let mut host = host();
    let mut stuck = host.connect();
    send(&mut stuck, "forever");
    hears(&mut host, "forever begins");
    let mut other = host.connect();
    let dump = Dump::parse(&other.command("stacks"));
    assert!(dump.named("Manhole actor").shows("forever"), "{dump:#?}");
    assert!(!other.command("threads 'Manhole actor'").contains("idle"));

    // Whoever needs the actor, too, is told at once.
    let mut third = host.connect();
    let asked = Instant::now();
    send(&mut third, "echo");
    let told = read_until(third.stream(), "exit leaves it\n");
    assert!(told.starts_with("# the actor is busy with forever since 0 s"), "{told}");
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());

    // The observer sleeps meanwhile: it looks once a second, for two commands that wait.
    let (observer, _) = host.threads().into_iter().find(|(_, name)| name == "Manhole").expect("an observer");
    let before = switches(&host, observer);
    let told = read_until(stuck.stream(), "exit leaves it\n");
    let ran = switches(&host, observer) - before;
    assert!(ran < 60, "the observer ran {ran} times in five seconds");
    let (actor, _) = host.threads().into_iter().find(|(_, name)| name == "Manhole actor").expect("an actor");
    assert!(told.starts_with(&format!("# still running on thread {actor} (Manhole actor), silent for 5 s;")), "{told}");
    assert!(Dump::parse(&other.command(&format!("stacks {actor}"))).thread(actor).shows("forever"));

    // `exit` leaves it, for both; the process goes on.
    assert_eq!(stuck.last_command("exit"), "");
    assert_eq!(third.last_command("exit"), "");
    assert!(other.command("help").contains("stacks"));
    assert_eq!(host.release(), "PASS");
}

/// Reads up to and with `end`.
fn read_until(stream: &mut UnixStream, end: &str) -> String {
    stream.set_read_timeout(Some(DEADLINE)).expect("timeout");
    let (mut text, mut byte) = (Vec::new(), [0]);
    while !text.ends_with(end.as_bytes()) {
        std::io::Read::read_exact(stream, &mut byte).unwrap_or_else(|error| {
            panic!("{error} before {end:?}, after {}", String::from_utf8_lossy(&text));
        });
        text.push(byte[0]);
    }
    String::from_utf8(text).expect("UTF-8")
}

#[test]
fn an_idle_actor_is_no_noise_unless_one_asks() {
    let mut host = host();
    let mut session = host.connect();
    let (actor, _) = host.threads().into_iter().find(|(_, name)| name == "Manhole actor").expect("an actor");
    let dump = Dump::parse(&session.command("stacks"));
    assert_eq!(dump.thread(actor).skipped.as_deref(), Some("the manhole's own thread, idle"));
    assert!(session.command("threads 'Manhole actor'").contains("(the manhole's own thread, idle)"));
    assert!(!Dump::parse(&session.command(&format!("stacks {actor}"))).thread(actor).frames.is_empty());
    assert_eq!(host.release(), "PASS");
}

#[test]
fn a_callback_cannot_release_or_replace_the_manhole_or_unregister_itself() {
    let mut host = host();
    let refused = -libc::EDEADLK;
    let expected = format!("release {refused}, install {refused}, unregister {refused}\n");
    assert_eq!(host.connect().command("forbidden"), expected);
    serves(&mut host);
    assert_eq!(host.release(), "PASS");
}

#[test]
fn a_release_cancels_a_running_callback() {
    let mut host = host();
    let mut session = host.connect();
    send(&mut session, "hang");
    hears(&mut host, "hang begins");
    host.tell("release\n");
    hears(&mut host, &format!("hang cancelled {}", -libc::EPIPE));
    hears(&mut host, "release 0");
    call(&mut host, "install", 0);
    serves(&mut host);
    assert_eq!(host.release(), "PASS");
}

#[test]
fn a_release_leaves_a_hanging_callback_behind() {
    let mut host = host();
    let mut session = host.connect();
    send(&mut session, "gated");
    hears(&mut host, "gated begins");
    call(&mut host, "release", 0);
    host.wait_for_stderr("hangs in gated");
    read_to_end(session.stream());
    call(&mut host, "install", 0);
    // The new actor runs other commands, not that one.
    serves(&mut host);
    assert!(host.connect().command("gated").contains("still runs it, from before a release"));
    call(&mut host, "go", 1);
    hears(&mut host, "gated ends");
    let end = Instant::now() + DEADLINE;
    while host.threads().iter().filter(|(_, name)| name == "Manhole actor").count() > 1 {
        assert!(Instant::now() < end, "{:?}", host.threads());
        sleep(Duration::from_millis(1));
    }
    assert_eq!(host.release(), "PASS");
}

#[test]
fn unregistering_waits_for_the_callback() {
    let mut host = host();
    let mut session = host.connect();
    send(&mut session, "gated");
    hears(&mut host, "gated begins");
    host.tell("unregister gated\n");
    // It is gone for newcomers while the one that runs is waited for.
    let end = Instant::now() + DEADLINE;
    let mut other = host.connect();
    while other.command("help").contains("gated") {
        assert!(Instant::now() < end);
    }
    assert!(other.command("gated").contains("unknown command"));
    sleep(Duration::from_millis(50));
    host.look();
    assert!(!host.lines().iter().any(|line| line.starts_with("unregister")), "{}", host.story());
    call(&mut host, "go", 1);
    hears(&mut host, "unregister 0");
    let lines = host.lines();
    let at = |wanted: &str| lines.iter().position(|line| line == wanted).expect("a line");
    assert!(at("gated ends") < at("unregister 0"));
    assert_eq!(session.answer(), "");
    assert_eq!(host.release(), "PASS");
}

#[test]
fn a_command_that_waits_for_its_turn_may_be_unregistered() {
    let mut host = host();
    let (mut first, mut second) = (host.connect(), host.connect());
    send(&mut first, "gated");
    hears(&mut host, "gated begins");
    send(&mut second, "echo");
    read_until(second.stream(), "exit leaves it\n");
    call(&mut host, "unregister echo", 0);
    call(&mut host, "go", 1);
    assert!(second.answer().contains("it was unregistered while this waited"));
    assert_eq!(host.release(), "PASS");
}

#[test]
fn registering_and_unregistering_while_clients_call() {
    let mut host = host();
    call(&mut host, "churn", 0);
    let mut session = host.connect();
    let (mut ran, mut turns) = (0, 0);
    while ran < 20 || turns < 500 {
        let answer = session.command("churn");
        match answer.as_str() {
            "counted\n" => ran += 1,
            other => assert!(other.contains("unknown command") || other.contains("unregistered"), "{other}"),
        }
        session.command("help");
        turns += 1;
        assert!(turns < 1_000_000, "ran {ran} times");
    }
    println!("ran {ran} times in {turns} turns");
    call(&mut host, "calm", 1);
    assert_eq!(host.release(), "PASS");
}

/// An oneshot has no actor. The names work there, the commands say why they do not.
#[test]
fn in_an_oneshot_commands_are_refused() {
    let mut host = Launch::fixture("api_calls").bare().env("MANHOLE", "oneshot_on=USR2").start_only();
    host.wait_for_line("ready");
    call(&mut host, "variable calls", 0);
    host.signal(libc::SIGUSR2);
    let mut session = host.connect();
    assert!(session.command("echo 1").starts_with("error: it runs on the thread `Manhole actor`, and there is none"));
    assert!(session.command("help").contains("Registered by the application"));
    assert!(session.command("x/1dg calls").ends_with("\t0\n"));
    session.last_command("exit");
    assert_eq!(host.release(), "PASS");
}

/// `daemon_connection=False`: the exit waits for the clients, and the one who caused it is not left waiting.
#[test]
fn exit_called_from_a_callback() {
    let mut host = host();
    let mut other = host.connect();
    let mut session = host.connect();
    send(&mut session, "leave");
    let answer = session.answer();
    // The farewell may stand before it: one look of the observer can find both.
    assert!(answer.contains("leaving\n"), "{answer}");
    read_until(other.stream(), "(daemon_connection=False)\n");
    assert!(host.is_alive());
    assert!(other.answer().is_empty());
    assert!(other.command("echo").contains("there is none"), "the actor takes no more");
    drop((session, other));
    assert_eq!(host.wait().code(), Some(7));
    assert!(!host.socket().exists());
}

#[test]
fn exit_called_from_a_callback_of_a_program() {
    let mut host = host();
    drop(host.connect());
    let Some((status, output)) = cli(&host, "leave") else {
        println!("skipped: no manhole-cli");
        return;
    };
    assert_eq!((status, output.as_str()), (0, "leaving\n"));
    assert_eq!(host.wait().code(), Some(7));
}

#[test]
fn variables_have_names() {
    let mut host = host();
    call(&mut host, "variable calls", 0);
    call(&mut host, "variable calls", -i64::from(libc::EEXIST));
    let mut session = host.connect();
    let locals = session.command("locals");
    assert!(locals.starts_with("calls ") && locals.contains(", 8 bytes") && locals.contains("(api_calls"), "{locals}");
    assert!(session.command("sym calls+2").contains(" calls+0x2 "), "{}", session.command("sym calls+2"));
    assert!(session.command("x/1dg calls").ends_with("\t0\n"));
    session.command("count");
    session.command("count");
    assert!(session.command("x/1dg calls").ends_with("\t2\n"));
    call(&mut host, "novariable calls", 0);
    assert!(session.command("locals").starts_with("no names"));
    assert_eq!(host.release(), "PASS");
}
