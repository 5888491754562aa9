//! Signals, the limit of open files, and addresses without IPv6, as real processes meet them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Longer than anything takes that comes at all.
const PATIENCE: Duration = Duration::from_secs(30);

/// A process of this program; killed when it is dropped.
struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    fn start(args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nearside"));
        command.args(args);
        Self::spawn(command)
    }

    /// The same with a limit of open files.
    fn with_files(limit: &str, args: &[&str]) -> Self {
        let mut command = Command::new("sh");
        let run = format!("ulimit {limit} && exec \"$0\" \"$@\"");
        command.arg("-c").arg(run).arg(env!("CARGO_BIN_EXE_nearside")).args(args);
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        command.env_remove("NEARSIDE_CONFIG").env_remove("NEARSIDE_SHIELD_SECRET").env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (sender, lines) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines }
    }

    /// Waits for a line with this text.
    fn says(&self, text: &str) -> String {
        let mut said = Vec::new();
        let end = Instant::now() + PATIENCE;
        while let Ok(line) = self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            if line.contains(text) {
                return line;
            }
            said.push(line);
        }
        panic!("it does not say {text:?}: {said:?}");
    }

    /// Where it says that it listens behind this text.
    fn address(&self, before: &str) -> SocketAddr {
        let line = self.says(before);
        let address = line.split(before).nth(1).unwrap().split_whitespace().next().unwrap();
        address.parse().unwrap_or_else(|_| panic!("{line}"))
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).unwrap();
        kill_process(pid, signal).unwrap();
    }

    fn ends(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("it does not end");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks for a path on a connection of its own; the whole answer.
fn get(address: SocketAddr, path: &str) -> String {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(socket, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).unwrap_or_else(|error| panic!("{path}: {error}: {answer:?}"));
    String::from_utf8_lossy(&answer).into_owned()
}

/// Asks for the page of a client on a connection of its own. Clients come from thirty addresses, so that none exceeds its share.
async fn get_from(client: u16, address: SocketAddr) -> String {
    let path = format!("/{client}?size=100&ttfb=200&cc=no-store");
    let exchange = async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from(([127, 0, 1, 1 + u8::try_from(client % 30).unwrap()], 0)))?;
        let mut socket = socket.connect(address).await?;
        let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        socket.write_all(head.as_bytes()).await?;
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
    };
    match tokio::time::timeout(PATIENCE, exchange).await {
        Ok(Ok(answer)) => answer,
        failed => panic!("{path}: {failed:?}"),
    }
}

fn edge_before(origin: SocketAddr) -> Vec<String> {
    ["edge", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--access-log", "off", "--origin"]
        .map(str::to_owned)
        .into_iter()
        .chain([format!("http://{origin}")])
        .collect()
}

fn refs(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

#[test]
fn signals_that_do_not_ask_a_server_to_stop_leave_it_running() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("purges.log").display().to_string();
    let wan = folder.path().join("wan.toml");
    std::fs::write(&wan, "role = \"wan-sim\"\napi = \"127.0.0.1:0\"\n[[place]]\nname = \"a\"\ncity = \"Tokyo\"\naddress = \"127.0.0.1:1\"\n")
        .unwrap();
    let wan = wan.display().to_string();
    let origin = "http://127.0.0.1:1";
    for args in [
        &["edge", "--listen", "127.0.0.1:0", "--origin", origin][..],
        &["shield", "--open", "--listen", "127.0.0.1:0", "--origin", origin],
        &["control", "--listen", "127.0.0.1:0", "--log", &log],
        &["origin-sim", "--listen", "127.0.0.1:0"],
        &["wan-sim", "--config", &wan],
    ] {
        let mut process = Running::start(args);
        process.says(if args[0] == "wan-sim" { "browsers come in" } else { "serving http" });
        for signal in [Signal::HUP, Signal::USR2] {
            process.signal(signal);
            process.says("reload is not supported yet; restart to apply changes");
        }
        for (signal, name) in [
            (Signal::ALARM, "SIGALRM"),
            (Signal::VTALARM, "SIGVTALRM"),
            (Signal::PROF, "SIGPROF"),
            (Signal::IO, "SIGIO"),
            (Signal::XFSZ, "SIGXFSZ"),
        ] {
            process.signal(signal);
            process.says(name);
        }
        for signal in [Signal::USR1, Signal::PIPE, Signal::WINCH, Signal::URG, Signal::CHILD, Signal::CONT] {
            process.signal(signal);
        }
        // They are delivered in no particular order, but all of them before this one is told.
        process.signal(Signal::HUP);
        process.says("SIGHUP");
        assert!(process.child.try_wait().unwrap().is_none(), "{args:?} has ended");
        process.signal(if args[0] == "edge" { Signal::QUIT } else { Signal::TERM });
        assert!(process.ends().success(), "{args:?}");
    }
}

#[test]
fn a_second_interrupt_ends_a_node_that_waits_for_running_answers() {
    let origin = Running::start(&["origin-sim", "--listen", "127.0.0.1:0"]);
    let args = edge_before(origin.address("serving http://"));
    for (first, second) in [(Signal::INT, Signal::INT), (Signal::TERM, Signal::INT)] {
        let mut edge = Running::start(&refs(&args));
        let address = edge.address("serving http://");
        let mut socket = TcpStream::connect(address).unwrap();
        write!(socket, "GET /endless?size=100000000&rate=1000 HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        edge.signal(first);
        edge.says("stopping");
        edge.signal(Signal::TERM);
        edge.says("SIGTERM received and ignored");
        assert!(edge.child.try_wait().unwrap().is_none(), "one who is told twice by a service manager finishes");
        let begin = Instant::now();
        edge.signal(second);
        assert!(edge.ends().success());
        assert!(begin.elapsed() < Duration::from_secs(25), "before the drain ends by itself");
    }
}

#[test]
fn more_clients_than_open_files_are_all_served_and_the_origin_stays_in_use() {
    let origin = Running::start(&["origin-sim", "--listen", "127.0.0.1:0"]);
    let args = edge_before(origin.address("serving http://"));
    for (limit, warns) in [("-Sn 256", false), ("-n 256", true)] {
        let edge = Running::with_files(limit, &refs(&args));
        if warns {
            edge.says("the limit of open files allows");
        }
        let address = edge.address("serving http://");
        let admin = edge.address("admin on http://");
        let clients = async {
            let clients: Vec<_> = (0..300).map(|n| tokio::spawn(get_from(n, address))).collect();
            for client in clients {
                let answer = client.await.unwrap();
                assert!(answer.starts_with("HTTP/1.1 200 "), "ulimit {limit}: {answer}");
            }
        };
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(clients);
        let metrics = get(admin, "/metrics");
        let healthy = metrics.lines().find(|line| line.starts_with("nearside_upstream_healthy{")).unwrap();
        assert!(healthy.ends_with(" 1"), "{healthy}");
    }
}
