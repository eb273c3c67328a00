//! Quotas: what a subtree may hold, what it holds, and whether a change would be too much.
//!
//! The quota of `/a/b` is in two znodes, `/zookeeper/quota/a/b/zookeeper_limits`, which clients write, and
//! `.../zookeeper_stats` beside it, which the servers do. Both are text of the form `count=4,bytes=5`, with further
//! keys behind a stray `=` that parsers of before 3.5 need: `count=-1,bytes=-1=;byteHardLimit=10;countHardLimit=4`.
//! A limit of -1 is none. Above a soft limit there is a line in the log; a hard one is enforced, where that is
//! switched on. A kind with a hard limit is not held against its soft one.

use std::fmt;
use std::ops::{AddAssign, Neg};

use crate::types::Str;

/// The name of the znode with the limits.
pub const LIMITS: &str = "zookeeper_limits";
/// The name of the znode with the usage.
pub const STATS: &str = "zookeeper_stats";

/// What a subtree holds, or by how much that changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Znodes, its top included.
    pub count: i64,
    /// Bytes of their data.
    pub bytes: i64,
}

impl Usage {
    /// None at all, or no change.
    pub const NONE: Usage = Usage { count: 0, bytes: 0 };

    /// One znode more, with so many bytes of data.
    pub fn of_one(data_len: usize) -> Usage {
        Usage { count: 1, ..Usage::of_data(0, data_len) }
    }

    /// The same znodes, and one of them has more or less data.
    pub fn of_data(before: usize, after: usize) -> Usage {
        // Both are sizes of something in memory.
        Usage { count: 0, bytes: after as i64 - before as i64 }
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, more: Usage) {
        self.count += more.count;
        self.bytes += more.bytes;
    }
}

impl Neg for Usage {
    type Output = Usage;

    fn neg(self) -> Usage {
        Usage { count: -self.count, bytes: -self.bytes }
    }
}

/// The text of a `zookeeper_stats`.
impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "count={},bytes={}", self.count, self.bytes)
    }
}

/// Two limits of one kind; `None` where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// Above it there is a warning, unless there is a hard limit.
    pub soft: Option<i64>,
    /// Above it there is an error.
    pub hard: Option<i64>,
}

/// What a `zookeeper_limits` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Of znodes.
    pub count: Limit,
    /// Of bytes of data.
    pub bytes: Limit,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Znodes.
    Count,
    /// Bytes of data.
    Bytes,
}

/// A change that would exceed, or exceeds, a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excess {
    /// The top of the subtree.
    pub quota: Str,
    /// Of what there is too much.
    pub kind: Kind,
    /// How much there would be.
    pub would_be: i64,
    /// How much there may be.
    pub limit: i64,
    /// Is it the hard limit?
    pub hard: bool,
}

/// What operators should know of a quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remark {
    /// A limit is exceeded by a write.
    Exceeded {
        /// Which, and by how much.
        excess: Excess,
        /// Has the write failed for it?
        refused: bool,
    },
    /// The limits of the quota on this path cannot be read, so they limit nothing.
    Unreadable(Str),
}

/// In Apache's words, which operators search for.
impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Excess { quota, kind, would_be, limit, hard } = self;
        let (what, limit_of) = match kind {
            Kind::Count => ("count", "CountLimit"),
            Kind::Bytes => ("bytes", "ByteLimit"),
        };
        let strength = if *hard { "hard" } else { "soft" };
        write!(f, "Quota exceeded: {quota} [current {what}={would_be}, {strength}{limit_of}={limit}]")
    }
}

/// The top-most name of a path, by which figures of quotas are labelled.
pub fn namespace(path: &str) -> &str {
    path.trim_start_matches('/').split('/').next().unwrap_or_default()
}

impl Limits {
    /// Reads a `zookeeper_limits`, as Apache does: pairs between runs of `,` and `;`, of which the first two parts
    /// between `=` count. `None` when it cannot be read; then it limits nothing. (Apache refuses every write below
    /// with a MarshallingError.)
    pub fn parse(data: Option<&[u8]>) -> Option<Limits> {
        let text = String::from_utf8_lossy(data?);
        if text.starts_with([',', ';']) {
            return None;
        }
        let mut limits = Limits::default();
        for pair in text.split([',', ';']).filter(|pair| !pair.is_empty()) {
            let mut parts = pair.trim_end_matches('=').split('=');
            let (key, value) = (parts.next()?, parts.next()?);
            let value: i64 = if value.is_empty() { -1 } else { value.parse().ok()? };
            let limit = (value > -1).then_some(value);
            match key {
                "count" => limits.count.soft = limit,
                "bytes" => limits.bytes.soft = limit,
                "countHardLimit" => limits.count.hard = limit,
                "byteHardLimit" => limits.bytes.hard = limit,
                _ => {}
            }
        }
        Some(limits)
    }

