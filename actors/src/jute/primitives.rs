//! Jute's primitives: a [`Reader`] that trusts no length it reads, a [`Writer`] that appends, and frames.
//!
//! A reader borrows nothing: it holds the frame as [`Bytes`], so a buffer inside is a slice of it that costs
//! a reference count. The price is that such a slice keeps the whole frame alive, and whatever
//! allocation the frame itself was cut from; who stores one for long copies it first (as `request` does).

use bytes::{BufMut, Bytes, BytesMut};

use super::Malformed;
use crate::types::Str;

/// The length, or count, that stands for null.
const NULL: i32 = -1;

/// Bytes of the length word before every frame.
const LENGTH_WORD: usize = 4;

/// Reads primitives one after another from the front of a frame.
///
/// Every method takes the name of what it reads, for the error.
#[derive(Clone, Debug)]
pub struct Reader {
    bytes: Bytes,
    /// How far we are; never beyond `bytes.len()`.
    at: usize,
}

impl Reader {
    /// A reader at the beginning of `bytes`.
    pub fn new(bytes: Bytes) -> Reader {
        Reader { bytes, at: 0 }
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// All that is left, as a slice of the frame.
    pub fn rest(self) -> Bytes {
        self.bytes.slice(self.at..)
    }

    /// The next `count` bytes, if they are there.
    fn take(&mut self, count: usize, what: &'static str) -> Result<&[u8], Malformed> {
        if count > self.remaining() {
            return Err(too_short(what, count, self.remaining()));
        }
        let from = self.at;
        self.at += count;
        Ok(&self.bytes[from..self.at])
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Malformed> {
        Ok(self.take(N, what)?.try_into().expect("take gives as many bytes as asked for"))
    }

    /// One byte; every value but 0 is true.
    pub fn bool(&mut self, what: &'static str) -> Result<bool, Malformed> {
        Ok(self.array::<1>(what)? != [0])
    }

    /// An `int`.
    pub fn i32(&mut self, what: &'static str) -> Result<i32, Malformed> {
        self.array(what).map(i32::from_be_bytes)
    }

    /// A `long`.
    pub fn i64(&mut self, what: &'static str) -> Result<i64, Malformed> {
        self.array(what).map(i64::from_be_bytes)
    }

    /// A length or count; `None` is null.
    fn length(&mut self, what: &'static str) -> Result<Option<usize>, Malformed> {
        match self.i32(what)? {
            NULL => Ok(None),
            length => match usize::try_from(length) {
                Ok(length) => Ok(Some(length)),
                Err(_) => Err(negative(what, length)),
            },
        }
    }

    /// A `buffer`, as a slice of the frame; `None` is null, which is not the same as empty.
    pub fn buffer(&mut self, what: &'static str) -> Result<Option<Bytes>, Malformed> {
        let Some(length) = self.length(what)? else { return Ok(None) };
        self.take(length, what)?;
        Ok(Some(self.bytes.slice(self.at - length..self.at)))
    }

    /// A `ustring` that may be null. Invalid UTF-8 is read as U+FFFD, as Java does; such a path is then refused
    /// by the rules for paths, not here.
    pub fn opt_string(&mut self, what: &'static str) -> Result<Option<Str>, Malformed> {
        let Some(length) = self.length(what)? else { return Ok(None) };
        let bytes = self.take(length, what)?;
        Ok(Some(match std::str::from_utf8(bytes) {
            Ok(valid) => Str::from(valid),
            Err(_) => Str::from(String::from_utf8_lossy(bytes)),
        }))
    }

    /// A `ustring` that must not be null.
    pub fn string(&mut self, what: &'static str) -> Result<Str, Malformed> {
        self.opt_string(what)?.ok_or_else(|| null(what))
    }

    /// A `vector`; `None` is null. `min_size` is the fewest bytes an element can have: a count that cannot
    /// fit in what is left is refused before anything is allocated for it. One below -1 is that of an empty vector,
    /// as Java's loop makes it.
    pub fn opt_vector<T>(
        &mut self,
        min_size: usize,
        what: &'static str,
        mut element: impl FnMut(&mut Reader) -> Result<T, Malformed>,
    ) -> Result<Option<Vec<T>>, Malformed> {
        assert!(min_size > 0, "elements without bytes would make the count unbounded");
        let count = match self.i32(what)? {
            NULL => return Ok(None),
            count => usize::try_from(count).unwrap_or(0),
        };
        if count > self.remaining() / min_size {
            return Err(too_short(what, count.saturating_mul(min_size), self.remaining()));
        }
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(Some(elements))
    }

    /// A `vector` that must not be null.
    pub fn vector<T>(
        &mut self,
        min_size: usize,
        what: &'static str,
        element: impl FnMut(&mut Reader) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        self.opt_vector(min_size, what, element)?.ok_or_else(|| null(what))
    }

    /// A `vector<ustring>` without nulls in it.
    pub fn strings(&mut self, what: &'static str) -> Result<Vec<Str>, Malformed> {
        self.vector(size_of::<i32>(), what, |r| r.string(what))
    }
}

// Errors are made out of line: the way through a well-formed frame stays short.
#[cold]
fn too_short(what: &'static str, needed: usize, left: usize) -> Malformed {
    Malformed(format!("{what} needs {needed} bytes but {left} are left"))
}

#[cold]
fn negative(what: &'static str, length: i32) -> Malformed {
    Malformed(format!("{what} has length {length}; only -1 (null) and above are lengths"))
}

#[cold]
fn null(what: &'static str) -> Malformed {
    Malformed(format!("{what} is null, which is not allowed here"))
}

/// Appends primitives to a buffer.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut BytesMut,
}

impl<'a> Writer<'a> {
    /// A writer at the end of `out`.
    pub fn new(out: &'a mut BytesMut) -> Writer<'a> {
        Writer { out }
    }

    /// Bytes as they are, without a length.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// One byte, 0 or 1.
    pub fn bool(&mut self, value: bool) {
        self.out.put_u8(value.into());
    }

    /// An `int`.
    pub fn i32(&mut self, value: i32) {
        self.out.put_i32(value);
    }

    /// A `long`.
    pub fn i64(&mut self, value: i64) {
        self.out.put_i64(value);
    }

    /// A length or count.
    fn length(&mut self, length: usize) {
        self.i32(i32::try_from(length).expect("what is stored came in frames, far below 2 GiB"));
    }

    /// A `buffer`; `None` is null.
    pub fn buffer(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            None => self.i32(NULL),
            Some(bytes) => {
                self.length(bytes.len());
                self.raw(bytes);
            }
        }
    }

