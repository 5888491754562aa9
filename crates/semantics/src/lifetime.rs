//! How long a response may be reused (RFC 9111 §4.2.1, §4.2.2).
//!
//! For a shared cache: `s-maxage`, else `max-age`, else `Expires` − `Date` (unless a targeted field governs, RFC 9213
//! §2.2), else a heuristic for statuses that allow one. A field that is there but malformed means "stale already", never
//! "use the next rule".

use std::time::Duration;

use http::header::{EXPIRES, LAST_MODIFIED};
use http::{HeaderMap, StatusCode};

use crate::age;
use crate::control::Control;
use crate::date;
use crate::time::{DeltaSeconds, Timestamp};

/// Where a lifetime comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// `s-maxage`
    SMaxage,
    /// `max-age`
    MaxAge,
    /// `Expires` − `Date`
    Expires,
    /// A share of the time since `Last-Modified` (§4.2.2).
    Heuristic,
    /// Nothing says anything: there is no lifetime.
    None,
}

/// The freshness lifetime of a response and what gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// From the response's birth; compare with its age.
    pub span: Duration,
    /// Which rule it follows from.
    pub source: Source,
}

impl Lifetime {
    /// Whether the origin stated it, be it as a malformed statement.
    #[must_use]
    pub fn is_explicit(self) -> bool {
        matches!(self.source, Source::SMaxage | Source::MaxAge | Source::Expires)
    }
}

/// The heuristic of RFC 9111 §4.2.2: a share of `Date` − `Last-Modified`, up to a cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heuristic {
    /// In thousandths of the time since the last modification; 100 is what §4.2.2 calls typical.
    pub thousandths: u32,
    /// The longest lifetime that is ever guessed.
    pub cap: Duration,
}

impl Heuristic {
    /// Default cap. §4.2.2 allows a day; origins that state no lifetime often replace files in place (package
    /// repositories, edited pages), and five minutes still absorb a burst of requests.
    pub const CAP: Duration = Duration::from_secs(5 * 60);
    /// No lifetime is ever guessed: what the origin states none for is validated on each use.
    pub const NONE: Self = Self { thousandths: 0, cap: Duration::ZERO };
}

impl Default for Heuristic {
    fn default() -> Self {
        Self { thousandths: 100, cap: Self::CAP }
    }
}

/// What a site decides about lifetimes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LifetimePolicy {
    /// For responses that state none.
    pub heuristic: Heuristic,
    /// The longest that anything is fresh, whatever its origin says; `None`: as long as that says.
    pub max: Option<Duration>,
}

/// The lifetime of a response that arrived at `response_date` by the wall clock.
#[must_use]
pub fn lifetime(
    status: StatusCode,
    fields: &HeaderMap,
    control: &Control,
    response_date: Timestamp,
    policy: LifetimePolicy,
) -> Lifetime {
    let stated = uncapped(status, fields, control, response_date, policy.heuristic);
    Lifetime { span: policy.max.map_or(stated.span, |max| stated.span.min(max)), ..stated }
}

fn uncapped(
    status: StatusCode,
    fields: &HeaderMap,
    control: &Control,
    response_date: Timestamp,
    heuristic: Heuristic,
) -> Lifetime {
    let directives = &control.directives;
    let explicit = |seconds: DeltaSeconds, source| Lifetime { span: seconds.as_duration(), source };
    if let Some(seconds) = directives.s_maxage {
        return explicit(seconds.or_zero(), Source::SMaxage);
    }
    if let Some(seconds) = directives.max_age {
        return explicit(seconds.or_zero(), Source::MaxAge);
    }
    if !control.targeted && fields.contains_key(EXPIRES) {
        return Lifetime { span: until_expires(fields, response_date), source: Source::Expires };
    }
    if (heuristically_cacheable(status) || directives.public)
        && let Some(span) = guess(fields, response_date, heuristic)
    {
        return Lifetime { span, source: Source::Heuristic };
    }
    Lifetime { span: Duration::ZERO, source: Source::None }
}

/// `Expires` − `Date`; nothing when there are two of them, or when it is no date (RFC 9111 §5.3).
fn until_expires(fields: &HeaderMap, response_date: Timestamp) -> Duration {
    let mut lines = fields.get_all(EXPIRES).iter();
    let (Some(only), None) = (lines.next(), lines.next()) else {
        return Duration::ZERO;
    };
    let Some(expires) = date::parse(only.as_bytes(), response_date) else {
        return Duration::ZERO;
    };
    let birth = age::date(fields, response_date).unwrap_or(response_date);
    Duration::from_secs(expires.as_secs().saturating_sub(birth.as_secs()))
}

fn guess(fields: &HeaderMap, response_date: Timestamp, heuristic: Heuristic) -> Option<Duration> {
    let modified = date::parse(fields.get(LAST_MODIFIED)?.as_bytes(), response_date)?;
    let birth = age::date(fields, response_date).unwrap_or(response_date);
    let unchanged = birth.since(modified);
    Some((unchanged / 1000).saturating_mul(heuristic.thousandths).min(heuristic.cap))
}

/// "status codes that are defined as heuristically cacheable" (RFC 9110 §15.1).
#[must_use]
pub fn heuristically_cacheable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 206 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}
