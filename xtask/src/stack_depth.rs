//! How much stack a program uses, read from its instructions.
//!
//! The verifier says it only in its log, which aya asks for only when a load has failed. The kernel
//! limits the sum over the deepest chain of calls to 512 bytes (`MAX_BPF_STACK`), so that is the
//! number worth printing.

use crate::bpf_object::{BpfObject, Callee, Function, Insn};

/// `MAX_BPF_STACK`, include/linux/filter.h.
pub(crate) const LIMIT_BYTES: u32 = 512;

/// What the verifier rounds each frame to; since Linux 6.8 it is half of that where the program is compiled to
/// machine code (`round_up_stack_depth`, kernel/bpf/verifier.c).
const FRAME_ALIGN_BYTES: u32 = 32;

/// The verifier refuses deeper chains (`MAX_CALL_FRAMES`), and with it recursion.
const MAX_FRAMES: usize = 8;

/// The register that holds the frame's upper end.
const FRAME_POINTER: u8 = 10;

/// Bytes of each frame on the deepest chain of calls that starts at `program`.
pub(crate) fn deepest_chain(object: &BpfObject, program: usize) -> Vec<u32> {
    chain(object, program, MAX_FRAMES)
}

/// A chain's sum as the verifier counts it.
pub(crate) fn total_bytes(chain: &[u32]) -> u32 {
    chain.iter().map(|frame| (*frame).max(1).next_multiple_of(FRAME_ALIGN_BYTES)).sum()
}

fn chain(object: &BpfObject, at: usize, frames_left: usize) -> Vec<u32> {
    let function = &object.functions[at];
    let mut deepest = Vec::new();
    if frames_left > 1 {
        for callee in &function.uses {
            let Callee::Function(callee) = callee else { continue };
            let below = chain(object, *callee, frames_left - 1);
            if total_bytes(&below) > total_bytes(&deepest) {
                deepest = below;
            }
        }
    }
    deepest.insert(0, frame_bytes(function));
    deepest
}

/// The lowest address that a function names relative to its frame pointer.
///
/// Instructions are read in the order they lie in, without following jumps. Compilers form a stack
/// address (`r2 = r10; r2 += -8`) right before its use, so that finds every one of them.
fn frame_bytes(function: &Function) -> u32 {
    let mut offsets: [Option<i32>; 16] = [None; 16];
    offsets[usize::from(FRAME_POINTER)] = Some(0);
    let mut lowest = 0;
    for insn in &function.insns {
        lowest = lowest.min(step(*insn, &mut offsets).unwrap_or(0));
    }
    lowest.unsigned_abs()
}

/// Follows one instruction; returns the stack offset that it accesses or forms.
fn step(insn: Insn, offsets: &mut [Option<i32>; 16]) -> Option<i32> {
    const LDX: u8 = 1;
    const ST: u8 = 2;
    const STX: u8 = 3;
    const MOV64_REG: u8 = 0xbf;
    const ADD64_IMM: u8 = 0x07;

    let (dst, src) = (usize::from(insn.dst), usize::from(insn.src));
    match (insn.code, insn.code & 7) {
        (_, ST | STX) => offsets[dst].map(|base| base + i32::from(insn.off)),
        (_, LDX) => {
            let accessed = offsets[src].map(|base| base + i32::from(insn.off));
            offsets[dst] = None;
            accessed
        }
        (MOV64_REG, _) if insn.off == 0 => {
            offsets[dst] = offsets[src];
            None
        }
        (ADD64_IMM, _) => {
            offsets[dst] = offsets[dst].map(|base| base.wrapping_add(insn.imm));
            offsets[dst]
        }
        _ if insn.is_call() => {
            offsets[..=5].fill(None);
            None
        }
        // Jumps compare `dst` and leave it as it is.
        (_, 5 | 6) => None,
        _ => {
            offsets[dst] = None;
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf_object::samples::object;

    const fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Insn {
        Insn { code, dst, src, off, imm }
    }

    /// `*(u64 *)(r10 - 24) = r1`
    const STORE: Insn = insn(0x7b, 10, 1, -24, 0);
    /// `r2 = r10`, `r2 += -96`
    const ADDRESS: [Insn; 2] = [insn(0xbf, 2, 10, 0, 0), insn(0x07, 2, 0, 0, -96)];
    const CALL_HELPER: Insn = insn(0x85, 0, 0, 0, 1);
    const EXIT: Insn = insn(0x95, 0, 0, 0, 0);

    #[track_caller]
    fn check_frame(insns: &[Insn], expected_bytes: u32) {
        let object = object(&[("program", insns, &[])]);
        assert_eq!(deepest_chain(&object, 0), [expected_bytes]);
    }

    #[test]
    fn a_frame_reaches_down_to_its_lowest_access() {
        check_frame(&[EXIT], 0);
        check_frame(&[STORE, EXIT], 24);
        check_frame(&[STORE, ADDRESS[0], ADDRESS[1], CALL_HELPER, EXIT], 96);
        // After the call r2 is no stack address.
        check_frame(&[ADDRESS[0], CALL_HELPER, ADDRESS[1], EXIT], 0);
        // *(u32 *)(r2 - 4) = 0 through a pointer that was formed before.
        check_frame(&[ADDRESS[0], ADDRESS[1], insn(0x62, 2, 0, -4, 0), EXIT], 100);
    }

    #[test]
    fn the_deepest_chain_counts_each_frame_rounded_up() {
        let object = object(&[
            ("program", &[STORE, EXIT], &[1, 2]),
            ("shallow", &[EXIT], &[]),
            ("deep", &ADDRESS, &[1]),
        ]);
        let chain = deepest_chain(&object, 0);
        assert_eq!(chain, [24, 96, 0]);
        assert_eq!(total_bytes(&chain), 32 + 96 + 32);
    }
}