    /// A `ustring`.
    pub fn string(&mut self, string: &str) {
        self.buffer(Some(string.as_bytes()));
    }

    /// A `ustring`; `None` is null.
    pub fn opt_string(&mut self, string: Option<&str>) {
        self.buffer(string.map(str::as_bytes));
    }

    /// A `vector`.
    pub fn vector<T>(&mut self, elements: &[T], mut element: impl FnMut(&mut Writer<'_>, &T)) {
        self.length(elements.len());
        for e in elements {
            element(self, e);
        }
    }

    /// A `vector` that may be null.
    pub fn opt_vector<T>(&mut self, elements: Option<&[T]>, element: impl FnMut(&mut Writer<'_>, &T)) {
        match elements {
            None => self.i32(NULL),
            Some(elements) => self.vector(elements, element),
        }
    }

    /// A `vector<ustring>`.
    pub fn strings(&mut self, strings: &[Str]) {
        self.vector(strings, |w, s| w.string(s));
    }

    /// A length word and what `body` writes behind it: a frame, or a record within a `buffer`.
    /// Says how long the body is; when that is more than a length word can hold, nothing is written.
    pub fn framed(&mut self, body: impl FnOnce(&mut Writer<'_>)) -> Result<usize, Malformed> {
        let start = self.out.len();
        self.out.put_i32(0);
        body(self);
        let length = self.out.len() - start - LENGTH_WORD;
        match i32::try_from(length) {
            Ok(word) => {
                self.out[start..start + LENGTH_WORD].copy_from_slice(&word.to_be_bytes());
                Ok(length)
            }
            Err(_) => {
                self.out.truncate(start);
                Err(Malformed(format!("a frame of {length} bytes is above the limit of {} bytes", i32::MAX)))
            }
        }
    }
}

/// Cuts the next whole frame, without its length word, off the front of what a socket has given so far.
///
/// `Ok(None)` when it is not all there yet; `limit` is the longest frame allowed, in bytes. After an error the
/// stream is lost: nobody knows where the next frame begins.
pub fn take_frame(received: &mut BytesMut, limit: usize) -> Result<Option<Bytes>, Malformed> {
    let Some(word) = received.first_chunk::<LENGTH_WORD>() else { return Ok(None) };
    let word = i32::from_be_bytes(*word);
    let length = usize::try_from(word).map_err(|_| negative("a frame", word))?;
    if length > limit {
        return Err(Malformed(format!(
            "a frame of {length} bytes is above the limit of {limit} bytes (jute.maxbuffer, max_frame)"
        )));
    }
    if received.len() - LENGTH_WORD < length {
        return Ok(None);
    }
    let mut frame = received.split_to(LENGTH_WORD + length);
    Ok(Some(frame.split_off(LENGTH_WORD).freeze()))
}
