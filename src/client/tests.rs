//! The client against a server that says what the test wants it to say.

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use zabra_actors::jute::{self, Decoded};
use zabra_actors::types::{ConnectRequest, ConnectResponse, Deliver};

use super::*;

const SESSION: SessionId = SessionId(0x0100_0000_0000_0007);
const PASSWORD: [u8; 16] = *b"sixteen letters!";

/// A listener that accepts when the test says so.
struct Server(TcpListener);

impl Server {
    async fn bind() -> Server {
        Server(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn address(&self) -> String {
        self.0.local_addr().unwrap().to_string()
    }

    async fn accept(&self) -> Peer {
        Peer { stream: self.0.accept().await.unwrap().0, received: BytesMut::new() }
    }

    /// Accepts, and grants the session asked for or a new one.
    async fn attach(&self) -> (Peer, ConnectRequest) {
        let mut peer = self.accept().await;
        let request = jute::decode_connect_request(peer.frame().await.expect("a handshake")).unwrap();
        peer.grant(request.timeout_ms).await;
        (peer, request)
    }
}

/// A client, seen from the server.
struct Peer {
    stream: TcpStream,
    received: BytesMut,
}

impl Peer {
    /// The next frame; `None` when the client is gone.
    async fn frame(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = jute::take_frame(&mut self.received, 1 << 20).unwrap() {
                return Some(frame);
            }
            if self.stream.read_buf(&mut self.received).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    async fn request(&mut self) -> (i32, Op) {
        match jute::decode_request(self.frame().await.expect("a request")).unwrap() {
            (xid, Decoded::Op(op)) => (xid, op),
            (_, auth) => panic!("{auth:?}"),
        }
    }

    async fn say(&mut self, deliver: Deliver) {
        let mut out = BytesMut::new();
        jute::encode_deliver(&deliver, &mut out);
        self.stream.write_all(&out).await.unwrap();
    }

    async fn grant(&mut self, timeout_ms: i32) {
        let response =
            ConnectResponse { timeout_ms, session: SESSION, password: PASSWORD, read_only: Some(false) };
        self.say(Deliver::Connected(response)).await;
    }

    async fn reply(&mut self, xid: i32, zxid: i64, result: Result<ReplyBody, ZkError>) {
        self.say(Deliver::Reply(Reply { xid, zxid: Zxid(zxid), result })).await;
    }
}

fn options(servers: &[&Server]) -> Options {
    let list: Vec<String> = servers.iter().map(|server| server.address()).collect();
    Options::new(&list.join(",")).unwrap().session_timeout(Duration::from_secs(30))
}

async fn connected(server: &Server) -> (Client, Peer) {
    let (client, (peer, _)) = tokio::join!(Client::connect(options(&[server])), server.attach());
    (client.unwrap(), peer)
}

fn exists(path: &str, watch: bool) -> Op {
    Op::Exists { path: path.into(), watch }
}

#[tokio::test]
async fn requests_are_pipelined_and_answered_in_order() {
    let server = Server::bind().await;
    let (client, mut peer) = connected(&server).await;
    let first = client.submit(exists("/a", false)).await.unwrap();
    let second = client.submit(exists("/b", false)).await.unwrap();
    // Both arrive before either is answered.
    assert_eq!(peer.request().await, (1, exists("/a", false)));
    assert_eq!(peer.request().await, (2, exists("/b", false)));
    peer.reply(1, 5, Err(ZkError::NoNode)).await;
    peer.reply(2, 5, Ok(ReplyBody::Stat(Stat { version: 9, ..Stat::default() }))).await;
    assert_eq!(first.await.unwrap().result, Err(ZkError::NoNode));
    assert!(matches!(second.await.unwrap().result, Ok(ReplyBody::Stat(stat)) if stat.version == 9));
}

#[tokio::test]
async fn a_lost_connection_fails_what_was_sent_and_the_session_goes_on_elsewhere() {
    let (one, two) = (Server::bind().await, Server::bind().await);
    let (client, attached) = tokio::join!(Client::connect(options(&[&one, &two])), one.attach());
    let (client, (mut peer, request)) = (client.unwrap(), attached);
    assert_eq!((request.session, request.read_only), (SessionId::NONE, Some(false)));

    let answered = client.submit(exists("/a", false)).await.unwrap();
    peer.request().await;
    peer.reply(1, 5, Err(ZkError::NoNode)).await;
    answered.await.unwrap();
    let in_doubt = client.submit(delete_op("/a", None)).await.unwrap();
    peer.request().await;
    drop(peer);
    assert!(matches!(in_doubt.await, Err(Error::ConnectionLoss(_))));

    let (mut peer, request) = two.attach().await;
    assert_eq!((request.session, &request.password[..]), (SESSION, &PASSWORD[..]));
    assert_eq!(request.last_zxid_seen, Zxid(5), "a server behind this must refuse");
    let session = client.connected().await.unwrap();
    assert_eq!((session.id, session.server), (SESSION, two.address()));
    let again = client.submit(exists("/b", false)).await.unwrap();
    assert_eq!(peer.request().await, (1, exists("/b", false)), "the delete is not sent twice");
    peer.reply(1, 6, Err(ZkError::NoNode)).await;
    again.await.unwrap();
}

#[tokio::test]
async fn watches_and_identities_are_set_again_after_a_reconnect() {
    let server = Server::bind().await;
    let (client, mut peer) = connected(&server).await;
    let auth = async { client.add_auth("digest", "bob:secret").await.unwrap() };
    let answer = async {
        let (xid, decoded) = jute::decode_request(peer.frame().await.unwrap()).unwrap();
        assert!(matches!(decoded, Decoded::Auth { scheme, .. } if &*scheme == "digest"));
        peer.reply(xid, 0, Ok(ReplyBody::Empty)).await;
    };
    tokio::join!(auth, answer);
    for (xid, path, result) in
        [(1, "/there", Ok(ReplyBody::Stat(Stat::default()))), (2, "/missing", Err(ZkError::NoNode))]
    {
        let response = client.submit(exists(path, true)).await.unwrap();
        assert_eq!(peer.request().await, (xid, exists(path, true)));
        peer.reply(xid, 8, result).await;
        response.await.unwrap();
    }
    let mut events = client.events();
    drop(peer);

    let (mut peer, _) = server.attach().await;
    let (_, auth) = jute::decode_request(peer.frame().await.unwrap()).unwrap();
    assert!(matches!(auth, Decoded::Auth { .. }), "identities first: {auth:?}");
    let (xid, op) = peer.request().await;
    let expected = Op::SetWatches {
        relative_zxid: Zxid(8),
        data: vec!["/there".into()],
        exist: vec!["/missing".into()],
        child: vec![],
    };
    assert_eq!((xid, op), (jute::SET_WATCHES_XID, expected));
    let event = WatchEvent { kind: EventKind::NodeCreated, path: "/missing".into(), zxid: Zxid(-1) };
    peer.say(Deliver::Event(event.clone())).await;
    peer.reply(xid, 9, Ok(ReplyBody::Empty)).await;
    assert!(matches!(events.recv().await, Ok(Event::State(State::Connecting(_)))));
    assert!(matches!(events.recv().await, Ok(Event::State(State::Connected(_)))));
    assert_eq!(events.recv().await, Ok(Event::Watch(event)));
}

#[tokio::test]
async fn an_expired_session_is_the_end() {
    let server = Server::bind().await;
    let (client, peer) = connected(&server).await;
    let waiting = client.clone();
    drop(peer);
    let mut peer = server.accept().await;
    // Asked for while there is no connection.
    let response = waiting.submit(exists("/a", false)).await.unwrap();
    peer.frame().await.expect("a handshake");
    let refusal = ConnectResponse {
        timeout_ms: 0,
        session: SessionId::NONE,
        password: [0; 16],
        read_only: Some(false),
    };
    peer.say(Deliver::Connected(refusal)).await;
    assert_eq!(response.await, Err(Error::SessionExpired));
    assert_eq!(client.state(), State::Expired);
    assert_eq!(client.exists("/a", false).await, Err(Error::SessionExpired));
}

#[tokio::test]
async fn close_waits_for_the_reply() {
    let server = Server::bind().await;
    let (client, mut peer) = connected(&server).await;
    let serve = async {
        let (xid, op) = peer.request().await;
        assert_eq!(op, Op::CloseSession);
        peer.reply(xid, 9, Ok(ReplyBody::Empty)).await;
    };
    let (closed, ()) = tokio::join!(client.close(), serve);
    closed.unwrap();
    assert_eq!(client.exists("/a", false).await, Err(Error::Closed));
    assert_eq!(peer.frame().await, None, "the socket is closed");
}

#[tokio::test]
async fn dropping_the_last_handle_closes_the_session() {
    let server = Server::bind().await;
    let (client, mut peer) = connected(&server).await;
    drop(client);
    assert_eq!(peer.request().await, (1, Op::CloseSession));
}

#[tokio::test]
async fn a_reply_out_of_order_costs_the_connection() {
    let server = Server::bind().await;
    let (client, mut peer) = connected(&server).await;
    let response = client.submit(exists("/a", false)).await.unwrap();
    peer.request().await;
    peer.reply(17, 5, Err(ZkError::NoNode)).await;
    let error = response.await.unwrap_err().to_string();
    assert!(error.contains("xid 17 instead of 1"), "{error}");
    assert_eq!(peer.frame().await, None);
}

#[tokio::test]
async fn a_request_that_no_server_takes_is_not_sent() {
    let server = Server::bind().await;
    let (client, mut peer) = connected(&server).await;
    let huge = client.set_data("/a", vec![0; MAX_REQUEST], None).await;
    assert!(matches!(huge, Err(Error::TooLarge { limit: MAX_REQUEST, .. })));
    // Small in data, large in names.
    let names = vec![Acl::world(1); 50_000];
    assert!(matches!(client.set_acl("/a", names, None).await, Err(Error::TooLarge { .. })));
    let _response = client.submit(exists("/a", false)).await.unwrap();
    assert_eq!(peer.request().await.1, exists("/a", false), "the first thing that arrives");
}

#[tokio::test]
async fn pings_keep_the_session_and_silence_ends_the_connection() {
    let server = Server::bind().await;
    // The server has the last word on the time-out.
    let attach = async {
        let mut peer = server.accept().await;
        peer.frame().await.expect("a handshake");
        peer.grant(300).await;
        peer
    };
    let (client, mut peer) = tokio::join!(Client::connect(options(&[&server])), attach);
    let client = client.unwrap();
    assert_eq!(client.connected().await.unwrap().timeout, Duration::from_millis(300));
    assert_eq!(peer.request().await, (jute::PING_XID, Op::Ping));
    peer.reply(jute::PING_XID, 0, Ok(ReplyBody::Empty)).await;
    // Not answered any more: perhaps another ping, then the client gives the connection up and tries again.
    while let Some(frame) = peer.frame().await {
        assert_eq!(jute::decode_request(frame), Ok((jute::PING_XID, Decoded::Op(Op::Ping))));
    }
    let (_peer, request) = server.attach().await;
    assert_eq!(request.session, SESSION);
}

#[tokio::test]
async fn a_server_that_refuses_is_passed_over() {
    let (shut, open) = (Server::bind().await, Server::bind().await);
    let refuse = async { drop(shut.accept().await) };
    let (client, (), (_peer, _)) =
        tokio::join!(Client::connect(options(&[&shut, &open])), refuse, open.attach());
    assert_eq!(client.unwrap().connected().await.unwrap().server, open.address());
}

#[tokio::test]
async fn no_server_in_time_is_an_error_that_says_why() {
    let server = Server::bind().await;
    let address = server.address();
    drop(server);
    let options = Options::new(&address).unwrap().connect_timeout(Duration::from_millis(50));
    let error = Client::connect(options).await.unwrap_err().to_string();
    assert!(error.contains(&address) && error.contains("50ms"), "{error}");
}

#[tokio::test]
async fn a_failed_multi_names_its_culprit() {
    let server = Server::bind().await;
    let (client, mut peer) = connected(&server).await;
    let serve = async {
        let (xid, op) = peer.request().await;
        assert_eq!(op, Op::Multi(vec![check_op("/a", None), delete_op("/b", Some(3))]));
        let results = vec![MultiResult::Error(0), MultiResult::Error(ZkError::BadVersion.code())];
        peer.reply(xid, 9, Ok(ReplyBody::Multi(results))).await;
    };
    let multi = client.multi(vec![check_op("/a", None), delete_op("/b", Some(3))]);
    let (result, ()) = tokio::join!(multi, serve);
    assert_eq!(result, Err(Error::Multi { member: 1, error: ZkError::BadVersion }));
}

#[test]
fn lists_of_servers_are_checked() {
    for bad in ["", " , ", "localhost", "localhost:", "localhost:99999", "a:1,b"] {
        assert!(matches!(Options::new(bad), Err(Error::BadServers(_))), "{bad:?}");
    }
    let options = Options::new("a:1, b:2,[::1]:3").unwrap().starting_at(4);
    assert_eq!(options.servers, ["b:2", "[::1]:3", "a:1"]);
}
