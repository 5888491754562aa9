//! How old a response is (RFC 9111 §4.2.3, §5.1).
//!
//! Both ways of knowing count, whichever is greater: the `Age` that the sender stated, and the time since its `Date`.

use std::time::Duration;

use http::HeaderMap;
use http::header::{AGE, DATE};

use crate::date;
use crate::time::{DeltaSeconds, Timestamp};

/// When a request went out and its response came in.
///
/// Two clocks count: the cache's own, which never jumps and measures how long a response has been stored, and the wall
/// clock, which `Date`, `Expires` and `Last-Modified` are compared with. They differ once the wall clock has been set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exchange {
    /// Moment at which the request was sent, by the cache's own clock.
    pub request_time: Timestamp,
    /// Moment at which the head of the response arrived, by the cache's own clock.
    pub response_time: Timestamp,
    /// The same moment as `response_time`, by the wall clock.
    pub response_date: Timestamp,
}

/// The `Age` field: the first member of the first line, if it is delta-seconds (RFC 9111 §5.1).
#[must_use]
pub fn stated(fields: &HeaderMap) -> Option<DeltaSeconds> {
    let first = fields.get(AGE)?.as_bytes().split(|b| *b == b',').next()?;
    DeltaSeconds::parse(first.trim_ascii())
}

/// The `Date` field, if there is exactly one and it is a date.
#[must_use]
pub fn date(fields: &HeaderMap, now: Timestamp) -> Option<Timestamp> {
    let mut lines = fields.get_all(DATE).iter();
    let only = lines.next()?;
    if lines.next().is_some() {
        return None;
    }
    date::parse(only.as_bytes(), now)
}

/// The age of a response at the moment it arrived: `corrected_initial_age` of RFC 9111 §4.2.3.
#[must_use]
pub fn initial(fields: &HeaderMap, exchange: Exchange) -> Duration {
    let Exchange { request_time, response_time, response_date } = exchange;
    let date_value = date(fields, response_date).unwrap_or(response_date);
    // Both are whole seconds, so that half a second on the way does not become a second of age.
    let apparent = Duration::from_secs(response_date.as_secs().saturating_sub(date_value.as_secs()));
    let corrected = match stated(fields) {
        Some(age) => age.as_duration() + response_time.since(request_time),
        None => response_time.since(request_time),
    };
    apparent.max(corrected)
}

/// The age at `now` of a response that had `initial` age at `response_time`: `current_age` of RFC 9111 §4.2.3.
#[must_use]
pub fn current(initial: Duration, response_time: Timestamp, now: Timestamp) -> Duration {
    initial.saturating_add(now.since(response_time))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    #[test]
    fn rfc9111_s5_1_age_is_the_first_member_of_the_first_line() {
        let table: &[(&[&str], Option<u64>)] = &[
            (&["7200"], Some(7200)),
            (&["007200"], Some(7200)),
            (&["7200, 0"], Some(7200)),
            (&["0, 7200"], Some(0)),
            (&["0", "7200"], Some(0)),
            (&["abc"], None),
            (&["-7200"], None),
            (&["7200.0"], None),
            (&["\"7200\""], None),
            (&[""], None),
            (&["99999999999999999999"], Some(1 << 31)),
        ];
        for (lines, expected) in table {
            let lines: Vec<_> = lines.iter().map(|l| ("age", *l)).collect();
            assert_eq!(stated(&fields(&lines)), expected.map(DeltaSeconds::from_secs), "{lines:?}");
        }
    }

    #[test]
    fn rfc9111_s4_2_3_age_is_the_greater_of_stated_and_apparent() {
        let at = |secs: u64| Timestamp::from_secs(1_790_000_000 + secs);
        let date = |moment| date::format(moment);
        let exchange = Exchange { request_time: at(100), response_time: at(103), response_date: at(103) };
        let table = [
            (vec![], 3),
            (vec![("age", "60".to_owned())], 63),
            (vec![("date", date(at(0)))], 103),
            (vec![("date", date(at(0))), ("age", "60".to_owned())], 103),
            (vec![("date", date(at(0))), ("age", "600".to_owned())], 603),
            (vec![("date", date(at(900)))], 3),
            (vec![("date", "yesterday".to_owned())], 3),
        ];
        for (lines, expected) in table {
            let borrowed: Vec<_> = lines.iter().map(|(n, v)| (*n, v.as_str())).collect();
            assert_eq!(initial(&fields(&borrowed), exchange), Duration::from_secs(expected), "{lines:?}");
        }
    }
}
