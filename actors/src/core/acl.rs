//! Who may do what: access control lists against the identities of a connection.
//!
//! Schemes: `world`, `auth` (in requests only), `digest`, `ip`, and `super`, which an identity may have but
//! no list. An entry of another scheme never matches and is refused in requests. There is no deny entry,
//! no order and no inheritance.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::types::{Acl, Id, ZkError, perms};

const WORLD: &str = "world";
const ANYONE: &str = "anyone";
const AUTH: &str = "auth";
const DIGEST: &str = "digest";
const IP: &str = "ip";
const SUPER: &str = "super";

/// What the `auth` entries of one transaction may become, in bytes on the wire. Each stands for all proved
/// identities of a connection, so without a bound a request of 1 MiB could make a transaction of gigabytes.
pub const MAX_EXPANSION: usize = 4 << 20;

/// Bytes of an entry on the wire besides its texts: the permissions and two lengths.
const ENTRY_OVERHEAD: usize = 12;

/// Which rules are in force on this server. The same for a whole ensemble: the leader asks for writes, and
/// each member for what it reads out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Nobody is refused anything (Apache's skipACL). Lists are still checked for sense before they are stored.
    pub skip: bool,
    /// Is there a scheme `digest`? Without it, its entries name nobody and cannot be stored.
    pub digest: bool,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules { skip: false, digest: true }
    }
}

impl Rules {
    /// Does this list give these identities any of the permissions in `need`? A list without entries (a null
    /// one, from an old log) gives everything to everybody, and so does the identity `super`.
    pub fn allows(self, acl: &[Acl], need: i32, auth: &[Id]) -> bool {
        let grants = |entry: &Acl| entry.perms & need != 0 && self.names_any(&entry.id, auth);
        self.skip || acl.is_empty() || acl.iter().any(grants) || auth.iter().any(|id| &*id.scheme == SUPER)
    }

    /// Does an entry's id name one of the identities?
    fn names_any(self, entry: &Id, auth: &[Id]) -> bool {
        match &*entry.scheme {
            WORLD => &*entry.id == ANYONE,
            DIGEST => self.digest && auth.contains(entry),
            IP => {
                let Some(network) = Network::parse(&entry.id) else { return false };
                let addresses = auth.iter().filter(|id| &*id.scheme == IP);
                addresses.filter_map(|id| parse_address(&id.id)).any(|address| network.contains(address))
            }
            _ => false,
        }
    }

    /// The list of a create or setACL as it is stored: without duplicates, `auth` replaced by whoever asks,
    /// and every entry valid for its scheme; else InvalidAcl. Never empty.
    ///
    /// `room` is what `auth` entries may still become in this transaction, at first [`MAX_EXPANSION`].
    pub fn normalize(self, list: Option<&[Acl]>, auth: &[Id], room: &mut usize) -> Result<Vec<Acl>, ZkError> {
        let mut seen = BTreeSet::new();
        let mut normal = Vec::new();
        for entry in list.unwrap_or_default().iter().filter(|entry| seen.insert(*entry)) {
            match &*entry.id.scheme {
                WORLD if &*entry.id.id == ANYONE => normal.push(entry.clone()),
                DIGEST if self.digest && is_digest_id(&entry.id.id) => normal.push(entry.clone()),
                IP if Network::parse(&entry.id.id).is_some() => normal.push(entry.clone()),
                AUTH => self.expand_auth(entry.perms, auth, room, &mut normal)?,
                _ => return Err(ZkError::InvalidAcl),
            }
        }
        if normal.is_empty() { Err(ZkError::InvalidAcl) } else { Ok(normal) }
    }

    /// An `auth` entry, whatever its id, stands for the identities that were proved: an address is none, and
    /// `super` cannot be in a list. Duplicates that come of it stay.
    fn expand_auth(
        self,
        perms: i32,
        auth: &[Id],
        room: &mut usize,
        normal: &mut Vec<Acl>,
    ) -> Result<(), ZkError> {
        let before = normal.len();
        for id in auth.iter().filter(|id| self.digest && &*id.scheme == DIGEST) {
            let size = ENTRY_OVERHEAD + id.scheme.len() + id.id.len();
            *room = room.checked_sub(size).ok_or(ZkError::InvalidAcl)?;
            normal.push(Acl { perms, id: id.clone() });
        }
        if normal.len() == before { Err(ZkError::InvalidAcl) } else { Ok(()) }
    }

