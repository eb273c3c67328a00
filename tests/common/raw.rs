//! A client that says exactly what a test wants said, and blocks until it is answered.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use zabra_actors::jute::{self, Shape};
use zabra_actors::types::{
    Acl, ConnectRequest, ConnectResponse, CreateKind, Op, Reply, SessionId, Zxid, perms,
};

/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection with a session.
pub struct Client {
    /// The bytes.
    pub socket: TcpStream,
    /// What the server said to the handshake.
    pub session: ConnectResponse,
    xid: i32,
}

impl Client {
    /// A new session with this time-out.
    pub fn connect(address: &str, timeout_ms: i32) -> io::Result<Client> {
        let mut socket = open(address)?;
        socket.write_all(&hello(timeout_ms))?;
        let session = jute::decode_connect_response(read_frame(&mut socket)?).map_err(broken)?;
        Ok(Client { socket, session, xid: 0 })
    }

    /// Sends a request; returns its number.
    pub fn send(&mut self, op: &Op) -> io::Result<i32> {
        self.xid += 1;
        let mut out = BytesMut::new();
        jute::encode_request(self.xid, op, &mut out).map_err(broken)?;
        self.socket.write_all(&out)?;
        Ok(self.xid)
    }

    /// A request and its answer; events that come before it are dropped.
    pub fn ask(&mut self, op: &Op) -> io::Result<Reply> {
        self.send(op)?;
        self.answer(Shape::of(op))
    }

    /// The next answer; events that come before it are dropped.
    pub fn answer(&mut self, shape: Shape) -> io::Result<Reply> {
        loop {
            let frame = jute::decode_reply(read_frame(&mut self.socket)?).map_err(broken)?;
            if frame.xid != jute::EVENT_XID {
                return frame.into_reply(shape).map_err(broken);
            }
        }
    }
}

/// A connection that has said nothing yet.
pub fn open(address: &str) -> io::Result<TcpStream> {
    let socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// The frame that asks for a new session.
pub fn hello(timeout_ms: i32) -> Bytes {
    let request = ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: Zxid(0),
        timeout_ms,
        session: SessionId::NONE,
        password: Bytes::from_static(&[0; 16]),
        read_only: Some(false),
    };
    let mut out = BytesMut::new();
    jute::encode_connect_request(&request, &mut out);
    out.freeze()
}

/// A create that anybody may do anything with; flag 1 is ephemeral, 2 sequential.
pub fn create(path: &str, data: &[u8], flags: i32) -> Op {
    Op::Create {
        kind: CreateKind::Create,
        path: path.into(),
        data: Some(Bytes::copy_from_slice(data)),
        acl: Some(vec![Acl::world(perms::ALL)]),
        flags,
    }
}

/// The next frame, without its length.
pub fn read_frame(socket: &mut TcpStream) -> io::Result<Bytes> {
    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    let mut frame = vec![0; length];
    socket.read_exact(&mut frame)?;
    Ok(frame.into())
}

fn broken(e: jute::Malformed) -> io::Error {
    io::Error::other(e.to_string())
}
