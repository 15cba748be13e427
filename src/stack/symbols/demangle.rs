//! Readable names of C++ and Rust functions.
//!
//! Context: the observer. A mangled name is input from a file: recursion and output are bounded, and a name
//! that cannot be demangled within them is shown as it is.

use std::fmt::{self, Write};

use cpp_demangle::{BorrowedSymbol, DemangleOptions, ParseOptions};

/// Bytes of a demangled name, at most; template instances can be exponentially longer than their mangled form.
const LONGEST: usize = 16 << 10;
/// Depth of the demangler's recursion, at most. The observer's stack is small.
const DEEPEST: u32 = 96;

/// Text that refuses to grow beyond [`LONGEST`].
#[derive(Default)]
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > LONGEST {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

/// What to show of a C++ function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// With its parameters, as gdb shows a symbol of which nothing else is known.
    Symbol,
    /// Without parameters, as gdb shows a function that has debug information.
    Function,
}

/// The readable form of `name`, or `None` when it is not mangled, or not in a way we can read.
pub fn demangle(name: &str, style: Style) -> Option<String> {
    // Rust's legacy mangling is C++'s with a hash: it must be tried first.
    rust(name).or_else(|| cpp(name, style))
}

fn rust(name: &str) -> Option<String> {
    // Without the hash, `_ZN…E` is data of C++, in whose namespaces Rust's demangler knows no anonymous ones.
    if !name.starts_with("_R") && !has_rust_hash(name) {
        return None;
    }
    let symbol = rustc_demangle::try_demangle(name).ok()?;
    let mut text = Bounded::default();
    write!(text, "{symbol:#}").ok()?;
    Some(text.0)
}

