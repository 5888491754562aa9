//! Explain: it names what was planted, and its verdict is what the same request then gets.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Method, Request};
use http_body_util::Full;
use nearside_config::{Config, Follows, OnLag};
use nearside_protocol::{Explanation, Question};

use crate::bed::{Bed, HOST, Speech, answer, get_with, scripted};

/// A misconfiguration: what is planted, and the reason that is to be named for it.
struct Plant {
    reason: &'static str,
    site: fn(&mut Config),
    /// What the origin answers, whatever is asked.
    origin: (u16, &'static str),
    /// What is asked for before; each a method, a path with its query, and fields.
    before: &'static [Asked],
    asked: Asked,
}

type Asked = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

const GET: Asked = ("GET", "/p", &[]);
const NONE: fn(&mut Config) = |_| {};

/// An answer that is wrong by itself.
const fn of_origin(reason: &'static str, status: u16, fields: &'static str) -> Plant {
    Plant { reason, site: NONE, origin: (status, fields), before: &[], asked: GET }
}

/// A request, after others, of answers that are right.
const fn of_request(reason: &'static str, before: &'static [Asked], asked: Asked) -> Plant {
    Plant { reason, site: NONE, origin: (200, "cache-control: max-age=600\r\netag: \"a\"\r\n"), before, asked }
}

/// The planted misconfigurations.
const PLANTS: &[Plant] = &[
    of_origin("set-cookie", 200, "cache-control: max-age=60\r\nset-cookie: session=secret\r\n"),
    of_origin("vary-all", 200, "cache-control: max-age=60\r\nvary: *\r\n"),
    of_origin("vary-all", 200, "cache-control: max-age=60\r\nvary: x-forwarded-proto\r\n"),
    of_origin("cookie-vary", 200, "cache-control: max-age=60\r\nvary: accept-encoding, cookie\r\n"),
    of_origin("wide-vary", 200, "cache-control: max-age=60\r\nvary: user-agent\r\n"),
    of_origin("no-store", 200, "cache-control: no-store\r\n"),
    of_origin("private", 200, "cache-control: private, max-age=3600\r\n"),
    of_origin("no-cache", 200, "cache-control: no-cache\r\netag: \"a\"\r\n"),
    of_origin("not-understood", 299, "cache-control: must-understand, max-age=60\r\n"),
    of_origin("malformed-lifetime", 200, "cache-control: max-age=2.5\r\n"),
    of_origin("malformed-lifetime", 200, "cache-control: max-age=1h\r\n"),
    of_origin("malformed-lifetime", 200, "cache-control: s-maxage='60', max-age=60\r\n"),
    of_origin("malformed-expires", 200, "expires: 0\r\netag: \"a\"\r\n"),
    of_origin("malformed-expires", 200, "expires: next tuesday\r\n"),
    of_origin("expires-past", 200, "expires: Thu, 01 Jan 1970 00:00:00 GMT\r\netag: \"a\"\r\n"),
    of_origin("lifetime-zero", 200, "cache-control: max-age=0\r\netag: \"a\"\r\n"),
    of_origin("shared-lifetime", 200, "cache-control: s-maxage=0, max-age=3600\r\netag: \"a\"\r\n"),
    of_origin("short-lifetime", 200, "cache-control: max-age=1\r\netag: \"a\"\r\n"),
    of_origin("nothing-to-guess-from", 200, ""),
    of_origin("heuristic-lifetime", 200, "last-modified: Thu, 01 Jan 2015 00:00:00 GMT\r\n"),
    of_origin("status-needs-lifetime", 302, "location: /q\r\n"),
    of_origin("server-error", 500, ""),
    of_origin("targeted", 200, "cdn-cache-control: no-store\r\ncache-control: max-age=3600\r\n"),
    of_origin("targeted-malformed", 200, "cdn-cache-control: max-age=60; public, =\r\ncache-control: no-store\r\n"),
    of_origin(
        "surrogate-control",
        200,
        "surrogate-control: max-age=3600\r\ncache-control: max-age=0\r\netag: \"a\"\r\n",
    ),
    of_origin("unknown-directive", 200, "cache-control: public, maxage=3600\r\n"),
    of_origin("unknown-directive", 200, "cache-control: s-max-age=3600\r\n"),
    of_origin("separator", 200, "cache-control: public; max-age=3600\r\n"),
    of_origin("repeated", 200, "cache-control: max-age=0, max-age=3600\r\netag: \"a\"\r\n"),
    of_origin("contradiction", 200, "cache-control: public, max-age=3600, no-store\r\n"),
    of_origin("pragma", 200, "pragma: cache\r\n"),
    of_origin("clock-ahead", 200, "date: Fri, 01 Jan 2100 00:00:00 GMT\r\ncache-control: max-age=60\r\n"),
    of_origin(
        "clock-behind",
        200,
        "date: Sat, 01 Jan 2000 00:00:00 GMT\r\ncache-control: max-age=60\r\netag: \"a\"\r\n",
    ),
    of_origin("old-on-arrival", 200, "age: 90\r\ncache-control: max-age=60\r\netag: \"a\"\r\n"),
    of_origin("malformed-age", 200, "age: 1.5\r\ncache-control: max-age=60\r\n"),
    of_request("method", &[], ("POST", "/p", &[])),
    of_request("query-noise", &[("GET", "/p?utm_source=x", &[]), ("GET", "/p?utm_source=y&gclid=1", &[])], GET),
    of_request("query-order", &[("GET", "/p?a=1&b=2", &[])], ("GET", "/p?b=2&a=1", &[])),
    of_request("query-variants", &[("GET", "/p?sid=1", &[])], ("GET", "/p?sid=2", &[])),
    of_request("host-variants", &[("GET", "/p", &[("host", "example.org")])], GET),
    of_request("path-variants", &[("GET", "/P", &[])], GET),
    of_request("client-ignored", &[GET], ("GET", "/p", &[("cache-control", "no-cache")])),
    Plant {
        reason: "authorization",
        asked: ("GET", "/p", &[("authorization", "Basic x")]),
        ..of_request("", &[], GET)
    },
    Plant {
        reason: "vary-miss",
        origin: (200, "cache-control: max-age=60\r\nvary: x-country\r\n"),
        before: &[("GET", "/p", &[("x-country", "nz")])],
        asked: ("GET", "/p", &[("x-country", "br")]),
        ..of_request("", &[], GET)
    },
    Plant {
        reason: "key-fields",
        site: |config| config.sites[0].key.fields = vec!["x-session".parse().unwrap()],
        before: &[("GET", "/p", &[("x-session", "1")])],
        asked: ("GET", "/p", &[("x-session", "2")]),
        ..of_request("", &[], GET)
    },
    Plant {
        reason: "site-cap",
        site: |config| config.sites[0].max_ttl = Some(Duration::from_secs(2)),
        ..of_request("", &[], GET)
    },
    Plant {
        reason: "request",
        site: |config| config.sites[0].honour_request_directives = true,
        before: &[GET],
        asked: ("GET", "/p", &[("pragma", "no-cache")]),
        ..of_request("", &[], GET)
    },
    Plant { reason: "object-max", site: |config| config.cache.object_bytes_max = 2, ..of_request("", &[], GET) },
    Plant {
        reason: "unknown-host",
        site: |config| config.sites[0].hosts = vec!["other.example.org".parse().unwrap()],
        ..of_request("", &[], GET)
    },
    Plant {
        reason: "upstream-connect",
        site: |config| config.sites[0].origins = vec!["http://127.0.0.1:1".parse().unwrap()],
        ..of_request("", &[], GET)
    },
];

async fn bed(origin: (u16, &'static str), site: fn(&mut Config)) -> Bed {
    let address = scripted(Duration::ZERO, move |_| answer(origin.0, origin.1, "body")).await;
    Bed::with(move |config| {
        config.sites[0].origins = vec![crate::bed::upstream(address)];
        site(config);
    })
    .await
}

fn request((method, path, fields): Asked) -> Request<Full<bytes::Bytes>> {
    let mut request = get_with(path, fields);
    *request.method_mut() = method.parse().unwrap();
    if let Some(host) = fields.iter().find(|(name, _)| *name == "host") {
        request.headers_mut().insert("host", host.1.parse().unwrap());
    }
    request
}

async fn explain(bed: &Bed, (method, path, fields): Asked, probe: bool) -> Explanation {
    let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let question = Question { url: format!("http://{HOST}{path}"), method: method.to_owned(), fields, probe };
    let reply = bed.admin(Method::GET, &format!("/v1/explain?{}", question.query()), "").await;
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    serde_json::from_slice(&reply.body).unwrap()
}

fn reasons(explanation: &Explanation) -> Vec<&str> {
    explanation.causes.iter().map(|cause| cause.why.reason.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_planted_misconfiguration_is_named_among_the_first_three_causes() {
    assert!(PLANTS.len() >= 40);
    let mut missed = Vec::new();
    for plant in PLANTS {
        let bed = bed(plant.origin, plant.site).await;
        for before in plant.before {
            bed.ask(Speech::H1, request(*before)).await;
        }
        let explanation = explain(&bed, plant.asked, true).await;
        let found = reasons(&explanation);
        if !found.iter().take(3).any(|reason| *reason == plant.reason) {
            missed.push(format!("{} in {:?}: {} {found:?}", plant.reason, plant.origin, explanation.verdict.cache));
        }
        assert!(!format!("{explanation:?}").contains("secret"), "the values of cookies are nobody's business");
    }
    assert!(missed.is_empty(), "{} missed: {missed:#?}", missed.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_is_wrong_nothing_is_named() {
    for (status, fields) in [
        (200, "cache-control: public, max-age=600\r\netag: \"a\"\r\nvary: accept-encoding\r\n"),
        (200, "cache-control: max-age=60, stale-while-revalidate=30, stale-if-error=60, immutable\r\netag: \"a\"\r\n"),
        (404, "cache-control: max-age=60\r\nlast-modified: Thu, 01 Jan 2015 00:00:00 GMT\r\n"),
        (301, "cache-control: max-age=60\r\nlocation: /q\r\netag: \"a\"\r\n"),
        (
            200,
            "expires: Fri, 01 Jan 2100 00:00:00 GMT\r\ncache-control: max-age=60\r\ncdn-cache-control: max-age=60\r\netag: \"a\"\r\n",
        ),
    ] {
        let bed = bed((status, fields), NONE).await;
        let cold = explain(&bed, GET, true).await;
        assert_eq!((cold.verdict.cache.as_str(), reasons(&cold)), ("miss", vec![]), "{fields}");
        bed.get("/p").await;
        let warm = explain(&bed, GET, true).await;
        assert_eq!((warm.verdict.cache.as_str(), warm.verdict.why.reason.as_str()), ("hit", "fresh"), "{fields}");
        assert!(reasons(&warm).is_empty() && warm.probe.is_none(), "a hit asks nobody: {warm:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_more_than_one_node_or_a_moment_is_named_too() {
    // A node that has never heard of its control process.
    let bed = Bed::with(|config| {
        config.control = Some(Follows {
            addresses: vec!["http://127.0.0.1:1".parse().unwrap()],
            secret: None,
            lag_max: Duration::ZERO,
        });
        config.sites[0].on_lag = OnLag::Revalidate;
    })
    .await;
    let path = ("GET", "/p?cc=max-age%3D60&etag=a", &[][..]);
    bed.get(path.1).await;
    let explanation = explain(&bed, path, false).await;
    assert_eq!((explanation.verdict.why.reason.as_str(), reasons(&explanation)[0]), ("lagging", "lagging"));
    // A soft purge, and what can then not be validated.
    let bed = self::bed((200, "cache-control: max-age=600\r\n"), NONE).await;
    bed.get("/p").await;
    bed.order(serde_json::json!({ "urls": [format!("http://{HOST}/p")], "soft": true })).await;
    let explanation = explain(&bed, GET, false).await;
    assert_eq!(explanation.verdict.cache, "expired");
    assert_eq!(reasons(&explanation), ["soft-purged", "no-validator"]);
    // Without a probe, why the last answer was not stored.
    let bed = self::bed((200, "cache-control: private\r\n"), NONE).await;
    bed.get("/p").await;
    assert_eq!(reasons(&explain(&bed, GET, false).await), ["private", "remembered"]);
    // An origin that has failed.
    let mut bed = self::bed((200, "cache-control: max-age=1\r\netag: \"a\"\r\n"), |config| {
        config.sites[0].serve_stale_on_error = Duration::from_secs(60);
    })
    .await;
    bed.get("/p").await;
    bed.advance(2);
    bed = bed.again(|config| config.sites[0].origins = vec!["http://127.0.0.1:1".parse().unwrap()]);
    for _ in 0..10 {
        bed.get("/q").await;
    }
    assert!(reasons(&explain(&bed, GET, false).await).contains(&"no-upstream"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_have_sent_is_not_told() {
    let bed = bed(
        (200, "cache-control: max-age=600\r\nvary: cookie, authorization, accept-language, x-session\r\n"),
        |config| {
            config.sites[0].key.cookies = vec!["session".parse().unwrap()];
        },
    )
    .await;
    const SECRETS: &[(&str, &str)] =
        &[("cookie", "session=hidden-1"), ("accept-language", "mi"), ("x-session", "hidden-3")];
    bed.ask(Speech::H1, request(("GET", "/p", SECRETS))).await;
    bed.get("/p?token=hidden-2").await;
    bed.get("/p?hidden-4").await;
    for asked in [("GET", "/p", &[][..]), ("GET", "/p?other=1", &[])] {
        let explanation = explain(&bed, asked, false).await;
        let text = serde_json::to_string(&explanation).unwrap();
        assert!(!text.contains("hidden"), "{text}");
    }
    let explanation = explain(&bed, GET, false).await;
    assert_eq!(
        explanation.stored[0].variant.replace(' ', ""),
        "accept-language:mi;authorization;cookie:…;x-session:…;cookiesession:…"
    );
    let mut examples = explanation.near[0].examples.clone();
    examples.sort();
    assert_eq!(examples, ["token=…", "…"].map(|query| format!("http://{HOST}/p?{query}")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_is_nobody_that_an_origin_knows() {
    let heads = Arc::new(parking_lot::Mutex::new(String::new()));
    let seen = Arc::clone(&heads);
    let address = scripted(Duration::ZERO, move |head: &str| {
        seen.lock().push_str(head);
        answer(200, "cache-control: max-age=60\r\n", "body")
    });
    let address = address.await;
    let bed = Bed::with(move |config| config.sites[0].origins = vec![crate::bed::upstream(address)]).await;
    explain(&bed, GET, true).await;
    let head = heads.lock().clone();
    assert!(head.contains("x-forwarded-for: 192.0.2.1") && !head.contains("127.0.0.1\r\nx-"), "{head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_cut_into_blocks_is_looked_into_as_a_whole() {
    let bed = bed((200, "cache-control: max-age=600\r\n"), |config| config.sites[0].slice = true).await;
    for asked in [GET, ("GET", "/part", &[("range", "bytes=1-2")])] {
        let told = explain(&bed, asked, true).await;
        assert_eq!((told.verdict.cache.as_str(), told.key.unwrap().block), ("miss", None), "{:?}", told.verdict);
        assert!(told.probe.unwrap().stored);
        let got = bed.ask(Speech::H1, request(asked)).await;
        assert!(got.cache().contains("fwd=uri-miss") && got.cache().contains("; stored"), "{}", got.cache());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_nobody_waits_for_and_a_head_that_is_not_known_are_told_as_they_come() {
    let slow = scripted(Duration::from_secs(2), |_: &str| answer(200, "cache-control: max-age=1\r\n", "body")).await;
    let mut bed = Bed::with(move |config| {
        config.sites[0].origins = vec![crate::bed::upstream(slow)];
        config.sites[0].stale_deadline = Some(Duration::from_millis(100));
    })
    .await;
    bed.get("/p").await;
    bed.advance(5);
    let verdict = explain(&bed, GET, true).await.verdict;
    assert_eq!((verdict.cache.as_str(), verdict.why.reason.as_str()), ("stale", "stale-deadline"));
    let got = bed.get("/p").await;
    assert!(got.cache().contains("detail=stale-deadline"), "{}", got.cache());

    let no_head = scripted(Duration::ZERO, |head: &str| match head.starts_with("head") {
        true => answer(405, "", ""),
        false => answer(200, "cache-control: max-age=1\r\n", "body"),
    });
    let no_head = no_head.await;
    let mut bed = Bed::with(move |config| config.sites[0].origins = vec![crate::bed::upstream(no_head)]).await;
    bed.get("/p").await;
    bed.advance(5);
    let asked: Asked = ("HEAD", "/p", &[]);
    let verdict = explain(&bed, asked, true).await.verdict;
    assert_eq!(verdict.cache, "expired");
    assert!(bed.ask(Speech::H1, request(asked)).await.cache().contains("fwd=stale; fwd-status=200; stored"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_node_answers_by_itself_or_passes_on_is_told_as_that() {
    let bed = Bed::with(|config| config.public.url = Some("http://{host}".parse().unwrap())).await;
    const UPGRADE: &[(&str, &str)] = &[("connection", "upgrade"), ("upgrade", "websocket")];
    for (asked, cache, reason) in [
        (("GET", "/.well-known/nearside/ping?1", &[][..]), "synth", "ping"),
        (("PURGE", "/p", &[]), "synth", "purge"),
        (("GET", "/p", &[("cache-control", "only-if-cached")]), "miss", "uri-miss"),
        (("GET", "/p", UPGRADE), "bypass", "bypass"),
        (("DELETE", "/p", &[]), "bypass", "method"),
        (("GET", "/p", &[("cdn-loop", "edge")]), "synth", "loop"),
    ] {
        let verdict = explain(&bed, asked, false).await.verdict;
        assert_eq!((verdict.cache.as_str(), verdict.why.reason.as_str()), (cache, reason), "{asked:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn explaining_what_would_be_stored_in_blocks_begins_none() {
    let bed = Bed::with(|config| config.sites[0].slice = true).await;
    let asked: Asked = ("GET", "/big?cc=max-age%3D600&size=3000000&etag=e", &[("range", "bytes=1100000-1100010")]);
    let cold = explain(&bed, asked, false).await;
    assert_eq!((cold.verdict.cache.as_str(), cold.key.unwrap().block), ("miss", Some(1)));
    let purged = bed.order(serde_json::json!({ "urls": [format!("http://{HOST}{}", asked.1)] })).await;
    assert_eq!(purged["nodes"][0]["matched"], 0, "nothing was begun: {purged}");
    bed.ask(Speech::H1, request(asked)).await;
    bed.until_idle().await;
    let warm = explain(&bed, asked, false).await;
    assert_eq!((warm.verdict.cache.as_str(), warm.stored[0].status), ("hit", 206));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_arithmetic_and_the_key_are_told_in_their_parts() {
    let mut bed = bed((200, "cache-control: max-age=3600\r\nage: 10\r\nvary: accept-language\r\n"), |config| {
        config.sites[0].key.query_drop = vec!["utm_*".parse().unwrap()];
        config.sites[0].max_ttl = Some(Duration::from_secs(1800));
    })
    .await;
    let asked: Asked = ("GET", "/p?a=1&utm_source=x", &[("accept-language", "mi")]);
    bed.ask(Speech::H1, request(asked)).await;
    bed.advance(5);
    let explanation = explain(&bed, asked, false).await;
    let key = explanation.key.unwrap();
    assert_eq!((key.scheme.as_str(), key.host.as_str(), key.path.as_str()), ("http", HOST, "/p"));
    assert_eq!((key.query.as_deref(), &key.ignored[..]), (Some("a=1"), &["utm_source=x".to_owned()][..]));
    assert_eq!(key.selects, [("accept-language".to_owned(), "mi".to_owned())]);
    let [stored] = &explanation.stored[..] else { panic!("{:?}", explanation.stored) };
    assert!(stored.selected && stored.state == "fresh" && stored.variant == "accept-language:mi", "{stored:?}");
    let life = &stored.freshness;
    assert_eq!((life.lifetime, life.source.as_str(), life.capped_to), (1800, "max-age", Some(1800)));
    assert_eq!((life.age_stated, life.age_on_arrival, life.resident, life.age, life.ttl), (Some(10), 10, 5, 15, 1785));
    for (query, code) in [("", "url-missing"), ("url=nonsense", "url"), ("url=http://a/&field=x", "field")] {
        let reply = bed.admin(Method::GET, &format!("/v1/explain?{query}"), "").await;
        let problem: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!((reply.status.as_u16(), problem["code"].as_str()), (422, Some(code)), "{query}");
    }
}

/// Every word that an origin says of caching in the histories below.
const WORDS: [&str; 10] = [
    "cache-control: max-age=60\r\netag: \"a\"\r\n",
    "cache-control: max-age=5, stale-while-revalidate=20\r\netag: \"a\"\r\n",
    "cache-control: max-age=5, stale-if-error=100\r\n",
    "cache-control: no-cache\r\netag: \"a\"\r\n",
    "cache-control: no-store\r\n",
    "cache-control: private\r\n",
    "cache-control: max-age=20\r\nvary: x-kind\r\n",
    "cache-control: max-age=20\r\nset-cookie: a=b\r\n",
    "last-modified: Thu, 01 Jan 2015 00:00:00 GMT\r\n",
    "cache-control: must-revalidate, max-age=10\r\nlast-modified: Thu, 01 Jan 2015 00:00:00 GMT\r\n",
];

#[tokio::test(flavor = "multi_thread")]
async fn the_verdict_is_what_the_same_request_then_gets() {
    let word = Arc::new(AtomicUsize::new(0));
    let says = Arc::clone(&word);
    let origin = move |head: &str| {
        let word = says.load(Ordering::SeqCst);
        let (kind, word) = (word / WORDS.len(), WORDS[word % WORDS.len()]);
        match kind {
            // One that knows its validators.
            0 if head.contains("if-none-match") || head.contains("if-modified-since") => {
                format!("HTTP/1.1 304 Not Modified\r\n{word}connection: close\r\n\r\n")
            }
            0 | 1 => answer(200, word, "body"),
            2 => answer(503, "", "error"),
            _ => answer(404, word, "none"),
        }
    };
    let address = scripted(Duration::ZERO, origin).await;
    let mut bed = Bed::with(|config| {
        config.sites[0].origins = vec![crate::bed::upstream(address)];
        config.sites[0].honour_request_directives = true;
        // How long an answer really takes must not decide.
        config.sites[0].stale_deadline = None;
    })
    .await;
    // The same histories each time; the seed of another run is a number in its place.
    let mut state = 20_261_127_u64;
    let mut draw = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    const PATHS: [&str; 4] = ["/a", "/b", "/c?x=1", "/d"];
    const FIELDS: [&[(&str, &str)]; 7] = [
        &[],
        &[],
        &[("x-kind", "1")],
        &[("cache-control", "no-cache")],
        &[("cache-control", "only-if-cached")],
        &[("cache-control", "max-stale=10")],
        &[("authorization", "Basic x")],
    ];
    let mut seen = std::collections::BTreeMap::<String, usize>::new();
    for step in 0..300 {
        word.store(usize::try_from(draw(WORDS.len() as u64 * 4)).unwrap(), Ordering::SeqCst);
        bed.advance(draw(12));
        let method = ["GET", "GET", "GET", "HEAD", "POST"][usize::try_from(draw(5)).unwrap()];
        let asked: Asked =
            (method, PATHS[usize::try_from(draw(4)).unwrap()], FIELDS[usize::try_from(draw(7)).unwrap()]);
        // What refreshes behind a client's back would come in between.
        bed.until_idle().await;
        let told = explain(&bed, asked, method != "POST").await;
        let got = bed.ask(Speech::H1, request(asked)).await;
        let verdict = &told.verdict;
        let cache = got.cache();
        *seen.entry(verdict.cache.clone()).or_default() += 1;
        let has = |parameter: &str| cache.split("; ").any(|part| part == parameter);
        let context = format!("step {step}, {asked:?}: told {verdict:?}, got {} {cache:?}", got.status);
        match &verdict.forward {
            Some(forward) => assert!(has(&format!("fwd={forward}")), "{context}"),
            None => assert!(!cache.contains("fwd="), "{context}"),
        }
        let is_stored = matches!(verdict.cache.as_str(), "miss" | "expired");
        assert_eq!(has("stored"), is_stored, "{context}");
        if let Some(detail) = cache.split("; ").find_map(|part| part.strip_prefix("detail=")) {
            assert_eq!(detail, verdict.why.reason, "{context}");
        }
        let as_word = match verdict.cache.as_str() {
            "hit" | "updating" => has("hit"),
            "revalidated" => has("fwd-status=304"),
            "synth" => got.status == 504,
            "stale" => got.status != 503 && has("fwd-status=503"),
            "uncacheable" => !has("stored"),
            "miss" | "expired" | "bypass" => true,
            other => panic!("{other} is no verdict here: {context}"),
        };
        assert!(as_word, "{context}");
    }
    let common = ["bypass", "expired", "hit", "miss", "revalidated", "stale", "synth", "uncacheable", "updating"];
    assert!(common.iter().all(|word| seen.contains_key(*word)), "not all verdicts came up: {seen:?}");
}
