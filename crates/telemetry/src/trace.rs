//! Trace context (W3C Trace Context §3.2): a request that goes on keeps the trace that it came in, or begins one.
//!
//! Whoever is asked gets a `traceparent` with the same trace and this node as the parent; `tracestate` goes along as it is, but not
//! where its `traceparent` is none. The trace's id stands in the access log, so that the lines of all tiers for one request can be
//! found together.

#[cfg(feature = "otlp")]
mod export;
#[cfg(not(feature = "otlp"))]
#[path = "trace/no_export.rs"]
mod export;

use http::{HeaderMap, HeaderName, HeaderValue};

pub use export::Exporter;

/// `traceparent`.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// `tracestate`.
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// `00-` trace id `-` parent id `-` flags.
const BYTES: usize = 55;

/// The trace that a request belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    /// In hexadecimal, as everywhere.
    id: [u8; 32],
    /// Whoever asked may have recorded it.
    is_sampled: bool,
    /// The span that it came in.
    parent: Option<[u8; 16]>,
    /// The span of this node, and below it that of what the next hop is asked.
    span: [u8; 16],
    forward: [u8; 16],
}

impl Trace {
    /// The trace of a request with these fields. Of those that begin here one in so many is sampled.
    pub fn of(fields: &HeaderMap, one_in: u64) -> Self {
        let mut lines = fields.get_all(&TRACEPARENT).iter();
        let only = lines.next().filter(|_| lines.next().is_none());
        only.and_then(|value| Self::parse(value.as_bytes())).unwrap_or_else(|| Self::begin(one_in))
    }

    /// A trace that nobody is to record: of what is no request of anybody.
    pub fn unsampled() -> Self {
        Self { is_sampled: false, ..Self::begin(1) }
    }

    fn begin(one_in: u64) -> Self {
        let mut id = [0; 32];
        let (first, second) = id.split_at_mut(16);
        hexadecimal(random(), first);
        hexadecimal(random(), second);
        // Samplers that follow their parent, as those of OpenTelemetry do by themselves, drop what is not marked: an origin would see
        // none of its traces any more.
        let is_sampled = one_in <= 1 || random().is_multiple_of(one_in);
        Self { id, is_sampled, parent: None, span: span(), forward: span() }
    }

