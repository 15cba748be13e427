//! When two spellings name one function.
//!
//! Names are compared for equality. What follows is all that is forgiven, because it is spelling and not
//! fact; everything else is a mismatch.
//!
//! 1. **Parameters, return types and `const` of the object.** gdb drops a C++ function's parameters when it has debug
//!    information and prints them when it has only a symbol; a demangled template also starts with its return type.
//! 2. **Clones.** `f.constprop.0`, `f.isra.0`, `f.part.0`, `f.cold`, `f [clone .x]`, `f@@VERSION` are `f`: debug
//!    information calls a clone by its origin's name, the symbol table by its own, and gdb cuts `f.constprop.0` to
//!    `f.constprop`.
//! 3. **White space**, inside template arguments.
//! 4. **Lambdas and closures.** `{lambda(int)#1}` (demangler) is `<lambda(int)>` (gcc's debug information);
//!    `{{closure}}` (legacy Rust mangling) is `{closure#0}` (debug information). Rust's `::h0123456789abcdef` is no name.
//! 5. **Aliases.** libc gives one function several names (`__libc_read`, `__GI___libc_read`, `read`). Two names are
//!    the same when a symbol table of the module holds both at one address.
//! 6. **Template arguments**, where the *program counters* are equal too: the legacy Rust mangling has none,
//!    and debug information writes `7` for the demangler's `7ul` and `std::string` for what that spells out.
//! 7. **Rust's impl blocks**, where the program counters are equal too: debug information has `crate::{impl#3}::method`,
//!    the mangled name `<crate::Type as Trait>::method`; then the method's name decides.
//! 8. **Signal frames.** gdb says `<signal handler called>`, eu-stack and the symbol table `__restore_rt`.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use object::{Object, ObjectSegment, ObjectSymbol};

/// Rules 1 to 4 and 8.
pub fn canonical(name: &str) -> String {
    let mut name = name.trim();
    if name == "<signal handler called>" || name == "__restore_rt" || name == "__kernel_rt_sigreturn" {
        return "<signal frame>".to_owned();
    }
    if let Some((before, _)) = name.split_once(" [clone ") {
        name = before;
    }
    if !name.starts_with('@')
        && let Some((before, _)) = name.split_once('@')
    {
        name = before;
    }
    for clone in [".constprop", ".isra", ".part", ".cold", ".llvm.", ".lto_priv"] {
        if let Some((before, _)) = name.split_once(clone) {
            name = before;
        }
    }
    let mut text = fold_closures(name);
    strip_parameters(&mut text);
    strip_return_type(&mut text);
    text.retain(|it| !it.is_whitespace());
    text
}

/// Rule 4: one spelling for lambdas and closures.
fn fold_closures(name: &str) -> String {
    let mut text = name.replace("{{closure}}", "{closure}");
    if let Some(start) = text.rfind("::h")
        && text.len() == start + 19
        && text[start + 3..].bytes().all(|it| it.is_ascii_hexdigit())
    {
        text.truncate(start);
    }
    for (open, close, folded) in [
        ("{lambda", '}', "{lambda}"),
        ("<lambda", '>', "{lambda}"),
        ("{closure#", '}', "{closure}"),
        ("{closure_env#", '}', "{closure}"),
    ] {
        let mut from = 0;
        while let Some(start) = text[from..].find(open).map(|it| it + from) {
            let opening = open.as_bytes()[0] as char;
            let mut depth = 0;
            let end = text[start..].char_indices().find(|(_, it)| {
                depth += i32::from(*it == opening) - i32::from(*it == close);
                depth == 0
            });
            let Some((length, _)) = end else { break };
            text.replace_range(start..=start + length, folded);
            from = start + folded.len();
        }
    }
    text
}

