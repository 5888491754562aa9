//! What is to be purged, and how.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use nearside_config::Span;
use nearside_semantics::key::{Scheme, is_authority};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

use crate::Problem;

/// URLs, tags, prefixes and hosts of one order.
pub const TARGETS_MAX: usize = 1000;
/// The longest URL or prefix, in bytes.
const URL_BYTES_MAX: usize = 8 << 10;
/// The longest tag or host, in bytes.
const NAME_BYTES_MAX: usize = 1024;
/// How long a client waits for receipts at most.
const TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// An order to purge.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Order {
    /// The site that it concerns; without it, all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// URLs: all variants and blocks of each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Surrogate keys.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// What URLs begin with: a host and the beginning of a path. Without a scheme, both.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<String>,
    /// Hosts, with their port where it is not the scheme's own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Everything.
    #[serde(skip_serializing_if = "is_false")]
    pub all: bool,
    /// Only stale from now on: validated before it is used, or served as the stale rules allow.
    #[serde(skip_serializing_if = "is_false")]
    pub soft: bool,
    /// Gone from memory before it is acknowledged.
    #[serde(skip_serializing_if = "is_false")]
    pub erase: bool,
    /// Only count.
    #[serde(skip_serializing_if = "is_false")]
    pub dry_run: bool,
    /// What to wait for.
    #[serde(skip_serializing_if = "is_default")]
    pub wait: Wait,
    /// How long to wait for all nodes: `"2s"`.
    #[serde(skip_serializing_if = "is_default")]
    #[schema(value_type = String, example = "2s")]
    pub timeout: Timeout,
}

/// What the answer to an order waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Wait {
    /// Until every node has applied it.
    #[default]
    Applied,
    /// For nothing but that it cannot be lost any more.
    None,
}

/// How long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeout(pub Duration);

impl Default for Timeout {
    fn default() -> Self {
        Self(Duration::from_secs(2))
    }
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Span(self.0).fmt(f)
    }
}

impl Serialize for Timeout {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timeout {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let Span(span) = Span::from_str(&text).map_err(serde::de::Error::custom)?;
        if span > TIMEOUT_MAX {
            return Err(serde::de::Error::custom("a minute at most"));
        }
        Ok(Self(span))
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_false(switch: &bool) -> bool {
    !switch
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Order {
    /// The things that it names.
    pub fn targets(&self) -> impl Iterator<Item = PurgeTarget<'_>> {
        let urls = self.urls.iter().map(|url| PurgeTarget::Url(url));
        let prefixes = self.prefixes.iter().map(|prefix| PurgeTarget::Prefix(prefix));
        let hosts = self.hosts.iter().map(|host| PurgeTarget::Host(host));
        let tags = self.tags.iter().map(|tag| PurgeTarget::Tag(tag));
        urls.chain(prefixes).chain(hosts).chain(tags).chain(self.all.then_some(PurgeTarget::Everything))
    }

    /// What can be seen of it without knowing any site.
    ///
    /// # Errors
    ///
    /// It names nothing, too much, or what cannot be.
    pub fn check(&self) -> Result<(), Problem> {
        let targets = self.targets().count();
        if targets == 0 {
            let detail = "name what to purge: `urls`, `tags`, `prefixes`, `hosts`, or `all`: true";
            return Err(Problem::unprocessable("nothing-named", detail));
        }
        if targets > TARGETS_MAX {
            let detail = format!("{targets} URLs, tags, prefixes and hosts; an order has {TARGETS_MAX} at most");
            return Err(Problem::unprocessable("too-many", detail));
        }
        if self.soft && self.erase {
            return Err(Problem::unprocessable(
                "soft-and-erase",
                "`soft` keeps the bytes, `erase` does not: choose one",
            ));
        }
        let lists = [
            ("urls", &self.urls, URL_BYTES_MAX),
            ("prefixes", &self.prefixes, URL_BYTES_MAX),
            ("tags", &self.tags, NAME_BYTES_MAX),
            ("hosts", &self.hosts, NAME_BYTES_MAX),
        ];
        for (list, members, longest) in lists {
            if let Some(at) = members.iter().position(|member| member.is_empty() || member.len() > longest) {
                let detail = format!("`{list}`[{at}] must have 1 to {longest} bytes");
                return Err(Problem::unprocessable("length", detail));
            }
        }
        self.urls.iter().try_for_each(|url| whole(url).map(drop))?;
        self.prefixes.iter().try_for_each(|prefix| beginning(prefix).map(drop))?;
        match self.hosts.iter().find(|host| !is_authority(host.as_bytes())) {
            None => Ok(()),
            Some(host) => Err(Problem::unprocessable("host", format!("{host:?} is no host"))),
        }
    }

    /// An order for each thing that it names.
    pub fn singly(&self) -> impl Iterator<Item = Self> {
        let plain = Self {
            urls: Vec::new(),
            tags: Vec::new(),
            prefixes: Vec::new(),
            hosts: Vec::new(),
            all: false,
            ..self.clone()
        };
        self.targets().map(move |target| {
            let mut one = plain.clone();
            match target {
                PurgeTarget::Url(url) => one.urls.push(url.to_owned()),
                PurgeTarget::Prefix(prefix) => one.prefixes.push(prefix.to_owned()),
                PurgeTarget::Host(host) => one.hosts.push(host.to_owned()),
                PurgeTarget::Tag(tag) => one.tags.push(tag.to_owned()),
                PurgeTarget::Everything => one.all = true,
            }
            one
        })
    }

    /// How it treats the responses that it meets. [`check`](Self::check) refuses what is soft and erases.
    #[must_use]
    pub const fn mode(&self) -> PurgeMode {
        match (self.soft, self.erase) {
            (false, false) => PurgeMode::Hard,
            (true, _) => PurgeMode::Soft,
            (false, true) => PurgeMode::Erase,
        }
    }
}

/// How a purge treats the responses that it meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PurgeMode {
    /// Removes the responses.
    Hard,
    /// Makes the responses stale: they are validated before they are used, or served as the stale rules allow.
    Soft,
    /// Removes the responses, and frees their memory before the purge is acknowledged.
    Erase,
}

impl PurgeMode {
    /// Name in the audit log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hard => "hard",
            Self::Soft => "soft",
            Self::Erase => "erase",
        }
    }
}

