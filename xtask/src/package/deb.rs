//! The Debian package, put together by Debian's own programs.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{Release, require_file, tree};
use crate::process;

/// What the package's texts lie in.
const TEXTS: &str = "netd/packaging/debian";

/// The scripts that dpkg runs.
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// The configuration, which upgrades leave as an administrator has made it.
const CONFFILE: &str = "etc/netd/netd.toml";

/// Makes the package of a program by some version, and returns its path.
///
/// # Errors
/// Fails where one of Debian's programs does.
pub(super) fn make(release: &Release, netd: &Path, version: &str) -> Result<PathBuf> {
    let staging = release.staging("deb")?;
    let root = staging.join("root");
    tree::fill(release, netd, &root.join("usr"))?;
    let example = fs::read(release.source("netd/packaging/netd.toml"))?;
    tree::write(&root.join(CONFFILE), example)?;
    add_documents(release, &root.join("usr/share/doc/netd"), version)?;
    tree::set_modes(&root)?;
    let architecture = process::output(Command::new("dpkg").arg("--print-architecture"))?;
    let architecture = architecture.trim();
    let control = Control {
        version,
        architecture,
        depends: dependencies(&staging, &root.join("usr/bin/netd"))?,
        installed_size: kibibytes(&root)?,
    };
    add_control(release, &root.join("DEBIAN"), &control)?;
    let deb = release.folder.join(format!("netd_{version}_{architecture}.deb"));
    let mut dpkg_deb = Command::new("dpkg-deb");
    dpkg_deb.args(["--root-owner-group", "-Zxz", "--build"]).arg(&root).arg(&deb);
    // dpkg-deb itself sorts, and lets no file be younger than this.
    process::output(dpkg_deb.env("SOURCE_DATE_EPOCH", release.epoch.to_string()))?;
    require_file(&deb)?;
    fs::remove_dir_all(&staging)?;
    Ok(deb)
}

/// What takes the places of `@NAME@` in the control file.
struct Control<'a> {
    version: &'a str,
    architecture: &'a str,
    depends: String,
    installed_size: u64,
}

fn add_control(release: &Release, folder: &Path, control: &Control<'_>) -> Result<()> {
    let text = |name: &str| {
        let path = release.source(TEXTS).join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let filled = text("control")?
        .replace("@VERSION@", control.version)
        .replace("@ARCHITECTURE@", control.architecture)
        .replace("@DEPENDS@", &control.depends)
        .replace("@INSTALLED_SIZE@", &control.installed_size.to_string());
    tree::write(&folder.join("control"), filled)?;
    tree::write(&folder.join("conffiles"), format!("/{CONFFILE}\n"))?;
    for script in SCRIPTS {
        tree::write(&folder.join(script), text(script)?)?;
        fs::set_permissions(folder.join(script), Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// The copyright file and a changelog in Debian's form, which every package has.
fn add_documents(release: &Release, folder: &Path, version: &str) -> Result<()> {
    fs::copy(release.source(TEXTS).join("copyright"), folder.join("copyright"))?;
    tree::compress(&folder.join("COMPLIANCE.md"))?;
    tree::compress(&folder.join("CHANGELOG.md"))?;
    let control = fs::read_to_string(release.source(TEXTS).join("control"))?;
    let maintainer = control.lines().find_map(|line| line.strip_prefix("Maintainer: "));
    let maintainer = maintainer.context("the control file names no maintainer")?;
    let date = format!("--date=@{}", release.epoch);
    let date = process::output(Command::new("date").args(["--utc", "--rfc-email", &date]))?;
    let entry = format!(
        "netd ({version}) unstable; urgency=medium\n\n  * CHANGELOG.md.gz says what has changed.\n\n \
         -- {maintainer}  {date}"
    );
    let changelog = folder.join("changelog");
    tree::write(&changelog, entry)?;
    tree::compress(&changelog)
}

/// The packages whose libraries the program was linked with, by dpkg-shlibdeps(1).
fn dependencies(staging: &Path, program: &Path) -> Result<String> {
    // It wants to be in a source package.
    tree::write(
        &staging.join("debian/control"),
        "Source: netd\n\nPackage: netd\nArchitecture: any\n",
    )?;
    let mut shlibdeps = Command::new("dpkg-shlibdeps");
    let answer = process::output(shlibdeps.current_dir(staging).arg("-O").arg(program))?;
    let depends = answer.trim().strip_prefix("shlibs:Depends=");
    depends.map(str::to_owned).context("dpkg-shlibdeps has found no library")
}

/// The space that files need, by Debian's rule: each in whole KiB, and one for everything else.
fn kibibytes(path: &Path) -> Result<u64> {
    let mut sum = 1;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        sum += if entry.file_type()?.is_dir() {
            kibibytes(&entry.path())?
        } else {
            entry.metadata()?.len().div_ceil(1024)
        };
    }
    Ok(sum)
}
