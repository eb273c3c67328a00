//! Walks the log behind a snapshot, through all its files, and judges where it ends.
//!
//! | where | what is found | what it means |
//! |---|---|---|
//! | any file | a hole in the zxids of an epoch | transactions are missing: refuse |
//! | any file | it stood behind an epoch's end that was not found | transactions are missing: refuse |
//! | an older file | an unfinished record at its end | Apache leaves it behind and starts a file: go on if the zxids do |
//! | an older file | a damaged record, or sound ones behind the end | refuse |
//! | the newest file | it ends before the sync mark | what was acknowledged is missing: refuse |
//! | the newest file, behind the sync mark | an unfinished record | never acknowledged: cut, whatever is behind it |
//! | the newest file, no mark | an unfinished record with sound ones behind it | refuse |
//! | the newest file, no mark | an unfinished record with nothing behind it | a torn end: cut |
//! | the newest file | a damaged record with sound ones behind it | refuse |
//! | the newest file | a damaged record with nothing behind it | it may have been acknowledged: cut, in doubt |
//!
//! What is unfinished and what is damaged: `tail.rs`. Nothing is changed here: [`Replayed`] says what is to be
//! done, and it is for the caller to say what a doubt means.

use std::io::Read;
use std::sync::Arc;

use slog::warn;
use zabra_actors::core::mutant::{Mutant, mutated};
use zabra_actors::types::{Entry, Zxid};

use super::data_dir::{DataDir, explain, log_name};
use super::log_reader::{End, LogReader, Next};
use super::refusal::Refusal;
use super::sync_mark::SyncMark;
use super::tail::Tail;

/// What a walk came to.
pub(super) struct Replayed {
    /// The last zxid: of the log, or of the snapshot when the log has nothing newer.
    pub(super) last: Zxid,
    /// What is to be done to the newest file.
    pub(super) repair: Option<Repair>,
    /// A record at the end is damaged, which somebody may have relied on.
    pub(super) doubt: Option<Refusal>,
}

/// What is to be done to a log file before anything is written behind it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Repair {
    /// Cut the file here.
    Cut { file: Zxid, at: u64 },
    /// Remove the file: it was created, and never got any further.
    Remove { file: Zxid },
}

/// The files that hold what comes after `zxid`: the newest that begins at or before the next one, and all
/// newer ones.
pub(super) fn files_after(logs: &[Zxid], zxid: Zxid) -> &[Zxid] {
    let newer = logs.partition_point(|first| *first <= zxid.next());
    &logs[newer.saturating_sub(1)..]
}

/// Gives every entry after `after` to `visit`, in order.
pub(super) fn replay(
    dir: &DataDir,
    logs: &[Zxid],
    after: Zxid,
    visit: &mut dyn FnMut(Arc<Entry>),
) -> Result<Replayed, Refusal> {
    let mark = SyncMark::read(dir)?.filter(|mark| mark.covers(logs.last().copied()));
    let mut walk = Walk { dir, after, last: after, mark, doubt: None, visit };
    let mut repair = None;
    let files = files_after(logs, after);
    for (at, file) in files.iter().enumerate() {
        repair = walk.file(*file, at + 1 == files.len())?;
    }
    let Walk { last, doubt, .. } = walk;
    match mark {
        Some(mark) if last < mark.synced && !mutated(Mutant::SilentDamage) => {
            Err(Refusal::Lost { last, synced: mark.synced })
        }
        _ => Ok(Replayed { last, repair, doubt }),
    }
}

struct Walk<'a> {
    dir: &'a DataDir,
    after: Zxid,
    last: Zxid,
    mark: Option<SyncMark>,
    doubt: Option<Refusal>,
    visit: &'a mut dyn FnMut(Arc<Entry>),
}

type Reader = LogReader<Box<dyn Read + Send>>;

