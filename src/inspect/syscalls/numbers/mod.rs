//! System calls by number. Both architectures are always compiled; one is native.

pub mod aarch64;
pub mod common;
pub mod x86_64;

#[cfg(target_arch = "aarch64")]
use aarch64 as native;
#[cfg(target_arch = "x86_64")]
use x86_64 as native;

pub use native::O_LARGEFILE;

/// The name of system call `number` on this architecture, if it has one.
pub fn name(number: i64) -> Option<&'static str> {
    name_in(native::NAMES, number)
}

/// The name of `number` where `names` are the architecture's own.
fn name_in(names: &'static [&'static str], number: i64) -> Option<&'static str> {
    let number = usize::try_from(number).ok()?;
    let name = match number.checked_sub(common::FIRST) {
        Some(index) => common::NAMES.get(index)?,
        None => names.get(number)?,
    };
    (!name.is_empty()).then_some(*name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    /// The `__NR_` macros that gcc sees after `source`, by number; `None` where there is no gcc or no such header.
    fn from_headers(source: &str) -> Option<BTreeMap<i64, String>> {
        let mut gcc = Command::new("gcc")
            .args(["-E", "-dM", "-x", "c", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        gcc.stdin.take()?.write_all(source.as_bytes()).ok()?;
        let output = gcc.wait_with_output().ok().filter(|output| output.status.success())?;
        let text = String::from_utf8(output.stdout).unwrap();
        let macros: BTreeMap<&str, &str> =
            text.lines().filter_map(|line| line.strip_prefix("#define __NR")?.split_once(' ')).collect();
        let numbers = macros.iter().filter_map(|(name, value)| {
            let mut value = *value;
            while let Some(next) = value.strip_prefix("__NR").and_then(|name| macros.get(name)) {
                value = next;
            }
            let name = name.strip_prefix('_').filter(|name| !["syscalls", "arch_specific_syscall"].contains(name))?;
            Some((value.parse().ok()?, name.to_owned()))
        });
        Some(numbers.collect())
    }

    fn compare(names: &'static [&'static str], headers: Option<BTreeMap<i64, String>>) {
        let Some(headers) = headers else {
            eprintln!("skipped: no gcc, or no kernel headers");
            return;
        };
        let (last, _) = headers.last_key_value().unwrap();
        assert!(*last >= 449, "headers of Linux 5.16 or later");
        // Calls that only a newer kernel has are not in the headers.
        const NEW: [&str; 2] = ["uretprobe", "uprobe"];
        for number in 0..=*last {
            let named = name_in(names, number).filter(|name| !NEW.contains(name));
            assert_eq!(named, headers.get(&number).map(String::as_str), "number {number}");
        }
    }

    #[test]
    fn x86_64_is_as_in_the_kernel_headers() {
        let headers = if cfg!(target_arch = "x86_64") { from_headers("#include <asm/unistd_64.h>\n") } else { None };
        compare(x86_64::NAMES, headers);
    }

    #[test]
    fn aarch64_is_as_in_the_kernel_headers() {
        // arch/arm64/include/uapi/asm/unistd.h is these definitions and the generic table.
        let wanted = ["RENAMEAT", "NEW_STAT", "SET_GET_RLIMIT", "TIME32_SYSCALLS", "SYS_CLONE3", "MEMFD_SECRET"];
        let mut source = String::from("#define __BITS_PER_LONG 64\n");
        wanted.iter().for_each(|name| source.push_str(&format!("#define __ARCH_WANT_{name}\n")));
        source.push_str("#include <asm-generic/unistd.h>\n");
        compare(aarch64::NAMES, from_headers(&source));
    }

    #[test]
    fn native_numbers_are_those_of_libc() {
        for (number, expected) in [
            (libc::SYS_read, "read"),
            (libc::SYS_futex, "futex"),
            (libc::SYS_epoll_pwait, "epoll_pwait"),
            (libc::SYS_rt_sigtimedwait, "rt_sigtimedwait"),
            (libc::SYS_futex_waitv, "futex_waitv"),
            (libc::SYS_mseal, "mseal"),
        ] {
            assert_eq!(name(number), Some(expected));
        }
    }

    #[test]
    fn numbers_out_of_use_have_no_name() {
        for number in [-1, 400, 423, 2000, i64::MIN, i64::MAX] {
            assert_eq!(name(number), None);
        }
        assert_eq!(name_in(aarch64::NAMES, 250), None);
    }
}
