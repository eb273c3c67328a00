//! Makes a failing sequence smaller while it goes on failing: fewer steps, fewer connections, fewer requests,
//! simpler arguments.

use std::time::{Duration, Instant};

use super::control;
use super::script::{AclList, Ask, Conn, Op, Script, Step, Text};

/// Tries at most.
const TRIES: usize = 1500;

/// How long it may take.
const TIME: Duration = Duration::from_secs(120);

/// The smallest sequence found. `fails` plays one and says whether it still shows a difference.
pub fn shrink(script: &Script, mut fails: impl FnMut(&Script) -> bool) -> Script {
    let deadline = Instant::now() + TIME;
    let mut left = TRIES;
    let mut still = |candidate: &Script| {
        left = left.saturating_sub(1);
        left > 0 && Instant::now() < deadline && fails(candidate)
    };
    let mut best = script.clone();
    loop {
        let before = best.clone();
        fewer(
            &mut best,
            &mut still,
            |script| script.steps.len(),
            |script, from, to| {
                script.steps.drain(from..to);
            },
        );
        without_connections(&mut best, &mut still);
        for step in 0..best.steps.len() {
            let asks = |script: &Script| script.steps[step].asks().len();
            fewer(&mut best, &mut still, asks, |script, from, to| {
                if let Some(asks) = script.steps[step].asks_mut() {
                    asks.drain(from..to);
                }
            });
        }
        simpler(&mut best, &mut still);
        if best == before {
            return best;
        }
    }
}

/// Delta debugging: leaves out halves, then quarters, down to single ones.
fn fewer(
    best: &mut Script,
    still: &mut impl FnMut(&Script) -> bool,
    length: impl Fn(&Script) -> usize,
    remove: impl Fn(&mut Script, usize, usize),
) {
    let mut size = length(best).div_ceil(2);
    while size > 0 {
        let mut at = length(best);
        while at > 0 {
            let from = at.saturating_sub(size);
            let mut candidate = best.clone();
            remove(&mut candidate, from, at);
            if still(&candidate) {
                *best = candidate;
            }
            at = from;
        }
        size /= 2;
    }
}

fn without_connections(best: &mut Script, still: &mut impl FnMut(&Script) -> bool) {
    let mut conns: Vec<Conn> = best.steps.iter().filter_map(Step::conn).collect();
    conns.sort_unstable();
    conns.dedup();
    for conn in conns {
        let mut candidate = best.clone();
        candidate.steps.retain(|step| step.conn() != Some(conn));
        if candidate != *best && still(&candidate) {
            *best = candidate;
        }
    }
}

fn simpler(best: &mut Script, still: &mut impl FnMut(&Script) -> bool) {
    for step in 0..best.steps.len() {
        for ask in 0..best.steps[step].asks().len() {
            for change in CHANGES {
                let mut candidate = best.clone();
                change(&mut candidate.steps[step].asks_mut().expect("it has asks")[ask]);
                if candidate != *best && still(&candidate) {
                    *best = candidate;
                }
            }
            members(best, still, step, ask);
        }
    }
}

/// The members of a multi: fewer of them.
fn members(best: &mut Script, still: &mut impl FnMut(&Script) -> bool, step: usize, ask: usize) {
    fn list(script: &mut Script, step: usize, ask: usize) -> Option<&mut Vec<Op>> {
        match &mut script.steps[step].asks_mut()?[ask].op {
            Op::Multi { members } | Op::MultiRead { members } => Some(members),
            _ => None,
        }
    }
    let count = list(best, step, ask).map_or(0, |members| members.len());
    for member in (0..count).rev() {
        let mut candidate = best.clone();
        if let Some(members) = list(&mut candidate, step, ask) {
            members.remove(member);
        }
        if still(&candidate) {
            *best = candidate;
        }
    }
}

/// Ways to make a request simpler.
const CHANGES: &[fn(&mut Ask)] = &[
    |ask| ask.bend = None,
    |ask| ask.op = Op::Ping,
    |ask| {
        each(&mut ask.op, &mut |op| {
            if let Some(acl) = acl(op) {
                *acl = Some(vec![control::open()]);
            }
        })
    },
    |ask| {
        each(&mut ask.op, &mut |op| {
            if let Some(data) = data(op) {
                *data = None;
            }
        })
    },
    |ask| {
        each(&mut ask.op, &mut |op| {
            if let Some(version) = version(op) {
                *version = -1;
            }
        })
    },
    |ask| {
        each(&mut ask.op, &mut |op| {
            if let Some(watch) = watch(op) {
                *watch = false;
            }
        })
    },
    |ask| {
        for list in lists(&mut ask.op) {
            *list = Some(vec![]);
        }
    },
];

fn each(op: &mut Op, change: &mut impl FnMut(&mut Op)) {
    match op {
        Op::Multi { members } | Op::MultiRead { members } => {
            members.iter_mut().for_each(|op| each(op, change))
        }
        op => change(op),
    }
}

fn acl(op: &mut Op) -> Option<&mut AclList> {
    match op {
        Op::Create { acl, .. }
        | Op::Create2 { acl, .. }
        | Op::CreateContainer { acl, .. }
        | Op::CreateTtl { acl, .. }
        | Op::SetAcl { acl, .. } => Some(acl),
        _ => None,
    }
}

fn data(op: &mut Op) -> Option<&mut Text> {
    match op {
        Op::Create { data, .. }
        | Op::Create2 { data, .. }
        | Op::CreateContainer { data, .. }
        | Op::CreateTtl { data, .. }
        | Op::SetData { data, .. } => Some(data),
        _ => None,
    }
}

fn version(op: &mut Op) -> Option<&mut i32> {
    match op {
        Op::Delete { version, .. }
        | Op::SetData { version, .. }
        | Op::SetAcl { version, .. }
        | Op::Check { version, .. } => Some(version),
        _ => None,
    }
}

fn watch(op: &mut Op) -> Option<&mut bool> {
    match op {
        Op::Exists { watch, .. }
        | Op::GetData { watch, .. }
        | Op::GetChildren { watch, .. }
        | Op::GetChildren2 { watch, .. } => Some(watch),
        _ => None,
    }
}

fn lists(op: &mut Op) -> Vec<&mut Option<Vec<Text>>> {
    match op {
        Op::SetWatches { data, exist, child, .. } => vec![data, exist, child],
        Op::SetWatches2 { data, exist, child, persistent, recursive, .. } => {
            vec![data, exist, child, persistent, recursive]
        }
        _ => vec![],
    }
}
