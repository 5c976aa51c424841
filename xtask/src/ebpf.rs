//! Building the eBPF object with the stable compiler that builds everything else.
//!
//! Two things are missing there for the BPF target: a compiled `core`, which `-Z build-std` makes
//! from the standard library's source, and a linker, which is bpf-linker. `toolchain` gets both.
//!
//! `netd` embeds the result, so the file is written only when its bytes differ: otherwise each
//! `cargo xtask` would rebuild the daemon.

use std::{
    env::consts::ARCH,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{process, toolchain::Toolchain, workspace::Workspace};

const TARGET: &str = "bpfel-unknown-none";

/// Settings of the user that would replace or change the flags below.
const FLAG_SETTINGS: &[&str] = &["RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS"];

/// A kind of build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// What users get.
    Plain,
    /// With aya-log's lines.
    PacketLog,
    /// With another layout of the connection table.
    OtherLayout,
}

impl Flavour {
    /// The feature that `netd` and its object have then, which is also what the names of its files end in.
    pub(crate) fn feature(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::PacketLog => Some("packet-log"),
            Self::OtherLayout => Some("other-layout"),
        }
    }

    /// A file's name in this flavour.
    pub(crate) fn name(self, plain: &str) -> String {
        self.feature().map_or_else(|| plain.to_owned(), |feature| format!("{plain}-{feature}"))
    }
}

/// Builds the object and returns its path.
///
/// # Errors
/// Fails if the toolchain cannot be prepared or the object does not compile.
pub(crate) fn build(workspace: &Workspace, flavour: Flavour) -> Result<PathBuf> {
    let toolchain = Toolchain::prepare(workspace)?;
    process::run(&mut cargo(workspace, &toolchain, "build", flavour))?;

    let built = build_dir(workspace, flavour).join(TARGET).join("release/netd-ebpf");
    let object = path(workspace, flavour);
    copy_if_changed(&built, &object)?;
    Ok(object)
}

/// Where the object is after [`build`].
pub(crate) fn path(workspace: &Workspace, flavour: Flavour) -> PathBuf {
    workspace.target().join("ebpf").join(flavour.name("netd-ebpf")).with_extension("o")
}

/// Builds the benchmark's prototype, which is no part of the object.
///
/// # Errors
/// Fails as [`build`] does.
pub(crate) fn build_prototype(workspace: &Workspace) -> Result<()> {
    let toolchain = Toolchain::prepare(workspace)?;
    process::run(
        cargo(workspace, &toolchain, "build", Flavour::Plain).args(["--example", "prototype"]),
    )
}

/// Where the prototype is after [`build_prototype`].
pub(crate) fn prototype_path(workspace: &Workspace) -> PathBuf {
    build_dir(workspace, Flavour::Plain).join(TARGET).join("release/examples/prototype")
}

/// A cargo subcommand (`build`, `clippy`) on `netd-ebpf` for the BPF target.
pub(crate) fn cargo(
    workspace: &Workspace,
    toolchain: &Toolchain,
    subcommand: &str,
    flavour: Flavour,
) -> Command {
    let mut cargo = workspace.cargo(subcommand);
    cargo.args(["--package", "netd-ebpf", "--release", "-Z", "build-std=core"]);
    cargo.args(["--target", TARGET, "--target-dir"]).arg(build_dir(workspace, flavour));
    if let Some(feature) = flavour.feature() {
        cargo.args(["--features", feature]);
    }
    for name in FLAG_SETTINGS {
        cargo.env_remove(name);
    }
    cargo.env("CARGO_ENCODED_RUSTFLAGS", rustc_flags(&toolchain.bpf_linker));
    // Pieces compiled apart are inlined less, and then need more stack than there is.
    cargo.env("CARGO_INCREMENTAL", "0");
    // Lets a stable compiler accept `-Z build-std`.
    cargo.env("RUSTC_BOOTSTRAP", "1");
    if let Some(library) = &toolchain.library {
        // cargo's only way to take the source from elsewhere than the sysroot, despite its name.
        cargo.env("__CARGO_TESTS_ONLY_SRC_ROOT", library);
    }
    cargo
}

/// Flags in the form of `CARGO_ENCODED_RUSTFLAGS`, which allows spaces in paths.
fn rustc_flags(bpf_linker: &Path) -> String {
    [
        format!("-Clinker={}", bpf_linker.display()),
        // Map definitions and the verifier's source lines come from BTF.
        "-Clink-arg=--btf".to_owned(),
        // aya-ebpf asks it which kernel registers and structures to expect.
        format!("--cfg=bpf_target_arch=\"{ARCH}\""),
        "-Cdebuginfo=2".to_owned(),
    ]
    .join("\x1f")
}

/// Each flavour has its own folder, so that switching between them rebuilds nothing.
fn build_dir(workspace: &Workspace, flavour: Flavour) -> PathBuf {
    workspace.target().join(flavour.name("ebpf-build"))
}

fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    let bytes = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    // By rename: whoever reads the object meanwhile sees the old or the new one, never half of it.
    let partial = to.with_extension("partial");
    fs::write(&partial, bytes).with_context(|| format!("cannot write {}", partial.display()))?;
    fs::rename(&partial, to).with_context(|| format!("cannot write {}", to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unchanged_object_keeps_its_time_stamp() {
        let folder = std::env::temp_dir().join(format!("xtask-ebpf-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (from, to) = (folder.join("from"), folder.join("out/to.o"));

        fs::write(&from, "one").unwrap();
        copy_if_changed(&from, &to).unwrap();
        let first = fs::metadata(&to).unwrap().modified().unwrap();
        copy_if_changed(&from, &to).unwrap();
        assert_eq!(fs::metadata(&to).unwrap().modified().unwrap(), first);

        fs::write(&from, "two").unwrap();
        copy_if_changed(&from, &to).unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"two");
        fs::remove_dir_all(&folder).unwrap();
    }
}
