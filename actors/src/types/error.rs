//! The two kinds of error that are values: what a client is told, and what stops this process.

use std::fmt;

/// A deterministic error with a code on the wire; part of the transaction when a write fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
#[allow(missing_docs)] // the names are the protocol's, and say it
pub enum ZkError {
    SystemError = -1,
    RuntimeInconsistency = -2,
    DataInconsistency = -3,
    MarshallingError = -5,
    Unimplemented = -6,
    BadArguments = -8,
    UnknownSession = -12,
    NewConfigNoQuorum = -13,
    ReconfigInProgress = -14,
    NoNode = -101,
    NoAuth = -102,
    BadVersion = -103,
    NoChildrenForEphemerals = -108,
    NodeExists = -110,
    NotEmpty = -111,
    SessionExpired = -112,
    InvalidAcl = -114,
    AuthFailed = -115,
    SessionMoved = -118,
    NotReadOnly = -119,
    EphemeralOnLocalSession = -120,
    NoWatcher = -121,
    ReconfigDisabled = -123,
    SessionClosedRequireAuth = -124,
    QuotaExceeded = -125,
    ThrottledOp = -127,
}

impl ZkError {
    const ALL: [ZkError; 26] = [
        ZkError::SystemError,
        ZkError::RuntimeInconsistency,
        ZkError::DataInconsistency,
        ZkError::MarshallingError,
        ZkError::Unimplemented,
        ZkError::BadArguments,
        ZkError::UnknownSession,
        ZkError::NewConfigNoQuorum,
        ZkError::ReconfigInProgress,
        ZkError::NoNode,
        ZkError::NoAuth,
        ZkError::BadVersion,
        ZkError::NoChildrenForEphemerals,
        ZkError::NodeExists,
        ZkError::NotEmpty,
        ZkError::SessionExpired,
        ZkError::InvalidAcl,
        ZkError::AuthFailed,
        ZkError::SessionMoved,
        ZkError::NotReadOnly,
        ZkError::EphemeralOnLocalSession,
        ZkError::NoWatcher,
        ZkError::ReconfigDisabled,
        ZkError::SessionClosedRequireAuth,
        ZkError::QuotaExceeded,
        ZkError::ThrottledOp,
    ];

    /// The code on the wire.
    pub fn code(self) -> i32 {
        self as i32
    }

    /// The error of a code; `None` for 0 (Ok) and for codes that no server sends.
    pub fn from_code(code: i32) -> Option<ZkError> {
        ZkError::ALL.into_iter().find(|e| e.code() == code)
    }
}

impl fmt::Display for ZkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?} ({})", self.code())
    }
}

impl std::error::Error for ZkError {}

/// Something is wrong with this machine: the disk failed, or holds what it must not hold.
///
/// There is one answer to it: the process logs it and stops. It is never retried, since after a failed
/// fsync nobody knows what is on the disk.
#[derive(Debug)]
pub struct Fault(pub String);

impl Fault {
    /// A fault with what was being done, and to what.
    pub fn new(doing: impl fmt::Display, error: impl fmt::Display) -> Fault {
        Fault(format!("{doing}: {error}"))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Fault {}
