//! The forms that lines of the access log have.
//!
//! **Invariant:** whatever a client sends, a line is one line, and valid in its form; credentials, cookies and queries are in none.

use std::io::Write;
use std::time::Duration;

use nearside_diagnostics::visible_line;
use nearside_semantics::key::Scheme;
use nearside_semantics::{Timestamp, date};

use super::LINE_BYTES;
use crate::outcome::Verdict;
use crate::reason::Reason;
use crate::record::{Record, Said, Truncation};

/// One flat JSON object. A line is part of the price of a hit: what many lines share is made once, and names and
/// punctuation are written in as few pieces as possible.
pub(super) fn json(prefix: &[u8], record: &Record<'_>, stamp: &[u8], out: &mut Vec<u8>) {
    let outcome = record.outcome;
    let (path, query) = split_query(record.requested.target);
    out.reserve(LINE_BYTES / 2);
    out.extend_from_slice(stamp);
    out.extend_from_slice(prefix);
    out.extend_from_slice(record.requested.client.text());
    out.extend_from_slice(b"\",\"method\":\"");
    // A method is a token: nothing in it needs escaping.
    out.extend_from_slice(record.requested.method.as_bytes());
    out.extend_from_slice(match record.requested.scheme {
        Scheme::Http => b"\",\"scheme\":\"http\",\"host\":\"",
        Scheme::Https => b"\",\"scheme\":\"https\",\"host\":\"",
    });
    escape(record.requested.host, out);
    out.extend_from_slice(b"\",\"path\":\"");
    escape(path, out);
    // Queries carry tokens: it is told that there was one, not what it said.
    out.extend_from_slice(if query { b"\",\"query\":true,\"proto\":\"" } else { b"\",\"proto\":\"" });
    out.extend_from_slice(record.requested.protocol.log_name().as_bytes());
    out.extend_from_slice(b"\",\"status\":");
    out.extend_from_slice(record.status.as_str().as_bytes());
    out.extend_from_slice(b",\"bytes\":");
    out.extend_from_slice(itoa::Buffer::new().format(record.bytes).as_bytes());
    out.extend_from_slice(b",\"duration\":");
    span(record.times.duration(), out);
    out.extend_from_slice(b",\"ttfb\":");
    span(record.times.first_byte_after(), out);
    out.extend_from_slice(b",\"cache\":\"");
    out.extend_from_slice(outcome.verdict.as_str().as_bytes());
    out.push(b'"');
    if let Some(age) = record.age {
        out.extend_from_slice(b",\"age\":");
        out.extend_from_slice(itoa::Buffer::new().format(age).as_bytes());
    }
    if let Some(ttl) = outcome.ttl {
        out.extend_from_slice(b",\"ttl\":");
        out.extend_from_slice(itoa::Buffer::new().format(ttl).as_bytes());
    }
    if outcome.verdict != Verdict::Hit
        || outcome.reason.is_some()
        || record.requested.trace.is_some()
        || record.truncation.is_some()
    {
        json_of_others(record, out);
    }
    json_of_client(record, out);
    out.extend_from_slice(b"}\n");
}

/// The fields that a plain hit has none of.
#[cold]
fn json_of_others(record: &Record<'_>, out: &mut Vec<u8>) {
    let outcome = record.outcome;
    let texts = [
        ("reason", Some(outcome.decision()).filter(|reason| *reason != Reason::Fresh).map(Reason::token)),
        ("upstream", outcome.upstream.as_deref()),
        ("error", record.truncation.map(Truncation::as_str)),
    ];
    for (name, value) in texts {
        if let Some(value) = value {
            text(name, value.as_bytes(), out);
        }
    }
    if let Some(trace) = record.requested.trace {
        text("trace_id", trace.id(), out);
    }
    if let Some(status) = outcome.forward_status {
        out.extend_from_slice(b",\"upstream_status\":");
        out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
    }
    if let Some(wait) = &outcome.wait {
        out.extend_from_slice(b",\"upstream_duration\":");
        span(wait.duration, out);
    }
}

