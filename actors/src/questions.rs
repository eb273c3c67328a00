//! What operators ask of the brain by four-letter words, and the answers.
//!
//! An answer is a page: a bounded piece of a list that may have millions of lines, and the place where the next
//! begins. Whoever asks comes again for the next page when he has written this one, so that neither a long list
//! nor a slow reader holds anybody up. Nothing is changed by a question.

use actix::prelude::*;

use crate::core::sessions::ExpiryPage;
use crate::core::tree::{EphemeralPage, EphemeralPlace, SessionPage};
use crate::core::watches::{WatchOrder, WatchPage, WatchPlace};
use crate::replica::Replica;
use crate::session_tracker::SessionTracker;
use crate::turn::Monotonic;
use crate::types::{Millis, SessionId, Zxid};
use crate::watch_manager::WatchManager;

/// To WatchManager: who watches which data?
#[derive(Message, Clone, Copy, Debug)]
#[rtype(result = "WatchPage")]
#[allow(missing_docs)] // the fields are named for what they are
pub struct AskWatches {
    pub order: WatchOrder,
    pub after: Option<WatchPlace>,
}

/// To Replica: which ephemerals are there?
#[derive(Message, Clone, Copy, Debug)]
#[rtype(result = "EphemeralPage")]
#[allow(missing_docs)]
pub struct AskEphemerals {
    pub after: Option<EphemeralPlace>,
}

/// To Replica: how many sessions have ephemerals? Answered by a number, and after which session to go on.
#[derive(Message, Clone, Copy, Debug)]
#[rtype(result = "(usize, Option<SessionId>)")]
#[allow(missing_docs)]
pub struct AskOwners {
    pub after: Option<SessionId>,
}

/// To Replica: which sessions does the ensemble have?
#[derive(Message, Clone, Copy, Debug)]
#[rtype(result = "SessionPage")]
#[allow(missing_docs)]
pub struct AskSessions {
    pub after: Option<SessionId>,
}

/// To Replica: what was the digest after every 128th transaction? At most 1024 answers, oldest first.
#[derive(Message, Clone, Copy, Debug)]
#[rtype(result = "Vec<(Zxid, i64)>")]
pub struct AskDigests;

/// To SessionTracker: when do sessions end? Of global ones only a leader knows, of its local ones every server.
/// Times are those of [`Questions::clock`].
#[derive(Message, Clone, Copy, Debug)]
#[rtype(result = "Option<ExpiryPage>")]
#[allow(missing_docs)]
pub struct AskExpiry {
    pub local: bool,
    pub after: Option<(Millis, SessionId)>,
}

/// Whom to ask. Cheap to clone, safe to send.
#[derive(Clone)]
#[allow(missing_docs)] // the fields are named for what is asked
pub struct Questions {
    pub watches: Recipient<AskWatches>,
    pub ephemerals: Recipient<AskEphemerals>,
    pub owners: Recipient<AskOwners>,
    pub sessions: Recipient<AskSessions>,
    pub digests: Recipient<AskDigests>,
    pub expiry: Recipient<AskExpiry>,
    /// Tells the times that AskExpiry is answered in.
    pub clock: Monotonic,
}

impl Questions {
    /// Everything is asked of these three.
    pub fn to(
        watch_manager: &Addr<WatchManager>,
        replica: &Addr<Replica>,
        session_tracker: &Addr<SessionTracker>,
        clock: Monotonic,
    ) -> Questions {
        Questions {
            watches: watch_manager.clone().recipient(),
            ephemerals: replica.clone().recipient(),
            owners: replica.clone().recipient(),
            sessions: replica.clone().recipient(),
            digests: replica.clone().recipient(),
            expiry: session_tracker.clone().recipient(),
            clock,
        }
    }
}

impl Handler<AskWatches> for WatchManager {
    type Result = MessageResult<AskWatches>;

    fn handle(&mut self, ask: AskWatches, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.watches().page(ask.order, ask.after))
    }
}

impl Handler<AskEphemerals> for Replica {
    type Result = MessageResult<AskEphemerals>;

    fn handle(&mut self, ask: AskEphemerals, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.tree().ephemeral_page(ask.after))
    }
}

impl Handler<AskOwners> for Replica {
    type Result = MessageResult<AskOwners>;

    fn handle(&mut self, ask: AskOwners, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.tree().count_owners(ask.after))
    }
}

impl Handler<AskSessions> for Replica {
    type Result = MessageResult<AskSessions>;

    fn handle(&mut self, ask: AskSessions, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.tree().session_page(ask.after))
    }
}

impl Handler<AskDigests> for Replica {
    type Result = MessageResult<AskDigests>;

    fn handle(&mut self, _: AskDigests, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.tree().digest_log().collect())
    }
}

impl Handler<AskExpiry> for SessionTracker {
    type Result = MessageResult<AskExpiry>;

    fn handle(&mut self, ask: AskExpiry, _: &mut Self::Context) -> Self::Result {
        let sessions = self.sessions();
        MessageResult(match ask.local {
            true => Some(sessions.local_expiry_page(ask.after)),
            false => sessions.expiry_page(ask.after),
        })
    }
}
