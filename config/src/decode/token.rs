//! The tokens of a file.

use crate::model::{Scope, Token};
use crate::section::Section;
use crate::values::Secret;

/// The tokens, of which each that names sites names such as there are, where these are known.
pub(super) fn tokens(root: &Section<'_>, sites: Option<&[&str]>) -> Vec<Token> {
    let sections = root.sections("token");
    let mut tokens: Vec<Token> = Vec::new();
    for section in &sections {
        let name: Option<String> = section.required("name", "add name = \"deploy\"; it stands in the audit log");
        let secret: Option<Secret> =
            section.required("secret", "add secret = \"${NEARSIDE_TOKEN_DEPLOY}\" or secret = { file = \"…\" }");
        let scope: Option<Scope> = section.required("scope", "add scope = \"purge\", or \"read\" or \"admin\"");
        let only: Vec<String> = section.list("sites");
        let unknown = |site: &&String| sites.is_some_and(|sites| !sites.contains(&site.as_str()));
        for site in only.iter().filter(unknown) {
            let known = format!("known here: {}", sites.unwrap_or_default().join(", "));
            section.object("sites", &format!("there is no site `{site}`"), "unknown", &known);
        }
        let (Some(name), Some(secret), Some(scope)) = (name, secret, scope) else { continue };
        if tokens.iter().any(|other| other.name == name) {
            section.object(
                "name",
                "two tokens have one name",
                "used before",
                "names tell holders apart: choose another",
            );
        }
        if tokens.iter().any(|other| other.secret == secret) {
            section.object("secret", "two tokens have one secret", "used before", "each holder needs one of its own");
        }
        tokens.push(Token { name, secret, scope, sites: only });
    }
    tokens
}
