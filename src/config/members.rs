//! The members of the ensemble as Apache writes them: what clients read in `/zookeeper/config`.
//!
//! ```text
//! server.1=127.0.0.1:2888:3888:participant;127.0.0.1:2181
//! version=0
//! ```
//!
//! The two ports are those of the quorum and of elections. Here one link carries both, and nothing listens on the
//! second. It is named since Apache's clients refuse a line without it, or with two equal ports.
//! The version is 0: it counts reconfigurations, and there are none.

use std::collections::BTreeMap;
use std::fmt::Write;

use zabra_actors::types::Membership;

use super::{Cluster, Server};

/// A line for each server, then those of groups and weights if the quorum has any, then the version.
pub(super) fn text(cluster: &Cluster) -> String {
    let mut lines = String::new();
    for server in cluster.servers.values() {
        let Server { id, peer, client, .. } = server;
        let election = election_port(peer.port);
        line(&mut lines, format_args!("server.{id}={peer}:{election}:{};{client}", server.role_name()));
    }
    let participants = || cluster.servers.values().filter(|server| server.role == Membership::Participant);
    if participants().any(|server| (server.group, server.weight) != (0, 1)) {
        let mut groups = BTreeMap::<u32, Vec<String>>::new();
        participants().for_each(|server| groups.entry(server.group).or_default().push(server.id.to_string()));
        for (group, ids) in groups {
            line(&mut lines, format_args!("group.{group}={}", ids.join(":")));
        }
        for server in participants() {
            line(&mut lines, format_args!("weight.{}={}", server.id, server.weight));
        }
    }
    lines + "version=0"
}

/// As far from the quorum's port as in Apache's examples (2888 and 3888), and a port.
fn election_port(quorum: u16) -> u16 {
    quorum.checked_add(1000).unwrap_or(quorum - 1000)
}

fn line(lines: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(lines, "{text}").expect("a string takes all that is written");
}
