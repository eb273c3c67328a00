//! Compressed snapshots, as Apache names and frames them: `snapshot.<zxid>.gz` and `snapshot.<zxid>.snappy`.
//!
//! A file's suffix says how to read it, whatever the setting says now. What is compressed is the whole plain
//! file, so that checksums and digests are the same.
//!
//! ```text
//! gz:     one gzip member
//! snappy: 82 "SNAPPY" 00 | i32 version 1 | i32 readable since 1 | (i32 length | a raw snappy block)*
//! ```
//!
//! The framing of snappy is that of Java's snappy library, not the one that others have agreed upon.

use std::io::{self, Read, Write};

use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

/// How a snapshot is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// gzip: smaller, and slower to write.
    Gz,
    /// snappy: quick.
    Snappy,
}

/// "SNAPPY" between a byte that is no text and a zero.
const MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
/// The version of the framing, and the oldest that can read it.
const VERSION: i32 = 1;
/// Bytes of a block before compression; Java's default.
const BLOCK: usize = 32 << 10;
/// No block is longer, compressed or not, in bytes; Java's writer can be told to make them this long.
const MAX_BLOCK: usize = 512 << 20;

impl Compression {
    /// What `storage.compression` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gz => "gz",
            Compression::Snappy => "snappy",
        }
    }

    /// What a file's name ends with.
    pub fn suffix(self) -> &'static str {
        match self {
            Compression::None => "",
            Compression::Gz => ".gz",
            Compression::Snappy => ".snappy",
        }
    }

    /// What the suffix of a file says. Like Apache, we take an unknown one for a plain file: whether it is one
    /// its content shows.
    pub(super) fn of_suffix(suffix: &str) -> Compression {
        match suffix {
            ".gz" => Compression::Gz,
            ".snappy" => Compression::Snappy,
            _ => Compression::None,
        }
    }

    /// The plain bytes of what is read. An error without a number of the system's is the content's fault, not
    /// the disk's: see [`is_damage`].
    pub(super) fn reader(self, input: Box<dyn Read + Send>) -> Box<dyn Read + Send> {
        match self {
            Compression::None => input,
            Compression::Gz => Box::new(GzDecoder::new(io::BufReader::with_capacity(BLOCK, input))),
            Compression::Snappy => Box::new(SnappyReader { input, block: Vec::new(), at: 0, begun: false }),
        }
    }
}

/// Does this error of a reader tell of wrong bytes, and not of a disk that failed?
pub(super) fn is_damage(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    error.raw_os_error().is_none() && matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof)
}

/// Compresses what is written into it.
pub(super) enum Packer<W: Write> {
    /// Passes it on.
    Plain(W),
    /// See [`Compression::Gz`].
    Gz(GzEncoder<W>),
    /// See [`Compression::Snappy`].
    Snappy(SnappyWriter<W>),
}

impl<W: Write> Packer<W> {
    /// Packs into `output`.
    pub(super) fn new(compression: Compression, output: W) -> Packer<W> {
        match compression {
            Compression::None => Packer::Plain(output),
            Compression::Gz => Packer::Gz(GzEncoder::new(output, flate2::Compression::fast())),
            Compression::Snappy => Packer::Snappy(SnappyWriter { output, block: Vec::new(), begun: false }),
        }
    }

    /// Writes the rest, and gives back what was written into.
    pub(super) fn finish(self) -> io::Result<W> {
        match self {
            Packer::Plain(output) => Ok(output),
            Packer::Gz(encoder) => encoder.finish(),
            Packer::Snappy(writer) => writer.finish(),
        }
    }
}

impl<W: Write> Write for Packer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Packer::Plain(output) => output.write(bytes),
            Packer::Gz(encoder) => encoder.write(bytes),
            Packer::Snappy(writer) => writer.write(bytes),
        }
    }

    /// A block is not cut short: all is written when the packer is finished.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// See the module's story.
pub(super) struct SnappyWriter<W> {
    output: W,
    /// What is not yet a whole block.
    block: Vec<u8>,
    /// The header is written.
    begun: bool,
}

impl<W: Write> SnappyWriter<W> {
    fn header(&mut self) -> io::Result<()> {
        if !std::mem::replace(&mut self.begun, true) {
            self.output.write_all(&MAGIC)?;
            self.output.write_all(&VERSION.to_be_bytes())?;
            self.output.write_all(&VERSION.to_be_bytes())?;
        }
        Ok(())
    }

    fn put_block(&mut self) -> io::Result<()> {
        self.header()?;
        let packed = snap::raw::Encoder::new().compress_vec(&self.block).map_err(invalid)?;
        let len = i32::try_from(packed.len()).expect("a block of 32 KiB does not grow by much");
        self.output.write_all(&len.to_be_bytes())?;
        self.output.write_all(&packed)?;
        self.block.clear();
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..taken]);
        if self.block.len() == BLOCK {
            self.put_block()?;
        }
        Ok(taken)
    }

    fn finish(mut self) -> io::Result<W> {
        if self.block.is_empty() { self.header() } else { self.put_block() }?;
        Ok(self.output)
    }
}

