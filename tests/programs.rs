//! Programs at the socket: JSON lines, each request with one reply on one line, whatever came before.

mod harness;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use harness::DEADLINE;
use harness::host::{Host, Launch};
use serde_json::{Value, json};

/// A program that is connected. What precedes its first reply is skipped, as the documentation says.
struct Program {
    stream: UnixStream,
    lines: BufReader<UnixStream>,
    skipped: Vec<String>,
    has_begun: bool,
}

impl Program {
    fn connect(host: &mut Host) -> Self {
        drop(host.connect());
        let stream = UnixStream::connect(host.socket()).expect("connect");
        stream.set_read_timeout(Some(DEADLINE)).expect("timeout");
        let lines = BufReader::new(stream.try_clone().expect("clone"));
        Self { stream, lines, skipped: Vec::new(), has_begun: false }
    }

    fn send(&mut self, line: &str) {
        self.stream.write_all(format!("{line}\n").as_bytes()).expect("send");
    }

    fn reply(&mut self) -> Value {
        loop {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).expect("a reply") > 0, "the end; before it {:?}", self.skipped);
            if line.starts_with("{\"id\":") {
                self.has_begun = true;
                return serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            }
            assert!(!self.has_begun, "between replies: {line}");
            self.skipped.push(line);
        }
    }

    fn ask(&mut self, id: impl Into<Value>, command: &str) -> Value {
        let id = id.into();
        self.send(&json!({"id": id, "command": command}).to_string());
        let reply = self.reply();
        assert_eq!(reply["id"], id);
        reply
    }
}

fn host() -> Host {
    Launch::new("/bin/cat").option("redirect_stderr=False").start()
}

#[test]
fn each_request_has_one_reply() {
    let mut host = host();
    let mut program = Program::connect(&mut host);
    let threads = program.ask(7, "threads");
    assert_eq!(threads["status"], 0);
    assert!(threads.get("error").is_none());
    let pid = host.pid();
    assert!(threads["data"].as_array().expect("data").iter().any(|it| it["tid"] == pid && it["name"] == "cat"));
    // Said or not, it is JSON.
    assert_eq!(program.ask("seven", "modules --json")["data"], program.ask("acht", "modules")["data"]);
    let failed = program.ask(1, "threads 99999999");
    assert_eq!((&failed["status"], &failed["error"]), (&json!(1), &json!("no thread matches \"99999999\"")));
    let wrong = program.ask(-1.5, "nonsense");
    assert_eq!((&wrong["status"], &wrong["error"]), (&json!(2), &json!("unknown command \"nonsense\"; try help")));
    assert_eq!(wrong["data"][0]["kind"], "error");
    // Several commands on a line: their records one after the other.
    let both = program.ask(2, "drop; drop operate; history");
    let levels: Vec<&Value> = both["data"].as_array().expect("data").iter().filter_map(|it| it.get("level")).collect();
    assert_eq!(levels, ["admin", "operate"]);
    assert_eq!(program.ask(3, "options | head 1")["status"], 2);
    assert_eq!(program.ask(4, "'")["error"], "the ' is never closed");
    assert_eq!(program.ask(5, "  # nothing"), json!({"id": 5, "data": [], "status": 0}));
    assert_eq!(program.ask(6, "sessions")["data"].as_array().expect("data").last().expect("one")["mode"], "program");
    assert_eq!(program.ask(8, "exit"), json!({"id": 8, "data": [], "status": 0}));
    let mut rest = Vec::new();
    program.lines.read_to_end(&mut rest).expect("the end");
    assert!(rest.is_empty());
}

#[test]
fn a_malformed_line_is_answered_and_the_next_is_read() {
    let mut host = host();
    let mut program = Program::connect(&mut host);
    for (line, id, why) in [
        ("{\"id\":1,\"cmd\":\"x\"}", json!(1), "unknown member \"cmd\": there are id, command, interrupt"),
        ("{\"id\":\"a\"}", json!("a"), "the member \"command\" is missing"),
        ("{\"command\":\"x\",\"id\":2} more", json!(2), "the end of the line expected at byte 23"),
        ("stacks", Value::Null, "{ expected at byte 0"),
        ("{\"id\":null,\"command\":\"x\"}", Value::Null, "a number or a string expected at byte 6"),
        (&"x".repeat(100_000), Value::Null, "a line may have 65536 bytes"),
    ] {
        program.send(line);
        assert_eq!(program.reply(), json!({"id": id, "data": [], "error": why, "status": 2}));
    }
    assert_eq!(program.ask(1, "drop")["status"], 0);
}

#[test]
fn requests_may_wait_and_are_answered_in_order() {
    let mut host = host();
    let mut program = Program::connect(&mut host);
    let requests: String = (0..200).map(|id| format!("{{\"id\":{id},\"command\":\"threads\"}}\n")).collect();
    program.stream.write_all(requests.as_bytes()).expect("send");
    // What was sent is answered, though no more will come.
    program.stream.shutdown(Shutdown::Write).expect("shutdown");
    for id in 0..200 {
        assert_eq!(program.reply()["id"], id);
    }
}

