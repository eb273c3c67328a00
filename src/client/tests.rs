//! The client against a server that says what the test wants it to say.

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use zabra_actors::jute::{self, Decoded};
use zabra_actors::types::{ConnectRequest, ConnectResponse, Deliver};

use super::*;

const SESSION: SessionId = SessionId(0x0100_0000_0000_0007);
const PASSWORD: [u8; 16] = *b"sixteen letters!";

/// What a server says to a session that it does not know.
const REFUSED: ConnectResponse =
    ConnectResponse { timeout_ms: 0, session: SessionId::NONE, password: [0; 16], read_only: Some(false) };

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
    peer.say(Deliver::Connected(REFUSED)).await;
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

#[tokio::test]
async fn a_client_with_a_root_does_not_see_what_is_above() {
    let server = Server::bind().await;
    let rooted = Options::new(&format!("{}/app", server.address())).unwrap();
    let (client, (mut peer, _)) = tokio::join!(Client::connect(rooted), server.attach());
    let client = client.unwrap();
    let mut events = client.events();
    let serve = async {
        let (xid, op) = peer.request().await;
        assert_eq!(op, create_op("/app/s-", "x", CreateMode::PersistentSequential, vec![Acl::world(31)]));
        let created = ReplyBody::PathStat("/app/s-0000000001".into(), Stat::default());
        peer.reply(xid, 5, Ok(created)).await;
        let (xid, op) = peer.request().await;
        assert_eq!(op, Op::GetData { path: "/app".into(), watch: true });
        let event = WatchEvent { kind: EventKind::NodeDataChanged, path: "/app".into(), zxid: Zxid(6) };
        peer.reply(xid, 5, Ok(ReplyBody::Data(None, Stat::default()))).await;
        peer.say(Deliver::Event(event)).await;
        // The configuration is nobody's own.
        let (xid, op) = peer.request().await;
        assert_eq!(op, Op::GetData { path: "/zookeeper/config".into(), watch: false });
        peer.reply(xid, 6, Ok(ReplyBody::Data(None, Stat::default()))).await;
    };
    let work = async {
        let path = client.create("/s-", "x", CreateMode::PersistentSequential).await.unwrap();
        assert_eq!(&*path, "/s-0000000001");
        let (_, _, watch) = client.get_data_and_watch("/").await.unwrap();
        let event = watch.await.unwrap();
        assert_eq!((event.kind, &*event.path), (EventKind::NodeDataChanged, "/"));
        assert_eq!(events.recv().await, Ok(Event::Watch(event)));
        client.get_config(false).await.unwrap();
    };
    tokio::join!(serve, work);
}

#[tokio::test]
async fn a_watch_outlives_its_connection_and_ends_with_its_session() {
    let server = Server::bind().await;
    let (client, mut peer) = connected(&server).await;
    let answer = async {
        for path in ["/a", "/b"] {
            let (xid, op) = peer.request().await;
            assert_eq!(op, exists(path, true));
            peer.reply(xid, 5, Err(ZkError::NoNode)).await;
        }
    };
    let ask = async {
        let (none, a) = client.exists_and_watch("/a").await.unwrap();
        let (_, b) = client.exists_and_watch("/b").await.unwrap();
        assert_eq!(none, None);
        (a, b)
    };
    let ((a, b), ()) = tokio::join!(ask, answer);
    drop(peer);
    let (mut peer, _) = server.attach().await;
    let (xid, op) = peer.request().await;
    assert!(matches!(op, Op::SetWatches { exist, .. } if exist.len() == 2));
    let event = WatchEvent { kind: EventKind::NodeCreated, path: "/a".into(), zxid: Zxid(-1) };
    peer.say(Deliver::Event(event.clone())).await;
    peer.reply(xid, 5, Ok(ReplyBody::Empty)).await;
    assert_eq!(a.await, Ok(event));
    drop(peer);
    let mut peer = server.accept().await;
    peer.frame().await.expect("a handshake");
    peer.say(Deliver::Connected(REFUSED)).await;
    assert_eq!(b.await, Err(Error::SessionExpired));
}