struct SnappyReader {
    input: Box<dyn Read + Send>,
    /// The block being handed out.
    block: Vec<u8>,
    at: usize,
    /// The header is read.
    begun: bool,
}

impl SnappyReader {
    fn header(&mut self) -> io::Result<()> {
        let mut header = [0; 16];
        self.input.read_exact(&mut header)?;
        if header[..8] != MAGIC {
            return Err(invalid("it does not begin as Java's snappy does"));
        }
        let since = i32::from_be_bytes(header[12..].try_into().expect("four bytes"));
        if since > VERSION {
            return Err(invalid(format!("its framing is of version {since}, and only {VERSION} is known")));
        }
        self.begun = true;
        Ok(())
    }

    /// Unpacks the next block; false at the end.
    fn next_block(&mut self) -> io::Result<bool> {
        let mut prefix = Vec::new();
        self.input.by_ref().take(4).read_to_end(&mut prefix)?;
        if prefix.is_empty() {
            return Ok(false);
        }
        let Ok(prefix) = <[u8; 4]>::try_from(prefix) else {
            return Err(invalid("it ends inside the length of a block"));
        };
        let len = i32::from_be_bytes(prefix);
        let Some(len) = usize::try_from(len).ok().filter(|len| (1..=MAX_BLOCK).contains(len)) else {
            return Err(invalid(format!("a block of {len} bytes")));
        };
        let mut packed = Vec::with_capacity(len.min(1 << 20));
        self.input.by_ref().take(len as u64).read_to_end(&mut packed)?;
        if packed.len() < len {
            return Err(invalid("it ends inside a block"));
        }
        // snappy makes at most 64 bytes of three, so that a claim has to be paid for.
        let claimed = snap::raw::decompress_len(&packed).map_err(invalid)?;
        if claimed > MAX_BLOCK || claimed > packed.len().saturating_mul(64) {
            return Err(invalid(format!("a block of {len} bytes claims to unpack to {claimed}")));
        }
        self.block = snap::raw::Decoder::new().decompress_vec(&packed).map_err(invalid)?;
        self.at = 0;
        Ok(true)
    }
}

impl Read for SnappyReader {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if !self.begun {
            self.header()?;
        }
        while self.at == self.block.len() {
            if !self.next_block()? {
                return Ok(0);
            }
        }
        let len = bytes.len().min(self.block.len() - self.at);
        bytes[..len].copy_from_slice(&self.block[self.at..self.at + len]);
        self.at += len;
        Ok(len)
    }
}

fn invalid(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Compression; 3] = [Compression::None, Compression::Gz, Compression::Snappy];

    fn pack(compression: Compression, bytes: &[u8]) -> Vec<u8> {
        let mut writer = Packer::new(compression, Vec::new());
        writer.write_all(bytes).unwrap();
        writer.finish().unwrap()
    }

    fn unpack(compression: Compression, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        let mut reader = compression.reader(Box::new(io::Cursor::new(bytes.to_vec())));
        reader.read_to_end(&mut plain).map(|_| plain)
    }

    fn sample(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * i / 7) as u8).collect()
    }

    #[test]
    fn what_is_packed_is_unpacked() {
        for compression in ALL {
            for len in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5] {
                let plain = sample(len);
                assert_eq!(
                    unpack(compression, &pack(compression, &plain)).unwrap(),
                    plain,
                    "{compression:?} {len}"
                );
            }
        }
    }

    #[test]
    fn damage_is_told_from_a_failing_disk() {
        for compression in [Compression::Gz, Compression::Snappy] {
            let whole = pack(compression, &sample(2 * BLOCK));
            for len in [3, 20, whole.len() / 2, whole.len() - 1] {
                let error = unpack(compression, &whole[..len]).unwrap_err();
                assert!(is_damage(&error), "{compression:?} cut to {len}: {error:?}");
            }
            let error = unpack(compression, &[0x42; 64]).unwrap_err();
            assert!(is_damage(&error), "{compression:?}: {error:?}");
        }
        assert!(!is_damage(&io::Error::from(rustix::io::Errno::IO)));
        assert!(!is_damage(&io::Error::from(rustix::io::Errno::INVAL)));
    }

    #[test]
    fn claims_of_a_block_are_not_believed() {
        let header = &pack(Compression::Snappy, &[])[..];
        assert_eq!(header.len(), 16);
        for len in [0, -1, i32::MAX] {
            let bad = [header, &len.to_be_bytes()].concat();
            assert!(is_damage(&unpack(Compression::Snappy, &bad).unwrap_err()), "{len}");
        }
        // Five bytes that say they hold 256 MiB.
        let block = [0x80, 0x80, 0x80, 0x80, 0x01];
        let bad = [header, &5_i32.to_be_bytes(), &block].concat();
        let error = unpack(Compression::Snappy, &bad).unwrap_err().to_string();
        assert!(error.contains("claims to unpack to 268435456"), "{error}");
    }

    #[test]
    fn suffixes_name_their_compression() {
        for compression in ALL {
            assert_eq!(Compression::of_suffix(compression.suffix()), compression);
        }
        assert_eq!(Compression::of_suffix(".bak"), Compression::None);
    }
}
