//! What in a request, an answer, the store or the configuration leads to a verdict.
//!
//! Each look adds what it finds, with where it shows; what is found first tells most. What decides is read by the functions that
//! decide; here only that is read anew which they, rightly, throw away: how a directive was misspelt, for example.

use http::header::{AGE, CACHE_CONTROL, CONTENT_LENGTH, DATE, EXPIRES, LAST_MODIFIED, PRAGMA, VARY, VIA};
use http::{HeaderMap, HeaderName, StatusCode};
use nearside_protocol::explanation::{Cause, Near};
use nearside_semantics::cache_status::Forward;
use nearside_semantics::directives::{RequestDirectives, ResponseDirectives, Seconds};
use nearside_semantics::fields::{Fields, members};
use nearside_semantics::lifetime::{Source, heuristically_cacheable};
use nearside_semantics::reuse::Freshness;
use nearside_semantics::{Timestamp, age, conditional, date};
use nearside_store::Entry;
use nearside_telemetry::outcome::{Outcome, Verdict};
use nearside_telemetry::reason::{Kind, Reason};
use nearside_upstream::fields::REWRITTEN;

use super::life::{Stated, since_date};
use super::{Case, joined, why};

/// A lifetime below this is hardly one: what is asked for once in so many seconds is never a hit.
const SHORT_SECS: u64 = 10;
/// Clocks that differ by less are taken to agree: NTP keeps them far closer, and an answer may have been under way.
const CLOCKS_SECS: i64 = 5;
/// Directives of an answer (RFC 9111 §5.2.2, RFC 5861, RFC 8246).
const DIRECTIVES: [&str; 13] = [
    "max-age",
    "s-maxage",
    "no-cache",
    "no-store",
    "no-transform",
    "private",
    "public",
    "must-revalidate",
    "proxy-revalidate",
    "must-understand",
    "stale-while-revalidate",
    "stale-if-error",
    "immutable",
];
/// Request fields that hardly two clients send alike.
const WIDE: [&str; 9] = [
    "user-agent",
    "referer",
    "accept",
    "authorization",
    "x-requested-with",
    "x-request-id",
    "origin",
    "forwarded",
    "range",
];
const SURROGATE_CONTROL: HeaderName = HeaderName::from_static("surrogate-control");

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Causes {
    found: Vec<(Reason, String)>,
    /// A shield that has not served explains all that follows from it.
    foremost: Option<Reason>,
}

impl Causes {
    /// What the request itself, and what the node knows already, have to say.
    pub(super) fn of_request(case: &Case, outcome: &Outcome) -> Self {
        let mut causes = Self::default();
        let Case { engine, site, request, key, now } = case;
        if let Some(token) = engine.store.negative().uncacheable(&key.lookup, *now) {
            if let Some(reason) = Reason::of(token) {
                causes.add(reason, "of the last answer for this key".to_owned());
            }
            causes.add(Reason::Remembered, format!("its last answer was not stored: {token}"));
        }
        if engine.lags(*site) {
            let (applied, lag) = engine.position.as_ref().map_or((0, 0), |position| position.applied_and_lag());
            causes.add(Reason::Lagging, format!("purges applied: up to {applied}; known and not applied: {lag}"));
        }
        let directives = RequestDirectives::of(&request.fields);
        let wants_newer = directives.no_cache || directives.max_age.is_some() || directives.no_store;
        if wants_newer && !engine.rules(*site).honours_requests {
            causes.add(Reason::ClientIgnored, cache_control(&request.fields));
        } else if wants_newer && outcome.forward == Some(Forward::Request) {
            causes.add(Reason::ClientAsked, cache_control(&request.fields));
        }
        if outcome.verdict == Verdict::Bypass {
            causes.add(outcome.decision(), request.method.to_string());
        }
        if outcome.forward == Some(Forward::VaryMiss) {
            causes.look_at_variants(case);
        }
        if outcome.forward.is_some() && engine.hops.are_down(*site) {
            causes.add(Reason::NoUpstream, "all that could be asked have failed".to_owned());
        }
        causes
    }

