//! Access control lists and the identities they name.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Str;

/// Permission bits of an [`Acl`] entry; stored as given, unknown bits included.
pub mod perms {
    /// Read the data and list the children.
    pub const READ: i32 = 1;
    /// Set the data.
    pub const WRITE: i32 = 2;
    /// Create a child.
    pub const CREATE: i32 = 4;
    /// Delete a child.
    pub const DELETE: i32 = 8;
    /// Set the ACL.
    pub const ADMIN: i32 = 16;
    /// All of them.
    pub const ALL: i32 = 31;
}

/// An identity: a scheme and an id within it, as in `digest` and `user:hash`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Id {
    /// `world`, `auth`, `digest`, `ip`, `super` ...
    pub scheme: Str,
    /// What the scheme makes of it.
    pub id: Str,
}

impl Id {
    /// An id of a scheme.
    pub fn new(scheme: &str, id: &str) -> Id {
        Id { scheme: scheme.into(), id: id.into() }
    }
}

/// One entry of an access control list: these permissions for this identity. There are no deny entries.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Acl {
    /// Bits of [`perms`].
    pub perms: i32,
    /// Who has them.
    pub id: Id,
}

impl Acl {
    /// `world:anyone` with the given permissions.
    pub fn world(perms: i32) -> Acl {
        Acl { perms, id: Id::new("world", "anyone") }
    }
}

/// The identities of a connection at the moment a request was read: `ip:<address>` and whatever auth
/// packets added. Shared by all requests that follow, so that a request costs no copy.
pub type Auth = Arc<[Id]>;
