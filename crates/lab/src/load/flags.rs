//! Load as flags. The table `[load]` of a scenario has the same keys.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, FromArgMatches};
use http::uri::Authority;
use http::{Method, Uri};
use nearside_config::{ByteSize, Span};
use nearside_loadtest::{Load, Popularity, Rate, Shape, Sizes, Target, Trust, fields};
use nearside_origin_sim::body;

use crate::http_client::send;

/// Targets, rate and clients of a load.
#[derive(Debug, Clone, Args)]
pub struct LoadArgs {
    /// What to ask for; may repeat: the URLs take turns. `{object}`, `{size}` and `{city}` in it are replaced, see below
    #[arg(long = "url", value_name = "URL", required = true)]
    urls: Vec<String>,
    /// Requests per second, sent on time whether or not the ones before were answered; or "max": as soon as they were
    #[arg(long, value_name = "N", required = true)]
    rate: RateFlag,
    /// For how long: "10s"
    #[arg(long, value_name = "TIME", default_value = "10s")]
    duration: Span,
    /// Before that for so long without being counted
    #[arg(long, value_name = "TIME", default_value = "0s")]
    warm_up: Span,
    /// First of all ask for each object once
    #[arg(long)]
    fill: bool,
    /// Connections at most; a request that finds none free waits, and its wait counts
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,
    /// Threads that ask
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: u16,
    /// HTTP/2 in place of HTTP/1.1
    #[arg(long)]
    http2: bool,
    /// Requests at a time on each connection, with HTTP/2
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    streams: u16,
    /// Believe any certificate
    #[arg(long, conflicts_with = "ca")]
    insecure: bool,
    /// Believe certificates that this file in PEM vouches for
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// A field of each request, "Name: value"; may repeat
    #[arg(long = "header", short = 'H', value_name = "FIELD")]
    headers: Vec<String>,
    /// Objects: their numbers take the place of `{object}`
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    objects: u32,
    /// How often each is asked for: "uniform", or "zipf:0.9": the n-th in proportion to 1/n to this power
    #[arg(long, value_name = "HOW", default_value = "uniform")]
    popularity: PopularityFlag,
    /// How large they are, in place of `{size}`: "1KiB"; "log-normal:16KiB:1.5", median and spread; "1KiB*8,1MiB*1", with weights
    #[arg(long, value_name = "SIZES", default_value = "1KiB")]
    sizes: SizesFlag,
    /// The share of requests for objects that nobody has asked for before: "0.1" or "10%"
    #[arg(long, value_name = "SHARE", default_value = "0")]
    misses: ShareFlag,
    /// The share of requests for a part of the object
    #[arg(long, value_name = "SHARE", default_value = "0")]
    ranges: ShareFlag,
    /// Another number, other requests
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Judge each byte, where `nearside origin-sim` is behind it: the URL has `size=` and `seed=`
    #[arg(long)]
    verify: bool,
    /// Cities that ask, in place of `{city}`: "gru,icn"; each is sent where the URL redirects it to at the beginning
    #[arg(long, value_name = "CODES", value_delimiter = ',')]
    cities: Vec<CityCode>,
    /// The `nearside origin-sim` behind it all: how often it is asked meanwhile
    #[arg(long, value_name = "URL")]
    origin: Option<Uri>,
}

impl LoadArgs {
    /// Parses the keys of a table as flags.
    pub(crate) fn of_table(table: &toml::Table) -> anyhow::Result<Self> {
        let mut words = vec!["load".to_owned()];
        for (key, value) in table {
            let flag = format!("--{}", key.replace('_', "-"));
            let values =
                if let toml::Value::Array(values) = value { values.as_slice() } else { std::slice::from_ref(value) };
            for value in values {
                match value {
                    toml::Value::Boolean(true) => words.push(flag.clone()),
                    toml::Value::Boolean(false) => {}
                    toml::Value::String(text) => words.extend([flag.clone(), text.clone()]),
                    toml::Value::Integer(_) | toml::Value::Float(_) => words.extend([flag.clone(), value.to_string()]),
                    _ => anyhow::bail!("`{key}` is no text, number or list of them"),
                }
            }
        }
        let command = Self::augment_args(clap::Command::new("load").no_binary_name(false));
        // Clap says which key, and what it should be.
        let told = |error: clap::Error| {
            let text = error.to_string();
            let lines: Vec<_> = text.lines().take_while(|line| !line.starts_with("Usage:")).collect();
            anyhow::anyhow!("{}", lines.join("\n").trim_start_matches("error: ").trim())
        };
        let matches = command.try_get_matches_from(words).map_err(told)?;
        Self::from_arg_matches(&matches).map_err(told)
    }

