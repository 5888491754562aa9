//! Purges by URL, tag, prefix, host, site and all, hard and soft: of what is stored, and of what is on its way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Method;
use nearside_config::{Config, Scope, Secret, Site, Token};
use serde_json::{Value, json};

use crate::bed::{Bed, HOST, Reply, SPEECHES, Speech, answer, eventually, gated, get, get_from, get_with, upstream};

fn is_hit(reply: &Reply) -> bool {
    reply.cache().contains("; hit") && !reply.cache().contains("ttl=-")
}

/// Two sites before one origin: `www.example.org` and `static.example.org`, and `shop.org`.
fn two_sites(config: &mut Config) {
    let origins = config.sites[0].origins.clone();
    config.sites[0].hosts = vec![HOST.parse().unwrap(), "static.example.org".parse().unwrap()];
    config.sites[0].name = "www".to_owned();
    config.sites.push(Site::new("shop", vec!["shop.org".parse().unwrap()], origins));
}

/// What is asked for: host and path.
const PAGES: [(&str, &str); 6] = [
    (HOST, "/a/1?cc=max-age%3D600&tag=red+blue&etag=x"),
    (HOST, "/a/2?cc=max-age%3D600&tag=red&vary=x-lang&etag=x"),
    (HOST, "/b/1?cc=max-age%3D600&etag=x"),
    ("static.example.org", "/a/1?cc=max-age%3D600&tag=blue&etag=x"),
    ("shop.org", "/a/1?cc=max-age%3D600&tag=red&etag=x"),
    (HOST, "/ab?cc=max-age%3D600&etag=x"),
];

