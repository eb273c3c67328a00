//! Why a command failed, in the words of Apache's shell, and what the shell's exit code is then.

use super::table;
use crate::client::{Error, ZkError};

/// The exit code of what failed.
pub const FAILED: u8 = 1;

/// The exit code of a command that there is not.
pub const NOT_FOUND: u8 = 127;

/// A command that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// For standard error, without the last newline.
    pub text: String,
    /// What people are told before that.
    pub preface: String,
    /// The exit code.
    pub code: u8,
    /// The name of the servers' error, if it was one.
    pub error: Option<String>,
    /// Nobody reads what we print: it is time to go, and no failure.
    pub unread: bool,
}

impl Failure {
    /// A failure of the shell's own.
    pub fn new(text: String) -> Failure {
        Failure { text, preface: String::new(), code: FAILED, error: None, unread: false }
    }

    /// There is no such command.
    pub fn not_found(name: &str) -> Failure {
        let text = format!("Command not found: Command not found {name}");
        Failure { preface: table::overview(), code: NOT_FOUND, ..Failure::new(text) }
    }

    /// There is no command.
    pub fn no_command() -> Failure {
        Failure { preface: table::overview(), ..Failure::new("No command entered".into()) }
    }

    /// The other end of the pipe is closed.
    pub fn unread() -> Failure {
        Failure { code: 0, unread: true, ..Failure::new(String::new()) }
    }

    /// A failure of a request that was about this path; empty for none.
    pub fn of(error: &Error, path: &str) -> Failure {
        let for_path = if path.is_empty() { String::new() } else { format!(" for {path}") };
        let (text, name) = match error {
            Error::Zk(error) => (of_server(*error, path, &for_path), Some(format!("{error:?}"))),
            Error::Multi { error, .. } => (of_server(*error, path, &for_path), Some(format!("{error:?}"))),
            Error::ConnectionLoss(why) | Error::Unreachable(why) => {
                (format!("KeeperErrorCode = ConnectionLoss{for_path} ({why})"), Some("ConnectionLoss".into()))
            }
            Error::SessionExpired => {
                (format!("KeeperErrorCode = Session expired{for_path}"), Some("SessionExpired".into()))
            }
            Error::AuthFailed => {
                (format!("KeeperErrorCode = AuthFailed{for_path}"), Some("AuthFailed".into()))
            }
            other => (other.to_string(), None),
        };
        Failure { error: name, ..Failure::new(text) }
    }
}

/// What a server refused.
fn of_server(error: ZkError, path: &str, for_path: &str) -> String {
    match error {
        ZkError::NoNode => format!("Node does not exist: {path}"),
        ZkError::NoChildrenForEphemerals => format!("Ephemerals cannot have children: {path}"),
        ZkError::NodeExists => format!("Node already exists: {path}"),
        ZkError::NotEmpty => format!("Node not empty: {path}"),
        ZkError::NotReadOnly => format!("Not a read-only call: {path}"),
        ZkError::InvalidAcl => format!("Acl is not valid : {path}"),
        ZkError::NoAuth => format!("Insufficient permission : {path}"),
        ZkError::BadArguments => format!("Arguments are not valid : {path}"),
        ZkError::BadVersion => format!("version No is not valid : {path}"),
        ZkError::QuotaExceeded => format!("Quota has exceeded : {path}"),
        ZkError::ReconfigInProgress => {
            "Another reconfiguration is in progress -- concurrent reconfigs not supported (yet)".into()
        }
        ZkError::NewConfigNoQuorum => "No quorum of new config is connected and up-to-date with the leader of last \
                                       commmitted config - try invoking reconfiguration after new servers are \
                                       connected and synced"
            .into(),
        other => format!("KeeperErrorCode = {}{for_path}", code_text(other)),
    }
}

/// An error's name in Apache's `KeeperErrorCode = ...`.
pub fn code_text(error: ZkError) -> String {
    match error {
        ZkError::UnknownSession => "Unknown error -12",
        ZkError::NotEmpty => "Directory not empty",
        ZkError::SessionExpired => "Session expired",
        ZkError::InvalidAcl => "InvalidACL",
        ZkError::SessionMoved => "Session moved",
        ZkError::NotReadOnly => "Not a read-only call",
        ZkError::EphemeralOnLocalSession => "Ephemeral node on local session",
        ZkError::NoWatcher => "No such watcher",
        ZkError::ReconfigDisabled => "Reconfig is disabled",
        ZkError::SessionClosedRequireAuth => "Session closed because client failed to authenticate",
        ZkError::QuotaExceeded => "Quota has exceeded",
        ZkError::ThrottledOp => "Op throttled due to high load",
        other => return format!("{other:?}"),
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(error: Error, path: &str) -> String {
        Failure::of(&error, path).text
    }

    #[test]
    fn servers_refusals_in_apaches_words() {
        assert_eq!(text(ZkError::NoNode.into(), "/a"), "Node does not exist: /a");
        assert_eq!(text(ZkError::BadVersion.into(), "/a"), "version No is not valid : /a");
        assert_eq!(text(ZkError::NoWatcher.into(), "/a"), "KeeperErrorCode = No such watcher for /a");
        assert_eq!(text(ZkError::ReconfigDisabled.into(), ""), "KeeperErrorCode = Reconfig is disabled");
        assert_eq!(text(ZkError::Unimplemented.into(), "/a"), "KeeperErrorCode = Unimplemented for /a");
        assert_eq!(
            text(Error::Unreachable("b:1: refused".into()), "/a"),
            "KeeperErrorCode = ConnectionLoss for /a (b:1: refused)"
        );
        assert_eq!(
            text(Error::BadPath("Path must start with / character".into()), "a"),
            "Path must start with / character"
        );
    }

    #[test]
    fn exit_codes() {
        assert_eq!(Failure::of(&ZkError::NoNode.into(), "/a").code, 1);
        let unknown = Failure::not_found("foo");
        assert_eq!(unknown.code, 127);
        assert_eq!(unknown.text, "Command not found: Command not found foo");
        assert!(unknown.preface.starts_with("ZooKeeper -server host:port"));
    }
}
