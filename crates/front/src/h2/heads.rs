//! What the heads of requests hold while a connection works on them.
//!
//! A few bytes on the wire can stand for a head of many fields (references into the table of HPACK), and a client that
//! takes no answer keeps every request of its connection. So fields are counted before anything else is done with them, the
//! heads of a connection's streams have a bound in bytes, and what is kept shares no buffer with what was received.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use http::header::COOKIE;
use http::{HeaderMap, HeaderValue, StatusCode};
use nearside_engine::request::refusal::Refusal;
use nearside_telemetry::reason::Reason;
use nearside_telemetry::record::Said;
use nearside_telemetry::trace::Trace;

use crate::shares::head_bytes;

/// Bytes of request heads that the streams of a connection hold: 128 usual ones.
const HEADS_MAX: u64 = 512 << 10;

/// The refusal for a head of more than `max` fields. Cookies count as one: clients send each in a field of its own (RFC 9113
/// §8.2.3).
pub(super) fn refusal(fields: &HeaderMap, max: usize) -> Option<Refusal> {
    if fields.len() <= max {
        return None;
    }
    let cookies = fields.get_all(COOKIE).iter().count();
    let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    (fields.len() - cookies.saturating_sub(1) > max).then_some(Refusal { status, reason: Reason::TooManyFields })
}

/// Brings a head to the form in which it is kept: one line of cookies, and all values in one buffer of their own. As they
/// came, a value of five bytes would keep all of the frame that it came in.
pub(super) fn compact(fields: &mut HeaderMap) {
    join_cookies(fields);
    let mut text = BytesMut::with_capacity(fields.values().map(HeaderValue::len).sum());
    fields.values().for_each(|value| text.extend_from_slice(value.as_bytes()));
    let mut text = text.freeze();
    for value in fields.values_mut() {
        if let Ok(copy) = HeaderValue::from_maybe_shared(text.split_to(value.len())) {
            *value = copy;
        }
    }
}

/// "these MUST be concatenated into a single octet string" (RFC 9113 §8.2.3).
fn join_cookies(fields: &mut HeaderMap) {
    if fields.get_all(COOKIE).iter().count() < 2 {
        return;
    }
    let lines: Vec<&[u8]> = fields.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&lines.join(&b"; "[..])) {
        fields.insert(COOKIE, joined);
    }
}

/// The streams of a connection that have a task.
#[derive(Debug, Default)]
pub(super) struct Streams {
    count: AtomicUsize,
    head_bytes: AtomicU64,
}

impl Streams {
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Enters a stream whose head holds `fields`, unless the heads of all hold too much.
    pub(super) fn enter(self: &Arc<Self>, fields: &HeaderMap) -> Option<Open> {
        let bytes = head_bytes(fields);
        // All changes come from the thread of the connection.
        let held = self.head_bytes.load(Ordering::Relaxed);
        (held == 0 || held + bytes <= HEADS_MAX).then(|| self.open(bytes))
    }

    /// Enters a stream that holds no head.
    pub(super) fn enter_headless(self: &Arc<Self>) -> Open {
        self.open(0)
    }

    fn open(self: &Arc<Self>, bytes: u64) -> Open {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.head_bytes.fetch_add(bytes, Ordering::Relaxed);
        Open { streams: Arc::clone(self), bytes }
    }
}

/// Counts a stream while it is open.
#[derive(Debug)]
pub(super) struct Open {
    streams: Arc<Streams>,
    bytes: u64,
}

impl Open {
    /// Its head is not held any more.
    pub(super) fn release_head(&mut self) {
        self.streams.head_bytes.fetch_sub(std::mem::take(&mut self.bytes), Ordering::Relaxed);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.release_head();
        self.streams.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the log line of a request needs of it.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Host, target, `User-Agent` and `Referer` in a row.
    text: Bytes,
    /// Where the first three end.
    ends: [usize; 3],
    pub(super) trace: Option<Trace>,
}

impl Told {
    pub(super) fn new(host: &[u8], target: &[u8], said: Said<'_>, trace: Option<Trace>) -> Self {
        let parts = [host, target, said.agent, said.referer];
        let target_end = host.len() + target.len();
        Self { text: parts.concat().into(), ends: [host.len(), target_end, target_end + said.agent.len()], trace }
    }

    pub(super) fn host(&self) -> &[u8] {
        self.text.get(..self.ends[0]).unwrap_or_default()
    }

    pub(super) fn target(&self) -> &[u8] {
        self.text.get(self.ends[0]..self.ends[1]).unwrap_or_default()
    }

    pub(super) fn said(&self) -> Said<'_> {
        let part = |range: Range<usize>| self.text.get(range).unwrap_or_default();
        Said { agent: part(self.ends[1]..self.ends[2]), referer: part(self.ends[2]..self.text.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: impl IntoIterator<Item = (&'static str, String)>) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            fields.append(name, HeaderValue::try_from(value).unwrap());
        }
        fields
    }

    #[test]
    fn fields_are_counted_and_cookies_are_one() {
        let many = |name, count| fields((0..count).map(|n| (name, n.to_string())));
        assert!(refusal(&many("a", 100), 100).is_none());
        assert_eq!(refusal(&many("a", 101), 100).map(|refusal| refusal.status.as_u16()), Some(431));
        assert!(refusal(&many("cookie", 500), 100).is_none());
    }

    #[test]
    fn what_is_kept_shares_nothing_with_what_was_received() {
        let frame = Bytes::from(vec![b'x'; 16 << 10]);
        let mut head = HeaderMap::new();
        head.append("a", HeaderValue::from_maybe_shared(frame.slice(..5)).unwrap());
        head.append("b", HeaderValue::from_maybe_shared(frame.slice(5..7)).unwrap());
        head.append("a", "second".parse().unwrap());
        head.append(COOKIE, "c=1".parse().unwrap());
        head.append(COOKIE, "d=2".parse().unwrap());
        assert!(!frame.is_unique());
        compact(&mut head);
        assert!(frame.is_unique());
        let of = |name: &str| head.get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!((of("a"), of("b"), of("cookie")), (vec!["xxxxx", "second"], vec!["xx"], vec!["c=1; d=2"]));
    }

    #[test]
    fn the_heads_of_a_connection_are_bounded_and_one_always_passes() {
        let streams = Arc::<Streams>::default();
        let large = fields([("a", "x".repeat(600 << 10))]);
        let first = streams.enter(&large).unwrap();
        assert!(streams.enter(&fields([("a", String::new())])).is_none());
        drop(first);
        // What a browser sends.
        let usual = fields((0..16).map(|n| (["accept", "user-agent", "cookie", "referer"][n % 4], "x".repeat(60))));
        let mut open: Vec<_> = (0..128).map(|_| streams.enter(&usual).unwrap()).collect();
        open.iter_mut().for_each(Open::release_head);
        assert_eq!(streams.count(), 128);
        assert!(streams.enter(&large).is_some(), "heads that were let go do not count");
    }

    #[test]
    fn a_log_line_has_what_it_needs() {
        let told = Told::new(b"host", b"/target", Said { agent: b"agent", referer: b"" }, None);
        assert_eq!((told.host(), told.target()), (&b"host"[..], &b"/target"[..]));
        assert_eq!((told.said().agent, told.said().referer), (&b"agent"[..], &b""[..]));
        assert_eq!(Told::default().target(), b"");
    }
}
