//! From what one side saw to what two sides must agree on.
//!
//! - A zxid becomes its distance from the root's. Distances count: a failed write takes one, too. What is older
//!   than the sequence is [`BEFORE`]; 0 and negative ones stay.
//! - What only zabra was asked has taken zxids that Apache lacks, and an unreadable write takes one with Apache 3.8
//!   and none with 3.9: they are left out of the count.
//! - A session id becomes the number of the connection that made it; the password, whether it is the one that
//!   Apache's formula gives.
//! - Times are not compared but checked: one time for each transaction, wherever it shows.
//! - Counters of the znodes that all sequences share count from the start of this one.
//! - What comes in no order is sorted: names of children, ephemerals, ids; the events that the end of a session
//!   sends for its ephemerals.
//! - Addresses in `/zookeeper/config` are blanked.

use std::collections::BTreeMap;

use super::decode::{Body, Seen, Stat};
use super::play::Transcript;
use super::script::{Ask, Conn, Op, Script};

/// In the place of a zxid: older than the sequence.
pub const BEFORE: i64 = i64::MIN;

/// In the place of a session that nobody in the script has made.
const STRANGER: i64 = i64::MIN;

/// In the place of a time that is not that of its transaction.
const OUT_OF_TIME: i64 = -1;

/// What a step showed, by connection.
pub type Shown = BTreeMap<Conn, Vec<Seen>>;

struct Normaliser<'a> {
    from: &'a Transcript,
    times: BTreeMap<i64, i64>,
}

/// What both sides must agree on, step by step.
pub fn normalise(script: &Script, transcript: &Transcript) -> Vec<Shown> {
    let mut normaliser = Normaliser { from: transcript, times: BTreeMap::new() };
    let mut steps = transcript.steps.clone();
    for (step, shown) in script.steps.iter().zip(&mut steps) {
        let ends_session = step.asks().iter().any(|ask| ask.op.opcode() == -11);
        for seen in shown.values_mut() {
            seen.iter_mut().for_each(|one| normaliser.seen(one, step.asks()));
            if ends_session {
                sort_events(seen);
            }
        }
    }
    steps
}

/// The last transaction after each step, by its distance.
pub fn applied(transcript: &Transcript) -> Vec<i64> {
    let normaliser = Normaliser { from: transcript, times: BTreeMap::new() };
    transcript.applied.iter().map(|zxid| normaliser.zxid(*zxid)).collect()
}

/// Sorts each run of events between two other things.
fn sort_events(seen: &mut [Seen]) {
    let is_event = |seen: &Seen| matches!(seen, Seen::Event { .. });
    for run in seen.chunk_by_mut(|a, b| is_event(a) == is_event(b)) {
        if run.first().is_some_and(is_event) {
            run.sort_by_key(|event| match event {
                Seen::Event { kind, path, .. } => (path.clone(), *kind),
                _ => unreachable!("a run of events"),
            });
        }
    }
}

impl Normaliser<'_> {
    fn seen(&mut self, seen: &mut Seen, asks: &[Ask]) {
        match seen {
            Seen::Hello { session, password, .. } => {
                let right = *password == super::session::password(*session);
                *session = self.session(*session);
                if right {
                    *password = b"right".to_vec();
                }
            }
            Seen::Reply { of, zxid, body, .. } => {
                *zxid = self.zxid(*zxid);
                self.body(body, asks.get(*of).map(|ask| &ask.op));
            }
            Seen::Event { zxid, .. } => *zxid = self.zxid(*zxid),
            Seen::Garbled(_) | Seen::Closed | Seen::Silence => {}
        }
    }

    fn zxid(&self, zxid: i64) -> i64 {
        match zxid {
            ..=0 => zxid,
            _ if zxid < self.from.start => BEFORE,
            _ => {
                let left_out: i64 =
                    self.from.extra.iter().map(|(from, to)| (zxid.min(*to) - from).max(0)).sum();
                zxid - self.from.start + 1 - left_out
            }
        }
    }

    fn session(&self, id: i64) -> i64 {
        let made = self.from.sessions.iter().find(|(_, session)| **session == id);
        match (id, made) {
            (0, _) => 0,
            (_, Some((conn, _))) => i64::from(*conn),
            _ => STRANGER,
        }
    }

    fn body(&mut self, body: &mut Body, op: Option<&Op>) {
        let path = op.and_then(Op::path);
        match body {
            Body::Stat(stat) | Body::PathStat(_, stat) | Body::Acl(_, stat) => self.stat(stat, path),
            Body::Data(data, stat) => {
                self.stat(stat, path);
                if path == Some("/zookeeper/config") {
                    *data = data.take().map(|text| blanked(&text));
                    stat.data_length = stat.data_length.signum();
                }
            }
            Body::Names(names) => names.sort(),
            Body::NamesStat(names, stat) => {
                names.sort();
                self.stat(stat, path);
            }
            Body::Ids(ids) => ids.sort(),
            Body::Multi(members) => {
                let ops = match op {
                    Some(Op::Multi { members } | Op::MultiRead { members }) => members.as_slice(),
                    _ => &[],
                };
                for (n, member) in members.iter_mut().enumerate() {
                    self.body(&mut member.body, ops.get(n));
                }
            }
            Body::Empty | Body::Path(_) | Body::Number(_) | Body::Buffer(_) | Body::Garbled(_) => {}
        }
    }

    fn stat(&mut self, stat: &mut Stat, path: Option<&str>) {
        stat.ctime = self.time(stat.czxid, stat.ctime);
        stat.mtime = self.time(stat.mzxid, stat.mtime);
        stat.czxid = self.zxid(stat.czxid);
        stat.mzxid = self.zxid(stat.mzxid);
        stat.pzxid = self.zxid(stat.pzxid);
        stat.owner = self.session(stat.owner);
        let is = |(shared, _): &&(String, Stat)| {
            Some(shared.as_str()) == path || path == Some("") && shared == "/"
        };
        if let Some((path, start)) = self.from.shared.iter().find(is) {
            stat.version -= start.version;
            stat.cversion -= start.cversion;
            stat.aversion -= start.aversion;
            if path == "/zookeeper/config" {
                stat.data_length = stat.data_length.signum();
            }
        }
    }

    /// Of a transaction of this sequence there is one time.
    fn time(&mut self, zxid: i64, time: i64) -> i64 {
        if zxid < self.from.start || *self.times.entry(zxid).or_insert(time) == time {
            0
        } else {
            OUT_OF_TIME
        }
    }
}

/// A configuration without what differs from run to run: the numbers behind colons and signs of equality.
fn blanked(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        let in_number = out.ends_with([':', '=', '#']) && c.is_ascii_hexdigit();
        match in_number {
            true if out.ends_with('#') => {}
            true => out.push('#'),
            false => out.push(c),
        }
    }
    out
}
