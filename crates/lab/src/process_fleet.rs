//! Processes of this program: start, watch, freeze, kill and stop them.

use std::convert::Infallible;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use http::Method;
use nearside_diagnostics::say;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use crate::http_client::send;
use crate::process_stat::{ProcessStat, cpu_time};

/// Time limit for a process to become ready.
const READY_MAX: Duration = Duration::from_secs(30);
/// Time limit for a process to stop. Then it is killed.
const STOP_MAX: Duration = Duration::from_secs(5);
/// Number of restarts of a process that ends unexpectedly, in total.
const RESTARTS_MAX: u32 = 5;
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Process to start.
#[derive(Debug, Clone)]
pub(crate) struct ProcessSpec {
    /// Unique name, for its files and for messages.
    pub(crate) name: String,
    /// Command line arguments, the subcommand first.
    pub(crate) args: Vec<String>,
    /// URL that answers 200 when the process is ready.
    pub(crate) ready_url: String,
}

/// Change of a fleet that runs. The response is the names of the stopped processes.
#[derive(Debug)]
pub(crate) enum FleetChange {
    /// Kills a process, which is not restarted.
    Stop { name: String, done: oneshot::Sender<anyhow::Result<Vec<String>>> },
    /// Starts a process that was stopped.
    Start { name: String, done: oneshot::Sender<anyhow::Result<Vec<String>>> },
    /// Starts all processes that were stopped.
    StartAll { done: oneshot::Sender<anyhow::Result<Vec<String>>> },
    /// Changes nothing.
    Stopped { done: oneshot::Sender<anyhow::Result<Vec<String>>> },
}

/// Processes that belong together, with a folder for their files.
#[derive(Debug)]
pub(crate) struct ProcessFleet {
    folder: PathBuf,
    secret: String,
    processes: Vec<RunningProcess>,
}

#[derive(Debug)]
struct RunningProcess {
    member: ProcessSpec,
    child: Child,
    restarts: u32,
}

impl ProcessFleet {
    /// Creates a fleet without processes, and its folder below the system's temporary folder.
    pub(crate) fn new(what: &str) -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("nearside-{what}-{}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(Self { folder, secret: random_secret()?, processes: Vec::new() })
    }

    /// Folder of the configurations and logs.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Number of log lines of all processes that contain `words`.
    pub(crate) fn log_lines_with(&self, words: &str) -> anyhow::Result<usize> {
        let lines = |process: &RunningProcess| {
            let path = self.file(&process.member.name, "log");
            let log = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            Ok(log.lines().filter(|line| line.contains(words)).count())
        };
        self.processes.iter().map(lines).sum()
    }

