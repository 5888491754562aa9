//! Faults of the demo, parsed from informal words: `edge-nyc`, `link fra iad`, `slow edge-fra by
//! 80ms`.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, bail, ensure};
use nearside_config::Span;
use serde_json::Value;

use super::nodes::{DemoNode, NODES};
use crate::spelling::nearest;

/// Fault to inject or to heal.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum DemoFault {
    /// A stopped process.
    Node(&'static str),
    /// A fault of the link between two cities, or of all links of a place.
    Way(String, LinkFault),
}

/// Fault of a link.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum LinkFault {
    /// No data passes.
    Cut,
    /// Additional latency in milliseconds; `None` if only the link is named.
    Slower(Option<f64>),
}

/// Words without a meaning here.
const FILLERS: [&str; 9] = ["the", "node", "between", "from", "to", "and", "by", "at", "with"];
const EXAMPLES: &str = "edge-nyc, or link fra iad, or slow edge-fra 80ms";

/// The form that is sent to a demo.
impl fmt::Display for DemoFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(name) => f.write_str(name),
            Self::Way(way, LinkFault::Cut) => write!(f, "link {way}"),
            Self::Way(way, LinkFault::Slower(None)) => write!(f, "slow {way}"),
            Self::Way(way, LinkFault::Slower(Some(ms))) => write!(f, "slow {way} {ms:.0}ms"),
        }
    }
}

/// Parses words, or a JSON string, list of strings, or object with `what`. Several processes may be
/// named.
pub(super) fn parse_faults(text: &str) -> anyhow::Result<Vec<DemoFault>> {
    let plain = of_json(text).unwrap_or_else(|| text.to_owned()).to_lowercase();
    let words = plain.split(|c: char| c.is_whitespace() || c == ',');
    let words: Vec<_> = words.filter(|word| !word.is_empty() && !FILLERS.contains(word)).collect();
    match words.as_slice() {
        [] => bail!("say what: {EXAMPLES}"),
        ["link" | "cut", rest @ ..] => {
            let rest = if let ["link", rest @ ..] = rest { rest } else { rest };
            Ok(vec![DemoFault::Way(way(rest)?, LinkFault::Cut)])
        }
        ["slow" | "slower" | "delay", rest @ ..] => {
            let rest = if let ["link", rest @ ..] = rest { rest } else { rest };
            let (ways, time) = match rest.split_last() {
                Some((last, ways)) if last.starts_with(|c: char| c.is_ascii_digit()) => {
                    (ways, Some(milliseconds(last)?))
                }
                _ => (rest, None),
            };
            Ok(vec![DemoFault::Way(way(ways)?, LinkFault::Slower(time))])
        }
        ["stop" | "kill", rest @ ..] if !rest.is_empty() => processes(rest),
        [word] if node(word).is_err() && way(&words).is_ok() => Ok(vec![DemoFault::Way(way(&words)?, LinkFault::Cut)]),
        words => processes(words),
    }
}

fn of_json(text: &str) -> Option<String> {
    let words = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(words) => words.iter().map(Value::as_str).collect::<Option<Vec<_>>>().map(|words| words.join(" ")),
        _ => None,
    };
    let value: Value = serde_json::from_str(text).ok()?;
    words(value.get("what").unwrap_or(&value))
}

/// Parses names of processes: `edge-nyc`, `edge nyc`, `nyc`.
fn processes(words: &[&str]) -> anyhow::Result<Vec<DemoFault>> {
    let mut found = Vec::new();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let name = match (*word, rest.as_slice().first()) {
            ("edge" | "shield", Some(code)) => {
                rest.next();
                format!("{word}-{code}")
            }
            _ => (*word).to_owned(),
        };
        found.push(DemoFault::Node(node(&name)?.name));
    }
    Ok(found)
}

/// Finds a process that can be stopped by its name, its code or its city.
fn node(text: &str) -> anyhow::Result<&'static DemoNode> {
    let all = || NODES.iter().filter(|node| node.name != "wan-sim");
    if let Some(node) = all().find(|node| node.name == text) {
        return Ok(node);
    }
    let code = |node: &DemoNode| node.name.split_once('-').map(|(_, code)| code);
    let is_there = |node: &&DemoNode| code(node) == Some(text) || node.city.to_lowercase() == text;
    match all().filter(is_there).collect::<Vec<_>>().as_slice() {
        [node] => Ok(node),
        [] => {
            let hint = nearest(text, all().map(|node| node.name))
                .map(|near| format!(" did you mean {near}?"))
                .unwrap_or_default();
            let names = all().map(|node| node.name).collect::<Vec<_>>().join(", ");
            bail!("there is no {text:?}:{hint} processes are {names}; or write link CITY CITY, or slow PLACE TIME")
        }
        several => {
            let names: Vec<_> = several.iter().map(|node| node.name).collect();
            bail!("{text:?} may be {}: say which", names.join(" or "))
        }
    }
}

