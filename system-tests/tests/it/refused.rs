//! Requests that an origin refuses for what they are: they decide nothing about those of others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::bed::{Bed, Reply, answer, eventually, scripted, upstream};

/// So long an answer takes that all who ask meanwhile have joined.
const SLOW: Duration = Duration::from_millis(700);
const PAGE: &str = "cache-control: max-age=60\r\netag: \"a\"\r\n";

type Count = Arc<AtomicUsize>;

/// An origin that refuses requests with `X-Bad`, and the number of requests that it has seen.
async fn bed(delay: Duration, status: u16, fields: &'static str) -> (Bed, Count) {
    let asked = Count::default();
    let count = Arc::clone(&asked);
    let script = move |head: &str| {
        count.fetch_add(1, Ordering::SeqCst);
        if head.contains("x-bad") {
            answer(status, fields, "refused")
        } else if head.contains("if-none-match") {
            answer(304, PAGE, "")
        } else {
            answer(200, PAGE, "page")
        }
    };
    let origin = scripted(delay, script).await;
    (Bed::with(|config| config.sites[0].origins = vec![upstream(origin)]).await, asked)
}

fn seen(count: &Count) -> usize {
    count.load(Ordering::SeqCst)
}

/// Sends so many requests at a time.
async fn crowd(bed: &Arc<Bed>, size: usize, fields: &'static [(&'static str, &'static str)]) -> Vec<Reply> {
    let ask = |_| {
        let bed = Arc::clone(bed);
        tokio::spawn(async move { bed.get_with("/", fields).await })
    };
    let mut replies = Vec::new();
    for task in (0..size).map(ask).collect::<Vec<_>>() {
        replies.push(task.await.unwrap());
    }
    replies
}

const BAD: &[(&str, &str)] = &[("x-bad", "1")];

#[tokio::test(flavor = "multi_thread")]
async fn after_a_refused_leader_the_next_one_leads_and_the_others_get_its_page() {
    for (status, fields) in [
        (400, ""),
        (400, "cache-control: no-store\r\n"),
        (400, "cache-control: max-age=60\r\n"),
        (403, "set-cookie: waf=1\r\ncache-control: private\r\n"),
        (500, "cache-control: no-store\r\n"),
    ] {
        let (bed, asked) = bed(SLOW, status, fields).await;
        let bed = Arc::new(bed);
        let leader = tokio::spawn({
            let bed = Arc::clone(&bed);
            async move { bed.get_with("/", BAD).await.status.as_u16() }
        });
        eventually("the leader has asked", || seen(&asked) == 1).await;
        for reply in crowd(&bed, 40, &[]).await {
            assert_eq!((reply.status.as_u16(), &reply.body[..]), (200, &b"page"[..]), "{status} {fields:?}");
        }
        assert_eq!(leader.await.unwrap(), status);
        assert_eq!(seen(&asked), 2, "{status} {fields:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_request_does_not_keep_later_ones_from_waiting_for_one_another() {
    let (bed, asked) = bed(SLOW, 431, "").await;
    let bed = Arc::new(bed);
    assert_eq!(bed.get_with("/", BAD).await.status, 431);
    assert!(crowd(&bed, 20, &[]).await.iter().all(|reply| reply.body == "page"));
    assert_eq!(seen(&asked), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_refused_leaders_cost_not_many_more_requests_than_they_send() {
    let (bed, asked) = bed(Duration::from_millis(300), 400, "").await;
    let bed = Arc::new(bed);
    let refused = tokio::spawn({
        let bed = Arc::clone(&bed);
        async move { crowd(&bed, 10, BAD).await }
    });
    eventually("a leader has asked", || seen(&asked) == 1).await;
    assert!(crowd(&bed, 60, &[]).await.iter().all(|reply| reply.body == "page"));
    assert!(refused.await.unwrap().iter().all(|reply| reply.status == 400 || reply.body == "page"));
    assert!(seen(&asked) <= 30, "{} requests for 10 that were refused", seen(&asked));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_outlives_a_refused_validation() {
    for status in [400, 401, 403, 405, 408, 413, 414, 415, 417, 421, 425, 426, 428, 429, 431, 500, 501, 503] {
        for fields in ["", "cache-control: no-store\r\n", "set-cookie: a=b\r\n", "vary: *\r\n"] {
            let (mut bed, _) = bed(Duration::ZERO, status, fields).await;
            bed.get("/").await;
            bed.advance(100);
            bed.get_with("/", BAD).await;
            let after = bed.get("/").await;
            assert_eq!(after.body, "page", "{status} {fields:?}");
            assert!(after.cache().contains("fwd-status=304"), "{status} {fields:?}: {}", after.cache());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_refresh_keeps_nobody_from_refreshing() {
    let asked = Count::default();
    let count = Arc::clone(&asked);
    let script = move |head: &str| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        match head.contains("x-bad") {
            true => answer(400, "cache-control: no-store\r\n", "refused"),
            false => {
                answer(200, "cache-control: max-age=60, stale-while-revalidate=600\r\n", &format!("page {number}"))
            }
        }
    };
    let mut bed = Bed::scripted(script, |_| {}).await;
    bed.get("/").await;
    bed.advance(100);
    assert_eq!(bed.get_with("/", BAD).await.body, "page 0");
    eventually("the refused refresh is sent", || seen(&asked) == 2).await;
    bed.until_idle().await;
    assert_eq!(bed.get("/").await.body, "page 0", "it is still there");
    eventually("the next refresh is sent", || seen(&asked) == 3).await;
    bed.until_idle().await;
    assert_eq!(bed.get("/").await.body, "page 2");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_everybody_is_refused_everybody_gets_an_answer_of_its_own() {
    let asked = Count::default();
    let count = Arc::clone(&asked);
    let origin = scripted(Duration::from_millis(20), move |_| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        answer(401, &format!("x-own: {number}\r\n"), "who are you")
    })
    .await;
    let bed = Arc::new(Bed::with(|config| config.sites[0].origins = vec![upstream(origin)]).await);
    let replies = crowd(&bed, 60, &[]).await;
    let own: std::collections::HashSet<_> = replies.iter().map(|reply| reply.field("x-own").to_owned()).collect();
    assert!(replies.iter().all(|reply| reply.status == 401));
    assert_eq!((own.len(), seen(&asked)), (60, 60));
}
