//! The programs as the kernel runs them, without a network: loaded for one test, with maps of their own,
//! and run on frames by `BPF_PROG_TEST_RUN`.

pub mod flows;
pub mod maps;

use std::{collections::BTreeSet, env, fs, path::PathBuf, process::Command, thread};

use anyhow::{Context as _, Result, bail, ensure};
use aya::{
    Ebpf, EbpfLoader,
    maps::ProgramArray,
    programs::{
        CgroupSockAddr, Program, SchedClassifier, SkLookup, TestRun as _, TestRunOptions, Xdp,
    },
};
use netd_common::{names, reason::Verdict};
use nix::sched::{CloneFlags, unshare};

use crate::{process::run, reasons};

/// `TC_ACT_UNSPEC` of `linux/pkt_cls.h`: other programs have their say.
const PASS: u32 = u32::MAX;
/// `TC_ACT_SHOT`.
const DROP: u32 = 2;
/// `TC_ACT_REDIRECT`.
const REDIRECT: u32 = 7;

/// `XDP_DROP` of `linux/bpf.h`.
const XDP_DROP: u32 = 1;
/// `XDP_PASS`.
const XDP_PASS: u32 = 2;

/// The device that the kernel tries XDP programs on: the namespace's `lo`.
pub const WIRE: u32 = 1;

/// The object, loaded: programs and maps that are nobody else's.
pub struct Datapath {
    ebpf: Ebpf,
    /// The classifiers that have others to hand packets over to.
    complete: BTreeSet<String>,
}

/// The device whose hook a packet is at, and the one that it came in on.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The hook's device; it must be there in the calling thread's namespace.
    pub ifindex: u32,
    /// The device of entry; 0 where the host made the packet.
    pub ingress_ifindex: u32,
    /// How much payload each packet has that was merged into this one; 0 where it is one.
    pub segment_len: u32,
}

/// Where the kernel's `struct __sk_buff` has the fields that a test sets, in 32-bit words.
const INGRESS_IFINDEX: usize = 9;
const IFINDEX: usize = 10;
const GSO_SIZE: usize = 44;

impl Datapath {
    /// Loads the object; a connection table holds `max_halves` halves of flows.
    ///
    /// # Errors
    /// Where there is no object, or the kernel refuses a map.
    pub fn load(max_halves: u32) -> Result<Self> {
        let path = object_path();
        let object = fs::read(&path)
            .with_context(|| format!("no eBPF object at {}; build it first", path.display()))?;
        let ebpf = EbpfLoader::new()
            .map_max_entries("CONNTRACK_V4", max_halves)
            .map_max_entries("CONNTRACK_V6", max_halves)
            .load(&object)
            .with_context(|| format!("{} cannot be loaded", path.display()))?;
        Ok(Self { ebpf, complete: BTreeSet::new() })
    }

    /// Runs a classifier on a frame: the verdict, and the frame as it leaves.
    ///
    /// # Errors
    /// Where the program cannot be loaded or the kernel refuses to run it on this frame.
    pub fn run(&mut self, name: &str, place: Place, frame: &[u8]) -> Result<(Verdict, Vec<u8>)> {
        self.classifier(name)?;
        self.run_alone(name, place, frame)
    }

    /// The same with nobody to hand the packet over to.
    ///
    /// # Errors
    /// As for `run`.
    pub fn run_alone(
        &mut self,
        name: &str,
        place: Place,
        frame: &[u8],
    ) -> Result<(Verdict, Vec<u8>)> {
        let mut buffer = [0u32; GSO_SIZE + 1];
        buffer[INGRESS_IFINDEX] = place.ingress_ifindex;
        buffer[IFINDEX] = place.ifindex;
        buffer[GSO_SIZE] = place.segment_len;
        let (code, frame) = self.test_run(name, frame, Some(bytemuck::bytes_of(&buffer)), 1)?;
        match code {
            PASS => Ok((Verdict::Pass, frame)),
            DROP => Ok((Verdict::Drop, frame)),
            REDIRECT => Ok((Verdict::Redirect, frame)),
            code => bail!("{name} has returned {code}"),
        }
    }

    /// Gives the programs that a hook hands packets over to their places.
    fn put_parts(&mut self, hook: &str) -> Result<()> {
        for (place, name) in (0..).zip(names::PARTS) {
            let part = name.strip_prefix(hook);
            let is_of_hook = matches!(part, Some("" | "_v6" | "_rare_v4" | "_rare_v6"));
            if !is_of_hook {
                continue;
            }
            let program = self.alone(name)?.fd()?.try_clone()?;
            let map = self.ebpf.map_mut(names::PROGRAMS).context("no map of programs")?;
            ProgramArray::try_from(map)?.set(place, &program, 0)?;
        }
        Ok(())
    }

