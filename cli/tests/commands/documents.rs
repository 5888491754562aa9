//! What README tells people to type.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The commands of README's console blocks, without their prompt.
fn commands() -> Vec<String> {
    let text = fs::read_to_string(root().join("README.md")).unwrap();
    let blocks = text.split("```console\n").skip(1).map(|block| block.split("```").next().unwrap_or_default());
    let lines = blocks.flat_map(str::lines).filter_map(|line| line.strip_prefix("$ "));
    lines.map(str::to_owned).collect()
}

/// The port of a listener's address.
fn port(address: &str) -> Option<u16> {
    address.rsplit_once(':')?.1.parse().ok()
}

/// The ports of the listeners that the commands open, in their order.
fn opened() -> Vec<u16> {
    let listeners = ["--listen", "--listen-tls", "--admin"];
    let mut ports = Vec::new();
    for command in commands() {
        let words: Vec<_> = command.split([' ', '`']).collect();
        ports.extend(words.windows(2).filter_map(|pair| match pair {
            [flag, address] if listeners.contains(flag) => port(address),
            _ => None,
        }));
    }
    ports
}

/// The ports that a demo takes, as its configuration names them.
fn taken_by_the_demo() -> BTreeSet<u16> {
    let files = fs::read_dir(root().join("config/local")).unwrap().map(|entry| entry.unwrap().path());
    let texts = files
        .filter(|path| path.extension().is_some_and(|kind| kind == "toml"))
        .map(|path| fs::read_to_string(path).unwrap());
    let ports: BTreeSet<_> = texts.flat_map(|text| text.split('"').filter_map(port).collect::<Vec<_>>()).collect();
    assert!(ports.contains(&7080) && ports.contains(&8081) && ports.contains(&8099), "{ports:?}");
    ports
}

#[test]
fn readme_opens_no_port_of_the_demo_and_none_twice() {
    let (opened, demo) = (opened(), taken_by_the_demo());
    assert!(opened.len() >= 5, "{opened:?}");
    for (place, port) in opened.iter().enumerate() {
        assert!(!demo.contains(port), "README opens {port}, which a running demo holds");
        assert!(!opened[..place].contains(port), "README opens {port} twice");
    }
}

#[test]
fn readme_runs_the_program_that_it_has_built() {
    for command in commands() {
        assert!(!command.starts_with("nearside "), "not found as written: {command}");
    }
}
