//! What origins are spared, and what clients get meanwhile: places and a queue, a circuit breaker, a deadline for those
//! who can have something stale.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nearside_config::{Fallback, Role};
use nearside_origin_sim::{OriginSim, body};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::bed::{Bed, Speech, answer, eventually, gated, get, get_from, loopback, served, upstream};

/// The address of something that is gone.
async fn nobody() -> SocketAddr {
    OriginSim::start(loopback()).await.unwrap().address()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_than_the_limit_is_under_way_at_an_origin() {
    let bed = Bed::with(|config| {
        config.origins.concurrency = 7;
        config.origins.shared_by = 2;
    })
    .await;
    let address = bed.address();
    // Stored, not stored, and with a body of their own: every lane counts.
    let requests: Vec<_> = (0..40)
        .map(|n| {
            let cc = if n % 2 == 0 { "max-age%3D60" } else { "no-store" };
            tokio::spawn(async move { get_from(address, &format!("/many{n}?cc={cc}&size=50000&seed=3&ttfb=10")).await })
        })
        .collect();
    for request in requests {
        let reply = request.await.unwrap();
        assert_eq!((reply.status.as_u16(), reply.body.len(), body::differs(3, 0, &reply.body)), (200, 50_000, None));
    }
    let total = bed.origin.ledger().read().total;
    assert_eq!(
        (total.requests, total.peak_concurrency),
        (40, 2),
        "half of seven, rounded down, but for the one that is kept for trials"
    );
    bed.until_metric(&format!("nearside_upstream_in_flight{{peer=\"{}\"}} 0", upstream(bed.origin.address()))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_finds_no_place_and_none_to_wait_in_is_told_to_come_back() {
    let (origin, gate) = gated("get", |_| answer(200, "cache-control: max-age=60\r\n", "here")).await;
    let bed = Bed::with(|config| {
        config.sites[0].origins = vec![upstream(origin)];
        config.origins.concurrency = 1;
        config.origins.queue = 1;
        config.origins.queue_wait = Duration::from_millis(300);
    })
    .await;
    let address = bed.address();
    let first = tokio::spawn(async move { get_from(address, "/first").await });
    eventually("it is asked", || gate.arrived() == 1).await;
    let second = tokio::spawn(async move { get_from(address, "/second").await });
    bed.until_metric(&format!("nearside_upstream_waiting{{peer=\"{}\"}} 1", upstream(origin))).await;
    let third = bed.get("/third").await;
    assert_eq!((third.status.as_u16(), third.field("retry-after")), (503, "1"));
    assert!(third.cache().contains("detail=upstream-busy"), "{}", third.cache());
    let second = second.await.unwrap();
    assert_eq!((second.status.as_u16(), gate.arrived()), (503, 1), "it has waited long enough");
    gate.open();
    assert_eq!(first.await.unwrap().body, "here");
    gate.open();
    assert_eq!(bed.get("/third").await.body, "here");
    bed.until_metric(&format!("nearside_upstream_turned_away_total{{peer=\"{}\"}} 2", upstream(origin))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_can_have_something_stale_does_not_wait_longer_than_the_deadline() {
    let count = AtomicU64::new(0);
    let (origin, gate) = gated("get", move |_| {
        let body = ["old", "new"][usize::try_from(count.fetch_add(1, Ordering::SeqCst)).unwrap().min(1)];
        answer(200, "cache-control: max-age=60\r\n", body)
    })
    .await;
    let mut bed = Bed::with(|config| {
        config.sites[0].origins = vec![upstream(origin)];
        config.sites[0].stale_deadline = Some(Duration::from_millis(100));
    })
    .await;
    gate.open();
    assert_eq!(bed.get("/slow").await.body, "old");
    bed.advance(100);
    let begin = Instant::now();
    let stale = bed.get("/slow").await;
    assert_eq!((&stale.body[..], stale.field("age")), (&b"old"[..], "100"));
    assert!(stale.cache().contains("fwd=stale; ttl=-40; detail=stale-deadline"), "{}", stale.cache());
    assert!(begin.elapsed() >= Duration::from_millis(100), "it has waited");
    // Those who come later have waited already, as it were; and nobody asks once more.
    assert!(bed.get("/slow").await.cache().contains("detail=stale-deadline"));
    assert_eq!(gate.arrived(), 2);
    gate.open();
    bed.until_idle().await;
    let fresh = bed.get("/slow").await;
    assert!(fresh.body == "new" && fresh.cache().contains("; hit"), "the fetch has gone on: {}", fresh.cache());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_not_be_served_stale_is_waited_for() {
    let (origin, gate) =
        gated("get", |_| answer(200, "etag: \"a\"\r\ncache-control: max-age=60, must-revalidate\r\n", "law")).await;
    let mut bed = Bed::with(|config| {
        config.sites[0].origins = vec![upstream(origin)];
        config.sites[0].stale_deadline = Some(Duration::ZERO);
    })
    .await;
    gate.open();
    bed.get("/law").await;
    bed.advance(100);
    let address = bed.address();
    let waits = tokio::spawn(async move { get_from(address, "/law").await });
    eventually("it is asked", || gate.arrived() == 2).await;
    gate.open();
    let reply = waits.await.unwrap();
    assert!(reply.cache().contains("fwd=stale; fwd-status=200; stored"), "{}", reply.cache());
}

/// An origin that hangs up on everybody, and how often it was called.
async fn hangs_up() -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let (address, calls) = (listener.local_addr().unwrap(), Arc::new(AtomicU64::new(0)));
    let count = Arc::clone(&calls);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            drop(socket);
        }
    });
    (address, calls)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_is_down_is_asked_once_a_second_and_its_clients_do_not_wait() {
    let (origin, calls) = hangs_up().await;
    let bed = Bed::with(|config| config.sites[0].origins = vec![upstream(origin)]).await;
    let begin = Instant::now();
    let mut details = Vec::new();
    for n in 0..200 {
        let reply = bed.get(&format!("/down{n}")).await;
        assert!(reply.status.is_server_error());
        details.push(reply.cache().split("detail=").nth(1).unwrap().to_owned());
    }
    let trials = begin.elapsed().as_secs() + 1;
    assert_eq!(details[..5], ["upstream-closed"; 5]);
    assert!(
        details[5..].iter().filter(|detail| *detail == "upstream-down").count() as u64 >= 195 - trials,
        "{details:?}"
    );
    assert!(calls.load(Ordering::SeqCst) <= 5 + trials, "{calls:?}");
    let refused = bed.get("/refused").await;
    assert!(
        refused.status == 502
            || (refused.status, refused.field("retry-after")) == (http::StatusCode::SERVICE_UNAVAILABLE, "1")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_is_served_at_once_while_its_origin_is_down() {
    let mut bed = Bed::new().await;
    let path = "/kept?cc=max-age%3D60&size=100&seed=1&etag=a";
    bed.get(path).await;
    bed.advance(100);
    let back = bed.origin.address();
    bed.origin = OriginSim::start(loopback()).await.unwrap();
    for _ in 0..5 {
        bed.get("/other").await;
    }
    let reply = bed.get(path).await;
    assert_eq!((reply.status.as_u16(), reply.body.len()), (200, 100));
    assert!(reply.cache().contains("detail=upstream-"), "{}", reply.cache());
    // It is found again within a second or so.
    bed.origin = OriginSim::start(back).await.unwrap();
    for _ in 0..3000 {
        if bed.get(path).await.cache().contains("fwd-status=304") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it is not found again");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_fallback_origins_are_not_asked_in_place_of_shields() {
    for (fallback, status) in [(Fallback::None, 503), (Fallback::Origin, 200)] {
        let shield = upstream(nobody().await);
        let bed = Bed::with(|config| config.role = Role::Edge { shields: vec![shield], secret: None, fallback }).await;
        bed.get("/first?size=5").await;
        let reply = bed.get("/second?size=5").await;
        assert_eq!((reply.status.as_u16(), bed.asked("/second?size=5")), (status, u64::from(status == 200)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_frozen_shield_is_sent_on() {
    // It takes connections, and that is all.
    let frozen = TcpListener::bind(loopback()).await.unwrap();
    let shield = upstream(frozen.local_addr().unwrap());
    let out = format!("nearside_upstream_healthy{{peer=\"{shield}\"}} 0");
    let bed = Bed::with(|config| {
        config.role = Role::Edge { shields: vec![shield], secret: None, fallback: Fallback::Origin };
    })
    .await;
    let begin = Instant::now();
    assert_eq!(bed.get("/frozen?size=5").await.body.len(), 5);
    assert!(begin.elapsed() < Duration::from_secs(30), "well before the timeout");
    bed.until_metric(&out).await;
    assert_eq!(bed.get("/next?size=5").await.body.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_in_vain_is_not_made_again_at_once() {
    let calls = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&calls);
    let script = move |_: &str| match count.fetch_add(1, Ordering::SeqCst) {
        0 => answer(200, "cache-control: max-age=60, stale-while-revalidate=600\r\n", "old"),
        // It hangs up.
        _ => String::new(),
    };
    let mut bed = Bed::scripted(script, |_| {}).await;
    bed.get("/vain").await;
    bed.advance(100);
    for _ in 0..50 {
        assert_eq!(bed.get("/vain").await.body, "old");
        bed.until_idle().await;
    }
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    bed.advance(2);
    bed.get("/vain").await;
    bed.until_idle().await;
    assert_eq!(calls.load(Ordering::SeqCst), 3, "but later");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_refresh_that_finds_no_place_asks_with_more_weight() {
    let (origin, gate) =
        gated("get", |_| answer(200, "cache-control: max-age=60, stale-while-revalidate=60\r\n", "here")).await;
    let mut bed = Bed::with(|config| {
        config.sites[0].origins = vec![upstream(origin)];
        config.sites[0].serve_stale_on_error = Duration::ZERO;
        config.origins.concurrency = 1;
        config.origins.queue_wait = Duration::from_secs(1);
    })
    .await;
    let metric = |name: &str, count: u64| format!("nearside_upstream_{name}{{peer=\"{}\"}} {count}", upstream(origin));
    gate.open();
    bed.get("/refreshed").await;
    let address = bed.address();
    let holds = tokio::spawn(async move { get_from(address, "/holds").await });
    eventually("it is asked", || gate.arrived() == 2).await;
    bed.advance(100);
    assert_eq!(bed.get("/refreshed").await.body, "here");
    bed.until_metric(&metric("waiting", 1)).await;
    bed.advance(100);
    // Too stale by now, so that the refresh is what it waits for.
    let waits = tokio::spawn(async move { get_from(address, "/refreshed").await });
    bed.until_metric(&metric("turned_away_total", 1)).await;
    bed.until_metric(&metric("waiting", 1)).await;
    gate.open();
    gate.open();
    let reply = waits.await.unwrap();
    assert_eq!((reply.status.as_u16(), &reply.body[..]), (200, &b"here"[..]), "{}", reply.cache());
    assert_eq!((holds.await.unwrap().status.as_u16(), gate.arrived()), (200, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_has_left_at_the_deadline_does_not_hold_up_a_body_that_passes() {
    let count = AtomicU64::new(0);
    let (origin, gate) = gated("get", move |_| {
        if count.fetch_add(1, Ordering::SeqCst) == 0 {
            return answer(200, "cache-control: max-age=60\r\n", "old");
        }
        // Of unknown length, and more than is stored.
        let body = "x".repeat(1 << 20);
        format!("HTTP/1.1 200 X\r\ncache-control: max-age=60\r\nconnection: close\r\n\r\n{body}")
    })
    .await;
    let mut bed = Bed::with(|config| {
        config.sites[0].origins = vec![upstream(origin)];
        config.sites[0].stale_deadline = Some(Duration::from_millis(50));
        config.cache.object_bytes_max = 100_000;
        config.limits.window_bytes = 64 << 10;
    })
    .await;
    gate.open();
    bed.get("/left").await;
    bed.advance(100);
    assert_eq!(bed.get("/left").await.body, "old");
    gate.open();
    bed.until_idle().await;
    bed.until_metric(&format!("nearside_upstream_in_flight{{peer=\"{}\"}} 0", upstream(origin))).await;
}

/// An origin that begins the answer to `/long` and never ends it, and hangs up on all others while it is `down`.
async fn moody(down: Arc<AtomicBool>) -> SocketAddr {
    served(move |head, mut socket| {
        let is_down = down.load(Ordering::SeqCst);
        async move {
            if head.starts_with("GET /long") {
                let _ = socket.write_all(b"HTTP/1.1 200 X\r\ncontent-length: 1000\r\n\r\nbegun").await;
                std::future::pending().await
            } else if !is_down {
                let _ = socket.write_all(answer(200, "cache-control: no-store\r\n", "well").as_bytes()).await;
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_answer_that_is_still_running_does_not_keep_an_origin_out_that_is_back() {
    let down = Arc::new(AtomicBool::new(true));
    let origin = moody(Arc::clone(&down)).await;
    let bed = Bed::with(|config| {
        config.sites[0].origins = vec![upstream(origin)];
        config.origins.concurrency = 3;
    })
    .await;
    let long = bed.send(Speech::H1, get("/long")).await.unwrap();
    for n in 0..6 {
        bed.get(&format!("/down{n}")).await;
    }
    // What it has answered just now says that it lives; a moment later it does not.
    tokio::time::sleep(Duration::from_secs(1)).await;
    bed.get("/down").await;
    bed.until_metric(&format!("nearside_upstream_healthy{{peer=\"{}\"}} 0", upstream(origin))).await;
    down.store(false, Ordering::SeqCst);
    let begin = Instant::now();
    while bed.get("/well").await.body != "well" {
        assert!(begin.elapsed() < Duration::from_secs(30), "it is back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(long);
}