    /// Runs a classifier `repeat` times on the same frame: the last code, and what the frame has become.
    fn test_run(
        &mut self,
        name: &str,
        frame: &[u8],
        context: Option<&[u8]>,
        repeat: u32,
    ) -> Result<(u32, Vec<u8>)> {
        let mut after = vec![0; frame.len() + 64];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut after),
            ctx_in: context,
            repeat,
            ..TestRunOptions::default()
        };
        let result = self.alone(name)?.test_run(options)?;
        after.truncate(result.data_size_out as usize);
        Ok((result.return_value, after))
    }

    /// Runs an XDP program on a frame that came in on [`WIRE`], and sees to it that it leaves it as it is.
    ///
    /// # Errors
    /// Where the program cannot be loaded, changes the frame or answers strangely.
    pub fn run_on_frame(&mut self, name: &str, frame: &[u8]) -> Result<Verdict> {
        let mut after = vec![0; frame.len() + 64];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut after),
            ..TestRunOptions::default()
        };
        let result = self.xdp(name)?.test_run(options)?;
        after.truncate(result.data_size_out as usize);
        ensure!(after == frame, "{name} has changed the frame");
        match result.return_value {
            XDP_PASS => Ok(Verdict::Pass),
            XDP_DROP => Ok(Verdict::Drop),
            code => bail!("{name} has returned {code}"),
        }
    }

    /// An XDP program, loaded.
    ///
    /// # Errors
    /// Where there is none of that name or the verifier refuses it.
    pub fn xdp(&mut self, name: &str) -> Result<&mut Xdp> {
        let program: &mut Xdp = self.program(name)?.try_into()?;
        if program.fd().is_err() {
            program.load().with_context(|| format!("{name} cannot be loaded"))?;
        }
        Ok(program)
    }

    /// A classifier, loaded, as are those that it hands packets over to.
    ///
    /// # Errors
    /// Where there is none of that name or the verifier refuses it.
    pub fn classifier(&mut self, name: &str) -> Result<&mut SchedClassifier> {
        if self.complete.insert(name.to_owned()) {
            self.put_parts(name)?;
        }
        self.alone(name)
    }

    /// A classifier, loaded.
    fn alone(&mut self, name: &str) -> Result<&mut SchedClassifier> {
        let program: &mut SchedClassifier = self.program(name)?.try_into()?;
        if program.fd().is_err() {
            program.load().with_context(|| format!("{name} cannot be loaded"))?;
        }
        Ok(program)
    }

    /// Loads a socket hook.
    ///
    /// # Errors
    /// Where there is none of that name or the verifier refuses it.
    pub fn load_socket_hook(&mut self, name: &str) -> Result<()> {
        let program: &mut CgroupSockAddr = self.program(name)?.try_into()?;
        program.load().with_context(|| format!("{name} cannot be loaded"))
    }

    /// Loads the program that finds sockets.
    ///
    /// # Errors
    /// Where there is none of that name, or it is refused.
    pub fn load_socket_lookup(&mut self, name: &str) -> Result<()> {
        let program: &mut SkLookup = self.program(name)?.try_into()?;
        program.load().with_context(|| format!("{name} cannot be loaded"))
    }

    /// The names of all programs of the object.
    pub fn program_names(&self) -> Vec<String> {
        self.ebpf.programs().map(|(name, _)| name.to_owned()).collect()
    }

    fn program(&mut self, name: &str) -> Result<&mut Program> {
        self.ebpf.program_mut(name).with_context(|| format!("the object has no program {name}"))
    }
}

impl Drop for Datapath {
    fn drop(&mut self) {
        if let Ok(counters) = self.counters() {
            reasons::tell(&counters);
        }
    }
}

/// The object that `NETD_EBPF_OBJECT` names, or the one that `cargo xtask` has built.
pub fn object_path() -> PathBuf {
    match env::var_os("NETD_EBPF_OBJECT") {
        Some(path) => path.into(),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/ebpf/netd-ebpf.o"),
    }
}

/// Runs `work` on a thread with a network namespace of its own, after `ip` has run each of `lines` there.
///
/// # Panics
/// Where the namespace cannot be made, or as `work` does.
pub fn in_new_netns<T: Send>(lines: &[String], work: impl FnOnce() -> T + Send) -> T {
    let result = thread::scope(|scope| {
        let inside = || {
            unshare(CloneFlags::CLONE_NEWNET)
                .unwrap_or_else(|error| panic!("no network namespace: {error}"));
            run(Command::new("ip").args(["-batch", "-"]), &lines.join("\n")).ok();
            work()
        };
        scope.spawn(inside).join()
    });
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
