//! Reads one transaction log file, record by record, and says exactly where and how it ends.
//!
//! ```text
//! header 16 bytes: "ZKLG" | i32 version 2 | i64 the last zxid before this file (ours; Apache writes 0 and
//!                  ignores it: its database id)
//! record:          i64 Adler-32 of the entry | i32 length | entry | 'B'
//! end:             length 0 (preallocated zeros), or the end of the file
//! ```
//!
//! The reader judges records by themselves; what an ending means in the context of the other files is the
//! business of `replay.rs`.

use std::io::{self, BufRead, BufReader, Read};

use bytes::Bytes;
use zabra_actors::types::Zxid;

use super::tail::{LAST, Tail, be_i32, sum_matches, zxid_of};

/// "ZKLG".
pub(super) const MAGIC: [u8; 4] = *b"ZKLG";
/// The only version there ever was.
pub(super) const VERSION: i32 = 2;
/// Bytes of the file's header; the offset of the first record.
pub(super) const HEADER: usize = 16;
/// Bytes before a record's entry: checksum and length.
pub(super) const PREFIX: usize = 12;
/// Bytes of a TxnHeader: no entry is shorter.
pub(super) const MIN_ENTRY: usize = 32;
/// No entry is longer, in bytes: far above what a client may send (about 1 MiB; a multi has no more, and its
/// deletions of a session's ephemerals are short), far below what would exhaust the memory.
pub(super) const MAX_ENTRY: usize = 256 << 20;
/// How far behind a damaged record sound ones are looked for, in bytes: what one preallocation spans.
const SEARCH: u64 = 64 << 20;

/// A record that is sound in itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its transaction's zxid.
    pub zxid: Zxid,
    /// The entry: header, body, digest of the transaction.
    pub entry: Bytes,
    /// Where it begins, in bytes from the beginning of the file.
    pub start: u64,
    /// Where the next one would begin.
    pub end: u64,
}

/// How the records of a file end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// At the end of the file or at zeros.
    Clean,
    /// In a record that was never finished: the file ends inside it, or its last byte is missing.
    Cut(String),
    /// In a record that is whole but wrong.
    Corrupt(String),
}

/// What comes next in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// A record.
    Record(Record),
    /// No more of them.
    End(End),
}

/// See the module's story.
pub struct LogReader<R> {
    input: BufReader<R>,
    /// Where the next record begins.
    offset: u64,
    /// What was read of something that is not a record.
    leftover: Vec<u8>,
    /// The last zxid before this file, as far as it says.
    previous: Zxid,
}

impl<R: Read> LogReader<R> {
    /// Reads the header. The inner error says what is wrong with it; the reader can then still be asked
    /// what is [behind](LogReader::tail).
    pub fn open(input: R) -> io::Result<(LogReader<R>, Result<(), String>)> {
        let input = BufReader::with_capacity(1 << 16, input);
        let mut reader = LogReader { input, offset: 0, leftover: Vec::new(), previous: Zxid::ZERO };
        let header = reader.take(HEADER)?;
        let verdict = if header.len() < HEADER {
            Err(format!("its header is cut after {} of {HEADER} bytes", header.len()))
        } else if header[..4] != MAGIC {
            Err("it does not begin with ZKLG".to_string())
        } else if header[4..8] != VERSION.to_be_bytes() {
            Err(format!("its version is not {VERSION}"))
        } else {
            reader.offset = HEADER as u64;
            let previous = header[8..].try_into().expect("a header has 16 bytes");
            reader.previous = Zxid(i64::from_be_bytes(previous));
            Ok(())
        };
        if verdict.is_err() {
            reader.leftover = header;
        }
        Ok((reader, verdict))
    }

    /// The last zxid before this file; zero when it does not say.
    pub fn previous(&self) -> Zxid {
        self.previous
    }

