//! The command line: names and values that do not exist are refused at once, and whoever reads the output may leave.

use std::fs::OpenOptions;
use std::process::Stdio;

use crate::loadtest::nearside;
use crate::wrong_input::{fails, file};

/// Everything that prints without anything else running.
const PRINTING: [&[&str]; 8] = [
    &["completions", "bash"],
    &["completions", "zsh"],
    &["completions", "elvish"],
    &["man"],
    &["explain", "--reasons"],
    &["--help"],
    &["loadtest", "--help"],
    &["--version"],
];

#[test]
fn a_reader_that_leaves_ends_it_quietly() {
    let (_folder, path) = file(
        "edge.toml",
        "role = \"edge\"\nlisten = [\"127.0.0.1:0\"]\n[[site]]\nname = \"a\"\nhosts = [\"*\"]\norigins = [\"http://o\"]\n",
    );
    let simulate = ["loadtest", "simulate", "--objects", "10", "--requests", "10"];
    for args in PRINTING.into_iter().chain([&["check", &path][..], &simulate]) {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = nearside(args).stdout(writer).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), said.as_str()), (Some(0), ""), "{args:?}");
    }
    // Nor does anybody have to read errors.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = nearside(&["check", "/does/not/exist.toml"]).stderr(writer).stdout(Stdio::null()).status().unwrap();
    assert_eq!(status.code(), Some(78));
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let full = || OpenOptions::new().write(true).open("/dev/full").unwrap();
    for args in [&["completions", "bash"][..], &["man"], &["explain", "--reasons"]] {
        let output = nearside(args).stdout(full()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.contains("standard output cannot be written") && !said.contains("panicked"), "{args:?}: {said}");
    }
}

#[test]
fn expressions_that_wait_forever_are_refused_at_once() {
    // Nothing listens there, and it does not matter.
    let log = |query: &str, says: &[&str]| fails(&["log", "--node", "127.0.0.1:1", "-q", query], 2, says);
    log("chache==\"miss\"", &["\"chache\"", "did you mean \"cache\"?", "upstream_duration"]);
    log("status==200 and not (frobnicate>1)", &["\"frobnicate\"", "Known are: ts, node, site"]);
    log("status==\"200\"", &["\"status\" is a number"]);
    log("cache==", &["at character 8"]);
}

#[test]
fn cities_that_do_not_exist_are_refused_with_suggestions() {
    let edge = ["edge", "--listen", "127.0.0.1:0", "--origin", "http://127.0.0.1:1", "--city"];
    fails(&[&edge[..], &["Atlantis"]].concat(), 2, &["Atlantis", "did you mean Atlanta?", "--coordinates"]);
    fails(&[&edge[..], &["Nürnberg", "--coordinates", "north"]].concat(), 2, &["--coordinates", "as in 49.45,11.08"]);
    let shield = ["shield", "--open", "--listen", "127.0.0.1:0", "--origin", "http://127.0.0.1:1", "--city", "Tokio"];
    fails(&shield, 2, &["did you mean Tokyo?"]);
    let load = ["loadtest", "--url", "http://{city}.localhost:1/", "--rate", "1", "--cities", "gru,atlantis"];
    fails(&load, 2, &["atlantis", "did you mean Atlanta?"]);
}

#[test]
fn nodes_are_named_by_address_url_or_name_and_by_nothing_else() {
    for command in [&["status"][..], &["top", "--once"], &["log"], &["purge", "--all"], &["explain", "http://a/"]] {
        let with = |more: &[&'static str]| [command, more].concat();
        fails(&with(&["--node", "https://127.0.0.1:1"]), 2, &["http:// only"]);
        fails(&with(&["--node", "127.0.0.1"]), 2, &["HOST:PORT", "edge-nrt"]);
        fails(&with(&["--node", "http://127.0.0.1:1"]), 69, &["127.0.0.1:1", "cannot be reached"]);
        fails(
            &with(&["--node", "edge-nrt", "--control", "127.0.0.1:1"]),
            69,
            &["edge-nrt", "127.0.0.1:1", "--control"],
        );
    }
}

#[test]
fn values_that_make_no_sense_are_usage_errors() {
    let edge = ["edge", "--listen", "127.0.0.1:0", "--origin", "http://127.0.0.1:1"];
    fails(&[&edge[..], &["--memory", "1KiB"]].concat(), 2, &["--memory", "1MiB"]);
    fails(&[&edge[..], &["--control", "https://c"]].concat(), 2, &["--control", "http://"]);
    fails(&["explain", "http://a/", "-H", "no field"], 2, &["-H"]);
    fails(&["loadtest", "simulate", "--once", "2"], 2, &["--once"]);
    fails(&["loadtest", "--url", "http://a/", "--rate", "1", "--streams", "2"], 2, &["HTTP/2"]);
    fails(&["demo", "fail"], 2, &["WHAT"]);
    fails(&["demo", "fail", "edge-ncy"], 2, &["did you mean edge-nyc?"]);
    fails(&["demo", "fail", "fra"], 2, &["shield-fra or edge-fra"]);
    fails(&["demo", "fail", "link", "fra", "atlantis"], 2, &["did you mean Atlanta?"]);
    fails(&["demo", "fail", "slow", "edge-fra"], 2, &["say by how much"]);
    fails(&["demo", "heal", "edge-ncy"], 2, &["did you mean edge-nyc?"]);
    let (_folder, path) = file(
        "shield.toml",
        "role = \"shield\"\nlisten = [\":1\"]\n[edges]\nopen = true\n[[site]]\nname = \"a\"\nhosts = [\"*\"]\norigins = [\"http://o\"]\n",
    );
    fails(&["edge", "--config", &path], 2, &["run nearside shield"]);
}
