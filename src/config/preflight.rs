//! What can be seen before a server starts: are its directories writable, are its ports free?
//!
//! Both may change between this look and the start; the servers check again for themselves. The look is for
//! the operator: one clear line now rather than several processes that fail one after the other.

use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::path::Path;

use rustix::fs::{Access, access};
use zabra_actors::types::Sid;

use super::{Address, Cluster, ConfigError, Server};

/// Creates what is missing, and asks the system whether this process may read and write it.
pub(super) fn directories(cluster: &Cluster, sids: &[Sid]) -> Result<(), ConfigError> {
    for sid in sids {
        for dir in cluster.server(*sid)?.directories() {
            usable(dir).map_err(|e| ConfigError {
                file: cluster.file.display().to_string(),
                key: format!("[[server]] id {sid}: data_dir"),
                value: Some(format!("{:?}", dir.display().to_string())),
                origin: cluster.overridden.get("cluster.data_dir").cloned(),
                problem: format!("this directory cannot be used: {e}"),
                remedy: "make it readable and writable for this user, or name another in cluster.data_dir".to_string(),
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
            free(address).map_err(|e| port_error(cluster, server, key, address, &e))?;
        }
    }
    Ok(())
}

fn free(address: &Address) -> io::Result<()> {
    for socket in address.resolve()? {
        TcpListener::bind(socket)?;
    }
    Ok(())
}

/// Why an address of a server cannot be listened on, and what to do. Also for the server itself, when its
/// own attempt to listen fails.
pub(crate) fn port_error(
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
    ConfigError {
        file: cluster.file.display().to_string(),
        key: format!("[[server]] id {}: {key}", server.id),
        value: Some(format!("{:?}", address.to_string())),
        origin: None,
        problem,
        remedy: remedy.to_string(),
    }
}
