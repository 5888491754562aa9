//! What holds for any bytes.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use nearside_semantics::age::{self, Exchange};
use nearside_semantics::control::{CDN_CACHE_CONTROL, Control};
use nearside_semantics::directives::RequestDirectives;
use nearside_semantics::lifetime::{LifetimePolicy, lifetime};
use nearside_semantics::negotiate::{Languages, Rewritten};
use nearside_semantics::query::{ParameterName, QueryRecipe, SearchVariance};
use nearside_semantics::range::{self, Part};
use nearside_semantics::reuse::{Freshness, Reuse};
use nearside_semantics::storable::{Candidate, StorePolicy, storable};
use nearside_semantics::vary::{Nominee, Vary};
use nearside_semantics::{Timestamp, conditional, date, groups, invalidation, key};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::heads::{NOW, STALE};

/// Fields that decide something, with values from pieces of their grammars and from noise.
#[expect(clippy::too_many_lines, reason = "a list")]
fn fields() -> impl Strategy<Value = HeaderMap> {
    let names = proptest::sample::select(vec![
        "cache-control",
        "cdn-cache-control",
        "expires",
        "date",
        "age",
        "last-modified",
        "etag",
        "vary",
        "pragma",
        "if-none-match",
        "if-modified-since",
        "if-match",
        "if-unmodified-since",
        "range",
        "if-range",
        "content-range",
        "accept-encoding",
        "accept-language",
        "no-vary-search",
        "cache-groups",
        "cache-group-invalidation",
        "location",
        "content-location",
        "authorization",
        "set-cookie",
        "cookie",
        "content-length",
        "connection",
    ]);
    let piece = prop_oneof![
        proptest::sample::select(vec![
            "max-age",
            "s-maxage",
            "=",
            "60",
            "\"",
            ",",
            " ",
            "no-store",
            "no-cache",
            "private",
            "public",
            "stale-while-revalidate=",
            "stale-if-error=",
            "must-revalidate",
            "max-stale",
            "min-fresh=",
            "*",
            "W/",
            "a",
            "bytes=",
            "0-1",
            "-",
            "gzip",
            ";q=",
            "0.5",
            "en",
            "params",
            "(",
            ")",
            "key-order",
            "?1",
            "/",
            "..",
            "http://",
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "99999999999999999999",
            "\\",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        vec(any::<u8>(), 0..6),
    ];
    let value = vec(piece, 0..8).prop_map(|pieces| pieces.concat());
    vec((names, value), 0..10).prop_map(|lines| {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                fields.append(HeaderName::from_static(name), value);
            }
        }
        fields
    })
}

