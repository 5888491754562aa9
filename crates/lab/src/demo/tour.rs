//! `nearside tour`: six features of a CDN, each shown by commands and their real output. Needs a
//! running demo.

use std::io::{IsTerminal, stdin};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use http::Method;

use crate::http_client::{Unreachable, send_now};

/// Feature, and the commands that show it.
struct TourStep {
    title: &'static str,
    why: &'static str,
    commands: &'static [&'static [&'static str]],
}

/// Beginnings of the lines of curl that are shown.
const SHOWN: [&str; 6] = ["http/", "location", "x-route", "cache-status", "age", "time"];
const TIMED: &str = "time: %{time_total} s\n";

static STEPS: [TourStep; 6] = [
    TourStep {
        title: "You are sent to the nearest edge",
        why: "From São Paulo, and from Seoul. X-Route tells why.",
        commands: &[&["curl", "-sI", "http://gru.localhost:8000/"], &["curl", "-sI", "http://icn.localhost:8000/"]],
    },
    TourStep {
        title: "The first to ask pays for the way to the origin; everybody after that does not",
        why: "The same page twice at the edge in Tokyo, as seen from Seoul. Cache-Status tells what each cache did, the nearest to the origin first.",
        commands: &[
            &["curl", "-s", "-D-", "-o", "/dev/null", "-w", TIMED, "http://nrt.icn.localhost:8000/planet.svg"],
            &["curl", "-s", "-D-", "-o", "/dev/null", "-w", TIMED, "http://nrt.icn.localhost:8000/planet.svg"],
            &["curl", "-s", "-D-", "-o", "/dev/null", "-w", TIMED, "http://origin.icn.localhost:8000/planet.svg"],
        ],
    },
    TourStep {
        title: "A purge proves itself on every node",
        why: "Each says when it has applied it: the farther away, the later.",
        commands: &[&["nearside", "purge", "--timeout", "10s", "--url", "http://demo.localhost/planet.svg"]],
    },
    TourStep {
        title: "An edge dies, and its users are sent elsewhere",
        why: "Seoul's edge is Tokyo; then Tokyo is killed.",
        commands: &[&["nearside", "demo", "fail", "edge-nrt"], &["curl", "-sI", "http://icn.localhost:8000/"]],
    },
    TourStep {
        title: "The origin dies, and what is cached is served on",
        why: "The edge in New York, as seen from Toronto, before and after.",
        commands: &[
            &["curl", "-s", "-D-", "-o", "/dev/null", "http://nyc.yyz.localhost:8000/"],
            &["nearside", "demo", "fail", "origin"],
            &["curl", "-s", "-D-", "-o", "/dev/null", "-w", TIMED, "http://nyc.yyz.localhost:8000/"],
        ],
    },
    TourStep {
        title: "All is healed",
        why: "Seoul goes to Tokyo again.",
        commands: &[&["nearside", "demo", "heal"], &["curl", "-sI", "http://icn.localhost:8000/"]],
    },
];

/// Walks through the steps at a terminal: each of their commands is shown, run, and its output shown.
///
/// # Errors
///
/// [`Unreachable`] where no demo runs; a command cannot be run, or fails.
pub fn tour() -> anyhow::Result<()> {
    if send_now(Method::GET, "http://127.0.0.1:7090/v1/demo", None).is_err() {
        let what = "no demo runs on this machine: start one with `nearside demo` in another terminal";
        return Err(Unreachable(what.to_owned()).into());
    }
    let waits = stdin().is_terminal();
    for (number, step) in STEPS.iter().enumerate() {
        outln!("\n{}. {}\n   {}", number + 1, step.title, step.why);
        for command in step.commands {
            run(command)?;
        }
        if waits && number + 1 < STEPS.len() {
            outln!("\n   (Enter goes on)");
            stdin().read_line(&mut String::new())?;
        }
    }
    Ok(())
}

/// Runs a command and prints its output.
fn run(command: &[&str]) -> anyhow::Result<()> {
    let [program, arguments @ ..] = command else { return Ok(()) };
    let told: Vec<_> =
        command.iter().map(|word| if word.contains(' ') { format!("{word:?}") } else { (*word).to_owned() }).collect();
    outln!("\n   $ {}", told.join(" "));
    let is_ours = *program == "nearside";
    let path = if is_ours { std::env::current_exe()? } else { program.into() };
    let output = Command::new(path).args(arguments).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("{program} cannot be run: install it"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let lines =
        text.lines().filter(|line| is_ours || SHOWN.iter().any(|shown| line.to_ascii_lowercase().starts_with(shown)));
    lines.for_each(|line| outln!("   {}", line.trim_end()));
    if !output.status.success() {
        bail!("{} has failed ({}): {}", told.join(" "), output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
