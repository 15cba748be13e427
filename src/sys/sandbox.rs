//! Giving up every system call but a few, for good.
//!
//! Context: a process of ours that shares the application's memory and must not share its fate: whoever can write
//! that memory could make it run anything, with the credentials that it was born with.

use super::{Result, raw};

/// `AUDIT_ARCH_*` of linux/audit.h: the ELF machine, 64 bits, little-endian.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// Room for the instructions around the calls, and for a dozen calls.
const ROOM: usize = 32;

fn instruction(code: u32, value: u32, then: u8, otherwise: u8) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: then, jf: otherwise, k: value }
}

/// From now on the calling process can make `calls` only; every other call fails with EPERM. An error means that
/// the kernel has no such filters, or an earlier filter forbids to add one.
pub fn keep_only(calls: &[libc::c_long]) -> Result<()> {
    let deny = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    let end = instruction(libc::BPF_RET | libc::BPF_K, deny, 0, 0);
    let mut program = [end; ROOM];
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    // struct seccomp_data: the call's number at 0, the architecture at 4. What is left of `program` denies.
    let head = [instruction(load, 4, 0, 0), instruction(equal, ARCHITECTURE, 1, 0), end, instruction(load, 0, 0, 0)];
    let allow = libc::SECCOMP_RET_ALLOW;
    let tests = calls.iter().flat_map(|call| {
        [instruction(equal, *call as u32, 0, 1), instruction(libc::BPF_RET | libc::BPF_K, allow, 0, 0)]
    });
    let needed = head.len() + 2 * calls.len() + 1;
    if needed > ROOM {
        return Err(super::Errno::E2BIG);
    }
    program.iter_mut().zip(head.into_iter().chain(tests)).for_each(|(slot, instruction)| *slot = instruction);
    let program = libc::sock_fprog { len: needed as u16, filter: program.as_mut_ptr() };
    let no_new_privileges = [libc::PR_SET_NO_NEW_PRIVS as usize, 1, 0, 0, 0, 0];
    // SAFETY: this prctl touches no memory.
    unsafe { raw::syscall6(libc::SYS_prctl, no_new_privileges)? };
    let filter =
        [libc::PR_SET_SECCOMP as usize, libc::SECCOMP_MODE_FILTER as usize, &raw const program as usize, 0, 0, 0];
    // SAFETY: `program` and its instructions outlive the call; the kernel copies them.
    unsafe { raw::syscall6(libc::SYS_prctl, filter) }.map(drop)
}
