//! A file of idempotency keys: sorted, in blocks that are summed, with a filter that tells at once what it does not hold.
//!
//! ```text
//! length of the head 4 | head, an envelope under the file's name | block | block | …
//! block: up to 64 entries of 52 bytes (key 16, content 16, id 16, deliveries 4), crc32 4        (big-endian)
//! ```
//!
//! Only the head is kept in memory. This module knows nothing of time, or of which files there are.

use super::{Key, Known};
use crate::disk::{Disk, DiskError, Generation};
use crate::envelope;
use bytes::Bytes;
use posthaste_events::EventId;
use serde::{Deserialize, Serialize};
use xorf::{BinaryFuse16, BinaryFuse16Ref, DmaSerializable, Filter, FilterRef};

const ENTRY: usize = 52;
const ENTRIES: usize = 64;
const BLOCK: usize = ENTRIES * ENTRY + 4;
const VERSION: u8 = 1;
const KIND: u8 = b'K';

/// A head of the most keys that a file holds has some 1.3 MB; a longer one is a damaged length.
const HEAD_MAX: usize = 16 * 1024 * 1024;

/// How many blocks a merge reads at a time.
const READ_AHEAD: usize = 16;

/// What of a file is kept in memory: 2.4 bytes a key.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) name: String,
    /// The number in its name; a file that is made later has a greater one.
    pub(super) number: u64,
    pub(super) head: Head,
    /// Where the blocks begin.
    blocks_at: u64,
    filter: Aligned,
}

/// The head of a file, as it is written.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) count: u64,
    pub(super) first: Generation,
    pub(super) last: Generation,
    /// When the youngest of its events was recorded.
    pub(super) newest_ms: u64,
    /// The numbers of the files whose keys it took over: those are to be removed.
    pub(super) replaces: Vec<u64>,
    /// The first eight bytes of the first key of each block.
    index: Vec<u64>,
    /// Descriptor and fingerprints of the filter, as it lays them out itself.
    #[serde(with = "serde_bytes")]
    descriptor: Vec<u8>,
    /// Moved out after reading.
    #[serde(with = "serde_bytes")]
    fingerprints: Vec<u8>,
}

/// Bytes that begin at an even address, as the filter wants its fingerprints.
#[derive(Debug)]
struct Aligned {
    bytes: Vec<u8>,
    from: usize,
}

impl Aligned {
    fn new(content: &[u8]) -> Self {
        let mut bytes: Vec<u8> = Vec::with_capacity(content.len() + 1);
        // The capacity suffices, so that the address stays.
        let from = bytes.as_ptr().align_offset(2).min(1);
        bytes.resize(from, 0);
        bytes.extend_from_slice(content);
        Self { bytes, from }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[self.from..]
    }
}

/// What a file is made of.
pub(super) struct Origin {
    pub(super) number: u64,
    pub(super) first: Generation,
    pub(super) last: Generation,
    pub(super) replaces: Vec<u64>,
}

/// The name of the file with this number.
pub(super) fn name_of(number: u64) -> String {
    format!("keys-{number:016x}")
}

/// The number of the file with this name, if it is one of these.
pub(super) fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("keys-").filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

