//! Reads snapshots: ours, Apache's since 3.5, and what a leader sends. The format is told in `snapshot.rs`.
//!
//! A snapshot is good when its structure makes sense and every seal matches, and not before: what a
//! [`Visitor`] was given until then must be thrown away when the reading fails. Memory is bounded by what is
//! really there, never by a length that is claimed.
//!
//! Apache's snapshots are fuzzy: taken while transactions were applied, they may know effects that are newer
//! than their name, and may lack the ACL that such an effect refers to (ZOOKEEPER-4846). Replaying the log
//! over them sets it right; until then such a znode is closed to everybody.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufReader, Read};
use std::sync::Arc;

use zabra_actors::core::tree::{
    DIGEST_VERSION, PersistedStat, Tree, TreeLoader, content_crc, is_digested, node_digest,
};
use zabra_actors::types::{Acl, Id, SessionId, Zxid, perms};

use super::compression::is_damage;
use super::snapshot::{MAGIC, OPEN_ACL_KEY, VERSION};

/// No path, datum or ACL id is longer, in bytes; far above what a client may send (about 1 MiB).
const MAX_BUFFER: usize = 256 << 20;
/// What may follow the znodes, in bytes: seals, a digest (as text before 3.6.1), a zxid.
const MAX_TAIL: u64 = 4096;
/// What is wrong with a path or an ACL that cannot be read.
const NO_UTF8: &str = "a text is not UTF-8";
/// The length of a seal.
const SEAL: usize = 13;

/// Why a snapshot cannot be had.
#[derive(Debug)]
pub enum BadSnapshot {
    /// The disk failed while it was read.
    Disk(io::Error),
    /// It is not a snapshot, or not a whole or sound one.
    Damaged(String),
}

impl fmt::Display for BadSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadSnapshot::Disk(error) => write!(f, "cannot read: {error}"),
            BadSnapshot::Damaged(how) => f.write_str(how),
        }
    }
}

impl std::error::Error for BadSnapshot {}

/// What is told of a snapshot while it is read.
pub trait Visitor {
    /// A session and its time-out.
    fn session(&mut self, session: SessionId, timeout_ms: i32);

    /// A znode, its parent has been told before; `Err` says why it makes no sense.
    fn node(
        &mut self,
        path: &str,
        data: Option<&[u8]>,
        acl: &Arc<[Acl]>,
        stat: PersistedStat,
    ) -> Result<(), String>;
}

/// What a sound snapshot says at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The last transaction applied when the end was written, and the digest of the tree after it;
    /// `None` before the first transaction, too.
    pub digest: Option<(Zxid, i64)>,
    /// The last transaction processed (since 3.9, when asked for).
    pub last_processed: Option<Zxid>,
}

/// Verifies without keeping anything but sums.
#[derive(Debug, Default)]
pub(super) struct DigestSum {
    /// The digest of the tree that was read.
    pub(super) digest: i64,
    /// Its znodes.
    pub(super) nodes: u64,
    /// Its sessions.
    pub(super) sessions: u64,
}

impl Visitor for DigestSum {
    fn session(&mut self, _session: SessionId, _timeout_ms: i32) {
        self.sessions += 1;
    }

    fn node(
        &mut self,
        path: &str,
        data: Option<&[u8]>,
        _acl: &Arc<[Acl]>,
        stat: PersistedStat,
    ) -> Result<(), String> {
        self.nodes += 1;
        if is_digested(path) {
            let node = node_digest(content_crc(path, data), &stat);
            self.digest = self.digest.wrapping_add(node);
        }
        Ok(())
    }
}

/// Loads a tree; `zxid` is what the file's name says.
pub(super) fn read_tree(input: impl Read, zxid: Zxid) -> Result<(Tree, Summary), BadSnapshot> {
    struct Loader(TreeLoader);
    impl Visitor for Loader {
        fn session(&mut self, session: SessionId, timeout_ms: i32) {
            self.0.session(session, timeout_ms);
        }
        fn node(
            &mut self,
            path: &str,
            data: Option<&[u8]>,
            acl: &Arc<[Acl]>,
            stat: PersistedStat,
        ) -> Result<(), String> {
            self.0.node(path, data, acl, stat)
        }
    }
    let mut loader = Loader(TreeLoader::new());
    let summary = read_snapshot(input, &mut loader)?;
    let tree = loader.0.finish(zxid).map_err(BadSnapshot::Damaged)?;
    Ok((tree, summary))
}

