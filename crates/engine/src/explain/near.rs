//! What is stored under keys that differ from the one that is looked up in one thing: the query, the host, the scheme, the
//! spelling of the path. Each of them is a copy that this request does not get.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use http::StatusCode;
use nearside_protocol::Problem;
use nearside_protocol::explanation::Near;
use nearside_telemetry::reason::Reason;
use tokio::sync::Mutex;

use super::{Case, split};

/// Of each kind so many are shown.
const EXAMPLES_MAX: usize = 5;
/// Parameters that are told by name.
const PARAMETERS_MAX: usize = 20;
/// Parameters of a query that are compared with another's.
const COMPARED_MAX: usize = 64;

/// Parameters that say where a visitor came from, and hardly ever what is wanted: as the advertising networks and mailers
/// that add them document them.
const NOISE: [&str; 15] = [
    "dclid",
    "fbclid",
    "gad_source",
    "gbraid",
    "gclid",
    "gclsrc",
    "igshid",
    "li_fat_id",
    "mc_cid",
    "mc_eid",
    "msclkid",
    "ttclid",
    "twclid",
    "wbraid",
    "yclid",
];

/// Whether a parameter says only where a visitor came from.
pub(super) fn is_noise(name: &str) -> bool {
    name.starts_with("utm_") || NOISE.contains(&name)
}

/// One at a time looks at all keys: many at once would take the processors from those who serve.
static LOOKING: Mutex<()> = Mutex::const_new(());

/// Looks at all keys, which takes as long as there are many: not on a serving thread.
pub(super) async fn find(case: &Case) -> Result<Vec<Near>, Problem> {
    let (engine, key, site) = (Arc::clone(&case.engine), case.key.lookup.clone(), case.site);
    let walk = move || {
        let own = Parts::of(&key)?;
        let found = RefCell::new(BTreeMap::<Reason, Found>::new());
        let is_like = |other: &[u8]| *other != *key && Parts::of(other).is_some_and(|other| own.is_like(&other));
        engine.store.each_key_like(is_like, |other| {
            let Some(parts) = Parts::of(other) else { return };
            let Some((kind, parameters)) = own.differs(&parts) else { return };
            if kind != Reason::HostVariants || engine.sites.find(parts.host.as_bytes()) == Some(site) {
                found.borrow_mut().entry(kind).or_default().add(&parts, parameters);
            }
        });
        Some(found.into_inner().into_iter().map(Found::told).collect())
    };
    let failed =
        |_panicked| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "panic", "the keys could not be looked at");
    let _looking = LOOKING.lock().await;
    Ok(tokio::task::spawn_blocking(walk).await.map_err(failed)?.unwrap_or_default())
}

/// A key in its parts.
struct Parts<'k> {
    scheme: &'k str,
    host: &'k str,
    path: &'k str,
    query: Option<&'k str>,
}

impl<'k> Parts<'k> {
    /// `None` for what is more than a URL: a block, or a rule about queries.
    fn of(key: &'k [u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(key).ok()?.split('\n');
        let (scheme, host, target) = (parts.next()?, parts.next()?, parts.next()?);
        let (path, query) = split(target);
        parts.next().is_none().then_some(Self { scheme, host, path, query })
    }

    fn parameters(&self) -> Vec<&'k str> {
        let parameters = self.query.into_iter().flat_map(|query| query.split('&'));
        parameters.filter(|parameter| !parameter.is_empty()).take(COMPARED_MAX).collect()
    }

    /// Whether another key may differ in one thing; cheap, as it is asked while others wait.
    fn is_like(&self, other: &Self) -> bool {
        let path = self.path.trim_end_matches('/');
        path.eq_ignore_ascii_case(other.path.trim_end_matches('/'))
    }

    /// In what one thing another key differs; and the parameters that do, if it is the query.
    fn differs(&self, other: &Self) -> Option<(Reason, Vec<String>)> {
        let same =
            [self.scheme == other.scheme, self.host == other.host, self.path == other.path, self.query == other.query];
        match same {
            [true, true, true, false] => {
                let names = difference(&self.parameters(), &other.parameters());
                let kind = match &names[..] {
                    [] => Reason::QueryOrder,
                    names if names.iter().all(|name| is_noise(name)) => Reason::QueryNoise,
                    _ => Reason::QueryVariants,
                };
                Some((kind, names))
            }
            [false, true, true, true] => Some((Reason::SchemeVariants, Vec::new())),
            [true, false, true, true] => Some((Reason::HostVariants, Vec::new())),
            [true, true, false, true] if spelling(self.path) == spelling(other.path) => {
                Some((Reason::PathVariants, Vec::new()))
            }
            _ => None,
        }
    }
}

