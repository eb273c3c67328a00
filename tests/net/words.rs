//! The four-letter words that take more than a look at figures: lists of the brain, in exactly Apache's form however
//! the pages are cut; a word in pieces; a reader that does not read.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use actix::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zabra::net::{ClientSettings, QuorumConf};
use zabra_actors::core::sessions::{Bucket, ExpiryPage};
use zabra_actors::core::tree::Tree;
use zabra_actors::core::watches::{NewWatch, WatchKind, WatchOrder, WatchPage, Watches};
use zabra_actors::questions::{
    AskDigests, AskEphemerals, AskExpiry, AskOwners, AskSessions, AskWatches, Questions,
};
use zabra_actors::turn::Monotonic;
use zabra_actors::types::{
    Acl, ConnId, CreateKind, Deliver, Op, Phase, Reply, ReplyBody, SessionId, Txn, TxnBody, TxnHeader, Zxid,
    perms,
};

use super::clients::{Server, settings};
use super::soon;

/// What the brain knows; pages are cut where its cores cut them, or after two entries.
#[derive(Default)]
struct Known {
    watches: Watches,
    tree: Tree,
    expiry: Option<Vec<ExpiryPage>>,
    digests: Vec<(Zxid, i64)>,
    /// Questions being answered at this moment, and the most of them.
    at_once: Arc<(AtomicUsize, AtomicUsize)>,
    asked: Arc<AtomicUsize>,
}

struct Oracle(Known);

impl Actor for Oracle {
    type Context = Context<Self>;
}

impl Oracle {
    fn start(known: Known) -> Questions {
        let oracle = Oracle(known).start();
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
}

impl Handler<AskWatches> for Oracle {
    type Result = ResponseActFuture<Self, WatchPage>;

    /// Slowly, to see who else asks meanwhile.
    fn handle(&mut self, ask: AskWatches, _: &mut Context<Self>) -> Self::Result {
        let (now, most) = &*self.0.at_once;
        most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
        self.0.asked.fetch_add(1, SeqCst);
        let page = self.0.watches.page(ask.order, ask.after);
        let yields = async {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        };
        Box::pin(yields.into_actor(self).map(move |(), oracle: &mut Oracle, _| {
            oracle.0.at_once.0.fetch_sub(1, SeqCst);
            page
        }))
    }
}

impl Handler<AskEphemerals> for Oracle {
    type Result = MessageResult<AskEphemerals>;
    fn handle(&mut self, ask: AskEphemerals, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.0.tree.ephemeral_page(ask.after))
    }
}

impl Handler<AskOwners> for Oracle {
    type Result = MessageResult<AskOwners>;
    fn handle(&mut self, ask: AskOwners, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.0.tree.count_owners(ask.after))
    }
}

impl Handler<AskSessions> for Oracle {
    type Result = MessageResult<AskSessions>;
    fn handle(&mut self, ask: AskSessions, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.0.tree.session_page(ask.after))
    }
}

impl Handler<AskDigests> for Oracle {
    type Result = MessageResult<AskDigests>;
    fn handle(&mut self, _: AskDigests, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.0.digests.clone())
    }
}

impl Handler<AskExpiry> for Oracle {
    type Result = MessageResult<AskExpiry>;
    fn handle(&mut self, ask: AskExpiry, _: &mut Context<Self>) -> Self::Result {
        if ask.local {
            let page = vec![Bucket { end: 1000, size: 1, sessions: vec![SessionId(7)] }];
            return MessageResult(Some(ExpiryPage { buckets: 1, sessions: 1, page, next: None }));
        }
        let Some(pages) = &self.0.expiry else { return MessageResult(None) };
        let behind = |page: &ExpiryPage| page.next == ask.after;
        let at = ask.after.map_or(0, |_| pages.iter().position(behind).expect("a page's own end") + 1);
        MessageResult(Some(pages[at].clone()))
    }
}

fn all_words() -> ClientSettings {
    ClientSettings { four_letter_words: vec!["*".to_string()], ..settings() }
}

fn server(known: Known) -> Server {
    Server::start_with(all_words(), vec![], Oracle::start(known))
}

fn apply(tree: &mut Tree, zxid: i64, session: i64, body: TxnBody) {
    let header = TxnHeader { session: SessionId(session), cxid: 0, zxid: Zxid(zxid), time: 0 };
    tree.apply(&Txn { header, body, digest: None }, &mut Vec::new());
}

fn ephemeral(path: &str) -> TxnBody {
    TxnBody::Create {
        kind: CreateKind::Create,
        path: path.into(),
        data: None,
        acl: vec![Acl::world(perms::ALL)],
        ephemeral: true,
        parent_cversion: -1,
    }
}