/// One thing that a purge names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PurgeTarget<'o> {
    /// A URL, with all its variants and blocks.
    Url(&'o str),
    /// The beginning of URLs.
    Prefix(&'o str),
    /// A host, with its port where that is not the scheme's own.
    Host(&'o str),
    /// A surrogate key.
    Tag(&'o str),
    /// Everything.
    Everything,
}

/// A URL, or the beginning of one, as a purge names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts<'u, S> {
    /// The scheme.
    pub scheme: S,
    /// The host, with a port where one is named.
    pub authority: &'u str,
    /// Path and query, as they stand.
    pub target: &'u str,
}

/// A whole URL.
///
/// # Errors
///
/// It is none, or one of another scheme.
pub fn whole(url: &str) -> Result<Parts<'_, Scheme>, Problem> {
    let Parts { scheme, authority, target } = parts(url)?;
    let scheme = scheme.ok_or_else(|| Problem::unprocessable("url", format!("{url:?} is no http or https URL")))?;
    Ok(Parts { scheme, authority, target })
}

/// What URLs begin with: without a scheme, both.
///
/// # Errors
///
/// No URL begins so, or it reaches into the query.
pub fn beginning(prefix: &str) -> Result<Parts<'_, Option<Scheme>>, Problem> {
    let parts = parts(prefix)?;
    if parts.target.contains('?') {
        let detail = format!("{prefix:?}: a prefix ends in the path, as queries may be stored in another order");
        return Err(Problem::unprocessable("prefix", detail));
    }
    Ok(parts)
}

fn parts(url: &str) -> Result<Parts<'_, Option<Scheme>>, Problem> {
    let no_url = || Problem::unprocessable("url", format!("{url:?} is no http or https URL"));
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (Some(Scheme::Http), rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (Some(Scheme::Https), rest),
        // A path or a query may hold "://", too.
        Some((before, _)) if !before.contains(['/', '?', '#']) => return Err(no_url()),
        _ => (None, url),
    };
    let rest = rest.split('#').next().unwrap_or_default();
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    if !is_authority(authority.as_bytes()) || !target.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(no_url());
    }
    Ok(Parts { scheme, authority, target })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_read_and_written_without_what_is_by_default() {
        let text = r#"{"site":"www","tags":["a"],"soft":true,"timeout":"500ms"}"#;
        let order: Order = serde_json::from_str(text).unwrap();
        assert_eq!(order.timeout, Timeout(Duration::from_millis(500)));
        assert_eq!(serde_json::to_string(&order).unwrap(), text);
        for wrong in [r#"{"tag":["a"]}"#, r#"{"tags":"a"}"#, r#"{"timeout":"2h"}"#, r#"{"timeout":2}"#] {
            assert!(serde_json::from_str::<Order>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn each_thing_is_an_order_of_its_own() {
        let text =
            r#"{"site":"www","urls":["u"],"tags":["a","b"],"prefixes":["p"],"hosts":["h"],"all":true,"soft":true}"#;
        let order: Order = serde_json::from_str(text).unwrap();
        let singly: Vec<_> = order.singly().collect();
        assert!(
            singly.len() == 6
                && singly.iter().all(|one| one.targets().count() == 1 && one.soft && one.site == order.site)
        );
        assert_eq!(
            (&singly[0].urls, &singly[4].tags, singly[5].all),
            (&vec!["u".to_owned()], &vec!["b".to_owned()], true)
        );
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let code = |order: &Order| order.check().map_err(|problem| problem.code);
        let tags = |tags: Vec<String>| Order { tags, ..Order::default() };
        assert_eq!(code(&Order::default()), Err("nothing-named"));
        assert_eq!(code(&tags(vec!["a".to_owned(); TARGETS_MAX + 1])), Err("too-many"));
        assert_eq!(code(&tags(vec!["a".to_owned(), String::new()])), Err("length"));
        assert_eq!(code(&tags(vec!["a".repeat(NAME_BYTES_MAX + 1)])), Err("length"));
        assert_eq!(code(&Order { all: true, soft: true, erase: true, ..Order::default() }), Err("soft-and-erase"));
        assert_eq!(code(&Order { all: true, ..Order::default() }), Ok(()));
    }
}
