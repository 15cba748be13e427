//! `sym`, `x` and `locals` say what gdb and nm say about the same process.

mod harness;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use harness::fixtures::{Compiler, build, fixture, has_program};
use harness::host::{Host, Launch};
use harness::{Scratch, report_failures};

/// What gdb prints for each of `commands`, without what it says on attaching.
fn gdb(pid: i32, commands: &[String]) -> Vec<String> {
    let mut gdb = Command::new("timeout");
    gdb.args(["-k", "5", "120", "gdb", "-nx", "-q", "-batch", "-iex", "set auto-load off"]);
    gdb.args(["-iex", "set debuginfod enabled off", "-p", &pid.to_string()]);
    for command in commands {
        gdb.args(["-ex", "echo =====\\n", "-ex", command]);
    }
    let output = gdb.args(["-ex", "echo =====\\n"]).env_remove("LD_PRELOAD").output().expect("cannot start gdb");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let answers: Vec<String> = text.split("=====\n").skip(1).map(str::to_owned).collect();
    assert_eq!(answers.len(), commands.len() + 1, "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    answers
}

/// The symbols of `nm`, by name: address in the file, and letter.
fn nm(path: &Path) -> BTreeMap<String, (u64, char)> {
    let output = Command::new("nm").arg("--defined-only").arg(path).output().expect("nm");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let symbol = |line: &str| {
        let fields: Vec<&str> = line.split(' ').collect();
        let [address, letter, name] = fields.as_slice() else { return None };
        Some(((*name).to_owned(), (u64::from_str_radix(address, 16).ok()?, letter.chars().next()?)))
    };
    text.lines().filter_map(symbol).collect()
}

/// The first address in the process that `path` is mapped at.
fn base(host: &Host, path: &Path) -> u64 {
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", host.pid())).expect("maps");
    let line = maps.lines().find(|line| line.ends_with(path.to_str().expect("UTF-8"))).expect("mapped");
    u64::from_str_radix(line.split('-').next().expect("start"), 16).expect("hexadecimal")
}

/// A row of `sym NAME`: address, size, kind, binding, name.
fn rows(answer: &str) -> Vec<(String, u64, String, String, String)> {
    let row = |line: &str| {
        let mut rest = line;
        let mut field = || {
            let (word, tail) = rest.trim_start().split_once(' ').expect("five columns");
            rest = tail;
            word.to_owned()
        };
        let (address, size, kind, binding) = (field(), field(), field(), field());
        (address, size.parse().expect("a size"), kind, binding, rest.trim_start().to_owned())
    };
    assert!(answer.starts_with("ADDRESS "), "{answer}");
    answer.lines().skip(1).map(row).collect()
}

const EXAMINED: [&str; 29] = [
    "x/8xg &global_counter",
    "x/5xw &global_ints",
    "x/6xw &global_ints+1",
    "x/3xh &global_shorts",
    "x/20xb &global_bytes",
    "x/20db &global_bytes",
    "x/6dw &global_ints",
    "x/6uw &global_ints",
    "x/3ug &global_counter",
    "x/6ow &global_ints",
    "x/3ob &global_bytes",
    "x/9oh &global_shorts",
    "x/3og &global_counter",
    "x/3tb &global_bytes",
    "x/3th &global_shorts",
    "x/3tw &global_ints",
    "x/3tg &global_counter",
    "x/24cb &global_bytes",
    "x/8fg &global_doubles",
    "x/4fw &global_floats",
    "x/2s &global_text",
    "x/2s &global_long_text",
    "x/6a &global_config",
    "x/6ga &global_config",
    "x/a *(long*)&global_pointer",
    "x/3zw &global_ints",
    "x/2gx main",
    "x/xb on_event",
    "x/4xg &stdout",
];

/// `x` prints, byte for byte, what gdb prints.
#[test]
fn memory_is_shown_as_gdb_shows_it() {
    for flags in [&["-O0", "-g", "-pthread"][..], &["-O0", "-pthread", "-no-pie"]] {
        let mut host = Launch::new(build("names", Compiler::Gnu, flags)).when_it_says("ready").start();
        let mut session = host.connect();
        // gdb's types are in our way: where it has them, `&array+1` is the next array.
        let cast = |command: &str| {
            let (x, expression) = command.split_once(' ').expect("an expression");
            let expression = expression.replace("&global_ints+1", "(char*)&global_ints+1");
            format!("{x} {expression}")
        };
        let theirs: Vec<String> = EXAMINED.iter().map(|command| cast(command)).collect();
        let ours: Vec<String> =
            EXAMINED.iter().map(|command| session.command(&command.replace("(long*)", ""))).collect();
        let theirs = gdb(host.pid(), &theirs);
        let differ = EXAMINED.iter().zip(ours.iter().zip(&theirs)).filter(|(_, (ours, theirs))| ours != theirs);
        let failures: Vec<String> = differ
            .map(|(command, (ours, theirs))| format!("{flags:?} {command}\nours:\n{ours}gdb's:\n{theirs}"))
            .collect();
        drop(session);
        report_failures(&failures);
        assert_eq!(host.release(), "PASS");
    }
}

/// A line of `x/i`: address, mnemonic, and the whole without what differs for good reason.
fn instruction(line: &str) -> (String, String, String) {
    let (place, text) = line.trim_start_matches("=>").trim_start().split_once(":\t").expect("an instruction");
    let address = place.split(' ').next().expect("an address").to_owned();
    // Prefixes are words of their own to gdb.
    let mnemonic = text.split_whitespace().next().expect("a mnemonic").to_owned();
    (address, mnemonic, format!("{place}: {}", text.split_whitespace().collect::<Vec<_>>().join(" ")))
}

/// `x/i` finds the same instructions as gdb, and nearly always the same words for them.
#[test]
fn instructions_are_those_of_gdb() {
    let mut host = Launch::fixture("names").start();
    let mut session = host.connect();
    let functions = ["puts", "qsort", "vfprintf", "memcpy", "__memmove_avx_unaligned_erms", "__strlen_evex", "printf"];
    let mut commands: Vec<String> = Vec::new();
    for name in functions {
        let found = session.command(&format!("sym libc.so.6:{name}"));
        let Some(row) = found.lines().nth(1) else { continue };
        commands.push(format!("x/100i {}", row.split(' ').next().expect("an address")));
    }
    commands.push("x/120i main".to_owned());
    assert!(commands.len() >= 5, "{commands:?}");
    let ours: Vec<String> = commands.iter().map(|command| session.command(command)).collect();
    let theirs = gdb(host.pid(), &commands);
    let (mut count, mut mnemonics, mut lines) = (0, 0, 0);
    let mut differ = Vec::new();
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours.lines().count(), theirs.lines().count(), "{ours}\n{theirs}");
        for (ours, theirs) in ours.lines().zip(theirs.lines()) {
            let (our, their) = (instruction(ours), instruction(theirs));
            assert_eq!(our.0, their.0, "{ours}\n{theirs}");
            count += 1;
            mnemonics += usize::from(our.1 == their.1);
            lines += usize::from(our.2 == their.2);
            if our.2 != their.2 {
                differ.push(format!("{ours}\n{theirs}"));
            }
        }
    }
    println!("{count} instructions, {mnemonics} with gdb's mnemonic, {lines} gdb's to the letter");
    println!("{}", differ.join("\n"));
    assert!(count >= 400 && mnemonics * 100 >= count * 98 && lines * 100 >= count * 97, "{count} {mnemonics} {lines}");
    // A call and a jump name what they lead to, and data its name.
    let main = session.command("x/200i main");
    assert!(main.contains(">:\tcall   0x") && main.contains(" <start_ender>\n"), "{main}");
    assert!(main.contains("        # 0x") && main.contains(" <global_config"), "{main}");
    let edge = session.command("x/3i 0x10");
    assert_eq!(edge, "error: cannot read 0x10: not mapped, nor is anything near\n");
    drop(session);
    assert_eq!(host.release(), "PASS");
}