    /// Load that the flags describe. Asks the router of each city where it sends clients.
    ///
    /// # Errors
    ///
    /// [`UsageError`](crate::UsageError) where flags do not fit together; a router cannot be asked.
    pub async fn load(&self) -> anyhow::Result<Load> {
        let is_judged = self.verify;
        let check = is_judged.then(|| -> nearside_loadtest::BodyCheck {
            Arc::new(|seed, at, bytes| body::differs(seed, at, bytes).is_none())
        });
        Ok(Load {
            targets: self.targets().await?,
            shape: Shape {
                objects: self.objects,
                popularity: self.popularity.0,
                sizes: self.sizes.0.clone(),
                misses: self.misses.0,
                ranges: self.ranges.0,
                seed: self.seed,
            },
            rate: self.rate.0,
            warm_up: self.warm_up.0,
            duration: self.duration.0,
            connections: usize::from(self.connections),
            streams: usize::from(self.streams),
            http2: self.http2,
            trust: match &self.ca {
                _ if self.insecure => Trust::Anybody,
                Some(path) => Trust::File(path.clone()),
                None => Trust::System,
            },
            fields: fields(&self.headers)?,
            fill: self.fill,
            check,
            origin: self.origin.clone(),
            threads: usize::from(self.threads),
        })
    }

    /// Targets of the load: the URLs, or for each city the edge that it is sent to.
    async fn targets(&self) -> anyhow::Result<Vec<Target>> {
        let mut targets = Vec::new();
        for url in &self.urls {
            if url.contains("{city}") == self.cities.is_empty() {
                return Err(usage!(
                    "--cities and {{city}} in --url belong together, as in --url http://{{city}}.localhost:8000/ --cities gru,icn"
                ));
            }
            let parse = |url: &str| Target::parse(url).map_err(|error| usage!("--url: {error:#}"));
            if self.cities.is_empty() {
                targets.push(parse(url)?);
            }
            for CityCode(city) in &self.cities {
                let url = url.replace("{city}", city);
                let target = parse(&url)?;
                targets.push(match sent_to(&url).await? {
                    Some(authority) => target.at(authority),
                    None => target,
                });
            }
        }
        Ok(targets)
    }
}

/// Host to which the host of a URL redirects its clients, if it does.
async fn sent_to(url: &str) -> anyhow::Result<Option<Authority>> {
    let (scheme, rest) = url.split_once("://").context("no URL")?;
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    let reply = send(Method::GET, &format!("{scheme}://{host}/"), None).await?;
    if !reply.status.is_redirection() {
        return Ok(None);
    }
    let location: Uri = reply.field("location").parse().with_context(|| format!("where {host} sends to"))?;
    Ok(location.authority().cloned())
}

/// Code of a city.
#[derive(Debug, Clone, Copy, PartialEq)]
struct CityCode(&'static str);

impl FromStr for CityCode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let city =
            nearside_geo::city(text).ok_or_else(|| format!("no such city: {}", nearside_geo::city_hint(text)))?;
        Ok(Self(city.code))
    }
}

/// Rate: requests per second, or "max".
#[derive(Debug, Clone, Copy, PartialEq)]
struct RateFlag(Rate);

impl FromStr for RateFlag {
    type Err = FlagError;

    fn from_str(text: &str) -> Result<Self, FlagError> {
        if text == "max" {
            return Ok(Self(Rate::Max));
        }
        let rate = text.parse().ok().filter(|rate| (1..=1_000_000).contains(rate));
        rate.map(|rate| Self(Rate::PerSecond(rate)))
            .ok_or(FlagError("requests per second from 1 to 1000000, or \"max\""))
    }
}

/// Error: a flag has another value than this.
#[derive(Debug, Clone, Copy)]
struct FlagError(&'static str);

impl fmt::Display for FlagError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}", self.0)
    }
}

impl std::error::Error for FlagError {}

/// Share, as a number or in percent.
#[derive(Debug, Clone, Copy, PartialEq)]
struct ShareFlag(f64);

impl FromStr for ShareFlag {
    type Err = FlagError;

    fn from_str(text: &str) -> Result<Self, FlagError> {
        let (number, whole) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 100.0));
        let share = number.trim().parse::<f64>().ok().map(|number| number / whole);
        share.filter(|share| (0.0..=1.0).contains(share)).map(Self).ok_or(FlagError("a share, as in 0.1 or 10%"))
    }
}

/// Popularity of objects.
#[derive(Debug, Clone, Copy, PartialEq)]
struct PopularityFlag(Popularity);

impl FromStr for PopularityFlag {
    type Err = FlagError;

    fn from_str(text: &str) -> Result<Self, FlagError> {
        if text == "uniform" {
            return Ok(Self(Popularity::Uniform));
        }
        let skew = text.strip_prefix("zipf:").and_then(|skew| skew.parse().ok());
        let skew = skew.filter(|skew| (0.0..=10.0).contains(skew));
        skew.map(|skew| Self(Popularity::Zipf(skew))).ok_or(FlagError("\"uniform\", or \"zipf:0.9\" (from 0 to 10)"))
    }
}

