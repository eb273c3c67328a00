//! What makes no sense: bytes that are no frame, frames that are no request, records that lie about themselves.

use std::io::Write;

use bytes::{BufMut, Bytes, BytesMut};
use zabra_actors::jute::{self, Shape, opcode};
use zabra_actors::types::{Acl, CreateKind, Op, Str, WatcherType, ZkError, Zxid, perms};

use super::common::raw::{self, Client, create};
use super::{MAX_FRAME, Victim, framed, raw_request, request};

/// Every kind of request, well formed; none of them ends a session.
fn samples() -> Vec<Op> {
    let path = || Str::from("/sample");
    let acl = || Some(vec![Acl::world(perms::READ)]);
    let data = || Some(Bytes::from_static(b"data"));
    let paths = || vec![path(), "/other".into()];
    let create = |kind| Op::Create { kind, path: path(), data: data(), acl: acl(), flags: 0 };
    vec![
        create(CreateKind::Create),
        create(CreateKind::Create2),
        create(CreateKind::Container),
        create(CreateKind::Ttl(1000)),
        Op::Delete { path: path(), version: 7 },
        Op::Exists { path: path(), watch: false },
        Op::GetData { path: path(), watch: false },
        Op::SetData { path: path(), data: data(), version: 7 },
        Op::GetAcl { path: path() },
        Op::SetAcl { path: path(), acl: acl(), version: 7 },
        Op::GetChildren { path: path(), watch: false, stat: false },
        Op::GetChildren { path: path(), watch: false, stat: true },
        Op::Sync { path: Some(path()) },
        Op::Ping,
        Op::Multi(vec![Op::Check { path: path(), version: 7 }, Op::Delete { path: path(), version: 7 }]),
        Op::MultiRead(vec![Op::GetData { path: path(), watch: false }]),
        Op::SetWatches { relative_zxid: Zxid(1), data: paths(), exist: paths(), child: paths() },
        Op::CheckWatches { path: Some(path()), kind: WatcherType::Data },
        Op::RemoveWatches { path: Some(path()), kind: WatcherType::Any },
        Op::AddWatch { path: path(), recursive: true },
        Op::GetEphemerals { prefix: Some(path()) },
        Op::GetAllChildrenNumber { path: path() },
        Op::WhoAmI,
    ]
}

/// Whatever is asked before, the connection goes on: a ping is answered, behind so many answers.
fn is_alive_after(client: &mut Client, answers: usize) {
    client.socket.write_all(&request(-2, &Op::Ping)).unwrap();
    let mut seen = 0;
    loop {
        let frame = jute::decode_reply(raw::read_frame(&mut client.socket).expect("it goes on")).unwrap();
        match frame.xid {
            jute::EVENT_XID => {}
            jute::PING_XID if seen == answers => return,
            _ => seen += 1,
        }
    }
}

/// Frames that begin and never end, before and in a session.
pub fn half_frames(victim: &mut Victim<'_>) {
    let hello = raw::hello(super::TIMEOUT_MS);
    for cut in (1..hello.len()).step_by(4) {
        let mut socket = victim.open();
        socket.write_all(&hello[..cut]).unwrap();
        victim.held.push(socket);
    }
    let whole = request(1, &create("/half", &[7; 100_000], 0));
    for cut in [1, 3, 4, 5, 11, 12, 1000, 50_000, whole.len() - 1] {
        for _ in 0..5 {
            let mut client = victim.client();
            client.socket.write_all(&whole[..cut]).unwrap();
            victim.held.push(client.socket);
        }
    }
    victim.count(hello.len() / 4 + 45);
}

/// Bytes of no meaning where a handshake should be.
pub fn garbage(victim: &mut Victim<'_>) {
    for _ in 0..150 {
        // A frame of which all is there, so that it can be judged.
        let bytes = framed(&victim.random.bytes(60).iter().map(|byte| byte & 0x7f).collect::<Vec<_>>());
        let is_hello = jute::decode_connect_request(bytes.slice(4..)).is_ok();
        if !is_hello {
            victim.refuses(&bytes);
        }
    }
    for text in
        ["GET / HTTP/1.1\r\nHost: zk\r\n\r\n", "SSH-2.0-OpenSSH_9.2\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01"]
    {
        victim.refuses(text.as_bytes());
    }
    for _ in 0..100 {
        let mut bytes = victim.random.bytes(2000);
        // A negative length, or one far above the limit.
        bytes.insert(0, 0x80 | victim.random.next() as u8);
        bytes.extend([0; 4]);
        victim.refuses(&bytes);
        victim.refuses_in_session(&bytes);
    }
}

