//! A table of the file while it is read: typed access that collects problems instead of stopping at the first.
//!
//! **Invariant:** every key that is in the file is either asked for, or reported as unknown when the section is
//! dropped; every key that is asked for is noted, so that the reference files can be held to the code.

use std::cell::RefCell;
use std::ops::Range;
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::problem::Problem;
use crate::values::{ByteSize, Fraction, Secret, Span};

/// What reading a file brings to light.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) problems: RefCell<Vec<Problem>>,
    /// Every key that the code knows, with its path: `cache.memory`, `site[].hosts`.
    pub(crate) known: RefCell<Vec<String>>,
}

impl Findings {
    pub(crate) fn report(&self, span: Range<usize>, title: String, label: String, help: Option<String>) {
        self.problems.borrow_mut().push(Problem { span, title, label, help });
    }
}

/// One table, or the absence of it.
pub(crate) struct Section<'d> {
    path: String,
    table: Option<&'d DeTable<'d>>,
    span: Range<usize>,
    findings: &'d Findings,
    asked: RefCell<Vec<&'static str>>,
}

/// A value as it may stand in a file.
pub(crate) trait Value: Sized {
    /// `Err` says what is allowed.
    fn read(value: &DeValue<'_>) -> Result<Self, String>;
}

impl<'d> Section<'d> {
    pub(crate) fn root(table: &'d Spanned<DeTable<'d>>, findings: &'d Findings) -> Self {
        Self { path: String::new(), table: Some(table.get_ref()), span: 0..0, findings, asked: RefCell::default() }
    }

    fn full(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn find(&self, key: &'static str) -> Option<&'d Spanned<DeValue<'d>>> {
        self.asked.borrow_mut().push(key);
        self.findings.known.borrow_mut().push(self.full(key));
        self.table.and_then(|table| table.get(key))
    }

    /// The value of a key; `None` if it is absent, or wrong, which is reported.
    pub(crate) fn get<T: Value>(&self, key: &'static str) -> Option<T> {
        let value = self.find(key)?;
        T::read(value.get_ref()).map_err(|allowed| self.wrong(key, value, &allowed)).ok()
    }

    /// The value of a key, or its default.
    pub(crate) fn or<T: Value>(&self, key: &'static str, default: T) -> T {
        self.get(key).unwrap_or(default)
    }

    /// A number within a range, or its default.
    pub(crate) fn number(&self, key: &'static str, default: u64, range: std::ops::RangeInclusive<u64>) -> u64 {
        let Some(value) = self.find(key) else { return default };
        match u64::read(value.get_ref()) {
            Ok(number) if range.contains(&number) => number,
            _ => {
                let allowed = format!("a whole number from {} to {}", range.start(), range.end());
                self.wrong(key, value, &allowed);
                default
            }
        }
    }

    /// A string that may be empty.
    pub(crate) fn text(&self, key: &'static str) -> Option<String> {
        let value = self.find(key)?;
        let text = value.get_ref().as_str().map(str::to_owned);
        if text.is_none() {
            self.wrong(key, value, "a string");
        }
        text
    }

    /// Whether a key is there.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// A value that must be there.
    pub(crate) fn required<T: Value>(&self, key: &'static str, help: &str) -> Option<T> {
        if !self.has(key) {
            let place =
                if self.path.is_empty() { "at the top of the file".to_owned() } else { format!("in {}", self.path) };
            self.findings.report(
                self.span.clone(),
                format!("`{key}` is missing {place}"),
                "needed here".to_owned(),
                Some(help.to_owned()),
            );
        }
        self.get(key)
    }

    /// All values of an array; the wrong ones are reported, each at its place. A single value counts as a list of one.
    pub(crate) fn list<T: Value>(&self, key: &'static str) -> Vec<T> {
        let Some(value) = self.find(key) else { return Vec::new() };
        let Some(members) = value.get_ref().as_array() else {
            return T::read(value.get_ref()).map_err(|allowed| self.wrong(key, value, &allowed)).into_iter().collect();
        };
        let read = |member: &Spanned<DeValue<'_>>| {
            T::read(member.get_ref()).map_err(|allowed| self.wrong(key, member, &allowed)).ok()
        };
        members.iter().filter_map(read).collect()
    }

    /// A table below this one; an absent one gives all defaults.
    pub(crate) fn section(&self, key: &'static str) -> Self {
        let value = self.find(key);
        let table = value.and_then(|value| match value.get_ref() {
            DeValue::Table(table) => Some(table),
            _ => {
                self.wrong(key, value, "a table");
                None
            }
        });
        let span = value.map_or(0..0, Spanned::span);
        Self { path: self.full(key), table, span, findings: self.findings, asked: RefCell::default() }
    }

    /// The tables of an array (`[[site]]`).
    pub(crate) fn sections(&self, key: &'static str) -> Vec<Self> {
        let Some(value) = self.find(key) else { return Vec::new() };
        let Some(members) = value.get_ref().as_array() else {
            self.wrong(key, value, &format!("one or more [[{key}]] tables"));
            return Vec::new();
        };
        let section = |member: &'d Spanned<DeValue<'d>>| {
            let table = member.get_ref().as_table();
            if table.is_none() {
                self.wrong(key, member, "a table");
            }
            let path = format!("{}[]", self.full(key));
            table.map(|table| Self {
                path,
                table: Some(table),
                span: member.span(),
                findings: self.findings,
                asked: RefCell::default(),
            })
        };
        members.iter().filter_map(section).collect()
    }

