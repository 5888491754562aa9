//! Errors of the command line that clap does not find.

/// A flag, a value or a combination of them that makes no sense, where that is found after clap has read the command line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// An error of the kind [`UsageError`], as text.
#[macro_export]
macro_rules! usage {
    ($($text:tt)*) => { anyhow::Error::new($crate::UsageError(format!($($text)*))) };
}
