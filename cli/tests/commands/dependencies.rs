//! Dependencies point one way (docs/architecture.md, "Code map").

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// For each crate of ours, what it may use of ours. Tests may use anything.
const ALLOWED: [(&str, &[&str]); 25] = [
    ("semantics", &[]),
    ("geo", &[]),
    ("diagnostics", &[]),
    ("config", &["geo"]),
    ("store", &["semantics"]),
    ("listen", &[]),
    ("protocol", &["semantics", "config", "geo"]),
    ("http1", &["semantics"]),
    ("telemetry", &["semantics", "config", "diagnostics"]),
    ("upstream", &["semantics", "config", "diagnostics", "http1", "telemetry"]),
    ("api", &["config", "listen", "protocol", "semantics"]),
    ("replication", &["config", "protocol", "diagnostics"]),
    ("steering", &["semantics", "config", "geo", "diagnostics", "listen", "protocol", "api"]),
    ("control", &["semantics", "config", "geo", "diagnostics", "listen", "protocol", "api", "replication", "steering"]),
    ("engine", &["semantics", "store", "config", "protocol", "replication", "http1", "telemetry", "upstream"]),
    ("front", &["semantics", "store", "config", "listen", "http1", "telemetry", "upstream", "engine"]),
    (
        "node",
        &[
            "semantics",
            "config",
            "api",
            "protocol",
            "replication",
            "diagnostics",
            "telemetry",
            "upstream",
            "engine",
            "front",
        ],
    ),
    ("edge", &["node", "config"]),
    ("shield", &["node", "config"]),
    ("origin-sim", &[]),
    ("wan-sim", &["config", "geo"]),
    ("loadtest", &["store"]),
    ("lab", &["config", "protocol", "api", "geo", "diagnostics", "origin-sim", "loadtest"]),
    (
        "cli",
        &[
            "api",
            "config",
            "listen",
            "control",
            "diagnostics",
            "node",
            "edge",
            "shield",
            "origin-sim",
            "protocol",
            "loadtest",
            "geo",
            "wan-sim",
            "lab",
        ],
    ),
    ("system-tests", &[]),
];

/// Share of the code that a room may hold at most, in per cent: what is larger cannot be read, nor compiled, apart from the rest.
const ROOM_MAX_PERCENT: usize = 20;

/// Libraries that only one crate may name.
const OWNED: [(&str, &str); 1] = [("pingora", "upstream")];

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
fn only_upstream_names_pingora() {
    for (name, used) in dependencies() {
        for (library, owner) in OWNED {
            let names_it = used.iter().any(|used| used.starts_with(library));
            assert_eq!(names_it, name == owner, "{name} and {library}");
        }
    }
}

/// Crates that are part of every node's wire and decisions, and must build without a web server.
#[test]
fn what_travels_between_nodes_needs_no_web_server() {
    for name in ["protocol", "replication", "engine", "telemetry", "upstream"] {
        assert!(!dependencies()[name].contains("axum"), "{name}");
    }
}

#[test]
fn semantics_does_no_input_or_output() {
    let used = &dependencies()["semantics"];
    let pure = ["fluent-uri", "http", "httpdate", "itoa", "sfv"];
    assert!(used.iter().all(|used| pure.contains(&used.as_str())), "{used:?}");
}

/// Lines of code below a folder, without comments, empty lines, and tests.
fn code_lines(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let lines = |path: &Path| {
        let text = std::fs::read_to_string(path).unwrap();
        let code = text.split("\n#[cfg(test)]\n").next().unwrap_or_default();
        let is_code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
        code.lines().filter(is_code).count()
    };
    let count = |path: PathBuf| match path.extension() {
        _ if path.is_dir() => code_lines(&path),
        Some(extension) if extension == "rs" && !path.ends_with("tests.rs") => lines(&path),
        _ => 0,
    };
    entries.map(|entry| count(entry.unwrap().path())).sum()
}

#[test]
fn no_room_holds_more_than_a_fifth_of_the_code() {
    let metadata = MetadataCommand::new().no_deps().exec().unwrap();
    let rooms: Vec<(String, usize)> = metadata
        .packages
        .iter()
        .map(|package| {
            let folder = package.manifest_path.parent().unwrap().join("src");
            (package.name.to_string(), code_lines(folder.as_std_path()))
        })
        .collect();
    let all: usize = rooms.iter().map(|(_, lines)| lines).sum();
    assert!(all > 10_000, "the code was not found: {rooms:?}");
    for (name, lines) in &rooms {
        assert!(lines * 100 <= all * ROOM_MAX_PERCENT, "{name} holds {lines} of {all} lines of code: split it");
    }
}
