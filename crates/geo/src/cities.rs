//! Cities, by the code of an airport and by name. Coordinates of their centres, to a hundredth of a degree.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::Place;

/// A city.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct City {
    /// Of an airport of it, as IATA has it, in lower case.
    pub code: &'static str,
    /// As it is called in English.
    pub name: &'static str,
    /// As ISO 3166-1 has it.
    pub country: &'static str,
    /// North of the equator, in degrees.
    pub latitude: f64,
    /// East of Greenwich, in degrees.
    pub longitude: f64,
}

impl City {
    /// Where it is.
    #[must_use]
    pub fn place(&self) -> Place {
        // Each of the table is a place; a test looks.
        Place::new(self.latitude, self.longitude).unwrap_or(Place { latitude_micro: 0, longitude_micro: 0 })
    }
}

/// The city of a name or a code, whatever its case and accents: "São Paulo", "sao paulo", "GRU".
#[must_use]
pub fn city(text: &str) -> Option<&'static City> {
    static BY_NAME: LazyLock<HashMap<String, &'static City>> = LazyLock::new(|| {
        let names = CITIES.iter().map(|city| (plain(city.name), city));
        names.chain(CITIES.iter().map(|city| (city.code.to_owned(), city))).collect()
    });
    BY_NAME.get(&plain(text)).copied()
}

/// Names of known cities that are spelt nearly like `text`, the nearest first; at most three.
#[must_use]
pub fn similar_cities(text: &str) -> Vec<&'static str> {
    const NAMES_MAX: usize = 3;
    let wanted = plain(text);
    let distance = |city: &City| {
        let name = plain(city.name);
        let distance = strsim::damerau_levenshtein(&wanted, &name);
        // A third of the letters may differ. A part of a name is near it, too: "san", "Frankfurt am Main".
        let is_near = distance <= name.len().div_ceil(3);
        let is_part = wanted.len() >= 3 && (name.starts_with(&wanted) || wanted.starts_with(&name));
        (is_near || is_part).then_some(distance)
    };
    let mut near: Vec<_> = CITIES.iter().filter_map(|city| Some((distance(city)?, city.name))).collect();
    near.sort_unstable();
    near.into_iter().take(NAMES_MAX).map(|(_, name)| name).collect()
}

/// What to write in place of a name that is no known city: similar names, or how cities are named.
#[must_use]
pub fn city_hint(text: &str) -> String {
    let similar = similar_cities(text);
    if similar.is_empty() {
        return "write a larger city by its English name, or the code of its airport: Tokyo, nrt".to_owned();
    }
    format!("did you mean {}?", similar.join(" or "))
}

/// A name in printable ASCII without quotation marks and backslashes, as it may stand quoted in a header field: other letters are
/// transliterated, "São Paulo" becomes "Sao Paulo".
#[must_use]
pub fn ascii_name(name: &str) -> String {
    let ascii = deunicode::deunicode_with_tofu(name, "");
    let quotable = |c: &char| (' '..='~').contains(c) && !matches!(c, '"' | '\\');
    ascii.chars().filter(quotable).collect::<String>().trim().to_owned()
}

/// A name in small ASCII letters, for comparison.
fn plain(text: &str) -> String {
    ascii_name(text).to_ascii_lowercase()
}

const fn at(code: &'static str, name: &'static str, country: &'static str, latitude: f64, longitude: f64) -> City {
    City { code, name, country, latitude, longitude }
}

/// All that are known by name.
pub static CITIES: [City; 60] = [
    at("ams", "Amsterdam", "NL", 52.37, 4.90),
    at("ath", "Athens", "GR", 37.98, 23.73),
    at("atl", "Atlanta", "US", 33.75, -84.39),
    at("akl", "Auckland", "NZ", -36.85, 174.76),
    at("bkk", "Bangkok", "TH", 13.76, 100.50),
    at("bcn", "Barcelona", "ES", 41.39, 2.17),
    at("ber", "Berlin", "DE", 52.52, 13.41),
    at("bog", "Bogotá", "CO", 4.71, -74.07),
    at("eze", "Buenos Aires", "AR", -34.60, -58.38),
    at("cai", "Cairo", "EG", 30.04, 31.24),
    at("cpt", "Cape Town", "ZA", -33.92, 18.42),
    at("maa", "Chennai", "IN", 13.08, 80.27),
    at("ord", "Chicago", "US", 41.88, -87.63),
    at("cph", "Copenhagen", "DK", 55.68, 12.57),
    at("dfw", "Dallas", "US", 32.78, -96.80),
    at("del", "Delhi", "IN", 28.61, 77.21),
    at("den", "Denver", "US", 39.74, -104.99),
    at("dxb", "Dubai", "AE", 25.20, 55.27),
    at("dub", "Dublin", "IE", 53.35, -6.26),
    at("fra", "Frankfurt", "DE", 50.11, 8.68),
    at("hel", "Helsinki", "FI", 60.17, 24.94),
    at("hkg", "Hong Kong", "HK", 22.32, 114.17),
    at("iad", "Washington", "US", 38.91, -77.04),
    at("ist", "Istanbul", "TR", 41.01, 28.98),
    at("cgk", "Jakarta", "ID", -6.21, 106.85),
    at("jnb", "Johannesburg", "ZA", -26.20, 28.05),
    at("los", "Lagos", "NG", 6.52, 3.38),
    at("lim", "Lima", "PE", -12.05, -77.04),
    at("lis", "Lisbon", "PT", 38.72, -9.14),
    at("lon", "London", "GB", 51.51, -0.13),
    at("lax", "Los Angeles", "US", 34.05, -118.24),
    at("mad", "Madrid", "ES", 40.42, -3.70),
    at("mnl", "Manila", "PH", 14.60, 120.98),
    at("mel", "Melbourne", "AU", -37.81, 144.96),
    at("mex", "Mexico City", "MX", 19.43, -99.13),
    at("mia", "Miami", "US", 25.76, -80.19),
    at("mil", "Milan", "IT", 45.46, 9.19),
    at("bom", "Mumbai", "IN", 19.08, 72.88),
    at("nbo", "Nairobi", "KE", -1.29, 36.82),
    at("nyc", "New York", "US", 40.71, -74.01),
    at("osl", "Oslo", "NO", 59.91, 10.75),
    at("par", "Paris", "FR", 48.86, 2.35),
    at("per", "Perth", "AU", -31.95, 115.86),
    at("prg", "Prague", "CZ", 50.08, 14.44),
    at("rom", "Rome", "IT", 41.90, 12.50),
    at("gru", "São Paulo", "BR", -23.55, -46.63),
    at("scl", "Santiago", "CL", -33.45, -70.67),
    at("sea", "Seattle", "US", 47.61, -122.33),
    at("icn", "Seoul", "KR", 37.57, 126.98),
    at("sfo", "San Francisco", "US", 37.77, -122.42),
    at("sin", "Singapore", "SG", 1.35, 103.82),
    at("sto", "Stockholm", "SE", 59.33, 18.07),
    at("syd", "Sydney", "AU", -33.87, 151.21),
    at("tpe", "Taipei", "TW", 25.03, 121.57),
    at("tlv", "Tel Aviv", "IL", 32.09, 34.78),
    at("nrt", "Tokyo", "JP", 35.68, 139.69),
    at("yyz", "Toronto", "CA", 43.65, -79.38),
    at("vie", "Vienna", "AT", 48.21, 16.37),
    at("waw", "Warsaw", "PL", 52.23, 21.01),
    at("zrh", "Zurich", "CH", 47.38, 8.54),
];
