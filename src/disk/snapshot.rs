//! Writes snapshots in Apache's format, in pieces: for a file, and the same bytes for a learner.
//!
//! ```text
//! "ZKSN" | i32 version 2 | i64 -1
//! i32 count | (i64 session, i32 timeout ms)*
//! i32 count | (i64 key, i32 count, (i32 perms, string scheme, string id)*)*      the ACLs
//! (string path, buffer data, i64 ACL key, 60 bytes stat)*                        "" is the root, parents first
//! string "/"                                                                     the end of the znodes
//! i64 Adler-32 of all before | string "/"                                        seal 1
//! i64 zxid | i32 digest version 2 | i64 digest of the tree | seal 2
//! ```
//!
//! A tree is frozen, so a snapshot holds it exactly as it was at its zxid; Apache's are fuzzy.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use bytes::{Bytes, BytesMut};
use slog::debug;
use zabra_actors::core::tree::{DIGEST_VERSION, NodeView, PersistedStat, Tree, Walk};
use zabra_actors::ports::Pieces;
use zabra_actors::types::{Acl, Fault, SessionId, Zxid, perms};

use super::compression::{Compression, Packer};
use super::data_dir::{DataDir, SnapFile, explain, fault};
use super::fs::DiskFile;
use super::snapshot_reader::{DigestSum, read_snapshot};

/// Bytes of a piece; only the last is shorter.
const PIECE: usize = 64 << 10;

/// How many bytes of a snapshot may wait for the disk at a time: milliseconds of its work.
const SYNC_EVERY: u64 = 4 << 20;

/// "ZKSN".
pub(super) const MAGIC: [u8; 4] = *b"ZKSN";
/// The only version there ever was.
pub(super) const VERSION: i32 = 2;
/// The key of `world:anyone` with all permissions, which is in no table.
pub(super) const OPEN_ACL_KEY: i64 = -1;

/// Hands the bytes of a tree's snapshot to `out`, piece by piece.
pub(super) fn encode(tree: &Tree, out: &mut dyn FnMut(Bytes)) {
    let acls = AclKeys::of(tree);
    let mut writer = SnapshotWriter::begin(out);
    writer.sessions(tree.sessions().iter().map(|(session, timeout_ms)| (*session, *timeout_ms)));
    writer.acls(acls.lists.iter().map(|(key, list)| (*key, list)));
    tree.walk(&mut |node| writer.node(&node, acls.key(node.acl)));
    let (zxid, digest) = expected_digest(tree).unwrap_or_default();
    writer.finish(zxid, digest);
}

/// Takes what a writer hands out.
type Output = Box<dyn FnMut(Bytes) + Send>;

/// The same bytes, made piece by piece when they are asked for: little is in memory besides the tree.
pub(super) struct TreePieces {
    tree: Box<Tree>,
    acls: AclKeys,
    walk: Walk,
    /// `None` behind the end.
    writer: Option<SnapshotWriter<Output>>,
    /// What the writer has handed out: the pieces of one znode at the most.
    ready: Receiver<Bytes>,
    total: u64,
}

impl TreePieces {
    pub(super) fn of(tree: Box<Tree>) -> TreePieces {
        let acls = AclKeys::of(&tree);
        let (sender, ready) = channel();
        let out = move |piece| sender.send(piece).expect("the receiver lives as long as the writer");
        let mut writer = SnapshotWriter::begin(Box::new(out) as Output);
        writer.sessions(tree.sessions().iter().map(|(session, timeout_ms)| (*session, *timeout_ms)));
        writer.acls(acls.lists.iter().map(|(key, list)| (*key, list)));
        let total = total(&tree, &acls);
        TreePieces { tree, acls, walk: Walk::begin(), writer: Some(writer), ready, total }
    }
}

impl Iterator for TreePieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Ok(piece) = self.ready.try_recv() {
                return Some(piece);
            }
            let writer = self.writer.as_mut()?;
            match self.walk.next(&self.tree) {
                Some(node) => writer.node(&node, self.acls.key(node.acl)),
                None => {
                    let (zxid, digest) = expected_digest(&self.tree).unwrap_or_default();
                    self.writer.take().expect("it was just there").finish(zxid, digest);
                }
            }
        }
    }
}

impl Pieces for TreePieces {
    fn total(&self) -> u64 {
        self.total
    }
}

