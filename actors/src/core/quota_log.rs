//! Lines about quotas, kept rare: a client that goes on writing into a full subtree exceeds its quota with every
//! write.

use std::collections::BTreeMap;

use crate::core::quota::{Kind, Remark};
use crate::types::{Millis, Str};

/// The same quota is written about again after this time, in ms. (Apache repeats the same line every 100 ms, and one
/// with another number at once.)
const REPEAT_AFTER_MS: Millis = 10_000;

/// Quotas remembered; when there are more, all are forgotten and may be written about anew.
const REMEMBERED: usize = 1000;

/// See the module's story.
#[derive(Debug, Default)]
pub struct QuotaLog {
    said: BTreeMap<(Str, Option<Kind>), Said>,
}

#[derive(Debug)]
struct Said {
    at: Millis,
    /// Lines left out since then.
    left_out: u64,
}

impl QuotaLog {
    /// The line to write now, if any, and how many like it have been left out since the last one.
    pub fn line(&mut self, now: Millis, remark: &Remark) -> Option<(String, u64)> {
        let (quota, kind) = match remark {
            Remark::Exceeded { excess, .. } => (&excess.quota, Some(excess.kind)),
            Remark::Unreadable(quota) => (quota, None),
        };
        let key = (quota.clone(), kind);
        if let Some(said) = self.said.get_mut(&key).filter(|said| now < said.at + REPEAT_AFTER_MS) {
            said.left_out += 1;
            return None;
        }
        if self.said.len() == REMEMBERED && !self.said.contains_key(&key) {
            self.said.clear();
        }
        let before = self.said.insert(key, Said { at: now, left_out: 0 });
        let line = match remark {
            Remark::Exceeded { excess, .. } => excess.to_string(),
            Remark::Unreadable(quota) => format!(
                "Quota of {quota} limits nothing: its zookeeper_limits cannot be read; write it as \
                 count=N,bytes=N=;byteHardLimit=N;countHardLimit=N, with -1 for no limit"
            ),
        };
        Some((line, before.map_or(0, |said| said.left_out)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::quota::Excess;

    fn excess(quota: &str, kind: Kind, would_be: i64) -> Remark {
        let excess = Excess { quota: quota.into(), kind, would_be, limit: 3, hard: false };
        Remark::Exceeded { excess, refused: false }
    }

    #[test]
    fn a_quota_is_written_about_once_in_a_while() {
        let mut log = QuotaLog::default();
        let line = |n| Some((format!("Quota exceeded: /a [current count={n}, softCountLimit=3]"), 0));
        assert_eq!(log.line(0, &excess("/a", Kind::Count, 4)), line(4));
        for now in 1..100 {
            assert_eq!(log.line(now, &excess("/a", Kind::Count, 5)), None);
        }
        assert!(log.line(50, &excess("/a", Kind::Bytes, 4)).is_some(), "another kind");
        assert!(log.line(50, &excess("/b", Kind::Count, 4)).is_some(), "another quota");
        assert!(log.line(50, &Remark::Unreadable("/a".into())).is_some(), "another matter");
        let (_, left_out) = log.line(REPEAT_AFTER_MS, &excess("/a", Kind::Count, 6)).expect("it is time");
        assert_eq!(left_out, 99);
        assert_eq!(log.line(2 * REPEAT_AFTER_MS, &excess("/a", Kind::Count, 7)), line(7));
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let mut log = QuotaLog::default();
        for n in 0..3 * REMEMBERED {
            assert!(log.line(0, &excess(&format!("/{n}"), Kind::Count, 4)).is_some());
            assert!(log.said.len() <= REMEMBERED);
        }
    }
}
