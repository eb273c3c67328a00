//! The comparison itself, without servers: what it makes, leaves out, excuses, finds and makes small.

use std::collections::BTreeSet;

use super::compare::{Hits, compare};
use super::control;
use super::decode::{self, Body, Member, Seen, Stat};
use super::encode::{self, Names, hex, unhex};
use super::normalise::{self, Shown, normalise};
use super::play::Transcript;
use super::rules::{RULES, View};
use super::script::{
    Ask, Bend, Conn, Head, Hello, Op, Password, Place, Script, SessionName, Shape, Step, Text, ZxidName,
};
use super::{generate, model, only, session, shrink, tame};

const SHAPES: [Shape; 4] = [Shape::Standalone, Shape::Extended, Shape::Ensemble, Shape::Local];

struct Plain;

impl Names for Plain {
    fn zxid(&self, name: ZxidName) -> i64 {
        match name {
            ZxidName::Raw(zxid) | ZxidName::Start(zxid) | ZxidName::Last(zxid) => zxid,
        }
    }
}

fn ask(op: Op) -> Ask {
    Ask { xid: 1, op, bend: None }
}

fn path(path: &str) -> Text {
    Some(path.to_string())
}

fn create(at: &str) -> Op {
    Op::Create { path: path(at), data: None, acl: Some(vec![control::open()]), flags: 0 }
}

fn set_data(at: &str) -> Op {
    Op::SetData { path: path(at), data: None, version: -1 }
}

fn hello(session: SessionName) -> Hello {
    Hello {
        session,
        password: Password::Right,
        seen: ZxidName::Raw(0),
        timeout: 4000,
        read_only: Some(0),
        protocol: 0,
    }
}

fn connect(conn: Conn, session: SessionName) -> Step {
    Step::Connect { conn, at: Place::Leader, hello: hello(session), then: vec![] }
}

fn send(conn: Conn, ops: Vec<Op>) -> Step {
    let asks = ops.into_iter().enumerate().map(|(n, op)| Ask { xid: n as i32 + 1, op, bend: None }).collect();
    Step::Send { conn, asks }
}

fn script(steps: Vec<Step>) -> Script {
    Script { head: Head { seed: 0, shape: Shape::Standalone }, steps }
}

fn tamed(script: &Script) -> Script {
    tame::tame(script, &mut Hits::new())
}

fn reply(of: usize, zxid: i64, err: i32, body: Body) -> Seen {
    Seen::Reply { of, xid: of as i32 + 1, zxid, err, body }
}

fn event(zxid: i64, kind: i32, at: &str) -> Seen {
    Seen::Event { zxid, err: 0, kind, state: 3, path: path(at) }
}

fn members_of(op: &Op) -> &[Op] {
    match op {
        Op::Multi { members } | Op::MultiRead { members } => members,
        _ => &[],
    }
}

// What sequences are made of.

#[test]
fn a_script_can_be_written_and_read() {
    for seed in 0..100 {
        let script = generate::script(seed, SHAPES[seed as usize % SHAPES.len()]);
        assert_eq!(Script::parse(&script.to_string()).unwrap(), script);
    }
    assert!(Script::parse("").unwrap_err().contains("begins with"));
    let wrong = "# a comment\n{\"seed\":1,\"shape\":\"ensemble\"}\n{\"sned\":{}}";
    assert!(Script::parse(wrong).unwrap_err().starts_with("line 3: unknown variant"));
}

#[test]
fn a_seed_makes_one_sequence() {
    assert_eq!(generate::script(7, Shape::Standalone), generate::script(7, Shape::Standalone));
    assert_ne!(generate::script(7, Shape::Standalone).steps, generate::script(8, Shape::Standalone).steps);
}

