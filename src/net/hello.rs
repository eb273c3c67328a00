//! The first words on a peer link: who is there, and does each accept the other?
//!
//! ```text
//! dialler ── Hello ──▶ accepter        Each checks the other's hello against its own cluster.toml.
//!         ◀── Hello ──                 Whoever does not agree answers with a Refusal instead, which
//!         ── Welcome ▶                 names the cause, so that both logs say it, and closes.
//! ```
//!
//! A message is `magic | u16 version | u8 kind | u16 length | payload`. That much never changes, so that
//! servers of any two versions can at least refuse each other by name.
//!
//! Deliberately absent: secrets. A hello finds mistakes in configurations; it proves nothing.

use std::collections::BTreeMap;
use std::io;

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zabra_actors::types::{Membership, Sid};

/// How a peer's first bytes look. The first is no ASCII, the last two are a line end: neither text nor a
/// client's frame begins so.
const MAGIC: [u8; 8] = *b"\x89ZABRA\r\n";

/// What this server speaks on links. It changes with the packets or their frames.
pub(super) const VERSION: u16 = 2;

/// Bytes of magic, version, kind and length.
const PREFIX: usize = MAGIC.len() + 5;

/// The longest payload, in bytes: a cluster's name or a refusal's words, and little else.
const MAX_PAYLOAD: usize = 1024;

/// The longest cluster name, in bytes; checked at start.
pub(super) const MAX_CLUSTER_NAME: usize = 256;

const HELLO: u8 = 1;
const WELCOME: u8 = 2;
const REFUSAL: u8 = 3;

/// Who this server is and whom it knows.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) cluster: String,
    pub(super) me: Sid,
    pub(super) members: BTreeMap<Sid, Membership>,
}

impl Identity {
    /// Who dials: the observer of the two, else the larger sid. Two observers have nothing to say to
    /// each other: `None`.
    pub(super) fn dials(&self, peer: Sid) -> Option<bool> {
        match (self.members[&self.me], self.members[&peer]) {
            (Membership::Observer, Membership::Observer) => None,
            (Membership::Observer, Membership::Participant) => Some(true),
            (Membership::Participant, Membership::Observer) => Some(false),
            (Membership::Participant, Membership::Participant) => Some(self.me > peer),
        }
    }

    fn hello(&self, to: Sid) -> Hello {
        Hello { cluster: self.cluster.clone(), from: self.me, to, membership: self.members[&self.me] }
    }

    /// Is this the hello of a member that should be at the other end?
    fn check(&self, hello: &Hello, expected: Option<Sid>) -> Result<(), Refusal> {
        if hello.cluster != self.cluster {
            return Err(Refusal::OtherCluster { mine: self.cluster.clone(), yours: hello.cluster.clone() });
        }
        if hello.to != self.me {
            return Err(Refusal::NotMe { me: self.me, wanted: hello.to });
        }
        let membership = match self.members.get(&hello.from) {
            Some(membership) if hello.from != self.me => *membership,
            _ => return Err(Refusal::UnknownId { from: hello.from }),
        };
        if expected.is_some_and(|expected| expected != hello.from) {
            return Err(Refusal::UnknownId { from: hello.from });
        }
        if membership != hello.membership {
            return Err(Refusal::OtherRole { from: hello.from, mine: membership, yours: hello.membership });
        }
        // Only who did not dial has no expectation.
        if expected.is_none() && self.dials(hello.from) != Some(false) {
            return Err(Refusal::MustNotDial { from: hello.from, me: self.me });
        }
        Ok(())
    }
}

/// What a server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hello {
    cluster: String,
    from: Sid,
    to: Sid,
    membership: Membership,
}

