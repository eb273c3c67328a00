//! `cons`, and the connections in `stat` and `dump`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use zabra_actors::types::ConnId;

use super::date::java_date;
use super::paper::{AnswerError, Paper};
use crate::net::connection;
use crate::net::figures::Figures;
use crate::net::listener::Clients;

/// For `stat`: a short line each.
pub(super) fn brief(asker: ConnId, clients: &Clients) -> String {
    let mut out = "Clients:\n".to_string();
    for (conn, figures) in clients.registry.list() {
        writeln!(out, "{})", line(&figures, conn == asker)).expect("a string takes all");
    }
    out + "\n"
}

/// Everything about each connection.
pub(super) async fn cons(paper: &mut Paper<'_>, asker: ConnId, clients: &Clients) -> Result<(), AnswerError> {
    for (conn, figures) in clients.registry.list() {
        let session = session(&figures);
        paper.say(format_args!("{}{session})\n", line(&figures, conn == asker))).await?;
    }
    paper.say("\n").await
}

/// What every list has. The number says what the server waits for: 1 is something to read, 4 is room to write;
/// the connection that asks has nothing more to say.
fn line(figures: &Figures, asks: bool) -> String {
    let interest = if asks { 0 } else { figures.interest() };
    format!(
        " {}[{interest:x}](queued={},recved={},sent={}",
        java_address(figures.remote),
        figures.queued.load(Relaxed),
        figures.received.load(Relaxed),
        figures.sent.load(Relaxed)
    )
}

/// What a connection with a session has besides.
fn session(figures: &Figures) -> String {
    let Some(session) = figures.session() else { return String::new() };
    let mut out = format!(
        ",sid=0x{:x},lop={},est={},to={}",
        session.0,
        figures.operations().last_op.unwrap_or("null"),
        figures.established,
        figures.timeout().as_millis()
    );
    let operations = figures.operations();
    if let Some(cxid) = operations.last_cxid {
        write!(out, ",lcxid=0x{cxid:x}").expect("a string takes all");
    }
    write!(
        out,
        ",lzxid=0x{:x},lresp={},llat={},minlat={},avglat={},maxlat={}",
        operations.last_zxid,
        operations.last_response_ms,
        operations.last_latency_ms,
        operations.min_latency_ms.unwrap_or(0),
        operations.total_latency_ms.checked_div(operations.count).unwrap_or(0),
        operations.max_latency_ms
    )
    .expect("a string takes all");
    out
}

/// For `dump`: who would be closed when, if he stayed silent.
pub(super) async fn expiry(paper: &mut Paper<'_>, clients: &Clients) -> Result<(), AnswerError> {
    let mut buckets: BTreeMap<Instant, Vec<Arc<Figures>>> = BTreeMap::new();
    let list = clients.registry.list();
    let count = list.len();
    for (_, figures) in list {
        let end = connection::expiry(clients, figures.active(clients.started), figures.timeout());
        buckets.entry(end).or_default().push(figures);
    }
    paper.say(format_args!("Connections Sets ({})/({count}):\n", buckets.len())).await?;
    let (now, wall) = (Instant::now(), SystemTime::now());
    for (end, bucket) in buckets {
        // One that is to be closed at this moment is still listed.
        let left = end.checked_duration_since(now).unwrap_or(Duration::ZERO);
        paper.say(format_args!("{} expire at {}:\n", bucket.len(), java_date(wall + left))).await?;
        for figures in bucket {
            let session = figures.session().map_or(0, |session| session.0);
            let address = java_address(figures.remote);
            paper.say(format_args!("\tip: {address} sessionId: 0x{session:x}\n")).await?;
        }
    }
    Ok(())
}

/// An address as Java prints it: behind a slash, and all eight groups of one of IPv6.
fn java_address(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(v4) => format!("/{v4}"),
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => format!("/{v4}:{}", v6.port()),
            None => {
                let groups = v6.ip().segments().map(|group| format!("{group:x}"));
                format!("/[{}]:{}", groups.join(":"), v6.port())
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_java_s() {
        let address = |text: &str| java_address(text.parse().expect("an address"));
        assert_eq!(address("127.0.0.1:2181"), "/127.0.0.1:2181");
        assert_eq!(address("[::1]:2181"), "/[0:0:0:0:0:0:0:1]:2181");
        assert_eq!(address("[2001:db8::ff00:42]:1"), "/[2001:db8:0:0:0:0:ff00:42]:1");
        assert_eq!(address("[::ffff:10.0.0.7]:9"), "/10.0.0.7:9");
    }
}