/// Dates and ports are masked.
fn masked(text: &str) -> String {
    let line = |line: &str| {
        let line = match line.split_once(" expire at ") {
            Some((size, date)) => {
                assert!(date.ends_with(':') && date.contains(" UTC 2"), "{date}");
                format!("{size} expire at ...:")
            }
            None => line.to_string(),
        };
        match line.split_once(" sessionId: ") {
            Some((_, session)) => format!("\tip: ... sessionId: {session}"),
            None => line,
        }
    };
    text.lines().map(|of| line(of) + "\n").collect()
}

#[actix_rt::test]
async fn dump_of_a_leader_lists_sessions_by_their_end() {
    let mut tree = Tree::new();
    let id = |n: i64| SessionId(0x0300_0000_0000_0000 + n);
    for (zxid, (session, path)) in (1..).zip([(1, "/b"), (2, "/c"), (1, "/a")]) {
        apply(&mut tree, zxid, id(session).0, ephemeral(path));
    }
    let bucket = |end, size, sessions: &[i64]| Bucket {
        end,
        size,
        sessions: sessions.iter().map(|n| id(*n)).collect(),
    };
    let page = |page, next| ExpiryPage { buckets: 2, sessions: 3, page, next };
    let expiry = vec![
        page(vec![bucket(1000, 2, &[1])], Some((1000, id(1)))),
        page(vec![bucket(1000, 2, &[2]), bucket(2000, 1, &[5])], None),
    ];
    let mut server = server(Known { tree, expiry: Some(expiry), ..Known::default() });
    let (_socket, _sink, _) = server.client().await;
    let dump = masked(&server.ask("dump").await);
    let (before, connections) = dump.split_once("Connections dump:\n").expect("three parts");
    assert_eq!(
        before,
        "SessionTracker dump:\n\
         Session Sets (2)/(3):\n\
         2 expire at ...:\n\
         \t0x300000000000001\n\
         \t0x300000000000002\n\
         1 expire at ...:\n\
         \t0x300000000000005\n\
         ephemeral nodes dump:\n\
         Sessions with Ephemerals (2):\n\
         0x300000000000001:\n\
         \t/b\n\
         \t/a\n\
         0x300000000000002:\n\
         \t/c\n"
    );
    assert_eq!(
        connections,
        "Connections Sets (2)/(2):\n\
         1 expire at ...:\n\
         \tip: ... sessionId: 0x0\n\
         1 expire at ...:\n\
         \tip: ... sessionId: 0x4d\n"
    );
}

#[actix_rt::test]
async fn dump_of_a_learner_lists_all_sessions() {
    let mut tree = Tree::new();
    for n in 1..=1500 {
        apply(&mut tree, n, n, TxnBody::CreateSession { timeout_ms: 4000 });
    }
    let server = server(Known { tree, ..Known::default() });
    let dump = server.ask("dump").await;
    let (_, sessions) = dump.split_once("Global Sessions(1500):\n").expect("their number first");
    let (sessions, rest) = sessions.split_once("ephemeral nodes dump:\n").expect("then ephemerals");
    let expected: String = (1..=1500).map(|n| format!("0x{n:x}\t4000ms\n")).collect();
    assert_eq!(sessions, expected);
    assert!(rest.starts_with("Sessions with Ephemerals (0):\nConnections dump:\n"), "{rest}");
}

#[actix_rt::test]
async fn dump_tells_local_sessions_from_global_ones() {
    let with_local = ClientSettings { local_sessions: true, ..all_words() };
    let local = "SessionTracker dump:\nLocal Session Sets (1)/(1):\n1 expire at ...:\n\t0x7\n";
    let page = ExpiryPage::default();
    for (expiry, global) in [
        (Some(vec![page]), "Global Session Sets (0)/(0):\nephemeral nodes dump:\n"),
        (None, "Global Sessions(0):\nephemeral nodes dump:\n"),
    ] {
        let known = Known { expiry, ..Known::default() };
        let server = Server::start_with(with_local.clone(), vec![], Oracle::start(known));
        let dump = masked(&server.ask("dump").await);
        assert!(dump.starts_with(&format!("{local}{global}")), "{dump}");
    }
}

#[actix_rt::test]
async fn watches_are_listed_once_for_each_path_and_session() {
    let mut watches = Watches::new();
    watches.opened(ConnId(1));
    watches.opened(ConnId(99));
    for (conn, kind, path) in [
        (1, WatchKind::Data, "/b"),
        (1, WatchKind::Persistent, "/a"),
        (1, WatchKind::Child, "/c"),
        (99, WatchKind::Recursive, "/b"),
    ] {
        watches.watch(ConnId(conn), NewWatch { path: path.into(), kind }).expect("few");
    }
    let mut server = server(Known { watches, ..Known::default() });
    let (_socket, _sink, conn) = server.client().await;
    assert_eq!(conn, ConnId(1));
    // Connection 99 is gone by now: there is no session to show.
    assert_eq!(server.ask("wchp").await, "/b\n\t0x4d\n\t0x0\n/a\n\t0x4d\n\n");
    assert_eq!(server.ask("wchc").await, "0x4d\n\t/b\n\t/a\n0x0\n\t/b\n\n");
    assert_eq!(server.ask("wchs").await, "2 connections watching 2 paths\nTotal watches:3\n");
}