    /// Where a key's value stands, or this section if it is absent.
    pub(crate) fn span_of(&self, key: &str) -> Range<usize> {
        self.table.and_then(|table| table.get(key)).map_or_else(|| self.span.clone(), Spanned::span)
    }

    /// Reports something that no single value shows.
    pub(crate) fn object(&self, key: &str, title: &str, label: &str, help: &str) {
        self.findings.report(self.span_of(key), title.to_owned(), label.to_owned(), Some(help.to_owned()));
    }

    fn wrong(&self, key: &str, value: &Spanned<DeValue<'_>>, allowed: &str) {
        let found = match value.get_ref() {
            DeValue::String(text) => format!("\"{text}\""),
            DeValue::Integer(number) => number.as_str().to_owned(),
            DeValue::Float(number) => number.as_str().to_owned(),
            DeValue::Boolean(switch) => switch.to_string(),
            other => format!("a value of type {}", other.type_str()),
        };
        let title = format!("`{}` cannot be {found}", self.full(key));
        self.findings.report(value.span(), title, format!("expected {allowed}"), None);
    }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        let Some(table) = self.table else { return };
        let asked = self.asked.borrow();
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            if asked.contains(&name) {
                continue;
            }
            let near = asked
                .iter()
                .map(|known| (strsim::damerau_levenshtein(name, known), *known))
                .filter(|(distance, known)| *distance <= known.len().div_ceil(3))
                .min();
            let help = match near {
                Some((_, known)) => format!("did you mean `{known}`?"),
                None => format!("known here: {}", asked.join(", ")),
            };
            let title = format!("`{}` is not a key", self.full(name));
            self.findings.report(key.span(), title, "unknown".to_owned(), Some(help));
        }
    }
}

/// Values that are written as a string.
macro_rules! from_text {
    ($($type:ty),+) => {$(
        impl Value for $type {
            fn read(value: &DeValue<'_>) -> Result<Self, String> {
                // What is no string is told what the empty one would be: what is allowed.
                let text = value.as_str().unwrap_or_default();
                match <$type>::from_str(text) {
                    Ok(read) if value.is_str() => Ok(read),
                    Ok(_) => Err("a string".to_owned()),
                    Err(error) => Err(error.to_string()),
                }
            }
        }
    )+};
}
from_text!(
    Span,
    crate::values::ListenAddress,
    crate::values::Upstream,
    crate::values::HostPattern,
    crate::values::HostPort,
    crate::values::NodeId,
    crate::values::NatsUrl,
    crate::values::Network,
    crate::values::StreamName,
    crate::values::FieldName,
    crate::values::CookieName,
    crate::values::ParameterName,
    crate::model::Fallback,
    crate::model::Scope,
    crate::model::EventType,
    crate::model::Languages,
    crate::model::OnLag,
    crate::model::Signature,
    crate::model::Template,
    crate::model::SetCookie,
    crate::model::LogFormat,
    crate::model::Answer,
    crate::model::Policy,
    crate::model::PublicUrl,
    crate::decode::LogKind,
    crate::decode::RoleName
);

impl Value for std::net::IpAddr {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let text = value.as_str().and_then(|text| text.parse().ok());
        text.ok_or_else(|| "an IP address, as in \"127.0.0.1\" or \"::1\"".to_owned())
    }
}

impl Value for &'static nearside_geo::City {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let city = value.as_str().and_then(nearside_geo::city);
        city.ok_or_else(|| "one of the larger cities, by its English name or the code of its airport".to_owned())
    }
}

impl Value for nearside_geo::Place {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let degrees = |value: &Spanned<DeValue<'_>>| match value.get_ref() {
            DeValue::Float(number) => number.as_str().parse().ok(),
            DeValue::Integer(number) => number.as_str().parse().ok(),
            _ => None,
        };
        let members: Option<Vec<f64>> = value.as_array().and_then(|members| members.iter().map(degrees).collect());
        let place = members
            .and_then(|members| Self::new(*members.first()?, *members.get(1).filter(|_| members.len() == 2)?).ok());
        place.ok_or_else(|| format!("[latitude, longitude]: {}", nearside_geo::NoPlace))
    }
}

impl Value for String {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        value
            .as_str()
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
            .ok_or_else(|| "a string, not empty".to_owned())
    }
}

impl Value for bool {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        value.as_bool().ok_or_else(|| "true or false".to_owned())
    }
}

impl Value for u64 {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        value
            .as_integer()
            .and_then(|number| Self::from_str_radix(number.as_str(), number.radix()).ok())
            .ok_or_else(|| "a whole number".to_owned())
    }
}

impl Value for Fraction {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let text = match value {
            DeValue::Float(number) => number.as_str(),
            DeValue::Integer(number) => number.as_str(),
            _ => "",
        };
        text.parse().map_err(|error: crate::values::ValueError| error.to_string())
    }
}

impl Value for ByteSize {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        match value.as_str() {
            Some(text) => text.parse().map_err(|error: crate::values::ValueError| error.to_string()),
            None => Err("a size with a unit, as in \"512MiB\"".to_owned()),
        }
    }
}

impl Value for Secret {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let allowed = "{ file = \"PATH\" } or \"${ENVIRONMENT_VARIABLE}\"; a secret does not stand in the file itself";
        let secret = match value {
            DeValue::String(text) => {
                let name = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')).ok_or(allowed)?;
                Self::from_env(name)
            }
            DeValue::Table(table) if table.len() == 1 => {
                let path = table.get("file").and_then(|path| path.get_ref().as_str()).ok_or(allowed)?;
                Self::read(path.as_ref())
            }
            _ => return Err(allowed.to_owned()),
        };
        secret.map_err(|error| error.to_string())
    }
}