    /// What is stored is for other requests.
    fn look_at_variants(&mut self, case: &Case) {
        let Some(slot) = case.engine.store.lookup(&case.key.lookup, case.now) else { return };
        let selects = case.selects().into_iter().map(|(name, value)| format!("{name}: {value}"));
        let selects = selects.collect::<Vec<_>>().join("; ");
        self.add(Reason::VaryMiss, format!("{} variants are stored; this request has {selects}", slot.variants()));
        if let Some(entry) = slot.newest() {
            self.look_at_vary(&entry.head.fields);
            let site = case.engine.config.site(case.site);
            if let Some(key) = site.map(|site| &site.key)
                && (!key.fields.is_empty() || !key.cookies.is_empty())
            {
                let fields = key.fields.iter().map(|name| name.as_str().to_owned());
                let cookies = key.cookies.iter().map(|name| format!("cookie {}", name.as_str()));
                self.add(Reason::KeyFields, fields.chain(cookies).collect::<Vec<_>>().join(", "));
            }
        }
    }

    /// A stored response that is looked at for the request; `is_hit` says that nothing stands in its way.
    pub(super) fn look_at_stored(&mut self, case: &Case, entry: &Entry, is_hit: bool) {
        let fields = &entry.head.fields;
        let stated = Stated::of_stored(case.engine.rules(case.site), entry);
        self.look_at_answer(case, entry.head.status, fields, &stated, entry.response_time, entry.declared);
        if is_hit {
            return;
        }
        let moment = entry.response_time;
        let exchange = age::Exchange { request_time: moment, response_time: moment, response_date: moment };
        let arrived = age::initial(fields, exchange);
        let by_itself = moment.before(arrived).after(stated.counted.span);
        let is_softened =
            entry.freshness(case.now).is_some_and(|life| life.fresh_until <= case.now) && by_itself > case.now;
        if is_softened && !entry.declared.no_cache {
            self.add(
                Reason::SoftPurged,
                format!("by itself it would be fresh for {} s", by_itself.since(case.now).as_secs()),
            );
        }
        if !conditional::has_validator(fields) {
            self.add(Reason::NoValidator, "no ETag, no Last-Modified".to_owned());
        }
    }

    /// An answer that is stored, or that has just come.
    pub(super) fn look_at_answer(
        &mut self,
        case: &Case,
        status: StatusCode,
        fields: &HeaderMap,
        stated: &Stated,
        response_time: Timestamp,
        life: Freshness,
    ) {
        self.look_at_refusals(case, status, fields, stated);
        self.look_at_spelling(fields);
        self.look_at_fields(case, fields, stated, response_time);
        self.look_at_clock(fields, response_time);
        self.look_at_lifetime(status, fields, stated, response_time, life);
        self.look_at_vary(fields);
        self.look_at_length(case, fields);
    }

    /// What the answer says against being stored.
    fn look_at_refusals(&mut self, case: &Case, status: StatusCode, fields: &HeaderMap, stated: &Stated) {
        let said =
            || if stated.control.targeted { "a targeted field says so".to_owned() } else { cache_control(fields) };
        let directives = &stated.control.directives;
        if status.is_server_error() {
            self.add(Reason::ServerError, status.to_string());
        }
        for (is_set, reason) in [
            (directives.no_store && !directives.must_understand, Reason::NoStore),
            (directives.private, Reason::Private),
            (directives.no_cache, Reason::NoCache),
        ] {
            if is_set {
                self.add(reason, said());
            }
        }
        let keeps_cookies = case.engine.rules(case.site).store.set_cookie;
        if let Some(cookie) = fields.get(http::header::SET_COOKIE).filter(|_| !keeps_cookies) {
            // Its value is a secret.
            let cookie = super::text(cookie.as_bytes());
            let name = cookie.split_once('=').map_or("…", |(name, _)| name);
            self.add(Reason::SetCookie, format!("set-cookie: {name}=…"));
        }
    }

