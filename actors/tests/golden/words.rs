//! A command of a script, in words: `name argument argument key=value`.

use std::sync::Arc;

use zabra_actors::core::history::History;
use zabra_actors::core::leader::Timing;
use zabra_actors::types::{
    Entry, Epoch, Epochs, Millis, SessionId, Sid, Tenure, Txn, TxnBody, TxnHeader, Zxid,
};

/// The limits in all scripts.
pub const TIMING: Timing = Timing { tick_ms: 1_000, init_limit_ms: 10_000, sync_limit_ms: 5_000 };

pub struct Words {
    pub name: String,
    arguments: Vec<String>,
}

fn number<T: std::str::FromStr>(word: &str) -> T {
    word.parse().unwrap_or_else(|_| panic!("{word:?} is not a number"))
}

fn zxid(word: &str) -> Zxid {
    let (epoch, counter) = word.split_once(':').unwrap_or_else(|| panic!("{word:?} is not epoch:counter"));
    Zxid::new(Epoch(number(epoch)), number(counter))
}

/// A transaction like no other: its zxid is in it.
pub fn entry(zxid: Zxid, mark: i32) -> Arc<Entry> {
    let header = TxnHeader { session: SessionId::NONE, cxid: mark, zxid, time: 0 };
    Entry::new(Txn { header, body: TxnBody::Error(0), digest: None })
}

impl Words {
    pub fn parse(line: &str) -> Words {
        let mut words = line.split_whitespace().map(str::to_owned);
        Words { name: words.next().expect("a command has a name"), arguments: words.collect() }
    }

    pub fn unknown(&self) -> ! {
        panic!("there is no command {:?}", self.name)
    }

    fn plain(&self, at: usize) -> &str {
        let mut plain = self.arguments.iter().filter(|word| !word.contains('='));
        plain.nth(at).unwrap_or_else(|| panic!("{} lacks argument {at}", self.name))
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.arguments.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }

    pub fn has(&self, word: &str) -> bool {
        self.arguments.iter().any(|argument| argument == word)
    }

    pub fn number(&self, key: &str) -> u64 {
        number(self.get(key).unwrap_or_else(|| panic!("{} lacks {key}=", self.name)))
    }

    pub fn number_or(&self, key: &str, default: u64) -> u64 {
        self.get(key).map_or(default, number)
    }

    pub fn millis(&self) -> Millis {
        number(self.plain(0))
    }

    pub fn sid(&self) -> Sid {
        Sid(number(self.plain(0)))
    }

    /// `sid/tenure`.
    pub fn stay(&self) -> (Sid, Tenure) {
        let word = self.plain(0);
        let (sid, tenure) = word.split_once('/').unwrap_or_else(|| panic!("{word:?} is not sid/tenure"));
        (Sid(number(sid)), Tenure(number(tenure)))
    }

    pub fn zxid_at(&self, at: usize) -> Zxid {
        zxid(self.plain(at))
    }

    pub fn zxid(&self, key: &str) -> Zxid {
        self.get(key).map_or(Zxid::ZERO, zxid)
    }

    pub fn epoch(&self, key: &str) -> Epoch {
        Epoch(self.number_or(key, 0) as u32)
    }

    /// `none` is none.
    pub fn epoch_option(&self, key: &str) -> Option<Epoch> {
        (self.get(key) != Some("none")).then(|| self.epoch(key))
    }

    pub fn epochs(&self) -> Epochs {
        let current = self.epoch("current");
        Epochs { accepted: self.epoch("accepted").max(current), current }
    }

    pub fn sids(&self, key: &str) -> Vec<Sid> {
        let list = self.get(key).unwrap_or_default();
        list.split(',').filter(|word| !word.is_empty()).map(|word| Sid(number(word))).collect()
    }

    /// `1:1..1:3,2:1` as entries.
    pub fn entries(&self, list: &str) -> Vec<Arc<Entry>> {
        let mut entries = Vec::new();
        for range in list.split(',').filter(|word| !word.is_empty()) {
            let (first, last) = range.split_once("..").unwrap_or((range, range));
            let (mut at, last) = (zxid(first), zxid(last));
            while at <= last {
                entries.push(entry(at, self.number_or("mark", 0) as i32));
                at = at.next();
            }
        }
        entries
    }

    pub fn entries_at(&self, at: usize) -> Vec<Arc<Entry>> {
        self.entries(self.plain(at))
    }

    /// From `base=`, `log=` and `applied=`.
    pub fn history(&self) -> History {
        let mut history = History::new(self.zxid("base"));
        self.entries(self.get("log").unwrap_or_default()).into_iter().for_each(|entry| history.push(entry));
        history.apply_to(self.zxid("applied"));
        history
    }
}
