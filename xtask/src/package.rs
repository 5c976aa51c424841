//! `cargo xtask package`: what is given to users, a Debian package and an archive with a static program.
//!
//! Everything below `target/package`. The same checkout makes the same bytes: times are those of
//! `SOURCE_DATE_EPOCH` or of the last commit, and nothing depends on the order of a folder.

mod archive;
mod check;
mod deb;
mod musl;
mod tree;

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    build, process,
    programs::{self, Purpose},
    workspace::Workspace,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Also makes an archive with a program that needs no libraries (musl)
    #[arg(long = "static")]
    with_static: bool,
    /// Also installs, upgrades, removes and purges the package in a Debian system of its own
    #[arg(long)]
    check: bool,
}

/// What all packages are made of.
struct Release {
    version: String,
    /// What time it is in the packages. Units: seconds since 1970.
    epoch: u64,
    /// The checkout.
    root: PathBuf,
    /// Where packages are made.
    folder: PathBuf,
}

/// Makes the packages and prints their paths.
///
/// # Errors
/// Fails if something cannot be built, or the package does not do what it should.
pub(crate) fn package(workspace: &Workspace, args: &Args) -> Result<()> {
    programs::require(Purpose::Package)?;
    if args.check {
        programs::require(Purpose::PackageCheck)?;
    }
    let release = Release::of(workspace)?;
    let netd = build::build(workspace, &build::Args::plain(true))?;
    let deb = deb::make(&release, &netd, &release.version)?;
    println!("{}", deb.display());
    if args.with_static {
        println!("{}", archive::make(&release, &musl::build(workspace)?)?.display());
    }
    if args.check {
        require_same_bytes(&deb, || deb::make(&release, &netd, &release.version))?;
        // The same program by a higher version.
        let next = deb::make(&release, &netd, &format!("{}+check", release.version))?;
        check::check(&release, &deb, &next)?;
        fs::remove_file(next)?;
    }
    Ok(())
}

/// Fails if a package that is made once more is another one.
fn require_same_bytes(package: &Path, again: impl FnOnce() -> Result<PathBuf>) -> Result<()> {
    let first = fs::read(package)?;
    if fs::read(again()?)? != first {
        bail!("{} was made twice, and differs", package.display());
    }
    Ok(())
}

impl Release {
    fn of(workspace: &Workspace) -> Result<Self> {
        let folder = workspace.target().join("package");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self {
            // All members have the workspace's.
            version: env!("CARGO_PKG_VERSION").to_owned(),
            epoch: epoch(workspace)?,
            root: workspace.root().to_owned(),
            folder,
        })
    }

    /// A file of `netd/packaging`, or of the checkout's top folder.
    fn source(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// An empty folder to put a package together in.
    fn staging(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }
}

/// Source: reproducible-builds.org's specification of `SOURCE_DATE_EPOCH`.
fn epoch(workspace: &Workspace) -> Result<u64> {
    let text = match env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text,
        Err(_) => process::output(workspace.command("git").args(["log", "-1", "--format=%ct"]))
            .context("without a git history, set SOURCE_DATE_EPOCH")?,
    };
    text.trim().parse().with_context(|| format!("{:?} is no SOURCE_DATE_EPOCH", text.trim()))
}

/// Fails unless a file exists; names it.
fn require_file(path: &Path) -> Result<()> {
    if !path.is_file() {
        bail!("{} has not been made", path.display());
    }
    Ok(())
}
