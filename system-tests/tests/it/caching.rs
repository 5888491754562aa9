//! What is stored and for whom: freshness, validation, variants, and requests that try to be taken for one another.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Method;
use nearside_config::SetCookie;
use nearside_node::Clock;

use crate::bed::{Bed, HOST, Speech, answer, eventually, get, get_with};

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_response_is_served_without_asking_and_a_stale_one_is_not() {
    let mut bed = Bed::new().await;
    let path = "/fresh?cc=max-age%3D60";
    assert!(bed.get(path).await.field("age").is_empty(), "no Age on a miss");
    bed.advance(59);
    let hit = bed.get(path).await;
    assert_eq!((hit.field("age"), hit.cache()), ("59", "edge; hit; ttl=1"));
    assert_eq!(bed.asked(path), 1);
    bed.advance(1);
    assert!(bed.get(path).await.cache().contains("fwd="));
    assert_eq!(bed.asked(path), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_date_of_the_origin_survives_on_a_hit() {
    let mut bed = Bed::with_tls().await;
    for speech in [Speech::H1, Speech::H1Tls, Speech::H2] {
        let path = format!("/date-{speech:?}?cc=max-age%3D600");
        let first = bed.ask(speech, get(&path)).await.field("date").to_owned();
        bed.advance(100);
        let hit = bed.ask(speech, get(&path)).await;
        assert_eq!(hit.fields.get_all("date").iter().count(), 1);
        assert_eq!((hit.field("date"), hit.field("age")), (first.as_str(), "100"), "{speech:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_age_that_the_origin_states_counts() {
    let mut bed = Bed::new().await;
    let path = "/aged?cc=max-age%3D60&age=50";
    assert_eq!(bed.get(path).await.field("age"), "50", "what was stated goes through");
    bed.advance(9);
    assert_eq!(bed.get(path).await.field("age"), "59");
    bed.advance(1);
    bed.get(path).await;
    assert_eq!(bed.asked(path), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_response_is_validated_and_the_304_counts_for_later_hits() {
    let mut bed = Bed::new().await;
    let path = "/validated?cc=max-age%3D60&etag=a&size=5000&seed=1";
    let first = bed.get(path).await;
    let sent = bed.origin.ledger().of(path).bytes;
    bed.advance(100);
    let validated = bed.get(path).await;
    assert_eq!((validated.status.as_u16(), &validated.body), (200, &first.body));
    assert!(validated.cache().contains("fwd=stale; fwd-status=304"), "{}", validated.cache());
    assert_eq!(bed.origin.ledger().of(path).bytes, sent, "no body came again");
    bed.advance(30);
    assert!(bed.get(path).await.cache().contains("; hit"));
    assert_eq!(bed.asked(path), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_version_replaces_the_stored_one() {
    let mut bed = Bed::new().await;
    let path = "/changed?cc=max-age%3D60&version";
    assert_eq!(bed.get(path).await.field("x-version"), "1");
    bump(&bed, "/changed").await;
    assert_eq!(bed.get(path).await.field("x-version"), "1", "still fresh");
    bed.advance(61);
    assert_eq!(bed.get(path).await.field("x-version"), "2");
    assert!(bed.get(path).await.cache().contains("; hit"));
}

async fn bump(bed: &Bed, key: &str) {
    let socket = tokio::net::TcpStream::connect(bed.origin.address()).await.unwrap();
    let mut request = get(&format!("/_bump?key={key}"));
    *request.method_mut() = Method::POST;
    crate::bed::send_h1(socket, request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_while_revalidate_serves_at_once_and_refreshes_behind() {
    let mut bed = Bed::new().await;
    let path = "/swr?cc=max-age%3D60,stale-while-revalidate%3D30&version";
    bed.get(path).await;
    bump(&bed, "/swr").await;
    bed.advance(70);
    let stale = bed.get(path).await;
    assert_eq!((stale.field("x-version"), stale.field("age"), stale.cache()), ("1", "70", "edge; hit; ttl=-10"));
    eventually("the refresh reaches the origin", || bed.asked(path) == 2).await;
    for _ in 0..200 {
        if bed.get(path).await.field("x-version") == "2" {
            return;
        }
    }
    panic!("the refreshed version is never served");
}

#[tokio::test(flavor = "multi_thread")]
async fn variants_live_side_by_side_and_are_never_mixed_up() {
    let bed = Bed::new().await;
    let path = "/vary?cc=max-age%3D60&vary=X-Lang&size=100";
    let ask = |lang: &'static str| {
        bed.get_with(
            path,
            if lang.is_empty() {
                &[]
            } else {
                std::slice::from_ref(match lang {
                    "de" => &("x-lang", "de"),
                    "en" => &("x-lang", "en"),
                    _ => &("x-lang", "de, en"),
                })
            },
        )
    };
    let (de, en, none) = (ask("de").await.body, ask("en").await.body, ask("").await.body);
    assert!(de != en && en != none && de != none, "the origin gives each its own");
    for _ in 0..2 {
        assert_eq!(
            (ask("de").await.body, ask("en").await.body, ask("").await.body),
            (de.clone(), en.clone(), none.clone())
        );
    }
    assert!(ask("de").await.cache().contains("; hit"));
    assert!(ask("both").await.cache().contains("fwd=vary-miss"));
    assert_eq!(bed.asked(path), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_clients_of_other_variants_split_off_when_the_head_arrives() {
    let bed = Arc::new(Bed::new().await);
    let path = "/split?cc=max-age%3D60&vary=X-Lang&size=1000&ttfb=200";
    let ask = |n: usize| {
        let bed = Arc::clone(&bed);
        tokio::spawn(async move { (n % 3, bed.get_with(path, &[("x-lang", ["a", "b", "c"][n % 3])]).await.body) })
    };
    let mut seen = vec![None; 3];
    for task in (0..30).map(ask).collect::<Vec<_>>() {
        let (lang, body) = task.await.unwrap();
        assert_eq!(*seen[lang].get_or_insert(body.clone()), body, "variant {lang}");
    }
    assert!(seen[0] != seen[1] && seen[1] != seen[2] && seen[0] != seen[2]);
    assert_eq!(bed.asked(path), 3, "one request a variant");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_differ_never_share_an_answer() {
    let bed = Bed::new().await;
    let cc = "cc=max-age%3D60&header.X-Seen=";
    // Each target and host marks its own answer; whoever gets another's mark was confused with it.
    let all = [
        ("/c", "a.org", ""),
        ("/c", "b.org", ""),
        ("/c", "a.org:8080", ""),
        ("/C", "a.org", ""),
        ("/c/", "a.org", ""),
        ("//c", "a.org", ""),
        ("/x/../c", "a.org", ""),
        ("/%63", "a.org", ""),
        ("/c%2F", "a.org", ""),
        ("/c", "a.org", "&q"),
        ("/c", "a.org", "&q="),
        ("/c", "a.org", "&q&q"),
    ];
    for round in 0..2 {
        for (mark, (path, host, query)) in all.iter().enumerate() {
            let target = format!("{path}?{cc}{mark}{query}");
            let reply = bed.get_with(&target, &[("host", host)]).await;
            assert_eq!(reply.field("x-seen"), mark.to_string(), "{host} {target}");
            assert_eq!(reply.cache().contains("; hit"), round == 1, "{host} {target}: {}", reply.cache());
        }
    }
    // The same URI in other spellings is the same.
    let target = format!("/c?{cc}0");
    for host in ["A.ORG", "a.org:80", "a.org."] {
        assert!(bed.get_with(&target, &[("host", host)]).await.cache().contains("; hit"), "{host}");
    }
    let absolute = format!("GET http://a.org{target} HTTP/1.1\r\nHost: b.org\r\nConnection: close\r\n\r\n");
    assert!(bed.raw(absolute.as_bytes()).await.contains("; hit"), "the authority of the target overrides Host");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_stored_is_not_and_says_why() {
    let bed = Bed::new().await;
    for (path, reason) in [
        ("/n1?cc=no-store", "no-store"),
        ("/n2?cc=private,max-age%3D60", "private"),
        ("/n3?cc=max-age%3D60&set-cookie", "set-cookie"),
        ("/n4?cc=max-age%3D60&vary=*", "vary-all"),
        ("/n5", "no-freshness"),
        ("/n6?cc=max-age%3D0", "useless"),
    ] {
        for _ in 0..3 {
            let reply = bed.get(path).await;
            assert!(reply.cache().contains(&format!("detail={reason}")), "{path}: {}", reply.cache());
        }
        assert_eq!(bed.asked(path), 3, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_wait_for_what_cannot_be_shared_go_forward_at_once() {
    let bed = Arc::new(Bed::new().await);
    let path = "/alone?cc=no-store&ttfb=1000";
    let begin = tokio::time::Instant::now();
    let ask = |_| {
        let bed = Arc::clone(&bed);
        tokio::spawn(async move { bed.get(path).await.status })
    };
    for task in (0..20).map(ask).collect::<Vec<_>>() {
        assert_eq!(task.await.unwrap(), 200);
    }
    // One wait for the leader, one for all others together; one after the other it would be twenty.
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    assert_eq!(bed.asked(path), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn conditional_requests_are_answered_from_what_is_stored() {
    let bed = Bed::with_tls().await;
    for speech in [Speech::H1, Speech::H2] {
        let path = format!("/cond-{speech:?}?cc=max-age%3D60&etag=a&lm=1000&size=10");
        // On a miss too: the cache is filled and answers by itself.
        for _ in 0..2 {
            let reply = bed.ask(speech, get_with(&path, &[("if-none-match", "\"x\", W/\"a\"")])).await;
            assert_eq!((reply.status.as_u16(), reply.body.len()), (304, 0), "{speech:?}");
            assert_eq!((reply.field("etag"), reply.field("cache-control")), ("\"a\"", "max-age=60"));
            assert_eq!((reply.field("content-length"), reply.field("content-type")), ("", ""));
        }
        let other = bed.ask(speech, get_with(&path, &[("if-none-match", "\"b\"")])).await;
        assert_eq!((other.status.as_u16(), other.body.len()), (200, 10));
        assert_eq!(bed.asked(&path), 1);
        let other = bed.ask(speech, get_with(&path, &[("if-match", "\"b\"")])).await;
        assert_eq!((other.status.as_u16(), bed.asked(&path)), (200, 2), "the origin decides, and ignores it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn head_and_get_share_what_is_stored() {
    let bed = Bed::with_tls().await;
    for speech in [Speech::H1, Speech::H2] {
        let path = format!("/head-{speech:?}?cc=max-age%3D60&size=1234");
        let mut head = get(&path);
        *head.method_mut() = Method::HEAD;
        // The first one goes forward as HEAD, the second one fills the cache for all others.
        for (requests, cache) in [(1, "detail=head-only"), (2, "; stored"), (2, "; hit")] {
            let reply = bed.ask(speech, head.clone()).await;
            assert_eq!((reply.status.as_u16(), reply.field("content-length"), reply.body.len()), (200, "1234", 0));
            assert!(reply.cache().contains(cache) && bed.asked(&path) == requests, "{}", reply.cache());
        }
        assert_eq!(bed.ask(speech, get(&path)).await.body.len(), 1234);
        assert_eq!(bed.asked(&path), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_of_the_connection_do_not_travel_and_all_others_do() {
    let bed = Bed::new().await;
    let path = "/fields?cc=max-age%3D60&header.Connection=X-Hop&header.X-Hop=1&header.Keep-Alive=timeout%3D9\
                &header.Proxy-Authenticate=Basic&header.X-Kept=1&header.X-Kept=2&header.Trailer=X";
    for _ in 0..2 {
        let reply = bed.get(path).await;
        for gone in ["connection", "x-hop", "keep-alive", "proxy-authenticate", "trailer", "transfer-encoding"] {
            assert!(!reply.fields.contains_key(gone), "{gone}");
        }
        assert_eq!(reply.fields.get_all("x-kept").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(reply.field("via"), "1.1 edge (nearside)");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_removes_all_variants_and_fences_what_is_on_its_way() {
    let bed = Arc::new(Bed::new().await);
    let path = "/purged?cc=max-age%3D60&version&vary=X-Lang";
    for lang in ["a", "b"] {
        bed.get_with(path, &[("x-lang", lang)]).await;
    }
    let receipt: serde_json::Value = serde_json::from_slice(&bed.purge(path).await.body).unwrap();
    assert_eq!((&receipt["matched"], &receipt["nodes"][0]["state"]), (&2.into(), &"applied".into()));
    assert!(bed.get_with(path, &[("x-lang", "a")]).await.cache().contains("fwd=uri-miss"));

    // A fill that was sent before a purge serves its client, but is not there afterwards.
    let slow = "/fenced?cc=max-age%3D60&size=1000&ttfb=400";
    let waiting = tokio::spawn({
        let bed = Arc::clone(&bed);
        async move { bed.get(slow).await }
    });
    eventually("the fill is under way", || bed.asked(slow) == 1).await;
    bed.purge(slow).await;
    assert_eq!(waiting.await.unwrap().status, 200);
    assert!(bed.get(slow).await.cache().contains("fwd=uri-miss"));
    assert_eq!(bed.asked(slow), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn purges_that_cannot_be_understood_change_nothing() {
    let bed = Bed::with(|config| config.sites[0].hosts = vec![HOST.parse().unwrap()]).await;
    let path = "/safe?cc=max-age%3D60";
    bed.get(path).await;
    for (body, status, code) in [
        ("{", 400, "malformed"),
        ("{}", 422, "nothing-named"),
        ("{\"urls\":[]}", 422, "nothing-named"),
        ("{\"urls\":[\"/safe\"]}", 422, "url"),
        ("{\"urls\":[\"http://other.org/safe\"]}", 422, "unknown-host"),
        ("{\"urls\":[\"http://www.example.org/safe?cc=max-age%3D60\",\"nonsense\"]}", 422, "url"),
        ("{\"urls\":[\"http://www.example.org/\"],\"everything\":true}", 422, "malformed"),
    ] {
        let reply = bed.admin(Method::POST, "/v1/purge", body).await;
        let problem: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!((reply.status.as_u16(), &problem["code"]), (status, &code.into()), "{body}");
        assert_eq!(reply.field("content-type"), "application/problem+json");
    }
    let dry = format!("{{\"urls\":[\"http://{HOST}{path}\"],\"dry_run\":true}}");
    let counted: serde_json::Value =
        serde_json::from_slice(&bed.admin(Method::POST, "/v1/purge", &dry).await.body).unwrap();
    assert_eq!(counted["matched"], 1);
    assert!(bed.get(path).await.cache().contains("; hit"), "nothing was purged");
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_of_a_site_share_what_is_stored_where_one_is_canonical() {
    let bed = Bed::with(|config| config.sites[0].canonical_host = Some("www.example.org".to_owned())).await;
    let path = "/shared?cc=max-age%3D60";
    bed.get_with(path, &[("host", "fra.localhost:8081")]).await;
    assert!(bed.get_with(path, &[("host", "nrt.localhost:8085")]).await.cache().contains("; hit"));
    let echo = bed.get_with("/_echo", &[("host", "nrt.localhost:8085")]).await;
    let text = String::from_utf8(echo.body.to_vec()).unwrap();
    assert!(
        text.contains("www.example.org") && !text.contains("nrt.localhost"),
        "no other spelling gets there: {text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spelling_of_the_host_that_is_not_in_the_key_does_not_reach_the_origin() {
    let bed = Bed::new().await;
    for spelling in ["WWW.Example.ORG", "www.example.org.", "www.example.org:80"] {
        let echo = bed.get_with("/_echo", &[("host", spelling)]).await;
        let seen: serde_json::Value = serde_json::from_slice(&echo.body).unwrap();
        let fields: Vec<(String, String)> = serde_json::from_value(seen["fields"].clone()).unwrap();
        for name in ["host", "x-forwarded-host"] {
            let found = fields.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
            assert_eq!(found, Some(HOST), "{spelling}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_with_a_lifetime_does_not_replace_what_can_still_be_served() {
    for (status, windows) in [
        (500, "max-age=60"),
        (502, "max-age=60, stale-if-error=600"),
        (503, "max-age=60, stale-while-revalidate=600"),
        (504, "max-age=60"),
    ] {
        let is_sick = Arc::new(AtomicBool::new(false));
        let sick = Arc::clone(&is_sick);
        let script = move |_: &str| match sick.load(Ordering::SeqCst) {
            true => answer(status, "cache-control: public, max-age=300\r\n", "sick"),
            false => answer(200, &format!("cache-control: {windows}\r\netag: \"a\"\r\n"), "well"),
        };
        let mut bed = Bed::scripted(script, |_| {}).await;
        bed.get("/a").await;
        is_sick.store(true, Ordering::SeqCst);
        bed.advance(100);
        for place in 0..4 {
            // Also where a client's own request goes forward alone.
            let fields: &[_] = if place == 2 { &[("authorization", "Bearer x")] } else { &[] };
            let reply = bed.get_with("/a", fields).await;
            assert_eq!((reply.status.as_u16(), &reply.body[..]), (200, &b"well"[..]), "{status} {windows} {place}");
            bed.until_idle().await;
        }
        is_sick.store(false, Ordering::SeqCst);
        bed.advance(2);
        bed.get("/a").await;
        bed.until_idle().await;
        assert!(bed.get("/a").await.cache().contains("; hit"), "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_with_a_lifetime_is_stored_where_nothing_else_could_be_served() {
    let bed = Bed::scripted(|_| answer(503, "cache-control: max-age=300\r\n", "sick"), |_| {}).await;
    assert_eq!(bed.get("/a").await.status, 503);
    assert!(bed.get("/a").await.cache().contains("; hit"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wall_clock_that_is_set_back_makes_nothing_fresh_again() {
    let clock = Clock::manual();
    let script = |_: &str| answer(200, "cache-control: max-age=3\r\netag: \"a\"\r\n", "x");
    let mut bed = Bed::scripted_by(clock.clone(), script, |_| {}).await;
    bed.get("/a").await;
    clock.set_wall_back(Duration::from_secs(7200));
    let hit = bed.get("/a").await;
    assert!(hit.cache().ends_with("hit; ttl=3"), "{}", hit.cache());
    bed.advance(4);
    assert!(bed.get("/a").await.cache().contains("fwd=stale"), "its three seconds have passed");
    // What comes now is as old as its own fields say, by the clock that was set.
    let new = bed.get("/b").await;
    assert_eq!(new.field("age"), "");
    assert!(bed.get("/b").await.cache().ends_with("hit; ttl=3"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coded_response_without_vary_is_not_given_to_clients_that_refuse_the_coding() {
    let script = |head: &str| {
        let takes = head.lines().any(|line| line.starts_with("accept-encoding:") && line.contains("gzip"));
        let (fields, body) = if takes { ("content-encoding: gzip\r\n", "coded") } else { ("", "plain") };
        answer(200, &format!("cache-control: max-age=600\r\n{fields}"), body)
    };
    let bed = Bed::scripted(script, |_| {}).await;
    for (encoding, expected) in [("gzip", "coded"), ("identity", "plain"), ("gzip;q=0", "plain"), ("br", "plain")] {
        let reply = bed.get_with("/a", &[("accept-encoding", encoding)]).await;
        assert_eq!(&reply.body[..], expected.as_bytes(), "{encoding}");
    }
    assert_eq!(&bed.get("/a").await.body[..], b"plain");
    for path in ["/b", "/b"] {
        let reply = bed.get_with(path, &[("accept-encoding", "gzip, br")]).await;
        assert_eq!(&reply.body[..], b"coded");
    }
    assert!(bed.get_with("/b", &[("accept-encoding", "br, gzip")]).await.cache().contains("; hit"));
}

#[tokio::test(flavor = "multi_thread")]
async fn cookies_named_by_a_prefix_select_and_set_cookie_can_be_removed() {
    let script = |head: &str| {
        let user = head.split("wordpress_logged_in_").nth(1).unwrap_or("nobody").split(['\r', ';']).next().unwrap();
        let control = if head.contains("/private") { "private" } else { "max-age=600" };
        answer(200, &format!("cache-control: {control}\r\nset-cookie: seen=1\r\n"), user)
    };
    let bed = Bed::scripted(script, |config| {
        config.sites[0].key.cookies = vec!["wordpress_logged_in_*".parse().unwrap()];
        config.sites[0].set_cookie = SetCookie::Remove;
    })
    .await;
    for round in 0..2 {
        for (cookie, expected) in [
            ("wordpress_logged_in_12=ann", "12=ann"),
            ("a=1; wordpress_logged_in_12=bob", "12=bob"),
            ("wordpress_logged_in_13=ann", "13=ann"),
            ("a=1", "nobody"),
            ("xwordpress_logged_in=1", "nobody"),
        ] {
            let reply = bed.get_with("/a", &[("cookie", cookie)]).await;
            assert_eq!(std::str::from_utf8(&reply.body).unwrap(), expected, "{cookie}");
            assert_eq!(reply.field("set-cookie"), "", "{cookie}");
            assert!(round == 0 || reply.cache().contains("; hit"), "{cookie}: {}", reply.cache());
        }
    }
    assert_eq!(bed.get("/private").await.field("set-cookie"), "seen=1", "a login must still work");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_states_no_lifetime_is_fresh_for_minutes_and_not_at_all_for_requests_with_cookies() {
    let script = |_: &str| answer(200, "last-modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n", "x");
    let mut bed = Bed::scripted(script, |_| {}).await;
    bed.get("/repository").await;
    bed.advance(299);
    assert!(bed.get("/repository").await.cache().contains("; hit"));
    bed.advance(2);
    assert!(bed.get("/repository").await.cache().contains("fwd=stale"));
    for _ in 0..2 {
        let reply = bed.get_with("/page", &[("cookie", "session=1")]).await;
        assert!(!reply.cache().contains("; hit"), "{}", reply.cache());
    }
}
