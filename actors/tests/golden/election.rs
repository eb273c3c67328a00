//! Scripts of the election.

use zabra_actors::core::election::{Effect, Election, Input};
use zabra_actors::core::quorum::Ensemble;
use zabra_actors::types::{Epoch, Millis, Notification, ServerState, Sid, Vote};

use crate::Subject;
use crate::words::Words;

#[derive(Default)]
pub struct ElectionSubject {
    core: Option<Election>,
    now: Millis,
}

fn state(words: &Words) -> ServerState {
    let states = [ServerState::Looking, ServerState::Following, ServerState::Leading, ServerState::Observing];
    states.into_iter().find(|state| words.has(&state.to_string())).expect("a state is said")
}

impl ElectionSubject {
    fn input(&mut self, words: &Words) -> Input {
        let now = self.now;
        match words.name.as_str() {
            "look" => {
                let (last, current) = (words.zxid("last"), words.epoch("current"));
                Input::Look { now, last, current, votes: !words.has("doubtful") }
            }
            "settled" => Input::Settled { state: state(words), epoch: words.epoch("epoch") },
            "up" => Input::LinkUp { now, peer: words.sid() },
            "down" => Input::LinkDown { now, peer: words.sid() },
            "tick" => {
                self.now = words.millis();
                Input::Tick { now: self.now }
            }
            // hear FROM STATE vote=SID zxid= epoch= round=
            "hear" => {
                let leader = words.get("vote").map(|_| Sid(words.number("vote") as u8));
                let vote = Vote { leader, zxid: words.zxid("zxid"), epoch: words.epoch("epoch") };
                let notification = Notification { vote, round: words.number("round"), state: state(words) };
                Input::Notification { now, from: words.sid(), notification }
            }
            _ => words.unknown(),
        }
    }
}

fn show_vote(vote: &Vote) -> String {
    let Vote { leader, zxid, epoch: Epoch(epoch) } = vote;
    leader.map_or("nobody".to_owned(), |leader| format!("{leader} (epoch {epoch}, zxid {zxid})"))
}

fn show(effect: Effect) -> String {
    match effect {
        Effect::Notify { to, notification: Notification { vote, round, state } } => {
            format!("tell {to:?}: {state}, vote {}, round {round}", show_vote(&vote))
        }
        Effect::Elected { leader, vote, round, took_ms } => {
            format!("ELECTED {leader}: {}, round {round}, took {took_ms} ms", show_vote(&vote))
        }
    }
}

impl Subject for ElectionSubject {
    fn run(&mut self, words: &Words) -> Vec<String> {
        if words.name == "new" {
            let me = Sid(words.number("me") as u8);
            let mut ensemble = Ensemble::majority(me, &words.sids("voters"), &words.sids("observers"));
            for sid in words.sids("weightless") {
                ensemble.members.get_mut(&sid).expect("is a member").weight = 0;
            }
            self.core = Some(Election::new(ensemble));
            return Vec::new();
        }
        let input = self.input(words);
        let mut effects = Vec::new();
        self.core.as_mut().expect("a script begins with new").step(input, &mut effects);
        effects.into_iter().map(show).collect()
    }
}