    /// Directives that are none, or not what they were meant to be.
    fn look_at_spelling(&mut self, fields: &HeaderMap) {
        let mut seen = Vec::new();
        for line in fields.lines(&CACHE_CONTROL) {
            for member in members(line) {
                let member = super::text(member);
                let name = member.split('=').next().unwrap_or_default().trim().to_ascii_lowercase();
                if member.contains(';') && !member.contains('"') {
                    self.add(Reason::Separator, format!("cache-control: {}", super::text(line)));
                } else if let Some(meant) = nearly(&name) {
                    self.add(Reason::UnknownDirective, format!("{member}: is {meant} meant?"));
                }
                if seen.contains(&name) && DIRECTIVES.contains(&name.as_str()) {
                    self.add(Reason::Repeated, format!("{name}: the first counts"));
                }
                seen.push(name);
            }
        }
        let directives = ResponseDirectives::of(fields);
        let lives = directives.max_age.or(directives.s_maxage).is_some_and(|s| !s.or_zero().as_duration().is_zero());
        if directives.public && (directives.private || directives.no_store) || directives.no_store && lives {
            self.add(Reason::Contradiction, cache_control(fields));
        }
    }

    /// Fields that govern, or seem to.
    fn look_at_fields(&mut self, case: &Case, fields: &HeaderMap, stated: &Stated, response_time: Timestamp) {
        let rules = case.engine.rules(case.site);
        if stated.control.targeted {
            let plain = nearside_semantics::control::Control::of(fields, &[]);
            if fields.contains_key(CACHE_CONTROL) && plain.directives != stated.control.directives {
                self.add(Reason::Targeted, format!("beside it stands {}", cache_control(fields)));
            }
        } else if let Some(name) = rules.targets().iter().find(|name| fields.contains_key(*name)) {
            self.add(Reason::TargetedMalformed, format!("{name}: {}", joined(fields, name)));
        }
        if fields.contains_key(SURROGATE_CONTROL) && !rules.is_target(&SURROGATE_CONTROL) {
            self.add(Reason::SurrogateControl, format!("surrogate-control: {}", joined(fields, &SURROGATE_CONTROL)));
        }
        if fields.contains_key(PRAGMA) && !fields.contains_key(CACHE_CONTROL) {
            self.add(Reason::Pragma, format!("pragma: {}", joined(fields, &PRAGMA)));
        }
        for name in [DATE, LAST_MODIFIED] {
            if fields.lines(&name).count() > 1 {
                self.add(Reason::Repeated, format!("{name}: {}", joined(fields, &name)));
            }
        }
        let governs = !stated.control.targeted && stated.control.directives.max_age.is_none();
        if governs && fields.contains_key(EXPIRES) && stated.control.directives.s_maxage.is_none() {
            let is_date = fields.lines(&EXPIRES).count() == 1
                && fields.lines(&EXPIRES).all(|line| date::parse(line, response_time).is_some());
            let evidence = format!("expires: {}", joined(fields, &EXPIRES));
            match is_date {
                false => self.add(Reason::MalformedExpires, evidence),
                true if stated.uncapped.span.is_zero() => {
                    self.add(Reason::ExpiresPast, format!("{evidence}; date: {}", joined(fields, &DATE)));
                }
                true => {}
            }
        }
        if fields.contains_key(AGE) && age::stated(fields).is_none() {
            self.add(Reason::MalformedAge, format!("age: {}", joined(fields, &AGE)));
        }
    }

    /// Whether the origin's clock and this node's agree. A cache in between makes an old date right.
    fn look_at_clock(&mut self, fields: &HeaderMap, response_time: Timestamp) {
        let Some(late) = since_date(fields, response_time) else { return };
        let evidence = format!("date: {}; here it was {}", joined(fields, &DATE), date::format(response_time));
        if late < -CLOCKS_SECS {
            self.add(Reason::ClockAhead, evidence);
        } else if late > CLOCKS_SECS && !fields.contains_key(AGE) && !fields.contains_key(VIA) {
            self.add(Reason::ClockBehind, evidence);
        }
    }

