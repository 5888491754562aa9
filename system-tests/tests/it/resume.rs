//! Bodies that break off go on where they stopped, or are seen to be broken: RFC 9110 §13.1.5, §14.2, §15.3.7.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nearside_origin_sim::body;

use crate::bed::{Bed, SPEECHES, Speech, get, get_with, read};

/// A head that promises `length` bytes, and what comes of them.
fn piece(status: u16, length: usize, fields: &str, sent: &str) -> String {
    format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\ncache-control: max-age=60\r\n{fields}\r\n{sent}")
}

/// An edge before an origin that breaks off after `hello` of `hello world`, and answers the request for the rest with
/// `rest`; and how often it was asked.
async fn broken(validator: &'static str, rest: impl Fn() -> String + Send + Sync + 'static) -> (Bed, Arc<AtomicU64>) {
    let asked = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&asked);
    let script = move |head: &str| {
        count.fetch_add(1, Ordering::SeqCst);
        if head.contains("range: bytes=5-") { rest() } else { piece(200, 11, validator, "hello") }
    };
    (Bed::scripted(script, |_| {}).await, asked)
}

/// The body; `None` if the client sees that it is not whole, or that there is none.
async fn whole(bed: &Bed, path: &str) -> Option<String> {
    let reply = read(bed.send(Speech::H1, get(path)).await.ok()?).await.ok()?;
    (reply.status != 502).then_some(())?;
    Some(String::from_utf8_lossy(&reply.body).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_off_again_and_again_arrives_whole_and_once() {
    let bed = Bed::with_tls().await;
    for speech in SPEECHES {
        for (cc, framing) in
            [("max-age%3D60", ""), ("max-age%3D60", "&chunked"), ("no-store", ""), ("no-store", "&chunked")]
        {
            let path = format!("/on-{speech:?}?cc={cc}&etag=a&size=200000&seed=7&cut=60000{framing}");
            let reply = bed.ask(speech, get(&path)).await;
            assert_eq!((reply.body.len(), body::differs(7, 0, &reply.body)), (200_000, None), "{path}");
            let seen = bed.origin.ledger().of(&path);
            assert_eq!(seen.requests, 4, "{path}");
            assert!(seen.bytes <= 200_000 + 4 * 65_536, "{path}: {}", seen.bytes);
            if cc != "no-store" {
                bed.until_idle().await;
                let hit = bed.ask(speech, get(&path)).await;
                assert!(hit.cache().contains("; hit"), "{}", hit.cache());
                assert_eq!(hit.body, reply.body);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_body_may_break_off_more_often_than_a_short_one() {
    let bed = Bed::new().await;
    let path = "/long?cc=max-age%3D60&etag=a&size=12000000&seed=3&cut=1300000";
    let reply = bed.get(path).await;
    assert_eq!((reply.body.len(), body::differs(3, 0, &reply.body)), (12_000_000, None));
    assert_eq!(bed.asked(path), 10);
    // It gets on by so little that it is given up.
    let path = "/short?cc=max-age%3D60&etag=a&size=200000&seed=3&cut=100";
    assert!(whole(&bed, path).await.is_none());
    assert_eq!(bed.asked(path), 6);
    bed.until_metric("nearside_fill_resumes_total{result=\"resumed\"} 14").await;
    bed.until_metric("nearside_fill_resumes_total{result=\"failed\"} 1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_of_what_goes_on_is_right() {
    let bed = Bed::new().await;
    let path = "/range?cc=max-age%3D60&etag=a&size=200000&seed=7&cut=60000";
    let request = get_with(path, &[("range", "bytes=119990-120009")]);
    let reply = bed.ask(Speech::H1, request).await;
    assert_eq!((reply.status.as_u16(), reply.body.len()), (206, 20));
    assert_eq!(body::differs(7, 119_990, &reply.body), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rest_is_taken_only_if_it_is_of_the_same() {
    let table: [(&str, u16, &str, &str, Option<&str>); 8] = [
        ("a part", 206, "etag: \"a\"\r\ncontent-range: bytes 5-10/11\r\n", " world", Some("hello world")),
        ("all of it again", 200, "etag: \"a\"\r\n", "hello world", Some("hello world")),
        ("a part of another", 206, "etag: \"b\"\r\ncontent-range: bytes 5-10/11\r\n", " earth", None),
        ("a part of who knows what", 206, "content-range: bytes 5-10/11\r\n", " earth", None),
        ("another part", 206, "etag: \"a\"\r\ncontent-range: bytes 4-10/11\r\n", "o world", None),
        ("a part of something longer", 206, "etag: \"a\"\r\ncontent-range: bytes 5-11/12\r\n", " world!", None),
        ("another", 200, "etag: \"b\"\r\n", "HELLO WORLD", None),
        ("an error", 503, "", "sorry", None),
    ];
    for (what, status, fields, sent, expected) in table {
        let rest = move || piece(status, sent.len(), fields, sent);
        let (bed, _) = broken("etag: \"a\"\r\n", rest).await;
        assert_eq!(whole(&bed, "/rest").await.as_deref(), expected, "{what}");
        bed.until_idle().await;
        bed.until_metric(&format!("nearside_cache_objects {}", u8::from(expected.is_some()))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_strong_validator_is_not_asked_for_again() {
    for validator in ["", "etag: W/\"a\"\r\n"] {
        let (bed, asked) = broken(validator, || piece(206, 6, "content-range: bytes 5-10/11\r\n", " earth")).await;
        assert_eq!(whole(&bed, "/weak").await, None, "{validator}");
        // Once more at most, if it broke off before the client had got anything.
        assert!(asked.load(Ordering::SeqCst) <= 2, "{validator}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_changed_meanwhile_is_an_error_for_those_who_read_and_whole_for_those_who_come() {
    let broken_once = Arc::new(AtomicU64::new(0));
    let script = move |_: &str| match broken_once.fetch_add(1, Ordering::SeqCst) {
        0 => piece(200, 11, "etag: \"a\"\r\n", "hello"),
        _ => piece(200, 11, "etag: \"b\"\r\n", "HELLO WORLD"),
    };
    let bed = Bed::scripted(script, |_| {}).await;
    assert_eq!(whole(&bed, "/changed").await, None);
    bed.until_metric("nearside_fill_resumes_total{result=\"changed\"} 1").await;
    assert_eq!(whole(&bed, "/changed").await.as_deref(), Some("HELLO WORLD"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rest_that_is_longer_than_it_says_is_not_taken() {
    let rest = || {
        let head =
            "HTTP/1.1 206 X\r\ntransfer-encoding: chunked\r\netag: \"a\"\r\ncontent-range: bytes 5-10/11\r\n\r\n";
        format!("{head}9\r\n world!!!\r\n0\r\n\r\n")
    };
    let (bed, _) = broken("etag: \"a\"\r\n", rest).await;
    assert_eq!(whole(&bed, "/longer").await, None);
    bed.until_idle().await;
    bed.until_metric("nearside_cache_objects 0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rest_is_had_through_the_only_place_that_there_is() {
    let bed = Bed::with(|config| config.origins.concurrency = 1).await;
    let path = "/only?cc=max-age%3D60&etag=a&size=200000&seed=7&cut=60000";
    let reply = tokio::time::timeout(std::time::Duration::from_secs(60), bed.get(path)).await.expect("it ends");
    assert_eq!((reply.body.len(), body::differs(7, 0, &reply.body)), (200_000, None));
}