/// Parses a link into the name that the simulated WAN uses: the codes of two cities, or a place,
/// which stands for all of its links.
fn way(words: &[&str]) -> anyhow::Result<String> {
    let (from, to) = match words {
        [place] if is_place(place) => return Ok((*place).to_owned()),
        [both] => both
            .split_once('-')
            .with_context(|| format!("{both:?} is no link: write two cities, as in link fra iad"))?,
        [from, to] => (*from, *to),
        _ => bail!("expected two cities or a place, as in link fra iad or slow edge-fra 80ms"),
    };
    let (from, to) = (code(from)?, code(to)?);
    ensure!(from != to, "a link is between two cities, and {from} is one");
    Ok(format!("{from}-{to}"))
}

/// Whether the simulated WAN has a place of this name. Places are all processes except the WAN
/// itself, and `control-api`, at which nodes reach the control process.
fn is_place(name: &str) -> bool {
    name == "control-api" || NODES.iter().any(|node| node.name == name && node.name != "wan-sim")
}

/// Code of a city, or of the city of a process.
fn code(text: &str) -> anyhow::Result<&'static str> {
    let city = NODES.iter().find(|node| node.name == text).map_or(text, |node| node.city);
    let known = nearside_geo::city(city)
        .with_context(|| format!("there is no city {text:?}: {}", nearside_geo::city_hint(text)))?;
    Ok(known.code)
}

/// Parses a duration, whose default unit is milliseconds.
fn milliseconds(text: &str) -> anyhow::Result<f64> {
    if let Ok(number) = text.parse::<u32>() {
        return Ok(f64::from(number));
    }
    let Span(time) = Span::from_str(text).map_err(|error| anyhow::anyhow!("{text:?} is no time: expected {error}"))?;
    Ok(time.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_people_are_understood() {
        let said = |text: &str| {
            let faults = parse_faults(text).unwrap_or_else(|error| panic!("{text}: {error:#}"));
            faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        };
        for (text, meant) in [
            ("edge-nyc", "edge-nyc"),
            ("edge nyc", "edge-nyc"),
            ("nyc", "edge-nyc"),
            ("Tokyo", "edge-nrt"),
            ("kill the node edge-nyc", "edge-nyc"),
            ("edge-nyc edge-nrt", "edge-nyc; edge-nrt"),
            ("edge-nyc, shield fra and origin", "edge-nyc; shield-fra; origin"),
            ("link fra-iad", "link fra-iad"),
            ("link fra iad", "link fra-iad"),
            ("cut fra-iad", "link fra-iad"),
            ("fra-iad", "link fra-iad"),
            ("link between Frankfurt and Washington", "link fra-iad"),
            ("link edge-fra shield-iad", "link fra-iad"),
            ("link edge-fra", "link edge-fra"),
            ("slow edge-fra 80ms", "slow edge-fra 80ms"),
            ("slow edge-fra by 80", "slow edge-fra 80ms"),
            ("slow link fra iad 1s", "slow fra-iad 1000ms"),
            ("slow edge-fra", "slow edge-fra"),
            ("\"edge-nyc\"", "edge-nyc"),
            ("{\"what\": \"slow edge-fra 80ms\"}", "slow edge-fra 80ms"),
            ("[\"link\", \"fra-iad\"]", "link fra-iad"),
        ] {
            assert_eq!(said(text), meant, "{text}");
            assert_eq!(said(meant.split("; ").next().unwrap()), meant.split("; ").next().unwrap());
        }
    }

    #[test]
    fn what_is_not_understood_gets_a_suggestion() {
        for (text, says) in [
            ("", "say what: edge-nyc"),
            ("edge-ncy", "did you mean edge-nyc?"),
            ("fra", "shield-fra or edge-fra"),
            ("link fra atlantis", "did you mean Atlanta?"),
            ("link fra", "two cities"),
            ("link fra fra", "between two cities"),
            ("slow edge-fra 80parsecs", "is no time"),
            ("wan-sim", "there is no"),
        ] {
            let said = format!("{:#}", parse_faults(text).unwrap_err());
            assert!(said.contains(says), "{text}: {said}");
        }
    }
}