impl Walk<'_> {
    fn file(&mut self, file: Zxid, newest: bool) -> Result<Option<Repair>, Refusal> {
        let path = self.dir.path(&log_name(file));
        let reader = self.dir.read(&log_name(file))?;
        let (mut reader, header) = explain("read", &path, LogReader::open(reader))?;
        if let Err(wrong) = header {
            return self.headless(file, newest, reader, &wrong).map(Some);
        }
        let mut previous = Some(reader.previous());
        loop {
            let start = reader.offset();
            match explain("read", &path, reader.next())? {
                Next::End(end) => return self.ended(file, newest, reader, end),
                Next::Record(record) => match Entry::decode(record.entry) {
                    Ok(entry) => {
                        self.seam(file, previous.take(), entry.zxid())?;
                        self.entry(file, start, entry)?;
                    }
                    // Whole, its checksum right, but not a transaction: no crash does that.
                    Err(wrong) => return Err(self.refuse(file, start, format!("a record of {wrong}"))),
                },
            }
        }
    }

    /// The first record of a file: is anything missing before it? Within an epoch its zxid tells.
    fn seam(&self, file: Zxid, previous: Option<Zxid>, first: Zxid) -> Result<(), Refusal> {
        match previous {
            Some(previous) if previous > self.last && first.epoch() > self.last.epoch() => {
                let what = format!(
                    "it was begun behind {previous}, and what was found before it ends at {}: the transactions \
                     between them are missing",
                    self.last
                );
                Err(self.refuse(file, 0, what))
            }
            _ => Ok(()),
        }
    }

    fn entry(&mut self, file: Zxid, start: u64, entry: Arc<Entry>) -> Result<(), Refusal> {
        let zxid = entry.zxid();
        if zxid <= self.after {
            return Ok(()); // the snapshot has it
        }
        if zxid <= self.last {
            warn!(self.dir.log, "skipping a transaction that the log has twice";
                "file" => log_name(file), "offset" => start, "zxid" => %zxid, "last" => %self.last);
            return Ok(());
        }
        if !zxid.follows(self.last) {
            let what = format!("{zxid} behind {}: the transactions between them are missing", self.last);
            return Err(self.refuse(file, start, what));
        }
        self.last = zxid;
        (self.visit)(entry);
        Ok(())
    }

    /// A file without a header that makes sense.
    fn headless(&self, file: Zxid, newest: bool, reader: Reader, wrong: &str) -> Result<Repair, Refusal> {
        if !newest {
            return Err(self.refuse(file, 0, format!("{wrong}, and there are newer files")));
        }
        // The first sync of the file writes its header: where that is missing nothing was acknowledged. Where
        // it is wrong, or records are there and no mark that tells of them, something may have been.
        let tail = self.tail(file, reader)?;
        if let Some((offset, zxid)) = tail.sound.filter(|_| self.mark.is_none() || !tail.unfinished) {
            return Err(self.refuse(file, 0, followed(wrong, zxid, offset)));
        }
        warn!(self.dir.log, "removing a log file that was never finished";
            "file" => log_name(file), "because" => wrong);
        Ok(Repair::Remove { file })
    }

    /// The records of a file have ended.
    fn ended(
        &mut self,
        file: Zxid,
        newest: bool,
        reader: Reader,
        end: End,
    ) -> Result<Option<Repair>, Refusal> {
        let at = reader.offset();
        let wrong = match &end {
            End::Clean => "an end mark",
            End::Cut(how) | End::Corrupt(how) => how,
        };
        let tail = self.tail(file, reader)?;
        if !newest {
            return self.ended_before_newer(file, at, wrong, &end, &tail).map(|()| None);
        }
        if mutated(Mutant::SilentDamage) {
            return Ok(Some(Repair::Cut { file, at }));
        }
        if let Some(mark) = self.mark.filter(|mark| self.last < mark.synced) {
            let what = format!("{wrong}, but the log was durable up to {}", mark.synced);
            return Err(self.refuse(file, at, what));
        }
        if let Some((offset, zxid)) = tail.sound.filter(|_| self.mark.is_none() || !tail.unfinished) {
            return Err(self.refuse(file, at, followed(wrong, zxid, offset)));
        }
        if !tail.unfinished {
            let what = format!("{wrong}; it was written as a whole, so that it may have been acknowledged");
            self.doubt = Some(self.refuse(file, at, what));
        }
        if end != End::Clean {
            warn!(self.dir.log, "cutting the torn end of the log";
                "file" => log_name(file), "offset" => at, "last" => %self.last, "how" => wrong);
        }
        Ok(Some(Repair::Cut { file, at }))
    }

    fn ended_before_newer(
        &self,
        file: Zxid,
        at: u64,
        wrong: &str,
        end: &End,
        tail: &Tail,
    ) -> Result<(), Refusal> {
        if let Some((offset, zxid)) = tail.sound {
            return Err(self.refuse(file, at, followed(wrong, zxid, offset)));
        }
        if !tail.unfinished {
            return Err(self.refuse(file, at, format!("{wrong}, and there are newer files")));
        }
        if *end != End::Clean {
            warn!(self.dir.log, "an older log file ends in an unfinished record";
                "file" => log_name(file), "offset" => at, "how" => wrong);
        }
        Ok(())
    }

    fn tail(&self, file: Zxid, reader: Reader) -> Result<Tail, Refusal> {
        let path = self.dir.path(&log_name(file));
        Ok(explain("read", &path, reader.tail(self.last))?)
    }

    fn refuse(&self, file: Zxid, offset: u64, what: String) -> Refusal {
        Refusal::Damage { file, offset, what, last: self.last }
    }
}

