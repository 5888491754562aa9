//! The processes of the demo: started, watched, stopped.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use http::Method;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::nodes::{NODES, Node};
use crate::admin_client::send;

/// A process that is not ready by then will not be.
const READY_MAX: Duration = Duration::from_secs(30);
/// A process that has not stopped by then is killed.
const STOP_MAX: Duration = Duration::from_secs(5);
/// A process that ends is started again, but not more often than this in all.
const RESTARTS_MAX: u32 = 5;
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// All processes of the demo.
#[derive(Debug)]
pub(crate) struct Fleet {
    folder: PathBuf,
    secret: String,
    processes: Vec<Process>,
}

#[derive(Debug)]
struct Process {
    node: &'static Node,
    child: Child,
    restarts: u32,
}

impl Fleet {
    /// A fleet that has not started. Its files are in a folder of its own below the system's temporary folder.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("nearside-demo-{}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        for node in &NODES {
            if let Some(config) = node.config {
                fs::write(folder.join(format!("{}.toml", node.name)), config)?;
            }
        }
        Ok(Self { folder, secret: random_secret()?, processes: Vec::new() })
    }

    /// Where the logs are.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts all processes, each once those before it are ready.
    pub(crate) async fn start_all(&mut self) -> anyhow::Result<()> {
        for node in &NODES {
            self.start(node).await?;
        }
        Ok(())
    }

    /// Starts the process called `name` again, after [`Self::stop`].
    pub(crate) async fn start_again(&mut self, name: &str) -> anyhow::Result<()> {
        let node = NODES.iter().find(|node| node.name == name).context("no such node")?;
        self.start(node).await
    }

    async fn start(&mut self, node: &'static Node) -> anyhow::Result<()> {
        let child = self.spawn(node)?;
        let mut process = Process { node, child, restarts: 0 };
        let ready = self.wait_until_ready(&mut process).await;
        self.processes.push(process);
        ready
    }

    fn spawn(&self, node: &Node) -> anyhow::Result<Child> {
        let log = |suffix: &str| File::options().create(true).append(true).open(self.file(node, suffix));
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(node.role);
        match node.config {
            Some(_) => command.arg("--config").arg(self.file(node, "toml")),
            None => command.arg("--listen").arg(format!("127.0.0.1:{}", node.port)),
        };
        command
            .env("NEARSIDE_SHIELD_SECRET", &self.secret)
            .env_remove("NEARSIDE_CONFIG")
            .stdin(Stdio::null())
            .stdout(log("access.log")?)
            .stderr(log("log")?)
            // Ctrl-C at the terminal is for us: we stop the others in order.
            .process_group(0)
            .kill_on_drop(true);
        command.spawn().with_context(|| format!("cannot start {}", node.name))
    }

    fn file(&self, node: &Node, suffix: &str) -> PathBuf {
        self.folder.join(format!("{}.{suffix}", node.name))
    }

    async fn wait_until_ready(&self, process: &mut Process) -> anyhow::Result<()> {
        let end = Instant::now() + READY_MAX;
        while Instant::now() < end {
            if let Some(status) = process.child.try_wait()? {
                bail!("{}", self.obituary(process.node, status));
            }
            let answer = send(Method::GET, &process.node.ready_url(), None).await;
            if answer.is_ok_and(|answer| answer.status.is_success()) {
                // Somebody else may answer on a port that our process could not get.
                sleep(LOOK_AGAIN).await;
                return match process.child.try_wait()? {
                    None => Ok(()),
                    Some(status) => Err(anyhow::anyhow!("{}", self.obituary(process.node, status))),
                };
            }
            sleep(LOOK_AGAIN).await;
        }
        bail!(
            "{} was not ready in {} s; see {}",
            process.node.name,
            READY_MAX.as_secs(),
            self.file(process.node, "log").display()
        )
    }

    /// Which process ended, how, and its last words.
    fn obituary(&self, node: &Node, status: ExitStatus) -> String {
        let log = fs::read_to_string(self.file(node, "log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last =
            lines.iter().skip(lines.len().saturating_sub(5)).map(|line| format!("\n  {line}")).collect::<String>();
        format!("{} has ended ({status}); its last words:{last}", node.name)
    }

    /// Watches until a process dies for good; one that merely dies is started again.
    pub(crate) async fn watch(&mut self) -> anyhow::Result<ExitCode> {
        loop {
            sleep(LOOK_AGAIN * 4).await;
            for place in 0..self.processes.len() {
                let Some(process) = self.processes.get_mut(place) else { continue };
                let (node, Some(status)) = (process.node, process.child.try_wait()?) else { continue };
                process.restarts += 1;
                let restarts = process.restarts;
                let obituary = self.obituary(node, status);
                if restarts > RESTARTS_MAX {
                    bail!("{obituary}\nit was started again {RESTARTS_MAX} times: the demo ends");
                }
                eprintln!("{obituary}\nstarting it again");
                let child = self.spawn(node)?;
                let mut process = Process { node, child, restarts };
                self.wait_until_ready(&mut process).await?;
                if let Some(slot) = self.processes.get_mut(place) {
                    *slot = process;
                }
            }
        }
    }

    /// Stops the process called `name`.
    pub(crate) async fn stop(&mut self, name: &str) {
        if let Some(place) = self.processes.iter().position(|process| process.node.name == name) {
            end(&mut self.processes.swap_remove(place)).await;
        }
    }

    /// Stops all, those that face clients first.
    pub(crate) async fn stop_all(&mut self) {
        for process in self.processes.iter().rev() {
            terminate(process);
        }
        for mut process in self.processes.drain(..).rev() {
            end(&mut process).await;
        }
    }
}

fn terminate(process: &Process) {
    let pid = process.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended already.
        let _ = kill_process(pid, Signal::TERM);
    }
}

async fn end(process: &mut Process) {
    terminate(process);
    if timeout(STOP_MAX, process.child.wait()).await.is_err() {
        eprintln!("{} does not stop: killed", process.node.name);
        let _ = process.child.kill().await;
    }
}

/// Known to this demo's processes only.
fn random_secret() -> anyhow::Result<String> {
    use std::io::Read;
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
