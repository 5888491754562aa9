//! Responses to requests with cookies that say nothing about caching: they may be the page of one user.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::bed::{Bed, answer, eventually, scripted, upstream};

/// The user of a request, by its cookie.
fn user(head: &str) -> &str {
    head.lines().find_map(|line| line.strip_prefix("cookie: sid=")).unwrap_or("nobody")
}

/// A page for each user, with an entity tag of its own, as many frameworks make it: without `Vary`, without `Cache-Control`.
fn page(head: &str, fields: &str) -> String {
    let user = user(head);
    let fields = format!("etag: \"{user}\"\r\n{fields}");
    match head.contains(&format!("if-none-match: \"{user}\"")) {
        true => answer(304, &fields, ""),
        false => answer(200, &fields, &format!("page of {user}")),
    }
}

async fn bed(delay: Duration, fields: &'static str) -> (Arc<Bed>, Arc<Mutex<Vec<String>>>) {
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = Arc::clone(&seen);
    let script = move |head: &str| {
        log.lock().unwrap().push(user(head).to_owned());
        page(head, fields)
    };
    let origin = scripted(delay, script).await;
    (Arc::new(Bed::with(|config| config.sites[0].origins = vec![upstream(origin)]).await), seen)
}

async fn get(bed: &Bed, user: &str) -> String {
    let cookie = format!("sid={user}");
    let fields = [("cookie", &*cookie)];
    let reply = bed.get_with("/", &fields[..usize::from(user != "nobody")]).await;
    format!("{} {}", reply.status.as_u16(), String::from_utf8_lossy(&reply.body))
}

/// Lets `first` ask, and the others while it waits; all get their own pages.
async fn together(bed: &Arc<Bed>, seen: &Mutex<Vec<String>>, first: &'static str, others: &[&'static str]) {
    let before = seen.lock().unwrap().len();
    let ask = |user: &'static str| {
        let bed = Arc::clone(bed);
        tokio::spawn(async move { get(&bed, user).await })
    };
    let leader = ask(first);
    eventually("the first one is on its way", || seen.lock().unwrap().len() > before).await;
    let others: Vec<_> = others.iter().map(|user| (*user, ask(user))).collect();
    assert_eq!(leader.await.unwrap(), format!("200 page of {first}"));
    for (user, task) in others {
        assert_eq!(task.await.unwrap(), format!("200 page of {user}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_one_user_is_given_to_no_other_one_after_the_other() {
    let (bed, _) = bed(Duration::ZERO, "").await;
    for user in ["alice", "bob", "nobody", "alice", "nobody"] {
        assert_eq!(get(&bed, user).await, format!("200 page of {user}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_one_user_is_given_to_nobody_who_waits_for_it() {
    let (bed, seen) = bed(Duration::from_millis(500), "").await;
    // With nothing stored; and with the page of the one who leads, which is right for that one.
    for _ in 0..2 {
        together(&bed, &seen, "alice", &["bob", "carol", "nobody"]).await;
        assert_eq!(get(&bed, "alice").await, "200 page of alice");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_one_user_is_no_substitute_for_that_of_another_while_the_origin_fails() {
    for windows in ["", "cache-control: stale-while-revalidate=600, stale-if-error=600\r\n"] {
        let fails = Arc::new(AtomicBool::new(false));
        let is_failing = Arc::clone(&fails);
        let script = move |head: &str| match is_failing.load(Ordering::SeqCst) {
            true => answer(503, "", "sick"),
            false => page(head, windows),
        };
        let bed = Bed::scripted(script, |_| {}).await;
        assert_eq!(get(&bed, "alice").await, "200 page of alice");
        fails.store(true, Ordering::SeqCst);
        assert_eq!(get(&bed, "bob").await, "503 sick", "{windows:?}");
        assert_eq!(get(&bed, "nobody").await, "503 sick", "{windows:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_says_that_it_is_for_all_is_shared_by_users_as_before() {
    for fields in
        ["cache-control: max-age=60\r\n", "cache-control: public\r\n", "expires: Fri, 01 Jan 2100 00:00:00 GMT\r\n"]
    {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let script = move |_: &str| {
            count.fetch_add(1, Ordering::SeqCst);
            answer(200, &format!("etag: \"a\"\r\n{fields}"), "page of all")
        };
        let origin = scripted(Duration::from_millis(500), script).await;
        let bed = Arc::new(Bed::with(|config| config.sites[0].origins = vec![upstream(origin)]).await);
        let ask = |user: &'static str| {
            let bed = Arc::clone(&bed);
            tokio::spawn(async move { get(&bed, user).await })
        };
        let leader = ask("alice");
        eventually("the first one is on its way", || asked.load(Ordering::SeqCst) == 1).await;
        let others = ["bob", "carol", "nobody"].map(ask);
        assert_eq!(leader.await.unwrap(), "200 page of all");
        for other in others {
            assert_eq!(other.await.unwrap(), "200 page of all");
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1, "{fields:?}");
    }
}
