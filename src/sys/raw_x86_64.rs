//! The `syscall` instruction (x86-64 psABI, appendix A.2.1).

use std::arch::asm;

/// # Safety
/// As the system call itself.
#[inline]
pub unsafe fn syscall6(number: usize, [a, b, c, d, e, f]: [usize; 6]) -> usize {
    let result: usize;
    // SAFETY: the kernel changes rax, rcx and r11 only, and the memory that the caller vouches for.
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") a, in("rsi") b, in("rdx") c,
             in("r10") d, in("r8") e, in("r9") f, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}
