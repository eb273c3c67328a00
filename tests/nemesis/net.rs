//! A network of the test's own: a bridge, on whose side the clients are, and a network namespace for each server.
//!
//! Between two servers packets are lost by a neighbour entry with an address that nobody has: they go out and arrive
//! nowhere, as in a real network that is cut; in one direction if so wanted. Nobody is told of it, unlike with a route
//! that refuses. A link that is down cuts a server off from clients, too.

use std::net::Ipv4Addr;

use super::sandbox::run;

/// The last part of the bridge's address.
const BRIDGE: u8 = 254;

/// A hardware address that no interface has.
const NOWHERE: &str = "02:00:00:00:00:ff";

/// The address of a server.
pub fn address(sid: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, sid)
}

/// The namespace of a server, as a file.
pub fn namespace(sid: u8) -> String {
    format!("/run/netns/s{sid}")
}

fn ip(words: &str) -> Result<(), String> {
    let words: Vec<&str> = ["ip"].into_iter().chain(words.split_whitespace()).collect();
    run(&words)
}

/// Makes the network. Only inside of the sandbox.
///
/// # Errors
///
/// The command that did not work.
pub fn make(servers: u8) -> Result<(), String> {
    run(&["mount", "-t", "tmpfs", "none", "/run"])?;
    ip("link set lo up")?;
    ip("link add bridge type bridge")?;
    ip(&format!("addr add {}/24 dev bridge", address(BRIDGE)))?;
    ip("link set bridge up")?;
    for sid in 1..=servers {
        ip(&format!("netns add s{sid}"))?;
        ip(&format!("link add port{sid} type veth peer name eth0 netns s{sid}"))?;
        ip(&format!("link set port{sid} master bridge up"))?;
        ip(&format!("-n s{sid} addr add {}/24 dev eth0", address(sid)))?;
        ip(&format!("-n s{sid} link set eth0 up"))?;
        ip(&format!("-n s{sid} link set lo up"))?;
    }
    Ok(())
}

/// From now on what `from` sends to `to` is lost.
///
/// # Errors
///
/// The command that did not work.
pub fn lose(from: u8, to: u8) -> Result<(), String> {
    ip(&format!("-n s{from} neigh replace {} lladdr {NOWHERE} dev eth0 nud permanent", address(to)))
}

/// What `from` sends to `to` arrives again.
///
/// # Errors
///
/// The command that did not work.
pub fn deliver(from: u8, to: u8) -> Result<(), String> {
    ip(&format!("-n s{from} neigh del {} dev eth0", address(to)))
}

/// Takes a server off the network, or brings it back.
///
/// # Errors
///
/// The command that did not work.
pub fn plug(sid: u8, is_in: bool) -> Result<(), String> {
    ip(&format!("link set port{sid} {}", if is_in { "up" } else { "down" }))
}
