//! Clients are sent to an edge: by redirects, by names, by what they have measured; and away from one that is gone.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_server::proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_server::proto::rr::rdata::opt::{ClientSubnet, EdnsCode, EdnsOption};
use hickory_server::proto::rr::{Name, RData, RecordType};
use http::{Method, Request};
use http_body_util::Full;
use nearside_config::{Answer, Config, Dns, Follows, Policy, Public, Steering};
use nearside_node::Clock;
use nearside_origin_sim::OriginSim;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, UdpSocket};

use crate::bed::{Bed, Reply, loopback, read, send_h1, upstream};
use crate::fleet::Controller;

/// Networks of this machine, and where they are said to be. The last one is nowhere.
const SAO_PAULO: &str = "127.1.1.1";
const DUBLIN: &str = "127.1.2.1";
const PARIS: &str = "127.1.3.1";
const NOWHERE: &str = "127.1.9.1";
const TABLE: &str =
    "127.1.1.0/24,São Paulo\n127.1.2.0/24,Dublin\n127.1.3.0/24,Paris\n127.0.0.1,Tokyo\n192.0.2.0/25,Sydney\n";
const CITIES: [&str; 4] = ["Frankfurt", "London", "New York", "Tokyo"];

/// Steering by a table of networks, of the router only.
pub(crate) fn router_with(table: std::path::PathBuf) -> Steering {
    Steering {
        listen: Some(loopback()),
        dns: None,
        policy: Policy::MeasuredLoad,
        answer: Answer::Redirect,
        table: Some(table),
        mmdb: None,
        trusted_proxies: Vec::new(),
        secret: None,
        report_every: Duration::ZERO,
        report_hosts: Vec::new(),
        place: None,
    }
}

/// A control process that steers, and edges in cities.
struct World {
    control: Controller,
    edges: Vec<Bed>,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new(change: impl FnOnce(&mut Steering)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let table = folder.path().join("networks.csv");
        std::fs::write(&table, TABLE).unwrap();
        let dns = Dns {
            listen: loopback(),
            zones: vec!["example.org".parse().unwrap()],
            name_server: "ns.example.org".to_owned(),
            addresses: vec!["192.0.2.53".parse().unwrap()],
            ttl: Dns::TTL,
        };
        let mut steering = Steering { dns: Some(dns), ..router_with(table) };
        change(&mut steering);
        let control = Controller::new(|config| config.steering = Some(steering));
        let mut edges = Vec::new();
        for (number, city) in (0..).zip(CITIES) {
            let address = upstream(control.address);
            let change = |config: &mut Config| {
                let code = nearside_geo::city(city).unwrap();
                config.id = format!("edge-{}", code.code).parse().unwrap();
                config.place = Some(code.place());
                let hosts = ["www.example.org", "*.www.example.org", "www.deep.example.org"];
                config.sites[0].hosts = hosts.map(|host| host.parse().unwrap()).to_vec();
                config.public = Public {
                    url: Some(format!("https://{}.{{host}}", code.code).parse().unwrap()),
                    addresses: vec![
                        IpAddr::from([203, 0, 113, number]),
                        format!("2001:db8::{number}").parse().unwrap(),
                    ],
                    capacity: Some(1_000_000),
                };
                config.control =
                    Some(Follows { addresses: vec![address], secret: None, lag_max: Duration::from_secs(5) });
            };
            edges.push(Bed::before(OriginSim::start(loopback()).await.unwrap(), Clock::manual(), change));
        }
        let ids = ["edge-fra", "edge-lon", "edge-nrt", "edge-nyc"].map(|id| (id, "ready"));
        control.until(&ids).await;
        Self { control, edges, _folder: folder }
    }

    /// Asks the router from an address of this machine.
    async fn ask_with(&self, from: &str, method: Method, path: &str, fields: &[(&str, &str)], body: &str) -> Reply {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
        let socket = socket.connect(self.control.router.unwrap()).await.unwrap();
        let mut request = Request::builder().method(method).uri(path);
        let has_host = fields.iter().any(|(name, _)| *name == "host");
        for (name, value) in fields.iter().chain((!has_host).then_some(&("host", "www.example.org"))) {
            request = request.header(*name, *value);
        }
        read(send_h1(socket, request.body(Full::new(body.to_owned().into())).unwrap()).await.unwrap()).await.unwrap()
    }

