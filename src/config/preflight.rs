//! What can be seen before a server starts: are its directories writable, are its ports free?
//!
//! Both may change between this look and the start; the servers check again for themselves. The look is for
//! the operator: one clear line now rather than several processes that fail one after the other.

use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::path::Path;

use rustix::fs::{Access, access};
use zabra_actors::types::Sid;

use super::error::Wrong;
use super::{Address, Cluster, ConfigError, Server};

/// Creates what is missing, and asks the system whether this process may read and write it.
pub(super) fn directories(cluster: &Cluster, sids: &[Sid]) -> Result<(), ConfigError> {
    for sid in sids {
        for (key, dir) in cluster.server(*sid)?.directories() {
            usable(dir).map_err(|e| Wrong {
                file: cluster.file.display().to_string(),
                key: format!("[[server]] id {sid}: {key}"),
                value: Some(format!("{:?}", dir.display().to_string())),
                origin: cluster.overridden.get(&format!("cluster.{key}")).cloned(),
                problem: format!("this directory cannot be used: {e}"),
                remedy: format!(
                    "make it readable and writable for this user, or name another in cluster.{key}"
                ),
            })?;
        }
    }
    Ok(())
}

fn usable(dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    // Listing needs no less than this, and says so if `dir` is no directory.
    std::fs::read_dir(dir)?;
    access(dir, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK)?;
    Ok(())
}

/// Binds each port for a moment.
pub(super) fn ports(cluster: &Cluster, sids: &[Sid]) -> Result<(), ConfigError> {
    for sid in sids {
        let server = cluster.server(*sid)?;
        for (key, address) in server.addresses() {
            cluster.bind(server, key, address)?;
        }
    }
    Ok(())
}

/// Listens on the first of the addresses behind a name that this machine has. A port in use is final: the
/// next address (IPv6 of `localhost`) may be free, and yet clients would reach the other program.
pub(super) fn bind(address: &Address) -> io::Result<TcpListener> {
    let mut last = None;
    for socket in address.resolve()? {
        match TcpListener::bind(socket) {
            Err(e) if e.kind() != ErrorKind::AddrInUse => last = Some(e),
            bound => return bound,
        }
    }
    Err(last.expect("a resolved name has an address"))
}

/// Why an address of a server cannot be listened on, and what to do.
pub(super) fn port_error(
    cluster: &Cluster,
    server: &Server,
    key: &str,
    address: &Address,
    cause: &io::Error,
) -> ConfigError {
    let (problem, remedy) = match cause.kind() {
        ErrorKind::AddrInUse => (
            "this port is in use".to_string(),
            "stop the process that listens there (another zabra?), or choose another port",
        ),
        ErrorKind::AddrNotAvailable => (
            "this address is not of this machine".to_string(),
            "start that server on its own machine: zabra serve --id N",
        ),
        ErrorKind::PermissionDenied => {
            ("this port is not allowed for this user".to_string(), "choose a port above 1023")
        }
        _ => (format!("this address cannot be used: {cause}"), "correct the host name or the address"),
    };
    Wrong {
        file: cluster.file.display().to_string(),
        key: format!("[[server]] id {}: {key}", server.id),
        value: Some(format!("{:?}", address.to_string())),
        origin: None,
        problem,
        remedy: remedy.to_string(),
    }
    .into()
}
