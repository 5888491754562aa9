//! Requests whose responses cannot be shared: with credentials, signed, for a part, under a precondition.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Method;

use crate::bed::{Bed, HOST, Reply, SPEECHES, Speech, answer, get_with, scripted, upstream};

/// The requests that an origin has seen, in lower case.
type Seen = Arc<Mutex<Vec<String>>>;

const CONTENT: &str = "0123456789";

/// The field of a head.
fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// An origin that obeys ranges and conditions on ten bytes with the entity tag `"a"`.
fn obedient(head: &str, fields: &str) -> String {
    let fields = format!("etag: \"a\"\r\naccept-ranges: bytes\r\n{fields}");
    let is_head = head.starts_with("head ");
    if field(head, "if-match").is_some_and(|tag| tag != "\"a\"") {
        return answer(412, &fields, "");
    }
    if field(head, "if-none-match") == Some("\"a\"") {
        return format!("HTTP/1.1 304 X\r\nconnection: close\r\n{fields}\r\n");
    }
    match field(head, "range") {
        Some("bytes=2-4") if !is_head => answer(206, &format!("content-range: bytes 2-4/10\r\n{fields}"), "234"),
        _ if is_head => format!("HTTP/1.1 200 X\r\ncontent-length: 10\r\nconnection: close\r\n{fields}\r\n"),
        _ => answer(200, &fields, CONTENT),
    }
}

async fn bed(fields: &'static str) -> (Bed, Seen) {
    let seen = Seen::default();
    let log = Arc::clone(&seen);
    let script = move |head: &str| {
        log.lock().unwrap().push(head.to_owned());
        obedient(head, fields)
    };
    (Bed::scripted(script, |_| {}).await, seen)
}

fn with<'f>(base: &[(&'f str, &'f str)], more: (&'f str, &'f str)) -> Vec<(&'f str, &'f str)> {
    base.iter().copied().chain([more]).collect()
}

