//! HTTP dates (RFC 9110 §5.6.7): exactly the three forms, in any case, and nothing else.
//!
//! Whatever is not one of them (a zone other than GMT, one-digit hours, double spaces, a missing comma) is no date; for
//! `Expires` that means "already expired" (RFC 9111 §5.3).

use std::time::{Duration, UNIX_EPOCH};

use crate::time::Timestamp;

const MONTHS: [&[u8]; 12] =
    [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"];
const DAYS: [&[u8]; 7] = [b"mon", b"tue", b"wed", b"thu", b"fri", b"sat", b"sun"];
const LONG_DAYS: [&[u8]; 7] = [b"monday", b"tuesday", b"wednesday", b"thursday", b"friday", b"saturday", b"sunday"];

/// The moment that an HTTP date names, or `None` if it is none.
///
/// `now` decides the century of the two-digit years of RFC 850: a date that seems to be more than 50 years ahead is the
/// most recent past year with the same last digits.
#[must_use]
pub fn parse(text: &[u8], now: Timestamp) -> Option<Timestamp> {
    // The longest lawful form is `Wednesday, 06-Nov-94 08:49:37 GMT`.
    let mut lower = [0_u8; 33];
    let lower = lower.get_mut(..text.len())?;
    lower.copy_from_slice(text);
    lower.make_ascii_lowercase();
    let mut scan = Scan { rest: lower };
    imf_fixdate(&mut scan.clone()).or_else(|| rfc850(&mut scan.clone(), now)).or_else(|| asctime(&mut scan))
}

/// `moment` as IMF-fixdate, the only form that may be sent.
#[must_use]
pub fn format(moment: Timestamp) -> String {
    // Year 9999 is the last that has four digits.
    let secs = moment.as_secs().min(253_402_300_799);
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(secs))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
fn imf_fixdate(scan: &mut Scan<'_>) -> Option<Timestamp> {
    scan.one_of(&DAYS)?;
    scan.exactly(b", ")?;
    let day = scan.number(2)?;
    scan.exactly(b" ")?;
    let month = scan.one_of(&MONTHS)?;
    scan.exactly(b" ")?;
    let year = scan.number(4)?;
    scan.exactly(b" ")?;
    let clock = scan.clock()?;
    scan.exactly(b" gmt")?;
    scan.end()?;
    moment(year, month, day, clock)
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`
fn rfc850(scan: &mut Scan<'_>, now: Timestamp) -> Option<Timestamp> {
    scan.one_of(&LONG_DAYS)?;
    scan.exactly(b", ")?;
    let day = scan.number(2)?;
    scan.exactly(b"-")?;
    let month = scan.one_of(&MONTHS)?;
    scan.exactly(b"-")?;
    let short = scan.number(2)?;
    scan.exactly(b" ")?;
    let clock = scan.clock()?;
    scan.exactly(b" gmt")?;
    scan.end()?;
    let (this_year, _, _) = civil_from_days(now.as_secs() / 86_400);
    let this_century = this_year - this_year % 100 + short;
    let year = if this_century > this_year + 50 { this_century - 100 } else { this_century };
    moment(year, month, day, clock)
}

/// `Sun Nov  6 08:49:37 1994`
fn asctime(scan: &mut Scan<'_>) -> Option<Timestamp> {
    scan.one_of(&DAYS)?;
    scan.exactly(b" ")?;
    let month = scan.one_of(&MONTHS)?;
    scan.exactly(b" ")?;
    let day = match scan.exactly(b" ") {
        Some(()) => scan.number(1)?,
        None => scan.number(2)?,
    };
    scan.exactly(b" ")?;
    let clock = scan.clock()?;
    scan.exactly(b" ")?;
    let year = scan.number(4)?;
    scan.end()?;
    moment(year, month, day, clock)
}

/// Seconds of the day and calendar day to a moment; `None` for dates that no calendar has or that precede 1970.
fn moment(year: u64, month: usize, day: u64, clock: u64) -> Option<Timestamp> {
    let month = u64::try_from(month).ok()? + 1;
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let length = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if day == 0 || day > length {
        return None;
    }
    // Before the epoch there is no use in telling moments apart: all of them are past.
    let days = days_from_civil(year, month, day).unwrap_or(0);
    Some(Timestamp::from_secs(days * 86_400 + clock))
}

/// Days since 1970-01-01 in the Gregorian calendar; `None` before it. Algorithm: H. Hinnant, "chrono-compatible
/// low-level date algorithms", for years from 0.
fn days_from_civil(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = if month <= 2 { year.checked_sub(1)? } else { year };
    let era = year / 400;
    let year_of_era = year % 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).checked_sub(719_468)
}

/// Year, month, day of a day since 1970-01-01 (same source).
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let era = z / 146_097;
    let day_of_era = z % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

/// A cursor over the lower-cased text of a date.
#[derive(Clone)]
struct Scan<'a> {
    rest: &'a [u8],
}

impl Scan<'_> {
    fn exactly(&mut self, text: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(text)?;
        Some(())
    }

    fn one_of(&mut self, names: &[&[u8]]) -> Option<usize> {
        let found = names.iter().position(|n| self.rest.starts_with(n))?;
        self.rest = self.rest.strip_prefix(*names.get(found)?)?;
        Some(found)
    }

    fn number(&mut self, digits: usize) -> Option<u64> {
        let (number, rest) = self.rest.split_at_checked(digits)?;
        if !number.iter().all(u8::is_ascii_digit) {
            return None;
        }
        self.rest = rest;
        Some(number.iter().fold(0, |sum, d| sum * 10 + u64::from(d - b'0')))
    }

    /// `08:49:37` as seconds of the day; a leap second counts as the last one.
    fn clock(&mut self) -> Option<u64> {
        let hour = self.number(2)?;
        self.exactly(b":")?;
        let minute = self.number(2)?;
        self.exactly(b":")?;
        let second = self.number(2)?;
        (hour < 24 && minute < 60 && second <= 60).then(|| hour * 3600 + minute * 60 + second.min(59))
    }

    fn end(&self) -> Option<()> {
        self.rest.is_empty().then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_790_000_000); // 2026-09-21

    #[test]
    fn rfc9110_s5_6_7_three_forms_and_nothing_else() {
        let when = Some(Timestamp::from_secs(784_111_777));
        let table = [
            ("Sun, 06 Nov 1994 08:49:37 GMT", when),
            ("sun, 06 nov 1994 08:49:37 gmt", when),
            ("Sunday, 06-Nov-94 08:49:37 GMT", when),
            ("Sun Nov  6 08:49:37 1994", when),
            ("Sun Nov 06 08:49:37 1994", when),
            ("Sun, 06 Nov 1994 08:49:37 UTC", None),
            ("Sun, 06 Nov 1994 08:49:37 +0000", None),
            ("Sun, 06 Nov 1994 08:49:37", None),
            ("Sun 06 Nov 1994 08:49:37 GMT", None),
            ("Sun,  06 Nov 1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994  08:49:37 GMT", None),
            ("Sun, 06-Nov-1994 08:49:37 GMT", None),
            ("Sun, 6 Nov 1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 8:49:37 GMT", None),
            ("Sun, 06 Nov 94 08:49:37 GMT", None),
            ("Sun, 31 Feb 1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 24:00:00 GMT", None),
            ("0", None),
            ("", None),
            ("Thu, 18 Aug 2050 02:01:18 GMT, Thu, 18 Aug 2050", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text.as_bytes(), NOW), expected, "{text:?}");
        }
    }

    #[test]
    fn two_digit_years_follow_the_fifty_year_rule() {
        let year = |text: &str| civil_from_days(parse(text.as_bytes(), NOW).unwrap().as_secs() / 86_400).0;
        assert_eq!(year("Sunday, 06-Nov-76 08:49:37 GMT"), 2076);
        assert_eq!(year("Sunday, 06-Nov-77 08:49:37 GMT"), 1977);
        assert_eq!(year("Sunday, 06-Nov-27 08:49:37 GMT"), 2027);
    }

    #[test]
    fn what_is_formatted_is_read_back() {
        for secs in [0, 951_782_400, 1_709_164_800, 1_790_000_000, 4_102_444_799] {
            let moment = Timestamp::from_secs(secs);
            assert_eq!(parse(format(moment).as_bytes(), NOW), Some(moment));
        }
    }

    #[test]
    fn dates_before_the_epoch_are_past() {
        assert_eq!(parse(b"Sun, 06 Nov 1904 00:00:00 GMT", NOW), Some(Timestamp::from_secs(0)));
    }
}