/// What the client says of itself, where that is logged.
fn json_of_client(record: &Record<'_>, out: &mut Vec<u8>) {
    let Said { agent, referer } = record.requested.said;
    for (name, value) in [("ua", agent), ("referer", split_query(referer).0)] {
        if !value.is_empty() {
            text(name, value, out);
        }
    }
}

fn text(name: &str, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":\"");
    escape(value, out);
    out.push(b'"');
}

/// As Apache's `combined`: its readers know no reason and no cache.
pub(super) fn combined(record: &Record<'_>, now: Timestamp, out: &mut Vec<u8>) {
    let (path, query) = split_query(record.requested.target);
    let Said { agent, referer } = record.requested.said;
    // "Sun, 06 Nov 1994 08:49:37 GMT"
    let date = date::format(now);
    let part = |range: std::ops::Range<usize>| date.get(range).unwrap_or_default();
    out.extend_from_slice(record.requested.client.text());
    let _ = write!(out, " - - [{}/{}/{}:{} +0000] \"", part(5..7), part(8..11), part(12..16), part(17..25));
    out.extend_from_slice(record.requested.method.as_bytes());
    out.push(b' ');
    quoted(path, out);
    let query = if query { "?\u{2026}" } else { "" };
    let _ = write!(
        out,
        "{query} {}\" {} {} \"",
        record.requested.protocol.log_name(),
        record.status.as_u16(),
        record.bytes
    );
    quoted(if referer.is_empty() { b"-" } else { split_query(referer).0 }, out);
    out.extend_from_slice(b"\" \"");
    quoted(if agent.is_empty() { b"-" } else { agent }, out);
    out.extend_from_slice(b"\"\n");
}

/// The inside of a quoted part: `\xHH` for what could end it, or a line.
fn quoted(value: &[u8], out: &mut Vec<u8>) {
    for byte in value {
        match byte {
            b'"' | b'\\' | ..0x20 | 0x7f.. => {
                let _ = write!(out, "\\x{byte:02X}");
            }
            plain => out.push(*plain),
        }
    }
}

/// For the eye.
pub(super) fn pretty(record: &Record<'_>, now: Timestamp, out: &mut Vec<u8>) {
    let (path, query) = split_query(record.requested.target);
    let _ = writeln!(
        out,
        "{} {:<11} {} {} {}{}{} {} B {:.1} ms{}",
        date::format(now),
        record.outcome.verdict.as_str(),
        record.status.as_u16(),
        record.requested.method,
        visible_line(&String::from_utf8_lossy(record.requested.host)),
        visible_line(&String::from_utf8_lossy(path)),
        if query { "?…" } else { "" },
        record.bytes,
        record.times.duration().as_secs_f64() * 1000.0,
        record
            .truncation
            .map(Truncation::as_str)
            .or(record.outcome.reason.map(Reason::token))
            .map(|reason| format!(" ({reason})"))
            .unwrap_or_default(),
    );
}

fn split_query(target: &[u8]) -> (&[u8], bool) {
    let end = target.iter().position(|b| *b == b'?');
    (end.and_then(|end| target.get(..end)).unwrap_or(target), end.is_some())
}

/// A span in seconds, to the microsecond.
fn span(value: Duration, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value.as_secs()).as_bytes());
    let mut digits = *b".000000";
    let mut rest = value.subsec_micros();
    for digit in digits.iter_mut().rev().take(6) {
        *digit += u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
    }
    out.extend_from_slice(&digits);
}

/// The beginning of all lines of one millisecond: `{"ts":1790000000.042`
#[derive(Debug, Default)]
pub(super) struct Stamp {
    millis: u64,
    text: Vec<u8>,
}