fn told(reply: &Reply) -> (u16, &str) {
    (reply.status.as_u16(), std::str::from_utf8(&reply.body).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_and_conditions_of_authorised_requests_are_answered_by_the_origin() {
    for fields in ["cache-control: max-age=60\r\n", "", "cache-control: private\r\n", "cache-control: no-store\r\n"] {
        let (mut bed, seen) = bed(fields).await;
        let auth = [("authorization", "Bearer x")];
        for _ in 0..3 {
            let part = bed.get_with("/a", &with(&auth, ("range", "bytes=2-4"))).await;
            assert_eq!(told(&part), (206, "234"), "{fields:?}: {:?}", part.fields);
            let unchanged = bed.get_with("/a", &with(&auth, ("if-none-match", "\"a\""))).await;
            assert_eq!(told(&unchanged), (304, ""), "{fields:?}: {:?}", unchanged.fields);
            assert_eq!(told(&bed.get_with("/a", &auth).await), (200, CONTENT));
            // Longer than anything is remembered.
            bed.advance(130);
        }
        let seen = seen.lock().unwrap();
        assert_eq!(seen.len(), 9, "one request of a client is one request to the origin");
        assert!(seen.iter().all(|head| head.contains("authorization: bearer x")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_of_what_cannot_be_stored_is_always_a_part() {
    for fields in ["cache-control: no-store\r\n", "cache-control: private\r\n", "set-cookie: a=b\r\n", "vary: *\r\n"] {
        let (mut bed, _) = bed(fields).await;
        for round in 0..5 {
            for _ in 0..2 {
                let part = bed.get_with("/a", &[("range", "bytes=2-4")]).await;
                assert_eq!(told(&part), (206, "234"), "{fields:?} round {round}: {:?}", part.fields);
                let unchanged = bed.get_with("/a", &[("if-none-match", "\"a\"")]).await;
                assert_eq!(unchanged.status, 304, "{fields:?} round {round}");
            }
            bed.advance(61);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_remembered_of_parts_keeps_requests_from_waiting_for_one_another() {
    let (mut bed, seen) = bed("cache-control: no-store\r\n").await;
    bed.get("/a").await;
    for _ in 0..5 {
        bed.advance(100);
        assert_eq!(bed.get_with("/a", &[("range", "bytes=2-4")]).await.status, 206);
    }
    assert_eq!(seen.lock().unwrap().len(), 6, "each part showed anew that nothing can be stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_signed_reaches_the_origin_as_a_head_with_all_that_was_signed() {
    let aws = "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=accept-encoding;host;range, Signature=c";
    let cases: [(&str, &[(&str, &str)]); 4] = [
        ("/signed", &[("authorization", aws), ("accept-encoding", "identity, gzip")]),
        ("/bearer", &[("authorization", "Bearer x")]),
        ("/presigned?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=ab", &[]),
        ("/presigned?X-Goog-Signature=ab", &[]),
    ];
    for (path, fields) in cases {
        let (bed, seen) = bed("cache-control: max-age=60\r\n").await;
        for (method, more) in [
            (Method::HEAD, ("x-one", "1")),
            (Method::GET, ("range", "bytes=2-4")),
            (Method::GET, ("if-none-match", "\"a\"")),
        ] {
            if !fields.is_empty() || method == Method::HEAD {
                let mut request = get_with(path, &with(fields, more));
                *request.method_mut() = method.clone();
                let reply = bed.ask(Speech::H1, request).await;
                let head = seen.lock().unwrap().pop().unwrap();
                assert!(head.starts_with(&method.as_str().to_lowercase()), "{path}: {head}");
                assert_eq!(field(&head, more.0), Some(more.1), "{path}: {head}");
                let encoding = fields.iter().find(|(name, _)| *name == "accept-encoding").map(|(_, value)| *value);
                assert_eq!(field(&head, "accept-encoding"), encoding, "{path}: {head}");
                assert!([200, 206, 304].contains(&reply.status.as_u16()), "{path} {method} {}", reply.status);
            }
        }
        assert!(seen.lock().unwrap().is_empty(), "{path}: the origin was asked more often than the edge");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_origin_refuses_because_a_fill_has_altered_it_is_sent_unchanged() {
    // A presigned URL of a kind that nobody knows: the origin accepts HEAD only.
    let script = |head: &str| match head.starts_with("head ") {
        true => "HTTP/1.1 200 X\r\ncontent-length: 10\r\nconnection: close\r\n\r\n".to_owned(),
        false => answer(403, "", "signature does not match"),
    };
    let bed = Bed::scripted(script, |_| {}).await;
    let mut request = get_with("/a?grant=abc", &[]);
    *request.method_mut() = Method::HEAD;
    assert_eq!(bed.ask(Speech::H1, request).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn authorised_requests_do_not_wait_for_one_another() {
    let (origin, gate) =
        crate::bed::gated("get /slow", |_| answer(200, "cache-control: max-age=60\r\n", CONTENT)).await;
    let bed = Bed::with(|config| config.sites[0].origins = vec![upstream(origin)]).await;
    let auth = [("authorization", "Bearer x")];
    // Once it is known that the answers are for one client, many are on their way at the same time.
    let (first, ()) = tokio::join!(bed.get_with("/slow", &auth), async { gate.open() });
    assert_eq!(first.status, 200);
    let opens = async {
        crate::bed::eventually("all three are at the origin at once", || gate.arrived() == 4).await;
        (0..3).for_each(|_| gate.open());
    };
    let ask = || bed.get_with("/slow", &auth);
    let (one, two, three, ()) = tokio::join!(ask(), ask(), ask(), opens);
    assert!([one, two, three].iter().all(|reply| reply.status == 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn public_answers_to_authorised_requests_are_shared_all_the_same() {
    let (bed, seen) = bed("cache-control: public, max-age=60\r\n").await;
    assert_eq!(told(&bed.get_with("/a", &[("authorization", "Bearer x")]).await), (200, CONTENT));
    let part = bed.get_with("/a", &[("authorization", "Bearer y"), ("range", "bytes=2-4")]).await;
    assert_eq!(told(&part), (206, "234"));
    assert!(part.cache().contains("hit"), "{}", part.cache());
    assert_eq!(told(&bed.get("/a").await), (200, CONTENT));
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_client_may_see_is_never_given_to_another() {
    let script = |head: &str| {
        let who = field(head, "authorization").unwrap_or("nobody").to_owned();
        answer(200, "cache-control: max-age=60\r\netag: \"a\"\r\n", &who)
    };
    let bed = Bed::scripted(script, |_| {}).await;
    for round in 0..3 {
        for who in ["basic a", "basic b", "bearer c"] {
            assert_eq!(told(&bed.get_with("/a", &[("authorization", who)]).await), (200, who), "round {round}");
            let part = bed.get_with("/a", &[("authorization", who), ("range", "bytes=0-1")]).await;
            assert_eq!(told(&part), (200, who), "round {round}: this origin ignores ranges");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_origin_says_that_a_precondition_fails() {
    let (bed, seen) = bed("cache-control: max-age=60\r\nlast-modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n").await;
    bed.get("/a").await;
    let asked = || seen.lock().unwrap().len();
    // What holds for the stored response needs no origin.
    for holds in [
        ("if-match", "\"a\""),
        ("if-match", "\"b\", \"a\""),
        ("if-match", "*"),
        ("if-unmodified-since", "Mon, 07 Nov 1994 08:49:37 GMT"),
    ] {
        let part = bed.get_with("/a", &[holds, ("range", "bytes=2-4")]).await;
        assert_eq!((told(&part), asked()), ((206, "234"), 1), "{holds:?}");
    }
    let reply = bed.get_with("/a", &[("if-match", "\"b\"")]).await;
    assert_eq!((reply.status.as_u16(), asked()), (412, 2));
    assert!(reply.cache().contains("fwd=request; fwd-status=412"), "{}", reply.cache());
    let older = ("if-unmodified-since", "Sun, 06 Nov 1994 08:49:36 GMT");
    let reply = bed.get_with("/a", &[older]).await;
    assert_eq!((told(&reply), asked()), ((200, CONTENT), 3), "this origin does not know the field");
    assert_eq!(bed.get("/a").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_is_never_of_another_version_than_the_client_names() {
    // The cache holds an old version; the client assembles the new one from parts.
    let version = Arc::new(Mutex::new("old"));
    let current = Arc::clone(&version);
    let script = move |head: &str| {
        let version = *current.lock().unwrap();
        let fields = format!("cache-control: max-age=60\r\netag: \"{version}\"\r\n");
        if field(head, "if-match").is_some_and(|tag| tag != format!("\"{version}\"")) {
            return answer(412, &fields, "");
        }
        match field(head, "range") {
            Some(_) => answer(206, &format!("content-range: bytes 0-2/6\r\n{fields}"), version),
            None => answer(200, &fields, &version.repeat(2)),
        }
    };
    let bed = Bed::scripted(script, |_| {}).await;
    assert_eq!(told(&bed.get("/a").await), (200, "oldold"));
    *version.lock().unwrap() = "new";
    let part = bed.get_with("/a", &[("if-match", "\"new\""), ("range", "bytes=0-2")]).await;
    assert_eq!(told(&part), (206, "new"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_416_keeps_the_fields_that_scripts_and_caches_need() {
    let fields = "cache-control: max-age=60\r\naccess-control-allow-origin: *\r\ntiming-allow-origin: *\r\n\
                  vary: origin\r\ncontent-type: image/png\r\nexpires: Sun, 06 Nov 2044 08:49:37 GMT\r\n";
    let (bed, _) = bed(fields).await;
    for _ in 0..2 {
        let reply = bed.get_with("/a", &[("range", "bytes=10-")]).await;
        assert_eq!((reply.status.as_u16(), reply.field("content-range")), (416, "bytes */10"));
        assert_eq!(reply.field("access-control-allow-origin"), "*");
        assert_eq!((reply.field("timing-allow-origin"), reply.field("vary")), ("*", "origin"));
        assert!(!reply.field("date").is_empty(), "RFC 9110 §6.6.1");
        assert_eq!((reply.field("cache-control"), reply.field("expires")), ("no-store", ""));
        assert!(reply.field("content-type").starts_with("text/plain"), "it is about the body of this message");
        assert_eq!(reply.field("content-length"), reply.body.len().to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unkeyed_fields_of_clients_do_not_reach_the_origin() {
    const UNKEYED: [&str; 16] = [
        "x-forwarded-port",
        "x-forwarded-scheme",
        "x-forwarded-prefix",
        "x-forwarded-server",
        "x-forwarded-ssl",
        "x-host",
        "x-original-url",
        "x-rewrite-url",
        "x-original-host",
        "x-http-method-override",
        "x-real-ip",
        "true-client-ip",
        "proxy",
        "surrogate-capability",
        "cf-connecting-ip",
        "x-client-ip",
    ];
    let seen = Seen::default();
    let log = Arc::clone(&seen);
    let origin = scripted(Duration::ZERO, move |head| {
        log.lock().unwrap().push(head.to_owned());
        answer(200, "cache-control: max-age=60\r\n", CONTENT)
    })
    .await;
    let bed = Bed::tls_with(|config| {
        config.sites[0].origins = vec![upstream(origin)];
        config.sites[0].key.fields = vec!["X-Original-Host".parse().unwrap()];
    })
    .await;
    for (place, speech) in SPEECHES.into_iter().enumerate() {
        for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
            let mut request = get_with(&format!("/{place}-{method}"), &UNKEYED.map(|name| (name, "evil")));
            request.headers_mut().insert("forwarded", "for=evil;host=evil".parse().unwrap());
            *request.method_mut() = method.clone();
            bed.ask(speech, request).await;
            let head = seen.lock().unwrap().pop().unwrap();
            for name in UNKEYED {
                let is_kept = name == "x-original-host" || name.contains("method") && method == Method::OPTIONS;
                assert_eq!(field(&head, name).is_some(), is_kept, "{speech:?} {method} {name}: {head}");
            }
            let scheme = if speech == Speech::H1 { "http" } else { "https" };
            assert_eq!(
                field(&head, "forwarded"),
                Some(&*format!("for=127.0.0.1;host={HOST};proto={scheme}")),
                "{head}"
            );
        }
    }
}
