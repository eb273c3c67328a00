//! `conf` and `dirs`: how the server was set up, and what it has on its disk.

use std::fs;
use std::path::{Path, PathBuf};

use super::paper::{AnswerError, Paper};
use crate::net::listener::Clients;

/// What `conf` tells, besides what is measured then.
#[derive(Clone, Debug)]
pub struct Conf {
    /// Where clients connect.
    pub client_port: u16,
    /// Where the snapshots are.
    pub data_dir: PathBuf,
    /// Where the logs are.
    pub data_log_dir: PathBuf,
    /// A tick in ms.
    pub tick_ms: u64,
    /// The shortest session time-out in ms.
    pub min_session_timeout_ms: i32,
    /// The longest.
    pub max_session_timeout_ms: i32,
    /// This server.
    pub server_id: u8,
    /// `None` for a server on its own.
    pub quorum: Option<QuorumConf>,
}

/// What a member of an ensemble has to tell besides.
#[derive(Clone, Debug)]
pub struct QuorumConf {
    /// Ticks that Discovery and Synchronization may take.
    pub init_limit: u32,
    /// Ticks that a learner or a quorum may be silent.
    pub sync_limit: u32,
    /// Where the other servers connect, for elections as for everything else.
    pub peer_port: u16,
    /// 0 is a participant, 1 an observer.
    pub peer_type: u8,
    /// `server.N=` lines and `version=`, without an end of line behind the last.
    pub membership: String,
}

/// The configuration.
pub(super) async fn conf(paper: &mut Paper<'_>, clients: &Clients) -> Result<(), AnswerError> {
    let conf = &clients.settings.conf;
    let (data_size, log_size) = sizes(conf).await;
    let (data_dir, log_dir) = (conf.data_dir.display(), conf.data_log_dir.display());
    let max_connections = clients.settings.max_connections_per_ip;
    // Apache's -1 stands for Java's own default.
    let lines = format!(
        "clientPort={}\nsecureClientPort=-1\ndataDir={data_dir}\ndataDirSize={data_size}\n\
         dataLogDir={log_dir}\ndataLogSize={log_size}\ntickTime={}\nmaxClientCnxns={max_connections}\n\
         minSessionTimeout={}\nmaxSessionTimeout={}\nclientPortListenBacklog=-1\nserverId={}\n",
        conf.client_port,
        conf.tick_ms,
        conf.min_session_timeout_ms,
        conf.max_session_timeout_ms,
        conf.server_id
    );
    paper.say(lines).await?;
    let Some(quorum) = &conf.quorum else { return Ok(()) };
    let QuorumConf { init_limit, sync_limit, peer_port, peer_type, membership } = quorum;
    paper
        .say(format_args!(
            "initLimit={init_limit}\nsyncLimit={sync_limit}\nelectionAlg=3\nelectionPort={peer_port}\n\
             quorumPort={peer_port}\npeerType={peer_type}\n"
        ))
        .await?;
    // A server that is cut off does not say whom it belongs to.
    if clients.stats.is_read_only() {
        return Ok(());
    }
    paper.say(format_args!("membership: \n{membership}")).await
}

/// Bytes of the files.
pub(super) async fn dirs(paper: &mut Paper<'_>, clients: &Clients) -> Result<(), AnswerError> {
    let (data, log) = sizes(&clients.settings.conf).await;
    paper.say(format_args!("datadir_size: {data}\nlogdir_size: {log}\n")).await
}

/// Of both directories, in bytes. A disk that hangs keeps a thread of its own waiting and nobody else.
async fn sizes(conf: &Conf) -> (u64, u64) {
    let (data, log) = (conf.data_dir.clone(), conf.data_log_dir.clone());
    let measured = tokio::task::spawn_blocking(move || (size(&data), size(&log))).await;
    measured.unwrap_or_default()
}

/// What the files of a directory hold; what cannot be looked at, or goes away meanwhile, holds nothing.
fn size(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let files = entries.filter_map(|entry| entry.ok()?.metadata().ok()).filter(|file| file.is_file());
    files.map(|file| file.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_as_large_as_its_files() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join("log.1"), [0; 1000]).expect("written");
        fs::write(dir.path().join("snapshot.0"), [0; 24]).expect("written");
        fs::create_dir(dir.path().join("more")).expect("made");
        assert_eq!(size(dir.path()), 1024);
        assert_eq!(size(&dir.path().join("none")), 0);
    }
}
