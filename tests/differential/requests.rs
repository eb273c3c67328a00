//! Single requests, from chance: every opcode, arguments that are right, odd or wrong.

use super::control::{self, ROOT};
use super::model;
use super::rng::Rng;
use super::script::{AclEntry, AclList, Ask, Bend, Op, Shape, Text, ZxidName};
use super::servers;

/// How many of a hundred requests are spoilt.
const SPOILT: usize = 4;

/// The users of a sequence, with their passwords.
const USERS: [&str; 2] = ["u1:p1", "u2:p2"];

/// Paths below the root that most requests are about. Few, so that they meet.
const PATHS: &[(usize, &str)] = &[
    (10, "/d"),
    (20, "/d/a"),
    (14, "/d/b"),
    (12, "/d/a/x"),
    (8, "/d/a/y"),
    (8, "/d/e"),
    (5, "/d/a/x/p"),
    (3, "/d/c"),
    (3, "/d/ab"),
    (2, "/d/none/x"),
];

/// Where sequential znodes come to be.
const SEQUENTIAL: [&str; 5] = ["/d/s", "/d/a/", "/d/a/n-", "/d/b/q", "/d/e/s"];

/// Paths that are odd or wrong.
const ODD: &[&str] = &[
    "",
    "/",
    "//",
    "a",
    "d/a",
    "/d/",
    "/d//a",
    "/d/./a",
    "/d/../d",
    "/d/..",
    "/d/.",
    "/d/...",
    "/d/.h",
    "/d/a..",
    "/d/\u{0}",
    "/d/a\u{0}b",
    "/d/\u{1}",
    "/d/\u{1f}",
    "/d/\u{7f}",
    "/d/\u{9f}",
    "/d/\u{a0}",
    "/d/\u{d7ff}",
    "/d/\u{e000}",
    "/d/\u{f8ff}",
    "/d/\u{f900}",
    "/d/\u{feff}",
    "/d/\u{ffef}",
    "/d/\u{fff0}",
    "/d/\u{fffd}",
    "/d/\u{1F600}",
    "/d/\u{e9}",
    "/d/a b",
    "/d/none/",
    "/d/a/x/",
    "/d/none//x",
    "/zookeeper",
    "/zookeeper/config",
    "/zookeeper/quota",
    "/zookeeper/x",
    "/zookeeper/config/x",
    "/nowhere",
    "/nowhere/x",
];

/// The znodes of the quota of `/d/a`: of one path alone, since Apache miscounts quotas within quotas.
const QUOTA: [&str; 4] = [
    "/zookeeper/quota/d",
    "/zookeeper/quota/d/a",
    "/zookeeper/quota/d/a/zookeeper_limits",
    "/zookeeper/quota/d/a/zookeeper_stats",
];

/// What stands in `zookeeper_limits`. What cannot be read there fails every write with Apache.
const LIMITS: &[&str] = &[
    "count=3,bytes=-1",
    "count=-1,bytes=50",
    "count=-1,bytes=-1=;byteHardLimit=40;countHardLimit=3",
    "count=-1,bytes=-1=;countHardLimit=2",
    "count=-1,bytes=-1=;byteHardLimit=20",
    "count=2,bytes=10=;byteHardLimit=100;countHardLimit=5",
];

/// Of a hundred sequences, those with a quota, where quotas are enforced.
const WITH_QUOTA: usize = 40;

/// Of a hundred requests of such a sequence, those about the quota.
const ABOUT_QUOTA: usize = 20;

/// Makes requests.
pub struct Requests {
    quota: bool,
    xid: i32,
    /// Of a hundred ACLs, those that do not let everybody do everything.
    closed: usize,
}

/// What a request is.
#[derive(Clone, Copy)]
enum What {
    Create,
    Delete,
    Exists,
    GetData,
    SetData,
    GetAcl,
    SetAcl,
    GetChildren,
    Sync,
    Ping,
    Multi,
    MultiRead,
    Reconfig,
    CheckWatches,
    RemoveWatches,
    SetWatches,
    AddWatch,
    Auth,
    Sasl,
    GetEphemerals,
    GetAllChildrenNumber,
    WhoAmI,
    Raw,
    OnlyZabra,
}

