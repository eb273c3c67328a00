//! Connections between three servers: in order while they last, and gone with what is under way.
//!
//! A break is noticed by either end in its own time. Until then an end may still get what was under way, packet by
//! packet, and what it sends itself is lost. When both ends know, there is a new connection at once.

use std::collections::VecDeque;

/// How the receiving end sees a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    Up,
    /// It is broken, and this end does not know yet.
    Cut,
    Down,
}

/// One direction: what is under way to a server, and how that server sees the connection.
#[derive(Clone, Debug, Hash)]
struct Pipe<T> {
    end: End,
    queue: VecDeque<T>,
}

/// Connections of three servers, numbered from 0, by receiver and sender.
#[derive(Clone, Debug, Hash)]
pub struct Wires<T> {
    pipes: [[Pipe<T>; 3]; 3],
}

impl<T> Wires<T> {
    /// All are up.
    pub fn new() -> Wires<T> {
        let pipe = |_| Pipe { end: End::Up, queue: VecDeque::new() };
        Wires { pipes: [0, 1, 2].map(|_| [0, 1, 2].map(pipe)) }
    }

    fn pipe(&mut self, from: usize, to: usize) -> &mut Pipe<T> {
        &mut self.pipes[to][from]
    }

    /// How `at` sees its connection to `peer`.
    pub fn end(&self, at: usize, peer: usize) -> End {
        self.pipes[at][peer].end
    }

    /// What is under way, the oldest first.
    pub fn under_way(&self, from: usize, to: usize) -> &VecDeque<T> {
        &self.pipes[to][from].queue
    }

    /// Lost, if the connection is broken.
    pub fn send(&mut self, from: usize, to: usize, packet: T) {
        let pipe = self.pipe(from, to);
        if pipe.end == End::Up {
            pipe.queue.push_back(packet);
        }
    }

    pub fn receive(&mut self, from: usize, to: usize) -> T {
        self.pipe(from, to).queue.pop_front().expect("something is under way")
    }

    /// Forgets what the receiver would not look at.
    pub fn retain(&mut self, from: usize, to: usize, keep: impl FnMut(&T) -> bool) {
        self.pipe(from, to).queue.retain(keep);
    }

    pub fn is_up(&self, a: usize, b: usize) -> bool {
        self.end(a, b) == End::Up && self.end(b, a) == End::Up
    }

    pub fn cut(&mut self, a: usize, b: usize) {
        for (at, peer) in [(a, b), (b, a)] {
            let pipe = self.pipe(peer, at);
            if pipe.end == End::Up {
                pipe.end = End::Cut;
            }
        }
    }

    /// This end knows, and will not see what was still under way.
    pub fn notice(&mut self, at: usize, peer: usize) {
        let pipe = self.pipe(peer, at);
        pipe.end = End::Down;
        pipe.queue.clear();
    }

    /// True: both ends knew that the old connection was gone, and there is a new one.
    pub fn mend(&mut self, a: usize, b: usize) -> bool {
        let both_know = self.end(a, b) == End::Down && self.end(b, a) == End::Down;
        if both_know {
            self.pipe(a, b).end = End::Up;
            self.pipe(b, a).end = End::Up;
        }
        both_know
    }
}
