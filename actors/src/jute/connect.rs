//! The handshake: the first frame each way. It has no header; its position says what it is.
//!
//! The last byte, `readOnly`, is optional: clients before 3.4 and some of today do not send it, and read the
//! answer as a struct of fixed size. So the answer has it if and only if the request had.

use bytes::{Bytes, BytesMut};

use super::{Malformed, Reader, Writer};
use crate::types::{ConnectRequest, ConnectResponse, SessionId, Zxid};

/// The only protocol version there is. Both sides send it and ignore the other's.
const PROTOCOL_VERSION: i32 = 0;

/// Decodes the first frame of a connection, without its length word.
pub fn decode_connect_request(frame: Bytes) -> Result<ConnectRequest, Malformed> {
    let mut r = Reader::new(frame);
    Ok(ConnectRequest {
        protocol_version: r.i32("a ConnectRequest's protocolVersion")?,
        last_zxid_seen: Zxid(r.i64("a ConnectRequest's lastZxidSeen")?),
        timeout_ms: r.i32("a ConnectRequest's timeOut")?,
        session: SessionId(r.i64("a ConnectRequest's sessionId")?),
        // Null is as good as empty: neither proves a session.
        password: r.buffer("a ConnectRequest's passwd")?.unwrap_or_default(),
        read_only: read_only(&mut r)?,
    })
}

/// Appends the first frame of a client, with its length word.
pub fn encode_connect_request(request: &ConnectRequest, out: &mut BytesMut) {
    let written = Writer::new(out).framed(|w| {
        w.i32(request.protocol_version);
        w.i64(request.last_zxid_seen.0);
        w.i32(request.timeout_ms);
        w.i64(request.session.0);
        w.buffer(Some(&request.password));
        request.read_only.into_iter().for_each(|flag| w.bool(flag));
    });
    written.expect("a password is short");
}

/// Decodes the first frame of a server, without its length word.
pub fn decode_connect_response(frame: Bytes) -> Result<ConnectResponse, Malformed> {
    let mut r = Reader::new(frame);
    r.i32("a ConnectResponse's protocolVersion")?;
    Ok(ConnectResponse {
        timeout_ms: r.i32("a ConnectResponse's timeOut")?,
        session: SessionId(r.i64("a ConnectResponse's sessionId")?),
        password: password(&mut r)?,
        read_only: read_only(&mut r)?,
    })
}

/// Appends the answer to a [`ConnectRequest`], with its length word.
pub fn encode_connect_response(response: &ConnectResponse, out: &mut BytesMut) {
    let written = Writer::new(out).framed(|w| {
        w.i32(PROTOCOL_VERSION);
        w.i32(response.timeout_ms);
        w.i64(response.session.0);
        w.buffer(Some(&response.password));
        response.read_only.into_iter().for_each(|flag| w.bool(flag));
    });
    written.expect("a handshake has 37 bytes");
}

fn password(r: &mut Reader) -> Result<[u8; 16], Malformed> {
    let bytes = r.buffer("a ConnectResponse's passwd")?.unwrap_or_default();
    bytes[..]
        .try_into()
        .map_err(|_| Malformed(format!("a ConnectResponse's passwd has {} bytes instead of 16", bytes.len())))
}

fn read_only(r: &mut Reader) -> Result<Option<bool>, Malformed> {
    if r.remaining() == 0 { Ok(None) } else { r.bool("the readOnly flag").map(Some) }
}
