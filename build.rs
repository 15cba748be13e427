//! Links the unwinder of our own panics statically into the shared object.
//!
//! `std` asks for `libgcc_s.so.1`, which few C programs have loaded: mapping it costs each of them
//! some 85 µs at start (measured with `make bench`, row `start`). A linker script of that name, found
//! first, sends the linker to `libgcc_eh.a` instead, which gcc brings along.

use std::{env, fs, path::PathBuf};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // `dlclose` must not take our code away from under the observer, fork handlers and a late signal.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    let Some(folder) = env::var_os("OUT_DIR").map(PathBuf::from) else { return };
    match fs::write(folder.join("libgcc_s.so"), "INPUT(-lgcc_eh)\n") {
        Ok(()) => println!("cargo:rustc-cdylib-link-arg=-L{}", folder.display()),
        Err(error) => println!("cargo:warning=cannot write {}: {error}", folder.display()),
    }
}
