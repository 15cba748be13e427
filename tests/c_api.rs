//! The C interface: the header is what the library exports, the examples work in every way of finding it, and a
//! manhole is installed, replaced and released as the header says.

mod harness;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use harness::fixtures::{Compiler, build, fixture, has_program, library, root};
use harness::host::{Host, Launch};
use harness::session::read_to_end;
use harness::{DEADLINE, Scratch, is_ours};

fn header() -> String {
    fs::read_to_string(root().join("include/manhole.h")).expect("header")
}

/// The header without comments, preprocessor lines and the bodies of inline functions.
fn declarations() -> String {
    let (mut text, mut rest) = (String::new(), header());
    while let Some(start) = rest.find("/*") {
        let end = start + rest[start..].find("*/").expect("a comment ends") + 2;
        text.push_str(&rest[..start]);
        rest = rest.split_off(end);
    }
    text.push_str(&rest);
    let mut depth = 0;
    let mut outside = String::new();
    // `extern "C" {` stands between preprocessor conditions, all of which go.
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.starts_with("extern"));
    for character in lines.collect::<Vec<_>>().join("\n").chars() {
        match character {
            '{' => depth += 1,
            '}' if depth > 0 => {
                depth -= 1;
                outside.push(';');
            }
            _ if depth == 0 => outside.push(character),
            _ => (),
        }
    }
    outside
}

/// The functions that the header declares; inline ones need no symbol.
fn declared() -> BTreeSet<String> {
    declarations()
        .split(';')
        .filter(|declaration| !declaration.contains("inline") && !declaration.contains("typedef"))
        .filter_map(|declaration| {
            let (before, _) = declaration.split_once('(')?;
            Some(before.split([' ', '*', '\n']).next_back().expect("a word").to_owned())
        })
        .collect()
}

/// What the library puts in front of libc's: to remove its socket when a program leaves without its destructors.
const INTERPOSED: [&str; 2] = ["_Exit", "_exit"];

/// The dynamic symbols that the library defines.
fn exported() -> BTreeSet<String> {
    let output = Command::new("nm").args(["-D", "--defined-only"]).arg(library()).output().expect("nm");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().map(|line| line.split(' ').next_back().expect("a name").to_owned()).collect()
}

#[test]
fn the_header_declares_what_the_library_exports_and_nothing_else() {
    let declared = declared();
    assert!(declared.contains("manhole_install") && declared.contains("manhole_write"), "not parsed: {declared:?}");
    let expected = declared.into_iter().chain(INTERPOSED.map(str::to_owned)).collect::<BTreeSet<_>>();
    assert_eq!(expected, exported(), "left: include/manhole.h, right: nm -D --defined-only");
}

#[test]
fn versions_agree() {
    let header = header();
    let line = header.lines().find_map(|line| line.strip_prefix("#define MANHOLE_VERSION ")).expect("a version");
    let parts: Vec<u32> = env!("CARGO_PKG_VERSION").split('.').map(|part| part.parse().expect("a number")).collect();
    assert_eq!(line.parse(), Ok(parts[0] * 10_000 + parts[1] * 100 + parts[2]), "header and Cargo.toml");
    // That the library says the same is checked by `api_weak` and `api_dlopen`.
}

#[test]
fn every_function_says_context_errors_and_thread_safety() {
    let header = header();
    for name in declared().iter().map(String::as_str).chain(["manhole_printf", "manhole_vprintf_by"]) {
        let at = header
            .lines()
            .scan(0, |at, line| {
                *at += line.len() + 1;
                Some((*at - line.len() - 1, line))
            })
            .find(|(_, line)| line.contains(&format!("{name}(")) && !line.starts_with(" *") && !line.starts_with("/*"))
            .map(|(at, _)| at)
            .expect("a declaration");
        let comment = &header[header[..at].rfind("/*").expect("a comment")..at];
        if name == "manhole_printf" {
            continue;
        }
        assert!(comment.contains("Context"), "{name}: {comment}");
        assert!(comment.to_lowercase().contains("thread-safe"), "{name}: {comment}");
        assert!(
            comment.contains("errno")
                || ["manhole_version", "manhole_cancelled"].contains(&name)
                || comment.contains("-E"),
            "{name}: {comment}"
        );
    }
}