/// Every symbol that nm lists has the same address here; and the way back leads to a symbol at that address.
#[test]
fn names_lead_to_nms_addresses_and_back() {
    for flags in [&["-O0", "-g", "-pthread"][..], &["-O1", "-pthread", "-no-pie"]] {
        let path = build("names", Compiler::Gnu, flags);
        let mut host = Launch::new(&path).when_it_says("ready").start();
        let base = if flags.contains(&"-no-pie") { 0 } else { base(&host, &path) };
        let program = path.file_name().and_then(|name| name.to_str()).expect("UTF-8");
        let mut session = host.connect();
        let mut compared = 0;
        for (name, (value, letter)) in nm(&path) {
            let (name, version) = name.split_once('@').unwrap_or((&name, ""));
            // Letters of what has no place: absolute, file.
            if name.is_empty() || "aA".contains(letter) {
                continue;
            }
            let answer = session.command(&format!("sym '{program}:{name}'"));
            let rows = rows(&answer);
            assert!(rows.len() == 1 || !version.is_empty() || "dbtr".contains(letter), "{name}: {answer}");
            if name == "thread_value" {
                assert_eq!((rows[0].2.as_str(), &rows[0].0[..4]), ("tls", "tls+"), "{answer}");
                continue;
            }
            let address = base + value;
            let row = rows.iter().find(|row| row.0 == format!("{address:#018x}"));
            let row = row.unwrap_or_else(|| panic!("{name} at {address:#x}: {answer}"));
            if row.1 > 0 && "TDBRtdbr".contains(letter) {
                compared += 1;
                let back = session.command(&format!("sym {address:#x}"));
                let at_start = format!("{address:#018x} ");
                let first = back.lines().next().unwrap_or_default();
                assert!(first.starts_with(&at_start) && !first.contains('+'), "{name}: {back}");
                let kind = if "Tt".contains(letter) { "function" } else { "object" };
                assert_eq!(row.2, kind, "{name}: {answer}");
            }
        }
        assert!(compared >= 20, "only {compared}");
        drop(session);
        assert_eq!(host.release(), "PASS");
    }
}

