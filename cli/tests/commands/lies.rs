//! Nodes that lie: nothing that they say reaches a terminal with characters that it obeys.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use crate::loadtest::nearside;

/// Clears a terminal, sets its title, in C1 too, turns the direction of text, and fakes a line.
const LIES: &str = r"x\u001b[2J\u001b]0;owned\u0007\u009b31m\u202ey\nfaked-node applied 9 matched";
const LIES_RAW: &str = "x\u{1b}[2J\u{9b}31m\u{202e}";

/// A node that answers every request so.
fn lying_node() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            thread::spawn(move || answer(client));
        }
    });
    address
}

fn answer(mut client: TcpStream) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if client.read(&mut byte).unwrap_or_default() == 0 {
            return;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    // What is not read would reset the connection.
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    let _ = client.read_exact(&mut vec![0; length.unwrap_or_default()]);
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let node = format!("{{\"id\":\"{LIES}\",\"state\":\"applied\",\"matched\":1,\"fenced_fills\":0,\"ms\":0.5}}");
    let receipt = format!("{{\"id\":\"{LIES}\",\"dry_run\":false,\"matched\":1,\"nodes\":[{node}]}}");
    let log = format!(
        "{{\"node\":\"{LIES}\",\"host\":\"{LIES}\",\"path\":\"/{LIES}\",\"reason\":\"{LIES}\",\"cache\":\"hit\"}}"
    );
    let (status, body) = match path.as_str() {
        "/v1/purge" => ("200 OK", receipt),
        "/v1/version" => ("200 OK", format!("{{\"role\":\"edge\",\"id\":\"{LIES}\"}}")),
        "/metrics" => ("200 OK", format!("nearside_requests_total{{cache=\"{LIES_RAW}\"}} 5\n")),
        path if path.starts_with("/v1/log") => ("200 OK", format!("event: requests\ndata: {log}\n\n")),
        _ => ("422 Unprocessable Content", format!("{{\"detail\":\"{LIES}\"}}")),
    };
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    let _ = client.write_all((head + &body).as_bytes());
}

#[test]
fn what_nodes_say_does_nothing_to_a_terminal() {
    let node = lying_node().to_string();
    for (args, says) in [
        (&["purge", "--tag", "a"][..], "\\u001b[2J"),
        (&["purge", "--tag", "a", "--json"], "\\u001b[2J"),
        (&["top", "--once", "--interval", "100ms"], "\\u001b[2J"),
        (&["log", "-n", "1", "--json"], "\\u202e"),
        (&["explain", "http://www.example.com/"], "\\u001b[2J"),
        (&["status"], "is not ready"),
    ] {
        let output = nearside(&[args, &["--node", &node]].concat()).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        let obeyed = |c: char| c.is_control() && c != '\n' || ('\u{202a}'..='\u{202e}').contains(&c);
        assert!(!said.contains(obeyed), "{args:?}: {said:?}");
        assert!(said.contains(says), "{args:?} does not say {says:?}: {said}");
        assert!(!said.lines().any(|line| line.starts_with("faked-node")), "{args:?}: {said}");
    }
}
