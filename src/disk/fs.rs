//! The only door to files: a small trait, and the real disk behind it.
//!
//! Few and plain calls, so that the simulated disk of `sim.rs` can give each its exact meaning: what a
//! call makes visible at once, and what only [`DiskFile::sync`] and [`Disk::sync_dir`] make durable.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FallocateFlags, FlockOperation};

/// Files and directories. Cheap to share; every method may block.
pub trait Disk: Send + Sync {
    /// Makes a directory and its parents.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Takes an exclusive lock on a file (made when missing) for as long as what is returned lives.
    /// `WouldBlock` when somebody else has it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>>;

    /// A new, empty file to write; an old one of that name is emptied.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// An existing file to write.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// A file to read, from its beginning. Not buffered.
    fn read(&self, path: &Path) -> io::Result<Box<dyn Read + Send>>;

    /// Gives a file another name; what had that name is gone.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// The names of the files of a directory and their lengths in bytes, sorted by name.
    fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>>;

    /// Makes the names in a directory durable: creations, renames, removals.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Bytes that this process can still write to the file system of a directory.
    fn free(&self, dir: &Path) -> io::Result<u64>;

    /// How long the calls since the last question would have blocked; zero on a disk that has blocked.
    fn stall(&self) -> Duration {
        Duration::ZERO
    }
}

/// A file that is open for writing.
pub trait DiskFile: Send {
    /// Writes all of these bytes at an offset.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts the file, or fills it up with zeros, to this length.
    fn set_len(&mut self, len: u64) -> io::Result<()>;

    /// Makes the file at least this long, with real blocks where the file system can.
    fn allocate(&mut self, len: u64) -> io::Result<()>;

    /// Makes content and length durable; not the name (see [`Disk::sync_dir`]).
    fn sync(&mut self) -> io::Result<()>;
}

/// The file system of this machine.
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        std::fs::create_dir_all(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(file))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(File::create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OpenOptions::new().write(true).open(path)?))
    }

    fn read(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(File::open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            // A purge on another thread may remove a file between the listing and the question.
            let meta = match entry.metadata() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            if let (true, Ok(name)) = (meta.is_file(), entry.file_name().into_string()) {
                files.push((name, meta.len()));
            }
        }
        files.sort();
        Ok(files)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn free(&self, dir: &Path) -> io::Result<u64> {
        let found = rustix::fs::statvfs(dir)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }
}

impl DiskFile for File {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    fn allocate(&mut self, len: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&*self, FallocateFlags::empty(), 0, len) {
            // Some file systems cannot: then the blocks come with the writes, and so does ENOSPC.
            Err(rustix::io::Errno::OPNOTSUPP) => {
                if self.metadata()?.len() < len {
                    File::set_len(self, len)?;
                }
                Ok(())
            }
            other => Ok(other?),
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_file_is_written_cut_and_listed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b");
        let mut file = RealDisk.create(&path).unwrap();
        file.allocate(100).unwrap();
        file.write_at(2, b"xyz").unwrap();
        file.sync().unwrap();
        assert_eq!(RealDisk.list(dir.path()).unwrap(), [("b".to_string(), 100)]);
        file.set_len(4).unwrap();
        RealDisk.rename(&path, &dir.path().join("a")).unwrap();
        RealDisk.sync_dir(dir.path()).unwrap();
        let mut bytes = Vec::new();
        RealDisk.read(&dir.path().join("a")).unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, b"\0\0xy");
    }

    #[test]
    fn a_lock_is_for_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".lock");
        let held = RealDisk.lock(&path).unwrap();
        let refused = RealDisk.lock(&path).err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        drop(held);
        RealDisk.lock(&path).unwrap();
    }
}
