//! What sequences leave out, because Apache 3.8 answers it differently each time, or goes on differently behind it
//! in ways that are known. Each restriction changes a sequence to one that can be compared, and is counted.

use std::collections::{BTreeMap, BTreeSet};

use super::compare::Hits;
use super::control;
use super::script::{Ask, Conn, Op, Script, SessionName, Shape, Step, Text};
use super::{only, rules};

/// Opcodes that zabra does not serve yet. This table is to be empty.
pub const NOT_YET: &[(i32, &str)] = &[];

/// A restriction: its name and its reason, for the table at the end.
pub const RESTRICTIONS: &[(&str, &str)] = &[
    (
        "pending-and-quota",
        "Apache judges quotas by what is applied, zabra counts pending writes and members before",
    ),
    (
        "read-for-an-upgrade",
        "Apache first looks whether a create or multi makes a local session global; what is wrong with it shows there",
    ),
    (
        "behind-a-null",
        "members before a null ACL id stay pending with Apache, although their multi has failed",
    ),
    ("not-yet", "an opcode that zabra does not serve yet"),
    (
        "watch-modes-mixed",
        "a watch over one of another mode on the same path replaces it in 3.8; both stay since 3.9",
    ),
    (
        "half-of-a-persistent-watch",
        "types 1 and 2 remove half of a persistent watch in 3.8, nothing since 3.9",
    ),
    ("behind-a-setACL", "Apache does not see a pending setACL; whether it is pending is a matter of time"),
    (
        "behind-a-container",
        "one with the flag of ephemerals is taken for one by Apache as long as it is pending",
    ),
    (
        "container-in-a-multi",
        "3.8 goes by the flags, 3.9 by the opcode: other flags than 4 make different znodes",
    ),
    (
        "flags-in-a-multi",
        "3.8 judges wrong flags of a create when it comes to it; 3.9 refuses the multi as unreadable",
    ),
    (
        "null-among-watches",
        "a null in the lists of setWatches ends it with MarshallingError, with Apache half-way",
    ),
    (
        "behind-closeSession",
        "Apache fails what stands behind it or not, and a write that it fails takes a zxid",
    ),
    (
        "answered-when-read",
        "what Apache refuses when it is read closes the connection before earlier replies are out",
    ),
    ("ipv6-acl", "ids of IPv6 are valid since 3.9.4"),
    (
        "sync-of-a-lost-session",
        "Apache's leader loses a sync of a moved or ended session; later ones wait for its answer",
    ),
    (
        "behind-a-moved-write",
        "a learner of Apache's answers reads behind a write of a moved session, or closes first",
    ),
    ("unreadable-and-moved", "3.8 finds first that a write is not of the owner, 3.9 that it cannot be read"),
    ("spoilt-in-an-ensemble", "an unreadable multi or reconfig wedges the Apache server that it is sent to"),
];

const CLOSE_SESSION: i32 = -11;

/// From here on numbers of requests that nothing else uses.
const FIRST_DISTINCT: i32 = 1_000_000;

/// The ways in which a connection watches a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    OneShot,
    Persistent,
    Recursive,
}

/// A sequence that keeps to the restrictions.
pub fn tame(script: &Script, hits: &mut Hits) -> Script {
    let shape = script.head.shape;
    let mut modes: BTreeMap<(Conn, String), Mode> = BTreeMap::new();
    let mut owners = Owners::default();
    let quota = script.steps.iter().flat_map(Step::asks).any(|ask| about_quota(&ask.op));
    let mut steps = Vec::new();
    for step in &script.steps {
        let mut step = step.clone();
        let conn = step.conn();
        owners.learn(&step);
        if let (Some(conn), Some(asks)) = (conn, step.asks_mut()) {
            let mut closed = false;
            for ask in asks.iter_mut() {
                if closed && (ask.op.changes() || matches!(ask.op.opcode(), 9 | 100..=102 | 105)) {
                    hit(hits, "behind-closeSession");
                    *ask = Ask { xid: ask.xid, op: Op::Ping, bend: None };
                }
                restrict(ask, conn, shape, &mut modes, hits);
                closed |= ask.op.opcode() == CLOSE_SESSION;
            }
            distinct(asks);
            if quota {
                single_members(asks, hits);
            }
            if shape.is_ensemble() && owners.lost.contains(&conn) {
                lost(asks, hits);
            }
        }
        split(step, quota, &mut steps, hits);
    }
    Script { head: script.head.clone(), steps }
}

