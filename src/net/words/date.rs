//! Dates as Java prints them, `Wed Nov 25 15:31:58 UTC 2026`; here always in UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The days of the week from the first of January 1970 on.
const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Seconds in a day.
const DAY: u64 = 86_400;

/// The last time that can be shown, in seconds since 1970: the end of the year 9999.
const LAST: u64 = 253_402_300_799;

/// A time, without its fraction of a second.
pub(super) fn java_date(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().min(LAST);
    let text = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string();
    // 2026-11-25T15:31:58Z
    let month: usize = text[5..7].parse().expect("a month is a number");
    let day_of_week = DAYS[(seconds / DAY % 7) as usize];
    format!("{day_of_week} {} {} {} UTC {}", MONTHS[month - 1], &text[8..10], &text[11..19], &text[..4])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_java_s() {
        let date = |seconds| java_date(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(date(0), "Thu Jan 01 00:00:00 UTC 1970");
        assert_eq!(date(1_795_620_718), "Wed Nov 25 15:31:58 UTC 2026");
        assert_eq!(date(951_782_400), "Tue Feb 29 00:00:00 UTC 2000");
        assert_eq!(date(LAST), "Fri Dec 31 23:59:59 UTC 9999");
        assert_eq!(date(LAST + 5), date(LAST));
        assert_eq!(java_date(UNIX_EPOCH - Duration::from_secs(1)), date(0));
    }
}
