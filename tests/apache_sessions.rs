//! Living sessions go from Apache to us and back, with the directory they are in: the password is the same function
//! of the id, and the sessions and ephemerals are in the same files. Needs Debian's `zookeeper` (3.8) and Java.

#![allow(clippy::unwrap_used)] // these are tests

mod apache;
mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use apache::Apache;
use bytes::{Bytes, BytesMut};
use common::Ensemble;
use zabra_actors::core::replica::password;
use zabra_actors::jute::{self, Shape};
use zabra_actors::types::{
    Acl, ConnectRequest, ConnectResponse, CreateKind, Op, Reply, ReplyBody, SessionId, ZkError, Zxid, perms,
};

/// Both servers have ticks of 500 ms, so this is the longest that they give. A session must live through the start
/// of the other server: each gives it its full time-out anew.
const TIMEOUT_MS: i32 = 10_000;

/// No answer takes that long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection with a session.
struct Client {
    socket: TcpStream,
    session: ConnectResponse,
    xid: i32,
}

impl Client {
    fn attach(host: &str, session: SessionId, password: &[u8]) -> Client {
        let mut socket = TcpStream::connect(host).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: Zxid::ZERO,
            timeout_ms: TIMEOUT_MS,
            session,
            password: Bytes::copy_from_slice(password),
            read_only: Some(false),
        };
        let mut out = BytesMut::new();
        jute::encode_connect_request(&request, &mut out);
        socket.write_all(&out).unwrap();
        let session = jute::decode_connect_response(frame(&mut socket)).unwrap();
        Client { socket, session, xid: 0 }
    }

    fn new(host: &str) -> Client {
        Client::attach(host, SessionId::NONE, &[])
    }

    /// Goes on with the session of a connection that is gone, and must get it.
    fn resume(host: &str, before: &ConnectResponse) -> Client {
        let client = Client::attach(host, before.session, &before.password);
        assert_eq!(client.session, *before, "the same id, time-out and password");
        client
    }

    fn ask(&mut self, op: &Op) -> Reply {
        self.xid += 1;
        let mut out = BytesMut::new();
        jute::encode_request(self.xid, op, &mut out).unwrap();
        self.socket.write_all(&out).unwrap();
        let reply = jute::decode_reply(frame(&mut self.socket)).unwrap().into_reply(Shape::of(op)).unwrap();
        assert_eq!(reply.xid, self.xid, "nobody watches, so the next frame is the answer");
        reply
    }

    fn create(&mut self, path: &str, flags: i32) {
        let created = self.ask(&Op::Create {
            kind: CreateKind::Create,
            path: path.into(),
            data: Some(Bytes::from_static(b"x")),
            acl: Some(vec![Acl::world(perms::ALL)]),
            flags,
        });
        assert_eq!(created.result, Ok(ReplyBody::Path(path.into())));
    }

    /// The session that this ephemeral is of; `None` when it is not there.
    fn owner_of(&mut self, path: &str) -> Option<i64> {
        match self.ask(&Op::Exists { path: path.into(), watch: false }).result {
            Ok(ReplyBody::Stat(stat)) => Some(stat.ephemeral_owner),
            Err(ZkError::NoNode) => None,
            other => panic!("{path}: {other:?}"),
        }
    }

    fn close(mut self) {
        assert_eq!(self.ask(&Op::CloseSession).result, Ok(ReplyBody::Empty));
    }
}

fn frame(socket: &mut TcpStream) -> Bytes {
    let mut length = [0; 4];
    socket.read_exact(&mut length).unwrap();
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    socket.read_exact(&mut frame).unwrap();
    frame.into()
}

const EPHEMERAL: i32 = 1;

#[test]
fn sessions_live_on_from_apache_to_us_and_back() {
    let mut ours = Ensemble::new(1, 0);
    let dir = ours.data_dir(1);
    fs::create_dir_all(&dir).unwrap();
    let place = tempfile::tempdir().unwrap();

    // Begun at Apache, which is killed.
    let apache = Apache::start(place.path(), &dir);
    let mut stays = Client::new(&apache.host());
    let mut closes = Client::new(&apache.host());
    let silent = Client::new(&apache.host());
    assert_eq!(stays.session.password, password(stays.session.session), "a function of the id");
    stays.create("/stays", EPHEMERAL);
    closes.create("/closes", EPHEMERAL);
    apache.kill();

    // On with us: the same sessions, with their ephemerals. One is closed here, and one begins.
    ours.spawn(1);
    ours.wait_serving();
    let host = ours.host(1);
    let mut stays = Client::resume(&host, &stays.session);
    let mut closes = Client::resume(&host, &closes.session);
    let expected = [&stays, &closes].map(|client| Some(client.session.session.0));
    assert_eq!([stays.owner_of("/stays"), stays.owner_of("/closes")], expected);
    closes.create("/closes-too", EPHEMERAL);
    closes.close();
    assert_eq!([stays.owner_of("/closes"), stays.owner_of("/closes-too")], [None, None]);
    stays.create("/stays-too", EPHEMERAL);
    let mut begins = Client::new(&host);
    begins.create("/begins", EPHEMERAL);
    // Of the one that has said nothing here the directory still knows, and nobody has its password but who asks.
    let refused = Client::attach(&host, silent.session.session, &[7; 16]);
    assert_eq!((refused.session.session, refused.session.timeout_ms), (SessionId::NONE, 0));
    ours.kill(1);

    // And back.
    let apache = Apache::start(place.path(), &dir);
    let host = apache.host();
    let mut stays = Client::resume(&host, &stays.session);
    let begins = Client::resume(&host, &begins.session);
    Client::resume(&host, &silent.session).close();
    let (mine, others) = (Some(stays.session.session.0), Some(begins.session.session.0));
    let owners = ["/stays", "/stays-too", "/begins", "/closes"].map(|path| stays.owner_of(path));
    assert_eq!(owners, [mine, mine, others, None]);
    begins.close();
    assert_eq!(stays.owner_of("/begins"), None);
    assert!(apache.complaints().is_empty(), "{:?}", apache.complaints());
}
