//! Purges as plugins for other caches send them: done, or refused with a reason; never a success that did nothing.

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use nearside_config::{Config, Scope, Secret, Site, Token};
use serde_json::{Value, json};

use crate::bed::{Bed, HOST, Reply, SPEECHES, Speech, answer, get, get_with};

/// Fields of a request.
type Fields<'f> = &'f [(&'f str, &'f str)];

const SECRET: &str = "the-secret-of-operator";

/// An edge that obeys purges from this machine, for two sites.
fn trusting(config: &mut Config) {
    let origins = config.sites[0].origins.clone();
    config.sites[0].hosts = vec![HOST.parse().unwrap(), "b.example.org".parse().unwrap()];
    config.sites.push(Site::new("other", vec!["other.org".parse().unwrap()], origins));
    config.purge_from = vec!["127.0.0.0/8".parse().unwrap()];
}

fn is_hit(reply: &Reply) -> bool {
    reply.cache().contains("; hit") && !reply.cache().contains("ttl=-")
}

fn by(method: &str, path: &str, fields: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let mut request = get_with(path, fields);
    *request.method_mut() = method.parse().unwrap();
    request
}

fn json_of(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).unwrap_or_default()
}

/// What is stored before each purge: host, path.
const PAGES: [(&str, &str); 5] = [
    (HOST, "/?cc=max-age%3D600&tag=home&etag=x"),
    (HOST, "/blog/a?cc=max-age%3D600&tag=a+blog&etag=x"),
    (HOST, "/shop/b?cc=max-age%3D600&tag=b&etag=x"),
    ("b.example.org", "/blog/a?cc=max-age%3D600&tag=a&etag=x"),
    ("other.org", "/blog/a?cc=max-age%3D600&tag=a&etag=x"),
];