const WHAT: &[(usize, What)] = &[
    (26, What::Create),
    (12, What::Delete),
    (12, What::Exists),
    (12, What::GetData),
    (14, What::SetData),
    (4, What::GetAcl),
    (5, What::SetAcl),
    (12, What::GetChildren),
    (2, What::Sync),
    (2, What::Ping),
    (12, What::Multi),
    (4, What::MultiRead),
    (1, What::Reconfig),
    (4, What::CheckWatches),
    (4, What::RemoveWatches),
    (5, What::SetWatches),
    (7, What::AddWatch),
    (3, What::Auth),
    (1, What::Sasl),
    (3, What::GetEphemerals),
    (3, What::GetAllChildrenNumber),
    (2, What::WhoAmI),
    (1, What::Raw),
    (1, What::OnlyZabra),
];

impl Requests {
    /// Sequences differ in how much they close off.
    pub fn new(rng: &mut Rng, shape: Shape) -> Requests {
        let quota = shape == Shape::Extended && rng.percent(WITH_QUOTA);
        Requests { quota, xid: 0, closed: *rng.pick(&[5, 5, 20, 50]) }
    }

    /// The znodes that a sequence begins with.
    pub fn first(&mut self, rng: &mut Rng) -> Vec<Ask> {
        let mut asks = Vec::new();
        for path in ["/d/a", "/d/b", "/d/a/x", "/d/e"] {
            if rng.percent(75) {
                let flags = i32::from(path == "/d/e");
                let (data, acl) = (self.data(rng), Some(vec![control::open()]));
                asks.push(self.ask(Op::Create { path: Some(path.into()), data, acl, flags }));
            }
        }
        asks
    }

    /// Is there a quota in this sequence?
    pub fn with_quota(&self) -> bool {
        self.quota
    }

    /// The quota that such a sequence begins with.
    pub fn first_quota(&mut self, rng: &mut Rng) -> Vec<Ask> {
        let ops = QUOTA.map(|path| create_for_quota(rng, path));
        ops.into_iter().map(|op| self.ask(op)).collect()
    }

    /// The end of the quota, or its return. Limits come before the usage and go behind it: without them Apache does
    /// not count.
    pub fn other_quota(&mut self, rng: &mut Rng) -> Vec<Ask> {
        let [_, _, limits, stats] = QUOTA;
        let ops = if rng.percent(50) {
            [stats, limits].map(|path| Op::Delete { path: Some(path.into()), version: -1 })
        } else {
            [limits, stats].map(|path| create_for_quota(rng, path))
        };
        ops.into_iter().map(|op| self.ask(op)).collect()
    }

    /// A request of that kind, with the next xid.
    pub fn ask(&mut self, op: Op) -> Ask {
        self.xid += 1;
        Ask { xid: self.xid, op, bend: None }
    }

    /// Any request.
    pub fn any(&mut self, rng: &mut Rng) -> Ask {
        let what = *rng.weighted(WHAT);
        let op = if self.quota && rng.percent(ABOUT_QUOTA) { about_quota(rng) } else { self.op(rng, what) };
        let mut ask = self.ask(op);
        if rng.percent(2) {
            ask.xid = *rng.pick(&[0, -2, -4, -8, i32::MIN, i32::MAX, 1]);
        }
        if rng.percent(SPOILT) {
            ask.bend = bend(rng, &ask.op);
        }
        ask
    }

    fn op(&mut self, rng: &mut Rng, what: What) -> Op {
        match what {
            What::Create => self.create(rng),
            What::Delete => Op::Delete { path: self.path(rng), version: version(rng) },
            What::Exists => Op::Exists { path: self.path(rng), watch: rng.percent(50) },
            What::GetData => Op::GetData { path: self.path(rng), watch: rng.percent(40) },
            What::SetData => {
                Op::SetData { path: self.path(rng), data: self.data(rng), version: version(rng) }
            }
            What::GetAcl => Op::GetAcl { path: self.path(rng) },
            What::SetAcl => {
                Op::SetAcl { path: self.path(rng), acl: self.acl(rng, 60), version: version(rng) }
            }
            What::GetChildren if rng.percent(50) => {
                Op::GetChildren { path: self.path(rng), watch: rng.percent(40) }
            }
            What::GetChildren => Op::GetChildren2 { path: self.path(rng), watch: rng.percent(40) },
            What::Sync => Op::Sync { path: self.path(rng) },
            What::Ping => Op::Ping,
            What::Multi => self.multi(rng),
            What::MultiRead => self.multi_read(rng),
            What::Reconfig => reconfig(rng),
            What::CheckWatches => Op::CheckWatches { path: self.path(rng), kind: watch_kind(rng) },
            What::RemoveWatches => Op::RemoveWatches { path: self.path(rng), kind: watch_kind(rng) },
            What::SetWatches => self.set_watches(rng),
            What::AddWatch => Op::AddWatch {
                path: self.path(rng),
                mode: *rng.pick(&[0, 0, 0, 1, 1, 1, 1, 2, -1, i32::MAX]),
            },
            What::Auth => auth(rng),
            What::Sasl => {
                Op::Sasl { token: rng.pick(&[None, Some(String::new()), Some("token".into())]).clone() }
            }
            What::GetEphemerals => Op::GetEphemerals { path: self.path(rng) },
            What::GetAllChildrenNumber => Op::GetAllChildrenNumber { path: self.path(rng) },
            What::WhoAmI => Op::WhoAmI,
            What::Raw => raw(rng),
            What::OnlyZabra => self.only_zabra(rng),
        }
    }