/// One member of each multi that changes anything.
fn single_members(asks: &mut [Ask], hits: &mut Hits) {
    for ask in asks {
        let Op::Multi { members } = &mut ask.op else { continue };
        let before = members.len();
        let mut changed = false;
        members.retain(|member| {
            let changes = member.changes() && !matches!(member, Op::Check { .. });
            let keep = !(changes && changed);
            changed |= changes;
            keep
        });
        if members.len() < before {
            hit(hits, "pending-and-quota");
        }
    }
}

/// What may be answered out of order must be known by its number.
fn distinct(asks: &mut [Ask]) {
    // A ping's is not given back.
    let answered = |ask: &Ask| if matches!(ask.op, Op::Ping) { control::PING_XID } else { ask.xid };
    for at in 0..asks.len() {
        let own = asks[at].xid;
        if matches!(asks[at].op.opcode(), 100 | 102)
            && asks.iter().filter(|ask| answered(ask) == own).count() > 1
        {
            asks[at].xid = FIRST_DISTINCT + at as i32;
        }
    }
}

/// Which connections can have lost their session to another, or to its end.
#[derive(Default)]
struct Owners {
    makers: BTreeMap<Conn, Conn>,
    lost: BTreeSet<Conn>,
}

impl Owners {
    fn learn(&mut self, step: &Step) {
        let Some(conn) = step.conn() else { return };
        if let Step::Connect { hello, .. } = step {
            let maker = match hello.session {
                SessionName::Of(maker) => maker,
                SessionName::New | SessionName::Unknown => conn,
            };
            self.lose(maker);
            self.makers.insert(conn, maker);
        }
        if step.asks().iter().any(|ask| ask.op.opcode() == CLOSE_SESSION) {
            let lost_before = self.lost.contains(&conn);
            self.lose(self.makers.get(&conn).copied().unwrap_or(conn));
            if !lost_before {
                self.lost.remove(&conn);
            }
        }
    }

    /// All that have had this session so far.
    fn lose(&mut self, maker: Conn) {
        self.lost.extend(self.makers.iter().filter(|(_, m)| **m == maker).map(|(conn, _)| *conn));
    }
}

/// On a connection without its session: no sync, no unreadable write, and nothing behind a write.
fn lost(asks: &mut Vec<Ask>, hits: &mut Hits) {
    for ask in
        asks.iter_mut().filter(|ask| ask.op.changes() && (ask.bend.is_some() || rules::has_null(&ask.op)))
    {
        hit(hits, "unreadable-and-moved");
        *ask = Ask { xid: ask.xid, op: Op::Ping, bend: None };
    }
    for ask in asks.iter_mut().filter(|ask| matches!(ask.op, Op::Sync { .. })) {
        hit(hits, "sync-of-a-lost-session");
        *ask = Ask { xid: ask.xid, op: Op::Ping, bend: None };
    }
    if let Some(at) = asks.iter().position(|ask| ask.op.changes())
        && at + 1 < asks.len()
    {
        hit(hits, "behind-a-moved-write");
        asks.truncate(at + 1);
    }
}

fn about_quota(op: &Op) -> bool {
    op.changes() && op.path().is_some_and(|path| path.starts_with("/zookeeper/quota/"))
}

/// The hits are counted under the name of a restriction.
fn hit(hits: &mut Hits, name: &'static str) {
    assert!(RESTRICTIONS.iter().any(|(known, _)| *known == name), "{name} is in the table");
    *hits.entry(name).or_default() += 1;
}

fn restrict(
    ask: &mut Ask,
    conn: Conn,
    shape: Shape,
    modes: &mut BTreeMap<(Conn, String), Mode>,
    hits: &mut Hits,
) {
    let opcode = ask.op.opcode();
    if NOT_YET.iter().any(|(code, _)| *code == opcode) {
        hit(hits, "not-yet");
        *ask = Ask { xid: ask.xid, op: Op::Ping, bend: None };
    }
    if shape.is_ensemble() && matches!(opcode, 14 | 16) && ask.bend.is_some() {
        hit(hits, "spoilt-in-an-ensemble");
        ask.bend = None;
    }
    if only::of(ask).is_some() {
        ask.bend = None;
    }
    if shape == Shape::Local {
        upgrades(ask, hits);
    }
    acls(&mut ask.op, hits);
    containers(&mut ask.op, hits);
    nulls(&mut ask.op, hits);
    watches(&mut ask.op, conn, modes, hits);
}

