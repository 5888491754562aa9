//! A fleet: a control process, a shield, an edge; purges that reach all of them, or truly do not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{Method, Request};
use http_body_util::Full;
use nearside_config::{
    Cache, Config, ControlConfig, EventType, Fallback, Follows, Hook, OnLag, PurgeLog, Role, Scope, Secret, Signature,
    Token, Webhook,
};
use nearside_control::Control;
use nearside_node::{Clock, Node};
use nearside_origin_sim::OriginSim;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::Instant;

use crate::bed::{
    Bed, HOST, Link, Reply, Speech, answer, config, get_with, loopback, read, scripted, secret, send_h1, upstream,
};

/// A control process, on threads of its own so that it can be stopped at once.
pub(crate) struct Controller {
    pub(crate) runtime: Option<Runtime>,
    pub(crate) address: SocketAddr,
    config: ControlConfig,
    /// Where clients ask for their edge, and resolvers.
    pub(crate) router: Option<SocketAddr>,
    pub(crate) dns: Option<SocketAddr>,
    _folder: Arc<tempfile::TempDir>,
}

impl Controller {
    pub(crate) fn new(change: impl FnOnce(&mut ControlConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = PurgeLog::File(folder.path().join("purges.log"));
        let mut config = ControlConfig::new(loopback(), log);
        change(&mut config);
        let (address, _folder) = (loopback(), Arc::new(folder));
        let mut controller = Self { runtime: None, address, config, router: None, dns: None, _folder };
        controller.start();
        // The same from now on.
        controller.config.listen = controller.address;
        controller
    }

    pub(crate) fn start(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let config = self.config.clone();
        let (sender, started) = std::sync::mpsc::channel();
        runtime.spawn(async move {
            let mut control = Control::start(config.clone()).await;
            for _ in 0..6000 {
                if control.is_ok() {
                    break;
                }
                // The one before may not have let go of its port and its log yet.
                tokio::time::sleep(Duration::from_millis(10)).await;
                control = Control::start(config.clone()).await;
            }
            let control = control.unwrap();
            sender.send((control.address(), control.router(), control.dns())).unwrap();
            std::future::pending::<()>().await;
        });
        (self.address, self.router, self.dns) = started.recv().unwrap();
        self.runtime = Some(runtime);
    }

    /// At once, with all that it was doing.
    pub(crate) fn kill(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }

    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: &Value,
        fields: &[(&str, &str)],
    ) -> Option<(u16, Value)> {
        let socket = TcpStream::connect(self.address).await.ok()?;
        let mut request = Request::builder().method(method).uri(path).header("host", "127.0.0.1");
        request = request.header("content-type", "application/json");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.to_string().into())).unwrap();
        let reply: Reply = read(send_h1(socket, request).await.ok()?).await.ok()?;
        Some((reply.status.as_u16(), serde_json::from_slice(&reply.body).unwrap_or_default()))
    }

    /// Gives an order; the status, and the receipt.
    pub(crate) async fn purge(&self, order: Value) -> (u16, Value) {
        self.ask(Method::POST, "/v1/purge", &order, &[]).await.expect("it listens")
    }

    pub(crate) async fn receipt(&self, id: &Value) -> Value {
        self.ask(Method::GET, &format!("/v1/purge/{}", id.as_str().unwrap()), &Value::Null, &[]).await.unwrap().1
    }

    /// Waits until the nodes have these states.
    pub(crate) async fn until(&self, states: &[(&str, &str)]) {
        let mut last = Value::Null;
        for _ in 0..1000 {
            if let Some((_, page)) = self.ask(Method::GET, "/v1/nodes", &Value::Null, &[]).await {
                last = page;
                let nodes = last["nodes"].as_array().unwrap();
                let found: Vec<_> =
                    nodes.iter().map(|n| (n["id"].as_str().unwrap(), n["state"].as_str().unwrap())).collect();
                if found == states && nodes.iter().all(|node| node["state"] != "ready" || node["lag"] == 0) {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it never came about: {states:?}, but {last}");
    }

    /// Waits until a receipt says so of a node.
    pub(crate) async fn until_state(&self, id: &Value, node: &str, state: &str) {
        let mut last = Value::Null;
        for _ in 0..6000 {
            last = self.receipt(id).await;
            if state_of(&last, node) == state {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it never came about: {node} {state}, but {last}");
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

pub(crate) fn state_of<'r>(receipt: &'r Value, node: &str) -> &'r str {
    let nodes = receipt["nodes"].as_array().map_or(&[][..], Vec::as_slice);
    nodes.iter().find(|one| one["id"] == node).map_or("", |one| one["state"].as_str().unwrap())
}

/// An edge before a shield before an origin, each of the two with a link of its own to the control process.
pub(crate) struct Planet {
    pub(crate) control: Controller,
    _shield: Node,
    pub(crate) bed: Bed,
    pub(crate) to_edge: Link,
    pub(crate) to_shield: Link,
    pub(crate) version: Arc<AtomicU64>,
    pub(crate) asked: Arc<AtomicU64>,
}

pub(crate) const BOTH: [(&str, &str); 2] = [("edge", "ready"), ("shield", "ready")];

impl Planet {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl Fn(&mut Config)) -> Self {
        Self::under(Controller::new(|_| {}), change).await
    }

    pub(crate) async fn under(control: Controller, change: impl Fn(&mut Config)) -> Self {
        let address = control.address;
        Self::between(control, address, address, change).await
    }

    /// Nodes that follow one control process each.
    pub(crate) async fn between(
        control: Controller,
        of_edge: SocketAddr,
        of_shield: SocketAddr,
        change: impl Fn(&mut Config),
    ) -> Self {
        let (to_edge, to_shield) = (Link::to(of_edge).await, Link::to(of_shield).await);
        let (version, asked) = (Arc::new(AtomicU64::new(1)), Arc::new(AtomicU64::new(0)));
        let (now, count) = (Arc::clone(&version), Arc::clone(&asked));
        let origin = scripted(Duration::ZERO, move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            let version = now.load(Ordering::SeqCst);
            let fields =
                format!("cache-control: max-age=600\r\nsurrogate-key: t v{version}\r\netag: \"{version}\"\r\n");
            answer(200, &fields, &format!("v{version}"))
        })
        .await;
        let clock = Clock::manual();
        let follows = |link: &Link| {
            Some(Follows { addresses: vec![upstream(link.address)], secret: None, lag_max: Duration::from_secs(1) })
        };
        let mut config = config(Role::Shield { secret: Some(secret()) }, vec![upstream(origin)]);
        config.id = "shield".parse().unwrap();
        config.cache = Cache::of(16 << 20);
        config.control = follows(&to_shield);
        change(&mut config);
        let shield = nearside_shield::start(config, clock.clone()).unwrap();
        let address = upstream(shield.addresses()[0]);
        let bed = Bed::before(OriginSim::start(loopback()).await.unwrap(), clock, |config| {
            config.sites[0].origins = vec![upstream(origin)];
            config.role = Role::Edge { shields: vec![address], secret: Some(secret()), fallback: Fallback::None };
            config.control = follows(&to_edge);
            change(config);
        });
        control.until(&BOTH).await;
        Self { control, _shield: shield, bed, to_edge, to_shield, version, asked }
    }

    pub(crate) async fn body(&self, path: &str) -> String {
        let reply = self.bed.get(path).await;
        assert_eq!(reply.status, 200, "{}", reply.cache());
        String::from_utf8(reply.body.to_vec()).unwrap()
    }

    pub(crate) fn publish(&self) -> String {
        format!("v{}", self.version.fetch_add(1, Ordering::SeqCst) + 1)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_reaches_all_nodes_and_each_says_what_it_met() {
    let planet = Planet::new().await;
    for order in [
        json!({"tags": ["t"]}),
        json!({"urls": [format!("http://{HOST}/a")]}),
        json!({"prefixes": [format!("{HOST}/a")]}),
        json!({"hosts": [HOST]}),
        json!({"all": true}),
    ] {
        planet.body("/a").await;
        let mut dry = order.clone();
        dry["dry_run"] = true.into();
        let (status, counted) = planet.control.purge(dry).await;
        assert_eq!((status, counted["matched"].as_u64(), counted["seq"].is_null()), (200, Some(2), true), "{counted}");
        let fresh = planet.publish();
        let (status, receipt) = planet.control.purge(order.clone()).await;
        assert_eq!((status, receipt["matched"].as_u64()), (200, Some(2)), "{order}: {receipt}");
        assert_eq!(["edge", "shield"].map(|node| state_of(&receipt, node)), ["applied"; 2]);
        assert_eq!(planet.body("/a").await, fresh, "{order}");
        assert_eq!(planet.control.receipt(&receipt["id"]).await["matched"], 2);
    }
    // Softly: the edge asks, and the shield does before it answers.
    let fresh = planet.publish();
    let (_, receipt) = planet.control.purge(json!({"tags": ["t"], "soft": true})).await;
    assert_eq!(receipt["seq"], 6);
    assert_eq!(planet.body("/a").await, fresh);
    let (status, accepted) = planet.control.purge(json!({"all": true, "wait": "none"})).await;
    assert_eq!(status, 202);
    planet.control.until_state(&accepted["id"], "edge", "applied").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_cut_off_is_told_of_and_catches_up() {
    let planet = Planet::new().await;
    planet.body("/a").await;
    planet.to_edge.cut.send_replace(true);
    planet.control.until(&[("edge", "unreachable"), ("shield", "ready")]).await;
    let mut ids = Vec::new();
    for _ in 0..10 {
        planet.publish();
        let (status, receipt) = planet.control.purge(json!({"tags": ["t"]})).await;
        assert_eq!((status, state_of(&receipt, "edge"), state_of(&receipt, "shield")), (207, "unreachable", "applied"));
        ids.push(receipt["id"].clone());
    }
    planet.bed.until_metric("nearside_purge_log_connected 0").await;
    planet.to_edge.cut.send_replace(false);
    for id in &ids {
        planet.control.until_state(id, "edge", "applied").await;
    }
    assert_eq!(planet.body("/a").await, "v11");
    planet.bed.until_metric("nearside_purge_log_sequence 10").await;
    planet.bed.until_metric("nearside_purge_log_connected 1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shield_that_is_behind_gives_an_edge_nothing_that_was_purged() {
    let planet = Planet::new().await;
    planet.body("/a").await;
    planet.to_shield.cut.send_replace(true);
    planet.control.until(&[("edge", "ready"), ("shield", "unreachable")]).await;
    let fresh = planet.publish();
    let (status, receipt) = planet.control.purge(json!({"tags": ["t"]})).await;
    assert_eq!((status, state_of(&receipt, "edge"), state_of(&receipt, "shield")), (207, "applied", "unreachable"));
    assert_eq!(planet.body("/a").await, fresh, "the shield still has the old one, and does not show it");
    assert_eq!(planet.body("/a").await, fresh);
    planet.to_shield.cut.send_replace(false);
    planet.control.until(&BOTH).await;
    // It has caught up, and answers for itself again.
    planet.bed.order(json!({"all": true})).await;
    assert_eq!(planet.body("/a").await, fresh);
    let asked = planet.asked.load(Ordering::SeqCst);
    planet.bed.order(json!({"all": true})).await;
    assert_eq!((planet.body("/a").await, planet.asked.load(Ordering::SeqCst)), (fresh, asked));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_process_that_is_killed_goes_on_where_it_was() {
    let mut planet = Planet::new().await;
    planet.body("/a").await;
    let (_, first) = planet.control.purge(json!({"tags": ["t"]})).await;
    planet.control.kill();
    let fresh = planet.publish();
    assert_eq!(planet.body("/a").await, fresh, "nodes serve without it");
    assert!(planet.control.ask(Method::POST, "/v1/purge", &json!({"all": true}), &[]).await.is_none());
    // One of the two is not back at once: nothing is acknowledged for it.
    planet.to_shield.cut.send_replace(true);
    planet.control.start();
    planet.control.until(&[("edge", "ready"), ("shield", "unreachable")]).await;
    let (status, receipt) = planet.control.purge(json!({"tags": ["other"]})).await;
    assert_eq!((status, state_of(&receipt, "shield")), (207, "unreachable"), "{receipt}");
    planet.to_shield.cut.send_replace(false);
    planet.control.until(&BOTH).await;
    let fresh = planet.publish();
    let (status, second) = planet.control.purge(json!({"tags": ["t"]})).await;
    assert_eq!((status, first["seq"].as_u64(), second["seq"].as_u64()), (200, Some(1), Some(3)), "{second}");
    assert_eq!(second["matched"], 2, "nothing was lost by its coming back: {second}");
    assert_eq!(planet.body("/a").await, fresh);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_catch_up_makes_stale_all_that_it_has() {
    let mut planet = Planet::new().await;
    planet.body("/a").await;
    planet.control.purge(json!({"tags": ["other"]})).await;
    planet.control.kill();
    // Its log is gone, and with it whatever was in it.
    let PurgeLog::File(log) = &planet.control.config.log else { panic!("it is in a file") };
    std::fs::remove_file(log).unwrap();
    std::fs::remove_file(log.with_extension("nodes")).unwrap();
    planet.control.start();
    planet.control.until(&BOTH).await;
    let fresh = planet.publish();
    let reply = planet.bed.get("/a").await;
    assert_eq!(reply.body, fresh.as_bytes(), "{}", reply.cache());
    assert!(reply.cache().contains("edge; fwd=stale"), "{}", reply.cache());
    let (status, receipt) = planet.control.purge(json!({"tags": ["t"]})).await;
    assert_eq!((status, receipt["seq"].as_u64()), (200, Some(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_may_want_to_ask_while_it_is_not_known_what_was_purged() {
    for on_lag in [OnLag::Serve, OnLag::Revalidate] {
        let planet = Planet::with(|config| config.sites[0].on_lag = on_lag).await;
        assert_eq!(planet.body("/a").await, "v1");
        assert!(planet.bed.get("/a").await.cache().contains("edge; hit"));
        for link in [&planet.to_edge, &planet.to_shield] {
            link.cut.send_replace(true);
        }
        let fresh = planet.publish();
        let begin = Instant::now();
        loop {
            let body = planet.body("/a").await;
            match on_lag {
                // As long as it takes until the other has begun to ask.
                OnLag::Serve if begin.elapsed() > Duration::from_secs(6) => break,
                OnLag::Serve => assert_eq!(body, "v1"),
                OnLag::Revalidate if body == fresh => break,
                OnLag::Revalidate => assert!(begin.elapsed() < Duration::from_secs(60), "it asks"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for link in [&planet.to_edge, &planet.to_shield] {
            link.cut.send_replace(false);
        }
        planet.control.until(&BOTH).await;
        // As soon as the node has heard, too, that nothing is missing.
        let serves = async { while !planet.bed.get("/a").await.cache().contains("edge; hit") {} };
        tokio::time::timeout(Duration::from_secs(60), serves).await.expect("and no longer than it must");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_understood_is_not_in_the_log() {
    let planet = Planet::with(|config| config.sites[0].hosts = vec![HOST.parse().unwrap()]).await;
    for (order, status, code) in [
        (json!({}), 422, "nothing-named"),
        (json!({"all": true, "site": "nowhere"}), 422, "unknown-site"),
        (json!({"hosts": ["other.org"]}), 422, "unknown-host"),
        (json!({"urls": ["http://other.org/a"]}), 422, "unknown-host"),
        (json!({"all": 1}), 422, "malformed"),
    ] {
        let (got, problem) = planet.control.purge(order.clone()).await;
        assert_eq!((got, problem["code"].as_str()), (status, Some(code)), "{order}");
    }
    assert_eq!(planet.control.purge(json!({"all": true})).await.1["seq"], 1, "the first that was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_other_sites_do_what_concerns_them_and_one_that_stops_is_not_waited_for() {
    let planet = Planet::with(|config| config.sites[0].hosts = vec![HOST.parse().unwrap()]).await;
    let address = upstream(planet.control.address);
    let follows = |id: &str| {
        let (id, address) = (id.parse().unwrap(), address.clone());
        move |config: &mut Config| {
            config.id = id;
            config.sites[0].name = "shop".to_owned();
            config.sites[0].hosts = vec!["shop.org".parse().unwrap()];
            config.control = Some(Follows { addresses: vec![address], secret: None, lag_max: Duration::from_secs(1) });
        }
    };
    let shop = Bed::before(OriginSim::start(loopback()).await.unwrap(), Clock::manual(), follows("shop"));
    let all = [("edge", "ready"), ("shield", "ready"), ("shop", "ready")];
    planet.control.until(&all).await;
    planet.body("/a").await;
    let fields = [("host", "shop.org")];
    shop.get_with("/b?cc=max-age%3D600", &fields).await;
    let order = json!({"urls": ["http://WWW.Example.org.:80/a", "http://shop.org/b?cc=max-age%3D600"]});
    let (status, receipt) = planet.control.purge(order).await;
    assert_eq!((status, receipt["matched"].as_u64()), (200, Some(3)), "each what it knows: {receipt}");
    let (status, problem) = planet.control.purge(json!({"urls": ["www.example.org/a"]})).await;
    assert_eq!((status, problem["code"].as_str()), (422, Some("url")), "no node would understand it");
    // Another of the same name is not taken for it.
    let twin = Bed::before(OriginSim::start(loopback()).await.unwrap(), Clock::manual(), follows("shop"));
    twin.until_metric("nearside_purge_log_connected 0").await;
    tokio::task::spawn_blocking(move || drop((twin, shop))).await.unwrap();
    planet.control.until(&BOTH).await;
    assert_eq!(planet.control.purge(json!({"all": true})).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_is_told_as_it_happens_and_again_to_who_missed_it() {
    let planet = Planet::new().await;
    let listen = async |after: &str| {
        let socket = TcpStream::connect(planet.control.address).await.unwrap();
        let request = Request::get("/v1/events").header("host", "127.0.0.1").header("last-event-id", after);
        send_h1(socket, request.body(Full::default()).unwrap()).await.unwrap()
    };
    // An id that is not known: all that there is.
    let mut stream = listen("unknown").await;
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    planet.body("/a").await;
    let (_, receipt) = planet.control.purge(json!({"tags": ["t"]})).await;
    let mut text = String::new();
    while text.matches("event: receipt").count() < 2 {
        let frame = http_body_util::BodyExt::frame(stream.body_mut()).await.unwrap().unwrap();
        text += std::str::from_utf8(frame.data_ref().unwrap()).unwrap();
    }
    let events: Vec<Value> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    let kinds: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "node-up").count(), 2, "{text}");
    let purge = events.iter().find(|event| event["type"] == "purge").unwrap();
    assert_eq!((&purge["data"]["id"], &purge["data"]["order"]["tags"]), (&receipt["id"], &json!(["t"])));
    let told = events.iter().filter(|event| event["type"] == "receipt");
    assert!(
        told.clone().all(|event| event["data"]["id"] == receipt["id"] && event["data"]["node"]["matched"] == 1),
        "{text}"
    );
    let mut again = listen(purge["id"].as_str().unwrap()).await;
    let frame = http_body_util::BodyExt::frame(again.body_mut()).await.unwrap().unwrap();
    let first = String::from_utf8(frame.data_ref().unwrap().to_vec()).unwrap();
    assert!(!first.contains(purge["id"].as_str().unwrap()) && first.contains("event: receipt"), "{first}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_told_until_it_hears() {
    let heard = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let ears = Arc::clone(&heard);
    let listener = scripted(Duration::ZERO, move |request| {
        let mut heard = ears.lock();
        heard.push(request.to_owned());
        // Deaf at first.
        answer(if heard.len() == 1 { 500 } else { 204 }, "", "")
    })
    .await;
    let control = Controller::new(|config| {
        let secret = Secret::new("the-secret-of-the-webhook").unwrap();
        let url = format!("http://{listener}/told");
        config.webhooks = vec![Webhook { url, secret, events: vec![EventType::Purge] }];
    });
    let planet = Planet::under(control, |_| {}).await;
    planet.control.purge(json!({"tags": ["t"]})).await;
    crate::bed::eventually("it was told twice", || heard.lock().len() == 2).await;
    let heard = heard.lock();
    let field = |request: &str, name: &str| {
        let line = request.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned));
        line.unwrap_or_else(|| panic!("{name} in {request}"))
    };
    assert!(heard[0].starts_with("post /told "), "{}", heard[0]);
    assert_eq!(field(&heard[0], "webhook-id"), field(&heard[1], "webhook-id"), "one event, sent twice");
    assert!(field(&heard[1], "webhook-signature").starts_with("v1,"));
    assert!(heard.iter().all(|request| !request.contains("node-up")), "it wanted purges only");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_event_of_somebody_else_purges_what_it_names() {
    let secret = "the-secret-of-the-cms";
    let control = Controller::new(|config| {
        config.hooks = vec![Hook {
            name: "cms".to_owned(),
            secret: Secret::new(secret).unwrap(),
            signature: Signature::Github,
            site: "test".to_owned(),
            tags: vec!["{/tags/*}".parse().unwrap()],
            urls: Vec::new(),
            prefixes: Vec::new(),
            soft: false,
        }];
    });
    let planet = Planet::under(control, |config| config.sites[0].name = "test".to_owned()).await;
    planet.body("/a").await;
    let fresh = planet.publish();
    let event = json!({"action": "published", "tags": ["t", "other"]});
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.as_bytes());
    let tag = aws_lc_rs::hmac::sign(&key, event.to_string().as_bytes());
    let signature: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let signature = format!("sha256={signature}");
    let deliver = async |path: &str, event: &Value, signature: &str, delivery: &str| {
        let fields = [("x-hub-signature-256", signature), ("x-github-delivery", delivery)];
        planet.control.ask(Method::POST, path, event, &fields).await.unwrap()
    };
    let ask = async |path: &str, event: &Value, signature: &str| deliver(path, event, signature, "d1").await;
    for (path, event, signature, status, code) in [
        ("/v1/hooks/other", &event, &*signature, 404, "unknown-hook"),
        ("/v1/hooks/cms", &event, "sha256=00", 401, "signature"),
        ("/v1/hooks/cms", &json!({"tags": ["t"]}), &*signature, 401, "signature"),
    ] {
        let (got, problem) = ask(path, event, signature).await;
        assert_eq!((got, problem["code"].as_str()), (status, Some(code)));
    }
    assert_eq!(planet.body("/a").await, "v1", "nothing was purged");
    let (status, receipt) = ask("/v1/hooks/cms", &event, &signature).await;
    assert_eq!((status, receipt["matched"].as_u64()), (200, Some(2)), "{receipt}");
    assert_eq!(planet.body("/a").await, fresh);
    let (status, again) = ask("/v1/hooks/cms", &event, &signature).await;
    assert_eq!((status, &again["id"]), (200, &receipt["id"]), "what is delivered twice is one event");
    let newer = planet.body("/a").await;
    planet.publish();
    let (status, problem) = deliver("/v1/hooks/cms", &event, &signature, "d2").await;
    assert_eq!((status, problem["code"].as_str()), (409, Some("replayed")), "the id of a delivery is not signed");
    assert_eq!(planet.body("/a").await, newer, "nothing was purged");
}

/// A purge by method, sent to the edge.
async fn by_method(planet: &Planet, method: &str, path: &str, fields: &[(&str, &str)]) -> (u16, Value) {
    let mut request = get_with(path, fields);
    *request.method_mut() = method.parse().unwrap();
    let reply = planet.bed.ask(Speech::H1, request).await;
    (reply.status.as_u16(), serde_json::from_slice(&reply.body).unwrap_or_default())
}

fn from_here(config: &mut Config) {
    config.purge_from = vec!["127.0.0.0/8".parse().unwrap()];
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_by_method_at_an_edge_reaches_the_whole_fleet() {
    let planet = Planet::with(from_here).await;
    for (method, path, fields) in [
        ("PURGE", "/a", &[][..]),
        ("PURGE", "/.*", &[("x-purge-method", "regex")]),
        ("PURGE", "/*", &[]),
        ("BAN", "/a", &[]),
        ("PURGE", "/", &[("xkey", "t")]),
        ("PURGE", "/", &[("x-magento-tags-pattern", "((^|,)t(,|$))")]),
        ("PURGE", "/a", &[("fastly-soft-purge", "1")]),
    ] {
        planet.body("/a").await;
        let fresh = planet.publish();
        let (status, said) = by_method(&planet, method, path, fields).await;
        assert_eq!((status, said["matched"].as_u64()), (200, Some(2)), "{method} {path} {fields:?}: {said}");
        assert_eq!(said["nodes"], json!(["edge", "shield"]), "{said}");
        assert_eq!(planet.body("/a").await, fresh, "{method} {path} {fields:?}: the shield had it, too");
    }
    // The shapes of others at the node's admin listener.
    planet.body("/a").await;
    let fresh = planet.publish();
    let reply = planet.bed.admin(Method::POST, "/service/site/purge/t", "").await;
    let said: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!((reply.status.as_u16(), said["matched"].as_u64()), (200, Some(2)), "{said}");
    assert_eq!(planet.body("/a").await, fresh);
    // Who may not, may not here either.
    let closed = Planet::with(|_| {}).await;
    closed.body("/a").await;
    assert_eq!(by_method(&closed, "PURGE", "/a", &[]).await.0, 401);
    assert_eq!(closed.control.purge(json!({"all": true})).await.1["seq"], 1, "nothing was in the log before");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_by_method_that_cannot_reach_the_fleet_fails_and_says_so() {
    let mut planet = Planet::with(from_here).await;
    planet.body("/a").await;
    // One of the nodes is cut off: the order stands, but this is no success.
    planet.to_shield.cut.send_replace(true);
    planet.control.until(&[("edge", "ready"), ("shield", "unreachable")]).await;
    let (status, said) = by_method(&planet, "PURGE", "/other", &[]).await;
    assert_eq!((status, said["code"].as_str()), (503, Some("incomplete")), "{said}");
    assert!(said["detail"].as_str().unwrap().contains("shield unreachable"), "{said}");
    planet.to_shield.cut.send_replace(false);
    planet.control.until(&BOTH).await;
    planet.control.kill();
    let (status, said) = by_method(&planet, "PURGE", "/a", &[]).await;
    assert_eq!((status, said["code"].as_str()), (503, Some("control-unreachable")), "{said}");
    assert!(planet.bed.get("/a").await.cache().contains("edge; hit"), "nothing was purged");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_give_orders_only_to_a_control_process_that_knows_them() {
    let tokens = |config: &mut ControlConfig| {
        let secret = Secret::new("the-secret-of-operator").unwrap();
        config.tokens = vec![Token { name: "operator".to_owned(), secret, scope: Scope::Purge, sites: Vec::new() }];
    };
    let control = Controller::new(tokens);
    let addresses = vec![upstream(control.address)];
    let bed = Bed::with(|config| {
        from_here(config);
        config.control = Some(Follows { addresses, secret: None, lag_max: Duration::from_secs(1) });
    })
    .await;
    bed.until_metric("nearside_purge_log_connected 1").await;
    let path = "/a?cc=max-age%3D600";
    bed.get(path).await;
    let mut request = get_with(path, &[]);
    *request.method_mut() = "PURGE".parse().unwrap();
    let reply = bed.ask(Speech::H1, request).await;
    let said: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!((reply.status.as_u16(), said["code"].as_str()), (503, Some("control-refused")), "{said}");
    assert!(said["detail"].as_str().unwrap().contains("[nodes] secret"), "{said}");
    assert!(bed.get(path).await.cache().contains("edge; hit"), "nothing was purged");
    // An edge before shields, of which no control process knows.
    let shields = vec!["http://127.0.0.1:9".parse().unwrap()];
    let lone = Bed::with(|config| {
        from_here(config);
        config.role = Role::Edge { shields, secret: Some(secret()), fallback: Fallback::Origin };
    })
    .await;
    let mut request = get_with("/a", &[]);
    *request.method_mut() = "PURGE".parse().unwrap();
    let reply = lone.ask(Speech::H1, request).await;
    let said: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!((reply.status.as_u16(), said["code"].as_str()), (501, Some("shields")), "{said}");
}
