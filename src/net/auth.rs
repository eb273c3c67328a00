//! What an auth packet is worth: pure, a packet and the ids so far in, the ids from here on out.
//!
//! A connection begins with the id `ip:<its address>`; packets add, nothing takes away, and nothing
//! outlives the connection. Deliberately absent: SASL and X.509.

use std::collections::BTreeSet;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};
use zabra_actors::types::{Auth, Id};

/// The ids of a connection together, in bytes: they go with every write to the leader. Apache has no
/// bound; no sane client comes near this one.
const MAX_IDS: usize = 64 << 10;

/// What an id costs besides its text, in bytes, so that empty ones are bounded too.
const ID_OVERHEAD: usize = 32;

/// The schemes of a server, and what they take for proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthSettings {
    /// Is there a scheme `digest`?
    pub digest: bool,
    /// `user:<base64 of SHA-1 of "user:password">`: whoever proves it passes every check.
    pub super_digest: Option<String>,
    /// The names that a client may expect this ensemble to have, by the scheme `ensemble`; without any, there is
    /// no such scheme.
    pub ensemble_names: BTreeSet<String>,
    /// A connection must have an id of one of these schemes before it may ask for anything; without any, it
    /// need not.
    pub enforced: BTreeSet<String>,
}

impl Default for AuthSettings {
    fn default() -> AuthSettings {
        let (ensemble_names, enforced) = Default::default();
        AuthSettings { digest: true, super_digest: None, ensemble_names, enforced }
    }
}

/// What comes of a packet that proves nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The client is told AuthFailed, and gives up its session.
    AuthFailed,
    /// The client means another ensemble. It is not told, so that it goes on to its next server.
    OtherEnsemble(String),
}

impl AuthSettings {
    /// May a connection with these ids ask for anything yet?
    pub(super) fn admits(&self, ids: &[Id]) -> bool {
        self.enforced.is_empty() || ids.iter().any(|id| self.enforced.contains(&*id.scheme))
    }

    /// Adds what a packet proves.
    pub(super) fn authenticate(
        &self,
        ids: &Auth,
        scheme: &str,
        data: Option<&[u8]>,
    ) -> Result<Auth, Refusal> {
        match scheme {
            // Anybody has an address; it is there already.
            "ip" => Ok(ids.clone()),
            "digest" if self.digest => {
                let id = digest(data.ok_or(Refusal::AuthFailed)?);
                let is_super = self.super_digest.as_ref() == Some(&id);
                let superuser = is_super.then(|| Id::new("super", ""));
                add(ids, superuser.into_iter().chain([Id::new("digest", &id)]))
            }
            // Proves nothing; it is the client that wants a proof. No name is any ensemble.
            "ensemble" if !self.ensemble_names.is_empty() => {
                let name = String::from_utf8_lossy(data.unwrap_or_default());
                if name.is_empty() || self.ensemble_names.contains(&*name) {
                    Ok(ids.clone())
                } else {
                    Err(Refusal::OtherEnsemble(name.into_owned()))
                }
            }
            _ => Err(Refusal::AuthFailed),
        }
    }
}

/// The ids of a connection before any auth packet.
pub(super) fn initial(remote: IpAddr) -> Auth {
    // A client of IPv4 on a socket of IPv6 is a client of IPv4.
    [Id::new("ip", &remote.to_canonical().to_string())].into()
}

/// `user:password` as an id: the user stays readable, the rest is the hash of all of it. Never fails:
/// without a colon the whole text is the user.
fn digest(data: &[u8]) -> String {
    let user = data.split(|byte| *byte == b':').next().expect("a split has a first part");
    format!("{}:{}", String::from_utf8_lossy(user), STANDARD.encode(Sha1::digest(data)))
}