    /// "If the version cannot be parsed, the vendor creates a new traceparent"; a higher version may be longer (§4.3).
    fn parse(value: &[u8]) -> Option<Self> {
        let (fixed, rest) = value.split_at_checked(BYTES)?;
        let mut parts = fixed.split(|byte| *byte == b'-');
        let (version, id, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_zero = |part: &[u8]| part.iter().all(|byte| *byte == b'0');
        let is_hex = |part: &[u8]| part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let is_right = [version, id, parent, flags].into_iter().all(is_hex) && parts.next().is_none();
        let may_be_longer = version != b"00" && rest.first() == Some(&b'-');
        if !is_right || version == b"ff" || is_zero(id) || is_zero(parent) || !rest.is_empty() && !may_be_longer {
            return None;
        }
        // Of the flags only this one is known to all versions (§3.2.2.5.1); "vendors MUST set [others] to zero" (§3.2.2.5.2).
        let is_sampled = matches!(flags, [_, b'1' | b'3' | b'5' | b'7' | b'9' | b'b' | b'd' | b'f']);
        let (id, parent) = (id.try_into().ok()?, parent.try_into().ok()?);
        let right = version.len() == 2 && flags.len() == 2;
        right.then(|| Self { id, is_sampled, parent: Some(parent), span: span(), forward: span() })
    }

    /// The id, in hexadecimal.
    pub(crate) fn id(&self) -> &[u8] {
        &self.id
    }

    /// Writes into a forward that it belongs to this trace, and comes from this node.
    pub fn carry_on(&self, fields: &mut HeaderMap) {
        let flags: &[u8] = if self.is_sampled { b"01" } else { b"00" };
        let value = [b"00-", &self.id[..], b"-", &self.forward, b"-", flags].concat();
        if let Ok(value) = HeaderValue::from_maybe_shared(bytes::Bytes::from(value)) {
            fields.insert(TRACEPARENT, value);
        }
        if self.parent.is_none() {
            fields.remove(&TRACESTATE);
        }
    }
}

/// The id of a new span.
fn span() -> [u8; 16] {
    let mut id = [0; 16];
    hexadecimal(random(), &mut id);
    id
}

/// A number that nobody has drawn before, and not 0.
fn random() -> u64 {
    ahash::RandomState::new().hash_one(0_u8).max(1)
}

fn hexadecimal(number: u64, out: &mut [u8]) {
    for (place, digit) in out.iter_mut().rev().enumerate() {
        let nibble = (number >> (4 * place)) & 0xf;
        *digit = b"0123456789abcdef".get(usize::try_from(nibble).unwrap_or(0)).copied().unwrap_or(b'0');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[&str]) -> (Trace, HeaderMap) {
        let mut fields = HeaderMap::new();
        for line in lines {
            fields.append(TRACEPARENT, line.parse().unwrap());
        }
        fields.insert(TRACESTATE, "vendor=1".parse().unwrap());
        let trace = Trace::of(&fields, 1);
        trace.carry_on(&mut fields);
        (trace, fields)
    }

    #[test]
    fn a_trace_goes_on_with_this_node_as_the_parent() {
        let given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let (trace, fields) = of(&[given]);
        assert_eq!(trace.id(), b"4bf92f3577b34da6a3ce929d0e0e4736");
        let sent = fields[TRACEPARENT].to_str().unwrap();
        assert!(sent.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && sent.ends_with("-01"), "{sent}");
        assert!(!sent.contains("00f067aa0ba902b7"), "another span: {sent}");
        assert_eq!(fields[TRACESTATE], "vendor=1");
    }

    #[test]
    fn what_is_no_trace_begins_another_and_its_state_stays_behind() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        let wrong = [
            vec![],
            vec![format!("00-{id}-00f067aa0ba902b7-01"); 2],
            vec![format!("ff-{id}-00f067aa0ba902b7-01")],
            vec![format!("00-{id}-00f067aa0ba902b7-01-more")],
            vec![format!("00-{id}-0000000000000000-01")],
            vec![format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32))],
            vec![format!("00-{}-00f067aa0ba902b7-01", id.to_uppercase())],
            vec![format!("00-{id}-00f067aa0ba902b-001")],
            vec!["nonsense".to_owned()],
        ];
        for lines in wrong {
            let lines: Vec<_> = lines.iter().map(String::as_str).collect();
            let (trace, fields) = of(&lines);
            assert_ne!(trace.id(), id.as_bytes(), "{lines:?}");
            assert!(Trace::parse(fields[TRACEPARENT].as_bytes()).is_some(), "{fields:?}");
            assert!(!fields.contains_key(TRACESTATE), "{lines:?}");
        }
        let (_, begun) = of(&[]);
        assert!(begun[TRACEPARENT].to_str().unwrap().ends_with("-01"), "samplers that follow their parent keep it");
        let sampled = (0..1000).filter(|_| Trace::of(&HeaderMap::new(), 4).is_sampled).count();
        assert!((170..330).contains(&sampled), "one in four: {sampled}");
        for (given, sent) in [("00", "-00"), ("ff", "-01"), ("02", "-00"), ("03", "-01")] {
            let (_, fields) = of(&[&format!("00-{id}-00f067aa0ba902b7-{given}")]);
            assert!(fields[TRACEPARENT].to_str().unwrap().ends_with(sent), "{given}: {fields:?}");
        }
        // A later version may say more.
        assert_eq!(of(&[&format!("01-{id}-00f067aa0ba902b7-01-more")]).0.id(), id.as_bytes());
        assert_ne!(of(&[]).0, of(&[]).0);
    }
}
