//! What is fuzzed: everything that reads what a client or the environment wrote. `fuzz_targets/` has libFuzzer call
//! these; `tests/fuzz.rs` calls them with the seeds and a few thousand mutations at every `cargo test`.
//!
//! Each must return: no panic, no hang, and no more memory than [`MOST`], whatever the bytes.

use manhole::config::Config;
use manhole::config::Handler;
use manhole::protocol::{self, EventDecoder, MAX_COMMAND, Message, RequestDecoder, Status};
use manhole::server::talk::person::Person;
use manhole::server::talk::program::Program;
use manhole::server::talk::{Input, Talk};
use manhole::shell::address::Evaluation;
use manhole::shell::filter::Filter;
use manhole::shell::history::History;
use manhole::shell::parse::{self, Arguments};
use manhole::sys::allocator;

/// Bytes that the crate's allocator may ever have taken from the kernel in such a process.
const MOST: usize = 64 << 20;

/// What is done with the bytes of one input.
pub type Target = fn(&[u8]);

/// All of them, by name.
pub const ALL: [(&str, Target); 4] =
    [("shell", shell), ("options", options), ("frames", frames), ("requests", requests)];

fn bounded() {
    let (_, peak) = allocator::usage();
    assert!(peak <= MOST, "{peak} bytes were needed");
}

/// A line of the prompt: words, filters, options, addresses, `!`, completion.
pub fn shell(bytes: &[u8]) {
    let line = String::from_utf8_lossy(bytes);
    let mut history = History::default();
    history.add("threads --top");
    history.add(&line);
    let _ = history.expand(&line);
    if let Some((words, _)) = parse::end_of(&line) {
        assert!(!words.is_empty());
    }
    for pipeline in parse::commands(&line).unwrap_or_default() {
        assert!(!pipeline.command.is_empty() && pipeline.filters.iter().all(|filter| !filter.is_empty()));
        let written = pipeline.to_string();
        assert_eq!(parse::commands(&written).as_deref(), Ok(&[pipeline.clone()][..]), "{written}");
        for words in &pipeline.filters {
            let Ok(mut filter) = Filter::new(words) else { continue };
            let mut out = Vec::new();
            bytes.chunks(7).for_each(|piece| filter.push(piece, &mut out));
            filter.end(&mut out);
            // A count has 20 digits and a newline.
            assert!(out.len() <= bytes.len() + 21);
        }
        let flags = ["--raw", "--group"];
        if let Ok(arguments) = Arguments::parse(&pipeline.command, &flags, &["--limit"]) {
            let _ = (arguments.has("--raw"), arguments.number("--limit", 1));
        }
        for word in &pipeline.command {
            let _ = Evaluation::new(word).map(|evaluation| assert_eq!(evaluation.text(), word));
        }
    }
    bounded();
}

/// The option string.
pub fn options(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Err(error) = Config::parse(&text) {
        assert!(!error.to_string().is_empty());
    }
    bounded();
}

/// The two ends of the framed mode. However the stream is cut, the same comes out of it.
pub fn frames(bytes: &[u8]) {
    let requests = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let (mut decoder, mut all) = (RequestDecoder::new(), Vec::new());
        for mut piece in pieces {
            loop {
                match decoder.decode(&mut piece) {
                    Ok(Some(request)) => all.push(request),
                    Ok(None) => break,
                    Err(error) => return (all, Some(error)),
                }
            }
        }
        (all, None)
    };
    let whole = requests(&mut std::iter::once(bytes));
    assert!(whole.0.iter().all(|request| request.command.len() <= MAX_COMMAND));
    let cut = requests(&mut bytes.chunks(3));
    // Too long is seen as soon as it is: with a whole line at once perhaps before what is wrong in it.
    assert_eq!(whole.0, cut.0);
    assert_eq!(whole.1.is_some(), cut.1.is_some());

    let events = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let (mut decoder, mut data, mut others) = (EventDecoder::new(), Vec::new(), Vec::new());
        for mut piece in pieces {
            loop {
                match decoder.decode(&mut piece) {
                    Ok(Some(protocol::Event::Data { id, bytes })) => data.extend(bytes.iter().map(|byte| (id, *byte))),
                    Ok(Some(other)) => others.push(format!("{other:?}")),
                    Ok(None) => break,
                    Err(_) => return (data, others, true),
                }
            }
        }
        (data, others, false)
    };
    assert_eq!(events(&mut std::iter::once(bytes)), events(&mut bytes.chunks(3)));
    bounded();
}

/// JSON lines, and a person's: each request has one reply on one line, each line of a person is one.
pub fn requests(bytes: &[u8]) {
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Ok(Message::Run { id, command }) = protocol::decode_message(line) {
            assert!(id.len() <= protocol::MAX_ID && command.len() <= line.len());
            // The identifier is good JSON again, as it is.
            let again = format!("{{\"command\":\"\",\"id\":{id}}}");
            assert_eq!(protocol::decode_message(again.as_bytes()), Ok(Message::Run { id, command: String::new() }));
        }
    }
    // In pieces, not so many that their number is what takes time.
    let size = 5.max(bytes.len() / 256);
    let (mut program, mut out, mut replies) = (Program::default(), Vec::new(), 0);
    let mut run = |program: &mut Program, at_end: bool| {
        while let Some(input) = program.next(at_end) {
            let _ = program.take_interrupt();
            match input {
                Input::Line(_) => program.answer(b"{\"kind\":\"x\"}\n", &mut out),
                Input::Wrong(_) => {}
                Input::Interrupt | Input::Unreadable(_) => panic!("not from a program"),
            }
            program.finish(Status::Failed, Some("a \"reason\"\n"), &mut out);
            replies += 1;
        }
    };
    for piece in bytes.chunks(size) {
        program.push(piece);
        run(&mut program, false);
    }
    run(&mut program, true);
    assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), replies);
    assert!(out.split_inclusive(|byte| *byte == b'\n').all(|line| line.starts_with(b"{\"id\":")));

    let mut person = Person::new(Handler::Repl, true);
    for piece in bytes.chunks(size) {
        person.push(piece);
        let _ = person.take_interrupt();
        while let Some(input) = person.next(false) {
            if let Input::Line(line) = input {
                assert!(line.len() <= 3 * MAX_COMMAND && !line.contains(['\n', '\u{3}']));
                person.answer(line.as_bytes(), &mut Vec::new());
            }
            person.finish(Status::Success, None, &mut Vec::new());
        }
    }
    bounded();
}
