//! A client's write on its way from a learner to the leader: the opcode and the client's own record.
//!
//! Besides what clients may send there is createSession, which the learner's server makes. A write that makes no
//! sense is forwarded as its opcode without a record: it still takes its place among the session's writes.

use bytes::{Bytes, BytesMut};

use super::request::{decode_op, write_op};
use super::{Malformed, Reader, Writer, opcode};
use crate::types::{Forwarded, ForwardedBytes, Op};

/// The opcode of an operation, and its record without a header.
pub fn encode_body(op: &Op) -> (i32, Bytes) {
    let mut out = BytesMut::new();
    write_op(&mut Writer::new(&mut out), op);
    (opcode::of(op), out.freeze())
}

/// The inverse of [`encode_body`]: as for a client's request, but a createSession is good here.
pub fn decode_body(opcode: i32, body: Bytes) -> Op {
    let mut r = Reader::new(body);
    match opcode {
        opcode::CREATE_SESSION => match r.i32("a createSession's timeOut") {
            Ok(timeout_ms) => Op::CreateSession { timeout_ms },
            Err(_) => Op::Undecodable { opcode },
        },
        _ => match decode_op(&mut r, opcode) {
            Op::Undecodable { opcode } if keeps_zxid_without_sense(opcode) => Op::Senseless { opcode },
            op => op,
        },
    }
}

/// The writes that a learner forwards without a record: it has found null in it where no null can be.
fn keeps_zxid_without_sense(opcode: i32) -> bool {
    use opcode::*;
    matches!(opcode, CREATE | CREATE2 | CREATE_CONTAINER | CREATE_TTL | DELETE | SET_ACL)
}

impl From<&Forwarded> for ForwardedBytes {
    fn from(forwarded: &Forwarded) -> ForwardedBytes {
        assert!(forwarded.op.is_write(), "only writes are forwarded, not {:?}", forwarded.op);
        let (opcode, body) = encode_body(&forwarded.op);
        ForwardedBytes {
            session: forwarded.session,
            local: forwarded.local,
            cxid: forwarded.cxid,
            opcode,
            body,
            auth: forwarded.auth.clone(),
        }
    }
}

impl TryFrom<ForwardedBytes> for Forwarded {
    type Error = Malformed;

    /// A peer that forwards what is no write breaks the protocol.
    fn try_from(bytes: ForwardedBytes) -> Result<Forwarded, Malformed> {
        let ForwardedBytes { session, local, cxid, opcode, body, auth } = bytes;
        let op = decode_body(opcode, body);
        if !op.is_write() {
            return Err(Malformed(format!("a forwarded request with opcode {opcode}, which is no write")));
        }
        Ok(Forwarded { session, local, cxid, op, auth })
    }
}
