//! Where clients are: by a table of the operator, then by a database in MaxMind's format.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use maxminddb::{Reader, geoip2};
use nearside_geo::{Place, city};

/// Why it cannot be told where clients are.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// A file cannot be read.
    #[error("{path} cannot be read: {cause}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        cause: std::io::Error,
    },
    /// A table has lines that say nothing.
    #[error("{path} has lines that are neither PREFIX,CITY nor PREFIX,LATITUDE,LONGITUDE: {lines}")]
    Table {
        /// The file.
        path: PathBuf,
        /// The lines and what is wrong with each.
        lines: String,
    },
    /// A database is none.
    #[error("{path} is no database of MaxMind's format: {cause}")]
    Database {
        /// The file.
        path: PathBuf,
        /// Why not.
        cause: maxminddb::MaxMindDbError,
    },
}

/// Where a client is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Located {
    pub(crate) place: Place,
    /// As the source calls it.
    pub(crate) city: Option<String>,
    /// All addresses of this network are there.
    pub(crate) network: IpNet,
    /// Who says so: `table` or `mmdb`.
    pub(crate) source: &'static str,
}

/// Where networks are.
#[derive(Debug, Default)]
pub struct World {
    table: HashMap<IpNet, (Place, Option<String>)>,
    /// The lengths that there are in the table, of IPv4 and IPv6.
    lengths: [BTreeSet<u8>; 2],
    database: Option<Reader<Vec<u8>>>,
}

impl World {
    /// Reads what there is.
    ///
    /// # Errors
    ///
    /// Something of it cannot be used.
    pub fn open(table: Option<&Path>, database: Option<&Path>) -> Result<Self, WorldError> {
        let mut world = Self::default();
        if let Some(path) = table {
            let unreadable = |cause| WorldError::Unreadable { path: path.to_owned(), cause };
            let text = std::fs::read_to_string(path).map_err(unreadable)?;
            world.add(&text).map_err(|lines| WorldError::Table { path: path.to_owned(), lines })?;
        }
        if let Some(path) = database {
            let wrong = |cause| WorldError::Database { path: path.to_owned(), cause };
            world.database = Some(Reader::open_readfile(path).map_err(wrong)?);
        }
        Ok(world)
    }

