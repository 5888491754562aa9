//! The rules of `deny.toml` about all that the program is made of: licences, sources, bans. `cargo deny` knows more, but is not
//! installed everywhere.

use std::collections::BTreeSet;

use cargo_metadata::{Metadata, MetadataCommand};

const RULES: &str = include_str!("../../../deny.toml");
const PROGRAM: &str = "nearside-cli";
const CRYPTO: &str = "aws-lc-rs";

/// What is built here: what only other systems need is not asked for.
fn metadata() -> Metadata {
    let system = if cfg!(target_os = "macos") { "apple-darwin" } else { "unknown-linux-gnu" };
    let options = ["--locked".to_owned(), format!("--filter-platform={}-{system}", std::env::consts::ARCH)];
    MetadataCommand::new().other_options(options).exec().unwrap()
}

fn rules() -> toml::Table {
    RULES.parse().unwrap()
}

fn texts(value: &toml::Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// A licence expression (SPDX), and whether it is satisfied by licences of which `allows` says so.
struct Expression<'e> {
    words: Vec<String>,
    at: usize,
    allows: &'e dyn Fn(&str) -> bool,
}

impl<'e> Expression<'e> {
    fn is_satisfied(text: &str, allows: &'e dyn Fn(&str) -> bool) -> bool {
        // An older form of "or".
        let spaced = text.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
        let words = spaced.split_whitespace().map(str::to_owned).collect();
        let mut expression = Self { words, at: 0, allows };
        let is_satisfied = expression.any();
        assert_eq!(expression.at, expression.words.len(), "{text} is understood to its end");
        is_satisfied
    }

    fn takes(&mut self, word: &str) -> bool {
        let is_next = self.words.get(self.at).is_some_and(|next| next == word);
        self.at += usize::from(is_next);
        is_next
    }

    fn any(&mut self) -> bool {
        let mut found = self.all();
        while self.takes("OR") {
            found |= self.all();
        }
        found
    }

    fn all(&mut self) -> bool {
        let mut found = self.one();
        while self.takes("AND") {
            found &= self.one();
        }
        found
    }

    fn one(&mut self) -> bool {
        if self.takes("(") {
            let found = self.any();
            assert!(self.takes(")"));
            return found;
        }
        let mut licence = self.words[self.at].clone();
        self.at += 1;
        if self.takes("WITH") {
            licence = format!("{licence} WITH {}", self.words[self.at]);
            self.at += 1;
        }
        (self.allows)(&licence)
    }
}

#[test]
fn licence_expressions_are_read_as_spdx_has_them() {
    let allows = |licence: &str| ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"].contains(&licence);
    for (text, expected) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("MIT OR GPL-3.0", true),
        ("GPL-3.0/MIT", true),
        ("MIT AND GPL-3.0", false),
        ("MIT AND (GPL-3.0 OR ISC)", true),
        ("GPL-3.0 OR MIT AND ISC", true),
        ("(GPL-3.0 OR MIT) AND GPL-2.0", false),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("Apache-2.0", false),
    ] {
        assert_eq!(Expression::is_satisfied(text, &allows), expected, "{text}");
    }
}

#[test]
fn all_dependencies_are_under_allowed_licences() {
    let allowed = texts(&rules()["licenses"]["allow"]);
    let allows = |licence: &str| allowed.iter().any(|other| other == licence);
    for package in metadata().packages {
        let licence = package.license.as_deref().unwrap_or_default();
        assert!(!licence.is_empty(), "{} {} states no licence", package.name, package.version);
        assert!(Expression::is_satisfied(licence, &allows), "{} {}: {licence}", package.name, package.version);
    }
}

#[test]
fn all_dependencies_come_from_the_registry() {
    let allowed: Vec<_> =
        texts(&rules()["sources"]["allow-registry"]).iter().map(|url| format!("registry+{url}")).collect();
    let metadata = metadata();
    let members: BTreeSet<_> = metadata.workspace_members.iter().collect();
    for package in metadata.packages.iter().filter(|package| !members.contains(&package.id)) {
        let source = package.source.as_ref().map(ToString::to_string).unwrap_or_default();
        assert!(allowed.contains(&source), "{} {} comes from {source:?}", package.name, package.version);
    }
}

/// The crates that are part of the program. Metadata also has optional dependencies that no feature asks for.
fn linked() -> BTreeSet<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let words = ["tree", "--locked", "--package", PROGRAM, "--edges", "normal", "--prefix", "none", "--format", "{p}"];
    let output = std::process::Command::new(cargo).args(words).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let crates = String::from_utf8(output.stdout).unwrap();
    crates.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn the_program_has_one_crypto_library() {
    let linked = linked();
    assert!(linked.contains(CRYPTO), "this is the program: {linked:?}");
    for banned in rules()["bans"]["deny"].as_array().unwrap() {
        let name = banned["crate"].as_str().unwrap();
        assert!(!linked.contains(name), "{name}: {}; `cargo tree -e normal -i {name}` says why", banned["reason"]);
    }
}
