//! One server of the ensemble, from its configuration to its end. The only place that knows every part.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use actix::System;
use slog::{Logger, info, o, warn};
use zabra_actors::stats::Stats;
use zabra_actors::types::Sid;

use crate::admin::{self, Subject};
use crate::config::{Cluster, ConfigError, Server};
use crate::stop::StopSignals;

/// Why a server ended otherwise than by request.
#[derive(Debug)]
pub enum Failure {
    /// The configuration does not fit this machine.
    Config(ConfigError),
    /// The system refuses something that has nothing to do with the configuration.
    System(io::Error),
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        Failure::Config(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::System(error)
    }
}

/// Runs server `me` until it is asked to stop. `exit_with_stdin`: see [`StopSignals::listen`].
pub fn serve(cluster: Arc<Cluster>, me: Sid, log: Logger, exit_with_stdin: bool) -> Result<(), Failure> {
    cluster.server(me)?;
    cluster.prepare_directories(&[me])?;
    System::new().block_on(run(cluster, me, log, exit_with_stdin))
}

async fn run(cluster: Arc<Cluster>, me: Sid, log: Logger, exit_with_stdin: bool) -> Result<(), Failure> {
    let mut stop = StopSignals::listen(exit_with_stdin)?;
    info!(log, "Starting quorum peer, myid={me}"; "pid" => std::process::id());
    if !exit_with_stdin {
        // Otherwise `up` has said it once for all its servers.
        cluster.announce(&log);
    }
    let stats = Arc::new(Stats::default());
    stats.quorum_size.set(i64::try_from(cluster.ensemble(me).voters().count()).expect("at most 254"));
    if let Some(listener) = bind_admin(&cluster, cluster.server(me)?)? {
        let log = log.new(o!("part" => "admin"));
        info!(log, "Started AdminServer on address {}", listener.local_addr()?);
        let subject = Arc::new(Subject::new(cluster.clone(), me, stats.clone()));
        actix::spawn(async move {
            if let Err(e) = admin::serve(listener, subject, std::future::pending()).await {
                warn!(log, "AdminServer has ended; the server goes on"; "error" => %e);
            }
        });
    }
    let reason = stop.next().await;
    info!(log, "shutting down"; "reason" => reason);
    Ok(())
}

/// The listener of the operators' port, if there is to be one.
fn bind_admin(cluster: &Cluster, server: &Server) -> Result<Option<TcpListener>, ConfigError> {
    let Some(address) = &server.admin else { return Ok(None) };
    cluster.bind(server, "admin", address).map(Some)
}
