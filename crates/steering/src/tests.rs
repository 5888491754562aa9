use std::time::Duration;

use nearside_config::{HostPattern, Policy};
use nearside_geo::city;

use super::*;

const CLIENT: &str = "192.0.2.7";

/// Whether an edge is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Reachable,
    Unreachable,
    Left,
}

/// An edge in the city that it is named after.
#[derive(Debug)]
struct Listed {
    member: Member,
    hosts: Vec<HostPattern>,
    state: State,
}

/// A fleet that never changes.
#[derive(Debug)]
struct Fixed(Vec<Listed>);

impl Fleet for Fixed {
    fn for_each_edge(&self, visit: &mut dyn FnMut(&EdgeState<'_>)) {
        for Listed { member, hosts, state } in &self.0 {
            let (is_alive, has_left) = (*state == State::Reachable, *state == State::Left);
            visit(&EdgeState { member, hosts, is_alive, has_left, load: None });
        }
    }
}

fn listed(name: &'static str, hosts: &[&str], state: State) -> Listed {
    let reach = Reach { url: Some("https://edge.example".to_owned()), addresses: Vec::new(), capacity: None };
    let member = Member {
        id: name.to_owned(),
        role: "edge".to_owned(),
        city: Some(name.to_owned()),
        version: String::new(),
        sites: Vec::new(),
        place: Some(city(name).unwrap().place()),
        reach: Some(reach),
        admin: None,
    };
    Listed { member, hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(), state }
}

fn steering(edges: Vec<Listed>) -> Steering {
    let config = Config {
        listen: None,
        dns: None,
        policy: Policy::MeasuredLoad,
        answer: Answer::Redirect,
        table: None,
        mmdb: None,
        trusted_proxies: Vec::new(),
        secret: None,
        report_every: Duration::ZERO,
        report_hosts: Vec::new(),
        place: None,
    };
    Steering::new(config, Arc::new(Fixed(edges))).unwrap()
}

fn client() -> IpAddr {
    CLIENT.parse().unwrap()
}

fn chosen(steering: &Steering, host: &str) -> Option<String> {
    steering.choose(host, client(), |_| true).map(|choice| choice.member.id)
}

#[test]
fn an_edge_serves_the_hosts_of_its_sites() {
    let steering = steering(vec![
        listed("London", &["www.example.org"], State::Reachable),
        listed("Tokyo", &["*.example.net"], State::Reachable),
    ]);
    for (host, edge) in [
        ("www.example.org", Some("London")),
        ("WWW.example.org.:8080", Some("London")),
        ("a.example.net", Some("Tokyo")),
        ("example.net", None),
        ("other.example", None),
    ] {
        assert_eq!(chosen(&steering, host).as_deref(), edge, "{host}");
        assert_eq!(steering.serves(host), edge.is_some(), "{host}");
    }
    assert!(steering.serves_below("example.org") && steering.serves_below("example.net"));
    assert!(!steering.serves_below("www.example.org"));
}

#[test]
fn an_edge_that_is_gone_is_chosen_only_where_no_other_is_reached() {
    for gone in [State::Unreachable, State::Left] {
        let both = vec![listed("London", &["*"], gone), listed("Tokyo", &["*"], State::Reachable)];
        assert_eq!(chosen(&steering(both), "a.example").as_deref(), Some("Tokyo"), "{gone:?}");
        let one = steering(vec![listed("London", &["*"], gone)]);
        assert_eq!(chosen(&one, "a.example").as_deref(), Some("London"), "{gone:?}");
    }
}

#[test]
fn a_measurement_of_an_edge_that_has_left_is_not_remembered() {
    let steering = steering(vec![
        listed("London", &["*"], State::Reachable),
        listed("Paris", &["*"], State::Unreachable),
        listed("Tokyo", &["*"], State::Left),
    ]);
    let ids = ["London", "Paris", "Tokyo", "Atlantis"];
    assert_eq!(ids.map(|id| steering.report(client(), id, 20.0)), [true, true, false, false]);
}

#[test]
fn pages_are_known_by_the_hosts_that_sites_name() {
    let steering = steering(vec![
        listed("London", &["www.example.org"], State::Reachable),
        listed("Tokyo", &["*"], State::Reachable),
    ]);
    assert!(steering.knows_page("https://www.example.org"));
    assert!(!steering.knows_page("https://other.example"), "a site for any host names none");
    assert!(!steering.knows_page("null"));
}
