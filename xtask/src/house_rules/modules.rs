//! Which module of the daemon may know what.
//!
//! The tables below are the architecture: a row that has to change is a change of its own, with its
//! reason. The check reads the source as text, without comments and without unit tests; that is
//! enough for code that does not try to hide a dependency.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// External crates and the one module tree that may name them.
const CONFINED: &[(&str, &str)] = &[
    ("aya", "datapath"),
    ("aya_log", "datapath"),
    ("aya_obj", "datapath"),
    ("rtnetlink", "netlink"),
    ("netlink_packet_core", "netlink"),
    ("netlink_packet_route", "netlink"),
    ("bollard", "docker"),
];

/// Modules that only compute: given the same arguments they give the same answer.
const PURE: &[&str] = &[
    "model",
    "port_spec",
    "driver_options",
    "ipam",
    "desired",
    "reconcile",
    "firewall",
    "data_path",
    "backup",
    "errors",
];

/// What pure modules may not name. `Duration` is a value; asking for the time is not.
const IMPURE: &[&str] =
    &["tokio", "aya", "rtnetlink", "std::fs", "std::process", "Instant", "SystemTime"];

/// Modules and the modules of the daemon that each may name. A module without a row may name all.
const EDGES: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("errors", &[]),
    ("firewall", &[]),
    ("data_path", &["firewall", "model"]),
    ("port_spec", &["model"]),
    ("driver_options", &["model"]),
    ("ipam", &["model"]),
    // It answers in the objects that travel on the socket.
    ("desired", &["api", "driver_options", "ids", "ipam", "model", "port_spec"]),
    // What a document holds is planned once more, as requests are.
    ("backup", &["api", "desired", "driver_options", "ids", "ipam", "model", "port_spec"]),
    // The socket's language stands on its own, so that a client can be built from it alone.
    ("api", &["clock", "data_path", "model", "port_spec"]),
    ("client", &["api", "model"]),
    ("server", &["api", "controller"]),
];

pub(super) fn violations(source: &Path) -> Result<Vec<String>> {
    let mut violations = Vec::new();
    for file in rust_files(source)? {
        let text =
            fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let path = file.strip_prefix(source).unwrap_or(&file).to_string_lossy();
        violations.extend(check(&path, &text));
    }
    Ok(violations)
}

/// Checks one file, given by its path under `src`.
fn check(path: &str, text: &str) -> Vec<String> {
    let module = path.split('/').next().unwrap_or(path).trim_end_matches(".rs");
    let code = code_only(text);
    let mut found = Vec::new();
    for (name, home) in CONFINED {
        if module != *home && names(&code, name) {
            found.push(format!("netd/src/{path} names {name}, which only {home} may"));
        }
    }
    if PURE.contains(&module) {
        let impure = IMPURE.iter().filter(|name| names(&code, name));
        found.extend(impure.map(|name| format!("netd/src/{path} is pure but names {name}")));
    }
    if let Some((_, allowed)) = EDGES.iter().find(|(from, _)| *from == module) {
        let foreign = crate_modules(&code).into_iter().filter(|to| {
            to != module && to.starts_with(char::is_lowercase) && !allowed.contains(&to.as_str())
        });
        found.extend(foreign.map(|to| {
            format!("netd/src/{path} may not name crate::{to} (the table is in {})", file!())
        }));
    }
    found
}

/// The source without line comments and without the unit tests at its end.
fn code_only(text: &str) -> String {
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// Whether `code` has `name` as a path's beginning (`aya::Ebpf`) or as a type of its own.
fn names(code: &str, name: &str) -> bool {
    let is_type = name.starts_with(char::is_uppercase);
    code.match_indices(name).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + name.len()..]);
        let starts = !before.ends_with(is_word) && (is_type || !before.ends_with(':'));
        let ends = if is_type {
            !after.starts_with(is_word)
        } else {
            after.starts_with("::") || after.starts_with(';')
        };
        starts && ends
    })
}

/// The modules that `crate::x` and `crate::{x, y::Z}` name, each once.
fn crate_modules(code: &str) -> Vec<String> {
    let mut modules: Vec<String> = Vec::new();
    for (at, prefix) in code.match_indices("crate::") {
        let rest = &code[at + prefix.len()..];
        let items = match rest.strip_prefix('{') {
            Some(group) => top_level_items(group),
            None => vec![rest],
        };
        for item in items {
            let end = item.find(|c| !is_word(c)).unwrap_or(item.len());
            let module = item[..end].to_owned();
            if !module.is_empty() && !modules.contains(&module) {
                modules.push(module);
            }
        }
    }
    modules
}

/// Splits `a::{b, c}, d}...` at the commas of its own level, up to its closing brace.
fn top_level_items(group: &str) -> Vec<&str> {
    let (mut depth, mut start) = (0_u32, 0);
    let mut items = Vec::new();
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                items.push(group[start..at].trim());
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.push(group[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    items
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && !path.ends_with("tests.rs")
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests;