/// Writes a file of entries that come in the order of their keys, each key once; durable when it returns.
pub(super) fn write(
    disk: &dyn Disk,
    origin: Origin,
    entries: impl Iterator<Item = Result<(Key, Known), DiskError>>,
) -> Result<Segment, DiskError> {
    let name = name_of(origin.number);
    let (mut blocks, mut index, mut hashes, mut newest_ms, mut count) = (Vec::new(), Vec::new(), Vec::new(), 0, 0_u64);
    let mut block = Vec::with_capacity(BLOCK);
    for entry in entries {
        let (key, known) = entry?;
        if block.is_empty() {
            index.push(prefix(&key));
        }
        block.extend_from_slice(&key);
        block.extend_from_slice(&known.content);
        block.extend_from_slice(&known.id.to_bytes());
        block.extend_from_slice(&known.deliveries.to_be_bytes());
        hashes.push(hash(&key));
        newest_ms = newest_ms.max(known.id.millis());
        count += 1;
        if block.len() == ENTRIES * ENTRY {
            end_block(&mut blocks, &mut block, &name);
        }
    }
    if !block.is_empty() {
        end_block(&mut blocks, &mut block, &name);
    }
    // The filter wants each hash once.
    hashes.sort_unstable();
    hashes.dedup();
    let filter = BinaryFuse16::try_from(&hashes).map_err(|why| DiskError::Failed(format!("{name}: {why}")))?;
    let mut descriptor = vec![0; BinaryFuse16::DESCRIPTOR_LEN];
    filter.dma_copy_descriptor_to(&mut descriptor);
    let head = Head {
        count,
        first: origin.first,
        last: origin.last,
        newest_ms,
        replaces: origin.replaces,
        index,
        descriptor,
        fingerprints: filter.dma_fingerprints().to_vec(),
    };
    let body = bincode::serialize(&head).map_err(|e| DiskError::Failed(format!("{name}: {e}")))?;
    let sealed = envelope::seal(name.as_bytes(), KIND, VERSION, &body);
    let length = u32::try_from(sealed.len()).map_err(|_| DiskError::Failed(format!("{name}: too many keys")))?;
    let mut file = Vec::with_capacity(4 + sealed.len() + blocks.len());
    file.extend_from_slice(&length.to_be_bytes());
    file.extend_from_slice(&sealed);
    file.extend_from_slice(&blocks);
    disk.write_file(&name, &file)?;
    Ok(Segment::new(name, origin.number, head, 4 + sealed.len() as u64))
}

fn end_block(blocks: &mut Vec<u8>, block: &mut Vec<u8>, name: &str) {
    let sum = checksum(name, blocks.len() / BLOCK, block);
    blocks.append(block);
    blocks.extend_from_slice(&sum.to_be_bytes());
}

/// The sum also covers where a block belongs, so that one which was written elsewhere is found.
fn checksum(name: &str, block: usize, bytes: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(name.as_bytes());
    sum.update(&(block as u64).to_be_bytes());
    sum.update(bytes);
    sum.finalize()
}