    /// Writes the configuration of a process, and returns the path of the file.
    pub(crate) fn configure(&self, name: &str, config: &str) -> anyhow::Result<String> {
        let path = self.file(name, "toml");
        fs::write(&path, config).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path.display().to_string())
    }

    /// Starts a process, and waits until it is ready.
    pub(crate) async fn start(&mut self, member: ProcessSpec) -> anyhow::Result<()> {
        let child = self.spawn(&member)?;
        let mut process = RunningProcess { member, child, restarts: 0 };
        let ready = self.wait_until_ready(&mut process).await;
        self.processes.push(process);
        ready
    }

    fn spawn(&self, member: &ProcessSpec) -> anyhow::Result<Child> {
        let log = |suffix: &str| File::options().create(true).append(true).open(self.file(&member.name, suffix));
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(&member.args)
            .env("NEARSIDE_SHIELD_SECRET", &self.secret)
            .env_remove("NEARSIDE_CONFIG")
            .stdin(Stdio::null())
            .stdout(log("access.log")?)
            .stderr(log("log")?)
            // Ctrl-C at the terminal is for us: we stop the others in order.
            .process_group(0)
            .kill_on_drop(true);
        command.spawn().with_context(|| format!("cannot start {}", member.name))
    }

    fn file(&self, name: &str, suffix: &str) -> PathBuf {
        self.folder.join(format!("{name}.{suffix}"))
    }

    async fn wait_until_ready(&self, process: &mut RunningProcess) -> anyhow::Result<()> {
        let end = Instant::now() + READY_MAX;
        while Instant::now() < end {
            if let Some(status) = process.child.try_wait()? {
                bail!("{}", self.obituary(&process.member.name, status));
            }
            let answer = send(Method::GET, &process.member.ready_url, None).await;
            if answer.is_ok_and(|answer| answer.status.is_success()) {
                // Somebody else may answer on a port that our process could not get.
                sleep(LOOK_AGAIN).await;
                return match process.child.try_wait()? {
                    None => Ok(()),
                    Some(status) => Err(anyhow::anyhow!("{}", self.obituary(&process.member.name, status))),
                };
            }
            sleep(LOOK_AGAIN).await;
        }
        bail!(
            "{} was not ready in {} s; see {}",
            process.member.name,
            READY_MAX.as_secs(),
            self.file(&process.member.name, "log").display()
        )
    }

    /// Message about a process that ended: its name, exit status and last log lines.
    fn obituary(&self, name: &str, status: ExitStatus) -> String {
        let log = fs::read_to_string(self.file(name, "log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last =
            lines.iter().skip(lines.len().saturating_sub(5)).map(|line| format!("\n  {line}")).collect::<String>();
        format!("{name} has ended ({status}); its last words:{last}")
    }

    /// Restarts processes that end, and applies `changes`, until one has ended more often than it
    /// may be restarted.
    pub(crate) async fn watch(&mut self, mut changes: mpsc::Receiver<FleetChange>) -> anyhow::Result<Infallible> {
        let mut stopped: Vec<ProcessSpec> = Vec::new();
        loop {
            if let Ok(Some(change)) = timeout(LOOK_AGAIN * 4, changes.recv()).await {
                self.change(change, &mut stopped).await;
            }
            for place in 0..self.processes.len() {
                let Some(process) = self.processes.get_mut(place) else { continue };
                let Some(status) = process.child.try_wait()? else { continue };
                let member = process.member.clone();
                process.restarts += 1;
                let restarts = process.restarts;
                let obituary = self.obituary(&member.name, status);
                if restarts > RESTARTS_MAX {
                    bail!("{obituary}\nit was started again {RESTARTS_MAX} times: the demo ends");
                }
                say(&format!("{obituary}\nstarting it again"));
                let child = self.spawn(&member)?;
                let mut process = RunningProcess { member, child, restarts };
                self.wait_until_ready(&mut process).await?;
                if let Some(slot) = self.processes.get_mut(place) {
                    *slot = process;
                }
            }
        }
    }

    /// Applies a change. The sender may no longer wait for the result.
    async fn change(&mut self, change: FleetChange, stopped: &mut Vec<ProcessSpec>) {
        let (done, result) = match change {
            FleetChange::Stop { name, done } => {
                if let Some(member) = self.kill(&name).await {
                    stopped.push(member);
                }
                (done, Ok(()))
            }
            FleetChange::Start { name, done } => (done, self.start_again(stopped, |member| member.name == name).await),
            FleetChange::StartAll { done } => (done, self.start_again(stopped, |_| true).await),
            FleetChange::Stopped { done } => (done, Ok(())),
        };
        let names = stopped.iter().map(|member| member.name.clone()).collect();
        let _ = done.send(result.map(|()| names));
    }

    async fn start_again(
        &mut self,
        stopped: &mut Vec<ProcessSpec>,
        which: impl Fn(&ProcessSpec) -> bool,
    ) -> anyhow::Result<()> {
        while let Some(place) = stopped.iter().position(&which) {
            self.start(stopped.swap_remove(place)).await?;
        }
        Ok(())
    }

    /// Stops the process called `name`.
    pub(crate) async fn stop(&mut self, name: &str) {
        if let Some(place) = self.processes.iter().position(|process| process.member.name == name) {
            end(&mut self.processes.swap_remove(place)).await;
        }
    }

    /// Kills the process called `name` and starts it again.
    pub(crate) async fn kill_and_start(&mut self, name: &str) -> anyhow::Result<()> {
        let member = self.kill(name).await.context("it does not run")?;
        self.start(member).await
    }

    /// Kills the process called `name`, and returns what it takes to start it again; `None` if it
    /// does not run.
    pub(crate) async fn kill(&mut self, name: &str) -> Option<ProcessSpec> {
        let place = self.processes.iter().position(|process| process.member.name == name)?;
        let mut process = self.processes.swap_remove(place);
        // It may have ended already.
        let _ = process.child.kill().await;
        Some(process.member)
    }

    /// Sends a signal to the process called `name`.
    pub(crate) fn signal(&self, name: &str, signal: Signal) {
        if let Some(process) = self.processes.iter().find(|process| process.member.name == name) {
            send_signal(process, signal);
        }
    }

    /// Process id of the process called `name`.
    pub(crate) fn pid(&self, name: &str) -> Option<u32> {
        self.processes.iter().find(|process| process.member.name == name)?.child.id()
    }

    /// CPU time that all processes have used so far.
    pub(crate) fn processor_time(&self) -> anyhow::Result<Duration> {
        let mut ticks = 0;
        for pid in self.processes.iter().filter_map(|process| process.child.id()) {
            ticks += ProcessStat::read(pid)?.ticks;
        }
        Ok(cpu_time(ticks))
    }

    /// Resident memory of all processes, in bytes. Shared pages count once for each process.
    pub(crate) fn memory(&self) -> anyhow::Result<u64> {
        let mut kib = 0;
        for pid in self.processes.iter().filter_map(|process| process.child.id()) {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB"));
            kib += line.context("the system does not tell")?.trim().parse::<u64>()?;
        }
        Ok(kib * 1024)
    }

    /// Stops all processes in the reverse of their start order, so those that face clients stop
    /// first.
    pub(crate) async fn stop_all(&mut self) {
        for process in self.processes.iter().rev() {
            send_signal(process, Signal::TERM);
        }
        for mut process in self.processes.drain(..).rev() {
            end(&mut process).await;
        }
    }
}

fn send_signal(process: &RunningProcess, signal: Signal) {
    let pid = process.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended already.
        let _ = kill_process(pid, signal);
    }
}

async fn end(process: &mut RunningProcess) {
    send_signal(process, Signal::TERM);
    if timeout(STOP_MAX, process.child.wait()).await.is_err() {
        say(&format!("{} does not stop: killed", process.member.name));
        let _ = process.child.kill().await;
    }
}

/// Secret that only the processes of one fleet know.
fn random_secret() -> anyhow::Result<String> {
    use std::io::Read;
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