    /// The limit that counts for each kind, -1 where there is none: of znodes, of bytes.
    pub fn that_count(&self) -> (i64, i64) {
        let of = |limit: Limit| limit.hard.or(limit.soft).unwrap_or(-1);
        (of(self.count), of(self.bytes))
    }

    /// What is exceeded when `more` is added to what is `used`: znodes first. A kind that does not change is not
    /// looked at, and one that shrinks is: it may still be too much.
    pub fn exceeded(&self, quota: &Str, used: Usage, more: Usage) -> Vec<Excess> {
        let kinds = [
            (Kind::Count, self.count, used.count, more.count),
            (Kind::Bytes, self.bytes, used.bytes, more.bytes),
        ];
        let excess = |(kind, limit, used, more): (Kind, Limit, i64, i64)| {
            let (limit, hard) = match limit {
                Limit { hard: Some(limit), .. } => (limit, true),
                Limit { soft: Some(limit), hard: None } => (limit, false),
                Limit { soft: None, hard: None } => return None,
            };
            let would_be = used + more;
            let is_over = more != 0 && would_be > limit;
            is_over.then(|| Excess { quota: quota.clone(), kind, would_be, limit, hard })
        };
        kinds.into_iter().filter_map(excess).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<[i64; 4]> {
        let Limits { count, bytes } = Limits::parse(Some(text.as_bytes()))?;
        Some([count.soft, bytes.soft, count.hard, bytes.hard].map(|limit| limit.unwrap_or(-1)))
    }

    #[test]
    fn limits_are_read_as_apache_does() {
        let good = [
            ("", [-1, -1, -1, -1]),
            ("count=4,bytes=5", [4, 5, -1, -1]),
            ("count=-1,bytes=-1=;byteHardLimit=10;countHardLimit=4", [-1, -1, 4, 10]),
            ("bytes=0;,;count=+7,", [7, 0, -1, -1]),
            ("count==3", [-1, -1, -1, -1]),
            ("count=1,count=2,other=9", [2, -1, -1, -1]),
            ("count=3=4=5", [3, -1, -1, -1]),
        ];
        for (text, limits) in good {
            assert_eq!(parse(text), Some(limits), "{text:?}");
        }
        let bad = ["x", "count=", "count=,bytes=7", "count=x", "count= 3", ",count=3", "other=x", "\u{fffd}"];
        for text in bad.into_iter().chain(["count=9223372036854775808"]) {
            assert_eq!(parse(text), None, "{text:?}");
        }
        assert_eq!(Limits::parse(None), None);
    }

    #[test]
    fn usage_is_written_as_apache_does() {
        assert_eq!(Usage { count: 4, bytes: 20 }.to_string(), "count=4,bytes=20");
    }

    fn exceeded(limits: &str, used: (i64, i64), more: (i64, i64)) -> Vec<String> {
        let limits = Limits::parse(Some(limits.as_bytes())).expect("limits");
        let usage = |(count, bytes)| Usage { count, bytes };
        limits.exceeded(&"/a".into(), usage(used), usage(more)).iter().map(Excess::to_string).collect()
    }

    #[test]
    fn the_hard_limit_of_a_kind_is_the_one_that_counts() {
        let none: [&str; 0] = [];
        let soft = "Quota exceeded: /a [current count=4, softCountLimit=3]";
        let hard = "Quota exceeded: /a [current bytes=21, hardByteLimit=20]";
        assert_eq!(exceeded("count=3,bytes=9", (2, 8), (1, 1)), none, "up to the limit");
        assert_eq!(exceeded("count=3", (3, 0), (1, 0)), [soft]);
        assert_eq!(
            exceeded("count=3=;countHardLimit=9", (3, 0), (1, 0)),
            none,
            "the soft one is not looked at"
        );
        assert_eq!(exceeded("count=3,bytes=1=;byteHardLimit=20", (3, 19), (1, 2)), [soft, hard]);
        assert_eq!(exceeded("countHardLimit=0", (0, 0), (1, 0)).len(), 1, "0 is a limit");
        assert_eq!(exceeded("byteHardLimit=5", (1, 20), (0, -3)).len(), 1, "less, and still too much");
        assert_eq!(exceeded("byteHardLimit=5", (1, 20), (0, 0)), none, "unchanged");
        assert_eq!(exceeded("", (9, 9), (9, 9)), none);
    }

    #[test]
    fn the_namespace_is_the_top_most_name() {
        assert_eq!(["/a/b", "/a", "/", ""].map(namespace), ["a", "a", "", ""]);
    }
}
