//! Round trips of arbitrary values, worked bytes of real servers, and bytes that nobody should have sent.

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::option::of as option;
use proptest::prelude::*;

use super::*;
use crate::types::*;

/// Bytes from hex digits; blanks are for the eye.
fn hex(digits: &str) -> Bytes {
    let digits: Vec<u8> = digits.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn strings() -> impl Strategy<Value = Str> {
    "(/[a-zé€]{0,5}){0,3}".prop_map(Str::from)
}

fn paths() -> impl Strategy<Value = Str> {
    "(/[a-zé€]{1,5}){1,3}".prop_map(Str::from)
}

fn data() -> impl Strategy<Value = Option<Bytes>> {
    option(vec(any::<u8>(), 0..20).prop_map(Bytes::from))
}

fn acls() -> impl Strategy<Value = Vec<Acl>> {
    let acl = (any::<i32>(), strings(), strings())
        .prop_map(|(perms, scheme, id)| Acl { perms, id: Id { scheme, id } });
    vec(acl, 0..3)
}

fn stats() -> impl Strategy<Value = Stat> {
    (any::<[i64; 6]>(), any::<[i32; 5]>()).prop_map(|(l, i)| Stat {
        czxid: l[0],
        mzxid: l[1],
        ctime: l[2],
        mtime: l[3],
        version: i[0],
        cversion: i[1],
        aversion: i[2],
        ephemeral_owner: l[4],
        data_length: i[3],
        num_children: i[4],
        pzxid: l[5],
    })
}

fn kinds() -> impl Strategy<Value = CreateKind> {
    prop_oneof![
        Just(CreateKind::Create),
        Just(CreateKind::Create2),
        Just(CreateKind::Container),
        any::<i64>().prop_map(CreateKind::Ttl)
    ]
}

/// Transactions that may be members of a multi.
fn changes() -> impl Strategy<Value = TxnBody> {
    let create = (kinds(), strings(), data(), acls(), any::<bool>(), any::<i32>()).prop_map(
        |(kind, path, data, acl, ephemeral, parent_cversion)| {
            let ephemeral = ephemeral && matches!(kind, CreateKind::Create | CreateKind::Create2);
            TxnBody::Create { kind, path, data, acl, ephemeral, parent_cversion }
        },
    );
    prop_oneof![
        any::<i32>().prop_map(TxnBody::Error),
        create,
        (strings(), any::<bool>()).prop_map(|(path, container)| TxnBody::Delete { path, container }),
        (strings(), data(), any::<i32>(), any::<bool>())
            .prop_map(|(path, data, version, reconfig)| TxnBody::SetData { path, data, version, reconfig }),
        (strings(), acls(), any::<i32>()).prop_map(|(path, acl, version)| TxnBody::SetAcl {
            path,
            acl,
            version
        }),
        (strings(), any::<i32>()).prop_map(|(path, version)| TxnBody::Check { path, version }),
    ]
}

fn txns() -> impl Strategy<Value = Txn> {
    let body = prop_oneof![
        changes(),
        any::<i32>().prop_map(|timeout_ms| TxnBody::CreateSession { timeout_ms }),
        option(vec(paths(), 0..4)).prop_map(|paths| TxnBody::CloseSession { paths }),
        vec(changes(), 0..4).prop_map(TxnBody::Multi),
    ];
    let header = any::<(i64, i32, i64, i64)>().prop_map(|(session, cxid, zxid, time)| TxnHeader {
        session: SessionId(session),
        cxid,
        zxid: Zxid(zxid),
        time,
    });
    let digest = option(any::<i64>().prop_map(|tree| TxnDigest { version: 2, tree }));
    (header, body, digest).prop_map(|(header, body, digest)| Txn { header, body, digest })
}

/// Operations that may be members of a multi.
fn members() -> impl Strategy<Value = Op> {
    let create = (kinds(), strings(), data(), option(acls()), 0..5)
        .prop_map(|(kind, path, data, acl, flags)| Op::Create { kind, path, data, acl, flags });
    prop_oneof![
        create,
        (strings(), any::<i32>()).prop_map(|(path, version)| Op::Delete { path, version }),
        (strings(), data(), any::<i32>()).prop_map(|(path, data, version)| Op::SetData {
            path,
            data,
            version
        }),
        (strings(), any::<i32>()).prop_map(|(path, version)| Op::Check { path, version }),
    ]
}

/// Operations that a client may ask for and that decode to themselves.
fn ops() -> impl Strategy<Value = Op> {
    let lists = (vec(strings(), 0..3), vec(strings(), 0..3), vec(strings(), 0..3));
    prop_oneof![
        members().prop_filter("only within a multi", |op| !matches!(op, Op::Check { .. })),
        (strings(), any::<bool>()).prop_map(|(path, watch)| Op::Exists { path, watch }),
        (strings(), any::<bool>()).prop_map(|(path, watch)| Op::GetData { path, watch }),
        strings().prop_map(|path| Op::GetAcl { path }),
        (strings(), option(acls()), any::<i32>()).prop_map(|(path, acl, version)| Op::SetAcl {
            path,
            acl,
            version
        }),
        (strings(), any::<[bool; 2]>()).prop_map(|(path, [watch, stat])| Op::GetChildren {
            path,
            watch,
            stat
        }),
        option(strings()).prop_map(|path| Op::Sync { path }),
        Just(Op::Ping),
        Just(Op::CloseSession),
        vec(members(), 0..4).prop_map(Op::Multi),
        (any::<i64>(), lists).prop_map(|(zxid, (data, exist, child))| Op::SetWatches {
            relative_zxid: Zxid(zxid),
            data,
            exist,
            child
        }),
        lists_of_five().prop_map(|(zxid, [data, exist, child, persistent, recursive])| Op::SetWatches2 {
            relative_zxid: Zxid(zxid),
            data,
            exist,
            child,
            persistent,
            recursive
        }),
        rare_ops(),
    ]
}

fn lists_of_five() -> impl Strategy<Value = (i64, [Vec<Str>; 5])> {
    (any::<i64>(), prop::array::uniform5(vec(strings(), 0..3)))
}

/// Operations that came with 3.5 and later.
fn rare_ops() -> impl Strategy<Value = Op> {
    let reads = prop_oneof![
        (strings(), any::<bool>()).prop_map(|(path, watch)| Op::GetData { path, watch }),
        (strings(), any::<bool>()).prop_map(|(path, watch)| Op::GetChildren { path, watch, stat: false }),
    ];
    let text = || option(strings());
    let watcher = (text(), 1..6).prop_map(|(path, kind)| (path, WatcherType::from_number(kind).unwrap()));
    prop_oneof![
        (text(), text(), text(), any::<i64>()).prop_map(|(joining, leaving, new_members, version)| {
            Op::Reconfig { joining, leaving, new_members, version }
        }),
        vec(reads, 0..4).prop_map(Op::MultiRead),
        (watcher, any::<bool>()).prop_map(|((path, kind), remove)| match remove {
            false => Op::CheckWatches { path, kind },
            true => Op::RemoveWatches { path, kind },
        }),
        (strings(), any::<bool>()).prop_map(|(path, recursive)| Op::AddWatch { path, recursive }),
        text().prop_map(|prefix| Op::GetEphemerals { prefix }),
        strings().prop_map(|path| Op::GetAllChildrenNumber { path }),
        Just(Op::WhoAmI),
        vec(any::<u8>(), 0..9).prop_map(|token| Op::Sasl { token: token.into() }),
    ]
}

fn results() -> impl Strategy<Value = MultiResult> {
    prop_oneof![
        strings().prop_map(MultiResult::Create),
        (strings(), stats()).prop_map(|(path, stat)| MultiResult::Create2(path, stat)),
        Just(MultiResult::Delete),
        stats().prop_map(MultiResult::SetData),
        Just(MultiResult::Check),
        (data(), stats()).prop_map(|(data, stat)| MultiResult::GetData(data, stat)),
        vec(strings(), 0..4).prop_map(MultiResult::GetChildren),
        any::<i32>().prop_map(MultiResult::Error),
    ]
}

fn bodies() -> impl Strategy<Value = (Shape, ReplyBody)> {
    let names = || vec(strings(), 0..4);
    prop_oneof![
        Just((Shape::Empty, ReplyBody::Empty)),
        strings().prop_map(|path| (Shape::Path, ReplyBody::Path(path))),
        (strings(), stats()).prop_map(|(path, stat)| (Shape::PathStat, ReplyBody::PathStat(path, stat))),
        stats().prop_map(|stat| (Shape::Stat, ReplyBody::Stat(stat))),
        (data(), stats()).prop_map(|(data, stat)| (Shape::Data, ReplyBody::Data(data, stat))),
        (acls(), stats()).prop_map(|(acl, stat)| (Shape::Acl, ReplyBody::Acl(acl, stat))),
        names().prop_map(|names| (Shape::Children, ReplyBody::Children(names))),
        (names(), stats()).prop_map(|(n, stat)| (Shape::ChildrenStat, ReplyBody::ChildrenStat(n, stat))),
        option(strings()).prop_map(|path| (Shape::Sync, ReplyBody::Sync(path))),
        vec(results(), 0..4).prop_map(|results| (Shape::Multi, ReplyBody::Multi(results))),
        names().prop_map(|paths| (Shape::Ephemerals, ReplyBody::Ephemerals(paths))),
        any::<i32>().prop_map(|count| (Shape::Count, ReplyBody::Count(count))),
        Just((Shape::WatchAdded, ReplyBody::WatchAdded)),
        vec((strings(), strings()), 0..4).prop_map(|ids| {
            let ids = ids.into_iter().map(|(scheme, id)| Id { scheme, id }).collect();
            (Shape::WhoAmI, ReplyBody::WhoAmI(ids))
        }),
        data().prop_map(|token| (Shape::Token, ReplyBody::Token(token))),
    ]
}

/// The only frame in a buffer, without its length word.
fn frame(out: &mut BytesMut) -> Bytes {
    let frame = take_frame(out, usize::MAX).unwrap().expect("a whole frame");
    assert!(out.is_empty(), "nothing behind the frame");
    frame
}

/// What a frame decodes to when it is no auth packet.
fn op_of(frame: Bytes) -> Op {
    match decode_request(frame).unwrap() {
        (_, Decoded::Op(op)) => op,
        (_, auth) => panic!("{auth:?}"),
    }
}

/// A request frame by hand: xid 1, this opcode, this record.
fn request(opcode: i32, record: &str) -> Bytes {
    let mut bytes = BytesMut::from(&1i32.to_be_bytes()[..]);
    bytes.extend_from_slice(&opcode.to_be_bytes());
    bytes.extend_from_slice(&hex(record));
    bytes.freeze()
}

proptest! {
    #[test]
    fn a_txn_is_read_as_it_was_written(txn in txns()) {
        prop_assert_eq!(decode_txn(&encode_txn(&txn)), Ok(txn));
    }

    #[test]
    fn a_request_is_read_as_it_was_written(xid: i32, op in ops()) {
        let mut out = BytesMut::new();
        encode_request(xid, &op, &mut out).unwrap();
        prop_assert_eq!(decode_request(frame(&mut out)), Ok((xid, Decoded::Op(op))));
    }

    #[test]
    fn a_forwarded_write_is_read_as_it_was_written(op in ops(), session: i64, cxid: i32) {
        prop_assume!(op.is_write());
        let forwarded =
            Forwarded { session: SessionId(session), local: cxid < 0, cxid, op, auth: [Id::new("ip", "::1")].into() };
        let bytes = ForwardedBytes::from(&forwarded);
        prop_assert_eq!(Forwarded::try_from(bytes), Ok(forwarded));
    }

    #[test]
    fn a_reply_is_read_as_it_was_written(xid: i32, zxid: i64, (shape, body) in bodies()) {
        let reply = Reply { xid, zxid: Zxid(zxid), result: Ok(body) };
        let mut out = BytesMut::new();
        encode_reply(&reply, &mut out);
        prop_assert_eq!(decode_reply(frame(&mut out)).unwrap().into_reply(shape), Ok(reply));
    }

    #[test]
    fn an_event_is_read_as_it_was_written(zxid: i64, path in strings()) {
        let event = WatchEvent { kind: EventKind::NodeChildrenChanged, path, zxid: Zxid(zxid) };
        let mut out = BytesMut::new();
        encode_event(&event, &mut out);
        prop_assert_eq!(decode_event(decode_reply(frame(&mut out)).unwrap()), Ok(event));
    }

    #[test]
    fn a_handshake_is_read_as_it_was_written(
        n: (i32, i64, i32, i64), password: [u8; 16], read_only: Option<bool>,
    ) {
        let (protocol_version, zxid, timeout_ms, session) = n;
        let session = SessionId(session);
        let mut out = BytesMut::new();
        let request = ConnectRequest {
            protocol_version, last_zxid_seen: Zxid(zxid), timeout_ms, session,
            password: Bytes::copy_from_slice(&password), read_only,
        };
        encode_connect_request(&request, &mut out);
        prop_assert_eq!(decode_connect_request(frame(&mut out)), Ok(request));
        let response = ConnectResponse { timeout_ms, session, password, read_only };
        encode_connect_response(&response, &mut out);
        prop_assert_eq!(decode_connect_response(frame(&mut out)), Ok(response));
    }

    #[test]
    fn noise_is_a_value_or_an_error(noise in vec(any::<u8>(), 0..200), opcode in -12..110, shape in bodies()) {
        read_as_everything(&Bytes::from(noise), opcode, shape.0);
    }

    /// A good request, reply or transaction with one byte changed and the end cut off: closer to sense than noise.
    #[test]
    fn damage_is_a_value_or_an_error(
        txn in txns(), op in ops(), (shape, body) in bodies(), at: prop::sample::Index, to: u8, cut: prop::sample::Index,
    ) {
        let mut out = BytesMut::new();
        encode_request(1, &op, &mut out).unwrap();
        let mut frames = vec![encode_txn(&txn), frame(&mut out)];
        encode_reply(&Reply { xid: 1, zxid: Zxid(1), result: Ok(body) }, &mut out);
        frames.push(frame(&mut out));
        for bytes in frames {
            let mut bytes = bytes.to_vec();
            let i = at.index(bytes.len());
            bytes[i] = to;
            bytes.truncate(cut.index(bytes.len() + 1));
            read_as_everything(&Bytes::from(bytes), opcode::of(&op), shape);
        }
    }
}

/// Decodes bytes as each kind of message. It is enough that this ends.
fn read_as_everything(bytes: &Bytes, opcode: i32, shape: Shape) {
    let _ = decode_txn(bytes);
    let _ = decode_request(bytes.clone());
    let _ = decode_body(opcode, bytes.clone());
    let _ = decode_connect_request(bytes.clone());
    let _ = decode_connect_response(bytes.clone());
    let _ = decode_reply(bytes.clone()).map(|frame| frame.into_reply(shape));
    let _ = decode_reply(bytes.clone()).map(decode_event);
    let _ = take_frame(&mut BytesMut::from(&bytes[..]), 100);
}

#[test]
fn a_frame_is_taken_when_it_is_whole() {
    let mut received = BytesMut::from(&hex("00000002 61")[..]);
    assert_eq!(take_frame(&mut received, 2), Ok(None));
    received.extend_from_slice(&hex("62 0000"));
    assert_eq!(take_frame(&mut received, 2), Ok(Some(Bytes::from("ab"))));
    assert_eq!(take_frame(&mut received, 2), Ok(None), "half a length word");
    assert_eq!(&received[..], [0, 0], "what is behind stays");
}

#[test]
fn a_frame_above_the_limit_is_refused_before_it_is_there() {
    assert_eq!(take_frame(&mut BytesMut::from(&hex("00000003")[..]), 3), Ok(None));
    let error = take_frame(&mut BytesMut::from(&hex("00000004")[..]), 3).unwrap_err();
    assert!(error.0.contains("4 bytes is above the limit of 3"), "{error}");
    take_frame(&mut BytesMut::from(&hex("ffffffff")[..]), 3).unwrap_err();
}

#[test]
fn counts_and_lengths_beyond_the_frame_are_refused() {
    let huge = "7fffffff";
    assert_eq!(op_of(request(opcode::DELETE, huge)), Op::Undecodable { opcode: opcode::DELETE });
    let acl = format!("00000001 2f 00000000 {huge}");
    assert_eq!(op_of(request(opcode::CREATE, &acl)), Op::Undecodable { opcode: opcode::CREATE });
    let watches = format!("0000000000000000 {huge} 00000000");
    assert_eq!(
        op_of(request(opcode::SET_WATCHES, &watches)),
        Op::Undecodable { opcode: opcode::SET_WATCHES }
    );
    let multi = format!("{} {huge} 00000000 00000000", header(opcode::MULTI));
    decode_txn(&hex(&multi)).unwrap_err();
    // -2 is no length.
    assert_eq!(op_of(request(opcode::GET_ACL, "fffffffe")), Op::Undecodable { opcode: opcode::GET_ACL });
}

#[test]
fn a_count_below_null_is_that_of_an_empty_vector() {
    for count in ["fffffffe", "80000000"] {
        let acl = format!("00000002 2f61 {count} 00000007");
        let expected = Op::SetAcl { path: "/a".into(), acl: Some(vec![]), version: 7 };
        assert_eq!(op_of(request(opcode::SET_ACL, &acl)), expected);
    }
}

#[test]
fn a_frame_without_a_whole_header_is_malformed() {
    for length in [0, 1, 4, 7] {
        decode_request(Bytes::from(vec![0; length])).unwrap_err();
    }
}

#[test]
fn opcodes_are_told_apart() {
    for opcode in [13, 0, -1, 10, -10, 20, 23, 99, 108, i32::MIN] {
        assert_eq!(op_of(request(opcode, "00000001 2f 00000000")), Op::Unknown { opcode });
    }
    for opcode in [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 14, 15, 16, 17, 18, 19, 21, 22, 101, 103, 104, 105, 106] {
        assert_eq!(op_of(request(opcode, "")), Op::Undecodable { opcode });
    }
    for (opcode, op) in [(11, Op::Ping), (107, Op::WhoAmI), (-11, Op::CloseSession)] {
        assert_eq!(op_of(request(opcode, "")), op, "there is nothing to read");
    }
    // What the connection has to understand itself ends it.
    for (opcode, record) in [(100, ""), (102, ""), (102, "ffffffff"), (102, "00000002 61")] {
        decode_request(request(opcode, record)).unwrap_err();
    }
}

#[test]
fn numbers_that_are_no_mode_or_type_are_undecodable() {
    for mode in ["00000002", "ffffffff"] {
        let record = format!("00000001 2f {mode}");
        assert_eq!(op_of(request(opcode::ADD_WATCH, &record)), Op::Undecodable { opcode: 106 });
    }
    for opcode in [opcode::CHECK_WATCHES, opcode::REMOVE_WATCHES] {
        for kind in ["00000000", "00000006", "ffffffff"] {
            let record = format!("00000001 2f {kind}");
            assert_eq!(op_of(request(opcode, &record)), Op::Undecodable { opcode });
        }
    }
}

#[test]
fn a_null_path_is_judged_by_sync_and_the_setters_only() {
    assert_eq!(op_of(request(opcode::SYNC, "ffffffff")), Op::Sync { path: None });
    assert_eq!(op_of(request(opcode::GET_EPHEMERALS, "ffffffff")), Op::GetEphemerals { prefix: None });
    let check = Op::CheckWatches { path: None, kind: WatcherType::Any };
    assert_eq!(op_of(request(opcode::CHECK_WATCHES, "ffffffff 00000003")), check);
    let set_data = Op::SetData { path: "".into(), data: None, version: -1 };
    assert_eq!(op_of(request(opcode::SET_DATA, "ffffffff ffffffff ffffffff")), set_data);
    let record = "ffffffff ffffffff ffffffff 00000000 0000000000000000";
    for opcode in [3, 4, 6, 8, 12, 104, 106] {
        assert_eq!(op_of(request(opcode, record)), Op::Undecodable { opcode });
    }
    // A write takes a zxid for it, which one whose bytes end too early does not.
    for opcode in [1, 2, 15, 19, 21] {
        assert_eq!(op_of(request(opcode, record)), Op::Senseless { opcode });
        assert_eq!(op_of(request(opcode, "ffffffff")), Op::Undecodable { opcode });
    }
    for opcode in [101, 105] {
        let lists = "0000000000000000 ffffffff ffffffff ffffffff ffffffff ffffffff";
        assert_eq!(op_of(request(opcode, lists)), Op::Undecodable { opcode });
    }
}

#[test]
fn an_acl_may_be_null_but_its_id_may_not() {
    let acl_of = |record: &str| match op_of(request(opcode::SET_ACL, record)) {
        Op::SetAcl { acl, .. } => Some(acl),
        Op::Senseless { opcode: opcode::SET_ACL } => None,
        other => panic!("{other:?}"),
    };
    assert_eq!(acl_of("00000001 2f ffffffff ffffffff"), Some(None));
    assert_eq!(acl_of("00000001 2f 00000000 ffffffff"), Some(Some(vec![])));
    assert_eq!(acl_of("00000001 2f 00000001 0000001f 00000005 776f726c64 ffffffff ffffffff"), None);
}

#[test]
fn bytes_behind_a_request_are_ignored_and_any_bool_but_0_is_true() {
    let op = op_of(request(opcode::EXISTS, "00000001 2f 07 aabbcc"));
    assert_eq!(op, Op::Exists { path: "/".into(), watch: true });
}

#[test]
fn invalid_utf8_becomes_the_replacement_character() {
    let op = op_of(request(opcode::GET_ACL, "00000003 2f ff 61"));
    assert_eq!(op, Op::GetAcl { path: "/\u{fffd}a".into() });
}

#[test]
fn a_multi_takes_writes_with_good_flags_only() {
    let undecodable = Op::Undecodable { opcode: opcode::MULTI };
    let done = "ffffffff 01 ffffffff";
    let create = |flags| format!("00000001 00 ffffffff 00000001 2f ffffffff ffffffff {flags} {done}");
    assert!(
        matches!(op_of(request(opcode::MULTI, &create("00000004"))), Op::Multi(members) if members.len() == 1)
    );
    for flags in ["00000005", "00000007", "ffffffff"] {
        assert_eq!(op_of(request(opcode::MULTI, &create(flags))), undecodable, "flags {flags}");
    }
    // With a time to live they are BadArguments of this member, in its turn.
    let ttl = format!("00000015 00 ffffffff 00000001 2f ffffffff ffffffff 00000063 0000000000000001 {done}");
    assert!(matches!(op_of(request(opcode::MULTI, &ttl)), Op::Multi(members) if members.len() == 1));
    let ttl = format!("00000015 00 ffffffff 00000001 2f ffffffff ffffffff 00000006 0000000000000001 {done}");
    assert!(matches!(op_of(request(opcode::MULTI, &ttl)), Op::Multi(members) if members.len() == 1));
    // A read, a setACL and a multi; an end without its mark; only the mark.
    for kind in ["00000004", "00000007", "0000000e"] {
        let member = format!("{kind} 00 ffffffff 00000001 2f 00 {done}");
        assert_eq!(op_of(request(opcode::MULTI, &member)), undecodable, "member {kind}");
    }
    // Null has no place in a member, not even in a setData.
    for member in
        ["00000005 00 ffffffff ffffffff ffffffff ffffffff", "00000002 00 ffffffff ffffffff ffffffff"]
    {
        assert_eq!(op_of(request(opcode::MULTI, &format!("{member} {done}"))), undecodable);
    }
    let endless = "00000002 00 ffffffff 00000001 2f 00000000";
    assert_eq!(op_of(request(opcode::MULTI, endless)), undecodable);
    assert_eq!(op_of(request(opcode::MULTI, done)), Op::Multi(vec![]));
}

#[test]
fn a_multi_read_takes_two_reads_only() {
    let undecodable = Op::Undecodable { opcode: opcode::MULTI_READ };
    let done = "ffffffff 01 ffffffff";
    for kind in ["00000004", "00000008"] {
        let member = format!("{kind} 00 ffffffff 00000001 2f 01 {done}");
        assert!(
            matches!(op_of(request(opcode::MULTI_READ, &member)), Op::MultiRead(members) if members.len() == 1)
        );
        let null = format!("{kind} 00 ffffffff ffffffff 01 {done}");
        assert_eq!(op_of(request(opcode::MULTI_READ, &null)), undecodable);
    }
    for kind in ["00000003", "0000000c", "00000002", "00000016"] {
        let member = format!("{kind} 00 ffffffff 00000001 2f ffffffff {done}");
        assert_eq!(op_of(request(opcode::MULTI_READ, &member)), undecodable, "member {kind}");
    }
    assert_eq!(op_of(request(opcode::MULTI_READ, done)), Op::MultiRead(vec![]));
}

#[test]
fn an_auth_packet_is_left_to_the_connection() {
    let mut out = BytesMut::new();
    encode_auth(AUTH_XID, "digest", b"bob:secret", &mut out).unwrap();
    let auth = Decoded::Auth { scheme: "digest".into(), data: Some(Bytes::from("bob:secret")) };
    assert_eq!(decode_request(frame(&mut out)), Ok((AUTH_XID, auth)));
    let nulls = Decoded::Auth { scheme: "".into(), data: None };
    assert_eq!(decode_request(request(opcode::AUTH, "00000000 ffffffff ffffffff")), Ok((1, nulls)));
}

#[test]
fn what_a_learner_could_not_read_the_leader_cannot_read_either() {
    let senseless = [1, 2, 7, 15, 19, 21].map(|opcode| Op::Senseless { opcode });
    for op in senseless.into_iter().chain([Op::Undecodable { opcode: 14 }]) {
        let (code, body) = encode_body(&op);
        assert_eq!(decode_body(code, body), op);
        assert!(op.is_write());
    }
    let session = Op::CreateSession { timeout_ms: 4000 };
    let (code, body) = encode_body(&session);
    assert_eq!(decode_body(code, body), session, "from a server this is good, other than from a client");
}

#[test]
fn a_peer_may_forward_writes_only() {
    let bytes = |opcode| ForwardedBytes {
        session: SessionId(1),
        local: false,
        cxid: 1,
        opcode,
        body: hex("00000001 2f 00"),
        auth: [].into(),
    };
    let error = Forwarded::try_from(bytes(opcode::EXISTS)).unwrap_err();
    assert!(error.0.contains("opcode 3"), "{error}");
    let error = Forwarded::try_from(bytes(opcode::SET_DATA)).unwrap_err();
    assert!(error.0.contains("opcode 5"), "a learner refuses by itself what it cannot read: {error}");
    // But for a multi, which takes a zxid nevertheless, as does what has null where no null can be.
    assert_eq!(Forwarded::try_from(bytes(opcode::DELETE)).unwrap().op, Op::Senseless { opcode: 2 });
    assert_eq!(Forwarded::try_from(bytes(opcode::MULTI)).unwrap().op, Op::Undecodable { opcode: 14 });
}

#[test]
fn write_data_does_not_keep_the_socket_buffer_alive() {
    let frame = request(opcode::SET_DATA, "00000001 2f 00000002 6869 ffffffff");
    let Op::SetData { data: Some(data), .. } = op_of(frame.clone()) else { panic!("a setData") };
    assert_eq!(&data[..], b"hi");
    assert!(frame.is_unique(), "nobody else holds the frame");
}

#[test]
fn an_error_of_nobody_is_malformed() {
    let frame = decode_reply(hex("00000001 0000000000000001 fffffc18")).unwrap();
    frame.into_reply(Shape::Empty).unwrap_err();
}

#[test]
fn an_event_about_the_connection_never_comes_from_a_server() {
    decode_event(decode_reply(hex("ffffffff 0000000000000001 00000000 ffffffff 00000003 00000000")).unwrap())
        .unwrap_err();
}

/// A conversation with a standalone server: create with a watch waiting for it, a ping, and a multi that fails.
#[test]
fn worked_bytes_of_a_conversation() {
    let create = hex("00000001 00000001 00000002 2f61 00000002 6869 00000001 0000001f
                      00000005 776f726c64 00000006 616e796f6e65 00000000");
    let op = Op::Create {
        kind: CreateKind::Create,
        path: "/a".into(),
        data: Some("hi".into()),
        acl: Some(vec![Acl::world(perms::ALL)]),
        flags: 0,
    };
    both_ways(create, 1, op);
    both_ways(hex("00000002 00000003 00000002 2f62 01"), 2, Op::Exists { path: "/b".into(), watch: true });
    both_ways(hex("fffffffe 0000000b"), PING_XID, Op::Ping);
    let multi = hex("00000004 0000000e 0000000d 00 ffffffff 00000002 2f61 00000000
                     00000002 00 ffffffff 00000002 2f61 00000009 ffffffff 01 ffffffff");
    let members =
        vec![Op::Check { path: "/a".into(), version: 0 }, Op::Delete { path: "/a".into(), version: 9 }];
    both_ways(multi, 4, Op::Multi(members));

    let reply = |xid, zxid, result| Deliver::Reply(Reply { xid, zxid: Zxid(zxid), result });
    delivers(
        reply(1, 2, Ok(ReplyBody::Path("/a".into()))),
        "00000016 00000001 0000000000000002 00000000 00000002 2f61",
    );
    delivers(reply(2, 2, Err(ZkError::NoNode)), "00000010 00000002 0000000000000002 ffffff9b");
    let event = WatchEvent { kind: EventKind::NodeCreated, path: "/b".into(), zxid: Zxid(3) };
    delivers(
        Deliver::Event(event),
        "0000001e ffffffff 0000000000000003 00000000 00000001 00000003 00000002 2f62",
    );
    delivers(reply(PING_XID, 3, Ok(ReplyBody::Empty)), "00000010 fffffffe 0000000000000003 00000000");
    delivers(
        reply(4, 4, Ok(ReplyBody::Multi(vec![MultiResult::Error(0), MultiResult::Error(-103)]))),
        "00000033 00000004 0000000000000004 00000000 ffffffff 00 00000000 00000000
         ffffffff 00 ffffff99 ffffff99 ffffffff 01 ffffffff",
    );
    delivers(Deliver::Close, "");
}

#[test]
fn worked_bytes_of_a_handshake() {
    let zeros = "00000000000000000000000000000000";
    let request = hex(&format!("00000000 0000000000000000 00000fa0 0000000000000000 00000010 {zeros} 00"));
    let decoded = decode_connect_request(request.clone()).unwrap();
    assert_eq!((decoded.timeout_ms, decoded.read_only), (4000, Some(false)));
    let old = decode_connect_request(request.slice(..44)).unwrap();
    assert_eq!(old.read_only, None, "44 bytes: a client without the flag");

    let response = ConnectResponse {
        timeout_ms: 4000,
        session: SessionId(0x0100_0027_87ee_0000),
        password: hex("d0fa91c31ddcd3d02e92b3fa2edad44f")[..].try_into().unwrap(),
        read_only: Some(false),
    };
    let without = ConnectResponse { read_only: None, ..response.clone() };
    delivers(
        Deliver::Connected(response),
        "00000025 00000000 00000fa0 0100002787ee0000 00000010 d0fa91c31ddcd3d02e92b3fa2edad44f 00",
    );
    delivers(
        Deliver::Connected(without),
        "00000024 00000000 00000fa0 0100002787ee0000 00000010 d0fa91c31ddcd3d02e92b3fa2edad44f",
    );
}

fn both_ways(frame: Bytes, xid: i32, op: Op) {
    let mut out = BytesMut::new();
    encode_request(xid, &op, &mut out).unwrap();
    assert_eq!(&out[4..], &frame[..]);
    assert_eq!(decode_request(frame), Ok((xid, Decoded::Op(op))));
}

fn delivers(deliver: Deliver, expected: &str) {
    let mut out = BytesMut::new();
    encode_deliver(&deliver, &mut out);
    assert_eq!(out, hex(expected), "{deliver:?}");
}

/// A TxnHeader: session 0x100000000000001, cxid 5, zxid 0x100000002, time 1000.
fn header(kind: i32) -> String {
    format!("0100000000000001 00000005 0000000100000002 00000000000003e8 {kind:08x}")
}

fn decode_entry(kind: i32, body: &str) -> Txn {
    decode_txn(&hex(&format!("{} {body}", header(kind)))).unwrap()
}

/// Records out of logs that Apache 3.8.0 wrote: read, and written the same again.
#[test]
fn worked_bytes_of_log_records() {
    let digest = "00000002 0000000051c6d660";
    let records = [
        (-10, format!("00004e20 {digest}"), TxnBody::CreateSession { timeout_ms: 20000 }),
        (
            1,
            format!(
                "00000002 2f61 00000005 68656c6c6f 00000001 0000001f 00000005 776f726c64
                 00000006 616e796f6e65 00 00000001 {digest}"
            ),
            TxnBody::Create {
                kind: CreateKind::Create,
                path: "/a".into(),
                data: Some("hello".into()),
                acl: vec![Acl::world(perms::ALL)],
                ephemeral: false,
                parent_cversion: 1,
            },
        ),
        (-1, "ffffff99".into(), TxnBody::Error(-103)),
        (
            -11,
            format!("00000001 00000003 2f6531 {digest}"),
            TxnBody::CloseSession { paths: Some(vec!["/e1".into()]) },
        ),
    ];
    for (kind, body, expected) in records {
        let txn = decode_entry(kind, &body);
        assert_eq!(txn.header.zxid, Zxid(0x1_0000_0002));
        assert_eq!(txn.body, expected);
        assert_eq!(txn.digest.is_some(), kind != -1);
        assert_eq!(encode_txn(&txn), hex(&format!("{} {body}", header(kind))));
    }
}

#[test]
fn a_create_of_before_3_4_has_no_parent_cversion() {
    let txn = decode_entry(1, "00000002 2f61 ffffffff 00000000 01");
    let TxnBody::Create { data, ephemeral, parent_cversion, .. } = txn.body else { panic!("a create") };
    assert_eq!((data, ephemeral, parent_cversion), (None, true, -1));
}

#[test]
fn a_close_session_may_lack_its_paths() {
    let none = TxnBody::CloseSession { paths: None };
    assert_eq!(decode_entry(-11, "").body, none);
    let with_digest = decode_entry(-11, "00000002 0000000000000000");
    assert_eq!(with_digest.body, none, "a digest is no list, not even a digest of 0");
    assert_eq!(with_digest.digest, Some(TxnDigest { version: 2, tree: 0 }));
    // As long as a digest, but a list.
    let list = decode_entry(-11, "00000001 00000004 2f653132");
    assert_eq!(list.body, TxnBody::CloseSession { paths: Some(vec!["/e12".into()]) });
    assert_eq!(list.digest, None);
}

#[test]
fn less_than_a_digest_is_none() {
    assert_eq!(decode_entry(2, "00000001 2f 0000000200000000510000").digest, None);
}

#[test]
fn unknown_and_nested_types_are_malformed() {
    for kind in [0, 3, 9, 17, 100, -2] {
        decode_txn(&hex(&format!("{} 00000001 2f 00000000", header(kind)))).unwrap_err();
    }
    // A multi within a multi, and a session's end within a multi.
    for member in ["0000000e 00000004 00000000", "fffffff5 00000000"] {
        decode_txn(&hex(&format!("{} 00000001 {member}", header(14)))).unwrap_err();
    }
}
