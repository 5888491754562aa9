//! Commands before a fleet of real processes: a control process and its nodes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Output, Stdio};
use std::time::Duration;

use crate::loadtest::{Running, nearside, ports, start};

/// A control process, an origin, and an edge that follows.
struct Fleet {
    control: String,
    admin: String,
    clear: u16,
    edge: Option<Running>,
    _others: [Running; 2],
    _folder: tempfile::TempDir,
}

fn at(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// The head of an answer.
fn get(port: u16, path: &str) -> String {
    // An admin listener answers only requests that name it as a host of this machine.
    let is_admin = path.starts_with("/v1/") || ["/metrics", "/readyz"].contains(&path);
    let host = if is_admin { "localhost" } else { "www.example.com" };
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

impl Fleet {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [control, origin, clear, admin] = ports();
        let log = folder.path().join("purges.log").display().to_string();
        let others = [
            start(&["control", "--listen", &at(control), "--log", &log], control),
            start(&["origin-sim", "--listen", &at(origin)], origin),
        ];
        let (upstream, follows) = (format!("http://{}", at(origin)), format!("http://{}", at(control)));
        let (listen, admin_at) = (at(clear), at(admin));
        let edge = ["edge", "--id", "edge-one", "--listen", &listen, "--admin", &admin_at, "--origin", &upstream];
        let edge = start(&[&edge[..], &["--memory", "16MiB", "--control", &follows]].concat(), admin);
        let fleet =
            Self { control: at(control), admin: admin_at, clear, edge: Some(edge), _others: others, _folder: folder };
        for _ in 0..1200 {
            if get(control, "/v1/nodes").contains("\"edge-one\"") {
                return fleet;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("the edge does not follow");
    }

    /// Runs a command that names its nodes by the control process of this fleet.
    fn run(&self, args: &[&str]) -> (Output, String) {
        let output = nearside(args).env("NEARSIDE_CONTROL", &self.control).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output, said)
    }
}

#[test]
fn nodes_are_found_by_their_names() {
    let fleet = Fleet::start();
    let url = format!("http://{}/", fleet.admin);
    for node in ["edge-one", &fleet.admin, &url] {
        for (args, says) in [
            (&["status"][..], "is ready"),
            (&["explain", "http://www.example.com/a"], "at edge-one"),
            (&["top", "--once", "--interval", "100ms"], "edge-one"),
            (&["purge", "--tag", "a"], "edge-one     applied"),
        ] {
            let (output, said) = fleet.run(&[args, &["--node", node]].concat());
            assert!(output.status.success() && said.contains(says), "{args:?} {node}: {said}");
        }
    }
    let (output, said) = fleet.run(&["status", "--node", "edge-oen"]);
    assert!(output.status.code() == Some(2) && said.contains("did you mean edge-one?"), "{said}");
    let (output, said) = fleet.run(&["purge", "--tag", "a", "--site", "none", "--node", "edge-one"]);
    assert!(output.status.code() == Some(2) && said.contains("there is no site"), "{said}");
}

#[test]
fn a_control_process_is_no_node_and_its_nodes_are_shown() {
    let fleet = Fleet::start();
    let (output, said) = fleet.run(&["top", "--once", "--interval", "100ms", "--node", &fleet.control]);
    assert!(output.status.success(), "{said}");
    let rows: Vec<&str> =
        said.lines().take_while(|line| *line != "verdicts").skip(2).filter(|line| !line.is_empty()).collect();
    assert!(rows.len() == 1 && rows[0].trim_start().starts_with("edge-one "), "{said}");
    // The log of all of its nodes, too.
    let mut log = nearside(&["log", "-n", "1", "--json", "--node", &fleet.control, "-q", "path==\"/watched\""]);
    let mut log = Running(log.stdout(Stdio::piped()).spawn().unwrap());
    for _ in 0..1200 {
        get(fleet.clear, "/watched");
        if log.0.try_wait().unwrap().is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut line = String::new();
    log.0.stdout.take().unwrap().read_to_string(&mut line).unwrap();
    assert!(line.contains("\"node\":\"edge-one\"") && line.contains("/watched"), "{line}");
}

#[test]
fn a_log_that_nobody_reads_any_more_ends_though_nothing_comes() {
    let fleet = Fleet::start();
    let mut log = nearside(&["log", "--node", &fleet.admin, "-q", "status==599"]);
    let mut log = Running(log.stdout(Stdio::piped()).spawn().unwrap());
    drop(log.0.stdout.take());
    for _ in 0..1200 {
        if let Some(status) = log.0.try_wait().unwrap() {
            assert!(status.success(), "{status}");
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("it goes on");
}

#[test]
fn a_purge_waits_for_all_nodes_unless_it_is_told_not_to() {
    let mut fleet = Fleet::start();
    let purge = |fleet: &Fleet, more: &[&str]| {
        let (output, said) = fleet.run(&[&["purge", "--all", "--node", &fleet.control], more].concat());
        (output.status.code(), said)
    };
    for more in [&[][..], &["--wait"]] {
        let (code, said) = purge(&fleet, more);
        assert!(code == Some(0) && said.contains("edge-one     applied"), "{more:?}: {said}");
    }
    fleet.edge = None;
    for (more, code) in
        [(&["--timeout", "100ms"][..], 75), (&["--wait", "--timeout", "100ms"], 75), (&["--no-wait"], 0)]
    {
        let (found, said) = purge(&fleet, more);
        assert_eq!(found, Some(code), "{more:?}: {said}");
        assert!(!said.contains("applied"), "{more:?}: {said}");
    }
}

#[test]
fn an_edge_needs_no_origin_where_it_has_a_shield_and_asks_nobody_else() {
    let [origin, shield, shield_admin, clear, admin] = ports();
    let _origin = start(&["origin-sim", "--listen", &at(origin)], origin);
    let upstream = format!("http://{}", at(origin));
    let (listen, admin_at) = (at(shield), at(shield_admin));
    let args =
        ["shield", "--open", "--listen", &listen, "--admin", &admin_at, "--origin", &upstream, "--memory", "16MiB"];
    let running = start(&args, shield_admin);
    let (listen, admin_at, next) = (at(clear), at(admin), format!("http://{}", at(shield)));
    let _edge =
        start(&["edge", "--listen", &listen, "--admin", &admin_at, "--shield", &next, "--memory", "16MiB"], admin);
    let answer = get(clear, "/a?cc=max-age%3D60&size=5");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("shield; fwd=uri-miss"), "{answer}");
    drop(running);
    let answer = get(clear, "/b");
    assert!(answer.starts_with("HTTP/1.1 50"), "{answer}");
    assert!(get(clear, "/a?cc=max-age%3D60&size=5").starts_with("HTTP/1.1 200 "), "what is stored is served");
}