/// Rule 1: from the parenthesis that matches the last one, unless it is part of the name.
fn strip_parameters(text: &mut String) {
    let trimmed = text.trim_end_matches([' ', '&']).trim_end_matches(" const").len();
    text.truncate(trimmed);
    if !text[..trimmed].ends_with(')') {
        return;
    }
    let mut depth = 0;
    for (index, byte) in text[..trimmed].bytes().enumerate().rev() {
        depth += i32::from(byte == b')') - i32::from(byte == b'(');
        if depth == 0 {
            let is_name = text[..index].ends_with("operator") || text[index..].starts_with("(anonymous namespace)");
            if !is_name {
                text.truncate(index);
            }
            return;
        }
    }
}

/// Rule 1: what stands before the last blank outside brackets, but for `operator new` and its like.
fn strip_return_type(text: &mut String) {
    let head = text.find("operator").unwrap_or(text.len());
    let mut depth = 0;
    let mut cut = 0;
    // A name that begins with `<` is Rust's `<Type as Trait>::method`: its blanks are inside brackets as well.
    for (index, byte) in text[..head].bytes().enumerate() {
        match byte {
            b'<' | b'(' | b'{' | b'[' => depth += 1,
            b'>' | b')' | b'}' | b']' => depth -= 1,
            b' ' if depth == 0 => cut = index + 1,
            _ => (),
        }
    }
    text.replace_range(..cut, "");
}

/// Rule 6: without template arguments. `operator<`, `operator<<` and `operator->` are no brackets.
fn without_arguments(name: &str) -> String {
    let mut result = String::new();
    let (mut depth, mut index) = (0, 0);
    while index < name.len() {
        let rest = &name[index..];
        if depth == 0
            && let Some(symbol) = [
                "operator<=>",
                "operator<<=",
                "operator>>=",
                "operator->*",
                "operator<<",
                "operator>>",
                "operator->",
                "operator<=",
                "operator>=",
                "operator<",
                "operator>",
            ]
            .iter()
            .find(|it| rest.starts_with(**it))
        {
            result.push_str(symbol);
            index += symbol.len();
            continue;
        }
        let character = rest.chars().next().expect("inside");
        match character {
            '<' => depth += 1,
            '>' => depth -= 1,
            other if depth == 0 => result.push(other),
            _ => (),
        }
        index += character.len_utf8();
    }
    result.replace("::::", "::")
}

/// Rules 6 and 7, for two canonical names at one program counter.
pub fn same_function_at_one_pc(left: &str, right: &str) -> bool {
    if without_arguments(left) == without_arguments(right) {
        return true;
    }
    let is_impl = |name: &str| name.contains("{impl#") || name.starts_with('<');
    (is_impl(left) || is_impl(right)) && last_component(left) == last_component(right)
}

/// The last component, with the closures below it.
fn last_component(name: &str) -> String {
    let plain = without_arguments(name);
    let parts: Vec<&str> = plain.split("::").collect();
    let first = parts.iter().rposition(|part| *part != "{closure}").unwrap_or(0);
    parts[first..].join("::")
}

/// The symbol tables of a process's modules, for rule 5. Read from the files when first asked for.
pub struct Aliases {
    /// `(start, end, file offset, path)` of file mappings.
    mappings: Vec<(u64, u64, u64, PathBuf)>,
}

/// Addresses by canonical name.
type Table = HashMap<String, Vec<u64>>;

/// Tables by path: they are large, and the same for every process of a test.
static TABLES: Mutex<Option<HashMap<PathBuf, Arc<Table>>>> = Mutex::new(None);