    async fn ask(&self, from: &str, path: &str) -> Reply {
        self.ask_with(from, Method::GET, path, &[], "").await
    }

    /// The edge that a client is sent to.
    async fn edge_of(&self, from: &str) -> String {
        let reply = self.ask(from, "/").await;
        reply.field("x-route").split(';').next().unwrap().to_owned()
    }

    /// The proof that a network is asked to measure, of the next offer that names all these edges.
    async fn proof_for(&self, from: &str, edges: &[&str]) -> String {
        // Of two proofs that were given within a millisecond only one counts.
        tokio::time::sleep(Duration::from_millis(2)).await;
        for _ in 0..100 {
            let page = self.ask(from, "/.well-known/nearside/candidates").await;
            let page: Value = serde_json::from_slice(&page.body).unwrap();
            let offered: Vec<_> =
                page["edges"].as_array().unwrap().iter().map(|edge| edge["id"].as_str().unwrap()).collect();
            if edges.iter().all(|edge| offered.contains(edge)) {
                return page["proof"].as_str().unwrap().to_owned();
            }
        }
        panic!("{edges:?} are never offered");
    }

    /// Sends a report; the status and what is said.
    async fn send(&self, from: &str, fields: &[(&str, &str)], proof: &str, times: &Value) -> (u16, Value) {
        let body = json!({ "proof": proof, "times": times }).to_string();
        let reply = self.ask_with(from, Method::POST, "/.well-known/nearside/report", fields, &body).await;
        (reply.status.as_u16(), serde_json::from_slice(&reply.body).unwrap_or_default())
    }

    async fn report(&self, from: &str, edges: &Value) -> u64 {
        let wanted: Vec<_> =
            edges.as_object().unwrap().keys().map(String::as_str).filter(|id| *id != "edge-xyz").collect();
        let proof = self.proof_for(from, &wanted).await;
        let (status, said) = self.send(from, &[], &proof, edges).await;
        assert_eq!(status, 200, "{said}");
        said["taken"].as_u64().unwrap()
    }

    /// Asks the name server over UDP, for a network if one is given.
    async fn resolve(&self, name: &str, kind: RecordType, from: &str, subnet: Option<(&str, u8)>) -> Message {
        let socket = UdpSocket::bind(SocketAddr::new(from.parse().unwrap(), 0)).await.unwrap();
        let mut query = Message::new(7, MessageType::Query, OpCode::Query);
        query.add_query(Query::query(name.parse::<Name>().unwrap(), kind));
        let mut edns = Edns::new();
        if let Some((address, length)) = subnet {
            let subnet = ClientSubnet::new(address.parse().unwrap(), length, 0);
            edns.options_mut().insert(EdnsOption::Subnet(subnet));
        }
        query.edns = Some(edns);
        socket.send_to(&query.to_vec().unwrap(), self.control.dns.unwrap()).await.unwrap();
        let mut buffer = [0; 4096];
        let wait = tokio::time::timeout(Duration::from_secs(60), socket.recv(&mut buffer));
        let length = wait.await.expect("no answer").unwrap();
        Message::from_vec(&buffer[..length]).unwrap()
    }
}

fn addresses(message: &Message) -> Vec<IpAddr> {
    let address = |data: &RData| match data {
        RData::A(a) => Some(IpAddr::V4(a.0)),
        RData::AAAA(a) => Some(IpAddr::V6(a.0)),
        _ => None,
    };
    message.answers.iter().filter_map(|record| address(&record.data)).collect()
}

