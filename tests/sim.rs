//! Whole ensembles under faults: a few seeds of each scenario. `zabra sim --seeds A..B` runs as many as one likes,
//! and `tests/run` runs a fresh range for some minutes.

use std::ops::Range;
use std::process::{Command, Stdio};

use zabra::sim::{Options, Scenario, Tell, run};
use zabra_actors::core::mutant::Mutant;

/// Runs these seeds; a failure prints the one command that repeats it.
fn all_is_well(scenario: Scenario, participants: Option<u8>, seeds: Range<u64>) {
    let mut writes = 0;
    for seed in seeds {
        let options = Options { seed, scenario, participants, ..Options::default() };
        match run(&options, Tell::Nothing) {
            Ok(report) => writes += report.writes,
            Err(failure) => panic!("{}\nrepeat with: {} --trace", failure.what, failure.command()),
        }
    }
    assert!(writes > 0, "clients got something done");
}

#[test]
fn whatever_the_seed_decides() {
    all_is_well(Scenario::Swarm, None, 0..6);
}

#[test]
fn nothing_goes_wrong() {
    all_is_well(Scenario::Calm, None, 0..2);
}

#[test]
fn servers_are_killed() {
    all_is_well(Scenario::Crashes, None, 0..3);
}

#[test]
fn power_is_cut() {
    all_is_well(Scenario::Power, None, 0..3);
}

#[test]
fn links_are_cut() {
    all_is_well(Scenario::Partitions, None, 0..3);
}

#[test]
fn leaders_do_not_know_that_they_are_deposed() {
    all_is_well(Scenario::Deposed, None, 0..3);
}

#[test]
fn followers_come_back_with_what_is_not_committed() {
    all_is_well(Scenario::Returns, None, 0..3);
}

#[test]
fn one_server_alone_has_the_end_of_the_log() {
    all_is_well(Scenario::Tails, None, 0..3);
}

#[test]
fn disks_are_slow_full_broken_and_rotten() {
    all_is_well(Scenario::Disks, None, 0..3);
}

#[test]
fn bits_turn_over_on_several_disks() {
    all_is_well(Scenario::Rot, None, 0..3);
}

#[test]
fn processes_stand_still_and_clocks_jump() {
    all_is_well(Scenario::Pauses, None, 0..3);
}

#[test]
fn servers_come_back_far_behind() {
    all_is_well(Scenario::Catchup, None, 0..3);
}

#[test]
fn a_single_server_comes_back_too() {
    all_is_well(Scenario::Power, Some(1), 0..2);
}

/// Each of these has found a fault once: of the simulator, the checker, or the code that they try.
#[test]
fn seeds_that_have_found_something() {
    all_is_well(Scenario::Swarm, None, 51..52); // an id of a session returns after the clock went back
    all_is_well(Scenario::Deposed, None, 11..12); // a learner that returns is cut to what is committed
    all_is_well(Scenario::Crashes, None, 0..1); // a sector kept a later write without an earlier one
    all_is_well(Scenario::Swarm, None, 1402..1403); // the id that returns is a local session's
    all_is_well(Scenario::Swarm, None, 1831..1832); // bit rot in what was never synced
    all_is_well(Scenario::Swarm, None, 2656..2657); // a follower spoke of its own old epoch: no election ended
    all_is_well(Scenario::Swarm, None, 2931..2932); // the same
    all_is_well(Scenario::Pauses, None, 135..136); // a session expired while its word lay in a socket
    all_is_well(Scenario::Swarm, None, 3625..3626); // the same
    all_is_well(Scenario::Pauses, None, 2_000_372..2_000_373); // and one whose word came after its end
    all_is_well(Scenario::Disks, None, 77..78); // a voter alone has begun to write when its observer comes
    all_is_well(Scenario::Swarm, None, 5064..5065); // the same
    all_is_well(Scenario::Swarm, None, 900_197..900_198); // a packet of an earlier stay is no word of a session
    all_is_well(Scenario::Swarm, None, 2_010_696..2_010_697); // damage passed for a sector that was lost
    all_is_well(Scenario::Swarm, None, 2_008_407..2_008_408); // a lost header passed for damage
    all_is_well(Scenario::Swarm, None, 2_011_213..2_011_214); // a deposed leader has let a client go on
    all_is_well(Scenario::Swarm, None, 3_000_815..3_000_816); // an expiry that waited for the next epoch
    all_is_well(Scenario::Swarm, None, 3_001_904..3_001_905); // ticks that were missed came all at once
    all_is_well(Scenario::Swarm, None, 4_002_236..4_002_237); // writes that waited for an epoch, and a reconnect
    all_is_well(Scenario::Swarm, None, 5_001_372..5_001_373); // a commit on its way to who has refused the plan
    all_is_well(Scenario::Swarm, None, 6_000_950..6_000_951); // a vote that is heard before a word is said
    all_is_well(Scenario::Deposed, None, 700_463..700_464); // the same, when the stay ends as the packet comes
    all_is_well(Scenario::Pauses, None, 700_348..700_349); // a move that overtook an earlier attempt to connect
    all_is_well(Scenario::Swarm, None, 2_000_044..2_000_045); // all clients were at rest when a quorum healed
    all_is_well(Scenario::Swarm, None, 702_193..702_194); // an id that returns while its first client still has it
    all_is_well(Scenario::Pauses, None, 30_007_289..30_007_290); // a vote that comes while its hearer stands still
    all_is_well(Scenario::Pauses, None, 30_008_666..30_008_667); // another server's write with the same numbers
    all_is_well(Scenario::Pauses, None, 30_010_085..30_010_086); // the same, to a client that had moved on
    all_is_well(Scenario::Pauses, None, 40_002_630..40_002_631); // two stays of one number, the clock being before 1970
    all_is_well(Scenario::Pauses, None, 200_007_845..200_007_846); // a reader that was cut off every other second
}

#[test]
fn a_seed_gives_the_same_run_twice() {
    let options = Options { seed: 7, ..Options::default() };
    let (first, second) = (run(&options, Tell::Nothing), run(&options, Tell::Nothing));
    assert_eq!(first.expect("a good run"), second.expect("a good run"));
}

#[test]
fn a_reader_of_the_story_may_leave() {
    let zabra = Command::new(env!("CARGO_BIN_EXE_zabra"))
        .args(["sim", "--scenario", "calm", "--seconds", "2", "--trace"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut zabra = zabra.expect("zabra was built with the test");
    drop(zabra.stdout.take());
    let end = zabra.wait_with_output().expect("it ends");
    assert!(end.status.success(), "{}", String::from_utf8_lossy(&end.stderr));
    assert_eq!(String::from_utf8_lossy(&end.stderr), "");
}

/// The proof that the checks can fail: each historic mistake is found in time, and by the invariant that it breaks.
#[test]
fn every_historic_mistake_is_found() {
    let hunt = Command::new(env!("CARGO_BIN_EXE_zabra")).args(["sim", "--mutants", "--jobs", "2"]).output();
    let hunt = hunt.expect("zabra was built with the test");
    let (told, errors) = (String::from_utf8_lossy(&hunt.stdout), String::from_utf8_lossy(&hunt.stderr));
    println!("{told}");
    assert!(hunt.status.success(), "{told}{errors}");
    let all = Mutant::ALL.len();
    assert!(told.contains(&format!("{all} of {all} mistakes found in time")), "{told}");
}

#[test]
fn leaders_are_deposed_while_clients_sync() {
    all_is_well(Scenario::Stale, None, 0..3);
}
