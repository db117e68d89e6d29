//! The secret of this installation: what keeps its ids towards analytics from being guessed.
//!
//! `daemon.encryption_key`, else 32 random bytes, base64, in `<data_dir>/secret.key`, for nobody else to read; made at the
//! first start. Whoever loses it loses no event: receivers then only take a repetition for something new.

use crate::clock::SystemRandom;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use posthaste_events::installation::SECRET_BYTES;
use rustix::fs::fsync;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// The file in the data directory.
const FILE: &str = "secret.key";
/// How much of the file is read, in bytes; a key has 44 characters.
const FILE_MAX: u64 = 256;

/// Reads the secret of the installation, or makes it; durable when it returns.
///
/// # Errors
/// The file cannot be read or written, or is no key.
pub(crate) fn read_or_make(data_dir: &Path, random: SystemRandom) -> io::Result<[u8; SECRET_BYTES]> {
    let path = data_dir.join(FILE);
    match File::open(&path) {
        Ok(file) => read(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(data_dir, &path, random),
        Err(error) => Err(error),
    }
}

/// The secret in the data directory, where there is one that can be read.
pub(crate) fn read_there(data_dir: &Path) -> Option<[u8; SECRET_BYTES]> {
    File::open(data_dir.join(FILE)).and_then(read).ok()
}

fn read(file: File) -> io::Result<[u8; SECRET_BYTES]> {
    let mut text = String::new();
    file.take(FILE_MAX).read_to_string(&mut text)?;
    parse(&text).ok_or_else(|| {
        let what = format!(
            "{FILE} is not the base64 of {SECRET_BYTES} bytes; put it back, or remove it and a new one is made"
        );
        io::Error::new(io::ErrorKind::InvalidData, what)
    })
}

/// The bytes that a text is the base64 of (RFC 4648 section 4, padded); `None` where they are not 32. Space around it
/// does not count.
pub(crate) fn parse(text: &str) -> Option<[u8; SECRET_BYTES]> {
    STANDARD.decode(text.trim()).ok()?.try_into().ok()
}

fn make(data_dir: &Path, path: &Path, random: SystemRandom) -> io::Result<[u8; SECRET_BYTES]> {
    let mut secret = [0; SECRET_BYTES];
    random.fill(&mut secret);
    // Written aside and renamed, so that a crash leaves no half of a key.
    let aside = path.with_extension("key.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    writeln!(file, "{}", STANDARD.encode(secret))?;
    file.sync_all()?;
    std::fs::rename(&aside, path)?;
    fsync(File::open(data_dir)?)?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_secret_is_made_once_and_for_nobody_else_to_read() {
        let home = tempfile::tempdir().unwrap();
        let first = read_or_make(home.path(), SystemRandom).unwrap();
        assert_eq!(read_or_make(home.path(), SystemRandom).unwrap(), first);
        let mode = std::fs::metadata(home.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(read_or_make(other.path(), SystemRandom).unwrap(), first);
    }

    #[test]
    fn a_file_that_is_no_key_is_refused_and_stays() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join(FILE), "c2hvcnQ=\n").unwrap();
        let error = read_or_make(home.path(), SystemRandom).unwrap_err();
        assert!(error.to_string().contains("secret.key"), "{error}");
        assert_eq!(std::fs::read_to_string(home.path().join(FILE)).unwrap(), "c2hvcnQ=\n");
    }
}