/// Lengths of frames that are none.
pub fn lengths(victim: &mut Victim<'_>) {
    let bad = [
        -1,
        -2,
        i32::MIN,
        i32::MIN + 1,
        i32::MAX,
        i32::MAX - 1,
        1 << 30,
        MAX_FRAME as i32 + 1,
        MAX_FRAME as i32 * 2,
    ];
    for length in bad {
        for behind in [0, 4, 100] {
            let bytes = [&length.to_be_bytes()[..], &vec![7; behind]].concat();
            victim.refuses(&bytes);
            victim.refuses_in_session(&bytes);
        }
    }
    // Too short for a handshake, and for the header of a request.
    for length in 0..28 {
        victim.refuses(&framed(&vec![0; length]));
    }
    for length in 0..8 {
        victim.refuses_in_session(&framed(&vec![0; length]));
    }
}

/// A handshake whose frame is whole, and which itself is not.
pub fn handshakes(victim: &mut Victim<'_>) {
    let hello = raw::hello(super::TIMEOUT_MS);
    for cut in 0..hello.len() - 4 - 1 {
        victim.refuses(&framed(&hello[4..4 + cut]));
    }
    // A password of any length that is not there.
    for length in [18, 1 << 20, i32::MAX, i32::MIN, -2] {
        let mut bytes = BytesMut::from(&hello[4..]);
        bytes[24..28].copy_from_slice(&length.to_be_bytes());
        victim.refuses(&framed(&bytes));
    }
    // Twice is once too often: what is no request header closes.
    let twice = [&hello[..], &framed(&[0; 4])].concat();
    let mut socket = victim.open();
    socket.write_all(&twice).unwrap();
    raw::read_frame(&mut socket).expect("the first is answered");
    super::expect_end(&mut socket, &twice);
    victim.count(1);
}

/// Requests that end too early. With a length that fits, the connection goes on; without, it ends.
pub fn truncated(victim: &mut Victim<'_>) {
    let mut client = victim.client();
    for op in samples() {
        let whole = request(1, &op);
        let cuts: Vec<usize> = (12..whole.len()).collect();
        for cut in &cuts {
            client.socket.write_all(&framed(&whole[4..*cut])).unwrap();
        }
        is_alive_after(&mut client, cuts.len());
        victim.count(cuts.len());
        // Its end comes instead of the rest.
        for cut in [5, 12, whole.len() - 1].into_iter().filter(|cut| *cut < whole.len()) {
            let mut other = victim.client();
            other.socket.write_all(&whole[..cut]).unwrap();
            super::hang_up(other.socket);
            victim.count(1);
        }
    }
}

/// Every opcode with records of random bytes, known or not.
pub fn random_records(victim: &mut Victim<'_>) {
    let opcodes: Vec<i32> = (-12..=30).chain(98..=110).chain([i32::MIN, i32::MAX, 1000]).collect();
    for opcode in opcodes {
        for _ in 0..8 {
            let record = victim.random.bytes(80);
            let mut client = victim.client();
            client.socket.write_all(&raw_request(1, opcode, &record)).unwrap();
            // Answered, or closed; never silence.
            let frame = raw::read_frame(&mut client.socket);
            if let Ok(frame) = frame {
                jute::decode_reply(frame).unwrap();
            }
            victim.count(1);
        }
    }
}