/// Reads a whole snapshot.
pub fn read_snapshot(input: impl Read, visitor: &mut dyn Visitor) -> Result<Summary, BadSnapshot> {
    let mut input = Input {
        input: BufReader::with_capacity(1 << 16, input),
        sum: simd_adler32::Adler32::new(),
        offset: 0,
    };
    input.header()?;
    for _ in 0..input.count("sessions")? {
        let session = SessionId(input.i64()?);
        visitor.session(session, input.i32()?);
    }
    let acls = input.acls()?;
    let closed: Arc<[Acl]> = Arc::from([Acl::world(0)]);
    let open: Arc<[Acl]> = Arc::from([Acl::world(perms::ALL)]);
    let (mut path, mut data) = (Vec::new(), Vec::new());
    loop {
        input.buffer(&mut path)?;
        let path = std::str::from_utf8(&path).map_err(|_| input.damaged(NO_UTF8))?;
        if path == "/" {
            return input.tail();
        }
        let data = input.buffer(&mut data)?.then_some(&data[..]);
        let (acl, stat) = input.acl_key_and_stat()?;
        let acl = match acl {
            OPEN_ACL_KEY => &open,
            key => acls.get(&key).unwrap_or(&closed),
        };
        visitor.node(path, data, acl, stat).map_err(|why| input.damaged(why))?;
    }
}

struct Input<R> {
    input: BufReader<R>,
    sum: simd_adler32::Adler32,
    offset: u64,
}

impl<R: Read> Input<R> {
    fn header(&mut self) -> Result<(), BadSnapshot> {
        if self.array()? != MAGIC {
            return Err(self.damaged("it does not begin with ZKSN"));
        }
        match self.i32()? {
            VERSION => {}
            other => return Err(self.damaged(format!("its version is {other}, not {VERSION}"))),
        }
        self.i64().map(|_| ()) // the database id means nothing
    }

    fn acls(&mut self) -> Result<BTreeMap<i64, Arc<[Acl]>>, BadSnapshot> {
        let mut table = BTreeMap::new();
        for _ in 0..self.count("ACLs")? {
            let key = self.i64()?;
            let mut list = Vec::new();
            for _ in 0..self.count("entries of an ACL")? {
                let perms = self.i32()?;
                let id = Id::new(&self.string()?, &self.string()?);
                list.push(Acl { perms, id });
            }
            table.insert(key, Arc::from(list));
        }
        Ok(table)
    }

    /// What stands behind the data of each znode, in one piece: a field at a time takes longer than all else.
    fn acl_key_and_stat(&mut self) -> Result<(i64, PersistedStat), BadSnapshot> {
        let bytes: [u8; 68] = self.array()?;
        let i64_at = |at: usize| be_i64(&bytes[at..at + 8]);
        let i32_at = |at: usize| be_i32(&bytes[at..at + 4]);
        let stat = PersistedStat {
            czxid: i64_at(8),
            mzxid: i64_at(16),
            ctime: i64_at(24),
            mtime: i64_at(32),
            version: i32_at(40),
            cversion: i32_at(44),
            aversion: i32_at(48),
            ephemeral_owner: i64_at(52),
            pzxid: i64_at(60),
        };
        Ok((i64_at(0), stat))
    }

    /// All behind the znodes. Which of the two optional blocks are there nothing says but the length.
    fn tail(mut self) -> Result<Summary, BadSnapshot> {
        let mut bytes = Vec::new();
        let tail = self.input.by_ref().take(MAX_TAIL + 1).read_to_end(&mut bytes);
        tail.map_err(|error| self.failed(error))?;
        let mut rest = &bytes[..];
        self.seal(&mut rest)?;
        let mut summary = Summary::default();
        if rest.len() > 8 + SEAL {
            summary.digest = self.digest(&mut rest)?;
            self.seal(&mut rest)?;
        }
        if !rest.is_empty() {
            let zxid = self.cut(&mut rest, 8)?;
            summary.last_processed = Some(Zxid(be_i64(zxid)));
            self.seal(&mut rest)?;
        }
        if !rest.is_empty() {
            return Err(self.damaged("there is more behind its end"));
        }
        Ok(summary)
    }

