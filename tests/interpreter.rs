//! Lines of the prompt: several commands, comments, filters, and the way out of a command that takes long.

mod harness;

use std::io::Write;
use std::time::{Duration, Instant};

use harness::DEADLINE;
use harness::host::{Host, Launch};

fn host() -> Host {
    Launch::new("/bin/cat").option("redirect_stderr=False").start()
}

#[test]
fn several_commands_comments_and_filters() {
    let mut host = host();
    let mut session = host.connect();
    let all = session.command("options");
    let matching: String = all.lines().filter(|line| line.contains("fork")).map(|line| format!("{line}\n")).collect();
    assert_eq!(session.command("options | grep fork # only these"), matching);
    assert_eq!(session.command("options | grep fork | count"), format!("{}\n", matching.lines().count()));
    assert_eq!(session.command("options | head 1; options | count;"), {
        let first = all.lines().next().expect("a line");
        format!("{first}\n{}\n", all.lines().count())
    });
    assert_eq!(session.command("# nothing at all"), "");
    // What is wrong is said, and the rest is done.
    let answer = session.command("nonsense; options | gerp x; options | count");
    let lines: Vec<&str> = answer.lines().collect();
    assert_eq!(lines[0], "error: unknown command \"nonsense\"; try help");
    assert_eq!(lines[1], "error: unknown filter \"gerp\"; did you mean grep?");
    assert_eq!(lines[2], all.lines().count().to_string());
    assert!(session.command("options | | head").starts_with("error: a | stands between a command and a filter"));
    assert!(session.command("options --json | head").starts_with("error: filters work on lines for eyes"));
    assert!(session.command("sym 'a;b|#'").starts_with("error: no symbol a;b|#"));
    assert_eq!(session.command("^C"), "");
    drop(session);
    host.release();
    assert!(host.wait().success(), "{}", host.story());
}

/// `head` ends its command: a stack dump of which one line is wanted is not made to its end.
#[test]
fn head_ends_the_command() {
    let mut host = host();
    let mut session = host.connect();
    assert_eq!(session.command("sym '*' --limit 1000000 | head 1").lines().count(), 1);
    assert_eq!(session.command("sym '*' --limit 1000000 | head 0"), "");
}

#[test]
fn interrupts_end_the_command_and_what_was_typed_ahead() {
    let mut host = Launch::fixture("api_calls").bare().option("redirect_stderr=False").start();
    for (round, key) in ["\u{3}", "^C\n", "^C\n"].iter().enumerate() {
        let mut session = host.connect();
        session.stream().write_all(b"forever; options\noptions\n").expect("send");
        // The first one never returns, so that the others wait for their turn for ever.
        if round == 0 {
            host.wait_for_line("forever begins");
        }
        session.stream().write_all(key.as_bytes()).expect("send");
        let answer = session.answer();
        assert!(answer.ends_with("error: interrupted\n"), "{answer}");
        assert!(!answer.contains("max_frames"), "{answer}");
        assert!(session.command("help | count").trim().parse::<u32>().is_ok());
    }
}

/// The key ^C where nothing runs: what was typed is forgotten, and there is a new prompt on a new line.
#[test]
fn an_interrupt_at_the_prompt_gives_a_new_one() {
    let mut host = host();
    let mut session = host.connect();
    session.stream().write_all(b"half a li\x03").expect("send");
    assert_eq!(session.answer(), "\n");
    assert_eq!(session.command("help | grep Leave | count"), "1\n");
}

#[test]
fn watch_repeats_until_it_is_interrupted() {
    let mut host = host();
    let mut session = host.connect();
    session.stream().write_all(b"watch 0.1 'threads | grep cat; drop'\n").expect("send");
    // A second client sees it at work until three rounds are over.
    let mut other = host.connect();
    let end = Instant::now() + DEADLINE;
    loop {
        let row = other.command("sessions | grep watch | head 1");
        let seconds = row.rsplit_once('(').and_then(|(_, time)| time.split(' ').next()?.parse::<f64>().ok());
        if seconds.is_some_and(|seconds| seconds > 0.35) {
            break;
        }
        assert!(Instant::now() < end, "{row}");
    }
    session.stream().write_all(b"\x03").expect("send");
    let answer = session.answer();
    let rounds: Vec<&str> = answer.split_inclusive(" s, ^C ends --\n").collect();
    assert!(rounds.len() > 3, "{answer}");
    assert!(rounds[0].starts_with("-- ") && rounds[0].ends_with(" UTC, every 0.1 s, ^C ends --\n"), "{answer}");
    // Every round but one that was interrupted is whole: the filtered line, and the level.
    let lines: Vec<&str> = rounds[1].lines().collect();
    assert!(
        lines[0].contains(" cat ") && lines[1] == "this session has the level admin" && lines.len() == 3,
        "{answer}"
    );
    for (line, error) in [
        ("watch 2", "error: watch: takes a command; usage: watch SECONDS COMMAND...\n"),
        (
            "watch 0.01 help",
            "error: watch: expects seconds from 0.1 to 86400, not \"0.01\"; usage: watch SECONDS COMMAND...\n",
        ),
        ("watch 1 watch 1 help", "error: watch: one watch is enough; usage: watch SECONDS COMMAND...\n"),
    ] {
        assert_eq!(session.command(line), error);
    }
    // What is used wrongly will not get better.
    assert!(session.command("watch 1 nonsense").ends_with("error: unknown command \"nonsense\"; try help\n"));
    // Its own level counts, not one from before.
    assert!(session.command("watch 1 drop observe | head 2").ends_with("this session has the level observe\n"));
}

