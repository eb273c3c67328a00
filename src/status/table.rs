//! The status as a table for people.

use crate::config::{Cluster, Server};

use super::{Answer, Answers, verdict};

const HEAD: [&str; 9] = ["ID", "ROLE", "STATE", "PHASE", "EPOCH", "LAST ZXID", "SESSIONS", "CLIENT", "ADMIN"];

/// Spaces between columns.
const GAP: usize = 2;

/// Columns that only a running server can fill: state, phase, epoch, zxid, sessions.
const OWN: usize = 5;

struct Row {
    /// Id and role, by configuration.
    who: [String; 2],
    /// What it says itself, or one wide cell with the reason why it says nothing.
    own: Result<[String; OWN], String>,
    /// Client and admin address, by configuration.
    at: [String; 2],
}

/// All servers, a line each, and a last line on the whole.
pub fn table(cluster: &Cluster, answers: &Answers) -> String {
    let head = HEAD.map(String::from);
    let [id, role, own @ .., client, admin] = head;
    let mut rows = vec![Row { who: [id, role], own: Ok(own), at: [client, admin] }];
    rows.extend(answers.iter().map(|(sid, answer)| row(&cluster.servers[sid], answer)));
    let widths = widths(&rows);
    rows.iter().map(|row| line(row, &widths)).collect::<String>() + &verdict(cluster, answers) + "\n"
}

fn row(server: &Server, answer: &Answer) -> Row {
    let admin = server.admin.as_ref().map_or_else(|| "-".to_string(), ToString::to_string);
    let own = match answer {
        Answer::Up(s) => Ok([
            s.state.clone(),
            s.phase.clone(),
            s.epoch.to_string(),
            s.last_zxid.clone(),
            s.sessions.to_string(),
        ]),
        Answer::Down(reason) => Err(format!("down: {reason}")),
    };
    Row {
        who: [server.id.to_string(), server.role_name().to_string()],
        own,
        at: [server.client.to_string(), admin],
    }
}

/// The width of each column. A reason has the room of all own columns, and widens the last if it is longer.
fn widths(rows: &[Row]) -> [usize; HEAD.len()] {
    let mut widths = [0; HEAD.len()];
    for row in rows {
        let own = row.own.iter().flatten();
        let cells = row.who.iter().zip(0..).chain(own.zip(2..)).chain(row.at.iter().zip(2 + OWN..));
        for (cell, column) in cells {
            widths[column] = widths[column].max(cell.chars().count());
        }
    }
    let reasons = rows.iter().filter_map(|row| row.own.as_ref().err());
    let longest = reasons.map(|reason| reason.chars().count()).max().unwrap_or(0);
    widths[2 + OWN - 1] += longest.saturating_sub(room(&widths));
    widths
}

/// What the own columns have together, with the gaps between them.
fn room(widths: &[usize]) -> usize {
    widths[2..2 + OWN].iter().sum::<usize>() + GAP * (OWN - 1)
}

fn line(row: &Row, widths: &[usize]) -> String {
    let cell = |text: &str, width: usize| format!("{text:<w$}", w = width + GAP);
    let cells = |texts: &[String], first: usize| -> String {
        texts.iter().zip(&widths[first..]).map(|(text, width)| cell(text, *width)).collect()
    };
    let own = match &row.own {
        Ok(own) => cells(own, 2),
        Err(reason) => cell(reason, room(widths)),
    };
    let line = cells(&row.who, 0) + &own + &cells(&row.at, 2 + OWN);
    line.trim_end().to_string() + "\n"
}
