//! Every row of the protocol's table of events, the order, the filter, and the bounds.

use bytes::Bytes;

use super::*;
use crate::core::paths;
use crate::types::{Id, ReplyBody, ZkError};
use WatchKind::*;

/// Watches and what they have sent, in short.
struct Bench {
    watches: Watches,
    out: Vec<(ConnId, Deliver)>,
}

const ONE: ConnId = ConnId(1);
const TWO: ConnId = ConnId(2);

impl Bench {
    /// Connections 1 and 2 are open.
    fn new() -> Bench {
        let mut bench = Bench { watches: Watches::new(), out: Vec::new() };
        bench.watches.opened(ONE);
        bench.watches.opened(TWO);
        bench
    }

    fn step(&mut self, outcome: Outcome) {
        self.watches.step(outcome, &mut self.out).unwrap();
    }

    fn watch(&mut self, conn: ConnId, kind: WatchKind, path: &str) {
        self.watches.watch(conn, new(kind, path)).unwrap();
    }

    /// A read that sets a watch; its reply is swallowed.
    fn read(&mut self, conn: ConnId, kind: WatchKind, path: &str) {
        let reply = Reply { xid: 1, zxid: Zxid(1), result: Ok(ReplyBody::Empty) };
        self.step(Outcome::Reply { conn, reply, watch: Some(new(kind, path)) });
        self.out.pop().expect("there is a reply");
    }

    fn change(&mut self, change: &str) {
        self.change_with(change, &[Acl::world(perms::ALL)], &[Acl::world(perms::ALL)]);
    }

    /// `+/a`: created, `-/a`: deleted, `=/a`: data changed; with the ACL of the znode and its parent's.
    fn change_with(&mut self, change: &str, acl: &[Acl], parent_acl: &[Acl]) {
        let (sign, path) = change.split_at(1);
        let kind = match sign {
            "+" => ChangeKind::Created,
            "-" => ChangeKind::Deleted,
            _ => ChangeKind::DataChanged,
        };
        let (parent, _) = paths::split(path).unwrap();
        let parent = (kind != ChangeKind::DataChanged).then(|| (parent.into(), parent_acl.into()));
        let change = Change { kind, path: path.into(), zxid: Zxid(7), acl: acl.into(), parent };
        self.step(Outcome::Changed(change));
    }

    /// What was sent since the last question, as in `1:3/a`: an event of type 3 to connection 1.
    fn sent(&mut self) -> Vec<String> {
        let short = |(conn, deliver): (ConnId, Deliver)| match deliver {
            Deliver::Event(event) => format!("{}:{}{}", conn.0, event.kind as i32, event.path),
            Deliver::Reply(reply) => format!("{}:reply {}", conn.0, reply.xid),
            Deliver::Connected(_) => format!("{}:connected", conn.0),
            Deliver::Close => format!("{}:close", conn.0),
        };
        self.out.drain(..).map(short).collect()
    }

    fn after(&mut self, change: &str) -> Vec<String> {
        self.change(change);
        self.sent()
    }
}

const NOTHING: [&str; 0] = [];

fn new(kind: WatchKind, path: &str) -> NewWatch {
    NewWatch { path: path.into(), kind }
}

/// One watch on /w (connection 1), one change: the events, and whether the watch is left.
fn table_row(kind: WatchKind, change: &str) -> (Vec<String>, bool) {
    let mut bench = Bench::new();
    bench.watch(ONE, kind, "/w");
    let before = bench.watches.watch_count();
    let events = bench.after(change);
    assert!([0, before].contains(&bench.watches.watch_count()));
    (events, bench.watches.watch_count() == before)
}

#[test]
fn the_table_of_events() {
    let changes =
        ["+/w", "=/w", "-/w", "+/w/c", "-/w/c", "=/w/c", "+/w/c/d", "=/w/c/d", "-/w/c/d", "+/v", "=/"];
    // The events of each change in this order, and ! where the watch is used up.
    let rows = [
        (Data, ["1/w!", "3/w!", "2/w!", "", "", "", "", "", "", "", ""]),
        (Child, ["", "", "2/w!", "4/w!", "4/w!", "", "", "", "", "", ""]),
        (Persistent, ["1/w", "3/w", "2/w", "4/w", "4/w", "", "", "", "", "", ""]),
        (
            Recursive,
            ["1/w", "3/w", "2/w", "1/w/c", "2/w/c", "3/w/c", "1/w/c/d", "3/w/c/d", "2/w/c/d", "", ""],
        ),
    ];
    for (kind, expected) in rows {
        for (change, expected) in changes.into_iter().zip(expected) {
            let (events, is_left) = table_row(kind, change);
            let event = expected.trim_end_matches('!');
            let events_expected = if event.is_empty() { vec![] } else { vec![format!("1:{event}")] };
            assert_eq!(events, events_expected, "{kind:?}: {change}");
            assert_eq!(is_left, !expected.ends_with('!'), "{kind:?}: {change}");
        }
    }
}

