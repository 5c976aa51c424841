//! The web servers of the demo: the README's, in each namespace but the host's.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Child,
};

use anyhow::{Context as _, Result, bail};

use super::{shell, world::DIR};

/// What python3 says once it listens.
const LISTENING: &str = "Serving HTTP";

/// A web server in the namespace that it is named after. It lives as long as the demo.
pub(super) struct Server {
    pub(super) name: &'static str,
    log: PathBuf,
    child: Child,
}

impl Server {
    /// Starts a server; [`Self::wait_until_it_listens`] is to be called before it is used.
    ///
    /// # Errors
    /// Fails if it cannot be started.
    pub(super) fn start(name: &'static str) -> Result<Self> {
        let pages = Path::new(DIR).join(name);
        fs::create_dir_all(&pages).with_context(|| format!("cannot make {}", pages.display()))?;
        fs::write(pages.join("index.html"), page(name)).context("cannot write a page")?;
        let log = pages.with_extension("log");
        let child = shell::start_with_log(&line(name), &log)?;
        Ok(Self { name, log, child })
    }

    /// Waits until the server can be reached.
    ///
    /// # Errors
    /// Fails if it ends instead.
    pub(super) fn wait_until_it_listens(&mut self) -> Result<()> {
        shell::eventually(&format!("the web server of {} listens", self.name), || {
            let log = self.log()?;
            if let Some(status) = self.child.try_wait().context("cannot wait for python3")? {
                bail!("the web server of {} ended: {status}\n{}", self.name, log.trim());
            }
            Ok(log.contains(LISTENING))
        })
    }

    /// Whom it has served last among those of a family.
    ///
    /// # Errors
    /// Fails if its log cannot be read.
    pub(super) fn last_source(&self, is_ipv4: bool) -> Result<Option<IpAddr>> {
        Ok(sources(&self.log()?).rfind(|source| source.is_ipv4() == is_ipv4))
    }

    fn log(&self) -> Result<String> {
        let read = fs::read_to_string(&self.log);
        read.with_context(|| format!("cannot read {}", self.log.display()))
    }
}

/// The command that starts the server of a namespace.
pub(super) fn line(name: &str) -> String {
    // `-u`: what it says and logs is read while it runs. `::` stands for both families.
    format!("ip netns exec {name} python3 -u -m http.server 80 --bind :: --directory {DIR}/{name}")
}

/// What the server of a namespace answers.
pub(super) fn page(name: &str) -> String {
    format!("This is {name}.\n")
}

/// The first words of the lines that are addresses; a socket for both families writes IPv4 as
/// `::ffff:192.0.2.1`.
fn sources(log: &str) -> impl DoubleEndedIterator<Item = IpAddr> {
    log.lines().filter_map(|line| {
        let address: IpAddr = line.split(' ').next()?.parse().ok()?;
        Some(address.to_canonical())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_read_from_the_log() {
        let log = "Serving HTTP on :: port 80 (http://[::]:80/) ...\n\
            ::ffff:192.0.2.9 - - [21/Nov/2026 10:00:00] \"GET / HTTP/1.1\" 200 -\n\
            2001:db8::9 - - [21/Nov/2026 10:00:00] \"GET / HTTP/1.1\" 200 -\n";
        let expected: Vec<IpAddr> =
            ["192.0.2.9", "2001:db8::9"].map(|text| text.parse().unwrap()).to_vec();
        assert_eq!(sources(log).collect::<Vec<_>>(), expected);
    }
}
