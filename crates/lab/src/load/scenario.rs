//! Load scenario as a file: a question, the load that answers it, and claims about the result.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use http::Uri;
use nearside_config::Span;
use nearside_protocol::Filter;
use serde::Deserialize;

use super::LoadArgs;

/// Names and texts of the scenarios in the program.
pub(super) const BUILT_IN: [(&str, &str); 8] = [
    ("hot-hit", include_str!("../../../../loadtest/scenarios/hot-hit.toml")),
    ("zipf", include_str!("../../../../loadtest/scenarios/zipf.toml")),
    ("thundering-herd", include_str!("../../../../loadtest/scenarios/thundering-herd.toml")),
    ("purge-race", include_str!("../../../../loadtest/scenarios/purge-race.toml")),
    ("origin-down", include_str!("../../../../loadtest/scenarios/origin-down.toml")),
    ("slow-clients", include_str!("../../../../loadtest/scenarios/slow-clients.toml")),
    ("large-files", include_str!("../../../../loadtest/scenarios/large-files.toml")),
    ("shield-loss", include_str!("../../../../loadtest/scenarios/shield-loss.toml")),
];

/// Names of the figures that claims can use.
pub(super) const FIGURES: [&str; 28] = [
    "due",
    "answered",
    "failed",
    "wrong",
    "rate",
    "hit_ratio",
    "status_2xx",
    "status_3xx",
    "status_4xx",
    "status_5xx",
    "status_other",
    "p50_ms",
    "p90_ms",
    "p99_ms",
    "p999_ms",
    "max_ms",
    "origin_requests",
    "origin_bytes",
    "crowd_right",
    "crowd_wrong",
    "crowd_failed",
    "crowd_seconds",
    "slow_served",
    "purges_acknowledged",
    "race_answers",
    "race_old",
    "race_mixed",
    "race_failed",
];

/// Load scenario.
#[derive(Debug)]
pub(super) struct LoadScenario {
    pub(super) name: String,
    pub(super) question: String,
    /// URL of the origin-sim behind the caches.
    pub(super) origin: Uri,
    /// Claims: the text, and the parsed expression.
    pub(super) claims: Vec<(String, Filter)>,
    /// Commands of other load generators that measure about the same.
    pub(super) second_opinion: Vec<String>,
    pub(super) load: Option<LoadArgs>,
    pub(super) crowd: Option<CrowdPart>,
    pub(super) slow: Option<SlowPart>,
    pub(super) race: Option<RacePart>,
    pub(super) events: Vec<ScenarioEvent>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScenarioFile {
    question: String,
    origin: String,
    claims: Vec<String>,
    #[serde(default)]
    second_opinion: Vec<String>,
    load: Option<toml::Table>,
    crowd: Option<CrowdPart>,
    slow: Option<SlowPart>,
    race: Option<RacePart>,
    #[serde(default)]
    event: Vec<EventTable>,
}

/// Clients that arrive at once, each on a connection of its own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CrowdPart {
    /// URLs that take turns; each has `size=` and `seed=`.
    pub(super) url: Vec<String>,
    pub(super) clients: usize,
    within: String,
}

impl CrowdPart {
    pub(super) fn within(&self) -> anyhow::Result<Duration> {
        span("crowd: within", &self.within)
    }
}

/// Clients that read slowly.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SlowPart {
    pub(super) url: String,
    pub(super) clients: usize,
    pub(super) bytes_per_second: usize,
}

/// Keys that get new versions and are purged while clients read them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RacePart {
    /// URLs of the edges.
    pub(super) urls: Vec<String>,
    /// URL of the control process.
    pub(super) control: String,
    /// Host of the site in purge requests.
    pub(super) host: String,
    pub(super) purges: usize,
    pub(super) clients: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EventTable {
    at: String,
    fail: Option<String>,
    heal: Option<String>,
}

/// Fault of the demo that is injected or healed during the load.
#[derive(Debug, Clone)]
pub(super) struct ScenarioEvent {
    pub(super) at: Duration,
    /// `fail` or `heal`.
    pub(super) verb: &'static str,
    pub(super) what: String,
}

impl LoadScenario {
    /// Finds a scenario of the program by its name, or reads a file by its path.
    pub(super) fn find(name: &str, run: &str) -> anyhow::Result<Self> {
        if let Some((name, text)) = BUILT_IN.iter().find(|(built_in, _)| *built_in == name) {
            return Self::parse(name, text, run);
        }
        let path = Path::new(name);
        if !path.exists() && !name.contains(['/', '.']) {
            let names: Vec<_> = BUILT_IN.iter().map(|(name, _)| *name).collect();
            return Err(usage!(
                "there is no scenario {name:?}: one of {}, all, or the path of a file",
                names.join(", ")
            ));
        }
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
        Self::parse(name, &text, run)
    }

