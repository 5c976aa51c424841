//! A view of a compiled eBPF object: its functions, their instructions and who calls whom.
//!
//! The house rules and the stack depths are about code that is really in the object, whatever the
//! source looks like, so both read this. It knows ELF relocations and the few instruction forms
//! that matter, and judges nothing.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};
use object::{
    Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SectionIndex, SymbolKind,
};

/// One 8-byte slot, as in the kernel's `struct bpf_insn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Insn {
    pub(crate) code: u8,
    pub(crate) dst: u8,
    pub(crate) src: u8,
    pub(crate) off: i16,
    pub(crate) imm: i32,
}

impl Insn {
    const CALL: u8 = 0x85;
    const JUMP: u8 = 0x05;
    /// `src` of a call to a function of the same object (`BPF_PSEUDO_CALL`).
    const TO_FUNCTION: u8 = 1;

    pub(crate) fn from_bytes(bytes: [u8; 8]) -> Self {
        let [code, registers, off @ .., i0, i1, i2, i3] = bytes;
        Self {
            code,
            dst: registers & 0xf,
            src: registers >> 4,
            off: i16::from_le_bytes(off),
            imm: i32::from_le_bytes([i0, i1, i2, i3]),
        }
    }

    /// Whether it calls another function of the object, rather than a helper or a kfunc.
    fn is_function_call(self) -> bool {
        self.code == Self::CALL && self.src == Self::TO_FUNCTION
    }

    /// Whether it jumps to itself: what the compiler makes of `loop {}`.
    pub(crate) fn is_endless_loop(self) -> bool {
        self.code == Self::JUMP && self.off == -1
    }

    pub(crate) fn is_call(self) -> bool {
        self.code == Self::CALL
    }
}

/// A function: a program, or something that programs call.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) insns: Vec<Insn>,
    /// Called functions and callbacks handed to helpers, each once.
    pub(crate) uses: Vec<Callee>,
    section: SectionIndex,
    offset: u64,
}

/// Where a call leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Callee {
    /// An index into [`BpfObject::functions`].
    Function(usize),
    /// A name that nothing in the object defines.
    Undefined(String),
}

/// All code of one object.
pub(crate) struct BpfObject {
    pub(crate) functions: Vec<Function>,
}

impl BpfObject {
    /// Reads an object file.
    ///
    /// # Errors
    /// Fails if it is not an ELF file with code that makes sense.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let file = object::File::parse(bytes.as_slice())
            .with_context(|| format!("{} is not an object file", path.display()))?;
        Self::parse(&file).with_context(|| format!("cannot make sense of {}", path.display()))
    }

    /// The function called `name`.
    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.functions.iter().position(|function| function.name == name)
    }

    fn parse(file: &object::File<'_>) -> Result<Self> {
        let mut object = Self { functions: functions(file)? };
        for at in 0..object.functions.len() {
            let function = &object.functions[at];
            let relocated = object.relocated_uses(file, function)?;
            let direct = object.direct_calls(function, &relocated)?;

            let mut uses: Vec<Callee> = Vec::new();
            for callee in relocated.into_iter().map(|(_, callee)| callee).chain(direct) {
                if !uses.contains(&callee) {
                    uses.push(callee);
                }
            }
            object.functions[at].uses = uses;
        }
        Ok(object)
    }

    /// Code that relocations of `function` point to, with the index of the relocated instruction.
    fn relocated_uses(
        &self,
        file: &object::File<'_>,
        function: &Function,
    ) -> Result<Vec<(usize, Callee)>> {
        let section = file.section_by_index(function.section)?;
        let mut uses = Vec::new();
        for (offset, relocation) in section.relocations() {
            let Some(at) = function.insn_at(offset) else { continue };
            let RelocationTarget::Symbol(symbol) = relocation.target() else { continue };
            let symbol = file.symbol_by_index(symbol)?;
            let insn = function.insns[at];
            let Some(target) = symbol.section_index() else {
                if insn.is_function_call() {
                    uses.push((at, Callee::Undefined(symbol.name()?.to_owned())));
                }
                continue;
            };
            // A call's addend counts instructions from the next one, so a plain symbol has -1; a
            // callback's address has an addend in bytes.
            let addend = i64::from(insn.imm);
            let addend = if insn.is_function_call() { (addend + 1) * 8 } else { addend };
            let target_offset = symbol.address().wrapping_add_signed(addend);
            if let Some(callee) = self.function_at(target, target_offset) {
                uses.push((at, Callee::Function(callee)));
            }
        }
        Ok(uses)
    }

    /// Calls that the linker has resolved already: within one section, no relocation is left.
    fn direct_calls(
        &self,
        function: &Function,
        relocated: &[(usize, Callee)],
    ) -> Result<Vec<Callee>> {
        let mut calls = Vec::new();
        for (at, insn) in function.insns.iter().enumerate() {
            let is_relocated = relocated.iter().any(|(index, _)| *index == at);
            if !insn.is_function_call() || is_relocated {
                continue;
            }
            let next = function.offset + (at as u64 + 1) * 8;
            let target = next.wrapping_add_signed(i64::from(insn.imm) * 8);
            let Some(callee) = self.function_at(function.section, target) else {
                bail!("instruction {at} of {} calls into nowhere", function.name);
            };
            calls.push(Callee::Function(callee));
        }
        Ok(calls)
    }

    fn function_at(&self, section: SectionIndex, offset: u64) -> Option<usize> {
        self.functions
            .iter()
            .position(|function| function.section == section && function.offset == offset)
    }
}

