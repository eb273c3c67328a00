//! Writes the transaction log: one write a batch, one fdatasync a sync, a new file after each roll.
//!
//! The format is told in `log_reader.rs`. A file is named after its first record, and made by the append that
//! brings it; as in Apache, a server that starts never goes on with an old file. Files grow ahead of their
//! records by real blocks, so that a full disk shows itself before a record is half written, and syncs need
//! not change the length. What was not used is given back when the file is rolled.
//!
//! The first error is final: after a failed write or fsync nobody knows what is on the disk, and an fsync
//! that is tried again may well succeed without having written anything.

use std::sync::Arc;

use zabra_actors::types::{Entry, Fault, Zxid};

use super::data_dir::{DataDir, explain, log_name};
use super::fs::DiskFile;
use super::log_reader::{HEADER, MAGIC, PREFIX, VERSION};
use super::sync_mark::SyncMark;
use super::tail::LAST;

/// Growth begins when less than this is left, in bytes (Apache's margin).
const MARGIN: u64 = 4096;

/// The batch buffer is not kept when a batch has made it larger than this, in bytes.
const KEPT_BUFFER: usize = 4 << 20;

/// See the module's story.
pub(super) struct LogWriter {
    dir: Arc<DataDir>,
    /// The last zxid appended, or where the log ended when it was recovered.
    last: Zxid,
    file: Option<LogFile>,
    mark: Box<dyn DiskFile>,
    /// The batch being written; its allocation is used again.
    buffer: Vec<u8>,
    /// An append or a sync has failed.
    failed: bool,
}

/// The file in use.
struct LogFile {
    handle: Box<dyn DiskFile>,
    first: Zxid,
    /// Where the next record goes.
    position: u64,
    /// How long the file is.
    size: u64,
    /// There are records that are not synced.
    dirty: bool,
    /// Its name is not durable.
    unnamed: bool,
}

impl LogWriter {
    /// Goes on behind `last`, which is durable in a log whose newest file is `newest`.
    pub(super) fn after(dir: Arc<DataDir>, last: Zxid, newest: Option<Zxid>) -> Result<LogWriter, Fault> {
        let mark = SyncMark { file: newest.unwrap_or(last), synced: last }.replace(&dir)?;
        Ok(LogWriter { dir, last, file: None, mark, buffer: Vec::new(), failed: false })
    }

    /// Writes entries behind the last one; see `TxnStore::append`.
    pub(super) fn append(&mut self, entries: &[Arc<Entry>]) -> Result<(), Fault> {
        let Some(first) = entries.first() else { return Ok(()) };
        self.final_if_err(|log| {
            if log.file.is_none() {
                log.begin_file(first.zxid())?;
            }
            log.write(entries)
        })
    }

    /// Makes everything appended durable.
    pub(super) fn sync(&mut self) -> Result<(), Fault> {
        self.final_if_err(LogWriter::sync_file)
    }

    /// Finishes the file in use; the next append begins another.
    pub(super) fn roll(&mut self) -> Result<(), Fault> {
        self.final_if_err(|log| {
            // A file that is not the newest is durable to its end: recovery relies on it.
            if let Some(file) = &mut log.file {
                let path = log.dir.path(&log_name(file.first));
                file.dirty = true;
                explain("give back the unused end of", &path, file.handle.set_len(file.position))?;
            }
            log.sync_file()?;
            log.file = None;
            Ok(())
        })
    }

    fn final_if_err(&mut self, act: impl FnOnce(&mut LogWriter) -> Result<(), Fault>) -> Result<(), Fault> {
        if self.failed {
            return Err(Fault("the transaction log has failed before: the server must stop".to_string()));
        }
        let result = act(self);
        self.failed = result.is_err();
        result
    }

    fn begin_file(&mut self, first: Zxid) -> Result<(), Fault> {
        // First the mark, durably: a mark that names an older file is taken for void.
        self.mark = SyncMark { file: first, synced: self.last }.replace(&self.dir)?;
        let handle = self.dir.create(&log_name(first))?;
        self.file = Some(LogFile { handle, first, position: 0, size: 0, dirty: true, unnamed: true });
        Ok(())
    }