/// What `info symbol` and `info address` say.
#[test]
fn symbols_and_sections_are_gdbs() {
    let path = fixture("names");
    let mut host = Launch::new(&path).when_it_says("ready").start();
    let mut session = host.connect();
    let at =
        ["(char*)&global_text+3", "&global_config", "&hidden_value", "(char*)on_event+2", "(char*)&global_constant+1"];
    let questions: Vec<String> = at.iter().map(|at| format!("info symbol {at}")).collect();
    let ours: Vec<String> = at.iter().map(|at| session.command(&format!("sym {}", ours_of(at)))).collect();
    let missing = session.command("sym no_such_name");
    assert!(missing.starts_with("error: no symbol no_such_name"), "{missing}");
    for (ours, theirs) in ours.iter().zip(gdb(host.pid(), &questions)) {
        // `global_text + 3 in section .data of /path`; the path only where there are several modules.
        let (symbol, section) = theirs.trim().split_once(" in section ").expect("gdb knows it");
        let (name, offset) = symbol.split_once(" + ").unwrap_or((symbol, "0"));
        let offset: u64 = offset.parse().expect("decimal");
        let symbol = if offset == 0 { format!(" {name} ") } else { format!(" {name}+{offset:#x} ") };
        let section = section.split(' ').next().expect("section");
        assert!(ours.lines().next().is_some_and(|line| line.contains(&symbol)), "{ours} is not {theirs}");
        assert!(ours.contains(&format!("section {section} of {}", path.display())), "{ours} is not {theirs}");
    }
    assert!(ours[3].contains(" at ") && ours[3].contains("names.c:"), "{}", ours[3]);
    drop(session);
    assert_eq!(host.release(), "PASS");
}

