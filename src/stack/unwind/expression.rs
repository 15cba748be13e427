//! DWARF expressions of call frame information, over registers that may be unknown.
//!
//! Context: the observer. What depends on an unknown register is unknown, and the register is named;
//! what reads unreadable memory, does not end, or is not arithmetic fails.

use gimli::{Encoding, EndianSlice, Expression, Format, LittleEndian, Operation};

use crate::stack::{Reason, Registers};
use crate::sys::memory::Memory;

/// Values on the stack; compilers and linkers use four at most.
const DEPTH: usize = 16;
/// Operations that one evaluation may take: expressions can branch backwards.
const STEPS: usize = 256;

/// Why an expression has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoValue {
    /// It depends on this register, which is unknown.
    Unknown(u16),
    /// It reads this address, which is unreadable.
    Unreadable(u64),
    /// It is damaged, or beyond what is supported.
    Unsupported,
}

impl NoValue {
    /// As the reason why the stack of a frame at `pc` ends.
    pub(super) fn reason(self, pc: u64) -> Reason {
        match self {
            Self::Unknown(register) => Reason::UnknownRegister { register, pc },
            Self::Unreadable(address) => Reason::Unreadable(address),
            Self::Unsupported => Reason::BadUnwindInfo(pc),
        }
    }
}

/// A value, or the register for want of which there is none.
type Value = Result<u64, u16>;

struct Stack {
    values: [Value; DEPTH],
    length: usize,
}

impl Stack {
    fn push(&mut self, value: Value) -> Result<(), NoValue> {
        *self.values.get_mut(self.length).ok_or(NoValue::Unsupported)? = value;
        self.length += 1;
        Ok(())
    }

    fn pop(&mut self) -> Result<Value, NoValue> {
        let top = self.pick(0)?;
        self.length -= 1;
        Ok(top)
    }

    /// The value so many below the top.
    fn pick(&self, below: usize) -> Result<Value, NoValue> {
        let index = self.length.checked_sub(below + 1).ok_or(NoValue::Unsupported)?;
        self.values.get(index).copied().ok_or(NoValue::Unsupported)
    }

    fn unary(&mut self, operation: impl FnOnce(u64) -> u64) -> Result<(), NoValue> {
        let value = self.pop()?.map(operation);
        self.push(value)
    }

    /// Pops the right operand, then the left one.
    fn binary(&mut self, operation: impl FnOnce(u64, u64) -> u64) -> Result<(), NoValue> {
        let (right, left) = (self.pop()?, self.pop()?);
        self.push(match (left, right) {
            (Ok(left), Ok(right)) => Ok(operation(left, right)),
            (Err(register), _) | (_, Err(register)) => Err(register),
        })
    }

    fn compare(&mut self, holds: impl FnOnce(i64, i64) -> bool) -> Result<(), NoValue> {
        self.binary(|left, right| u64::from(holds(left as i64, right as i64)))
    }
}

/// Evaluates `bytes`; `initial` (the CFA, for rules of registers) is pushed first.
pub(super) fn evaluate(
    bytes: &[u8],
    initial: Option<u64>,
    registers: &Registers,
    stack_memory: &impl Memory,
) -> Result<u64, NoValue> {
    let encoding = Encoding { address_size: 8, format: Format::Dwarf32, version: 4 };
    let expression = Expression(EndianSlice::new(bytes, LittleEndian));
    let mut operations = expression.operations(encoding);
    let mut stack = Stack { values: [Ok(0); DEPTH], length: 0 };
    if let Some(value) = initial {
        stack.push(Ok(value))?;
    }
    for _ in 0..STEPS {
        let Some(operation) = operations.next().map_err(|_| NoValue::Unsupported)? else {
            return stack.pop()?.map_err(NoValue::Unknown);
        };
        match operation {
            Operation::RegisterOffset { register, offset, base_type } if base_type.0 == 0 => {
                let value = registers.get(register.0).ok_or(register.0);
                stack.push(value.map(|value| value.wrapping_add(offset as u64)))?;
            }
            Operation::UnsignedConstant { value } | Operation::Address { address: value } => stack.push(Ok(value))?,
            Operation::SignedConstant { value } => stack.push(Ok(value as u64))?,
            Operation::CallFrameCFA => stack.push(Ok(initial.ok_or(NoValue::Unsupported)?))?,
            Operation::Deref { base_type, size: size @ 1..=8, space: false } if base_type.0 == 0 => {
                let value = match stack.pop()? {
                    Ok(address) => Ok(dereference(stack_memory, address, size)?),
                    unknown => unknown,
                };
                stack.push(value)?;
            }
            Operation::Drop => drop(stack.pop()?),
            Operation::Pick { index } => stack.push(stack.pick(usize::from(index))?)?,
            Operation::Swap => {
                let (top, next) = (stack.pop()?, stack.pop()?);
                stack.push(top)?;
                stack.push(next)?;
            }
            Operation::Rot => {
                let (top, second, third) = (stack.pop()?, stack.pop()?, stack.pop()?);
                stack.push(top)?;
                stack.push(third)?;
                stack.push(second)?;
            }
            Operation::Abs => stack.unary(|value| (value as i64).unsigned_abs())?,
            Operation::Neg => stack.unary(u64::wrapping_neg)?,
            Operation::Not => stack.unary(|value| !value)?,
            Operation::PlusConstant { value } => stack.unary(|left| left.wrapping_add(value))?,
            Operation::And => stack.binary(|left, right| left & right)?,
            Operation::Or => stack.binary(|left, right| left | right)?,
            Operation::Xor => stack.binary(|left, right| left ^ right)?,
            Operation::Plus => stack.binary(u64::wrapping_add)?,
            Operation::Minus => stack.binary(u64::wrapping_sub)?,
            Operation::Mul => stack.binary(u64::wrapping_mul)?,
            Operation::Shl => stack.binary(|left, right| if right < 64 { left << right } else { 0 })?,
            Operation::Shr => stack.binary(|left, right| if right < 64 { left >> right } else { 0 })?,
            Operation::Shra => stack.binary(|left, right| ((left as i64) >> right.min(63)) as u64)?,
            Operation::Eq => stack.compare(|left, right| left == right)?,
            Operation::Ne => stack.compare(|left, right| left != right)?,
            Operation::Ge => stack.compare(|left, right| left >= right)?,
            Operation::Gt => stack.compare(|left, right| left > right)?,
            Operation::Le => stack.compare(|left, right| left <= right)?,
            Operation::Lt => stack.compare(|left, right| left < right)?,
            Operation::Skip { target } => operations = jump(bytes, operations, target, encoding)?,
            Operation::Bra { target } => {
                if stack.pop()?.map_err(NoValue::Unknown)? != 0 {
                    operations = jump(bytes, operations, target, encoding)?;
                }
            }
            Operation::Nop => {}
            _ => return Err(NoValue::Unsupported),
        }
    }
    Err(NoValue::Unsupported)
}