    fn path(&self, rng: &mut Rng) -> Text {
        match rng.within(0..100) {
            0..82 => Some((*rng.weighted(PATHS)).into()),
            82..90 => {
                let number = rng.within(0..6);
                Some(format!("{}{number:010}", rng.pick(&SEQUENTIAL)))
            }
            90..99 => Some((*rng.pick(ODD)).into()),
            _ => None,
        }
    }

    fn data(&self, rng: &mut Rng) -> Text {
        match rng.within(0..10) {
            0 => None,
            1 => Some(String::new()),
            2 => Some("x".repeat(rng.within(1..2000))),
            _ => Some(format!("data {}", rng.within(0..100))),
        }
    }

    fn create(&mut self, rng: &mut Rng) -> Op {
        let flags = *rng.weighted(&[
            (40, 0),
            (15, 1),
            (15, 2),
            (8, 3),
            (6, 4),
            (3, 5),
            (2, 6),
            (1, 7),
            (1, -1),
            (1, i32::MAX),
        ]);
        let path = if matches!(flags, 2 | 3 | 6) && rng.percent(70) {
            Some((*rng.pick(&SEQUENTIAL)).into())
        } else {
            self.path(rng)
        };
        let (data, acl) = (self.data(rng), self.acl(rng, self.closed));
        match rng.within(0..20) {
            0..10 => Op::Create { path, data, acl, flags },
            10..15 => Op::Create2 { path, data, acl, flags },
            15..17 => Op::CreateContainer { path, data, acl, flags },
            _ => Op::CreateTtl { path, data, acl, flags: ttl_flags(rng), ttl: ttl(rng) },
        }
    }

    fn acl(&self, rng: &mut Rng, closed: usize) -> AclList {
        if !rng.percent(closed) {
            return Some(vec![control::open()]);
        }
        if rng.percent(25) {
            return bad_acl(rng);
        }
        let entry = |rng: &mut Rng| -> AclEntry {
            let perms = *rng.pick(&[31, 31, 1, 3, 5, 15, 16, 17, 30, 28, 12, 0, 32, -1]);
            let digest = |user| Some(model::digest(user));
            let (scheme, id) = match rng.within(0..10) {
                0..3 => ("world", Some("anyone".into())),
                3..5 => ("digest", digest(USERS[0])),
                5 => ("digest", digest(USERS[1])),
                6 => ("auth", Some(String::new())),
                7 => ("ip", Some("127.0.0.1".into())),
                8 => (
                    "ip",
                    Some(
                        (*rng.pick(&["127.0.0.0/8", "10.0.0.1", "0.0.0.0/0", "10.0.0.0/8", "127.0.0.1/32"]))
                            .into(),
                    ),
                ),
                _ => ("digest", Some((*rng.pick(&["a:b", ":b", "a:b:", "u1:x"])).into())),
            };
            (perms, Some(scheme.into()), id)
        };
        let mut list: Vec<AclEntry> = (0..rng.within(1..4)).map(|_| entry(rng)).collect();
        if rng.percent(15) {
            list.push(list[0].clone());
        }
        Some(list)
    }

    fn multi(&mut self, rng: &mut Rng) -> Op {
        let length = *rng.pick(&[0, 1, 2, 2, 3, 3, 4, 6]);
        let mut members: Vec<Op> = (0..length).map(|_| self.member(rng)).collect();
        if rng.percent(4) {
            members.push(rng.pick(&strangers()).clone());
        }
        Op::Multi { members }
    }

