//! The diagnostic log and the access log: what they say, and that who does not read them holds up no request.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::pipe::fcntl_setpipe_size;

/// Far longer than a request takes, far shorter than for ever.
const IN_TIME: Duration = Duration::from_secs(60);

/// An edge in front of an origin, as a process; ended when this is dropped.
struct Edge {
    process: Child,
    address: SocketAddr,
    admin: SocketAddr,
}

impl Drop for Edge {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Edge {
    /// Starts it with pipes of one page as standard output and error, and reads the latter until it serves.
    fn start(origin: SocketAddr, log: &str, more: &[&str]) -> Self {
        let origin = format!("http://{origin}");
        let mut command = Command::new(env!("CARGO_BIN_EXE_nearside"));
        command
            .args(["edge", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--origin", &origin])
            .args(more)
            .env_remove("NEARSIDE_CONFIG")
            .env("NEARSIDE_LOG", log)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        fcntl_setpipe_size(process.stdout.as_ref().unwrap(), 4096).unwrap();
        let stderr = process.stderr.as_mut().unwrap();
        fcntl_setpipe_size(&*stderr, 4096).unwrap();
        let mut said = Vec::new();
        let after = |said: &[u8], word: &str| {
            let text = String::from_utf8_lossy(said).into_owned();
            let (_, rest) = text.split_once(word)?;
            let (address, _) = rest.split_once('\n')?;
            address.split_whitespace().next()?.parse::<SocketAddr>().ok()
        };
        let (address, admin) = loop {
            if let (Some(address), Some(admin)) = (after(&said, "serving http://"), after(&said, "admin on http://")) {
                break (address, admin);
            }
            let mut byte = [0];
            stderr.read_exact(&mut byte).expect("it starts");
            said.push(byte[0]);
        };
        Self { process, address, admin }
    }

    fn get(&self, path: &str) -> String {
        get(self.address, path)
    }

    fn metric(&self, name: &str) -> u64 {
        let scrape = get(self.admin, "/metrics");
        let line = scrape.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {scrape}")).parse().unwrap()
    }

    /// Reads standard error until it has said all these words.
    fn says(&mut self, words: &[&str]) -> String {
        let mut stderr = self.process.stderr.take().unwrap();
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let (done, said) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let (mut all, mut piece) = (String::new(), [0; 4096]);
            while let Ok(1..) = stderr.read(&mut piece).inspect(|read| {
                all.push_str(&String::from_utf8_lossy(&piece[..*read]));
            }) {
                if words.iter().all(|word| all.contains(word)) {
                    break;
                }
            }
            done.send(all)
        });
        said.recv_timeout(IN_TIME).expect("it says them")
    }
}

/// Sends a request, and reads to the end of the connection.
fn get(address: SocketAddr, path: &str) -> String {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(IN_TIME)).unwrap();
    write!(socket, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    // A cut is an end, too.
    if let Err(error) = socket.read_to_end(&mut answer) {
        assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "{path}: no answer in time");
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// An origin: `/cut` breaks off, `/bad` is no HTTP, all else can be stored.
fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut head = [0; 4096];
                let read = socket.read(&mut head).unwrap_or(0);
                let head = String::from_utf8_lossy(&head[..read]).into_owned();
                let answer: &[u8] = if head.starts_with("GET /cut") {
                    b"HTTP/1.1 200 OK\r\ncache-control: no-store\r\ncontent-length: 100\r\n\r\nshort"
                } else if head.starts_with("GET /bad") {
                    b"HTTP/1.1 200 OK\r\nbad name: x\r\n\r\n"
                } else {
                    b"HTTP/1.1 200 OK\r\ncache-control: max-age=600\r\ncontent-length: 4\r\nconnection: close\r\n\r\nbody"
                };
                let _ = socket.write_all(answer);
            });
        }
    });
    address
}

#[test]
fn a_standard_error_that_nobody_reads_stops_no_request() {
    let mut edge = Edge::start(origin(), "trace", &["--access-log", "off"]);
    assert!(edge.get("/hit").ends_with("body"));
    let mut requests = 0;
    while edge.metric("nearside_diagnostics_dropped_total") == 0 {
        edge.get("/cut");
        assert!(edge.get("/hit").contains("; hit"), "hits are served");
        requests += 1;
        assert!(requests < 5000, "nothing is dropped: what is logged for all this?");
    }
    edge.says(&["log lines dropped: standard error was not read in time lines="]);
    assert!(edge.get("/hit").ends_with("body"));
}

#[test]
fn an_access_log_that_nobody_reads_stops_no_request() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("access.fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let config = folder.path().join("edge.toml");
    let origin = origin();
    let text = format!(
        "role = \"edge\"\nlisten = [\"127.0.0.1:0\"]\n[access_log]\nfile = {fifo:?}\n\
         [[site]]\nname = \"www\"\nhosts = [\"*\"]\norigins = [\"http://{origin}\"]\n"
    );
    std::fs::write(&config, text).unwrap();
    for more in [&["--access-log", "json"][..], &["--config", config.to_str().unwrap()]] {
        let edge = Edge::start(origin, "info", more);
        // Ten times what the pipe holds.
        for number in 0..200 {
            let path = format!("/{}", "x".repeat(200));
            assert!(edge.get(&path).ends_with("body"), "{number}");
        }
    }
}

#[test]
fn a_response_that_cannot_be_read_has_its_cause_in_the_log_which_does_not_repeat_it_for_ever() {
    let origin = origin();
    let mut edge = Edge::start(origin, "info", &["--access-log", "off"]);
    for _ in 0..60 {
        let answer = edge.get("/bad/path?token=secret");
        assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("upstream-field"), "{answer}");
    }
    let said = edge.says(&["similar log lines suppressed"]);
    let lines: Vec<_> = said.lines().filter(|line| line.contains("upstream request failed")).collect();
    assert!((1..60).contains(&lines.len()), "{said}");
    for word in [
        format!("upstream=\"http://{origin}\""),
        "reason=\"upstream-field\"".to_owned(),
        "path=\"/bad/path\"".to_owned(),
        "line 2 of the response head is malformed: \"bad name\"".to_owned(),
    ] {
        assert!(lines[0].contains(&word), "{} does not say {word}", lines[0]);
    }
    assert!(!said.contains("secret"), "queries are not logged: {said}");
    assert!(edge.metric("nearside_diagnostics_suppressed_total") > 0);
}

#[test]
fn an_origin_that_refuses_connections_is_told_of_once_per_attempt_and_without_repetition() {
    let refusing = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut edge = Edge::start(refusing, "info", &["--access-log", "off"]);
    assert!(edge.get("/a").contains("upstream-connect"));
    let said = edge.says(&["upstream request failed", "\n"]);
    let line = said.lines().find(|line| line.contains("upstream request failed")).unwrap();
    assert_eq!(line.matches("Connection refused").count(), 1, "{line}");
    assert!(!line.contains("context:") && !line.contains("cause:"), "{line}");
}