    /// How long it lives, and why no longer.
    fn look_at_lifetime(
        &mut self,
        status: StatusCode,
        fields: &HeaderMap,
        stated: &Stated,
        response_time: Timestamp,
        life: Freshness,
    ) {
        let directives = &stated.control.directives;
        let numbers = [("s-maxage", directives.s_maxage), ("max-age", directives.max_age)];
        if let Some((name, _)) = numbers.iter().find(|(_, number)| *number == Some(Seconds::Invalid)) {
            return self.add(Reason::MalformedLifetime, format!("{name} in {}", cache_control(fields)));
        }
        let seconds = |number: Option<Seconds>| number.map(|number| number.or_zero().as_duration().as_secs());
        if let (Some(shared), Some(private)) = (seconds(directives.s_maxage), seconds(directives.max_age))
            && shared < private
        {
            self.add(Reason::SharedLifetime, format!("s-maxage={shared}, max-age={private}"));
        }
        if let Some(cap) = stated.cap() {
            let stated = stated.uncapped.span.as_secs();
            self.add(Reason::SiteCap, format!("max_ttl is {} s; the origin says {stated} s", cap.as_secs()));
        }
        let span = stated.counted.span.as_secs();
        let arrived = response_time.since(life.born).as_secs();
        match stated.counted.source {
            Source::None if !heuristically_cacheable(status) => {
                self.add(Reason::StatusNeedsLifetime, status.to_string());
            }
            Source::None => self.add(Reason::NothingToGuessFrom, "no max-age, no Expires, no Last-Modified".to_owned()),
            Source::Heuristic => self.add(Reason::HeuristicLifetime, format!("{span} s")),
            Source::SMaxage | Source::MaxAge if stated.uncapped.span.is_zero() => {
                self.add(Reason::LifetimeZero, cache_control(fields));
            }
            _ if age::stated(fields).is_some() && arrived >= span && span > 0 => {
                self.add(Reason::OldOnArrival, format!("its age was {arrived} s, its lifetime is {span} s"));
            }
            _ if (1..SHORT_SECS).contains(&span) && stated.cap().is_none() => {
                self.add(Reason::ShortLifetime, format!("{span} s"));
            }
            _ => {}
        }
    }

    fn look_at_vary(&mut self, fields: &HeaderMap) {
        let evidence = || format!("vary: {}", joined(fields, &VARY));
        let names: Vec<_> =
            fields.lines(&VARY).flat_map(members).map(|name| super::text(name).to_ascii_lowercase()).collect();
        if names.iter().any(|name| name == "*" || REWRITTEN.iter().any(|rewritten| *rewritten == **name)) {
            self.add(Reason::VaryAll, evidence());
        }
        if names.iter().any(|name| name == "cookie") {
            self.add(Reason::CookieVary, evidence());
        }
        if names.iter().any(|name| WIDE.contains(&name.as_str())) {
            self.add(Reason::WideVary, evidence());
        }
    }

    fn look_at_length(&mut self, case: &Case, fields: &HeaderMap) {
        let most = case.engine.store.limits().object_bytes_max;
        let length = nearside_http1::framing::content_length(fields).ok().flatten();
        if let Some(length) = length.filter(|length| *length > most) {
            self.add(Reason::ObjectMax, format!("{CONTENT_LENGTH}: {length}; cache.object_max is {most}"));
        }
    }