#[test]
fn a_standard_watch_fires_once() {
    let mut bench = Bench::new();
    bench.read(ONE, Data, "/a");
    bench.read(ONE, Data, "/a");
    assert_eq!((bench.watches.watch_count(), bench.watches.watched_paths()), (1, 1), "twice is once");
    assert_eq!(bench.after("=/a"), ["1:3/a"]);
    assert_eq!(bench.after("=/a"), NOTHING);
    assert_eq!((bench.watches.watch_count(), bench.watches.watched_paths()), (0, 0));
}

#[test]
fn a_delete_is_told_once_on_the_znode() {
    let mut bench = Bench::new();
    bench.read(ONE, Data, "/a");
    bench.read(ONE, Child, "/a");
    bench.read(TWO, Child, "/a");
    bench.read(TWO, Child, "/");
    assert_eq!(bench.after("-/a"), ["1:2/a", "2:2/a", "2:4/"]);
    assert_eq!(bench.watches.watch_count(), 0, "the child watch that was skipped is used up, too");
}

#[test]
fn one_event_in_a_step_however_many_watches() {
    let mut bench = Bench::new();
    bench.watch(ONE, Recursive, "/");
    bench.watch(ONE, Recursive, "/p");
    bench.watch(ONE, Persistent, "/p");
    bench.read(ONE, Data, "/p");
    bench.watch(TWO, Recursive, "/");
    assert_eq!(bench.after("=/p"), ["1:3/p", "2:3/p"]);
    assert_eq!(bench.watches.watch_count(), 5, "the three modes live side by side");
    assert_eq!(bench.after("+/p/c"), ["1:1/p/c", "2:1/p/c", "1:4/p"], "another step, another event");
    assert_eq!(bench.after("=/"), ["1:3/", "2:3/"]);
}

#[test]
fn a_persistent_watch_outlives_its_znode() {
    let mut bench = Bench::new();
    bench.watch(ONE, Persistent, "/a");
    assert_eq!(bench.after("-/a"), ["1:2/a"]);
    assert_eq!(bench.after("+/a"), ["1:1/a"]);
}

#[test]
fn paths_that_only_look_alike() {
    let mut bench = Bench::new();
    bench.watch(ONE, Recursive, "/a");
    bench.read(ONE, Child, "");
    assert_eq!(bench.after("=/ab"), NOTHING);
    assert_eq!(bench.after("+/b"), NOTHING, "a watch on the empty path never fires");
    assert_eq!(bench.after("=/a/b"), ["1:3/a/b"]);
}

#[test]
fn everything_leaves_in_the_order_it_came() {
    let mut bench = Bench::new();
    let reply = |xid| Reply { xid, zxid: Zxid(1), result: Err(ZkError::NoNode) };
    bench.step(Outcome::Reply { conn: ONE, reply: reply(1), watch: Some(new(Data, "/a")) });
    bench.change("+/a");
    bench.step(Outcome::Reply { conn: ONE, reply: reply(2), watch: None });
    assert_eq!(bench.sent(), ["1:reply 1", "1:1/a", "1:reply 2"]);
    let response = ConnectResponse {
        timeout_ms: 4000,
        session: crate::types::SessionId(1),
        password: [0; 16],
        read_only: None,
    };
    bench.step(Outcome::Connected { conn: TWO, response });
    let missed = WatchEvent { kind: EventKind::NodeDeleted, path: "/x".into(), zxid: Zxid(-1) };
    let watches = vec![new(Data, "/b"), new(Child, "/c")];
    bench.step(Outcome::Rewatch { conn: TWO, events: vec![missed], watches });
    bench.step(Outcome::Reply { conn: TWO, reply: reply(-8), watch: None });
    bench.change("-/c");
    assert_eq!(bench.sent(), ["2:connected", "2:2/x", "2:reply -8", "2:2/c"]);
}

#[test]
fn an_event_carries_the_zxid_of_its_change() {
    let mut bench = Bench::new();
    bench.read(ONE, Data, "/a");
    bench.change("=/a");
    let event = WatchEvent { kind: EventKind::NodeDataChanged, path: "/a".into(), zxid: Zxid(7) };
    assert_eq!(bench.out, [(ONE, Deliver::Event(event))]);
}

