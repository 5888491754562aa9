//! Several control processes that share a purge log on a real NATS server, which is killed, set back and emptied meanwhile.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::Method;
use nearside_config::{Nats, OnLag, PurgeLog, StreamName};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::bed::{HOST, upstream};
use crate::fleet::{BOTH, Controller, Planet, state_of};

/// A NATS server with JetStream.
struct Server {
    child: Option<Child>,
    port: u16,
    folder: tempfile::TempDir,
}

impl Server {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut server = Self { child: None, port: 0, folder };
        server.start();
        server
    }

    /// Where it keeps its streams.
    fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    fn start(&mut self) {
        let ports = self.folder.path().join("ports");
        std::fs::create_dir_all(&ports).unwrap();
        // The first time the system chooses the port, and from then on it is the same.
        let port = if self.port == 0 { "-1".to_owned() } else { self.port.to_string() };
        let child = Command::new("nats-server")
            .args(["--addr", "127.0.0.1", "--port", &port, "--jetstream", "--store_dir"])
            .arg(self.store())
            .arg("--ports_file_dir")
            .arg(&ports)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nats-server is needed for this test: Debian's package of that name, which script/test installs");
        let file = ports.join(format!("nats-server_{}.ports", child.id()));
        self.child = Some(child);
        for _ in 0..1000 {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            let said: Value = serde_json::from_str(&text).unwrap_or_default();
            if let Some(url) = said["nats"][0].as_str() {
                self.port = url.rsplit(':').next().unwrap().parse().unwrap();
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("nats-server has not said where it listens");
    }

    /// At once, as if its machine had lost its power, but for what it has given to the system.
    fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// A control process of its fleet.
    fn control(&self) -> Controller {
        self.control_with("nearside")
    }

    fn control_with(&self, stream: &str) -> Controller {
        let mut nats = Nats::new(vec![format!("nats://127.0.0.1:{}", self.port).parse().unwrap()]);
        nats.stream = stream.parse::<StreamName>().unwrap();
        Controller::new(|config| config.log = PurgeLog::Nats(nats))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_purged_at_one_control_process_reaches_the_nodes_of_all() {
    let server = Server::new();
    let (one, other) = (server.control(), server.control());
    let (of_edge, of_shield) = (one.address, other.address);
    let planet = Planet::between(one, of_edge, of_shield, |_| {}).await;
    other.until(&BOTH).await;
    let mut seq = 0;
    for order in [
        json!({"tags": ["t"]}),
        json!({"urls": [format!("http://{HOST}/a")]}),
        json!({"prefixes": [format!("{HOST}/a")]}),
        json!({"all": true, "soft": true}),
    ] {
        for control in [&planet.control, &other] {
            planet.body("/a").await;
            let mut dry = order.clone();
            dry["dry_run"] = true.into();
            let (status, counted) = control.purge(dry).await;
            assert_eq!((status, counted["matched"].as_u64()), (200, Some(2)), "{counted}");
            let fresh = planet.publish();
            let (status, receipt) = control.purge(order.clone()).await;
            assert_eq!((status, receipt["matched"].as_u64()), (200, Some(2)), "{order}: {receipt}");
            assert_eq!(["edge", "shield"].map(|node| state_of(&receipt, node)), ["applied"; 2]);
            seq += 1;
            assert_eq!(receipt["seq"], seq, "one log");
            assert_eq!(planet.body("/a").await, fresh, "{order}");
            // Each knows of what was given to the other.
            for control in [&planet.control, &other] {
                control.until_state(&receipt["id"], "edge", "applied").await;
                control.until_state(&receipt["id"], "shield", "applied").await;
            }
        }
    }
    // Another fleet on the same server has nothing to do with it.
    let stranger = server.control_with("other");
    assert_eq!(stranger.purge(json!({"all": true})).await.0, 503, "it has no nodes");
    // One that is started later knows all nodes, whoever they follow.
    let third = server.control();
    third.until(&BOTH).await;
    let (status, receipt) = third.purge(json!({"tags": ["t"]})).await;
    assert_eq!((status, receipt["seq"].as_u64()), (200, Some(seq + 1)), "{receipt}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_is_killed_in_the_middle_and_what_was_acknowledged_holds() {
    let mut server = Server::new();
    let (one, other) = (server.control(), server.control());
    let (of_edge, of_shield) = (one.address, other.address);
    let planet = Planet::between(one, of_edge, of_shield, |_| {}).await;
    let mut killing = tokio::task::spawn_blocking(move || {
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(300));
            server.kill();
            std::thread::sleep(Duration::from_millis(200));
            server.start();
        }
        server
    });
    let (mut last, mut slowest) = (0, Duration::ZERO);
    let mut purge = async || {
        for giver in [&planet.control, &other] {
            planet.body("/a").await;
            let fresh = planet.publish();
            let begun = Instant::now();
            let mut answer = giver.purge(json!({"tags": ["t"]})).await;
            // What became of an order that NATS has not confirmed is not known: it is given again, as the answer says.
            while answer.1["detail"].as_str().is_some_and(|detail| detail.contains("Give it again")) {
                answer = giver.purge(json!({"tags": ["t"]})).await;
            }
            let (status, receipt) = answer;
            slowest = slowest.max(begun.elapsed());
            // Some wait until it is there again, and a node may lose its control process over it for a while. A control
            // process that has not heard of the nodes yet says that the order is in the log, and its name.
            let detail = receipt["detail"].as_str().unwrap_or_default();
            let named = detail.strip_prefix("the order ").and_then(|rest| rest.split_once(" is in the log"));
            let id = match named {
                Some((id, _)) if status == 503 => id.into(),
                _ => {
                    assert!([200, 207].contains(&status), "{status} {receipt}");
                    let seq = receipt["seq"].as_u64();
                    assert!(seq.is_some_and(|seq| seq > last), "{last}: {receipt}");
                    last = seq.unwrap_or_default();
                    receipt["id"].clone()
                }
            };
            for (node, _) in BOTH {
                giver.until_state(&id, node, "applied").await;
            }
            assert_eq!(planet.body("/a").await, fresh, "{last}: {receipt}");
        }
    };
    let mut server = None;
    while server.is_none() {
        purge().await;
        server = tokio::time::timeout(Duration::ZERO, &mut killing).await.map(Result::unwrap).ok();
    }
    purge().await;
    planet.control.until(&BOTH).await;
    let (status, receipt) = planet.control.purge(json!({"tags": ["t"]})).await;
    assert_eq!(status, 200, "all is well again: {receipt}");
    assert!(slowest > Duration::from_millis(100), "nobody has noticed: {slowest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_goes_to_another_control_process_when_its_own_is_gone() {
    let server = Server::new();
    let (mut one, other) = (server.control(), server.control());
    let (of_edge, of_shield) = (one.address, other.address);
    let also = upstream(of_shield);
    let planet = Planet::between(other, of_edge, of_shield, |config| {
        if config.id.as_str() != "shield" {
            config.control.as_mut().unwrap().addresses.push(also.clone());
        }
    })
    .await;
    planet.body("/a").await;
    one.kill();
    let fresh = planet.publish();
    // It was not heard of for a moment, or is there already; in both cases this is the truth.
    let (_, receipt) = planet.control.purge(json!({"tags": ["t"]})).await;
    planet.control.until_state(&receipt["id"], "edge", "applied").await;
    assert_eq!(planet.body("/a").await, fresh);
    planet.control.until(&BOTH).await;
    let (status, receipt) = planet.control.purge(json!({"tags": ["t"]})).await;
    assert_eq!(status, 200, "{receipt}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_nats_purges_fail_clearly_and_nodes_know_that_they_are_behind() {
    let mut server = Server::new();
    let planet = Planet::under(server.control(), |config| config.sites[0].on_lag = OnLag::Revalidate).await;
    let before = planet.body("/a").await;
    server.kill();
    let (status, problem) = planet.control.purge(json!({"tags": ["t"]})).await;
    assert_eq!(status, 503, "{problem}");
    assert!(["log", "log-unknown"].contains(&problem["code"].as_str().unwrap()), "{problem}");
    planet.bed.until_metric("nearside_purge_log_connected 0").await;
    assert_eq!(planet.control.ask(Method::GET, "/readyz", &Value::Null, &[]).await.unwrap().0, 503);
    assert_eq!(planet.body("/a").await, before, "it goes on serving");
    let (status, problem) = planet.control.purge(json!({"tags": ["t"]})).await;
    assert_eq!((status, problem["code"].as_str()), (503, Some("log")), "{problem}");
    // What is stored is validated now.
    let asked = planet.asked.load(Ordering::SeqCst);
    for n in 0.. {
        planet.body("/a").await;
        if planet.asked.load(Ordering::SeqCst) > asked {
            break;
        }
        assert!(n < 1000, "it has never been behind");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    server.start();
    planet.control.until(&BOTH).await;
    let fresh = planet.publish();
    let (status, receipt) = planet.control.purge(json!({"tags": ["t"]})).await;
    assert_eq!((status, planet.body("/a").await), (200, fresh), "{receipt}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_set_back_and_went_on_leaves_no_node_with_what_it_has() {
    let mut server = Server::new();
    let planet = Planet::under(server.control(), |_| {}).await;
    for _ in 0..3 {
        planet.control.purge(json!({"tags": ["t"]})).await;
    }
    server.kill();
    let saved = server.folder.path().join("saved");
    copy(&server.store(), &saved);
    server.start();
    planet.control.until(&BOTH).await;
    for _ in 0..3 {
        assert_eq!(planet.control.purge(json!({"tags": ["t"]})).await.0, 200);
    }
    planet.body("/a").await;
    // The edge does not hear how the log goes on where it was before.
    planet.to_edge.cut.send_replace(true);
    planet.control.until(&[("edge", "unreachable"), ("shield", "ready")]).await;
    server.kill();
    std::fs::remove_dir_all(server.store()).unwrap();
    std::fs::rename(&saved, server.store()).unwrap();
    server.start();
    planet.control.until(&[("edge", "unreachable"), ("shield", "ready")]).await;
    let fresh = planet.publish();
    for n in 4..8 {
        let (status, receipt) = planet.control.purge(json!({"tags": ["t"]})).await;
        assert_eq!((status, receipt["seq"].as_u64()), (207, Some(n)), "{receipt}");
    }
    planet.to_edge.cut.send_replace(false);
    planet.control.until(&BOTH).await;
    // Its number, 6, was there again, and has been passed.
    assert_eq!(planet.body("/a").await, fresh);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_taken_away_begins_anew() {
    let mut server = Server::new();
    let planet = Planet::under(server.control(), |_| {}).await;
    assert_eq!(planet.control.purge(json!({"tags": ["t"]})).await.1["seq"], 1);
    planet.body("/a").await;
    let fresh = planet.publish();
    server.kill();
    std::fs::remove_dir_all(server.store()).unwrap();
    server.start();
    // What it has is stale: it cannot know what was purged.
    for n in 0.. {
        if planet.body("/a").await == fresh {
            break;
        }
        assert!(n < 1000, "it never begins anew");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    planet.control.until(&BOTH).await;
    planet.publish();
    let (status, receipt) = planet.control.purge(json!({"tags": ["t"]})).await;
    assert_eq!((status, receipt["seq"].as_u64()), (200, Some(1)), "{receipt}");
}
