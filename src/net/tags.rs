//! What operators see of a request: Apache's short names of the operations, as in `lop=` of `cons`.

use zabra_actors::jute::opcode;
use zabra_actors::types::Op;

/// A new session.
pub(super) const SESSION: &str = "SESS";

/// A write that failed, and whatever else came to nothing.
pub(super) const NOTHING: &str = "NA";

/// The name of what a request asks for. `None` for what never reaches the place where Apache counts: auth, and
/// what is no operation at all.
pub(super) fn of(op: &Op) -> Option<&'static str> {
    if matches!(op, Op::Unknown { .. }) {
        return None;
    }
    Some(match opcode::of(op) {
        opcode::CREATE | opcode::CREATE2 | opcode::CREATE_CONTAINER | opcode::CREATE_TTL => "CREA",
        opcode::DELETE | opcode::DELETE_CONTAINER => "DELE",
        opcode::EXISTS => "EXIS",
        opcode::GET_DATA => "GETD",
        opcode::SET_DATA => "SETD",
        opcode::GET_ACL => "GETA",
        opcode::SET_ACL => "SETA",
        opcode::GET_CHILDREN | opcode::GET_CHILDREN2 => "GETC",
        opcode::SYNC => "SYNC",
        opcode::PING => "PING",
        opcode::CHECK => "CHEC",
        opcode::MULTI => "MULT",
        opcode::MULTI_READ => "MLTR",
        opcode::RECONFIG => "RECO",
        opcode::SET_WATCHES => "SETW",
        opcode::SET_WATCHES2 => "STW2",
        opcode::ADD_WATCH => "ADDW",
        opcode::CHECK_WATCHES => "CHKW",
        opcode::REMOVE_WATCHES => "REMW",
        opcode::GET_EPHEMERALS => "GETE",
        opcode::GET_ALL_CHILDREN_NUMBER => "GETACN",
        opcode::WHO_AM_I => "HOMI",
        opcode::CLOSE_SESSION => "CLOS",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_have_their_names() {
        let children = Op::GetChildren { path: "/".into(), watch: false, stat: true };
        assert_eq!((of(&Op::Ping), of(&children)), (Some("PING"), Some("GETC")));
        assert_eq!(of(&Op::Undecodable { opcode: opcode::MULTI }), Some("MULT"));
        assert_eq!(of(&Op::Auth(Err(zabra_actors::types::ZkError::AuthFailed))), None);
        assert_eq!(of(&Op::Unknown { opcode: 99 }), None);
    }
}
