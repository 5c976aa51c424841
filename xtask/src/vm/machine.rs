//! A virtual machine without a disk: it sees this machine's files by 9P, read-only, below a memory of its own.
//! So whatever is installed and built here is there at the same path.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use super::kernel::Unpacked;
use crate::process;

/// What a guest needs before it can read the modules of its kernel.
const EARLY_MODULES: [&str; 4] = ["virtio_pci", "9pnet_virtio", "9p", "overlay"];

/// As busybox-static has it: there is nothing in the guest yet that a library could come from.
const BUSYBOX: &str = "/bin/busybox";

/// Memory of a guest. Units: MiB.
const MEMORY: &str = "3072";

/// How long a guest may take, for timeout(1).
const LIMIT: &str = "60m";

/// Boots a kernel, runs a script of bash in it as root and prints what that prints; says how it ended.
///
/// # Errors
/// Fails if the guest cannot be made, or ends without a word.
pub(super) fn run(kernel: &Unpacked, folder: &Path, script: &str) -> Result<i32> {
    let initramfs = initramfs(kernel, folder, script)?;
    let result = folder.join("result");
    fs::write(&result, "")?;
    let mut qemu = Command::new("timeout");
    qemu.args(["--kill-after=5", LIMIT, "qemu-system-x86_64"])
        // One thread for both CPUs: with two, one may run what the other has just replaced in the kernel's text,
        // which panics ("Oops: int3").
        .args(["-accel", "tcg,thread=single"])
        .args(["-cpu", "max", "-smp", "2", "-m", MEMORY, "-nodefaults", "-no-reboot"])
        .args(["-display", "none", "-nic", "none", "-serial", "stdio", "-serial"])
        .arg(format!("file:{}", result.display()))
        .args(["-virtfs", &shared(Path::new("/"), "host")])
        .args(["-virtfs", &shared(&kernel.modules, "kernel")])
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(&initramfs)
        .args(["-append", "console=ttyS0 quiet panic=-1 mitigations=off"])
        .stdin(Stdio::null());
    process::run(&mut qemu)?;
    let text = fs::read_to_string(&result)?;
    let code = text.trim().parse();
    code.with_context(|| format!("the guest with Linux {} ended early", kernel.version))
}

/// A folder of this machine's, as `name` in the guest.
fn shared(folder: &Path, name: &str) -> String {
    let path = folder.display();
    format!(
        "local,path={path},mount_tag={name},security_model=passthrough,readonly=on,multidevs=remap"
    )
}

/// The guest's first files: busybox, the early modules, `init.sh` and the task.
fn initramfs(kernel: &Unpacked, folder: &Path, script: &str) -> Result<PathBuf> {
    let root = folder.join("initramfs");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    for place in ["bin", "lib", "proc", "sys", "dev"] {
        fs::create_dir_all(root.join(place))?;
    }
    fs::copy(BUSYBOX, root.join("bin/busybox")).context("busybox-static is not installed")?;
    fs::write(root.join("task"), script)?;
    fs::write(root.join("init"), include_str!("init.sh"))?;
    fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755))?;
    let order = early_modules(kernel, &root.join("lib"))?;
    fs::write(root.join("load-order"), order.join("\n"))?;
    let image = folder.join("initramfs.img");
    let mut cpio = Command::new("sh");
    let pack = "cd \"$1\" && find . | cpio --create --quiet --format=newc > \"$2\"";
    process::run(cpio.args(["-c", pack, "sh"]).arg(&root).arg(&image))?;
    Ok(image)
}

/// Copies the early modules with all that they need; their names in the order that they are loaded in.
fn early_modules(kernel: &Unpacked, to: &Path) -> Result<Vec<String>> {
    let mut order = Vec::new();
    for module in EARLY_MODULES {
        let mut modprobe = Command::new("modprobe");
        modprobe.arg("-d").arg(kernel.base()?).args(["-S", &kernel.version]);
        let needed = process::output(modprobe.args(["--show-depends", module]))?;
        // Other lines name what is built in.
        for path in needed.lines().filter_map(|line| line.strip_prefix("insmod ")) {
            let path = Path::new(path.trim());
            let name = copy_module(path, to)?;
            if !order.contains(&name) {
                order.push(name);
            }
        }
    }
    Ok(order)
}

/// Copies a module, unpacked: not every kernel unpacks them itself.
fn copy_module(path: &Path, to: &Path) -> Result<String> {
    let file = path.file_name().context("a module has no name")?.to_string_lossy().into_owned();
    let unpacker = match path.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => {
            fs::copy(path, to.join(&file))?;
            return Ok(file);
        }
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => bail!("{} is packed in a way that nobody knows", path.display()),
    };
    let name = path.file_stem().context("a module has no name")?.to_string_lossy().into_owned();
    let unpacked = Command::new(unpacker).arg("-dc").arg(path).output();
    let unpacked = unpacked.with_context(|| format!("{unpacker} cannot be started"))?;
    fs::write(to.join(&name), unpacked.stdout)?;
    Ok(name)
}
