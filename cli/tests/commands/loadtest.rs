//! `nearside loadtest` before real processes: an origin-sim and an edge with TLS.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

/// A process that ends with its test.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Ports that were free just now, all different.
pub(crate) fn ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

pub(crate) fn nearside(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nearside"));
    command.args(args).env_remove("NEARSIDE_CONFIG").stdin(Stdio::null());
    command
}

/// Starts one, and waits until it answers.
pub(crate) fn start(args: &[&str], port: u16) -> Running {
    start_command(nearside(args), port)
}

/// The same with a command that has more than arguments.
pub(crate) fn start_command(mut command: Command, port: u16) -> Running {
    let mut running = Running(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    for _ in 0..1200 {
        let ready = TcpStream::connect(("127.0.0.1", port)).and_then(|mut stream| {
            stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            Ok(answer.starts_with(b"HTTP/1.1 200"))
        });
        if ready.is_ok_and(|ready| ready) {
            return running;
        }
        if running.0.try_wait().unwrap().is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let _ = running.0.kill();
    let mut said = String::new();
    running.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    panic!("{command:?}: {said}");
}

/// An origin, and an edge before it with TLS; the certificate is in `cert.pem` of the folder.
struct Bed {
    folder: tempfile::TempDir,
    origin: u16,
    clear: u16,
    tls: u16,
    _running: [Running; 2],
}

impl Bed {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["edge.localhost".to_owned()]).unwrap();
        fs::write(folder.path().join("cert.pem"), made.cert.pem()).unwrap();
        fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        let [origin, clear, tls, admin] = ports();
        let at = |port: u16| format!("127.0.0.1:{port}");
        let file = |name: &str| folder.path().join(name).display().to_string();
        let first = start(&["origin-sim", "--listen", &at(origin)], origin);
        let (listen, listen_tls, admin_at, upstream) =
            (at(clear), at(tls), at(admin), format!("http://{}", at(origin)));
        let (cert, key) = (file("cert.pem"), file("key.pem"));
        let flags = ["edge", "--listen", &listen, "--admin", &admin_at, "--origin", &upstream, "--threads", "1"];
        let with_tls = ["--memory", "64MiB", "--listen-tls", &listen_tls, "--tls-cert", &cert, "--tls-key", &key];
        let second = start(&[&flags[..], &with_tls[..]].concat(), admin);
        Self { folder, origin, clear, tls, _running: [first, second] }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// What a load with these flags reports.
    fn load(&self, url: &str, flags: &[&str]) -> Value {
        let output = self.run(url, flags);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{flags:?}: {error}: {said}"))
    }

    fn run(&self, url: &str, flags: &[&str]) -> Output {
        let span: &[&str] = if flags.contains(&"--duration") { &[] } else { &["--duration", "1s"] };
        let all = [&["loadtest", "--url", url, "--json"][..], span, flags].concat();
        nearside(&all).output().unwrap()
    }
}

const OBJECT: &str = "/o/{object}?cc=max-age%3D600&etag=a&size={size}&seed={object}";

#[test]
fn load_over_tls_and_http2_is_answered_right_to_the_byte() {
    let bed = Bed::start();
    let ca = bed.path().join("cert.pem").display().to_string();
    let url = format!("https://edge.localhost:{}{OBJECT}", bed.tls);
    let shape =
        ["--rate", "200", "--objects", "20", "--popularity", "zipf:0.9", "--sizes", "1KiB*3,70KB*1", "--verify"];
    let with = |more: &[&str]| bed.load(&url, &[&shape[..], &["--ca", &ca], more].concat());
    for flags in [&[][..], &["--http2", "--connections", "2", "--streams", "8"], &["--ranges", "50%"]] {
        let report = with(flags);
        let counts = ["due", "answered", "failed", "wrong"].map(|name| report[name].as_u64().unwrap());
        assert_eq!(counts, [200, 200, 0, 0], "{flags:?}: {report}");
    }
    // All was asked for before, by the first of them.
    let report = with(&["--fill"]);
    assert_eq!(report["hit_ratio"], 1.0, "{report}");
    let refused = bed.run(&url, &["--rate", "10"]);
    let report: Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert_eq!((report["answered"].as_u64(), report["failed"].as_u64()), (Some(0), Some(10)), "nobody vouches for it");
    assert!(!refused.status.success() && report["last_failure"].as_str().unwrap().contains("certificate"), "{report}");
    assert_eq!(bed.load(&url, &["--rate", "10", "--insecure"])["answered"], 10);
}

#[test]
fn misses_reach_the_origin_and_the_page_is_whole() {
    let bed = Bed::start();
    let page = bed.path().join("page.html").display().to_string();
    let origin = format!("http://127.0.0.1:{}", bed.origin);
    let url = format!("http://127.0.0.1:{}{OBJECT}", bed.clear);
    let flags = ["--rate", "400", "--objects", "10", "--fill", "--misses", "25%", "--origin", &origin, "--html", &page];
    let report = bed.load(&url, &[&flags[..], &["--duration", "2s"]].concat()[..]);
    let ratio = report["hit_ratio"].as_f64().unwrap();
    assert!((0.68..0.82).contains(&ratio), "three quarters: {report}");
    let asked = report["origin"]["requests"].as_u64().unwrap();
    let missed = report["cache"]["uri-miss"].as_u64().unwrap();
    // Its ledger is read a moment after the first requests have left.
    assert!(asked <= missed && asked + 20 >= missed, "{asked} of {missed}: {report}");
    assert_eq!(report["timeline"].as_array().unwrap().len(), 2);
    let page = fs::read_to_string(page).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.contains("--misses 25%") && page.matches("<svg").count() >= 4);
}

#[test]
fn scenarios_of_files_are_run_and_their_claims_judged() {
    let bed = Bed::start();
    let file = |name: &str, claims: &str| {
        let path = bed.path().join(name);
        let text = format!(
            "question = \"Is it cached?\"\norigin = \"http://127.0.0.1:{}\"\nclaims = {claims}\n[load]\nurl = \
             \"http://127.0.0.1:{}/{{run}}/{{object}}?cc=max-age%3D60&size={{size}}&seed={{object}}\"\nobjects = 5\nrate = 50\n\
             duration = \"1s\"\nfill = true\nverify = true\n",
            bed.origin, bed.clear
        );
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let run = |path: &str| {
        let output =
            nearside(&["loadtest", "run", path, "--report", &bed.path().display().to_string()]).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (holds, said) = run(&file("right.toml", "[\"failed == 0 and hit_ratio == 1\", \"origin_requests == 0\"]"));
    assert!(holds && said.contains("ok    origin_requests == 0") && said.ends_with("all claims hold\n"), "{said}");
    let result: Value = serde_json::from_slice(&fs::read(bed.path().join("right.json")).unwrap()).unwrap();
    assert_eq!(result["figures"]["answered"], 50);
    assert!(fs::read_to_string(bed.path().join("right.html")).unwrap().contains("Is it cached?"));
    let (_, said) = run(&file("other.toml", "[\"crowd_right == 1\"]"));
    assert!(said.contains("FAIL  crowd_right == 1: nothing in this scenario tells such a figure"), "{said}");
    let (holds, said) = run(&file("wrong.toml", "[\"hit_ratio < 0.5\"]"));
    assert!(!holds && said.contains("FAIL  hit_ratio < 0.5: hit_ratio is 1.0"), "{said}");
}
