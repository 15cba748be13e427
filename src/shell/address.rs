//! Addresses as an operator writes them: `0x7f…`, `NAME`, `&NAME`, `MODULE:NAME`, `*EXPR`, `EXPR+8`.
//!
//! Context: the observer. A name is one of the operator's own (option `locals`, or registered by
//! the application), or else a symbol; both `NAME` and
//! `&NAME` are its address, since nothing here knows types. `*` reads the pointer there, and binds closer than
//! `+`, as in C. A symbol is only taken when there is no doubt which one is meant.

#![forbid(unsafe_code)]

use std::sync::Arc;

use crate::config::locals::{Local, Target};
use crate::config::nearest;
use crate::inspect::mappings;
use crate::inspect::strings::Escaped;
use crate::stack::modules::{Module, Modules};
use crate::stack::symbols::find::{Found, Kind, Search};
use crate::stack::symbols::pattern::Pattern;
use crate::sys::link::read_link;
use crate::sys::memory::{Live, Memory};

/// Parentheses and `*` before a name, at most.
const DEEPEST: usize = 32;
/// Symbols of one name that are looked at, and named in an error.
const MOST_CANDIDATES: usize = 64;
const SHOWN_CANDIDATES: usize = 5;

/// What happens to an address on its way, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    /// Wraps, so that it subtracts, too.
    Add(u64),
    Dereference,
}

#[derive(Debug, PartialEq, Eq)]
enum Start {
    Number(u64),
    Name(String),
}

/// An expression on its way to an address.
pub struct Evaluation {
    text: String,
    start: Start,
    operations: Vec<Operation>,
    /// Names may be the operator's own; not inside of what one of those stands for.
    with_locals: bool,
    search: Option<Box<Search>>,
    /// The indirect function that a name alone turned out to be: by name and file.
    indirect: Option<(String, Vec<u8>)>,
}

impl Evaluation {
    /// Understands `text`.
    pub fn new(text: &str) -> Result<Self, String> {
        let (start, operations) = parse(text, 0)?;
        Ok(Self { text: text.to_owned(), start, operations, with_locals: true, search: None, indirect: None })
    }

    /// The expression as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The bytes of the symbol that was found at `address`, if the expression is its name and nothing more, and its
    /// table says how many.
    pub fn size(&self, address: u64) -> Option<u64> {
        let found = self.search.as_ref().filter(|_| self.operations.is_empty())?.found();
        found.iter().filter(|found| found.address == address).map(|found| found.size).find(|size| *size > 0)
    }

    /// After a name alone led to an indirect function (STT_GNU_IFUNC), which chooses the one that is called by its name:
    /// that name, and the file of its module. The address is that of the chooser.
    pub fn indirect(&self) -> Option<&(String, Vec<u8>)> {
        self.indirect.as_ref()
    }

    /// Works for some milliseconds; `None` when there is more to do.
    pub fn step(&mut self, names: &[Local], modules: &Modules) -> Option<Result<u64, String>> {
        if let Some(search) = &mut self.search {
            if search.step(&Live) {
                return None;
            }
            let found = self.found(names).map(|found| {
                let indirect = found.kind == Kind::Ifunc && self.operations.is_empty();
                (found.address, indirect.then(|| (found.name.clone(), found.module.path.clone())))
            });
            return Some(found.and_then(|(address, indirect)| {
                self.indirect = indirect;
                self.finish(address)
            }));
        }
        let name = match &self.start {
            Start::Number(number) => return Some(self.finish(*number)),
            Start::Name(name) => name.clone(),
        };
        let local = names.iter().find(|local| self.with_locals && local.name == name);
        match local.map(|local| &local.value) {
            None => {
                self.search = Some(Box::new(Search::new(modules, Pattern::exact(&name), MOST_CANDIDATES)));
                None
            }
            Some(Target::Address(address) | Target::Variable(address, _)) => Some(self.finish(*address)),
            Some(Target::Symbol(symbol)) => self.replace(symbol),
            Some(Target::Text(text)) if text.starts_with("0x") => self.replace(text),
            Some(Target::Text(text)) => Some(Err(format!("{name} is a text and no address: {text:?}"))),
        }
    }