/// Why this server does not want a link. The words are for the logs of both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Version { yours: u16 },
    OtherCluster { mine: String, yours: String },
    NotMe { me: Sid, wanted: Sid },
    UnknownId { from: Sid },
    OtherRole { from: Sid, mine: Membership, yours: Membership },
    MustNotDial { from: Sid, me: Sid },
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::Version { yours } => write!(
                f,
                "incompatible version: the other side speaks {yours}, this one {VERSION}; \
                 run the same release on both"
            ),
            Refusal::OtherCluster { mine, yours } => write!(
                f,
                "other cluster name: {yours:?} wants to talk to {mine:?}; \
                 check the addresses and [cluster] name of both"
            ),
            Refusal::NotMe { me, wanted } => write!(
                f,
                "wrong server: this is {me}, not {wanted}; check the peer addresses in cluster.toml"
            ),
            Refusal::UnknownId { from } => {
                write!(
                    f,
                    "unknown id: {from} is not expected here; check that all have the same cluster.toml"
                )
            }
            Refusal::OtherRole { from, mine, yours } => write!(
                f,
                "other role: {from} calls itself {yours:?} but is {mine:?} here; \
                 check that both have the same cluster.toml"
            ),
            Refusal::MustNotDial { from, me } => write!(
                f,
                "wrong direction: {me} dials {from}, not the reverse (an observer dials, else the larger \
                 id; two observers have no link); check that both have the same cluster.toml"
            ),
        }
    }
}

/// Why there is no link.
#[derive(Debug)]
pub(super) enum HelloError {
    /// The socket failed.
    Io(io::Error),
    /// What came is no hello.
    Garbage(String),
    /// This server refuses, and has said so.
    Refused(Refusal),
    /// The other one refuses, in its own words.
    RefusedByPeer(String),
}

impl std::fmt::Display for HelloError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            HelloError::Io(e) => write!(f, "the connection broke during the hello: {e}"),
            HelloError::Garbage(what) => write!(f, "not a peer of this kind: {what}"),
            HelloError::Refused(refusal) => write!(f, "refused: {refusal}"),
            HelloError::RefusedByPeer(words) => write!(f, "refused by the other side: {words}"),
        }
    }
}

impl From<io::Error> for HelloError {
    fn from(e: io::Error) -> HelloError {
        HelloError::Io(e)
    }
}

/// The dialler's part: when it returns, both know that the link is good.
pub(super) async fn dial<S>(socket: &mut S, identity: &Identity, to: Sid) -> Result<(), HelloError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    say(socket, &Message::Hello(identity.hello(to))).await?;
    let theirs = hear_hello(socket).await?;
    if let Err(refusal) = identity.check(&theirs, Some(to)) {
        return refuse(socket, refusal).await;
    }
    Ok(say(socket, &Message::Welcome).await?)
}

/// The accepter's part: who has dialled.
pub(super) async fn answer<S>(socket: &mut S, identity: &Identity) -> Result<Sid, HelloError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let theirs = hear_hello(socket).await?;
    if let Err(refusal) = identity.check(&theirs, None) {
        return refuse(socket, refusal).await;
    }
    say(socket, &Message::Hello(identity.hello(theirs.from))).await?;
    match hear(socket).await? {
        Message::Welcome => Ok(theirs.from),
        Message::Refusal(words) => Err(HelloError::RefusedByPeer(words)),
        Message::Hello(_) => Err(HelloError::Garbage("a second hello".to_string())),
    }
}

async fn refuse<S: AsyncWrite + Unpin, T>(socket: &mut S, refusal: Refusal) -> Result<T, HelloError> {
    say(socket, &Message::Refusal(refusal.to_string())).await?;
    socket.shutdown().await?;
    Err(HelloError::Refused(refusal))
}

#[derive(Debug, PartialEq, Eq)]
enum Message {
    Hello(Hello),
    Welcome,
    Refusal(String),
}

impl Message {
    fn encode(&self) -> BytesMut {
        let mut payload = BytesMut::new();
        let kind = match self {
            Message::Hello(hello) => {
                payload.put_u8(hello.from.0);
                payload.put_u8(hello.to.0);
                payload.put_u8((hello.membership == Membership::Observer).into());
                payload.put_slice(hello.cluster.as_bytes());
                HELLO
            }
            Message::Welcome => WELCOME,
            Message::Refusal(words) => {
                payload.put_slice(words.as_bytes());
                payload.truncate(MAX_PAYLOAD);
                REFUSAL
            }
        };
        assert!(payload.len() <= MAX_PAYLOAD, "a cluster's name is checked at start");
        let mut out = BytesMut::with_capacity(PREFIX + payload.len());
        out.put_slice(&MAGIC);
        out.put_u16(VERSION);
        out.put_u8(kind);
        out.put_u16(payload.len() as u16);
        out.put_slice(&payload);
        out
    }

