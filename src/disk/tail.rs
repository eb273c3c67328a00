//! What stands behind the last sound record of a log file: a write that was never finished, or damage?
//!
//! A record counts as acknowledged only after an fsync, and an fsync leaves nothing torn. So a record of which
//! a part was never written was promised to nobody, and may go; one that is all there and yet wrong may have
//! been promised, and its loss must not pass in silence.
//!
//! A crash loses whole sectors, or everything from some byte on (a write that was cut short). The file was
//! zeros there before. So a record is *unfinished* when the file ends inside it, when its last byte is zero,
//! or when one of the sectors that it lies in is zeros as far as the record goes. Anything else is damage: a
//! flipped bit leaves no sector of zeros behind, and a length that was flipped shows in a checksum that fits
//! with another one.

use zabra_actors::types::Zxid;

use super::log_reader::{HEADER, MAGIC, MAX_ENTRY, MIN_ENTRY, PREFIX, VERSION};

/// What survives or is lost as a whole, in bytes: the smallest there is.
const SECTOR: u64 = 512;

/// The first bytes of every record are zero: its checksum is one of 32 bits in a field of 64. That they are
/// tells nothing of the sector they lie in.
const ALWAYS_ZERO: usize = 4;

/// The end of every record.
pub(super) const LAST: u8 = b'B';

/// The bytes behind the last sound record.
#[derive(Debug, PartialEq, Eq)]
pub struct Tail {
    /// Nothing but the remains of writes that were not finished.
    pub unfinished: bool,
    /// The offset and zxid of a sound record among them, newer than the last one in order.
    pub sound: Option<(u64, Zxid)>,
}

impl Tail {
    /// Nothing, or nothing but zeros.
    pub(super) const EMPTY: Tail = Tail { unfinished: true, sound: None };

    /// Looks at the bytes that begin at this offset of the file, behind the transaction `last`.
    pub(super) fn of(bytes: &[u8], at: u64, last: Zxid) -> Tail {
        let sound = find_sound_record(bytes, last).map(|(start, zxid)| (at + start as u64, zxid));
        Tail { unfinished: is_unfinished(bytes, at), sound }
    }

    /// Looks at a whole file whose header is wrong.
    pub(super) fn of_headless(bytes: &[u8], last: Zxid) -> Tail {
        let sound = find_sound_record(bytes, last);
        let unfinished = is_header_unfinished(bytes, sound.map(|(start, _)| start));
        Tail { unfinished, sound: sound.map(|(start, zxid)| (start as u64, zxid)) }
    }
}

/// Was the header of a file never written, or not as a whole? It is one write with the records behind it, so one
/// that is there in the same sector tells that the header has been there, too.
fn is_header_unfinished(bytes: &[u8], sound: Option<usize>) -> bool {
    let header = &bytes[..bytes.len().min(HEADER)];
    let written = header.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
    let expected = [MAGIC, VERSION.to_be_bytes()].concat();
    let as_expected = header[..written].iter().zip(&expected).all(|(b, expected)| b == expected);
    as_expected && sound.is_none_or(|start| (start + ALWAYS_ZERO) as u64 >= SECTOR)
}

/// Is what begins here, at this offset of the file, a record of which a part was never written?
fn is_unfinished(bytes: &[u8], at: u64) -> bool {
    let Some(len) = bytes.get(8..PREFIX).map(be_i32) else {
        return true; // the file ends inside it
    };
    if fits_another_length(bytes, len) {
        return false;
    }
    let len = usize::try_from(len).ok().filter(|len| (MIN_ENTRY..=MAX_ENTRY).contains(len));
    let Some(len) = len else {
        // It has no length: that was never written, or it is damaged.
        let cut_inside = bytes[PREFIX..].iter().all(|b| *b == 0);
        return cut_inside || has_lost_sector(&bytes[..PREFIX], at);
    };
    match bytes.get(..PREFIX + len + 1) {
        None => true,
        Some(record) => record.last() == Some(&0) || has_lost_sector(record, at),
    }
}

/// Is one of the sectors that this beginning of a record, or all of it, lies in zeros, as far as that goes?
fn has_lost_sector(record: &[u8], at: u64) -> bool {
    let (mut bytes, mut at) = (&record[ALWAYS_ZERO..], at + ALWAYS_ZERO as u64);
    while !bytes.is_empty() {
        let in_sector = (SECTOR - at % SECTOR).min(bytes.len() as u64);
        let (part, rest) = bytes.split_at(in_sector as usize);
        if part.iter().all(|b| *b == 0) {
            return true;
        }
        (bytes, at) = (rest, at + in_sector);
    }
    false
}

/// Would its checksum fit if the record had another length than it says, or if its last byte were right?
fn fits_another_length(bytes: &[u8], claimed: i32) -> bool {
    const MODULUS: u32 = 65_521;
    let sum = be_i64(&bytes[..8]);
    let entry = &bytes[PREFIX..written(bytes).clamp(PREFIX, PREFIX + MAX_ENTRY + 1)];
    let (mut a, mut b) = (1_u32, 0_u32);
    for (len, byte) in entry.iter().enumerate() {
        let ends = *byte == LAST || len as i64 == i64::from(claimed) && *byte != 0;
        if ends && len >= MIN_ENTRY && i64::from(b << 16 | a) == sum {
            return true;
        }
        a = (a + u32::from(*byte)) % MODULUS;
        b = (b + a) % MODULUS;
    }
    false
}

