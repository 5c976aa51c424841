//! The system programs that xtask and the tests call, and the Debian package each comes in.

use std::{
    env,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};

/// What a program is needed for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The commands that `cargo xtask run` prints.
    QuickStart,
    /// `cargo xtask demo`.
    Demo,
    /// Unpacking the standard library's source.
    Toolchain,
    /// The datapath tests.
    Datapath,
    /// The system tests.
    System,
    /// The benchmark.
    Bench,
    /// The virtual machines.
    Vm,
    /// The packages.
    Package,
    /// The Debian system that a package is tried in.
    PackageCheck,
}

/// A program, the packages that have it and what needs it.
pub(crate) struct Program {
    pub(crate) name: &'static str,
    /// The first one that the system knows is the right one.
    pub(crate) packages: &'static [&'static str],
    purposes: &'static [Purpose],
}

use Purpose::{Bench, Datapath, Demo, Package, PackageCheck, QuickStart, System, Toolchain, Vm};

/// What not everybody wants on his disk, with the option of `cargo xtask setup` that installs it.
const EXTRA: [(Purpose, &str); 2] = [(Vm, "--vm"), (PackageCheck, "--package")];

const PROGRAMS: &[Program] = &[
    program("ip", &["iproute2"], &[QuickStart, Demo, Datapath, System, Bench]),
    program("curl", &["curl"], &[QuickStart, Demo, System]),
    program("python3", &["python3"], &[QuickStart, Demo, System]),
    program("tar", &["tar"], &[Toolchain, Package]),
    program("xz", &["xz-utils"], &[Toolchain, Package]),
    program("nft", &["nftables"], &[System]),
    program("iptables", &["iptables"], &[System]),
    program("iptables-nft-restore", &["iptables"], &[Bench]),
    program("iptables-legacy-restore", &["iptables"], &[System, Bench]),
    program("ip6tables-legacy-restore", &["iptables"], &[System]),
    program("iperf3", &["iperf3"], &[System, Bench]),
    program("nginx", &["nginx-light", "nginx"], &[System, Bench]),
    program("wrk", &["wrk"], &[Bench]),
    program("ethtool", &["ethtool"], &[Bench]),
    // Debian 11 and Ubuntu 20.04 know it as dnsutils.
    program("dig", &["bind9-dnsutils", "dnsutils"], &[System]),
    program("dnsmasq", &["dnsmasq-base"], &[System]),
    program("ping", &["iputils-ping"], &[Demo, System]),
    program("socat", &["socat"], &[System]),
    program("nsenter", &["util-linux"], &[System, Bench]),
    program("setpriv", &["util-linux"], &[System, Bench]),
    program("taskset", &["util-linux"], &[Bench]),
    program("sysctl", &["procps"], &[System]),
    program("traceroute", &["traceroute"], &[System]),
    program("qemu-system-x86_64", &["qemu-system-x86"], &[Vm]),
    program("busybox", &["busybox-static"], &[System, Vm]),
    program("cpio", &["cpio"], &[Vm]),
    program("depmod", &["kmod"], &[Vm]),
    program("zstd", &["zstd"], &[Vm]),
    program("dpkg-deb", &["dpkg"], &[Package]),
    program("dpkg-shlibdeps", &["dpkg-dev"], &[Package]),
    program("gzip", &["gzip"], &[Package]),
    program("strip", &["binutils"], &[Package]),
    program("mmdebstrap", &["mmdebstrap"], &[System, PackageCheck]),
    program("unshare", &["util-linux"], &[System, PackageCheck]),
];

const fn program(
    name: &'static str,
    packages: &'static [&'static str],
    purposes: &'static [Purpose],
) -> Program {
    Program { name, packages, purposes }
}

impl Program {
    /// The option of `cargo xtask setup` that it is installed by, where nothing else needs it.
    fn option(&self) -> Option<&'static str> {
        let extra = EXTRA.iter().find(|(purpose, _)| self.purposes == [*purpose]);
        extra.map(|(_, option)| *option)
    }

    fn is_wanted(&self, extra: &[Purpose]) -> bool {
        self.option().is_none() || extra.iter().any(|purpose| self.purposes == [*purpose])
    }
}

/// Every program that is not there; what not everybody wants only where it is asked for.
pub(crate) fn missing(extra: &[Purpose]) -> Vec<&'static Program> {
    let wanted = PROGRAMS.iter().filter(|program| program.is_wanted(extra));
    wanted.filter(|program| find(program.name).is_none()).collect()
}

/// The programs for `purpose` that are not there.
pub(crate) fn missing_for(purpose: Purpose) -> Vec<&'static Program> {
    let mut programs = missing(&[purpose]);
    programs.retain(|program| program.purposes.contains(&purpose));
    programs
}

/// Checks that everything for `purpose` is there.
///
/// # Errors
/// Fails with a list of the missing programs, their packages and what to do.
pub(crate) fn require(purpose: Purpose) -> Result<()> {
    let missing = missing_for(purpose);
    if !missing.is_empty() {
        bail!("{}", describe(&missing));
    }
    Ok(())
}

/// Names each missing program with its package, and how to get them.
pub(crate) fn describe(missing: &[&Program]) -> String {
    let mut text = String::from("these programs are missing:\n");
    for program in missing {
        text +=
            &format!("  {:<23} Debian package {}\n", program.name, program.packages.join(" or "));
    }
    let mut options: Vec<&str> = missing.iter().filter_map(|program| program.option()).collect();
    options.sort_unstable();
    options.dedup();
    let options: String = options.iter().map(|option| format!(" {option}")).collect();
    text + &format!("`cargo xtask setup{options}` installs them where there is apt")
}

/// The package that has `program`, if it is one of ours.
pub(crate) fn package_of(program: &str) -> Option<&'static str> {
    let program = PROGRAMS.iter().find(|candidate| candidate.name == program)?;
    program.packages.first().copied()
}

/// Looks a program up on PATH, and where root's PATH has more than a user's.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    search_path().map(|folder| folder.join(name)).find(|file| is_executable(file))
}

/// The folders of PATH, and those that root's PATH has more than a user's.
pub(crate) fn search_path() -> impl Iterator<Item = PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(sbin).collect::<Vec<_>>().into_iter()
}

fn is_executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shell_is_found_and_nonsense_is_not() {
        assert!(find("sh").is_some());
        assert_eq!(find("no-such-program"), None);
    }

    #[test]
    fn missing_programs_are_listed_with_their_packages() {
        let dig = PROGRAMS.iter().find(|program| program.name == "dig").unwrap();
        let text = describe(&[dig]);
        assert!(
            text.contains("dig                     Debian package bind9-dnsutils or dnsutils"),
            "{text}"
        );
        assert!(text.contains("cargo xtask setup"), "{text}");
    }
}