    fn decode(kind: u8, mut payload: &[u8]) -> Result<Message, HelloError> {
        match kind {
            HELLO if payload.len() >= 3 => Ok(Message::Hello(Hello {
                from: Sid(payload.get_u8()),
                to: Sid(payload.get_u8()),
                membership: match payload.get_u8() {
                    0 => Membership::Participant,
                    _ => Membership::Observer,
                },
                cluster: String::from_utf8_lossy(payload).into_owned(),
            })),
            WELCOME => Ok(Message::Welcome),
            REFUSAL => Ok(Message::Refusal(printable(payload))),
            _ => Err(HelloError::Garbage(format!("a message of kind {kind} and {} bytes", payload.len()))),
        }
    }
}

/// Words of somebody else on their way into this server's log: without control characters.
fn printable(words: &[u8]) -> String {
    String::from_utf8_lossy(words).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

async fn say<S: AsyncWrite + Unpin>(socket: &mut S, message: &Message) -> io::Result<()> {
    socket.write_all(&message.encode()).await?;
    socket.flush().await
}

async fn hear_hello<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut S) -> Result<Hello, HelloError> {
    match hear(socket).await? {
        Message::Hello(hello) => Ok(hello),
        Message::Refusal(words) => Err(HelloError::RefusedByPeer(words)),
        Message::Welcome => Err(HelloError::Garbage("a welcome before the hello".to_string())),
    }
}

