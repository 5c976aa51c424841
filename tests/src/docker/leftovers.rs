//! What a dockerd leaves running when its test ends, or is killed: shims, containers, proxies.

use std::{collections::BTreeSet, env, fs, path::Path};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Ends what test processes that were killed have left running.
pub(super) fn remove() {
    let own = std::process::id();
    let folder = env::temp_dir();
    for pid in processes() {
        for dir in folders_of(pid, &folder.to_string_lossy()) {
            let owner = dir.split('-').nth(1).and_then(|owner| owner.parse::<u32>().ok());
            if owner.is_some_and(|it| it != own && !Path::new(&format!("/proc/{it}")).exists()) {
                end_processes(&dir);
            }
        }
    }
}

/// The folders of tests that a process sees as mounts.
fn folders_of(pid: i32, folder: &str) -> BTreeSet<String> {
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    let start = format!("{folder}/ntd-");
    let folders = mounts.split(&[' ', ',', '=', ':']).filter(|word| word.starts_with(&start));
    folders.filter_map(|word| Some(word.split_once("/docker")?.0.to_owned())).collect()
}

/// Ends every process that lives in the mount namespace of a test's dockerd, and their children: containers.
pub(super) fn end_processes(dir: &str) {
    let lives_there = |pid: &i32| {
        let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
        mounts.contains(dir)
    };
    let mut ended: BTreeSet<i32> = processes().filter(lives_there).collect();
    loop {
        let is_child = |pid: &i32| parent(*pid).is_some_and(|parent| ended.contains(&parent));
        let children: Vec<i32> =
            processes().filter(is_child).filter(|it| !ended.contains(it)).collect();
        if children.is_empty() {
            break;
        }
        ended.extend(children);
    }
    for pid in ended {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

pub(super) fn processes() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

pub(super) fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
