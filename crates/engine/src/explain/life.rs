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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{ARRIVAL, fields, later, life, rules, status};

    fn stated(max: Option<u64>, lines: &[(&'static str, &str)]) -> Stated {
        let rules = rules(|site| site.max_ttl = max.map(Duration::from_secs));
        Stated::of(&rules, &HeaderMap::new(), status(200), &fields(lines), ARRIVAL)
    }

    #[test]
    fn of_a_variant_only_harmless_preferences_are_told() {
        for (key, expected) in [
            (&b"accept-language:de\n"[..], "accept-language:de"),
            (b"sec-ch-ua-mobile:?1\n", "sec-ch-ua-mobile:?1"),
            (b"authorization:Bearer secret\n", "authorization: \u{2026}"),
            (b"x-user:secret\naccept:text/html\n", "x-user: \u{2026}; accept:text/html"),
            (b"=session;secret\n", "cookie session: \u{2026}"),
            // That a field was missing is no secret.
            (b"x-user\n", "x-user"),
            (b"", ""),
        ] {
            assert_eq!(variant(key), expected, "{}", text(key));
        }
    }

    #[test]
    fn the_limit_of_the_site_is_told_only_where_it_is_what_counts() {
        let minute = [("cache-control", "max-age=60")];
        for (max, expected) in [(None, None), (Some(100), None), (Some(60), None), (Some(10), Some(10))] {
            assert_eq!(stated(max, &minute).cap().map(|cap| cap.as_secs()), expected, "{max:?}");
        }
    }

    #[test]
    fn the_source_of_a_lifetime_is_the_field_that_counts() {
        for (lines, expected) in [
            (&[("cache-control", "max-age=60, s-maxage=30")][..], "s-maxage"),
            (&[("cache-control", "max-age=60")], "max-age"),
            (&[("cache-control", "max-age=60"), ("cdn-cache-control", "max-age=5")], "max-age of a targeted field"),
            (&[("expires", "Tue, 20 Jan 1970 00:00:00 GMT")], "Expires"),
            (&[("last-modified", "Thu, 01 Jan 1970 00:00:00 GMT")], "heuristic"),
            (&[], "none"),
        ] {
            assert_eq!(source(&stated(None, lines)), expected, "{lines:?}");
        }
    }

    #[test]
    fn the_windows_that_are_left_are_counted_from_the_end_of_freshness_or_from_now() {
        let told = |seconds| {
            let lines = [("cache-control", "max-age=60"), ("age", "7")];
            arithmetic(&stated(None, &lines), &fields(&lines), ARRIVAL, life(60, 30), later(seconds))
        };
        let fresh = told(10);
        assert_eq!((fresh.lifetime, fresh.resident, fresh.age, fresh.ttl), (60, 10, 10, 50));
        assert_eq!((fresh.age_stated, fresh.stale_while_revalidate, fresh.stale_if_error), (Some(7), 0, 30));
        let stale = told(70);
        assert_eq!((stale.ttl, stale.stale_while_revalidate, stale.stale_if_error), (-10, 0, 20));
    }
}