impl Aliases {
    /// Of process `pid`.
    pub fn of(pid: i32) -> Self {
        // The main thread may be a zombie; any thread's file shows the same.
        let tasks = super::host::threads_of(pid);
        let text = tasks.iter().rev().find_map(|(tid, _)| {
            fs::read_to_string(format!("/proc/{pid}/task/{tid}/maps")).ok().filter(|text| !text.is_empty())
        });
        let text = text.unwrap_or_default();
        let mappings = text.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (start, end) = fields.first()?.split_once('-')?;
            let number = |text| u64::from_str_radix(text, 16).ok();
            let path = fields.get(5)?.starts_with('/').then(|| PathBuf::from(fields[5]))?;
            Some((number(start)?, number(end)?, number(fields[2])?, path))
        });
        Self { mappings: mappings.collect() }
    }

    /// The file mapped at `pc`.
    pub fn module(&self, pc: u64) -> Option<&Path> {
        let mapping = self.mappings.iter().find(|it| it.0 <= pc && pc < it.1)?;
        Some(&mapping.3)
    }

    /// Rule 5: whether the module at `pc` has a symbol of each name at one address.
    pub fn are_aliases(&self, pc: u64, left: &str, right: &str) -> bool {
        let Some(path) = self.module(pc) else { return false };
        let table = table(path);
        let (Some(left), Some(right)) = (table.get(left), table.get(right)) else { return false };
        left.iter().any(|address| right.contains(address))
    }
}

fn table(path: &Path) -> Arc<Table> {
    let mut tables = TABLES.lock().expect("symbol tables");
    let tables = tables.get_or_insert_default();
    tables.entry(path.to_owned()).or_insert_with(|| Arc::new(read_table(path))).clone()
}

fn read_table(path: &Path) -> Table {
    let mut table = Table::new();
    let Ok(bytes) = fs::read(path) else { return table };
    let Ok(file) = object::File::parse(&*bytes) else { return table };
    debug_assert!(file.segments().next().is_some_and(|it| it.size() > 0));
    add_symbols(&file, &mut table);
    if let Ok(Some(id)) = file.build_id() {
        let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        let debug = format!("/usr/lib/debug/.build-id/{}/{}.debug", &hex[..2], &hex[2..]);
        if let Ok(bytes) = fs::read(debug)
            && let Ok(file) = object::File::parse(&*bytes)
        {
            add_symbols(&file, &mut table);
        }
    }
    table
}

fn add_symbols(file: &object::File<'_>, table: &mut Table) {
    for symbol in file.symbols().chain(file.dynamic_symbols()) {
        if symbol.address() != 0
            && let Ok(name) = symbol.name()
        {
            table.entry(canonical(&demangle(name))).or_default().push(symbol.address());
        }
    }
}

/// The readable form of a symbol's name.
pub fn demangle(name: &str) -> String {
    if let Ok(rust) = rustc_demangle::try_demangle(name) {
        return format!("{rust:#}");
    }
    if name.starts_with("_Z")
        && let Ok(symbol) = cpp_demangle::Symbol::new(name.as_bytes())
        && let Ok(text) = symbol.demangle()
    {
        return text;
    }
    name.to_owned()
}

#[test]
fn spellings_of_one_function_are_canonical() {
    for (left, right) in [
        ("ns::f(int, char const*)", "ns::f"),
        ("int ns::f<int>(int)", "ns::f<int>"),
        ("ns::S::operator()(int) const", "ns::S::operator()"),
        ("outer::(anonymous namespace)::g()", "outer::(anonymous namespace)::g"),
        ("f.constprop.0", "f.constprop"),
        ("S::operator() const", "S::operator()(int) const"),
        ("main::{lambda(int)#1}::operator()(int) const", "main::<lambda(int)>::operator()"),
        ("krate::main::{{closure}}::h0123456789abcdef", "krate::main::{closure#0}"),
        ("__restore_rt", "<signal handler called>"),
        ("std::vector<int, std::allocator<int> >::size", "std::vector<int, std::allocator<int>>::size() const"),
    ] {
        assert_eq!(canonical(left), canonical(right));
    }
    for (left, right) in
        [("f", "g"), ("ns::f", "f"), ("f<int>", "f<long>"), ("operator new(unsigned long)", "operator delete")]
    {
        assert_ne!(canonical(left), canonical(right));
    }
    assert!(same_function_at_one_pc("a::{impl#3}::run", "<a::T<u8>as b::Trait>::run"));
    assert!(!same_function_at_one_pc("a::{impl#3}::run", "<a::T<u8>as b::Trait>::walk"));
    assert!(same_function_at_one_pc("S::operator<<", "S::operator<<"));
}