fn exchange(span: u64) -> Exchange {
    let response_time = NOW.after(Duration::from_millis(span));
    Exchange { request_time: NOW, response_time, response_date: response_time }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_input_panics(request in fields(), response in fields(), noise in vec(any::<u8>(), 0..64), status in 100_u16..1000, millis in any::<u64>()) {
        let moment = Timestamp::from_millis(millis);
        let control = Control::of(&response, &[CDN_CACHE_CONTROL]);
        let status = StatusCode::from_u16(status).unwrap();
        let life = lifetime(status, &response, &control, moment, LifetimePolicy::default());
        let exchange = Exchange { request_time: NOW, response_time: moment, response_date: moment };
        let freshness = Freshness::of(&response, &control.directives, life, exchange, STALE);
        let asked = RequestDirectives::of(&request);
        let _ = freshness.reuse(moment, Some(&asked));
        let _ = freshness.ttl(moment);
        for method in [Method::GET, Method::POST] {
            let candidate = Candidate { method: &method, request: &request, status, response: &response, own_location: true };
            let _ = storable(&candidate, &control, life, StorePolicy::default());
        }
        let _ = conditional::evaluate(&request, &response, moment);
        let _ = conditional::merge(&response, &request);
        let _ = conditional::selects(&request, &response);
        let _ = range::evaluate(&request, &response, millis, moment);
        let target = invalidation::Target { scheme: key::Scheme::Http, authority: b"a.org",
            alias: None, path_and_query: &noise };
        let _ = invalidation::locations(&target, status, &response);
        let _ = groups::groups(&response);
        let mut out = Vec::new();
        Vary::of(&response, &[Nominee::Cookie("a".into())]).variant_key(&request, &mut out);
        if let Some(variance) = SearchVariance::of(&response) {
            variance.write(&noise, &mut out);
        }
        let mut request = request;
        Rewritten::of(&request.clone(), true, Languages::Order).apply(&mut request);
        let _ = date::parse(&noise, moment);
        let _ = key::is_authority(&noise);
        let _ = key::split_port(&noise);
    }

    #[test]
    fn age_never_decreases_and_is_never_below_what_was_stated(response in fields(), took in 0_u64..5000, a in 0_u64..10_000_000, b in 0_u64..10_000_000) {
        let exchange = exchange(took);
        let initial = age::initial(&response, exchange);
        let at = |millis: u64| age::current(initial, exchange.response_time, exchange.response_time.after(Duration::from_millis(millis)));
        prop_assert!(at(a.min(b)) <= at(a.max(b)));
        if let Some(stated) = age::stated(&response) {
            prop_assert!(at(0) >= stated.as_duration());
        }
    }

    #[test]
    fn a_response_is_never_fresh_after_its_lifetime(response in fields(), took in 0_u64..5000, later in 0_u64..100_000_000) {
        let exchange = exchange(took);
        let control = Control::of(&response, &[CDN_CACHE_CONTROL]);
        let life = lifetime(StatusCode::OK, &response, &control, exchange.response_time, LifetimePolicy::default());
        let freshness = Freshness::of(&response, &control.directives, life, exchange, STALE);
        let now = exchange.response_time.after(Duration::from_millis(later));
        let age = age::current(age::initial(&response, exchange), exchange.response_time, now);
        let fresh = freshness.reuse(now, None) == Reuse::Fresh;
        prop_assert_eq!(fresh, age < life.span && !control.directives.no_cache, "age {:?} of {:?}", age, life.span);
        // Each moment that follows another allows less, not more.
        let rank = |reuse| match reuse {
            Reuse::Fresh => 0,
            Reuse::WhileRevalidate | Reuse::StaleAccepted => 1,
            Reuse::Validate { on_error: true, .. } => 2,
            Reuse::Validate { on_error: false, .. } => 3,
        };
        let sooner = exchange.response_time.after(Duration::from_millis(later / 2));
        prop_assert!(rank(freshness.reuse(sooner, None)) <= rank(freshness.reuse(now, None)));
        prop_assert!(freshness.ttl(now) <= freshness.ttl(sooner));
    }

    #[test]
    fn ranges_are_apart_and_inside(request in fields(), length in 0_u64..200) {
        match range::evaluate(&request, &HeaderMap::new(), length, NOW) {
            Part::Range(span) => prop_assert!(span.start < span.end && span.end <= length),
            Part::Ranges(mut spans) => {
                spans.sort_unstable();
                prop_assert!(spans.len() >= 2);
                prop_assert!(spans.iter().all(|span| span.start < span.end && span.end <= length));
                prop_assert!(spans.windows(2).all(|pair| pair[0].end < pair[1].start));
            }
            Part::Whole | Part::Unsatisfiable => {}
        }
    }

    #[test]
    fn variants_are_equal_only_if_the_nominated_fields_are(a in fields(), b in fields()) {
        let vary = Vary::of(&HeaderMap::from_iter([(http::header::VARY, HeaderValue::from_static("accept-language, cookie"))]), &[]);
        let key = |request: &HeaderMap| {
            let mut key = Vec::new();
            vary.variant_key(request, &mut key);
            key
        };
        let plain = |request: &HeaderMap, name: &str| -> Option<Vec<Vec<u8>>> {
            request.contains_key(name).then(|| {
                let lines = request.get_all(name).iter().flat_map(|line| nearside_semantics::fields::members(line.as_bytes()));
                lines.map(<[u8]>::to_vec).collect()
            })
        };
        let same = ["accept-language", "cookie"].iter().all(|name| plain(&a, name) == plain(&b, name));
        prop_assert_eq!(key(&a) == key(&b), same);
    }

    #[test]
    fn forms_are_stable(request in fields(), target in vec(proptest::sample::select(b"ab&=?%6162+/".to_vec()), 0..20)) {
        let normal = |mut request: HeaderMap| {
            Rewritten::of(&request.clone(), true, Languages::Order).apply(&mut request);
            request
        };
        let once = normal(request);
        prop_assert_eq!(normal(once.clone()), once);
        let recipe = QueryRecipe { drop: vec![ParameterName::new("a")], sort: true, ..QueryRecipe::default() };
        let form = |target: &[u8]| {
            let mut out = Vec::new();
            recipe.write(target, &mut out);
            out
        };
        let once = form(&target);
        prop_assert_eq!(form(&once), once);
    }
}