async fn hits(bed: &Bed) -> Vec<bool> {
    let mut found = Vec::new();
    for (host, path) in PAGES {
        found.push(is_hit(&bed.get_with(path, &[("host", host)]).await));
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_meets_what_it_names_and_nothing_else() {
    let bed = Bed::with(two_sites).await;
    let first = format!("http://{HOST}{}", PAGES[0].1);
    // The order, what it matches, and what is still a hit.
    let table = [
        (json!({"urls": [first]}), 1, [0, 1, 1, 1, 1, 1]),
        (json!({"urls": [format!("http://{HOST}{}", PAGES[1].1)]}), 2, [1, 0, 1, 1, 1, 1]),
        (json!({"tags": ["red"]}), 4, [0, 0, 1, 1, 0, 1]),
        (json!({"tags": ["red"], "site": "www"}), 3, [0, 0, 1, 1, 1, 1]),
        (json!({"tags": ["blue", "unknown"]}), 2, [0, 1, 1, 0, 1, 1]),
        (json!({"tags": ["re", "Red", "red blue"]}), 0, [1, 1, 1, 1, 1, 1]),
        (json!({"prefixes": [format!("http://{HOST}/a/")]}), 3, [0, 0, 1, 1, 1, 1]),
        (json!({"prefixes": [format!("{HOST}/a")]}), 4, [0, 0, 1, 1, 1, 0]),
        (json!({"prefixes": [format!("https://{HOST}/a")]}), 0, [1, 1, 1, 1, 1, 1]),
        (json!({"hosts": ["STATIC.example.org"]}), 1, [1, 1, 1, 0, 1, 1]),
        (json!({"all": true, "site": "shop"}), 1, [1, 1, 1, 1, 0, 1]),
        (json!({"all": true}), 7, [0, 0, 0, 0, 0, 0]),
        (json!({"tags": ["blue"], "hosts": ["shop.org"]}), 3, [0, 1, 1, 0, 0, 1]),
    ];
    for (order, matched, left) in table {
        for (host, path) in PAGES {
            bed.get_with(path, &[("host", host)]).await;
        }
        bed.get_with(PAGES[1].1, &[("x-lang", "de")]).await;
        assert_eq!(hits(&bed).await, [true; 6], "before {order}");
        let mut dry = order.clone();
        dry["dry_run"] = true.into();
        let counted = bed.order(dry).await;
        assert_eq!(
            (counted["matched"].as_u64(), &counted["nodes"][0]["state"]),
            (Some(matched), &"counted".into()),
            "{order}"
        );
        let receipt = bed.order(order.clone()).await;
        assert_eq!(
            (receipt["matched"].as_u64(), &receipt["nodes"][0]["state"]),
            (Some(matched), &"applied".into()),
            "{order}"
        );
        assert_eq!(hits(&bed).await, left.map(|left| left == 1), "after {order}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_soft_purge_it_is_validated_or_served_stale_as_its_windows_allow() {
    for order in [
        json!({"tags": ["t"]}),
        json!({"urls": ["*"]}),
        json!({"prefixes": [format!("{HOST}/soft")]}),
        json!({"hosts": [HOST]}),
        json!({"all": true}),
    ] {
        let mut bed = Bed::with(|config| config.sites[0].serve_stale_on_error = Duration::ZERO).await;
        let plain = "/soft/plain?cc=max-age%3D600&tag=t&etag=a&size=10";
        let windowed = "/soft/windowed?cc=max-age%3D600,stale-while-revalidate%3D60&tag=t&etag=a&size=10";
        let mut order = order.clone();
        order["soft"] = true.into();
        if order["urls"] == json!(["*"]) {
            order["urls"] = json!([format!("http://{HOST}{plain}"), format!("http://{HOST}{windowed}")]);
        }
        for path in [plain, windowed] {
            bed.get(path).await;
        }
        bed.advance(100);
        assert_eq!(bed.order(order.clone()).await["matched"], 2, "{order}");
        let reply = bed.get(plain).await;
        assert!(reply.cache().contains("fwd=stale; fwd-status=304; ttl=600"), "{order}: {}", reply.cache());
        bed.advance(30);
        let stale = bed.get(windowed).await;
        assert!(stale.cache().contains("; hit; ttl=-30"), "{order}: {}", stale.cache());
        assert_eq!(stale.field("age"), "630", "no cache on the way takes it for fresh");
        bed.until_idle().await;
        assert!(is_hit(&bed.get(windowed).await) && is_hit(&bed.get(plain).await), "{order}");
        assert_eq!((bed.asked(plain), bed.asked(windowed)), (2, 2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_has_ended_is_not_opened_again() {
    let mut bed = Bed::new().await;
    let path = "/ended?cc=max-age%3D60,stale-while-revalidate%3D10&tag=t&etag=a";
    bed.get(path).await;
    bed.advance(69);
    bed.order(json!({"tags": ["t"], "soft": true})).await;
    bed.advance(1);
    let reply = bed.get(path).await;
    assert!(reply.cache().contains("fwd=stale; fwd-status=304"), "{}", reply.cache());
}

/// An origin whose version is told in its body, and whose answers wait at a gate.
async fn versions(fields: &'static str) -> (Bed, crate::bed::Gate, Arc<AtomicU64>) {
    let version = Arc::new(AtomicU64::new(1));
    let now = Arc::clone(&version);
    let (origin, gate) = gated("get", move |_| answer(200, fields, &format!("v{}", now.load(Ordering::SeqCst)))).await;
    let bed = Bed::with(|config| config.sites[0].origins = vec![upstream(origin)]).await;
    (bed, gate, version)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fill_that_a_purge_overtakes_serves_those_who_wait_and_nobody_after() {
    let fields = "cache-control: max-age=600\r\nsurrogate-key: t\r\n";
    let url = format!("http://{HOST}/p/page");
    for (what, known) in [
        (json!({"urls": [url]}), true),
        (json!({"prefixes": [format!("{HOST}/p")]}), true),
        (json!({"hosts": [HOST]}), true),
        (json!({"all": true}), true),
        // Of a tag nobody knows before the head of the answer is there.
        (json!({"tags": ["t"]}), false),
    ] {
        for soft in [false, true] {
            let (bed, gate, version) = versions(fields).await;
            let address = bed.address();
            let before = tokio::spawn(async move { get_from(address, "/p/page").await });
            eventually("it is asked", || gate.arrived() == 1).await;
            version.store(2, Ordering::SeqCst);
            let mut order = what.clone();
            order["soft"] = soft.into();
            let receipt = bed.order(order.clone()).await;
            assert_eq!(receipt["nodes"][0]["fenced_fills"], u64::from(known), "{order}");
            let after: Vec<_> =
                (0..3).map(|_| tokio::spawn(async move { get_from(address, "/p/page").await })).collect();
            if known {
                eventually("it is asked again", || gate.arrived() == 2).await;
            }
            for _ in 0..2 {
                gate.open();
            }
            assert_eq!(before.await.unwrap().body, "v1", "{order}");
            for after in after {
                let reply = after.await.unwrap();
                assert_eq!(reply.body, "v2", "{order}: {}", reply.cache());
            }
            bed.until_idle().await;
            let later = bed.get("/p/page").await;
            assert!(is_hit(&later) && later.body == "v2", "{order}: {}", later.cache());
            assert_eq!(gate.arrived(), 2, "{order}: those who came after shared one");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_go_together() {
    let path = "/large?cc=max-age%3D600&etag=a&size=3000000&seed=3&tag=t";
    for order in [
        json!({"tags": ["t"]}),
        json!({"urls": [format!("http://{HOST}{path}")]}),
        json!({"prefixes": [format!("{HOST}/large")]}),
        json!({"all": true, "erase": true}),
    ] {
        let bed = Bed::with(|config| config.sites[0].slice = true).await;
        assert_eq!(bed.get(path).await.body.len(), 3_000_000);
        let asked = bed.asked(path);
        assert!(is_hit(&bed.get(path).await));
        assert!(bed.order(order.clone()).await["matched"].as_u64().unwrap() > 0, "{order}");
        let reply = bed.get(path).await;
        assert_eq!((reply.body.len(), nearside_origin_sim::body::differs(3, 0, &reply.body)), (3_000_000, None));
        assert_eq!(bed.asked(path), 2 * asked, "{order}: all blocks are asked for anew");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_are_for_caches_and_stay_when_a_304_says_nothing_of_them() {
    let script = |head: &str| {
        let fields = "etag: \"a\"\r\ncache-control: max-age=60\r\nsurrogate-control: max-age=5\r\n";
        let tags = "surrogate-key: one two\r\ncache-tag: three,four five\r\nxkey: six\r\nedge-cache-tag: seven\r\n";
        match (head.contains("if-none-match"), head.contains("/other")) {
            (true, true) => answer(304, &format!("{fields}cache-tag: new\r\n"), ""),
            (true, false) => answer(304, fields, ""),
            (false, _) => answer(200, &format!("{fields}{tags}"), "page"),
        }
    };
    let mut bed = Bed::tls_with(|_| {}).await;
    let origin = crate::bed::scripted(Duration::ZERO, script).await;
    bed = bed.again(|config| config.sites[0].origins = vec![upstream(origin)]);
    for tag in ["one", "two", "three", "four five", "six", "seven"] {
        for round in 0..2 {
            let reply = bed.get("/page").await;
            for name in ["surrogate-key", "cache-tag", "xkey", "edge-cache-tag", "surrogate-control"] {
                assert_eq!(reply.field(name), "", "round {round}");
            }
            // Validated in between, by an answer that names no tags.
            bed.advance(100);
            assert!(bed.get("/page").await.cache().contains("fwd-status=304"));
        }
        assert!(is_hit(&bed.get("/page").await));
        assert_eq!(bed.order(json!({"tags": [tag]})).await["matched"], 1, "{tag}");
        assert!(bed.get("/page").await.cache().contains("fwd=uri-miss"));
    }
    bed.get("/other").await;
    bed.advance(100);
    bed.get("/other").await;
    // A field that a 304 does not carry stays as it is (RFC 9111 §3.2).
    for tag in ["new", "one"] {
        assert!(is_hit(&bed.get("/other").await));
        bed.order(json!({"tags": [tag]})).await;
        assert!(!is_hit(&bed.get("/other").await), "{tag}");
        bed.advance(100);
        bed.get("/other").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_to_a_head_brings_tags_too() {
    let script = |head: &str| {
        let fields = "etag: \"a\"\r\ncache-control: max-age=60\r\ncontent-length: 4\r\nconnection: close\r\n";
        if head.starts_with("head") {
            format!("HTTP/1.1 200 X\r\n{fields}cache-tag: new\r\n\r\n")
        } else {
            format!("HTTP/1.1 200 X\r\n{fields}surrogate-key: old\r\n\r\npage")
        }
    };
    for tag in ["new", "old"] {
        let mut bed = Bed::scripted(script, |_| {}).await;
        bed.get("/page").await;
        bed.advance(100);
        let mut head = get("/page");
        *head.method_mut() = Method::HEAD;
        assert_eq!(bed.ask(Speech::H1, head).await.status, 200);
        assert!(is_hit(&bed.get("/page").await), "it was freshened");
        assert_eq!(bed.order(json!({"tags": [tag]})).await["matched"], 1, "{tag}");
        assert!(!is_hit(&bed.get("/page").await), "{tag}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn erase_of_a_url_gives_back_its_blocks() {
    let bed = Bed::with(|config| config.sites[0].slice = true).await;
    let path = "/large?cc=max-age%3D600&etag=a&size=3000000";
    bed.get(path).await;
    bed.until_idle().await;
    bed.order(json!({"urls": [format!("http://{HOST}{path}")], "erase": true})).await;
    let metrics = String::from_utf8(bed.admin(Method::GET, "/metrics", "").await.body.to_vec()).unwrap();
    assert!(metrics.contains("\nnearside_cache_objects 0\n"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn erase_gives_the_memory_back_before_it_is_acknowledged() {
    let bed = Bed::new().await;
    for n in 0..20 {
        bed.get(&format!("/e{n}?cc=max-age%3D600&size=100000&tag=t")).await;
    }
    assert_eq!(bed.order(json!({"tags": ["t"], "erase": true})).await["matched"], 20);
    let metrics = String::from_utf8(bed.admin(Method::GET, "/metrics", "").await.body.to_vec()).unwrap();
    assert!(metrics.contains("\nnearside_cache_objects 0\n"), "{metrics}");
}

fn token(name: &str, scope: Scope, sites: &[&str]) -> Token {
    let secret = Secret::new(&format!("the-secret-of-{name}")).unwrap();
    Token { name: name.to_owned(), secret, scope, sites: sites.iter().map(|site| (*site).to_owned()).collect() }
}

fn guarded(config: &mut Config) {
    two_sites(config);
    config.tokens = vec![
        token("reader", Scope::Read, &[]),
        token("shopkeeper", Scope::Purge, &["shop"]),
        token("operator", Scope::Admin, &[]),
    ];
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_allowed_or_not_understood_purges_nothing() {
    let bed = Bed::with(guarded).await;
    for (host, path) in PAGES {
        bed.get_with(path, &[("host", host)]).await;
    }
    let shop = "Bearer the-secret-of-shopkeeper";
    let all = "Bearer the-secret-of-operator";
    let big = json!({"tags": vec!["x".repeat(1000); 1100]}).to_string();
    let many = json!({"tags": vec!["x"; 1001]}).to_string();
    let table: &[(&str, &str, u16, &str)] = &[
        ("", r#"{"all":true}"#, 401, "token-missing"),
        ("Bearer nonsense-nonsense", r#"{"all":true}"#, 401, "token-unknown"),
        ("Basic the-secret-of-operator", r#"{"all":true}"#, 401, "token-unknown"),
        ("Bearer the-secret-of-reader", r#"{"all":true}"#, 403, "scope"),
        (shop, r#"{"all":true}"#, 403, "site"),
        (shop, r#"{"tags":["red"]}"#, 403, "site"),
        (shop, r#"{"urls":["http://www.example.org/a/1"]}"#, 403, "site"),
        (shop, r#"{"site":"shop","urls":["http://www.example.org/a/1"]}"#, 422, "other-site"),
        (shop, r#"{"site":"shop","hosts":["www.example.org"]}"#, 422, "other-site"),
        (shop, r#"{"site":"shop","prefixes":["www.example.org/"]}"#, 422, "other-site"),
        (all, r#"{"site":"nowhere","all":true}"#, 422, "unknown-site"),
        (all, r#"{"hosts":["other.org"]}"#, 422, "unknown-host"),
        (all, r#"{"hosts":["no host"]}"#, 422, "host"),
        (all, r#"{"prefixes":["www.example.org/a?b"]}"#, 422, "prefix"),
        (all, r#"{"prefixes":["ftp://www.example.org/a"]}"#, 422, "url"),
        (all, r#"{"tags":["red"],"urls":["nonsense"]}"#, 422, "url"),
        (all, r#"{"tags":["red"],"everything":true}"#, 422, "malformed"),
        (all, r#"{"tags":["red"]"#, 400, "malformed"),
        (all, r#"{"tags":["red"],"soft":true,"erase":true}"#, 422, "soft-and-erase"),
        (all, r#"{"tags":[""]}"#, 422, "length"),
        (all, &big, 413, "too-large"),
        (all, &many, 422, "too-many"),
    ];
    for (token, body, status, code) in table {
        let fields: Vec<_> =
            Some(("authorization", *token)).filter(|(_, token)| !token.is_empty()).into_iter().collect();
        let reply = bed.admin_with(Method::POST, "/v1/purge", body, &fields).await;
        let problem: Value = serde_json::from_slice(&reply.body).unwrap();
        let what = &body[..body.len().min(80)];
        assert_eq!((reply.status.as_u16(), problem["code"].as_str()), (*status, Some(*code)), "{what}");
        assert_eq!(reply.field("content-type"), "application/problem+json");
    }
    assert_eq!(hits(&bed).await, [true; 6], "nothing was purged");
    let fields = [("authorization", shop)];
    let right = bed.admin_with(Method::POST, "/v1/purge", r#"{"site":"shop","tags":["red"]}"#, &fields).await;
    assert_eq!(right.status, 200);
    assert_eq!(hits(&bed).await, [true, true, true, true, false, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_sent_twice_is_one_order() {
    let bed = Bed::new().await;
    let path = "/twice?cc=max-age%3D600&tag=t";
    let (order, key) = (json!({"tags": ["t"]}).to_string(), [("idempotency-key", "k1")]);
    bed.get(path).await;
    let first = bed.admin_with(Method::POST, "/v1/purge", &order, &key).await;
    bed.get(path).await;
    let second = bed.admin_with(Method::POST, "/v1/purge", &order, &key).await;
    assert_eq!((second.status.as_u16(), &second.body), (200, &first.body));
    assert!(is_hit(&bed.get(path).await), "it was not purged again");
    let other = bed.admin_with(Method::POST, "/v1/purge", r#"{"all":true}"#, &key).await;
    assert_eq!(other.status, 422);
    let receipt: Value = serde_json::from_slice(&first.body).unwrap();
    let again = bed.admin(Method::GET, &format!("/v1/purge/{}", receipt["id"].as_str().unwrap()), "").await;
    assert_eq!(again.body, first.body);
    assert_eq!(bed.admin(Method::GET, "/v1/purge/nothing", "").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn purge_as_a_method_needs_a_token_or_an_address_and_never_reaches_the_origin() {
    let ask = async |bed: &Bed, speech, path: &str, fields: &[(&str, &str)]| {
        let mut request = get_with(path, fields);
        *request.method_mut() = "PURGE".parse().unwrap();
        bed.ask(speech, request).await
    };
    let path = PAGES[0].1;
    for speech in SPEECHES {
        let bed = Bed::tls_with(guarded).await;
        let right = [("authorization", "Bearer the-secret-of-operator")];
        bed.ask(speech, get(path)).await;
        for (fields, status) in [
            (&[][..], 401),
            (&[("fastly-key", "nonsense-nonsense")][..], 401),
            (&[("fastly-key", "the-secret-of-shopkeeper")][..], 403),
        ] {
            let reply = ask(&bed, speech, path, fields).await;
            assert_eq!((reply.status.as_u16(), reply.field("content-type")), (status, "application/problem+json"));
            assert_eq!(reply.field("www-authenticate"), if status == 401 { "Bearer" } else { "" });
        }
        assert!(is_hit(&bed.ask(speech, get(path)).await), "nothing was purged");
        let reply = ask(&bed, speech, path, &right).await;
        let said: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!((reply.status.as_u16(), &said["status"]), (200, &"ok".into()), "{}", reply.cache());
        assert!(!is_hit(&bed.ask(speech, get(path)).await));
        // By tags, as Varnish has it; and softly, as Fastly has it.
        let by_tag = [right[0], ("xkey", "blue other")];
        assert_eq!(ask(&bed, speech, "/", &by_tag).await.status, 200);
        assert!(!is_hit(&bed.ask(speech, get(path)).await));
        let softly = [("fastly-key", "the-secret-of-operator"), ("fastly-soft-purge", "1")];
        assert_eq!(ask(&bed, speech, path, &softly).await.status, 200);
        let reply = bed.ask(speech, get(path)).await;
        assert!(reply.cache().contains("fwd=stale; fwd-status=304"), "{}", reply.cache());
        assert_eq!(bed.origin.ledger().of("/").requests, 0);
    }
    let closed = Bed::new().await;
    assert_eq!(ask(&closed, Speech::H1, path, &[]).await.status, 401, "without tokens nobody may");
    let trusting = Bed::with(|config| config.purge_from = vec!["127.0.0.1".parse().unwrap()]).await;
    trusting.get(path).await;
    assert_eq!(ask(&trusting, Speech::H1, path, &[]).await.status, 200);
    assert!(!is_hit(&trusting.get(path).await));
}

/// Path, body, fields, and which pages are still hits.
type Case<'c> = (&'c str, String, &'c [(&'c str, &'c str)], [u8; 6]);

#[tokio::test(flavor = "multi_thread")]
async fn shapes_of_others_work_as_their_tools_send_them() {
    let bed = Bed::with(guarded).await;
    let fastly = [("fastly-key", "the-secret-of-operator")];
    let soft = [fastly[0], ("fastly-soft-purge", "1")];
    let by_field = [fastly[0], ("surrogate-key", "red blue")];
    let bearer = [("authorization", "Bearer the-secret-of-operator")];
    let first = format!("http://{HOST}{}", PAGES[0].1);
    let cloudflare = "/client/v4/zones/www/purge_cache";
    let table: [Case<'_>; 10] = [
        ("/service/www/purge/red", String::new(), &fastly, [0, 0, 1, 1, 1, 1]),
        ("/service/www/purge/red", String::new(), &soft, [0, 0, 1, 1, 1, 1]),
        ("/service/www/purge", json!({"surrogate_keys": ["blue"]}).to_string(), &fastly, [0, 1, 1, 0, 1, 1]),
        ("/service/www/purge", String::new(), &by_field, [0, 0, 1, 0, 1, 1]),
        ("/service/shop/purge_all", String::new(), &fastly, [1, 1, 1, 1, 0, 1]),
        (cloudflare, json!({"files": [first]}).to_string(), &bearer, [0, 1, 1, 1, 1, 1]),
        (
            cloudflare,
            json!({"files": [{"url": first, "headers": {"x": "y"}}]}).to_string(),
            &bearer,
            [0, 1, 1, 1, 1, 1],
        ),
        (
            cloudflare,
            json!({"tags": ["blue"], "hosts": ["static.example.org"]}).to_string(),
            &bearer,
            [0, 1, 1, 0, 1, 1],
        ),
        (cloudflare, json!({"prefixes": ["www.example.org/b"]}).to_string(), &bearer, [1, 1, 0, 1, 1, 1]),
        (cloudflare, json!({"purge_everything": true}).to_string(), &bearer, [0, 0, 0, 0, 1, 0]),
    ];
    for (path, body, fields, left) in table {
        for (host, page) in PAGES {
            bed.get_with(page, &[("host", host)]).await;
        }
        let reply = bed.admin_with(Method::POST, path, &body, fields).await;
        let said: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(reply.status, 200, "{path} {body}: {said}");
        if path == cloudflare {
            assert!(said["success"] == true && said["result"]["id"].is_string(), "{said}");
        }
        assert_eq!(hits(&bed).await, left.map(|left| left == 1), "{path} {body}");
    }
    // On the admin listener, too.
    let purge: Method = "PURGE".parse().unwrap();
    let reply = bed.admin_with(purge, PAGES[0].1, "", &[fastly[0], ("host", HOST)]).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(!is_hit(&bed.get(PAGES[0].1).await));
    let refused = bed.admin_with(Method::POST, cloudflare, r#"{"files":["nonsense"]}"#, &bearer).await;
    let said: Value = serde_json::from_slice(&refused.body).unwrap();
    assert!(refused.status == 422 && said["success"] == false && said["errors"][0]["message"].is_string(), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_is_shown() {
    let mut bed = Bed::with(guarded).await;
    let path = PAGES[1].1;
    bed.get(path).await;
    bed.advance(100);
    bed.get_with(path, &[("x-lang", "de")]).await;
    let look = async |bed: &Bed, path: &str| -> Value {
        let reader = [("authorization", "Bearer the-secret-of-reader")];
        serde_json::from_slice(&bed.admin_with(Method::GET, path, "", &reader).await.body).unwrap()
    };
    let encoded = format!("http://{HOST}{path}").replace('%', "%25").replace('&', "%26").replace('?', "%3F");
    let shown = look(&bed, &format!("/v1/objects?url={encoded}")).await;
    let objects = shown["objects"].as_array().unwrap();
    let ages: Vec<_> = objects.iter().map(|object| object["age"].as_u64().unwrap()).collect();
    assert_eq!(ages, [0, 100], "{shown}");
    assert_eq!(objects[1]["ttl"], 500);
    assert_eq!(
        (&objects[0]["state"], &objects[0]["tags"], &objects[0]["vary"]),
        (&"fresh".into(), &json!(["red"]), &json!(["x-lang"]))
    );
    assert_eq!(look(&bed, "/v1/objects?url=http://other.org/").await["code"], "unknown-host");
    assert_eq!(look(&bed, "/v1/objects").await["code"], "url-missing");
    let nodes = look(&bed, "/v1/nodes").await;
    assert_eq!((&nodes["nodes"][0]["role"], &nodes["nodes"][0]["sites"]), (&"edge".into(), &json!(["www", "shop"])));
    let openapi = look(&bed, "/v1/openapi.json").await;
    assert!(openapi["paths"]["/v1/purge"]["post"].is_object());
    let page = bed.admin(Method::GET, "/docs", "").await;
    assert!(page.status == 200 && String::from_utf8_lossy(&page.body).contains("purge_cache"));
    assert_eq!(bed.admin(Method::GET, "/v1/nodes", "").await.status, 401);
}
