//! The tree against a model so plain that it is right at sight: a map from path to znode, searched by
//! prefix, summed up from scratch. Transactions are drawn at random, without regard for what fits: that
//! covers replays over newer trees.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug, PartialEq)]
struct ModelNode {
    data: Option<Bytes>,
    acl: Vec<Acl>,
    stat: PersistedStat,
}

#[derive(Clone, Default)]
struct Model {
    /// The root is "".
    nodes: BTreeMap<String, ModelNode>,
    sessions: BTreeMap<SessionId, i32>,
}

impl Model {
    fn new() -> Model {
        let mut model = Model::default();
        let fresh = Tree::new();
        fresh.walk(&mut |v| {
            let node =
                ModelNode { data: v.data.map(Bytes::copy_from_slice), acl: v.acl.to_vec(), stat: v.stat };
            model.nodes.insert(v.path.to_string(), node);
        });
        model
    }

    fn children(&self, path: &str) -> Vec<&str> {
        let prefix = format!("{path}/");
        let below = self.nodes.keys().filter_map(|p| p.strip_prefix(&prefix));
        below.filter(|name| !name.is_empty() && !name.contains('/')).collect()
    }

    fn stat(&self, path: &str) -> Stat {
        let node = &self.nodes[path];
        let (s, children) = (node.stat, self.children(path).len() as i32);
        let is_session = (1..0x7f00_0000_0000_0000).contains(&s.ephemeral_owner);
        Stat {
            czxid: s.czxid,
            mzxid: s.mzxid,
            ctime: s.ctime,
            mtime: s.mtime,
            version: s.version,
            cversion: 2 * s.cversion - children,
            aversion: s.aversion,
            ephemeral_owner: if is_session { s.ephemeral_owner } else { 0 },
            data_length: node.data.as_ref().map_or(0, |d| d.len() as i32),
            num_children: children,
            pzxid: s.pzxid,
        }
    }

    fn ephemerals(&self, session: SessionId) -> Vec<String> {
        let own = self.nodes.iter().filter(|(_, n)| n.stat.ephemeral_owner == session.0);
        own.map(|(path, _)| path.clone()).collect()
    }

    fn change(&self, kind: ChangeKind, path: &str, zxid: Zxid) -> Change {
        let parent = parent_of(path);
        let shown = if parent.is_empty() { "/" } else { parent };
        let with_parent = kind != ChangeKind::DataChanged;
        Change {
            kind,
            path: path.into(),
            zxid,
            acl: self.nodes[path].acl.clone().into(),
            parent: with_parent.then(|| (shown.into(), self.nodes[parent].acl.clone().into())),
        }
    }

    fn apply(&mut self, header: TxnHeader, body: &TxnBody, changes: &mut Vec<Change>) -> Applied {
        let applied = self.apply_plainly(header, body, changes);
        self.show_all_usage();
        applied
    }

    fn apply_plainly(&mut self, header: TxnHeader, body: &TxnBody, changes: &mut Vec<Change>) -> Applied {
        let zxid = header.zxid;
        match body {
            TxnBody::CreateSession { timeout_ms } => {
                self.sessions.insert(header.session, *timeout_ms);
                Applied::Session
            }
            TxnBody::CloseSession { paths } => {
                self.sessions.remove(&header.session);
                for path in paths.iter().flatten() {
                    self.delete(path, zxid, changes);
                }
                for path in self.ephemerals(header.session) {
                    self.delete(&path, zxid, changes);
                }
                Applied::Session
            }
            TxnBody::Error(code) => Applied::Error(*code),
            TxnBody::Create { .. } => self.create(header, body, changes),
            TxnBody::Delete { path, .. } => self.delete(path, zxid, changes),
            TxnBody::SetData { path, data, version, .. } => {
                let Some(node) = self.nodes.get_mut(&**path) else { return error(ZkError::NoNode) };
                node.data = data.clone();
                node.stat.version = *version;
                node.stat.mzxid = zxid.0;
                node.stat.mtime = header.time;
                changes.push(self.change(ChangeKind::DataChanged, path, zxid));
                Applied::SetData(self.stat(path))
            }
            TxnBody::SetAcl { path, acl, version } => {
                let Some(node) = self.nodes.get_mut(&**path) else { return error(ZkError::NoNode) };
                node.acl = acl.clone();
                node.stat.aversion = *version;
                Applied::SetAcl(self.stat(path))
            }
            TxnBody::Check { .. } => Applied::Check,
            TxnBody::Multi(members) => {
                Applied::Multi(members.iter().map(|m| self.apply(header, m, changes)).collect())
            }
        }
    }

