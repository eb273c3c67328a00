//! From bytes to what a client saw. A frame is read as the reply to a certain request; whatever is left over or
//! missing shows as [`Body::Garbled`], so that nothing can hide in unread bytes.

use super::encode;
use super::script::{AclEntry, Op, Text};

/// In front of the digits of a text that is no UTF-8.
pub const NO_UTF8: &str = "bytes ";

/// Something that came on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A ConnectResponse.
    Hello {
        protocol: i32,
        timeout: i32,
        session: i64,
        password: Vec<u8>,
        read_only: Option<u8>,
    },
    /// The reply to a request: which of its step's it answers, and what.
    Reply {
        of: usize,
        xid: i32,
        zxid: i64,
        err: i32,
        body: Body,
    },
    Event {
        zxid: i64,
        err: i32,
        kind: i32,
        state: i32,
        path: Text,
    },
    /// A frame that cannot be a reply here.
    Garbled(String),
    /// The server has closed the connection.
    Closed,
    /// An answer was due and did not come.
    Silence,
}

/// What stands behind the header of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    Empty,
    Path(Text),
    PathStat(Text, Stat),
    Stat(Stat),
    Data(Text, Stat),
    Acl(Vec<AclEntry>, Stat),
    Names(Vec<Text>),
    NamesStat(Vec<Text>, Stat),
    Number(i32),
    Buffer(Text),
    Ids(Vec<(Text, Text)>),
    Multi(Vec<Member>),
    Garbled(String),
}

/// A result within the reply to a multi or a multiRead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub kind: i32,
    pub err: i32,
    pub body: Body,
}

/// A Stat, without `dataLength` being special: all eleven fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    pub czxid: i64,
    pub mzxid: i64,
    pub ctime: i64,
    pub mtime: i64,
    pub version: i32,
    pub cversion: i32,
    pub aversion: i32,
    pub owner: i64,
    pub data_length: i32,
    pub num_children: i32,
    pub pzxid: i64,
}

/// Reads a payload from its begin; `None` where it ends too soon.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take(&mut self, length: usize) -> Option<&[u8]> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn int(&mut self) -> Option<i32> {
        self.take(4).map(|bytes| i32::from_be_bytes(bytes.try_into().expect("four bytes")))
    }

    fn long(&mut self) -> Option<i64> {
        self.take(8).map(|bytes| i64::from_be_bytes(bytes.try_into().expect("eight bytes")))
    }

    fn bytes(&mut self) -> Option<Option<Vec<u8>>> {
        match self.int()? {
            -1 => Some(None),
            length => self.take(usize::try_from(length).ok()?).map(|bytes| Some(bytes.to_vec())),
        }
    }

    /// Bytes that are no UTF-8 show as such.
    fn text(&mut self) -> Option<Text> {
        Some(self.bytes()?.map(|bytes| {
            String::from_utf8(bytes).unwrap_or_else(|e| format!("{NO_UTF8}{}", encode::hex(e.as_bytes())))
        }))
    }

    fn list<T>(&mut self, mut each: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        (0..self.int()?).map(|_| each(self)).collect()
    }

    fn texts(&mut self) -> Option<Vec<Text>> {
        self.list(Reader::text)
    }

    fn stat(&mut self) -> Option<Stat> {
        Some(Stat {
            czxid: self.long()?,
            mzxid: self.long()?,
            ctime: self.long()?,
            mtime: self.long()?,
            version: self.int()?,
            cversion: self.int()?,
            aversion: self.int()?,
            owner: self.long()?,
            data_length: self.int()?,
            num_children: self.int()?,
            pzxid: self.long()?,
        })
    }

    fn body(&mut self, opcode: i32) -> Option<Body> {
        Some(match opcode {
            1 | 9 => Body::Path(self.text()?),
            3 | 5 | 7 => Body::Stat(self.stat()?),
            4 | 16 => Body::Data(self.text()?, self.stat()?),
            6 => Body::Acl(self.list(|r| Some((r.int()?, r.text()?, r.text()?)))?, self.stat()?),
            8 | 103 => Body::Names(self.texts()?),
            12 => Body::NamesStat(self.texts()?, self.stat()?),
            14 | 22 => Body::Multi(self.members()?),
            15 | 19 | 21 => Body::PathStat(self.text()?, self.stat()?),
            102 => Body::Buffer(self.text()?),
            104 | 106 => Body::Number(self.int()?),
            107 => Body::Ids(self.list(|r| Some((r.text()?, r.text()?)))?),
            _ => Body::Empty,
        })
    }

    fn members(&mut self) -> Option<Vec<Member>> {
        let mut members = Vec::new();
        loop {
            let (kind, done, err) = (self.int()?, self.byte()?, self.int()?);
            if done != 0 {
                // The end mark is always the same; another would be seen.
                return (kind == -1 && err == -1).then_some(members);
            }
            let body = if kind == -1 { Body::Number(self.int()?) } else { self.body(kind)? };
            members.push(Member { kind, err, body });
        }
    }
}

/// Whether the record of a write, without its header, is all there. What follows it is ignored, as servers do.
pub fn is_whole(opcode: i32, record: &[u8]) -> bool {
    let mut r = Reader(record);
    let acl = |r: &mut Reader<'_>| r.list(|r| Some((r.int()?, r.bytes()?, r.bytes()?)));
    let mut read = || {
        r.bytes()?;
        match opcode {
            1 | 15 | 19 => (r.bytes()?, acl(&mut r)?, r.int()?, 0).3,
            21 => (r.bytes()?, acl(&mut r)?, r.int()?, r.long()?, 0).4,
            5 => (r.bytes()?, r.int()?, 0).2,
            7 => (acl(&mut r)?, r.int()?, 0).2,
            _ => (r.int()?, 0).1,
        };
        Some(())
    };
    read().is_some()
}

/// A payload as the answer to a handshake.
pub fn hello(payload: &[u8]) -> Seen {
    let mut r = Reader(payload);
    let mut read = || {
        Some(Seen::Hello {
            protocol: r.int()?,
            timeout: r.int()?,
            session: r.long()?,
            password: r.bytes()?.unwrap_or_default(),
            read_only: r.byte(),
        })
    };
    match read() {
        Some(seen) if r.0.is_empty() => seen,
        _ => Seen::Garbled(encode::hex(payload)),
    }
}

/// A payload as an event, if it is one: they have the xid -1, and so may a reply.
pub fn event(payload: &[u8]) -> Option<Seen> {
    let mut r = Reader(payload);
    let (xid, zxid, err) = (r.int()?, r.long()?, r.int()?);
    let (kind, state, path) = (r.int()?, r.int()?, r.text()?);
    (xid == -1 && r.0.is_empty()).then_some(Seen::Event { zxid, err, kind, state, path })
}

/// A payload as the reply to an operation, the one of that number in its step.
pub fn reply(payload: &[u8], op: &Op, of: usize) -> Seen {
    let mut r = Reader(payload);
    let mut header = || Some((r.int()?, r.long()?, r.int()?));
    let Some((xid, zxid, err)) = header() else { return Seen::Garbled(encode::hex(payload)) };
    let rest = r.0;
    let body = if err == 0 { r.body(op.opcode()) } else { Some(Body::Empty) };
    let body = body.filter(|_| r.0.is_empty()).unwrap_or_else(|| Body::Garbled(encode::hex(rest)));
    Seen::Reply { of, xid, zxid, err, body }
}
