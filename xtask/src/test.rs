//! `cargo xtask test`: every test there is, or the layers asked for.
//!
//! Tests are always compiled as the calling user. Those that need root are then started through
//! sudo, by cargo's own `runner` setting; cargo itself never runs as root because of us.

mod reasons;

use std::{env, ffi::OsString, process::Command, thread};

use anyhow::{Result, bail};

use crate::{
    build, docker,
    ebpf::{self, Flavour},
    process,
    programs::{self, Purpose},
    workspace::Workspace,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which tests to run; may be given more than once
    #[arg(long = "layer", value_name = "LAYER", value_delimiter = ',', default_value = "all")]
    layers: Vec<Layer>,
    /// Runs only tests whose name contains this
    filter: Option<String>,
    /// Arguments for the test programs
    #[arg(last = true)]
    test_args: Vec<OsString>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Layer {
    /// Pure code; needs neither root nor a kernel with BPF
    Unit,
    /// Packets through the eBPF programs, without a network
    Datapath,
    /// The daemon in network namespaces
    System,
    /// All of them
    All,
}

/// What libtest reads how many tests are to run at once from.
const TEST_THREADS: &str = "RUST_TEST_THREADS";

/// The data paths that there are, in the words of `netd run --datapath`.
pub(crate) const DATA_PATHS: [&str; 2] = ["fast", "stack"];

/// What no packet takes part in, or the same of either data path: done in the first one only.
const OF_NO_DATA_PATH: [&str; 25] = [
    "command_line::",
    "configuration::",
    "data_path_choice::",
    "doctor::",
    "docker_host::inside::",
    "docker_host::lifecycle::",
    "docker_host::measure::",
    "docker_host::moby::etchosts::",
    "docker_host::moby::mac_addr::",
    "docker_host::moby::network_addresses::",
    "docker_host::moby::network_ports::",
    "docker_host::moby::resolvconf::",
    "docker_host::names::",
    "docker_host::nonsense::",
    "docker_host::settings::",
    "fail_points::",
    "failures::",
    "from_wherever_a_daemon_died_on_the_way",
    "host_clients::",
    "many_daemons::",
    "port_reservation::",
    "privileges::",
    "service_manager::",
    "state::",
    "stopping::",
];

/// The data path that was asked for, or all of them.
pub(crate) fn chosen(data_path: Option<&str>) -> Vec<&str> {
    data_path.map_or(DATA_PATHS.to_vec(), |data_path| vec![data_path])
}

impl Layer {
    /// The data paths that the layer's tests run in, one run for each.
    fn data_paths(self) -> &'static [&'static str] {
        match self {
            Self::System => &DATA_PATHS,
            Self::Unit | Self::Datapath | Self::All => &DATA_PATHS[..1],
        }
    }
}

/// Runs the layers one after the other, all of them even if an early one fails.
///
/// # Errors
/// Fails if something is missing, does not compile, or a test fails.
pub(crate) fn test(workspace: &Workspace, args: &Args) -> Result<()> {
    let is_wanted =
        |layer: &Layer| args.layers.contains(layer) || args.layers.contains(&Layer::All);
    let layers: Vec<Layer> =
        [Layer::Unit, Layer::Datapath, Layer::System].into_iter().filter(is_wanted).collect();
    require_programs(&layers)?;

    prepare(workspace, &layers)?;

    reasons::forget(workspace)?;
    let mut failed = Vec::new();
    for &layer in &layers {
        for data_path in layer.data_paths() {
            let mut cargo = cargo_test(workspace, layer, data_path, &[])?;
            cargo.args(&args.filter).arg("--").args(&args.test_args);
            if *data_path != DATA_PATHS[0] {
                cargo.args(OF_NO_DATA_PATH.iter().flat_map(|name| ["--skip", name]));
            }
            if let Err(error) = process::run(&mut cargo) {
                failed.push(format!("{error:#}"));
            }
        }
    }
    let is_whole = layers.len() == 3 && args.filter.is_none() && args.test_args.is_empty();
    if let Err(error) = reasons::report(workspace, is_whole) {
        failed.push(format!("{error:#}"));
    }
    if !failed.is_empty() {
        bail!("{}", failed.join("\n"));
    }
    Ok(())
}