#[actix_rt::test]
async fn only_one_page_is_asked_for_at_a_time() {
    let mut watches = Watches::new();
    watches.opened(ConnId(1));
    for n in 0..10_000 {
        let path = format!("/{n}").as_str().into();
        watches.watch(ConnId(1), NewWatch { path, kind: WatchKind::Data }).expect("few");
    }
    assert!(watches.page(WatchOrder::ByPath, None).next.is_some(), "there are several pages");
    let known = Known { watches, ..Known::default() };
    let (at_once, asked) = (known.at_once.clone(), known.asked.clone());
    let server = server(known);
    let answers = futures::future::join_all((0..20).map(|_| server.ask("wchs"))).await;
    assert!(answers.iter().all(|answer| answer.ends_with("Total watches:10000\n")), "{answers:?}");
    assert_eq!(asked.load(SeqCst), 20 * 2 * 5, "two lists of five pages for each");
    assert_eq!(at_once.1.load(SeqCst), 1);
}

#[actix_rt::test]
async fn hash_lists_digests() {
    let digests = vec![(Zxid(0x1_0000_0080), 1_234_567_890_123), (Zxid(0x1_0000_0100), -5)];
    let server = server(Known { digests, ..Known::default() });
    assert_eq!(server.ask("hash").await, "100000080: 1234567890123\n100000100: -5\n");
    server.stats.phase.set(Phase::Election as i64);
    assert_eq!(server.ask("hash").await, "This ZooKeeper instance is not currently serving requests");
}

#[actix_rt::test]
async fn conf_tells_what_was_configured() {
    let quorum = QuorumConf {
        init_limit: 10,
        sync_limit: 5,
        peer_port: 2888,
        peer_type: 1,
        membership: "server.1=a:1:1:participant;a:2\nversion=0".to_string(),
    };
    let mut with_quorum = all_words();
    with_quorum.conf.quorum = Some(quorum);
    let alone = server(Known::default());
    let member = Server::start_with(with_quorum, vec![], Oracle::start(Known::default()));
    let both = "clientPort=2181\nsecureClientPort=-1\ndataDir=/no such/version-2\ndataDirSize=0\n\
                dataLogDir=/no such/version-2\ndataLogSize=0\ntickTime=2000\nmaxClientCnxns=0\n\
                minSessionTimeout=4000\nmaxSessionTimeout=40000\nclientPortListenBacklog=-1\nserverId=3\n";
    let of_quorum = "initLimit=10\nsyncLimit=5\nelectionAlg=3\nelectionPort=2888\nquorumPort=2888\npeerType=1\n\
                     membership: \nserver.1=a:1:1:participant;a:2\nversion=0";
    assert_eq!(alone.ask("conf").await, both);
    assert_eq!(member.ask("conf").await, format!("{both}{of_quorum}"));
    assert_eq!(alone.ask("dirs").await, "datadir_size: 0\nlogdir_size: 0\n");
}

#[actix_rt::test]
async fn a_server_that_is_cut_off_says_that_it_is_read_only() {
    let mut of_quorum = all_words();
    let membership = "version=0".to_string();
    of_quorum.conf.quorum =
        Some(QuorumConf { init_limit: 1, sync_limit: 1, peer_port: 1, peer_type: 0, membership });
    let server = Server::start_with(of_quorum, vec![], Oracle::start(Known::default()));
    server.stats.phase.set(Phase::Election as i64);
    server.stats.read_only.set(1);
    assert_eq!(server.ask("isro").await, "ro");
    let srvr = server.ask("srvr").await;
    assert_eq!(srvr.lines().nth(1), Some("READ-ONLY mode; serving only read-only clients"));
    assert!(srvr.contains("\nMode: read-only\n"), "{srvr}");
    let stat = server.ask("stat").await;
    assert_eq!(stat.lines().nth(2), Some("Clients:"), "{stat}");
    assert!(server.ask("conf").await.ends_with("peerType=0\n"), "whom it belongs to is not said");
    assert!(server.ask("mntr").await.contains("zk_server_state\tread-only\n"));
    assert_eq!(server.ask("crst").await, "Connection stats reset.\n");
}

