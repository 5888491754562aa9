//! Bodies in blocks: RFC 9110 §14.2 on both sides of the edge.

use nearside_config::Config;
use nearside_origin_sim::body;

use crate::bed::{Bed, Reply, SPEECHES, Speech, get_with};

const MIB: u64 = 1 << 20;

fn sliced(config: &mut Config) {
    config.sites[0].slice = true;
}

fn range(first: u64, last: u64) -> String {
    format!("bytes={first}-{last}")
}

#[track_caller]
fn assert_is(reply: &Reply, status: u16, seed: u64, start: u64, length: u64) {
    let body_is = (reply.status.as_u16(), reply.body.len() as u64, body::differs(seed, start, &reply.body));
    assert_eq!(body_is, (status, length, None), "{}", reply.cache());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_costs_the_blocks_that_it_touches() {
    let bed = Bed::tls_with(sliced).await;
    for (n, speech) in SPEECHES.into_iter().enumerate() {
        let path = format!("/part{n}?cc=max-age%3D60&etag=a&size=10000000&seed=3");
        let within = [("range", range(5 * MIB + 10, 5 * MIB + 29))];
        for round in 0..2 {
            let fields: Vec<_> = within.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let reply = bed.ask(speech, get_with(&path, &fields)).await;
            assert_is(&reply, 206, 3, 5 * MIB + 10, 20);
            assert_eq!(reply.field("content-range"), format!("bytes {}-{}/10000000", 5 * MIB + 10, 5 * MIB + 29));
            assert_eq!(reply.cache().contains("; hit"), round == 1, "{}", reply.cache());
            // The block is stored when its last byte is here, which the range has not waited for.
            bed.until_idle().await;
        }
        let seen = bed.origin.ledger().of(&path);
        assert_eq!((seen.requests, seen.bytes), (1, MIB));
        // Over a border, and up to an end that is not one of a block.
        let reply = bed.ask(speech, get_with(&path, &[("range", &range(6 * MIB - 5, 6 * MIB + 4))])).await;
        assert_is(&reply, 206, 3, 6 * MIB - 5, 10);
        let reply = bed.ask(speech, get_with(&path, &[("range", "bytes=9999990-")])).await;
        assert_is(&reply, 206, 3, 9_999_990, 10);
        let reply = bed.ask(speech, get_with(&path, &[("range", "bytes=-10")])).await;
        assert_is(&reply, 206, 3, 9_999_990, 10);
        // Blocks 5, 6, 9, and 0 for the one that counts from the end.
        assert_eq!(bed.origin.ledger().of(&path).requests, 4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_too_large_to_be_stored_whole_is_stored_in_blocks() {
    // The largest object that is stored has 16 MiB.
    let bed = Bed::tls_with(sliced).await;
    let path = "/large?cc=max-age%3D60&etag=a&size=20000000&seed=5";
    for speech in SPEECHES {
        let reply = bed.ask(speech, crate::bed::get(path)).await;
        assert_is(&reply, 200, 5, 0, 20_000_000);
        assert_eq!((reply.field("content-length"), reply.field("content-range")), ("20000000", ""));
    }
    assert_eq!(bed.asked(path), 40, "20 for http, 20 for https");
    // What is asked of it besides.
    let head =
        http::Request::head(path).header("host", crate::bed::HOST).body(http_body_util::Full::default()).unwrap();
    let head = bed.ask(Speech::H1, head).await;
    assert_eq!((head.status.as_u16(), head.field("content-length"), head.body.len()), (200, "20000000", 0));
    assert_eq!(bed.get_with(path, &[("if-none-match", "\"a\"")]).await.status, 304);
    // Only the origin may refuse a precondition; this one ignores it.
    assert_eq!(bed.get_with(path, &[("if-match", "\"a\"")]).await.status, 200);
    for beyond in ["bytes=20000000-", "bytes=90000000-"] {
        let beyond = bed.get_with(path, &[("range", beyond)]).await;
        assert_eq!((beyond.status.as_u16(), beyond.field("content-range")), (416, "bytes */20000000"));
    }
    let other = [("range", "bytes=90000000-"), ("if-range", "\"b\"")];
    assert_is(&bed.get_with(path, &other).await, 200, 5, 0, 20_000_000);
    assert_eq!(bed.asked(path), 42, "only what is beyond the end was asked for");
    // Conditions come first; what is no range is ignored; of several one may be within.
    let known = [("range", "bytes=90000000-"), ("if-none-match", "\"a\"")];
    assert_eq!(bed.get_with(path, &known).await.status, 304);
    for range in ["bytes=90000000-5", "bytes=90000000-x", "bytes=90000000-90000001,0-1,5-6"] {
        assert_is(&bed.get_with(path, &[("range", range)]).await, 200, 5, 0, 20_000_000);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_share_the_fills_of_blocks() {
    let bed = Bed::with(sliced).await;
    let path = "/shared?cc=max-age%3D60&etag=a&size=5000000&seed=9&rate=20000000";
    let address = bed.address();
    let clients: Vec<_> = (0..50).map(|_| tokio::spawn(crate::bed::get_from(address, path))).collect();
    for client in clients {
        assert_is(&client.await.unwrap(), 200, 9, 0, 5_000_000);
    }
    assert_eq!(bed.asked(path), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_removes_all_blocks() {
    let bed = Bed::with(sliced).await;
    let path = "/purged?cc=max-age%3D60&version&size=3000000";
    let old = bed.get(path).await;
    assert_eq!((old.field("x-version"), old.body.len()), ("1", 3_000_000));
    let bump = http::Request::post("/_bump?key=/purged").header("host", "a").body(http_body_util::Full::default());
    let origin = tokio::net::TcpStream::connect(bed.origin.address()).await.unwrap();
    crate::bed::send_h1(origin, bump.unwrap()).await.unwrap();
    assert_eq!(bed.get(path).await.body, old.body);
    let receipt: serde_json::Value = serde_json::from_slice(&bed.purge(path).await.body).unwrap();
    assert_eq!(receipt["matched"], 1, "{receipt}");
    for part in ["bytes=2500000-2500009", "bytes=0-9", "bytes=1500000-1500009"] {
        let new = bed.get_with(path, &[("range", part)]).await;
        assert_eq!((new.status.as_u16(), new.field("x-version")), (206, "2"), "{part}");
    }
    let new = bed.get(path).await;
    assert_eq!((new.field("x-version"), new.body.len()), ("2", 3_000_000));
    assert_ne!(new.body, old.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_of_two_representations_are_never_put_together() {
    let bed = Bed::with(sliced).await;
    let path = "/mixed?cc=max-age%3D60&version&size=3000000";
    bed.get_with(path, &[("range", "bytes=0-9")]).await;
    let bump = http::Request::post("/_bump?key=/mixed").header("host", "a").body(http_body_util::Full::default());
    let origin = tokio::net::TcpStream::connect(bed.origin.address()).await.unwrap();
    crate::bed::send_h1(origin, bump.unwrap()).await.unwrap();
    // The first block is of the old one, the others are not to be had any more.
    let response = bed.send(Speech::H1, crate::bed::get(path)).await.unwrap();
    assert_eq!(response.headers()["etag"], "\"v1\"");
    crate::bed::read(response).await.expect_err("it is cut");
    let new = bed.get(path).await;
    assert_eq!((new.field("etag"), new.body.len()), ("\"v2\"", 3_000_000));
    assert_eq!(body::differs(2 << 32, 0, &new.body), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_cut_is_stored_whole() {
    let bed = Bed::with(sliced).await;
    let table = [
        ("no validator", "/whole?cc=max-age%3D60&size=3000000&seed=2"),
        ("a weak one", "/whole?cc=max-age%3D60&size=3000000&seed=2&etag=W/a"),
        ("a coding", "/whole?cc=max-age%3D60&size=3000000&seed=2&etag=a&header.content-encoding=gzip"),
    ];
    for (what, path) in table {
        assert_is(&bed.get(path).await, 200, 2, 0, 3_000_000);
        let part = bed.get_with(path, &[("range", "bytes=2000000-2000009")]).await;
        assert_is(&part, 206, 2, 2_000_000, 10);
        assert!(part.cache().contains("; hit"), "{what}: {}", part.cache());
        assert_eq!(bed.asked(path), 2, "{what}: one to see that, and one for the whole");
    }
    let private = "/private?cc=private&size=3000000&seed=2&etag=a";
    assert_is(&bed.get(private).await, 200, 2, 0, 3_000_000);
    let missing = "/missing?status=404&cc=max-age%3D60&size=10&seed=2&etag=a";
    assert_is(&bed.get(missing).await, 404, 2, 0, 10);
    assert!(bed.get(missing).await.cache().contains("; hit"));
    let empty = "/empty?cc=max-age%3D60&size=0&etag=a";
    assert_is(&bed.get(empty).await, 200, 0, 0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_without_ranges_is_asked_for_the_whole() {
    let whole = "x".repeat(3000);
    let script = move |_: &str| crate::bed::answer(200, "cache-control: max-age=60\r\netag: \"a\"\r\n", &whole);
    let bed = Bed::scripted(script, sliced).await;
    let part = bed.get_with("/all", &[("range", "bytes=1000-1009")]).await;
    assert_eq!((part.status.as_u16(), part.body.len()), (206, 10));
    assert_eq!(bed.get("/all").await.body.len(), 3000);
    assert!(bed.get("/all").await.cache().contains("; hit"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_breaks_off_goes_on() {
    let bed = Bed::with(sliced).await;
    let path = "/cut?cc=max-age%3D60&etag=a&size=3000000&seed=4&cut=700000";
    assert_is(&bed.get(path).await, 200, 4, 0, 3_000_000);
    assert_eq!(bed.asked(path), 6, "two for the first, the second and the third block");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_client_that_is_refused_changes_nothing_for_others() {
    let bed = Bed::with(sliced).await;
    let path = "/others?cc=max-age%3D60&etag=a&size=3000000&seed=4";
    bed.get_with(path, &[("range", "bytes=0-9")]).await;
    bed.get_with(path, &[("authorization", "x"), ("range", "bytes=2500000-2500009")]).await;
    let before = bed.asked(path);
    let again = bed.get_with(path, &[("range", "bytes=10-19")]).await;
    assert_is(&again, 206, 4, 10, 10);
    assert!(again.cache().contains("; hit"), "{}", again.cache());
    assert_eq!(bed.asked(path), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_ends_too_early_is_not_one() {
    let script = |head: &str| {
        let part = "HTTP/1.1 206 X\r\ntransfer-encoding: chunked\r\ncache-control: max-age=60\r\netag: \"a\"\r\n";
        match head.contains("range: bytes=0-1048575") {
            true => format!("{part}content-range: bytes 0-10/11\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
            false => format!("{part}content-range: bytes 5-10/11\r\n\r\n6\r\n world\r\n0\r\n\r\n"),
        }
    };
    let bed = Bed::scripted(script, sliced).await;
    assert_eq!(bed.get("/early").await.body, "hello world");
}
