//! Which edge a client is sent to, and why: one decision, whoever asks for it.

use std::time::Duration;

use nearside_config::Policy;
use nearside_geo::Place;
use serde::Serialize;

use crate::measured::Measured;

/// From here on an edge that is that much of its capacity is less attractive, step by step.
const BUSY: f64 = 0.7;

/// Limits of how far measurements move a client: by distance, the round trip to an edge may be so many times that to the edge which
/// would be chosen without measurements, and this many milliseconds more. For a client beside an edge that is 4,500 km, for one
/// 1,500 km away 7,500 km: all edges of its continent, and none on the other side of the world.
const FARTHER_TIMES: f64 = 2.0;
const FARTHER_MS: f64 = 50.0;

/// An edge that might serve a client.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Candidate {
    pub(crate) id: String,
    pub(crate) place: Option<Place>,
    pub(crate) is_alive: bool,
    /// How much of its capacity is in use; nothing: it has none.
    pub(crate) load: Option<f64>,
    /// What the client's network has measured of it.
    pub(crate) measured: Option<Measured>,
}

/// Why an edge was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Reason {
    /// It has the shortest round trip that was measured.
    Rtt,
    /// It is the nearest.
    Geo,
    /// Another is nearer, and has too much to do.
    Load,
    /// There is no other.
    Only,
    /// It is not known where the client is: any will do, and this has the least to do.
    Unknown,
    /// No edge can be reached from here: it is one of those that could, when they were heard of last.
    LastKnown,
}

impl Reason {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Rtt => "rtt",
            Self::Geo => "geo",
            Self::Load => "load",
            Self::Only => "only",
            Self::Unknown => "unknown",
            Self::LastKnown => "last-known",
        }
    }
}

/// What was thought of an edge.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Ranked {
    pub(crate) id: String,
    /// Along the great circle.
    pub(crate) distance_km: Option<f64>,
    /// The round trip that the distance tells.
    pub(crate) by_distance_ms: Option<f64>,
    /// The round trip that is expected.
    pub(crate) expected_ms: Option<f64>,
    /// Whether that was measured; else it comes from the distance.
    pub(crate) is_measured: bool,
    /// Reports of this moment that it rests on.
    pub(crate) weight: f64,
    pub(crate) load: Option<f64>,
    /// What is compared: the expected round trip, and what its load adds.
    pub(crate) score_ms: Option<f64>,
    /// Whether it is farther away than measurements may move a client: then it comes after those that are not.
    pub(crate) is_too_far: bool,
    /// Why it is not to be chosen: `unreachable`, `full`.
    pub(crate) excluded: Option<&'static str>,
}

impl Ranked {
    /// Whether it can be reached, as far as is known.
    pub(crate) fn is_alive(&self) -> bool {
        self.excluded != Some(UNREACHABLE)
    }
}

/// A decision: the edges in the order of preference, the first of which is chosen.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Decision {
    pub(crate) reason: Reason,
    pub(crate) ranked: Vec<Ranked>,
}

impl Decision {
    pub(crate) fn chosen(&self) -> Option<&Ranked> {
        self.ranked.first()
    }
}

/// Chooses among edges that all serve what the client wants; nothing if there is none. `draw` is the same for all that come from one
/// network, and tells apart who is sent where if nothing else does.
pub(crate) fn decide(policy: Policy, client: Option<Place>, candidates: &[Candidate], draw: u64) -> Option<Decision> {
    let any_alive = candidates.iter().any(|candidate| candidate.is_alive);
    let mut ranked: Vec<_> = candidates.iter().map(|candidate| rank(policy, client, candidate, any_alive)).collect();
    if ranked.iter().all(|one| one.excluded.is_some()) {
        // All that are alive are full: then full ones serve.
        ranked.iter_mut().filter(|one| one.excluded == Some(FULL)).for_each(|one| one.excluded = None);
    }
    // Whoever reports what is not true moves a network to the next edges, and not around the world.
    if let Some(farthest_ms) = farthest_ms(&ranked, policy) {
        let is_too_far = |one: &Ranked| one.by_distance_ms.is_some_and(|ms| ms > farthest_ms);
        ranked.iter_mut().for_each(|one| one.is_too_far = is_too_far(one));
    }
    ranked.sort_by(|a, b| {
        let place = |one: &Ranked| (one.excluded.is_some(), one.is_too_far, one.score_ms.is_none());
        let score = |one: &Ranked| one.score_ms.unwrap_or_else(|| one.load.unwrap_or(0.0));
        place(a)
            .cmp(&place(b))
            .then(score(a).total_cmp(&score(b)))
            .then_with(|| spread(draw, &b.id).cmp(&spread(draw, &a.id)))
    });
    let chosen = ranked.first()?;
    // What it would have been, had nobody anything to do.
    let ms = |one: &Ranked| one.expected_ms.unwrap_or(f64::INFINITY);
    let nearest = ranked.iter().filter(|one| one.is_alive() && !one.is_too_far).min_by(|a, b| ms(a).total_cmp(&ms(b)));
    let choices = ranked.iter().filter(|one| one.excluded.is_none()).count();
    let reason = if !any_alive {
        Reason::LastKnown
    } else if nearest.is_some_and(|nearest| ms(nearest) < ms(chosen)) {
        Reason::Load
    } else if choices == 1 {
        Reason::Only
    } else if chosen.expected_ms.is_none() {
        Reason::Unknown
    } else if chosen.is_measured {
        Reason::Rtt
    } else {
        Reason::Geo
    };
    Some(Decision { reason, ranked })
}