fn prefix(key: &Key) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *key;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// What the filter knows a key by. The keys are hashes already; both halves count so that others work too.
fn hash(key: &Key) -> u64 {
    let [.., a, b, c, d, e, f, g, h] = *key;
    prefix(key).rotate_left(32) ^ u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

impl Segment {
    fn new(name: String, number: u64, mut head: Head, blocks_at: u64) -> Self {
        let filter = Aligned::new(&std::mem::take(&mut head.fingerprints));
        Self { name, number, head, blocks_at, filter }
    }

    /// Reads the head of a file.
    ///
    /// # Errors
    /// [`DiskError::Damaged`] where it is not as it was written.
    pub(super) fn open(disk: &dyn Disk, number: u64) -> Result<Self, DiskError> {
        let name = name_of(number);
        let damaged = || DiskError::Damaged(format!("the file of idempotency keys {name}"));
        let length: [u8; 4] = disk.read_at(&name, 0, 4)?.try_into().map_err(|_| damaged())?;
        let length = u32::from_be_bytes(length) as usize;
        if length > HEAD_MAX {
            return Err(damaged());
        }
        let sealed = Bytes::from(disk.read_at(&name, 4, length)?);
        let opened = envelope::open(name.as_bytes(), &sealed).map_err(|_| damaged())?;
        if (opened.kind, opened.version) != (KIND, VERSION) {
            return Err(damaged());
        }
        let head = bincode::deserialize::<Head>(&opened.body).map_err(|_| damaged())?;
        if head.descriptor.len() != BinaryFuse16::DESCRIPTOR_LEN || head.index.len() as u64 != head.count.div_ceil(64) {
            return Err(damaged());
        }
        Ok(Self::new(name, number, head, 4 + length as u64))
    }

    /// Bytes that it takes in memory.
    pub(super) fn memory(&self) -> usize {
        self.filter.bytes.capacity() + self.head.index.capacity() * 8 + size_of::<Self>()
    }

    /// The entry of a key; mostly, where there is none, without reading anything.
    pub(super) fn look_up(&self, disk: &dyn Disk, key: &Key) -> Result<Option<Known>, DiskError> {
        let filter = BinaryFuse16Ref::from_dma(&self.head.descriptor, self.filter.bytes());
        if self.head.count == 0 || !filter.contains(&hash(key)) {
            return Ok(None);
        }
        // Keys may share their first eight bytes: it is in the last block that begins before it, or in those that begin
        // with the same bytes.
        let wanted = prefix(key);
        let from = self.head.index.partition_point(|first| *first < wanted).saturating_sub(1);
        let to = self.head.index.partition_point(|first| *first <= wanted);
        let mut answer = Ok(None);
        for block in from..to {
            match self.read(disk, block, 1) {
                Ok(bytes) => {
                    if let Some((_, known)) = entries(&bytes).find(|(own, _)| own == key) {
                        return Ok(Some(known));
                    }
                }
                // It may stand in the next one.
                Err(DiskError::Damaged(what)) => answer = Err(DiskError::Damaged(what)),
                Err(error) => return Err(error),
            }
        }
        answer
    }

    /// Reads some blocks, checked, without their sums.
    fn read(&self, disk: &dyn Disk, block: usize, count: usize) -> Result<Vec<u8>, DiskError> {
        let left = (self.head.count as usize).saturating_sub(block * ENTRIES).min(count * ENTRIES);
        let blocks = left.div_ceil(ENTRIES);
        let bytes = disk.read_at(&self.name, self.blocks_at + (block * BLOCK) as u64, left * ENTRY + blocks * 4)?;
        let mut whole = Vec::with_capacity(left * ENTRY);
        for (nth, part) in bytes.chunks(BLOCK).enumerate() {
            if let Some((entries, sum)) = part.split_last_chunk::<4>()
                && checksum(&self.name, block + nth, entries) == u32::from_be_bytes(*sum)
            {
                whole.extend_from_slice(entries);
            }
        }
        if whole.len() == left * ENTRY {
            return Ok(whole);
        }
        Err(DiskError::Damaged(format!(
            "blocks {block} to {} of the idempotency keys {}",
            block + blocks - 1,
            self.name
        )))
    }

    /// Every entry, in the order of the keys, read block by block. A damaged block is one error and then passed over.
    pub(super) fn entries<'a>(
        &'a self,
        disk: &'a dyn Disk,
    ) -> impl Iterator<Item = Result<(Key, Known), DiskError>> + 'a {
        let blocks = self.head.index.len();
        (0..blocks).step_by(READ_AHEAD).flat_map(move |from| {
            let many = self.read(disk, from, READ_AHEAD);
            let parts = match many {
                Ok(bytes) => vec![Ok(bytes)],
                // One by one, so that only what is damaged is lost.
                Err(DiskError::Damaged(_)) => {
                    (from..blocks.min(from + READ_AHEAD)).map(|block| self.read(disk, block, 1)).collect()
                }
                Err(error) => vec![Err(error)],
            };
            parts.into_iter().flat_map(|part| match part {
                Ok(bytes) => entries(&bytes).map(Ok).collect::<Vec<_>>(),
                Err(error) => vec![Err(error)],
            })
        })
    }
}

fn entries(bytes: &[u8]) -> impl Iterator<Item = (Key, Known)> + '_ {
    bytes.chunks_exact(ENTRY).map(|entry| {
        // The parts of an entry have these lengths by construction.
        let part = |from: usize| std::array::from_fn(|i| entry[from + i]);
        let deliveries = u32::from_be_bytes(std::array::from_fn(|i| entry[48 + i]));
        (part(0), Known { content: part(16), id: EventId::from_bytes(part(32)), deliveries })
    })
}
