//! Where a server listens: `host:port`, as `cluster.toml` writes it.
//!
//! A host may be a name: it is looked up each time it is used, because the address behind a name changes
//! (a restarted container). Port 0 is refused: the other servers could not know what it became.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

/// The longest host name, in bytes (DNS).
const HOST_MAX: usize = 253;

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// A name, an IPv4 address, or an IPv6 address without its brackets; in lower case.
    pub host: String,
    /// 1 to 65535.
    pub port: u16,
}

impl Address {
    /// Reads `host:port` or `[ipv6]:port`; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Address, &'static str> {
        let (host, port) = text.rsplit_once(':').ok_or("there is no port")?;
        let port = match port.parse::<u16>() {
            Ok(0) => return Err("port 0 is a different port at every start, so nobody could find it"),
            Ok(port) => port,
            Err(_) => return Err("the port is not a number from 1 to 65535"),
        };
        let host = match host.strip_prefix('[') {
            Some(rest) => {
                let inner = rest.strip_suffix(']').ok_or("the bracket is not closed")?;
                inner.parse::<Ipv6Addr>().map_err(|_| "no IPv6 address stands in the brackets")?.to_string()
            }
            None if host.contains(':') => return Err("an IPv6 address needs brackets: [::1]:2181"),
            None => name(host)?,
        };
        Ok(Address { host, port })
    }

    /// All socket addresses that the host stands for now; at least one. May block on DNS.
    pub fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let found: Vec<_> = (self.host.as_str(), self.port).to_socket_addrs()?.collect();
        if found.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        Ok(found)
    }

    /// A form in which two spellings of one address are equal: `localhost` is 127.0.0.1.
    pub(super) fn canonical(&self) -> (String, u16) {
        let host = if self.host == "localhost" { Ipv4Addr::LOCALHOST.to_string() } else { self.host.clone() };
        (host, self.port)
    }
}

/// A host name or IPv4 address in lower case.
fn name(host: &str) -> Result<String, &'static str> {
    if host.is_empty() {
        return Err("there is no host");
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if host.len() > HOST_MAX || !host.chars().all(allowed) {
        return Err("the host is no name or address");
    }
    Ok(host.to_ascii_lowercase())
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_printed() {
        for text in ["127.0.0.1:2181", "zk-1.example.org:2888", "[::1]:2181", "a_b:65535"] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Address::parse("LocalHost:1").unwrap().canonical(), ("127.0.0.1".to_string(), 1));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in
            ["", "2181", ":2181", "host:", "host:0", "host:65536", "::1:2181", "[::1:5", "[x]:5", "a b:5"]
        {
            assert!(Address::parse(text).is_err(), "{text:?} was taken for an address");
        }
    }
}
