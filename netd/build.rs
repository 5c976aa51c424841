//! Puts the eBPF object where `datapath::load` embeds it from.

use std::{
    env, fs,
    hash::{DefaultHasher, Hasher as _},
    path::PathBuf,
};

fn main() {
    let name = if env::var_os("CARGO_FEATURE_PACKET_LOG").is_some() {
        "netd-ebpf-packet-log.o"
    } else if env::var_os("CARGO_FEATURE_OTHER_LAYOUT").is_some() {
        "netd-ebpf-other-layout.o"
    } else {
        "netd-ebpf.o"
    };
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let object = root.join("../target/ebpf").join(name);
    println!("cargo::rerun-if-changed={}", object.display());
    let copy = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("netd-ebpf.o");
    let copied = fs::read(&object).and_then(|bytes| fs::write(copy, &bytes).map(|()| bytes));
    match copied {
        Ok(bytes) => println!("cargo::rustc-env=NETD_OBJECT_ID={:016x}", id(&bytes)),
        Err(_) => {
            println!("cargo::error=the eBPF object is not built yet: run `cargo xtask build`")
        }
    }
}

/// Tells objects apart: a daemon uses the programs that another one of the same build has loaded.
fn id(object: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(object);
    hasher.finish()
}
