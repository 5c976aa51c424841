//! Whether a dockerd serves a socket, without asking it.
//!
//! A question would do harm. Where a service manager holds the socket, a connection makes it start the dockerd that
//! somebody has just stopped; and a dockerd that ends waits for those who still listen to its events.

use std::{
    fs, io,
    os::linux::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// A process, and where it holds the socket.
#[derive(Debug)]
pub(super) struct Server {
    pid: i32,
    /// In `/proc/PID/fd`.
    fd: PathBuf,
    /// What it leads to: `socket:[INODE]`.
    open: PathBuf,
}

impl Server {
    /// The one among these processes that listens at `path`; who cannot be looked into does not.
    ///
    /// # Errors
    /// Where there is no such socket.
    pub(super) fn find(
        path: &Path,
        mut pids: impl Iterator<Item = i32>,
    ) -> io::Result<Option<Self>> {
        let place = place(path)?;
        Ok(pids.find_map(|pid| Self::of(pid, place).ok().flatten()))
    }

    fn of(pid: i32, place: (u64, u64)) -> io::Result<Option<Self>> {
        let table = fs::read_to_string(format!("/proc/{pid}/net/unix"))?;
        // It may see other files than we do.
        let is_there = |bound: &str| {
            let bound = format!("/proc/{pid}/root/{}", bound.trim_start_matches('/'));
            self::place(Path::new(&bound)).is_ok_and(|it| it == place)
        };
        let listening = table.lines().filter_map(listening).find(|(_, bound)| is_there(bound));
        let Some((inode, _)) = listening else { return Ok(None) };
        let open = PathBuf::from(format!("socket:[{inode}]"));
        let fds = fs::read_dir(format!("/proc/{pid}/fd"))?.flatten();
        let fd = fds.map(|entry| entry.path()).find(|fd| leads_to(fd, &open));
        Ok(fd.map(|fd| Self { pid, fd, open }))
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it still does. One that ends closes the socket first.
    pub(super) fn listens(&self) -> bool {
        leads_to(&self.fd, &self.open)
    }
}

fn leads_to(fd: &Path, open: &Path) -> bool {
    fs::read_link(fd).is_ok_and(|to| to == open)
}

/// Which file it is, however it is called.
fn place(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::metadata(path)?;
    Ok((file.st_dev(), file.st_ino()))
}

/// A line of `/proc/net/unix` about a socket that listens: its inode and its path.
/// Source: `unix_seq_show` in the kernel's net/unix/af_unix.c.
fn listening(line: &str) -> Option<(&str, &str)> {
    /// `__SO_ACCEPTCON`.
    const LISTENS: &str = "00010000";
    let mut words = line.split_whitespace();
    let flags = words.nth(3)?;
    let (inode, path) = (words.nth(2)?, words.next()?);
    (flags == LISTENS && path.starts_with('/')).then_some((inode, path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::{Server, listening};

    #[test]
    fn who_listens_is_found_until_it_does_not() {
        let dir = std::env::temp_dir().join(format!("netd-server-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (path, link) = (dir.join("docker.sock"), dir.join("link.sock"));
        let own = std::process::id().cast_signed();
        let find = |path| Server::find(path, [own].into_iter());
        assert!(find(&path).is_err());
        let listener = UnixListener::bind(&path).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let server = find(&link).unwrap().unwrap();
        assert_eq!(server.pid(), own);
        // Who has asked is not who listens.
        let _asks = UnixStream::connect(&path).unwrap();
        assert!(server.listens());
        drop(listener);
        assert!(!server.listens());
        assert!(find(&path).unwrap().is_none());
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn only_sockets_with_a_path_that_listen_count() {
        let line =
            |flags, path| format!("0000000000000000: 00000002 00000000 {flags} 0001 01 42 {path}");
        let found = |flags, path| {
            listening(&line(flags, path)).map(|it| (it.0.to_owned(), it.1.to_owned()))
        };
        let expected = ("42".to_owned(), "/run/docker.sock".to_owned());
        assert_eq!(found("00010000", "/run/docker.sock"), Some(expected));
        assert_eq!(found("00000000", "/run/docker.sock"), None);
        assert_eq!(found("00010000", "@abstract"), None);
        assert_eq!(found("00010000", ""), None);
        assert_eq!(listening("Num       RefCount Protocol Flags    Type St Inode Path"), None);
    }
}
