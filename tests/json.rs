//! Every command answers `--json` with an array of records that are what `help --json` says they are.

mod harness;

use std::collections::BTreeMap;

use harness::host::{Host, Launch};
use harness::session::Session;
use serde_json::Value;

/// Whether `value` is what `schema` says: the words of JSON Schema that our schemas use.
fn check(value: &Value, schema: &Value) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("{why}: {value} is not {schema}"));
    if let Some(expected) = schema.get("const")
        && value != expected
    {
        return wrong("const");
    }
    if let Some(choices) = schema.get("anyOf").and_then(Value::as_array) {
        return if choices.iter().any(|choice| check(value, choice).is_ok()) { Ok(()) } else { wrong("anyOf") };
    }
    let fits = match schema.get("type").and_then(Value::as_str) {
        None => true,
        Some("null") => value.is_null(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_u64() || value.is_i64(),
        Some("number") => value.is_number(),
        Some("string") => value.is_string(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        Some(other) => return Err(format!("type {other}")),
    };
    if !fits {
        return wrong("type");
    }
    if schema.get("pattern").is_some() && !value.as_str().is_some_and(|text| text.starts_with("0x")) {
        return wrong("pattern");
    }
    for item in value.as_array().into_iter().flatten() {
        check(item, schema.get("items").unwrap_or(&Value::Null))?;
    }
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return Ok(()) };
    let object = value.as_object().ok_or("no object")?;
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !object.contains_key(name) {
            return wrong(name);
        }
    }
    for (name, value) in object {
        check(value, properties.get(name).ok_or(format!("{name} is not in {schema}"))?)?;
    }
    Ok(())
}

fn array(session: &mut Session, line: &str) -> Vec<Value> {
    let answer = session.command(line);
    let parsed: Value = serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{line}: {error}: {answer}"));
    let records = parsed.as_array().unwrap_or_else(|| panic!("{line}: no array: {answer}")).clone();
    // One record a line.
    assert_eq!(answer.lines().count(), records.len().max(1), "{line}: {answer}");
    records
}