/// The names of the parameters that are in one of two queries only.
fn difference(one: &[&str], other: &[&str]) -> Vec<String> {
    let missing = |from: &[&str], of: &[&str]| {
        of.iter().filter(|parameter| !from.contains(parameter)).map(|p| name(p).to_owned()).collect::<Vec<_>>()
    };
    let mut names = [missing(one, other), missing(other, one)].concat();
    names.sort();
    names.dedup();
    names
}

/// The name of a parameter; one without a value may be a secret itself.
fn name(parameter: &str) -> &str {
    parameter.split_once('=').map_or("…", |(name, _)| name)
}

/// What two spellings of a path have in common, where they are likely to mean the same.
fn spelling(path: &str) -> String {
    path.trim_end_matches('/').to_ascii_lowercase()
}

/// Keys of one kind.
#[derive(Default)]
struct Found {
    keys: u64,
    parameters: BTreeSet<String>,
    examples: Vec<String>,
}

impl Found {
    fn add(&mut self, parts: &Parts<'_>, parameters: Vec<String>) {
        self.keys += 1;
        if self.parameters.len() < PARAMETERS_MAX {
            self.parameters.extend(parameters);
        }
        if self.examples.len() < EXAMPLES_MAX {
            // Others have asked for it: what their parameters held may be a secret.
            let names: Vec<_> = parts
                .parameters()
                .iter()
                .map(|parameter| match name(parameter) {
                    "…" => "…".to_owned(),
                    name => format!("{name}=…"),
                })
                .collect();
            let query = if names.is_empty() { String::new() } else { format!("?{}", names.join("&")) };
            self.examples.push(format!("{}://{}{}{query}", parts.scheme, parts.host, parts.path));
        }
    }

    fn told((kind, found): (Reason, Self)) -> Near {
        let parameters = found.parameters.into_iter().take(PARAMETERS_MAX).collect();
        Near { reason: kind.token().to_owned(), keys: found.keys, parameters, examples: found.examples }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_near_when_they_differ_in_one_thing() {
        let table = [
            ("http\na.org\n/p", "http\na.org\n/p?utm_source=x&gclid=1", Some(Reason::QueryNoise)),
            ("http\na.org\n/p?a=1&utm_source=x", "http\na.org\n/p?a=1&utm_source=y", Some(Reason::QueryNoise)),
            ("http\na.org\n/p?a=1&b=2", "http\na.org\n/p?b=2&a=1", Some(Reason::QueryOrder)),
            ("http\na.org\n/p?a=1", "http\na.org\n/p?a=2&utm_source=y", Some(Reason::QueryVariants)),
            ("http\na.org\n/p?a=1", "http\nwww.a.org\n/p?a=1", Some(Reason::HostVariants)),
            ("http\na.org\n/p?a=1", "https\na.org\n/p?a=1", Some(Reason::SchemeVariants)),
            ("http\na.org\n/p", "http\na.org\n/P/", Some(Reason::PathVariants)),
            ("http\na.org\n/p", "http\na.org\n/q", None),
            ("http\na.org\n/p", "https\nwww.a.org\n/p", None),
            ("http\na.org\n/p", "http\na.org\n/P?a", None),
        ];
        for (own, other, expected) in table {
            let found = Parts::of(own.as_bytes()).unwrap().differs(&Parts::of(other.as_bytes()).unwrap());
            assert_eq!(found.map(|(kind, _)| kind), expected, "{own:?} {other:?}");
        }
        assert!(Parts::of(b"http\na.org\n/p\n1").is_none(), "a block");
    }
}
