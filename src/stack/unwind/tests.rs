//! Stacks made up to be difficult.

use super::made_up::Bytes;
use super::{Unwinder, View};
use crate::stack::arch::aarch64::Aarch64;
use crate::stack::arch::x86_64::X86_64;
use crate::stack::arch::{Arch, REGISTERS};
use crate::stack::modules::{Module, Modules};
use crate::stack::{Ending, Frame, FrameSource, Reason, Registers};

/// Where code without call frame information lies, and a module of 64 KB that has some.
const JIT: u64 = 0x10_0000;
const MODULE: u64 = 0x20_0000;
const STACK: u64 = 0x7000_0000;

fn modules() -> Modules {
    let module = Module { start: MODULE, end: MODULE + 0x10000, eh_frame_hdr: MODULE + 0x8000, ..Module::default() };
    Modules::made_up(vec![module], vec![(JIT, JIT + 0x1000), (MODULE, MODULE + 0x4000)])
}

fn unwind<A: Arch>(text: &Bytes, start: &[(u16, u64)], stack: &Bytes) -> (Vec<Frame>, Ending) {
    let mut registers = Registers::unknown();
    for (number, value) in start {
        registers.set(*number, *value);
    }
    let (mut frames, modules) = (Vec::new(), modules());
    let view = View { modules: &modules, text, stack };
    let ending = Unwinder::default().walk::<A>(&view, registers, 64, &mut frames);
    (frames, ending)
}

/// Code with a call, of two bytes on x86-64 and of a word on aarch64, before each of `addresses`.
fn calls(addresses: &[u64], call: &[u8]) -> Bytes {
    let mut text = Bytes::default();
    text.put(JIT, &[0; 0x1000]);
    for address in addresses {
        text.put(address - call.len() as u64, call);
    }
    text
}

const CALL_RAX: &[u8] = &[0xff, 0xd0];
const BLR_X8: &[u8] = &[0, 1, 0x3f, 0xd6];

#[test]
fn a_frame_pointer_chain_is_followed_to_its_end() {
    let text = calls(&[JIT + 0x200, JIT + 0x300], CALL_RAX);
    let stack = Bytes::words(STACK, &[1, STACK + 0x20, JIT + 0x200, 2, STACK + 0x40, JIT + 0x300, 0, 3, 0, 0]);
    let start = [(16, JIT + 0x100), (7, STACK), (6, STACK + 8)];
    let (frames, ending) = unwind::<X86_64>(&text, &start, &stack);
    assert_eq!(ending, Ending::FirstFrame);
    let found: Vec<_> = frames.iter().map(|frame| (frame.pc, frame.sp, frame.source)).collect();
    assert_eq!(
        found,
        [
            (JIT + 0x100, STACK, FrameSource::Innermost),
            (JIT + 0x200, STACK + 0x18, FrameSource::FramePointer),
            (JIT + 0x300, STACK + 0x30, FrameSource::FramePointer),
        ]
    );
}

#[test]
fn a_frame_pointer_that_would_skip_a_frame_is_not_followed() {
    // The function has not pushed rbp yet: its return address lies below the caller's frame pointer.
    let text = calls(&[JIT + 0x200, JIT + 0x300], CALL_RAX);
    let stack = Bytes::words(STACK, &[JIT + 0x200, 2, STACK + 0x40, JIT + 0x300, 0, 3, 0, 0]);
    let start = [(16, JIT + 0x100), (7, STACK), (6, STACK + 0x10)];
    let (frames, ending) = unwind::<X86_64>(&text, &start, &stack);
    assert_eq!((frames.len(), ending), (1, Ending::Truncated(Reason::NoUnwindInfo(JIT + 0x100))));
}

