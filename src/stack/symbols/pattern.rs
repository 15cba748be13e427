//! What symbols a name means: `malloc`, `libc.so.6:malloc`, `ns::f(int)`, `ns::f`, `io_*`.
//!
//! Context: the observer. Demangling costs microseconds and a browser has millions of symbols, so a mangled name
//! is only demangled if it holds the last identifier of what is looked for, as mangled names do (Itanium C++ ABI,
//! `<source-name>`; Rust's two manglings agree).

use super::super::modules::Module;
use super::demangle::{Style, demangle};
use super::lookup::split_version;
use crate::config::glob;

/// A name to look for.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// A glob on the file name of the module, or its path.
    module: Option<String>,
    name: String,
    is_glob: bool,
    /// What every mangled name that is meant contains.
    identifier: Option<String>,
}

/// A symbol's name that matched.
#[derive(Debug, PartialEq, Eq)]
pub struct Matched {
    /// Demangled, without its version.
    pub name: String,
    /// `@VERSION`, `@@VERSION` or nothing.
    pub version: String,
    /// The whole name was given, not only the function without its parameters, nor a glob.
    pub whole: bool,
}

impl Pattern {
    /// `NAME` or `MODULE:NAME`, where `*`, `?` and `[…]` make a name a glob, too.
    pub fn new(text: &str) -> Self {
        let pattern = Self::exact(text);
        Self { is_glob: pattern.name.contains(['*', '?', '[']), ..pattern }
    }

    /// The same, but a name is only what it says.
    pub fn exact(text: &str) -> Self {
        let (module, name) = match text.find(':') {
            // `::` is part of a name, and so is the colon of `f[abi:cxx11]()`; `[vdso]` is a module.
            Some(at) if at > 0 => match text.split_at_checked(at) {
                Some((module, rest))
                    if !rest.starts_with("::") && !module.trim_start_matches('[').contains(['(', '<', '[']) =>
                {
                    (Some(module.to_owned()), rest.trim_start_matches(':'))
                }
                _ => (None, text),
            },
            _ => (None, text),
        };
        Self { module, name: name.to_owned(), is_glob: false, identifier: identifier(name) }
    }

    /// Whether symbols of `module` are meant.
    pub fn wants(&self, module: &Module) -> bool {
        self.module.as_ref().is_none_or(|glob| {
            let glob = glob.as_bytes();
            glob == module.name() || glob::matches(glob, module.name()) || glob::matches(glob, &module.path)
        })
    }

    /// The names of a symbol that its table calls `raw`, if it is meant.
    pub fn matches(&self, raw: &[u8]) -> Option<Matched> {
        let (bare, version) = split_version(raw);
        let bytes = self.name.as_bytes();
        let is_mangled = bare.starts_with(b"_Z") || bare.starts_with(b"_R");
        let found =
            |name: String, whole| Some(Matched { name, version: String::from_utf8_lossy(version).into_owned(), whole });
        let same = if self.is_glob { glob::matches(bytes, bare) } else { bytes == bare || bytes == raw };
        if !same && (!is_mangled || !self.may_be(bare)) {
            return None;
        }
        let text = String::from_utf8_lossy(bare);
        let readable = demangle(&text, Style::Symbol);
        if same {
            return found(readable.unwrap_or_else(|| text.into_owned()), !self.is_glob);
        }
        let readable = readable?;
        if self.is(&readable) {
            return found(readable, !self.is_glob);
        }
        demangle(&text, Style::Function).is_some_and(|function| self.is(&function)).then(|| found(readable, false))?
    }

    fn is(&self, name: &str) -> bool {
        if self.is_glob { glob::matches(self.name.as_bytes(), name.as_bytes()) } else { self.name == name }
    }

    /// Whether the demangled form of `bare` may be what is looked for.
    fn may_be(&self, bare: &[u8]) -> bool {
        let Some(identifier) = self.identifier.as_ref().filter(|_| !self.is_glob) else { return true };
        let identifier = identifier.as_bytes();
        // The first byte rules out nearly all, without a call.
        bare.windows(identifier.len()).any(|part| part.first() == identifier.first() && part == identifier)
    }
}