fn followed(wrong: &str, zxid: Zxid, offset: u64) -> String {
    format!("{wrong}, but a sound record of {zxid} follows at offset {offset}")
}

#[cfg(test)]
mod tests {
    use zabra_actors::types::Sid;

    use super::*;
    use crate::disk::log::tests::{file_behind, file_of, record};
    use crate::disk::{DiskSettings, SimDisk};

    fn dir(files: &[(i64, &[u8])]) -> Arc<DataDir> {
        let log = slog::Logger::root(slog::Discard, slog::o!());
        let dir = DataDir::open(Arc::new(SimDisk::new()), DiskSettings::new("/d", Sid(1)), log).unwrap();
        for (first, content) in files {
            dir.create(&log_name(Zxid(*first))).unwrap().write_at(0, content).unwrap();
        }
        dir
    }

    type Seen = (Vec<i64>, Option<Repair>);

    fn run(dir: &DataDir, after: i64) -> Result<Seen, String> {
        let (seen, doubt) = weigh(dir, after)?;
        assert_eq!(doubt, None);
        Ok(seen)
    }

    fn weigh(dir: &DataDir, after: i64) -> Result<(Seen, Option<String>), String> {
        let mut seen = Vec::new();
        let logs = dir.list().unwrap().logs;
        match replay(dir, &logs, Zxid(after), &mut |entry| seen.push(entry.zxid().0)) {
            Ok(Replayed { last, repair, doubt }) => {
                assert_eq!(last.0, *seen.last().unwrap_or(&after));
                Ok(((seen, repair), doubt.map(|refusal| refusal.what(dir))))
            }
            Err(refusal) => Err(refusal.fault(dir).0),
        }
    }

    fn mark(dir: &DataDir, file: i64, synced: i64) {
        SyncMark { file: Zxid(file), synced: Zxid(synced) }.replace(dir).unwrap();
    }

    fn cut(file: i64, at: usize) -> Option<Repair> {
        Some(Repair::Cut { file: Zxid(file), at: at as u64 })
    }

    #[test]
    fn only_files_that_matter_are_read() {
        let logs = [1, 10, 20].map(Zxid);
        assert_eq!(files_after(&logs, Zxid(9)), &logs[1..]);
        assert_eq!(files_after(&logs, Zxid(8)), &logs[..]);
        assert_eq!(files_after(&logs, Zxid(99)), &logs[2..]);
        assert_eq!(files_after(&logs[1..], Zxid(3)), &logs[1..]);
        assert_eq!(files_after(&[], Zxid(3)), &[]);
    }

    #[test]
    fn replay_goes_through_all_files() {
        let dir = dir(&[(1, &file_of(&[1, 2, 3])), (4, &file_of(&[4, 5]))]);
        assert_eq!(run(&dir, 0), Ok((vec![1, 2, 3, 4, 5], cut(4, file_of(&[4, 5]).len()))));
        assert_eq!(run(&dir, 2).unwrap().0, [3, 4, 5]);
        assert_eq!(run(&dir, 5).unwrap().0, [0; 0]);
    }

