//! Who may do what over the admin API.

use std::path::PathBuf;
use std::str::FromStr;

use crate::values::{Secret, ValueError};

/// A token of the admin API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Who holds it, for the audit log.
    pub name: String,
    /// What is shown.
    pub secret: Secret,
    /// What it is good for.
    pub scope: Scope,
    /// The sites that it may purge; empty: all.
    pub sites: Vec<String>,
}

/// A file that a secret was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretFile {
    /// The key that names it, as in `token[0].secret`.
    pub at: String,
    /// The file.
    pub path: PathBuf,
}

/// What a token is good for; each scope includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// To look.
    Read,
    /// To purge.
    Purge,
    /// Everything.
    Admin,
}

impl FromStr for Scope {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "read" => Ok(Self::Read),
            "purge" => Ok(Self::Purge),
            "admin" => Ok(Self::Admin),
            _ => Err(ValueError("\"read\", \"purge\" or \"admin\"".to_owned())),
        }
    }
}