    fn create(&mut self, header: TxnHeader, body: &TxnBody, changes: &mut Vec<Change>) -> Applied {
        let TxnBody::Create { kind, path, data, acl, ephemeral, parent_cversion } = body else { panic!() };
        let zxid = header.zxid.0;
        let Some(parent) = self.nodes.get_mut(parent_of(path)) else { return error(ZkError::NoNode) };
        let count = if *parent_cversion == -1 { parent.stat.cversion + 1 } else { *parent_cversion };
        if count > parent.stat.cversion {
            (parent.stat.cversion, parent.stat.pzxid) = (count, zxid);
        }
        if let Some(node) = self.nodes.get_mut(&**path) {
            node.acl = acl.clone();
            return error(ZkError::NodeExists);
        }
        let owner = match kind {
            CreateKind::Container => i64::MIN,
            CreateKind::Ttl(ttl) => (0xff << 56) | ttl,
            _ if *ephemeral => header.session.0,
            _ => 0,
        };
        let (ctime, mtime) = (header.time, header.time);
        let stat = PersistedStat {
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
            ctime,
            mtime,
            ephemeral_owner: owner,
            ..PersistedStat::default()
        };
        let node = ModelNode { data: data.clone(), acl: acl.clone(), stat };
        self.nodes.insert(path.to_string(), node);
        changes.push(self.change(ChangeKind::Created, path, header.zxid));
        let applied = Applied::Create(path.clone(), self.stat(path));
        if let Some(quota) =
            path.strip_prefix("/zookeeper/quota").and_then(|p| p.strip_suffix("/zookeeper_stats"))
        {
            self.show_usage(quota);
        }
        applied
    }

    fn usage(&self, top: &str) -> Usage {
        let below = format!("{top}/");
        let mut usage = Usage::NONE;
        for (_, node) in self.nodes.iter().filter(|(path, _)| *path == top || path.starts_with(&below)) {
            usage += Usage::of_one(node.data.as_ref().map_or(0, Bytes::len));
        }
        usage
    }

    fn show_usage(&mut self, quota: &str) {
        let usage = self.usage(quota).to_string();
        if let Some(stats) = self.nodes.get_mut(&format!("/zookeeper/quota{quota}/zookeeper_stats")) {
            stats.data = Some(usage.into());
        }
    }

    /// Every quota in force shows what there is.
    fn show_all_usage(&mut self) {
        let quota = |path: &String| {
            let quota = path.strip_prefix("/zookeeper/quota")?.strip_suffix("/zookeeper_limits")?;
            (!quota.is_empty()).then(|| quota.to_string())
        };
        let quotas: Vec<String> = self.nodes.keys().filter_map(quota).collect();
        quotas.iter().for_each(|quota| self.show_usage(quota));
    }

    fn delete(&mut self, path: &str, zxid: Zxid, changes: &mut Vec<Change>) -> Applied {
        let Some(parent) = self.nodes.get_mut(parent_of(path)) else { return error(ZkError::NoNode) };
        parent.stat.pzxid = parent.stat.pzxid.max(zxid.0);
        if !self.nodes.contains_key(path) {
            return error(ZkError::NoNode);
        }
        changes.push(self.change(ChangeKind::Deleted, path, zxid));
        self.nodes.retain(|p, _| p != path && !p.starts_with(&format!("{path}/")));
        Applied::Delete
    }

