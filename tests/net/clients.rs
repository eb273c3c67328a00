//! The clients' port.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use zabra::net::{AuthSettings, ClientSettings, Conf, Listener};
use zabra_actors::handle::{Brain, FromClient, FromPeer, Opened};
use zabra_actors::jute;
use zabra_actors::ports::ClientSink;
use zabra_actors::questions::Questions;
use zabra_actors::stats::{QuotaFigures, Stats};
use zabra_actors::turn::Monotonic;
use zabra_actors::types::{
    ConnId, ConnectRequest, ConnectResponse, Deliver, Op, Phase, Reply, ReplyBody, Request, SessionId, Stat,
    ZkError, Zxid,
};

use super::{Heard, ear, no_log, soon};

/// A listener, and the brain's side of it in the hands of the test.
pub(super) struct Server {
    pub(super) listener: Listener,
    pub(super) stats: Arc<Stats>,
    opened: Heard<Opened>,
    pub(super) clients: Heard<FromClient>,
}

fn conf() -> Conf {
    Conf {
        client_port: 2181,
        data_dir: "/no such/version-2".into(),
        data_log_dir: "/no such/version-2".into(),
        tick_ms: 2000,
        min_session_timeout_ms: 4000,
        max_session_timeout_ms: 40_000,
        server_id: 3,
        quorum: None,
    }
}

/// A brain that can be asked and has nothing to tell.
fn questions() -> Questions {
    let oracle = Oracle.start();
    Questions {
        watches: oracle.clone().recipient(),
        ephemerals: oracle.clone().recipient(),
        owners: oracle.clone().recipient(),
        sessions: oracle.clone().recipient(),
        digests: oracle.clone().recipient(),
        expiry: oracle.recipient(),
        clock: Monotonic::start(),
    }
}

struct Oracle;

impl Actor for Oracle {
    type Context = Context<Self>;
}

impl<M> Handler<M> for Oracle
where
    M: Message + 'static,
    M::Result: Default + Send,
{
    type Result = MessageResult<M>;

    fn handle(&mut self, _: M, _: &mut Context<Self>) -> Self::Result {
        MessageResult(M::Result::default())
    }
}

pub(super) fn settings() -> ClientSettings {
    ClientSettings {
        listen: "127.0.0.1:0".to_string(),
        max_connections_per_ip: 0,
        max_connections: 0,
        max_frame: 1000,
        max_outstanding: 1000,
        large_requests: None,
        request_throttle: None,
        connection_throttle: None,
        four_letter_words: ["ruok", "srvr", "stat", "mntr", "isro"].map(String::from).to_vec(),
        auth: AuthSettings::default(),
        standalone: false,
        local_sessions: false,
        conf: conf(),
    }
}

impl Server {
    pub(super) fn start(settings: ClientSettings) -> Server {
        Server::start_on(settings, vec![])
    }

    pub(super) fn start_on(settings: ClientSettings, arbiters: Vec<actix_rt::ArbiterHandle>) -> Server {
        Server::start_with(settings, arbiters, questions())
    }

    pub(super) fn start_with(
        settings: ClientSettings,
        arbiters: Vec<actix_rt::ArbiterHandle>,
        questions: Questions,
    ) -> Server {
        let stats = Arc::new(Stats::default());
        stats.phase.set(Phase::Broadcast as i64);
        stats.state.set(2);
        let ((opened, opened_heard), (clients, clients_heard)) = (ear(), ear());
        let brain = Brain { opened, clients, peers: ear::<FromPeer>().0, questions, snapshots: ear().0 };
        let listener =
            Listener::start(settings, brain, stats.clone(), arbiters, &no_log()).expect("a free port");
        Server { listener, stats, opened: opened_heard, clients: clients_heard }
    }

    /// A connection that has said nothing yet.
    pub(super) async fn connect(&self) -> TcpStream {
        soon(TcpStream::connect(self.listener.local_addr())).await.expect("it listens")
    }