fn host() -> Host {
    Launch::new("/bin/cat")
        .option(r#"locals={"start": "&main", "text": "x", "number": 0x10}, redirect_stderr=False"#)
        .start()
}

/// By command and kind.
type Schemas = BTreeMap<String, BTreeMap<String, Value>>;

fn schemas(session: &mut Session) -> Schemas {
    let mut schemas = Schemas::new();
    for command in array(session, "help --json") {
        assert_eq!(command["kind"], "command");
        let kinds = command["schemas"].as_array().expect("schemas").iter();
        let kinds = kinds.map(|schema| (schema["title"].as_str().expect("title").to_owned(), schema.clone()));
        schemas.insert(command["name"].as_str().expect("name").to_owned(), kinds.collect());
    }
    schemas
}

/// Checks the records of an answer; which kinds there were.
fn checked(session: &mut Session, line: &str, schemas: &Schemas) -> Vec<(String, String)> {
    let name = line.split([' ', '/']).next().expect("a word");
    let records = array(session, line);
    assert!(!records.is_empty(), "{line}");
    let kind_of = |record: Value| {
        let kind = record["kind"].as_str().expect("kind").to_owned();
        let error = schemas["help"].get(&kind).filter(|_| ["error", "missing"].contains(&kind.as_str()));
        let schema = schemas[name].get(&kind).or(error);
        let schema = schema.unwrap_or_else(|| panic!("{line}: {kind} is not announced: {record}"));
        check(&record, schema).unwrap_or_else(|why| panic!("{line}: {why}"));
        (name.to_owned(), kind)
    };
    records.into_iter().map(kind_of).collect()
}

#[test]
fn records_of_threads_that_run_are_what_the_schemas_say() {
    let mut host = Launch::fixture("burners").start();
    let mut session = host.connect();
    let schemas = schemas(&mut session);
    // Until one had a processor in between.
    while !checked(&mut session, "stacks --diff 0.1 --json", &schemas).iter().any(|it| it.1 == "change") {}
    while !checked(&mut session, "profile 0.1 --json", &schemas).iter().any(|it| it.1 == "profile-stack") {}
}

#[test]
fn records_are_what_the_schemas_say() {
    let mut host = host();
    let mut session = host.connect();
    let schemas = schemas(&mut session);
    let mut met: Vec<(String, String)> = Vec::new();
    let samples = [
        "help --json",
        "help --json stacks",
        "help filters --json",
        "stacks --json",
        "stacks --raw --group --json",
        "stacks --limit 2 --json",
        "stacks --diff 0.05 --json",
        "threads --json",
        "threads --top 0.05 --json",
        "profile 0.1 --wall --json",
        "profile 0.1 --wall --lines --json",
        "profile 0.05 --folded --json",
        "modules --json",
        "options --json",
        "drop --json",
        "sessions --json",
        "history --json",
        "complete thr --json",
        "watch 1 nonsense --json",
        "watch 1 'drop | head 1' --json",
        "locals --json",
        "fds --json",
        "fds 0 1 2 --peers --json",
        "maps --json",
        "maps libc.so.6 --rss --json",
        "mem --json",
        "limits --json",
        "sym malloc --json",
        "sym 'mem*' --limit 2 --json",
        "sym libc.so.6:errno --json",
        "sym &libc.so.6:puts --json",
        "sym 0x10 --json",
        "x/4xg libc.so.6:environ --json",
        "x/2a &libc.so.6:environ --json",
        "x/2s *libc.so.6:environ --json",
        "x/70000xb libc.so.6:_IO_2_1_stdout_ --json",
        "drop admin --json",
        "signal URG --json",
        "nice --json",
        "affinity --json",
        "rlimit --json",
        "rlimit core 0 --json",
        "rlimit stack 4K --json",
        "rlimit stack 8M --json",
        "dup 0 40 --json",
        "close 40 --json",
        "set/w libc.so.6:optopt = 63 --json",
        "syscalls --json",
        "x/3i libc.so.6:puts --json",
        "status --json",
        "cmdline --json",
        "env --json",
        "env PATH --json",
        "auxv --json",
        "uptime --json",
        "cgroup --json",
        "signals --json",
        "signals TERM --json",
        "search hex:7f454c46 --all --limit 3 --json",
        "search manhole-nowhere --json",
        "call strlen(\"abc\") --json",
        "call --stdout puts(\"x\") --json",
        "call abort() --json",
        "malloc --json",
        "malloc --raw --json",
        "trim --json",
        "setenv A=b --json",
        "unsetenv A --json",
        "load /lib/x86_64-linux-gnu/libc.so.6 getpid --json",
        "exit too much --json",
    ];
    for line in samples {
        met.extend(checked(&mut session, line, &schemas));
    }
    // Where threads wait for each other.
    let mut locks = Launch::fixture("locks_kinds").start();
    let mut at_locks = locks.connect();
    for line in ["locks --json", "locks holder --json"] {
        met.extend(checked(&mut at_locks, line, &schemas));
    }
    // Nothing is announced that does not come, but for what a quiet process without sockets does not have.
    for (name, kinds) in &schemas {
        // `call` crashes; what else may, does not.
        let rare = |kind: &str| {
            ["exited", "error", "refused", "shut_down", "timer", "change", "missing", "cgroup_memory", "cgroup_cpu", "cgroup_pids"].contains(&kind)
                || ["crash", "stack"].contains(&kind) && !["call", "stacks"].contains(&name.as_str())
                // An environment that is cut has some megabytes.
                || (name.as_str(), kind) == ("env", "cut")
        };
        for kind in kinds.keys().filter(|kind| !rare(kind)) {
            assert!(met.contains(&(name.clone(), kind.clone())), "{name} never answered with {kind}");
        }
    }
}

/// What eyes see and what programs read is the same.
#[test]
fn both_forms_say_the_same() {
    let mut host = host();
    let mut session = host.connect();
    let text = session.command("threads");
    for record in array(&mut session, "threads --json") {
        let (tid, name) = (record["tid"].as_i64().expect("tid"), record["name"].as_str().expect("name"));
        let line = text.lines().find(|line| line.trim_start().starts_with(&tid.to_string())).expect("the line");
        assert!(line.contains(name), "{line} {record}");
        if let Some(call) = record["call"].as_str() {
            assert!(line.ends_with(call), "{line} {record}");
        }
    }
    let pid = host.pid();
    let text = session.command(&format!("stacks {pid}"));
    let stack = &array(&mut session, &format!("stacks {pid} --json"))[0];
    let frames = stack["frames"].as_array().expect("frames");
    assert_eq!(text.lines().filter(|line| line.starts_with('#') && !line.starts_with("##")).count(), frames.len());
    for frame in frames {
        assert!(text.contains(frame["function"].as_str().unwrap_or("??")), "{frame}: {text}");
    }
    let text = session.command("sym puts");
    for record in array(&mut session, "sym puts --json") {
        let address = u64::from_str_radix(record["address"].as_str().expect("address").trim_start_matches("0x"), 16);
        assert!(text.contains(&format!("{:#018x}", address.expect("hexadecimal"))), "{record}: {text}");
    }
}