    #[test]
    fn a_hole_is_refused_and_an_epoch_may_begin_anywhere() {
        let hole = run(&dir(&[(1, &file_of(&[1, 2, 5]))]), 0).unwrap_err();
        let at = file_of(&[1, 2]).len();
        assert!(
            hole.contains(&format!("/d/version-2/log.1 is damaged at offset {at}: 0x5 behind 0x2")),
            "{hole}"
        );
        assert!(run(&dir(&[(4, &file_of(&[4]))]), 2).unwrap_err().contains("0x4 behind 0x2"));
        let epoch = 0x2_0000_0003;
        assert_eq!(run(&dir(&[(1, &file_of(&[1, epoch]))]), 0).unwrap().0, [1, epoch]);
    }

    // Between two epochs the zxids alone do not show that something is missing.
    #[test]
    fn the_end_of_an_epoch_that_is_missing_is_refused() {
        let (epoch, file) = (0x2_0000_0001, |previous| file_behind(previous, &[0x2_0000_0001]));
        assert_eq!(
            run(&dir(&[(1, &file_of(&[1, 2, 3])), (epoch, &file(3))]), 0).unwrap().0,
            [1, 2, 3, epoch]
        );
        let cut = &file_of(&[1, 2, 3])[..file_of(&[1, 2, 3]).len() - 7];
        for damaged in [file_of(&[1, 2]), file_of(&[]), cut.to_vec()] {
            let refused = run(&dir(&[(1, &damaged), (epoch, &file(3))]), 0).unwrap_err();
            assert!(refused.contains("it was begun behind 0x3"), "{refused}");
        }
        assert!(run(&dir(&[(epoch, &file(3))]), 2).is_err(), "the older file is gone");
        assert_eq!(run(&dir(&[(epoch, &file(3))]), 3).unwrap().0, [epoch], "a snapshot has what was before");
    }

    #[test]
    fn doubles_are_skipped() {
        let dir = dir(&[(1, &file_of(&[1, 2, 3])), (3, &file_of(&[3, 4]))]);
        assert_eq!(run(&dir, 0).unwrap().0, [1, 2, 3, 4]);
    }

    #[test]
    fn without_a_mark_a_torn_end_is_cut_and_damage_before_sound_records_is_refused() {
        let whole = file_of(&[1, 2, 3]);
        let (one, two) = (file_of(&[1]).len(), file_of(&[1, 2]).len());
        assert_eq!(run(&dir(&[(1, &whole[..two + 20])]), 0), Ok((vec![1, 2], cut(1, two))));
        let mut flipped = whole.clone();
        flipped[two + 30] ^= 1;
        let ((seen, repair), doubt) = weigh(&dir(&[(1, &flipped)]), 0).unwrap();
        assert_eq!((seen, repair), (vec![1, 2], cut(1, two)));
        assert!(doubt.unwrap().contains("does not match; it was written as a whole"));
        let mut middle = whole.clone();
        middle[one + 30] ^= 1;
        let refused = run(&dir(&[(1, &middle)]), 0).unwrap_err();
        assert!(refused.contains(&format!("a sound record of 0x3 follows at offset {two}")), "{refused}");
        let mut zeroed = whole;
        zeroed[one..two].fill(0);
        assert!(run(&dir(&[(1, &zeroed)]), 0).unwrap_err().contains("an end mark, but a sound record"));
    }

    #[test]
    fn the_mark_tells_a_torn_end_from_lost_records() {
        let mut file = file_of(&[1, 2, 3]);
        let (one, two) = (file_of(&[1]).len(), file_of(&[1, 2]).len());
        file[one..two].fill(0);
        let dir = dir(&[(1, &file)]);
        mark(&dir, 1, 1);
        assert_eq!(run(&dir, 0), Ok((vec![1], cut(1, one))), "2 and 3 were never acknowledged");
        mark(&dir, 1, 2);
        let refused = run(&dir, 0).unwrap_err();
        assert!(refused.contains(&format!("offset {one}: an end mark, but the log was durable up to 0x2")));
        dir.remove("log.1").unwrap();
        assert!(run(&dir, 0).unwrap_err().contains("ends at 0x0, but was durable up to 0x2"));
        assert_eq!(run(&dir, 2), Ok((vec![], None)), "a snapshot has it");
    }