    /// A connection with its handshake done.
    pub(super) async fn client(&mut self) -> (TcpStream, Box<dyn ClientSink>, ConnId) {
        let mut socket = self.connect().await;
        socket.write_all(&connect_frame()).await.expect("written");
        let (sink, conn) = self.next_handshake().await;
        sink.deliver(vec![Deliver::Connected(response(30_000))]);
        let answer = read_frame(&mut socket).await;
        let answer = jute::decode_connect_response(answer).expect("a response");
        assert_eq!(answer, response(30_000));
        (socket, sink, conn)
    }

    pub(super) async fn next_handshake(&mut self) -> (Box<dyn ClientSink>, ConnId) {
        let opened = self.opened.next().await;
        match self.clients.next().await {
            FromClient::Connect { conn, request } => {
                assert_eq!((conn, request), (opened.conn, connect_request()));
            }
            other => panic!("expected a handshake, got {other:?}"),
        }
        (opened.sink, opened.conn)
    }

    pub(super) async fn next_requests(&mut self) -> Vec<Request> {
        match self.clients.next().await {
            FromClient::Requests(requests) => requests,
            other => panic!("expected requests, got {other:?}"),
        }
    }

    pub(super) async fn assert_disconnected(&mut self, expected: ConnId) {
        match self.clients.next().await {
            FromClient::Disconnected(conn) => assert_eq!(conn, expected),
            other => panic!("expected a disconnect, got {other:?}"),
        }
    }

    pub(super) async fn ask(&self, word: &str) -> String {
        let mut socket = self.connect().await;
        socket.write_all(word.as_bytes()).await.expect("written");
        let mut answer = String::new();
        soon(socket.read_to_string(&mut answer)).await.expect("closed in good order");
        answer
    }
}

fn connect_request() -> ConnectRequest {
    ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: Zxid(0),
        timeout_ms: 30_000,
        session: SessionId::NONE,
        password: Bytes::from_static(&[0; 16]),
        read_only: Some(false),
    }
}

pub(super) fn connect_frame() -> BytesMut {
    let mut out = BytesMut::new();
    jute::encode_connect_request(&connect_request(), &mut out);
    out
}

pub(super) fn response(timeout_ms: i32) -> ConnectResponse {
    ConnectResponse { timeout_ms, session: SessionId(77), password: [7; 16], read_only: Some(false) }
}

pub(super) fn requests(ops: &[(i32, Op)]) -> BytesMut {
    let mut out = BytesMut::new();
    for (xid, op) in ops {
        jute::encode_request(*xid, op, &mut out).expect("small");
    }
    out
}

pub(super) fn pings(xids: std::ops::Range<i32>) -> BytesMut {
    requests(&xids.map(|xid| (xid, Op::Ping)).collect::<Vec<_>>())
}

pub(super) fn exists(path: &str) -> Op {
    Op::Exists { path: path.into(), watch: false }
}

pub(super) fn ok(xid: i32) -> Deliver {
    Deliver::Reply(Reply { xid, zxid: Zxid(5), result: Ok(ReplyBody::Empty) })
}

pub(super) fn xids(requests: &[Request]) -> Vec<i32> {
    requests.iter().map(|request| request.xid).collect()
}

pub(super) async fn read_frame(socket: &mut TcpStream) -> Bytes {
    let length = soon(socket.read_u32()).await.expect("a length");
    let mut frame = vec![0; length as usize];
    soon(socket.read_exact(&mut frame)).await.expect("a frame");
    frame.into()
}

pub(super) async fn read_xid(socket: &mut TcpStream) -> i32 {
    let frame = read_frame(socket).await;
    i32::from_be_bytes(frame[..4].try_into().expect("a header"))
}

/// The other side closes without another byte. Unread bytes of ours may make that a reset.
pub(super) async fn assert_closed(socket: &mut TcpStream) {
    let mut byte = [0];
    match soon(socket.read(&mut byte)).await {
        Ok(0) => {}
        Ok(_) => panic!("a byte {byte:?} instead of the end"),
        Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::ConnectionReset),
    }
}