/// Both languages, both compilers, all warnings.
#[test]
fn header_and_examples_are_clean_c_and_cpp() {
    let mut looked = 0;
    for (compiler, language, standard) in [
        ("gcc", "c", "c99"),
        ("gcc", "c", "c17"),
        ("g++", "c++", "c++11"),
        ("g++", "c++", "c++20"),
        ("clang", "c", "c99"),
        ("clang++", "c++", "c++11"),
    ] {
        if !has_program(compiler) {
            println!("skipped: no {compiler}");
            continue;
        }
        let examples: &[&str] = match language {
            "c" => &["api_example.c", "api_weak.c", "api_calls.c"],
            _ => &["api_example.c", "api_weak.c", "api_dlopen.cc"],
        };
        for example in examples {
            let output = Command::new(compiler)
                .args(["-x", language, &format!("-std={standard}"), "-pedantic", "-Wall", "-Wextra", "-Werror"])
                .args(["-Wconversion", "-Wshadow", "-fsyntax-only", "-Iinclude"])
                .arg(format!("c-tests/{example}"))
                .current_dir(root())
                .output()
                .expect("a compiler");
            assert!(output.status.success(), "{compiler} -std={standard}: {}", String::from_utf8_lossy(&output.stderr));
            looked += 1;
        }
    }
    assert!(looked >= 6);
}

#[test]
fn the_readme_shows_the_example_that_is_tested() {
    let example = fs::read_to_string(root().join("c-tests/api_example.c")).expect("example");
    let (_, code) = example.split_once('\n').expect("a line of flags");
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md");
    assert!(readme.contains(&format!("```c\n{code}```")), "README.md does not hold c-tests/api_example.c");
}

/// The fixture that links the library and does what its input says, with no manhole yet.
fn calls() -> Host {
    Launch::fixture("api_calls").bare().env("MANHOLE", "thread=False").start()
}

/// Tells it one call, and waits for its answer.
fn call(host: &mut Host, line: &str, result: &str) {
    host.tell(&format!("{line}\n"));
    let name = line.split(' ').next().expect("a word");
    host.wait_for_line(&format!("{name} {result}"));
}

fn errno(number: i32) -> String {
    (-number).to_string()
}

fn threads_of_ours(host: &Host) -> usize {
    host.threads().iter().filter(|(_, name)| is_ours(name)).count()
}

fn waits_for_no_thread_of_ours(host: &mut Host) {
    let end = Instant::now() + DEADLINE;
    while threads_of_ours(host) > 0 {
        assert!(Instant::now() < end, "a thread of ours stays: {:?}; {}", host.threads(), host.story());
        sleep(Duration::from_millis(1));
    }
}

fn descriptors(host: &Host) -> Vec<PathBuf> {
    let directory = fs::read_dir(format!("/proc/{}/fd", host.pid())).expect("fd");
    let mut all: Vec<PathBuf> = directory.map(|entry| entry.expect("entry").path()).collect();
    all.sort();
    all
}

#[test]
fn the_example_works_linked() {
    let mut host = Launch::new(fixture("api_example")).bare().start();
    let path = PathBuf::from(format!("/tmp/example-{}", host.pid()));
    let mut session = host.connect_to(&path);
    assert!(!host.socket().exists(), "the first manhole's socket stays");
    assert_eq!(session.command("cache-stats"), "41 hits, 1 misses\n");
    assert_eq!(session.command("cache-stats --percent"), "97 %\n");
    assert_eq!(session.command("cache-stats x"), "usage: cache-stats [--percent]\n");
    drop(session);
    host.release();
    assert!(!path.exists());
}

#[test]
fn a_preloaded_program_finds_the_functions_by_weak_symbols() {
    let mut bare = Launch::fixture("api_weak").bare().start();
    assert_eq!(bare.lines()[0], "absent");
    assert_eq!(bare.release(), "PASS");
    // `thread=False` kept the start back, and manhole_install(NULL) took the other options.
    let scratch = Scratch::new();
    let path = scratch.path().join("socket");
    let options = format!("thread=False,socket_path='{}'", path.display());
    let mut host = Launch::fixture("api_weak").option(&options).start();
    assert_eq!(host.lines()[0], "present");
    assert_eq!(host.connect_to(&path).command("hello a b"), "hello, 3 words\n");
    assert_eq!(host.release(), "PASS");
}

#[test]
fn a_cpp_program_finds_the_functions_by_dlsym() {
    let mut host = Launch::fixture("api_dlopen").bare().args([library()]).start();
    let mut session = host.connect();
    assert_eq!(session.command("shout a 'b c'"), "a!\nb c!\n");
    assert_eq!(session.command("formatted"), "7 of formatted\n");
    drop(session);
    assert_eq!(host.release(), "PASS");
}

