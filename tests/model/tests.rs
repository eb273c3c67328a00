//! Mistakes around the cores, each of which must be found: a rule that cannot fail proves nothing.

use std::sync::Arc;

use stateright::{Checker, HasDiscoveries, Model};
use zabra_actors::core::mutant::Mutant;

use crate::seen::Seen;
use crate::zab::Servers::{self, Three, Two, TwoAndObserver};
use crate::{bounds, election, zab};

/// Small enough for tests without optimizations.
const SMALL: zab::Bounds = zab::Bounds {
    leads: 2,
    follows: 3,
    proposals: 1,
    crashes: 0,
    power_failures: 0,
    lost_disks: 0,
    breaks: 0,
    silences: 0,
    syncs: 0,
    snapshots: 0,
    divergences: 0,
    epoch_length: None,
};

/// The shortest way to break the rule by this mistake.
fn shortest(
    mistake: Option<zab::Mistake>,
    mutant: Option<Mutant>,
    rule: zab::Rule,
    servers: Servers,
    bounds: zab::Bounds,
) -> Option<usize> {
    let model = zab::Zab {
        bounds,
        elections: zab::Elections::Any,
        servers,
        mistake,
        mutant,
        watched: Some(rule),
        settles: rule == zab::Rule::Progress,
        seen: Arc::new(Seen::default()),
    };
    let checker = model.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    println!("{mistake:?} {mutant:?}: {} states", checker.unique_state_count());
    let path = checker.discovery(rule.name())?.into_vec();
    println!("{rule:?}: {:?}", path.last());
    Some(path.len() - 1)
}

/// The mistake breaks the rule.
fn found(mistake: zab::Mistake, rule: zab::Rule, servers: Servers, bounds: zab::Bounds) {
    let steps = shortest(Some(mistake), None, rule, servers, bounds);
    assert!(steps.is_some(), "{mistake:?} does not break {rule:?}");
}

macro_rules! mistakes {
    ($($name:ident: $mistake:ident breaks $rule:ident, $servers:ident servers, $bounds:expr;)*) => {
        $(#[test]
        fn $name() {
            found(zab::Mistake::$mistake, zab::Rule::$rule, $servers, $bounds);
        })*
    };
}

mistakes! {
    forgotten_epochs_make_two_leaders_of_one_epoch:
        EpochsForgotten breaks OneLeader, Three servers, zab::Bounds { proposals: 0, crashes: 1, ..SMALL };
    a_quorum_of_one_breaks_agreement:
        QuorumOfOne breaks Agreement, Two servers, zab::Bounds { proposals: 2, ..SMALL };
    a_falsified_transaction_is_noticed:
        Falsified breaks Integrity, Two servers, SMALL;
    a_transaction_that_is_left_out_is_noticed:
        LeftOut breaks PrimaryOrder, Three servers, zab::Bounds { leads: 1, follows: 2, proposals: 2, ..SMALL };
    a_shortened_log_makes_a_leader_that_lacks_something:
        LogShortened breaks PrimaryIntegrity, Two servers, zab::Bounds { power_failures: 1, ..SMALL };
    epochs_that_are_not_saved_yet_are_not_announced:
        EpochsSavedTooEarly breaks Epochs, Two servers, SMALL;
    forgotten_epochs_are_noticed:
        EpochsForgotten breaks Epochs, Two servers, zab::Bounds { crashes: 1, ..SMALL };
    a_log_above_the_forgotten_epoch_is_noticed:
        EpochsForgotten breaks LogEpoch, Two servers, zab::Bounds { crashes: 1, ..SMALL };
    an_ack_before_the_sync_is_noticed:
        SyncedTooEarly breaks Durable, Two servers, SMALL;
    an_epoch_before_its_history_is_noticed:
        EpochsBeforeLog breaks TakenOver, Three servers, zab::Bounds { follows: 2, power_failures: 1, ..SMALL };
    what_is_applied_too_early_is_on_no_quorum:
        AppliedTooEarly breaks Quorum, Two servers, SMALL;
    an_ack_before_the_sync_commits_what_no_quorum_has:
        SyncedTooEarly breaks Quorum, Two servers, SMALL;
    an_ack_without_that_of_newleader_is_noticed:
        NewLeaderUnacknowledged breaks NewLeaderFirst, Three servers, zab::Bounds { leads: 1, follows: 2, ..SMALL };
    a_sync_that_asks_nobody_is_noticed:
        SyncUnasked breaks Sync, Three servers, zab::Bounds { leads: 1, follows: 2, syncs: 1, ..SMALL };
    a_wrong_tree_that_is_not_replaced_is_noticed:
        ResyncForgotten breaks RightTree, Two servers, zab::Bounds { divergences: 1, ..SMALL };
    an_observer_that_votes_is_no_quorum:
        ObserverVotes breaks Quorum, TwoAndObserver servers, SMALL;
    a_lost_promise_gives_two_leaders_the_same_epoch:
        LossUnnoticed breaks OneLeader, Three servers, zab::Bounds { proposals: 0, lost_disks: 1, ..SMALL };
    a_hole_in_the_proposals_stops_the_leader:
        HoleProposed breaks Assertions, Two servers, SMALL;
    without_time_outs_there_is_no_progress:
        NoTime breaks Progress, Three servers, SMALL;
}