impl Stamp {
    pub(super) fn at(&mut self, now: Timestamp) -> &[u8] {
        let millis = now.as_millis();
        if self.millis != millis || self.text.is_empty() {
            self.millis = millis;
            self.text.clear();
            // Writing to memory does not fail.
            let _ = write!(self.text, "{{\"ts\":{}.{:03}", millis / 1000, millis % 1000);
        }
        &self.text
    }
}

/// The inside of a string; bytes that are not ASCII are written as Latin-1, so that any input gives valid JSON.
fn escape(value: &[u8], out: &mut Vec<u8>) {
    let plain = |b: &u8| (0x20..=0x7e).contains(b) && !matches!(b, b'"' | b'\\');
    // Without an early exit: nearly all values are plain, and this way many bytes are looked at together.
    if value.iter().fold(true, |all, b| all & plain(b)) {
        return out.extend_from_slice(value);
    }
    for byte in value {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            0x20..=0x7e => out.push(*byte),
            other => {
                let _ = write!(out, "\\u{other:04x}");
            }
        }
    }
}

/// What stands between the time and the client's address: the same in every line of a site.
pub(super) fn prefix(node: &str, site: &str) -> Vec<u8> {
    let mut prefix = b",\"node\":\"".to_vec();
    escape(node.as_bytes(), &mut prefix);
    prefix.extend_from_slice(b"\",\"site\":\"");
    // Not ASCII is not Latin-1 here: JSON may hold it as it is.
    let site = serde_json::to_string(site).unwrap_or_default();
    prefix.extend_from_slice(site.strip_prefix('"').unwrap_or_default().as_bytes());
    prefix.extend_from_slice(b",\"client_ip\":\"");
    prefix
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::StatusCode;

    use super::*;
    use crate::outcome::{Outcome, Verdict};
    use crate::protocol::Protocol;
    use crate::record::{Client, Requested, Responded, Sent, Times};
    use crate::trace::Trace;

    /// A line with everything that one can have has just the fields that expressions may be about.
    fn fields_are_known(line: &[u8]) {
        use nearside_protocol::filter::Kind;
        use nearside_protocol::filter::LOG_FIELDS;
        use serde_json::Value;
        let line: serde_json::Map<String, Value> = serde_json::from_slice(line).unwrap();
        let kind = |value: &Value| match value {
            Value::String(_) => Kind::Text,
            Value::Bool(_) => Kind::Flag,
            _ => Kind::Number,
        };
        let mut found: Vec<_> =
            line.iter().map(|(name, value)| (name.as_str(), format!("{:?}", kind(value)))).collect();
        let mut known: Vec<_> = LOG_FIELDS.iter().map(|field| (field.name, format!("{:?}", field.kind))).collect();
        found.sort();
        known.sort();
        assert_eq!(found, known);
    }

    /// Checks that a line for a terminal has no control characters of the client's.
    fn escapes_controls(record: &Record<'_>) {
        let mut line = Vec::new();
        let requested = Requested { target: "/a\u{9b}2J\u{202e}b".as_bytes(), host: b"x\ny", ..record.requested };
        let lying = Record { requested, ..*record };
        pretty(&lying, Timestamp::from_millis(0), &mut line);
        let line = String::from_utf8(line).unwrap();
        assert!(line.contains("x\\u000ay/a\\u009b2J\\u202eb") && line.lines().count() == 1, "{line}");
    }

    #[test]
    fn a_line_is_valid_json_whatever_the_client_sends() {
        let mut outcome = Outcome::new(Verdict::Miss, Some(nearside_config::SiteId::new(0)));
        outcome.ttl = Some(-3);
        outcome.upstream = Some("http://o:1".into());
        outcome.forward_status = Some(200);
        outcome.wait = Some(Arc::new(crate::server_timing::Wait::new(Duration::from_micros(250), false, None)));
        let start = crate::clock::instant();
        let requested = Requested {
            method: "GET",
            scheme: Scheme::Https,
            host: b"ex\"ample",
            target: b"/a\\\x01\xff?token=secret",
            protocol: Protocol::Http11,
            client: Client::new("[::ffff:192.0.2.1]:5".parse().unwrap()),
            trace: Some(&Trace::of(&http::HeaderMap::new(), 1)),
            said: Said { agent: b"a \"browser\"", referer: b"https://elsewhere.example/p?token=secret" },
        };
        let responded = Responded { status: StatusCode::OK, age: Some(7), outcome: &outcome };
        let times =
            Times { start, first_byte: start + Duration::from_micros(1500), end: start + Duration::from_secs(2) };
        let record = Record::new(requested, responded, &Sent { bytes: 5, ..Sent::default() }, times);
        let mut line = Vec::new();
        let mut stamp = Stamp::default();
        json(&prefix("edge", "wüw\""), &record, stamp.at(Timestamp::from_millis(1_790_000_000_042)), &mut line);
        assert!(line.ends_with(b"}\n"));
        let parsed: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(parsed["ts"], 1_790_000_000.042);
        assert_eq!((&parsed["node"], &parsed["site"]), (&"edge".into(), &"wüw\"".into()));
        assert_eq!((&parsed["method"], &parsed["scheme"]), (&"GET".into(), &"https".into()));
        assert_eq!((&parsed["upstream"], &parsed["upstream_status"]), (&"http://o:1".into(), &200.into()));
        assert_eq!(parsed["upstream_duration"], 0.00025);
        assert_eq!(parsed["host"], "ex\"ample");
        assert_eq!(parsed["path"], "/a\\\u{1}\u{ff}");
        assert_eq!(parsed["client_ip"], "192.0.2.1");
        assert_eq!((&parsed["ttfb"], &parsed["duration"]), (&0.0015.into(), &2.0.into()));
        assert_eq!((&parsed["ttl"], &parsed["query"]), (&(-3).into(), &true.into()));
        assert_eq!(
            (&parsed["ua"], &parsed["referer"]),
            (&"a \"browser\"".into(), &"https://elsewhere.example/p".into())
        );
        assert!(parsed["trace_id"].as_str().is_some_and(|id| id.len() == 32));
        assert!(!String::from_utf8_lossy(&line).contains("secret"), "queries carry tokens");
        line.clear();
        let cut = Record { truncation: Some(Truncation::ClientGone), ..record };
        json(&prefix("edge", "w"), &cut, stamp.at(Timestamp::from_millis(0)), &mut line);
        fields_are_known(&line);
        let mut line = Vec::new();
        combined(&record, Timestamp::from_millis(1_790_000_000_042), &mut line);
        let head = r#"192.0.2.1 - - [21/Sep/2026:14:13:20 +0000] "GET /a\x5C\x01\xFF?… HTTP/1.1" 200 5"#;
        let expected = format!("{head} {}\n", r#""https://elsewhere.example/p" "a \x22browser\x22""#);
        assert_eq!(String::from_utf8(line).unwrap(), expected);
        escapes_controls(&record);

        // A shield's hit belongs to a trace as its edge's miss does; a plain hit has nothing more to say.
        let mut hit = Outcome::new(Verdict::Hit, Some(nearside_config::SiteId::new(0)));
        let mut line_of = |outcome: &Outcome, has_trace: bool| -> serde_json::Value {
            let mut line = Vec::new();
            let requested = Requested { trace: requested.trace.filter(|_| has_trace), ..requested };
            let record = Record { outcome, requested, ..record };
            json(&prefix("edge", "w"), &record, stamp.at(Timestamp::from_millis(0)), &mut line);
            serde_json::from_slice(&line).unwrap()
        };
        let plain = line_of(&hit, false);
        assert!(plain.get("trace_id").is_none() && plain.get("reason").is_none());
        let traced = line_of(&hit, true);
        assert!(traced.get("trace_id").is_some() && traced.get("reason").is_none());
        hit.reason = Some(Reason::Precondition);
        assert_eq!(line_of(&hit, false)["reason"], "precondition");
    }
}