/// Whether the last part of a path is a hash, `17h` and 16 hexadecimal digits, as in Rust's first mangling.
fn has_rust_hash(name: &str) -> bool {
    let hash = name.rfind("17h").and_then(|at| name.get(at + 3..at + 20));
    hash.and_then(|hash| hash.strip_suffix('E')).is_some_and(|hash| hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn cpp(name: &str, style: Style) -> Option<String> {
    if !name.starts_with("_Z") {
        return None;
    }
    let options = ParseOptions::default().recursion_limit(DEEPEST);
    let symbol = BorrowedSymbol::new_with_options(name.as_bytes(), &options).ok()?;
    let mut options = DemangleOptions::new().recursion_limit(DEEPEST);
    if style == Style::Function {
        options = options.no_params().no_return_type();
    }
    let mut text = Bounded::default();
    symbol.structured_demangle(&mut text, &options).ok()?;
    let mut text = text.0;
    if style == Style::Function {
        // Qualifiers of a member function belong to the parameters that are left out.
        let qualifiers = [" const", " volatile", " &", " &&"];
        while let Some(qualifier) = qualifiers.iter().find(|qualifier| text.ends_with(**qualifier)) {
            text.truncate(text.len() - qualifier.len());
        }
    }
    (!text.is_empty()).then(|| spelled_as_gdb(text))
}

/// What the standard's abbreviations stand for: gdb spells them out.
const ABBREVIATIONS: [(&str, &str); 4] = [
    ("std::string", "std::basic_string<char, std::char_traits<char>, std::allocator<char> >"),
    ("std::istream", "std::basic_istream<char, std::char_traits<char> >"),
    ("std::ostream", "std::basic_ostream<char, std::char_traits<char> >"),
    ("std::iostream", "std::basic_iostream<char, std::char_traits<char> >"),
];

/// Types of literals, and the suffix that gdb puts behind the number instead.
const LITERALS: [(&str, &str); 6] = [
    ("(int)", ""),
    ("(unsigned int)", "u"),
    ("(long)", "l"),
    ("(unsigned long)", "ul"),
    ("(long long)", "ll"),
    ("(unsigned long long)", "ull"),
];

/// The same name, spelled as the demangler in gdb does.
fn spelled_as_gdb(name: String) -> String {
    let thunk = name.strip_prefix("{virtual override thunk({").and_then(|rest| rest.strip_suffix(")}"));
    if let Some((offset, target)) = thunk.and_then(|thunk| thunk.split_once("}, ")) {
        let kind = if offset.starts_with("virtual") { "virtual" } else { "non-virtual" };
        return format!("{kind} thunk to {}", spelled_as_gdb(target.to_owned()));
    }
    for (prefix, words) in [("{vtable(", "vtable"), ("{vtt(", "VTT")] {
        if let Some(class) = name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(")}")) {
            return format!("{words} for {}", spelled_as_gdb(class.to_owned()));
        }
    }
    let mut text = String::with_capacity(name.len());
    let mut rest = name.as_str();
    while let Some(first) = rest.chars().next() {
        if let Some((taken, replacement)) = rewrite(&text, rest) {
            text.push_str(&replacement);
            rest = rest.get(taken..).unwrap_or_default();
        } else {
            text.push(first);
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
        }
        if text.len() > LONGEST {
            return name;
        }
    }
    text
}

/// How many bytes at the start of `rest` are spelled otherwise behind `before`, and how.
fn rewrite(before: &str, rest: &str) -> Option<(usize, String)> {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    match rest.as_bytes().first()? {
        b's' if rest.starts_with("std::")
            && !before.as_bytes().last().is_some_and(is_word)
            && !before.ends_with("::") =>
        {
            let (short, long) = ABBREVIATIONS.iter().find(|(short, _)| rest.starts_with(short))?;
            let ends = !rest.as_bytes().get(short.len()).is_some_and(is_word);
            let space = if rest.as_bytes().get(short.len()) == Some(&b'>') { " " } else { "" };
            ends.then(|| (short.len(), format!("{long}{space}")))
        }
        // A constructor or destructor of what was abbreviated.
        b'i' | b'o' | b's' => {
            let class = before.strip_suffix('~').unwrap_or(before).strip_suffix("::")?;
            let name = |short: &'static str| short.strip_prefix("std::");
            let (short, _) = ABBREVIATIONS.iter().find(|(short, long)| {
                class.ends_with(long) && name(short).is_some_and(|name| rest.starts_with(name))
            })?;
            let name = name(short)?;
            (rest.as_bytes().get(name.len()) == Some(&b'(')).then(|| (name.len(), format!("basic_{name}")))
        }
        b'(' => {
            let (kind, suffix) = LITERALS.iter().find(|(kind, _)| rest.starts_with(kind))?;
            let number = rest.get(kind.len()..)?;
            let sign = usize::from(number.starts_with('-'));
            let digits = number.bytes().skip(sign).take_while(u8::is_ascii_digit).count();
            let number = number.get(..sign + digits).filter(|_| digits > 0)?;
            Some((kind.len() + number.len(), format!("{number}{suffix}")))
        }
        // An empty parameter pack leaves its comma behind.
        b',' if rest.starts_with(", >") => Some((2, if before.ends_with('>') { " " } else { "" }.to_owned())),
        b',' if rest.starts_with(", , ") => Some((2, String::new())),
        b',' if rest.starts_with(", &&)") => Some((4, String::new())),
        b',' if rest.starts_with(", &)") => Some((3, String::new())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STACK: usize = 256 << 10;

    #[test]
    fn demangles_cpp_and_rust() {
        let symbol = |name| demangle(name, Style::Symbol).unwrap_or_default();
        assert_eq!(symbol("_ZN2ns5Class6methodEi"), "ns::Class::method(int)");
        assert_eq!(symbol("_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE"), "core::fmt::Write::write_fmt");
        assert_eq!(symbol("_RNvC6_123foo3bar"), "123foo::bar");
        assert_eq!(symbol("_ZN4shop12_GLOBAL__N_16secretE"), "shop::(anonymous namespace)::secret");
        assert_eq!(symbol("_ZN4shop4Till5totalE"), "shop::Till::total");
        assert_eq!(symbol("main"), "");
        assert_eq!(symbol("_Z1fSsSt6vectorISsE").matches("std::basic_string<char").count(), 2);
        assert_eq!(symbol("_Z1fILj4EEvv"), "void f<4u>()");
        assert_eq!(symbol("_Z1fILm4EEvv"), "void f<4ul>()");
        assert_eq!(symbol("_ZTVN2ns1AE"), "vtable for ns::A");
        assert_eq!(symbol("_ZTTN2ns1AE"), "VTT for ns::A");
        assert_eq!(symbol("_ZTIN2ns1AE"), "typeinfo for ns::A");
        assert_eq!(symbol("_ZThn16_N1A1fEv"), "non-virtual thunk to A::f()");
        let function = |name| demangle(name, Style::Function).unwrap_or_default();
        assert_eq!(function("_ZN2ns5Class6methodEi"), "ns::Class::method");
        assert_eq!(function("_ZNK2ns5Class6methodEi"), "ns::Class::method");
        assert_eq!(function("_Z3addIiET_S0_S0_"), "add<int>");
        assert_eq!(function("_ZN12_GLOBAL__N_13fooEv"), "(anonymous namespace)::foo");
    }

    /// The observer's stack is not the main thread's: the demangler's recursion must fit into a small one.
    #[test]
    fn hostile_names_end_soon_on_a_small_stack() {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn(hostile_names);
        thread.unwrap().join().unwrap();
    }

    fn hostile_names() {
        let deep = format!("_Z{}", "N".repeat(100_000));
        let wide = format!("_Z1f{}", "P".repeat(100_000));
        let mut doubling = String::from("_Z1fI");
        for _ in 0..40 {
            doubling.push_str("1aIS_S_E");
        }
        let nested = format!("_Z1f{}i{}", "N1aI".repeat(500), "EE".repeat(500));
        let functions = format!("_Z1f{}vv{}", "PF".repeat(500), "E".repeat(500));
        let expressions = format!("_Z1fI{}Li1E{}Evv", "Xng".repeat(400), "E".repeat(400));
        for name in
            [&nested, &functions, &expressions, &deep, &wide, &doubling, &String::from("_ZN"), &String::from("_R")]
        {
            if let Some(text) = demangle(name, Style::Symbol) {
                assert!(text.len() <= LONGEST);
            }
        }
    }
}
