//! What only the whole configuration can show: is there anybody to decide, and can they?

use zabra_actors::types::Membership;

use super::Cluster;
use super::error::ConfigError;
use super::load::Merged;

/// Faults of the whole.
pub(super) fn check(cluster: &Cluster, merged: &Merged) -> Result<(), ConfigError> {
    if cluster.servers.is_empty() {
        return Err(
            merged.wrong("[[server]]: there is no server", "add [[server]] with id, client, peer and admin")
        );
    }
    if voters(cluster) == 0 {
        let problem = "[[server]] role: every server is an observer, so nobody could elect a leader";
        return Err(merged.wrong(problem, r#"give one server, better three, role = "participant""#));
    }
    let (first, _) = cluster.servers.first_key_value().expect("looked at just before");
    let ensemble = cluster.ensemble(*first);
    if !ensemble.contains_quorum(&ensemble.voters().collect()) {
        let problem = "[[server]] weight: every participant has weight 0, so no set of servers is a quorum";
        return Err(merged.wrong(problem, "give the participants a weight of 1, or leave it out"));
    }
    Ok(())
}

/// What is allowed and yet probably not meant.
pub(super) fn warnings(cluster: &Cluster) -> Vec<String> {
    let voters = voters(cluster);
    let file = cluster.file.display();
    let mut lines = Vec::new();
    if cluster.client.read_only_mode && cluster.servers.len() == 1 {
        let line = "a single server is never cut off from the others, so it is never read-only";
        lines.push(format!("{file}: client.read_only_mode: {line}"));
    }
    let line = match voters {
        1 => "one participant: the service stops with it; three survive the loss of one".to_string(),
        n if n % 2 == 0 => {
            let (lose, fewer) = ((n - 1) / 2, n - 1);
            format!("{n} participants survive the loss of {lose}, as {fewer} do; take an odd number")
        }
        _ => return lines,
    };
    lines.push(format!("{file}: [[server]] role: {line}"));
    lines
}

fn voters(cluster: &Cluster) -> usize {
    cluster.servers.values().filter(|server| server.role == Membership::Participant).count()
}