    /// Where the records read so far end.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next record, or how they end. After an end there is nothing more to ask but what is behind.
    #[allow(clippy::should_implement_trait)] // an end is no None: it says how
    pub fn next(&mut self) -> io::Result<Next> {
        assert!(self.leftover.is_empty(), "a log file is not read on behind its end");
        let prefix = self.take(PREFIX)?;
        let Some(len) = prefix.get(8..PREFIX).map(be_i32) else {
            let end = if prefix.is_empty() { End::Clean } else { cut("inside the prefix of a record") };
            return Ok(self.end(prefix, end));
        };
        let Ok(len) = usize::try_from(len) else {
            return Ok(self.end(prefix, End::Corrupt(format!("a length of {len} bytes"))));
        };
        if prefix.iter().all(|b| *b == 0) {
            return Ok(self.end(prefix, End::Clean));
        }
        if !(MIN_ENTRY..=MAX_ENTRY).contains(&len) {
            let end = format!("a length of {len} bytes, not {MIN_ENTRY} to {MAX_ENTRY}");
            return Ok(self.end(prefix, End::Corrupt(end)));
        }
        let rest = self.take(len + 1)?;
        if rest.len() < len + 1 {
            return Ok(self.end([prefix, rest].concat(), cut("the file ends inside a record")));
        }
        if rest[len] != LAST {
            return Ok(self.end([prefix, rest].concat(), cut("a record without its last byte")));
        }
        if !sum_matches(&prefix, &rest[..len]) {
            let end = End::Corrupt("a record whose checksum does not match".to_string());
            return Ok(self.end([prefix, rest].concat(), end));
        }
        let start = self.offset;
        self.offset += (PREFIX + len + 1) as u64;
        let zxid = zxid_of(&rest);
        let mut entry = Bytes::from(rest);
        entry.truncate(len);
        Ok(Next::Record(Record { zxid, entry, start, end: self.offset }))
    }

    /// Looks at what is behind the end. `last` is the last transaction in order.
    pub fn tail(mut self, last: Zxid) -> io::Result<Tail> {
        let mut bytes = std::mem::take(&mut self.leftover);
        // Zeros are counted, not kept: mostly there is nothing else, tens of MiB of it.
        let mut zeros = 0;
        let mut rest = self.input.take(SEARCH);
        if is_zeros(&bytes) {
            loop {
                let more = match rest.fill_buf() {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    other => other?,
                };
                if more.is_empty() {
                    return Ok(Tail::EMPTY);
                }
                if !is_zeros(more) {
                    break;
                }
                let len = more.len();
                zeros += len;
                rest.consume(len);
            }
        }
        bytes.resize(bytes.len() + zeros, 0);
        rest.read_to_end(&mut bytes)?;
        Ok(match self.offset {
            0 => Tail::of_headless(&bytes, last),
            at => Tail::of(&bytes, at, last),
        })
    }

    fn end(&mut self, read: Vec<u8>, end: End) -> Next {
        self.leftover = read;
        Next::End(end)
    }