/// The same expression in our words: gdb needs casts.
fn ours_of(gdbs: &str) -> String {
    let text = gdbs.replace("(char*)", "");
    if text.starts_with('&') { text } else { format!("&{text}") }
}

#[test]
fn addresses_without_a_symbol_are_described() {
    let mut host = Launch::fixture("names").start();
    let word_after = |host: &Host, word: &str| {
        let line = host.lines().iter().find(|line| line.contains(&format!("{word} "))).expect("the line").clone();
        let mut words = line.split(' ').skip_while(|found| *found != word);
        words.nth(1).expect("an address").to_owned()
    };
    let [edge, heap, stack] = ["edge", "heap", "stack"].map(|word| word_after(&host, word));
    let theirs = host.threads().into_iter().filter(|(_, name)| !harness::is_ours(name));
    let sleeper = theirs.map(|(tid, _)| tid).max().expect("threads");
    let mut session = host.connect();
    let found = session.command(&format!("sym {heap}"));
    assert!(found.contains("no symbol\n") && found.contains(": the heap (brk) + 0x"), "{found}");
    let found = session.command(&format!("sym {stack}"));
    assert!(found.contains(&format!("the stack of thread {sleeper} (")), "{found}, not {sleeper}");
    let found = session.command("sym 0x10");
    assert!(found.contains("not mapped"), "{found}");

    // What can be read is shown, and then why there is no more.
    let edge = u64::from_str_radix(edge.trim_start_matches("0x"), 16).expect("hexadecimal");
    let found = session.command(&format!("x/4xg {:#x}", edge + 4096 - 24));
    let expected = format!(
        "{:#x}:\t0x6565656565656565\t0x6565656565656565\n{:#x}:\t0x6565656565656565\n\
         error: cannot read {:#x}: it is mapped, but cannot be read: ",
        edge + 4072,
        edge + 4088,
        edge + 4096
    );
    assert!(found.starts_with(&expected), "{found}");
    let found = session.command(&format!("x/2s {:#x}", edge + 4096 - 3));
    assert!(found.starts_with(&format!("{:#x}:\t\"eee\"...\nerror: cannot read", edge + 4093)), "{found}");
    let found = session.command("x/2xg 0x10");
    assert_eq!(found, "error: cannot read 0x10: not mapped, nor is anything near\n");
    let found = session.command("x *0x10");
    assert_eq!(found, "error: cannot read 0x10: not mapped, nor is anything near\n");
    let found = session.command("x/70000xb &global_counter");
    assert!(found.lines().count() > 100, "{found}");
    let found = session.command("x thread_value");
    assert!(found.contains("thread_value is thread-local"), "{found}");
    drop(session);
    assert_eq!(host.release(), "PASS");
}