    /// What a shield says of its part.
    pub(super) fn look_at_shield(&mut self, cache_status: &str) {
        // Its own member is the last; what other caches behind it say is not ours.
        let member = cache_status.rsplit(',').next().unwrap_or_default().trim();
        let mut parts = member.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let detail = parts.find_map(|part| part.strip_prefix("detail="));
        let Some(reason) = detail.and_then(Reason::of) else { return };
        let reason = if reason == Reason::Behind { Reason::BehindShield } else { reason };
        self.add(reason, format!("{name} says so"));
        if [Kind::Refused, Kind::Upstream].contains(&reason.kind()) {
            self.foremost = Some(reason);
        }
    }

    /// Keys that differ in one thing; `is_miss` says that nothing is stored under the one that is looked up.
    pub(super) fn look_at_near(&mut self, near: &[Near], is_miss: bool) {
        for one in near {
            let Some(reason) = Reason::of(&one.reason) else { continue };
            // Other queries are other pages, unless there is a doubt.
            if reason == Reason::QueryVariants && !is_miss {
                continue;
            }
            let example = one.examples.first().map_or("", String::as_str);
            let parameters = one.parameters.join(", ");
            let differ =
                if parameters.is_empty() { String::new() } else { format!(" that differ only in {parameters}") };
            self.add(reason, format!("the same is stored under {} other keys{differ}, as {example}", one.keys));
        }
    }

    /// Adds what was found, once.
    pub(super) fn add(&mut self, reason: Reason, evidence: String) {
        if !self.found.iter().any(|(known, _)| *known == reason) {
            self.found.push((reason, evidence));
        }
    }

    /// All of it; what decided stands first, but for a shield that has not served.
    pub(super) fn told(mut self, decision: Reason) -> Vec<Cause> {
        self.found.sort_by_key(|(reason, _)| (Some(*reason) != self.foremost, *reason != decision));
        self.found.into_iter().map(|(reason, evidence)| Cause { why: why(reason), evidence }).collect()
    }
}

/// What `Cache-Control`, or else `Pragma`, says.
pub(super) fn cache_control(fields: &HeaderMap) -> String {
    let name = if fields.contains_key(CACHE_CONTROL) { CACHE_CONTROL } else { PRAGMA };
    format!("{name}: {}", joined(fields, &name))
}

/// The directive that a name that is none was meant to be: the same letters, or all but one of them.
fn nearly(name: &str) -> Option<&'static str> {
    if DIRECTIVES.contains(&name) || name.is_empty() {
        return None;
    }
    let letters = |name: &str| name.chars().filter(char::is_ascii_alphabetic).collect::<String>();
    // `max-age:60` has its number in its name.
    let own = letters(name);
    let same = DIRECTIVES.into_iter().find(|known| own == letters(known));
    same.or_else(|| DIRECTIVES.into_iter().find(|known| own.len() > 4 && distance_is_one(&own, &letters(known))))
}

/// Whether one letter more, less, or another one makes one word of the other.
fn distance_is_one(one: &str, other: &str) -> bool {
    let (short, long) = if one.len() <= other.len() { (one, other) } else { (other, one) };
    let same = short.bytes().zip(long.bytes()).take_while(|(a, b)| a == b).count();
    let (short, long) = (short.get(same..).unwrap_or_default(), long.get(same..).unwrap_or_default());
    match long.len() - short.len() {
        0 => short.get(1..) == long.get(1..) && !short.is_empty(),
        1 => Some(short) == long.get(1..),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_directives_are_known_and_extensions_left_alone() {
        let table = [
            ("maxage", Some("max-age")),
            ("max_age", Some("max-age")),
            ("max-age:60", Some("max-age")),
            ("s-max-age", Some("s-maxage")),
            ("nocache", Some("no-cache")),
            ("no-stor", Some("no-store")),
            ("privat", Some("private")),
            ("pubic", Some("public")),
            ("must-revalidat", Some("must-revalidate")),
            ("stale-while-revalidated", Some("stale-while-revalidate")),
            ("max-age", None),
            ("immutable", None),
            ("community", None),
            ("post-check", None),
            ("x", None),
        ];
        for (name, meant) in table {
            assert_eq!(nearly(name), meant, "{name}");
        }
    }
}