fn add(ids: &Auth, new: impl IntoIterator<Item = Id>) -> Result<Auth, Refusal> {
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
    if size > MAX_IDS { Err(Refusal::AuthFailed) } else { Ok(all.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> Auth {
        initial(IpAddr::from([127, 0, 0, 1]))
    }

    fn authenticate(ids: &Auth, scheme: &str, data: Option<&[u8]>) -> Result<Auth, Refusal> {
        AuthSettings::default().authenticate(ids, scheme, data)
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
        let auth = authenticate(&fresh(), "digest", Some(b"a:b")).expect("never fails");
        assert_eq!(texts(&auth), ["ip:127.0.0.1", "digest:a:3OptnM09ILoVSfbZtd3mB0IViII="]);
    }

    #[test]
    fn any_digest_will_do() {
        let empty = authenticate(&fresh(), "digest", Some(b"")).expect("never fails");
        assert_eq!(texts(&empty)[1], "digest::2jmj7l5rSw0yVb/vlWAYkK/YBwk=");
        let no_colon = authenticate(&fresh(), "digest", Some(b"bob")).expect("never fails");
        assert!(texts(&no_colon)[1].starts_with("digest:bob:"));
        let two_colons = authenticate(&fresh(), "digest", Some(b"bob:a:b")).expect("never fails");
        assert!(texts(&two_colons)[1].starts_with("digest:bob:"));
    }

    #[test]
    fn null_is_no_digest() {
        assert_eq!(authenticate(&fresh(), "digest", None), Err(Refusal::AuthFailed));
        assert!(authenticate(&fresh(), "ip", None).is_ok(), "nobody looks at it");
    }

    #[test]
    fn the_same_id_twice_is_one_and_the_list_is_shared() {
        let once = authenticate(&fresh(), "digest", Some(b"a:b")).expect("never fails");
        let twice = authenticate(&once, "digest", Some(b"a:b")).expect("never fails");
        assert!(Auth::ptr_eq(&once, &twice));
        let ip = authenticate(&once, "ip", Some(b"whatever")).expect("anybody has an address");
        assert!(Auth::ptr_eq(&once, &ip));
    }

    #[test]
    fn other_schemes_fail() {
        for scheme in ["world", "auth", "super", "sasl", "x509", "ensemble", "", "no such"] {
            assert_eq!(authenticate(&fresh(), scheme, Some(b"a:b")), Err(Refusal::AuthFailed), "{scheme}");
        }
    }

    #[test]
    fn the_super_digest_gives_super_besides() {
        let digest = digest(b"super:secret");
        let settings = AuthSettings { super_digest: Some(digest.clone()), ..AuthSettings::default() };
        let auth = settings.authenticate(&fresh(), "digest", Some(b"super:secret")).expect("right");
        assert_eq!(
            texts(&auth),
            ["ip:127.0.0.1".to_string(), "super:".to_string(), format!("digest:{digest}")]
        );
        let wrong = settings.authenticate(&fresh(), "digest", Some(b"super:guess")).expect("an id still");
        assert!(wrong.iter().all(|id| &*id.scheme != "super"));
    }

    #[test]
    fn ids_are_bounded() {
        let mut auth = fresh();
        let mut added = 0;
        let refused = (0..).find_map(|n: u32| {
            let user = format!("{n}:x");
            match authenticate(&auth, "digest", Some(user.as_bytes())) {
                Ok(more) => {
                    auth = more;
                    added += 1;
                    None
                }
                Err(error) => Some(error),
            }
        });
        assert_eq!(refused, Some(Refusal::AuthFailed));
        assert!((100..MAX_IDS / ID_OVERHEAD).contains(&added), "{added} ids");
        let long = vec![b'u'; MAX_IDS];
        assert_eq!(authenticate(&fresh(), "digest", Some(&long)), Err(Refusal::AuthFailed));
    }

    #[test]
    fn digest_can_be_switched_off() {
        let settings = AuthSettings { digest: false, ..AuthSettings::default() };
        assert_eq!(settings.authenticate(&fresh(), "digest", Some(b"a:b")), Err(Refusal::AuthFailed));
        assert!(settings.authenticate(&fresh(), "ip", None).is_ok());
    }

    #[test]
    fn whoever_means_another_ensemble_is_not_told() {
        let ensemble_names = ["prod", "prod-2"].map(String::from).into();
        let settings = AuthSettings { ensemble_names, ..AuthSettings::default() };
        for data in [None, Some(&b""[..]), Some(b"prod"), Some(b"prod-2")] {
            let auth = settings.authenticate(&fresh(), "ensemble", data).expect("it is meant");
            assert_eq!(texts(&auth), ["ip:127.0.0.1"], "it is no identity");
        }
        let other = settings.authenticate(&fresh(), "ensemble", Some(b"test"));
        assert_eq!(other, Err(Refusal::OtherEnsemble("test".into())));
    }

    #[test]
    fn a_scheme_can_be_demanded() {
        let enforced = ["digest", "x509"].map(String::from).into();
        let settings = AuthSettings { enforced, ..AuthSettings::default() };
        assert!(AuthSettings::default().admits(&fresh()) && !settings.admits(&fresh()));
        let proved = settings.authenticate(&fresh(), "digest", Some(b"a:b")).expect("never fails");
        assert!(settings.admits(&proved));
    }
}