    /// Goes on with what a name stands for.
    fn replace(&mut self, text: &str) -> Option<Result<u64, String>> {
        match parse(text, 0) {
            Err(error) => Some(Err(error)),
            Ok((start, mut operations)) => {
                operations.append(&mut self.operations);
                (self.start, self.operations, self.with_locals) = (start, operations, false);
                None
            }
        }
    }

    fn finish(&self, mut address: u64) -> Result<u64, String> {
        for operation in &self.operations {
            address = match operation {
                Operation::Add(offset) => address.wrapping_add(*offset),
                Operation::Dereference => Live
                    .read_u64(address)
                    .ok_or_else(|| format!("cannot read {address:#x}: {}", mappings::why_unreadable(address)))?,
            };
        }
        Ok(address)
    }

    /// The one symbol that was meant.
    fn found(&self, names: &[Local]) -> Result<&Found, String> {
        let (Some(search), Start::Name(name)) = (&self.search, &self.start) else { return Err(String::new()) };
        let shown = Escaped(name.as_bytes());
        if search.found().is_empty() {
            let known = names.iter().map(|local| local.name.as_str());
            let hint = nearest::nearest(name, known.filter(|_| self.with_locals));
            let hint = hint.map_or_else(String::new, |known| format!("; did you mean {known}?"));
            return Err(format!("no symbol or local {shown}{hint}{}", stripped(search.stripped())));
        }
        let mut buffer = [0; 4096];
        let program = read_link(c"/proc/thread-self/exe", &mut buffer).unwrap_or_default();
        let candidates = candidates(search.found(), program.strip_suffix(b" (deleted)").unwrap_or(program));
        match candidates.as_slice() {
            [only] if only.kind == Kind::ThreadLocal => Err(format!(
                "{shown} is thread-local: each thread has its own, {:#x} bytes into the block that it has for {}",
                only.address,
                Escaped(only.module.name())
            )),
            [only] => Ok(only),
            several => {
                let list: Vec<String> = several.iter().take(SHOWN_CANDIDATES).map(|found| candidate(found)).collect();
                let more = several.len().saturating_sub(SHOWN_CANDIDATES);
                let more = if more > 0 { format!(", and {more} more") } else { String::new() };
                Err(format!(
                    "{shown} is ambiguous: {}{more}; say which by its full name, MODULE:NAME or address",
                    list.join(", ")
                ))
            }
        }
    }
}

/// Whether a command that takes names and globs, too, should take `text` for an expression. `*NAME` is a glob then,
/// unless it begins with a name of the operator's.
pub fn is_expression(text: &str, names: &[Local]) -> bool {
    let is_local = |name: &str| names.iter().any(|local| local.name == name);
    match parse(text, 0) {
        Ok((Start::Number(_), _)) => true,
        Ok((Start::Name(name), operations)) => {
            let adds = operations.iter().any(|operation| matches!(operation, Operation::Add(_)));
            adds || is_local(&name) || ["&", "*(", "**"].iter().any(|prefix| text.starts_with(prefix))
        }
        Err(_) => false,
    }
}

/// One candidate for an error line.
fn candidate(found: &Found) -> String {
    let Found { name, version, address, module, .. } = found;
    format!("{}{} at {address:#x} ({})", Escaped(name.as_bytes()), Escaped(version.as_bytes()), Escaped(module.name()))
}

/// Which modules could not say more, for the end of an error line.
pub fn stripped(modules: &[Arc<Module>]) -> String {
    if modules.is_empty() {
        return String::new();
    }
    let names: Vec<String> = modules.iter().take(4).map(|module| Escaped(module.name()).to_string()).collect();
    let more = if modules.len() > names.len() { ", …" } else { "" };
    format!("; stripped, so that only what they export has a name: {}{more}", names.join(", "))
}

