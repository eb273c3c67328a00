//! Blocks of text as Apache's shell prints them: the Stat, the table of bytes.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::client::Stat;

/// Bytes in a line of the table.
const BYTES_A_LINE: usize = 16;

/// The eleven lines of a Stat: names and values. Times are those of this time zone.
pub fn stat_lines(stat: &Stat, zone: &TimeZone) -> [(&'static str, String); 11] {
    [
        ("cZxid", hex(stat.czxid)),
        ("ctime", date(stat.ctime, zone)),
        ("mZxid", hex(stat.mzxid)),
        ("mtime", date(stat.mtime, zone)),
        ("pZxid", hex(stat.pzxid)),
        ("cversion", stat.cversion.to_string()),
        ("dataVersion", stat.version.to_string()),
        ("aclVersion", stat.aversion.to_string()),
        ("ephemeralOwner", hex(stat.ephemeral_owner)),
        ("dataLength", stat.data_length.to_string()),
        ("numChildren", stat.num_children.to_string()),
    ]
}

/// A number as zxids and sessions are written.
pub fn hex(number: i64) -> String {
    format!("{number:#x}")
}

/// Milliseconds since 1970 as Java's `Date` prints them: `Thu Jan 01 00:00:00 UTC 1970`.
fn date(ms: i64, zone: &TimeZone) -> String {
    match Timestamp::from_millisecond(ms) {
        Ok(time) => time.to_zoned_datetime(zone.clone()).strftime("%a %b %d %H:%M:%S %Z %Y").to_string(),
        // Beyond the year 9999: nothing that a clock has said.
        Err(_) => format!("{ms} ms"),
    }
}

/// A table of bytes, in hexadecimal and as text; nothing for no bytes.
pub fn hex_dump(data: &[u8]) -> String {
    if data.is_empty() {
        return String::new();
    }
    const RULER: &str = "+--------+-------------------------------------------------+----------------+";
    let mut table = "         +-------------------------------------------------+\n         |  0  1  2  3  4  5  6  7  8  9  \
                     a  b  c  d  e  f |\n"
        .to_string();
    table += RULER;
    for (line, bytes) in data.chunks(BYTES_A_LINE).enumerate() {
        let mut numbers = String::new();
        let mut text = String::new();
        for byte in bytes {
            write!(numbers, " {byte:02x}").expect("a String takes all");
            text.push(if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '.' });
        }
        let offset = line * BYTES_A_LINE;
        write!(table, "\n|{offset:08x}|{numbers:48} |{text:16}|").expect("a String takes all");
    }
    table.push('\n');
    table + RULER
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_has_eleven_lines() {
        let stat = Stat {
            czxid: 0x1_0000_0002,
            ctime: 1_795_369_616_789,
            ephemeral_owner: -1,
            cversion: -1,
            data_length: 5,
            ..Stat::default()
        };
        let lines: Vec<String> = stat_lines(&stat, &TimeZone::UTC)
            .into_iter()
            .map(|(name, value)| format!("{name} = {value}"))
            .collect();
        assert_eq!(
            lines,
            [
                "cZxid = 0x100000002",
                "ctime = Sun Nov 22 17:46:56 UTC 2026",
                "mZxid = 0x0",
                "mtime = Thu Jan 01 00:00:00 UTC 1970",
                "pZxid = 0x0",
                "cversion = -1",
                "dataVersion = 0",
                "aclVersion = 0",
                "ephemeralOwner = 0xffffffffffffffff",
                "dataLength = 5",
                "numChildren = 0",
            ]
        );
        let paris = TimeZone::get("Europe/Paris").unwrap_or(TimeZone::UTC);
        assert!(date(1_795_369_616_789, &paris).ends_with(" 2026"));
        assert_eq!(date(i64::MAX, &TimeZone::UTC), "9223372036854775807 ms");
    }

    /// Recorded from the 3.9.5 shell.
    #[test]
    fn a_table_of_bytes() {
        let expected = "         +-------------------------------------------------+
         |  0  1  2  3  4  5  6  7  8  9  a  b  c  d  e  f |
+--------+-------------------------------------------------+----------------+
|00000000| 68 65 6c 6c 6f                                  |hello           |
+--------+-------------------------------------------------+----------------+";
        assert_eq!(hex_dump(b"hello"), expected);
        let long = hex_dump(&[0x41; 17]);
        assert_eq!(long.lines().count(), 6);
        assert!(
            long.contains(
                "\n|00000010| 41                                              |A               |\n"
            )
        );
        assert!(hex_dump(&[0, 0x7f, 0xff, b'~']).contains("|...~            |"));
        assert_eq!(hex_dump(b""), "");
    }
}