/// The first dump is given up, wherever it is: nothing of it comes between replies.
#[test]
fn the_banner_ends_at_a_line_and_exec_has_none() {
    let mut host = Launch::fixture("threads_deep").args(["300", "20"]).option("redirect_stderr=False").start();
    for pause in [0, 0, 1, 3, 10, 30, 100, 300] {
        let mut program = Program::connect(&mut host);
        std::thread::sleep(Duration::from_millis(pause));
        assert_eq!(program.ask(pause, "drop")["status"], 0);
        assert_eq!(program.ask("again", "drop")["status"], 0);
        assert!(program.skipped.iter().all(|line| line.ends_with('\n')));
    }
    let host = Launch::new("/bin/cat").option("connection_handler=exec").start_only();
    let end = std::time::Instant::now() + DEADLINE;
    let stream = loop {
        if let Ok(stream) = UnixStream::connect(host.socket()) {
            break stream;
        }
        assert!(std::time::Instant::now() < end);
    };
    stream.set_read_timeout(Some(DEADLINE)).expect("timeout");
    let lines = BufReader::new(stream.try_clone().expect("clone"));
    let mut program = Program { stream, lines, skipped: Vec::new(), has_begun: true };
    assert_eq!(program.ask(1, "drop")["data"][0]["level"], "admin");
    // A person who types a brace later is no program.
    let mut host = self::host();
    let mut session = host.connect();
    session.command("drop");
    assert!(session.command("{\"id\":1}").starts_with("error: unknown command"));
}

/// Commands of the application answer with text records; one that never ends is ended by a request.
#[test]
fn text_of_the_application_and_interrupts() {
    let mut host = Launch::fixture("api_calls").bare().option("redirect_stderr=False").start();
    let mut program = Program::connect(&mut host);
    // What the application writes comes in pieces, cut wherever it was read.
    let echoed = program.ask(1, "echo a 'b c'");
    let pieces = echoed["data"].as_array().expect("data").iter().inspect(|piece| assert_eq!(piece["kind"], "text"));
    let text: String = pieces.map(|piece| piece["text"].as_str().expect("text")).collect();
    assert_eq!(text, "echo|a|b c");
    program.send(
        "{\"id\":2,\"command\":\"forever\"}\n{\"id\":3,\"command\":\"drop\"}\n{\"id\":\"4\",\"command\":\"forever\"}",
    );
    host.wait_for_line("forever begins");
    program.send("{\"interrupt\":99}\n{\"interrupt\":\"4\"}\n{\"interrupt\":2}");
    let interrupted = program.reply();
    assert_eq!(
        (&interrupted["id"], &interrupted["error"], &interrupted["status"]),
        (&json!(2), &json!("interrupted"), &json!(1))
    );
    assert_eq!(program.reply()["id"], 3);
    let waited = program.reply();
    assert_eq!((&waited["id"], &waited["error"]), (&json!("4"), &json!("interrupted")));
}

#[test]
fn watch_puts_rounds() {
    let mut host = host();
    let mut program = Program::connect(&mut host);
    program.send("{\"id\":1,\"command\":\"watch 0.1 drop\"}");
    // A reply grows while it is made: the third round is read before its end.
    let mut begun = String::new();
    while begun.matches("\"kind\":\"round\"").count() < 3 {
        let mut bytes = [0; 1024];
        let count = program.lines.read(&mut bytes).expect("more");
        begun.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    program.send("{\"interrupt\":1}");
    let mut rest = String::new();
    program.lines.read_line(&mut rest).expect("the rest");
    let whole = begun + &rest;
    let reply: Value = serde_json::from_str(&whole[whole.find("{\"id\":").expect("a reply")..]).expect("JSON");
    let kinds: Vec<&str> =
        reply["data"].as_array().expect("data").iter().filter_map(|it| it["kind"].as_str()).collect();
    assert!(kinds.starts_with(&["round", "level", "round", "level", "round"]), "{kinds:?}");
    assert_eq!(reply["error"], "interrupted");
}

/// The example of the README, as it stands there.
#[test]
fn the_readmes_example_runs() {
    let mut host = host();
    drop(host.connect());
    let readme = include_str!("../README.md");
    let (_, example) = readme.split_once("<!-- the example is run by tests/programs.rs -->\n```python\n").expect("it");
    let (example, _) = example.split_once("```").expect("its end");
    let pid = host.pid().to_string();
    let output = std::process::Command::new("python3").args(["-c", example, &pid]).output().expect("python3");
    let shown = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[0].starts_with("0 None ['cat', "), "{output:?}");
    assert!(lines[1].starts_with("1 no symbol no_such_function"), "{output:?}");
}