    fn member(&mut self, rng: &mut Rng) -> Op {
        match rng.within(0..10) {
            0..4 => self.create(rng),
            4..6 => Op::SetData { path: self.path(rng), data: self.data(rng), version: -1 },
            6 => Op::SetData { path: self.path(rng), data: self.data(rng), version: version(rng) },
            7 => Op::Delete { path: self.path(rng), version: version(rng) },
            _ => Op::Check { path: self.path(rng), version: version(rng) },
        }
    }

    fn multi_read(&mut self, rng: &mut Rng) -> Op {
        let mut members: Vec<Op> = (0..rng.within(0..5))
            .map(|_| {
                let (path, watch) = (self.path(rng), rng.percent(30));
                if rng.percent(60) { Op::GetData { path, watch } } else { Op::GetChildren { path, watch } }
            })
            .collect();
        if rng.percent(5) {
            members.push(rng.pick(&strangers()).clone());
        }
        Op::MultiRead { members }
    }

    fn set_watches(&mut self, rng: &mut Rng) -> Op {
        let zxid = *rng.pick(&[
            ZxidName::Raw(0),
            ZxidName::Raw(-1),
            ZxidName::Raw(i64::MAX),
            ZxidName::Last(0),
            ZxidName::Last(-2),
            ZxidName::Last(-5),
            ZxidName::Start(0),
            ZxidName::Start(6),
        ]);
        let list = |rng: &mut Rng| {
            let paths = (0..rng.within(0..4)).map(|_| self.path(rng)).collect();
            (!rng.percent(2)).then_some(paths)
        };
        let (data, exist, child) = (list(rng), list(rng), list(rng));
        if rng.percent(50) {
            return Op::SetWatches { zxid, data, exist, child };
        }
        let (persistent, recursive) = (list(rng), list(rng));
        Op::SetWatches2 { zxid, data, exist, child, persistent, recursive }
    }

    fn only_zabra(&mut self, rng: &mut Rng) -> Op {
        let path = self.path(rng);
        match rng.within(0..6) {
            0 => Op::CreateTtl {
                path,
                data: None,
                acl: Some(vec![control::open()]),
                flags: rng.within(0..5) as i32,
                ttl: *rng.pick(&[-1, i64::MIN]),
            },
            1 => Op::Check { path, version: version(rng) },
            2 => Op::DeleteContainer { path },
            3 => Op::CreateSession { timeout: 30_000 },
            4 => Op::AddWatch { path: None, mode: 0 },
            _ => Op::CheckWatches { path, kind: 4 },
        }
    }
}

fn create_for_quota(rng: &mut Rng, path: &str) -> Op {
    let limits = path.ends_with("limits").then(|| (*rng.pick(LIMITS)).to_string());
    Op::Create { path: Some(path.into()), data: limits, acl: Some(vec![control::open()]), flags: 0 }
}

/// Looks at limits and usage, and changes of the limits. The usage is the server's to write.
fn about_quota(rng: &mut Rng) -> Op {
    let [_, _, limits, stats] = QUOTA;
    let path = |path: &str| Some(path.to_string());
    match rng.within(0..10) {
        0..5 => Op::GetData { path: path(stats), watch: rng.percent(30) },
        5 => Op::GetData { path: path(limits), watch: rng.percent(30) },
        _ => Op::SetData { path: path(limits), data: path(rng.pick::<&str>(LIMITS)), version: -1 },
    }
}

/// What does not belong into a multi.
fn strangers() -> Vec<Op> {
    let path: Text = Some(ROOT.into());
    vec![
        Op::GetData { path: path.clone(), watch: false },
        Op::GetChildren { path: path.clone(), watch: false },
        Op::SetAcl { path: path.clone(), acl: Some(vec![control::open()]), version: -1 },
        Op::Multi { members: vec![] },
        Op::Ping,
        Op::Raw { opcode: 99, hex: String::new() },
        Op::Delete { path, version: -1 },
    ]
}

fn version(rng: &mut Rng) -> i32 {
    *rng.weighted(&[(60, -1), (15, 0), (10, 1), (6, 2), (3, 3), (2, -2), (1, i32::MIN), (1, i32::MAX)])
}

fn ttl_flags(rng: &mut Rng) -> i32 {
    *rng.weighted(&[(30, 5), (15, 6), (2, 0), (1, 1), (1, 2), (1, 3), (1, 4), (1, 7), (1, -1)])
}

fn ttl(rng: &mut Rng) -> i64 {
    *rng.weighted(&[
        (20, 1_000_000_000),
        (5, 1),
        (3, 0),
        (5, 0xff_ffff_ffff),
        (2, 0x100_0000_0000),
        (1, i64::MAX),
        (2, -1),
    ])
}

