//! `SSL_CERT_FILE`: the certificate authorities that https origins are checked against.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const PROGRAM: &str = env!("CARGO_BIN_EXE_nearside");

/// A process of the program that serves at `address`; killed when dropped.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    /// Starts it, and waits for the line of its log that says where it serves.
    fn start(command: &mut Command, scheme: &str) -> Self {
        let mut child = command.env("NO_COLOR", "1").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let prefix = format!("serving {scheme}://");
        let address = lines.find_map(|line| Some(line.ok()?.split_once(&prefix)?.1.split(' ').next()?.to_owned()));
        // Its log is read to the end, so that it never waits for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address: address.unwrap() }
    }

    /// The status line of the response to `GET /`.
    fn status(&self) -> String {
        let mut socket = TcpStream::connect(&self.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        socket.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn nearside(words: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(words).env_remove("NEARSIDE_CONFIG").env_remove("SSL_CERT_DIR").env_remove("SSL_CERT_FILE");
    command
}

/// A certificate for `localhost` that no authority of any system has signed, and its key.
fn certificate(folder: &Path) -> (PathBuf, PathBuf) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (cert, key)
}

#[test]
fn an_origin_is_trusted_if_ssl_cert_file_holds_its_authority() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = certificate(folder.path());
    let site = Server::start(&mut nearside(&["origin-sim", "--listen", "127.0.0.1:0"]), "http");
    let site_url = format!("http://{}", site.address);
    let mut secure = nearside(&["edge", "--id", "origin", "--listen-tls", "127.0.0.1:0", "--origin", &site_url]);
    let origin = Server::start(secure.arg("--tls-cert").arg(&cert).arg("--tls-key").arg(&key), "https");
    let url = format!("https://localhost:{}", origin.address.rsplit_once(':').unwrap().1);
    let edge = || nearside(&["edge", "--id", "edge", "--listen", "127.0.0.1:0", "--origin", &url]);
    let strict = Server::start(&mut edge(), "http");
    assert!(strict.status().contains("502"), "{}", strict.status());
    let trusting = Server::start(edge().env("SSL_CERT_FILE", &cert), "http");
    assert!(trusting.status().contains("200"), "{}", trusting.status());
}

#[test]
fn authorities_that_cannot_be_read_keep_a_node_from_starting() {
    for (variable, path) in [("SSL_CERT_FILE", "/does/not/exist.pem"), ("SSL_CERT_DIR", "/does/not/exist")] {
        let mut command = nearside(&["edge", "--listen", "127.0.0.1:0", "--origin", "http://127.0.0.1:1"]);
        let output = command.env(variable, path).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(path) && said.contains(variable), "{said}");
        assert!(!said.contains("panicked"), "{said}");
    }
}