/// Builds what the layers need. Systems with a dockerd are made meanwhile, which is mostly waiting for packages.
fn prepare(workspace: &Workspace, layers: &[Layer]) -> Result<()> {
    if layers == [Layer::Unit] {
        // The daemon's own unit tests embed the object too.
        return ebpf::build(workspace, Flavour::Plain).map(drop);
    }
    let has_system = layers.contains(&Layer::System);
    thread::scope(|scope| {
        let systems = has_system.then(|| scope.spawn(|| docker::ensure(workspace)));
        let plain = || build::Args::plain(false);
        if has_system {
            build::build(workspace, &build::Args { packet_log: true, ..plain() })?;
            build::build(workspace, &build::Args { other_layout: true, ..plain() })?;
        }
        build::build(workspace, &plain())?;
        systems.map_or(Ok(()), process::join)
    })
}

/// Runs one test of the system layer with settings that it reads, and shows what it prints.
///
/// # Errors
/// Fails as [`test`] does.
pub(crate) fn system_test(
    workspace: &Workspace,
    name: &str,
    data_paths: &[&str],
    settings: &[(&str, String)],
) -> Result<()> {
    require_programs(&[Layer::System])?;
    build::build(workspace, &build::Args::plain(false))?;
    for data_path in data_paths {
        let mut cargo = cargo_test(workspace, Layer::System, data_path, settings)?;
        process::run(cargo.args(["--", "--exact", "--nocapture", name]))?;
    }
    Ok(())
}

fn require_programs(layers: &[Layer]) -> Result<()> {
    // The last layer needs all that the one before it does.
    if layers.contains(&Layer::System) {
        return programs::require(Purpose::System);
    }
    if layers.contains(&Layer::Datapath) {
        return programs::require(Purpose::Datapath);
    }
    Ok(())
}

fn cargo_test(
    workspace: &Workspace,
    layer: Layer,
    data_path: &str,
    settings: &[(&str, String)],
) -> Result<Command> {
    let mut cargo = workspace.cargo_build("test");
    cargo.arg("--no-fail-fast");
    match layer {
        Layer::Unit | Layer::All => {
            cargo.args(["--package", "netd-common", "--package", "netd", "--package", "xtask"]);
        }
        Layer::Datapath => {
            cargo.args(["--package", "netd-tests", "--lib", "--test", "datapath"]);
        }
        Layer::System => {
            cargo.args(["--package", "netd-tests", "--test", "system"]);
            if env::var_os(TEST_THREADS).is_none() {
                cargo.env(TEST_THREADS, system_test_threads().to_string());
            }
        }
    }
    cargo.env("NETD_BIN", workspace.netd(false));
    cargo.env("NETD_PACKET_LOG_BIN", workspace.netd_in(Flavour::PacketLog, false));
    cargo.env("NETD_OTHER_LAYOUT_BIN", workspace.netd_in(Flavour::OtherLayout, false));
    cargo.env("NETD_DOCKER_SYSTEMS", docker::folder(workspace));
    cargo.env("NETD_TEST_DATAPATH", data_path);
    cargo.env("NETD_EBPF_OBJECT", ebpf::path(workspace, Flavour::Plain));
    cargo.env(reasons::VARIABLE, reasons::file(workspace));
    cargo.envs(settings.iter().map(|(name, value)| (name, value)));
    if matches!(layer, Layer::Datapath | Layer::System) && !process::is_root() {
        let runner = as_root_runner(&cargo)?;
        cargo.arg("--config").arg(runner);
    }
    Ok(cargo)
}

/// How many tests of the system layer run at once: more than there are CPUs, for they wait about half of their
/// time.
fn system_test_threads() -> usize {
    thread::available_parallelism().map_or(1, |cpus| (cpus.get() * 5).div_ceil(2))
}

/// The setting that makes cargo start test programs through sudo.
///
/// `sudo -E` depends on the host's sudoers, so what tests read is handed over by env(1).
fn as_root_runner(cargo: &Command) -> Result<String> {
    let sudo_env = process::as_root("env")?;
    let mut words = vec![sudo_env.get_program().to_string_lossy().into_owned()];
    words.extend(sudo_env.get_args().map(|arg| arg.to_string_lossy().into_owned()));

    let ours =
        cargo.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
    for (name, value) in env::vars_os().chain(ours) {
        let name = name.to_string_lossy();
        if ["NETD_", "RUST_", "PROPTEST_"].iter().any(|prefix| name.starts_with(prefix)) {
            words.push(format!("{name}={}", value.to_string_lossy()));
        }
    }
    let words: Vec<String> = words.iter().map(|word| toml_string(word)).collect();
    Ok(format!("target.'cfg(all())'.runner = [{}]", words.join(", ")))
}

/// A TOML basic string.
fn toml_string(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_quoted_for_toml() {
        assert_eq!(toml_string(r#"a "b" \c"#), r#""a \"b\" \\c""#);
    }
}