#[actix_rt::test]
async fn all_requests_of_one_read_are_one_message_and_answers_come_in_order() {
    let mut server = Server::start(settings());
    let (mut socket, sink, conn) = server.client().await;
    socket
        .write_all(&requests(&[(1, exists("/a")), (2, Op::Ping), (3, exists("/b"))]))
        .await
        .expect("written");
    let asked = server.next_requests().await;
    assert_eq!(xids(&asked), [1, 2, 3]);
    assert!(asked.iter().all(|r| r.conn == conn));
    assert_eq!(asked[0].auth[0].scheme.as_ref(), "ip");

    sink.deliver(vec![ok(1), ok(-2)]);
    sink.deliver(vec![ok(3)]);
    for xid in [1, -2, 3] {
        assert_eq!(read_xid(&mut socket).await, xid);
    }
    drop(socket);
    server.assert_disconnected(conn).await;
    server.clients.assert_silent().await;
    assert_eq!(server.stats.packets_received.get(), 4);
    assert_eq!(server.stats.packets_sent.get(), 4);
    assert_eq!(server.stats.readlatency_us.snapshot().count, 3);
}

#[actix_rt::test]
async fn what_follows_the_handshake_waits_for_its_answer() {
    let mut server = Server::start(settings());
    let mut socket = server.connect().await;
    let mut bytes = connect_frame();
    bytes.extend_from_slice(&pings(1..4));
    socket.write_all(&bytes).await.expect("written");
    let (sink, _) = server.next_handshake().await;
    server.clients.assert_silent().await;
    sink.deliver(vec![Deliver::Connected(response(4000))]);
    assert_eq!(xids(&server.next_requests().await), [1, 2, 3]);
}

#[actix_rt::test]
async fn a_refused_session_is_told_so_and_what_it_asks_is_not_heard() {
    let mut server = Server::start(settings());
    let mut socket = server.connect().await;
    let mut bytes = connect_frame();
    bytes.extend_from_slice(&pings(1..100));
    socket.write_all(&bytes).await.expect("written");
    let (sink, conn) = server.next_handshake().await;
    sink.deliver(vec![Deliver::Connected(response(0)), Deliver::Close]);
    let answer = jute::decode_connect_response(read_frame(&mut socket).await).expect("a response");
    assert_eq!(answer.timeout_ms, 0);
    assert_eq!(soon(socket.read(&mut [0])).await.expect("closed in good order"), 0);
    server.assert_disconnected(conn).await;
}

#[actix_rt::test]
async fn frames_may_come_in_single_bytes() {
    let mut server = Server::start(settings());
    let mut socket = server.connect().await;
    for byte in connect_frame() {
        socket.write_all(&[byte]).await.expect("written");
        tokio::task::yield_now().await;
    }
    let (sink, _) = server.next_handshake().await;
    sink.deliver(vec![Deliver::Connected(response(4000))]);
    for byte in requests(&[(1, exists("/half")), (2, Op::Ping)]) {
        socket.write_all(&[byte]).await.expect("written");
        tokio::task::yield_now().await;
    }
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(server.next_requests().await);
    }
    assert_eq!(xids(&seen), [1, 2]);
    assert_eq!(seen[0].op, exists("/half"));
}

#[actix_rt::test]
async fn a_frame_at_the_limit_is_read_and_a_longer_one_closes() {
    let mut server = Server::start(settings());
    let (mut socket, _sink, conn) = server.client().await;
    // Bytes behind the request are ignored, so a ping may have any length.
    let frame = |length: u32| {
        let mut frame = length.to_be_bytes().to_vec();
        frame.extend_from_slice(&pings(1..2)[4..]);
        frame.resize(4 + length as usize, 0);
        frame
    };
    socket.write_all(&frame(1000)).await.expect("written");
    assert_eq!(xids(&server.next_requests().await), [1]);
    socket.write_all(&frame(1001)[..4]).await.expect("written");
    server.assert_disconnected(conn).await;
    assert_closed(&mut socket).await;
}