/// Counts and lengths inside of records that the frame cannot hold.
pub fn inner_lengths(victim: &mut Victim<'_>) {
    let mut client = victim.client();
    let mut asked = 0;
    for lie in [i32::MAX, i32::MAX - 1, 1 << 30, 100_000, -2, i32::MIN] {
        let string = lie.to_be_bytes();
        let mut records: Vec<(i32, Vec<u8>)> = vec![
            // setWatches: the zxid, then three vectors.
            (opcode::SET_WATCHES, [&[0; 8][..], &string].concat()),
            (opcode::SET_WATCHES, [&[0; 8][..], &[0; 4], &string].concat()),
            (opcode::SET_WATCHES2, [&[0; 8][..], &[0; 16], &string].concat()),
        ];
        for opcode in
            [opcode::CREATE, opcode::DELETE, opcode::EXISTS, opcode::GET_DATA, opcode::GET_CHILDREN2]
        {
            records.push((opcode, string.to_vec()));
            records.push((opcode, [&string[..], &[b'/'; 64]].concat()));
        }
        // create: path, data, then the ACL's count; and a good path with data that is not there.
        records
            .push((opcode::CREATE, [&[0, 0, 0, 2, b'/', b'x', 0, 0, 0, 0][..], &string, &[0; 40]].concat()));
        records.push((opcode::CREATE, [&[0, 0, 0, 2, b'/', b'x'][..], &string, &[0; 40]].concat()));
        // setACL: path, count.
        records.push((opcode::SET_ACL, [&[0, 0, 0, 2, b'/', b'x'][..], &string, &[0; 40]].concat()));
        // multi: a member whose path lies, of a type that lies.
        records.push((opcode::MULTI, [&[0, 0, 0, 2, 0, 255, 255, 255, 255][..], &string].concat()));
        records.push((opcode::MULTI, [&string[..], &[0, 255, 255, 255, 255]].concat()));
        for (opcode, record) in records {
            client.socket.write_all(&raw_request(1, opcode, &record)).unwrap();
            asked += 1;
        }
    }
    is_alive_after(&mut client, asked);
    victim.count(asked);
}

/// One byte below the limit, at it, and above it.
pub fn frame_limit(victim: &mut Victim<'_>) {
    let empty = request(1, &create("/limit-", &[], 2)).len() - 4;
    for (size, fits) in
        [(MAX_FRAME - 1, true), (MAX_FRAME, true), (MAX_FRAME + 1, false), (MAX_FRAME + 2, false)]
    {
        let frame = request(1, &create("/limit-", &vec![7; size - empty], 2));
        assert_eq!(frame.len(), 4 + size);
        if fits {
            let mut client = victim.client();
            client.socket.write_all(&frame).unwrap();
            let reply = client.answer(Shape::Path).unwrap();
            assert!(reply.result.is_ok(), "{size}: {:?}", reply.result);
            victim.count(1);
        } else {
            victim.refuses_in_session(&frame);
        }
    }
}

/// Paths that are none, in every request that has one, and paths of half a million names.
pub fn paths(victim: &mut Victim<'_>) {
    let mut bad: Vec<Vec<u8>> =
        ["", "a", "//", "/a/", "/./a", "/../a", "/a//b", "/\u{1}", "/\u{7f}", "/\u{fffd}", "/😀"]
            .iter()
            .map(|path| path.as_bytes().to_vec())
            .collect();
    bad.extend([
        b"/\0".to_vec(),
        b"/a\0b".to_vec(),
        vec![b'/', 0xff, 0xfe],
        vec![0xc0, 0x80],
        vec![b'/', 0xed, 0xa0, 0x80],
    ]);
    bad.push(b"/a".repeat(MAX_FRAME / 2 - 100));
    bad.push(vec![b'/'; MAX_FRAME - 200]);
    bad.push([&b"/"[..], &vec![b'x'; MAX_FRAME - 200]].concat());
    let mut client = victim.client();
    for path in bad {
        let mut string = BytesMut::new();
        string.put_i32(path.len() as i32);
        string.put_slice(&path);
        // Behind the path: no data, an open ACL, flags or version, a watch.
        let created =
            [&string[..], &[255; 4], b"\0\0\0\x01\0\0\0\x1f\0\0\0\x05world\0\0\0\x06anyone\0\0\0\0"].concat();
        let versioned = [&string[..], &[255; 4]].concat();
        let watched = [&string[..], &[0]].concat();
        let mut records = vec![(opcode::CREATE, created), (opcode::DELETE, versioned.clone())];
        records.push((opcode::SET_DATA, [&string[..], &[255; 4], &[255; 4]].concat()));
        for opcode in [opcode::EXISTS, opcode::GET_DATA, opcode::GET_CHILDREN, opcode::GET_CHILDREN2] {
            records.push((opcode, watched.clone()));
        }
        for opcode in [opcode::GET_ACL, opcode::SYNC, opcode::GET_EPHEMERALS, opcode::GET_ALL_CHILDREN_NUMBER]
        {
            records.push((opcode, string.to_vec()));
        }
        let asked = records.len();
        for (opcode, record) in records {
            client.socket.write_all(&raw_request(1, opcode, &record)).unwrap();
        }
        is_alive_after(&mut client, asked);
        victim.count(asked);
    }
    let reply = client.ask(&create("/a/b", b"", 0)).unwrap();
    assert_eq!(reply.result, Err(ZkError::NoNode), "none of it was made");
}
