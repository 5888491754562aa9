//! Whose failures open the circuit breaker of an origin: its own, and not those of single pages.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nearside_config::Config;
use nearside_origin_sim::OriginSim;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use crate::bed::{Bed, answer, get_from, loopback, served, upstream};

/// An origin that crashes on `/crash...`, hangs on `/slow...`, and answers all else.
async fn partly_broken() -> SocketAddr {
    served(|head, mut socket| async move {
        if head.starts_with("GET /crash") || head.starts_with("POST /crash") {
            return;
        }
        if head.starts_with("GET /slow") {
            return std::future::pending().await;
        }
        let _ = socket.write_all(answer(200, "cache-control: no-store\r\n", "works").as_bytes()).await;
    })
    .await
}

/// Longer than a page takes that works, on a busy machine too.
const FIRST_BYTE: Duration = Duration::from_secs(3);

fn impatient(origin: SocketAddr) -> impl FnOnce(&mut Config) {
    move |config| {
        config.sites[0].origins = vec![upstream(origin)];
        config.timeouts.first_byte = FIRST_BYTE;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_crashes_or_hangs_affects_itself_only() {
    let origin = partly_broken().await;
    let bed = Bed::with(impatient(origin)).await;
    for n in 0..40 {
        let reply = bed.get("/crash").await;
        assert_eq!(reply.status.as_u16(), 502, "{n} {}", reply.cache());
    }
    for n in 0..6 {
        let reply = bed.get("/slow").await;
        assert_eq!(reply.status.as_u16(), 504, "{n} {}", reply.cache());
    }
    for n in 0..10 {
        let reply = bed.get(&format!("/page{n}")).await;
        assert_eq!(reply.status.as_u16(), 200, "{n} {}", reply.cache());
        assert_eq!(bed.get("/crash").await.status, 502);
    }
    bed.until_metric(&format!("nearside_upstream_healthy{{peer=\"{}\"}} 1", upstream(origin))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_pages_that_crash_do_not_take_the_others_with_them() {
    let bed = Bed::with(impatient(partly_broken().await)).await;
    let address = bed.address();
    // Before any other page was asked for, over and over, and all at once.
    let hammers: Vec<_> = (0..12)
        .map(|n| {
            let page = if n % 3 == 0 { format!("/slow{n}") } else { format!("/crash{n}") };
            tokio::spawn(async move {
                loop {
                    assert!(get_from(address, &page).await.status.is_server_error());
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    for n in 0..20 {
        let reply = bed.get(&format!("/page{n}")).await;
        assert_eq!(reply.status.as_u16(), 200, "{n} {}", reply.cache());
        // At times nothing else is answered for longer than the breaker takes for a sign of life.
        tokio::time::sleep(Duration::from_millis(if n % 10 == 0 { 1200 } else { 10 })).await;
    }
    for hammer in hammers {
        assert!(!hammer.is_finished());
        hammer.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_answers_nobody_is_found_again_by_the_pages_that_failed() {
    let (works, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (is_up, count) = (Arc::clone(&works), Arc::clone(&calls));
    let origin = served(move |_, mut socket| {
        let is_up = is_up.load(Ordering::SeqCst);
        count.fetch_add(1, Ordering::SeqCst);
        async move {
            if is_up {
                let _ = socket.write_all(answer(200, "cache-control: no-store\r\n", "works").as_bytes()).await;
            }
        }
    })
    .await;
    let bed = Bed::with(impatient(origin)).await;
    let begin = Instant::now();
    for n in 0..100 {
        assert!(bed.get(&format!("/page{}", n % 10)).await.status.is_server_error());
    }
    bed.until_metric(&format!("nearside_upstream_healthy{{peer=\"{}\"}} 0", upstream(origin))).await;
    let trials = begin.elapsed().as_secs() + 1;
    assert!(calls.load(Ordering::SeqCst) <= 5 + trials, "{calls:?}");
    works.store(true, Ordering::SeqCst);
    let begin = Instant::now();
    while bed.get("/page1").await.status != 200 {
        assert!(begin.elapsed() < Duration::from_secs(30), "it is found again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for n in 0..10 {
        assert_eq!(bed.get(&format!("/page{n}")).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_refuses_connections_is_down_by_one_page_and_back_by_any() {
    let gone = OriginSim::start(loopback()).await.unwrap().address();
    let bed = Bed::with(impatient(gone)).await;
    let details: Vec<_> = {
        let mut details = Vec::new();
        for _ in 0..20 {
            details.push(bed.get("/page").await.cache().split("detail=").nth(1).unwrap().to_owned());
        }
        details
    };
    assert_eq!(details[..5], ["upstream-connect"; 5]);
    assert!(details[5..].iter().filter(|detail| *detail == "upstream-down").count() >= 10, "{details:?}");
    let _back = OriginSim::start(gone).await.unwrap();
    let begin = Instant::now();
    while bed.get("/page?size=5").await.status != 200 {
        assert!(begin.elapsed() < Duration::from_secs(30), "it is found again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