    /// The list as getACL shows it: who may not change it does not see the hashes in it.
    pub fn redact<'a>(self, acl: &'a [Acl], auth: &[Id]) -> Cow<'a, [Acl]> {
        let has_hash = |entry: &Acl| &*entry.id.scheme == DIGEST;
        if !acl.iter().any(has_hash) || self.allows(acl, perms::ADMIN, auth) {
            return Cow::Borrowed(acl);
        }
        let mask = |entry: &Acl| match entry.id.id.split_once(':') {
            Some((user, _)) if has_hash(entry) => {
                Acl { perms: entry.perms, id: Id::new(DIGEST, &format!("{user}:x")) }
            }
            _ => entry.clone(),
        };
        acl.iter().map(mask).collect()
    }
}

/// `user:hash`; as Java's split counts, colons at the end do not.
fn is_digest_id(id: &str) -> bool {
    let id = id.trim_end_matches(':');
    id.bytes().filter(|byte| *byte == b':').count() == 1
}

/// An identity as whoAmI shows it: of a digest only the user, and `super` has no name.
pub fn shown(id: &Id) -> Id {
    let user = match &*id.scheme {
        DIGEST => id.id.split(':').next().unwrap_or_default(),
        SUPER => "",
        _ => &id.id,
    };
    Id { scheme: id.scheme.clone(), id: user.into() }
}

/// An address, or those that begin with the same bits.
struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    /// `address` or `address/bits`.
    fn parse(text: &str) -> Option<Network> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        // An entry is taken as it is written: `::ffff:7f00:1` is an address of IPv6.
        let address = parse_v4(address).map(IpAddr::V4).or_else(|| parse_v6(address).map(IpAddr::V6))?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Some(width), |bits| bits.parse().ok())?;
        (bits <= width).then_some(Network { address, bits })
    }

    fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let differ = u32::from(network) ^ u32::from(address);
                differ.leading_zeros() >= self.bits
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let differ = u128::from(network) ^ u128::from(address);
                differ.leading_zeros() >= self.bits
            }
            _ => false,
        }
    }
}

/// The address of a connection. A client of IPv4 on a socket of IPv6 is a client of IPv4.
fn parse_address(text: &str) -> Option<IpAddr> {
    text.parse().ok().map(|address: IpAddr| address.to_canonical())
}

/// Four decimal numbers; zeros in front are fine, as in Java.
fn parse_v4(text: &str) -> Option<Ipv4Addr> {
    let mut parts = text.split('.').map(|part| part.parse::<u8>().ok());
    let mut next = || parts.next().flatten();
    let octets = [next()?, next()?, next()?, next()?];
    parts.next().is_none().then(|| octets.into())
}

