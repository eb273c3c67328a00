//! Scripts of the leader.

use zabra_actors::core::leader::{Effect, Input, Leader, Start};
use zabra_actors::core::quorum::Ensemble;
use zabra_actors::types::{
    CreateKind, EpochLength, Epochs, Forwarded, ForwardedBytes, Millis, Op, Packet, SessionId, Sid, Zxid,
};

use crate::Subject;
use crate::words::{TIMING, Words};

#[derive(Default)]
pub struct LeaderSubject {
    core: Option<Leader>,
    now: Millis,
    /// What the disk was asked last, for `saved` and `synced` without arguments.
    saving: Epochs,
    appended: Zxid,
}

impl LeaderSubject {
    fn start(&mut self, words: &Words) -> Vec<Effect> {
        let me = Sid(words.number("me") as u8);
        let ensemble = Ensemble::majority(me, &words.sids("voters"), &words.sids("observers"));
        let (history, epochs) = (words.history(), words.epochs());
        let linked = match words.get("linked") {
            Some(_) => words.sids("linked").into_iter().collect(),
            None => ensemble.others().collect(),
        };
        let epoch_length =
            words.get("length").map_or(EpochLength::MAX, |_| EpochLength(words.number("length") as u32));
        let start = Start { ensemble, history, epochs, timing: TIMING, epoch_length, linked, now: self.now };
        let mut effects = Vec::new();
        self.core = Some(Leader::new(start, &mut effects));
        effects
    }

    fn input(&mut self, words: &Words) -> Input {
        match words.name.as_str() {
            "up" => Input::LinkUp { peer: words.sid() },
            "down" => Input::LinkDown { peer: words.sid() },
            "propose" => Input::Propose(words.entries_at(0)),
            "own-sync" => Input::Sync,
            "turn" => Input::EndOfTurn,
            "synced" => {
                let zxid = if words.get("to").is_some() { words.zxid("to") } else { self.appended };
                Input::Synced { zxid }
            }
            "saved" => Input::EpochsSaved(self.saving),
            "snapshot-moves" => {
                let (to, tenure) = words.stay();
                Input::SnapshotMoves { to, tenure, pieces: words.number("pieces") as u32 }
            }
            "snapshot-sent" => {
                let (to, tenure) = words.stay();
                Input::SnapshotSent { to, tenure }
            }
            "revalidated" => {
                let (to, tenure) = words.stay();
                let session = SessionId(words.number("session") as i64);
                Input::Revalidated {
                    to,
                    tenure,
                    session,
                    valid: words.has("valid").then_some(Zxid(0x100000001)),
                }
            }
            "disk-low" => Input::DiskLow(true),
            "disk-roomy" => Input::DiskLow(false),
            "tick" => {
                self.now = words.millis();
                Input::Tick { now: self.now }
            }
            _ => {
                let (from, tenure) = words.stay();
                Input::Packet { now: self.now, from, tenure, packet: packet(words) }
            }
        }
    }
}

fn packet(words: &Words) -> Packet {
    let session = SessionId(words.number_or("session", 0) as i64);
    match words.name.as_str() {
        "FOLLOWERINFO" => Packet::FollowerInfo { accepted: words.epoch("accepted") },
        "OBSERVERINFO" => Packet::ObserverInfo { accepted: words.epoch("accepted") },
        "ACKEPOCH" => Packet::AckEpoch { last: words.zxid("last"), current: words.epoch_option("current") },
        "ACK" => Packet::Ack { zxid: words.zxid_at(1) },
        "SNAPTAKEN" => Packet::SnapTaken { pieces: words.number("pieces") as u32 },
        "PING" => {
            let touched = if session == SessionId::NONE { vec![] } else { vec![(session, 30_000)] };
            Packet::Ping { number: words.number_or("number", 0), touched }
        }
        "SYNC" => Packet::Sync,
        "REVALIDATE" => Packet::Revalidate { session, timeout_ms: 30_000 },
        "REQUEST" => Packet::Request(vec![request(session, words)]),
        "DISKLOW" => Packet::DiskLow { low: !words.has("no") },
        "GOODBYE" => Packet::Goodbye { reason: "it is over".to_owned() },
        "COMMIT" => Packet::Commit { zxid: words.zxid_at(1) },
        _ => words.unknown(),
    }
}

fn request(session: SessionId, words: &Words) -> ForwardedBytes {
    let path = "/a".into();
    let op = Op::Create { kind: CreateKind::Create, path, data: None, acl: None, flags: 0 };
    let forwarded = Forwarded { session, local: words.has("local"), cxid: 1, op, auth: [].into() };
    let opcode = words.number_or("opcode", 1) as i32;
    ForwardedBytes { opcode, ..ForwardedBytes::from(&forwarded) }
}

impl Subject for LeaderSubject {
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
        Effect::Send { to, packet } => {
            let to: Vec<String> = to.iter().map(|(sid, tenure)| format!("{sid}/{}", tenure.0)).collect();
            format!("send {} {packet:?}", to.join(" "))
        }
        Effect::Note(note) => format!("note: {note}"),
        effect => format!("{effect:?}"),
    }
}