/// Nothing that a local server would stumble over on its look for ephemerals.
fn upgrades(ask: &mut Ask, hits: &mut Hits) {
    let makes = |op: &Op| matches!(op.opcode(), 1 | 15 | 14 | 19 | 21);
    if makes(&ask.op) && (ask.bend.is_some() || rules::has_null(&ask.op)) {
        hit(hits, "read-for-an-upgrade");
        *ask = Ask { xid: ask.xid, op: Op::Ping, bend: None };
    }
    if let Op::Multi { members } = &mut ask.op {
        let before = members.len();
        members.retain(|member| match member {
            Op::CreateTtl { flags, .. } => (0..=6).contains(flags),
            member => matches!(member.opcode(), 1 | 2 | 5 | 13 | 15 | 19),
        });
        if members.len() < before {
            hit(hits, "read-for-an-upgrade");
        }
    }
}

fn acls(op: &mut Op, hits: &mut Hits) {
    match op {
        Op::Create { acl, .. }
        | Op::Create2 { acl, .. }
        | Op::CreateContainer { acl, .. }
        | Op::CreateTtl { acl, .. }
        | Op::SetAcl { acl, .. } => {
            for (_, scheme, id) in acl.iter_mut().flatten() {
                if scheme.as_deref() == Some("ip") && id.as_deref().is_some_and(|id| id.contains(':')) {
                    hit(hits, "ipv6-acl");
                    *id = Some("127.0.0.1".into());
                }
            }
        }
        Op::Multi { members } => members.iter_mut().for_each(|member| acls(member, hits)),
        _ => {}
    }
}

fn containers(op: &mut Op, hits: &mut Hits) {
    let Op::Multi { members } = op else { return };
    for member in members {
        match member {
            Op::CreateContainer { flags: flags @ 0..=3, .. } => {
                hit(hits, "container-in-a-multi");
                *flags = 4;
            }
            Op::Create { flags, .. } | Op::Create2 { flags, .. } if !(0..=4).contains(flags) => {
                hit(hits, "flags-in-a-multi");
                *flags = 0;
            }
            Op::CreateContainer { flags, .. } if *flags != 4 => {
                hit(hits, "flags-in-a-multi");
                *flags = 4;
            }
            _ => {}
        }
    }
}

/// A null among the paths of setWatches, and nothing else in them.
fn nulls(op: &mut Op, hits: &mut Hits) {
    let lists = match op {
        Op::SetWatches { data, exist, child, .. } => vec![data, exist, child],
        Op::SetWatches2 { data, exist, child, persistent, recursive, .. } => {
            vec![data, exist, child, persistent, recursive]
        }
        _ => return,
    };
    if lists.iter().any(|list| list.as_ref().is_none_or(|list| list.contains(&None))) {
        hit(hits, "null-among-watches");
        for (n, list) in lists.into_iter().enumerate() {
            *list = Some(if n == 0 { vec![None] } else { vec![] });
        }
    }
}

