//! Both lanes obey one law: the same history, once by plain requests that the fast path may answer, once by requests
//! that must take the long way, gets the same answers.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{Method, StatusCode};
use proptest::prelude::*;
use proptest::sample::select;

use crate::bed::{Bed, Reply, SPEECHES, Speech, answer, get, get_with, scripted, upstream};

const TARGETS: [&str; 6] = ["/a", "/a?x=1", "/a?x=1&utm=2", "/b?utm=1", "/b", "/c%2F"];
const HOSTS: [&str; 4] = ["www.example.org", "WWW.EXAMPLE.ORG:80", "other.org", "www.example.org:8080"];
const FIELDS: [(&str, &str); 9] = [
    ("accept-encoding", "gzip, br"),
    ("accept-encoding", "identity"),
    ("accept-language", "de, en"),
    ("cookie", "lang=de"),
    ("if-none-match", "\"1\""),
    ("range", "bytes=1-2"),
    ("x-lang", "de"),
    ("cache-control", "no-cache"),
    ("connection", "keep-alive"),
];
/// What the origin says, by target and generation.
const ANSWERS: [(u16, &str); 14] = [
    (200, "cache-control: max-age=60\r\n"),
    (200, "cache-control: max-age=60\r\nage: 30\r\n"),
    (200, "cache-control: max-age=60, must-revalidate\r\netag: \"1\"\r\n"),
    (200, "cache-control: max-age=60\r\nvary: x-lang\r\n"),
    (200, "cache-control: max-age=60\r\nvary: accept-encoding, accept-language\r\netag: \"2\"\r\n"),
    (200, "cache-control: no-store\r\n"),
    (200, "cache-control: no-store\r\ncdn-cache-control: max-age=30\r\n"),
    (200, "cache-control: max-age=90\r\nno-vary-search: params=(\"utm\")\r\n"),
    (200, "cache-control: no-cache\r\netag: \"1\"\r\n"),
    (200, "cache-control: max-age=60\r\ncache-groups: \"g\"\r\n"),
    (404, "cache-control: max-age=20\r\n"),
    (301, "location: /b\r\ncache-control: s-maxage=50\r\n"),
    (503, ""),
    (200, "cache-control: max-age=60\r\nset-cookie: a=1\r\n"),
];

#[derive(Debug, Clone)]
enum Step {
    Ask {
        method: &'static str,
        target: &'static str,
        host: &'static str,
        fields: Vec<(&'static str, &'static str)>,
    },
    Wait(u64),
    /// The origin changes its mind.
    Change,
}

fn step() -> impl Strategy<Value = Step> {
    let fields = proptest::collection::vec(select(FIELDS.to_vec()), 0..3);
    let method = select(vec!["GET", "GET", "GET", "GET", "HEAD", "POST"]);
    let ask = (method, select(TARGETS.to_vec()), select(HOSTS.to_vec()), prop_oneof![Just(Vec::new()), fields])
        .prop_map(|(method, target, host, fields)| Step::Ask { method, target, host, fields });
    prop_oneof![8 => ask, 2 => (0..50_u64).prop_map(Step::Wait), 1 => Just(Step::Change)]
}

/// The answer to a request depends on what it asks and on the generation, not on when or how often it is asked.
fn script(generation: &AtomicU64, head: &str) -> String {
    let generation = generation.load(Ordering::SeqCst);
    let mut words = head.split([' ', '\r']);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("-").to_owned();
    let place = target.bytes().map(u64::from).sum::<u64>() + generation * 5;
    let (status, fields) = ANSWERS[usize::try_from(place).unwrap() % ANSWERS.len()];
    if status == 200 && field("if-none-match: ").contains('"') && fields.contains(&field("if-none-match: ")) {
        return format!("HTTP/1.1 304 Not Modified\r\nconnection: close\r\nx-fresh: {generation}\r\n{fields}\r\n");
    }
    if method == "post" {
        return answer(200, "cache-group-invalidation: \"g\"\r\n", "posted");
    }
    let seen = [field("host: "), field("x-lang: "), field("accept-encoding: "), field("accept-language: ")].join("|");
    let whole = answer(status, fields, &format!("{target} {generation} {seen}"));
    if method == "head" { whole.split_inclusive("\r\n\r\n").next().unwrap_or_default().to_owned() } else { whole }
}

fn told(reply: &Reply) -> (u16, Vec<(String, String)>, String) {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let mut fields: Vec<_> = reply.fields.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    fields.sort();
    (reply.status.as_u16(), fields, String::from_utf8_lossy(&reply.body).into_owned())
}

