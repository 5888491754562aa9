//! What unsafe requests make useless: URIs and groups, here and at the shield.

use http::Method;

use crate::bed::{Bed, Reply, Speech, answer, get_with};

async fn ask(bed: &Bed, method: &str, path: &str) -> Reply {
    let mut request = get_with(path, &[]);
    *request.method_mut() = Method::from_bytes(method.as_bytes()).unwrap();
    bed.ask(Speech::H1, request).await
}

fn is_hit(reply: &Reply) -> bool {
    reply.cache().contains("; hit")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_success_of_an_unsafe_or_unknown_method_invalidates_the_uri_and_what_it_names() {
    let script = |head: &str| {
        let status = if head.contains("/fails") { 500 } else { 201 };
        if head.starts_with("get") {
            answer(200, "cache-control: max-age=600\r\nvary: x-lang\r\n", "page")
        } else if head.contains("/away") {
            answer(200, "location: http://other.org/other\r\ncontent-location: //www.example.org:81/other\r\n", "")
        } else {
            answer(status, "location: other\r\ncontent-location: http://WWW.example.org:80/third?x\r\n", "")
        }
    };
    let bed = Bed::scripted(script, |_| {}).await;
    for method in ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH"] {
        for path in ["/a/page", "/a/other", "/third?x", "/third", "/other"] {
            bed.get(path).await;
            bed.get_with(path, &[("x-lang", "de")]).await;
            assert!(is_hit(&bed.get(path).await), "{method} {path}");
        }
        ask(&bed, method, "/a/fails").await;
        ask(&bed, method, "/away").await;
        for path in ["/a/page", "/a/other", "/third?x", "/third", "/other"] {
            assert!(is_hit(&bed.get(path).await), "{method}: {path} has nothing to do with it");
        }
        ask(&bed, method, "/a/page").await;
        for (path, gone) in
            [("/a/page", true), ("/a/other", true), ("/third?x", true), ("/third", false), ("/other", false)]
        {
            assert_eq!(!is_hit(&bed.get_with(path, &[("x-lang", "de")]).await), gone, "{method} {path}, every variant");
            assert_eq!(!is_hit(&bed.get(path).await), gone, "{method} {path}");
        }
    }
    bed.get("/safe").await;
    ask(&bed, "OPTIONS", "/safe").await;
    assert!(is_hit(&bed.get("/safe").await), "a safe method");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirection_after_an_unsafe_request_invalidates_its_own_uri_only() {
    let script = |head: &str| match head.starts_with("get") {
        true => answer(200, "cache-control: max-age=600\r\n", "page"),
        false => answer(if head.contains("/made") { 201 } else { 302 }, "location: /\r\ncontent-location: /b\r\n", ""),
    };
    let bed = Bed::scripted(script, |_| {}).await;
    for (path, also) in [("/login", false), ("/made", true)] {
        for page in [path, "/", "/b"] {
            bed.get(page).await;
            assert!(is_hit(&bed.get(page).await), "{page}");
        }
        ask(&bed, "POST", path).await;
        assert!(!is_hit(&bed.get(path).await), "{path}");
        assert_eq!([!is_hit(&bed.get("/").await), !is_hit(&bed.get("/b").await)], [also; 2], "{path}");
    }
}

fn grouped(head: &str) -> String {
    let groups = if head.contains("/ab") {
        "cache-groups: \"a\", \"b\"\r\n"
    } else if head.contains("/b") {
        "cache-groups: \"b\"\r\n"
    } else {
        ""
    };
    if head.starts_with("get") {
        answer(200, &format!("cache-control: max-age=600\r\n{groups}"), "page")
    } else {
        answer(200, "cache-group-invalidation: \"a\", \"unknown\"\r\n", "")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9875_a_group_goes_together_within_its_origin() {
    let bed = Bed::scripted(grouped, |_| {}).await;
    for round in 0..3 {
        for path in ["/ab1", "/ab2", "/b", "/none"] {
            bed.get(path).await;
            assert!(is_hit(&bed.get(path).await), "{round} {path}");
        }
        let other = bed.get_with("/ab1", &[("host", "other.org")]).await;
        assert_eq!(is_hit(&other), round > 0, "the same name at another origin is another group");
        ask(&bed, "POST", "/elsewhere").await;
        for (path, gone) in [("/ab1", true), ("/ab2", true), ("/b", false), ("/none", false)] {
            assert_eq!(!is_hit(&bed.get(path).await), gone, "{round} {path}");
        }
    }
    // "MUST be ignored" on the answer to a safe request.
    let script = |_: &str| {
        answer(200, "cache-control: max-age=600\r\ncache-groups: \"a\"\r\ncache-group-invalidation: \"a\"\r\n", "")
    };
    let bed = Bed::scripted(script, |_| {}).await;
    bed.get("/one").await;
    bed.get("/two").await;
    assert!(is_hit(&bed.get("/one").await));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_on_its_way_while_its_group_is_invalidated_is_not_used_again() {
    let bed = std::sync::Arc::new(Bed::with(|_| {}).await);
    let slow = "/slow?cc=max-age%3D600&header.Cache-Groups=%22g%22&ttfb=400";
    let waiting = tokio::spawn({
        let bed = std::sync::Arc::clone(&bed);
        async move { bed.get(slow).await }
    });
    crate::bed::eventually("the fill is under way", || bed.asked(slow) == 1).await;
    ask(&bed, "POST", "/x?header.Cache-Group-Invalidation=%22g%22").await;
    // One who comes now may wait for the answer that is on its way, but does not get it.
    let later = bed.get(slow).await;
    assert!(!later.cache().contains("collapsed"), "{}", later.cache());
    assert_eq!(waiting.await.unwrap().status, 200);
    assert_eq!(bed.asked(slow), 2);
    assert!(is_hit(&bed.get(slow).await), "the later answer is stored, the earlier one is not");

    // What has been invalidated is asked for once, however many want it.
    ask(&bed, "POST", "/x?header.Cache-Group-Invalidation=%22g%22").await;
    let clients: Vec<_> = (0..20)
        .map(|_| {
            let bed = std::sync::Arc::clone(&bed);
            tokio::spawn(async move { bed.get(slow).await.status })
        })
        .collect();
    for client in clients {
        assert_eq!(client.await.unwrap(), 200);
    }
    assert_eq!(bed.asked(slow), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9110_s9_3_3_the_answer_to_a_post_may_answer_later_gets() {
    let script = |head: &str| {
        let own = if head.contains("/own") { "content-location: /own?q\r\n" } else { "content-location: /else\r\n" };
        match head.starts_with("get") {
            true => answer(200, "cache-control: max-age=600\r\n", "from get"),
            false => {
                let fields = format!("cache-control: max-age=600\r\nx-from: post\r\n{own}");
                let vary = if head.contains("accept-encoding") { "vary: accept-encoding\r\n" } else { "" };
                answer(200, &format!("{fields}{vary}"), "from post")
            }
        }
    };
    let bed = Bed::scripted(script, |_| {}).await;
    assert_eq!(bed.get("/own?q").await.body, "from get");
    let posted = ask(&bed, "POST", "/own?q").await;
    assert_eq!(
        (&posted.body[..], posted.cache()),
        (&b"from post"[..], "edge; fwd=method; fwd-status=200; stored; ttl=600")
    );
    let hit = bed.get("/own?q").await;
    assert_eq!((&hit.body[..], hit.field("x-from"), is_hit(&hit)), (&b"from post"[..], "post", true));
    // Browsers and tools send more codings than are told apart; that keeps nobody from it.
    let mut post = get_with("/own?q", &[("accept-encoding", "gzip, deflate")]);
    *post.method_mut() = Method::POST;
    assert!(bed.ask(Speech::H1, post).await.cache().contains("stored"));
    assert!(is_hit(&bed.get_with("/own?q", &[("accept-encoding", "gzip, deflate")]).await));
    // The next one replaces it, and an answer for another URI is not stored.
    ask(&bed, "PUT", "/own?q").await;
    assert_eq!(bed.get("/own?q").await.body, "from get");
    ask(&bed, "POST", "/other").await;
    assert_eq!(bed.get("/other").await.body, "from get");
    let metrics = bed.admin(Method::GET, "/metrics", "").await.body;
    assert!(String::from_utf8_lossy(&metrics).contains("nearside_fills_in_flight 0"));
}