#[test]
fn loops_and_garbage_end_with_a_reason() {
    let text = calls(&[JIT + 0x200], CALL_RAX);
    let start = |fp: u64| [(16, JIT + 0x100), (7, STACK), (6, fp)];
    let ending = |stack: &Bytes, fp| unwind::<X86_64>(&text, &start(fp), stack).1;
    // The saved frame pointer is the frame's own.
    let looping = Bytes::words(STACK, &[STACK, JIT + 0x200, 0]);
    assert_eq!(ending(&looping, STACK), Ending::Truncated(Reason::NoUnwindInfo(JIT + 0x200)));
    let smashed = Bytes::words(STACK, &[0x4141_4141_4141_4141; 4]);
    assert_eq!(ending(&smashed, STACK), Ending::Truncated(Reason::NotCode(0x4141_4141_4141_4141)));
    let elsewhere = Bytes::words(STACK, &[STACK + 0x40, JIT + 0x204]);
    assert_eq!(ending(&elsewhere, STACK), Ending::Truncated(Reason::NotCall(JIT + 0x204)));
    assert_eq!(ending(&Bytes::default(), STACK), Ending::Truncated(Reason::Unreadable(STACK)));
    assert_eq!(ending(&smashed, u64::MAX - 7), Ending::Truncated(Reason::NoUnwindInfo(JIT + 0x100)));
    let (frames, ending) = unwind::<X86_64>(&text, &[(16, 0x1234), (7, STACK)], &smashed);
    assert_eq!((frames.len(), ending), (1, Ending::Truncated(Reason::NotCode(0x1234))));
}

#[test]
fn an_aarch64_chain_with_signed_return_addresses_is_followed() {
    let text = calls(&[JIT + 0x200, JIT + 0x300], BLR_X8);
    let signed = 0x0055_0000_0000_0000 | (JIT + 0x300);
    let stack = Bytes::words(STACK, &[STACK + 0x20, JIT + 0x200, 0, 0, STACK + 0x40, signed, 0, 0, 0, 0]);
    // Innermost is a signal handler's trampoline, so that the interrupted frame's x30 is known.
    let mut frame = vec![0u64; 39 + 33];
    frame[39 + 29] = STACK;
    frame[39 + 31] = STACK;
    frame[39 + 32] = JIT + 0x100;
    let (mut stack, mut text) = (stack, text);
    for (index, word) in frame.iter().enumerate() {
        stack.put(STACK - 0x1000 + 8 * index as u64, &word.to_le_bytes());
    }
    text.put(JIT + 0x80, &[0x68, 0x11, 0x80, 0xd2, 0x01, 0, 0, 0xd4]);
    let (frames, ending) = unwind::<Aarch64>(&text, &[(32, JIT + 0x80), (31, STACK - 0x1000)], &stack);
    // An interrupted function may still have its return address in x30: its frame record proves nothing.
    assert_eq!(ending, Ending::Truncated(Reason::NoUnwindInfo(JIT + 0x100)));
    assert_eq!(frames.last().map(|frame| (frame.pc, frame.source)), Some((JIT + 0x100, FrameSource::Signal)));
}

/// A module with one function of 0x100 bytes at its start, and this in its FDE.
fn with_cfi(code: &[u8], return_register: u8, instructions: &[u8]) -> Bytes {
    let mut text = Bytes::default();
    text.put(MODULE, &[0x90; 0x1000]);
    text.put(MODULE, code);
    let (header, cie) = (MODULE + 0x8000, MODULE + 0x8100);
    text.put(header, &[0; 0x1000]);
    let relative = |to: u64, from: u64| (to.wrapping_sub(from) as u32).to_le_bytes();
    // CIE: version 1, augmentation "zR", code alignment 1, data alignment -8, pcrel sdata4.
    let mut entry = vec![0, 0, 0, 0, 1, b'z', b'R', 0, 1, 0x78, return_register, 1, 0x1b];
    entry.resize(28, 0);
    text.put(cie, &(entry.len() as u32).to_le_bytes());
    text.put(cie + 4, &entry);
    let fde = cie + 32;
    let mut entry = Vec::new();
    entry.extend(relative(fde + 4, cie));
    entry.extend(relative(MODULE, fde + 8));
    entry.extend(0x100u32.to_le_bytes());
    entry.push(0);
    entry.extend(instructions);
    text.put(fde, &(entry.len() as u32).to_le_bytes());
    text.put(fde + 4, &entry);
    let mut bytes = vec![1, 0x1b, 3, 0x3b];
    bytes.extend(relative(cie, header + 4));
    bytes.extend(1u32.to_le_bytes());
    bytes.extend(relative(MODULE, header));
    bytes.extend(relative(fde, header));
    text.put(header, &bytes);
    text
}

