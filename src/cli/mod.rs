//! `zabra cli`: Apache's `zkCli.sh` over again, as of 3.9, and what people miss in it.
//!
//! A line goes through small steps that know little of each other:
//!
//! ```text
//! line ─ words ─▶ words ─ getopt, command ─▶ Command ─ exec ─▶ Output ─ printer ─▶ text or JSON
//! ```
//!
//! `words`, `getopt`, `command`, `output`, `format`, `acl`, `quota`, `reconfig`, `completion` are pure. `exec` asks the
//! client (`crate::client`), `shell` holds what lasts from one command to the next, `input` and `editor` read lines on a
//! thread of their own, since that blocks.
//!
//! What differs from Apache's on purpose:
//! - nothing that is typed ends the shell: wrong numbers, wrong base64 and wrong paths are errors like others;
//! - a command that failed has exit code 1, also where Apache's says so and exits with 0 (deleteall, setAcl -R, sync,
//!   setquota, addauth);
//! - the session is closed at the end, so that ephemerals do not linger;
//! - errors of the option parser come without the name of a Java class, errors of a connection with their cause.

mod acl;
mod args;
mod command;
mod completion;
mod editor;
mod exec;
mod failure;
mod format;
mod getopt;
mod input;
mod output;
mod paint;
mod printer;
mod quota;
mod reconfig;
mod shell;
mod table;
mod words;

use std::io::{IsTerminal, Write, stdin, stdout};

use args::{Args, Asked, HELP};
use failure::{FAILED, Failure};
use input::Lines;
use printer::Printer;
use shell::{Mode, Shell};

/// Runs the shell with the words behind `zabra cli`; gives the exit code.
pub async fn run(words: Vec<String>) -> u8 {
    match args::parse(words) {
        Ok(Asked::Help) => {
            // A reader that has seen enough is no failure.
            let _ = stdout().write_all(HELP.as_bytes());
            0
        }
        Ok(Asked::Run(args)) => run_shell(args).await,
        Err(why) => {
            let _ = writeln!(std::io::stderr(), "zabra cli: {why}");
            FAILED
        }
    }
}

async fn run_shell(args: Args) -> u8 {
    let mode = match (args.command.is_empty(), stdin().is_terminal() && stdout().is_terminal()) {
        (false, _) => Mode::OneShot,
        (true, false) => Mode::Script,
        (true, true) => Mode::Terminal,
    };
    let paint = args.color.paint();
    let mut shell = Shell::new(args.clone(), mode, Printer::new(args.json, paint));
    if let Err(failure) = shell.open().await {
        Printer::new(args.json, paint).fail(&failure);
        return failure.code;
    }
    match mode {
        Mode::OneShot => shell.one_shot().await,
        Mode::Script => shell.run(Lines::script(), None).await,
        Mode::Terminal => match editor::start(shell.current(), paint, editor::history_file()) {
            Ok((lines, above)) => shell.run(lines, Some(above)).await,
            Err(error) => {
                Printer::new(args.json, paint).fail(&Failure::new(format!("terminal: {error}")));
                FAILED
            }
        },
    }
}
