//! Connections that say nothing, words of operators, and the two other ports.

use std::io::{Read, Write};
use std::net::TcpStream;

use bytes::{BufMut, BytesMut};

use super::common::{four_letter_word, raw};
use super::{Victim, expect_end};

/// Connections that say nothing; the server closes them after a while.
const IDLE: usize = 2000;

/// How a peer's first bytes look.
const MAGIC: &[u8; 8] = b"\x89ZABRA\r\n";

/// They are open to the end.
pub fn idle_connections(victim: &mut Victim<'_>) {
    for _ in 0..IDLE {
        let socket = victim.open();
        victim.held.push(socket);
    }
    victim.count(IDLE);
}

/// Words that end too early, words that nobody reads, and one behind a handshake.
pub fn words(victim: &mut Victim<'_>) {
    let port = victim.host.rsplit_once(':').unwrap().1.parse().unwrap();
    for word in ["r", "ru", "ruo", "stmk", "stmk\0\0\0\0", "\u{0}"] {
        let mut socket = victim.open();
        socket.write_all(word.as_bytes()).unwrap();
        super::hang_up(socket);
        victim.count(1);
    }
    for _ in 0..20 {
        for word in ["wchc", "wchp", "wchs", "dump", "cons", "mntr"] {
            let mut socket = victim.open();
            socket.write_all(word.as_bytes()).unwrap();
            victim.held.push(socket);
            victim.count(1);
        }
    }
    assert_eq!(four_letter_word(port, "ruok").as_deref(), Some("imok"), "others are answered");
    victim.refuses_in_session(b"ruok");
}

fn hello(from: u8, to: u8, cluster: &[u8]) -> Vec<u8> {
    let payload = [&[from, to, 0][..], cluster].concat();
    message(1, 1, &payload)
}

fn message(version: u16, kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    out.put_slice(MAGIC);
    out.put_u16(version);
    out.put_u8(kind);
    out.put_u16(payload.len() as u16);
    out.put_slice(payload);
    out.to_vec()
}

/// Strangers, and one who poses as a member.
pub fn peers(victim: &mut Victim<'_>) {
    let host = victim.ensemble.peer(victim.sid);
    let me = victim.sid;
    let mut bad: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        raw::hello(1000).to_vec(),
        message(1, 9, b""),
        message(77, 1, b"abc"),
        message(1, 1, b""),
        message(1, 2, b""),
        message(1, 3, &[b'x'; 1000]),
        [&MAGIC[..], &[0, 1, 1, 0xff, 0xff], &[0; 70_000]].concat(),
        hello(2, me, b"another cluster"),
        hello(9, me, b"test"),
        hello(me, me, b"test"),
        hello(2, 3, b"test"),
    ];
    for _ in 0..60 {
        let mut bytes = victim.random.bytes(300);
        bytes.resize(bytes.len().max(16), 0);
        bad.push(bytes);
    }
    for bytes in &bad {
        let mut socket = raw::open(&host).unwrap();
        let _ = socket.write_all(bytes);
        let mut answer = Vec::new();
        // A refusal in words, or none; then the end.
        let _ = socket.read_to_end(&mut answer);
        assert!(answer.is_empty() || answer.starts_with(MAGIC), "{answer:?}");
        victim.count(1);
    }
    // More strangers than members can be, all of them slow.
    for n in 0..300 {
        let mut socket = raw::open(&host).unwrap();
        let _ = socket.write_all(&hello(2, me, b"test")[..n % 14]);
        victim.held.push(socket);
        victim.count(1);
    }
    frames_of_a_false_member(victim);
}

/// Whoever says hello as a member is taken for it: what he says then must still be frames. The others elect nobody
/// meanwhile, since this server does not lead.
fn frames_of_a_false_member(victim: &mut Victim<'_>) {
    victim.held.truncate(victim.held.len() - 300);
    let me = victim.sid;
    let from = if victim.ensemble.leader() == 3 { 2 } else { 3 };
    let mut frames: Vec<Vec<u8>> = vec![
        vec![0; 4],
        vec![0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0],
        vec![0xff; 12],
        [&(64_u32 << 20).to_be_bytes()[..], &[0; 1000]].concat(),
    ];
    for _ in 0..20 {
        let body = victim.random.bytes(200);
        frames.push([&(8 + body.len() as u32).to_be_bytes()[..], &[0; 8], &body].concat());
    }
    for frame in frames {
        let mut socket = raw::open(&victim.ensemble.peer(me)).unwrap();
        socket.write_all(&hello(from, me, b"test")).unwrap();
        let mut answer = [0; 64];
        let read = socket.read(&mut answer).expect("an answer to a hello");
        assert!(answer[..read].starts_with(MAGIC), "{:?}", &answer[..read]);
        let _ = socket.write_all(&message(1, 2, b""));
        let _ = socket.write_all(&frame);
        super::hang_up(socket);
        victim.count(1);
    }
}

/// What is no HTTP, and too much of it.
pub fn operators(victim: &mut Victim<'_>) {
    let host = victim.ensemble.admin(victim.sid);
    let long = "x".repeat(2 << 20);
    let mut bad: Vec<Vec<u8>> = vec![
        b"\0\0\0\0".to_vec(),
        b"GET\r\n\r\n".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"GET /../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n".to_vec(),
        b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n".to_vec(),
        b"POST /status HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n"
            .to_vec(),
        format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes(),
        format!("GET / HTTP/1.1\r\nHost: {long}\r\n\r\n").into_bytes(),
        format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(5000)).into_bytes(),
    ];
    for _ in 0..40 {
        bad.push([&victim.random.bytes(300)[..], b"\r\n\r\n"].concat());
    }
    for bytes in &bad {
        let mut socket = raw::open(&host).unwrap();
        let _ = socket.write_all(bytes);
        super::hang_up(socket);
        victim.count(1);
    }
    // All the room there is, and some more, taken by people who do not finish their sentence.
    let slow: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut socket = raw::open(&host).unwrap();
            let _ = socket.write_all(b"GET / HTT");
            socket
        })
        .collect();
    victim.count(slow.len());
    drop(slow);
    let mut socket = raw::open(&host).unwrap();
    socket.write_all(b"GET /status HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    expect_end(&mut socket, b"");
}
