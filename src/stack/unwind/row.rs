//! What call frame information says about one address, compiled to something that is quick to apply.
//!
//! Context: the observer. `gimli` reads the instructions; a row is made once an address and cached by
//! [`super::cache`].

use gimli::{BaseAddresses, CfaRule, EhFrame, EhFrameOffset, EndianSlice, FrameDescriptionEntry, LittleEndian};
use gimli::{RegisterRule, UnwindContext, UnwindSection, UnwindTableRow, Vendor};

use super::table::{Damaged, Entries};
use crate::stack::arch::{self, Arch};

type Bytes<'a> = EndianSlice<'a, LittleEndian>;

/// Longest expression that is kept.
const MAX_EXPRESSION: usize = 256;

/// Bytes of an expression in [`Store::expressions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slice {
    start: u32,
    length: u16,
}

/// Where the caller's stack pointer, the canonical frame address, is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cfa {
    /// A register's value and an offset.
    Register(u16, i32),
    /// The value of an expression.
    Expression(Slice),
}

/// What a register was in the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// It cannot be had back.
    Undefined,
    /// What it is here.
    Same,
    /// The word at so many bytes from the CFA.
    At(i32),
    /// The CFA and so many bytes.
    Value(i32),
    /// What another register is here.
    Register(u16),
    /// The word at an expression's value, the CFA having been pushed.
    AtExpression(Slice),
    /// An expression's value.
    Expression(Slice),
}

/// One row, and what else is known about the code at its address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) cfa: Cfa,
    /// Rules in [`Store::rules`]: first and number.
    rules: (u32, u16),
    /// Every rule reads memory at the CFA: none depends on a register of the frame.
    pub(super) at_cfa_only: bool,
    /// What becomes of the return address.
    pub(super) return_rule: Rule,
    /// The DWARF number of the register that the CIE calls return address.
    pub(super) return_register: u16,
    /// The frame is one that the kernel made for a signal.
    pub(super) signal: bool,
    /// The function's first address, and its length.
    pub(super) function: (u64, u32),
    /// Offset in the function of the first row whose CFA hangs on the frame pointer; 0 if none does.
    pub(super) frame_set: u32,
    /// Arguments are pushed around calls, and popped by exception handling: rsp is not fixed.
    pub(super) pushes_arguments: bool,
}

/// Rules and expressions of all rows.
#[derive(Debug, Default)]
pub(super) struct Store {
    rules: Vec<(u16, Rule)>,
    expressions: Vec<u8>,
}

impl Store {
    /// The rules of `row`, but for the return address.
    pub(super) fn rules(&self, row: &Row) -> &[(u16, Rule)] {
        let start = row.rules.0 as usize;
        self.rules.get(start..start + usize::from(row.rules.1)).unwrap_or_default()
    }

    /// The bytes of an expression.
    pub(super) fn expression(&self, slice: Slice) -> &[u8] {
        let start = slice.start as usize;
        self.expressions.get(start..start + usize::from(slice.length)).unwrap_or_default()
    }

    /// Drops everything; rows made before are void.
    pub(super) fn clear(&mut self) {
        self.rules.clear();
        self.expressions.clear();
    }

    fn keep(
        &mut self,
        section: &EhFrame<Bytes<'_>>,
        expression: gimli::UnwindExpression<usize>,
    ) -> Result<Slice, Damaged> {
        let bytes = expression.get(section).map_err(|_| Damaged)?.0.slice();
        if bytes.len() > MAX_EXPRESSION {
            return Err(Damaged);
        }
        let start = self.expressions.len() as u32;
        self.expressions.extend_from_slice(bytes);
        Ok(Slice { start, length: bytes.len() as u16 })
    }

    fn rule(&mut self, section: &EhFrame<Bytes<'_>>, rule: &RegisterRule<usize>) -> Result<Rule, Damaged> {
        let narrow = |offset: &i64| i32::try_from(*offset).map_err(|_| Damaged);
        Ok(match rule {
            RegisterRule::Undefined => Rule::Undefined,
            RegisterRule::SameValue => Rule::Same,
            RegisterRule::Offset(offset) => Rule::At(narrow(offset)?),
            RegisterRule::ValOffset(offset) => Rule::Value(narrow(offset)?),
            RegisterRule::Register(register) => Rule::Register(register.0),
            RegisterRule::Expression(expression) => Rule::AtExpression(self.keep(section, *expression)?),
            RegisterRule::ValExpression(expression) => Rule::Expression(self.keep(section, *expression)?),
            _ => return Err(Damaged),
        })
    }
}

