//! Dependencies point one way (docs/architecture.md, "Code map").

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// For each crate of ours, what it may use of ours. Tests may use anything.
const ALLOWED: [(&str, &[&str]); 17] = [
    ("semantics", &[]),
    ("geo", &[]),
    ("diagnostics", &[]),
    ("config", &["geo"]),
    ("store", &["semantics"]),
    ("api", &["config", "semantics"]),
    ("purge", &["config", "api", "geo"]),
    ("control", &["semantics", "config", "api", "purge", "geo", "diagnostics"]),
    ("node", &["semantics", "store", "config", "api", "purge", "diagnostics"]),
    ("edge", &["node", "config"]),
    ("shield", &["node", "config"]),
    ("origin-sim", &[]),
    ("wan-sim", &["config", "geo"]),
    ("loadtest", &["store"]),
    ("lab", &["config", "api", "geo", "diagnostics", "origin-sim", "loadtest"]),
    (
        "cli",
        &[
            "api",
            "config",
            "control",
            "diagnostics",
            "node",
            "edge",
            "shield",
            "origin-sim",
            "loadtest",
            "geo",
            "wan-sim",
            "lab",
        ],
    ),
    ("system-tests", &[]),
];

/// Libraries that only one crate may name.
const OWNED: [(&str, &str); 1] = [("pingora", "node")];

/// Of each workspace member, the crates it depends on outside of its tests.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = MetadataCommand::new().no_deps().exec().unwrap();
    let members = metadata.packages.iter().map(|package| {
        let used = package.dependencies.iter().filter(|d| d.kind == DependencyKind::Normal).map(|d| d.name.clone());
        (package.name.strip_prefix("nearside-").unwrap().to_owned(), used.collect())
    });
    members.collect()
}

#[test]
fn each_crate_uses_only_what_stands_below_it() {
    let found = dependencies();
    assert_eq!(found.len(), ALLOWED.len(), "a crate is missing in the table, or gone: {:?}", found.keys());
    for (name, allowed) in ALLOWED {
        let ours = found[name].iter().filter_map(|used| used.strip_prefix("nearside-"));
        for used in ours {
            assert!(allowed.contains(&used), "{name} must not depend on {used}");
        }
    }
}

#[test]
fn only_node_names_pingora() {
    for (name, used) in dependencies() {
        for (library, owner) in OWNED {
            let names_it = used.iter().any(|used| used.starts_with(library));
            assert_eq!(names_it, name == owner, "{name} and {library}");
        }
    }
}

#[test]
fn semantics_does_no_input_or_output() {
    let used = &dependencies()["semantics"];
    let pure = ["fluent-uri", "http", "httpdate", "itoa", "sfv"];
    assert!(used.iter().all(|used| pure.contains(&used.as_str())), "{used:?}");
}
