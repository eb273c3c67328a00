//! What an auth packet is worth: pure, a packet and the ids so far in, the ids from here on out.
//!
//! A connection begins with the id `ip:<its address>`; packets add, nothing takes away, and nothing
//! outlives the connection. Deliberately absent: SASL and X.509.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};
use zabra_actors::types::{Auth, Id, ZkError};

/// The ids of a connection together, in bytes: they go with every write to the leader. Apache has no
/// bound; no sane client comes near this one.
const MAX_IDS: usize = 64 << 10;

/// What an id costs besides its text, in bytes, so that empty ones are bounded too.
const ID_OVERHEAD: usize = 32;

/// The ids of a connection before any auth packet.
pub(super) fn initial(remote: IpAddr) -> Auth {
    // A client of IPv4 on a socket of IPv6 is a client of IPv4.
    [Id::new("ip", &remote.to_canonical().to_string())].into()
}

/// Adds what a packet proves. `super_digest` is `super:<base64 of SHA-1 of "super:password">`, if set.
pub(super) fn authenticate(
    ids: &Auth,
    scheme: &str,
    data: Option<&[u8]>,
    super_digest: Option<&str>,
) -> Result<Auth, ZkError> {
    let new = match scheme {
        // Anybody has an address; it is there already.
        "ip" => vec![],
        "digest" => {
            let id = digest(data.ok_or(ZkError::AuthFailed)?);
            let is_super = super_digest == Some(&id);
            is_super.then(|| Id::new("super", "")).into_iter().chain([Id::new("digest", &id)]).collect()
        }
        _ => return Err(ZkError::AuthFailed),
    };
    add(ids, new)
}

/// `user:password` as an id: the user stays readable, the rest is the hash of all of it. Never fails:
/// without a colon the whole text is the user.
fn digest(data: &[u8]) -> String {
    let user = data.split(|byte| *byte == b':').next().expect("a split has a first part");
    format!("{}:{}", String::from_utf8_lossy(user), STANDARD.encode(Sha1::digest(data)))
}

fn add(ids: &Auth, new: Vec<Id>) -> Result<Auth, ZkError> {
    let mut all = ids.to_vec();
    for id in new {
        if !all.contains(&id) {
            all.push(id);
        }
    }
    if all.len() == ids.len() {
        return Ok(ids.clone());
    }
    let size: usize = all.iter().map(|id| id.scheme.len() + id.id.len() + ID_OVERHEAD).sum();
    if size > MAX_IDS { Err(ZkError::AuthFailed) } else { Ok(all.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> Auth {
        initial(IpAddr::from([127, 0, 0, 1]))
    }

    fn texts(auth: &Auth) -> Vec<String> {
        auth.iter().map(|id| format!("{}:{}", id.scheme, id.id)).collect()
    }

    #[test]
    fn a_connection_begins_with_its_address() {
        assert_eq!(texts(&fresh()), ["ip:127.0.0.1"]);
        let mapped: IpAddr = "::ffff:10.0.0.7".parse().expect("an address");
        assert_eq!(texts(&initial(mapped)), ["ip:10.0.0.7"]);
    }

    #[test]
    fn digest_hashes_the_whole_and_shows_the_user() {
        let auth = authenticate(&fresh(), "digest", Some(b"a:b"), None).expect("never fails");
        assert_eq!(texts(&auth), ["ip:127.0.0.1", "digest:a:3OptnM09ILoVSfbZtd3mB0IViII="]);
    }

    #[test]
    fn any_digest_will_do() {
        let empty = authenticate(&fresh(), "digest", Some(b""), None).expect("never fails");
        assert_eq!(texts(&empty)[1], "digest::2jmj7l5rSw0yVb/vlWAYkK/YBwk=");
        let no_colon = authenticate(&fresh(), "digest", Some(b"bob"), None).expect("never fails");
        assert!(texts(&no_colon)[1].starts_with("digest:bob:"));
        let two_colons = authenticate(&fresh(), "digest", Some(b"bob:a:b"), None).expect("never fails");
        assert!(texts(&two_colons)[1].starts_with("digest:bob:"));
    }

    #[test]
    fn null_is_no_digest() {
        assert_eq!(authenticate(&fresh(), "digest", None, None), Err(ZkError::AuthFailed));
        assert!(authenticate(&fresh(), "ip", None, None).is_ok(), "nobody looks at it");
    }

    #[test]
    fn the_same_id_twice_is_one_and_the_list_is_shared() {
        let once = authenticate(&fresh(), "digest", Some(b"a:b"), None).expect("never fails");
        let twice = authenticate(&once, "digest", Some(b"a:b"), None).expect("never fails");
        assert!(Auth::ptr_eq(&once, &twice));
        let ip = authenticate(&once, "ip", Some(b"whatever"), None).expect("anybody has an address");
        assert!(Auth::ptr_eq(&once, &ip));
    }

    #[test]
    fn other_schemes_fail() {
        for scheme in ["world", "auth", "super", "sasl", "x509", "", "no such"] {
            assert_eq!(
                authenticate(&fresh(), scheme, Some(b"a:b"), None),
                Err(ZkError::AuthFailed),
                "{scheme}"
            );
        }
    }

    #[test]
    fn the_super_digest_gives_super_besides() {
        let digest = digest(b"super:secret");
        let auth = authenticate(&fresh(), "digest", Some(b"super:secret"), Some(&digest)).expect("right");
        assert_eq!(
            texts(&auth),
            ["ip:127.0.0.1".to_string(), "super:".to_string(), format!("digest:{digest}")]
        );
        let wrong =
            authenticate(&fresh(), "digest", Some(b"super:guess"), Some(&digest)).expect("an id still");
        assert!(wrong.iter().all(|id| &*id.scheme != "super"));
    }

    #[test]
    fn ids_are_bounded() {
        let mut auth = fresh();
        let mut added = 0;
        let refused = (0..).find_map(|n: u32| {
            let user = format!("{n}:x");
            match authenticate(&auth, "digest", Some(user.as_bytes()), None) {
                Ok(more) => {
                    auth = more;
                    added += 1;
                    None
                }
                Err(error) => Some(error),
            }
        });
        assert_eq!(refused, Some(ZkError::AuthFailed));
        assert!((100..MAX_IDS / ID_OVERHEAD).contains(&added), "{added} ids");
        let long = vec![b'u'; MAX_IDS];
        assert_eq!(authenticate(&fresh(), "digest", Some(&long), None), Err(ZkError::AuthFailed));
    }
}
