//! Calling a function of the application that only the operator knows the type of.
//!
//! Context: the actor, under a guard. The architecture's leaf (`call_x86_64.rs`, `call_aarch64.rs`) puts arguments where
//! the calling convention wants them. Its frame is the end of the road for whatever unwinds: its personality refuses, so
//! an exception that nobody catches is `std::terminate` where it was thrown, and `pthread_exit` is `abort`, both with
//! their stack; nothing ever unwinds through frames of ours.

use super::Errno;

#[cfg(target_arch = "aarch64")]
#[path = "call_aarch64.rs"]
mod native;
#[cfg(target_arch = "x86_64")]
#[path = "call_x86_64.rs"]
mod native;

/// Floating-point arguments at most: one a register.
pub const MOST_FLOATS: usize = 8;

/// Integers on the stack at most: what the leaf has room for.
const MOST_ON_STACK: usize = 16;

/// What the leaf reads and writes; it knows the offsets.
#[repr(C)]
struct Frame {
    function: usize,
    /// The general registers of a call; x86-64 has six.
    general: [u64; 8],
    floats: [u64; MOST_FLOATS],
    stack: *const u64,
    count: usize,
    result: u64,
    second: u64,
    float: u64,
}

const _: () = assert!(std::mem::offset_of!(Frame, stack) == 136 && std::mem::offset_of!(Frame, result) == 152);

unsafe extern "C" {
    fn manhole_call(frame: *mut Frame);
}

/// What a function left in the registers of results; which of them mean something, its type tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Returned {
    /// The general register.
    pub general: u64,
    /// The floating-point register.
    pub float: u64,
    /// `errno` behind the call, which began with 0.
    pub errno: i32,
}

/// Calls `function` with at most sixteen integers and pointers (six or eight in registers, the rest on the stack) and with the
/// bits of at most [`MOST_FLOATS`] floating-point numbers.
///
/// # Safety
/// It may do anything: somebody with the right to asks for it, and a guard is there.
pub unsafe fn call(function: usize, general: &[u64], floats: &[u64]) -> Returned {
    let registers = general.len().min(native::GENERAL);
    let (in_registers, on_stack) = general.split_at_checked(registers).unwrap_or_default();
    let mut frame = Frame {
        function,
        general: [0; 8],
        floats: [0; MOST_FLOATS],
        stack: on_stack.as_ptr(),
        count: on_stack.len().min(MOST_ON_STACK),
        result: 0,
        second: 0,
        float: 0,
    };
    frame.general.iter_mut().zip(in_registers).for_each(|(to, from)| *to = *from);
    frame.floats.iter_mut().zip(floats).for_each(|(to, from)| *to = *from);
    Errno::clear();
    // SAFETY: the frame lives until it returns; the rest is our caller's word.
    unsafe { manhole_call(&raw mut frame) };
    Returned { general: frame.result, float: frame.float, errno: Errno::last_raw() }
}

#[cfg(test)]
mod tests {
    use super::*;

    extern "C" fn weighs(
        a: i64,
        b: i64,
        c: i64,
        d: i64,
        e: i64,
        f: i64,
        g: i64,
        h: i64,
        i: i64,
        j: i64,
        k: i64,
    ) -> i64 {
        [a, b, c, d, e, f, g, h, i, j, k].iter().zip(1..).map(|(value, weight)| value * weight).sum()
    }

    extern "C" fn mixes(a: f64, n: i32, b: f32, text: *const libc::c_char) -> f64 {
        // SAFETY: getpid; the text is the test's own.
        assert_eq!(unsafe { std::ffi::CStr::from_ptr(text) }, c"text");
        a * f64::from(n) + f64::from(b)
    }

    #[test]
    fn arguments_arrive_and_results_come_back() {
        let arguments: Vec<u64> = (1..=11).map(|value| value * 3).collect();
        for count in 0..=11 {
            let expected = arguments.iter().take(count).zip(1..).map(|(value, weight)| value * weight).sum::<u64>();
            let mut padded = arguments.clone();
            padded.iter_mut().skip(count).for_each(|value| *value = 0);
            // SAFETY: its type takes eleven integers.
            let returned = unsafe { call(weighs as *const () as usize, &padded, &[]) };
            assert_eq!(returned.general, expected);
        }
        let floats = [2.5f64.to_bits(), u64::from(0.25f32.to_bits())];
        // SAFETY: its type takes these.
        let returned = unsafe { call(mixes as *const () as usize, &[4, c"text".as_ptr() as u64], &floats) };
        assert_eq!(f64::from_bits(returned.float), 10.25);
    }

    #[test]
    fn a_variadic_function_hears_of_its_floats() {
        let mut buffer = [0u8; 64];
        let general = [buffer.as_mut_ptr() as u64, 64, c"%d %.2f %s".as_ptr() as u64, 7, c"x".as_ptr() as u64];
        // SAFETY: snprintf with what its format says.
        let returned = unsafe { call(libc::snprintf as *const () as usize, &general, &[1.5f64.to_bits()]) };
        assert_eq!(&buffer[..returned.general as usize], b"7 1.50 x");
    }
}
