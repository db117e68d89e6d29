//! The files of definitions: which one a name lies in, and how one is read and written.
//!
//! 256 files, each written whole on a change of what is in it, so that a change costs one small file however many
//! definitions there are. Each definition has an envelope of its own within that of its file: a damaged file loses the
//! one that was hit, and the others in it are served. Whoever changes a damaged file keeps a copy of it aside first.

use crate::disk::{Disk, DiskError};
use crate::envelope::{self, Opened};
use crate::{DEFINITION_MAX, DEFINITIONS_MAX, Define, Definition};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, HashMap};

const FILE_KIND: u8 = b'B';
const KIND: u8 = b'F';
const VERSION: u8 = 1;
/// How long a name may be, in bytes.
const NAME_MAX: usize = 64;
/// How long the envelope of one definition may be, in bytes.
const LONGEST: usize = DEFINITION_MAX + 256;
/// How many bytes of the body of an envelope are the revision.
const REVISION: usize = 8;

/// The number of a file.
type Bucket = u8;
/// What is in a file, by name.
pub(crate) type Definitions = BTreeMap<String, Definition>;

/// What is known of the files without reading them.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    /// How many definitions each file has; `None` until all were read once.
    counts: Option<BTreeMap<Bucket, usize>>,
    /// The damaged files that were counted, and named in the log.
    damaged: BTreeSet<Bucket>,
}

/// A file as it was read.
#[derive(Debug, Default)]
struct Read {
    definitions: Definitions,
    /// Why it is damaged, and its bytes, where it is.
    damaged: Option<(String, Vec<u8>)>,
}

impl Shelf {
    /// Every definition, by name; how many damaged files were found that were not known.
    pub(crate) fn all(&mut self, disk: &dyn Disk) -> Result<(Vec<Definition>, u64), DiskError> {
        let mut all = Definitions::new();
        let mut counts = BTreeMap::new();
        let mut found = 0;
        for bucket in disk.files()?.iter().filter_map(|name| bucket_of_file(name)) {
            let read = read(disk, bucket)?;
            found += self.judge(bucket, &read);
            counts.insert(bucket, read.definitions.len());
            all.extend(read.definitions);
        }
        self.counts = Some(counts);
        Ok((all.into_values().collect(), found))
    }

    /// Makes changes, in order within each file; how many damaged files were found that were not known. After an error
    /// some files have theirs.
    pub(crate) fn change(&mut self, disk: &dyn Disk, changes: Vec<Define>) -> Result<u64, DiskError> {
        changes.iter().try_for_each(check)?;
        let mut found = 0;
        if self.counts.is_none() {
            found += self.all(disk)?.1;
        }
        let mut buckets: BTreeMap<Bucket, Vec<Define>> = BTreeMap::new();
        for change in changes {
            buckets.entry(bucket_of(name_of(&change))).or_default().push(change);
        }
        let mut changed = Vec::with_capacity(buckets.len());
        let mut counts = self.counts.clone().unwrap_or_default();
        for (bucket, changes) in buckets {
            let before = read(disk, bucket)?;
            found += self.judge(bucket, &before);
            let mut after = before.definitions.clone();
            change_all(&mut after, changes);
            counts.insert(bucket, after.len());
            changed.push((bucket, before, after));
        }
        let all: usize = counts.values().sum();
        let grows = changed.iter().any(|(_, before, after)| after.len() > before.definitions.len());
        check_count(all, grows)?;
        for (bucket, before, after) in changed {
            if after != before.definitions {
                self.write(disk, bucket, before, &after)?;
            }
        }
        Ok(found)
    }

    fn write(&mut self, disk: &dyn Disk, bucket: Bucket, before: Read, after: &Definitions) -> Result<(), DiskError> {
        if let Some((_, bytes)) = before.damaged {
            let aside = free_name(disk, bucket)?;
            disk.write_file(&aside, &bytes)?;
            tracing::warn!(aside, "what a damaged file of definitions held is kept, and the file written anew");
        }
        if after.is_empty() {
            disk.remove_file(&file(bucket))?;
        } else {
            disk.write_file(&file(bucket), &to_bytes(bucket, after))?;
        }
        // Whole from now on: a later damage is another one.
        self.damaged.remove(&bucket);
        if let Some(counts) = &mut self.counts {
            counts.insert(bucket, after.len());
        }
        Ok(())
    }

