//! The rules of a multi: its members, one after the other, each meeting what the ones before it did.
//!
//! All members share the request's zxid. When one fails, the transaction holds only errors: 0 for those
//! before it, its own code, RuntimeInconsistency for those after it; the draft of the others is dropped.

use super::ops::{Asker, single};
use super::overlay::Draft;
use crate::types::{CreateKind, Op, TxnBody, ZkError};

/// The transaction of a multi, or of its refusal.
pub fn prepare(draft: &mut Draft<'_>, asker: &Asker<'_>, members: Vec<Op>) -> Result<TxnBody, TxnBody> {
    let count = members.len();
    // What cannot be a member spoils the request as a whole: Apache does not even read on.
    let members = members
        .into_iter()
        .map(member)
        .collect::<Option<Vec<Op>>>()
        .ok_or(TxnBody::Error(ZkError::MarshallingError.code()))?;
    let mut bodies = Vec::with_capacity(count);
    for (at, op) in members.into_iter().enumerate() {
        match single(draft, asker, op) {
            Ok(body) => bodies.push(body),
            // A moved session is never told so: the whole request ends with its connection.
            Err(ZkError::SessionMoved) => return Err(TxnBody::Error(ZkError::SessionMoved.code())),
            Err(error) => return Err(failed(count, at, error)),
        }
    }
    Ok(TxnBody::Multi(bodies))
}

/// What a client may send as a member, and what it makes, as Apache 3.9 reads it: createContainer makes a
/// container whatever its flags, flags 4 make one whatever the opcode. (3.8 went by the flags alone, and
/// answered create2 like create.)
///
/// A create2 is logged as a create: Apache before 3.9 leaves out, in silence, a whole multi that has a member of
/// that type. That its client wants the Stat as well is known where the client is.
fn member(op: Op) -> Option<Op> {
    match op {
        Op::Create { kind, path, data, acl, flags } => {
            let kind = match (kind, flags) {
                (CreateKind::Container, 0..=4) | (_, 4) => CreateKind::Container,
                (_, 0..=3) => CreateKind::Create,
                (CreateKind::Ttl(ttl), _) => CreateKind::Ttl(ttl),
                _ => return None,
            };
            Some(Op::Create { kind, path, data, acl, flags })
        }
        Op::Delete { .. } | Op::SetData { .. } | Op::Check { .. } => Some(op),
        _ => None,
    }
}

/// A multi of `count` members that fails at `at`.
fn failed(count: usize, at: usize, error: ZkError) -> TxnBody {
    let code = |member: usize| match member.cmp(&at) {
        std::cmp::Ordering::Less => 0,
        std::cmp::Ordering::Equal => error.code(),
        std::cmp::Ordering::Greater => ZkError::RuntimeInconsistency.code(),
    };
    TxnBody::Multi((0..count).map(|member| TxnBody::Error(code(member))).collect())
}
