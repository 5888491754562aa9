//! Two tiers: what travels through both, who is asked, and who may enter.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nearside_config::{Cache, Config, Fallback, Role};
use nearside_node::{Clock, Node};
use nearside_origin_sim::OriginSim;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::bed::{
    Bed, Link, Reply, Speech, answer, config, eventually, get, get_from, get_with, loopback, read, scripted, secret,
    send_h1, upstream,
};

struct Tiers {
    bed: Bed,
    shields: Vec<Option<Node>>,
}

impl Tiers {
    /// Two shields in front of the origin of an edge that knows both.
    async fn new() -> Self {
        let origin = OriginSim::start(loopback()).await.unwrap();
        let address = origin.address();
        Self::before(origin, address)
    }

    /// The same before an origin that answers what `script` makes of a head.
    async fn scripted(script: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let origin = scripted(Duration::ZERO, script).await;
        Self::before(OriginSim::start(loopback()).await.unwrap(), origin)
    }

    fn before(sim: OriginSim, origin: SocketAddr) -> Self {
        Self::all(sim, origin, |_| {})
    }

    /// The same with a change to every node.
    fn all(sim: OriginSim, origin: SocketAddr, change: impl Fn(&mut Config)) -> Self {
        let clock = Clock::manual();
        let shield = |id: &str| {
            let mut config = config(Role::Shield { secret: Some(secret()) }, vec![upstream(origin)]);
            config.id = id.parse().unwrap();
            config.cache = Cache::of(16 << 20);
            config.sites[0].server_timing = true;
            change(&mut config);
            nearside_shield::start(config, clock.clone()).unwrap()
        };
        let shields = vec![shield("shield-a"), shield("shield-b")];
        let addresses: Vec<_> = shields.iter().map(|shield| upstream(shield.addresses()[0])).collect();
        let bed = Bed::before(sim, clock, |config| {
            config.sites[0].origins = vec![upstream(origin)];
            config.role = Role::Edge { shields: addresses, secret: Some(secret()), fallback: Fallback::Origin };
            change(config);
        });
        Self { bed, shields: shields.into_iter().map(Some).collect() }
    }

    /// The same with a new edge that knows the first shield only.
    fn with_one_shield(mut self) -> Self {
        self.shields.truncate(1);
        let only = upstream(self.address(0));
        self.bed = self.bed.again(|config| {
            config.role = Role::Edge { shields: vec![only], secret: Some(secret()), fallback: Fallback::Origin };
        });
        self
    }

    /// The same with a new edge that reaches each shield over a link, which can be cut.
    async fn over_links(mut self) -> (Self, [Link; 2]) {
        let links = [Link::to(self.address(0)).await, Link::to(self.address(1)).await];
        let shields = links.each_ref().map(|link| upstream(link.address)).to_vec();
        self.bed = self.bed.again(|config| {
            config.role = Role::Edge { shields, secret: Some(secret()), fallback: Fallback::None };
        });
        (self, links)
    }

    fn address(&self, shield: usize) -> SocketAddr {
        self.shields[shield].as_ref().unwrap().addresses()[0]
    }
}

fn fields(reply: &Reply) -> Vec<(String, String)> {
    let echo: Value = serde_json::from_slice(&reply.body).unwrap();
    serde_json::from_value(echo["fields"].clone()).unwrap()
}

fn field<'f>(fields: &'f [(String, String)], name: &str) -> &'f str {
    fields.iter().find(|(other, _)| other == name).map_or("", |(_, value)| value)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_miss_goes_through_its_shield_and_both_tiers_say_so() {
    let tiers = Tiers::new().await;
    let path = "/two?cc=max-age%3D60&size=100&seed=1";
    let reply = tiers.bed.get(path).await;
    let said: Vec<&str> = reply.cache().split(", ").collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].starts_with("shield-") && said[0].contains("fwd=uri-miss; fwd-status=200; stored"), "{said:?}");
    assert!(said[1].starts_with("edge; fwd=uri-miss"), "{said:?}");
    assert!(reply.field("via").contains("shield-") && reply.field("via").ends_with("1.1 edge (nearside)"));
    assert_eq!(reply.field("age"), "");
    // The edge forgets; the shield still has it, and its age goes on.
    tiers.bed.purge(path).await;
    let again = tiers.bed.get(path).await;
    assert!(again.cache().contains("; hit") && again.cache().contains("edge; fwd=uri-miss"), "{}", again.cache());
    assert_eq!((again.body, tiers.bed.asked(path)), (reply.body, 1));
}

