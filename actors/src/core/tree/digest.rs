//! The digest of a tree: Apache's AdHash, version 2, the wrapping sum of the digests of its znodes.
//!
//! A znode's digest is the CRC-32 of its path, its data and its Stat, one behind the other. So a change of the
//! tree costs what the changed znodes cost: subtract what they added, add what they add now. The CRC of path and
//! data is kept with the znode; of a change that touches only the Stat 60 bytes are summed up.

use super::PersistedStat;
use crate::core::paths;

/// What Apache calls this way of summing up, in transactions and snapshots.
pub const DIGEST_VERSION: i32 = 2;

/// What a znode adds to the digest of its tree. `content_crc`: see [`content_crc`].
pub fn node_digest(content_crc: u32, stat: &PersistedStat) -> i64 {
    let mut crc = crc32fast::Hasher::new_with_initial(content_crc);
    crc.update(&digested_stat(stat));
    i64::from(crc.finalize())
}

/// CRC-32 of a path (`""` for the root) and its data.
pub fn content_crc(path: &str, data: Option<&[u8]>) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(if path == paths::ROOT { b"" } else { path.as_bytes() });
    crc.update(data.unwrap_or_default());
    crc.finalize()
}

/// Does the znode count in the digest? Below `/zookeeper` Apache changes znodes outside of transactions.
pub fn is_digested(path: &str) -> bool {
    !path.strip_prefix(paths::ZOOKEEPER).is_some_and(|rest| rest.starts_with('/'))
}

/// The Stat as the digest takes it: pzxid is third here, unlike in snapshots.
fn digested_stat(stat: &PersistedStat) -> [u8; 60] {
    let mut bytes = [0; 60];
    let longs = [stat.czxid, stat.mzxid, stat.pzxid, stat.ctime, stat.mtime];
    for (i, long) in longs.iter().enumerate() {
        bytes[8 * i..8 * i + 8].copy_from_slice(&long.to_be_bytes());
    }
    for (i, int) in [stat.version, stat.cversion, stat.aversion].iter().enumerate() {
        bytes[40 + 4 * i..44 + 4 * i].copy_from_slice(&int.to_be_bytes());
    }
    bytes[52..].copy_from_slice(&stat.ephemeral_owner.to_be_bytes());
    bytes
}