#[tokio::test]
async fn persistent_watches_are_set_again_and_removed_ones_are_not() {
    let server = Server::bind().await;
    let (client, mut peer) = connected(&server).await;
    let mut events = client.events();
    let answer = async {
        for expected in [
            Op::AddWatch { path: "/all".into(), recursive: true },
            Op::AddWatch { path: "/one".into(), recursive: false },
        ] {
            let (xid, op) = peer.request().await;
            assert_eq!(op, expected);
            peer.reply(xid, 5, Ok(ReplyBody::WatchAdded)).await;
        }
        let (xid, op) = peer.request().await;
        assert_eq!(op, Op::RemoveWatches { path: Some("/one".into()), kind: WatcherType::Any });
        peer.reply(xid, 5, Ok(ReplyBody::Empty)).await;
    };
    let ask = async {
        client.add_watch("/all", WatchMode::PersistentRecursive).await.unwrap();
        client.add_watch("/one", WatchMode::Persistent).await.unwrap();
        client.remove_watches("/one", WatcherType::Any).await.unwrap();
    };
    tokio::join!(ask, answer);
    let removed = Event::WatchRemoved { path: "/one".into(), watch: RemovedWatch::Persistent };
    assert_eq!(events.recv().await, Ok(removed));
    drop(peer);
    let (mut peer, _) = server.attach().await;
    let (_, op) = peer.request().await;
    assert!(
        matches!(&op, Op::SetWatches2 { persistent, recursive, .. } if persistent.is_empty() && recursive.len() == 1),
        "{op:?}"
    );
    // Without a connection nobody can be asked.
    assert!(client.forget_watches("/all", WatcherType::Any));
    assert!(!client.forget_watches("/all", WatcherType::Any));
}

#[tokio::test]
async fn a_refused_identity_is_the_end() {
    let server = Server::bind().await;
    let (client, mut peer) = connected(&server).await;
    let waiting = client.submit(exists("/a", false)).await.unwrap();
    peer.request().await;
    let answer = async {
        let (xid, _) = jute::decode_request(peer.frame().await.unwrap()).unwrap();
        peer.reply(xid, 0, Err(ZkError::AuthFailed)).await;
    };
    let (refused, ()) = tokio::join!(client.add_auth("nope", "x"), answer);
    assert_eq!(refused, Err(Error::Zk(ZkError::AuthFailed)));
    assert!(matches!(waiting.await, Err(Error::ConnectionLoss(_))), "it was sent");
    assert_eq!(client.exists("/a", false).await, Err(Error::AuthFailed));
    assert_eq!(client.state(), State::AuthFailed);
}

#[tokio::test]
async fn a_read_only_server_is_left_for_a_better_one() {
    let (lonely, whole) = (Server::bind().await, Server::bind().await);
    let wish = options(&[&lonely, &whole]).read_only(true);
    let attach = async {
        let mut peer = lonely.accept().await;
        let request = jute::decode_connect_request(peer.frame().await.unwrap()).unwrap();
        assert_eq!(request.read_only, Some(true));
        let granted = ConnectResponse {
            timeout_ms: 30_000,
            session: SESSION,
            password: PASSWORD,
            read_only: Some(true),
        };
        peer.say(Deliver::Connected(granted)).await;
        peer
    };
    let (client, _peer) = tokio::join!(Client::connect(wish), attach);
    let client = client.unwrap();
    assert!(client.connected().await.unwrap().read_only);
    // It asks both; one still says no.
    for (server, answer) in [(&lonely, "ro"), (&whole, "rw")] {
        let mut peer = server.accept().await;
        let mut word = [0; 4];
        peer.stream.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"isro");
        peer.stream.write_all(answer.as_bytes()).await.unwrap();
    }
    let (_peer, request) = whole.attach().await;
    assert_eq!(request.session, SessionId::NONE, "no other server knows what a lonely one has granted");
    let mut events = client.events();
    while !matches!(client.state(), State::Connected(session) if !session.read_only) {
        events.recv().await.unwrap();
    }
}

#[tokio::test]
async fn a_session_can_be_taken_over_by_another_client() {
    let server = Server::bind().await;
    let wish = options(&[&server]).resuming(SESSION, Password(PASSWORD));
    let (client, (_peer, request)) = tokio::join!(Client::connect(wish), server.attach());
    assert_eq!((request.session, &request.password[..]), (SESSION, &PASSWORD[..]));
    let session = client.unwrap().connected().await.unwrap();
    assert_eq!((session.id, session.password), (SESSION, Password(PASSWORD)));
}

#[tokio::test]
async fn whoever_cannot_wait_is_told_when_all_servers_were_tried() {
    let (one, two) = (Server::bind().await, Server::bind().await);
    let wish = options(&[&one, &two]);
    let last = two.address();
    drop((one, two));
    let client = Client::start(wish);
    let error = client.reachable().await.unwrap_err();
    assert!(matches!(&error, Error::Unreachable(why) if why.contains(&last)), "{error}");
}

#[tokio::test]
async fn paths_that_are_none_are_not_sent() {
    let server = Server::bind().await;
    let (client, mut peer) = connected(&server).await;
    for path in ["", "a", "/a/", "/a//b", "/./a"] {
        assert!(matches!(client.exists(path, false).await, Err(Error::BadPath(_))), "{path}");
        assert!(matches!(client.multi(vec![delete_op(path, None)]).await, Err(Error::BadPath(_))), "{path}");
    }
    // The number makes a name of it.
    let numbered = create_op("/a/", "", CreateMode::PersistentSequential, vec![]);
    let _response = client.submit(numbered.clone()).await.unwrap();
    assert_eq!(peer.request().await.1, numbered, "the first thing that arrives");
}
