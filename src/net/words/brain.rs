//! What the brain has lists of: watches, sessions, ephemerals, digests. They are asked for a page at a time, and
//! one page at a time for all who ask: the core thread has other things to do.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use actix::prelude::*;
use zabra_actors::core::watches::WatchOrder;
use zabra_actors::questions::{
    AskDigests, AskEphemerals, AskExpiry, AskOwners, AskSessions, AskWatches, Questions,
};
use zabra_actors::types::{ConnId, Millis, SessionId};

use super::connections;
use super::date::java_date;
use super::paper::{AnswerError, Paper};
use crate::net::listener::Clients;

/// Asks for a page when it is this question's turn.
async fn ask<M>(clients: &Clients, whom: &Recipient<M>, question: M) -> Result<M::Result, AnswerError>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    let _turn = clients.turn_to_ask.acquire().await.expect("this semaphore is never closed");
    Ok(whom.send(question).await?)
}

/// The session of each connection that has one. A connection may be gone by the time its watch is listed:
/// Apache shows 0 then.
fn sessions(clients: &Clients) -> BTreeMap<ConnId, i64> {
    let list = clients.registry.list().into_iter();
    list.filter_map(|(conn, figures)| Some((conn, figures.session()?.0))).collect()
}

fn session_of(conn: ConnId, sessions: &BTreeMap<ConnId, i64>) -> i64 {
    sessions.get(&conn).copied().unwrap_or(0)
}

/// How many watch how much.
pub(super) async fn wchs(paper: &mut Paper<'_>, clients: &Clients) -> Result<(), AnswerError> {
    let (mut connections, mut watches, mut paths) = (0_u64, 0_u64, 0_u64);
    let mut each = Watches::new(clients, WatchOrder::ByConnection);
    let mut last = None;
    while let Some(page) = each.next().await? {
        watches += page.len() as u64;
        for (conn, _) in page {
            connections += u64::from(last.replace(conn) != Some(conn));
        }
    }
    let mut each = Watches::new(clients, WatchOrder::ByPath);
    let mut last = None;
    while let Some(page) = each.next().await? {
        for (_, path) in page {
            paths += u64::from(last.as_ref() != Some(&path));
            last = Some(path);
        }
    }
    paper
        .say(format_args!("{connections} connections watching {paths} paths\nTotal watches:{watches}\n"))
        .await
}

/// The paths that each session watches.
pub(super) async fn wchc(paper: &mut Paper<'_>, clients: &Clients) -> Result<(), AnswerError> {
    let sessions = sessions(clients);
    let mut each = Watches::new(clients, WatchOrder::ByConnection);
    let mut last = None;
    while let Some(page) = each.next().await? {
        for (conn, path) in page {
            if last.replace(conn) != Some(conn) {
                paper.say(format_args!("0x{:x}\n", session_of(conn, &sessions))).await?;
            }
            paper.say(format_args!("\t{path}\n")).await?;
        }
    }
    paper.say("\n").await
}

/// The sessions that watch each path.
pub(super) async fn wchp(paper: &mut Paper<'_>, clients: &Clients) -> Result<(), AnswerError> {
    let sessions = sessions(clients);
    let mut each = Watches::new(clients, WatchOrder::ByPath);
    let mut last = None;
    while let Some(page) = each.next().await? {
        for (conn, path) in page {
            if last.as_ref() != Some(&path) {
                paper.say(format_args!("{path}\n")).await?;
                last = Some(path);
            }
            paper.say(format_args!("\t0x{:x}\n", session_of(conn, &sessions))).await?;
        }
    }
    paper.say("\n").await
}

/// The watches, page by page.
struct Watches<'a> {
    clients: &'a Clients,
    /// `None` behind the last page.
    question: Option<AskWatches>,
}