    fn digest(&mut self, rest: &mut &[u8]) -> Result<Option<(Zxid, i64)>, BadSnapshot> {
        let zxid = Zxid(be_i64(self.cut(rest, 8)?));
        let version = be_i32(self.cut(rest, 4)?);
        if version >= DIGEST_VERSION {
            let digest = be_i64(self.cut(rest, 8)?);
            // Before the first transaction there is none: zeros, not the digest of an empty tree.
            let known = version == DIGEST_VERSION && zxid != Zxid::ZERO;
            return Ok(known.then_some((zxid, digest)));
        }
        // The first version was a text; and of other sums, so it cannot be compared.
        let len = be_i32(self.cut(rest, 4)?);
        self.cut(rest, usize::try_from(len).unwrap_or(usize::MAX))?;
        Ok(None)
    }

    fn seal(&mut self, rest: &mut &[u8]) -> Result<(), BadSnapshot> {
        let sum = i64::from(self.sum.finish());
        let found = be_i64(self.cut(rest, 8)?);
        if found != sum {
            return Err(self.damaged(format!("its checksum is {sum:#x}, but the seal says {found:#x}")));
        }
        if self.cut(rest, 5)? != b"\0\0\0\x01/" {
            return Err(self.damaged("a seal does not end with a slash"));
        }
        Ok(())
    }

    /// The next bytes of the tail.
    fn cut<'a>(&mut self, rest: &mut &'a [u8], len: usize) -> Result<&'a [u8], BadSnapshot> {
        let Some((bytes, behind)) = rest.split_at_checked(len) else {
            return Err(self.damaged("it ends inside its seals"));
        };
        self.sum.write(bytes);
        self.offset += len as u64;
        *rest = behind;
        Ok(bytes)
    }

    fn count(&mut self, of_what: &str) -> Result<i32, BadSnapshot> {
        match self.i32()? {
            -1 => Ok(0), // a null vector
            count @ 0.. => Ok(count),
            count => Err(self.damaged(format!("it claims {count} {of_what}"))),
        }
    }

    fn string(&mut self) -> Result<String, BadSnapshot> {
        let mut bytes = Vec::new();
        self.buffer(&mut bytes)?;
        String::from_utf8(bytes).map_err(|_| self.damaged(NO_UTF8))
    }

    /// Reads a buffer into `bytes`; false, and nothing in it, when it is null.
    fn buffer(&mut self, bytes: &mut Vec<u8>) -> Result<bool, BadSnapshot> {
        bytes.clear();
        let claimed = self.i32()?;
        if claimed == -1 {
            return Ok(false);
        }
        let Some(len) = usize::try_from(claimed).ok().filter(|len| *len <= MAX_BUFFER) else {
            return Err(self.damaged(format!("it claims {claimed} bytes of data; {MAX_BUFFER} are allowed")));
        };
        let read = self.input.by_ref().take(len as u64).read_to_end(bytes);
        read.map_err(|error| self.failed(error))?;
        if bytes.len() < len {
            return Err(self.damaged("it ends in the middle"));
        }
        self.sum.write(bytes);
        self.offset += len as u64;
        Ok(true)
    }

    fn i32(&mut self) -> Result<i32, BadSnapshot> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    fn i64(&mut self) -> Result<i64, BadSnapshot> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BadSnapshot> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(|error| self.failed(error))?;
        self.sum.write(&bytes);
        self.offset += N as u64;
        Ok(bytes)
    }

    fn failed(&self, error: io::Error) -> BadSnapshot {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged("it ends in the middle"),
            _ if is_damage(&error) => self.damaged(format!("it cannot be unpacked: {error}")),
            _ => BadSnapshot::Disk(error),
        }
    }

    fn damaged(&self, how: impl fmt::Display) -> BadSnapshot {
        BadSnapshot::Damaged(format!("damaged at offset {}: {how}", self.offset))
    }
}

fn be_i32(bytes: &[u8]) -> i32 {
    i32::from_be_bytes(bytes.try_into().expect("the caller cut four bytes"))
}

