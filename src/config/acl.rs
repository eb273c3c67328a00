//! `[acl]`: who may do what, and how clients prove who they are.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zabra_actors::core::acl::Rules;

use super::error::ConfigError;
use super::read::Section;

/// Its keys.
pub(super) const KEYS: &[&str] =
    &["skip", "digest", "super_digest", "enforce", "ensemble_names", "require_sasl"];

/// Bytes of a SHA-1.
const SHA1_SIZE: usize = 20;

/// `[acl]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AclKeys {
    /// Nobody is refused anything.
    pub skip: bool,
    /// Is there a scheme `digest`?
    pub digest: bool,
    /// `user:<base64 of SHA-1 of "user:password">` of the superuser, if there is one.
    pub super_digest: Option<String>,
    /// A connection must have an id of one of these schemes before it may ask for anything; empty for no such
    /// rule.
    pub enforce: BTreeSet<String>,
    /// What clients may take this ensemble for; empty when they are not asked.
    pub ensemble_names: BTreeSet<String>,
}

impl AclKeys {
    pub(super) fn read(section: &Section<'_>) -> Result<AclKeys, ConfigError> {
        section.only("require_sasl", &["false"])?;
        let digest = section.flag("digest")?.unwrap_or(true);
        let super_digest = section.text("super_digest")?;
        if let Some(text) = &super_digest {
            check_super_digest(section, text, digest)?;
        }
        let enforce = words(section, "enforce")?;
        for scheme in &enforce {
            check_scheme(section, scheme, digest)?;
        }
        let skip = section.flag("skip")?.unwrap_or(false);
        let ensemble_names = words(section, "ensemble_names")?;
        Ok(AclKeys { skip, digest, super_digest, enforce, ensemble_names })
    }

    /// What the brain judges by.
    pub fn rules(&self) -> Rules {
        Rules { skip: self.skip, digest: self.digest }
    }

    /// As `key=value` for the log at start; the superuser's hash is none of its readers' business.
    pub(super) fn effective(&self) -> String {
        let list = |words: &BTreeSet<String>| words.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        let superuser = if self.super_digest.is_some() { "set" } else { "unset" };
        let AclKeys { skip, digest, enforce, ensemble_names, .. } = self;
        format!(
            "acl.skip={skip} acl.digest={digest} acl.super_digest={superuser} acl.enforce={} \
             acl.ensemble_names={}",
            list(enforce),
            list(ensemble_names)
        )
    }
}

fn words(section: &Section<'_>, key: &str) -> Result<BTreeSet<String>, ConfigError> {
    Ok(section.words(key)?.unwrap_or_default().into_iter().collect())
}

/// Whoever proves it passes every check, so what can never be proved is a mistake worth a word.
fn check_super_digest(section: &Section<'_>, text: &str, digest: bool) -> Result<(), ConfigError> {
    let remedy =
        r#"write "super:" and what this prints: printf super:PASSWORD | openssl sha1 -binary | base64"#;
    let hash = text.split_once(':').and_then(|(_, hash)| STANDARD.decode(hash).ok());
    if hash.is_none_or(|hash| hash.len() != SHA1_SIZE) {
        return Err(section.wrong_secret("super_digest", "it is no user and base64 of a SHA-1", remedy));
    }
    if !digest {
        let problem = "nobody can prove it, since acl.digest is false";
        return Err(section.wrong_secret("super_digest", problem, "remove it, or set acl.digest = true"));
    }
    Ok(())
}

/// A scheme that nobody can have an id of would lock everybody out.
fn check_scheme(section: &Section<'_>, scheme: &str, digest: bool) -> Result<(), ConfigError> {
    let remedy = match scheme {
        "digest" if digest => return Ok(()),
        "ip" => return Ok(()),
        "digest" => "set acl.digest = true",
        "sasl" | "x509" => "this is not supported yet; the schemes are digest and ip",
        _ => "the schemes are digest and ip",
    };
    let problem = format!("Authentication scheme {scheme} is not available.");
    Err(section.wrong("enforce", problem, remedy))
}