#[test]
fn who_may_not_read_is_not_told() {
    let secret = [Acl { perms: perms::READ, id: Id::new("digest", "bob:hash") }];
    let write_only = [Acl::world(perms::WRITE)];
    let open = [Acl::world(perms::READ)];
    let mut bench = Bench::new();
    let auth: Auth = Arc::new([Id::new("digest", "bob:hash")]);
    bench.step(Outcome::Identified { conn: TWO, auth });
    for conn in [ONE, TWO] {
        bench.read(conn, Data, "/a");
    }
    bench.change_with("=/a", &secret, &open);
    assert_eq!(bench.sent(), ["2:3/a"]);
    assert_eq!(bench.watches.watch_count(), 0, "the filtered watch is used up");

    bench.read(TWO, Child, "/");
    bench.change_with("+/a", &secret, &write_only);
    assert_eq!(bench.sent(), NOTHING, "for the parent's event the parent's ACL counts");

    bench.read(ONE, Data, "/a");
    bench.read(ONE, Child, "/a");
    bench.read(TWO, Child, "/a");
    bench.read(ONE, Child, "/");
    bench.change_with("-/a", &secret, &open);
    assert_eq!(bench.sent(), ["2:2/a", "1:4/"], "matched in step 1 is skipped in step 2");
    assert_eq!(bench.watches.watch_count(), 0);
}

#[test]
fn watches_go_with_their_connection() {
    let mut bench = Bench::new();
    for path in ["/a", "/b", "/c"] {
        bench.read(ONE, Data, path);
        bench.read(ONE, Child, path);
        bench.watch(ONE, Recursive, path);
    }
    bench.read(TWO, Data, "/c");
    assert_eq!((bench.watches.watch_count(), bench.watches.watched_paths()), (10, 3));
    bench.step(Outcome::Close { conn: ONE });
    assert_eq!(bench.sent(), ["1:close"]);
    assert_eq!((bench.watches.watch_count(), bench.watches.watched_paths()), (1, 1));
    assert!(bench.watches.recursive.is_empty());
    assert_eq!(bench.watches.connection_count(), 1);
    bench.step(Outcome::Gone { conn: TWO });
    assert_eq!(bench.sent(), NOTHING);
    assert_eq!((bench.watches.watch_count(), bench.watches.watched_paths()), (0, 0));
    bench.step(Outcome::Gone { conn: ONE });
}

#[test]
fn nothing_is_said_to_a_closed_connection() {
    let mut bench = Bench::new();
    bench.step(Outcome::Close { conn: ONE });
    bench.sent();
    let body = ReplyBody::Data(Some(Bytes::new()), Default::default());
    let reply = Reply { xid: 1, zxid: Zxid(1), result: Ok(body) };
    bench.step(Outcome::Reply { conn: ONE, reply, watch: Some(new(Data, "/a")) });
    bench.step(Outcome::Identified { conn: ONE, auth: Arc::new([]) });
    bench.step(Outcome::Close { conn: ONE });
    assert_eq!((bench.sent(), bench.watches.watch_count()), (vec![], 0));
}

#[test]
fn too_many_watches_close_the_connection() {
    let mut bench = Bench::new();
    let watches = (0..MAX_WATCHES_PER_CONNECTION).map(|i| new(Data, &format!("/{i}"))).collect();
    bench.step(Outcome::Rewatch { conn: ONE, events: vec![], watches });
    assert_eq!(bench.watches.watch_count(), MAX_WATCHES_PER_CONNECTION);
    bench.read(ONE, Data, "/7");
    assert_eq!(bench.sent(), NOTHING, "one that is there already is none too many");
    let reply = Reply { xid: 1, zxid: Zxid(1), result: Ok(ReplyBody::Empty) };
    let one_more = Outcome::Reply { conn: ONE, reply, watch: Some(new(Child, "/7")) };
    let error = bench.watches.step(one_more, &mut bench.out).unwrap_err();
    assert_eq!(error, TooManyWatches(ONE));
    assert!(error.to_string().contains("500000"));
    assert_eq!(bench.sent(), ["1:reply 1", "1:close"]);
    assert_eq!((bench.watches.watch_count(), bench.watches.watched_paths()), (0, 0));
    bench.read(TWO, Data, "/7");
    assert_eq!(bench.after("=/7"), ["2:3/7"], "nobody else is touched");
}

#[test]
fn a_persistent_watch_is_in_both_tables_and_counts_twice() {
    let mut bench = Bench::new();
    let limit = MAX_WATCHES_PER_CONNECTION;
    let watches = (0..limit / 2).map(|i| new(Persistent, &format!("/{i}"))).collect();
    bench.step(Outcome::Rewatch { conn: ONE, events: vec![], watches });
    assert_eq!((bench.watches.watch_count(), bench.watches.watched_paths()), (limit, limit / 2));
    bench.watches.watch(ONE, new(Recursive, "/7")).unwrap_err();
}

