//! Two tiers: what travels through both, who is asked, and who may enter.

use std::net::SocketAddr;

use nearside_config::{Cache, Role};
use nearside_node::{Clock, Node};
use nearside_origin_sim::OriginSim;

use crate::bed::{Bed, Reply, config, get_from, loopback, secret, upstream};

struct Tiers {
    bed: Bed,
    shields: Vec<Option<Node>>,
}

impl Tiers {
    /// Two shields in front of the origin of an edge that knows both.
    async fn new() -> Self {
        let origin = OriginSim::start(loopback()).await.unwrap();
        let clock = Clock::manual();
        let shield = |id: &str| {
            let mut config = config(Role::Shield { secret: Some(secret()) }, vec![upstream(origin.address())]);
            config.id = id.parse().unwrap();
            config.cache = Cache::of(16 << 20);
            nearside_shield::start(config, clock.clone()).unwrap()
        };
        let shields = vec![shield("shield-a"), shield("shield-b")];
        let addresses: Vec<_> = shields.iter().map(|shield| upstream(shield.addresses()[0])).collect();
        let bed = Bed::before(origin, clock, |config| {
            config.role = Role::Edge { shields: addresses, secret: Some(secret()) };
        });
        Self { bed, shields: shields.into_iter().map(Some).collect() }
    }

    fn address(&self, shield: usize) -> SocketAddr {
        self.shields[shield].as_ref().unwrap().addresses()[0]
    }
}

fn fields(reply: &Reply) -> Vec<(String, String)> {
    let echo: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
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
            let socket = tokio::net::TcpStream::connect(address).await.unwrap();
            let request = crate::bed::get_with(path, &[("x-forwarded-proto", scheme)]);
            crate::bed::read(crate::bed::send_h1(socket, request).await.unwrap()).await.unwrap()
        }
    };
    assert!(ask("http").await.cache().contains("uri-miss"));
    assert!(ask("https").await.cache().contains("uri-miss"));
    assert!(ask("http").await.cache().contains("; hit") && ask("https").await.cache().contains("; hit"));
}
