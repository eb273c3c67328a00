//! The sync mark: how far the log is known to be durable, in a file of ours that Apache ignores.
//!
//! After a power cut the end of the log may be torn in any way: of what was not synced some sectors are
//! there and others are not, so that a damaged record may well be followed by sound ones. Looking at the log
//! alone, that cannot be told from damage to records that *were* synced and acknowledged. The mark tells:
//! up to `synced` everything must be there, else the server must not start; what is behind it was never
//! promised to anybody, and is cut where the damage begins.
//!
//! The mark itself costs no fsync: it is overwritten in place after each sync of the log, and may be older
//! than the truth after a crash, never newer. Where it must not be older (a new log file, a log that was
//! cut on purpose) it is replaced durably. A mark that names an older log file than the newest one is void:
//! somebody else (Apache) has written here since. Without a mark the stricter rules of `replay.rs` hold.

use std::io::Read;

use zabra_actors::types::{Fault, Zxid};

use super::data_dir::{DataDir, explain};
use super::fs::DiskFile;

/// The mark's file.
pub(super) const NAME: &str = ".synced";

/// Two zxids and their Adler-32: within one sector, so never torn.
const LEN: usize = 20;

/// See the module's story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SyncMark {
    /// The newest log file, or one that is about to be created.
    pub(super) file: Zxid,
    /// Everything up to here is durable.
    pub(super) synced: Zxid,
}

impl SyncMark {
    /// Reads the mark; `None` when there is none, or none that makes sense.
    pub(super) fn read(dir: &DataDir) -> Result<Option<SyncMark>, Fault> {
        if !dir.list()?.others.iter().any(|name| name == NAME) {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let reader = dir.read(NAME)?;
        explain("read", &dir.path(NAME), reader.take(LEN as u64).read_to_end(&mut bytes))?;
        Ok(SyncMark::decode(&bytes))
    }

    /// Replaces the mark durably, and hands over the file to overwrite it in.
    pub(super) fn replace(self, dir: &DataDir) -> Result<Box<dyn DiskFile>, Fault> {
        dir.replace(NAME, &self.encode())?;
        dir.open_file(NAME)
    }

    /// Overwrites the mark in place, not durably.
    pub(super) fn overwrite(self, dir: &DataDir, file: &mut dyn DiskFile) -> Result<(), Fault> {
        explain("write", &dir.path(NAME), file.write_at(0, &self.encode()))
    }

    /// Does it say anything about a log whose newest file is this?
    pub(super) fn covers(self, newest: Option<Zxid>) -> bool {
        newest.is_none_or(|newest| self.file >= newest)
    }

    fn encode(self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[..8].copy_from_slice(&self.file.0.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.synced.0.to_be_bytes());
        let sum = simd_adler32::adler32(&&bytes[..16]);
        bytes[16..].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<SyncMark> {
        let (file, rest) = bytes.split_first_chunk::<8>()?;
        let (synced, _) = rest.split_first_chunk::<8>()?;
        let mark =
            SyncMark { file: Zxid(i64::from_be_bytes(*file)), synced: Zxid(i64::from_be_bytes(*synced)) };
        (mark.encode() == bytes).then_some(mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_back_or_not_at_all() {
        let mark = SyncMark { file: Zxid(0x1_0000_0001), synced: Zxid(0x1_0000_0009) };
        let bytes = mark.encode();
        assert_eq!(SyncMark::decode(&bytes), Some(mark));
        assert_eq!(SyncMark::decode(&bytes[..19]), None);
        for at in 0..LEN {
            let mut bad = bytes;
            bad[at] ^= 1;
            assert_eq!(SyncMark::decode(&bad), None, "byte {at}");
        }
    }

    #[test]
    fn a_mark_is_void_once_somebody_else_began_a_file() {
        let mark = SyncMark { file: Zxid(5), synced: Zxid(9) };
        assert!(mark.covers(None) && mark.covers(Some(Zxid(5))) && mark.covers(Some(Zxid(4))));
        assert!(!mark.covers(Some(Zxid(10))));
    }
}
