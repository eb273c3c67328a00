//! Quotas as znodes: limits and statistics below `/zookeeper/quota`, in text.

use std::collections::BTreeMap;
use std::fmt;

/// Where quotas are kept, one znode for each of the tree's with two below it.
pub const ROOT: &str = "/zookeeper/quota";
/// The name of the znode with the limits.
pub const LIMITS: &str = "zookeeper_limits";
/// The name of the znode with what is used.
pub const STATS: &str = "zookeeper_stats";

const COUNT: &str = "count";
const BYTES: &str = "bytes";

/// Limits, or what is used: numbers by name. What is not there is -1, as is a limit that is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Track(BTreeMap<String, i64>);

/// One of the four limits of a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// `-n`: znodes, with a warning.
    Count,
    /// `-b`: bytes, with a warning.
    Bytes,
    /// `-N`: znodes, enforced.
    HardCount,
    /// `-B`: bytes, enforced.
    HardBytes,
}

impl Limit {
    /// By the letter of the option.
    pub const BY_OPTION: [(&'static str, Limit); 4] =
        [("n", Limit::Count), ("b", Limit::Bytes), ("N", Limit::HardCount), ("B", Limit::HardBytes)];

    /// What it counts.
    pub fn is_count(self) -> bool {
        matches!(self, Limit::Count | Limit::HardCount)
    }

    fn name(self) -> &'static str {
        match self {
            Limit::Count => COUNT,
            Limit::Bytes => BYTES,
            Limit::HardCount => "countHardLimit",
            Limit::HardBytes => "byteHardLimit",
        }
    }
}

impl Track {
    /// Limits of which none is set.
    pub fn unlimited() -> Track {
        let mut track = Track::default();
        Limit::BY_OPTION.iter().for_each(|(_, limit)| track.set(*limit, -1));
        track
    }

    /// Nothing used yet.
    pub fn unused() -> Track {
        Track([(COUNT.into(), 0), (BYTES.into(), 0)].into())
    }

    /// `count=4,bytes=5=;countHardLimit=10`: commas and semicolons separate, what stands behind a second `=` means
    /// nothing.
    pub fn parse(text: &str) -> Result<Track, String> {
        let mut track = BTreeMap::new();
        for pair in text.split([',', ';']).filter(|pair| !pair.is_empty()) {
            let mut parts = pair.split('=');
            let name = parts.next().expect("split gives at least one part");
            let value = match parts.next() {
                Some("") => Ok(-1),
                Some(number) => number.parse(),
                None => return Err(format!("{pair:?} in a quota is not name=number: {text:?}")),
            };
            let value = value.map_err(|_| format!("{pair:?} in a quota is not name=number: {text:?}"))?;
            track.insert(name.to_string(), value);
        }
        Ok(Track(track))
    }

    /// A number, -1 if there is none.
    pub fn get(&self, limit: Limit) -> i64 {
        self.0.get(limit.name()).copied().unwrap_or(-1)
    }

    /// Sets a number.
    pub fn set(&mut self, limit: Limit, value: i64) {
        self.0.insert(limit.name().into(), value);
    }

    /// What is already above these limits, as warnings.
    pub fn warnings(&self, used: &Track) -> Vec<String> {
        let above = |soft, hard, used: i64| {
            [soft, hard].into_iter().any(|limit| (0..used).contains(&self.get(limit)))
        };
        let (count, bytes) = (used.get(Limit::Count), used.get(Limit::Bytes));
        let mut warnings = Vec::new();
        if above(Limit::Count, Limit::HardCount, count) {
            warnings.push(format!(
                "[Warning]: the count quota you create is less than the existing count:{count}"
            ));
        }
        if above(Limit::Bytes, Limit::HardBytes, bytes) {
            warnings.push(format!(
                "[Warning]: the bytes quota you create is less than the existing bytes:{bytes}"
            ));
        }
        warnings
    }
}

/// The form that the oldest servers read too: count and bytes first, and an empty value that they skip.
impl fmt::Display for Track {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "count={},bytes={}", self.get(Limit::Count), self.get(Limit::Bytes))?;
        let others = self.0.iter().filter(|(name, _)| *name != COUNT && *name != BYTES);
        for (place, (name, value)) in others.enumerate() {
            write!(f, "{};{name}={value}", if place == 0 { "=" } else { "" })?;
        }
        Ok(())
    }
}

/// The znode that holds the quota of a path.
pub fn path(path: &str) -> String {
    format!("{ROOT}{path}")
}

/// The path whose quota a znode holds.
pub fn trim(quota_path: &str) -> &str {
    quota_path.strip_prefix(ROOT).unwrap_or(quota_path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_written_as_apache_writes_them() {
        let mut limits = Track::unlimited();
        limits.set(Limit::Count, 10);
        limits.set(Limit::Bytes, 1000);
        let text = "count=10,bytes=1000=;byteHardLimit=-1;countHardLimit=-1";
        assert_eq!(limits.to_string(), text);
        assert_eq!(Track::parse(text), Ok(limits));
        assert_eq!(Track::unused().to_string(), "count=0,bytes=0");
    }

    #[test]
    fn old_and_odd_forms_are_read() {
        let old = Track::parse("count=4,bytes=-1").unwrap();
        assert_eq!((old.get(Limit::Count), old.get(Limit::HardBytes)), (4, -1));
        assert_eq!(Track::parse("count=,bytes=5").unwrap().get(Limit::Count), -1);
        assert_eq!(Track::parse("").unwrap(), Track::default());
        for bad in ["count", "count=x", "count=1,bytes=99999999999999999999"] {
            assert!(Track::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn limits_below_what_is_used_are_warned_of() {
        let mut limits = Track::unlimited();
        let mut used = Track::unused();
        used.set(Limit::Count, 3);
        used.set(Limit::Bytes, 7);
        assert_eq!(limits.warnings(&used), Vec::<String>::new());
        limits.set(Limit::HardCount, 2);
        limits.set(Limit::Bytes, 7);
        assert_eq!(
            limits.warnings(&used),
            ["[Warning]: the count quota you create is less than the existing count:3"]
        );
        limits.set(Limit::Bytes, 0);
        assert_eq!(limits.warnings(&used).len(), 2);
    }

    #[test]
    fn paths() {
        assert_eq!(path("/a/b"), "/zookeeper/quota/a/b");
        assert_eq!(trim("/zookeeper/quota/a/b"), "/a/b");
    }
}
