//! What the app keeps in `/data`: the API key and secret that were made at its first start.
//!
//! Every file is written beside its place and renamed: a backup may be taken at any moment, and a power cut come.

use crate::config::{App, Config, Login};
use crate::options::addon::{Addon, write_kept};
use anyhow::{Context, Result};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Keeps a pair that was made just now. Without it the next start would make another, and clients be locked out.
pub(super) fn new_key(config: &Config) -> Result<()> {
    let Some(App {
        data,
        login: Login::New,
        ..
    }) = &config.app
    else {
        return Ok(());
    };
    let Some(pair) = config.keys.0.first() else {
        return Ok(());
    };
    let path = data.join(Addon::KEPT);
    write(&path, write_kept(pair).as_bytes()).with_context(|| {
        format!(
            "the API key cannot be kept in {}; free some space there, or type api_key and api_secret",
            path.display()
        )
    })
}

/// The file has either its old content or the new one, whatever happens; nobody else may read it.
pub(super) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    // One that a power cut has left may have other rights.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_replaced_whole_and_read_by_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.json");
        fs::write(&path, "old and longer").unwrap();
        fs::write(dir.path().join("keys.new"), "left by a power cut").unwrap();
        write(&path, b"new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error() {
        assert!(write(Path::new("/nowhere/keys.json"), b"x").is_err());
    }
}