/// Sizes of objects.
#[derive(Debug, Clone, PartialEq)]
struct SizesFlag(Sizes);

impl FromStr for SizesFlag {
    type Err = FlagError;

    fn from_str(text: &str) -> Result<Self, FlagError> {
        const WRONG: FlagError = FlagError("a size as \"1KiB\", \"log-normal:16KiB:1.5\", or \"1KiB*8,1MiB*1\"");
        let size = |text: &str| text.trim().parse::<ByteSize>().map(|size| size.0).map_err(|_no_size| WRONG);
        if let Some(rest) = text.strip_prefix("log-normal:") {
            let (median, spread) = rest.split_once(':').ok_or(WRONG)?;
            let spread = spread.parse().ok().filter(|spread| (0.0..=5.0).contains(spread)).ok_or(WRONG)?;
            return Ok(Self(Sizes::LogNormal { median: size(median)?, spread }));
        }
        if !text.contains(['*', ',']) {
            return Ok(Self(Sizes::Fixed(size(text)?)));
        }
        let one = |part: &str| {
            let (bytes, weight) = part.split_once('*').unwrap_or((part, "1"));
            let weight = weight.trim().parse().ok().filter(|weight| *weight > 0.0 && *weight <= 1e9).ok_or(WRONG)?;
            Ok((size(bytes)?, weight))
        };
        text.split(',').map(one).collect::<Result<_, _>>().map(|sizes| Self(Sizes::Mixed(sizes)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn flags_are_read_and_what_they_should_be_is_said() {
        assert_eq!("max".parse::<RateFlag>().unwrap().0, Rate::Max);
        assert_eq!("5".parse::<RateFlag>().unwrap().0, Rate::PerSecond(5));
        assert!("0".parse::<RateFlag>().is_err() && "2e9".parse::<RateFlag>().is_err());
        assert_eq!("10%".parse::<ShareFlag>().unwrap(), "0.1".parse().unwrap());
        assert!(
            "1.1".parse::<ShareFlag>().is_err()
                && "NaN".parse::<ShareFlag>().is_err()
                && "-1%".parse::<ShareFlag>().is_err()
        );
        assert_eq!("zipf:0.9".parse::<PopularityFlag>().unwrap().0, Popularity::Zipf(0.9));
        assert!("zipf".parse::<PopularityFlag>().is_err() && "zipf:NaN".parse::<PopularityFlag>().is_err());
        let sizes = |text: &str| text.parse::<SizesFlag>().map(|sizes| sizes.0);
        assert_eq!(sizes("2KiB").unwrap(), Sizes::Fixed(2048));
        assert_eq!(sizes("1KiB*3, 1MiB").unwrap(), Sizes::Mixed(vec![(1024, 3.0), (1 << 20, 1.0)]));
        assert_eq!(sizes("log-normal:1KiB:1.5").unwrap(), Sizes::LogNormal { median: 1024, spread: 1.5 });
        for wrong in ["", "big", "1KiB*0", "1KiB*-1", "log-normal:1KiB", "log-normal:1KiB:NaN", ","] {
            assert!(sizes(wrong).unwrap_err().to_string().contains("log-normal:16KiB:1.5"), "{wrong}");
        }
    }

    #[tokio::test]
    async fn tables_have_the_keys_of_flags() {
        let table = |text: &str| LoadArgs::of_table(&text.parse().unwrap());
        let read = table(
            "url = [\"http://a/{object}\", \"http://b/{object}\"]\nrate = 10\nobjects = 5\nwarm_up = \"1s\"\nfill = true\nhttp2 = false",
        );
        let load = read.unwrap().load().await.unwrap();
        assert_eq!((load.targets.len(), load.shape.objects, load.fill, load.http2), (2, 5, true, false));
        assert_eq!(load.warm_up, Duration::from_secs(1));
        let wrong = |text: &str| table(text).unwrap_err().to_string();
        assert!(wrong("rate = 10").contains("--url"), "{}", wrong("rate = 10"));
        let unknown = wrong("url = \"http://a/\"\nrate = 1\nobjets = 5");
        assert!(unknown.contains("--objets") && unknown.contains("--objects"), "{unknown}");
        assert!(wrong("url = \"http://a/\"\nrate = \"often\"").contains("\"max\""));
        assert!(wrong("url = \"http://a/\"\nrate = { a = 1 }").contains("`rate`"));
        let cities = table("url = \"http://{city}/\"\nrate = 1").unwrap().load().await;
        assert!(cities.err().unwrap().to_string().contains("--cities"));
        let unknown = wrong("url = \"http://{city}/\"\nrate = 1\ncities = \"gru,atlantis\"");
        assert!(unknown.contains("atlantis") && unknown.contains("did you mean Atlanta?"), "{unknown}");
    }
}
