//! Every frame of every thread equals gdb's, for code by gcc, clang and rustc at every setting that changes a
//! stack's shape. None may be truncated: all this code has call frame information.

mod harness;

use harness::compare::agree;
use harness::dump::Dump;
use harness::fixtures::{Compiler, build, has_program};
use harness::host::Launch;
use harness::{gdb, report_failures};

const LEVELS: [&str; 3] = ["-O0", "-O2", "-O3"];
const FRAME_POINTERS: [&str; 2] = ["-fomit-frame-pointer", "-fno-omit-frame-pointer"];

/// Compares one build with gdb.
fn compare(name: &str, compiler: Compiler, flags: &[&str]) -> Result<(), String> {
    let program = build(name, compiler, flags);
    let mut host = Launch::new(program).when_it_says("ready").start();
    let what = format!("{name} {compiler:?} {}", flags.join(" "));
    let pid = host.pid();
    let mut session = host.connect();
    let report = agree(&what, pid, || Dump::parse(&session.command("stacks")).stacks(), || gdb::stacks(pid))?;
    drop(session);
    if !report.truncated.is_empty() {
        return Err(format!(
            "{what}: truncated: {:#?}",
            host.dump().application().filter(|it| it.truncated.is_some()).collect::<Vec<_>>()
        ));
    }
    let verdict = host.release();
    if verdict == "PASS" { Ok(()) } else { Err(format!("{what}: {verdict}; {}", host.story())) }
}

fn c_family(name: &str, compiler: Compiler, debug: &str) {
    let mut failures = Vec::new();
    for level in LEVELS {
        for frame_pointer in FRAME_POINTERS {
            let flags = [level, frame_pointer, debug, "-pthread"];
            failures.extend(compare(name, compiler, &flags).err());
        }
    }
    report_failures(&failures);
}

#[test]
fn c_by_gcc_with_debug_information() {
    c_family("unwind_matrix", Compiler::Gnu, "-g");
}

#[test]
fn c_by_gcc_without_debug_information() {
    c_family("unwind_matrix", Compiler::Gnu, "-g0");
}

#[test]
fn c_by_clang() {
    if !has_program("clang") {
        println!("skipped: clang is not installed");
        return;
    }
    c_family("unwind_matrix", Compiler::Clang, "-g");
    c_family("unwind_matrix", Compiler::Clang, "-g0");
}

#[test]
fn c_plus_plus_by_gcc_with_debug_information() {
    c_family("unwind_matrix_cpp", Compiler::Gnu, "-g");
}

#[test]
fn c_plus_plus_by_gcc_without_debug_information() {
    c_family("unwind_matrix_cpp", Compiler::Gnu, "-g0");
}

#[test]
fn c_plus_plus_by_clang() {
    if !has_program("clang++") {
        println!("skipped: clang++ is not installed");
        return;
    }
    c_family("unwind_matrix_cpp", Compiler::Clang, "-g");
    c_family("unwind_matrix_cpp", Compiler::Clang, "-g0");
}

#[test]
fn c_with_old_and_compressed_debug_information() {
    let mut failures = Vec::new();
    for extra in ["-gdwarf-4", "-gdwarf-5", "-gz", "-g1"] {
        failures.extend(compare("unwind_matrix", Compiler::Gnu, &["-O2", "-g", extra, "-pthread"]).err());
    }
    // Not position independent, statically placed.
    failures.extend(compare("unwind_matrix", Compiler::Gnu, &["-O2", "-g", "-no-pie", "-fno-pie", "-pthread"]).err());
    // Lazy binding: calls go through the PLT.
    failures.extend(compare("unwind_matrix", Compiler::Gnu, &["-O2", "-Wl,-z,lazy", "-fplt", "-pthread"]).err());
    report_failures(&failures);
}

/// Without `.eh_frame_hdr` a program's call frame information cannot be found in memory (its own exceptions do not
/// unwind either): such stacks are truncated, with no wrong frame.
#[test]
fn c_without_a_table_of_its_frame_information_is_truncated_at_worst() {
    for frame_pointer in FRAME_POINTERS {
        let flags = ["-O2", frame_pointer, "-Wl,--no-eh-frame-hdr", "-pthread"];
        let mut host = Launch::new(build("unwind_matrix", Compiler::Gnu, &flags)).when_it_says("ready").start();
        let (pid, what) = (host.pid(), format!("unwind_matrix {}", flags.join(" ")));
        let mut session = host.connect();
        let looks = || Dump::parse(&session.command("stacks")).stacks();
        agree(&what, pid, looks, || gdb::stacks(pid)).unwrap_or_else(|text| panic!("{text}"));
    }
}

#[test]
fn rust_by_rustc() {
    let mut failures = Vec::new();
    for level in ["0", "2", "3"] {
        for frame_pointers in ["yes", "no"] {
            for debug in ["0", "2"] {
                let flags = [
                    format!("-Copt-level={level}"),
                    format!("-Cforce-frame-pointers={frame_pointers}"),
                    format!("-Cdebuginfo={debug}"),
                ];
                let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
                failures.extend(compare("unwind_matrix_rust", Compiler::Rustc, &flags).err());
            }
        }
    }
    failures.extend(
        compare(
            "unwind_matrix_rust",
            Compiler::Rustc,
            &["-Copt-level=2", "-Cdebuginfo=2", "-Csymbol-mangling-version=v0"],
        )
        .err(),
    );
    report_failures(&failures);
}
