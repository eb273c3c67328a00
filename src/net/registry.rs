//! Who is connected: for the limits on connections, and for operators.
//!
//! An entry lives as long as its [`Admitted`]: however a connection's task ends, it is counted out.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use zabra_actors::stats::Stats;
use zabra_actors::types::ConnId;

use super::figures::Figures;

/// All client connections of this server.
pub(super) struct Registry {
    /// 0 is unlimited.
    max_per_ip: usize,
    /// 0 is unlimited.
    max_total: usize,
    stats: Arc<Stats>,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    last: u64,
    connections: BTreeMap<ConnId, Arc<Figures>>,
    per_ip: HashMap<IpAddr, usize>,
}

/// Why a connection is not wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Excess {
    /// Its address has that many already.
    PerIp(usize),
    /// The server has.
    Total(usize),
}

impl Registry {
    /// Nobody is connected.
    pub(super) fn new(max_per_ip: usize, max_total: usize, stats: Arc<Stats>) -> Registry {
        Registry { max_per_ip, max_total, stats, entries: Mutex::default() }
    }

    /// Counts a connection in and numbers it, unless there are too many.
    pub(super) fn admit(self: &Arc<Registry>, remote: SocketAddr) -> Result<Admitted, Excess> {
        let mut entries = self.entries();
        if self.max_total > 0 && entries.connections.len() >= self.max_total {
            return Err(Excess::Total(self.max_total));
        }
        let of_ip = entries.per_ip.entry(remote.ip()).or_default();
        if self.max_per_ip > 0 && *of_ip >= self.max_per_ip {
            return Err(Excess::PerIp(self.max_per_ip));
        }
        *of_ip += 1;
        entries.last += 1;
        let conn = ConnId(entries.last);
        let figures = Arc::new(Figures::new(remote));
        entries.connections.insert(conn, figures.clone());
        self.stats.num_alive_connections.add(1);
        Ok(Admitted { conn, figures, registry: self.clone() })
    }

    /// Each connection by its number, oldest first.
    pub(super) fn list(&self) -> Vec<(ConnId, Arc<Figures>)> {
        self.entries().connections.iter().map(|(conn, figures)| (*conn, figures.clone())).collect()
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().expect("no holder of this lock panics")
    }
}

/// A connection that is counted; dropping it counts it out.
pub(super) struct Admitted {
    pub(super) conn: ConnId,
    pub(super) figures: Arc<Figures>,
    registry: Arc<Registry>,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut entries = self.registry.entries();
        entries.connections.remove(&self.conn).expect("what was admitted is listed");
        let ip = self.figures.remote.ip();
        let of_ip = entries.per_ip.get_mut(&ip).expect("what was admitted is counted");
        *of_ip -= 1;
        if *of_ip == 0 {
            entries.per_ip.remove(&ip);
        }
        self.registry.stats.num_alive_connections.add(-1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn registry(max_per_ip: usize, max_total: usize) -> Arc<Registry> {
        Arc::new(Registry::new(max_per_ip, max_total, Arc::default()))
    }

    #[test]
    fn an_address_has_its_share_and_gets_it_back() {
        let registry = registry(2, 0);
        let first = registry.admit(at(1)).expect("one");
        let _second = registry.admit(at(2)).expect("two");
        assert_eq!(registry.admit(at(3)).err(), Some(Excess::PerIp(2)));
        registry.admit(SocketAddr::from(([127, 0, 0, 2], 3))).expect("another address");
        drop(first);
        let fourth = registry.admit(at(4)).expect("one went, one comes");
        assert_eq!(fourth.conn, ConnId(4), "numbers are not used twice");
    }

    #[test]
    fn all_together_are_limited_too() {
        let registry = registry(0, 2);
        let both = [registry.admit(at(1)).expect("one"), registry.admit(at(2)).expect("two")];
        assert_eq!(registry.admit(at(3)).err(), Some(Excess::Total(2)));
        assert_eq!((registry.list().len(), registry.stats.num_alive_connections.get()), (2, 2));
        drop(both);
        assert_eq!((registry.list().len(), registry.stats.num_alive_connections.get()), (0, 0));
        assert!(registry.entries().per_ip.is_empty());
    }

    impl std::fmt::Debug for Admitted {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "{:?}", self.conn)
        }
    }
}