async fn hear<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut S) -> Result<Message, HelloError> {
    let mut prefix = [0; PREFIX];
    socket.read_exact(&mut prefix).await?;
    let Some(mut rest) = prefix.strip_prefix(&MAGIC) else {
        return Err(HelloError::Garbage(format!("it begins with {:?}", printable(&prefix[..MAGIC.len()]))));
    };
    let (version, kind, length) = (rest.get_u16(), rest.get_u8(), rest.get_u16() as usize);
    if length > MAX_PAYLOAD {
        return Err(HelloError::Garbage(format!("{length} bytes of hello; allowed are {MAX_PAYLOAD}")));
    }
    let mut payload = vec![0; length];
    socket.read_exact(&mut payload).await?;
    // A refusal is understood in any version: it says what the versions are.
    if version != VERSION && kind != REFUSAL {
        return refuse(socket, Refusal::Version { yours: version }).await;
    }
    Message::decode(kind, &payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Members 1, 2, 3 vote; 4 and 5 observe.
    fn identity(me: u8) -> Identity {
        let role = |id| if id < 4 { Membership::Participant } else { Membership::Observer };
        Identity {
            cluster: "test".to_string(),
            me: Sid(me),
            members: (1..=5).map(|id| (Sid(id), role(id))).collect(),
        }
    }

    /// What dialler and accepter make of each other.
    async fn meet(
        dialler: &Identity,
        to: u8,
        accepter: &Identity,
    ) -> (Result<(), HelloError>, Result<Sid, HelloError>) {
        let (mut ours, mut theirs) = tokio::io::duplex(4096);
        tokio::join!(dial(&mut ours, dialler, Sid(to)), answer(&mut theirs, accepter))
    }

    /// Both must know the refusal by its name.
    fn assert_refused<A: std::fmt::Debug, B: std::fmt::Debug>(
        by: Result<A, HelloError>,
        told: Result<B, HelloError>,
        name: &str,
    ) {
        match (by, told) {
            (Err(HelloError::Refused(refusal)), Err(HelloError::RefusedByPeer(words))) => {
                assert!(words.starts_with(name), "{words}");
                assert_eq!(refusal.to_string(), words);
            }
            other => panic!("expected a refusal {name:?}, got {other:?}"),
        }
    }

    #[test]
    fn of_each_pair_exactly_one_dials_but_of_two_observers_none() {
        for (a, b) in [(1, 2), (2, 3), (1, 4), (3, 5)] {
            let (a_dials, b_dials) = (identity(a).dials(Sid(b)), identity(b).dials(Sid(a)));
            assert_eq!((a_dials, b_dials), (Some(false), Some(true)), "{a} and {b}");
        }
        assert_eq!((identity(4).dials(Sid(5)), identity(5).dials(Sid(4))), (None, None));
    }

    #[tokio::test]
    async fn members_of_one_cluster_meet() {
        let (dialled, answered) = meet(&identity(3), 1, &identity(1)).await;
        dialled.expect("accepted");
        assert_eq!(answered.expect("accepted"), Sid(3));
    }

    #[tokio::test]
    async fn another_cluster_is_refused_by_name() {
        let mut stranger = identity(3);
        stranger.cluster = "prod".to_string();
        let (dialled, answered) = meet(&stranger, 1, &identity(1)).await;
        assert_refused(answered, dialled, "other cluster name");
    }

    #[tokio::test]
    async fn an_unknown_id_is_refused_by_name() {
        let mut stranger = identity(3);
        stranger.me = Sid(9);
        stranger.members.insert(Sid(9), Membership::Participant);
        let (dialled, answered) = meet(&stranger, 1, &identity(1)).await;
        assert_refused(answered, dialled, "unknown id");
    }

    #[tokio::test]
    async fn a_server_with_this_servers_own_id_is_refused() {
        let (dialled, answered) = meet(&identity(1), 1, &identity(1)).await;
        assert_refused(answered, dialled, "unknown id");
    }

    #[tokio::test]
    async fn a_wrong_address_is_refused_by_name() {
        let (dialled, answered) = meet(&identity(3), 2, &identity(1)).await;
        assert_refused(answered, dialled, "wrong server");
    }

    #[tokio::test]
    async fn who_must_not_dial_is_refused_by_name() {
        let (dialled, answered) = meet(&identity(1), 3, &identity(3)).await;
        assert_refused(answered, dialled, "wrong direction");
        let (dialled, answered) = meet(&identity(5), 4, &identity(4)).await;
        assert_refused(answered, dialled, "wrong direction");
    }

    #[tokio::test]
    async fn another_role_is_refused_by_name() {
        let mut promoted = identity(4);
        promoted.members.insert(Sid(4), Membership::Participant);
        let (dialled, answered) = meet(&promoted, 1, &identity(1)).await;
        assert_refused(answered, dialled, "other role");
    }

    #[tokio::test]
    async fn the_dialler_refuses_too() {
        // The accepter takes whoever dials, but it is not who was meant to be there.
        let mut impostor = identity(2);
        impostor.me = Sid(1);
        impostor.cluster = "test".to_string();
        let (mut ours, mut theirs) = tokio::io::duplex(4096);
        let dialler = identity(3);
        let other_end = async {
            hear_hello(&mut theirs).await.expect("a hello");
            let mut hello = impostor.hello(Sid(3));
            hello.cluster = "prod".to_string();
            say(&mut theirs, &Message::Hello(hello)).await.expect("written");
            hear(&mut theirs).await
        };
        let (dialled, heard) = tokio::join!(dial(&mut ours, &dialler, Sid(1)), other_end);
        assert!(matches!(dialled, Err(HelloError::Refused(Refusal::OtherCluster { .. }))), "{dialled:?}");
        assert!(matches!(heard, Ok(Message::Refusal(_))), "{heard:?}");
    }

    #[tokio::test]
    async fn another_version_is_refused_by_name() {
        let (mut ours, mut theirs) = tokio::io::duplex(4096);
        let mut bytes = Message::Hello(identity(3).hello(Sid(1))).encode();
        bytes[MAGIC.len() + 1] = 77;
        ours.write_all(&bytes).await.expect("written");
        let answered = answer(&mut theirs, &identity(1)).await;
        assert!(matches!(answered, Err(HelloError::Refused(Refusal::Version { yours: 77 }))), "{answered:?}");
        let Ok(Message::Refusal(words)) = hear(&mut ours).await else { panic!("not refused") };
        assert!(words.starts_with("incompatible version"), "{words}");
    }

    #[tokio::test]
    async fn what_is_no_hello_is_garbage() {
        let huge = [&MAGIC[..], &[0, VERSION as u8, HELLO, 0xff, 0xff]].concat();
        let short = [&MAGIC[..], &[0, VERSION as u8, HELLO, 0, 2, 1, 2]].concat();
        let strange = [&MAGIC[..], &[0, VERSION as u8, 99, 0, 0]].concat();
        let client = vec![0, 0, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        for bytes in [huge, short, strange, client, b"GET / HTTP/1.1\r\n\r\n".to_vec()] {
            let (mut ours, mut theirs) = tokio::io::duplex(4096);
            ours.write_all(&bytes).await.expect("written");
            let answered = answer(&mut theirs, &identity(1)).await;
            assert!(matches!(answered, Err(HelloError::Garbage(_))), "{answered:?}");
        }
    }
}
