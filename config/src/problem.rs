//! What is wrong with a configuration, and how it is shown.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::mask::Masked;

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It works as it was meant, but leaves open what need not be: `nearside check` tells of it and passes.
    Note,
    /// It works, but not as anybody would want it: a node starts with a warning.
    Warning,
    /// It cannot work: nothing starts.
    Error,
}

/// One thing that is wrong in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where, in bytes of the file.
    pub span: Range<usize>,
    /// What is wrong.
    pub title: String,
    /// What was found or is allowed there.
    pub label: String,
    /// What to do about it.
    pub help: Option<String>,
    /// How bad it is.
    pub severity: Severity,
}

/// A configuration that cannot be used. Nothing of it was applied.
#[derive(Debug)]
pub enum ConfigError {
    /// The file cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file can be read, but not used.
    Invalid {
        /// The file's name, as it was given.
        path: String,
        /// Its text.
        text: String,
        /// All problems, in the order of the file; never empty.
        problems: Vec<Problem>,
    },
}

impl ConfigError {
    /// Its problems for people, of which none keeps the configuration from being used.
    #[must_use]
    pub fn notes(&self, colours: bool) -> String {
        match self {
            Self::Invalid { path, text, problems } => render(path, text, problems, colours),
            Self::Unreadable { .. } => String::new(),
        }
    }

    /// The error for people: each problem with its line and excerpt, as rustc does; with colours if wanted.
    #[must_use]
    pub fn render(&self, colours: bool) -> String {
        let Self::Invalid { path, text, problems } = self else { return format!("error: {self}\n") };
        let mut shown = render(path, text, problems, colours);
        let count = problems.len();
        shown.push_str(&format!("{path}: {count} problem{}; nothing was applied\n", if count == 1 { "" } else { "s" }));
        shown
    }
}

/// Problems of a file for people, each with its line and excerpt; without secrets that stand in the file.
#[must_use]
pub fn render(path: &str, text: &str, problems: &[Problem], colours: bool) -> String {
    let renderer = if colours { Renderer::styled() } else { Renderer::plain() };
    let renderer = renderer.decor_style(DecorStyle::Ascii);
    let masked = Masked::new(text);
    let shown = |problem: &Problem| {
        let problem = Problem {
            title: masked.message(&problem.title),
            label: masked.message(&problem.label),
            help: problem.help.as_deref().map(|help| masked.message(help)),
            ..problem.clone()
        };
        renderer.render(&report(path, &masked.text, &problem)) + "\n\n"
    };
    problems.iter().map(shown).collect()
}

fn report<'a>(path: &'a str, text: &'a str, problem: &'a Problem) -> Vec<Group<'a>> {
    let annotation = AnnotationKind::Primary.span(problem.span.clone()).label(&problem.label);
    let level = match problem.severity {
        Severity::Note | Severity::Warning => Level::WARNING,
        Severity::Error => Level::ERROR,
    };
    let mut group =
        level.primary_title(&problem.title).element(Snippet::source(text).path(path).annotation(annotation));
    if let Some(help) = &problem.help {
        group = group.element(Level::HELP.message(help));
    }
    vec![group]
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, source } => {
                write!(f, "the configuration {} cannot be read: {source}", path.display())
            }
            Self::Invalid { path, problems, .. } => {
                write!(f, "the configuration {path} has {} problem(s)", problems.len())
            }
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { source, .. } => Some(source),
            Self::Invalid { .. } => None,
        }
    }
}