/// How many bytes the snapshot of a tree has.
fn total(tree: &Tree, acls: &AclKeys) -> u64 {
    let string = |text: &str| 4 + text.len();
    let list = |list: &Arc<[Acl]>| -> usize {
        list.iter().map(|acl| 4 + string(&acl.id.scheme) + string(&acl.id.id)).sum()
    };
    let header = 16 + 4 + 12 * tree.sessions().len() + 4;
    let lists: usize = acls.lists.iter().map(|(_, acl)| 12 + list(acl)).sum();
    // The slash, a seal, the digest, a seal.
    let end = 5 + 13 + 20 + 13;
    (header + lists + end) as u64 + acls.znode_bytes
}

/// What a snapshot says at its end; nothing (zeros) before the first transaction, as in Apache.
pub(super) fn expected_digest(tree: &Tree) -> Option<(Zxid, i64)> {
    (tree.zxid() != Zxid::ZERO).then(|| (tree.zxid(), tree.digest()))
}

/// Writes a tree's snapshot durably: under a name that Apache ignores; reads it back; then gives it its own.
pub(super) fn save(dir: &DataDir, tree: &Tree) -> Result<SnapFile, Fault> {
    let full = || fault("write a snapshot in", dir.snapshots(), io::ErrorKind::StorageFull.into());
    save_if_it_fits(dir, tree)?.ok_or_else(full)
}

/// The same, but `None`, and nothing left behind, when the disk is full.
pub(super) fn save_if_it_fits(dir: &DataDir, tree: &Tree) -> Result<Option<SnapFile>, Fault> {
    let snapshot = SnapFile::new(tree.zxid(), dir.settings.compression);
    let unfinished = format!("{UNFINISHED}{}", snapshot.name);
    let path = dir.path(&unfinished);
    match write(dir, &unfinished, tree) {
        Err(error) if error.kind() == io::ErrorKind::StorageFull => {
            dir.remove(&unfinished)?;
            return Ok(None);
        }
        other => explain("write", &path, other)?,
    }
    check_written(dir, dir.settings.compression.reader(dir.read(&unfinished)?), tree)
        .map_err(|wrong| Fault(format!("{} was written and is wrong: {wrong}", path.display())))?;
    match dir.disk.rename(&path, &dir.path(&snapshot.name)) {
        Err(error) if error.kind() == io::ErrorKind::StorageFull => {
            dir.remove(&unfinished)?;
            return Ok(None);
        }
        other => explain("rename", &path, other)?,
    }
    dir.sync_names()?;
    Ok(Some(snapshot))
}

fn write(dir: &DataDir, name: &str, tree: &Tree) -> io::Result<()> {
    let output = FileWriter { file: dir.disk.create(&dir.path(name))?, offset: 0, synced: 0 };
    let mut packer = Packer::new(dir.settings.compression, output);
    let mut written = Ok(());
    encode(tree, &mut |piece| {
        if written.is_ok() {
            written = packer.write_all(&piece);
        }
    });
    written?;
    packer.finish()?.file.sync()
}

/// About how many bytes a snapshot of this tree takes: to know beforehand that it does not fit.
pub(super) fn expected_size(tree: &Tree, compression: Compression) -> u64 {
    /// Bytes of a znode besides its path and data.
    const ZNODE: u64 = 76;
    /// How much smaller it gets at the least, as experience says; if it does not, the disk will say so.
    const SMALLER: u64 = 3;
    let plain = tree.data_size() + ZNODE * tree.node_count() as u64;
    if compression == Compression::None { plain } else { plain / SMALLER }
}

/// A snapshot counts when it has been read as a whole, and is of the tree it was made of.
fn check_written(dir: &DataDir, input: impl Read, tree: &Tree) -> Result<(), String> {
    let mut sum = DigestSum::default();
    let summary = read_snapshot(input, &mut sum).map_err(|error| error.to_string())?;
    if summary.digest != expected_digest(tree) || sum.digest != tree.digest() {
        let (expected, found) = (tree.digest(), sum.digest);
        return Err(format!(
            "its digest is {found:#x}, not {expected:#x}; look for faults of memory or disk"
        ));
    }
    debug!(dir.log, "verified"; "zxid" => %tree.zxid(), "digest" => sum.digest);
    Ok(())
}

/// A file that is written from its beginning to its end, and synced as it grows. Were all of it left to one sync at
/// the end, then a sync of the log would find hundreds of MiB before it in the queue of the disk, and every write of
/// a client would wait for them.
struct FileWriter {
    file: Box<dyn DiskFile>,
    offset: u64,
    /// How much of it is durable.
    synced: u64,
}

