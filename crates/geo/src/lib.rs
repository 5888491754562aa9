//! Places on earth: cities by name, how far two places are from each other, and how long a packet takes there and back.
//!
//! Plain figures, for steering (where nothing was measured) and for the simulated WAN.
//!
//! **Invariant:** the same two places always give the same time, in both directions.

mod cities;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use cities::{CITIES, City, ascii_name, city, city_hint, similar_cities};

/// Kilometres that light goes in a millisecond in glass: two thirds of its speed in vacuum.
const KM_PER_MS: f64 = 199.86;
/// Cables do not go straight: measured round trips between large cities over oceans and continents (London to New York 70 ms, San
/// Francisco to Tokyo 104 ms, Los Angeles to Sydney 148 ms) are about this much longer than the great circle.
const DETOUR: f64 = 1.2;
/// The way to the first exchange and from the last, in milliseconds there and back.
const ACCESS_MS: f64 = 4.0;
/// Mean radius of the earth (IUGG).
const EARTH_KM: f64 = 6371.0;
/// So finely a place is known: a millionth of a degree, 11 cm.
const MICRO: f64 = 1e6;

/// A place, in degrees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "[f64; 2]", into = "[f64; 2]")]
pub struct Place {
    latitude_micro: i32,
    longitude_micro: i32,
}

/// No place has these degrees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoPlace;

impl fmt::Display for NoPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a latitude from -90 to 90 and a longitude from -180 to 180, in degrees")
    }
}

impl std::error::Error for NoPlace {}

impl Place {
    /// A place by its degrees: north and east are positive.
    ///
    /// # Errors
    ///
    /// No place on earth has these.
    pub fn new(latitude: f64, longitude: f64) -> Result<Self, NoPlace> {
        if !((-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude)) {
            return Err(NoPlace);
        }
        #[expect(clippy::cast_possible_truncation, reason = "at most 180 millions")]
        let micro = |degrees: f64| (degrees * MICRO).round() as i32;
        Ok(Self { latitude_micro: micro(latitude), longitude_micro: micro(longitude) })
    }

    /// North of the equator, in degrees.
    #[must_use]
    pub fn latitude(self) -> f64 {
        f64::from(self.latitude_micro) / MICRO
    }

    /// East of Greenwich, in degrees.
    #[must_use]
    pub fn longitude(self) -> f64 {
        f64::from(self.longitude_micro) / MICRO
    }

    /// Along the great circle, in kilometres.
    #[must_use]
    pub fn distance_km(self, other: Self) -> f64 {
        // The haversine formula, which is exact enough also for what is near.
        let (a, b) = (self.latitude().to_radians(), other.latitude().to_radians());
        let half = |from: f64, to: f64| ((to - from) / 2.0).sin().powi(2);
        let longitudes = half(self.longitude().to_radians(), other.longitude().to_radians());
        let h = half(a, b) + a.cos() * b.cos() * longitudes;
        2.0 * EARTH_KM * h.sqrt().min(1.0).asin()
    }

    /// How long a packet takes there and back, as far as the distance tells.
    #[must_use]
    pub fn round_trip(self, other: Self) -> Duration {
        let ms = ACCESS_MS + DETOUR * 2.0 * self.distance_km(other) / KM_PER_MS;
        Duration::from_secs_f64(ms / 1000.0)
    }
}

impl TryFrom<[f64; 2]> for Place {
    type Error = NoPlace;

    fn try_from([latitude, longitude]: [f64; 2]) -> Result<Self, NoPlace> {
        Self::new(latitude, longitude)
    }
}

impl From<Place> for [f64; 2] {
    fn from(place: Place) -> Self {
        [place.latitude(), place.longitude()]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    fn between(a: &str, b: &str) -> (f64, f64) {
        let (a, b) = (city(a).unwrap().place(), city(b).unwrap().place());
        assert_eq!(a.round_trip(b), b.round_trip(a));
        (a.distance_km(b), a.round_trip(b).as_secs_f64() * 1000.0)
    }

    #[test]
    fn distances_and_times_are_those_of_the_world() {
        // Kilometres by the great circle; milliseconds as they are commonly measured.
        for (a, b, km, ms) in [
            ("London", "New York", 5570.0, 71.0),
            ("San Francisco", "Tokyo", 8280.0, 104.0),
            ("Los Angeles", "Sydney", 12060.0, 148.0),
            ("Frankfurt", "London", 640.0, 12.0),
            ("Frankfurt", "Frankfurt", 0.0, 4.0),
        ] {
            let (distance, time) = between(a, b);
            assert!((distance - km).abs() <= km * 0.01 + 1.0, "{a} to {b}: {distance} km");
            assert!((time - ms).abs() <= 4.0, "{a} to {b}: {time} ms");
        }
    }

    #[test]
    fn cities_are_found_by_name_and_code_and_each_has_its_own() {
        assert_eq!(city("são paulo").map(|city| city.code), Some("gru"));
        assert_eq!(city("sao paulo").map(|city| city.code), Some("gru"));
        assert_eq!(city("NRT").map(|city| city.name), Some("Tokyo"));
        assert!(city("Atlantis").is_none() && city("").is_none());
        for (place, one) in CITIES.iter().enumerate() {
            assert!(Place::new(one.latitude, one.longitude).is_ok(), "{}", one.name);
            assert_eq!(city(one.name), Some(one));
            let others = CITIES.iter().skip(place + 1);
            assert!(others.into_iter().all(|other| other.code != one.code && other.name != one.name), "{}", one.name);
        }
    }

    #[test]
    fn names_are_transliterated_to_ascii_and_not_stripped() {
        for (name, ascii) in [
            ("São Paulo", "Sao Paulo"),
            ("Sa\u{303}o Paulo", "Sao Paulo"),
            ("Bogotá", "Bogota"),
            ("Zürich", "Zurich"),
            ("København", "Kobenhavn"),
            ("Łódź", "Lodz"),
            ("Málaga", "Malaga"),
            ("Reykjavík", "Reykjavik"),
            ("Москва", "Moskva"),
            ("東京", "Dong Jing"),
            ("T\"oky\\o\r\n", "Tokyo"),
            ("“Rome”", "Rome"),
        ] {
            assert_eq!(ascii_name(name), ascii, "{name}");
        }
        for one in &CITIES {
            assert_eq!(ascii_name(one.name).chars().count(), one.name.chars().count(), "{}", one.name);
            assert_eq!(city(&ascii_name(one.name)), Some(one));
        }
    }

    #[test]
    fn cities_that_do_not_exist_get_suggestions() {
        assert_eq!(similar_cities("Atlantis"), ["Atlanta"]);
        assert_eq!(similar_cities("Tokio"), ["Tokyo"]);
        assert_eq!(similar_cities("Frankfurt am Main"), ["Frankfurt"]);
        assert_eq!(similar_cities("san"), ["Santiago", "San Francisco"]);
        assert!(city_hint("Atlantis").contains("did you mean Atlanta?"));
        assert!(city_hint("").contains("English name"));
    }

    #[test]
    fn what_is_nowhere_is_no_place() {
        assert_eq!(Place::new(90.1, 0.0), Err(NoPlace));
        assert_eq!(Place::new(0.0, f64::NAN), Err(NoPlace));
        let pole = Place::new(90.0, -180.0).unwrap();
        assert!((pole.distance_km(Place::new(-90.0, 0.0).unwrap()) - 20015.0).abs() < 1.0);
    }
}