/// A line of `Server-Timing`: names of metrics and their milliseconds.
type Timing<'r> = Vec<(&'r str, Option<f64>)>;

fn timings(reply: &Reply) -> Vec<Timing<'_>> {
    let lines = reply.fields.get_all("server-timing").iter().map(|line| line.to_str().unwrap());
    lines.map(|line| line.split(", ").map(metric).collect()).collect()
}

fn metric(member: &str) -> (&str, Option<f64>) {
    let (name, parameters) = member.split_once(';').unwrap();
    (name, parameters.split_once("dur=").map(|(_, milliseconds)| milliseconds.parse().unwrap()))
}

fn names<'r>(line: &Timing<'r>) -> Vec<&'r str> {
    line.iter().map(|(name, _)| *name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn server_timing_tells_where_the_time_went_and_is_not_stored() {
    let script =
        |_: &str| answer(200, "cache-control: max-age=60\r\nserver-timing: db;dur=53\r\netag: \"a\"\r\n", "page");
    // The only real time that passes here; nothing but its lower bound is looked at.
    let origin = scripted(Duration::from_millis(20), script).await;
    let mut tiers = Tiers::before(OriginSim::start(loopback()).await.unwrap(), origin);
    let silent = tiers.bed.get("/").await;
    assert_eq!(timings(&silent), [[("db", Some(53.0))]], "an edge whose site does not want it");
    tiers.bed = tiers.bed.again(|config| {
        config.sites[0].server_timing = true;
        config.city = Some("São Paulo".to_owned());
    });
    for (path, behind) in [("/other", &["edge", "shield", "origin"][..]), ("/", &["edge", "shield"])] {
        let forwarded = tiers.bed.get(path).await;
        let [of_origin, own] = &timings(&forwarded)[..] else { panic!("{:?}", forwarded.fields) };
        assert_eq!(of_origin[..], [("db", Some(53.0))], "the origin's own stays");
        assert_eq!((own[0], &names(own)[1..]), (("cdn-cache", None), behind), "{path}");
        let times: Vec<_> = own[1..].iter().map(|(_, time)| time.unwrap()).collect();
        assert!(times.is_sorted_by(|outer, inner| outer >= inner), "each waits for the next: {times:?}");
        assert!(times.get(2).is_none_or(|origin| *origin >= 20.0), "{times:?}");
        let hit = tiers.bed.get(path).await;
        let [of_origin, own] = &timings(&hit)[..] else { panic!("{:?}", hit.fields) };
        assert_eq!((of_origin.len(), own.len(), own[1].0), (1, 2, "edge"), "a hit waits for nobody");
        let mut lines = hit.fields.get_all("server-timing").iter().map(|line| line.to_str().unwrap());
        assert!(lines.next_back().unwrap().contains("(Sao Paulo)"), "transliterated to ASCII: {:?}", hit.fields);
    }
    tiers.bed.advance(61);
    let validated = tiers.bed.get("/other").await;
    assert_eq!(names(timings(&validated).last().unwrap()), ["cdn-cache", "edge", "shield", "origin"]);
    // Straight from the origin.
    tiers.bed = tiers.bed.again(|config| config.role = crate::bed::edge_role());
    let direct = tiers.bed.get("/direct").await;
    assert_eq!(names(&timings(&direct)[1]), ["cdn-cache", "edge", "origin"]);
    let mut post = get("/direct");
    *post.method_mut() = http::Method::POST;
    let passed = tiers.bed.ask(Speech::H1, post).await;
    assert_eq!(names(&timings(&passed)[1]), ["cdn-cache", "edge", "origin"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_and_the_way_are_told_to_the_origin_and_lies_are_not() {
    let tiers = Tiers::new().await;
    let lies = [
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-proto", "gopher"),
        ("x-forwarded-host", "evil.org"),
        ("nearside-secret", "guess"),
        ("via", "1.0 before"),
        ("cdn-loop", "other"),
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("x-kept", "1"),
    ];
    let reply = tiers.bed.get_with("/_echo", &lies).await;
    let seen = fields(&reply);
    assert_eq!(field(&seen, "x-forwarded-for"), "127.0.0.1, 127.0.0.1", "the client, then the edge");
    assert_eq!(field(&seen, "x-forwarded-proto"), "http");
    assert_eq!(field(&seen, "x-forwarded-host"), crate::bed::HOST);
    assert_eq!(field(&seen, "host"), crate::bed::HOST);
    assert_eq!(field(&seen, "nearside-secret"), "", "the secret stays between the tiers");
    assert!(field(&seen, "via").starts_with("1.0 before, 1.1 edge (nearside), 1.1 shield-"), "{seen:?}");
    assert!(field(&seen, "cdn-loop").starts_with("other, edge, shield-"), "{seen:?}");
    assert_eq!((field(&seen, "x-hop"), field(&seen, "x-kept")), ("", "1"));
    assert!(!seen.iter().any(|(_, value)| value.contains(secret().reveal())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_goes_through_both_tiers_each_of_which_is_a_span_of_its_own() {
    let tiers = Tiers::new().await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let given = format!("00-{trace}-00f067aa0ba902b7-01");
    for (sent, same) in [(&[("traceparent", given.as_str()), ("tracestate", "v=1")][..], true), (&[], false)] {
        let reply = tiers.bed.get_with("/_echo", sent).await;
        let seen = fields(&reply);
        let parts: Vec<_> = field(&seen, "traceparent").split('-').collect();
        let [version, id, parent, _flags] = parts[..] else { panic!("{seen:?}") };
        assert_eq!((version, id == trace, id.len(), parent.len()), ("00", same, 32, 16), "{seen:?}");
        assert_ne!(parent, "00f067aa0ba902b7", "the parent is a node");
        assert_eq!(field(&seen, "tracestate"), if same { "v=1" } else { "" });
    }
}

/// A collector of OpenTelemetry: its address, and the spans that it gets, each with the name of who sent it.
async fn collector() -> (SocketAddr, mpsc::UnboundedReceiver<(String, Value)>) {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, spans) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut message = Vec::new();
            let end = loop {
                stream.read_buf(&mut message).await.unwrap();
                if let Some(end) = message.windows(4).position(|four| four == b"\r\n\r\n") {
                    break end + 4;
                }
            };
            let head = String::from_utf8_lossy(&message[..end]).to_ascii_lowercase();
            assert!(
                head.starts_with("post /v1/traces http/1.1") && head.contains("content-type: application/json"),
                "{head}"
            );
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            while message.len() < end + length.trim().parse::<usize>().unwrap() {
                stream.read_buf(&mut message).await.unwrap();
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}").await.unwrap();
            let message: Value = serde_json::from_slice(&message[end..]).unwrap();
            let resource = &message["resourceSpans"][0];
            let who = attribute(&resource["resource"], "service.instance.id");
            for span in resource["scopeSpans"][0]["spans"].as_array().unwrap() {
                let _ = sender.send((who.clone(), span.clone()));
            }
        }
    });
    (address, spans)
}

/// An attribute of a span or a resource.
fn attribute(of: &Value, key: &str) -> String {
    let attributes = of["attributes"].as_array().unwrap();
    let found = attributes.iter().find(|attribute| attribute["key"] == key).map(|attribute| &attribute["value"]);
    let value = found.and_then(|value| value.as_object()?.values().next()?.as_str());
    value.unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_shows_both_tiers_and_the_origin_with_the_verdict_of_each() {
    let (address, mut spans) = collector().await;
    let sim = OriginSim::start(loopback()).await.unwrap();
    let origin = sim.address();
    let tiers = Tiers::all(sim, origin, |config| config.traces.otlp = Some(upstream(address)));
    let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let sampled = format!("00-{trace}-{parent}-01");
    let path = "/traced?cc=max-age%3D60&token=secret";
    tiers.bed.get_with(path, &[("traceparent", &sampled)]).await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(tokio::time::timeout(Duration::from_secs(20), spans.recv()).await.unwrap().unwrap());
    }
    let text = |span: &Value, key: &str| span[key].as_str().unwrap_or_default().to_owned();
    let below = |parent: &str| {
        let found = seen.iter().find(|(_, span)| text(span, "parentSpanId") == parent);
        found.unwrap_or_else(|| panic!("nothing is below {parent}: {seen:?}")).clone()
    };
    let (edge, at_edge) = below(parent);
    let (_, to_shield) = below(&text(&at_edge, "spanId"));
    let (shield, at_shield) = below(&text(&to_shield, "spanId"));
    let (_, to_origin) = below(&text(&at_shield, "spanId"));
    assert!(edge == "edge" && shield.starts_with("shield-"), "{edge} {shield}");
    for (span, kind) in [(&at_edge, 2), (&to_shield, 3), (&at_shield, 2), (&to_origin, 3)] {
        assert_eq!((text(span, "traceId").as_str(), span["kind"].as_u64()), (trace, Some(kind)), "{span}");
        let nanos = |key: &str| text(span, key).parse::<u64>().unwrap();
        assert!(
            nanos("startTimeUnixNano") <= nanos("endTimeUnixNano") && !span.to_string().contains("secret"),
            "{span}"
        );
    }
    let verdict = |span: &Value| [attribute(span, "nearside.cache"), attribute(span, "nearside.reason")];
    assert_eq!(
        (verdict(&at_edge), verdict(&at_shield)),
        (["miss", "uri-miss"].map(str::to_owned), ["miss", "uri-miss"].map(str::to_owned))
    );
    assert_eq!(attribute(&to_origin, "server.address"), format!("http://{origin}"));
    assert_eq!(attribute(&at_edge, "http.response.status_code"), "200");

    // What is not sampled leaves no span; a hit is a span by itself.
    tiers.bed.get_with(path, &[("traceparent", &format!("00-{trace}-{parent}-00"))]).await;
    tiers.bed.get_with(path, &[("traceparent", &sampled)]).await;
    let (_, hit) = tokio::time::timeout(Duration::from_secs(20), spans.recv()).await.unwrap().unwrap();
    assert_eq!((verdict(&hit), text(&hit, "parentSpanId").as_str()), (["hit", "fresh"].map(str::to_owned), parent));
    drop(tiers);
    assert!(spans.try_recv().is_err(), "no others");
}

#[tokio::test(flavor = "multi_thread")]
async fn age_adds_up_and_freshness_is_not_restarted() {
    let mut tiers = Tiers::new().await;
    let path = "/ages?cc=max-age%3D60&age=10";
    assert_eq!(tiers.bed.get(path).await.field("age"), "10");
    tiers.bed.advance(20);
    tiers.bed.purge(path).await;
    let from_shield = tiers.bed.get(path).await;
    assert_eq!(from_shield.field("age"), "30", "{}", from_shield.cache());
    tiers.bed.advance(29);
    let hit = tiers.bed.get(path).await;
    assert_eq!((hit.field("age"), tiers.bed.asked(path)), ("59", 1));
    tiers.bed.advance(1);
    tiers.bed.get(path).await;
    assert_eq!(tiers.bed.asked(path), 2, "sixty seconds, however many caches");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_spread_over_the_shields_and_stay_with_theirs() {
    let tiers = Tiers::new().await;
    let mut owners = std::collections::BTreeMap::new();
    for n in 0..40 {
        let reply = tiers.bed.get(&format!("/spread{n}?cc=max-age%3D60")).await;
        let owner = reply.cache().split(';').next().unwrap().to_owned();
        *owners.entry(owner).or_insert(0) += 1;
    }
    assert_eq!(owners.len(), 2, "{owners:?}");
    assert!(owners.values().all(|share| *share >= 8), "{owners:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_shield_is_gone_the_other_answers_and_without_any_the_origin() {
    let mut tiers = Tiers::new().await;
    let stop = |node: Option<Node>| tokio::task::spawn_blocking(move || node.unwrap().stop());
    stop(tiers.shields[0].take()).await.unwrap();
    for n in 0..10 {
        let reply = tiers.bed.get(&format!("/one-left{n}?cc=max-age%3D60")).await;
        assert_eq!(reply.status, 200);
        assert!(reply.cache().starts_with("shield-b; fwd=uri-miss"), "{}", reply.cache());
    }
    stop(tiers.shields[1].take()).await.unwrap();
    for n in 0..3 {
        let reply = tiers.bed.get(&format!("/none-left{n}?cc=max-age%3D60")).await;
        assert_eq!(reply.status, 200);
        assert!(reply.cache().starts_with("edge; fwd=uri-miss"), "{}", reply.cache());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_whose_shield_dies_goes_on_at_the_other() {
    let mut tiers = Tiers::new().await;
    let path = "/dies?cc=max-age%3D60&etag=a&size=400000&seed=5&rate=800000";
    let mut response = tiers.bed.send(Speech::H1, get(path)).await.unwrap();
    let owner = usize::from(!response.headers()["cache-status"].to_str().unwrap().starts_with("shield-a"));
    let mut body = Vec::new();
    while let Some(frame) = http_body_util::BodyExt::frame(response.body_mut()).await {
        body.extend_from_slice(&frame.expect("no cut").into_data().unwrap());
        if let Some(shield) = tiers.shields[owner].take() {
            // Without a drain: all its connections are cut.
            tokio::task::spawn_blocking(move || drop(shield)).await.unwrap();
        }
    }
    assert_eq!((body.len(), nearside_origin_sim::body::differs(5, 0, &body)), (400_000, None));
    tiers.bed.until_metric("nearside_fill_resumes_total{result=\"resumed\"} 1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_whose_link_is_cut_goes_on_over_the_other() {
    let (tiers, links) = Tiers::new().await.over_links().await;
    let path = "/link?cc=max-age%3D60&etag=a&size=400000&seed=5&rate=800000";
    let mut response = tiers.bed.send(Speech::H1, get(path)).await.unwrap();
    let owner = usize::from(!response.headers()["cache-status"].to_str().unwrap().starts_with("shield-a"));
    let mut body = Vec::new();
    while let Some(frame) = http_body_util::BodyExt::frame(response.body_mut()).await {
        body.extend_from_slice(&frame.expect("no cut").into_data().unwrap());
        links[owner].cut.send_replace(true);
    }
    assert_eq!((body.len(), nearside_origin_sim::body::differs(5, 0, &body)), (400_000, None));
    tiers.bed.until_metric("nearside_fill_resumes_total{result=\"resumed\"} 1").await;
    // All keys are the other's now.
    for n in 0..10 {
        assert_eq!(tiers.bed.get(&format!("/after{n}?size=5")).await.body.len(), 5);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_brings_something_fresh_through_both_tiers_with_one_request_to_the_origin() {
    let mut tiers = Tiers::new().await;
    let path = "/swr?cc=max-age%3D60,stale-while-revalidate%3D600&size=100&seed=1&etag=a";
    tiers.bed.get(path).await;
    tiers.bed.advance(100);
    let stale = tiers.bed.get(path).await;
    assert!(stale.cache().contains("edge; hit; ttl=-40"), "{}", stale.cache());
    tiers.bed.until_idle().await;
    let fresh = tiers.bed.get(path).await;
    assert!(
        fresh.cache().contains("edge; hit; ttl=60"),
        "the shield has not answered with its stale one: {}",
        fresh.cache()
    );
    assert_eq!(tiers.bed.asked(path), 2);
    // A client can say nothing of the kind.
    tiers.bed.advance(100);
    let reply = tiers.bed.get_with(path, &[("nearside-refresh", "1")]).await;
    assert!(reply.cache().contains("edge; hit; ttl=-40"), "{}", reply.cache());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shield_remembers_a_refresh_in_vain_whichever_edge_asks() {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let mut tiers = Tiers::scripted(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => answer(200, "cache-control: max-age=60, stale-while-revalidate=600\r\n", "old"),
        _ => answer(503, "", "down"),
    })
    .await;
    let shield = tiers.address(0);
    let ask = async || {
        let stream = TcpStream::connect(shield).await.unwrap();
        let fields = [("nearside-secret", secret().reveal().to_owned()), ("nearside-refresh", "1".to_owned())];
        let fields = fields.each_ref().map(|(name, value)| (*name, value.as_str()));
        let reply = read(send_h1(stream, get_with("/vain", &fields)).await.unwrap()).await.unwrap();
        assert_eq!((reply.status.as_u16(), &reply.body[..]), (200, &b"old"[..]), "{}", reply.cache());
    };
    ask().await;
    tiers.bed.advance(100);
    for _ in 0..6 {
        ask().await;
    }
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    tiers.bed.advance(2);
    ask().await;
    assert_eq!(calls.load(Ordering::SeqCst), 3, "but later");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shield_answers_only_those_who_show_the_secret() {
    let tiers = Tiers::new().await;
    let refused = get_from(tiers.address(0), "/private?cc=max-age%3D60").await;
    assert_eq!(refused.status, 403);
    assert!(refused.cache().contains("detail=edge-secret"), "{}", refused.cache());
    assert_eq!(tiers.bed.asked("/private?cc=max-age%3D60"), 0);

    let open = config(Role::Shield { secret: None }, vec![upstream(tiers.bed.origin.address())]);
    let open = nearside_shield::start(open, Clock::System).unwrap();
    assert_eq!(get_from(open.addresses()[0], "/public").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn http_and_https_are_different_keys_on_both_tiers() {
    let tiers = Tiers::new().await;
    // An edge behind TLS tells the shield by X-Forwarded-Proto; here it is told by hand to an open shield.
    let open = config(Role::Shield { secret: None }, vec![upstream(tiers.bed.origin.address())]);
    let open = nearside_shield::start(open, Clock::System).unwrap();
    let path = "/scheme?cc=max-age%3D60";
    let ask = |scheme: &'static str| {
        let address = open.addresses()[0];
        async move {
            let socket = TcpStream::connect(address).await.unwrap();
            let request = get_with(path, &[("x-forwarded-proto", scheme)]);
            read(send_h1(socket, request).await.unwrap()).await.unwrap()
        }
    };
    assert!(ask("http").await.cache().contains("uri-miss"));
    assert!(ask("https").await.cache().contains("uri-miss"));
    assert!(ask("http").await.cache().contains("; hit") && ask("https").await.cache().contains("; hit"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_304_with_new_fields_reaches_the_client_and_later_hits_through_both_tiers() {
    let version = Arc::new(AtomicUsize::new(1));
    let now = Arc::clone(&version);
    let script = move |head: &str| {
        let version = now.load(Ordering::SeqCst);
        let fields = format!(
            "etag: \"a\"\r\ncache-control: max-age=60\r\nx-version: {version}\r\ncontent-type: text/v{version}\r\n"
        );
        if head.contains("if-none-match: \"a\"") { answer(304, &fields, "") } else { answer(200, &fields, "page") }
    };
    let mut tiers = Tiers::scripted(script).await;
    tiers.bed.get("/").await;
    version.store(2, Ordering::SeqCst);
    tiers.bed.advance(100);
    for round in ["validated", "a hit"] {
        let reply = tiers.bed.get("/").await;
        assert_eq!((reply.field("x-version"), reply.field("content-type")), ("2", "text/v2"), "{round}");
        assert_eq!((&reply.body[..], reply.cache().contains("; hit")), (&b"page"[..], round == "a hit"), "{round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conditional_of_the_edge_is_answered_by_what_the_shield_has() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let script = move |_: &str| {
        count.fetch_add(1, Ordering::SeqCst);
        answer(200, "etag: \"a\"\r\ncache-control: max-age=60\r\ncdn-cache-control: max-age=600\r\n", "page")
    };
    let mut tiers = Tiers::scripted(script).await;
    // The edge goes by Cache-Control alone, so that what it has is stale while the shield's is fresh.
    tiers.bed = tiers.bed.again(|config| config.sites[0].targeted_fields = Vec::new());
    tiers.bed.get("/").await;
    tiers.bed.advance(100);
    let validated = tiers.bed.get("/").await;
    assert_eq!((validated.status.as_u16(), &validated.body[..]), (200, &b"page"[..]));
    assert!(validated.cache().contains("edge; fwd=stale; fwd-status=304"), "{}", validated.cache());
    assert_eq!((validated.field("age"), asked.load(Ordering::SeqCst)), ("100", 1), "its age goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_windows_are_not_added_up() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let script = move |_: &str| {
        let version = count.fetch_add(1, Ordering::SeqCst);
        answer(
            200,
            &format!("cache-control: max-age=60, stale-while-revalidate=30\r\nx-version: {version}\r\n"),
            "page",
        )
    };
    let mut tiers = Tiers::scripted(script).await;
    tiers.bed.get("/").await;
    // The edge forgets it; the shield may serve it stale until 90 seconds, and so may an edge that got it from there.
    tiers.bed.advance(80);
    tiers.bed.purge("/").await;
    let from_shield = tiers.bed.get("/").await;
    assert_eq!((from_shield.field("x-version"), from_shield.field("age")), ("0", "80"));
    eventually("the shield refreshes", || asked.load(Ordering::SeqCst) == 2).await;
    tiers.bed.advance(20);
    let after = tiers.bed.get("/").await;
    assert_eq!(after.field("x-version"), "1", "100 seconds are too old anywhere: {}", after.cache());
    // And never on error beyond the origin's own word.
    let script = |head: &str| match head.contains("get /") {
        true if head.contains("if-none-match") => String::new(),
        _ => answer(200, "cache-control: max-age=60, stale-if-error=30\r\netag: \"a\"\r\n", "page"),
    };
    let mut tiers = Tiers::scripted(script).await;
    tiers.bed.get("/").await;
    tiers.bed.advance(89);
    let stale = tiers.bed.get("/").await;
    assert_eq!((stale.status.as_u16(), stale.field("age")), (200, "89"), "{}", stale.cache());
    tiers.bed.advance(1);
    assert_eq!(tiers.bed.get("/").await.status, 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_reach_the_edge_and_a_soft_purge_of_the_shield_gives_it_nothing_fresh() {
    let mut tiers = Tiers::new().await.with_one_shield();
    let path = "/soft?cc=max-age%3D600,stale-while-revalidate%3D600&etag=a&tag=one+two";
    assert_eq!(tiers.bed.get(path).await.field("surrogate-key"), "", "not to clients");
    tiers.bed.advance(10);
    let admin = tiers.shields[0].as_ref().unwrap().admin_address().unwrap();
    let soft = r#"{"tags":["two"],"soft":true}"#;
    let socket = TcpStream::connect(admin).await.unwrap();
    let request =
        http::Request::post("/v1/purge").header("host", "127.0.0.1").header("content-type", "application/json");
    let request = request.body(http_body_util::Full::new(soft.into())).unwrap();
    let receipt: Value =
        serde_json::from_slice(&read(send_h1(socket, request).await.unwrap()).await.unwrap().body).unwrap();
    assert_eq!(receipt["matched"], 1, "{receipt}");
    let receipt = tiers.bed.order(serde_json::json!({"tags": ["two"]})).await;
    assert_eq!(receipt["matched"], 1, "the edge knows its tags: {receipt}");
    // The shield has something stale that it may serve, and does; it is not taken for fresh.
    let reply = tiers.bed.get(path).await;
    assert!(reply.cache().contains("ttl=0") && !reply.cache().contains("ttl=600"), "{}", reply.cache());
    // Whoever comes next gets it refreshed, through the shield.
    tiers.bed.get(path).await;
    tiers.bed.until_idle().await;
    let fresh = tiers.bed.get(path).await;
    assert!(fresh.cache().contains("edge; hit; ttl=600"), "{}", fresh.cache());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_post_invalidates_is_gone_on_both_tiers() {
    let version = Arc::new(AtomicUsize::new(0));
    let now = Arc::clone(&version);
    let script = move |head: &str| {
        if head.starts_with("post") {
            now.fetch_add(1, Ordering::SeqCst);
            return answer(200, "cache-group-invalidation: \"g\"\r\n", "");
        }
        let version = now.load(Ordering::SeqCst);
        answer(200, &format!("cache-control: max-age=600\r\ncache-groups: \"g\"\r\nx-version: {version}\r\n"), "page")
    };
    // One shield: what a POST names at another shield waits for purges that reach all nodes.
    let tiers = Tiers::scripted(script).await.with_one_shield();
    for path in ["/target", "/member"] {
        assert_eq!(tiers.bed.get(path).await.field("x-version"), "0");
    }
    let mut post = get("/target");
    *post.method_mut() = http::Method::POST;
    tiers.bed.ask(Speech::H1, post).await;
    for path in ["/target", "/member"] {
        let reply = tiers.bed.get(path).await;
        assert_eq!(reply.field("x-version"), "1", "{path}: {}", reply.cache());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn interim_answers_parts_and_rules_about_queries_pass_through_both_tiers() {
    let script = |head: &str| {
        let target = head.split(' ').nth(1).unwrap_or_default();
        let fields = "cache-control: max-age=600\r\nno-vary-search: params=(\"utm\")\r\n";
        format!("HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n{}", answer(200, fields, target))
    };
    // One shield: URLs that a rule makes one may belong to different owners.
    let tiers = Tiers::scripted(script).await.with_one_shield();
    let raw = tiers.bed.raw(b"GET /a?x=1&utm=1 HTTP/1.1\r\nHost: www.example.org\r\nConnection: close\r\n\r\n").await;
    assert!(raw.starts_with("HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 200 OK\r\n"), "{raw}");
    assert!(raw.contains("shield-") && raw.ends_with("/a?x=1&utm=1"), "{raw}");
    let hit = tiers.bed.get("/a?utm=7&x=1").await;
    assert!(hit.cache().contains("edge; hit") && hit.body == "/a?x=1&utm=1", "{}", hit.cache());
    tiers.bed.purge("/a?x=1").await;
    let from_shield = tiers.bed.get("/a?x=1&utm=9").await;
    assert!(from_shield.cache().contains("; hit") && from_shield.body == "/a?x=1&utm=1", "{}", from_shield.cache());
    let part = tiers.bed.get_with("/a?x=1", &[("range", "bytes=0-1,-2")]).await;
    assert!(part.status == 206 && part.field("content-type").starts_with("multipart/byteranges"));
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_at_an_edge_names_what_its_shield_says() {
    let mut tiers = Tiers::new().await;
    let query = format!("/v1/explain?url=http://{}/p%3Fcc%3Dmax-age%253D60&probe=true", crate::bed::HOST);
    let causes = |reply: &Reply| -> Vec<String> {
        let page: Value = serde_json::from_slice(&reply.body).unwrap();
        page["causes"].as_array().unwrap().iter().map(|cause| cause["reason"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(causes(&tiers.bed.admin(http::Method::GET, &query, "").await), [""; 0], "all is well");
    let shields = [upstream(tiers.address(0)), upstream(tiers.address(1))];
    tiers.bed = tiers.bed.again(|config| {
        let other = nearside_config::Secret::new("another-secret-than-theirs").unwrap();
        config.role = Role::Edge { shields: shields.to_vec(), secret: Some(other), fallback: Fallback::None };
    });
    let named = causes(&tiers.bed.admin(http::Method::GET, &query, "").await);
    assert_eq!(named.first().map(String::as_str), Some("edge-secret"), "{named:?}");
}
