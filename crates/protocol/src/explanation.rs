//! What becomes of a request, and why: the answer of `GET /v1/explain`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Problem;

/// The most fields that a question may hold.
const FIELDS_MAX: usize = 100;

/// Request fields with credentials.
const CREDENTIALS: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

/// A request that is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Its URL.
    pub url: String,
    /// Its method.
    pub method: String,
    /// Its fields, each a name and a value.
    pub fields: Vec<(String, String)>,
    /// The next hop is to be asked, too.
    pub probe: bool,
}

impl Question {
    /// Reads a query: `url`, `method`, `field` (each a `Name: value`; may repeat) and `probe`.
    ///
    /// # Errors
    ///
    /// Something is missing, is not known, or cannot be read.
    pub fn of(query: &str) -> Result<Self, Problem> {
        let mut question = Self { url: String::new(), method: "GET".to_owned(), fields: Vec::new(), probe: false };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "url" => question.url = value.into_owned(),
                "method" => question.method = value.to_ascii_uppercase(),
                "field" => question.fields.push(field(&value)?),
                "probe" => question.probe = flag(&value)?,
                other => {
                    let detail = format!("{other:?} is not known here: url, method, field, probe are");
                    return Err(Problem::unprocessable("query", detail));
                }
            }
        }
        if question.url.is_empty() {
            return Err(Problem::unprocessable("url-missing", "say which: `?url=http://www.example.com/a`"));
        }
        if question.fields.len() > FIELDS_MAX {
            return Err(Problem::unprocessable("fields", format!("more than {FIELDS_MAX} fields")));
        }
        Ok(question)
    }

    /// Whether its fields say who somebody is, so that an origin answers for that person alone.
    #[must_use]
    pub fn has_credentials(&self) -> bool {
        let says_who = |name: &str| CREDENTIALS.iter().any(|known| name.trim().eq_ignore_ascii_case(known));
        self.fields.iter().any(|(name, _)| says_who(name))
    }

    /// The query that [`of`](Self::of) reads.
    #[must_use]
    pub fn query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("url", &self.url).append_pair("method", &self.method);
        for (name, value) in &self.fields {
            query.append_pair("field", &format!("{name}: {value}"));
        }
        query.append_pair("probe", if self.probe { "true" } else { "false" }).finish()
    }
}

/// Reads `Name: value`.
///
/// # Errors
///
/// There is no colon behind a name.
pub fn field(text: &str) -> Result<(String, String), Problem> {
    match text.split_once(':') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.trim().to_owned())),
        _ => Err(Problem::unprocessable("field", format!("{text:?} is no field: write `Name: value`"))),
    }
}

fn flag(value: &str) -> Result<bool, Problem> {
    match value {
        "" | "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(Problem::unprocessable("probe", format!("probe is true or false, not {value:?}"))),
    }
}

/// What becomes of a request at a node, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// The node that was asked.
    pub node: String,
    /// The site that the request belongs to, if it belongs to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// What becomes of it.
    pub verdict: Verdict,
    /// What in the request, the answer, the store or the configuration leads to that; the most telling first.
    pub causes: Vec<Cause>,
    /// The key that is looked up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
    /// What is stored under it.
    pub stored: Vec<Stored>,
    /// What is stored under keys that differ from it in one thing.
    pub near: Vec<Near>,
    /// What the next hop answers, where it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
}

/// A reason, as `docs/reasons.md` has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Why {
    /// Its stable name.
    pub reason: String,
    /// What it means.
    pub meaning: String,
    /// What helps.
    pub cure: String,
    /// Where it is written: a section of an RFC, or a key of the configuration.
    pub section: String,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Verdict {
    /// The word that log and metrics will have. Where the next hop has to be asked and was not: `miss` where nothing is stored,
    /// `expired` where what is stored would be validated.
    pub cache: String,
    /// `fwd` of `Cache-Status`, where the next hop has to be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forward: Option<String>,
    /// Why.
    #[serde(flatten)]
    pub why: Why,
}

/// Something that leads to the verdict, or to another than one might want.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Cause {
    /// What it is.
    #[serde(flatten)]
    pub why: Why,
    /// Where it shows.
    pub evidence: String,
}