/// Groups of hex digits with one `::` at most: without a zone, without an address of IPv4 at the end.
fn parse_v6(text: &str) -> Option<Ipv6Addr> {
    if text.contains('.') { None } else { text.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::perms::*;

    const RULES: Rules = Rules { skip: false, digest: true };

    fn normalize(list: Option<&[Acl]>, auth: &[Id]) -> Result<Vec<Acl>, ZkError> {
        RULES.normalize(list, auth, &mut MAX_EXPANSION.clone())
    }

    fn entry(perms: i32, scheme: &str, id: &str) -> Acl {
        Acl { perms, id: Id::new(scheme, id) }
    }

    fn may(acl: &[Acl], need: i32, auth: &[(&str, &str)]) -> bool {
        let auth: Vec<Id> = auth.iter().map(|(scheme, id)| Id::new(scheme, id)).collect();
        RULES.allows(acl, need, &auth)
    }

    #[test]
    fn the_world_and_nobody() {
        assert!(may(&[Acl::world(READ)], READ, &[]));
        assert!(!may(&[Acl::world(READ)], WRITE, &[]));
        assert!(may(&[Acl::world(READ)], READ | ADMIN, &[]), "any of the needed bits will do");
        assert!(!may(&[entry(ALL, "world", "somebody")], READ, &[]));
        assert!(!may(&[Acl::world(0)], ALL, &[]));
        assert!(may(&[], ALL, &[]), "no list at all");
        assert!(may(&[Acl::world(0)], ALL, &[("ip", "1.2.3.4"), ("super", "")]));
        assert!(!may(&[entry(ALL, "super", "")], READ, &[]), "super is no entry");
        assert!(!may(&[entry(ALL, "sasl", "bob")], READ, &[("sasl", "bob")]), "nobody vouches for sasl");
    }

    #[test]
    fn digest_is_equality() {
        let list = [entry(WRITE, "digest", "bob:hash"), entry(READ, "digest", "ann:hash")];
        assert!(may(&list, WRITE, &[("ip", "1.1.1.1"), ("digest", "bob:hash")]));
        assert!(!may(&list, WRITE, &[("digest", "ann:hash")]));
        assert!(!may(&list, WRITE, &[("digest", "bob:other")]));
        assert!(!may(&list, WRITE, &[("ip", "bob:hash")]), "the scheme counts");
    }

    #[test]
    fn ip_is_a_prefix() {
        let may = |id, address| may(&[entry(READ, "ip", id)], READ, &[("ip", address)]);
        assert!(may("10.1.2.3", "10.1.2.3") && !may("10.1.2.3", "10.1.2.4"));
        assert!(may("10.1.2.3/24", "10.1.2.99") && !may("10.1.2.3/24", "10.1.3.3"));
        assert!(may("10.1.2.128/25", "10.1.2.129") && !may("10.1.2.128/25", "10.1.2.127"));
        assert!(may("9.9.9.9/0", "1.2.3.4") && !may("9.9.9.9/0", "::1"), "families stay apart");
        assert!(may("fe80::1", "fe80:0:0:0:0:0:0:1") && !may("fe80::1", "fe80::2"));
        assert!(may("2001:db8::/33", "2001:db8:7fff::1") && !may("2001:db8::/33", "2001:db8:8000::1"));
        assert!(may("::/0", "::1") && !may("::/0", "1.2.3.4"));
        assert!(may("127.0.0.1", "::ffff:127.0.0.1"), "IPv4 on a socket of IPv6");
        assert!(!may("nonsense", "1.2.3.4") && !may("1.2.3.4", "nonsense"));
    }

    #[test]
    fn ids_of_ip() {
        for good in ["1.2.3.4", "1.2.3.4/0", "1.2.3.4/32", "010.0.0.1", "::", "::1/128", "1:2:3:4:5:6:7:8"] {
            assert!(Network::parse(good).is_some(), "{good}");
        }
        let bad =
            ["", "1.2.3", "1.2.3.4.5", "1.2.3.256", "1.2.3.4/", "1.2.3.4/33", "1.2.3.4/-1", "1.2.3.4/8/8"];
        let bad_v6 =
            ["::1/129", "1::2::3", "::ffff:1.2.3.4", "fe80::1%eth0", "1:2:3:4:5:6:7", "::g", "[::1]"];
        for bad in bad.iter().chain(&bad_v6) {
            assert!(Network::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_list_of_a_request_is_checked() {
        let one = |scheme, id| normalize(Some(&[entry(READ, scheme, id)]), &[]);
        for (scheme, id) in [
            ("world", "anyone"),
            ("digest", "a:b"),
            ("digest", ":b"),
            ("digest", "a:b:"),
            ("ip", "1.2.3.4/8"),
            ("ip", "::1"),
        ] {
            assert_eq!(one(scheme, id), Ok(vec![entry(READ, scheme, id)]));
        }
        for (scheme, id) in [
            ("world", "me"),
            ("digest", "a"),
            ("digest", "a:"),
            ("digest", ":"),
            ("digest", ""),
            ("digest", "a:b:c"),
            ("digest", "::b"),
            ("ip", "1.2.3.4/33"),
            ("super", ""),
            ("sasl", "bob"),
            ("x509", "CN=bob"),
            ("", ""),
            ("auth", ""),
        ] {
            assert_eq!(one(scheme, id), Err(ZkError::InvalidAcl), "{scheme}:{id}");
        }
        assert_eq!(normalize(None, &[]), Err(ZkError::InvalidAcl));
        assert_eq!(normalize(Some(&[]), &[]), Err(ZkError::InvalidAcl));
    }

    #[test]
    fn unknown_permissions_are_kept_and_duplicates_dropped() {
        let list = [Acl::world(0), Acl::world(-1), Acl::world(0), Acl::world(32)];
        let normal = normalize(Some(&list), &[]).unwrap();
        assert_eq!(normal, [Acl::world(0), Acl::world(-1), Acl::world(32)]);
    }

    #[test]
    fn auth_is_whoever_asks() {
        let auth = [
            Id::new("ip", "1.2.3.4"),
            Id::new("digest", "a:1"),
            Id::new("super", ""),
            Id::new("digest", "b:2"),
        ];
        let list = [entry(READ, "auth", "x"), Acl::world(1), entry(READ, "digest", "a:1")];
        let (a, b) = (entry(READ, "digest", "a:1"), entry(READ, "digest", "b:2"));
        let normal = normalize(Some(&list), &auth).unwrap();
        assert_eq!(normal, [a.clone(), b, Acl::world(1), a], "duplicates of the expansion stay");
        let proved_nothing = [Id::new("ip", "1.2.3.4"), Id::new("super", "")];
        assert_eq!(normalize(Some(&list), &proved_nothing), Err(ZkError::InvalidAcl));
    }

    #[test]
    fn the_expansions_of_a_transaction_have_a_bound() {
        let auth = [Id::new("digest", "a:b"), Id::new("digest", "c:d")];
        let size = 2 * (ENTRY_OVERHEAD + "digest".len() + "a:b".len());
        let list = [entry(READ, "auth", ""), entry(WRITE, "auth", "")];
        let mut room = 3 * size;
        assert_eq!(RULES.normalize(Some(&list), &auth, &mut room).map(|list| list.len()), Ok(4));
        assert_eq!(room, size, "the next list of the transaction has what is left");
        assert_eq!(RULES.normalize(Some(&list), &auth, &mut room), Err(ZkError::InvalidAcl));
        let plain = vec![Acl::world(READ); 3];
        assert_eq!(RULES.normalize(Some(&plain), &auth, &mut 0).map(|list| list.len()), Ok(1));
    }

    #[test]
    fn without_digest_its_entries_name_nobody() {
        let rules = Rules { digest: false, ..RULES };
        let bob = [Id::new("digest", "bob:hash")];
        let list = [entry(ALL, "digest", "bob:hash")];
        assert!(RULES.allows(&list, READ, &bob) && !rules.allows(&list, READ, &bob));
        for list in [list.to_vec(), vec![entry(ALL, "auth", "")]] {
            assert!(RULES.normalize(Some(&list), &bob, &mut MAX_EXPANSION.clone()).is_ok());
            let refused = rules.normalize(Some(&list), &bob, &mut MAX_EXPANSION.clone());
            assert_eq!(refused, Err(ZkError::InvalidAcl));
        }
        assert_eq!(rules.redact(&list, &[])[0].id, Id::new("digest", "bob:x"), "a hash is still a secret");
    }

    #[test]
    fn skipped_checks_still_want_sensible_lists() {
        let rules = Rules { skip: true, ..RULES };
        let list = [entry(READ, "digest", "bob:hash")];
        assert!(rules.allows(&list, ADMIN, &[]));
        assert_eq!(rules.redact(&list, &[])[..], list);
        let bad = [entry(READ, "digest", "bob")];
        assert_eq!(rules.normalize(Some(&bad), &[], &mut MAX_EXPANSION.clone()), Err(ZkError::InvalidAcl));
    }

    #[test]
    fn hashes_are_for_those_who_administer() {
        let list = [entry(ALL, "digest", "bob:ha:sh"), entry(READ, "ip", "::1"), Acl::world(READ)];
        let masked = [entry(ALL, "digest", "bob:x"), entry(READ, "ip", "::1"), Acl::world(READ)];
        assert_eq!(RULES.redact(&list, &[])[..], masked);
        assert_eq!(RULES.redact(&list, &[Id::new("digest", "bob:ha:sh")])[..], list);
        assert_eq!(RULES.redact(&list, &[Id::new("super", "")])[..], list);
        let odd = [entry(READ, "digest", "no-colon")];
        assert_eq!(RULES.redact(&odd, &[])[..], odd);
    }
}