/// Those of `found` that a name may mean, each address once: one alone when there is no doubt.
fn candidates<'a>(found: &'a [Found], program: &[u8]) -> Vec<&'a Found> {
    // Who wrote a name in full did not mean `NAME(int)`; and where a thread's own data has the name of other data,
    // only the other has an address.
    let narrow = |all: Vec<&'a Found>, keep: &dyn Fn(&Found) -> bool| -> Vec<&'a Found> {
        let kept: Vec<&Found> = all.iter().copied().filter(|found| keep(found)).collect();
        if kept.is_empty() { all } else { kept }
    };
    let all = narrow(found.iter().collect(), &|found| found.whole);
    let mut all = narrow(all, &|found| found.kind != Kind::ThreadLocal);
    all.sort_by_key(|found| found.address);
    all.dedup_by_key(|found| found.address);
    // The default version hides old ones beside it, as for dlsym(3); `NAME@VERSION` still means one of those.
    let is_default_of =
        |old: &Found, found: &Found| !found.old && found.name == old.name && Arc::ptr_eq(&found.module, &old.module);
    let defaults = all.clone();
    all.retain(|found| !found.old || !defaults.iter().any(|other| is_default_of(found, other)));
    // A static of some file does not hide the global, as in gdb.
    let global = narrow(all, &|found| found.binding != "local");
    // A program that uses a library's variable has a copy of it, and the loader makes everyone use that (R_*_COPY).
    let copied = global.iter().all(|found| found.kind == Kind::Object && found.binding != "local");
    let own = global.iter().find(|found| found.module.path == program).filter(|_| copied);
    own.map_or(global.clone(), |own| vec![*own])
}

/// Where an expression begins, and what is done to that.
fn parse(text: &str, depth: usize) -> Result<(Start, Vec<Operation>), String> {
    if depth == DEEPEST {
        return Err("too many parentheses".to_owned());
    }
    let mut rest = text.trim();
    let mut offsets = Vec::new();
    while let Some((before, offset)) = split_offset(rest) {
        offsets.push(Operation::Add(offset));
        rest = before;
    }
    let (start, mut operations) = parse_prefixed(rest, depth)?;
    operations.extend(offsets.into_iter().rev());
    Ok((start, operations))
}

fn parse_prefixed(text: &str, depth: usize) -> Result<(Start, Vec<Operation>), String> {
    if depth == DEEPEST {
        return Err("too many *".to_owned());
    }
    if let Some(pointer) = text.strip_prefix('*') {
        let (start, mut operations) = parse_prefixed(pointer.trim_start(), depth + 1)?;
        operations.push(Operation::Dereference);
        return Ok((start, operations));
    }
    if let Some(inner) = parenthesized(text) {
        return parse(inner, depth + 1);
    }
    let start = match text.strip_prefix('&') {
        Some(name) => Start::Name(name.trim_start().to_owned()),
        None => number(text).map_or_else(|| Start::Name(text.to_owned()), Start::Number),
    };
    match &start {
        Start::Name(name) if name.is_empty() || name.starts_with(['&', '*', '+', '-']) => {
            Err(format!("an address is missing in {text:?}"))
        }
        // What begins like a number is no name.
        Start::Name(name) if name.starts_with(|c: char| c.is_ascii_digit()) => {
            Err(format!("{name:?} is no number of 64 bits"))
        }
        Start::Name(name) => misspelt(name).map_or(Ok((start, Vec::new())), Err),
        Start::Number(_) => Ok((start, Vec::new())),
    }
}

/// What is wrong with a name that no symbol has: a sum or parentheses that did not come to their end.
fn misspelt(name: &str) -> Option<String> {
    let count = |wanted: char| name.chars().filter(|c| *c == wanted).count();
    if count('(') != count(')') {
        return Some(format!("parentheses without their other half in {name:?}"));
    }
    let (before, offset) = name.rsplit_once(['+', '-'])?;
    match offset.trim() {
        "" if !before.ends_with("operator") && !before.ends_with(['+', '-']) => {
            Some(format!("a number is missing behind {name:?}"))
        }
        digits if !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit()) => {
            Some(format!("{digits:?} is no number of 64 bits"))
        }
        _ => None,
    }
}

/// What stands in parentheses that enclose all of `text`: `(anonymous namespace)::f(int)` does not.
fn parenthesized(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('(')?.strip_suffix(')')?;
    let mut open = 0i32;
    let closes_early = inner.chars().any(|c| {
        open += i32::from(c == '(') - i32::from(c == ')');
        open < 0
    });
    (!closes_early && inner != "anonymous namespace").then_some(inner)
}

