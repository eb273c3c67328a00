//! Commands about the session and the ensemble.

use bytes::Bytes;
use serde_json::json;

use super::{Work, about};
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::cli::reconfig::{self, Change, Members};
use crate::client::{Reconfig, Stat};

/// The znode of the configuration, as it is called in errors.
const CONFIG: &str = "/zookeeper/config";

impl Work<'_> {
    pub(super) async fn add_auth(&self, scheme: &str, auth: Option<String>) -> Result<(), Failure> {
        self.client.add_auth(scheme, auth.unwrap_or_default()).await.map_err(about(""))?;
        self.put(Output::Done { json: json!({ "scheme": scheme }) })
    }

    pub(super) async fn who_am_i(&self) -> Result<(), Failure> {
        let ids = self.client.who_am_i().await.map_err(about(""))?;
        self.put(Output::Identities { ids })
    }

    pub(super) async fn get_ephemerals(&self, path: &str) -> Result<(), Failure> {
        let mut paths = self.client.get_ephemerals(path).await.map_err(about(path))?;
        paths.sort_unstable();
        let paths: Vec<&str> = paths.iter().map(|path| &**path).collect();
        self.put(Output::Line {
            text: format!("[{}]", paths.join(", ")),
            json: json!({ "path": path, "ephemerals": paths }),
        })
    }

    pub(super) async fn get_all_children_number(&self, path: &str) -> Result<(), Failure> {
        let count = self.client.get_all_children_number(path).await.map_err(about(path))?;
        let json = json!({ "path": path, "all_children_number": count });
        self.put(Output::Line { text: count.to_string(), json })
    }

    pub(super) async fn config(&self, brief: bool, watch: bool, with_stat: bool) -> Result<(), Failure> {
        let (data, stat) = self.client.get_config(watch).await.map_err(about(CONFIG))?;
        let config = text(data);
        let shown = if brief { reconfig::client_view(&config) } else { config.clone() };
        let json = json!({ "config": config, "clients": reconfig::client_view(&config) });
        self.put(Output::Line { text: shown, json })?;
        self.stat_if(with_stat, stat)
    }

    pub(super) async fn reconfig(&self, change: Change) -> Result<(), Failure> {
        let mut wish = Reconfig { version: change.version, ..Reconfig::default() };
        let members = match &change.members {
            Members::File(path) => {
                let bad = |why: String| Failure::new(format!("Error processing {}: {why}", path.display()));
                let text = std::fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
                Some(reconfig::members_of_file(&text).map_err(bad)?)
            }
            Members::All(members) => Some(members.clone()),
            Members::Step { joining, leaving } => {
                (wish.joining, wish.leaving) = (joining.as_deref(), leaving.as_deref());
                None
            }
        };
        wish.new_members = members.as_deref();
        let (data, stat) = self.client.reconfig(wish).await.map_err(about(""))?;
        let config = text(data);
        let json = json!({ "config": config });
        self.put(Output::Line { text: format!("Committed new configuration:\n{config}"), json })?;
        self.stat_if(change.stat, stat)
    }

    fn stat_if(&self, wanted: bool, stat: Stat) -> Result<(), Failure> {
        match wanted {
            true => self.put(Output::Stat { path: CONFIG.into(), stat, aloud: true }),
            false => Ok(()),
        }
    }
}

fn text(data: Option<Bytes>) -> String {
    data.map_or_else(|| "null".into(), |data| String::from_utf8_lossy(&data).into_owned())
}
