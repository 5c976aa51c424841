//! Debian's kernels, downloaded and unpacked below `target/vm`, with an apt state of their own: the system's
//! own packages are left alone.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{process, workspace::Workspace};

/// A kernel by the name that `cargo xtask vm` takes, and the Debian suite that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kernel {
    /// Debian 11: a look below the floor
    #[value(name = "5.10")]
    Bullseye,
    /// Debian 12
    #[value(name = "6.1")]
    Bookworm,
    /// Debian 13
    #[value(name = "6.12")]
    Trixie,
    /// The newest one
    #[value(name = "newest")]
    Sid,
}

/// What every suite calls its kernel's package.
const META_PACKAGE: &str = "linux-image-amd64";

/// The key ring that signs the suites; without it nothing is downloaded.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// An unpacked kernel.
pub(crate) struct Unpacked {
    /// The bootable image.
    pub(crate) image: PathBuf,
    /// The folder that has `VERSION/`, which is to be /lib/modules.
    pub(crate) modules: PathBuf,
    /// What `uname -r` will say.
    pub(crate) version: String,
}

impl Kernel {
    /// The kernels that are tried if none is named.
    pub(crate) const USUAL: [Self; 3] = [Self::Bookworm, Self::Trixie, Self::Sid];

    const fn suite(self) -> &'static str {
        match self {
            Self::Bullseye => "bullseye",
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
            Self::Sid => "sid",
        }
    }

    /// Where all that is needed for its machine lies.
    pub(super) fn folder(self, workspace: &Workspace) -> PathBuf {
        workspace.target().join("vm").join(self.suite())
    }
}

impl Unpacked {
    /// Downloads and unpacks a kernel, unless that was done before.
    ///
    /// # Errors
    /// Fails where there is no apt or no mirror, or the package is not what a kernel looks like.
    pub(super) fn get(kernel: Kernel, folder: &Path) -> Result<Self> {
        let (root, done) = (folder.join("root"), folder.join("done"));
        if !done.exists() {
            let debs = folder.join("debs");
            fs::create_dir_all(&debs)?;
            Apt::new(&folder.join("apt"), kernel.suite())?.download_kernel(&debs)?;
            for deb in fs::read_dir(&debs)? {
                process::run(Command::new("dpkg").arg("-x").arg(deb?.path()).arg(&root))?;
            }
            fs::remove_dir_all(&debs)?;
            fs::write(&done, "")?;
        }
        find_kernel(&root)
    }

    /// The folder that has `lib/modules`, which is what kmod's programs ask for.
    pub(super) fn base(&self) -> Result<&Path> {
        self.modules.ancestors().nth(2).context("the modules lie at the top")
    }
}

/// Finds image and modules in what the packages had, wherever this Debian puts them.
fn find_kernel(root: &Path) -> Result<Unpacked> {
    let folders = ["usr/lib/modules", "lib/modules"].map(|folder| root.join(folder));
    let modules = folders.into_iter().find(|folder| folder.is_dir());
    let modules = modules.with_context(|| format!("{} has no modules", root.display()))?;
    let version = fs::read_dir(&modules)?.next().context("there are no modules")??.file_name();
    let version = version.to_string_lossy().into_owned();
    let images = [
        root.join("boot").join(format!("vmlinuz-{version}")),
        modules.join(&version).join("vmlinuz"),
    ];
    let image = images.into_iter().find(|image| image.exists());
    let image = image.with_context(|| format!("{} has no kernel", root.display()))?;
    let kernel = Unpacked { image, modules, version };
    if !kernel.modules.join(&kernel.version).join("modules.dep").exists() {
        let mut depmod = Command::new("depmod");
        process::run(depmod.arg("-b").arg(kernel.base()?).arg(&kernel.version))?;
    }
    Ok(kernel)
}

/// apt with lists and a status of its own.
struct Apt {
    options: Vec<String>,
}

impl Apt {
    fn new(state: &Path, suite: &str) -> Result<Self> {
        if !Path::new(KEYRING).exists() {
            bail!("{KEYRING} is missing: install debian-archive-keyring");
        }
        for folder in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(state.join(folder))?;
        }
        fs::write(state.join("status"), "")?;
        let source = format!("deb [signed-by={KEYRING}] {} {suite} main\n", mirror()?);
        fs::write(state.join("sources.list"), source)?;
        let path = |name: &str| state.join(name).display().to_string();
        let options = [
            ("Dir::Etc::sourcelist", path("sources.list")),
            ("Dir::Etc::sourceparts", "/dev/null".to_owned()),
            ("Dir::State::lists", path("lists")),
            ("Dir::State::status", path("status")),
            ("Dir::Cache", path("cache")),
            // A mirror may be a snapshot of some time ago. What it has is signed all the same.
            ("Acquire::Check-Valid-Until", "false".to_owned()),
            ("APT::Sandbox::User", "root".to_owned()),
        ];
        let options = options.map(|(name, value)| format!("-o{name}={value}")).into();
        let apt = Self { options };
        process::run(apt.command("apt-get").args(["update", "-qq"]))?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(&self.options);
        command
    }

    /// Downloads the packages that the kernel is in.
    fn download_kernel(&self, folder: &Path) -> Result<()> {
        let mut packages = self.parts_of(META_PACKAGE)?;
        // Newer kernels have image and modules in packages of their own.
        for at in 0..packages.len() {
            let parts = self.parts_of(&packages[at])?;
            packages.extend(parts);
        }
        packages.sort_unstable();
        packages.dedup();
        process::run(self.command("apt-get").arg("download").args(&packages).current_dir(folder))
    }

    /// The kernel's packages that a package depends on.
    fn parts_of(&self, package: &str) -> Result<Vec<String>> {
        let text =
            process::output(self.command("apt-cache").args(["depends", "--important", package]))?;
        let names = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
        let is_part = |name: &&str| {
            ["linux-image-", "linux-base-", "linux-binary-", "linux-modules-"]
                .iter()
                .any(|part| name.starts_with(part))
        };
        Ok(names.filter(is_part).map(str::to_owned).collect())
    }
}

/// The mirror that this system's apt uses.
fn mirror() -> Result<String> {
    let one_line = fs::read_to_string("/etc/apt/sources.list").unwrap_or_default();
    let deb822 = fs::read_to_string("/etc/apt/sources.list.d/debian.sources").unwrap_or_default();
    mirror_of(&deb822, &one_line).context("apt's sources name no mirror: this needs Debian")
}

/// The first address in apt's sources, in either of their formats (sources.list(5)).
fn mirror_of(deb822: &str, one_line: &str) -> Option<String> {
    let in_deb822 = || {
        let line = deb822.lines().find_map(|line| line.strip_prefix("URIs:"))?;
        line.split_whitespace().next()
    };
    let in_one_line = || {
        let mut lines = one_line.lines().filter_map(|line| line.strip_prefix("deb "));
        lines.find_map(|line| line.split_whitespace().find(|word| word.contains("://")))
    };
    in_deb822().or_else(in_one_line).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::mirror_of;

    #[test]
    fn apts_sources_name_the_mirror_in_either_format() {
        let deb822 = "Types: deb\nURIs: http://mirror.example/debian other\nSuites: bookworm\n";
        assert_eq!(mirror_of(deb822, "").as_deref(), Some("http://mirror.example/debian"));
        let one_line =
            "# deb http://no.example\ndeb [arch=amd64] http://mirror.example bookworm main\n";
        assert_eq!(mirror_of("", one_line).as_deref(), Some("http://mirror.example"));
        assert_eq!(mirror_of("", ""), None);
    }
}
