//! Nodes with a credential each: none registers as another, or has clients sent to where it is not.

use std::net::IpAddr;
use std::time::Duration;

use http::Method;
use nearside_config::{Config, Follows, NodeCredential, NodeRole, Public, Scope, Secret, Token};
use nearside_node::Clock;
use nearside_origin_sim::OriginSim;
use serde_json::{Value, json};

use crate::bed::{Bed, loopback, upstream};
use crate::fleet::Controller;

fn secret_of(node: &str) -> Secret {
    Secret::new(&format!("the-secret-of-{node}")).unwrap()
}

fn credential(city: &str, number: u8) -> NodeCredential {
    let id = format!("edge-{city}");
    let mut credential = NodeCredential::new(id.parse().unwrap(), NodeRole::Edge, secret_of(&id));
    credential.addresses = vec![IpAddr::from([203, 0, 113, number])];
    credential.url = Some(format!("https://{city}.{{host}}").parse().unwrap());
    credential
}

/// An edge in a city that shows a secret.
async fn edge(control: &Controller, city: &str, number: u8, secret: Secret) -> Bed {
    let address = upstream(control.address);
    let change = |config: &mut Config| {
        config.id = format!("edge-{city}").parse().unwrap();
        config.place = nearside_geo::city(city).map(nearside_geo::City::place);
        config.sites[0].hosts = vec!["www.example.org".parse().unwrap()];
        config.public = Public {
            url: Some(format!("https://{city}.{{host}}").parse().unwrap()),
            addresses: vec![IpAddr::from([203, 0, 113, number])],
            capacity: None,
        };
        config.control =
            Some(Follows { addresses: vec![address], secret: Some(secret), lag_max: Duration::from_secs(5) });
    };
    Bed::before(OriginSim::start(loopback()).await.unwrap(), Clock::manual(), change)
}

fn hello(id: &str, role: &str, address: &str, url: &str) -> Value {
    json!({
        "member": {
            "id": id, "role": role, "city": null, "version": "1", "sites": [{"name": "www", "hosts": ["www.example.org"]}],
            "place": [51.5, -0.1], "reach": {"url": url, "addresses": [address], "capacity": null}
        },
        "instance": 7, "at": null
    })
}

/// What a registration is answered with that is refused.
async fn refused(control: &Controller, secret: &Secret, hello: &Value) -> (u16, String) {
    let shown = format!("Bearer {}", secret.reveal());
    let fields = [("authorization", shown.as_str())];
    let asked = control.ask(Method::POST, "/v1/fleet/follow", hello, &fields);
    // One that is accepted goes on for ever.
    let (status, said) = tokio::time::timeout(Duration::from_secs(20), asked).await.expect("it is accepted").unwrap();
    (status, said["code"].as_str().unwrap_or_default().to_owned())
}

async fn edge_for_london(control: &Controller) -> Value {
    let (_, page) = control
        .ask(Method::GET, "/v1/route/explain?ip=192.0.2.1&host=www.example.org", &Value::Null, &[])
        .await
        .unwrap();
    page["edge"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_a_credential_is_that_node_and_takes_no_others_clients() {
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("networks.csv");
    std::fs::write(&table, "192.0.2.0/24,London\n").unwrap();
    let control = Controller::new(|config| {
        config.node_credentials = vec![credential("lon", 1), credential("fra", 2)];
        config.steering = Some(crate::steering::router_with(table));
    });
    let _lon = edge(&control, "lon", 1, secret_of("edge-lon")).await;
    let _fra = edge(&control, "fra", 2, secret_of("edge-fra")).await;
    control.until(&[("edge-fra", "ready"), ("edge-lon", "ready")]).await;
    assert_eq!(edge_for_london(&control).await, "edge-lon");
    let fra = secret_of("edge-fra");
    let (own, evil) = ("203.0.113.2", "198.51.100.9");
    let own_url = "https://fra.{host}";
    for (what, hello) in [
        ("another node", hello("edge-lon", "edge", own, own_url)),
        ("a new node", hello("edge-new", "edge", own, own_url)),
        ("another role", hello("edge-fra", "shield", own, own_url)),
        ("another address", hello("edge-fra", "edge", evil, own_url)),
        ("another node's address", hello("edge-fra", "edge", "203.0.113.1", own_url)),
        ("another url", hello("edge-fra", "edge", own, "https://evil.example")),
    ] {
        assert_eq!(refused(&control, &fra, &hello).await, (403, "node-bound".to_owned()), "{what}");
    }
    // Nor does it speak for another.
    let shown = format!("Bearer {}", fra.reveal());
    for (path, body) in [
        (
            "/v1/fleet/beat",
            json!({"node": "edge-lon", "instance": 1, "at": {"log": "l", "seq": 0}, "leaves": true, "done": []}),
        ),
        ("/v1/fleet/purge", json!({"node": "edge-lon", "order": {"all": true}})),
    ] {
        let (status, said) = control.ask(Method::POST, path, &body, &[("authorization", &shown)]).await.unwrap();
        assert_eq!((status, said["code"].as_str()), (403, Some("node-bound")), "{path}: {said}");
    }
    control.until(&[("edge-fra", "ready"), ("edge-lon", "ready")]).await;
    assert_eq!(edge_for_london(&control).await, "edge-lon");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shared_secret_still_works_for_names_without_a_credential() {
    let shared = secret_of("all-nodes");
    let secret = shared.clone();
    let control = Controller::new(|config| {
        config.nodes = Some(Token { name: "nodes".to_owned(), secret, scope: Scope::Admin, sites: Vec::new() });
        config.node_credentials = vec![credential("lon", 1)];
    });
    let _old = edge(&control, "fra", 2, shared.clone()).await;
    control.until(&[("edge-fra", "ready")]).await;
    let as_other = hello("edge-lon", "edge", "203.0.113.1", "https://lon.{host}");
    assert_eq!(refused(&control, &shared, &as_other).await, (403, "node-bound".to_owned()));
    for (id, role, code) in
        [("edge lon", "edge", "node-id"), ("\u{1b}[2J", "edge", "node-id"), ("a", "control", "node-role")]
    {
        let hello = hello(id, role, "203.0.113.1", "https://lon.{host}");
        assert_eq!(refused(&control, &shared, &hello).await, (422, code.to_owned()), "{id:?} {role}");
    }
    let unknown = refused(&control, &secret_of("nobody-at-all"), &as_other).await;
    assert_eq!(unknown, (401, "token-unknown".to_owned()));
}