    /// Parses a scenario. `run` replaces `{run}`: a value that is new in each run, so that nothing
    /// is cached before.
    pub(super) fn parse(name: &str, text: &str, run: &str) -> anyhow::Result<Self> {
        Self::read(name, &text.replace("{run}", run)).with_context(|| format!("scenario {name}"))
    }

    fn read(name: &str, text: &str) -> anyhow::Result<Self> {
        let file: ScenarioFile = toml::from_str(text)?;
        let origin: Uri = file.origin.parse().with_context(|| format!("origin: {:?} is no URL", file.origin))?;
        let load = file.load.as_ref().map(LoadArgs::of_table).transpose().context("[load]")?;
        let has_work = load.is_some() || file.crowd.is_some() || file.race.is_some();
        ensure!(has_work, "there is nothing to do: [load], [crowd] or [race] is missing");
        ensure!(file.slow.is_none() || load.is_some(), "[slow] needs a [load] beside it, which says how long it is");
        if let Some(crowd) = &file.crowd {
            crowd.within()?;
        }
        let claims = file.claims.into_iter().map(claim).collect::<anyhow::Result<Vec<_>>>()?;
        ensure!(!claims.is_empty(), "claims: a scenario claims something");
        Ok(Self {
            name: name.to_owned(),
            question: file.question,
            origin,
            claims,
            second_opinion: file.second_opinion,
            load,
            crowd: file.crowd,
            slow: file.slow,
            race: file.race,
            events: file.event.into_iter().map(event).collect::<anyhow::Result<_>>()?,
        })
    }
}

fn claim(text: String) -> anyhow::Result<(String, Filter)> {
    let filter = Filter::parse(&text).with_context(|| format!("claim {text:?}"))?;
    let mut fields = Vec::new();
    names(&filter, &mut fields);
    ensure!(!fields.is_empty(), "claim {text:?} is about nothing");
    if let Some(unknown) = fields.iter().find(|name| !FIGURES.contains(&name.as_str())) {
        bail!("claim {text:?}: there is no figure {unknown}, but {}", FIGURES.join(", "));
    }
    Ok((text, filter))
}

/// Collects the fields that an expression uses.
fn names(filter: &Filter, into: &mut Vec<String>) {
    match filter {
        Filter::All => {}
        Filter::And(one, other) | Filter::Or(one, other) => {
            names(one, into);
            names(other, into);
        }
        Filter::Not(inner) => names(inner, into),
        Filter::Has(name) | Filter::Is(name, ..) => into.push(name.clone()),
    }
}

fn event(table: EventTable) -> anyhow::Result<ScenarioEvent> {
    let at = span("event: at", &table.at)?;
    let (verb, what) = match (table.fail, table.heal) {
        (Some(what), None) => ("fail", what),
        (None, Some(what)) => ("heal", what),
        _ => bail!("event at {}: either `fail` or `heal`, as of `nearside demo`", table.at),
    };
    Ok(ScenarioEvent { at, verb, what })
}

fn span(what: &str, text: &str) -> anyhow::Result<Duration> {
    let span: Span = text.parse().map_err(|error| anyhow::anyhow!("{what}: {text:?} is no time: expected {error}"))?;
    Ok(span.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_of_the_program_are_right() {
        for (name, _) in BUILT_IN {
            let scenario = LoadScenario::find(name, "7").unwrap_or_else(|error| panic!("{error:#}"));
            assert!(scenario.question.ends_with('?') && !scenario.claims.is_empty(), "{name}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = |text: &str| format!("{:#}", LoadScenario::parse("x", text, "7").unwrap_err());
        let load = "[load]\nurl = \"http://a/\"\nrate = 1\n";
        let begin = "question = \"?\"\norigin = \"http://o/\"\n";
        assert!(wrong(&format!("{begin}claims = [\"fast == 1\"]\n{load}")).contains("no figure fast, but due"));
        assert!(wrong(&format!("{begin}claims = [\"failed = 1\"]\n{load}")).contains("claim \"failed = 1\""));
        assert!(wrong(&format!("{begin}claims = [\"\"]\n{load}")).contains("about nothing"));
        assert!(wrong(&format!("{begin}claims = []\n{load}")).contains("claims something"));
        assert!(wrong(&format!("{begin}claims = [\"failed == 0\"]\n")).contains("nothing to do"));
        assert!(wrong(&format!("{begin}claims = [\"failed == 0\"]\n[load]\nrate = 1\n")).contains("--url"));
        assert!(wrong(&format!("{begin}clams = []\n{load}")).contains("clams"));
        let events = |event: &str| wrong(&format!("{begin}claims = [\"failed == 0\"]\n{load}[[event]]\n{event}"));
        assert!(events("at = \"soon\"\nfail = \"origin\"").contains("\"soon\" is no time"));
        assert!(events("at = \"1s\"").contains("either `fail` or `heal`"));
        assert!(format!("{:#}", LoadScenario::find("hot-hat", "7").unwrap_err()).contains("hot-hit"));
    }
}
