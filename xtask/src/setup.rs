//! `cargo xtask setup`: gets the system programs that the other commands call.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{
    process,
    programs::{self, Program, Purpose},
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Also what `cargo xtask vm` needs
    #[arg(long)]
    vm: bool,
    /// Also what `cargo xtask package --check` needs
    #[arg(long)]
    package: bool,
}

/// Installs what is missing with apt, or names it where there is no apt.
///
/// # Errors
/// Fails if something is missing afterwards.
pub(crate) fn setup(args: &Args) -> Result<()> {
    let extra = [(args.vm, Purpose::Vm), (args.package, Purpose::PackageCheck)];
    let wanted: Vec<Purpose> =
        extra.iter().filter(|(is_wanted, _)| *is_wanted).map(|(_, purpose)| *purpose).collect();
    let missing = programs::missing(&wanted);
    if missing.is_empty() {
        eprintln!("xtask: every system program is there");
        return Ok(());
    }
    if programs::find("apt-get").is_none() {
        bail!(
            "{}; here there is none, so install them by your own means",
            programs::describe(&missing)
        );
    }
    install(&missing)?;

    let still_missing = programs::missing(&wanted);
    if !still_missing.is_empty() {
        bail!("apt succeeded, but {}", programs::describe(&still_missing));
    }
    Ok(())
}

fn install(missing: &[&Program]) -> Result<()> {
    // Lists that are somewhat old still do, so a mirror that is away is not the end.
    if let Err(error) = process::run(apt_get()?.arg("update")) {
        eprintln!("xtask: {error:#}");
    }
    let mut packages: Vec<&str> =
        missing.iter().map(|program| known_package(program.packages)).collect();
    packages.sort_unstable();
    packages.dedup();

    let service = if packages.iter().any(|name| name.starts_with("nginx")) {
        Some(Service::hold_nginx()?)
    } else {
        None
    };
    let mut apt = apt_get()?;
    let installed =
        process::run(apt.args(["install", "--no-install-recommends", "--yes"]).args(&packages));
    if let Some(service) = service {
        service.release()?;
    }
    installed.with_context(|| format!("apt could not install {}", packages.join(", ")))
}

fn apt_get() -> Result<Command> {
    let mut command = process::as_root("env")?;
    // RUNLEVEL tells the start scripts of a system without systemd to start nothing.
    command.args(["DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get"]);
    Ok(command)
}

/// The first of some packages that apt can install, or else the first.
fn known_package(packages: &'static [&'static str]) -> &'static str {
    let is_known = |name: &&&str| {
        let shown = process::output(Command::new("apt-cache").args(["show", name]));
        shown.is_ok_and(|text| !text.trim().is_empty())
    };
    packages.iter().find(is_known).or(packages.first()).copied().unwrap_or_default()
}

/// Keeps the nginx that is about to be installed from serving: the tests start their own in a
/// namespace, and on the host it would take port 80.
struct Service {
    by_systemd: bool,
}

impl Service {
    fn hold_nginx() -> Result<Self> {
        let by_systemd = Path::new("/run/systemd/system").is_dir();
        if by_systemd {
            process::run(process::as_root("systemctl")?.args(["mask", "--runtime", "nginx"]))?;
        }
        Ok(Self { by_systemd })
    }

    fn release(self) -> Result<()> {
        if self.by_systemd {
            process::run(process::as_root("systemctl")?.args(["unmask", "--runtime", "nginx"]))?;
            // Fails only where the package brought no service; then nothing is left to do.
            let _ = process::run(process::as_root("systemctl")?.args(["disable", "nginx"]));
        }
        Ok(())
    }
}
