//! A disk that can lose its power: ext4 on a file, mounted over a loop device.
//!
//! What the kernel has not yet written to the device is in its page cache, above the file. A copy of the file taken
//! while the daemon stands still is therefore what a machine finds on its disk after a power cut.

use anyhow::{Context, Result, ensure};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted image; dropped, it is unmounted.
#[derive(Debug)]
pub struct LoopImage {
    file: PathBuf,
    mount: PathBuf,
}

impl LoopImage {
    /// Makes a file system of `mib` MiB in `folder` under `name` and mounts it.
    ///
    /// # Errors
    /// Where the machine does not let us: root and loop devices are needed. A test that needs this fails then.
    pub fn make(folder: &Path, name: &str, mib: u64) -> Result<Self> {
        let file = folder.join(format!("{name}.img"));
        File::create(&file)?.set_len(mib * 1024 * 1024)?;
        // Everything is laid out at once: lazy work would write to the device while it is being copied.
        let options = "lazy_itable_init=0,lazy_journal_init=0";
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-E", options]).arg(&file))?;
        Self::mount(file, folder.join(name))
    }

    /// Copies the image as its device stands, and mounts the copy: the machine after the power came back.
    ///
    /// # Errors
    /// As [`LoopImage::make`].
    pub fn after_power_cut(&self, folder: &Path, name: &str) -> Result<Self> {
        let copy = folder.join(format!("{name}.img"));
        run(Command::new("cp").arg("--sparse=always").arg(&self.file).arg(&copy))?;
        Self::mount(copy, folder.join(name))
    }

    /// Where its files are.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.mount
    }

    fn mount(file: PathBuf, mount: PathBuf) -> Result<Self> {
        fs::create_dir_all(&mount)?;
        // With a rare journal commit nothing of it falls into the moment of the copy; whoever syncs commits at once.
        run(Command::new("mount").args(["-o", "loop,commit=300"]).arg(&file).arg(&mount))
            .context("no loop-device image could be mounted; this test needs root and /dev/loop*")?;
        Ok(Self { file, mount })
    }
}

impl Drop for LoopImage {
    fn drop(&mut self) {
        if run(Command::new("umount").arg(&self.mount)).is_err() {
            // Something still has a file open; the mount goes when that ends.
            drop(run(Command::new("umount").arg("--lazy").arg(&self.mount)));
        }
        drop(fs::remove_file(&self.file));
    }
}

fn run(command: &mut Command) -> Result<()> {
    let done = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::LoopImage;
    use std::fs::{self, File};

    #[test]
    fn a_power_cut_keeps_what_was_synced_and_takes_what_was_not() {
        let folder = tempfile::tempdir().unwrap();
        let disk = LoopImage::make(folder.path(), "before", 32).unwrap();
        fs::write(disk.path().join("kept"), "x").unwrap();
        File::open(disk.path().join("kept")).unwrap().sync_all().unwrap();
        File::open(disk.path()).unwrap().sync_all().unwrap();
        fs::write(disk.path().join("taken"), "x").unwrap();
        let after = disk.after_power_cut(folder.path(), "after").unwrap();
        assert_eq!(fs::read_to_string(after.path().join("kept")).unwrap(), "x");
        let taken = fs::read_to_string(after.path().join("taken")).unwrap_or_default();
        assert_eq!(taken, "", "what nobody synced was on the disk");
    }
}
