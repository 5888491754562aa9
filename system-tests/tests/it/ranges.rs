//! Parts of bodies, stored or still growing: the right bytes, in the right frame.

use nearside_origin_sim::body;

use crate::bed::{Bed, Reply, SPEECHES, Speech, answer, get, get_with};

#[tokio::test(flavor = "multi_thread")]
async fn ranges_of_stored_and_of_growing_bodies_are_the_right_bytes() {
    let bed = Bed::with_tls().await;
    for (n, speech) in SPEECHES.into_iter().enumerate() {
        for fresh in ["", "&rate=400000"] {
            let path = format!("/range{n}?cc=max-age%3D60&size=100000&seed=2&etag=a{fresh}");
            for (range, start, end) in [
                ("bytes=0-0", 0, 1),
                ("bytes=100-199", 100, 200),
                ("bytes=99990-", 99_990, 100_000),
                ("bytes=-5", 99_995, 100_000),
            ] {
                let reply = bed.ask(speech, get_with(&path, &[("range", range)])).await;
                assert_eq!(reply.status, 206, "{speech:?} {range}");
                assert_eq!(reply.body, body::bytes(2, start, end), "{speech:?} {range}");
                assert_eq!(reply.field("content-range"), format!("bytes {start}-{}/100000", end - 1));
                assert_eq!(reply.field("content-length"), (end - start).to_string());
            }
            let none = bed.ask(speech, get_with(&path, &[("range", "bytes=100000-")])).await;
            assert_eq!((none.status.as_u16(), none.field("content-range")), (416, "bytes */100000"));
            let other = bed.ask(speech, get_with(&path, &[("range", "bytes=0-0"), ("if-range", "\"b\"")])).await;
            assert_eq!((other.status.as_u16(), other.body.len()), (200, 100_000));
            assert_eq!(bed.asked(&path), 1);
        }
    }
}

/// The parts of a `multipart/byteranges` body: the `Content-Range` and the bytes of each.
fn parts(reply: &Reply) -> Vec<(String, Vec<u8>)> {
    let boundary = reply.field("content-type").strip_prefix("multipart/byteranges; boundary=").unwrap().to_owned();
    let delimiter = format!("--{boundary}").into_bytes();
    let mut rest = &reply.body[..];
    let mut found = Vec::new();
    loop {
        rest = rest.strip_prefix(&delimiter[..]).unwrap();
        if rest == b"--\r\n" {
            return found;
        }
        let head_end = rest.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(rest[..head_end].to_vec()).unwrap();
        let field = |name: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix(name));
            line.map(str::to_owned).unwrap()
        };
        assert_eq!(field("content-type: "), "application/octet-stream");
        let range = field("content-range: ");
        let (first, last) = range["bytes ".len()..].split('/').next().unwrap().split_once('-').unwrap();
        let length = last.parse::<usize>().unwrap() - first.parse::<usize>().unwrap() + 1;
        let start = head_end + 4;
        found.push((range, rest[start..start + length].to_vec()));
        rest = rest[start + length..].strip_prefix(b"\r\n").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_ranges_come_as_parts_from_stored_and_growing_bodies() {
    let bed = Bed::with_tls().await;
    for (n, speech) in SPEECHES.into_iter().enumerate() {
        for growing in ["", "&rate=400000"] {
            let path = format!("/parts{n}?cc=max-age%3D60&size=100000&seed=2&etag=a{growing}");
            let reply = bed.ask(speech, get_with(&path, &[("range", "bytes=-10, 0-0, 50000-69999")])).await;
            assert_eq!(reply.status, 206, "{speech:?}{growing}");
            assert_eq!(reply.field("content-length"), reply.body.len().to_string(), "{speech:?}{growing}");
            assert_eq!((reply.field("content-range"), reply.field("etag")), ("", "\"a\""));
            let expected: Vec<_> = [(99_990, 100_000), (0, 1), (50_000, 70_000)]
                .into_iter()
                .map(|(start, end)| (format!("bytes {start}-{}/100000", end - 1), body::bytes(2, start, end).to_vec()))
                .collect();
            assert_eq!(parts(&reply), expected, "{speech:?}{growing}");
            let one = bed.ask(speech, get_with(&path, &[("range", "bytes=0-9,5-19,20-29")])).await;
            assert_eq!(
                (one.field("content-range"), one.body.len()),
                ("bytes 0-29/100000", 30),
                "touching ones are one"
            );
            let mut head = get_with(&path, &[("range", "bytes=0-0,5-5")]);
            *head.method_mut() = http::Method::HEAD;
            let head = bed.ask(speech, head).await;
            assert_eq!(
                (head.status.as_u16(), head.field("content-length")),
                (200, "100000"),
                "a range is for GET only"
            );
            assert_eq!(bed.asked(&path), 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_cut_cuts_its_parts_and_nothing_else_follows_on_the_connection() {
    let bed = Bed::new().await;
    let path = "/cut-parts?cc=max-age%3D60&size=100000&seed=2&cut=60000";
    let wire = format!("GET {path} HTTP/1.1\r\nHost: a\r\nRange: bytes=0-9,50000-69999\r\n\r\n");
    let answer = bed.raw(wire.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 206 "), "{}", &answer[..answer.len().min(300)]);
    let (head, rest) = answer.split_once("\r\n\r\n").unwrap();
    let stated: usize = head.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap().parse().unwrap();
    assert!(rest.len() < stated, "it does not look whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_the_origin_sends_goes_to_the_one_who_asked_and_is_not_stored() {
    let script = |head: &str| {
        if head.contains("range: bytes=0-3") {
            let fields = "cache-control: max-age=60\r\ncontent-range: bytes 0-3/10\r\netag: \"a\"\r\n";
            answer(206, fields, "0123")
        } else if head.contains("x-own") {
            answer(200, "cache-control: no-store\r\n", "own")
        } else {
            answer(200, "cache-control: max-age=60\r\netag: \"a\"\r\n", "0123456789")
        }
    };
    let bed = Bed::scripted(script, |_| {}).await;
    // After an answer that could not be stored, requests go forward as they came.
    assert_eq!(bed.get_with("/", &[("x-own", "1")]).await.body, "own");
    let part = bed.get_with("/", &[("range", "bytes=0-3")]).await;
    assert_eq!(
        (part.status.as_u16(), &part.body[..], part.field("content-range")),
        (206, &b"0123"[..], "bytes 0-3/10")
    );
    assert!(part.cache().contains("detail=partial"), "{}", part.cache());
    let whole = bed.ask(Speech::H1, get("/")).await;
    assert_eq!((whole.status.as_u16(), &whole.body[..]), (200, &b"0123456789"[..]));
}