impl<'a> Watches<'a> {
    fn new(clients: &'a Clients, order: WatchOrder) -> Watches<'a> {
        Watches { clients, question: Some(AskWatches { order, after: None }) }
    }

    async fn next(&mut self) -> Result<Option<Vec<(ConnId, zabra_actors::types::Str)>>, AnswerError> {
        let Some(question) = self.question.take() else { return Ok(None) };
        let page = ask(self.clients, &self.clients.brain.questions.watches, question).await?;
        self.question = page.next.map(|place| AskWatches { after: Some(place), ..question });
        Ok(Some(page.watches))
    }
}

/// Sessions, ephemerals and connections.
pub(super) async fn dump(paper: &mut Paper<'_>, clients: &Clients) -> Result<(), AnswerError> {
    paper.say("SessionTracker dump:\n").await?;
    if clients.settings.local_sessions {
        paper.say("Local ").await?;
        sessions_by_end(paper, clients, true).await?;
    }
    if !sessions_by_end(paper, clients, false).await? {
        global_sessions(paper, clients).await?;
    }
    paper.say("ephemeral nodes dump:\n").await?;
    ephemerals(paper, clients).await?;
    paper.say("Connections dump:\n").await?;
    connections::expiry(paper, clients).await
}

/// What a leader knows of sessions, and every server of its local ones. False if it knows nothing.
async fn sessions_by_end(paper: &mut Paper<'_>, clients: &Clients, local: bool) -> Result<bool, AnswerError> {
    let questions = &clients.brain.questions;
    let Some(mut list) = ask(clients, &questions.expiry, AskExpiry { local, after: None }).await? else {
        return Ok(false);
    };
    // Beside local ones the others are called global.
    let kind = if clients.settings.local_sessions && !local { "Global " } else { "" };
    paper.say(format_args!("{kind}Session Sets ({})/({}):\n", list.buckets, list.sessions)).await?;
    let mut last = None;
    loop {
        for bucket in list.page {
            if last.replace(bucket.end) != Some(bucket.end) {
                let date = date_of(bucket.end, questions);
                paper.say(format_args!("{} expire at {date}:\n", bucket.size)).await?;
            }
            for session in bucket.sessions {
                paper.say(format_args!("\t0x{:x}\n", session.0)).await?;
            }
        }
        let Some(after) = list.next else { return Ok(true) };
        match ask(clients, &questions.expiry, AskExpiry { local, after: Some(after) }).await? {
            Some(more) => list = more,
            None => return Ok(true), // it leads no more
        }
    }
}

/// The date of a time of the brain's clock.
fn date_of(time: Millis, questions: &Questions) -> String {
    let (now, wall) = (questions.clock.now(), SystemTime::now());
    let date = match time.checked_sub(now) {
        Some(left) => wall.checked_add(Duration::from_millis(left)),
        None => wall.checked_sub(Duration::from_millis(now - time)),
    };
    java_date(date.unwrap_or(wall))
}

/// What every server knows of sessions.
async fn global_sessions(paper: &mut Paper<'_>, clients: &Clients) -> Result<(), AnswerError> {
    let questions = &clients.brain.questions;
    let mut page = ask(clients, &questions.sessions, AskSessions { after: None }).await?;
    paper.say(format_args!("Global Sessions({}):\n", page.total)).await?;
    loop {
        for (SessionId(session), timeout_ms) in page.sessions {
            paper.say(format_args!("0x{session:x}\t{timeout_ms}ms\n")).await?;
        }
        let Some(after) = page.next else { return Ok(()) };
        page = ask(clients, &questions.sessions, AskSessions { after: Some(after) }).await?;
    }
}

/// The ephemerals of each session.
async fn ephemerals(paper: &mut Paper<'_>, clients: &Clients) -> Result<(), AnswerError> {
    let questions = &clients.brain.questions;
    let (mut owners, mut after) = (0, None);
    loop {
        let (counted, next) = ask(clients, &questions.owners, AskOwners { after }).await?;
        owners += counted;
        after = next;
        if after.is_none() {
            break;
        }
    }
    paper.say(format_args!("Sessions with Ephemerals ({owners}):\n")).await?;
    let (mut last, mut after) = (None, None);
    loop {
        let page = ask(clients, &questions.ephemerals, AskEphemerals { after }).await?;
        for (session, path) in page.ephemerals {
            if last.replace(session) != Some(session) {
                paper.say(format_args!("0x{:x}:\n", session.0)).await?;
            }
            paper.say(format_args!("\t{path}\n")).await?;
        }
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

/// The digests after every 128th transaction.
pub(super) async fn hash(paper: &mut Paper<'_>, clients: &Clients) -> Result<(), AnswerError> {
    for (zxid, digest) in ask(clients, &clients.brain.questions.digests, AskDigests).await? {
        paper.say(format_args!("{:x}: {digest}\n", zxid.0)).await?;
    }
    Ok(())
}
