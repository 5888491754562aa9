//! Rules that only show over sockets: targeted control, HEAD, what clients ask, and what sites decide.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::bed::{Bed, HOST, Reply, SPEECHES, Speech, answer, get};

fn is_hit(reply: &Reply) -> bool {
    reply.cache().contains("; hit")
}

async fn head(bed: &Bed, path: &str) -> Reply {
    let mut request = get(path);
    *request.method_mut() = Method::HEAD;
    bed.ask(Speech::H1, request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9213_a_targeted_field_governs_and_travels_on() {
    let mut bed = Bed::with_tls().await;
    for speech in SPEECHES {
        let path = format!("/targeted-{speech:?}?cc=no-store&header.CDN-Cache-Control=max-age%3D60&header.Expires=0");
        let first = bed.ask(speech, get(&path)).await;
        assert!(first.cache().contains("stored; ttl=60"), "{}", first.cache());
        let hit = bed.ask(speech, get(&path)).await;
        assert!(is_hit(&hit));
        assert_eq!((hit.field("cache-control"), hit.field("cdn-cache-control")), ("no-store", "max-age=60"));
        bed.advance(61);
        assert!(!is_hit(&bed.ask(speech, get(&path)).await));
        let broken = format!("/broken-{speech:?}?cc=max-age%3D60&header.CDN-Cache-Control=max-age%3D60,%20%26%26");
        bed.ask(speech, get(&broken)).await;
        assert!(is_hit(&bed.ask(speech, get(&broken)).await), "what cannot be parsed is ignored");
    }
    let plain = Bed::with(|config| config.sites[0].targeted_fields = Vec::new()).await;
    let path = "/plain?cc=max-age%3D60&header.CDN-Cache-Control=no-store";
    plain.get(path).await;
    assert!(is_hit(&plain.get(path).await), "a site may look for none");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_caps_lifetimes_and_guesses_by_its_own_share() {
    let mut bed = Bed::with(|config| {
        config.sites[0].max_ttl = Some(Duration::from_secs(30));
        config.sites[0].heuristic_thousandths = 500;
    })
    .await;
    assert!(bed.get("/capped?cc=max-age%3D600").await.cache().contains("ttl=30"));
    assert!(bed.get("/guessed?lm=20").await.cache().contains("ttl=10"));
    bed.advance(30);
    assert!(!is_hit(&bed.get("/capped?cc=max-age%3D600").await));
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_s4_3_5_a_head_freshens_what_is_stored_or_drops_it() {
    let version = Arc::new(AtomicUsize::new(1));
    let now = Arc::clone(&version);
    let script = move |head: &str| {
        let tag = now.load(Ordering::SeqCst);
        let marker = if head.starts_with("head") { "head" } else { "get" };
        let fields = format!("cache-control: max-age=60\r\netag: \"{tag}\"\r\nx-from: {marker}\r\n");
        let whole = answer(200, &fields, "page");
        if marker == "head" { whole.trim_end_matches("page").to_owned() } else { whole }
    };
    let mut bed = Bed::scripted(script, |_| {}).await;
    assert_eq!(bed.get("/").await.body, "page");
    assert!(is_hit(&head(&bed, "/").await), "fresh: answered from what is stored");
    bed.advance(100);
    let asked = head(&bed, "/").await;
    assert_eq!((asked.status.as_u16(), asked.field("x-from"), asked.body.len()), (200, "head", 0));
    assert!(asked.cache().contains("fwd=stale; fwd-status=200"), "{}", asked.cache());
    let freshened = bed.get("/").await;
    assert!(is_hit(&freshened), "{}", freshened.cache());
    assert_eq!(
        (freshened.field("x-from"), &freshened.body[..]),
        ("head", &b"page"[..]),
        "its new fields, the stored body"
    );
    // The next HEAD speaks of another version: what is stored is of no use.
    bed.advance(100);
    version.store(2, Ordering::SeqCst);
    head(&bed, "/").await;
    let fetched = bed.get("/").await;
    assert!(fetched.cache().contains("fwd=uri-miss"), "{}", fetched.cache());
    assert_eq!(fetched.field("etag"), "\"2\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_ask_counts_only_where_a_site_honours_it() {
    let mut honours = Bed::with(|config| config.sites[0].honour_request_directives = true).await;
    let mut ignores = Bed::new().await;
    let path = "/asked?cc=max-age%3D60&etag=a";
    for bed in [&mut honours, &mut ignores] {
        bed.get(path).await;
        bed.advance(20);
    }
    for (asks, refused) in
        [("no-cache", true), ("max-age=0", true), ("max-age=19", true), ("min-fresh=41", true), ("max-stale", false)]
    {
        // Each refusal validates, and so makes it young again.
        assert_eq!(!is_hit(&honours.get_with(path, &[("cache-control", asks)]).await), refused, "{asks}");
        assert!(is_hit(&ignores.get_with(path, &[("cache-control", asks)]).await), "{asks}");
        honours.advance(20);
    }
    assert!(!is_hit(&honours.get_with(path, &[("pragma", "no-cache")]).await));
    assert!(is_hit(&ignores.get_with(path, &[("pragma", "no-cache")]).await));

    honours.advance(70);
    let stale = honours.get_with(path, &[("cache-control", "max-stale=20")]).await;
    assert_eq!((is_hit(&stale), stale.field("age")), (true, "70"), "{}", stale.cache());
    assert!(!is_hit(&honours.get_with(path, &[("cache-control", "max-stale=5")]).await));

    let never = "/never?cc=max-age%3D60";
    let stored = |reply: &Reply| reply.cache().contains("stored");
    assert!(!stored(&honours.get_with(never, &[("cache-control", "no-store")]).await));
    assert!(stored(&ignores.get_with(never, &[("cache-control", "no-store")]).await));
    let missing = honours.get_with("/missing?cc=max-age%3D60", &[("cache-control", "only-if-cached")]).await;
    assert_eq!((missing.status.as_u16(), honours.asked("/missing?cc=max-age%3D60")), (504, 0));
    assert_eq!(ignores.get_with("/missing?cc=max-age%3D60", &[("cache-control", "only-if-cached")]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_is_never_served_on_error_where_that_is_forbidden_and_the_error_carries_nothing_of_it() {
    for directives in ["max-age=60, must-revalidate", "max-age=60, proxy-revalidate", "s-maxage=60", "no-cache"] {
        let asked = Arc::new(AtomicUsize::new(0));
        let (count, cc) = (Arc::clone(&asked), directives.to_owned());
        let script = move |_: &str| match count.fetch_add(1, Ordering::SeqCst) {
            0 => answer(200, &format!("cache-control: {cc}\r\netag: \"a\"\r\nx-stored: 1\r\n"), "page"),
            // The connection closes without a byte.
            _ => String::new(),
        };
        let mut bed = Bed::scripted(script, |_| {}).await;
        assert_eq!(bed.get("/").await.body, "page");
        bed.advance(100);
        let failed = bed.get("/").await;
        assert_eq!(failed.status, 502, "{directives}");
        for gone in ["x-stored", "etag", "age"] {
            assert!(!failed.fields.contains_key(gone), "{directives}: {gone}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_statuses_and_unknown_fields_are_stored_as_they_came() {
    let bed = Bed::with_tls().await;
    for speech in SPEECHES {
        for status in [204, 299, 302, 307, 404, 410, 499, 500, 503, 599] {
            let path = format!("/status-{speech:?}?cc=max-age%3D60&status={status}&header.X-Odd=%C3%BC&header.X-Odd=2");
            let first = bed.ask(speech, get(&path)).await;
            let hit = bed.ask(speech, get(&path)).await;
            assert_eq!((first.status.as_u16(), hit.status.as_u16()), (status, status), "{speech:?}");
            assert!(is_hit(&hit), "{speech:?} {status}: {}", hit.cache());
            let odd: Vec<_> = hit.fields.get_all("x-odd").iter().map(|value| value.as_bytes().to_vec()).collect();
            assert_eq!(odd, ["\u{fc}".as_bytes().to_vec(), b"2".to_vec()], "{speech:?} {status}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_date_answers_if_modified_since_where_there_is_no_last_modified() {
    let bed = Bed::new().await;
    let path = "/dated?cc=max-age%3D60";
    let date = bed.get(path).await.field("date").to_owned();
    assert_eq!(bed.get_with(path, &[("if-modified-since", &date)]).await.status, 304);
    let before = "Sun, 06 Nov 1994 08:49:37 GMT";
    assert_eq!(bed.get_with(path, &[("if-modified-since", before)]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_validation_carries_the_nominated_fields_of_its_client() {
    let seen = Arc::new(parking_lot::Mutex::new(String::new()));
    let last = Arc::clone(&seen);
    let script = move |head: &str| {
        *last.lock() = head.to_owned();
        answer(200, "cache-control: max-age=60\r\nvary: x-lang\r\netag: \"a\"\r\n", "page")
    };
    let mut bed = Bed::scripted(script, |_| {}).await;
    bed.get_with("/", &[("x-lang", "de")]).await;
    bed.advance(100);
    bed.get_with("/", &[("x-lang", "de"), ("if-none-match", "\"client\"")]).await;
    let head = seen.lock().clone();
    assert!(head.contains("x-lang: de\r\n") && head.contains("if-none-match: \"a\"\r\n"), "{head}");
    assert!(!head.contains("client"), "{head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_client_asks_for_takes_nothing_from_the_others() {
    let mut bed = Bed::with(|config| config.sites[0].honour_request_directives = true).await;
    let path = "/shared?cc=max-age%3D60&etag=a";
    bed.get(path).await;
    // Validated for one who wants nothing stored: what is stored stays, and stays as old as it was.
    let own = bed.get_with(path, &[("cache-control", "no-cache, no-store")]).await;
    assert!(own.cache().contains("fwd=request; fwd-status=304"), "{}", own.cache());
    assert!(is_hit(&bed.get(path).await));
    bed.advance(100);
    let authorised = bed.get_with(path, &[("authorization", "Basic x")]).await;
    assert!(authorised.cache().contains("fwd=stale; fwd-status=200; detail=authorization"), "{}", authorised.cache());
    assert!(bed.get(path).await.cache().contains("fwd=stale; fwd-status=304"), "it is still there to be validated");
    // A cold key does not become uncacheable by them.
    let cold = "/cold?cc=max-age%3D60&ttfb=200";
    bed.get_with(cold, &[("cache-control", "no-store")]).await;
    bed.get_with(cold, &[("authorization", "Basic x")]).await;
    let bed = Arc::new(bed);
    let before = bed.asked(cold);
    let ask = |_| {
        let bed = Arc::clone(&bed);
        tokio::spawn(async move { bed.get(cold).await.status })
    };
    for task in (0..10).map(ask).collect::<Vec<_>>() {
        assert_eq!(task.await.unwrap(), 200);
    }
    assert_eq!(bed.asked(cold), before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_of_something_stale_are_one_request_and_an_old_one_does_not_undo_a_newer_get() {
    let version = Arc::new(AtomicUsize::new(1));
    let now = Arc::clone(&version);
    let script = move |head: &str| {
        let tag = now.load(Ordering::SeqCst);
        let whole = answer(200, &format!("cache-control: max-age=60\r\netag: \"{tag}\"\r\n"), "page");
        if head.starts_with("head") { whole.trim_end_matches("page").to_owned() } else { whole }
    };
    let (origin, gate) = crate::bed::gated("head", script).await;
    let mut bed = Bed::with(|config| config.sites[0].origins = vec![crate::bed::upstream(origin)]).await;
    bed.get("/").await;
    bed.advance(100);
    bed.until_metric("nearside_connections_open 0").await;
    let mut waiting = Vec::new();
    for _ in 0..10 {
        let mut socket = TcpStream::connect(bed.address()).await.unwrap();
        let request = format!("HEAD / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        waiting.push(socket);
    }
    bed.until_metric("nearside_connections_open 10").await;
    crate::bed::eventually("a HEAD is on its way", || gate.arrived() == 1).await;
    version.store(2, Ordering::SeqCst);
    assert_eq!(bed.get("/").await.field("etag"), "\"2\"");
    gate.open();
    let mut old = 0;
    for mut socket in waiting {
        let mut reply = String::new();
        socket.read_to_string(&mut reply).await.unwrap();
        assert!(reply.starts_with("HTTP/1.1 200 OK\r\n") && reply.ends_with("\r\n\r\n"), "{reply}");
        old += usize::from(reply.contains("etag: \"1\""));
    }
    assert!(old > 1, "several have waited for the one request");
    assert_eq!(gate.arrived(), 1, "however many ask");
    let hit = bed.get("/").await;
    assert_eq!((hit.field("etag"), is_hit(&hit)), ("\"2\"", true), "{}", hit.cache());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_without_head_is_asked_by_get() {
    let script = |head: &str| match head.starts_with("head") {
        true => "HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned(),
        false => answer(200, "cache-control: max-age=60\r\n", "page"),
    };
    let mut bed = Bed::scripted(script, |_| {}).await;
    for _ in 0..2 {
        let reply = head(&bed, "/").await;
        assert_eq!((reply.status.as_u16(), reply.field("content-length")), (200, "4"));
        bed.advance(100);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_answer_that_may_not_be_stored_ends_what_is_stored_and_an_error_does_not() {
    for (status, cc, ended) in [(404, "no-store", true), (200, "private", true), (503, "no-store", false)] {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let script = move |_: &str| match count.fetch_add(1, Ordering::SeqCst) {
            0 => answer(200, "cache-control: max-age=60, stale-while-revalidate=6000\r\n", "page"),
            _ => answer(status, &format!("cache-control: {cc}\r\n"), "other"),
        };
        let mut bed = Bed::scripted(script, |_| {}).await;
        bed.get("/").await;
        bed.advance(100);
        assert_eq!(bed.get("/").await.body, "page");
        crate::bed::eventually("the refresh is sent", || asked.load(Ordering::SeqCst) == 2).await;
        bed.until_idle().await;
        let after = bed.get("/").await;
        assert_eq!(after.body == "other", ended, "{status} {cc}: {}", after.cache());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_goes_forward_alone_gets_something_stale_in_place_of_an_error_too() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let script = move |head: &str| {
        count.fetch_add(1, Ordering::SeqCst);
        if head.contains("authorization") {
            answer(200, "cache-control: max-age=60\r\n", "own")
        } else if head.contains("x-late") {
            answer(503, "", "sick")
        } else {
            answer(200, "cache-control: max-age=60, stale-if-error=600\r\n", "page")
        }
    };
    let origin = crate::bed::scripted(Duration::from_millis(200), script).await;
    let mut bed = Bed::with(|config| config.sites[0].origins = vec![crate::bed::upstream(origin)]).await;
    bed.get("/").await;
    bed.advance(100);
    // The one who leads gets what is for nobody else; who waited goes forward alone, into an error.
    let bed = Arc::new(bed);
    let leader = {
        let bed = Arc::clone(&bed);
        tokio::spawn(async move { bed.get_with("/", &[("authorization", "Basic x")]).await.body })
    };
    crate::bed::eventually("the leader has asked", || asked.load(Ordering::SeqCst) == 2).await;
    let follower = bed.get_with("/", &[("x-late", "1")]).await;
    assert_eq!(leader.await.unwrap(), "own");
    assert_eq!((follower.status.as_u16(), &follower.body[..]), (200, &b"page"[..]), "{}", follower.cache());
}
