//! Documents on disk: read within bounds, and written all or not at all.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Read, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::{CliError, is_standard};
use crate::api::MAX_STATE_BYTES;

/// Reads a document.
///
/// # Errors
/// Where it cannot be read, is no text, or is too large to be one.
pub(super) fn read(path: &Path) -> Result<String, CliError> {
    let error = |source| CliError::Read { path: path.to_owned(), source };
    let source: Box<dyn Read> = if is_standard(path) {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(path).map_err(error)?)
    };
    let mut bytes = Vec::new();
    source.take(MAX_STATE_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(error)?;
    if bytes.len() > MAX_STATE_BYTES {
        return Err(CliError::TooLarge { path: path.to_owned(), max: MAX_STATE_BYTES });
    }
    String::from_utf8(bytes)
        .map_err(|source| error(io::Error::new(io::ErrorKind::InvalidData, source)))
}

/// Puts a file in the place of what is there, once it is on disk. Its owner alone may read it.
///
/// # Errors
/// Where it cannot be written; what was there is as it was, and nothing is beside it.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let path = destination(path)?;
    let new = beside(&path)?;
    let written = write_new(&new, bytes).and_then(|()| fs::rename(&new, &path));
    if written.is_err() {
        // Where it could not be made, there is none.
        let _ = fs::remove_file(&new);
        return written;
    }
    File::open(folder(&path))?.sync_all()
}

/// What a path leads to: a link stays, and a device is not replaced by a file.
fn destination(path: &Path) -> io::Result<PathBuf> {
    let path = match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(path.to_owned()),
        path => path?,
    };
    if fs::metadata(&path)?.is_file() {
        Ok(path)
    } else {
        Err(io::Error::other("it is not a file (- is stdout)"))
    }
}

fn beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
    let mut new = OsString::from(".");
    new.push(name);
    new.push(format!(".{}", std::process::id()));
    Ok(folder(path).join(new))
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
