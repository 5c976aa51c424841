//! What must not be in the eBPF object.
//!
//! A panic in a program ends in an endless loop that the verifier accepts only while it believes
//! that nothing leads there, and says that a bounds check is missing. A call to `memcpy` and the
//! like is a byte-by-byte loop through a function that the verifier walks again on each call; small
//! fixed copies compile to plain loads and stores instead.

use crate::bpf_object::{BpfObject, Callee, Function, Insn};

/// Called for a copy, fill or comparison whose size the compiler does not unroll. aya-ebpf defines
/// most of them, so they may be in the object, as long as nothing calls them.
const MEMORY_ROUTINES: &[&str] = &["memcpy", "memmove", "memset", "memcmp", "bcmp"];

/// Parts of mangled names: `core::panicking`, the panic handler, and what panics without that word.
const PANIC_NAMES: &[&str] =
    &["panic", "rust_begin_unwind", "unwrap_failed", "expect_failed", "slice_index", "slice_error"];

pub(super) fn violations(object: &BpfObject) -> Vec<String> {
    let mut violations = Vec::new();
    for (index, function) in object.functions.iter().enumerate() {
        if is_panic(&function.name) {
            let callers = callers(object, index);
            violations.push(format!("the eBPF object panics: {}, from {callers}", function.name));
        }
        if is_memory_routine(&function.name) {
            continue;
        }
        // With a panic handler that only loops, the compiler may inline all there is to a panic.
        if function.insns.iter().any(|insn| Insn::is_endless_loop(*insn)) {
            violations.push(format!("{} has an endless loop, as panics leave", function.name));
        }
        violations.extend(forbidden_calls(object, function));
    }
    violations
}

fn forbidden_calls(object: &BpfObject, function: &Function) -> Vec<String> {
    let forbidden = |callee: &Callee| match callee {
        Callee::Function(callee) => {
            let callee = &object.functions[*callee].name;
            is_memory_routine(callee).then(|| format!("{} calls {callee}", function.name))
        }
        Callee::Undefined(name) => {
            Some(format!("{} calls {name}, which nothing defines", function.name))
        }
    };
    function.uses.iter().filter_map(forbidden).collect()
}

fn callers(object: &BpfObject, callee: usize) -> String {
    let calls = |function: &&Function| function.uses.contains(&Callee::Function(callee));
    let names: Vec<&str> =
        object.functions.iter().filter(calls).map(|function| function.name.as_str()).collect();
    if names.is_empty() { "nowhere".to_owned() } else { names.join(", ") }
}

fn is_memory_routine(name: &str) -> bool {
    MEMORY_ROUTINES.contains(&name)
}

fn is_panic(name: &str) -> bool {
    PANIC_NAMES.iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf_object::samples::object;

    const EXIT: Insn = Insn { code: 0x95, dst: 0, src: 0, off: 0, imm: 0 };
    const LOOP: Insn = Insn { code: 0x05, dst: 0, src: 0, off: -1, imm: 0 };

    #[track_caller]
    fn check(object: &BpfObject, expected: &[&str]) {
        assert_eq!(violations(object), expected);
    }

    #[test]
    fn memory_routines_may_be_there_but_not_be_called() {
        let memcpy: (&str, &[Insn], &[usize]) = ("memcpy", &[LOOP, EXIT], &[]);
        check(&object(&[("from_uplink", &[EXIT], &[]), memcpy]), &[]);
        let calling = object(&[("from_uplink", &[EXIT], &[1]), memcpy]);
        check(&calling, &["from_uplink calls memcpy"]);
    }

    #[test]
    fn a_panic_is_named_with_who_leads_to_it() {
        let name = "_ZN4core9panicking18panic_bounds_check17h0123456789abcdefE";
        let panicking = object(&[("from_uplink", &[EXIT], &[1]), (name, &[EXIT], &[])]);
        check(&panicking, &[&format!("the eBPF object panics: {name}, from from_uplink")]);
    }

    #[test]
    fn an_inlined_panic_shows_as_an_endless_loop() {
        let looping = object(&[("from_uplink", &[EXIT, LOOP], &[])]);
        check(&looping, &["from_uplink has an endless loop, as panics leave"]);
    }

    #[test]
    fn a_call_that_nothing_defines_is_named() {
        let mut undefined = object(&[("from_uplink", &[EXIT], &[])]);
        undefined.functions[0].uses.push(Callee::Undefined("__multi3".to_owned()));
        check(&undefined, &["from_uplink calls __multi3, which nothing defines"]);
    }
}
