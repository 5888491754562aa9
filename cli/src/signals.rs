//! Signals: what stops a process, and what it only takes note of.
//!
//! By default nearly every signal ends a process at once. Operators, service managers, log rotation and closed terminals send
//! some out of habit, so a process that serves lives through all that do not ask it to stop. SIGKILL, SIGSTOP and those of job
//! control (SIGTSTP, SIGTTIN, SIGTTOU, SIGCONT) keep their meaning.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use nearside_lab::errln;
use rustix::process::Signal as Number;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Stop,
    /// Reload the configuration, which cannot be done yet.
    Reload,
    /// Open log files anew.
    Reopen,
    Nothing,
}

/// The signals of a process that runs until it is told to stop. While this lives none of them ends the process.
#[derive(Debug)]
pub(crate) struct Signals(Vec<Listened>);

#[derive(Debug)]
struct Listened {
    name: &'static str,
    meaning: Meaning,
    signal: Signal,
}

impl Signals {
    /// Those of a server. The end of a terminal (SIGHUP) does not stop it.
    pub(crate) fn of_server() -> io::Result<Self> {
        Self::listen(Meaning::Reload)
    }

    /// Those of a command with processes of its own, which end with it. It ends with its terminal, unless it was started to
    /// outlive it (`nohup`).
    pub(crate) fn of_command() -> io::Result<Self> {
        Self::listen(if hang_up_is_ignored() { Meaning::Nothing } else { Meaning::Stop })
    }

    fn listen(hang_up: Meaning) -> io::Result<Self> {
        let all = [
            ("SIGTERM", Number::TERM, Meaning::Stop),
            ("SIGINT", Number::INT, Meaning::Stop),
            // As nginx takes it, and what container images stop it with.
            ("SIGQUIT", Number::QUIT, Meaning::Stop),
            ("SIGHUP", Number::HUP, hang_up),
            ("SIGUSR1", Number::USR1, Meaning::Reopen),
            ("SIGUSR2", Number::USR2, Meaning::Reload),
            ("SIGALRM", Number::ALARM, Meaning::Nothing),
            ("SIGVTALRM", Number::VTALARM, Meaning::Nothing),
            ("SIGPROF", Number::PROF, Meaning::Nothing),
            ("SIGIO", Number::IO, Meaning::Nothing),
            ("SIGXCPU", Number::XCPU, Meaning::Nothing),
            // A log file at its limit of size: the write fails, which the log counts.
            ("SIGXFSZ", Number::XFSZ, Meaning::Nothing),
        ];
        let listened = all.into_iter().map(|(name, number, meaning)| -> io::Result<Listened> {
            let signal = signal(SignalKind::from_raw(number.as_raw()))?;
            Ok(Listened { name, meaning, signal })
        });
        Ok(Self(listened.collect::<io::Result<_>>()?))
    }

    /// Waits until the process is told to stop. Takes note of all other signals; `reopen` opens log files anew.
    pub(crate) async fn stop_with(&mut self, reopen: impl Fn()) {
        loop {
            match self.recv().await {
                (name, Meaning::Stop) => return tracing::debug!("{name} received"),
                (_, Meaning::Reopen) => reopen(),
                (name, Meaning::Reload) => {
                    note(&format!("{name} received: reload is not supported yet; restart to apply changes"));
                }
                (name, Meaning::Nothing) => note(&format!("{name} received and ignored")),
            }
        }
    }

    /// The same for a process without log files.
    pub(crate) async fn stop(&mut self) {
        self.stop_with(|| note("SIGUSR1 received and ignored: there is no log file to open anew")).await;
    }

    /// Waits until a process that is stopping is told from a terminal to stop at once. A second SIGTERM does not say so:
    /// service managers send it to each process and to its group.
    pub(crate) async fn hurry(&mut self) {
        loop {
            match self.recv().await {
                (name @ ("SIGINT" | "SIGQUIT"), _) => return tracing::debug!("{name} received"),
                (name, _) => note(&format!("{name} received and ignored: the process is stopping")),
            }
        }
    }

    async fn recv(&mut self) -> (&'static str, Meaning) {
        poll_fn(|cx| {
            for Listened { name, meaning, signal } in &mut self.0 {
                if signal.poll_recv(cx).is_ready() {
                    return Poll::Ready((*name, *meaning));
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// Says something in the log, or where there is none, on standard error.
fn note(text: &str) {
    if tracing::dispatcher::has_been_set() {
        tracing::warn!("{text}");
    } else {
        errln!("{text}");
    }
}

/// Whether the process was started with SIGHUP ignored, as `nohup` does (proc_pid_status(5)).
fn hang_up_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // Signal 1 is the lowest bit.
    mask.is_some_and(|mask| mask & 1 != 0)
}
