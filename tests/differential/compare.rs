//! Two transcripts of a script, step by step, up to the first difference that no rule explains.

use std::collections::BTreeMap;
use std::fmt;

use super::decode::Seen;
use super::model::Model;
use super::normalise::{self, Shown};
use super::play::Transcript;
use super::rules::{RULES, View};
use super::script::{Conn, Script};

/// How often each rule was needed.
pub type Hits = BTreeMap<&'static str, usize>;

/// What differs first.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The number of the step, from 0.
    pub step: usize,
    pub conn: Conn,
    pub apache: Vec<Seen>,
    pub zabra: Vec<Seen>,
}

/// Compares what both sides showed.
pub fn compare(
    script: &Script,
    apache: &Transcript,
    zabra: &Transcript,
    hits: &mut Hits,
) -> Option<Difference> {
    let spans = spans(zabra);
    let (apache, zabra) = (normalise::normalise(script, apache), normalise::normalise(script, zabra));
    let mut model = Model::default();
    for (n, (step, (mut left, mut right))) in
        script.steps.iter().zip(apache.into_iter().zip(zabra)).enumerate()
    {
        model.learn(step, &left);
        let mut view = View { step, apache: &mut left, zabra: &mut right, model: &mut model, span: spans[n] };
        for rule in RULES {
            *hits.entry(rule.name).or_default() += rule.apply(&mut view);
        }
        if let Some((conn, apache, zabra)) = first(&left, &right) {
            return Some(Difference { step: n, conn, apache, zabra });
        }
    }
    None
}

/// The normalised zxids before and after each step.
fn spans(transcript: &Transcript) -> Vec<(i64, i64)> {
    let after = normalise::applied(transcript);
    let before = std::iter::once(1).chain(after.iter().copied());
    before.zip(after.iter().copied()).collect()
}

fn first(apache: &Shown, zabra: &Shown) -> Option<(Conn, Vec<Seen>, Vec<Seen>)> {
    let conns = apache.keys().chain(zabra.keys());
    let of = |shown: &Shown, conn: &Conn| shown.get(conn).cloned().unwrap_or_default();
    conns.map(|conn| (*conn, of(apache, conn), of(zabra, conn))).find(|(_, apache, zabra)| apache != zabra)
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "step {}, connection {}:", self.step + 1, self.conn)?;
        for n in 0..self.apache.len().max(self.zabra.len()) {
            let (apache, zabra) = (self.apache.get(n), self.zabra.get(n));
            if apache == zabra {
                writeln!(f, "    both    {}", line(apache))?;
            } else {
                writeln!(f, "    apache  {}", line(apache))?;
                writeln!(f, "    zabra   {}", line(zabra))?;
            }
        }
        Ok(())
    }
}

fn line(seen: Option<&Seen>) -> String {
    seen.map_or("-".to_string(), |seen| format!("{seen:?}"))
}
