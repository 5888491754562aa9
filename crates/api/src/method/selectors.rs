//! Fields of a purge by method that say what to purge.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use nearside_protocol::Problem;

use super::not_understood;
use super::pattern::{Names, names};

/// How the URL of a purge is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Mode {
    /// The request does not say.
    #[default]
    Unsaid,
    /// As it stands.
    Exact,
    /// As a regular expression.
    Pattern,
}

/// What the fields of a purge say.
#[derive(Debug, Default)]
pub(super) struct Selectors {
    /// Tags, in place of a URL.
    pub(super) tags: Option<Names>,
    /// Hosts, in place of the one that the request names.
    pub(super) hosts: Option<Names>,
    /// A regular expression over paths, in place of the target.
    pub(super) pattern: Option<String>,
    pub(super) mode: Mode,
    pub(super) soft: bool,
}

/// What a field says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// Tags, separated by spaces or commas.
    Spaced,
    /// The same, to be purged softly.
    SpacedSoft,
    /// Tags, separated by commas.
    Listed,
    /// Tags as a list or a pattern.
    TagPattern,
    /// Hosts as a list or a pattern.
    Hosts,
    /// A regular expression over paths.
    UrlPattern,
    /// How the URL is meant.
    Mode,
    /// Whether the purge is soft.
    Soft,
    /// A restriction that is understood only where it restricts nothing.
    Anything,
    /// Nothing about purges.
    Nothing,
    /// Something about purges that has no meaning here.
    Unknown,
}

/// Fields that look like those of [`SUSPECT`], but do not say what to purge.
const HARMLESS: [&str; 4] = ["x-varnish", "x-vc-purge-key", "surrogate-capability", "surrogate-control"];
/// Words in the names of fields by which plugins say what to purge.
const SUSPECT: [&str; 24] = [
    "purge",
    "purger",
    "softpurge",
    "ban",
    "bans",
    "xkey",
    "xkeys",
    "tag",
    "tags",
    "regex",
    "pattern",
    "wildcard",
    "invalidate",
    "invalidation",
    "flush",
    "varnish",
    "litespeed",
    "lscache",
    "surrogate",
    "magento",
    "drupal",
    "typo3",
    "acquia",
    "ezplatform",
];
/// Names that are too short for that.
const SUSPECT_NAMES: [&str; 7] = ["key", "keys", "x-key", "x-keys", "x-location-id", "x-group", "x-query"];

fn meaning(name: &str) -> Meaning {
    match name {
        "xkey" | "xkey-purge" | "surrogate-key" => Meaning::Spaced,
        "xkey-softpurge" => Meaning::SpacedSoft,
        "cache-tag" | "edge-cache-tag" => Meaning::Listed,
        "x-cache-tags" | "cache-tags" | "purge-cache-tags" | "x-magento-tags-pattern" | "x-magento-tags" => {
            Meaning::TagPattern
        }
        "x-host" | "x-purge-host" | "x-ban-host" | "x-vc-purge-host" => Meaning::Hosts,
        "x-url" | "x-purge-regex" | "x-ban-url" => Meaning::UrlPattern,
        "x-purge-method" | "x-vc-purge-method" => Meaning::Mode,
        "fastly-soft-purge" => Meaning::Soft,
        "x-content-type" => Meaning::Anything,
        name if HARMLESS.contains(&name) => Meaning::Nothing,
        name if SUSPECT_NAMES.contains(&name) || name.split('-').any(|word| SUSPECT.contains(&word)) => {
            Meaning::Unknown
        }
        _ => Meaning::Nothing,
    }
}

impl Selectors {
    /// Reads the fields of a request.
    ///
    /// # Errors
    ///
    /// A field is not understood (501).
    pub(super) fn of(fields: &HeaderMap) -> Result<Self, Problem> {
        let mut found = Self::default();
        for (name, value) in fields {
            let meaning = meaning(name.as_str());
            if meaning != Meaning::Nothing {
                found.read(name, value, meaning)?;
            }
        }
        Ok(found)
    }

    fn read(&mut self, name: &HeaderName, value: &HeaderValue, meaning: Meaning) -> Result<(), Problem> {
        let wrong = || refused_value(name, value);
        let text = value.to_str().map_err(|_no_text| wrong())?.trim();
        match meaning {
            Meaning::Spaced => self.name_tags(Names::These(spaced(text))),
            Meaning::SpacedSoft => {
                self.soft = true;
                self.name_tags(Names::These(spaced(text)));
            }
            Meaning::Listed => self.name_tags(Names::These(pieces(text, &[',']))),
            Meaning::TagPattern => {
                let separators = if name == "x-cache-tags" { &[','][..] } else { &[',', ' '] };
                self.name_tags(match names(text).ok_or_else(wrong)? {
                    Names::All => Names::All,
                    Names::These(names) => {
                        Names::These(names.iter().flat_map(|name| pieces(name, separators)).collect())
                    }
                });
            }
            Meaning::Hosts if self.hosts.is_none() => self.hosts = Some(names(text).ok_or_else(wrong)?),
            Meaning::UrlPattern if self.pattern.is_none() => self.pattern = Some(text.to_owned()),
            // Which of two is meant is not known.
            Meaning::Hosts | Meaning::UrlPattern => return Err(wrong()),
            Meaning::Mode => {
                self.mode = match text.to_ascii_lowercase().as_str() {
                    "regex" => Mode::Pattern,
                    "exact" => Mode::Exact,
                    "default" | "" => Mode::Unsaid,
                    _ => {
                        let detail = format!(
                            "{name}: {text:?} is not understood, and nothing was purged: \"default\", \"exact\" and \"regex\" are"
                        );
                        return Err(not_understood("mode", detail));
                    }
                }
            }
            Meaning::Soft => self.soft |= text == "1",
            Meaning::Anything if matches!(text, "" | ".*" | "*") => {}
            Meaning::Anything => return Err(wrong()),
            Meaning::Nothing => {}
            Meaning::Unknown => {
                let detail = format!(
                    "the field {name} is not understood, and nothing was purged: leave it out, or purge by URL or `xkey`"
                );
                return Err(not_understood("field", detail));
            }
        }
        Ok(())
    }

    fn name_tags(&mut self, more: Names) {
        self.tags = Some(match (self.tags.take(), more) {
            (Some(Names::These(mut tags)), Names::These(more)) => {
                tags.extend(more);
                Names::These(tags)
            }
            (None, more) => more,
            _ => Names::All,
        });
    }
}

fn refused_value(name: &HeaderName, value: &HeaderValue) -> Problem {
    let detail = format!(
        "{name}: {value:?} is not understood, and nothing was purged: names are, alone, in a list or as `a|b`, and `.*` for all"
    );
    not_understood("field-value", detail)
}

/// Splits a list of names.
fn pieces(text: &str, separators: &[char]) -> Vec<String> {
    text.split(separators).map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Splits tags at white space. Some senders put commas or semicolons between them, but these may belong to a tag as well:
/// both readings are purged.
fn spaced(text: &str) -> Vec<String> {
    let mut tags = Vec::new();
    for whole in text.split_ascii_whitespace() {
        let parts = pieces(whole, &[',', ';']);
        let bare = whole.trim_matches([',', ';']);
        if parts.len() > 1 {
            tags.push(bare.to_owned());
        }
        tags.extend(parts);
    }
    tags
}
