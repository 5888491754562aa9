//! `Server-Timing` (W3C Server Timing): what a script in the page can read of how its own response came about.
//!
//! `cdn-cache;desc=MISS, edge;desc="edge-nrt (Tokyo)";dur=91.2, shield;desc="shield-iad (Ashburn)";dur=17.4, origin;dur=17.1`
//!
//! The `dur` of a node is the time from the request to the head of its answer, in milliseconds, by its own clock; that of
//! the origin is how long the node that asked it waited. So what an edge has taken beyond its shield is the network
//! between them. Only who asked by itself is told of the tiers behind: who was answered from the store, or with the
//! answer to another's request, did not wait for them.
//!
//! **Invariant:** what a shield says of one answer is never stored: [`take`] removes it as the answer arrives.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::outcome::Outcome;

/// The field.
pub const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// A shield says less. What is longer is not its own.
const TOLD_BYTES_MAX: usize = 512;

/// The wait for a next hop.
#[derive(Debug, Clone)]
pub struct Wait {
    /// From asking it to the head of its answer.
    pub duration: Duration,
    /// What a shield says of itself and of what is behind it.
    told: Option<HeaderValue>,
    for_shield: bool,
}

impl Wait {
    /// The wait for an answer with these fields.
    pub fn new(duration: Duration, for_shield: bool, told: Option<HeaderValue>) -> Self {
        Self { duration, told, for_shield }
    }
}

/// Takes out what a shield has added to the `Server-Timing` of the origin, which stays.
pub fn take(fields: &mut HeaderMap) -> Option<HeaderValue> {
    let last = fields.get_all(&SERVER_TIMING).iter().next_back()?;
    let told = of_shield(last.as_bytes()).map(HeaderValue::from_bytes)?;
    let count = fields.get_all(&SERVER_TIMING).iter().count();
    let kept: Vec<_> = fields.get_all(&SERVER_TIMING).iter().take(count - 1).cloned().collect();
    fields.remove(&SERVER_TIMING);
    for line in kept {
        fields.append(&SERVER_TIMING, line);
    }
    told.ok().filter(|told| told.len() <= TOLD_BYTES_MAX)
}

/// The members of a line of a shield's without its verdict, which `Cache-Status` has too.
fn of_shield(line: &[u8]) -> Option<&[u8]> {
    let behind = line.strip_prefix(b"cdn-cache;desc=")?;
    let end = behind.windows(2).position(|two| two == b", ")?;
    behind.get(end + 2..).filter(|rest| rest.starts_with(b"shield;desc=\""))
}

/// Writes the line of a node that calls itself `place` and has taken so long.
pub fn write(outcome: &Outcome, place: &str, taken: Duration, out: &mut Vec<u8>) {
    out.extend_from_slice(b"cdn-cache;desc=");
    out.extend(outcome.verdict.as_str().bytes().map(|b| b.to_ascii_uppercase()));
    out.extend_from_slice(b", ");
    out.extend_from_slice(place.as_bytes());
    duration(taken, out);
    let Some(wait) = outcome.wait.as_deref() else { return };
    if let Some(told) = &wait.told {
        out.extend_from_slice(b", ");
        out.extend_from_slice(told.as_bytes());
    } else if !wait.for_shield {
        out.extend_from_slice(b", origin");
        duration(wait.duration, out);
    }
}

/// `;dur=91.2`: milliseconds, to a tenth.
fn duration(taken: Duration, out: &mut Vec<u8>) {
    // As it is read, not as it is counted: a hit takes less than a tenth, which is not nothing.
    let tenths = taken.as_micros().div_ceil(100);
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(b";dur=");
    out.extend_from_slice(digits.format(tenths / 10).as_bytes());
    out.push(b'.');
    out.extend_from_slice(digits.format(tenths % 10).as_bytes());
}

/// A node's role, name and city as a metric.
pub fn place(role: &str, id: &str, city: Option<&str>) -> String {
    // Inside a quoted string, and in a field: what cannot stand there is left out.
    let city: String = city.unwrap_or("").chars().filter(|c| (' '..='~').contains(c) && !"\"\\".contains(*c)).collect();
    if city.is_empty() { format!("{role};desc=\"{id}\"") } else { format!("{role};desc=\"{id} ({city})\"") }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::outcome::Verdict;

    fn line(verdict: Verdict, wait: Option<Wait>) -> String {
        let mut outcome = Outcome::new(verdict, Some(nearside_config::SiteId::new(0)));
        outcome.wait = wait.map(Arc::new);
        let mut out = Vec::new();
        write(&outcome, &place("edge", "edge-nrt", Some("T\"oky\\o")), Duration::from_micros(91_150), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_hit_tells_of_its_node_and_a_forward_of_who_was_waited_for() {
        let own = "edge;desc=\"edge-nrt (Tokyo)\";dur=91.2";
        assert_eq!(line(Verdict::Hit, None), format!("cdn-cache;desc=HIT, {own}"));
        let asked = |shield, told: Option<&'static str>| {
            Some(Wait::new(Duration::from_millis(80), shield, told.map(HeaderValue::from_static)))
        };
        assert_eq!(line(Verdict::Miss, asked(false, None)), format!("cdn-cache;desc=MISS, {own}, origin;dur=80.0"));
        // A shield that says nothing: its own time is not known, and the wait for it is another thing.
        assert_eq!(line(Verdict::Miss, asked(true, None)), format!("cdn-cache;desc=MISS, {own}"));
        let told = "shield;desc=\"s\";dur=7.0, origin;dur=6.9";
        assert_eq!(line(Verdict::Miss, asked(true, Some(told))), format!("cdn-cache;desc=MISS, {own}, {told}"));
    }

    #[test]
    fn durations_are_milliseconds_to_a_tenth_and_never_nothing() {
        for (micros, text) in
            [(0, "0.0"), (3, "0.1"), (100, "0.1"), (101, "0.2"), (1_000, "1.0"), (61_000_049, "61000.1")]
        {
            let mut out = Vec::new();
            duration(Duration::from_micros(micros), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!(";dur={text}"));
        }
    }

    #[test]
    fn only_the_last_line_of_a_shield_is_taken() {
        let shield = "cdn-cache;desc=MISS, shield;desc=\"s (Ashburn)\";dur=7.0, origin;dur=6.9";
        let cases: [(&[&str], Option<&str>, usize); 6] = [
            (&[], None, 0),
            (&["db;dur=53"], None, 1),
            (&[shield], Some("shield;desc=\"s (Ashburn)\";dur=7.0, origin;dur=6.9"), 0),
            (
                &["db;dur=53", "cdn-cache; desc=HIT, edge; dur=1", shield],
                Some("shield;desc=\"s (Ashburn)\";dur=7.0, origin;dur=6.9"),
                2,
            ),
            (&[shield, "db;dur=53"], None, 2),
            // Another Nearside as the origin: its edges are not our shields.
            (&["cdn-cache;desc=HIT, edge;desc=\"edge-nrt\";dur=0.1"], None, 1),
        ];
        for (lines, told, left) in cases {
            let mut fields = HeaderMap::new();
            for line in lines {
                fields.append(&SERVER_TIMING, HeaderValue::from_static(line));
            }
            assert_eq!(take(&mut fields).as_ref().map(HeaderValue::as_bytes), told.map(str::as_bytes), "{lines:?}");
            let kept: Vec<_> = fields.get_all(&SERVER_TIMING).iter().map(|line| line.to_str().unwrap()).collect();
            assert_eq!(kept, lines[..left], "{lines:?}");
        }
    }
}