    /// Adds the lines of a table; all that is wrong with them.
    fn add(&mut self, text: &str) -> Result<(), String> {
        let mut wrong = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            match entry(line) {
                Ok((network, place, city)) => {
                    if let Some(lengths) = self.lengths.get_mut(family(network.addr())) {
                        lengths.insert(network.prefix_len());
                    }
                    self.table.insert(network, (place, city));
                }
                Err(what) => wrong.push(format!("line {}: {what}", number + 1)),
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    }

    /// Where an address is.
    pub(crate) fn locate(&self, address: IpAddr) -> Option<Located> {
        // An IPv4 address that came over a socket for both is one.
        let address = address.to_canonical();
        self.in_table(address).or_else(|| self.in_database(address))
    }

    fn in_table(&self, address: IpAddr) -> Option<Located> {
        let longest_first = self.lengths.get(family(address))?.iter().rev();
        let mut networks = longest_first.filter_map(|length| Some(IpNet::new(address, *length).ok()?.trunc()));
        let network = networks.find(|network| self.table.contains_key(network))?;
        let (place, city) = self.table.get(&network)?.clone();
        Some(Located { place, city, network, source: "table" })
    }

    fn in_database(&self, address: IpAddr) -> Option<Located> {
        let found = self.database.as_ref()?.lookup(address).ok()?;
        let city: geoip2::City<'_> = found.decode().ok()??;
        let place = Place::new(city.location.latitude?, city.location.longitude?).ok()?;
        let network: IpNet = found.network().ok()?.to_string().parse().ok()?;
        let name = city.city.names.english.map(str::to_owned);
        Some(Located { place, city: name, network, source: "mmdb" })
    }
}

fn family(address: IpAddr) -> usize {
    usize::from(address.is_ipv6())
}

/// A line of a table.
fn entry(line: &str) -> Result<(IpNet, Place, Option<String>), String> {
    let mut parts = line.split(',').map(str::trim);
    let (prefix, rest) = (parts.next().unwrap_or_default(), parts.collect::<Vec<_>>());
    let single = || prefix.parse::<IpAddr>().ok().map(IpNet::from);
    let network = prefix.parse::<IpNet>().ok().or_else(single);
    let network = network.ok_or_else(|| format!("{prefix:?} is no prefix such as 192.0.2.0/24"))?.trunc();
    match rest.as_slice() {
        [name] => {
            let known = city(name).ok_or_else(|| {
                format!(
                    "{name:?} is no city that is known by name: {} Or write its degrees",
                    nearside_geo::city_hint(name)
                )
            })?;
            Ok((network, known.place(), Some(known.name.to_owned())))
        }
        [latitude, longitude] => {
            let degrees = |text: &str| text.parse::<f64>().unwrap_or(f64::NAN);
            let place = Place::new(degrees(latitude), degrees(longitude));
            Ok((network, place.map_err(|wrong| format!("expected {wrong}"))?, None))
        }
        _ => Err("a prefix, and a city or two degrees".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    fn world(text: &str) -> World {
        let mut world = World::default();
        world.add(text).unwrap();
        world
    }

    #[test]
    fn the_longest_prefix_tells_where_an_address_is() {
        let world = world(
            "# ours\n10.0.0.0/8, Frankfurt\n10.1.0.0/16,são paulo # an office\n2001:db8::/32,35.68,139.69\n10.1.2.3,Lagos\n",
        );
        let at = |address: &str| {
            let located = world.locate(address.parse().unwrap())?;
            Some((located.city.unwrap_or_default(), located.network.to_string()))
        };
        assert_eq!(at("10.2.0.1"), Some(("Frankfurt".to_owned(), "10.0.0.0/8".to_owned())));
        assert_eq!(at("10.1.9.9"), Some(("São Paulo".to_owned(), "10.1.0.0/16".to_owned())));
        assert_eq!(at("::ffff:10.1.9.9"), Some(("São Paulo".to_owned(), "10.1.0.0/16".to_owned())));
        assert_eq!(at("10.1.2.3"), Some(("Lagos".to_owned(), "10.1.2.3/32".to_owned())));
        assert_eq!(at("2001:db8:1::1"), Some((String::new(), "2001:db8::/32".to_owned())));
        assert_eq!(at("192.0.2.1"), None);
    }

    #[test]
    fn every_line_that_says_nothing_is_told() {
        let wrong = World::default()
            .add("10.0.0.0/8,Frankfurt\n10.0.0.0/33,Oslo\n::/0\n10.0.0.0/8,Atlantis\n10.0.0.0/8,91,0\n");
        let wrong = wrong.unwrap_err();
        for part in
            ["line 2: \"10.0.0.0/33\"", "line 3: a prefix, and", "line 4: \"Atlantis\"", "line 5: expected a latitude"]
        {
            assert!(wrong.contains(part), "{part}: {wrong}");
        }
        assert!(!wrong.contains("line 1"));
        let missing = World::open(Some(Path::new("/does/not/exist")), None).unwrap_err();
        assert!(missing.to_string().starts_with("/does/not/exist cannot be read"), "{missing}");
    }

    /// A database of two cities, and of one that is nowhere (made with `mmdb-writer`).
    const DATABASE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/cities.mmdb");

    #[test]
    fn a_database_tells_what_the_table_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let table = folder.path().join("networks.csv");
        std::fs::write(&table, "192.0.2.128/25,Lagos\n").unwrap();
        let world = World::open(Some(&table), Some(Path::new(DATABASE))).unwrap();
        let at = |address: &str| {
            let located = world.locate(address.parse().unwrap())?;
            Some((located.city.unwrap_or_default(), located.network.to_string(), located.source))
        };
        assert_eq!(at("192.0.2.1"), Some(("Sydney".to_owned(), "192.0.2.0/24".to_owned(), "mmdb")));
        assert_eq!(at("192.0.2.200"), Some(("Lagos".to_owned(), "192.0.2.128/25".to_owned(), "table")));
        assert_eq!(at("2001:db8:7::1"), Some(("Tokyo".to_owned(), "2001:db8::/32".to_owned(), "mmdb")));
        assert_eq!((at("198.51.100.1"), at("203.0.113.1")), (None, None), "no place, and not there");
        let wrong = World::open(None, Some(&table)).unwrap_err().to_string();
        assert!(wrong.contains("is no database of MaxMind's format"), "{wrong}");
    }
}