async fn ask(bed: &Bed, method: &str, target: &str, fields: &[(&str, &str)]) -> Reply {
    let mut request = get_with(target, fields);
    *request.method_mut() = Method::from_bytes(method.as_bytes()).unwrap();
    bed.ask(Speech::H1, request).await
}

async fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let generations = [Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0))];
    let [plain, long] = generations.clone().map(|generation| move |head: &str| script(&generation, head));
    let clock = nearside_node::Clock::manual();
    let plain = Bed::scripted_by(clock.clone(), plain, |_| {}).await;
    let long = Bed::scripted_by(clock.clone(), long, |_| {}).await;
    for (place, step) in steps.iter().enumerate() {
        match step {
            Step::Wait(secs) => clock.advance(Duration::from_secs(*secs)),
            Step::Change => generations.iter().for_each(|generation| {
                generation.fetch_add(1, Ordering::SeqCst);
            }),
            Step::Ask { method, target, host, fields } => {
                let mut fields = fields.clone();
                fields.push(("host", host));
                let short = ask(&plain, method, target, &fields).await;
                // The edge takes nobody's word for this field: it changes nothing but the lane.
                fields.push(("x-forwarded-proto", "http"));
                let long = ask(&long, method, target, &fields).await;
                prop_assert_eq!(told(&short), told(&long), "step {} of {:#?}", place, steps);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, max_shrink_iters: 40, ..ProptestConfig::default() })]

    #[test]
    fn the_fast_lane_and_the_long_one_give_the_same_answers(steps in proptest::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(run(steps))?;
    }
}

/// Sends a GET and a HEAD for a stored page, a GET for one that is not stored, a POST and an upgrade, over every protocol, as a
/// client with this address. Returns the statuses.
async fn statuses(bed: &Bed, client: IpAddr) -> Vec<StatusCode> {
    let mut statuses = Vec::new();
    for (number, speech) in SPEECHES.into_iter().enumerate() {
        for (method, target) in [("GET", "/stored"), ("HEAD", "/stored"), ("GET", "/new"), ("POST", "/stored")] {
            let target = if target == "/new" { format!("/new/{client}/{number}") } else { target.to_owned() };
            let mut request = get(&target);
            *request.method_mut() = method.parse().unwrap();
            let reply = bed.ask_from(client, speech, request).await;
            if reply.status == StatusCode::FORBIDDEN {
                let member = reply.fields["cache-status"].to_str().unwrap();
                assert!(member.contains("detail=client-address"), "{member}");
                assert!(!reply.body.starts_with(b"/"), "no byte of a page");
            }
            statuses.push(reply.status);
        }
    }
    statuses
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_rule_about_addresses_holds_for_hits_and_misses_of_every_protocol() {
    let page = |head: &str| {
        let target = head.split(' ').nth(1).unwrap_or_default();
        answer(200, "cache-control: max-age=60\r\n", target)
    };
    let [allowed, denied] = [1, 2].map(|last| IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)));
    for rule in ["allow", "deny"] {
        let origin = scripted(Duration::ZERO, page).await;
        let bed = Bed::tls_with(|config| {
            config.sites[0].origins = vec![upstream(origin)];
            let clients = &mut config.sites[0].clients;
            match rule {
                "allow" => clients.allow = vec![allowed.into()],
                _ => clients.deny = vec![denied.into()],
            }
        })
        .await;
        bed.ask(Speech::H1, get("/stored")).await;
        let hit = bed.ask(Speech::H1, get("/stored")).await;
        assert!(hit.fields["cache-status"].to_str().unwrap().contains("hit"), "the page is stored");
        assert!(statuses(&bed, denied).await.iter().all(|status| *status == 403), "{rule}");
        assert!(statuses(&bed, allowed).await.iter().all(|status| *status == 200), "{rule}");
        // Nor does a field change the address that counts.
        let claims = get_with("/stored", &[("x-forwarded-for", "127.0.0.1"), ("forwarded", "for=127.0.0.1")]);
        assert_eq!(bed.ask_from(denied, Speech::H1, claims).await.status, 403, "{rule}");
        bed.until_metric(r#"nearside_cache_decisions_total{reason="client-address"} 13"#).await;
        let explanation = bed.admin(Method::GET, "/v1/explain?url=http://www.example.org/stored", "").await;
        assert_eq!(explanation.status, 200, "an operator may ask about the page from anywhere");
    }
}