    /// Names a damaged file in the log, once; 1 where it is a new one.
    fn judge(&mut self, bucket: Bucket, read: &Read) -> u64 {
        let Some((what, _)) = &read.damaged else { return 0 };
        if !self.damaged.insert(bucket) {
            return 0;
        }
        let (file, served) = (file(bucket), read.definitions.len());
        tracing::error!(file, what, served, "a file of definitions is damaged; those that are whole are served");
        1
    }
}

/// Makes changes in memory, within the bounds.
pub(crate) fn apply(definitions: &mut Definitions, changes: Vec<Define>) -> Result<(), DiskError> {
    changes.iter().try_for_each(check)?;
    let before = definitions.len();
    change_all(definitions, changes);
    check_count(definitions.len(), definitions.len() > before)
}

fn change_all(definitions: &mut Definitions, changes: Vec<Define>) {
    for change in changes {
        match change {
            Define::Put(definition) => drop(definitions.insert(definition.name.clone(), definition)),
            Define::Remove(name) => drop(definitions.remove(&name)),
        }
    }
}

fn check_count(all: usize, grows: bool) -> Result<(), DiskError> {
    let refused =
        || DiskError::Failed(format!("there are {DEFINITIONS_MAX} definitions already, and no more are kept"));
    if all > DEFINITIONS_MAX && grows { Err(refused()) } else { Ok(()) }
}

/// The names that changes are about, and whether the last one of each takes its subscription away.
pub(crate) fn deletions(changes: &[Define]) -> HashMap<String, bool> {
    changes.iter().map(|change| (name_of(change).to_owned(), matches!(change, Define::Remove(_)))).collect()
}

/// Refuses what is longer than is kept, before anything changes.
fn check(change: &Define) -> Result<(), DiskError> {
    let name = name_of(change);
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if name.is_empty() || name.len() > NAME_MAX || !plain {
        let shown: String = name.chars().take(NAME_MAX).collect();
        return Err(DiskError::Failed(format!(
            "{shown:?} is no name of a definition: 1 to {NAME_MAX} of A-Z, a-z, 0-9, _ and -"
        )));
    }
    match change {
        Define::Put(definition) if definition.body.len() > DEFINITION_MAX => {
            let bytes = definition.body.len();
            Err(DiskError::Failed(format!(
                "the definition of {name} has {bytes} bytes, at most {DEFINITION_MAX} are kept"
            )))
        }
        Define::Put(_) | Define::Remove(_) => Ok(()),
    }
}

fn name_of(change: &Define) -> &str {
    match change {
        Define::Put(definition) => &definition.name,
        Define::Remove(name) => name,
    }
}

/// Which file a name lies in: fixed for ever, since files lie on disks.
fn bucket_of(name: &str) -> Bucket {
    (crc32fast::hash(name.as_bytes()) & 0xff) as Bucket
}

fn file(bucket: Bucket) -> String {
    format!("definitions-{bucket:02x}.v{VERSION}")
}

fn bucket_of_file(name: &str) -> Option<Bucket> {
    let digits = name.strip_prefix("definitions-")?.strip_suffix(".v1")?;
    Bucket::from_str_radix(digits, 16).ok().filter(|bucket| file(*bucket) == name)
}

/// A name for a copy of a damaged file that no earlier copy has.
fn free_name(disk: &dyn Disk, bucket: Bucket) -> Result<String, DiskError> {
    let taken: BTreeSet<String> = disk.files()?.into_iter().collect();
    let name = |number: usize| format!("{}.damaged-{number}", file(bucket));
    // One of these is free: there are more of them than files.
    Ok((1..=taken.len() + 1).map(name).find(|name| !taken.contains(name)).unwrap_or_else(|| name(taken.len() + 2)))
}