/// Cuts `+NUMBER` or `-NUMBER` off the end.
fn split_offset(text: &str) -> Option<(&str, u64)> {
    let at = text.rfind(['+', '-']).filter(|at| *at > 0)?;
    let (before, offset) = text.split_at_checked(at)?;
    let number = number(offset.get(1..)?.trim())?;
    let before = before.trim_end();
    // `operator+` may be followed by its parameters only, so a number behind it is an offset to it.
    (!before.is_empty()).then(|| (before, if offset.starts_with('-') { number.wrapping_neg() } else { number }))
}

/// A decimal or hexadecimal number of 64 bits, without a sign.
fn number(text: &str) -> Option<u64> {
    let (digits, radix) = text.strip_prefix("0x").map_or((text, 10), |digits| (digits, 16));
    let is_digits = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    is_digits.then(|| u64::from_str_radix(digits, radix).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (String, Vec<Operation>) {
        let (start, operations) = parse(text, 0).unwrap();
        let start = match start {
            Start::Number(number) => format!("{number:#x}"),
            Start::Name(name) => name,
        };
        (start, operations)
    }

    #[test]
    fn expressions() {
        use Operation::{Add, Dereference};
        for (text, start, operations) in [
            ("0x7f00", "0x7f00", vec![]),
            ("0xffffffffffffffff", "0xffffffffffffffff", vec![]),
            ("16+8", "0x10", vec![Add(8)]),
            ("server", "server", vec![]),
            ("&server + 0x10 - 1", "server", vec![Add(16), Add(u64::MAX)]),
            ("*p+8", "p", vec![Dereference, Add(8)]),
            ("**p", "p", vec![Dereference, Dereference]),
            ("*(p+8)-0x10", "p", vec![Add(8), Dereference, Add(0u64.wrapping_sub(16))]),
            ("*(*(&p+8)+16)", "p", vec![Add(8), Dereference, Add(16), Dereference]),
            ("ld-linux-x86-64.so.2:_rtld_global+8", "ld-linux-x86-64.so.2:_rtld_global", vec![Add(8)]),
            ("libstdc++.so.6:std::cout", "libstdc++.so.6:std::cout", vec![]),
            ("(anonymous namespace)::f(int)", "(anonymous namespace)::f(int)", vec![]),
            ("A::operator+(int)", "A::operator+(int)", vec![]),
            ("f(char*)+4", "f(char*)", vec![Add(4)]),
        ] {
            assert_eq!(parsed(text), (start.to_owned(), operations), "{text}");
        }
        for bad in [
            "",
            "*",
            "&",
            "&*p",
            "&&p",
            "()",
            "0x",
            "0x10000000000000000",
            "12ab",
            "+8",
            "-8",
            "main+",
            "main -",
            "*(*(main",
            "main+99999999999999999999",
        ] {
            assert!(parse(bad, 0).is_err(), "{bad}");
        }
        assert!(parse(&format!("{}p{}", "(".repeat(100), ")".repeat(100)), 0).is_err());
        assert!(parse(&format!("{}p", "*".repeat(100)), 0).is_err());
    }

    #[test]
    fn expressions_and_globs() {
        let names = [Local { name: "cfg".to_owned(), value: Target::Address(1) }];
        for text in ["0x10", "12", "&server", "server+8", "*cfg", "cfg", "*(p)", "**p", "*p+8"] {
            assert!(is_expression(text, &names), "{text}");
        }
        for text in ["server", "*server", "*", "io_*", "ns::f(int)", "libc.so.6:*alloc", "operator*"] {
            assert!(!is_expression(text, &names), "{text}");
        }
    }

    /// A pointer, and where it points.
    #[used]
    static POINTER: &u64 = &NUMBER;
    static NUMBER: u64 = 4711;
    const SYMBOL: &str = concat!(module_path!(), "::POINTER");

    fn evaluate(text: &str, names: &[Local]) -> Result<u64, String> {
        let mut modules = Modules::default();
        modules.refresh(&Live).unwrap();
        let mut evaluation = Evaluation::new(text)?;
        loop {
            if let Some(result) = evaluation.step(names, &modules) {
                return result;
            }
        }
    }

    #[test]
    fn names_are_locals_first_and_symbols_then() {
        let local = |name: &str, value| Local { name: name.to_owned(), value };
        let names = [
            local("here", Target::Address(0x1000)),
            local("pointer", Target::Symbol(format!("{SYMBOL}+0"))),
            // Not itself for ever.
            local(SYMBOL, Target::Symbol(SYMBOL.to_owned())),
            local("number", Target::Text("0x20+2".to_owned())),
            local("note", Target::Text("it's".to_owned())),
        ];
        let (pointer, number) = (&raw const POINTER as u64, &raw const NUMBER as u64);
        assert_eq!(evaluate("here+8", &names), Ok(0x1008));
        assert_eq!(evaluate("&here", &names), Ok(0x1000));
        assert_eq!(evaluate("number", &names), Ok(0x22));
        for name in ["pointer", "&pointer", SYMBOL, &format!("&{SYMBOL}")] {
            assert_eq!(evaluate(name, &names), Ok(pointer), "{name}");
        }
        assert_eq!(evaluate("*pointer", &names), Ok(number));
        assert_eq!(evaluate(&format!("**{SYMBOL}+1"), &[]), Ok(4712));
        assert_eq!(evaluate("libc.so.6:getpid", &[]), Ok(libc::getpid as *const () as u64));
        assert_eq!(evaluate("note", &names).unwrap_err(), "note is a text and no address: \"it's\"");
        assert!(evaluate("*0x10", &[]).unwrap_err().starts_with("cannot read 0x10: not mapped"));
        let error = evaluate("poinrte", &names).unwrap_err();
        assert!(error.starts_with("no symbol or local poinrte; did you mean pointer?"), "{error}");
        let error = evaluate("libc.so.6:errno", &[]).unwrap_err();
        assert!(error.contains("is thread-local: each thread has its own"), "{error}");
    }

    #[test]
    fn what_may_be_meant() {
        let module = |path: &str| Arc::new(Module { path: path.as_bytes().to_vec(), ..Module::default() });
        let (program, library) = (module("/bin/program"), module("/lib/lib.so"));
        let found = |name: &str, address, kind, binding, module: &Arc<Module>, whole| Found {
            name: name.to_owned(),
            version: String::new(),
            address,
            size: 8,
            kind,
            binding,
            module: module.clone(),
            whole,
            old: false,
        };
        let addresses = |found: &[Found]| -> Vec<u64> {
            candidates(found, b"/bin/program").iter().map(|found| found.address).collect()
        };
        let f = Kind::Function;
        // Aliases, a static beside a global, a name in full.
        assert_eq!(
            addresses(&[found("a", 1, f, "global", &program, true), found("a", 1, f, "weak", &program, true)]),
            [1]
        );
        assert_eq!(
            addresses(&[found("a", 1, f, "local", &program, true), found("a", 2, f, "global", &library, true)]),
            [2]
        );
        assert_eq!(
            addresses(&[found("a", 1, f, "local", &program, true), found("a", 2, f, "local", &program, true)]),
            [1, 2]
        );
        assert_eq!(
            addresses(&[found("a(int)", 1, f, "global", &program, false), found("a", 2, f, "local", &program, true)]),
            [2]
        );
        // An interposed function is two functions; a copied variable is one variable.
        assert_eq!(
            addresses(&[found("a", 1, f, "global", &program, true), found("a", 2, f, "global", &library, true)]),
            [1, 2]
        );
        // An old version has no claim beside the default one of its module, but one alone has, and so have two.
        let old = |address, module| Found { old: true, ..found("a", address, f, "global", module, true) };
        assert_eq!(addresses(&[old(1, &library), found("a", 2, f, "global", &library, true)]), [2]);
        assert_eq!(addresses(&[old(1, &library)]), [1]);
        assert_eq!(addresses(&[old(1, &library), old(2, &library)]), [1, 2]);
        assert_eq!(addresses(&[old(1, &library), found("a", 2, f, "global", &program, true)]), [1, 2]);
        let o = Kind::Object;
        assert_eq!(
            addresses(&[found("a", 1, o, "global", &program, true), found("a", 2, o, "global", &library, true)]),
            [1]
        );
    }
}
