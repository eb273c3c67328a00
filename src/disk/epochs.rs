//! The epoch files: `acceptedEpoch` and `currentEpoch`, a decimal number each, without a newline.
//!
//! They have no checksum, as Apache's do not. So nothing but digits is taken for a number: when one of the upper four
//! bits of a digit turns over, no digit is left, and a blank at the end, which a 0 becomes, would make an epoch a tenth
//! of itself. When one of the lower four does, mostly another digit is left, and nobody can tell, unless the epoch is then
//! below what the log says.
//!
//! Invariants on disk, at every crash point: `current <= accepted`, neither goes down, and after
//! [`recover`] the epoch of the last zxid is at most `current`.
//!
//! A log may be ahead of `currentEpoch`, because a learner makes a leader's history durable first and only
//! then takes its epoch (the other order is what lost data in ZOOKEEPER-4643). A crash in between is mended
//! here: a log that holds a transaction of epoch `e` holds all that the leader of `e` began with, which is
//! just what `currentEpoch = e` says. Apache refuses to start then.

use slog::{info, warn};
use zabra_actors::types::{Epoch, Epochs, Fault, Zxid};

use super::data_dir::DataDir;
use super::refusal::Refusal;

pub(super) const ACCEPTED: &str = "acceptedEpoch";
pub(super) const CURRENT: &str = "currentEpoch";

/// Reads the epoch files and brings them in line with the end of the log.
pub(super) fn recover(dir: &DataDir, last: Zxid) -> Result<Epochs, Refusal> {
    let (found, epochs) = judge(dir, last)?;
    save_changed(dir, found, epochs)?;
    Ok(epochs)
}

/// What the files say, and what they must say in the light of the log's end. Changes nothing.
pub(super) fn judge(dir: &DataDir, last: Zxid) -> Result<(Found, Epochs), Refusal> {
    let (accepted, current) = (read(dir, ACCEPTED)?, read(dir, CURRENT)?);
    let found = match (accepted, current) {
        (Some(accepted), Some(current)) => Epochs { accepted, current },
        // A first start: here, in a directory of a standalone server, or in a restored copy.
        (None, None) => Epochs { accepted: last.epoch(), current: last.epoch() },
        // A first start that was cut short between the two.
        (Some(accepted), None) => Epochs { accepted, current: last.epoch() },
        (None, Some(current)) => {
            let what = format!(
                "{} is missing but currentEpoch says {current}: which leaders this server has promised to refuse \
                 is lost",
                dir.path(ACCEPTED).display()
            );
            return Err(Refusal::Epochs { what });
        }
    };
    let epochs = Epochs { current: mend(dir, found.current, last)?, ..found };
    check(dir, epochs, last)?;
    Ok(((accepted, current), epochs))
}

/// acceptedEpoch and currentEpoch, as far as they are there.
pub(super) type Found = (Option<Epoch>, Option<Epoch>);

/// Writes what has changed, accepted before current.
pub(super) fn save(dir: &DataDir, old: Epochs, new: Epochs) -> Result<(), Fault> {
    assert!(new.current <= new.accepted, "currentEpoch {} above acceptedEpoch {}", new.current, new.accepted);
    assert!(new.accepted >= old.accepted, "acceptedEpoch from {} down to {}", old.accepted, new.accepted);
    assert!(new.current >= old.current, "currentEpoch from {} down to {}", old.current, new.current);
    save_changed(dir, (Some(old.accepted), Some(old.current)), new)
}

/// Writes both, whatever was there.
pub(super) fn write(dir: &DataDir, epochs: Epochs) -> Result<(), Fault> {
    save_changed(dir, (None, None), epochs)
}

fn save_changed(dir: &DataDir, old: Found, new: Epochs) -> Result<(), Fault> {
    for (name, old, new) in [(ACCEPTED, old.0, new.accepted), (CURRENT, old.1, new.current)] {
        if old != Some(new) {
            dir.replace(name, new.to_string().as_bytes())?;
        }
    }
    Ok(())
}

/// The current epoch in the light of the log's end; see the module's story.
fn mend(dir: &DataDir, current: Epoch, last: Zxid) -> Result<Epoch, Refusal> {
    if last.epoch() <= current {
        return Ok(current);
    }
    // Apache does not sync the directory: its rename may be lost, and the new file still be there.
    let lost_rename = match read(dir, &format!("{CURRENT}.tmp")) {
        Ok(found) => found.filter(|epoch| *epoch >= last.epoch()),
        Err(Refusal::Disk(fault)) => return Err(fault.into()),
        Err(torn) => {
            warn!(dir.log, "ignoring an unfinished epoch file"; "error" => torn.what(dir));
            None
        }
    };
    let mended = lost_rename.unwrap_or(last.epoch());
    info!(dir.log, "the log is ahead of the current epoch: raising it";
        "current" => %current, "last" => %last, "to" => %mended);
    Ok(mended)
}

