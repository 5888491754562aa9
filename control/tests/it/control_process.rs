//! A control process on a free port of the loopback, and requests to it.

use std::time::Duration;

use nearside_config::{ControlConfig, PurgeLog};
use nearside_control::Control;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest wait for the beginning of a response.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// A control process with a purge log of its own, which ends with its test.
pub(crate) struct ControlProcess {
    control: Control,
    _folder: tempfile::TempDir,
}

impl ControlProcess {
    /// Starts a control process whose configuration differs from the defaults by `change`.
    pub(crate) async fn start(change: impl FnOnce(&mut ControlConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = PurgeLog::File(folder.path().join("purges.log"));
        let mut config = ControlConfig::new("127.0.0.1:0".parse().unwrap(), log);
        change(&mut config);
        Self { control: Control::start(config).await.unwrap(), _folder: folder }
    }

    /// Status of the response to a GET with these header lines.
    pub(crate) async fn get(&self, path: &str, header_lines: &str) -> u16 {
        self.status_of(&format!("GET {path} HTTP/1.1\r\n{header_lines}\r\n")).await
    }

    /// Status of the response to a POST of JSON with these header lines.
    pub(crate) async fn post(&self, path: &str, header_lines: &str, body: &str) -> u16 {
        let length = body.len();
        let own_lines = format!("content-type: application/json\r\ncontent-length: {length}\r\n");
        self.status_of(&format!("POST {path} HTTP/1.1\r\n{header_lines}{own_lines}\r\n{body}")).await
    }

    /// Sends the bytes of a request. Reads the status line only: some responses are streams without an end.
    async fn status_of(&self, request: &str) -> u16 {
        let address = self.control.address();
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        let mut status_line = [0; "HTTP/1.1 200".len()];
        timeout(ANSWER_MAX, client.read_exact(&mut status_line)).await.expect("it answers").unwrap();
        let status_line = String::from_utf8_lossy(&status_line);
        status_line.rsplit(' ').next().unwrap().parse().unwrap_or_else(|_no_number| panic!("{status_line:?}"))
    }
}
