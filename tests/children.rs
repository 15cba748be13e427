//! What a process learns of its children, and a child of itself, is what it would without the library: in every way
//! that a child can be made and end, while dumps are taken.

mod harness;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use harness::Scratch;
use harness::family::{identity, until};
use harness::host::Launch;
use harness::session::Session;

/// Asks for stacks without pause until `stop`, in a thread.
fn dump_until(stop: &AtomicBool, path: &Path) -> usize {
    let mut session = Session::open(path).expect("connect");
    let mut dumps = 0;
    while !stop.load(Ordering::Relaxed) {
        assert!(session.command("stacks").contains("ThreadID="));
        dumps += 1;
    }
    dumps
}

/// What `children` tells, and which child was made how: `(pid, "fork exit: …")`.
fn told(lines: &[String]) -> (Vec<String>, Vec<(String, String)>) {
    let text = lines.iter().filter(|line| !line.starts_with("pid ")).cloned().collect();
    let made = lines.windows(2).filter_map(|pair| Some((pair[0].strip_prefix("pid ")?.to_owned(), pair[1].clone())));
    (text, made.collect())
}

fn bare() -> Vec<String> {
    let mut host = Launch::fixture("children").bare().start();
    host.tell("\n");
    host.wait_for_line("ends");
    assert_eq!(host.release(), "PASS");
    told(host.lines()).0
}

/// One run with dumps all the while. The parent's name is the same to the end, where it goes; children that left
/// their names are returned, with what was said of them.
fn as_bare(expected: &[String], options: &str) -> Vec<String> {
    let scratch = Scratch::new();
    let name = |pid: &str| scratch.path().join(pid);
    // Children without fork hooks inherit what a session has put on descriptor 2: see tests/stderr.rs.
    let launch = Launch::fixture("children").option(options).option("redirect_stderr=False");
    let mut host = launch.option(&format!("socket_path='{}'", name("{pid}").display())).start();
    let (path, stop) = (name(&host.pid().to_string()), AtomicBool::new(false));
    drop(host.connect_to(&path));
    let before = identity(&path);
    std::thread::scope(|scope| {
        let dumper = scope.spawn(|| dump_until(&stop, &path));
        host.tell("\n");
        // Whatever becomes of the host, the thread must end.
        let said = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| host.wait_for_line("ends")));
        let now = identity(&path);
        stop.store(true, Ordering::Relaxed);
        let dumps = dumper.join().expect("every dump is answered");
        said.unwrap_or_else(|_| panic!("{}", host.story()));
        assert!(dumps > 0);
        assert_eq!(now, before, "{options}: a child touched the parent's socket");
    });
    assert_eq!(host.release(), "PASS", "{options}: {}", host.story());
    until("the name is gone", || !path.exists());
    let (text, made) = told(host.lines());
    let differences: Vec<_> = text.iter().zip(expected).filter(|(with, without)| with != without).collect();
    assert!(differences.is_empty(), "{options}: (with, without): {differences:#?}");
    assert_eq!(text.len(), expected.len());
    made.into_iter().filter(|(pid, _)| name(pid).exists()).map(|(_, what)| what).collect()
}

#[test]
fn wait_tells_the_same_and_children_see_the_same() {
    let expected = bare();
    // Not by signals alone: a child without fork hooks may inherit the handler that is installed for a dump's time.
    for capture in ["auto", "ptrace"] {
        let strays = as_bare(&expected, &format!("reinstall_delay=3600,capture={capture}"));
        assert!(strays.is_empty(), "{capture}: {strays:?}");
    }
}

#[test]
fn also_when_they_open_manholes_of_their_own_at_once() {
    // Those that end by a signal may leave their name.
    for stray in as_bare(&bare(), "reinstall_delay=0") {
        assert!(stray.contains(" abort:") || stray.contains(" term:"), "{stray}");
    }
}