fn check(dir: &DataDir, epochs: Epochs, last: Zxid) -> Result<(), Refusal> {
    if epochs.current <= epochs.accepted {
        return Ok(());
    }
    let what = format!(
        "{} says {}, but currentEpoch is {} and the log ends at {last}: the files are not of one server and one time",
        dir.path(ACCEPTED).display(),
        epochs.accepted,
        epochs.current
    );
    Err(Refusal::Epochs { what })
}

fn read(dir: &DataDir, name: &str) -> Result<Option<Epoch>, Refusal> {
    let Some(text) = dir.first_line(name)? else { return Ok(None) };
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<i32>().ok().filter(|_| digits) {
        Some(epoch) => Ok(Some(Epoch(epoch as u32))),
        None => {
            let (path, most) = (dir.path(name), i32::MAX);
            let what = format!("{} says {text:?}, which is not an epoch (0 to {most})", path.display());
            Err(Refusal::Epochs { what })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use zabra_actors::types::Sid;

    use super::*;
    use crate::disk::{DiskSettings, SimDisk};

    fn dir() -> Arc<DataDir> {
        let log = slog::Logger::root(slog::Discard, slog::o!());
        DataDir::open(Arc::new(SimDisk::new()), DiskSettings::new("/d", Sid(1)), log).unwrap()
    }

    fn epochs(accepted: u32, current: u32) -> Epochs {
        Epochs { accepted: Epoch(accepted), current: Epoch(current) }
    }

    fn zxid(epoch: u32, counter: u32) -> Zxid {
        Zxid::new(Epoch(epoch), counter)
    }

    #[test]
    fn missing_files_follow_the_log() {
        assert_eq!(recover(&dir(), Zxid::ZERO).unwrap(), epochs(0, 0));
        let dir = dir();
        assert_eq!(recover(&dir, zxid(3, 7)).unwrap(), epochs(3, 3));
        assert_eq!(dir.first_line("currentEpoch").unwrap().unwrap(), "3");
    }

    #[test]
    fn saved_epochs_come_back() {
        let dir = dir();
        let old = recover(&dir, Zxid::ZERO).unwrap();
        save(&dir, old, epochs(4, 2)).unwrap();
        assert_eq!(recover(&dir, zxid(2, 9)).unwrap(), epochs(4, 2));
    }

    #[test]
    fn a_log_ahead_of_the_current_epoch_raises_it() {
        let dir = dir();
        save(&dir, epochs(0, 0), epochs(6, 2)).unwrap();
        assert_eq!(recover(&dir, zxid(5, 1)).unwrap(), epochs(6, 5));
        dir.replace("currentEpoch", b"2").unwrap();
        // Apache's lost rename.
        dir.create("currentEpoch.tmp").unwrap().write_at(0, b"6").unwrap();
        assert_eq!(recover(&dir, zxid(5, 1)).unwrap(), epochs(6, 6));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let dir = dir();
        dir.replace("acceptedEpoch", b"2").unwrap();
        dir.replace("currentEpoch", b"3").unwrap();
        let refused = |last| recover(&dir, last).unwrap_err().fault(&dir).0;
        assert!(refused(zxid(1, 1)).contains("acceptedEpoch says 2"));
        dir.replace("currentEpoch", b"2").unwrap();
        assert!(refused(zxid(3, 1)).contains("the log ends at 0x300000001"));
        dir.replace("currentEpoch", b"two\n").unwrap();
        assert!(refused(zxid(1, 1)).contains("\"two\""));
        dir.replace("currentEpoch", b"2\r\n").unwrap();
        assert_eq!(recover(&dir, zxid(1, 1)).unwrap(), epochs(2, 2));
        dir.remove("acceptedEpoch").unwrap();
        assert!(refused(zxid(1, 1)).contains("is missing"));
    }

    #[test]
    fn a_digit_that_is_none_any_more_is_not_left_out() {
        let dir = dir();
        for (name, text) in [("acceptedEpoch", *b"100"), ("currentEpoch", *b"100")] {
            for bit in (0..24).filter(|bit| bit % 8 > 3) {
                save_changed(&dir, (None, None), epochs(100, 100)).unwrap();
                let mut rotten = text;
                rotten[bit / 8] ^= 1 << (bit % 8);
                dir.replace(name, &rotten).unwrap();
                let refused = recover(&dir, zxid(7, 1)).unwrap_err().fault(&dir).0;
                assert!(refused.contains("which is not an epoch"), "{name}, bit {bit}: {refused}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "acceptedEpoch from 4 down to 3")]
    fn epochs_never_go_down() {
        let _ = save(&dir(), epochs(4, 2), epochs(3, 2));
    }
}
