//! Carries commands out on a client and prints what comes of them.

mod admin;
mod nodes;
mod quotas;
mod tree;

use super::command::Command;
use super::failure::Failure;
use super::output::Output;
use super::printer::Printer;
use crate::client::{Client, Error};

/// Carries out a command that needs a session. Those of the shell itself are the shell's.
pub async fn run(command: Command, client: &Client, printer: &Printer) -> Result<(), Failure> {
    let work = Work { client, printer };
    match command {
        Command::AddWatch { path, mode } => work.add_watch(&path, mode).await,
        Command::AddAuth { scheme, auth } => work.add_auth(&scheme, auth).await,
        Command::Config { brief, watch, stat } => work.config(brief, watch, stat).await,
        Command::Create { path, data, acl, kind } => work.create(&path, data, acl, kind).await,
        Command::Delete { path, version } => work.delete(&path, version).await,
        Command::DeleteAll { path, batch } => work.delete_all(&path, batch).await,
        Command::DelQuota { path, limits } => work.del_quota(&path, &limits).await,
        Command::Get { path, form, watch, stat } => work.get(path, form, watch, stat).await,
        Command::GetAcl { path, stat } => work.get_acl(path, stat).await,
        Command::GetAllChildrenNumber { path } => work.get_all_children_number(&path).await,
        Command::GetEphemerals { path } => work.get_ephemerals(&path).await,
        Command::ListQuota { path } => work.list_quota(&path).await,
        Command::Ls { path, watch, stat } => work.ls(path, watch, stat).await,
        Command::LsAll { path, watch } => work.ls_all(&path, watch).await,
        Command::Reconfig(change) => work.reconfig(change).await,
        Command::RemoveWatches { path, kind, local } => work.remove_watches(&path, kind, local).await,
        Command::Set { path, data, version, stat } => work.set(path, data, version, stat).await,
        Command::SetAcl { path, acl, version, stat } => work.set_acl(path, acl, version, stat).await,
        Command::SetAclAll { path, acl, version } => work.set_acl_all(&path, &acl, version).await,
        Command::SetQuota { path, limit, value } => work.set_quota(&path, limit, value).await,
        Command::Stat { path, watch } => work.stat(path, watch).await,
        Command::Sync { path } => work.sync(&path).await,
        Command::WhoAmI => work.who_am_i().await,
        Command::Close
        | Command::Connect { .. }
        | Command::Help { .. }
        | Command::History
        | Command::PrintWatches { .. }
        | Command::Quit
        | Command::Redo { .. }
        | Command::Version => unreachable!("the shell does these itself"),
    }
}

/// What can be done of a command when no server can be reached: nothing, as a rule.
pub fn without_server(command: &Command, client: &Client, printer: &Printer) -> Option<Result<(), Failure>> {
    match command {
        Command::RemoveWatches { path, kind, local: true } => {
            Some(Work { client, printer }.forget(path, *kind))
        }
        _ => None,
    }
}

/// What the commands have in common.
struct Work<'a> {
    client: &'a Client,
    printer: &'a Printer,
}

impl Work<'_> {
    fn put(&self, output: Output) -> Result<(), Failure> {
        self.printer.put(&output)
    }
}

/// The failure of a request about a path.
fn about(path: &str) -> impl Fn(Error) -> Failure {
    move |error| Failure::of(&error, path)
}
