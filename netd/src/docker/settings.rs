//! How a dockerd was told to do its work: its command line and its `daemon.json`. Pure but for [`Settings::of`].
//!
//! Docker's API does not say whether dockerd programs iptables. Its command line and its file do, and dockerd
//! refuses to start where both name the same option.

use std::{collections::BTreeMap, fs, io, os::linux::fs::MetadataExt as _, path::Path};

use serde_json::Value;

use crate::model::FirewallMark;

/// Where dockerd looks for its file when nobody names one.
const DEFAULT_FILE: &str = "/etc/docker/daemon.json";

/// What a dockerd does itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    pub iptables: bool,
    /// None where nobody has said: it is off before Docker 27, and on since.
    pub ip6tables: Option<bool>,
    pub userland_proxy: bool,
    /// Whether docker0's containers are masqueraded: the API says no wherever iptables are off.
    pub ip_masq: bool,
    /// Published ports are reached at the containers' own addresses too, from every device (since Docker 28.2).
    pub allow_direct_routing: bool,
    /// What the host's firewall has marked so enters at any port (since Docker 29).
    pub accept_mark: Option<FirewallMark>,
}

impl Settings {
    /// Reads those of a process; none where its file has changed since it read it.
    ///
    /// # Errors
    /// Where the process or its file cannot be read.
    pub fn of(pid: i32) -> io::Result<Option<Self>> {
        let line = fs::read(format!("/proc/{pid}/cmdline"))?;
        let arguments: Vec<String> = line
            .split(|byte| *byte == 0)
            .map(|it| String::from_utf8_lossy(it).into_owned())
            .collect();
        let flags = flags(&arguments);
        let named = flags.get("config-file").map(String::as_str);
        // It may have another root than we have.
        let file = Path::new(named.unwrap_or(DEFAULT_FILE));
        let below = file.strip_prefix("/").unwrap_or(file);
        let file = Path::new(&format!("/proc/{pid}/root")).join(below);
        let text = match fs::read_to_string(&file) {
            Ok(_) if fs::metadata(&file)?.st_mtime() > started(pid)? => return Ok(None),
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        Ok(Some(Self::new(&flags, &text)))
    }

    /// Those of these flags and this file. A file that is no JSON is as good as none: dockerd does not start with it.
    fn new(flags: &BTreeMap<String, String>, file: &str) -> Self {
        let file: Value = serde_json::from_str(file).unwrap_or(Value::Null);
        let option = |name: &str| {
            let flag = flags.get(name).map(|value| is_true(value));
            flag.or_else(|| file.get(name).and_then(Value::as_bool))
        };
        let text = |name: &str| {
            let flag = flags.get(name).map(String::as_str);
            flag.or_else(|| file.get(name).and_then(Value::as_str))
        };
        Self {
            iptables: option("iptables").unwrap_or(true),
            ip6tables: option("ip6tables"),
            userland_proxy: option("userland-proxy").unwrap_or(true),
            ip_masq: option("ip-masq").unwrap_or(true),
            allow_direct_routing: option("allow-direct-routing").unwrap_or(false),
            accept_mark: text("bridge-accept-fwmark").and_then(|text| text.parse().ok()),
        }
    }
}

/// When a process was started. Units: seconds since 1970.
/// Source: proc_pid_stat(5), field 22, in ticks since boot; `btime` of proc_stat(5).
fn started(pid: i32) -> io::Result<i64> {
    /// USER_HZ of every architecture that netd is for.
    const TICKS: i64 = 100;
    let nonsense = || io::Error::from(io::ErrorKind::InvalidData);
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let ticks = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(19));
    let ticks: i64 = ticks.and_then(|it| it.parse().ok()).ok_or_else(nonsense)?;
    let machine = fs::read_to_string("/proc/stat")?;
    let boot = machine.lines().find_map(|line| line.strip_prefix("btime "));
    let boot: i64 = boot.and_then(|it| it.trim().parse().ok()).ok_or_else(nonsense)?;
    // Both are whole seconds: a file that is a second younger may be the one that was read.
    Ok(boot + ticks / TICKS + 1)
}

/// Of the options that are looked at, those with a value.
const WITH_VALUE: [&str; 2] = ["config-file", "bridge-accept-fwmark"];

/// Options as Docker takes them: `--name`, `--name=value`, `--name value`, where flags without a value are true.
fn flags(arguments: &[String]) -> BTreeMap<String, String> {
    let mut flags = BTreeMap::new();
    let mut rest = arguments.iter().peekable();
    while let Some(argument) = rest.next() {
        let Some(option) = argument.strip_prefix("--") else { continue };
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None if WITH_VALUE.contains(&option) => {
                (option, rest.next().cloned().unwrap_or_default())
            }
            None => (option, "true".to_owned()),
        };
        flags.insert(name.to_owned(), value);
    }
    flags
}

/// Go's `strconv.ParseBool`.
fn is_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

#[cfg(test)]
mod tests {
    use super::{Settings, flags};

    #[track_caller]
    fn check(line: &str, file: &str, expected: ([bool; 3], Option<bool>)) {
        let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let settings = Settings::new(&flags(&arguments), file);
        let found = [settings.iptables, settings.userland_proxy, settings.ip_masq];
        assert_eq!((found, settings.ip6tables), expected, "{line} {file}");
    }

    #[test]
    fn flags_and_file_say_what_dockerd_does() {
        check("dockerd -H fd://", "", ([true, true, true], None));
        check(
            "dockerd --iptables=false --userland-proxy=false --ip6tables=0",
            "",
            ([false, false, true], Some(false)),
        );
        check(
            "dockerd --config-file /x -H unix:///s",
            r#"{"iptables": false, "userland-proxy": false, "ip-masq": false}"#,
            ([false, false, false], None),
        );
        check("dockerd --iptables", r#"{"ip6tables": true}"#, ([true, true, true], Some(true)));
        check("dockerd", "{", ([true, true, true], None));
    }

    #[test]
    fn what_may_enter_is_read_from_either() {
        let read = |line: &str, file: &str| {
            let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let settings = Settings::new(&flags(&arguments), file);
            (settings.allow_direct_routing, settings.accept_mark.map(|mark| mark.to_string()))
        };
        let mark = Some("0x2/0x3".to_owned());
        assert_eq!(read("dockerd", ""), (false, None));
        assert_eq!(read("dockerd --bridge-accept-fwmark=2/3", ""), (false, mark.clone()));
        assert_eq!(read("dockerd --bridge-accept-fwmark 2/3 --debug", ""), (false, mark.clone()));
        let file = r#"{"allow-direct-routing": true, "bridge-accept-fwmark": "0x2/0x3"}"#;
        assert_eq!(read("dockerd", file), (true, mark));
        assert_eq!(
            read("dockerd --allow-direct-routing --bridge-accept-fwmark=x", ""),
            (true, None)
        );
    }
}