/// Looks for a sound record after `last`: where it begins, and its zxid. What is there by accident cannot
/// pass the checksum, and what is older may be anything.
fn find_sound_record(bytes: &[u8], last: Zxid) -> Option<(usize, Zxid)> {
    let bytes = &bytes[..written(bytes)];
    let mut start = 0;
    while start + PREFIX + MIN_ENTRY < bytes.len() {
        // Zeros go by quickly: no prefix is zero.
        if bytes[start..start + PREFIX].iter().all(|b| *b == 0) {
            let zeros = bytes[start + PREFIX..].iter().position(|b| *b != 0)?;
            start += zeros + 1;
            continue;
        }
        if let Some(zxid) = sound_record(&bytes[start..]).filter(|zxid| *zxid > last) {
            return Some((start, zxid));
        }
        start += 1;
    }
    None
}

/// Up to where there is anything but zeros: most of what is behind an end is preallocated.
fn written(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1)
}

/// The zxid of a record that begins here, if one does; cheap checks first.
fn sound_record(bytes: &[u8]) -> Option<Zxid> {
    let len = usize::try_from(be_i32(bytes.get(8..PREFIX)?)).ok()?;
    if !(MIN_ENTRY..=MAX_ENTRY).contains(&len) || bytes.get(PREFIX + len) != Some(&LAST) {
        return None;
    }
    let entry = &bytes[PREFIX..PREFIX + len];
    sum_matches(bytes, entry).then(|| zxid_of(entry))
}

/// The zxid of an entry: behind session and cxid.
pub(super) fn zxid_of(entry: &[u8]) -> Zxid {
    Zxid(be_i64(&entry[12..20]))
}

/// Does the checksum in a record's prefix fit its entry?
pub(super) fn sum_matches(prefix: &[u8], entry: &[u8]) -> bool {
    be_i64(&prefix[..8]) == i64::from(simd_adler32::adler32(&entry))
}

pub(super) fn be_i32(bytes: &[u8]) -> i32 {
    i32::from_be_bytes(bytes.try_into().expect("the caller cut four bytes"))
}

pub(super) fn be_i64(bytes: &[u8]) -> i64 {
    i64::from_be_bytes(bytes.try_into().expect("the caller cut eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::log::tests::{file_of, long_record, record};

    /// Where records begin in these tests: so that short ones lie in one sector.
    const AT: u64 = 16;

    #[test]
    fn what_was_cut_short_is_unfinished() {
        for whole in [record(7), long_record(7, 2000)] {
            for len in 0..whole.len() {
                assert!(is_unfinished(&whole[..len], AT), "cut to {len}");
                let padded = [&whole[..len], &vec![0; whole.len() + 100 - len]].concat();
                assert!(is_unfinished(&padded, AT), "zeros from {len} on");
            }
        }
    }

    #[test]
    fn what_lacks_sectors_is_unfinished() {
        let whole = long_record(7, 2000);
        let sectors = (AT as usize + whole.len()).div_ceil(512);
        for lost in 1..1_u32 << sectors {
            let mut torn = whole.clone();
            for sector in (0..sectors).filter(|sector| lost & 1 << sector != 0) {
                let start = (sector * 512).saturating_sub(AT as usize);
                let end = ((sector + 1) * 512 - AT as usize).min(whole.len());
                torn[start..end].fill(0);
            }
            assert!(is_unfinished(&torn, AT), "without sectors {lost:b}");
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_damage() {
        for whole in [record(7), long_record(7, 2000)] {
            for bit in 0..whole.len() * 8 {
                let mut bad = whole.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                // Also where a sector begins within the bytes that are always zero, or behind them.
                for (behind, at) in [(0, AT), (4096, AT), (0, 507), (0, 508), (0, 509), (0, 511)] {
                    let bytes = [&bad[..], &vec![0; behind]].concat();
                    assert!(
                        !is_unfinished(&bytes, at),
                        "bit {bit} of {} at {at}, {behind} zeros",
                        whole.len()
                    );
                }
            }
        }
    }

    #[test]
    fn a_header_is_unfinished_as_long_as_nothing_but_a_part_of_it_is_there() {
        let whole = file_of(&[1]);
        for len in 0..HEADER {
            let padded = [&whole[..len], &vec![0; 600 - len], &record(1)].concat();
            for file in [&whole[..len], &padded] {
                assert!(Tail::of_headless(file, Zxid(0)).unfinished, "{len} bytes of it");
            }
            let mut flipped = whole.clone();
            flipped[len / 2] ^= 1 << (len % 8);
            assert!(!Tail::of_headless(&flipped, Zxid(0)).unfinished, "byte {}", len / 2);
        }
    }

    /// A record that begins within the last bytes of the first sector says nothing of that sector.
    #[test]
    fn a_record_across_the_end_of_the_first_sector_does_not_vouch_for_the_header() {
        for (start, unfinished) in [(507, false), (508, true), (510, true), (511, true), (512, true)] {
            let file = [&vec![0; start], &record(1)[..]].concat();
            let tail = Tail::of_headless(&file, Zxid(0));
            assert_eq!(tail, Tail { unfinished, sound: Some((start as u64, Zxid(1))) }, "at {start}");
        }
    }

    #[test]
    fn sound_records_are_found_wherever_they_are() {
        let bytes = [&[0; 70][..], &[9; 30], &record(5), &[0; 600], &record(6)].concat();
        assert_eq!(Tail::of(&bytes, 16, Zxid(4)).sound, Some((116, Zxid(5))));
        let six = 16 + (bytes.len() - record(6).len()) as u64;
        assert_eq!(Tail::of(&bytes, 16, Zxid(5)).sound, Some((six, Zxid(6))));
        assert_eq!(Tail::of(&bytes, 16, Zxid(6)).sound, None, "an older record is no news");
        assert_eq!(Tail::of(&[[0; 70], [9; 70]].concat(), 16, Zxid(0)).sound, None);
        assert_eq!(Tail::of(&[], 16, Zxid(0)), Tail { unfinished: true, sound: None });
    }
}