/// A cache key in its parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Key {
    /// Of the request, as the client used it.
    pub scheme: String,
    /// In its one form; the site's `canonical_host` where there is one.
    pub host: String,
    /// As it came.
    pub path: String,
    /// As far as it counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// Parameters that do not count.
    pub ignored: Vec<String>,
    /// The answer is stored in blocks, and this is the first that is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<u64>,
    /// The request fields that select among the variants that are stored, each with the request's value.
    pub selects: Vec<(String, String)>,
}

/// A stored variant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Stored {
    /// It is the one for this request.
    pub selected: bool,
    /// Its status.
    pub status: u16,
    /// The bytes of its body.
    pub bytes: u64,
    /// The request that it answered, as far as `Vary` goes; without cookies and credentials.
    pub variant: String,
    /// `fresh`, `stale-while-revalidate`, `stale-if-error`, `validate`, or `gone`: purged, or past all use.
    pub state: String,
    /// How that came about.
    pub freshness: Freshness,
    /// The fields that say something of caching.
    pub fields: Vec<(String, String)>,
}

/// The arithmetic of RFC 9111 §4.2; in seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Freshness {
    /// How long it is fresh.
    pub lifetime: u64,
    /// What says so: `s-maxage`, `max-age`, `Expires`, `heuristic` or `none`; with the field's name where it is a targeted one.
    pub source: String,
    /// The site's `max_ttl`, where that made it shorter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capped_to: Option<u64>,
    /// Its age when it came: the greater of what `Age` stated and of the time since `Date`, with the way here.
    pub age_on_arrival: u64,
    /// What `Age` stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_stated: Option<u64>,
    /// How much later than `Date` it came by this node's clock; negative if before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_date: Option<i64>,
    /// How long it has been here.
    pub resident: u64,
    /// The two ages together.
    pub age: u64,
    /// What is left; negative when it is stale.
    pub ttl: i64,
    /// How much longer it may be served while it is refreshed; 0: it may not, or no longer.
    pub stale_while_revalidate: u64,
    /// How much longer it may be served when the next hop fails.
    pub stale_if_error: u64,
}

/// Keys that differ from the one that is looked up in one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Near {
    /// In which: `query-noise`, `query-order`, `query-variants`, `host-variants`, `scheme-variants` or `path-variants`.
    pub reason: String,
    /// How many there are.
    pub keys: u64,
    /// Of the query: the parameters that differ.
    pub parameters: Vec<String>,
    /// Some of them, as URLs without the values in their queries.
    pub examples: Vec<String>,
}

/// What the next hop answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Probe {
    /// Who was asked.
    pub hop: String,
    /// Its status.
    pub status: u16,
    /// How long it took to the head of its answer.
    pub milliseconds: f64,
    /// The fields that say something of caching.
    pub fields: Vec<(String, String)>,
    /// Whether it would be stored.
    pub stored: bool,
    /// How long it would be fresh.
    pub freshness: Freshness,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_read_as_it_was_written() {
        let question = Question {
            url: "http://a.org/b?c=d&e=%20".to_owned(),
            method: "HEAD".to_owned(),
            fields: vec![("Accept".to_owned(), "a, b: c".to_owned()), ("Cookie".to_owned(), "x=1; y=&".to_owned())],
            probe: true,
        };
        assert_eq!(Question::of(&question.query()).unwrap(), question);
        assert!(question.has_credentials());
        assert!(!Question::of("url=a&probe&field=Accept%3A+cookie").unwrap().has_credentials());
        assert!(Question::of("url=a&field=AUTHORIZATION+%3A+x").unwrap().has_credentials());
        for (query, code) in [
            ("", "url-missing"),
            ("method=GET", "url-missing"),
            ("url=a&field=nonsense", "field"),
            ("url=a&field=%3A+b", "field"),
            ("url=a&probe=maybe", "probe"),
            ("uri=a", "query"),
        ] {
            assert_eq!(Question::of(query).unwrap_err().code, code, "{query}");
        }
    }
}
