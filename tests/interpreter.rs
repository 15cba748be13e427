//! Lines of the prompt: several commands, comments, filters, and the way out of a command that takes long.

mod harness;

use std::io::Write;

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
