//! The `svc` instruction (arm64 Linux: number in x8, arguments and result from x0).

use std::arch::asm;

/// # Safety
/// As the system call itself.
#[inline]
pub unsafe fn syscall6(number: usize, [a, b, c, d, e, f]: [usize; 6]) -> usize {
    let result: usize;
    // SAFETY: the kernel changes x0 only, and the memory that the caller vouches for.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a => result, in("x1") b, in("x2") c,
             in("x3") d, in("x4") e, in("x5") f, options(nostack));
    }
    result
}
