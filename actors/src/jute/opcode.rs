//! The numbers of the operations, in requests, in the members of a multi, and (most of them) as types of
//! transactions.

#![allow(missing_docs)] // the names are the protocol's, and say it

use crate::types::{CreateKind, Op};

pub const CREATE: i32 = 1;
pub const DELETE: i32 = 2;
pub const EXISTS: i32 = 3;
pub const GET_DATA: i32 = 4;
pub const SET_DATA: i32 = 5;
pub const GET_ACL: i32 = 6;
pub const SET_ACL: i32 = 7;
pub const GET_CHILDREN: i32 = 8;
pub const SYNC: i32 = 9;
pub const PING: i32 = 11;
pub const GET_CHILDREN2: i32 = 12;
pub const CHECK: i32 = 13;
pub const MULTI: i32 = 14;
pub const CREATE2: i32 = 15;
pub const RECONFIG: i32 = 16;
pub const CHECK_WATCHES: i32 = 17;
pub const REMOVE_WATCHES: i32 = 18;
pub const CREATE_CONTAINER: i32 = 19;
pub const DELETE_CONTAINER: i32 = 20;
pub const CREATE_TTL: i32 = 21;
pub const MULTI_READ: i32 = 22;
pub const AUTH: i32 = 100;
pub const SET_WATCHES: i32 = 101;
pub const SASL: i32 = 102;
pub const GET_EPHEMERALS: i32 = 103;
pub const GET_ALL_CHILDREN_NUMBER: i32 = 104;
pub const SET_WATCHES2: i32 = 105;
pub const ADD_WATCH: i32 = 106;
pub const WHO_AM_I: i32 = 107;
pub const CREATE_SESSION: i32 = -10;
pub const CLOSE_SESSION: i32 = -11;
/// The type of a failed transaction, and of a failed or the last member of a multi.
pub const ERROR: i32 = -1;

/// The opcode that asks for an operation.
pub fn of(op: &Op) -> i32 {
    match op {
        Op::Create { kind, .. } => of_create(*kind),
        Op::Delete { .. } => DELETE,
        Op::Exists { .. } => EXISTS,
        Op::GetData { .. } => GET_DATA,
        Op::SetData { .. } => SET_DATA,
        Op::GetAcl { .. } => GET_ACL,
        Op::SetAcl { .. } => SET_ACL,
        Op::GetChildren { stat: false, .. } => GET_CHILDREN,
        Op::GetChildren { stat: true, .. } => GET_CHILDREN2,
        Op::Sync { .. } => SYNC,
        Op::Ping => PING,
        Op::Check { .. } => CHECK,
        Op::Multi(_) => MULTI,
        Op::Reconfig { .. } => RECONFIG,
        Op::CheckWatches { .. } => CHECK_WATCHES,
        Op::RemoveWatches { .. } => REMOVE_WATCHES,
        Op::MultiRead(_) => MULTI_READ,
        Op::SetWatches { .. } => SET_WATCHES,
        Op::SetWatches2 { .. } => SET_WATCHES2,
        Op::GetEphemerals { .. } => GET_EPHEMERALS,
        Op::GetAllChildrenNumber { .. } => GET_ALL_CHILDREN_NUMBER,
        Op::AddWatch { .. } => ADD_WATCH,
        Op::WhoAmI => WHO_AM_I,
        Op::Sasl { .. } => SASL,
        Op::Auth(_) => AUTH,
        Op::CreateSession { .. } => CREATE_SESSION,
        Op::CloseSession => CLOSE_SESSION,
        Op::Undecodable { opcode }
        | Op::Senseless { opcode }
        | Op::Throttled { opcode }
        | Op::Unknown { opcode } => *opcode,
    }
}

/// Is it one of those that the leader orders, and a server without one refuses?
pub fn is_ordered(opcode: i32) -> bool {
    matches!(
        opcode,
        CREATE
            | CREATE2
            | CREATE_CONTAINER
            | CREATE_TTL
            | DELETE
            | DELETE_CONTAINER
            | SET_DATA
            | SET_ACL
            | RECONFIG
            | MULTI
            | SYNC
    )
}

/// The opcode of a create, which is also the type of its transaction.
pub fn of_create(kind: CreateKind) -> i32 {
    match kind {
        CreateKind::Create => CREATE,
        CreateKind::Create2 => CREATE2,
        CreateKind::Container => CREATE_CONTAINER,
        CreateKind::Ttl(_) => CREATE_TTL,
    }
}
