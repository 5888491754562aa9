//! Wrong input: each gets a clear error that says what, where and what to do, and its exit code.

use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

fn nearside(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nearside"));
    command.args(args).env_remove("NEARSIDE_CONFIG").env_remove("NEARSIDE_SHIELD_SECRET");
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw).unwrap();
    // It may say more than a pipe holds, so that it has to be read meanwhile.
    let (done, output) = mpsc::channel();
    std::thread::spawn(move || done.send(child.wait_with_output()));
    output.recv_timeout(Duration::from_secs(60)).map_or_else(
        |_elapsed| {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            panic!("{args:?} did not end");
        },
        Result::unwrap,
    )
}

/// Runs it, expects this exit code, and all these words in what it says.
pub(crate) fn fails(args: &[&str], code: i32, words: &[&str]) {
    let output = nearside(args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    for word in words {
        assert!(said.contains(word), "{args:?} does not say {word:?}: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

pub(crate) fn file(name: &str, text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

#[test]
fn flags_that_make_no_sense_are_usage_errors() {
    let origin = "http://127.0.0.1:1";
    fails(&["edge", "--listen", "nowhere", "--origin", origin], 2, &["--listen", "127.0.0.1:8080"]);
    fails(&["edge", "--listen", "127.0.0.1:0", "--origin", "example.com"], 2, &["--origin", "http://HOST:PORT"]);
    fails(&["edge", "--listen", "127.0.0.1:0", "--origin", origin, "--memory", "lots"], 2, &["--memory", "512MiB"]);
    fails(&["edge", "--listen", "127.0.0.1:0", "--origin", origin, "--threads", "0"], 2, &["--threads", "1..=256"]);
    fails(&["edge", "--listen-tls", "127.0.0.1:0", "--origin", origin], 2, &["--tls-cert"]);
    fails(&["frobnicate"], 2, &["frobnicate"]);
    fails(&["loadtest", "--url", "ftp://a", "--rate", "1"], 2, &["http:// or https://"]);
    fails(&["loadtest", "--url", "http://127.0.0.1:1/", "--rate", "1", "--objects", "2"], 2, &["{object}", "as in"]);
    fails(&["loadtest", "--url", "http://a", "--rate", "fast"], 2, &["--rate", "max"]);
    fails(&["loadtest", "--url", "http://a", "--rate", "1", "--sizes", "large"], 2, &["log-normal:16KiB:1.5"]);
    fails(&["loadtest", "run", "hot-hat"], 2, &["hot-hit", "path of a file"]);
    fails(&["loadtest", "compare", "--with", "squid"], 2, &["squid", "haproxy"]);
}

#[test]
fn what_is_missing_is_named_with_its_remedy() {
    fails(&["edge", "--listen", "127.0.0.1:0"], 2, &["needs an origin", "--origin http://", "--shield http://"]);
    fails(&["edge", "--origin", "http://127.0.0.1:1"], 2, &["needs a listener", "--listen"]);
    let shield = ["shield", "--listen", "127.0.0.1:0", "--origin", "http://127.0.0.1:1"];
    fails(&shield, 2, &["must know its edges", "--open"]);
    fails(&["control", "--listen", "127.0.0.1:0"], 2, &["needs a listener and a log", "--log FILE"]);
    fails(&["loadtest"], 2, &["--url", "--rate"]);
}

#[test]
fn a_configuration_with_problems_exits_78_and_tells_them_all() {
    let (_folder, path) = file("edge.toml", "role = \"edge\"\nlisten = [\"nowhere\"]\nthread = 2\n");
    for args in [&["check", &path][..], &["edge", "--config", &path]] {
        fails(
            args,
            78,
            &["edge.toml:2:", "edge.toml:3:", "did you mean `threads`?", "there is no site", "nothing was applied"],
        );
        let said = String::from_utf8(nearside(args).stderr).unwrap();
        assert!(!said.contains("there is no listener"), "there is one, which is wrong: {said}");
    }
    fails(&["check", "/does/not/exist.toml"], 78, &["/does/not/exist.toml", "cannot be read"]);
    let (_folder, path) = file("binary.toml", "\u{0}\u{1}");
    fails(&["check", &path], 78, &["this is not TOML"]);
}

#[test]
fn the_files_of_the_demo_are_right() {
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../config/local")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_nearside"));
        command.arg("check").arg(&path).env("NEARSIDE_SHIELD_SECRET", "0123456789abcdef");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_port_in_use_is_named_with_its_holder() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let port = taken.local_addr().unwrap().port().to_string();
    let holder = format!("process {}", std::process::id());
    let edge = ["edge", "--listen", &address, "--origin", "http://127.0.0.1:1"];
    fails(&edge, 1, &["port", &port, "in use", &holder]);
    let admin = ["edge", "--listen", "127.0.0.1:0", "--admin", &address, "--origin", "http://127.0.0.1:1"];
    fails(&admin, 1, &["in use", &port]);
    fails(&["origin-sim", "--listen", &address], 1, &[&address, &holder]);
}

#[test]
fn files_that_are_not_what_they_should_be_are_named() {
    let (_folder, path) = file("cert.pem", "no PEM");
    let tls = |cert: &str| {
        let args =
            ["edge", "--listen-tls", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", &path, "--origin", "http://a"];
        fails(&args, 1, &["certificate", cert]);
    };
    tls("/does/not/exist.pem");
    tls(&path);
    let shield = ["shield", "--listen", "127.0.0.1:0", "--origin", "http://a", "--secret-file", "/does/not/exist"];
    fails(&shield, 1, &["/does/not/exist"]);
}

#[test]
fn a_node_that_cannot_be_reached_exits_69() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    fails(&["status", "--node", &free], 69, &[&free, "cannot be reached"]);
    fails(&["purge", "--node", &free, "--url", "http://a/"], 69, &["cannot be reached"]);
}

#[test]
fn help_completions_and_the_manual_are_there() {
    for args in [&["--help"][..], &["edge", "--help"], &["completions", "bash"], &["man"], &["--version"]] {
        let output = nearside(args);
        assert!(output.status.success() && !output.stdout.is_empty(), "{args:?}");
    }
}