/// What a client is told that asks for its watches of a type on a path, or has them removed.
fn asked(bench: &mut Bench, conn: ConnId, path: Option<&str>, kind: WatcherType, remove: bool) -> bool {
    let path = path.map(Str::from);
    bench.step(Outcome::Watched { conn, xid: 5, zxid: Zxid(6), path, kind, remove });
    let (to, Deliver::Reply(Reply { xid: 5, zxid: Zxid(6), result })) = bench.out.pop().unwrap() else {
        panic!("a reply with the request's numbers")
    };
    assert_eq!(to, conn);
    match result {
        Ok(ReplyBody::Empty) => true,
        Err(ZkError::NoWatcher) => false,
        other => panic!("{other:?}"),
    }
}

const TYPES: [WatcherType; 5] = [
    WatcherType::Children,
    WatcherType::Data,
    WatcherType::Any,
    WatcherType::Persistent,
    WatcherType::PersistentRecursive,
];

#[test]
fn each_type_means_its_own_kind_of_watch() {
    // Which types mean each kind, in the order of TYPES.
    let table = [
        (Child, [true, false, true, false, false]),
        (Data, [false, true, true, false, false]),
        (Persistent, [false, false, true, true, false]),
        (Recursive, [false, false, true, false, true]),
    ];
    for (kind, expected) in table {
        for (meant, expected) in TYPES.into_iter().zip(expected) {
            let mut bench = Bench::new();
            bench.watch(ONE, kind, "/a");
            let before = bench.watches.watch_count();
            assert_eq!(asked(&mut bench, ONE, Some("/a"), meant, false), expected, "{kind:?} {meant:?}");
            assert_eq!(bench.watches.watch_count(), before, "asking changes nothing");
            assert_eq!(asked(&mut bench, ONE, Some("/a"), meant, true), expected, "{kind:?} {meant:?}");
            assert_eq!(bench.watches.watch_count(), if expected { 0 } else { before });
            assert_eq!(bench.sent(), NOTHING, "no event tells of a removal");
        }
    }
}

#[test]
fn only_the_connections_own_watch_on_that_very_path_counts() {
    let mut bench = Bench::new();
    bench.watch(ONE, Recursive, "/a");
    for (conn, path) in
        [(TWO, Some("/a")), (ONE, Some("/a/b")), (ONE, Some("/")), (ONE, Some("")), (ONE, None)]
    {
        for meant in TYPES {
            assert!(!asked(&mut bench, conn, path, meant, true), "{conn:?} {path:?} {meant:?}");
        }
    }
    assert_eq!(bench.after("=/a/b"), ["1:3/a/b"]);
}

#[test]
fn removing_one_kind_leaves_the_others() {
    let mut bench = Bench::new();
    for kind in [Data, Child, Persistent, Recursive] {
        bench.watch(ONE, kind, "/a");
    }
    assert!(asked(&mut bench, ONE, Some("/a"), WatcherType::Persistent, true));
    assert!(!asked(&mut bench, ONE, Some("/a"), WatcherType::Persistent, true));
    assert_eq!(bench.after("+/a/b"), ["1:1/a/b", "1:4/a"], "the recursive and the child watch");
    assert!(asked(&mut bench, ONE, Some("/a"), WatcherType::PersistentRecursive, true));
    assert!(bench.watches.recursive.is_empty());
    assert_eq!(bench.after("=/a"), ["1:3/a"], "the data watch");
    assert_eq!(bench.watches.watch_count(), 0);

    for kind in [Data, Child, Persistent, Recursive] {
        bench.watch(ONE, kind, "/a");
    }
    bench.watch(TWO, Data, "/a");
    assert!(asked(&mut bench, ONE, Some("/a"), WatcherType::Any, true));
    assert_eq!(bench.after("-/a"), ["2:2/a"]);
}

#[test]
fn long_paths_close_the_connection_too() {
    let mut bench = Bench::new();
    let long = "x".repeat(1 << 20);
    let path = |n: usize| format!("{:07}{}", n, &long[7..]);
    let fit = MAX_WATCHED_BYTES_PER_CONNECTION >> 20;
    (0..fit).for_each(|n| bench.watch(ONE, Data, &path(n)));
    assert!(
        asked(&mut bench, ONE, Some(&path(3)), WatcherType::Data, true),
        "what is removed gives its room back"
    );
    bench.watch(ONE, Child, &path(4));
    bench.watches.watch(ONE, new(Data, "/")).unwrap_err();
    bench.watch(TWO, Persistent, &path(5));
}
