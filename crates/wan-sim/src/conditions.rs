//! How things stand between two places: the round trip, and what was broken.

use std::collections::HashMap;
use std::time::Duration;

use nearside_config::{Quality, Wan, WanPlace};
use nearside_geo::City;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Things that can be broken at one time.
const FAULTS_MAX: usize = 1000;
/// Nothing is slower than this.
const SLOWER_MAX_MS: f64 = 10_000.0;

/// What is broken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The name of a place, for all ways to it; or two codes of cities, `fra-iad`, for all ways between them.
    pub what: String,
    /// Nothing comes through.
    #[serde(default)]
    pub cut: bool,
    /// The round trip is longer by so many milliseconds.
    #[serde(default)]
    pub slower_ms: f64,
}

/// Why something cannot be broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// There is nothing of this name.
    #[error("there is neither a place nor two cities {what:?}; known here: {known}")]
    Unknown {
        /// The name.
        what: String,
        /// What there is.
        known: String,
    },
    /// It would change nothing, or is no time.
    #[error("write \"cut\": true, or \"slower_ms\": a number from 0 to 10000")]
    Nothing,
    /// Too much is broken.
    #[error("{FAULTS_MAX} things are broken already: heal some")]
    TooMany,
}

/// The two ends of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    cities: [&'static City; 2],
    /// Of the places at the ends; a browser has none.
    names: [Option<String>; 2],
}

impl Way {
    pub(crate) fn between(from: &WanPlace, to: &WanPlace) -> Self {
        let names = [Some(from.name.to_string()), Some(to.name.to_string())];
        Self { cities: [from.city, to.city], names }
    }

    pub(crate) fn of_viewer(city: &'static City, to: &WanPlace) -> Self {
        Self { cities: [city, to.city], names: [None, Some(to.name.to_string())] }
    }

    fn has(&self, what: &str) -> bool {
        let [a, b] = self.cities.map(|city| city.code);
        let is_between = what.split_once('-').is_some_and(|(x, y)| (x, y) == (a, b) || (y, x) == (a, b));
        is_between || self.names.iter().flatten().any(|name| name == what)
    }
}

/// How a way is at this moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct State {
    pub(crate) round_trip: Duration,
    pub(crate) is_cut: bool,
    pub(crate) quality: Quality,
}

/// How all ways are.
#[derive(Debug)]
pub(crate) struct Conditions {
    round_trips: HashMap<(&'static str, &'static str), Duration>,
    quality: Quality,
    pub(crate) seed: u64,
    places: Vec<String>,
    faults: Mutex<Vec<Fault>>,
    changed: watch::Sender<()>,
}

impl Conditions {
    pub(crate) fn new(config: &Wan) -> Self {
        let known = config.round_trips.iter().flat_map(|known| {
            let [a, b] = known.between.map(|city| city.code);
            [((a, b), known.time), ((b, a), known.time)]
        });
        Self {
            round_trips: known.collect(),
            quality: config.quality,
            seed: config.seed,
            places: config.places.iter().map(|place| place.name.to_string()).collect(),
            faults: Mutex::default(),
            changed: watch::Sender::new(()),
        }
    }

    /// How long there and back, when nothing is broken.
    pub(crate) fn round_trip(&self, from: &City, to: &City) -> Duration {
        let known = self.round_trips.iter().find(|((a, b), _)| *a == from.code && *b == to.code);
        known.map_or_else(|| from.place().round_trip(to.place()), |(_, time)| *time)
    }

    pub(crate) fn state(&self, way: &Way) -> State {
        let [from, to] = way.cities;
        let mut state = State { round_trip: self.round_trip(from, to), is_cut: false, quality: self.quality };
        for fault in self.faults.lock().iter().filter(|fault| way.has(&fault.what)) {
            state.is_cut |= fault.cut;
            state.round_trip += Duration::from_secs_f64(fault.slower_ms / 1000.0);
        }
        state
    }

    /// How it is, once something comes through.
    pub(crate) async fn once_whole(&self, way: &Way) -> State {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            let state = self.state(way);
            if !state.is_cut || changed.changed().await.is_err() {
                return state;
            }
        }
    }

    pub(crate) fn faults(&self) -> Vec<Fault> {
        self.faults.lock().clone()
    }

    /// Breaks something; in the place of what was broken of the same name.
    pub(crate) fn breaks(&self, fault: Fault) -> Result<(), FaultError> {
        let is_two = |what: &str| {
            let (a, b) = what.split_once('-').unwrap_or_default();
            let is_code = |code: &str| nearside_geo::CITIES.iter().any(|city| city.code == code);
            is_code(a) && is_code(b)
        };
        if !self.places.contains(&fault.what) && !is_two(&fault.what) {
            let known = format!("{}, and codes of two cities such as fra-iad", self.places.join(", "));
            return Err(FaultError::Unknown { what: fault.what, known });
        }
        let is_time = (0.0..=SLOWER_MAX_MS).contains(&fault.slower_ms);
        if !is_time || !fault.cut && fault.slower_ms == 0.0 {
            return Err(FaultError::Nothing);
        }
        let mut faults = self.faults.lock();
        faults.retain(|other| other.what != fault.what);
        if faults.len() >= FAULTS_MAX {
            return Err(FaultError::TooMany);
        }
        faults.push(fault);
        drop(faults);
        self.changed.send_replace(());
        Ok(())
    }

    /// Heals what is broken of a name, or all.
    pub(crate) fn heals(&self, what: Option<&str>) {
        self.faults.lock().retain(|fault| what.is_some_and(|what| fault.what != what));
        self.changed.send_replace(());
    }
}