/// The round trip by distance beyond which an edge is too far for measurements to lead there: nothing where no place is known.
fn farthest_ms(ranked: &[Ranked], policy: Policy) -> Option<f64> {
    let burdened =
        |one: &Ranked| Some(one.by_distance_ms? * burden(one.load.filter(|_| policy == Policy::MeasuredLoad)));
    let open = ranked.iter().filter(|one| one.excluded.is_none());
    let home = open.filter_map(|one| Some((burdened(one)?, one.by_distance_ms?))).min_by(|a, b| a.0.total_cmp(&b.0));
    home.map(|(_, ms)| ms * FARTHER_TIMES + FARTHER_MS)
}

const UNREACHABLE: &str = "unreachable";
const FULL: &str = "full";

fn rank(policy: Policy, client: Option<Place>, candidate: &Candidate, any_alive: bool) -> Ranked {
    let between = client.zip(candidate.place);
    let ms = |span: Duration| span.as_secs_f64() * 1000.0;
    let by_distance = between.map(|(client, edge)| ms(client.round_trip(edge)));
    let believed = candidate.measured.filter(|measured| policy != Policy::Geo && measured.is_confident());
    let expected_ms = believed.map(|measured| measured.p50_ms).or(by_distance);
    let load = candidate.load.filter(|_| policy == Policy::MeasuredLoad);
    let is_full = load.is_some_and(|load| load >= 1.0);
    let excluded = if any_alive && !candidate.is_alive {
        Some(UNREACHABLE)
    } else if is_full {
        Some(FULL)
    } else {
        None
    };
    Ranked {
        id: candidate.id.clone(),
        distance_km: between.map(|(client, edge)| client.distance_km(edge).round()),
        by_distance_ms: by_distance,
        expected_ms,
        is_measured: believed.is_some(),
        weight: candidate.measured.map_or(0.0, |measured| measured.weight),
        load: candidate.load,
        score_ms: expected_ms.map(|ms| ms * burden(load)),
        is_too_far: false,
        excluded,
    }
}

/// How much longer a way seems to an edge with so much to do: twice as long half-way between busy and full.
fn burden(load: Option<f64>) -> f64 {
    let busy = ((load.unwrap_or(0.0) - BUSY) / (1.0 - BUSY)).clamp(0.0, 0.99);
    1.0 / (1.0 - busy)
}