#[test]
fn examples_are_built_by_clang_too() {
    if !has_program("clang") {
        println!("skipped: no clang");
        return;
    }
    let directory = library().parent().expect("directory").display().to_string();
    let flags =
        ["-std=c99", "-O2", "-Iinclude", &format!("-L{directory}"), "-lmanhole", &format!("-Wl,-rpath,{directory}")];
    let mut host = Launch::new(build("api_example", Compiler::Clang, &flags)).bare().start();
    let path = PathBuf::from(format!("/tmp/example-{}", host.pid()));
    assert_eq!(host.connect_to(&path).command("cache-stats"), "41 hits, 1 misses\n");
    host.release();
}

#[test]
fn a_second_install_is_an_error() {
    let mut host = calls();
    call(&mut host, "install", "0");
    drop(host.connect());
    call(&mut host, "install", &errno(libc::EALREADY));
    assert!(host.wait_for_stderr("AlreadyInstalled").contains("strict=False"));
    // The first one is untouched.
    drop(host.connect());
    assert_eq!(host.release(), "PASS");
}

#[test]
fn wrong_options_are_refused_and_change_nothing() {
    let mut host = calls();
    call(&mut host, "install verbsoe=True", &errno(libc::EINVAL));
    host.wait_for_stderr("did you mean verbose?");
    assert_eq!(threads_of_ours(&host), 0);
    call(&mut host, "install", "0");
    call(&mut host, "install strict=False,max_frames=none", &errno(libc::EINVAL));
    drop(host.connect());
    assert_eq!(host.release(), "PASS");
}

#[test]
fn strict_false_replaces_the_first_install() {
    let mut host = calls();
    call(&mut host, "install", "0");
    let mut session = host.connect();
    let scratch = Scratch::new();
    let path = scratch.path().join("second");
    call(&mut host, &format!("install strict=False,socket_path='{}'", path.display()), "0");
    // Its clients are sent away, its name is gone, and the new one has the same commands.
    assert_eq!(read_to_end(session.stream()), "");
    assert!(!host.socket().exists());
    let mut second = host.connect_to(&path);
    assert_eq!(second.command("echo 1"), "echo|1\n");
    assert_eq!(threads_of_ours(&host), 2, "{:?}", host.threads());
    call(&mut host, "release", "0");
    assert!(!path.exists());
    assert_eq!(host.release(), "PASS");
}

/// The first one's observer is on its way when it is told that it must not open any more. It must be gone before the
/// second one makes its name, or it would remove that.
#[test]
fn a_manhole_that_is_replaced_while_it_opens_harms_not_the_next() {
    let mut host = calls();
    call(&mut host, "replace 500", "0");
    waits_for_no_thread_of_ours(&mut host);
    assert_eq!(host.release(), "PASS");
}

#[test]
fn a_release_leaves_nothing_and_an_install_may_follow() {
    let mut host = calls();
    let before = descriptors(&host);
    call(&mut host, "release", &errno(libc::ENOENT));
    for _ in 0..3 {
        call(&mut host, "install", "0");
        let mut session = host.connect();
        call(&mut host, "release", "0");
        assert_eq!(read_to_end(session.stream()), "", "the client is disconnected");
        assert!(!host.socket().exists());
        waits_for_no_thread_of_ours(&mut host);
        assert_eq!(descriptors(&host), before);
        call(&mut host, "release", &errno(libc::ENOENT));
    }
    assert_eq!(host.release(), "PASS");
}

#[test]
fn a_release_during_a_dump_ends_it() {
    let mut host = Launch::fixture("api_calls").bare().env("MANHOLE", "thread=False").start();
    for turn in 0..10 {
        call(&mut host, "install", "0");
        let mut session = host.connect();
        std::io::Write::write_all(session.stream(), "stacks\n".repeat(200).as_bytes()).expect("send");
        sleep(Duration::from_millis(turn));
        call(&mut host, "release", "0");
        read_to_end(session.stream());
    }
    waits_for_no_thread_of_ours(&mut host);
    assert_eq!(host.release(), "PASS");
}

#[test]
fn a_thousand_installs_and_releases_leave_little() {
    let mut host = calls();
    let before = descriptors(&host);
    host.tell("rounds 1000\n");
    let end = Instant::now() + 3 * DEADLINE;
    while host.lines().last().is_none_or(|line| !line.starts_with("rounds ")) {
        assert!(Instant::now() < end, "{}", host.story());
        host.look();
    }
    let bytes: i64 = host.lines().last().and_then(|line| line[7..].parse().ok()).expect("a number");
    println!("{bytes} bytes stay of a round");
    assert!(bytes < 4096, "{bytes} bytes stay of a round");
    waits_for_no_thread_of_ours(&mut host);
    assert_eq!(descriptors(&host), before);
    call(&mut host, "install", "0");
    drop(host.connect());
    assert_eq!(host.release(), "PASS");
}