impl Write for FileWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_at(self.offset, bytes)?;
        self.offset += bytes.len() as u64;
        if self.offset - self.synced >= SYNC_EVERY {
            self.file.sync()?;
            self.synced = self.offset;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(()) // nothing is kept back
    }
}

/// How the names of snapshots begin that are being written.
pub(super) const UNFINISHED: &str = "saving.";

/// Writes the parts of a snapshot in their order, and keeps the checksum.
pub struct SnapshotWriter<O> {
    out: O,
    buffer: BytesMut,
    /// How much of the buffer is in `sum` already.
    summed: usize,
    sum: simd_adler32::Adler32,
}

impl<O: FnMut(Bytes)> SnapshotWriter<O> {
    /// Writes the header. Pieces go to `out`.
    pub fn begin(out: O) -> SnapshotWriter<O> {
        let sum = simd_adler32::Adler32::new();
        let mut writer = SnapshotWriter { out, buffer: BytesMut::with_capacity(2 * PIECE), summed: 0, sum };
        writer.put(&MAGIC);
        writer.i32(VERSION);
        writer.i64(-1); // Apache's database id
        writer
    }

    /// Writes the sessions with their time-outs.
    pub fn sessions(&mut self, sessions: impl ExactSizeIterator<Item = (SessionId, i32)>) {
        self.count(sessions.len());
        for (session, timeout_ms) in sessions {
            self.i64(session.0);
            self.i32(timeout_ms);
        }
        self.hand_out();
    }

    /// Writes the table of ACLs.
    pub fn acls<'b>(&mut self, lists: impl ExactSizeIterator<Item = (i64, &'b Arc<[Acl]>)>) {
        self.count(lists.len());
        for (key, list) in lists {
            self.i64(key);
            self.count(list.len());
            for acl in list.iter() {
                self.i32(acl.perms);
                self.string(&acl.id.scheme);
                self.string(&acl.id.id);
            }
        }
        self.hand_out();
    }

    /// Writes a znode.
    pub fn node(&mut self, node: &NodeView<'_>, acl_key: i64) {
        assert_ne!(node.path, "/", "the root's path is empty: a slash ends the znodes");
        self.string(node.path);
        match node.data {
            None => self.i32(-1),
            Some(data) => {
                self.count(data.len());
                self.put(data);
            }
        }
        self.i64(acl_key);
        self.stat(&node.stat);
        self.hand_out();
    }

    /// Writes the end, both seals and the digest, and hands out the rest.
    pub fn finish(mut self, zxid: Zxid, digest: i64) {
        self.string("/");
        self.seal();
        self.i64(zxid.0);
        self.i32(DIGEST_VERSION);
        self.i64(digest);
        self.seal();
        self.hand_out();
        let rest = self.buffer.split().freeze();
        if !rest.is_empty() {
            (self.out)(rest);
        }
    }

    fn stat(&mut self, stat: &PersistedStat) {
        for number in [stat.czxid, stat.mzxid, stat.ctime, stat.mtime] {
            self.i64(number);
        }
        for number in [stat.version, stat.cversion, stat.aversion] {
            self.i32(number);
        }
        self.i64(stat.ephemeral_owner);
        self.i64(stat.pzxid);
    }

    /// The checksum runs on: a seal is part of what the next one seals.
    fn seal(&mut self) {
        self.add_to_sum();
        let sum = self.sum.finish();
        self.i64(i64::from(sum));
        self.string("/");
    }

    fn add_to_sum(&mut self) {
        self.sum.write(&self.buffer[self.summed..]);
        self.summed = self.buffer.len();
    }

    fn hand_out(&mut self) {
        while self.buffer.len() >= PIECE {
            self.add_to_sum();
            let piece = self.buffer.split_to(PIECE).freeze();
            self.summed -= PIECE;
            (self.out)(piece);
        }
    }

    fn count(&mut self, count: usize) {
        self.i32(i32::try_from(count).expect("the tree is bounded far below two billion of anything"));
    }

    fn string(&mut self, text: &str) {
        self.count(text.len());
        self.put(text.as_bytes());
    }

    fn i32(&mut self, number: i32) {
        self.put(&number.to_be_bytes());
    }

    fn i64(&mut self, number: i64) {
        self.put(&number.to_be_bytes());
    }

    fn put(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }
}