    /// Everything that can be seen of the tree is as in the model.
    fn check(&self, tree: &Tree) {
        let mut seen = BTreeMap::new();
        tree.walk(&mut |v| {
            let node =
                ModelNode { data: v.data.map(Bytes::copy_from_slice), acl: v.acl.to_vec(), stat: v.stat };
            assert!(v.path.is_empty() || seen.contains_key(parent_of(v.path)), "a parent comes first");
            assert!(seen.insert(v.path.to_string(), node).is_none(), "{} comes twice", v.path);
        });
        assert_eq!(seen, self.nodes);
        assert_eq!(*tree.sessions(), self.sessions);
        let mut ephemeral_count = 0;
        for session in SESSIONS.map(SessionId) {
            let paths: Vec<String> = tree.ephemerals(session).iter().map(|p| p.to_string()).collect();
            assert_eq!(paths, self.ephemerals(session));
            ephemeral_count += paths.len();
        }
        assert_eq!((tree.ephemeral_count(), tree.node_count()), (ephemeral_count, self.nodes.len() + 1));
        for path in self.nodes.keys() {
            let node = tree.get(path).expect("it is in the model");
            assert_eq!(node.stat(), self.stat(path), "{path}");
            let mut children: Vec<_> = node.children().collect();
            children.sort_unstable();
            assert_eq!(children, self.children(path));
            let prefix = format!("{path}/");
            let below = self.nodes.keys().filter(|other| other.starts_with(&prefix)).count();
            assert_eq!(node.descendant_count(), below, "below {path}");
            assert_eq!(node.subtree(), self.usage(path), "{path}");
        }
        let size = |(p, n): (&String, &ModelNode)| p.len() + n.data.as_ref().map_or(0, Bytes::len);
        assert_eq!(tree.data_size(), 1 + self.nodes.iter().map(size).sum::<usize>() as u64);
        assert_eq!(tree.digest(), self.digest());
        let distinct: std::collections::BTreeSet<_> = self.nodes.values().map(|n| &n.acl).collect();
        assert_eq!(tree.acl_count(), distinct.len());
    }

    fn digest(&self) -> i64 {
        let digested = self.nodes.iter().filter(|(path, _)| !path.starts_with("/zookeeper/"));
        digested.map(|(path, n)| node_digest(path, n)).fold(0, i64::wrapping_add)
    }
}

fn node_digest(path: &str, node: &ModelNode) -> i64 {
    let s = node.stat;
    let mut bytes = path.as_bytes().to_vec();
    bytes.extend(node.data.iter().flatten());
    [s.czxid, s.mzxid, s.pzxid, s.ctime, s.mtime].iter().for_each(|l| bytes.extend(l.to_be_bytes()));
    [s.version, s.cversion, s.aversion].iter().for_each(|i| bytes.extend(i.to_be_bytes()));
    bytes.extend(s.ephemeral_owner.to_be_bytes());
    i64::from(crc32fast::hash(&bytes))
}

fn parent_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// The same tree by way of a snapshot.
fn reloaded(tree: &Tree) -> Tree {
    let mut copy = TreeLoader::new();
    tree.sessions().iter().for_each(|(id, timeout)| copy.session(*id, *timeout));
    tree.walk(&mut |v| {
        copy.node(v.path, v.data, v.acl, v.stat).expect("walk gives a good order");
    });
    copy.finish(tree.zxid()).expect("no znode is there twice")
}

const QUOTAS: [&str; 5] = [
    "/zookeeper/quota/a",
    "/zookeeper/quota/a/b",
    "/zookeeper/quota/a/b/zookeeper_limits",
    "/zookeeper/quota/a/zookeeper_limits",
    "/zookeeper/quota/a/zookeeper_stats",
];

const SESSIONS: [i64; 3] = [0x0100_0000_0000_0001, 0x0200_0000_0000_0002, 3];

