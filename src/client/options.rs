//! How to reach an ensemble: the connection string of every ZooKeeper client, and what goes with it.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::time::Duration;

use zabra_actors::types::SessionId;

use super::Error;
use super::chroot::Chroot;

/// The port of a server that is named without one.
const DEFAULT_PORT: u16 = 2181;

/// Bytes of a session's password.
pub(super) const PASSWORD_SIZE: usize = 16;

/// How to reach an ensemble, and for how long it shall remember us.
#[derive(Clone, Debug)]
pub struct Options {
    pub(super) servers: Vec<String>,
    pub(super) chroot: Chroot,
    pub(super) session_timeout: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) read_only: bool,
    pub(super) resumed: Option<(SessionId, Password)>,
}

impl Options {
    /// `host:port,host:port,.../root`: the servers are tried in this order, from the front again after the last. A
    /// port that is missing is 2181; an IPv6 address stands in brackets. With a root all paths of the client are below
    /// that znode, which need not exist yet.
    pub fn new(connection: &str) -> Result<Options, Error> {
        let (servers, root) = connection.split_at(connection.find('/').unwrap_or(connection.len()));
        let servers: Vec<String> = servers
            .split(',')
            .map(str::trim)
            .filter(|server| !server.is_empty())
            .map(with_port)
            .collect::<Result<_, _>>()?;
        if servers.is_empty() {
            return Err(Error::BadServers("the list is empty; give host:port,host:port,...".into()));
        }
        Ok(Options {
            servers,
            chroot: Chroot::new(root)?,
            session_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(10),
            read_only: false,
            resumed: None,
        })
    }

    /// After how long without contact the servers may expire the session; 10 s unless said otherwise. The server has
    /// the last word ([`Session::timeout`](super::Session::timeout)).
    pub fn session_timeout(self, session_timeout: Duration) -> Options {
        Options { session_timeout, ..self }
    }

    /// How long [`Client::connect`](super::Client::connect) may go on trying, 10 s unless said otherwise. Later
    /// reconnects have no limit.
    pub fn connect_timeout(self, connect_timeout: Duration) -> Options {
        Options { connect_timeout, ..self }
    }

    /// Begins with the server at this place of the list, modulo its length: how many clients spread.
    pub fn starting_at(mut self, place: usize) -> Options {
        let first = place % self.servers.len();
        self.servers.rotate_left(first);
        self
    }

    /// Tries the servers in an order drawn by lot, so that clients with the same list spread over it.
    pub fn shuffled(mut self) -> Options {
        let chance = RandomState::new();
        self.servers.sort_by_cached_key(|server| chance.hash_one(server));
        self
    }

    /// Is content with a server that is cut off from the others and serves reads only, until one is found that serves
    /// all: [`Session::read_only`](super::Session::read_only) tells, and writes fail with NotReadOnly meanwhile.
    pub fn read_only(self, allowed: bool) -> Options {
        Options { read_only: allowed, ..self }
    }

    /// Goes on with a session that another client has left open, instead of asking for a new one.
    pub fn resuming(self, session: SessionId, password: Password) -> Options {
        Options { resumed: Some((session, password)), ..self }
    }
}

/// A server with its port.
fn with_port(server: &str) -> Result<String, Error> {
    let bad = |what: &str| Err(Error::BadServers(format!("{server:?}: {what}")));
    let (host, port) = match server.rfind(']') {
        Some(end) => server.split_at(end + 1),
        None => server.split_at(server.rfind(':').unwrap_or(server.len())),
    };
    let is_v6 = host.starts_with('[') && host.ends_with(']');
    if host.is_empty() || host == "[]" || host.contains(char::is_whitespace) {
        return bad("there is no host");
    }
    if !is_v6 && host.contains([':', '[', ']']) {
        return bad("an IPv6 address stands in brackets, as in [::1]:2181");
    }
    match port.strip_prefix(':') {
        None if port.is_empty() => Ok(format!("{host}:{DEFAULT_PORT}")),
        Some(digits) if digits.parse::<u16>().is_ok_and(|port| port > 0) => Ok(server.to_string()),
        _ => bad("the port is no number from 1 to 65535"),
    }
}

/// Proof of a session: whoever has it can go on with the session, so it is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub [u8; PASSWORD_SIZE]);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(connection: &str) -> Vec<String> {
        Options::new(connection).unwrap().servers
    }

    #[test]
    fn connection_strings() {
        assert_eq!(servers("localhost"), ["localhost:2181"]);
        assert_eq!(
            servers("a:1, b:2,[::1]:3,[::1],10.0.0.1:5"),
            ["a:1", "b:2", "[::1]:3", "[::1]:2181", "10.0.0.1:5"]
        );
        let rooted = Options::new("a:1,b/app/one").unwrap();
        assert_eq!(rooted.servers, ["a:1", "b:2181"]);
        assert_eq!(rooted.chroot, Chroot::new("/app/one").unwrap());
        assert_eq!(Options::new("a/").unwrap().chroot, Chroot::default());
    }

    #[test]
    fn what_is_no_connection_string() {
        for bad in [
            "",
            " , ",
            "/app",
            "localhost:",
            "localhost:0",
            "localhost:99999",
            "a:1,b:x",
            "::1",
            "[::1",
            "[]:1",
            ":1",
        ] {
            assert!(matches!(Options::new(bad), Err(Error::BadServers(_))), "{bad:?}");
        }
        assert!(matches!(Options::new("a:1/x/"), Err(Error::BadServers(_))));
    }

    #[test]
    fn the_order_is_the_lists_or_drawn_by_lot() {
        let options = Options::new("a:1,b:2,c:3").unwrap();
        assert_eq!(options.clone().starting_at(4).servers, ["b:2", "c:3", "a:1"]);
        let mut seen = std::collections::BTreeSet::new();
        while seen.len() < 6 {
            // All orders of three come up sooner or later, and nothing else.
            let mut shuffled = options.clone().shuffled().servers;
            seen.insert(shuffled.clone());
            shuffled.sort();
            assert_eq!(shuffled, ["a:1", "b:2", "c:3"]);
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        assert!(!format!("{:?}", Password(*b"sixteen letters!")).contains("sixteen"));
    }
}
