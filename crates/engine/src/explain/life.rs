//! The arithmetic of freshness with every number that goes into it (RFC 9111 §4.2).

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use nearside_protocol::explanation::{Freshness as Told, Stored};
use nearside_semantics::control::Control;
use nearside_semantics::lifetime::{Lifetime, LifetimePolicy, Source, lifetime};
use nearside_semantics::reuse::{Freshness, Reuse};
use nearside_semantics::{Timestamp, age};
use nearside_store::Entry;

use super::{Case, text, told};
use crate::site::Rules;

/// What a response says of its life, with what the site makes of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stated {
    pub(super) control: Control,
    /// As the response has it.
    pub(super) uncapped: Lifetime,
    /// As it counts here.
    pub(super) counted: Lifetime,
}

impl Stated {
    /// What a response to `request` states.
    pub(super) fn of(
        rules: &Rules,
        request: &HeaderMap,
        status: StatusCode,
        fields: &HeaderMap,
        response_time: Timestamp,
    ) -> Self {
        let control = rules.control(fields);
        let policy = rules.lifetime(request);
        let life = |policy| lifetime(status, fields, &control, response_time, policy);
        let uncapped = life(LifetimePolicy { max: None, ..policy });
        Self { control, uncapped, counted: life(policy) }
    }

    /// What a stored response states. Whether the request that fetched it had cookies, with which no lifetime is guessed,
    /// shows in the lifetime that it got.
    pub(super) fn of_stored(rules: &Rules, entry: &Entry) -> Self {
        let mut stated = Self::of(rules, &HeaderMap::new(), entry.head.status, &entry.head.fields, entry.response_time);
        if stated.counted.source == Source::Heuristic {
            let given = entry.declared.fresh_until.since(entry.declared.born);
            stated.counted.span = stated.counted.span.min(given);
            stated.uncapped.span = stated.uncapped.span.min(given);
        }
        stated
    }

    /// The site's own limit, where that is what counts.
    pub(super) fn cap(&self) -> Option<Duration> {
        (self.counted.span < self.uncapped.span).then_some(self.counted.span)
    }
}

/// How many seconds later than its `Date` something came.
pub(super) fn since_date(fields: &HeaderMap, response_time: Timestamp) -> Option<i64> {
    let date = age::date(fields, response_time)?;
    let secs = |moment: Timestamp| i64::try_from(moment.as_secs()).unwrap_or(i64::MAX);
    Some(secs(response_time) - secs(date))
}

/// The arithmetic for a response that came at `response_time` and lives so.
pub(super) fn arithmetic(
    stated: &Stated,
    fields: &HeaderMap,
    response_time: Timestamp,
    life: Freshness,
    now: Timestamp,
) -> Told {
    let left = |until: Timestamp| until.since(now.max(life.fresh_until)).as_secs();
    Told {
        lifetime: life.fresh_until.since(life.born).as_secs(),
        source: source(stated).to_owned(),
        capped_to: stated.cap().map(|cap| cap.as_secs()),
        age_on_arrival: response_time.since(life.born).as_secs(),
        age_stated: age::stated(fields).map(|age| age.as_duration().as_secs()),
        since_date: since_date(fields, response_time),
        resident: now.since(response_time).as_secs(),
        age: life.age(now).as_secs(),
        ttl: life.ttl(now),
        stale_while_revalidate: left(life.revalidate_until),
        stale_if_error: left(life.error_until),
    }
}

fn source(stated: &Stated) -> &'static str {
    match (stated.counted.source, stated.control.targeted) {
        (Source::SMaxage, false) => "s-maxage",
        (Source::SMaxage, true) => "s-maxage of a targeted field",
        (Source::MaxAge, false) => "max-age",
        (Source::MaxAge, true) => "max-age of a targeted field",
        (Source::Expires, _) => "Expires",
        (Source::Heuristic, _) => "heuristic",
        (Source::None, _) => "none",
    }
}

/// Whether what a field holds says only how somebody wants an answer, and not who it is.
fn is_harmless(name: &str) -> bool {
    name.starts_with("accept") || name.starts_with("sec-ch-") || ["save-data", "x-forwarded-proto"].contains(&name)
}

/// The request that a variant answered, as far as it selects. What others have sent beyond preferences is nobody's business.
fn variant(key: &[u8]) -> String {
    let line = |line: &[u8]| {
        let line = text(line);
        // `name:value`, `name` alone, or `=cookie;value`.
        let (name, secret) = match line.strip_prefix('=') {
            Some(cookie) => (format!("cookie {}", cookie.split(';').next().unwrap_or_default()), true),
            None => {
                let name = line.split(':').next().unwrap_or_default();
                (name.to_owned(), !is_harmless(name) && line.len() > name.len())
            }
        };
        if secret { format!("{name}: …") } else { line }
    };
    key.split(|byte| *byte == b'\n').filter(|part| !part.is_empty()).map(line).collect::<Vec<_>>().join("; ")
}

/// A stored variant.
pub(super) fn stored(case: &Case, entry: &Entry, selected: bool) -> Stored {
    let fields = &entry.head.fields;
    let stated = Stated::of_stored(case.engine.rules(case.site), entry);
    let usable = entry.freshness(case.now);
    let state = match usable.map(|life| life.reuse(case.now, None)) {
        None => "gone",
        Some(Reuse::Fresh | Reuse::StaleAccepted) => "fresh",
        Some(Reuse::WhileRevalidate) => "stale-while-revalidate",
        Some(Reuse::Validate { on_error: true, .. }) => "stale-if-error",
        Some(Reuse::Validate { on_error: false, .. }) => "validate",
    };
    let life = usable.unwrap_or(entry.declared);
    Stored {
        selected,
        status: entry.head.status.as_u16(),
        bytes: entry.body.len().unwrap_or(0),
        variant: variant(&entry.variant),
        state: state.to_owned(),
        freshness: arithmetic(&stated, fields, entry.response_time, life, case.now),
        fields: told(fields),
    }
}