/// A server that has lost its disk, and with it the promise that has deposed a leader, comes to just that leader. If it
/// got its vote back there, two leaders would commit side by side. Elections would not send it there; but safety must
/// not depend on them.
#[test]
fn a_deposed_leader_gives_nobody_a_vote() {
    use zab::Action::{Break, Follow, Lead, LoseDisk, Propose};
    let bounds = zab::Bounds { follows: 4, proposals: 2, breaks: 1, lost_disks: 1, ..SMALL };
    let play = |mistake, end: &[zab::Action]| {
        let model = zab::Zab {
            bounds,
            elections: zab::Elections::Any,
            servers: Three,
            mistake,
            mutant: None,
            watched: Some(zab::Rule::Agreement),
            settles: false,
            seen: Arc::new(Seen::default()),
        };
        let deposed = [Lead(2), Follow(1, 2), Break(1, 2), Lead(1), Follow(0, 1), Propose(1)].as_slice();
        model.play(&[deposed, [LoseDisk(1), Follow(1, 2)].as_slice(), end].concat())
    };
    let agreement = Some(zab::Rule::Agreement);
    assert_eq!(play(Some(zab::Mistake::TrustedUnasked), &[Follow(1, 2), Propose(2)]), agreement);
    // It observes that leader, still without a vote, and what is proposed is not committed.
    assert_eq!(play(None, &[Propose(2)]), None);
}

/// Historic mistakes within the cores, as far as they do harm within bounds that are so small.
#[test]
fn historic_mistakes_are_found() {
    let one_leader = zab::Bounds { leads: 1, follows: 2, ..SMALL };
    for (mutant, rule, servers, bounds) in [
        (Mutant::PromiseBeforeSave, zab::Rule::Epochs, Two, SMALL),
        (Mutant::CountsUnsynced, zab::Rule::Quorum, Two, SMALL),
        (Mutant::AckBeforeLog, zab::Rule::TakenOver, Two, zab::Bounds { power_failures: 1, ..SMALL }),
        (Mutant::AckBeforeNewLeader, zab::Rule::NewLeaderFirst, Three, one_leader),
    ] {
        let steps = shortest(None, Some(mutant), rule, servers, bounds);
        assert!(steps.is_some(), "{mutant:?} does not break {rule:?}");
    }
}

#[test]
fn without_a_mistake_nothing_is_found() {
    let bounds = zab::Bounds { crashes: 1, ..SMALL };
    for rule in [zab::Rule::Durable, zab::Rule::Progress] {
        assert_eq!(shortest(None, None, rule, Two, bounds), None);
    }
}

/// The shortest way to break the rule of elections by this mistake.
fn election_found(
    mistake: election::Mistake,
    rule: election::Rule,
    logs: election::Logs,
    running: usize,
    bounds: election::Bounds,
) {
    let (seen, watched) = (Arc::new(Seen::default()), Some(rule));
    let model =
        election::Elections { bounds, logs: vec![logs], running, mistake: Some(mistake), watched, seen };
    let checker = model.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    println!("{mistake:?}: {} states", checker.unique_state_count());
    assert!(checker.discovery(rule.name()).is_some(), "{mistake:?} does not break {rule:?}");
}

#[test]
fn who_takes_itself_for_a_quorum_elects_the_wrong_one() {
    let bounds = election::Bounds { ticks: 1, ..Default::default() };
    let [best, longer, oldest] = bounds::epoch_first();
    let logs = [oldest, longer, best];
    election_found(election::Mistake::QuorumOfOne, election::Rule::Newest, logs, 3, bounds);
}

#[test]
fn a_forged_vote_is_noticed() {
    let bounds = election::Bounds::default();
    election_found(election::Mistake::Forged, election::Rule::Truthful, bounds::epoch_first(), 3, bounds);
}

#[test]
fn who_has_no_say_is_elected_if_it_votes() {
    let (mistake, rule) = (election::Mistake::VotesUnasked, election::Rule::Votes);
    election_found(mistake, rule, bounds::best_has_no_say(), 3, election::Bounds::default());
}

#[test]
fn a_forgotten_round_elects_two_leaders_in_one() {
    let bounds = election::Bounds { ends: 1, ..Default::default() };
    let (mistake, rule) = (election::Mistake::RoundForgotten, election::Rule::OneQuorum);
    election_found(mistake, rule, bounds::alike(), 2, bounds);
}

#[test]
fn without_clocks_a_loss_is_not_made_good() {
    let bounds = election::Bounds { losses: 3, ..Default::default() };
    election_found(election::Mistake::NoTime, election::Rule::Decided, bounds::epoch_first(), 3, bounds);
}