/// Keeps to one mode for each connection and path: the first.
fn watches(op: &mut Op, conn: Conn, modes: &mut BTreeMap<(Conn, String), Mode>, hits: &mut Hits) {
    let mut allowed = |path: &Text, mode: Mode| {
        let Some(path) = path else { return true };
        let same = *modes.entry((conn, path.clone())).or_insert(mode) == mode;
        if !same {
            hit(hits, "watch-modes-mixed");
        }
        same
    };
    let mut filter = |list: &mut Option<Vec<Text>>, mode: Mode| {
        if let Some(list) = list {
            list.retain(|path| allowed(path, mode));
        }
    };
    match op {
        Op::SetWatches { data, exist, child, .. } => {
            for list in [data, exist, child] {
                filter(list, Mode::OneShot);
            }
        }
        Op::SetWatches2 { data, exist, child, persistent, recursive, .. } => {
            for list in [data, exist, child] {
                filter(list, Mode::OneShot);
            }
            filter(persistent, Mode::Persistent);
            filter(recursive, Mode::Recursive);
        }
        Op::Exists { path, watch }
        | Op::GetData { path, watch }
        | Op::GetChildren { path, watch }
        | Op::GetChildren2 { path, watch }
            if *watch =>
        {
            *watch = allowed(path, Mode::OneShot);
        }
        Op::AddWatch { path, mode: mode @ 0..=1 } => {
            let wanted = if *mode == 0 { Mode::Persistent } else { Mode::Recursive };
            if !allowed(path, wanted) {
                *op = Op::Ping;
            }
        }
        Op::RemoveWatches { path: Some(path), kind: kind @ 1..=2 } => {
            let mode = modes.get(&(conn, path.clone()));
            if mode.is_some_and(|mode| *mode != Mode::OneShot) {
                hit(hits, "half-of-a-persistent-watch");
                *kind = 3;
            }
        }
        _ => {}
    }
}

/// Apache answers it when it is read, and closes the connection.
fn refused_when_read(ask: &Ask) -> bool {
    match &ask.op {
        Op::Raw { .. } => true,
        Op::Auth { scheme, auth } => match scheme.as_deref() {
            Some("ip") => ask.bend.is_some(),
            Some("digest") => auth.is_none() || ask.bend.is_some(),
            _ => true,
        },
        Op::Sasl { token } => token.is_none() || ask.bend.is_some(),
        _ => false,
    }
}

/// A request for zabra alone gets a step of its own, a setACL ends its step, and so does what is refused when it is
/// read, which also begins one.
fn split(step: Step, quota: bool, steps: &mut Vec<Step>, hits: &mut Hits) {
    let alone = |ask: &Ask| only::of(ask).is_some();
    let (conn, first, asks) = match step {
        Step::Send { conn, asks } => (conn, None, asks),
        Step::Connect { conn, at, hello, then } => {
            (conn, Some(Step::Connect { conn, at, hello, then: vec![] }), then)
        }
        other => return steps.push(other),
    };
    let mut parts: Vec<Vec<Ask>> = vec![vec![]];
    for ask in asks {
        let part = parts.last().expect("there is a first");
        let behind_acl = part.last().is_some_and(|ask| matches!(ask.op, Op::SetAcl { .. }));
        let behind_container =
            part.last().is_some_and(|ask| matches!(ask.op, Op::CreateContainer { flags: 1 | 3, .. }));
        if behind_container {
            hit(hits, "behind-a-container");
        }
        let behind_null =
            part.last().is_some_and(|ask| matches!(ask.op, Op::Multi { .. }) && rules::has_null(&ask.op));
        if behind_null {
            hit(hits, "behind-a-null");
        }
        let behind_only = part.last().is_some_and(alone);
        if behind_acl {
            hit(hits, "behind-a-setACL");
        }
        let at_once =
            part.last().is_some_and(refused_when_read) || refused_when_read(&ask) && !part.is_empty();
        if at_once {
            hit(hits, "answered-when-read");
        }
        let behind_pending = quota && ask.op.changes() && part.iter().any(|ask| ask.op.changes());
        if behind_pending {
            hit(hits, "pending-and-quota");
        }
        if behind_pending
            || behind_acl
            || behind_container
            || behind_null
            || behind_only
            || at_once
            || alone(&ask) && !part.is_empty()
        {
            parts.push(vec![]);
        }
        parts.last_mut().expect("there is a first").push(ask);
    }
    let mut parts = parts.into_iter();
    match first {
        Some(Step::Connect { conn, at, hello, .. }) => {
            let then = parts.next().expect("there is a first");
            let apart = |ask: &Ask| alone(ask) || refused_when_read(ask);
            let (then, lone) = if then.iter().any(apart) { (vec![], Some(then)) } else { (then, None) };
            steps.push(Step::Connect { conn, at, hello, then });
            steps.extend(lone.map(|asks| Step::Send { conn, asks }));
        }
        _ => steps.extend(parts.next().filter(|asks| !asks.is_empty()).map(|asks| Step::Send { conn, asks })),
    }
    steps.extend(parts.map(|asks| Step::Send { conn, asks }));
}