    #[test]
    fn a_damaged_record_is_no_torn_end_even_behind_the_mark() {
        let whole = file_of(&[1, 2, 3]);
        let (one, two) = (file_of(&[1]).len(), file_of(&[1, 2]).len());
        for (at, expected) in [(one, "a sound record of 0x3 follows"), (two, "")] {
            let mut flipped = whole.clone();
            flipped[at + 30] ^= 1;
            let dir = dir(&[(1, &flipped)]);
            mark(&dir, 1, 1);
            match weigh(&dir, 0) {
                Ok(((seen, _), doubt)) => assert!(seen == [1, 2] && doubt.is_some() && at == two),
                Err(refused) => assert!(refused.contains(expected) && at == one, "{refused}"),
            }
        }
        // A header that was never written is nobody's; one that is wrong belongs to the records behind it.
        let headless = |header: u8| [vec![header; 16], vec![0; 600], record(3)].concat();
        let torn = dir(&[(1, &file_of(&[1, 2])), (3, &headless(0))]);
        mark(&torn, 3, 2);
        assert_eq!(run(&torn, 0).unwrap().0, [1, 2]);
        let damaged = dir(&[(1, &file_of(&[1, 2])), (3, &headless(7))]);
        mark(&damaged, 3, 2);
        assert!(run(&damaged, 0).unwrap_err().contains("log.3 is damaged at offset 0"));
    }

    #[test]
    fn within_an_epoch_the_header_of_a_file_is_not_asked() {
        let dir = dir(&[(1, &file_of(&[1, 2])), (3, &file_behind(77, &[3]))]);
        assert_eq!(run(&dir, 0).unwrap().0, [1, 2, 3], "nothing is missing, so the header is damaged");
    }

    #[test]
    fn a_void_mark_says_nothing() {
        // Apache cut the log to 1 and began another file, after us.
        let dir = dir(&[(1, &file_of(&[1])), (2, &file_of(&[2]))]);
        mark(&dir, 1, 9);
        assert_eq!(run(&dir, 0).unwrap().0, [1, 2]);
    }

    #[test]
    fn an_older_file_may_end_in_an_unfinished_record_but_in_no_corrupt_one() {
        let torn = [file_of(&[1, 2]), record(3)[..20].to_vec()].concat();
        assert_eq!(run(&dir(&[(1, &torn), (3, &file_of(&[3]))]), 0).unwrap().0, [1, 2, 3]);
        assert!(run(&dir(&[(1, &torn), (4, &file_of(&[4]))]), 0).unwrap_err().contains("0x4 behind 0x2"));
        let mut corrupt = file_of(&[1, 2, 3]);
        *corrupt.iter_mut().nth_back(1).unwrap() ^= 1;
        let refused = run(&dir(&[(1, &corrupt), (4, &file_of(&[4]))]), 0).unwrap_err();
        assert!(refused.contains("checksum does not match, and there are newer files"), "{refused}");
    }

    #[test]
    fn a_newest_file_without_a_header_is_removed_unless_it_holds_records() {
        let first = file_of(&[1, 2]);
        let remove = Some(Repair::Remove { file: Zxid(3) });
        assert_eq!(run(&dir(&[(1, &first), (3, b"")]), 0), Ok((vec![1, 2], remove)));
        let zeros = vec![0; 4096];
        assert!(run(&dir(&[(1, &first), (3, &zeros)]), 0).is_ok());
        let headless = [vec![0; 616], record(3)].concat();
        let refused = run(&dir(&[(1, &first), (3, &headless)]), 0).unwrap_err();
        assert!(refused.contains("log.3 is damaged at offset 0"), "{refused}");
        assert!(
            run(&dir(&[(1, b""), (3, &file_of(&[3]))]), 0).unwrap_err().contains("there are newer files")
        );
        let torn = dir(&[(1, &first), (3, &headless)]);
        mark(&torn, 3, 2);
        assert_eq!(run(&torn, 0).unwrap().0, [1, 2], "nothing in it was ever acknowledged");
    }
}