/// Numbers for the ACLs of a tree, in the order in which its walk meets them.
#[derive(Default)]
struct AclKeys {
    /// Holds the lists, so that no address is used twice.
    lists: Vec<(i64, Arc<[Acl]>)>,
    by_address: BTreeMap<usize, i64>,
    /// What the znodes take in a snapshot, in bytes: that walk is for both.
    znode_bytes: u64,
}

impl AclKeys {
    fn of(tree: &Tree) -> AclKeys {
        let mut keys = AclKeys::default();
        let open = [Acl::world(perms::ALL)];
        tree.walk(&mut |node| {
            keys.znode_bytes += (76 + node.path.len() + node.data.map_or(0, <[u8]>::len)) as u64;
            let address = address(node.acl);
            if keys.by_address.contains_key(&address) {
                return;
            }
            let mut key = OPEN_ACL_KEY;
            if node.acl[..] != open {
                key = keys.lists.len() as i64 + 1;
                keys.lists.push((key, node.acl.clone()));
            }
            keys.by_address.insert(address, key);
        });
        keys
    }

    fn key(&self, list: &Arc<[Acl]>) -> i64 {
        *self.by_address.get(&address(list)).expect("both walks see the same frozen tree")
    }
}

fn address(list: &Arc<[Acl]>) -> usize {
    Arc::as_ptr(list).cast::<Acl>().addr()
}

#[cfg(test)]
mod tests {
    use zabra_actors::types::{CreateKind, Txn, TxnBody, TxnHeader};

    use super::*;

    #[test]
    fn made_one_by_one_the_pieces_are_the_same_and_as_many_as_was_said() {
        let mut tree = Tree::new();
        for counter in 1..=40_u32 {
            let header = TxnHeader { session: SessionId(7), cxid: 0, zxid: Zxid(counter.into()), time: 1 };
            let body = match counter {
                1 => TxnBody::CreateSession { timeout_ms: 5000 },
                _ => TxnBody::Create {
                    kind: CreateKind::Create,
                    path: format!("/n{counter}").into(),
                    // Null, empty, and larger than pieces.
                    data: (counter % 3 > 0).then(|| Bytes::from(vec![1; PIECE * (counter as usize % 4)])),
                    acl: vec![Acl::world(i32::try_from(counter % 7).unwrap())],
                    ephemeral: counter % 2 == 0,
                    parent_cversion: 1,
                },
            };
            tree.apply(&Txn { header, body, digest: None }, &mut Vec::new());
        }
        let mut all = Vec::new();
        encode(&tree, &mut |piece| all.push(piece));
        let pieces = TreePieces::of(Box::new(tree));
        let total = pieces.total();
        let made: Vec<Bytes> = pieces.collect();
        assert!(made == all && all.len() > 20);
        assert_eq!(total, made.iter().map(|piece| piece.len() as u64).sum::<u64>());
    }

    #[test]
    fn little_of_a_growing_file_waits_for_the_disk() {
        use std::path::Path;

        use crate::disk::{Disk, SimDisk};
        let (size, path) = (5 << 20, Path::new("/snapshot"));
        for seed in 0..4 {
            let disk = SimDisk::new();
            let mut output = FileWriter { file: disk.create(path).unwrap(), offset: 0, synced: 0 };
            disk.sync_dir(Path::new("/")).unwrap();
            (0..size / PIECE).for_each(|_| output.write_all(&[1; PIECE]).unwrap());
            disk.crash(seed);
            let mut durable = Vec::new();
            disk.read(path).unwrap().read_to_end(&mut durable).unwrap();
            let kept = durable.iter().take_while(|byte| **byte == 1).count();
            assert!(kept >= size - SYNC_EVERY as usize, "{kept} of {size} bytes survive a power cut");
        }
    }

    #[test]
    fn pieces_are_of_one_size_and_never_empty() {
        let mut pieces = Vec::new();
        let mut out = |piece: Bytes| pieces.push(piece.len());
        let mut writer = SnapshotWriter::begin(&mut out);
        writer.sessions([].into_iter());
        writer.acls([].into_iter());
        let (data, acl) = (Bytes::from(vec![1; 3 * PIECE]), Arc::from([]));
        let stat = PersistedStat::default();
        writer.node(&NodeView { path: "", data: Some(&data), acl: &acl, stat }, OPEN_ACL_KEY);
        writer.finish(Zxid(5), 0);
        let (last, others) = pieces.split_last().unwrap();
        assert_eq!(others, [PIECE; 3]);
        assert!((1..PIECE).contains(last));
    }
}
