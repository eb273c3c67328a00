//! What the comparison must know of a sequence to tell whether a rule may excuse a difference: who may read which
//! znode, and where a connection can have a watch. It learns from what Apache answered.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use super::control;
use super::decode::{Body, Member, Seen};
use super::normalise::Shown;
use super::script::{AclEntry, AclList, Conn, Op, Step};
use super::servers;

/// The permission bit to read.
const READ: i32 = 1;

/// What is known so far.
#[derive(Debug, Default)]
pub struct Model {
    /// The ACLs of znodes that are, or were.
    acls: BTreeMap<String, Vec<AclEntry>>,
    /// The ACLs that a znode had before and within the step that is looked at.
    during: BTreeMap<String, Vec<Vec<AclEntry>>>,
    ids: BTreeMap<Conn, Vec<(String, String)>>,
    /// What the one who acts had proved before the step.
    before: Option<(Conn, Vec<(String, String)>)>,
    /// Watches that Apache has set where zabra has not: on what the connection may not read.
    pub phantoms: BTreeSet<(Conn, String)>,
    /// Where connections have asked for watches.
    asked: BTreeSet<String>,
}

impl Model {
    /// Takes in a step and what Apache answered.
    pub fn learn(&mut self, step: &Step, apache: &Shown) {
        self.during.clear();
        self.before = None;
        let Some(conn) = step.conn() else { return };
        if matches!(step, Step::Connect { .. }) {
            self.ids.insert(conn, vec![("ip".into(), "127.0.0.1".into())]);
        }
        self.before = self.ids.get(&conn).map(|ids| (conn, ids.clone()));
        for seen in apache.get(&conn).into_iter().flatten() {
            let Seen::Reply { of, err, body, .. } = seen else { continue };
            let Some(ask) = step.asks().get(*of) else { continue };
            self.watches(&ask.op);
            match (&ask.op, err) {
                (Op::Auth { scheme, auth }, 0) => self.auth(conn, scheme.as_deref(), auth.as_deref()),
                (op, 0) => self.wrote(conn, op, body),
                _ => {}
            }
        }
    }

    fn auth(&mut self, conn: Conn, scheme: Option<&str>, auth: Option<&str>) {
        let (Some("digest"), Some(auth)) = (scheme, auth) else { return };
        let ids = self.ids.entry(conn).or_default();
        if auth == servers::SUPER {
            ids.push(("super".into(), String::new()));
        }
        ids.push(("digest".into(), digest(auth)));
    }

    fn watches(&mut self, op: &Op) {
        let lists: Vec<&Option<Vec<_>>> = match op {
            Op::SetWatches { data, exist, child, .. } => vec![data, exist, child],
            Op::SetWatches2 { data, exist, child, persistent, recursive, .. } => {
                vec![data, exist, child, persistent, recursive]
            }
            _ => vec![],
        };
        let listed = lists.into_iter().flatten().flatten().flatten().map(String::as_str);
        let single = match op {
            Op::Exists { watch: true, .. }
            | Op::GetData { watch: true, .. }
            | Op::GetChildren { watch: true, .. }
            | Op::GetChildren2 { watch: true, .. }
            | Op::AddWatch { .. } => op.path(),
            _ => None,
        };
        self.asked.extend(listed.chain(single).map(str::to_string));
    }

    fn wrote(&mut self, conn: Conn, op: &Op, body: &Body) {
        match (op, body) {
            (
                Op::Create { acl, .. }
                | Op::Create2 { acl, .. }
                | Op::CreateContainer { acl, .. }
                | Op::CreateTtl { acl, .. },
                Body::Path(Some(path)) | Body::PathStat(Some(path), _),
            ) => self.set(conn, path, acl),
            (Op::SetAcl { path: Some(path), acl, .. }, _) => {
                // What was there from the beginning was open.
                self.acls.entry(path.clone()).or_insert_with(|| vec![control::open()]);
                self.set(conn, path, acl);
            }
            (Op::Multi { members }, Body::Multi(results)) => {
                for (op, Member { body, .. }) in members.iter().zip(results) {
                    self.wrote(conn, op, body);
                }
            }
            _ => {}
        }
    }

    /// A znode gets an ACL. `auth` stands for the ids that the connection has proved.
    fn set(&mut self, conn: Conn, path: &str, acl: &AclList) {
        let proved = self.ids.get(&conn).into_iter().flatten().filter(|(scheme, _)| scheme == "digest");
        let proved: Vec<_> = proved.cloned().collect();
        let mut list = Vec::new();
        for (perms, scheme, id) in acl.iter().flatten() {
            match scheme.as_deref() {
                Some("auth") => {
                    list.extend(proved.iter().map(|(s, i)| (*perms, Some(s.clone()), Some(i.clone()))))
                }
                _ => list.push((*perms, scheme.clone(), id.clone())),
            }
        }
        let old = self.acls.insert(path.to_string(), list.clone());
        let during = self.during.entry(path.to_string()).or_insert_with(|| old.into_iter().collect());
        during.push(list);
    }

    /// Whether a connection may read a znode: at some moment of the step, at every moment.
    pub fn may_read(&self, conn: Conn, path: &str) -> (bool, bool) {
        let now = self.ids.get(&conn).map(Vec::as_slice).unwrap_or_default();
        let before = self.before.as_ref().filter(|(actor, _)| *actor == conn).map(|(_, ids)| ids.as_slice());
        let readers = [Some(now), before];
        let lists: Vec<&Vec<AclEntry>> = match (self.during.get(path), self.acls.get(path)) {
            (Some(lists), _) => lists.iter().collect(),
            (None, list) => list.into_iter().collect(),
        };
        if lists.is_empty() {
            // What nobody has made here anybody may read.
            return (true, true);
        }
        let readers = readers.iter().flatten();
        let answers: Vec<bool> = readers.flat_map(|ids| lists.iter().map(|list| reads(list, ids))).collect();
        (answers.contains(&true), !answers.contains(&false))
    }

    /// Some connection can have a watch there.
    pub fn watched(&self, path: &str) -> bool {
        self.asked.contains(path)
    }
}

fn reads(acl: &[AclEntry], ids: &[(String, String)]) -> bool {
    let grants = |(perms, scheme, id): &AclEntry| {
        let (Some(scheme), Some(id)) = (scheme, id) else { return false };
        let own = |(s, i): &(String, String)| s == scheme && (s == "ip" && in_net(i, id) || i == id);
        perms & READ != 0 && (scheme == "world" && id == "anyone" || ids.iter().any(own))
    };
    ids.iter().any(|(scheme, _)| scheme == "super") || acl.iter().any(grants)
}

/// An IPv4 address is in a net, `address/bits`.
fn in_net(address: &str, net: &str) -> bool {
    let (base, bits) = net.split_once('/').unwrap_or((net, "32"));
    let parsed = (address.parse::<Ipv4Addr>(), base.parse::<Ipv4Addr>(), bits.parse::<u32>());
    let (Ok(address), Ok(base), Ok(bits @ 0..=32)) = parsed else { return false };
    let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
    u32::from(address) & mask == u32::from(base) & mask
}

/// The id that `user:password` proves.
pub fn digest(auth: &str) -> String {
    let user = auth.split(':').next().unwrap_or_default();
    format!("{user}:{}", STANDARD.encode(Sha1::digest(auth)))
}
