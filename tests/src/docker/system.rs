//! The Debian system that dockerd lives in: one that `cargo xtask` has made (`target/docker`), in a mount namespace of its
//! own, with a layer above it that is the test's.

use std::{
    env,
    path::{Path, PathBuf},
};

use crate::{
    condition::eventually,
    process::{Outcome, Running, run_in},
};

/// A Debian release, by the Docker that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// 20.10.
    Old,
    /// 26.1.
    Middle,
    /// 28 or later.
    New,
}

impl Release {
    fn suite(self) -> &'static str {
        match self {
            Self::Old => "bookworm",
            Self::Middle => "trixie",
            Self::New => "sid",
        }
    }
}

/// Makes the namespace that dockerd lives in, and stays there: $1 the system, $2 the test's folder.
const HOLD: &str = r#"
set -e
system=$1 dir=$2
mkdir -p "$dir/upper" "$dir/work" "$dir/root" "$dir/data" "$dir/cgroup"
mount --rbind /sys/fs/cgroup "$dir/cgroup"
mount -t overlay overlay -o "lowerdir=$system,upperdir=$dir/upper,workdir=$dir/work" "$dir/root"
cd "$dir/root"
mount -t proc proc proc
mount -t sysfs sys sys
mount --rbind "$dir/cgroup" sys/fs/cgroup
mount --rbind /dev dev
mount -t tmpfs run run
mkdir -p var/lib/docker "./$dir" old
mount --bind "$dir/data" var/lib/docker
mount --bind "$dir" "./$dir"
pivot_root . old
umount -l /old
echo made
exec sleep infinity
"#;

/// A system of a test's, in the network namespace of its host.
#[derive(Debug)]
pub struct System {
    /// The network namespace of the host.
    netns: PathBuf,
    holder: Running,
    dir: PathBuf,
}

impl System {
    /// Makes it, with its layer in `dir`, which it sees at the same place.
    ///
    /// # Panics
    /// Where it cannot be made.
    #[track_caller]
    pub(super) fn new(release: Release, netns: &Path, dir: &Path) -> Self {
        let made = made(release);
        let script = ["--mount", "--propagation=private", "sh", "-c", HOLD, "hold"];
        let (made, place) = (made.to_string_lossy(), dir.to_string_lossy());
        let args: Vec<&str> = script.into_iter().chain([&*made, &*place]).collect();
        let mut holder = Running::start(netns, &dir.join("holder.log"), "unshare", &args);
        eventually("there is a place for dockerd", || {
            assert_eq!(holder.status(), None, "{}", holder.log());
            holder.log().contains("made")
        });
        Self { netns: netns.to_owned(), holder, dir: dir.to_owned() }
    }

    /// A folder that it sees at the same place as everybody else.
    pub fn directory(&self) -> &Path {
        &self.dir
    }

    /// Runs a program of its own to its end.
    ///
    /// # Panics
    /// Where it cannot be started.
    #[track_caller]
    pub fn run(&self, line: &[&str], stdin: &str) -> Outcome {
        let place = self.place();
        let args: Vec<&str> = [place.as_str(), "--"].into_iter().chain(line.to_owned()).collect();
        run_in(&self.netns, "nsenter", &args, stdin)
    }

    /// Starts a program of its own, which writes to the file `NAME.log` of its folder.
    ///
    /// # Panics
    /// Where it cannot be started.
    #[track_caller]
    pub fn start(&self, name: &str, line: &[&str]) -> Running {
        let place = self.place();
        let args: Vec<&str> = [place.as_str(), "--"].into_iter().chain(line.to_owned()).collect();
        Running::start(&self.netns, &self.dir.join(format!("{name}.log")), "nsenter", &args)
    }

    /// A line of a shell's that runs a program of its own.
    pub(super) fn shell_line(&self, line: &str) -> String {
        format!("nsenter --net={} {} -- {line}", self.netns.display(), self.place())
    }

    /// Writes a file in it, and the folder around it.
    ///
    /// # Panics
    /// Where it cannot be written.
    #[track_caller]
    pub fn write(&self, path: &str, text: &str) {
        let script = r#"mkdir -p "$(dirname "$1")" && cat > "$1""#;
        self.run(&["sh", "-c", script, "write", path], text).ok();
    }

    /// Where it is, as an option of nsenter(1).
    fn place(&self) -> String {
        format!("--mount=/proc/{}/ns/mnt", self.holder.pid())
    }
}

/// The one that was made with that release's Docker: below `NETD_DOCKER_SYSTEMS`, else where `cargo xtask` makes them.
fn made(release: Release) -> PathBuf {
    let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/docker");
    let systems = env::var_os("NETD_DOCKER_SYSTEMS").map_or(usual, PathBuf::from);
    let system = systems.join(release.suite());
    let system = system.canonicalize();
    system.unwrap_or_else(|error| panic!("{}: {error}; run `cargo xtask setup`", release.suite()))
}