async fn hits(bed: &Bed) -> Vec<u8> {
    let mut found = Vec::new();
    for (host, path) in PAGES {
        found.push(u8::from(is_hit(&bed.get_with(path, &[("host", host)]).await)));
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_plugin_means_is_done() {
    let bed = Bed::with(trusting).await;
    let blog = PAGES[1].1;
    // Method, path, fields; how much is matched, and what is still a hit.
    let table: &[(&str, &str, Fields<'_>, u64, [u8; 5])] = &[
        ("PURGE", "/.*", &[("x-purge-method", "regex")], 3, [0, 0, 0, 1, 1]),
        ("PURGE", "/.*", &[], 3, [0, 0, 0, 1, 1]),
        ("PURGE", "/*", &[], 3, [0, 0, 0, 1, 1]),
        ("PURGE", "/blog/.*", &[("x-purge-method", "regex")], 1, [1, 0, 1, 1, 1]),
        ("PURGE", "/blog/*", &[], 1, [1, 0, 1, 1, 1]),
        ("PURGE", blog, &[("x-purge-method", "default")], 1, [1, 0, 1, 1, 1]),
        ("PURGE", "/", &[("x-purge-regex", "^/shop/.*")], 1, [1, 1, 0, 1, 1]),
        ("PURGE", "/.*", &[("x-purge-method", "regex"), ("x-purge-host", "b.example.org")], 1, [1, 1, 1, 0, 1]),
        ("BAN", "/blog/", &[], 1, [1, 0, 1, 1, 1]),
        ("BAN", "/.*", &[], 3, [0, 0, 0, 1, 1]),
        ("BAN", blog, &[], 1, [1, 0, 1, 1, 1]),
        ("BAN", "/", &[("x-host", ".*"), ("x-url", ".*"), ("x-content-type", ".*")], 4, [0, 0, 0, 0, 1]),
        (
            "BAN",
            "/",
            &[("x-host", "^(www\\.example\\.org|b\\.example\\.org)$"), ("x-url", "/blog/.*")],
            2,
            [1, 0, 1, 0, 1],
        ),
        ("BAN", "/", &[("cache-tags", "a|home")], 3, [0, 0, 1, 0, 1]),
        ("BAN", "/", &[("x-cache-tags", "(^|,)(blog|b)(,|$)")], 2, [1, 0, 0, 1, 1]),
        ("PURGE", "/", &[("xkey", "a")], 2, [1, 0, 1, 0, 1]),
        ("PURGE", "/", &[("surrogate-key", "a b")], 3, [1, 0, 0, 0, 1]),
        ("PURGEKEYS", "/", &[("xkey-purge", "b")], 1, [1, 1, 0, 1, 1]),
        ("PURGETAGS", "/", &[("x-cache-tags", "a,b")], 3, [1, 0, 0, 0, 1]),
        ("PURGE", "/", &[("x-magento-tags-pattern", "((^|,)a(,|$))|((^|,)b(,|$))")], 3, [1, 0, 0, 0, 1]),
        ("PURGE", "/", &[("x-magento-tags-pattern", ".*")], 4, [0, 0, 0, 0, 1]),
        ("SOFTPURGE", blog, &[], 1, [1, 0, 1, 1, 1]),
        ("PURGE", "/nothing", &[], 0, [1, 1, 1, 1, 1]),
    ];
    for (method, path, fields, matched, left) in table {
        hits(&bed).await;
        assert_eq!(hits(&bed).await, [1; 5], "before {method} {path}");
        let reply = bed.ask(Speech::H1, by(method, path, fields)).await;
        let said = json_of(&reply);
        assert_eq!((reply.status.as_u16(), &said["status"]), (200, &"ok".into()), "{method} {path} {fields:?}: {said}");
        assert_eq!(said["matched"], *matched, "{method} {path} {fields:?}: {said}");
        assert_eq!(hits(&bed).await, *left, "after {method} {path} {fields:?}");
    }
}

/// Requests that no order is equivalent to, and the code of the problem.
const NOT_UNDERSTOOD: &[(&str, &str, Fields<'static>, u16, &str)] = &[
    ("REFRESH", "/blog/a", &[], 501, "method"),
    ("FULLBAN", "/", &[], 501, "method"),
    ("URIBAN", "/", &[], 501, "method"),
    ("PURGE", "/blog/*/a", &[], 501, "pattern"),
    ("PURGE", "/*.css", &[], 501, "pattern"),
    ("PURGE", "/(blog|shop)/.*", &[], 501, "pattern"),
    ("PURGE", "/[a-z]+/", &[("x-purge-method", "regex")], 501, "pattern"),
    ("PURGE", "/blog", &[("x-purge-method", "glob")], 501, "mode"),
    ("PURGE", "/", &[("x-purge-regex", "\\.css$")], 501, "pattern"),
    ("BAN", "/[0-9]+", &[], 501, "pattern"),
    ("BAN", "/", &[("x-host", ".*\\.org"), ("x-url", "/blog/.*")], 501, "field-value"),
    ("BAN", "/", &[("x-content-type", "text/html")], 501, "field-value"),
    ("PURGE", "/", &[("x-magento-tags-pattern", "cat_p_[0-9]+")], 501, "field-value"),
    ("PURGE", "/", &[("x-litespeed-purge", "*")], 501, "field"),
    ("PURGE", "/", &[("x-varnish-purge", "/")], 501, "field"),
    ("BAN", "/", &[("varnish-ban-all", "1")], 501, "field"),
    ("BAN", "/", &[("x-location-id", "42")], 501, "field"),
    ("PURGE", "/", &[("xkey", "a"), ("x-host", HOST)], 501, "combination"),
    ("PURGE", "/", &[("xkey", "")], 422, "nothing-named"),
    ("PURGEKEYS", "/", &[], 422, "nothing-named"),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_understood_is_refused_and_never_reaches_the_origin() {
    let bed = Bed::with(trusting).await;
    hits(&bed).await;
    let asked = bed.asked("/");
    for (method, path, fields, status, code) in NOT_UNDERSTOOD {
        let reply = bed.ask(Speech::H1, by(method, path, fields)).await;
        let said = json_of(&reply);
        let found = (reply.status.as_u16(), said["code"].as_str());
        assert_eq!(found, (*status, Some(*code)), "{method} {path} {fields:?}: {said}");
        assert_eq!(reply.field("content-type"), "application/problem+json");
        assert!(said["detail"].as_str().unwrap().len() > 20, "it says why: {said}");
        assert_eq!(bed.asked(path), if *path == "/" { asked } else { 0 }, "{method} {path} went on to the origin");
    }
    // Bodies name things in too many ways.
    for (body, status) in [("{\"tags\":[\"a\"]}", 501), ("", 200)] {
        let mut request = by("PURGE", "/nothing", &[]).map(|_| Full::new(Bytes::from(body)));
        request.headers_mut().insert("content-length", body.len().into());
        let reply = bed.ask(Speech::H1, request).await;
        assert_eq!(reply.status, status, "{body:?}: {}", json_of(&reply));
    }
    let chunked =
        format!("PURGE /nothing HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n");
    assert!(bed.raw(format!("{chunked}0\r\n\r\n").as_bytes()).await.starts_with("HTTP/1.1 200"));
    assert!(bed.raw(format!("{chunked}1\r\na\r\n0\r\n\r\n").as_bytes()).await.starts_with("HTTP/1.1 501"));
    assert_eq!(hits(&bed).await, [1; 5], "nothing was purged");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_purge_is_refused_before_anything_else() {
    let closed = Bed::tls_with(|config| {
        trusting(config);
        config.purge_from =
            vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap(), "::1".parse().unwrap()];
    })
    .await;
    closed.get(PAGES[1].1).await;
    for speech in SPEECHES {
        for (method, path, fields, ..) in NOT_UNDERSTOOD.iter().chain(&[
            ("PURGE", "/blog/a", &[][..], 0, ""),
            ("PURGE", "/.*", &[("x-purge-method", "regex")], 0, ""),
            ("BAN", "/.*", &[], 0, ""),
            ("purge", "/.*", &[], 0, ""),
            ("PURGE", "/", &[("xkey", "a")], 0, ""),
        ]) {
            let reply = closed.ask(speech, by(method, path, fields)).await;
            assert_eq!(
                (reply.status.as_u16(), json_of(&reply)["code"].as_str()),
                (401, Some("no-tokens")),
                "{method} {path}"
            );
            assert_eq!(closed.asked(path), 0);
        }
    }
    assert!(is_hit(&closed.get(PAGES[1].1).await));
    // IPv4-mapped networks are those of IPv4.
    for network in ["127.0.0.1", "127.0.0.0/8", "::ffff:127.0.0.1", "::ffff:127.0.0.0/104", "0.0.0.0/0"] {
        let open = Bed::with(|config| config.purge_from = vec![network.parse().unwrap()]).await;
        assert_eq!(open.ask(Speech::H1, by("PURGE", "/", &[])).await.status, 200, "{network}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_over_one_scheme_purges_the_copy_of_the_other() {
    let bed = Bed::tls_with(trusting).await;
    let path = "/both/page?cc=max-age%3D600&tag=t";
    for asks in SPEECHES {
        for (method, target, fields) in [
            ("PURGE", path, &[][..]),
            ("PURGE", "/both/*", &[]),
            ("PURGE", "/.*", &[("x-purge-method", "regex")]),
            ("BAN", "/both/", &[]),
            ("PURGE", "/", &[("xkey", "t")]),
        ] {
            for speech in [Speech::H1, Speech::H1Tls] {
                bed.ask(speech, get(path)).await;
                assert!(is_hit(&bed.ask(speech, get(path)).await));
            }
            let said = json_of(&bed.ask(asks, by(method, target, fields)).await);
            assert_eq!(said["matched"], 2, "{asks:?} {method} {target}: {said}");
            for speech in [Speech::H1, Speech::H1Tls] {
                assert!(
                    !is_hit(&bed.ask(speech, get(path)).await),
                    "{asks:?} {method} {target}: the copy of {speech:?}"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_is_purged_however_it_is_spelled() {
    let bed = Bed::with(|config| {
        trusting(config);
        config.sites[0].key.query_sort = true;
        config.sites[0].key.query_drop = vec!["utm_*".parse().unwrap()];
    })
    .await;
    // Requested; purged: host and target.
    let pairs = [
        ("/caf%c3%a9", HOST, "/caf%C3%A9"),
        ("/caf%C3%A9", HOST, "/caf%c3%a9"),
        ("/%7Euser/", HOST, "/~user/"),
        ("/~user/", HOST, "/%7euser/"),
        ("/%75ser", HOST, "/us%65r"),
        ("/x/../dots", HOST, "/dots"),
        ("/dots/./a", HOST, "/dots/%2e/a"),
        ("/q?a=1&b=2", HOST, "/q?b=2&a=1&utm_source=x"),
        ("/host", "WWW.Example.ORG", "/host"),
        ("/port", "www.example.org:80", "/port"),
        ("/dot", "www.example.org.", "/dot"),
    ];
    for (number, (requested, host, purged)) in pairs.into_iter().enumerate() {
        let separator = if requested.contains('?') { '&' } else { '?' };
        let fields = "cc=max-age%3D600&etag=x";
        // Each pair below a path of its own: what is stored of one is not met by the purge of another.
        let own = |spelling: &str| format!("/s{number}{spelling}{separator}{fields}");
        let (requested, purged) = (own(requested), own(purged));
        for soft in [false, true] {
            bed.get(&requested).await;
            assert!(is_hit(&bed.get(&requested).await), "{requested}");
            let url = json!({"urls": [format!("HTTP://{host}{purged}#fragment")], "soft": soft});
            let mut dry = url.clone();
            dry["dry_run"] = true.into();
            assert_eq!(bed.order(dry).await["matched"], 1, "{requested} {url}");
            assert_eq!(bed.order(url.clone()).await["matched"], 1, "{requested} {url}");
            assert!(!is_hit(&bed.get(&requested).await), "{requested} {url}");
            let method = if soft { "SOFTPURGE" } else { "PURGE" };
            let said = json_of(&bed.ask(Speech::H1, by(method, &purged, &[("host", host)])).await);
            assert_eq!(said["matched"], 1, "{requested} by {method}: {said}");
            assert!(!is_hit(&bed.get(&requested).await), "{requested} {method} {host}{purged}");
        }
    }
    // Different resources stay.
    for (requested, purged) in [("/a%2Fb", "/a/b"), ("/A", "/a"), ("/c?x", "/c"), ("/d/", "/d"), ("/e+f", "/e%20f")] {
        let requested = format!("{requested}{}cc=max-age%3D600", if requested.contains('?') { '&' } else { '?' });
        bed.get(&requested).await;
        let matched =
            bed.order(json!({"urls": [format!("http://{HOST}{purged}?cc=max-age%3D600")]})).await["matched"].clone();
        assert!(matched == 0 && is_hit(&bed.get(&requested).await), "{requested} {purged}");
    }
    // Prefixes, too.
    for (requested, prefix) in
        [("/caf%c3%a9/x", "/caf%C3%A9/"), ("/%7Eu/x", "/~u"), ("/y/../z/x", "/z/"), ("/w/x", "/%77/")]
    {
        let requested = format!("{requested}?cc=max-age%3D600");
        bed.get(&requested).await;
        assert_eq!(
            bed.order(json!({"prefixes": [format!("{HOST}{prefix}")]})).await["matched"],
            1,
            "{requested} {prefix}"
        );
        assert!(!is_hit(&bed.get(&requested).await), "{requested} {prefix}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_of_magento_are_tags() {
    let script = |head: &str| {
        let tags = if head.contains("/product") { "cat_p_1,cat_p" } else { "cat_c_7,cat_c" };
        answer(200, &format!("cache-control: max-age=600\r\nx-magento-tags: {tags}\r\n"), "page")
    };
    let bed = Bed::scripted(script, |config| config.purge_from = vec!["127.0.0.1".parse().unwrap()]).await;
    for path in ["/product", "/category"] {
        assert_eq!(bed.get(path).await.field("x-magento-tags"), "", "for caches only");
    }
    let pattern = [("x-magento-tags-pattern", "((^|,)cat_p_1(,|$))|((^|,)cat_p_2(,|$))")];
    let said = json_of(&bed.ask(Speech::H1, by("PURGE", "/", &pattern)).await);
    assert_eq!(said["matched"], 1, "{said}");
    assert!(!is_hit(&bed.get("/product").await) && is_hit(&bed.get("/category").await));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_says_how_much_was_matched() {
    let bed = Bed::with(|config| {
        trusting(config);
        let (name, scope, sites) = ("operator".to_owned(), Scope::Purge, Vec::new());
        config.tokens = vec![Token { name, secret: Secret::new(SECRET).unwrap(), scope, sites }];
    })
    .await;
    let page = PAGES[1].1;
    let zone = "/client/v4/zones/site/purge_cache";
    // A name that is not this machine's needs a token.
    let of_host = [("host", HOST), ("fastly-key", SECRET)];
    let token = [("fastly-key", SECRET)];
    let table: [(&str, &str, String, Fields<'_>, &str); 9] = [
        ("PURGE", page, String::new(), &of_host, "/matched"),
        ("BAN", "/blog/", String::new(), &of_host, "/matched"),
        ("PURGE", "/*", String::new(), &of_host, "/matched"),
        ("POST", "/service/site/purge/a", String::new(), &token, "/matched"),
        ("POST", "/service/site/purge_all", String::new(), &token, "/matched"),
        ("POST", zone, json!({"files": [format!("http://{HOST}{page}")]}).to_string(), &token, "/result/matched"),
        ("POST", zone, json!({"tags": ["a"]}).to_string(), &token, "/result/matched"),
        ("POST", zone, json!({"hosts": [HOST]}).to_string(), &token, "/result/matched"),
        ("POST", zone, json!({"prefixes": [format!("{HOST}/blog/")]}).to_string(), &token, "/result/matched"),
    ];
    for (method, path, body, fields, pointer) in table {
        bed.get(page).await;
        let reply = bed.admin_with(method.parse().unwrap(), path, &body, fields).await;
        let said = json_of(&reply);
        assert_eq!(
            (reply.status.as_u16(), said.pointer(pointer)),
            (200, Some(&1.into())),
            "{method} {path} {body}: {said}"
        );
        assert!(!is_hit(&bed.get(page).await), "{method} {path} {body}");
    }
    let reply = bed.admin_with(Method::POST, "/service/site/purge", "", &[token[0], ("surrogate-key", "a")]).await;
    assert_eq!((reply.status.as_u16(), reply.field("nearside-matched")), (200, "1"));
    // The admin listener refuses what the others refuse.
    for (method, path, fields, status, code) in NOT_UNDERSTOOD {
        let fields: Vec<_> = fields.iter().copied().chain(of_host).collect();
        let reply = bed.admin_with(method.parse().unwrap(), path, "", &fields).await;
        assert_eq!(
            (reply.status.as_u16(), json_of(&reply)["code"].as_str()),
            (*status, Some(*code)),
            "{method} {path}"
        );
    }
}