#[test]
fn cpp_names_with_and_without_parameters() {
    let path = fixture("names_cpp");
    let mut host = Launch::new(&path).when_it_says("ready").start();
    let base = base(&host, &path);
    let symbols = nm(&path);
    let mut session = host.connect();
    let mut all = |pattern: &str| rows(&session.command(&format!("sym '{pattern}'")));
    let names = |rows: &[(String, u64, String, String, String)]| -> Vec<String> {
        rows.iter().map(|row| row.4.rsplit_once(" (").expect("module").0.to_owned()).collect()
    };
    assert_eq!(names(&all("shop::price")), ["shop::price(int)", "shop::price(double)"]);
    for (pattern, raw) in [
        ("shop::price(double)", "_ZN4shop5priceEd"),
        ("_ZN4shop5priceEd", "_ZN4shop5priceEd"),
        ("shop::Till::total", "_ZN4shop4Till5totalE"),
        ("shop::Till::open", "_ZNK4shop4Till4openEPKc"),
        ("shop::twice<int>", "_ZN4shop5twiceIiEET_S1_"),
        ("shop::(anonymous namespace)::secret", "_ZN4shop12_GLOBAL__N_16secretE"),
        ("vtable for shop::Till", "_ZTVN4shop4TillE"),
    ] {
        let found = all(pattern);
        assert_eq!(found.len(), 1, "{pattern}: {found:?}");
        assert_eq!(found[0].0, format!("{:#018x}", base + symbols[raw].0), "{pattern}");
    }
    assert!(all("shop::*price*").len() == 2);
    let found = session.command("x shop::price");
    assert!(found.contains("shop::price is ambiguous: shop::price(int) at 0x"), "{found}");
    assert!(found.contains("shop::price(double) at 0x") && found.contains("full name"), "{found}");
    let found = session.command("x/2dw 'shop::(anonymous namespace)::secret'");
    assert!(found.contains("<shop::(anonymous namespace)::secret>:\t5\t"), "{found}");
    // The first word of an object with virtual functions.
    let found = session.command("x/a the_till");
    assert!(found.ends_with("<vtable for shop::Till+16>\n"), "{found}");
    drop(session);
    assert_eq!(host.release(), "PASS");
}

#[test]
fn stripped_programs_know_what_they_export() {
    let stripped = build("names", Compiler::Gnu, &["-O0", "-pthread", "-s"]);
    let mut host = Launch::new(&stripped).when_it_says("ready").start();
    let found = host.connect().command("sym global_config");
    let program = stripped.file_name().and_then(|name| name.to_str()).expect("UTF-8");
    assert!(found.starts_with("error: no symbol global_config; stripped, so that only"), "{found}");
    assert!(found.contains(program), "{found}");
    assert_eq!(host.release(), "PASS");

    let exported = build("names", Compiler::Gnu, &["-O0", "-pthread", "-s", "-rdynamic"]);
    let mut host = Launch::new(&exported).when_it_says("ready").start();
    let mut session = host.connect();
    assert_eq!(rows(&session.command("sym global_config")).len(), 1);
    assert!(session.command("sym hidden_value").starts_with("error: no symbol hidden_value"));
    assert!(session.command("x/s &global_text").contains(" <global_text>:\t\"hello, world\"\n"));
    drop(session);
    assert_eq!(host.release(), "PASS");

    // A debug file beside it has the names that were stripped.
    let scratch = Scratch::new();
    let (program, debug) = (scratch.path().join("program"), scratch.path().join("program.debug"));
    std::fs::copy(fixture("names"), &program).expect("copy");
    let run = |arguments: &[&str]| {
        let status = Command::new("objcopy").args(arguments).arg(&program).current_dir(scratch.path()).status();
        assert!(status.expect("objcopy").success(), "{arguments:?}");
    };
    let status = Command::new("objcopy").arg("--only-keep-debug").arg(&program).arg(&debug).status();
    assert!(status.expect("objcopy").success());
    run(&["--strip-all", "--add-gnu-debuglink=program.debug"]);
    let mut host = Launch::new(&program).when_it_says("ready").start();
    let mut session = host.connect();
    assert_eq!(rows(&session.command("sym program:hidden_value")).len(), 1);
    assert!(session.command("x/dw hidden_value").ends_with(" <hidden_value>:\t-42\n"));
    drop(session);
    assert_eq!(host.release(), "PASS");
}