fn to_bytes(bucket: Bucket, definitions: &Definitions) -> Vec<u8> {
    let mut body = Vec::new();
    for definition in definitions.values() {
        let written = [&definition.revision.to_be_bytes()[..], &definition.body].concat();
        body.extend_from_slice(&envelope::seal(definition.name.as_bytes(), KIND, VERSION, &written));
    }
    envelope::seal(file(bucket).as_bytes(), FILE_KIND, VERSION, &body).to_vec()
}

fn read(disk: &dyn Disk, bucket: Bucket) -> Result<Read, DiskError> {
    let name = file(bucket);
    let Some(bytes) = disk.read_file(&name)? else { return Ok(Read::default()) };
    let bytes = Bytes::from(bytes);
    let (body, damaged) = match envelope::open(name.as_bytes(), &bytes) {
        Ok(opened) if (opened.kind, opened.version) == (FILE_KIND, VERSION) => (opened.body, None),
        Ok(opened) => (opened.body, Some(format!("a file of kind {} and version {}", opened.kind, opened.version))),
        // Its own envelope starts where those of its definitions do not, so that they are found behind it.
        Err(error) => (bytes.slice(bytes.len().min(1)..), Some(error.to_string())),
    };
    let definitions = envelope::scan_opened(&body, LONGEST).filter_map(definition).collect();
    Ok(Read { definitions, damaged: damaged.map(|what| (what, bytes.to_vec())) })
}