/// The same for one network and edge, and else like drawn.
fn spread(draw: u64, id: &str) -> u64 {
    let mut state = ahash::RandomState::with_seeds(draw, 1, 2, 3).hash_one(id);
    state ^= state >> 31;
    state
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use nearside_geo::city;

    use super::*;

    fn place(name: &str) -> Option<Place> {
        Some(city(name).unwrap().place())
    }

    fn edge(name: &str) -> Candidate {
        Candidate { id: name.to_owned(), place: place(name), is_alive: true, load: None, measured: None }
    }

    fn measured(ms: f64, weight: f64) -> Option<Measured> {
        Some(Measured { p50_ms: ms, p90_ms: ms, weight })
    }

    fn chosen(policy: Policy, client: Option<Place>, candidates: &[Candidate]) -> (String, Reason) {
        let decision = decide(policy, client, candidates, 7).unwrap();
        (decision.chosen().unwrap().id.clone(), decision.reason)
    }

    #[test]
    fn the_nearest_is_chosen_where_nothing_was_measured() {
        let edges = ["Frankfurt", "London", "New York", "San Francisco", "Tokyo", "Sydney"].map(edge);
        for (client, nearest) in [
            ("São Paulo", "New York"),
            ("Mexico City", "San Francisco"),
            ("Lagos", "Frankfurt"),
            ("Mumbai", "Frankfurt"),
            ("Singapore", "Tokyo"),
            ("Auckland", "Sydney"),
            ("Dublin", "London"),
        ] {
            let (id, reason) = chosen(Policy::MeasuredLoad, place(client), &edges);
            assert_eq!((id.as_str(), reason), (nearest, Reason::Geo), "{client}");
        }
    }

    #[test]
    fn what_was_measured_counts_once_it_is_believed() {
        let mut edges = ["Frankfurt", "London"].map(edge);
        let client = place("Paris");
        assert_eq!(chosen(Policy::Measured, client, &edges), ("London".to_owned(), Reason::Geo));
        edges[0].measured = measured(3.0, 1.0);
        assert_eq!(chosen(Policy::Measured, client, &edges).0, "London", "one report");
        edges[0].measured = measured(3.0, 5.0);
        assert_eq!(chosen(Policy::Measured, client, &edges), ("Frankfurt".to_owned(), Reason::Rtt));
        assert_eq!(chosen(Policy::Geo, client, &edges).0, "London");
        edges[0].measured = measured(90.0, 5.0);
        assert_eq!(chosen(Policy::Measured, client, &edges), ("London".to_owned(), Reason::Geo));
        // Without a place, what was measured is all that there is.
        assert_eq!(chosen(Policy::Measured, None, &edges), ("Frankfurt".to_owned(), Reason::Rtt));
    }

    #[test]
    fn what_was_reported_moves_nobody_around_the_world() {
        let mut edges = ["Frankfurt", "London", "New York", "Sydney"].map(edge);
        let slow = |edges: &mut [Candidate], names: &[&str]| {
            for edge in edges.iter_mut().filter(|edge| names.contains(&edge.id.as_str())) {
                edge.measured = measured(9000.0, 10.0);
            }
        };
        let near = place("London");
        edges[3].measured = measured(114.0, 10.0);
        slow(&mut edges, &["London"]);
        assert_eq!(chosen(Policy::Measured, near, &edges).0, "Frankfurt", "the next one");
        slow(&mut edges, &["London", "Frankfurt"]);
        edges[2].measured = measured(40.0, 10.0);
        let decision = decide(Policy::Measured, near, &edges, 7).unwrap();
        assert!(["London", "Frankfurt"].contains(&decision.chosen().unwrap().id.as_str()), "{decision:?}");
        let too_far = |name: &str| decision.ranked.iter().find(|one| one.id == name).unwrap().is_too_far;
        assert_eq!(["London", "Frankfurt", "New York", "Sydney"].map(too_far), [false, false, true, true]);
        // Who has no edge near may be moved to one that is not much farther.
        edges[2].measured = None;
        slow(&mut edges, &["London", "Frankfurt"]);
        assert_eq!(chosen(Policy::Measured, place("Mumbai"), &edges).0, "Sydney");
        // Where the near ones are gone, or full, the others are not too far.
        edges[3].measured = None;
        edges[0].is_alive = false;
        edges[1].is_alive = false;
        assert_eq!(chosen(Policy::Measured, near, &edges).0, "New York");
        edges[0].is_alive = true;
        edges[1].is_alive = true;
        edges[0].load = Some(1.5);
        edges[1].load = Some(1.5);
        assert_eq!(chosen(Policy::MeasuredLoad, near, &edges).0, "New York");
    }

    #[test]
    fn a_dead_edge_is_not_chosen_while_another_lives() {
        let mut edges = ["Frankfurt", "London"].map(edge);
        edges[1].is_alive = false;
        assert_eq!(chosen(Policy::Geo, place("Dublin"), &edges), ("Frankfurt".to_owned(), Reason::Only));
        edges[0].is_alive = false;
        assert_eq!(chosen(Policy::Geo, place("Dublin"), &edges), ("London".to_owned(), Reason::LastKnown));
        assert!(decide(Policy::Geo, place("Dublin"), &[], 7).is_none());
    }

    #[test]
    fn load_makes_an_edge_less_attractive_and_a_full_one_is_the_last_resort() {
        let mut edges = ["Frankfurt", "London"].map(edge);
        let client = place("Dublin");
        for (load, policy, expected) in [
            (0.6, Policy::MeasuredLoad, ("London", Reason::Geo)),
            (0.97, Policy::MeasuredLoad, ("Frankfurt", Reason::Load)),
            (1.5, Policy::MeasuredLoad, ("Frankfurt", Reason::Load)),
            (1.5, Policy::Measured, ("London", Reason::Geo)),
        ] {
            edges[1].load = Some(load);
            let (id, reason) = chosen(policy, client, &edges);
            assert_eq!((id.as_str(), reason), expected, "{load} {policy:?}");
        }
        edges[0].load = Some(2.0);
        assert_eq!(chosen(Policy::MeasuredLoad, client, &edges).0, "London", "both are full");
        edges[1].is_alive = false;
        assert_eq!(chosen(Policy::MeasuredLoad, client, &edges).0, "Frankfurt", "full is better than dead");
    }

    #[test]
    fn clients_of_unknown_places_are_spread_and_each_network_stays() {
        let edges = ["Frankfurt", "London", "Tokyo"].map(edge);
        let of = |draw| decide(Policy::Geo, None, &edges, draw).unwrap();
        assert_eq!(of(1).reason, Reason::Unknown);
        assert_eq!(of(1).chosen().unwrap().id, of(1).chosen().unwrap().id);
        let seen: std::collections::BTreeSet<_> = (0..100).map(|draw| of(draw).chosen().unwrap().id.clone()).collect();
        assert_eq!(seen.len(), 3);
    }
}
