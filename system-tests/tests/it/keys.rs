//! What tells requests apart: recipes of sites, `No-Vary-Search`, and fields in one form.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nearside_config::{Key, Languages, Site};

use crate::bed::{Bed, Reply, answer, eventually};

/// An origin that answers with the target and the fields it was asked with.
fn echo(head: &str) -> String {
    let target = head.split(' ').nth(1).unwrap_or_default();
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("-").to_owned();
    let seen = format!("{target}|{}|{}", field("accept-encoding: "), field("accept-language: "));
    let vary = if head.contains("/vary") { "vary: accept-encoding, accept-language\r\n" } else { "" };
    answer(200, &format!("cache-control: max-age=600\r\n{vary}"), &seen)
}

async fn bed(change: impl FnOnce(&mut Site)) -> Bed {
    Bed::scripted(echo, |config| change(&mut config.sites[0])).await
}

fn body(reply: &Reply) -> String {
    String::from_utf8(reply.body.to_vec()).unwrap()
}

fn is_hit(reply: &Reply) -> bool {
    reply.cache().contains("; hit")
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_that_do_not_count_are_not_sent_forward_either() {
    let name = |text: &str| text.parse().unwrap();
    let bed = bed(|site| site.key = Key { query_drop: vec![name("utm_*")], query_sort: true, ..Key::default() }).await;
    let first = bed.get("/a?y=2&utm_source=evil&x=1").await;
    assert_eq!(body(&first), "/a?x=1&y=2|-|-", "nobody can poison an answer with what is not in its key");
    for same in ["/a?x=1&y=2", "/a?y=2&x=1&utm_medium=3", "/a?utm%5Fx=1&x=1&y=2"] {
        assert!(is_hit(&bed.get(same).await), "{same}");
    }
    for other in ["/a?x=1", "/a?x=2&y=1", "/a?x=1&y=2&z", "/A?x=1&y=2"] {
        assert!(!is_hit(&bed.get(other).await), "{other}");
    }
    // A purge by one of the spellings removes what all of them share.
    assert!(body(&bed.purge("/a?utm_q=9&y=2&x=1").await).contains("\"matched\":1"));
    assert!(!is_hit(&bed.get("/a?x=1&y=2").await));
    let mut post = crate::bed::get("/a?y=2&utm_source=kept&x=1");
    *post.method_mut() = http::Method::POST;
    let passed = bed.ask(crate::bed::Speech::H1, post).await;
    assert!(body(&passed).starts_with("/a?y=2&utm_source=kept&x=1|"), "what is not cached goes forward as it came");
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_and_cookies_of_a_site_select_and_go_together() {
    let change = |site: &mut Site| {
        site.key.fields = vec!["X-Country".parse().unwrap()];
        site.key.cookies = vec!["lang".parse().unwrap()];
    };
    let bed = bed(change).await;
    let requests: [&[(&str, &str)]; 5] = [
        &[],
        &[("x-country", "de")],
        &[("cookie", "lang=de")],
        &[("cookie", "a=1; lang=en")],
        &[("x-country", "de"), ("cookie", "lang=de")],
    ];
    for request in requests {
        assert!(!is_hit(&bed.get_with("/a", request).await), "{request:?}");
    }
    for request in requests {
        assert!(is_hit(&bed.get_with("/a", request).await), "{request:?}");
    }
    assert!(is_hit(&bed.get_with("/a", &[("cookie", "session=5; lang=de")]).await), "other cookies do not count");
    assert!(body(&bed.purge("/a").await).contains("\"matched\":5"));
}

#[tokio::test(flavor = "multi_thread")]
async fn encodings_and_languages_select_by_what_they_say_and_go_forward_so() {
    let bed = bed(|_| {}).await;
    let ask = |encoding: &'static str, language: &'static str| {
        let bed = &bed;
        async move { bed.get_with("/vary", &[("accept-encoding", encoding), ("accept-language", language)]).await }
    };
    let first = ask("gzip, deflate, br", "DE-de, en").await;
    assert_eq!(body(&first), "/vary|br, gzip|de-de, en", "the origin is asked for what selects the variant");
    assert!(is_hit(&ask("br;q=0.9, gzip", "en, de-DE").await));
    assert!(!is_hit(&ask("gzip", "en, de-DE").await));
    assert!(!is_hit(&ask("br, gzip", "en, de-DE;q=0.5").await));
    assert!(!is_hit(&ask("br, gzip, zstd", "en, de-DE").await));
    assert!(!is_hit(&bed.get_with("/vary", &[("accept-language", "en, de-DE")]).await), "absent is a value of its own");

    let plain = Bed::scripted(echo, |config| {
        config.sites[0].normalise.accept_encoding = false;
        config.sites[0].normalise.accept_language = Languages::Off;
    })
    .await;
    let reply = plain.get_with("/vary", &[("accept-encoding", "gzip, deflate"), ("accept-language", "DE")]).await;
    assert_eq!(body(&reply), "/vary|gzip, deflate|de", "the script sees lower case");
    assert!(!is_hit(
        &plain.get_with("/vary", &[("accept-encoding", "deflate, gzip"), ("accept-language", "DE")]).await
    ));
}

/// An origin whose `No-Vary-Search` can be switched.
async fn searching(rule: Arc<AtomicUsize>) -> Bed {
    const RULES: [&str; 3] = ["", "no-vary-search: params=(\"utm\")\r\n", "no-vary-search: params, except=(\"x\")\r\n"];
    let script = move |head: &str| {
        let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let fields = RULES[rule.load(Ordering::SeqCst)];
        answer(200, &format!("cache-control: max-age=600\r\netag: \"e\"\r\n{fields}"), &target)
    };
    Bed::scripted(script, |_| {}).await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_vary_search_is_learned_per_path_and_forgotten_with_its_rule() {
    let rule = Arc::new(AtomicUsize::new(1));
    let bed = searching(Arc::clone(&rule)).await;
    assert_eq!(body(&bed.get("/a?x=1&utm=1").await), "/a?x=1&utm=1");
    for same in ["/a?x=1", "/a?utm=5&x=1", "/a?x=1&utm=1"] {
        let reply = bed.get(same).await;
        assert_eq!((body(&reply).as_str(), is_hit(&reply)), ("/a?x=1&utm=1", true), "{same}");
    }
    for other in ["/a?x=2", "/a", "/b?x=1", "/a/?x=1"] {
        let reply = bed.get(other).await;
        assert_eq!((body(&reply).as_str(), is_hit(&reply)), (other, false), "{other}");
    }
    // Answers without a rule are for their own URL; those that have one keep theirs.
    rule.store(0, Ordering::SeqCst);
    assert_eq!(body(&bed.get("/a?x=3&utm=1").await), "/a?x=3&utm=1");
    for target in ["/a?x=3", "/a?x=3&utm=2"] {
        assert_eq!(body(&bed.get(target).await), target, "{target}");
    }
    assert!(is_hit(&bed.get("/a?x=3&utm=1").await), "stored under its own URL");
    assert_eq!(body(&bed.get("/a?x=1&utm=7").await), "/a?x=1&utm=1", "its answer said so");
    rule.store(2, Ordering::SeqCst);
    assert_eq!(body(&bed.get("/a?x=9&z=1").await), "/a?x=9&z=1");
    assert_eq!(body(&bed.get("/a?y&x=9").await), "/a?x=9&z=1");
    assert_eq!(body(&bed.get("/a?y&x=8").await), "/a?y&x=8");
    assert_eq!(body(&bed.get("/a?x=1&utm=8").await), "/a?x=1&utm=8", "what the old rule made equal is not any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_comes_back_does_not_bring_back_what_was_purged_meanwhile() {
    let rule = Arc::new(AtomicUsize::new(1));
    let bed = searching(Arc::clone(&rule)).await;
    bed.get("/a?x=1&utm=old").await;
    rule.store(2, Ordering::SeqCst);
    bed.get("/a?x=2").await;
    // Under the second rule, nobody knows of the first one's key.
    bed.purge("/a?x=1").await;
    rule.store(1, Ordering::SeqCst);
    bed.get("/a?x=3").await;
    assert_eq!(body(&bed.get("/a?x=1&utm=new").await), "/a?x=1&utm=new");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_overlaps_the_learning_of_a_rule_invalidates_what_was_stored_under_it() {
    let asked = AtomicUsize::new(0);
    let script = move |_: &str| {
        let place = asked.fetch_add(1, Ordering::SeqCst).to_string();
        answer(200, "cache-control: max-age=600\r\nno-vary-search: params=(\"utm\")\r\n", &place)
    };
    let (origin, gate) = crate::bed::gated("post", script).await;
    let bed = Arc::new(Bed::with(|config| config.sites[0].origins = vec![crate::bed::upstream(origin)]).await);
    let writer = Arc::clone(&bed);
    let post = tokio::spawn(async move {
        let mut post = crate::bed::get("/a?x=1");
        *post.method_mut() = http::Method::POST;
        writer.ask(crate::bed::Speech::H1, post).await
    });
    eventually("the write is on its way", || gate.arrived() == 1).await;
    assert_eq!(body(&bed.get("/a?x=1").await), "1");
    assert!(is_hit(&bed.get("/a?x=1&utm=1").await));
    gate.open();
    assert_eq!(body(&post.await.unwrap()), "0");
    assert_eq!(body(&bed.get("/a?x=1").await), "2", "what was stored before the write is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn urls_that_the_recipe_makes_one_are_one_request_also_while_a_rule_is_new() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let script = move |_: &str| {
        count.fetch_add(1, Ordering::SeqCst);
        answer(200, "cache-control: max-age=600\r\nno-vary-search: key-order\r\n", "page")
    };
    let origin = crate::bed::scripted(std::time::Duration::from_millis(200), script).await;
    let change = |config: &mut nearside_config::Config| {
        config.sites[0].origins = vec![crate::bed::upstream(origin)];
        config.sites[0].key.query_drop = vec!["gclid".parse().unwrap()];
    };
    let bed = Arc::new(Bed::with(change).await);
    let ask = |n: usize| {
        let bed = Arc::clone(&bed);
        tokio::spawn(async move { bed.get(&format!("/a?x=1&gclid={n}")).await.status })
    };
    for task in (0..20).map(ask).collect::<Vec<_>>() {
        assert_eq!(task.await.unwrap(), 200);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_that_went_forward_with_what_does_not_count_answers_no_gets() {
    let script = |head: &str| {
        let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
        answer(200, &format!("cache-control: max-age=600\r\ncontent-location: {target}\r\n"), &target)
    };
    let bed = Bed::scripted(script, |config| config.sites[0].key.query_drop = vec!["utm_*".parse().unwrap()]).await;
    let mut post = crate::bed::get("/a?utm_x=evil");
    *post.method_mut() = http::Method::POST;
    assert_eq!(body(&bed.ask(crate::bed::Speech::H1, post).await), "/a?utm_x=evil");
    assert_eq!(body(&bed.get("/a").await), "/a");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_by_any_of_the_urls_that_are_one_removes_it() {
    let bed = searching(Arc::new(AtomicUsize::new(1))).await;
    bed.get("/a?x=1&utm=1").await;
    assert!(is_hit(&bed.get("/a?x=1").await));
    assert!(body(&bed.purge("/a?x=1&utm=77").await).contains("\"matched\":1"));
    assert!(!is_hit(&bed.get("/a?x=1").await));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_under_a_rule_that_no_longer_holds_gets_an_answer_of_its_own() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let script = move |head: &str| {
        let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let first = count.fetch_add(1, Ordering::SeqCst) == 0;
        let rule = if first { "no-vary-search: params=(\"utm\")\r\n" } else { "" };
        answer(200, &format!("cache-control: max-age=60\r\n{rule}"), &target)
    };
    let origin = crate::bed::scripted(std::time::Duration::from_millis(300), script).await;
    let mut bed = Bed::with(|config| config.sites[0].origins = vec![crate::bed::upstream(origin)]).await;
    bed.get("/a?utm=0").await;
    bed.advance(100);
    // Under the learned rule these are one; the answer says that they are not.
    let bed = Arc::new(bed);
    let ask = |target: &'static str| {
        let bed = Arc::clone(&bed);
        tokio::spawn(async move { (target, bed.get(target).await) })
    };
    let leader = ask("/a?utm=1");
    eventually("the leader has asked", || asked.load(Ordering::SeqCst) == 2).await;
    for waiting in [leader, ask("/a?utm=2"), ask("/a?utm=3")] {
        let (target, reply) = waiting.await.unwrap();
        assert_eq!(body(&reply), target);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_may_ignore_no_vary_search() {
    let script = |head: &str| {
        let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
        answer(200, "cache-control: max-age=600\r\nno-vary-search: params\r\n", &target)
    };
    let bed = Bed::scripted(script, |config| config.sites[0].no_vary_search = false).await;
    for target in ["/a?x=1", "/a?x=2", "/a"] {
        assert_eq!(body(&bed.get(target).await), target);
    }
    assert!(is_hit(&bed.get("/a?x=1").await));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_a_rule_replaces_the_stale_one_that_had_it_and_is_shared() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let script = move |head: &str| {
        let fields = "cache-control: max-age=60, stale-while-revalidate=6000\r\netag: \"e\"\r\n";
        match count.fetch_add(1, Ordering::SeqCst) {
            0 => answer(200, &format!("{fields}no-vary-search: params\r\n"), "old"),
            1 => answer(200, fields, "new"),
            _ if head.contains("if-none-match") => answer(304, fields, ""),
            _ => answer(200, fields, "again"),
        }
    };
    let origin = crate::bed::scripted(std::time::Duration::from_millis(100), script).await;
    let change = |config: &mut nearside_config::Config| config.sites[0].origins = vec![crate::bed::upstream(origin)];
    let mut bed = Bed::with(change).await;
    bed.get("/a?x").await;
    bed.advance(100);
    assert_eq!(body(&bed.get("/a?x").await), "old", "stale while it is refreshed");
    bed.until_idle().await;
    assert_eq!(body(&bed.get("/a?x").await), "new", "not the old one for its whole window");
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    // Its validations are shared, though the path still has a rule.
    bed.advance(10_000);
    let bed = Arc::new(bed);
    let ask = |_| {
        let bed = Arc::clone(&bed);
        tokio::spawn(async move { body(&bed.get("/a?x").await) })
    };
    for task in (0..10).map(ask).collect::<Vec<_>>() {
        assert_eq!(task.await.unwrap(), "new");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_before_a_rule_does_not_come_back_behind_it() {
    let rule = Arc::new(AtomicUsize::new(0));
    let mut bed = searching(Arc::clone(&rule)).await;
    assert_eq!(body(&bed.get("/a?utm=a").await), "/a?utm=a");
    rule.store(1, Ordering::SeqCst);
    bed.advance(1);
    assert_eq!(body(&bed.get("/a?utm=b").await), "/a?utm=b");
    // Purged by another of the URLs that are one.
    bed.purge("/a?utm=c").await;
    let after = bed.get("/a?utm=a").await;
    assert!(!is_hit(&after), "{}", after.cache());
}
