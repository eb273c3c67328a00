//! Scripts of the learner.

use bytes::Bytes;
use zabra_actors::core::learner::{Effect, Input, Learner, Start};
use zabra_actors::types::{
    CreateKind, Epochs, Forwarded, Membership, Millis, Op, Packet, SessionId, Sid, Tenure, Zxid,
};

use crate::Subject;
use crate::words::{TIMING, Words};

#[derive(Default)]
pub struct LearnerSubject {
    core: Option<Learner>,
    now: Millis,
    /// What the disk was asked last, for `saved` and `synced` without arguments.
    saving: Epochs,
    appended: Zxid,
}

impl LearnerSubject {
    fn start(&mut self, words: &Words) -> Vec<Effect> {
        let observer = words.has("observer");
        let start = Start {
            leader: Sid(words.number("leader") as u8),
            membership: if observer { Membership::Observer } else { Membership::Participant },
            tenure: Tenure(1),
            history: words.history(),
            epochs: words.epochs(),
            timing: TIMING,
            resync: words.has("resync"),
            doubtful: words.has("doubtful"),
            linked: !words.has("unlinked"),
            now: self.now,
        };
        let mut effects = Vec::new();
        self.core = Some(Learner::new(start, &mut effects));
        effects
    }

    fn input(&mut self, words: &Words) -> Input {
        let now = self.now;
        let session = SessionId(words.number_or("session", 0) as i64);
        match words.name.as_str() {
            "up" => Input::LinkUp { now },
            "down" => Input::LinkDown,
            "synced" => {
                let zxid = if words.get("to").is_some() { words.zxid("to") } else { self.appended };
                Input::Synced { zxid }
            }
            "saved" => Input::EpochsSaved(self.saving),
            "truncated" => Input::Truncated { zxid: words.zxid_at(0) },
            "stored" => Input::Stored { pieces: words.number("pieces") as u32 },
            "installed" => Input::Installed { zxid: (!words.has("none")).then(|| words.zxid_at(0)) },
            "forward" => {
                let op = Op::Delete { path: "/a".into(), version: -1 };
                Input::Forward(vec![Forwarded { session, local: false, cxid: 1, op, auth: [].into() }])
            }
            "forward-large" => {
                let data = Some(Bytes::from(vec![0; 600_000]));
                let (path, kind) = ("/a".into(), CreateKind::Create);
                let op = Op::Create { kind, path, data, acl: None, flags: 0 };
                let request = Forwarded { session, local: false, cxid: 1, op, auth: [].into() };
                Input::Forward(vec![request; words.number("count") as usize])
            }
            "own-sync" => Input::Sync,
            "revalidate" => Input::Revalidate { session, timeout_ms: 30_000 },
            "touched" => Input::Touched { number: words.number("number"), sessions: vec![(session, 30_000)] },
            "rejoin" => Input::Rejoin,
            "diverged" => Input::Diverged,
            "disk-low" => Input::DiskLow(true),
            "disk-roomy" => Input::DiskLow(false),
            "tick" => {
                self.now = words.millis();
                Input::Tick { now: self.now }
            }
            _ => Input::Packet { now, packet: packet(words) },
        }
    }
}

fn packet(words: &Words) -> Packet {
    match words.name.as_str() {
        "LEADERINFO" => Packet::LeaderInfo { epoch: words.epoch("epoch") },
        "DIFF" => Packet::Diff { last: words.zxid_at(0) },
        "TRUNC" => Packet::Trunc { to: words.zxid_at(0) },
        "SNAP" => Packet::Snap { zxid: words.zxid_at(0) },
        "SNAPSIZE" => Packet::SnapSize { bytes: words.number("bytes") },
        "PIECE" => Packet::SnapChunk(Bytes::from_static(b"piece")),
        "LAST-PIECE" => Packet::SnapChunk(Bytes::new()),
        "LARGE-PROPOSAL" => {
            let mut entry = (*words.entries_at(0)[0]).clone();
            entry.bytes = Bytes::from(vec![0; 65 << 20]);
            Packet::Proposal(entry.into())
        }
        "PROPOSAL" => Packet::Proposal(words.entries_at(0).remove(0)),
        "COMMIT" => Packet::Commit { zxid: words.zxid_at(0) },
        "INFORM" => Packet::Inform(words.entries_at(0).remove(0)),
        "NEWLEADER" => Packet::NewLeader { epoch: words.epoch("epoch") },
        "UPTODATE" => Packet::UpToDate { committed: words.zxid_at(0) },
        "PING" => Packet::Ping { number: words.number("number"), touched: vec![] },
        "SYNC" => Packet::Sync,
        "REVALIDATE" => {
            let session = SessionId(words.number("session") as i64);
            Packet::Revalidated { session, valid: words.has("valid").then_some(Zxid(0x100000001)) }
        }
        "DISKLOW" => Packet::DiskLow { low: !words.has("no") },
        "GOODBYE" => Packet::Goodbye { reason: "it is over".to_owned() },
        _ => words.unknown(),
    }
}

impl Subject for LearnerSubject {
    fn run(&mut self, words: &Words) -> Vec<String> {
        let effects = if words.name == "start" {
            self.start(words)
        } else {
            let input = self.input(words);
            let mut effects = Vec::new();
            self.core.as_mut().expect("a script begins with start").step(input, &mut effects);
            effects
        };
        for effect in &effects {
            match effect {
                Effect::SaveEpochs(epochs) => self.saving = *epochs,
                Effect::Append(entries) => self.appended = entries.last().expect("not empty").zxid(),
                _ => {}
            }
        }
        effects.iter().map(show).collect()
    }
}

fn show(effect: &Effect) -> String {
    match effect {
        Effect::Send(Packet::Request(requests)) => {
            let size: usize = requests.iter().map(|request| request.body.len()).sum();
            format!("send Request of {} with {size} bytes", requests.len())
        }
        Effect::Send(packet) => format!("send {packet:?}"),
        effect => format!("{effect:?}"),
    }
}