    fn write(&mut self, entries: &[Arc<Entry>]) -> Result<(), Fault> {
        let file = self.file.as_mut().expect("append has begun a file");
        self.buffer.clear();
        if file.position == 0 {
            put_header(&mut self.buffer, self.last);
        }
        for entry in entries {
            let zxid = entry.zxid();
            assert!(zxid.follows(self.last), "a log has no holes: {zxid} behind {}", self.last);
            put_record(&mut self.buffer, &entry.bytes);
            self.last = zxid;
        }
        file.dirty = true;
        let path = self.dir.path(&log_name(file.first));
        explain("append to", &path, file.put(&self.buffer, self.dir.settings.preallocate))?;
        if self.buffer.capacity() > KEPT_BUFFER {
            self.buffer = Vec::new();
        }
        Ok(())
    }

    fn sync_file(&mut self) -> Result<(), Fault> {
        let Some(file) = self.file.as_mut().filter(|file| file.dirty) else { return Ok(()) };
        let path = self.dir.path(&log_name(file.first));
        explain("fsync", &path, file.handle.sync())?;
        if file.unnamed {
            self.dir.sync_names()?;
            file.unnamed = false;
        }
        file.dirty = false;
        SyncMark { file: file.first, synced: self.last }.overwrite(&self.dir, self.mark.as_mut())
    }
}

impl LogFile {
    fn put(&mut self, bytes: &[u8], preallocate: u64) -> std::io::Result<()> {
        let end = self.position + bytes.len() as u64;
        if preallocate > 0 && end + MARGIN > self.size {
            // As Apache counts: the header, and then whole steps.
            let steps = (end + MARGIN - HEADER as u64).div_ceil(preallocate);
            self.size = HEADER as u64 + steps * preallocate;
            self.handle.allocate(self.size)?;
        }
        self.handle.write_at(self.position, bytes)?;
        self.position = end;
        Ok(())
    }
}

/// Where Apache has a database id that is always 0 and never read, the header names the last zxid before the
/// file: the end of an epoch that is missing in an older file would show in nothing else.
fn put_header(buffer: &mut Vec<u8>, previous: Zxid) {
    buffer.extend_from_slice(&MAGIC);
    buffer.extend_from_slice(&VERSION.to_be_bytes());
    buffer.extend_from_slice(&previous.0.to_be_bytes());
    debug_assert_eq!(buffer.len(), HEADER);
}