impl Entries {
    /// The copied entries as a section of their own.
    pub(super) fn section(&self, vendor: Vendor) -> (EhFrame<Bytes<'_>>, BaseAddresses) {
        let mut section = EhFrame::new(&self.bytes, LittleEndian);
        section.set_address_size(8);
        section.set_vendor(vendor);
        (section, BaseAddresses::default().set_eh_frame(self.base))
    }
}

/// The FDE at `offset` of `section`.
pub(super) fn fde<'a>(
    section: &EhFrame<Bytes<'a>>,
    bases: &BaseAddresses,
    offset: usize,
) -> gimli::Result<FrameDescriptionEntry<Bytes<'a>>> {
    section
        .fde_from_offset(bases, EhFrameOffset(offset), |section, bases, offset| section.cie_from_offset(bases, offset))
}

/// Compiles the row for `address`; `None` when the FDE does not cover it.
pub(super) fn compile<A: Arch>(
    entries: &Entries,
    address: u64,
    context: &mut UnwindContext<usize>,
    store: &mut Store,
) -> Result<Option<Row>, Damaged> {
    let (section, bases) = entries.section(A::VENDOR);
    let fde = fde(&section, &bases, entries.fde).map_err(|_| Damaged)?;
    let start = fde.initial_address();
    if !fde.contains(address) {
        return Ok(None);
    }
    let mut table = fde.rows(&section, &bases, context).map_err(|_| Damaged)?;
    let mut row = Row {
        cfa: Cfa::Register(A::SP, 0),
        rules: (store.rules.len() as u32, 0),
        at_cfa_only: false,
        return_rule: Rule::Same,
        return_register: fde.cie().return_address_register().0,
        signal: fde.is_signal_trampoline(),
        function: (start, u32::try_from(fde.len()).map_err(|_| Damaged)?),
        frame_set: 0,
        pushes_arguments: false,
    };
    // Rows behind the one wanted are not needed, but for arguments pushed anywhere in the function.
    let mut found = false;
    while let Some(current) = table.next_row().map_err(|_| Damaged)? {
        row.pushes_arguments |= current.saved_args_size() != 0;
        if row.frame_set == 0
            && matches!(current.cfa(), CfaRule::RegisterAndOffset { register, .. } if register.0 == A::FP)
        {
            row.frame_set = current.start_address().wrapping_sub(start) as u32;
        }
        if current.contains(address) && !found {
            found = true;
            row.fill(&section, current, store)?;
            let frame_pointer = matches!(row.cfa, Cfa::Register(register, _) if register == A::FP);
            if !frame_pointer {
                break;
            }
        }
    }
    Ok(found.then_some(row))
}

impl Row {
    fn fill(
        &mut self,
        section: &EhFrame<Bytes<'_>>,
        current: &UnwindTableRow<usize>,
        store: &mut Store,
    ) -> Result<(), Damaged> {
        self.cfa = match current.cfa() {
            CfaRule::RegisterAndOffset { register, offset } => {
                Cfa::Register(register.0, i32::try_from(*offset).map_err(|_| Damaged)?)
            }
            CfaRule::Expression(expression) => Cfa::Expression(store.keep(section, *expression)?),
        };
        let first = store.rules.len();
        for (register, rule) in current.registers() {
            if register.0 == self.return_register {
                self.return_rule = store.rule(section, rule)?;
            } else if usize::from(register.0) < arch::REGISTERS {
                let rule = store.rule(section, rule)?;
                store.rules.push((register.0, rule));
            }
        }
        let mut rules = store.rules.iter().skip(first);
        self.at_cfa_only =
            rules.all(|(_, rule)| matches!(rule, Rule::At(_) | Rule::Value(_) | Rule::Same | Rule::Undefined));
        self.rules = (first as u32, u16::try_from(store.rules.len() - first).map_err(|_| Damaged)?);
        Ok(())
    }
}
