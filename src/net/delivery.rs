//! One client connection, as far as it writes: replies and events into bytes, in the order in which the
//! brain says them. All that is queued is encoded into one buffer and leaves with one write.

use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::time::Instant;
use zabra_actors::jute;
use zabra_actors::ports::ClientSink;
use zabra_actors::types::{Acl, Deliver, Id, MultiResult, Reply, ReplyBody, Str};

use super::connection::End;
use super::figures::WRITES;
use super::outbox::{Drain, Outbox};
use super::stop::Stop;
use super::talk::{InBrain, Talk};

/// Bytes that may wait for a client that does not read: then it is closed. 64 times the largest answer of
/// a client that keeps its frames under 1 MiB.
pub(super) const MAX_QUEUED: usize = 64 << 20;

/// What any item costs besides its data, in bytes: a header, a Stat. So at most a million items wait.
const ITEM: usize = 64;

/// What a name in a list of children costs besides its text, in bytes: its place in the list, and an allocation
/// with two counters.
const NAME: usize = 64;

/// The buffer is written when it holds that much, in bytes.
const WRITE_SIZE: usize = 64 << 10;

/// A buffer that large answers have made larger than this, in bytes, is not kept.
const KEPT_BUFFER: usize = 2 * WRITE_SIZE;

/// Bytes of a frame's length.
const LENGTH: usize = 4;

/// The brain's way to a connection.
pub(super) struct Sink {
    pub(super) outbox: Outbox<Vec<Deliver>>,
    pub(super) in_brain: Arc<InBrain>,
}

impl ClientSink for Sink {
    fn deliver(&self, batch: Vec<Deliver>) {
        self.in_brain.answered(batch.iter().filter(|item| matches!(item, Deliver::Reply(_))).count());
        let weight = batch.iter().map(weight).sum();
        // False: too much waits. The writer knows, and ends the connection.
        self.outbox.push(batch, weight);
    }
}

/// About how many bytes an item keeps in memory.
fn weight(item: &Deliver) -> usize {
    let data = match item {
        Deliver::Reply(Reply { result: Ok(body), .. }) => match body {
            ReplyBody::Data(data, _) => data.as_ref().map_or(0, |data| data.len()),
            ReplyBody::Children(names) | ReplyBody::ChildrenStat(names, _) | ReplyBody::Ephemerals(names) => {
                weight_of_names(names)
            }
            ReplyBody::Multi(results) => results.iter().map(weight_of_result).sum(),
            ReplyBody::Acl(acl, _) => acl.iter().map(|acl| weight_of_id(&acl.id)).sum(),
            ReplyBody::WhoAmI(ids) => ids.iter().map(weight_of_id).sum(),
            ReplyBody::Path(path) | ReplyBody::PathStat(path, _) | ReplyBody::Sync(Some(path)) => path.len(),
            _ => 0,
        },
        Deliver::Event(event) => event.path.len(),
        _ => 0,
    };
    ITEM + data
}

fn weight_of_id(id: &Id) -> usize {
    size_of::<Acl>() + id.scheme.len() + id.id.len()
}

fn weight_of_names(names: &[Str]) -> usize {
    names.iter().map(|name| name.len() + NAME).sum()
}

fn weight_of_result(result: &MultiResult) -> usize {
    let more = match result {
        MultiResult::GetData(data, _) => data.as_ref().map_or(0, |data| data.len()),
        MultiResult::GetChildren(names) => weight_of_names(names),
        _ => 0,
    };
    size_of::<MultiResult>() + more
}

/// Writes what the brain says until it says Close, or this server stops.
pub(super) async fn write(
    mut socket: OwnedWriteHalf,
    mut drain: Drain<Vec<Deliver>>,
    talk: std::rc::Rc<Talk>,
    mut stop: Stop,
) -> End {
    let given_up = drain.given_up();
    tokio::select! {
        biased;
        () = given_up.wait() => End::TooSlow,
        result = write_all(&mut socket, &mut drain, &talk, &mut stop) => match result {
            Ok(()) => End::Closed,
            Err(e) => End::Failed(e),
        },
    }
}

async fn write_all(
    socket: &mut OwnedWriteHalf,
    drain: &mut Drain<Vec<Deliver>>,
    talk: &Talk,
    stop: &mut Stop,
) -> std::io::Result<()> {
    let mut batches = Vec::new();
    let mut buffer = BytesMut::new();
    let mut closing = false;
    while !closing {
        let weight = tokio::select! {
            biased;
            weight = drain.next(&mut batches) => weight,
            () = stop.said() => None,
        };
        // Stopped, or the brain has let go of the connection: what it said before is written.
        let Some(weight) = weight else { break };
        let mut frames = 0;
        let mut sizes = ReplySizes::default();
        for item in batches.drain(..).flatten() {
            if matches!(item, Deliver::Close) {
                closing = true;
                break;
            }
            take_note(&item, talk);
            let before = buffer.len();
            jute::encode_deliver(&item, &mut buffer);
            if matches!(item, Deliver::Reply(_)) {
                sizes.note((buffer.len() - before - LENGTH) as u64);
            }
            frames += 1;
            if buffer.len() >= WRITE_SIZE {
                flush(socket, &mut buffer, std::mem::take(&mut frames), talk).await?;
            }
        }
        flush(socket, &mut buffer, frames, talk).await?;
        sizes.publish(talk);
        drain.written(weight);
    }
    socket.shutdown().await
}

/// The sizes of the replies of one batch, in bytes without their length.
#[derive(Default)]
struct ReplySizes {
    last: u64,
    min: Option<u64>,
    max: u64,
}

impl ReplySizes {
    fn note(&mut self, size: u64) {
        self.last = size;
        self.min = Some(self.min.map_or(size, |min| min.min(size)));
        self.max = self.max.max(size);
    }

    fn publish(self, talk: &Talk) {
        if let Some(min) = self.min {
            talk.clients.stats.client_response_size.observe(self.last, min, self.max);
        }
    }
}

/// What a connection's other half must know of what is said.
fn take_note(item: &Deliver, talk: &Talk) {
    match item {
        Deliver::Connected(response) => talk.connected(response, Instant::now()),
        Deliver::Reply(reply) => talk.answered(reply, Instant::now()),
        Deliver::Event(_) | Deliver::Close => {}
    }
}

async fn flush(
    socket: &mut OwnedWriteHalf,
    buffer: &mut BytesMut,
    frames: u64,
    talk: &Talk,
) -> std::io::Result<()> {
    talk.figures.begin(WRITES);
    socket.write_all(buffer).await?;
    talk.figures.end(WRITES);
    talk.wrote(frames, buffer.len());
    buffer.clear();
    if buffer.capacity() > KEPT_BUFFER {
        *buffer = BytesMut::new();
    }
    Ok(())
}