fn watch_kind(rng: &mut Rng) -> i32 {
    *rng.weighted(&[(20, 1), (20, 2), (20, 3), (2, 4), (2, 5), (2, 0), (1, 6), (1, -1)])
}

fn bad_acl(rng: &mut Rng) -> AclList {
    let entry = |scheme: Option<&str>, id: Option<&str>| {
        Some(vec![(31, scheme.map(str::to_string), id.map(str::to_string))])
    };
    match rng.within(0..20) {
        0 => None,
        1 => Some(vec![]),
        2 => entry(Some("nobody's"), Some("x")),
        3 => entry(Some("world"), Some("someone")),
        4 => entry(Some("world"), Some("")),
        5 => entry(Some("digest"), Some("no colon")),
        6 => entry(Some("digest"), Some("a:b:c")),
        7 => entry(Some("digest"), Some("a:")),
        8 => entry(Some("digest"), Some("")),
        9 => entry(Some("ip"), Some("127.0.0.1/33")),
        10 => entry(Some("ip"), Some("127.0.0.1/")),
        11 => entry(Some("ip"), Some("127.0.0")),
        12 => entry(Some("ip"), Some("host")),
        13 => entry(None, Some("x")),
        14 => entry(Some(""), Some("")),
        15 => entry(Some("super"), Some("")),
        16 => entry(Some("x509"), Some("CN=x")),
        17 => entry(Some("sasl"), Some("x")),
        18 => entry(Some("world"), None),
        _ => entry(Some("digest"), None),
    }
}

fn auth(rng: &mut Rng) -> Op {
    let (scheme, auth) = *rng.weighted(&[
        (30, (Some("digest"), Some(USERS[0]))),
        (20, (Some("digest"), Some(USERS[1]))),
        (4, (Some("digest"), Some("no colon"))),
        (3, (Some("digest"), Some(""))),
        (3, (Some("digest"), Some(servers::SUPER))),
        (3, (Some("ip"), Some("10.0.0.1"))),
        (1, (Some("ip"), None)),
        (1, (Some("digest"), None)),
        (1, (Some("world"), Some("anyone"))),
        (1, (Some("auth"), Some(""))),
        (1, (Some("x509"), Some("x"))),
        (1, (Some("sasl"), Some("x"))),
        (1, (Some(""), Some("x"))),
        (1, (None, Some("x"))),
    ]);
    Op::Auth { scheme: scheme.map(str::to_string), auth: auth.map(str::to_string) }
}

fn reconfig(rng: &mut Rng) -> Op {
    let mut list =
        || rng.pick(&[None, Some(String::new()), Some("4".into()), Some("server.9=x:1:2".into())]).clone();
    let (joining, leaving, members) = (list(), list(), list());
    Op::Reconfig { joining, leaving, members, config: -1 }
}

fn raw(rng: &mut Rng) -> Op {
    let opcode = *rng.pick(&[0, -1, 10, 23, 99, 108, 200, -9, -12, i32::MAX, i32::MIN]);
    Op::Raw { opcode, hex: "00".repeat(rng.within(0..9)) }
}

/// A way to spoil a request, if there is one that leaves known what it does.
fn bend(rng: &mut Rng, op: &Op) -> Option<Bend> {
    match op.opcode() {
        // What only zabra is asked is asked properly.
        13 | 20 | -10 => None,
        // The zxid of setWatches is another on each side, so it is left whole.
        17 | 18 | 21 | 100 | 101 | 105 | 106 => {
            Some(if rng.percent(60) { Bend::Cut(rng.within(0..12)) } else { Bend::Tail(rng.within(1..9)) })
        }
        // Another member's record would be read as what the spoilt type says.
        14 | 22 if rng.percent(40) => Some(Bend::Int(0, *rng.pick(&[-2, i32::MIN, i32::MAX, 1 << 20]))),
        14 | 22 => Some(Bend::Cut(rng.within(0..30))),
        _ => Some(match rng.within(0..10) {
            0..4 => Bend::Cut(rng.within(0..30)),
            4..6 => Bend::Tail(rng.within(1..9)),
            6..8 => Bend::Int(0, *rng.pick(&[-1, -2, i32::MIN, i32::MAX, 0, 1, 1 << 20])),
            _ => Bend::Byte(rng.within(0..8), *rng.pick(&[0, 0xff, 0x2f, 0xc3, 1])),
        }),
    }
}