#[test]
fn aarch64_recovers_x29_from_a_fixed_frame() {
    // sub sp, sp, #48; stp x29, x30, [sp, #32]; add x29, sp, #32; mov x0, x8; blr x8; ldp…; add sp…; ret
    let words =
        [0xd100_c3ffu32, 0xa902_7bfd, 0x9100_83fd, 0xaa08_03e0, 0xd63f_0100, 0xa942_7bfd, 0x9100_c3ff, 0xd65f_03c0];
    let code: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    // advance 12; def_cfa x29, 16; x30 at cfa-8; x29 at cfa-16
    let mut text = with_cfi(&code, 30, &[0x4c, 0x0c, 29, 16, 0x80 | 30, 1, 0x80 | 29, 2]);
    // Called by a `bl` to its start, from code that has no caller: return address undefined.
    text.put(JIT, &[0; 0x1000]);
    let distance = (MODULE.wrapping_sub(JIT + 0x1fc) / 4) as u32;
    text.put(JIT + 0x1fc, &(0x9400_0000 | distance).to_le_bytes());
    let stack = Bytes::words(STACK, &[0, 0, 0, 0, STACK + 0x50, JIT + 0x200, 0, 0, 0, 0, 0, 0]);
    let (frames, ending) = unwind::<Aarch64>(&text, &[(32, MODULE + 20), (31, STACK)], &stack);
    assert_eq!(frames[1].pc, JIT + 0x200);
    assert_eq!(frames[1].sp, STACK + 0x30);
    assert_eq!((frames.len(), ending), (2, Ending::FirstFrame));
}

/// push %rbp; mov %rsp, %rbp; push %rbx; sub $24, %rsp; (body); then what each test appends.
const PROLOGUE: &[u8] = &[0x55, 0x48, 0x89, 0xe5, 0x53, 0x48, 0x83, 0xec, 0x18];
const EPILOGUE: &[u8] = &[0x48, 0x83, 0xc4, 0x18, 0x5b, 0x5d, 0xc3];
/// advance 1; cfa +16; rbp at cfa-16; advance 3; cfa rbp; advance 1; rbx at cfa-24.
const CFI: &[u8] = &[0x0c, 7, 8, 0x80 | 16, 1, 0x41, 0x0e, 16, 0x80 | 6, 2, 0x43, 0x0d, 6, 0x41, 0x80 | 3, 3];

fn recovered(body: &[u8], at: u64, target: u64) -> (usize, Ending) {
    let code = [PROLOGUE, body, EPILOGUE].concat();
    let mut code = code;
    code.resize(0x100, 0x90);
    let mut text = with_cfi(&code, 16, CFI);
    text.put(JIT, &[0x90; 0x1000]);
    let displacement = target.wrapping_sub(JIT + 0x200) as u32;
    text.put(JIT + 0x1fb, &[&[0xe8][..], &displacement.to_le_bytes()].concat());
    // rsp at the body: 24 bytes, rbx, rbp = 0, return address; and there the chain ends.
    let stack = Bytes::words(STACK, &[7, 7, 7, 0x33, STACK + 0x40, JIT + 0x200, 0, 0, 0, 0]);
    let start = [(16, MODULE + at), (7, STACK)];
    let (frames, ending) = unwind::<X86_64>(&text, &start, &stack);
    (frames.len(), ending)
}