fn put_record(buffer: &mut Vec<u8>, entry: &[u8]) {
    let len = i32::try_from(entry.len()).expect("an entry is bounded by the frame that brought it");
    let before = buffer.len();
    buffer.extend_from_slice(&i64::from(simd_adler32::adler32(&entry)).to_be_bytes());
    buffer.extend_from_slice(&len.to_be_bytes());
    assert_eq!(buffer.len() - before, PREFIX);
    buffer.extend_from_slice(entry);
    buffer.push(LAST);
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Read;
    use std::path::Path;

    use zabra_actors::types::{Acl, CreateKind, SessionId, Sid, Txn, TxnBody, TxnDigest, TxnHeader, perms};

    use super::*;
    use crate::disk::{Disk, DiskSettings, Injected, SimDisk};

    pub(in crate::disk) fn header() -> Vec<u8> {
        let mut bytes = Vec::new();
        put_header(&mut bytes, Zxid::ZERO);
        bytes
    }

    pub(in crate::disk) fn file_behind(previous: i64, zxids: &[i64]) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_header(&mut bytes, Zxid(previous));
        zxids.iter().fold(bytes, |file, zxid| [file, record(*zxid)].concat())
    }

    /// A transaction that changes nothing.
    pub(in crate::disk) fn entry(zxid: i64) -> Arc<Entry> {
        Entry::new(txn(zxid, TxnBody::Error(-101)))
    }

    pub(in crate::disk) fn txn(zxid: i64, body: TxnBody) -> Txn {
        let header = TxnHeader { session: SessionId(7), cxid: 1, zxid: Zxid(zxid), time: 1_000_000 };
        Txn { header, body, digest: None }
    }

    /// A transaction that changes nothing, and foretells this digest.
    pub(in crate::disk) fn foretelling(zxid: i64, tree: i64) -> Arc<Entry> {
        let txn = txn(zxid, TxnBody::Multi(Vec::new()));
        Entry::new(Txn { digest: Some(TxnDigest { version: 2, tree }), ..txn })
    }

    /// Makes a znode.
    pub(in crate::disk) fn creation(path: &str) -> TxnBody {
        TxnBody::Create {
            kind: CreateKind::Create,
            path: path.into(),
            data: None,
            acl: vec![Acl::world(perms::ALL)],
            ephemeral: false,
            parent_cversion: 1,
        }
    }

    pub(in crate::disk) fn record(zxid: i64) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_record(&mut bytes, &entry(zxid).bytes);
        bytes
    }

    /// As [`record`], with so many bytes of data.
    pub(in crate::disk) fn long_record(zxid: i64, len: usize) -> Vec<u8> {
        let data = (0..len).map(|i| (i % 251) as u8 + 1).collect::<Vec<_>>();
        let body =
            TxnBody::SetData { path: "/a".into(), data: Some(data.into()), version: 1, reconfig: false };
        let mut bytes = Vec::new();
        put_record(&mut bytes, &Entry::new(txn(zxid, body)).bytes);
        bytes
    }

    pub(in crate::disk) fn file_of(zxids: &[i64]) -> Vec<u8> {
        zxids.iter().fold(header(), |file, zxid| [file, record(*zxid)].concat())
    }

    fn writer(disk: &SimDisk, preallocate: u64) -> LogWriter {
        let settings = DiskSettings { preallocate, ..DiskSettings::new("/d", Sid(1)) };
        let log = slog::Logger::root(slog::Discard, slog::o!());
        let dir = DataDir::open(Arc::new(disk.clone()), settings, log).unwrap();
        LogWriter::after(dir, Zxid::ZERO, None).unwrap()
    }

    fn content(disk: &SimDisk, name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let path = Path::new("/d/version-2").join(name);
        disk.read(&path).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn batches_become_records_behind_each_other() {
        let disk = SimDisk::new();
        let mut log = writer(&disk, 0);
        log.append(&[entry(1), entry(2)]).unwrap();
        log.append(&[entry(3)]).unwrap();
        log.sync().unwrap();
        assert_eq!(content(&disk, "log.1"), file_of(&[1, 2, 3]));
    }

    #[test]
    fn a_file_grows_in_steps_and_is_trimmed_when_rolled() {
        let disk = SimDisk::new();
        let mut log = writer(&disk, 8192);
        log.append(&[entry(1)]).unwrap();
        assert_eq!(content(&disk, "log.1").len(), 16 + 8192, "Apache's lengths: the header and whole steps");
        for zxid in 2..100 {
            log.append(&[entry(zxid)]).unwrap();
        }
        assert_eq!(content(&disk, "log.1").len(), 16 + 2 * 8192, "grown before less than 4096 are left");
        log.roll().unwrap();
        log.append(&[entry(100)]).unwrap();
        log.sync().unwrap();
        assert_eq!(content(&disk, "log.1"), file_of(&(1..100).collect::<Vec<_>>()));
        assert!(content(&disk, "log.64").starts_with(&file_behind(99, &[100])));
    }

    #[test]
    fn what_was_synced_survives_with_its_name() {
        for seed in 0..100 {
            let disk = SimDisk::new();
            let mut log = writer(&disk, 4096);
            log.append(&[entry(1), entry(2)]).unwrap();
            log.sync().unwrap();
            log.append(&[entry(3)]).unwrap();
            disk.crash(seed);
            assert!(content(&disk, "log.1").starts_with(&file_of(&[1, 2])), "seed {seed}");
        }
    }

    #[test]
    fn a_failure_is_final() {
        let disk = SimDisk::new();
        let mut log = writer(&disk, 0);
        log.append(&[entry(1)]).unwrap();
        disk.inject(1, Injected::Io);
        let first = log.sync().unwrap_err();
        assert!(first.0.contains("cannot fsync /d/version-2/log.1"), "{first}");
        assert!(log.sync().unwrap_err().0.contains("has failed before"), "an fsync is never tried again");
        assert!(log.append(&[entry(2)]).is_err());
    }

    #[test]
    fn a_full_disk_says_what_to_do() {
        let disk = SimDisk::new();
        let mut log = writer(&disk, 4096);
        log.append(&[entry(1)]).unwrap();
        disk.inject(1, Injected::Full);
        let full = log.append(&[entry(2)]).unwrap_err();
        assert!(full.0.contains("/d/version-2/log.1") && full.0.contains("make room"), "{full}");
    }

    #[test]
    #[should_panic(expected = "a log has no holes: 0x3 behind 0x1")]
    fn a_hole_is_never_written() {
        let mut log = writer(&SimDisk::new(), 0);
        let _ = log.append(&[entry(1), entry(3)]);
    }
}