#[test]
fn every_opcode_and_every_kind_of_step_comes_up() {
    let mut opcodes = BTreeSet::new();
    let mut members = BTreeSet::new();
    let mut kinds = BTreeSet::new();
    for seed in 0..400 {
        for step in generate::script(seed, Shape::Ensemble).steps {
            kinds.insert(serde_json::to_string(&step).unwrap().split('"').nth(1).unwrap().to_string());
            for ask in step.asks() {
                opcodes.insert(ask.op.opcode());
                members.extend(members_of(&ask.op).iter().map(Op::opcode));
            }
        }
    }
    let known = [1..=9, 11..=22, 100..=107, -11..=-10].into_iter().flatten();
    let missing: Vec<i32> = known.filter(|opcode| !opcodes.contains(opcode)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!([0, -1, 10, 99, i32::MAX].iter().all(|opcode| opcodes.contains(opcode)), "nobody's opcodes, too");
    assert!([1, 2, 4, 5, 7, 8, 13, 15, 19, 21].iter().all(|opcode| members.contains(opcode)), "{members:?}");
    let kinds: Vec<&str> = kinds.iter().map(String::as_str).collect();
    assert_eq!(kinds, ["connect", "drop", "frame", "knock", "send"]);
}

#[test]
fn requests_are_the_bytes_that_clients_send() {
    let made = encode::framed(&encode::ask(&ask(create_hi()), &Plain));
    let expected = "00000033000000010000000100000002 2f61 0000000268690000\
                    00010000001f00000005776f726c6400000006616e796f6e6500000000";
    assert_eq!(hex(&made), expected.replace(' ', ""));
    let multi = Op::Multi {
        members: vec![
            Op::Check { path: path("/a"), version: 0 },
            Op::Delete { path: path("/a"), version: 9 },
        ],
    };
    let made = encode::ask(&Ask { xid: 4, op: multi, bend: None }, &Plain);
    let expected = "00000004 0000000e 0000000d 00 ffffffff 00000002 2f61 00000000\
                    00000002 00 ffffffff 00000002 2f61 00000009 ffffffff 01 ffffffff";
    assert_eq!(hex(&made), expected.replace(' ', ""));
    let made = encode::hello(&hello(SessionName::New), 0, &[0; 16], &Plain);
    let expected = format!("{:024}00000fa0{:016}00000010{:032}00", 0, 0, 0);
    assert_eq!(hex(&made), expected);
}

fn create_hi() -> Op {
    Op::Create { path: path("/a"), data: Some("hi".into()), acl: Some(vec![control::open()]), flags: 0 }
}

#[test]
fn requests_can_be_spoilt() {
    let spoilt = |bend| {
        let op = Op::Sync { path: path("/ab") };
        hex(&encode::ask(&Ask { xid: 1, op, bend: Some(bend) }, &Plain)[8..])
    };
    assert_eq!(spoilt(Bend::Cut(5)), "000000032f");
    assert_eq!(spoilt(Bend::Tail(2)), "000000032f61625a5a");
    assert_eq!(spoilt(Bend::Int(0, -1)), "ffffffff2f6162");
    assert_eq!(spoilt(Bend::Byte(5, 0xff)), "000000032fff62");
}

// What is left out.

#[test]
fn a_tame_sequence_stays_as_it_is() {
    for seed in 0..300 {
        let once = tamed(&generate::script(seed, SHAPES[seed as usize % SHAPES.len()]));
        assert_eq!(tamed(&once), once, "seed {seed}");
    }
}

#[test]
fn what_ends_apache_is_alone_and_whole() {
    let mut seen = BTreeSet::new();
    for seed in 0..600 {
        for step in tamed(&generate::script(seed, SHAPES[seed as usize % SHAPES.len()])).steps {
            let alone: Vec<&Ask> = step.asks().iter().filter(|ask| only::of(ask).is_some()).collect();
            if let [ask] = alone[..] {
                assert!(matches!(&step, Step::Send { asks, .. } if asks.len() == 1), "{step:?}");
                assert_eq!(ask.bend, None);
                seen.insert(only::of(ask).unwrap().name);
            } else {
                assert!(alone.is_empty(), "{step:?}");
            }
        }
    }
    assert_eq!(seen.len(), only::ONLY.len(), "each comes up: {seen:?}");
}

#[test]
fn what_may_be_answered_out_of_order_has_a_number_of_its_own() {
    let auth = Op::Auth { scheme: path("digest"), auth: path("u:p") };
    let mut given = script(vec![send(1, vec![Op::Ping, auth])]);
    let Step::Send { asks, .. } = &mut given.steps[0] else { unreachable!("it is one") };
    // A ping's answer has this number, whatever the ping's was.
    asks[1].xid = -2;
    let tame = tamed(&given);
    let xids: Vec<i32> = tame.steps.iter().flat_map(Step::asks).map(|ask| ask.xid).collect();
    assert!(xids[1] > 1000, "{xids:?}");
}

#[test]
fn watches_of_two_modes_do_not_meet() {
    let add = |mode| Op::AddWatch { path: path("/d/a"), mode };
    let get = |at: &str| Op::GetData { path: path(at), watch: true };
    let steps = vec![send(1, vec![add(0), get("/d/a"), get("/d/b"), add(1)]), send(2, vec![get("/d/a")])];
    let steps = tamed(&script(steps)).steps;
    let ops: Vec<&Op> = steps.iter().flat_map(Step::asks).map(|ask| &ask.op).collect();
    let blind = Op::GetData { path: path("/d/a"), watch: false };
    assert_eq!(ops, [&add(0), &blind, &get("/d/b"), &Op::Ping, &get("/d/a")]);
}

#[test]
fn an_ensemble_is_not_asked_what_wedges_it() {
    let mut lost = script(vec![
        connect(1, SessionName::New),
        connect(2, SessionName::Of(1)),
        send(1, vec![Op::Sync { path: None }, create("/d/a"), Op::Ping]),
        send(2, vec![Op::Sync { path: None }]),
    ]);
    lost.head.shape = Shape::Ensemble;
    let steps = tamed(&lost).steps;
    assert_eq!(steps[2].asks().iter().map(|ask| ask.op.opcode()).collect::<Vec<_>>(), [11, 1]);
    assert_eq!(steps[3].asks()[0].op, Op::Sync { path: None }, "the owner's goes through");
}

// What is read.

#[test]
fn replies_are_read_to_the_last_byte() {
    let bytes = unhex(
        "00000004000000000000000400000000ffffffff000000000000000000ffffffff00ffffff99ffffff99ffffffff01ffffffff",
    );
    let failed = |err: i32| Member { kind: -1, err, body: Body::Number(err) };
    let multi = Op::Multi { members: vec![] };
    let expected =
        Seen::Reply { of: 2, xid: 4, zxid: 4, err: 0, body: Body::Multi(vec![failed(0), failed(-103)]) };
    assert_eq!(decode::reply(&bytes, &multi, 2), expected);
    let more = [&bytes[..], &[0]].concat();
    let garbled = |seen: Seen| matches!(seen, Seen::Reply { body: Body::Garbled(_), .. });
    assert!(garbled(decode::reply(&more, &multi, 0)), "a byte too many");
    assert!(garbled(decode::reply(&bytes[..bytes.len() - 1], &multi, 0)), "a byte too few");
    let error = unhex("000000020000000000000002ffffff9b00");
    assert!(garbled(decode::reply(&error, &Op::Ping, 0)), "a body behind an error");
    assert!(matches!(decode::reply(&bytes[..15], &multi, 0), Seen::Garbled(_)), "half a header");
}

#[test]
fn an_event_is_told_from_a_reply() {
    let bytes = unhex("ffffffff0000000000000003000000000000000100000003000000022f62");
    assert_eq!(decode::event(&bytes), Some(event(3, 1, "/b")));
    assert_eq!(decode::event(&unhex("000000010000000000000003000000000000000100000003000000022f62")), None);
}

#[test]
fn the_password_is_that_of_the_formula() {
    assert_eq!(hex(&session::password(0x0100_0012_f827_0000)), "0bb214083ce27e8161079961e592d78b");
    assert_eq!(hex(&session::password(1)), "054cc74a37327db215e702e20c73f005");
}

#[test]
fn whole_records_are_told_from_cut_ones() {
    let record = encode::ask(&ask(create_hi()), &Plain)[8..].to_vec();
    assert!(decode::is_whole(1, &record));
    assert!((0..record.len()).all(|length| !decode::is_whole(1, &record[..length])));
    assert!(decode::is_whole(2, &unhex("ffffffff00000000")), "null is whole");
}

// What is made equal.

fn transcript(steps: Vec<Vec<(Conn, Vec<Seen>)>>, applied: Vec<i64>) -> Transcript {
    let steps = steps.into_iter().map(|step| step.into_iter().collect()).collect();
    Transcript { steps, applied, start: 100, sessions: [(1, 0x77)].into(), ..Transcript::default() }
}

#[test]
fn zxids_sessions_and_times_are_made_equal() {
    let stat = Stat { czxid: 102, mzxid: 103, pzxid: 99, ctime: 5, mtime: 6, owner: 0x77, ..Stat::default() };
    let seen = reply(0, 104, 0, Body::Stat(stat));
    let script = script(vec![send(1, vec![Op::Exists { path: path("/d/a"), watch: false }])]);
    let shown = normalise(&script, &transcript(vec![vec![(1, vec![seen])]], vec![104]));
    let expected = Stat { czxid: 3, mzxid: 4, pzxid: normalise::BEFORE, owner: 1, ..Stat::default() };
    assert_eq!(shown[0][&1], [reply(0, 5, 0, Body::Stat(expected))]);
}

#[test]
fn a_transaction_has_one_time() {
    let stat = |ctime| Body::Stat(Stat { czxid: 102, ctime, ..Stat::default() });
    let seen = vec![reply(0, 104, 0, stat(5)), reply(1, 104, 0, stat(6))];
    let script = script(vec![send(1, vec![Op::Ping, Op::Ping])]);
    let shown = normalise(&script, &transcript(vec![vec![(1, seen)]], vec![104]));
    let Seen::Reply { body: Body::Stat(stat), .. } = &shown[0][&1][1] else { panic!() };
    assert_eq!(stat.ctime, -1);
}

#[test]
fn what_one_side_has_alone_is_not_counted() {
    let script = script(vec![send(1, vec![Op::Ping]), send(1, vec![Op::Ping])]);
    let steps =
        vec![vec![(1, vec![reply(0, 101, 0, Body::Empty)])], vec![(1, vec![reply(0, 105, 0, Body::Empty)])]];
    let transcript = Transcript { extra: vec![(101, 103)], ..transcript(steps, vec![101, 105]) };
    let shown = normalise(&script, &transcript);
    assert_eq!(shown[1][&1], [reply(0, 4, 0, Body::Empty)], "101, and two that do not count, and two more");
    assert_eq!(normalise::applied(&transcript), [2, 4]);
}

#[test]
fn what_comes_in_no_order_is_sorted() {
    let names = |names: &[&str]| Body::Names(names.iter().map(|name| path(name)).collect());
    let events = |order: [usize; 2]| order.map(|n| event(-1, 2, ["/d/a", "/d/b"][n])).to_vec();
    let close = script(vec![send(1, vec![Op::CloseSession])]);
    let look = script(vec![send(1, vec![Op::GetChildren { path: path("/d"), watch: false }])]);
    let shown = |script: &Script, seen| normalise(script, &transcript(vec![vec![(1, seen)]], vec![100]));
    assert_eq!(shown(&close, events([1, 0])), shown(&close, events([0, 1])), "the end of a session");
    assert_ne!(shown(&look, events([1, 0])), shown(&look, events([0, 1])), "any other step");
    let reply_of = |list: &[&str]| vec![reply(0, 100, 0, names(list))];
    assert_eq!(shown(&look, reply_of(&["b", "a"])), shown(&look, reply_of(&["a", "b"])));
}

// What is excused.

/// Applies all rules to one step; says which were needed, and whether the sides agree then.
fn judge(
    step: &Step,
    apache: &[(Conn, Vec<Seen>)],
    zabra: &[(Conn, Vec<Seen>)],
) -> (Vec<&'static str>, bool) {
    judge_after(&mut model::Model::default(), step, apache, zabra)
}

fn judge_after(
    model: &mut model::Model,
    step: &Step,
    apache: &[(Conn, Vec<Seen>)],
    zabra: &[(Conn, Vec<Seen>)],
) -> (Vec<&'static str>, bool) {
    let mut apache: Shown = apache.iter().cloned().collect();
    let mut zabra: Shown = zabra.iter().cloned().collect();
    model.learn(step, &apache);
    let mut view = View { step, apache: &mut apache, zabra: &mut zabra, model, span: (5, 7) };
    let needed = RULES.iter().filter(|rule| rule.apply(&mut view) > 0).map(|rule| rule.name).collect();
    (needed, apache == zabra)
}

#[test]
fn an_event_carries_the_zxid_of_its_transaction() {
    let step = send(1, vec![set_data("/d/a")]);
    let wrote = reply(0, 7, 0, Body::Stat(Stat::default()));
    let apache = [(1, vec![event(-1, 3, "/d/a"), wrote.clone()])];
    let zabra = |seen: Vec<Seen>| [(1, seen)];
    let good = zabra(vec![event(7, 3, "/d/a"), wrote.clone()]);
    assert_eq!(judge(&step, &apache, &good), (vec!["event-zxid"], true));
    for wrong in [-1, 0, 5, 8] {
        let seen = zabra(vec![event(wrong, 3, "/d/a"), wrote.clone()]);
        assert!(!judge(&step, &apache, &seen).1, "{wrong} is none of this step's");
    }
    let late = [(1, vec![wrote.clone(), event(7, 3, "/d/a")])];
    let apache_late = [(1, vec![wrote, event(-1, 3, "/d/a")])];
    assert!(!judge(&step, &apache_late, &late).1, "behind the reply that shows the change");
}

#[test]
fn auth_may_overtake() {
    let step = send(1, vec![Op::Ping, Op::Auth { scheme: path("digest"), auth: path("u:p") }, Op::Ping]);
    let [first, auth, last] = [0, 1, 2].map(|of| reply(of, 5, 0, Body::Empty));
    let zabra = [(1, vec![first.clone(), auth.clone(), last.clone()])];
    let early = [(1, vec![auth.clone(), first.clone(), last.clone()])];
    assert!(judge(&step, &early, &zabra).1);
    assert!(!judge(&step, &[(1, vec![auth, last, first])], &zabra).1, "the others keep their order");
}

/// A model in which connection 1 has made a znode that connection 2 cannot read.
fn hidden() -> model::Model {
    let mut model = model::Model::default();
    model.learn(&connect(1, SessionName::New), &Shown::new());
    model.learn(&connect(2, SessionName::New), &Shown::new());
    let acl = Some(vec![(31, path("digest"), Some(model::digest("u:p")))]);
    let step = send(1, vec![Op::Create { path: path("/d/h"), data: None, acl, flags: 0 }]);
    model.learn(&step, &[(1, vec![reply(0, 6, 0, Body::Path(path("/d/h")))])].into());
    model
}

#[test]
fn exists_may_need_read() {
    let step = |at: &str| send(2, vec![Op::Exists { path: path(at), watch: true }]);
    let apache = [(2, vec![reply(0, 6, 0, Body::Stat(Stat::default()))])];
    let zabra = [(2, vec![reply(0, 6, -102, Body::Empty)])];
    let mut model = hidden();
    assert_eq!(judge_after(&mut model, &step("/d/h"), &apache, &zabra), (vec!["exists-needs-read"], true));
    assert!(!judge_after(&mut hidden(), &step("/d/open"), &apache, &zabra).1, "what all may read");
    // The watch that Apache alone has set shows there alone, once.
    let change = send(1, vec![set_data("/d/h")]);
    let told = [(2, vec![event(-1, 3, "/d/h")])];
    assert_eq!(judge_after(&mut model, &change, &told, &[]), (vec!["exists-has-watched"], true));
}

#[test]
fn events_need_read() {
    let step = send(1, vec![set_data("/d/h")]);
    let apache = [(2, vec![event(-1, 3, "/d/h")])];
    let shown = [(2, vec![event(7, 3, "/d/h")])];
    assert!(!judge_after(&mut hidden(), &step, &apache, &shown).1, "shown to one who may not read");
    assert!(!judge_after(&mut hidden(), &step, &apache, &[]).1, "an event is missing");
}

#[test]
fn create2_in_a_multi_has_a_stat() {
    let create2 = Op::Create2 { path: path("/d/a"), data: None, acl: None, flags: 0 };
    let member = |kind, body| Body::Multi(vec![Member { kind, err: 0, body }]);
    let apache = |at: &str| [(1, vec![reply(0, 7, 0, member(1, Body::Path(path(at))))])];
    let zabra = [(1, vec![reply(0, 7, 0, member(15, Body::PathStat(path("/d/a"), Stat::default())))])];
    let step = send(1, vec![Op::Multi { members: vec![create2] }]);
    assert_eq!(judge(&step, &apache("/d/a"), &zabra), (vec!["multi-create2"], true));
    assert!(!judge(&step, &apache("/d/b"), &zabra).1, "another path");
    let step = send(1, vec![Op::Multi { members: vec![create("/d/a")] }]);
    assert!(!judge(&step, &apache("/d/a"), &zabra).1, "a plain create");
}

#[test]
fn only_the_documented_answer_will_do() {
    let step = send(1, vec![Op::Check { path: path("/d"), version: -1 }]);
    let refused = reply(0, -1, -6, Body::Empty);
    assert!(judge(&step, &[], &[(1, vec![refused.clone(), Seen::Closed])]).1);
    assert!(!judge(&step, &[], &[(1, vec![refused])]).1, "it is to be closed");
    assert!(!judge(&step, &[], &[(1, vec![reply(0, 5, 0, Body::Empty), Seen::Closed])]).1);
}

#[test]
fn null_may_be_judged_at_once() {
    let null = |data| Op::Create { path: None, data, acl: Some(vec![control::open()]), flags: 9 };
    let apache = [(1, vec![reply(0, 7, -8, Body::Empty)])];
    let zabra = [(1, vec![reply(0, 7, -5, Body::Empty)])];
    assert_eq!(judge(&send(1, vec![null(None)]), &apache, &zabra), (vec!["null-judged-at-once"], true));
    assert!(!judge(&send(1, vec![create("/d/a")]), &apache, &zabra).1, "nothing is null here");
    let done = [(1, vec![reply(0, 7, 0, Body::Path(path("/d/a")))])];
    assert!(!judge(&send(1, vec![null(None)]), &done, &zabra).1, "Apache would have made it");
}

#[test]
fn characters_beyond_the_first_plane_are_the_same() {
    let step = send(1, vec![Op::Sync { path: path("/d/\u{1F600}x") }]);
    let bytes = format!("{}2f642feda0bdedb88078", decode::NO_UTF8);
    let sync = |text: &str| [(1, vec![reply(0, 5, 0, Body::Path(path(text)))])];
    assert_eq!(judge(&step, &sync(&bytes), &sync("/d/\u{1F600}x")), (vec!["surrogates"], true));
    assert!(!judge(&step, &sync(&bytes), &sync("/d/\u{1F601}x")).1);
}

#[test]
fn the_last_events_of_another_connection_may_be_lost() {
    let step = send(1, vec![Op::CloseSession]);
    let closed = |seen: Vec<Seen>| [(2, seen)];
    let zabra = closed(vec![event(7, 2, "/d/a"), event(7, 2, "/d/b"), Seen::Closed]);
    for apache in [vec![], vec![event(-1, 2, "/d/b")]] {
        let apache = closed([apache, vec![Seen::Closed]].concat());
        assert!(judge(&step, &apache, &zabra).0.contains(&"events-lost-at-the-end"));
        assert!(judge(&step, &apache, &zabra).1);
    }
    let open = closed(vec![event(-1, 2, "/d/b")]);
    assert!(!judge(&step, &open, &zabra).1, "Apache has not closed it");
    let other = closed(vec![event(-1, 1, "/d/c"), Seen::Closed]);
    assert!(!judge(&step, &other, &zabra).1, "an event that zabra does not show");
    let looked = send(1, vec![Op::Ping]);
    assert!(!judge(&looked, &closed(vec![Seen::Closed]), &zabra).1, "nobody ended a session");
}

#[test]
fn a_watch_of_apaches_own_can_be_removed_once() {
    let mut model = hidden();
    let looked = send(2, vec![Op::Exists { path: path("/d/h"), watch: true }]);
    let found = [(2, vec![reply(0, 6, 0, Body::Stat(Stat::default()))])];
    judge_after(&mut model, &looked, &found, &[(2, vec![reply(0, 6, -102, Body::Empty)])]);
    let remove = send(2, vec![Op::RemoveWatches { path: path("/d/h"), kind: 2 }]);
    let [done, none] = [0, -121].map(|err| [(2, vec![reply(0, 6, err, Body::Empty)])]);
    assert!(judge_after(&mut model, &remove, &done, &none).1);
    assert!(!judge_after(&mut model, &remove, &done, &none).1, "it is gone");
}

#[test]
fn a_wrong_password_may_close_the_rightful_connection() {
    let mut step = connect(2, SessionName::Of(1));
    let refused = vec![Seen::Closed];
    let apache = [(1, vec![Seen::Closed]), (2, refused.clone())];
    assert!(!judge(&step, &apache, &[(2, refused.clone())]).1, "not with the right one");
    let Step::Connect { hello, .. } = &mut step else { unreachable!() };
    hello.password = Password::Wrong;
    assert_eq!(judge(&step, &apache, &[(2, refused)]), (vec!["wrong-password-closes"], true));
}

// What is found.

/// A server that does nothing, and answers one request wrongly: a setData of `/d/a`, once `/d/b` was deleted. What
/// only zabra is asked it does not hear.
fn toy(script: &Script, lies: bool) -> Transcript {
    let mut out = Transcript { start: 100, ..Transcript::default() };
    let mut armed = false;
    for step in &script.steps {
        let answer = |(n, ask): (usize, &Ask)| {
            armed |= matches!(&ask.op, Op::Delete { .. }) && ask.op.path() == Some("/d/b");
            let lie = lies && armed && matches!(&ask.op, Op::SetData { .. }) && ask.op.path() == Some("/d/a");
            Seen::Reply { of: n, xid: ask.xid, zxid: 100, err: if lie { -101 } else { 0 }, body: Body::Empty }
        };
        let heard = if only::find(step).is_some() { &[] } else { step.asks() };
        let seen: Vec<Seen> = heard.iter().enumerate().map(answer).collect();
        let shown = step.conn().filter(|_| !seen.is_empty()).map(|conn| (conn, seen));
        out.steps.push(shown.into_iter().collect());
        out.applied.push(100);
    }
    out
}

fn differs(script: &Script) -> bool {
    compare(script, &toy(script, false), &toy(script, true), &mut Hits::new()).is_some()
}

#[test]
fn a_wrong_reply_is_found_and_made_small() {
    let found = (1..2000).map(|seed| tamed(&generate::script(seed, Shape::Standalone))).find(differs);
    let script = found.expect("some sequence deletes /d/b and then sets /d/a");
    assert!(script.operations() > 20, "among much else");
    let small = shrink::shrink(&script, |candidate| differs(&tamed(candidate)));
    let asks: Vec<&Ask> = small.steps.iter().flat_map(Step::asks).collect();
    assert_eq!(asks.iter().map(|ask| ask.op.opcode()).collect::<Vec<_>>(), [2, 5], "{small}");
    assert!(
        matches!(&asks[1].op, Op::SetData { data: None, version: -1, .. }),
        "with the plainest arguments"
    );
    assert!(!differs(&script_without_last(&small)), "no smaller one differs");
}

fn script_without_last(script: &Script) -> Script {
    let mut less = script.clone();
    less.steps.pop();
    less
}

#[test]
fn a_true_server_shows_no_difference() {
    for seed in 0..50 {
        let script = tamed(&generate::script(seed, Shape::Standalone));
        assert!(compare(&script, &toy(&script, false), &toy(&script, false), &mut Hits::new()).is_none());
    }
}
