//! Is there an order in which the operations of one register took effect one after the other, each between its begin
//! and its end, such that every answer was right?
//!
//! The search is Wing and Gong's, with Lowe's memory of what was tried: operations are put in order one by one, always
//! one that had begun when the first of those left ended; if none fits, the last choice is taken back. A set of
//! operations that led to the same content before need not be tried again.
//!
//! An operation of unknown outcome may take its place at any time after its begin, or none. It has no end, so it holds
//! up nobody; and as soon as all the others are in order, it is no longer needed.

use std::collections::HashSet;

/// What a register holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// Which value, by number.
    pub value: u32,
    pub version: i32,
}

/// An operation and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// setData. `version` is in the answer, if there was one.
    Write { value: u32, expect: Option<i32>, version: Option<i32> },
    /// setData that was refused because the version was another.
    Refused { expect: i32 },
    /// What was read.
    Read(State),
}

/// When, and what.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub begin: u64,
    /// `None` if the outcome is unknown.
    pub end: Option<u64>,
    pub step: Step,
}

/// What the search has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order.
    Linearizable,
    /// There is none. The longest that was found, and the call that nothing could come before.
    Not { order: Vec<usize>, stuck: usize },
    /// More was tried than is sensible.
    Undecided,
}

/// Choices before the search is given up: some seconds.
const MAX_CHOICES: usize = 20_000_000;

/// What a step makes of a state; `None` if it cannot have happened there.
fn apply(state: State, step: Step) -> Option<State> {
    match step {
        Step::Write { value, expect, version } => {
            let next = state.version + 1;
            let fits = expect.is_none_or(|expect| expect == state.version);
            (fits && version.is_none_or(|version| version == next)).then_some(State { value, version: next })
        }
        Step::Refused { expect } => (expect != state.version).then_some(state),
        Step::Read(read) => (read == state).then_some(state),
    }
}

/// Begins and ends in the order of time, as a list from which an operation can be taken and put back.
struct Timeline {
    /// The call of each event, and whether this is its end.
    events: Vec<(usize, bool)>,
    /// The place of each call's end, if it has one.
    ends: Vec<Option<usize>>,
    /// The neighbours of each event. Place 0 is before the first, the last place behind the last.
    next: Vec<usize>,
    before: Vec<usize>,
}

impl Timeline {
    fn new(calls: &[Call]) -> Timeline {
        let begins = calls.iter().enumerate().map(|(at, call)| (call.begin, false, at));
        let ends = calls.iter().enumerate().filter_map(|(at, call)| Some((call.end?, true, at)));
        // What ends when another begins is taken as if they overlapped: clocks have a grain.
        let mut times: Vec<(u64, bool, usize)> = begins.chain(ends).collect();
        times.sort_unstable();
        let count = times.len();
        let mut timeline = Timeline {
            events: vec![(usize::MAX, false); count + 2],
            ends: vec![None; calls.len()],
            next: (1..=count + 2).collect(),
            before: (0..count + 2).map(|place| place.saturating_sub(1)).collect(),
        };
        for (place, (_, is_end, call)) in (1..).zip(times) {
            timeline.events[place] = (call, is_end);
            if is_end {
                timeline.ends[call] = Some(place);
            }
        }
        timeline
    }

    fn first(&self) -> usize {
        self.next[0]
    }

    fn last(&self) -> usize {
        self.events.len() - 1
    }

    fn unlink(&mut self, place: usize) {
        let (before, next) = (self.before[place], self.next[place]);
        self.next[before] = next;
        self.before[next] = before;
    }

    fn link(&mut self, place: usize) {
        let (before, next) = (self.before[place], self.next[place]);
        self.next[before] = place;
        self.before[next] = place;
    }

    /// Takes a call out, given the place of its begin.
    fn take(&mut self, begin: usize) {
        self.unlink(begin);
        if let Some(end) = self.ends[self.events[begin].0] {
            self.unlink(end);
        }
    }

    /// Puts back the call that was taken last.
    fn put_back(&mut self, begin: usize) {
        if let Some(end) = self.ends[self.events[begin].0] {
            self.link(end);
        }
        self.link(begin);
    }
}

/// Looks for an order.
pub fn check(initial: State, calls: &[Call]) -> Verdict {
    let mut timeline = Timeline::new(calls);
    let mut done = vec![0_u64; calls.len().div_ceil(64)];
    let flip = |done: &mut Vec<u64>, call: usize| done[call / 64] ^= 1 << (call % 64);
    let mut tried: HashSet<(Vec<u64>, State)> = HashSet::new();
    let mut order: Vec<(usize, State)> = Vec::new();
    let mut longest = (Vec::new(), None);
    let mut state = initial;
    let mut place = timeline.first();
    while place != timeline.last() {
        let (call, is_end) = timeline.events[place];
        if is_end {
            // It must be in order before this moment, and nothing makes it fit: the last choice was wrong.
            if longest.1.is_none() || order.len() > longest.0.len() {
                longest = (order.iter().map(|(begin, _)| timeline.events[*begin].0).collect(), Some(call));
            }
            let Some((begin, earlier)) = order.pop() else {
                let (order, stuck) = longest;
                return Verdict::Not { order, stuck: stuck.expect("set above") };
            };
            flip(&mut done, timeline.events[begin].0);
            state = earlier;
            timeline.put_back(begin);
            place = timeline.next[begin];
            continue;
        }
        if tried.len() > MAX_CHOICES {
            return Verdict::Undecided;
        }
        let next = apply(state, calls[call].step).filter(|next| {
            flip(&mut done, call);
            let is_new = tried.insert((done.clone(), *next));
            if !is_new {
                flip(&mut done, call);
            }
            is_new
        });
        match next {
            Some(next) => {
                order.push((place, state));
                state = next;
                timeline.take(place);
                place = timeline.first();
            }
            None => place = timeline.next[place],
        }
    }
    Verdict::Linearizable
}