/// Few names, so that transactions meet; one too long to be kept inline.
fn any_path() -> impl Strategy<Value = String> {
    let name = prop_oneof![Just("a"), Just("b"), Just("name-of-thirty-bytes-0123456789")];
    let free = prop::collection::vec(name, 1..4).prop_map(|names| format!("/{}", names.join("/")));
    let dir = prop_oneof![Just(""), Just("/a"), Just("/a/b"), Just("/a/a")];
    let name = prop_oneof![Just(""), Just("/zookeeper_limits"), Just("/zookeeper_stats")];
    let of_quota = (dir, name).prop_map(|(dir, name)| format!("/zookeeper/quota{dir}{name}"));
    prop_oneof![12 => free, 8 => of_quota.prop_filter("it is not special", |path| path != "/zookeeper/quota")]
}

fn any_data() -> impl Strategy<Value = Option<Bytes>> {
    prop::option::of(prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from))
}

fn any_acl() -> impl Strategy<Value = Vec<Acl>> {
    prop::collection::vec((1..4_i32).prop_map(Acl::world), 1..3)
}

fn any_kind() -> impl Strategy<Value = CreateKind> {
    prop_oneof![
        4 => Just(CreateKind::Create),
        1 => Just(CreateKind::Create2),
        1 => Just(CreateKind::Container),
        1 => (1..100_i64).prop_map(CreateKind::Ttl),
    ]
}

fn any_member() -> impl Strategy<Value = TxnBody> {
    let creation = (any_kind(), any_path(), any_data(), any_acl(), any::<bool>(), -1..8_i32);
    prop_oneof![
        6 => creation.prop_map(|(kind, path, data, acl, ephemeral, parent_cversion)| {
            TxnBody::Create { kind, path: path.into(), data, acl, ephemeral, parent_cversion }
        }),
        2 => any_path().prop_map(|path| delete(&path)),
        2 => (any_path(), any_data(), 0..5_i32).prop_map(|(path, data, version)| {
            TxnBody::SetData { path: path.into(), data, version, reconfig: false }
        }),
        1 => (any_path(), any_acl(), 0..5_i32).prop_map(|(path, acl, v)| set_acl(&path, acl, v)),
        1 => any_path().prop_map(|path| TxnBody::Check { path: path.into(), version: 0 }),
    ]
}

fn any_body() -> impl Strategy<Value = TxnBody> {
    let listed = prop::option::of(prop::collection::vec(any_path().prop_map(Str::from), 0..3));
    prop_oneof![
        20 => any_member(),
        2 => prop::collection::vec(any_member(), 0..5).prop_map(TxnBody::Multi),
        1 => Just(TxnBody::Error(-101)),
        1 => (1000..9000_i32).prop_map(|timeout_ms| TxnBody::CreateSession { timeout_ms }),
        1 => listed.prop_map(|paths| TxnBody::CloseSession { paths }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_tree_is_its_model(steps in prop::collection::vec((0..3_usize, any_body()), 1..60), freeze in 0..60_usize) {
        let (mut tree, mut model) = (Tree::new(), Model::new());
        let mut frozen = None;
        // Else chance would hardly ever make a quota.
        let begin = QUOTAS.map(|path| (0, create(path, -1)));
        for (at, (session, body)) in begin.into_iter().chain(steps).enumerate() {
            if at == freeze {
                frozen = Some((tree.clone(), model.clone()));
            }
            let zxid = tree.zxid().next();
            let header = TxnHeader { session: SessionId(SESSIONS[session]), cxid: 0, zxid, time: zxid.0 * 10 };
            let (mut changes, mut expected) = (Vec::new(), Vec::new());
            let txn = Txn { header, body, digest: None };
            let applied = tree.apply(&txn, &mut changes);
            prop_assert_eq!(applied, model.apply(header, &txn.body, &mut expected));
            prop_assert_eq!(changes, expected);
            model.check(&tree);
        }
        if let Some((tree, model)) = frozen {
            model.check(&tree);
        }
        let copy = reloaded(&tree);
        model.check(&copy);
        prop_assert_eq!(copy.zxid(), tree.zxid());
    }
}
