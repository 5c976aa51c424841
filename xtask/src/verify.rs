//! `cargo xtask verify`: what the running kernel's verifier says about every program, and whether that is
//! still within the bounds that are committed (`bounds`).
//!
//! Programs are loaded and dropped again; nothing is attached, and nothing stays.

mod bounds;

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow, bail};
use aya::{
    Ebpf, EbpfLoader,
    programs::{Program, ProgramError},
};
use nix::sched::{CloneFlags, unshare};

use crate::{
    bpf_object::BpfObject,
    ebpf::{self, Flavour},
    mounts, process, stack_depth,
    verify::bounds::{Bounds, Cost},
    workspace::Workspace,
};

/// How much of a verifier's log is shown: what it ends with is the reason.
const LOG_LINES: usize = 60;

const PINS: &str = "/sys/fs/bpf";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Verifies this object rather than building one
    #[arg(long, value_name = "FILE")]
    object: Option<PathBuf>,
    /// Verifies the object that logs each packet
    #[arg(long, conflicts_with_all = ["object", "accept"])]
    packet_log: bool,
    /// Takes what the programs cost as the bounds to hold them to
    #[arg(long)]
    accept: bool,
    /// Only prints; so does --packet-log, whose programs have no bounds
    #[arg(long, conflicts_with = "accept")]
    unbounded: bool,
    /// Set where xtask calls itself through sudo, so that a sudo that gives no root ends there
    #[arg(long, hide = true)]
    through_sudo: bool,
}

/// Prints one row for each program.
///
/// # Errors
/// Fails if a program does not pass the verifier or costs more than its bound, after all of them were tried.
pub(crate) fn verify(workspace: &Workspace, args: &Args) -> Result<()> {
    let object = match &args.object {
        Some(object) => object.clone(),
        None => ebpf::build(
            workspace,
            if args.packet_log { Flavour::PacketLog } else { Flavour::Plain },
        )?,
    };
    if !process::is_root() && !args.through_sudo {
        // Built as the user, loaded as root.
        let xtask = env::current_exe().context("cannot tell where xtask is")?;
        let mut again = process::as_root(xtask)?;
        again.args(["verify", "--through-sudo", "--object"]).arg(&object);
        let flags = [("--accept", args.accept), ("--unbounded", args.unbounded || args.packet_log)];
        again.args(flags.iter().filter(|flag| flag.1).map(|flag| flag.0));
        return process::run(&mut again);
    }
    let costs = load_all(&object)?;
    if args.accept {
        return bounds::accept(workspace, costs);
    }
    if args.unbounded || args.packet_log { Ok(()) } else { bounds::check(workspace, &costs) }
}

/// Prints a row for each program: what they cost.
fn load_all(path: &Path) -> Result<Bounds> {
    let object = BpfObject::read(path)?;
    mount_private_bpffs()?;
    let mut ebpf = EbpfLoader::new()
        .default_map_pin_directory(PINS)
        .load_file(path)
        .with_context(|| format!("cannot load {}", path.display()))?;

    println!(
        "{:<24} {:>10} {:>12} {:>14} {:>13}",
        "program", "verified", "stack", "translated", "jited"
    );
    let (mut costs, mut refused) = (Bounds::new(), Vec::new());
    for name in program_names(&ebpf) {
        let program = ebpf.program_mut(&name).context("a program is gone")?;
        match load(program).and_then(|()| measure(&object, &name, program)) {
            Ok(cost) => _ = costs.insert(name, cost),
            Err(error) => {
                println!("{name:<24} refused");
                eprintln!("{name}: {error:#}");
                refused.push(name);
            }
        }
    }
    println!(
        "\nverified: instructions walked by the verifier; stack: bytes of {} on the deepest chain \
         of calls, read from the object; translated and jited: bytes.",
        stack_depth::LIMIT_BYTES
    );
    if !refused.is_empty() {
        bail!("the kernel refuses {}", refused.join(", "));
    }
    Ok(costs)
}

fn program_names(ebpf: &Ebpf) -> Vec<String> {
    let mut names: Vec<String> = ebpf.programs().map(|(name, _)| name.to_owned()).collect();
    names.sort();
    names
}

/// Loads a program of one of the kinds that netd has; one of another kind needs its line here.
fn load(program: &mut Program) -> Result<()> {
    let loaded = if let Program::SchedClassifier(program) = program {
        program.load()
    } else if let Program::CgroupSockAddr(program) = program {
        program.load()
    } else if let Program::CgroupSock(program) = program {
        program.load()
    } else if let Program::CgroupSkb(program) = program {
        program.load()
    } else if let Program::Xdp(program) = program {
        program.load()
    } else if let Program::SkLookup(program) = program {
        program.load()
    } else {
        bail!("xtask does not know how to load a {:?} program", program.prog_type());
    };
    loaded.map_err(explain)
}

/// Says why in the verifier's last lines; the whole log may have a million.
fn explain(error: ProgramError) -> anyhow::Error {
    if let ProgramError::LoadError { io_error, verifier_log } = &error {
        let log = verifier_log.to_string();
        let lines: Vec<&str> = log.lines().collect();
        let end = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
        return anyhow!("{io_error}; the verifier's log ends with\n{end}");
    }
    error.into()
}

/// Prints a program's row.
fn measure(object: &BpfObject, name: &str, program: &Program) -> Result<Cost> {
    let info = program.info().context("the kernel says nothing about it")?;
    let at = object.find(name).context("the object has no such function")?;
    let stack = stack_depth::total_bytes(&stack_depth::deepest_chain(object, at));
    let verified = info.verified_instruction_count();
    let number = |value: Option<u32>| value.map_or_else(|| "-".to_owned(), |n| n.to_string());
    println!(
        "{name:<24} {:>10} {stack:>12} {:>14} {:>13}",
        number(verified),
        number(info.size_translated()),
        info.size_jitted(),
    );
    Ok(Cost { verified: verified.context("this kernel does not say what it walked")?, stack })
}

/// Gives this process a BPF file system of its own, for maps that ask to be pinned: apart from
/// those of a running daemon, there even where the host has none mounted, and gone with us.
fn mount_private_bpffs() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("cannot leave the mount namespace")?;
    mounts::make_private()?;
    mounts::mount_over(PINS, "bpf")
}
