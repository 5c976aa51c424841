//! `cargo xtask run`: from a fresh clone to a running daemon, with something to try next.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{
    build,
    process::{self, quote},
    programs::{self, Purpose},
    workspace::Workspace,
};

/// The daemon's own default for `--socket`.
const SOCKET_VARIABLE: &str = "NETD_SOCKET";

/// The options of `netd run` that `netd stop --detach` needs when no daemon answers.
const DETACH_OPTIONS: [&str; 3] = ["--config", "--state-dir", "--bpffs"];

const PAGE: &str = "It works: this page came through netd.\n";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Logs each packet's verdict (development only)
    #[arg(long)]
    packet_log: bool,
    /// Arguments for `netd run`
    #[arg(last = true, value_name = "NETD_ARGS")]
    netd_args: Vec<OsString>,
}

/// Builds in release mode, says what to try and becomes the daemon.
///
/// # Errors
/// Fails if something cannot be built or the daemon cannot be started.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let build_args = build::Args { packet_log: args.packet_log, ..build::Args::plain(true) };
    let netd = build::build(workspace, &build_args)?;
    let missing = programs::missing_for(Purpose::QuickStart);
    if !missing.is_empty() {
        eprintln!(
            "xtask: the daemon runs, but for the commands below {}",
            programs::describe(&missing)
        );
    }

    let mut daemon = process::as_root(&netd)?;
    daemon.arg("run").args(&args.netd_args);
    let mut socket = value_of("--socket", &args.netd_args);
    if socket.is_none() {
        // sudo would not hand the variable on, and another terminal may not have it.
        socket = env::var(SOCKET_VARIABLE).ok().filter(|value| !value.is_empty());
        daemon.args(socket.iter().flat_map(|socket| ["--socket", socket]));
    }
    let quick_start = QuickStart {
        netd: as_typed(&netd),
        socket,
        detach_options: detach_options(&args.netd_args),
        page: write_page(workspace)?,
        sudo: !process::is_root(),
    };
    println!("{}", quick_start.text());
    // Ctrl-C and signals go to the daemon, and nothing stands in between.
    Err(process::replace_by(daemon))
}

/// What the user may paste into another terminal.
struct QuickStart {
    netd: String,
    socket: Option<String>,
    /// What `netd stop --detach` is told.
    detach_options: Vec<(&'static str, String)>,
    /// The folder of a web page.
    page: PathBuf,
    sudo: bool,
}

impl QuickStart {
    fn text(&self) -> String {
        let [first, second, third] = self.commands();
        let (sudo, netd, detach) = (self.sudo(), self.netd(), self.detach());
        format!(
            "\nOnce the log says ready, try in another terminal:\n\n  {first}\n  {second}\n  {third}\n\n\
             They attach a sandbox to a network, start a web server in it and fetch its page from \
             the host.\nCtrl-C ends the daemon, and traffic keeps flowing. Before that, this removes everything:\n\n  \
             {sudo}ip netns pids web | xargs -r {sudo}kill; {netd} network disconnect demo web; \
             {netd} network rm demo; {detach}; {sudo}ip netns del web\n"
        )
    }

    /// Three lines, each complete by itself, that work in this order.
    fn commands(&self) -> [String; 3] {
        let (sudo, netd, page) = (self.sudo(), self.netd(), quote(&self.page.to_string_lossy()));
        [
            format!(
                "{sudo}ip netns add web && {netd} network create demo && \
                 {netd} network connect demo web -p 8080:80"
            ),
            format!(
                "{sudo}ip netns exec web python3 -m http.server 80 --directory {page} >/dev/null 2>&1 &"
            ),
            // Pasted together with the line before, it arrives before the server listens.
            "curl --silent --retry 5 --retry-connrefused http://localhost:8080/".to_owned(),
        ]
    }

    fn netd(&self) -> String {
        let socket = self.socket.as_deref().map(|path| format!(" --socket {}", quote(path)));
        format!("{}{}{}", self.sudo(), quote(&self.netd), socket.unwrap_or_default())
    }

