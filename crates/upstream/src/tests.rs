use nearside_config::{Secret, Site};
use nearside_telemetry::clock::instant;

use super::*;

const SITE: SiteId = SiteId::new(0);

/// The upstreams of an edge with these shields, for a site with two origins.
fn hops(shields: &[&str], fallback: Fallback) -> Hops {
    let upstream = |host: &&str| format!("http://{host}").parse().unwrap();
    let site = Site::new("shop", vec!["a.org".parse().unwrap()], ["o1:80", "o2:80"].iter().map(upstream).collect());
    let shields = shields.iter().map(upstream).collect();
    let role = Role::Edge { shields, secret: Some(Secret::new("s3cret-s3cret-s3cret").unwrap()), fallback };
    Hops::new(&Config::new(role, vec![site]), Box::new(|| None))
}

/// Marks these as down at `now`.
fn take_out(hops: &Hops, names: &[&str], now: Instant) {
    for hop in hops.all().filter(|hop| names.iter().any(|name| hop.name.contains(name))) {
        for _ in 0..10 {
            hop.health.failed(Failure::Connect, 0, now);
        }
        assert!(!hop.health.is_in(), "{}", hop.name);
    }
}

fn asked(hops: &Hops, key: &[u8], now: Instant) -> Vec<String> {
    let name = |hop: Arc<Hop>| hop.name.trim_start_matches("http://").split(':').next().unwrap_or_default().to_owned();
    hops.candidates_at(SITE, key, now).into_iter().map(name).collect()
}

#[test]
fn shields_are_asked_before_origins_and_origins_only_where_that_is_wanted() {
    for (shields, fallback, expected) in [
        (&["s1:80"][..], Fallback::Origin, vec!["s1", "o1", "o2"]),
        (&["s1:80"], Fallback::None, vec!["s1"]),
        // Without shields there is nothing to fall back from.
        (&[], Fallback::None, vec!["o1", "o2"]),
    ] {
        assert_eq!(asked(&hops(shields, fallback), b"k", instant()), expected, "{shields:?}");
    }
}

#[test]
fn each_key_has_a_shield_of_its_own_and_all_keys_use_all_shields() {
    let (hops, now) = (hops(&["s1:80", "s2:80", "s3:80"], Fallback::None), instant());
    let firsts: HashSet<_> = (0..100_u8).map(|key| asked(&hops, &[key], now)[0].clone()).collect();
    assert_eq!(firsts.len(), 3);
    assert_eq!(asked(&hops, b"k", now), asked(&hops, b"k", now));
    let before = asked(&hops, b"k", now);
    take_out(&hops, &[&before[0]], now);
    assert_eq!(asked(&hops, b"k", now), before[1..], "the others keep their order");
}

#[test]
fn a_shield_that_is_down_is_not_asked_and_an_origin_only_after_those_that_are_up() {
    let (hops, now) = (hops(&["s1:80", "s2:80"], Fallback::Origin), instant());
    take_out(&hops, &["s1", "o1"], now);
    assert_eq!(asked(&hops, b"k", now), ["s2", "o2", "o1"]);
    assert!(!hops.are_down_at(SITE, now));
    take_out(&hops, &["s2", "o2"], now);
    assert_eq!(asked(&hops, b"k", now), ["o1", "o2"], "somebody has to be tried");
    assert!(hops.are_down_at(SITE, now));
    let trial = now + std::time::Duration::from_secs(1);
    assert!(!hops.are_down_at(SITE, trial), "origins are tried again, which shields are by probes only");
    assert_eq!(asked(&hops, b"k", trial), ["o1", "o2"]);
}

#[test]
fn a_site_that_is_not_configured_has_no_origins() {
    assert!(hops(&[], Fallback::None).candidates(SiteId::new(7), b"k").is_empty());
}

#[test]
fn only_an_answer_that_was_broken_off_from_outside_can_be_resumed() {
    let hop: Arc<str> = "origin".into();
    let response = |source| HopError::Response { hop: Arc::clone(&hop), source };
    for (error, expected) in [
        (HopError::Short, true),
        (HopError::Timeout { hop: Arc::clone(&hop) }, true),
        (response(ResponseError::Closed), true),
        (response(ResponseError::TooLong), false),
        (response(ResponseError::Unasked), false),
        (HopError::Changed { hop: Arc::clone(&hop) }, false),
        (HopError::Body, false),
        (HopError::OverShare { hop: Arc::clone(&hop) }, false),
    ] {
        assert_eq!(error.is_interruption(), expected, "{error}");
    }
}

#[test]
fn a_logged_path_has_no_query_and_is_short() {
    let long = [b'a'; 300];
    let shortened = format!("{}\u{2026}", "a".repeat(256));
    for (target, expected) in [
        (&b"/p?secret=1"[..], "/p"),
        (b"/p", "/p"),
        (b"?secret", ""),
        (&long, &shortened),
        (&long[..256], &shortened[..256]),
    ] {
        assert_eq!(logged_path(target), expected);
    }
}