#[actix_rt::test]
async fn the_trace_mask_is_what_was_set_last() {
    let server = server(Known::default());
    assert_eq!(server.ask("gtmk").await, "306");
    // Its eight bytes may come late.
    let mut socket = server.connect().await;
    socket.write_all(b"stmk\0\0\0").await.expect("written");
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    socket.write_all(&[0, 0, 0, 1, 2]).await.expect("written");
    let mut answer = String::new();
    soon(socket.read_to_string(&mut answer)).await.expect("closed in good order");
    assert_eq!((answer.as_str(), server.ask("gtmk").await.as_str()), ("258", "258"));
    // Who goes in the middle sets nothing.
    let mut socket = server.connect().await;
    socket.write_all(b"stmk\0").await.expect("written");
    socket.shutdown().await.expect("half closed");
    assert_eq!(soon(socket.read(&mut [0])).await.expect("closed in good order"), 0);
    assert_eq!(server.ask("gtmk").await, "258");
}

#[actix_rt::test]
async fn telnet_s_farewell_is_a_word() {
    let farewell = [0xff, 0xf4, 0xff, 0xfd];
    for (words, expected) in [
        (vec![], "telnet close is not executed because it is not in the whitelist.\n"),
        (vec!["*".to_string()], ""),
    ] {
        let server = Server::start(ClientSettings { four_letter_words: words, ..settings() });
        let mut socket = server.connect().await;
        socket.write_all(&farewell).await.expect("written");
        let mut answer = String::new();
        soon(socket.read_to_string(&mut answer)).await.expect("closed in good order");
        assert_eq!(answer, expected);
    }
}

#[actix_rt::test]
async fn figures_of_a_connection_are_kept_until_crst() {
    let mut server = server(Known::default());
    let (mut socket, sink, _) = server.client().await;
    let mut bytes = bytes::BytesMut::new();
    let get = Op::GetData { path: "/a".into(), watch: false };
    zabra_actors::jute::encode_request(7, &get, &mut bytes).expect("small");
    zabra_actors::jute::encode_request(-2, &Op::Ping, &mut bytes).expect("small");
    socket.write_all(&bytes).await.expect("written");
    server.next_requests().await;
    let reply = |xid| Deliver::Reply(Reply { xid, zxid: Zxid(0x23), result: Ok(ReplyBody::Empty) });
    sink.deliver(vec![reply(7), reply(-2)]);
    for _ in 0..2 {
        super::clients::read_frame(&mut socket).await;
    }
    let line = |cons: String| cons.lines().next().expect("the client comes first").to_string();
    let cons = line(server.ask("cons").await);
    let client = socket.local_addr().expect("connected");
    let head = format!(" /{client}[1](queued=0,recved=3,sent=3,sid=0x4d,lop=PING,est=");
    assert!(cons.starts_with(&head) && cons.ends_with(')'), "{cons}");
    assert!(cons.contains(",to=30000,lcxid=0x7,lzxid=0x23,lresp="), "{cons}");

    assert_eq!(server.ask("crst").await, "Connection stats reset.\n");
    let cons = line(server.ask("cons").await);
    assert!(
        cons.starts_with(&format!(" /{client}[1](queued=0,recved=0,sent=0,sid=0x4d,lop=NA,est=")),
        "{cons}"
    );
    let tail = ",to=30000,lzxid=0xffffffffffffffff,lresp=0,llat=0,minlat=0,avglat=0,maxlat=0)";
    assert!(cons.ends_with(tail), "{cons}");

    let received = |srvr: String| srvr.lines().find(|line| line.starts_with("Received: ")).map(String::from);
    assert!(server.stats.packets_received.get() > 5);
    assert_eq!(server.ask("srst").await, "Server stats reset.\n");
    assert_eq!(received(server.ask("srvr").await).as_deref(), Some("Received: 1"));
    assert!(server.ask("srvr").await.contains("Latency min/avg/max: 0/0.0/0\n"));
}

#[actix_rt::test]
async fn a_reader_that_does_not_read_does_not_keep_others_from_asking() {
    let mut watches = Watches::new();
    watches.opened(ConnId(1));
    // Far more than sockets hold.
    for n in 0..200 {
        let path = format!("/{n}/{}", "x".repeat(60_000)).as_str().into();
        watches.watch(ConnId(1), NewWatch { path, kind: WatchKind::Data }).expect("few");
    }
    let server = server(Known { watches, ..Known::default() });
    let mut stalled = Vec::new();
    for _ in 0..5 {
        let mut socket = server.connect().await;
        socket.write_all(b"wchc").await.expect("written");
        stalled.push(socket);
    }
    assert_eq!(server.ask("wchs").await, "1 connections watching 200 paths\nTotal watches:200\n");
    let mut last = stalled.pop().expect("five");
    let mut answer = String::new();
    soon(last.read_to_string(&mut answer)).await.expect("closed in good order");
    assert_eq!(answer.lines().count(), 1 + 200 + 1, "it was only late");
}