    /// Ends and removes everything, also after the daemon has ended.
    fn detach(&self) -> String {
        let options = self.detach_options.iter();
        let options = options.map(|(name, value)| format!(" {name} {}", quote(value)));
        format!("{} stop --detach{}", self.netd(), options.collect::<String>())
    }

    fn sudo(&self) -> &'static str {
        if self.sudo { "sudo " } else { "" }
    }
}

/// The value of an option among the daemon's arguments.
fn value_of(option: &str, args: &[OsString]) -> Option<String> {
    let args: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
    let joined = |arg: &str| arg.strip_prefix(option)?.strip_prefix('=').map(str::to_owned);
    let apart = || args.windows(2).find(|pair| pair[0] == option).map(|pair| pair[1].to_string());
    args.iter().find_map(|arg| joined(arg)).or_else(apart)
}

fn detach_options(args: &[OsString]) -> Vec<(&'static str, String)> {
    let given = |name| value_of(name, args).map(|value| (name, value));
    DETACH_OPTIONS.into_iter().filter_map(given).collect()
}

/// `netd` where PATH leads to the one just built, else its absolute path.
fn as_typed(netd: &Path) -> String {
    let on_path = programs::find("netd").and_then(|found| found.canonicalize().ok());
    let is_ours = on_path.is_some() && on_path == netd.canonicalize().ok();
    if is_ours { "netd".to_owned() } else { netd.display().to_string() }
}

fn write_page(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.target().join("demo");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    fs::write(folder.join("index.html"), PAGE).context("cannot write the page")?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(args: &[&str]) -> Vec<OsString> {
        args.iter().map(OsString::from).collect()
    }

    #[track_caller]
    fn check_socket(args: &[&str], expected: Option<&str>) {
        assert_eq!(value_of("--socket", &arguments(args)).as_deref(), expected);
    }

    #[test]
    fn the_daemons_socket_is_found_in_both_forms() {
        check_socket(&[], None);
        check_socket(&["--takeover", "--socket", "/tmp/a"], Some("/tmp/a"));
        check_socket(&["--socket=/tmp/b"], Some("/tmp/b"));
        check_socket(&["--socket"], None);
        check_socket(&["--sockets=/tmp/c"], None);
    }

    #[test]
    fn the_removal_says_where_the_daemon_kept_its_things() {
        let mut quick_start = QuickStart {
            netd: "netd".to_owned(),
            socket: Some("/tmp/a".to_owned()),
            detach_options: Vec::new(),
            page: PathBuf::from("/page"),
            sudo: true,
        };
        assert!(
            quick_start
                .text()
                .contains("; sudo netd --socket /tmp/a stop --detach; sudo ip netns del web")
        );
        quick_start.detach_options = detach_options(&arguments(&[
            "--bpffs=/sys/fs/bpf/b",
            "--uplink",
            "eth0",
            "--state-dir",
            "/my state",
            "--config",
            "/tmp/c",
        ]));
        let expected = "; sudo netd --socket /tmp/a stop --detach --config /tmp/c \
            --state-dir '/my state' --bpffs /sys/fs/bpf/b; sudo ip netns del web";
        assert!(quick_start.text().contains(expected), "{}", quick_start.text());
    }

    #[test]
    fn the_commands_carry_sudo_the_socket_and_quotes() {
        let quick_start = QuickStart {
            netd: "/my clone/target/release/netd".to_owned(),
            socket: Some("/tmp/a".to_owned()),
            detach_options: Vec::new(),
            page: PathBuf::from("/page"),
            sudo: true,
        };
        let [first, second, _] = quick_start.commands();
        assert_eq!(
            first,
            "sudo ip netns add web && \
             sudo '/my clone/target/release/netd' --socket /tmp/a network create demo && \
             sudo '/my clone/target/release/netd' --socket /tmp/a network connect demo web -p 8080:80"
        );
        assert_eq!(
            second,
            "sudo ip netns exec web python3 -m http.server 80 --directory /page >/dev/null 2>&1 &"
        );
    }
}