#[actix_rt::test]
async fn garbage_as_a_first_frame_closes_and_the_brain_never_hears_of_it() {
    let mut server = Server::start(settings());
    let garbage: [&[u8]; 5] =
        [&[0xff; 8], b"xyzw", &[0, 0, 0, 0], &[0, 0, 0, 4, 1, 2, 3, 4], b"GET / HTTP/1.1\r\n\r\n"];
    for bytes in garbage {
        let mut socket = server.connect().await;
        socket.write_all(bytes).await.expect("written");
        assert_closed(&mut socket).await;
    }
    assert!(server.opened.0.try_recv().is_err());
    server.clients.assert_silent().await;
}

#[actix_rt::test]
async fn a_frame_without_a_whole_header_closes() {
    let mut server = Server::start(settings());
    for length in [0u32, 1, 7] {
        let (mut socket, _sink, conn) = server.client().await;
        let mut frame = length.to_be_bytes().to_vec();
        frame.resize(4 + length as usize, 1);
        socket.write_all(&frame).await.expect("written");
        server.assert_disconnected(conn).await;
        assert_closed(&mut socket).await;
    }
    server.clients.assert_silent().await;
}

#[actix_rt::test]
async fn too_many_connections_of_an_address_are_closed_without_a_byte() {
    let mut server = Server::start(ClientSettings { max_connections_per_ip: 2, ..settings() });
    let (first, _sink, conn) = server.client().await;
    let (_second, _sink2, _) = server.client().await;
    assert_closed(&mut server.connect().await).await;
    assert_eq!(server.stats.connection_rejected.get(), 1);

    drop(first);
    server.assert_disconnected(conn).await;
    soon(async {
        while server.stats.num_alive_connections.get() > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    server.client().await;
}

#[actix_rt::test]
async fn too_many_connections_in_all_are_closed_without_a_byte() {
    let mut server = Server::start(ClientSettings { max_connections: 1, ..settings() });
    let _first = server.client().await;
    assert_closed(&mut server.connect().await).await;
}

#[actix_rt::test]
async fn while_the_server_does_not_serve_a_frame_closes_and_words_are_answered() {
    let mut server = Server::start(settings());
    server.stats.phase.set(Phase::Election as i64);
    let mut socket = server.connect().await;
    socket.write_all(&connect_frame()).await.expect("written");
    assert_closed(&mut socket).await;
    assert!(server.opened.0.try_recv().is_err());

    assert_eq!(server.ask("ruok").await, "imok");
    assert_eq!(server.ask("isro").await, "null");
    for word in ["srvr", "stat", "mntr"] {
        assert_eq!(server.ask(word).await, "This ZooKeeper instance is not currently serving requests\n");
    }
}

#[actix_rt::test]
async fn four_letter_words_are_answered_in_apaches_form() {
    let server = Server::start(settings());
    server.stats.last_zxid.set(0x1_0000_0016);
    server.stats.znode_count.set(11);
    assert_eq!(server.ask("ruok\n").await, "imok");
    assert_eq!(server.ask("isro").await, "rw");
    let version = concat!("3.9.5-zabra-", env!("CARGO_PKG_VERSION"), ", built on ");

    let srvr = server.ask("srvr").await;
    let lines: Vec<_> = srvr.lines().collect();
    assert!(lines[0].starts_with(&format!("Zookeeper version: {version}")), "{srvr}");
    let rest = [
        "Latency min/avg/max: 0/0.0/0",
        "Received: 3",
        "Sent: 2",
        "Connections: 1",
        "Outstanding: 0",
        "Zxid: 0x100000016",
        "Mode: leader",
        "Node count: 11",
        "Proposal sizes last/min/max: -1/-1/-1",
    ];
    assert_eq!(lines[1..], rest);

    let quota = QuotaFigures { count_limit: 4, bytes_limit: -1, count_usage: 3, bytes_usage: 70 };
    server.stats.quotas.set([("app".to_string(), quota)].into());
    server.stats.quota_exceeded_error.change("app", |count| *count += 2);
    let mntr = server.ask("mntr").await;
    for line in [
        "zk_app_quota_count_limit_per_namespace\t4\n",
        "zk_app_quota_bytes_limit_per_namespace\t-1\n",
        "zk_app_quota_count_usage_per_namespace\t3\n",
        "zk_app_quota_bytes_usage_per_namespace\t70\n",
        "zk_app_quota_exceeded_error_per_namespace\t2\n",
    ] {
        assert!(mntr.contains(line), "{line} is not in {mntr}");
    }
    assert!(mntr.starts_with(&format!("zk_version\t{version}")), "{mntr}");
    for line in ["zk_server_state\tleader\n", "zk_peer_state\tleading - broadcast\n", "zk_znode_count\t11\n"]
    {
        assert!(mntr.contains(line), "{line} is not in {mntr}");
    }
    assert!(mntr.lines().all(|line| line.starts_with("zk_") && line.split('\t').count() == 2), "{mntr}");
}

#[actix_rt::test]
async fn stat_lists_the_clients() {
    let mut server = Server::start(settings());
    let (mut socket, _sink, _) = server.client().await;
    let client = socket.local_addr().expect("connected");
    socket.write_all(&pings(1..3)).await.expect("written");
    server.next_requests().await;

    let mut asker = server.connect().await;
    let asker_at = asker.local_addr().expect("connected");
    asker.write_all(b"stat").await.expect("written");
    let mut stat = String::new();
    soon(asker.read_to_string(&mut stat)).await.expect("closed in good order");
    let lines: Vec<_> = stat.lines().collect();
    assert_eq!(lines[1], "Clients:");
    assert_eq!(lines[2], format!(" /{client}[1](queued=2,recved=3,sent=1)"));
    assert_eq!(lines[3], format!(" /{asker_at}[0](queued=0,recved=1,sent=0)"));
    assert_eq!(lines[4], "");
    assert!(lines[5].starts_with("Latency"), "{stat}");
}

#[actix_rt::test]
async fn a_word_off_the_whitelist_is_told_so() {
    let server = Server::start(ClientSettings { four_letter_words: vec!["srvr".to_string()], ..settings() });
    for word in ["ruok", "dump"] {
        let expected = format!("{word} is not executed because it is not in the whitelist.\n");
        assert_eq!(server.ask(word).await, expected);
    }
    let server = Server::start(ClientSettings { four_letter_words: vec!["*".to_string()], ..settings() });
    assert_eq!(server.ask("ruok").await, "imok");
}

#[actix_rt::test]
async fn a_client_that_does_not_read_is_closed_at_the_bound() {
    let mut server = Server::start(settings());
    let (_socket, sink, conn) = server.client().await;
    let piece = Bytes::from(vec![0; 1 << 20]);
    let data = |xid| {
        let result = Ok(ReplyBody::Data(Some(piece.clone()), Stat::default()));
        Deliver::Reply(Reply { xid, zxid: Zxid(5), result })
    };
    // Well above the bound of 64 MiB and what the kernel's buffers take.
    for xid in 0..128 {
        sink.deliver(vec![data(xid)]);
    }
    server.assert_disconnected(conn).await;
    sink.deliver(vec![ok(1)]); // to nobody
    server.clients.assert_silent().await;
}

#[actix_rt::test]
async fn a_client_with_too_many_requests_is_left_unread_until_they_are_answered() {
    let mut server = Server::start(ClientSettings { max_outstanding: 3, ..settings() });
    let (mut socket, sink, _) = server.client().await;
    socket.write_all(&pings(1..8)).await.expect("written");
    assert_eq!(xids(&server.next_requests().await), [1, 2, 3]);
    server.clients.assert_silent().await;

    // Somebody who waits for nothing may ask one thing even now.
    let (mut other, other_sink, other_conn) = server.client().await;
    other.write_all(&pings(50..53)).await.expect("written");
    assert_eq!(xids(&server.next_requests().await), [50]);
    server.clients.assert_silent().await;

    // Four wait where three may: one answer makes no room, two do.
    sink.deliver(vec![ok(1)]);
    server.clients.assert_silent().await;
    sink.deliver(vec![ok(2)]);
    assert_eq!(xids(&server.next_requests().await), [4]);
    // Who leaves takes his request out of the count.
    drop((other, other_sink));
    server.assert_disconnected(other_conn).await;
    sink.deliver(vec![ok(3), ok(4)]);
    assert_eq!(xids(&server.next_requests().await), [5, 6, 7]);
}

#[actix_rt::test]
async fn nothing_is_heard_behind_close_session_and_its_answer_arrives_before_the_end() {
    let mut server = Server::start(settings());
    let (mut socket, sink, conn) = server.client().await;
    let mut bytes = requests(&[(1, Op::Ping), (2, Op::CloseSession)]);
    bytes.extend_from_slice(&pings(3..500));
    socket.write_all(&bytes).await.expect("written");
    assert_eq!(xids(&server.next_requests().await), [1, 2]);
    sink.deliver(vec![ok(-2), ok(2), Deliver::Close, ok(3)]);
    assert_eq!((read_xid(&mut socket).await, read_xid(&mut socket).await), (-2, 2));
    assert_eq!(soon(socket.read(&mut [0])).await.expect("closed in good order"), 0);
    server.assert_disconnected(conn).await;
    server.clients.assert_silent().await;
}

#[actix_rt::test]
async fn who_must_prove_itself_and_has_not_is_told_so_and_closed() {
    let enforced = ["digest".to_string()].into();
    let auth = AuthSettings { enforced, ..AuthSettings::default() };
    let mut server = Server::start(ClientSettings { auth, ..settings() });
    for op in [Op::Ping, Op::CloseSession, exists("/a")] {
        let (mut socket, sink, conn) = server.client().await;
        socket.write_all(&requests(&[(1, op), (2, Op::Ping)])).await.expect("written");
        let asked = server.next_requests().await;
        assert_eq!(xids(&asked), [1], "nothing behind it is read");
        assert_eq!(asked[0].op, Op::Auth(Err(ZkError::SessionClosedRequireAuth)));
        sink.deliver(vec![Deliver::Close]);
        drop(socket);
        server.assert_disconnected(conn).await;
    }
    let (mut socket, _sink, _conn) = server.client().await;
    let mut bytes = BytesMut::new();
    jute::encode_auth(-4, "digest", b"a:b", &mut bytes).expect("small");
    bytes.extend_from_slice(&requests(&[(1, exists("/a"))]));
    socket.write_all(&bytes).await.expect("written");
    assert_eq!(server.next_requests().await[1].op, exists("/a"), "it has proved itself");
}

#[actix_rt::test]
async fn who_means_another_ensemble_is_closed_without_a_word() {
    let ensemble_names = ["prod".to_string()].into();
    let auth = AuthSettings { ensemble_names, ..AuthSettings::default() };
    let mut server = Server::start(ClientSettings { auth, ..settings() });
    let (mut socket, _sink, conn) = server.client().await;
    let mut bytes = BytesMut::new();
    jute::encode_auth(-4, "ensemble", b"prod", &mut bytes).expect("small");
    socket.write_all(&bytes).await.expect("written");
    assert!(matches!(server.next_requests().await[0].op, Op::Auth(Ok(_))));
    let mut bytes = BytesMut::new();
    jute::encode_auth(-4, "ensemble", b"test", &mut bytes).expect("small");
    socket.write_all(&bytes).await.expect("written");
    server.assert_disconnected(conn).await;
    assert_closed(&mut socket).await;
}

#[actix_rt::test]
async fn auth_counts_for_what_is_read_behind_it_and_a_refused_one_is_the_last() {
    let mut server = Server::start(settings());
    let (mut socket, _sink, _) = server.client().await;
    let mut bytes = requests(&[(1, Op::Ping)]);
    jute::encode_auth(-4, "digest", b"a:b", &mut bytes).expect("small");
    bytes.extend_from_slice(&requests(&[(2, Op::Ping)]));
    jute::encode_auth(-4, "world", b"", &mut bytes).expect("small");
    bytes.extend_from_slice(&requests(&[(3, Op::Ping)]));
    socket.write_all(&bytes).await.expect("written");

    let asked = server.next_requests().await;
    assert_eq!(xids(&asked), [1, -4, 2, -4]);
    assert_eq!((asked[0].auth.len(), asked[2].auth.len()), (1, 2));
    assert_eq!(asked[1].op, Op::Auth(Ok(asked[2].auth.clone())));
    assert_eq!(asked[3].op, Op::Auth(Err(ZkError::AuthFailed)));
    server.clients.assert_silent().await;
}

#[actix_rt::test]
async fn a_connection_without_a_handshake_is_closed_after_a_while() {
    let mut server = Server::start(settings());
    let mut socket = server.connect().await;
    let began = tokio::time::Instant::now();
    // From here on time passes as soon as nobody has anything to do.
    tokio::time::pause();
    assert_eq!(socket.read(&mut [0]).await.expect("closed in good order"), 0);
    let took = began.elapsed();
    assert!((10..=20).contains(&took.as_secs()), "{took:?}");
    server.clients.assert_silent().await;
}

#[actix_rt::test]
async fn a_connection_that_is_idle_beyond_its_sessions_time_out_is_closed() {
    let mut server = Server::start(settings());
    let (mut socket, _sink, conn) = server.client().await;
    let began = tokio::time::Instant::now();
    tokio::time::pause();
    assert_eq!(socket.read(&mut [0]).await.expect("closed in good order"), 0);
    let took = began.elapsed();
    assert!((30..=40).contains(&took.as_secs()), "{took:?}");
    tokio::time::resume();
    server.assert_disconnected(conn).await;
}

#[actix_rt::test]
async fn closing_the_port_writes_out_what_was_said() {
    let mut server = Server::start(settings());
    let (mut socket, sink, conn) = server.client().await;
    let mut silent = server.connect().await;
    socket.write_all(&pings(1..2)).await.expect("written");
    server.next_requests().await;
    sink.deliver(vec![ok(-2)]);
    let address = server.listener.local_addr();
    soon(server.listener.close()).await;
    assert_eq!(read_xid(&mut socket).await, -2);
    assert_closed(&mut socket).await;
    assert_closed(&mut silent).await;
    server.assert_disconnected(conn).await;
    assert!(TcpStream::connect(address).await.is_err(), "it still listens");
    assert_eq!(server.stats.num_alive_connections.get(), 0);
}

#[actix_rt::test]
async fn connections_may_run_on_another_arbiter() {
    let io = actix_rt::Arbiter::new();
    let mut server = Server::start_on(settings(), vec![io.handle()]);
    let (mut socket, sink, _) = server.client().await;
    socket.write_all(&pings(1..2)).await.expect("written");
    assert_eq!(xids(&server.next_requests().await), [1]);
    sink.deliver(vec![ok(-2)]);
    assert_eq!(read_xid(&mut socket).await, -2);
    soon(server.listener.close()).await;
    io.stop();
    io.join().expect("it ends in good order");
}

#[actix_rt::test]
async fn an_address_in_use_is_named() {
    let server = Server::start(settings());
    let taken = server.listener.local_addr().to_string();
    let brain = Brain {
        opened: ear().0,
        clients: ear().0,
        peers: ear().0,
        questions: questions(),
        snapshots: ear().0,
    };
    let settings = ClientSettings { listen: taken.clone(), ..settings() };
    let error = Listener::start(settings, brain, Arc::default(), vec![], &no_log()).err().expect("in use");
    assert!(error.to_string().starts_with(&format!("cannot listen for clients on {taken}: ")), "{error}");
}

/// Not a bound of its own, but what all the time-outs above rest on.
#[actix_rt::test]
async fn an_active_connection_is_not_idle() {
    let mut server = Server::start(settings());
    let (mut socket, sink, _) = server.client().await;
    tokio::time::pause();
    for xid in 1..6 {
        tokio::time::advance(Duration::from_secs(25)).await;
        socket.write_all(&pings(xid..xid + 1)).await.expect("written");
        match server.clients.0.recv().await {
            Some(FromClient::Requests(asked)) => assert_eq!(xids(&asked), [xid]),
            other => panic!("expected a ping, got {other:?}"),
        }
        sink.deliver(vec![ok(-2)]);
        let mut reply = [0; 20];
        socket.read_exact(&mut reply).await.expect("a reply");
    }
}
