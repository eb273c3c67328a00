//! The words that everything else is said in. No behaviour beyond what a word means by itself.

mod acl;
mod client;
mod error;
mod ids;
mod packet;
mod stat;
mod status;
mod txn;

use std::sync::Arc;

pub use acl::{Acl, Auth, Id, perms};
pub use client::*;
pub use error::{Fault, ZkError};
pub use ids::{ConnId, Epoch, EpochLength, Millis, SessionId, Sid, Tenure, WallMillis, Zxid};
pub use packet::*;
pub use stat::Stat;
pub use status::*;
pub use txn::{CreateKind, Entry, Txn, TxnBody, TxnDigest, TxnHeader};

/// A path or another short string: shared, so that a request, its transaction, its events and its reply
/// need one allocation between them.
pub type Str = Arc<str>;