#[test]
fn a_round_never_begins_before_the_last_is_done() {
    let mut host = Launch::fixture("api_calls").bare().option("redirect_stderr=False").start();
    let mut session = host.connect();
    session.stream().write_all(b"watch 0.1 forever\n").expect("send");
    host.wait_for_line("forever begins");
    std::thread::sleep(Duration::from_millis(300));
    session.stream().write_all(b"\x03").expect("send");
    let answer = session.answer();
    assert_eq!(answer.matches(" UTC, every").count(), 1, "{answer}");
    assert!(answer.ends_with("error: interrupted\n"), "{answer}");
}

#[test]
fn history_and_events() {
    let mut host = host();
    let mut session = host.connect();
    let count = session.command("options | count");
    assert_eq!(session.command("!!"), format!("options | count\n{count}"));
    assert_eq!(session.command("drop"), "this session has the level admin\n");
    assert_eq!(session.command("!1"), format!("options | count\n{count}"));
    assert_eq!(session.command("!opt"), format!("options | count\n{count}"));
    assert!(session.command("!9").starts_with("error: !9: no such line"));
    assert!(session.command("!zzz").starts_with("error: !zzz: no such line"));
    assert_eq!(session.command("history | head 3"), "    1  options | count\n    2  options | count\n    3  drop\n");
    // Each session has its own.
    assert_eq!(host.connect().command("history"), "    1  history\n");
}

#[test]
fn completion_comes_from_the_table() {
    let mut host = Launch::new("/bin/cat").option(r#"locals={"mark": "&main"}, redirect_stderr=False"#).start();
    let mut session = host.connect();
    assert_eq!(session.command("complete thr"), "threads\n");
    assert_eq!(session.command("complete 'help; stacks --gr'"), "--group\n");
    assert_eq!(session.command("complete 'drop '"), "--json\nadmin\nobserve\noperate\n");
    assert_eq!(session.command("complete 'stacks | '"), "count\ngrep\nhead\n");
    assert_eq!(session.command("complete help fil"), "filters\n");
    assert_eq!(session.command("complete watch 2 opt"), "options\n");
    assert_eq!(session.command("complete sym ma"), "mark\n");
    assert_eq!(session.command("complete nonsense x"), "");
    let all = session.command("complete");
    for word in ["stacks", "--group", "grep", "observe", "max_frames"] {
        assert!(all.lines().any(|line| line == word), "{word}: {all}");
    }
}

#[test]
fn sessions_are_listed() {
    let mut host = host();
    let mut session = host.connect();
    let mut other = host.connect();
    other.command("drop observe");
    let list = session.command("sessions");
    let rows: Vec<Vec<&str>> = list.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    let own = std::process::id().to_string();
    let name = std::fs::read_to_string("/proc/self/comm").expect("comm");
    let uid = nix::unistd::geteuid().to_string();
    let find = |mark: &str| rows.iter().find(|row| (row[0] == "*") == (mark == "*")).expect("a row").clone();
    assert_eq!(find("*")[2..7], [own.as_str(), name.trim(), &uid, "admin", "person"], "{list}");
    assert!(find("*").contains(&"sessions"), "{list}");
    assert_eq!(find("")[1..6], [own.as_str(), name.trim(), &uid, "observe", "person"], "{list}");
}

/// A line before a command runs, and one that says how it ended, both with who and at which level.
#[test]
fn every_command_is_in_the_log_with_its_outcome() {
    let mut host = Launch::new("/bin/cat").option("redirect_stderr=False, verbose=True").start();
    let mut session = host.connect();
    session.command("drop operate; threads 99999999; nonsense | count; help | head 1");
    session.stream().write_all(b"watch 60 drop\n").expect("send");
    let running = host.wait_for_stderr("runs: watch 60 drop");
    session.stream().write_all(b"\x03").expect("send");
    session.answer();
    let log = host.wait_for_stderr("interrupted (");
    let who = format!("(pid={} uid={}", std::process::id(), nix::unistd::geteuid());
    for (level, text, command) in [
        ("admin", "runs", "drop operate"),
        ("operate", "ok (", "drop operate"),
        ("operate", "runs", "threads 99999999"),
        ("operate", "failed: no thread matches", "threads 99999999"),
        ("operate", "refused: unknown command", "nonsense | count"),
        ("operate", "ok (", "help | head 1"),
        ("operate", "interrupted (", "watch 60 drop"),
    ] {
        let is_it = |line: &&str| {
            line.contains(&format!("{who} level={level}) {text}")) && line.ends_with(&format!(": {command}"))
        };
        assert!(log.lines().any(|line| is_it(&line)), "{level} {text} {command}: {log}");
    }
    assert!(!running.contains("interrupted ("), "{running}");
    // A client that leaves in the middle.
    session.stream().write_all(b"watch 59 drop\n").expect("send");
    host.wait_for_stderr("runs: watch 59 drop");
    drop(session);
    host.wait_for_stderr("given up: its client left (");
}