/// The identifier at the end of a qualified name, before template arguments and parameters. `None` where mangled
/// names do not spell it: operators, closures, and what the C++ ABI abbreviates (`std::basic_string` is `Ss`).
fn identifier(name: &str) -> Option<String> {
    let end = name.find(['(', '<', '[', ' ']).unwrap_or(name.len());
    let (name, rest) = name.split_at_checked(end)?;
    // `vtable for A`, `guard variable for f()::x`.
    if rest.starts_with(' ') {
        return None;
    }
    let start = name.rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_').map_or(0, |at| at + 1);
    let word = name.get(start..)?;
    let abbreviated = word.starts_with("basic_") || word == "allocator" || word.starts_with("operator");
    (!word.is_empty() && !abbreviated && word.len() + start == end).then(|| word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(pattern: &str, raw: &str) -> Option<(String, bool)> {
        Pattern::new(pattern).matches(raw.as_bytes()).map(|matched| (matched.name, matched.whole))
    }

    #[test]
    fn whole_names_functions_and_globs() {
        let found = |name: &str, whole| Some((name.to_owned(), whole));
        assert_eq!(names("malloc", "malloc@@GLIBC_2.2.5"), found("malloc", true));
        assert_eq!(names("malloc@@GLIBC_2.2.5", "malloc@@GLIBC_2.2.5"), found("malloc", true));
        assert_eq!(names("malloc", "__malloc"), None);
        assert_eq!(names("_ZN2ns5Class6methodEi", "_ZN2ns5Class6methodEi"), found("ns::Class::method(int)", true));
        assert_eq!(names("ns::Class::method(int)", "_ZN2ns5Class6methodEi"), found("ns::Class::method(int)", true));
        assert_eq!(names("ns::Class::method", "_ZN2ns5Class6methodEi"), found("ns::Class::method(int)", false));
        assert_eq!(names("ns::Class::method(long)", "_ZN2ns5Class6methodEi"), None);
        assert_eq!(names("method", "_ZN2ns5Class6methodEi"), None);
        assert_eq!(names("*method*", "_ZN2ns5Class6methodEi"), found("ns::Class::method(int)", false));
        assert_eq!(names("ns::*", "_ZN2ns5Class6methodEi"), found("ns::Class::method(int)", false));
        assert_eq!(names("io_*", "io_thread"), found("io_thread", false));
        assert_eq!(names("vtable for ns::A", "_ZTVN2ns1AE"), found("vtable for ns::A", true));
        assert_eq!(names("add<int>", "_Z3addIiET_S0_S0_"), found("int add<int>(int, int)", false));
        assert_eq!(names("A::operator+", "_ZN1AplEi"), found("A::operator+(int)", false));
        assert_eq!(
            names("(anonymous namespace)::foo", "_ZN12_GLOBAL__N_13fooEv"),
            found("(anonymous namespace)::foo()", false)
        );
        assert_eq!(
            names("core::fmt::Write::write_fmt", "_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE"),
            found("core::fmt::Write::write_fmt", true)
        );
    }

    #[test]
    fn a_module_before_a_colon() {
        let parts = |text: &str| {
            let pattern = Pattern::new(text);
            (pattern.module.unwrap_or_default(), pattern.name)
        };
        let split = |module: &str, name: &str| (module.to_owned(), name.to_owned());
        assert_eq!(parts("libc.so.6:malloc"), split("libc.so.6", "malloc"));
        assert_eq!(parts("lib*:ns::f"), split("lib*", "ns::f"));
        assert_eq!(parts("ns::f"), split("", "ns::f"));
        assert_eq!(parts("f[abi:cxx11]()"), split("", "f[abi:cxx11]()"));
        assert_eq!(parts(":x"), split("", ":x"));
        let libc = Module { path: b"/lib/x86_64-linux-gnu/libc.so.6".to_vec(), ..Module::default() };
        for (pattern, wanted) in [("libc.so.6:x", true), ("libc*:x", true), ("/lib/*:x", true), ("libm*:x", false)] {
            assert_eq!(Pattern::new(pattern).wants(&libc), wanted, "{pattern}");
        }
    }
}
