//! Puts the eBPF object where `datapath::load` embeds it from.

use std::{env, fs, path::PathBuf};

fn main() {
    let name = if env::var_os("CARGO_FEATURE_PACKET_LOG").is_some() {
        "netd-ebpf-packet-log.o"
    } else {
        "netd-ebpf.o"
    };
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let object = root.join("../target/ebpf").join(name);
    println!("cargo::rerun-if-changed={}", object.display());
    let copy = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("netd-ebpf.o");
    if fs::copy(&object, copy).is_err() {
        println!("cargo::error=the eBPF object is not built yet: run `cargo xtask build`");
    }
}
