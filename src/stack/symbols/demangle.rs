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
    let symbol = rustc_demangle::try_demangle(name).ok()?;
    let mut text = Bounded::default();
    write!(text, "{symbol:#}").ok()?;
    Some(text.0)
}

fn cpp(name: &str, style: Style) -> Option<String> {
    // `foo.cold`, `foo.part.0`: a clone that the compiler made; gdb shows it as `foo() [clone .cold]`.
    let mangled = name.strip_prefix("_Z").map(|_| name)?;
    let options = ParseOptions::default().recursion_limit(DEEPEST);
    let symbol = BorrowedSymbol::new_with_options(mangled.as_bytes(), &options).ok()?;
    let mut options = DemangleOptions::new().recursion_limit(DEEPEST);
    if style == Style::Function {
        options = options.no_params().no_return_type();
    }
    let mut text = Bounded::default();
    symbol.structured_demangle(&mut text, &options).ok()?;
    (!text.0.is_empty()).then_some(text.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn demangles_cpp_and_rust() {
        let symbol = |name| demangle(name, Style::Symbol).unwrap_or_default();
        assert_eq!(symbol("_ZN2ns5Class6methodEi"), "ns::Class::method(int)");
        assert_eq!(symbol("_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE"), "core::fmt::Write::write_fmt");
        assert_eq!(symbol("_RNvC6_123foo3bar"), "123foo::bar");
        assert_eq!(symbol("main"), "");
        let function = |name| demangle(name, Style::Function).unwrap_or_default();
        assert_eq!(function("_ZN2ns5Class6methodEi"), "ns::Class::method");
        assert_eq!(function("_Z3addIiET_S0_S0_"), "add<int>");
        assert_eq!(function("_ZN12_GLOBAL__N_13fooEv"), "(anonymous namespace)::foo");
    }

    #[test]
    fn hostile_names_end_soon() {
        let deep = format!("_Z{}", "N".repeat(100_000));
        let wide = format!("_Z1f{}", "P".repeat(100_000));
        let mut doubling = String::from("_Z1fI");
        for _ in 0..40 {
            doubling.push_str("1aIS_S_E");
        }
        for name in [&deep, &wide, &doubling, &String::from("_ZN"), &String::from("_R")] {
            if let Some(text) = demangle(name, Style::Symbol) {
                assert!(text.len() <= LONGEST);
            }
        }
    }
}