fn scope(message: &Message) -> Option<u8> {
    match message.edns.as_ref()?.option(EdnsCode::Subnet)? {
        EdnsOption::Subnet(subnet) => Some(subnet.scope_prefix()),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_redirected_to_the_nearest_edge_and_told_why() {
    let world = World::new(|_| {}).await;
    let reply = world.ask(SAO_PAULO, "/a%20b?q=1&r=/x").await;
    assert_eq!((reply.status.as_u16(), reply.field("location")), (302, "https://nyc.www.example.org/a%20b?q=1&r=/x"));
    assert_eq!(reply.field("cache-control"), "no-store");
    let told = reply.field("x-route");
    assert!(told.starts_with("edge-nyc; reason=geo; expected=") && told.ends_with("from=\"Sao Paulo\""), "{told}");
    assert_eq!(
        (world.edge_of(DUBLIN).await, world.edge_of(PARIS).await),
        ("edge-lon".to_owned(), "edge-lon".to_owned())
    );
    // What must not become a GET does not.
    let reply = world.ask_with(DUBLIN, Method::POST, "/form", &[], "a=b").await;
    assert_eq!((reply.status.as_u16(), reply.field("location")), (307, "https://lon.www.example.org/form"));
    let reply = world.ask_with(DUBLIN, Method::HEAD, "/", &[("host", "WWW.Example.org:8443")], "").await;
    assert_eq!((reply.status.as_u16(), reply.field("location")), (302, "https://lon.www.example.org:8443/"));
    // A host that nobody serves, and one that is none.
    assert_eq!(world.ask_with(DUBLIN, Method::GET, "/", &[("host", "other.org")], "").await.status, 421);
    assert_eq!(world.ask_with(DUBLIN, Method::GET, "/", &[("host", "a/b")], "").await.status, 400);
    // Of unknown networks each stays with one edge.
    let nowhere = world.ask(NOWHERE, "/").await;
    assert!(nowhere.field("x-route").contains("reason=unknown"), "{}", nowhere.field("x-route"));
    assert_eq!(world.edge_of(NOWHERE).await, world.edge_of(NOWHERE).await);
    // What a client says of where it is, is believed from proxies that are trusted only.
    let forged = [("x-forwarded-for", SAO_PAULO)];
    let reply = world.ask_with(DUBLIN, Method::GET, "/", &forged, "").await;
    assert!(reply.field("x-route").starts_with("edge-lon"));
    let (status, page) = world
        .control
        .ask(Method::GET, &format!("/v1/route/explain?ip={SAO_PAULO}&host=www.example.org"), &Value::Null, &[])
        .await
        .unwrap();
    assert_eq!((status, &page["edge"], &page["reason"]), (200, &json!("edge-nyc"), &json!("geo")));
    assert_eq!(page["candidates"].as_array().unwrap().len(), 4);
    assert_eq!(page["location"]["city"], "São Paulo");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_for_nothing_is_let_go() {
    let world = World::new(|_| {}).await;
    let mut silent = tokio::net::TcpStream::connect(world.control.router.unwrap()).await.unwrap();
    silent.write_all(b"GET / HTTP/1.1\r\nHost: www.example.org\r\n").await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(30), silent.read_to_end(&mut Vec::new())).await;
    assert!(ended.is_ok(), "it waits for the rest of the head for ever");
    // A head without an end.
    let mut endless = tokio::net::TcpStream::connect(world.control.router.unwrap()).await.unwrap();
    let _ = endless
        .write_all(&[b"GET / HTTP/1.1\r\nHost: www.example.org\r\nX: ".as_slice(), &vec![b'x'; 200_000]].concat())
        .await;
    let mut said = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(60), endless.read_to_end(&mut said)).await;
    assert!(ended.is_ok() && !said.starts_with(b"HTTP/1.1 302"), "{}", String::from_utf8_lossy(&said));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_is_trusted_is_believed_up_to_the_first_that_is_not() {
    let world = World::new(|steering| steering.trusted_proxies = vec![DUBLIN.parse().unwrap()]).await;
    for (said, edge) in [
        (SAO_PAULO.to_owned(), "edge-nyc"),
        (format!("127.0.0.1, {SAO_PAULO}, {DUBLIN}"), "edge-nyc"),
        ("unknown".to_owned(), "edge-lon"),
    ] {
        let reply = world.ask_with(DUBLIN, Method::GET, "/", &[("x-forwarded-for", &said)], "").await;
        assert!(reply.field("x-route").starts_with(edge), "{said}: {}", reply.field("x-route"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_browsers_have_measured_moves_their_network_within_five_reports() {
    let world = World::new(|_| {}).await;
    let reply = world.ask(PARIS, "/.well-known/nearside/candidates").await;
    assert_eq!(reply.field("access-control-allow-origin"), "*");
    let page: Value = serde_json::from_slice(&reply.body).unwrap();
    let edges: Vec<_> = page["edges"].as_array().unwrap().iter().map(|edge| edge["id"].as_str().unwrap()).collect();
    assert_eq!((&edges[..2], edges.len()), (&["edge-lon", "edge-fra"][..], 3));
    assert_eq!(page["edges"][0]["url"], "https://lon.www.example.org");
    let script = world.ask(PARIS, "/.well-known/nearside/measure.js").await;
    assert!(script.body.len() <= 2048 && script.field("content-type").starts_with("text/javascript"));
    assert_eq!(world.edge_of(PARIS).await, "edge-lon");
    let mut reports = 0;
    while world.edge_of(PARIS).await == "edge-lon" {
        assert_eq!(world.report(PARIS, &json!({"edge-lon": 95.0, "edge-fra": 13.5})).await, 2);
        reports += 1;
        assert!(reports <= 5, "it stays");
    }
    let reply = world.ask(PARIS, "/").await;
    assert!(reply.field("x-route").starts_with("edge-fra; reason=rtt; rtt=13."), "{}", reply.field("x-route"));
    // It was slow for one report: that moves nobody.
    world.report(PARIS, &json!({"edge-fra": 900.0})).await;
    assert_eq!(world.edge_of(PARIS).await, "edge-fra");
    // Another network is as it was. What is no edge, or no time, is not taken.
    assert_eq!(world.edge_of(DUBLIN).await, "edge-lon");
    assert_eq!(
        world.report(PARIS, &json!({"edge-xyz": 1.0, "edge-fra": -1.0, "edge-lon": "fast", "edge-nrt": 20.0})).await,
        0
    );
    for body in ["", "[]", "{", r#"{"edge-fra": 12.5}"#, r#"{"proof": "", "times": {}}"#, &"x".repeat(5000)] {
        let reply = world.ask_with(PARIS, Method::POST, "/.well-known/nearside/report", &[], body).await;
        assert!([400, 413].contains(&reply.status.as_u16()), "{body}: {}", reply.status);
    }
    // What it times is answered by the edge itself, for pages of any origin.
    let ping = world.edges[0].get_with("/.well-known/nearside/ping?1", &[("host", "fra.www.example.org")]).await;
    assert_eq!((ping.status.as_u16(), &ping.body[..], ping.field("timing-allow-origin")), (200, &b"pong\n"[..], "*"));
    assert_eq!(ping.field("cache-control"), "no-store");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_needs_the_proof_that_its_network_was_asked() {
    let world = World::new(|steering| steering.report_every = Duration::from_secs(60)).await;
    let times = json!({"edge-lon": 95.0, "edge-fra": 13.5});
    let both = ["edge-lon", "edge-fra"];
    let code = |said: &Value| said["code"].as_str().unwrap_or_default().to_owned();
    // As an older script has sent it.
    let old = world.ask_with(PARIS, Method::POST, "/.well-known/nearside/report", &[], &times.to_string()).await;
    let said: Value = serde_json::from_slice(&old.body).unwrap();
    assert_eq!((old.status.as_u16(), code(&said).as_str()), (400, "proof-missing"), "{said}");
    assert_eq!(old.field("content-type"), "application/problem+json");
    let (status, said) = world.send(PARIS, &[], "MTcwMCBlZGdlLWxvbg.AAAA", &times).await;
    assert_eq!((status, code(&said).as_str()), (403, "proof-unknown"), "made up");
    let of_dublin = world.proof_for(DUBLIN, &both).await;
    let (status, said) = world.send(PARIS, &[], &of_dublin, &times).await;
    assert_eq!((status, code(&said).as_str()), (403, "proof-unknown"), "another network's");
    let proof = world.proof_for(PARIS, &both).await;
    // An edge that was not offered is not reported on.
    let (status, said) =
        world.send(PARIS, &[], &proof, &json!({"edge-lon": 95.0, "edge-fra": 13.5, "edge-xyz": 1.0})).await;
    assert_eq!((status, &said["taken"]), (200, &json!(2)), "{said}");
    // The same again, and more of the same network within the minute.
    for proof in [proof, world.proof_for(PARIS, &both).await, world.proof_for(PARIS, &both).await] {
        let (status, said) = world.send(PARIS, &[], &proof, &times).await;
        assert_eq!((status, &said["taken"]), (200, &json!(0)), "{said}");
        assert!(said["why"].as_str().is_some_and(|why| !why.is_empty()), "{said}");
    }
    assert_eq!(world.edge_of(PARIS).await, "edge-lon", "three reports move nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_unknown_hosts_have_nobody_report() {
    let world = World::new(|steering| steering.report_hosts = vec!["*.partner.example".parse().unwrap()]).await;
    let times = json!({"edge-lon": 95.0, "edge-fra": 13.5});
    for (origin, is_known) in [
        ("https://www.example.org", true),
        ("http://a.www.example.org:8080", true),
        ("https://shop.partner.example", true),
        ("https://evil.example", false),
        ("https://www.example.org.evil.example", false),
        ("null", false),
        ("file://", false),
    ] {
        let fields = [("origin", origin)];
        let page = world.ask_with(PARIS, Method::GET, "/.well-known/nearside/candidates", &fields, "").await;
        let proof = world.proof_for(PARIS, &["edge-lon", "edge-fra"]).await;
        let (status, said) = world.send(PARIS, &fields, &proof, &times).await;
        let expected = if is_known { 200 } else { 403 };
        assert_eq!((page.status.as_u16(), status), (expected, expected), "{origin}: {said}");
        assert_eq!(said["code"] == "unknown-page", !is_known, "{origin}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_move_a_network_to_the_next_edges_and_not_around_the_world() {
    let world = World::new(|_| {}).await;
    for _ in 0..10 {
        for far in ["edge-nyc", "edge-nrt"] {
            let slow = json!({"edge-lon": 9000.0, "edge-fra": 9000.0, far: 140.0});
            let proof = world.proof_for(PARIS, &["edge-lon"]).await;
            let (status, said) = world.send(PARIS, &[], &proof, &slow).await;
            assert_eq!(status, 200, "{said}");
        }
    }
    let edge = world.edge_of(PARIS).await;
    assert!(["edge-lon", "edge-fra"].contains(&edge.as_str()), "Paris is sent to {edge}");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_answered_for_the_network_that_is_asked_for_and_say_for_how_large_a_one() {
    let world = World::new(|_| {}).await;
    let www = "www.example.org.";
    let for_sydney = world.resolve(www, RecordType::A, DUBLIN, Some(("192.0.2.0", 24))).await;
    assert_eq!((addresses(&for_sydney), scope(&for_sydney)), (vec![IpAddr::from([203, 0, 113, 3])], Some(24)));
    assert!(for_sydney.metadata.authoritative && for_sydney.answers[0].ttl == 20);
    let own = world.resolve(www, RecordType::A, SAO_PAULO, None).await;
    assert_eq!((addresses(&own), scope(&own)), (vec![IpAddr::from([203, 0, 113, 2])], None));
    // A resolver that does not want to say whom it asks for.
    let silent = world.resolve(www, RecordType::A, SAO_PAULO, Some(("0.0.0.0", 0))).await;
    assert_eq!((addresses(&silent), scope(&silent)), (vec![IpAddr::from([203, 0, 113, 2])], Some(0)));
    let six = world.resolve(www, RecordType::AAAA, DUBLIN, None).await;
    assert_eq!(addresses(&six), ["2001:db8::1".parse::<IpAddr>().unwrap()]);
    let https = world.resolve(www, RecordType::HTTPS, DUBLIN, None).await;
    let text = https.answers[0].data.to_string();
    assert!(text.starts_with("1 . alpn=") && text.contains("203.0.113.1") && text.contains("2001:db8::1"), "{text}");
    // What there is not, and what is not ours.
    let none = world.resolve(www, RecordType::MX, DUBLIN, None).await;
    assert_eq!(
        (none.metadata.response_code, none.answers.len(), none.authorities.len()),
        (ResponseCode::NoError, 0, 1)
    );
    let own = world.resolve("ns.example.org.", RecordType::A, DUBLIN, None).await;
    assert_eq!(addresses(&own), ["192.0.2.53".parse::<IpAddr>().unwrap()]);
    // A name below which there is one.
    let between = world.resolve("deep.example.org.", RecordType::A, DUBLIN, None).await;
    assert_eq!((between.metadata.response_code, between.answers.len()), (ResponseCode::NoError, 0));
    for (name, code) in [
        ("mail.example.org.", ResponseCode::NXDomain),
        ("www.example.com.", ResponseCode::Refused),
        ("org.", ResponseCode::Refused),
    ] {
        let refused = world.resolve(name, RecordType::A, DUBLIN, None).await;
        assert_eq!(refused.metadata.response_code, code, "{name}");
    }
    for kind in [RecordType::SOA, RecordType::NS] {
        let top = world.resolve("example.org.", kind, DUBLIN, None).await;
        assert!(top.answers[0].data.to_string().starts_with("ns.example.org."), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_is_gone_gets_nobody_and_when_none_is_left_the_last_map_holds() {
    let mut world = World::new(|_| {}).await;
    assert_eq!(world.edge_of(DUBLIN).await, "edge-lon");
    let london = world.edges.remove(1);
    tokio::task::spawn_blocking(move || drop(london)).await.unwrap();
    // It has said that it leaves: from the next request on.
    assert_eq!(world.edge_of(DUBLIN).await, "edge-fra");
    let named = world.resolve("www.example.org.", RecordType::A, DUBLIN, None).await;
    assert_eq!(addresses(&named), [IpAddr::from([203, 0, 113, 0])]);
    // The last ones leave, and will come again.
    let edges = std::mem::take(&mut world.edges);
    tokio::task::spawn_blocking(move || drop(edges)).await.unwrap();
    let reply = world.ask(DUBLIN, "/").await;
    assert!(reply.field("x-route").contains("reason=last-known"), "{}", reply.field("x-route"));
    assert_eq!(addresses(&world.resolve("www.example.org.", RecordType::A, DUBLIN, None).await).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_start_the_last_map_holds_until_somebody_comes_back() {
    let mut world = World::new(|_| {}).await;
    // The control process is started anew, and nobody has come back yet.
    world.control.kill();
    let edges = std::mem::take(&mut world.edges);
    tokio::task::spawn_blocking(move || drop(edges)).await.unwrap();
    world.control.start();
    let reply = world.ask(DUBLIN, "/").await;
    assert!(reply.field("x-route").starts_with("edge-lon; reason=last-known"), "{}", reply.field("x-route"));
    let named = world.resolve("www.example.org.", RecordType::A, DUBLIN, None).await;
    assert_eq!(addresses(&named), [IpAddr::from([203, 0, 113, 1])]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_be_told_of_its_edge_in_place_of_being_sent() {
    let world = World::new(|steering| steering.answer = Answer::AltSvc).await;
    let reply = world.ask(DUBLIN, "/a").await;
    assert_eq!((reply.status.as_u16(), reply.field("alt-svc")), (200, "h2=\"lon.www.example.org:443\"; ma=60"));
    assert_eq!(reply.field("cache-control"), "no-store");
    let reply = world.ask_with(DUBLIN, Method::POST, "/form", &[], "a=b").await;
    assert_eq!(reply.status, 307, "what is sent must come there");
}
