//! How much a connection may have asked for at a time, by what its requests and their answers weigh.

use zabra_actors::types::Op;

/// Bytes of one connection's requests beyond which its socket is left unread until some are answered.
const MAX_BYTES: usize = 4 << 20;

/// Bytes of data that a connection may have asked for; each answer may be as large as a frame. Twice that is below
/// what may wait for a client that reads slowly: answers that are being written, and as many behind them.
const MAX_DATA: usize = 24 << 20;

/// Reads of data that may wait for their answers however large they may be, and however small.
const DATA: std::ops::RangeInclusive<usize> = 4..=256;

/// What the answer to a request may weigh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Little, or no more than the request.
    Small,
    /// The data of a znode, which is the tree's own as long as it stays there.
    Data,
    /// A list of any length, made for this answer, or a walk over any number of znodes.
    List,
}

impl Answer {
    /// To this operation.
    pub(super) fn to(op: &Op) -> Answer {
        match op {
            Op::GetData { .. } => Answer::Data,
            Op::GetChildren { .. }
            | Op::GetAcl { .. }
            | Op::GetEphemerals { .. }
            | Op::GetAllChildrenNumber { .. }
            | Op::MultiRead(_)
            | Op::WhoAmI => Answer::List,
            _ => Answer::Small,
        }
    }
}

/// What a connection has asked for, or may still ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    bytes: usize,
    small: usize,
    data: usize,
    lists: usize,
}

impl Load {
    /// One more request of that size.
    pub(super) fn add(&mut self, answer: Answer, size: usize) {
        self.bytes += size;
        *self.of(answer) += 1;
    }

    /// One less.
    pub(super) fn remove(&mut self, answer: Answer, size: usize) {
        self.bytes -= size;
        *self.of(answer) -= 1;
    }

    /// Requests.
    pub(super) fn requests(&self) -> usize {
        self.small + self.data + self.lists
    }

    /// Is there room for one more? Whoever waits for nothing may always ask one thing. `max_frame`: what data may
    /// weigh.
    pub(super) fn has_room(&self, answer: Answer, size: usize, max_frame: usize) -> bool {
        let few = match answer {
            Answer::Small => true,
            Answer::Data => self.data < (MAX_DATA / max_frame).clamp(*DATA.start(), *DATA.end()),
            Answer::List => self.lists == 0,
        };
        self.requests() == 0 || few && self.bytes + size <= MAX_BYTES
    }

    fn of(&mut self, answer: Answer) -> &mut usize {
        match answer {
            Answer::Small => &mut self.small,
            Answer::Data => &mut self.data,
            Answer::List => &mut self.lists,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of a kind and size have room.
    fn room_for(answer: Answer, size: usize, max_frame: usize) -> usize {
        let mut load = Load::default();
        while load.has_room(answer, size, max_frame) && load.requests() < 10_000 {
            load.add(answer, size);
        }
        load.requests()
    }

    #[test]
    fn small_requests_are_as_many_as_one_likes() {
        assert_eq!(room_for(Answer::Small, 20, 1 << 20), 10_000);
    }

    #[test]
    fn large_requests_are_few() {
        assert_eq!(room_for(Answer::Small, 1 << 20, 1 << 20), 4);
        assert_eq!(room_for(Answer::Small, 32 << 20, 32 << 20), 1, "one is always allowed");
    }

    #[test]
    fn data_is_asked_for_as_its_size_allows() {
        assert_eq!(room_for(Answer::Data, 20, 1_048_575), 24);
        assert_eq!(room_for(Answer::Data, 20, 32 << 20), 4);
        assert_eq!(room_for(Answer::Data, 20, 1024), 256);
    }

    #[test]
    fn one_list_at_a_time_and_others_beside_it() {
        assert_eq!(room_for(Answer::List, 20, 1 << 20), 1);
        let mut load = Load::default();
        load.add(Answer::List, 20);
        assert!(load.has_room(Answer::Data, 20, 1 << 20) && load.has_room(Answer::Small, 20, 1 << 20));
        load.add(Answer::Small, 20);
        load.remove(Answer::List, 20);
        assert!(load.has_room(Answer::List, 20, 1 << 20));
        load.remove(Answer::Small, 20);
        assert_eq!(load, Load::default());
    }
}