/// The definition of an envelope; `None` where it holds something else.
fn definition((key, opened): (Vec<u8>, Opened)) -> Option<(String, Definition)> {
    if (opened.kind, opened.version) != (KIND, VERSION) {
        return None;
    }
    let revision = u64::from_be_bytes(opened.body.get(..REVISION)?.try_into().ok()?);
    let name = String::from_utf8(key).ok()?;
    Some((name.clone(), Definition { name, revision, body: opened.body.slice(REVISION..) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SimDisk;

    fn put(name: &str, revision: u64, body: &str) -> Define {
        Define::Put(Definition { name: name.into(), revision, body: body.to_owned().into() })
    }

    fn names(definitions: &[Definition]) -> Vec<&str> {
        definitions.iter().map(|d| d.name.as_str()).collect()
    }

    /// Names that all lie in the same file.
    fn neighbours(count: usize) -> Vec<String> {
        let all = (0..).map(|n| format!("n{n}"));
        all.filter(|name| bucket_of(name) == 7).take(count).collect()
    }

    #[test]
    fn the_file_of_a_name_is_the_same_for_ever() {
        let files = ["a", "orders", "acme-hooks_1"].map(|name| file(bucket_of(name)));
        assert_eq!(files, ["definitions-43.v1", "definitions-ee.v1", "definitions-a6.v1"]);
        assert_eq!(bucket_of_file("definitions-0f.v1"), Some(15));
        for other in ["definitions-0F.v1", "definitions-f.v1", "definitions-0f.v1.damaged-1", "definitions-0f.v2"] {
            assert_eq!(bucket_of_file(other), None, "{other}");
        }
    }

    #[test]
    fn a_flipped_bit_costs_at_most_the_definition_that_it_hit() {
        let names = neighbours(5);
        let changes: Vec<Define> = names.iter().map(|name| put(name, 3, "body")).collect();
        let mut lost = 0;
        for seed in 0..200 {
            let disk = SimDisk::new(seed);
            Shelf::default().change(&disk, changes.clone()).unwrap();
            assert!(disk.flip_file("definitions-07.v1"));
            let (mut shelf, flipped) = (Shelf::default(), disk.read_file("definitions-07.v1").unwrap());
            let (served, found) = shelf.all(&disk).unwrap();
            assert_eq!(found, 1);
            assert!(served.len() >= 4 && served.iter().all(|d| d.revision == 3 && d.body == "body"), "{served:?}");
            lost += 5 - served.len();
            assert_eq!(shelf.all(&disk).unwrap().1, 0, "a damaged file is counted once");
            // Written anew, it is whole, and what it held is kept aside.
            shelf.change(&disk, vec![put(&names[0], 4, "new")]).unwrap();
            assert_eq!(disk.read_file("definitions-07.v1.damaged-1").unwrap(), flipped);
            let (after, found) = Shelf::default().all(&disk).unwrap();
            assert_eq!(found, 0);
            let others = |all: &[Definition]| all.iter().filter(|d| d.name != names[0]).cloned().collect::<Vec<_>>();
            assert_eq!(others(&after), others(&served));
            assert_eq!(after.len() - others(&after).len(), 1);
        }
        assert!(lost > 20, "the control: a flip within a definition loses it");
    }

    #[test]
    fn what_is_no_file_of_definitions_at_all_is_damage_and_no_panic() {
        for rubbish in [&b""[..], b"x", &[0xFE; 40], b"{\"name\":\"a\"}"] {
            let disk = SimDisk::new(1);
            disk.write_file("definitions-07.v1", rubbish).unwrap();
            disk.write_file("definitions-zz.v1", rubbish).unwrap();
            let mut shelf = Shelf::default();
            assert_eq!(shelf.all(&disk).unwrap(), (Vec::new(), 1));
            shelf.change(&disk, vec![put(&neighbours(1)[0], 1, "b")]).unwrap();
            assert_eq!(shelf.all(&disk).unwrap().0.len(), 1);
        }
    }

    #[test]
    fn several_changes_of_a_call_write_each_file_once_and_none_where_nothing_changes() {
        let disk = SimDisk::new(1);
        let mut shelf = Shelf::default();
        let near = neighbours(3);
        let writes = || disk.calls().get(&crate::disk::sim::Call::WriteFile).copied().unwrap_or(0);
        let changes =
            vec![put(&near[0], 1, "a"), put(&near[1], 1, "b"), Define::Remove(near[0].clone()), put("a", 1, "c")];
        shelf.change(&disk, changes).unwrap();
        assert_eq!(writes(), 2);
        assert_eq!(names(&shelf.all(&disk).unwrap().0), ["a", near[1].as_str()]);
        shelf.change(&disk, vec![put("a", 1, "c"), Define::Remove("unknown".into())]).unwrap();
        assert_eq!(writes(), 2);
        shelf.change(&disk, vec![Define::Remove("a".into()), Define::Remove(near[1].clone())]).unwrap();
        assert!(disk.files().unwrap().is_empty(), "nothing is left of what nobody wants");
    }

    #[test]
    fn neither_more_nor_longer_definitions_are_kept_than_the_bounds_say() {
        let disk = SimDisk::new(1);
        let mut shelf = Shelf::default();
        let many = |from: usize, count: usize| (from..from + count).map(|n| put(&format!("s{n}"), 1, "x")).collect();
        shelf.change(&disk, many(0, DEFINITIONS_MAX)).unwrap();
        let refused = shelf.change(&disk, many(DEFINITIONS_MAX, 1)).unwrap_err();
        assert!(refused.to_string().contains("20000"), "{refused}");
        assert_eq!(Shelf::default().all(&disk).unwrap().0.len(), DEFINITIONS_MAX);
        // One goes and another comes, and one that is there may change.
        shelf.change(&disk, vec![Define::Remove("s0".into()), put("another", 1, "y"), put("s1", 2, "z")]).unwrap();
        let longest = "x".repeat(DEFINITION_MAX);
        shelf.change(&disk, vec![put("s2", 2, &longest)]).unwrap();
        for wrong in
            [put("s3", 2, &format!("{longest}x")), put("", 1, "x"), put(&"n".repeat(65), 1, "x"), put("a/b", 1, "x")]
        {
            assert!(shelf.change(&disk, vec![put("s4", 9, "never"), wrong]).is_err());
        }
        let all = Shelf::default().all(&disk).unwrap().0;
        let of = |name: &str| all.iter().find(|d| d.name == name).map(|d| (d.revision, d.body.len()));
        assert_eq!(
            [of("s1"), of("s2"), of("s3"), of("s4")],
            [Some((2, 1)), Some((2, DEFINITION_MAX)), Some((1, 1)), Some((1, 1))]
        );
    }
}
