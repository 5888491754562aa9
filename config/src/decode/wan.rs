//! The file of a simulated WAN.

use std::path::Path;

use nearside_geo::City;

use super::parse_with;
use crate::model::{Quality, RoundTrip, Wan, WanLink, WanPlace};
use crate::problem::ConfigError;
use crate::section::Section;
use crate::values::{HostPort, ListenAddress, NodeId, Span};

/// Reads and checks the file of a simulated WAN.
///
/// # Errors
///
/// The file cannot be read, or has problems: all of them.
pub fn load_wan(path: &Path) -> Result<Wan, ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    parse_wan(&path.display().to_string(), text)
}

/// Checks the text of a file called `path`.
///
/// # Errors
///
/// All problems of the text.
pub fn parse_wan(path: &str, text: String) -> Result<Wan, ConfigError> {
    parse_with(path, text, wan)
}

pub(crate) fn wan(root: &Section<'_>) -> Option<Wan> {
    if root.get::<String>("role").is_none_or(|role| role != "wan-sim") {
        root.object("role", "this is no simulated WAN", "something else", "write role = \"wan-sim\"");
        // All other keys are those of another program.
        root.ignore_unknown();
        return None;
    }
    let address = |key| root.get(key).map(|ListenAddress(address)| address);
    let defaults = Quality::default();
    let quality = Quality {
        bits_per_second: root.number("bits_per_second", defaults.bits_per_second, 1000..=100_000_000_000),
        jitter_thousandths: root.number("jitter_thousandths", defaults.jitter_thousandths, 0..=1000),
        loss_per_million: root.number("loss_per_million", defaults.loss_per_million, 0..=500_000),
    };
    let places: Vec<_> = root.sections("place").iter().filter_map(place).collect();
    let known = root.is_sound("place").then_some(places.as_slice());
    let links = root.sections("link").iter().filter_map(|section| link(section, known)).collect();
    Some(Wan {
        api: address("api"),
        listen: address("listen"),
        viewers: root.list::<&'static City>("viewers"),
        places,
        links,
        round_trips: root.sections("round_trip").iter().filter_map(round_trip).collect(),
        quality,
        seed: root.number("seed", 1, 0..=u64::MAX >> 1),
    })
}

fn place(section: &Section<'_>) -> Option<WanPlace> {
    let name: Option<NodeId> = section.required("name", "add name = \"edge-nrt\"");
    let city: Option<&'static City> = section.required("city", "add city = \"Tokyo\"");
    let address: Option<HostPort> = section.required("address", "add address = \"127.0.0.1:8085\": where it listens");
    let door = section.text("door");
    Some(WanPlace { name: name?, city: city?, address: address?, door })
}

/// A way between two of the places, where these are known.
fn link(section: &Section<'_>, places: Option<&[WanPlace]>) -> Option<WanLink> {
    let from: Option<NodeId> = section.required("from", "add from = \"edge-nrt\"");
    let to: Option<NodeId> = section.required("to", "add to = \"shield-fra\"");
    let listen: Option<ListenAddress> = section.required("listen", "add listen = \"127.0.0.1:8211\"");
    for (key, name) in [("from", &from), ("to", &to)] {
        let is_there = |name: &NodeId| places.is_none_or(|places| places.iter().any(|place| place.name == *name));
        if name.as_ref().is_some_and(|name| !is_there(name)) {
            section.object(key, "there is no such place", "unknown", "add a [[place]] of this name");
        }
    }
    Some(WanLink { from: from?, to: to?, listen: listen?.0 })
}

fn round_trip(section: &Section<'_>) -> Option<RoundTrip> {
    let between: Vec<&'static City> = section.list("between");
    let time: Option<Span> = section.required("time", "add time = \"82ms\"");
    let [from, to] = between.as_slice() else {
        if section.is_sound("between") {
            section.object(
                "between",
                "a round trip is between two cities",
                "not two",
                "write between = [\"Tokyo\", \"Sydney\"]",
            );
        }
        return None;
    };
    Some(RoundTrip { between: [from, to], time: time?.0 })
}
