//! Errors of the command line that clap cannot find.

/// Error: a flag, a value or a combination of them is invalid, which was found after clap had
/// parsed the command line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// Makes an [`anyhow::Error`] from a [`UsageError`] with a formatted message.
#[macro_export]
macro_rules! usage {
    ($($text:tt)*) => { anyhow::Error::new($crate::UsageError(format!($($text)*))) };
}
