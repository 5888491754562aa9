//! A table of the file while it is read: typed access that collects problems instead of stopping at the first.
//!
//! **Invariant:** every key that is in the file is either asked for, or reported as unknown when the section is
//! dropped; every key that is asked for is noted, so that the reference files can be held to the code.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::mask::is_secret;
use crate::model::SecretFile;
use crate::problem::{Problem, Severity};
use crate::values::{ByteSize, Fraction, Secret, Span};

/// What reading a file brings to light.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) problems: RefCell<Vec<Problem>>,
    /// Those of them that follow from the absence of keys, each with the places of these. A misspelt key explains them.
    absences: RefCell<Vec<(Vec<String>, Problem)>>,
    /// Files that secrets were read from.
    secret_files: RefCell<Vec<SecretFile>>,
    /// Every key that the code knows, with its path: `cache.memory`, `site[].hosts`.
    pub(crate) known: RefCell<Vec<String>>,
}

impl Findings {
    pub(crate) fn report(&self, span: Range<usize>, title: String, label: String, help: Option<String>) {
        self.problems.borrow_mut().push(Problem { span, title, label, help, severity: Severity::Error });
    }

    /// Drops the problems that follow from the absence of a key or table: it is there, but misspelt.
    fn explain(&self, place: &str) {
        let is_below = |other: &String| {
            other.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        let explained = |(absent, _): &mut (Vec<String>, Problem)| absent.iter().any(is_below);
        for (_, problem) in self.absences.borrow_mut().extract_if(.., explained) {
            self.problems.borrow_mut().retain(|other| *other != problem);
        }
    }

    /// All problems, in the order of the file.
    pub(crate) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.span.start);
        problems
    }
}

/// One table, or the absence of it.
pub(crate) struct Section<'d> {
    path: String,
    /// The path with the places of tables in their arrays: `site[2].key`.
    place: String,
    table: Option<&'d DeTable<'d>>,
    span: Range<usize>,
    findings: &'d Findings,
    asked: RefCell<Vec<&'static str>>,
    /// Unknown keys are not reported.
    is_ignored: Cell<bool>,
}

/// A value as it may stand in a file.
pub(crate) trait Value: Sized {
    /// `Err` says what is allowed.
    fn read(value: &DeValue<'_>) -> Result<Self, String>;
}

impl<'d> Section<'d> {
    pub(crate) fn root(table: &'d Spanned<DeTable<'d>>, findings: &'d Findings) -> Self {
        Self::new(String::new(), String::new(), Some(table.get_ref()), 0..0, findings)
    }

    fn new(
        path: String,
        place: String,
        table: Option<&'d DeTable<'d>>,
        span: Range<usize>,
        findings: &'d Findings,
    ) -> Self {
        Self { path, place, table, span, findings, asked: RefCell::default(), is_ignored: Cell::default() }
    }