impl Function {
    /// The index of the instruction at `offset` of the section, if it is one of ours.
    fn insn_at(&self, offset: u64) -> Option<usize> {
        let index = usize::try_from(offset.checked_sub(self.offset)? / 8).ok()?;
        (index < self.insns.len()).then_some(index)
    }
}

fn functions(file: &object::File<'_>) -> Result<Vec<Function>> {
    let mut functions = Vec::new();
    for symbol in file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text) {
        let Some(section) = symbol.section_index() else { continue };
        let data = file.section_by_index(section)?.data()?;
        let (start, len) = (symbol.address() as usize, symbol.size() as usize);
        let name = symbol.name()?.to_owned();
        let Some(code) = start.checked_add(len).and_then(|end| data.get(start..end)) else {
            bail!("{name} is not within its section");
        };
        let insns = code.as_chunks::<8>().0.iter().copied().map(Insn::from_bytes).collect();
        let offset = symbol.address();
        functions.push(Function { name, insns, uses: Vec::new(), section, offset });
    }
    Ok(functions)
}

#[cfg(test)]
pub(crate) mod samples {
    //! Objects for the tests of what reads them.

    use super::*;

    /// An object of functions that are given by name, instructions and called functions.
    pub(crate) fn object(functions: &[(&str, &[Insn], &[usize])]) -> BpfObject {
        let function = |(name, insns, uses): &(&str, &[Insn], &[usize])| Function {
            name: (*name).to_owned(),
            insns: insns.to_vec(),
            uses: uses.iter().copied().map(Callee::Function).collect(),
            section: SectionIndex(1),
            offset: 0,
        };
        BpfObject { functions: functions.iter().map(function).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(name: &str, offset: u64, insns: Vec<Insn>) -> Function {
        let uses = Vec::new();
        Function { name: name.to_owned(), insns, uses, section: SectionIndex(1), offset }
    }

    fn call(imm: i32) -> Insn {
        Insn { code: 0x85, dst: 0, src: 1, off: 0, imm }
    }

    const EXIT: Insn = Insn { code: 0x95, dst: 0, src: 0, off: 0, imm: 0 };

    #[test]
    fn instructions_are_read_as_the_kernel_lays_them_out() {
        // *(u64 *)(r10 - 8) = r1
        let insn = Insn::from_bytes([0x7b, 0x1a, 0xf8, 0xff, 0, 0, 0, 0]);
        assert_eq!(insn, Insn { code: 0x7b, dst: 10, src: 1, off: -8, imm: 0 });
        let endless = Insn::from_bytes([0x05, 0, 0xff, 0xff, 0, 0, 0, 0]);
        assert!(endless.is_endless_loop());
    }

    #[test]
    fn a_resolved_call_leads_to_the_function_at_that_offset() {
        // The caller is at 0 and two instructions long; its first one calls what is at 16.
        let object = BpfObject {
            functions: vec![
                function("caller", 0, vec![call(1), EXIT]),
                function("callee", 16, vec![EXIT]),
            ],
        };
        let calls = object.direct_calls(&object.functions[0], &[]).unwrap();
        assert_eq!(calls, [Callee::Function(1)]);
        // A relocation at the instruction counts instead of its immediate.
        let calls = object.direct_calls(&object.functions[0], &[(0, Callee::Function(1))]).unwrap();
        assert_eq!(calls, []);
    }

    #[test]
    fn a_call_into_nowhere_is_an_error() {
        let object = BpfObject { functions: vec![function("lost", 0, vec![call(7), EXIT])] };
        let error = object.direct_calls(&object.functions[0], &[]).unwrap_err();
        assert_eq!(error.to_string(), "instruction 0 of lost calls into nowhere");
    }
}
