//! Flaws of a configuration as a whole, and where in its file they are.

use std::fmt;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::problem::{ConfigError, Problem, Severity};

/// Something that is wrong with a configuration that could be read: values that do not go together, or that the machine cannot satisfy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// The key, as in `site[0].origins[1]`: tables and lists are counted from 0.
    pub at: String,
    /// What is wrong, with the values that it is about.
    pub title: String,
    /// What is found there.
    pub label: String,
    /// What to do about it.
    pub help: String,
    /// How bad it is.
    pub severity: Severity,
}

impl Flaw {
    /// Something that cannot work.
    #[must_use]
    pub fn error(at: impl Into<String>, title: String, label: impl Into<String>, help: impl Into<String>) -> Self {
        Self { at: at.into(), title, label: label.into(), help: help.into(), severity: Severity::Error }
    }

    /// Something that works, but hardly as it was meant.
    #[must_use]
    pub fn warning(at: impl Into<String>, title: String, label: impl Into<String>, help: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(at, title, label, help) }
    }

    /// Something that works as it was meant, but leaves open what need not be.
    #[must_use]
    pub fn note(at: impl Into<String>, title: String, label: impl Into<String>, help: impl Into<String>) -> Self {
        Self { severity: Severity::Note, ..Self::error(at, title, label, help) }
    }

    /// The key of the top of the file that it is below.
    #[must_use]
    pub fn key(&self) -> &str {
        self.at.split(['.', '[']).next().unwrap_or_default()
    }

    /// The same as a problem of the text in which the configuration stood.
    #[must_use]
    pub fn problem(self, text: &str) -> Problem {
        let (table, _) = DeTable::parse_recoverable(text);
        let span = locate(&table, &self.at);
        Problem { span, title: self.title, label: self.label, help: Some(self.help), severity: self.severity }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.title, self.label, self.help)
    }
}

impl ConfigError {
    /// The error of a file whose configuration has these flaws.
    #[must_use]
    pub fn of_flaws(path: &Path, flaws: Vec<Flaw>) -> Self {
        // It was read a moment ago. Without its text there are no excerpts.
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let mut problems: Vec<_> = flaws.into_iter().map(|flaw| flaw.problem(&text)).collect();
        problems.sort_by_key(|problem| problem.span.start);
        Self::Invalid { path: path.display().to_string(), text, problems }
    }
}

/// Where a key stands; where it does not, the nearest table above it.
fn locate(root: &Spanned<DeTable<'_>>, at: &str) -> Range<usize> {
    let mut table = Some(root.get_ref());
    let mut value: Option<&Spanned<DeValue<'_>>> = None;
    let mut span = 0..0;
    for step in at.split(['.', '[']) {
        let next = match step.strip_suffix(']').map(str::parse::<usize>) {
            // A single value counts as a list of one.
            Some(Ok(number)) => match value.map(Spanned::get_ref) {
                Some(DeValue::Array(members)) => members.get(number),
                _ => value,
            },
            _ => table.and_then(|table| table.get(step)),
        };
        let Some(found) = next else { return span };
        span = found.span();
        table = found.get_ref().as_table();
        value = Some(found);
    }
    span
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flaws_are_shown_where_their_key_stands() {
        let text = "listen = \":1\"\nadmin = \":2\"\n[cache]\nmemory = \"1GiB\"\n[[site]]\norigins = [\"http://a\"]\n[[site]]\n\
                    origins = [\"http://b\", \"http://c\"]\n";
        let (table, _) = DeTable::parse_recoverable(text);
        for (at, found) in [
            ("listen[0]", "\":1\""),
            ("admin", "\":2\""),
            ("cache.memory", "\"1GiB\""),
            ("cache.object_max", "[cache]"),
            ("site[0].origins[0]", "\"http://a\""),
            ("site[1].origins[1]", "\"http://c\""),
            ("nodes.secret", ""),
        ] {
            assert_eq!(&text[locate(&table, at)], found, "{at}");
        }
    }
}
