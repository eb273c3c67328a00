//! What is asked of zabra only: requests that Apache 3.8 answers wrongly in a way that spoils what comes after,
//! or that end it. The documented answer is demanded instead of Apache's.

use super::script::{Ask, Op, Step};

/// What becomes of the connection; the other side's is brought to the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    GoesOn,
    /// The server closes it.
    Closed,
    /// The client closes it, so that what differs behind it is gone.
    Drop,
}

/// A request for zabra only.
pub struct Only {
    pub name: &'static str,
    pub reason: &'static str,
    applies: fn(&Op) -> bool,
    /// The errors that are right.
    pub errors: &'static [i32],
    pub after: After,
}

/// All of them.
pub const ONLY: &[Only] = &[
    Only {
        name: "createTTL-without-ttl",
        reason: "logged by Apache although it has neither a mode with a ttl nor a ttl; the server ends for good",
        applies: |op| matches!(op, Op::CreateTtl { flags: 0..=4, ttl, .. } if *ttl < 0),
        errors: &[-8, -5],
        after: After::GoesOn,
    },
    Only {
        name: "top-level-check",
        reason: "one that succeeds gets no reply and poisons Apache's log",
        applies: |op| matches!(op, Op::Check { .. }),
        errors: &[-6],
        after: After::Closed,
    },
    Only {
        name: "deleteContainer",
        reason: "only servers may ask it; Apache deletes any childless znode for anybody",
        applies: |op| matches!(op, Op::DeleteContainer { .. }),
        errors: &[-6],
        after: After::Closed,
    },
    Only {
        name: "createSession",
        reason: "only servers may ask it; Apache makes a session and answers it, or does not",
        applies: |op| matches!(op, Op::CreateSession { .. }),
        errors: &[-6],
        after: After::Closed,
    },
    Only {
        name: "addWatch-null",
        reason: "Apache keeps a watch on null and can then not close the connection",
        applies: |op| matches!(op, Op::AddWatch { path: None, .. }),
        errors: &[-5],
        after: After::GoesOn,
    },
    Only {
        name: "multi-null",
        reason: "for a member with a null path Apache 3.8 loses a zxid, and wedges in an ensemble",
        applies: |op| matches!(op, Op::Multi { members } if members.iter().any(has_null_member)),
        errors: &[-5],
        after: After::GoesOn,
    },
    Only {
        name: "removeWatches-persistent",
        reason: "types 4 and 5 are of 3.9; what they remove stays with 3.8, so the connection ends here",
        applies: |op| {
            matches!(op, Op::RemoveWatches { kind: 4 | 5, .. } | Op::CheckWatches { kind: 4 | 5, .. })
        },
        errors: &[0, -121],
        after: After::Drop,
    },
];

fn has_null_member(member: &Op) -> bool {
    matches!(member.opcode(), 1 | 2 | 5 | 13 | 15 | 19 | 21) && member.path().is_none()
}

/// The entry for a request.
pub fn of(ask: &Ask) -> Option<&'static Only> {
    ONLY.iter().find(|only| (only.applies)(&ask.op))
}

/// The entry for a step. It holds such a request alone: see `tame`.
pub fn find(step: &Step) -> Option<&'static Only> {
    step.asks().iter().find_map(|ask| of(ask))
}