#[test]
fn locals_are_names_for_addresses() {
    let option = r#"locals={"cfg": "&global_config", text: "&global_text+7", "low": 0x10, next: "&global_config+16", "note": "ask bob", gone: "&no_such_symbol", "global_counter": "&global_ints"}"#;
    let mut host = Launch::fixture("names").option(option).start();
    let mut session = host.connect();
    let lines = session.command("locals");
    let line = |name: &str| lines.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{lines}"));
    assert_eq!(lines.lines().count(), 7, "{lines}");
    assert!(line("cfg ").contains(" &global_config ") && line("cfg ").contains(" global_config ("), "{lines}");
    assert!(line("text ").contains(" global_text+0x7 ("), "{lines}");
    assert!(line("low ").ends_with(" 0x10                     0x0000000000000010"), "{lines}");
    assert!(
        line("note ").ends_with("\"ask bob\"                - note is a text and no address: \"ask bob\""),
        "{lines}"
    );
    assert!(line("gone ").contains("- no symbol or local no_such_symbol"), "{lines}");

    let same = |session: &mut harness::session::Session, one: &str, other: &str| {
        assert_eq!(session.command(one), session.command(other), "{one}, {other}");
    };
    same(&mut session, "x/5a cfg", "x/5a &global_config");
    same(&mut session, "x/5a &cfg", "x/5a &global_config");
    same(&mut session, "x/s *cfg", "x/s *global_config");
    same(&mut session, "sym cfg+8", "sym &global_config+8");
    same(&mut session, "x/a *next+8", "x/a &global_config+8");
    same(&mut session, "x/s text", "x/s &global_text+7");
    // A name of the operator's goes before a symbol, but for itself.
    same(&mut session, "x/2dw global_counter", "x/2dw &global_ints");
    assert_eq!(session.command("x note"), "error: note is a text and no address: \"ask bob\"\n");
    drop(session);
    assert_eq!(host.release(), "PASS");
}

/// The application's malloc lock, or glibc's, is held for ever.
#[test]
fn wedged_processes_answer() {
    for name in ["wedged_malloc_interposed", "wedged_arena"] {
        let mut host = Launch::fixture(name).option(r#"start_timeout=20, locals={"entry": "&main"}"#).start();
        let mut session = host.connect();
        let program = session.command("sym main");
        assert_eq!(rows(&program).len(), 1, "{program}");
        let all = session.command("sym malloc");
        assert!(all.contains(" malloc") && all.contains("(libc.so.6)"), "{all}");
        let address = rows(&program)[0].0.clone();
        let found = session.command(&format!("sym {address}"));
        assert!(found.contains(" main") && found.contains("section .text"), "{found}");
        assert!(session.command("x/4xg entry").contains(" <main>:\t0x"));
        assert!(session.command("locals").contains(" main ("));
        if name == "wedged_malloc_interposed" {
            let found = session.command("x malloc");
            assert!(found.starts_with("error: malloc is ambiguous: malloc at 0x"), "{found}");
            assert!(session.command("x/xb libc.so.6:malloc").contains("malloc"));
            let found = session.command("x/10dw &heap_lock");
            assert!(found.contains(" <heap_lock>:\t1\t0\t"), "{found}");
        }
        drop(session);
        assert_eq!(host.release(), "PASS", "{}", host.story());
    }
}

#[test]
fn redis_server_has_a_global_called_server() {
    if !has_program("redis-server") {
        println!("skipped: redis-server is not installed");
        return;
    }
    let scratch = Scratch::new();
    let socket = scratch.path().join("redis.sock");
    let socket = socket.to_str().expect("UTF-8");
    let mut host = Launch::new("redis-server").args(["--port", "0", "--unixsocket", socket, "--save", ""]).start();
    let mut session = host.connect();
    let found = session.command("sym server");
    let row = rows(&found).into_iter().find(|row| row.2 == "object").unwrap_or_else(|| panic!("{found}"));
    let pointers = session.command("x/8a &server");
    assert!(
        pointers.starts_with(&format!("{:#x} <server>:\t", u64::from_str_radix(&row.0[2..], 16).unwrap())),
        "{pointers}"
    );
    assert_eq!(pointers.lines().count(), 4);
    let theirs = gdb(host.pid(), &["x/8a &server".to_owned()]);
    assert_eq!(pointers, theirs[0]);
}