    fn full(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn place_of(&self, key: &str) -> String {
        if self.place.is_empty() { key.to_owned() } else { format!("{}.{key}", self.place) }
    }

    fn find(&self, key: &'static str) -> Option<&'d Spanned<DeValue<'d>>> {
        self.asked.borrow_mut().push(key);
        self.findings.known.borrow_mut().push(self.full(key));
        self.table.and_then(|table| table.get(key))
    }

    /// The value of a key; `None` if it is absent, or wrong, which is reported.
    pub(crate) fn get<T: Value>(&self, key: &'static str) -> Option<T> {
        let value = self.find(key)?;
        // Only secrets are written so.
        if let DeValue::Table(table) = value.get_ref()
            && let Some(path) = table.get("file").and_then(|path| path.get_ref().as_str())
        {
            let file = SecretFile { at: self.place_of(key), path: path.into() };
            self.findings.secret_files.borrow_mut().push(file);
        }
        T::read(value.get_ref()).map_err(|allowed| self.wrong(key, value, &allowed)).ok()
    }

    /// The files of the whole configuration that secrets were read from so far.
    pub(crate) fn secret_files(&self) -> Vec<SecretFile> {
        self.findings.secret_files.borrow().clone()
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

    /// Reports what follows from the absence of a key; unless that turns out to be misspelt, which is reported instead.
    pub(crate) fn absent(&self, key: &str, title: &str, label: &str, help: &str) {
        self.all_absent(&[key], title, label, help);
    }

    /// The same where one of several keys would do; it is reported where the first one would stand.
    pub(crate) fn all_absent(&self, keys: &[&str], title: &str, label: &str, help: &str) {
        let (title, label, help) = (title.to_owned(), label.to_owned(), Some(help.to_owned()));
        let span = keys.first().map_or_else(|| self.span.clone(), |key| self.span_of(key));
        let problem = Problem { span, title, label, help, severity: Severity::Error };
        self.findings.problems.borrow_mut().push(problem.clone());
        let places = keys.iter().map(|key| self.place_of(key)).collect();
        self.findings.absences.borrow_mut().push((places, problem));
    }

    /// Whether a key is absent, or an empty list. A key whose value is wrong is neither: that is reported, and is the cause of what
    /// is missing then.
    pub(crate) fn is_void(&self, key: &str) -> bool {
        let value = self.table.and_then(|table| table.get(key));
        value.is_none_or(|value| value.get_ref().as_array().is_some_and(|members| members.is_empty()))
    }

    /// Whether no problem was found in the value of a key so far. What is compared with a value that cannot be read is wrong, too,
    /// and is not worth a problem of its own.
    pub(crate) fn is_sound(&self, key: &str) -> bool {
        let Some(value) = self.table.and_then(|table| table.get(key)) else { return true };
        let problems = self.findings.problems.borrow();
        let is_wrong = |place: Range<usize>| {
            problems.iter().any(|problem| place.start <= problem.span.start && problem.span.end <= place.end)
        };
        !has_place(value, &is_wrong)
    }

    /// Takes every key for known: nothing can be said about this table.
    pub(crate) fn ignore_unknown(&self) {
        self.is_ignored.set(true);
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
            self.absent(key, &format!("`{key}` is missing {place}"), "needed here", help);
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
        Self::new(self.full(key), self.place_of(key), table, span, self.findings)
    }

    /// The tables of an array (`[[site]]`).
    pub(crate) fn sections(&self, key: &'static str) -> Vec<Self> {
        let Some(value) = self.find(key) else { return Vec::new() };
        let Some(members) = value.get_ref().as_array() else {
            self.wrong(key, value, &format!("one or more [[{key}]] tables"));
            return Vec::new();
        };
        let section = |(number, member): (usize, &'d Spanned<DeValue<'d>>)| {
            let table = member.get_ref().as_table();
            if table.is_none() {
                self.wrong(key, member, "a table");
            }
            let path = format!("{}[]", self.full(key));
            let place = format!("{}[{number}]", self.place_of(key));
            table.map(|table| Self::new(path, place, Some(table), member.span(), self.findings))
        };
        members.iter().enumerate().filter_map(section).collect()
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
            // It may be one that stands in the file.
            DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) if is_secret(key) => "this value".to_owned(),
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

/// Whether `is_wrong` says so of a value, or of anything in it. The span of a table is that of its head.
fn has_place(value: &Spanned<DeValue<'_>>, is_wrong: &impl Fn(Range<usize>) -> bool) -> bool {
    is_wrong(value.span())
        || match value.get_ref() {
            DeValue::Array(members) => members.iter().any(|member| has_place(member, is_wrong)),
            DeValue::Table(table) => {
                table.iter().any(|(key, value)| is_wrong(key.span()) || has_place(value, is_wrong))
            }
            _ => false,
        }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        let Some(table) = self.table.filter(|_| !self.is_ignored.get()) else { return };
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
                Some((_, known)) => {
                    if !table.contains_key(known) {
                        self.findings.explain(&self.place_of(known));
                    }
                    format!("did you mean `{known}`?")
                }
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
    crate::model::NodeRole,
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
        let name = value.as_str().unwrap_or_default();
        let wanted = "one of the larger cities, by its English name or the code of its airport";
        nearside_geo::city(name).ok_or_else(|| format!("{wanted}: {}", nearside_geo::city_hint(name)))
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
