//! The seam beneath the embedded store: small keyspaces that are only appended to, and small files.
//!
//! The generations are written over this, so that the simulator runs the real rotation, cleaning and recovery over a
//! disk that keeps *live* and *durable* bytes apart.

pub mod sim;
mod sled;

pub use sim::SimDisk;
pub use sled::SledDisk;

use bytes::Bytes;

/// The number of a generation; they grow, and one is never used twice.
pub type Generation = u64;

/// A key and its value.
pub type Row = (Vec<u8>, Bytes);

/// A disk that failed, or whose bytes are not what was written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DiskError {
    /// A call failed; after a failed [`Keyspace::sync`] or [`Keyspace::apply`] the keyspace is poisoned: every call on it
    /// fails. Close it, open it again to read it, write to another one.
    #[error("{0}")]
    Failed(String),
    /// There is no space left.
    #[error("no space left on the disk")]
    NoSpace,
    /// The bytes can not be read as what they should be.
    #[error("damaged: {0}")]
    Damaged(String),
}

/// Where generations and small files lie.
pub trait Disk: Send + Sync + 'static {
    /// The generations that exist, ascending.
    fn generations(&self) -> Result<Vec<Generation>, DiskError>;

    /// Makes an empty keyspace; that it exists is durable when this returns.
    fn create(&self, generation: Generation) -> Result<Box<dyn Keyspace>, DiskError>;

    /// Opens a keyspace. What panics beneath comes back as [`DiskError::Damaged`].
    fn open(&self, generation: Generation) -> Result<Box<dyn Keyspace>, DiskError>;

    /// Removes a closed keyspace.
    fn destroy(&self, generation: Generation) -> Result<(), DiskError>;

    /// Every row that the raw bytes of a closed keyspace still hold whole (see the envelope), in any order, also
    /// older versions; for one that can not be opened or whose manifest names a loss.
    fn salvage(&self, generation: Generation) -> Result<Vec<Row>, DiskError>;

    /// Bytes of a keyspace on the disk.
    fn size(&self, generation: Generation) -> Result<u64, DiskError>;

    /// The names of the files, ascending.
    fn files(&self) -> Result<Vec<String>, DiskError>;

    /// Writes a file whole or not at all; durable when this returns. Names are `[a-z0-9.-]+`.
    fn write_file(&self, name: &str, bytes: &[u8]) -> Result<(), DiskError>;

    /// Reads a file; `None` where there is none.
    fn read_file(&self, name: &str) -> Result<Option<Vec<u8>>, DiskError>;

    /// Reads `len` bytes of a file from `offset`; fewer at its end.
    fn read_at(&self, name: &str, offset: u64, len: usize) -> Result<Vec<u8>, DiskError>;

    /// Removes a file, if it is there.
    fn remove_file(&self, name: &str) -> Result<(), DiskError>;

    /// Bytes that can still be written.
    fn free(&self) -> Result<u64, DiskError>;
}

/// One keyspace. Rows are put, never changed in place with another meaning, never deleted one by one.
pub trait Keyspace: Send + Sync {
    /// Puts rows, all or none of them; visible when it returns, durable only after [`Keyspace::sync`]. Values are at most
    /// [`VALUE_MAX`] bytes long, keys [`crate::envelope::KEY_MAX`].
    ///
    /// After [`DiskError::NoSpace`] nothing was put, and it may be tried again. After another failure the rows may be
    /// there or not, and the keyspace is poisoned.
    fn apply(&self, rows: Vec<Row>) -> Result<(), DiskError>;

    /// Makes everything that was applied durable. A failure is final.
    fn sync(&self) -> Result<(), DiskError>;

    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, DiskError>;

    /// Up to `limit` rows with `from <= key < to`, ascending.
    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, DiskError>;

    /// Closes it; what was not synced may be lost.
    fn close(self: Box<Self>);
}

/// How long a value may be, in bytes.
///
/// sled writes a page of more than 131,020 bytes into a file of its own that is never synced, and a page holds up to 17
/// rows: so long may a row be that 17 of them, with keys of [`crate::envelope::KEY_MAX`] bytes, stay under that.
pub const VALUE_MAX: usize = 7 * 1024;

/// Whether a file of a disk may be named so: `[a-z0-9.-]+`, at most 128 characters, no dot at the start, and not as the
/// disk names what is its own.
fn is_file_name(name: &str) -> bool {
    let plain = name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-'));
    plain
        && !name.starts_with('.')
        && !name.is_empty()
        && name.len() <= 128
        && !["lock", "reserve"].contains(&name)
        && !is_generation(name)
}

/// Whether a folder is named as that of a generation.
fn is_generation(name: &str) -> bool {
    let digits = name.strip_prefix("gen-").unwrap_or_default();
    digits.len() == 16 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Refuses rows that are longer than a keyspace takes: a mistake of the caller that must not reach the disk.
fn check_lengths(rows: &[Row]) -> Result<(), DiskError> {
    let wrong = rows.iter().find(|(key, value)| key.len() > crate::envelope::KEY_MAX || value.len() > VALUE_MAX);
    wrong.map_or(Ok(()), |(key, value)| {
        Err(DiskError::Failed(format!("a row of {} and {} bytes is too long", key.len(), value.len())))
    })
}