    /// Reads so many bytes, or what is left; memory grows with what is there, not with what is claimed.
    fn take(&mut self, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(len.min(1 << 20));
        self.input.by_ref().take(len as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

fn is_zeros(bytes: &[u8]) -> bool {
    bytes.iter().fold(0, |all, byte| all | byte) == 0 // without an end in between it takes many bytes a step
}

fn cut(how: &str) -> End {
    End::Cut(how.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::log::tests::{file_of, header, record};

    fn read(file: &[u8]) -> (Vec<i64>, End, u64) {
        let (mut reader, header) = LogReader::open(file).unwrap();
        assert_eq!(header, Ok(()));
        let mut zxids = Vec::new();
        loop {
            match reader.next().unwrap() {
                Next::Record(record) => zxids.push(record.zxid.0),
                Next::End(end) => return (zxids, end, reader.offset()),
            }
        }
    }

    fn sound_behind(file: &[u8], last: i64) -> Option<(u64, Zxid)> {
        let (mut reader, header) = LogReader::open(file).unwrap();
        while header.is_ok() && matches!(reader.next().unwrap(), Next::Record(_)) {}
        reader.tail(Zxid(last)).unwrap().sound
    }

    #[test]
    fn records_end_at_the_end_or_at_zeros() {
        let file = file_of(&[1, 2, 3]);
        let all = file.len() as u64;
        assert_eq!(read(&file), (vec![1, 2, 3], End::Clean, all));
        let padded = [&file[..], &[0; 100]].concat();
        assert_eq!(read(&padded), (vec![1, 2, 3], End::Clean, all));
        let barely = [&file[..], &[0; 5]].concat();
        assert!(matches!(read(&barely), (_, End::Cut(_), at) if at == all), "not even a prefix");
    }

    #[test]
    fn every_cut_ends_at_the_record_before() {
        let file = file_of(&[1, 2, 3]);
        let two = file_of(&[1, 2]).len();
        for len in two + 1..file.len() {
            let (zxids, end, at) = read(&file[..len]);
            assert_eq!((zxids, at), (vec![1, 2], two as u64), "{len}");
            assert!(matches!(end, End::Cut(_)), "{len}: {end:?}");
        }
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let file = file_of(&[1, 2, 3]);
        let (one, two) = (file_of(&[1]).len(), file_of(&[1, 2]).len());
        for at in one..two {
            let mut bad = file.clone();
            bad[at] ^= 4;
            let (zxids, end, offset) = read(&bad);
            assert_eq!((zxids, offset), (vec![1], one as u64), "{at}");
            assert_ne!(end, End::Clean, "{at}");
            // Wherever the flip is, the third record is still found behind it.
            assert_eq!(sound_behind(&bad, 1), Some((two as u64, Zxid(3))), "{at}");
        }
    }

    #[test]
    fn sound_records_are_found_behind_zeros_and_bad_headers() {
        let mut file = file_of(&[1, 2, 3]);
        let (one, two) = (file_of(&[1]).len(), file_of(&[1, 2]).len());
        file[one..two].fill(0);
        assert_eq!(read(&file), (vec![1], End::Clean, one as u64));
        assert_eq!(sound_behind(&file, 1), Some((two as u64, Zxid(3))));
        assert_eq!(sound_behind(&file, 3), None, "an older record is no news");
        let headless = [&[0; 16][..], &record(9)].concat();
        assert_eq!(sound_behind(&headless, 0), Some((16, Zxid(9))));
        assert_eq!(sound_behind(&[&header()[..], &[0; 70], &[9; 70]].concat(), 0), None);
    }

    #[test]
    fn many_zeros_are_as_few() {
        let tail = |file: &[u8]| {
            let (mut reader, _) = LogReader::open(file).unwrap();
            assert!(matches!(reader.next().unwrap(), Next::Record(_)));
            assert!(matches!(reader.next().unwrap(), Next::End(_)));
            reader.tail(Zxid(1)).unwrap()
        };
        let one = file_of(&[1]);
        for zeros in [0, 1, PREFIX, 1 << 16, (1 << 18) + 7] {
            let empty = [&one[..], &vec![0; zeros]].concat();
            assert_eq!(tail(&empty), Tail::of(&vec![0; zeros], one.len() as u64, Zxid(1)), "{zeros} zeros");
            let zeros = zeros.max(PREFIX); // fewer, and it is no end of records
            let behind = [&one[..], &vec![0; zeros], &record(2), &[0; 9]].concat();
            assert_eq!(tail(&behind).sound, Some(((one.len() + zeros) as u64, Zxid(2))), "{zeros} zeros");
        }
    }

    #[test]
    fn headers_are_judged() {
        let mut bad = file_of(&[1]);
        bad[7] = 3;
        for (file, says) in [(&b"ZKLG\0"[..], "cut after 5"), (b"", "cut after 0"), (&bad, "version")] {
            let (_, verdict) = LogReader::open(file).unwrap();
            assert!(verdict.unwrap_err().contains(says), "{says}");
        }
        let (_, verdict) = LogReader::open(&[0; 64][..]).unwrap();
        assert!(verdict.unwrap_err().contains("ZKLG"));
    }

    #[test]
    fn lengths_out_of_bounds_are_corrupt() {
        for len in [-1, 0, 31, MAX_ENTRY as i32 + 1] {
            let file = [&header()[..], &[1; 8], &len.to_be_bytes(), &[0; 64]].concat();
            assert!(matches!(read(&file), (_, End::Corrupt(how), 16) if how.contains(&len.to_string())));
        }
    }

    #[test]
    fn apache_wrote_this() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/apache-3.8.0/version-2");
        let read_file = |name: &str| read(&std::fs::read(format!("{dir}/{name}")).unwrap());
        assert_eq!(read_file("log.1"), ((1..=0xf).collect(), End::Clean, 1458));
        assert_eq!(read_file("log.10"), ((0x10..=0x14).collect(), End::Clean, 835));
    }
}