#[test]
fn rbp_is_recovered_only_from_a_frame_that_is_fixed() {
    let unknown = |at| (1, Ending::Truncated(Reason::UnknownRegister { register: 6, pc: MODULE + at }));
    let call = &[0xe8, 0, 0, 0, 0][..];
    // In the body, behind a call.
    assert_eq!(recovered(call, 14, MODULE), (2, Ending::FirstFrame));
    assert_eq!(recovered(&[call, call].concat(), 19, MODULE), (2, Ending::FirstFrame));
    // In the middle of an instruction.
    assert_eq!(recovered(call, 13, MODULE), unknown(13));
    // A variable-sized array, an argument pushed around a later call, a realigned stack.
    assert_eq!(recovered(&[call, &[0x48, 0x29, 0xc4]].concat(), 14, MODULE), unknown(14));
    assert_eq!(recovered(&[call, &[0x50], call].concat(), 14, MODULE), unknown(14));
    assert_eq!(recovered(&[&[0x48, 0x83, 0xe4, 0xe0], call].concat(), 18, MODULE), unknown(18));
    // Something that cannot be decoded.
    assert_eq!(recovered(&[call, &[0x06]].concat(), 14, MODULE), unknown(14));
}

#[test]
fn an_unproven_frame_pointer_counts_only_if_the_stack_is_whole() {
    // The call goes to another function, which may have jumped to this one.
    assert_eq!(recovered(&[0xe8, 0, 0, 0, 0], 14, MODULE + 0x200), (2, Ending::FirstFrame));
    let code = [PROLOGUE, &[0xff, 0xd0], EPILOGUE].concat();
    let mut text = with_cfi(&code, 16, CFI);
    text.put(JIT, &[0x90; 0x1000]);
    text.put(JIT + 0x1fe, CALL_RAX);
    let stack = Bytes::words(STACK, &[7, 7, 7, 0x33, STACK + 0x40, JIT + 0x200, 0, 0, 0x55, 0x4141]);
    let (frames, ending) = unwind::<X86_64>(&text, &[(16, MODULE + 11), (7, STACK)], &stack);
    let reason = Reason::UnknownRegister { register: 6, pc: MODULE + 11 };
    assert_eq!((frames.len(), ending), (1, Ending::Truncated(reason)));
}

/// xorshift64*: the same every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

#[test]
fn random_call_frame_information_and_stacks_neither_panic_nor_loop() {
    let mut random = Random(42);
    for round in 0..4000 {
        let length = (random.next() % 200) as usize;
        let instructions: Vec<u8> = std::iter::repeat_with(|| random.next() as u8).take(length).collect();
        let mut code = [PROLOGUE, CALL_RAX, EPILOGUE].concat();
        if round % 3 == 0 {
            code = std::iter::repeat_with(|| random.next() as u8).take(0x100).collect();
        }
        let mut text = with_cfi(&code, 16, &instructions);
        if round % 4 == 0 {
            // Damage anywhere in header, CIE or FDE.
            for _ in 0..4 {
                text.put(MODULE + 0x8000 + random.next() % 0x180, &[random.next() as u8]);
            }
        }
        let words: Vec<u64> = std::iter::repeat_with(|| match random.next() % 4 {
            0 => MODULE + random.next() % 0x120,
            1 => STACK + random.next() % 0x200,
            2 => random.next(),
            _ => random.next() % 64,
        })
        .take(64)
        .collect();
        let stack = Bytes::words(STACK, &words);
        let mut start = Vec::new();
        for number in 0..REGISTERS as u16 {
            if random.next().is_multiple_of(2) {
                start.push((number, STACK + random.next() % 0x200));
            }
        }
        let pc = MODULE + random.next() % 0x100;
        start.extend([(16, pc), (7, STACK), (31, STACK), (32, pc)]);
        unwind::<X86_64>(&text, &start, &stack);
        unwind::<Aarch64>(&text, &start, &stack);
    }
}