fn be_i64(bytes: &[u8]) -> i64 {
    i64::from_be_bytes(bytes.try_into().expect("the caller cut eight bytes"))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::disk::SnapshotWriter;
    use crate::disk::snapshot::encode;

    type Node = (String, Option<Bytes>, Arc<[Acl]>, PersistedStat);

    #[derive(Default)]
    struct Seen {
        sessions: Vec<(SessionId, i32)>,
        nodes: Vec<Node>,
    }

    impl Visitor for Seen {
        fn session(&mut self, session: SessionId, timeout_ms: i32) {
            self.sessions.push((session, timeout_ms));
        }
        fn node(
            &mut self,
            path: &str,
            data: Option<&[u8]>,
            acl: &Arc<[Acl]>,
            stat: PersistedStat,
        ) -> Result<(), String> {
            self.nodes.push((path.to_string(), data.map(Bytes::copy_from_slice), acl.clone(), stat));
            Ok(())
        }
    }

    fn fixture(name: &str) -> Vec<u8> {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/apache-3.8.0/version-2");
        std::fs::read(format!("{dir}/{name}")).unwrap()
    }

    fn read(bytes: &[u8]) -> (Seen, Summary) {
        let mut seen = Seen::default();
        let summary = read_snapshot(bytes, &mut seen).unwrap();
        (seen, summary)
    }

    fn collect(write: impl FnOnce(&mut dyn FnMut(Bytes))) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&mut |piece| bytes.extend_from_slice(&piece));
        bytes
    }

    /// What [`SnapshotWriter`] makes of what was read, with the ACLs numbered as they were.
    fn write_again(file: &[u8], seen: &Seen, summary: Summary) -> Vec<u8> {
        let mut table =
            Input { input: BufReader::new(&file[16..]), sum: simd_adler32::Adler32::new(), offset: 0 };
        for _ in 0..table.count("sessions").unwrap() {
            table.array::<12>().unwrap();
        }
        let acls = table.acls().unwrap();
        let (zxid, digest) = summary.digest.unwrap_or_default();
        collect(|out| {
            let mut writer = SnapshotWriter::begin(out);
            writer.sessions(seen.sessions.iter().copied());
            writer.acls(acls.iter().map(|(key, list)| (*key, list)).collect::<Vec<_>>().into_iter());
            for (path, data, acl, stat) in &seen.nodes {
                let table = acls.iter().find(|(_, list)| *list == acl).map(|(key, _)| *key);
                // Apache's own three znodes are the only ones with the open ACL's key.
                let key = table.filter(|_| !["", "/zookeeper", "/zookeeper/quota"].contains(&&path[..]));
                let view =
                    zabra_actors::core::tree::NodeView { path, data: data.as_deref(), acl, stat: *stat };
                writer.node(&view, key.unwrap_or(OPEN_ACL_KEY));
            }
            writer.finish(zxid, digest);
        })
    }

    #[test]
    fn what_apache_wrote_is_written_again_byte_for_byte() {
        for name in ["snapshot.0", "snapshot.f"] {
            let file = fixture(name);
            let (seen, summary) = read(&file);
            assert_eq!(write_again(&file, &seen, summary), file, "{name}");
        }
    }

    #[test]
    fn apaches_znodes_are_as_they_were_made() {
        let (seen, summary) = read(&fixture("snapshot.f"));
        assert_eq!(summary.digest, Some((Zxid(0xf), 0x4_96d8_36ef)));
        let node = |path: &str| seen.nodes.iter().find(|node| node.0 == path).unwrap();
        assert_eq!(node("/a").1.as_deref(), Some(&b"hello2"[..]));
        assert_eq!(node("/null").1, None);
        assert_eq!(node("/container").3.ephemeral_owner, i64::MIN);
        assert_eq!(node("/ttl").3.ephemeral_owner as u64, 0xff00_0000_0036_ee80);
        assert_eq!(node("/locked").2[0].id.scheme, "digest".into());
        assert_eq!(node("/null").2.len(), 2);
        assert!(!seen.nodes.iter().any(|node| node.0 == "/gone"));
    }

    #[test]
    fn apaches_trees_have_the_digest_they_say() {
        let (tree, summary) = read_tree(&fixture("snapshot.f")[..], Zxid(0xf)).unwrap();
        assert_eq!(summary.digest, Some((Zxid(0xf), tree.digest())));
        let (tree, summary) = read_tree(&fixture("snapshot.0")[..], Zxid::ZERO).unwrap();
        assert_eq!((summary.digest, tree.digest()), (None, 1_371_985_504));
    }

    #[test]
    fn a_tree_comes_back_from_its_bytes() {
        let (tree, _) = read_tree(&fixture("snapshot.f")[..], Zxid(0xf)).unwrap();
        let bytes = collect(|out| encode(&tree, out));
        let (again, summary) = read_tree(&bytes[..], Zxid(0xf)).unwrap();
        assert_eq!(summary, Summary { digest: Some((Zxid(0xf), tree.digest())), last_processed: None });
        assert_eq!(again.digest(), tree.digest());
        assert_eq!(again.sessions(), tree.sessions());
        assert_eq!(collect(|out| encode(&again, out)), bytes);
        let acls = |bytes: &[u8]| read(bytes).0.nodes.into_iter().map(|node| (node.0, node.2)).collect();
        let ours: BTreeMap<_, _> = acls(&bytes);
        assert_eq!(ours, acls(&fixture("snapshot.f")));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_seen() {
        let file = fixture("snapshot.f");
        for at in 8 + 8..file.len() {
            let mut bad = file.clone();
            bad[at] ^= 2;
            assert!(read_snapshot(&bad[..], &mut Seen::default()).is_err(), "byte {at}");
        }
        // Behind seal 1 it is whole: as if the digest had been switched off.
        let seal_1 = file.len() - 8 - 4 - 8 - SEAL;
        for len in (0..file.len()).filter(|len| *len != seal_1) {
            assert!(read_snapshot(&file[..len], &mut Seen::default()).is_err(), "{len} bytes");
        }
        assert_eq!(read(&file[..seal_1]).1, Summary::default());
    }

    #[test]
    fn the_blocks_at_the_end_are_optional() {
        let file = fixture("snapshot.0");
        let seal_1 = file.len() - 8 - 4 - 8 - SEAL;
        let sealed = |mut bytes: Vec<u8>| {
            let sum = i64::from(simd_adler32::adler32(&&bytes[..]));
            bytes.extend_from_slice(&sum.to_be_bytes());
            bytes.extend_from_slice(b"\0\0\0\x01/");
            bytes
        };
        let nine = 9_i64.to_be_bytes();
        let only_last = sealed([&file[..seal_1], &nine].concat());
        assert_eq!(read(&only_last).1, Summary { digest: None, last_processed: Some(Zxid(9)) });
        let both = sealed([&file[..], &nine].concat());
        assert_eq!(read(&both).1, Summary { digest: None, last_processed: Some(Zxid(9)) });
        let text = [&[0, 0, 0, 1], &[0, 0, 0, 3][..], b"abc"].concat();
        let old = sealed([&file[..seal_1], &nine, &text].concat());
        assert_eq!(read(&old).1, Summary::default());
    }

    #[test]
    fn claims_are_not_believed() {
        let header = fixture("snapshot.0")[..16].to_vec();
        let none = 0_i32.to_be_bytes();
        for claim in [i32::MAX, -2] {
            let bytes = [&header[..], &none, &none, &claim.to_be_bytes()].concat();
            let Err(BadSnapshot::Damaged(how)) = read_snapshot(&bytes[..], &mut Seen::default()) else {
                panic!("it claims {claim} bytes and has none");
            };
            assert!(how.contains(&format!("it claims {claim} bytes")), "{how}");
        }
    }

    #[test]
    fn an_acl_that_is_missing_closes_the_znode() {
        let file = collect(|out| {
            let mut writer = SnapshotWriter::begin(out);
            writer.sessions([].into_iter());
            writer.acls([].into_iter());
            let (acl, stat) = (Arc::from([]), PersistedStat::default());
            writer.node(&zabra_actors::core::tree::NodeView { path: "", data: None, acl: &acl, stat }, 77);
            writer.finish(Zxid(1), 0);
        });
        assert_eq!(read(&file).0.nodes[0].2[..], [Acl::world(0)]);
    }
}
