//! `POST /snapshot`: the server writes a snapshot into its own directory, and says which.
//!
//! A large one takes longer than a connection may be silent, so whoever asks waits for a while and is told to ask
//! again; and who asks while one is being written waits for that one.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use actix::Recipient;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use futures::future::Shared;
use serde_json::json;
use tokio::sync::oneshot;
use zabra_actors::replica::TakeSnapshot;
use zabra_actors::snapshotter::Saved;

use super::Subject;

/// How long one answer is waited for; below what a connection may be silent.
const WAIT: Duration = Duration::from_secs(20);

/// The snapshots of a server.
#[derive(Default)]
pub(super) struct Snapshots {
    replica: OnceLock<Recipient<TakeSnapshot>>,
    /// The one that is being written.
    in_work: Mutex<Option<Shared<oneshot::Receiver<Saved>>>>,
}

impl Snapshots {
    pub(super) fn of(&self, replica: Recipient<TakeSnapshot>) {
        assert!(self.replica.set(replica).is_ok(), "a server has one brain");
    }

    /// The one that is being written, or a new one; `None` before there is a brain.
    fn order(&self) -> Option<Shared<oneshot::Receiver<Saved>>> {
        let replica = self.replica.get()?;
        let mut in_work = self.in_work.lock().expect("nobody panics with this lock");
        let current = in_work.take().filter(|current| current.peek().is_none());
        let current = current.unwrap_or_else(|| {
            let (asked, answer) = oneshot::channel();
            replica.do_send(TakeSnapshot(asked));
            answer.shared()
        });
        *in_work = Some(current.clone());
        Some(current)
    }

    fn is_over(&self) {
        *self.in_work.lock().expect("nobody panics with this lock") = None;
    }
}

pub(super) async fn take(State(subject): State<Arc<Subject>>) -> Response {
    let snapshots = &subject.snapshots;
    let Some(order) = snapshots.order() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "this server has only just begun to start\n")
            .into_response();
    };
    let Ok(answer) = tokio::time::timeout(WAIT, order).await else {
        return (StatusCode::ACCEPTED, "the snapshot is being written: ask again\n").into_response();
    };
    snapshots.is_over();
    match answer {
        Ok(Saved { zxid, file, znodes, digest }) => {
            let (zxid, digest) = (zxid.to_string(), format!("{digest:#x}"));
            Json(json!({ "zxid": zxid, "file": file, "znodes": znodes, "digest": digest })).into_response()
        }
        Err(_) => {
            let why = "this server is not in step with a quorum, so that nobody knows what is committed\n";
            (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
        }
    }
}
