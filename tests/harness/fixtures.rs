//! Compiles fixtures, and finds the library under test.
//!
//! The Makefile compiles every fixture once, at the flags of its first line. Tests come here for that same
//! build (so that `cargo test` works alone) and for builds by other compilers at other flags.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// The compilers that a fixture may be built with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compiler {
    /// gcc or g++, by the source's extension.
    Gnu,
    /// clang or clang++.
    Clang,
    /// rustc, for sources in Rust.
    Rustc,
}

/// The root of the package.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The source of the fixture `name`: C, C++ or Rust, whichever there is.
fn source(name: &str) -> PathBuf {
    ["c", "cc", "rs"]
        .iter()
        .map(|extension| root().join("c-tests").join(name).with_extension(extension))
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("no fixture {name} in c-tests/"))
}

/// The directory of compiled fixtures: `c-tests` in cargo's target directory (the one that holds this test).
fn output_directory() -> PathBuf {
    let directory = profile_directory().parent().expect("target directory").join("c-tests");
    fs::create_dir_all(&directory).expect("cannot create target/c-tests");
    directory
}

/// `target/debug` or `target/release`: two above the test's own file, which lies in `deps`.
fn profile_directory() -> PathBuf {
    let own = std::env::current_exe().expect("own path");
    own.parent().and_then(Path::parent).expect("target/PROFILE/deps/TEST").to_owned()
}

/// The fixture built by gcc, g++ or rustc at the flags of its own first line, `// flags: …`, where `{library}` is the
/// directory of the library under test.
pub fn fixture(name: &str) -> PathBuf {
    let text = fs::read_to_string(source(name)).expect("fixture source");
    let flags = text.lines().next().and_then(|line| line.strip_prefix("// flags: ")).unwrap_or("-O2 -g");
    let directory = library().parent().expect("a directory").display().to_string();
    let flags = flags.replace("{library}", &directory);
    let flags: Vec<&str> = flags.split_whitespace().collect();
    let compiler = if source(name).extension().is_some_and(|it| it == "rs") { Compiler::Rustc } else { Compiler::Gnu };
    build(name, compiler, &flags)
}

/// The fixture built by `compiler` at `flags` alone.
///
/// The result's name holds a hash of compiler and flags; it is made anew when a source in `c-tests` is younger.
/// Tests run at once: each compiles to a name of its own and renames, so none runs a half-written file.
pub fn build(name: &str, compiler: Compiler, flags: &[&str]) -> PathBuf {
    // One at a time: a second build of the same fixture would replace the file of a host that already runs,
    // and gdb would find no names for it.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let source = source(name);
    let mut hasher = DefaultHasher::new();
    (compiler, flags).hash(&mut hasher);
    let output = output_directory().join(format!("{name}-{:08x}", hasher.finish() as u32));
    let headers = ["c-tests/sentinel.h", "c-tests/janitor.h", "c-tests/waiting.h", "include/manhole.h"]
        .map(|name| root().join(name));
    let modified = |path: &Path| fs::metadata(path).and_then(|it| it.modified()).ok();
    if modified(&output) > headers.iter().map(|it| modified(it)).fold(modified(&source), Option::max) {
        return output;
    }

    let plus = source.extension().is_some_and(|it| it == "cc");
    let program = match compiler {
        Compiler::Gnu => {
            if plus {
                "g++"
            } else {
                "gcc"
            }
        }
        Compiler::Clang => {
            if plus {
                "clang++"
            } else {
                "clang"
            }
        }
        Compiler::Rustc => "rustc",
    };
    let fresh = output.with_extension(format!("{}-{:?}", std::process::id(), std::thread::current().id()));
    let mut command = Command::new(program);
    if compiler == Compiler::Rustc {
        command.args(["--edition", "2024", "--crate-name", name]);
    }
    // Flags last: `-lname` must follow the source that needs it.
    command.arg(&source).arg("-o").arg(&fresh).args(flags);
    let result = command.output().unwrap_or_else(|error| panic!("cannot start {program}: {error}"));
    assert!(result.status.success(), "{command:?} failed:\n{}", String::from_utf8_lossy(&result.stderr));
    fs::rename(&fresh, &output).expect("cannot rename a compiled fixture");
    output
}

/// Whether `program` can be started here; a test that needs it says `skipped` otherwise.
pub fn has_program(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    program.contains('/') && Path::new(program).exists()
        || std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// The library under test: `MANHOLE_SO`, or the one that cargo built for this very run, in `deps` beside the test
/// (`target/PROFILE/libmanhole.so` is a link to it, renewed by `cargo build` only).
pub fn library() -> PathBuf {
    if let Some(path) = std::env::var_os("MANHOLE_SO") {
        return fs::canonicalize(&path).unwrap_or_else(|error| panic!("MANHOLE_SO={path:?}: {error}"));
    }
    let path = profile_directory().join("deps/libmanhole.so");
    assert!(path.exists(), "{path:?} is missing: `cargo test` builds it, or name one with MANHOLE_SO");
    path
}