type Operations<'a> = gimli::OperationIter<EndianSlice<'a, LittleEndian>>;

/// Goes on `target` bytes from where the operation that jumps ends.
fn jump<'a>(
    bytes: &'a [u8],
    operations: Operations<'a>,
    target: i16,
    encoding: Encoding,
) -> Result<Operations<'a>, NoValue> {
    let start = Expression(EndianSlice::new(bytes, LittleEndian));
    let here = operations.offset_from(&start);
    let there = here.checked_add_signed(isize::from(target)).ok_or(NoValue::Unsupported)?;
    let rest = bytes.get(there..).ok_or(NoValue::Unsupported)?;
    Ok(Expression(EndianSlice::new(rest, LittleEndian)).operations(encoding))
}

fn dereference(memory: &impl Memory, address: u64, size: u8) -> Result<u64, NoValue> {
    let mut word = [0; 8];
    let bytes = word.get_mut(..usize::from(size)).ok_or(NoValue::Unsupported)?;
    if memory.read(address, bytes) != usize::from(size) {
        return Err(NoValue::Unreadable(address));
    }
    Ok(u64::from_le_bytes(word))
}

#[cfg(test)]
mod tests {
    use super::super::made_up::Bytes;
    use super::*;

    #[test]
    fn the_linker_s_expression_for_plt_entries() {
        // breg7 8; breg16 0; lit15; and; lit11; ge; lit3; shl; plus
        let expression = [0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22];
        let mut registers = Registers::unknown();
        registers.set(7, 0x7000);
        for (pc, cfa) in [(0x1000, 0x7008), (0x100a, 0x7008), (0x100b, 0x7010), (0x100f, 0x7010)] {
            registers.set(16, pc);
            assert_eq!(evaluate(&expression, None, &registers, &Bytes::default()), Ok(cfa));
        }
        registers.forget(7);
        assert_eq!(evaluate(&expression, None, &registers, &Bytes::default()), Err(NoValue::Unknown(7)));
    }

    #[test]
    fn memory_is_read_and_what_is_unreadable_said() {
        // breg7 0x10; deref
        let memory = Bytes::words(0x7010, &[0x1234]);
        let mut registers = Registers::unknown();
        registers.set(7, 0x7000);
        assert_eq!(evaluate(&[0x77, 0x10, 6], None, &registers, &memory), Ok(0x1234));
        assert_eq!(evaluate(&[0x77, 0x18, 6], None, &registers, &memory), Err(NoValue::Unreadable(0x7018)));
    }

    #[test]
    fn endless_and_damaged_expressions_fail() {
        let registers = Registers::unknown();
        let value = |bytes: &[u8]| evaluate(bytes, Some(0), &registers, &Bytes::default());
        assert_eq!(value(&[0x2f, 0xfd, 0xff]), Err(NoValue::Unsupported)); // skip -3
        assert_eq!(value(&[0x12; 300]), Err(NoValue::Unsupported)); // dup, for ever
        assert_eq!(value(&[0x22]), Err(NoValue::Unsupported)); // plus, of one operand
        assert_eq!(value(&[0x91]), Err(NoValue::Unsupported)); // fbreg, cut short
        assert_eq!(value(&[0x30, 0x28, 1, 0, 0x31, 0x32]), Ok(2)); // lit0; bra +1; lit1; lit2
    }
}
