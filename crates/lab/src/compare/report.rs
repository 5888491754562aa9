//! Report: tables, ratios, charts, and the figures in which other servers are better.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context;
use nearside_loadtest::Bars;

use super::CompareArgs;
use super::measure::{CompareResults, ServerFigures};
use super::peers::{OURS, PeerServers};

/// Relative difference below which two figures count as equal: medians of two runs differ by as
/// much.
const NOISE: f64 = 0.05;

/// Machine, versions and command of a run.
pub(super) struct ReportSetting {
    machine: String,
    versions: Vec<(String, String)>,
    command: String,
    rounds: u16,
    rate: u32,
    herd: usize,
    objects: u32,
}

impl ReportSetting {
    pub(super) fn of(args: &CompareArgs, peers: &PeerServers) -> anyhow::Result<Self> {
        let cpus = fs::read_to_string("/proc/cpuinfo")?;
        let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        let model = model.map_or("a processor that does not tell its name", |(_, model)| model.trim());
        let cores = cpus.lines().filter(|line| line.starts_with("processor")).count();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
        let kernel = kernel.split(['-', '+']).next().unwrap_or_default().trim();
        let mut command = "nearside loadtest compare".to_owned();
        // Only what differs from what it is by itself.
        let flags = [
            (args.rounds != 3).then(|| format!("--rounds {}", args.rounds)),
            (args.duration.0.as_secs() != 4).then(|| format!("--duration {}s", args.duration.0.as_secs())),
            (args.rate != 10_000).then(|| format!("--rate {}", args.rate)),
            (args.objects != 50_000).then(|| format!("--objects {}", args.objects)),
            (args.herd != 500).then(|| format!("--herd {}", args.herd)),
            (args.with.len() != super::NAMES.len()).then(|| format!("--with {}", args.with.join(","))),
        ];
        flags.into_iter().flatten().for_each(|flag| command = format!("{command} {flag}"));
        Ok(Self {
            machine: format!("{cores} cores of {model}, Linux {kernel}"),
            versions: peers.servers.iter().map(|server| (server.name.clone(), server.version.clone())).collect(),
            command,
            rounds: args.rounds,
            rate: args.rate,
            herd: args.herd,
            objects: args.objects,
        })
    }
}

/// Writes `compare.md` and its charts, and prints the ratios.
pub(super) fn write(folder: &Path, results: &CompareResults, setting: &ReportSetting) -> anyhow::Result<()> {
    let report =
        CompareReport { results, setting, names: setting.versions.iter().map(|(name, _)| name.as_str()).collect() };
    let text = report.text()?;
    let put = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    for (name, bars) in report.charts() {
        put(name, &bars.svg().map_err(|error| anyhow::anyhow!("{name}: {error}"))?)?;
    }
    put("compare.md", &text)?;
    outln!("{}", report.ratios());
    outln!("{}", folder.join("compare.md").display());
    Ok(())
}

struct CompareReport<'r> {
    results: &'r CompareResults,
    setting: &'r ReportSetting,
    /// Names of the servers, ours first.
    names: Vec<&'r str>,
}

/// Row of a table: one figure of one measurement.
struct FigureRow<'r> {
    what: String,
    figures: &'r ServerFigures,
    name: &'static str,
    digits: usize,
    /// Whether a larger value is better.
    more: bool,
}

impl FigureRow<'_> {
    fn of(&self, server: &str) -> Option<f64> {
        self.figures.get(server)?.get(self.name).copied()
    }

    /// Our value divided by the value of another server.
    fn ratio(&self, server: &str) -> Option<f64> {
        let (ours, theirs) = (self.of(OURS)?, self.of(server)?);
        (theirs > 0.0).then(|| ours / theirs)
    }
}

impl<'r> CompareReport<'r> {
    fn rows(&self) -> Vec<(&'static str, Vec<FigureRow<'r>>)> {
        let row = |what: &str, figures: &'r ServerFigures, name, digits, more| {
            let what = what.to_owned();
            FigureRow { what, figures, name, digits, more }
        };
        let CompareResults { full, own, steady, mixed, misses, herd, memory } = self.results;
        let mut hits = Vec::new();
        for (size, figures) in full {
            hits.push(row(&format!("{} KiB, µs of processor per hit", size >> 10), figures, "cpu", 1, false));
        }
        for (size, figures) in full {
            hits.push(row(&format!("{} KiB, hits per second", size >> 10), figures, "rate", 0, true));
        }
        vec![
            ("Hits, as many as are answered", hits),
            (
                "The same by another client",
                vec![row(
                    "1 KiB, µs of processor per hit, asked by `nearside loadtest --rate max`",
                    own,
                    "cpu",
                    1,
                    false,
                )],
            ),
            (
                "Hits at an equal rate",
                vec![
                    row("p50, ms", steady, "p50", 2, false),
                    row("p99, ms", steady, "p99", 2, false),
                    row("p99.9, ms", steady, "p999", 2, false),
                    row("µs of processor per hit", steady, "cpu", 1, false),
                ],
            ),
            (
                "A mix",
                vec![
                    row("p50, ms", mixed, "p50", 2, false),
                    row("p99, ms", mixed, "p99", 2, false),
                    row("p99.9, ms", mixed, "p999", 2, false),
                    row("µs of processor per request", mixed, "cpu", 1, false),
                    row("share of requests that reach the origin", mixed, "origin", 3, false),
                ],
            ),
            (
                "Misses",
                vec![row("p99, ms", misses, "p99", 2, false), row("µs of processor per miss", misses, "cpu", 1, false)],
            ),
            (
                "A herd",
                vec![
                    row("requests to the origin", herd, "origin", 0, false),
                    row("clients without the whole object", herd, "failed", 0, false),
                    row("seconds until the last one has it", herd, "seconds", 2, false),
                ],
            ),
            ("Memory", vec![row("bytes for each object of 1 KiB", memory, "bytes", 0, false)]),
        ]
    }

    fn about(&self, section: &str) -> String {
        let ReportSetting { rate, herd, objects, .. } = self.setting;
        match section {
            "Hits, as many as are answered" => "64 connections of `wrk`, one thread. ![Processor time of a hit](compare-cpu.svg)".to_owned(),
            "The same by another client" => self.agreement(),
            "Hits at an equal rate" => format!(
                "{rate} per second of 1 KiB, open loop over 64 connections: waiting counts. ![Latency at an equal rate](compare-latency.svg)"
            ),
            "A mix" => "3,000 per second, open loop: 2,000 objects, Zipf 0.9, log-normal sizes around 8 KiB, all stored; and 5 % that nobody has asked for.".to_owned(),
            "Misses" => "2,000 per second of 1 KiB, each of another object, stored. The origin shares the core of what asks.".to_owned(),
            "A herd" => format!(
                "{herd} clients within 100 ms for one object of 1 MB that nobody has, and that takes a second to come. \
                 ![Requests to the origin in the herd](compare-herd.svg)"
            ),
            _ => format!(
                "What {objects} objects of 1 KiB, each asked for twice, add to the memory of all processes (proportional set size) and to files in \
                 memory, of servers just started. Nothing is known of those that take all their memory at the beginning, as HAProxy, or \
                 keep objects on a disk first, as Traffic Server. ![Memory of an object](compare-memory.svg)"
            ),
        }
    }

    /// Text about how well `wrk` and our load generator agree.
    fn agreement(&self) -> String {
        let Some((_, wrk)) = self.results.full.first() else { return String::new() };
        let share = |server: &&str| {
            let cpu = |figures: &ServerFigures| figures.get(*server)?.get("cpu").copied();
            Some(format!("{server} {:.2}", cpu(&self.results.own)? / cpu(wrk)?))
        };
        let shares: Vec<_> = self.names.iter().filter_map(share).collect();
        format!(
            "`wrk` costs its core less, so that it keeps servers busier, and a busy server does more each time it wakes. What a hit costs \
             asked by `nearside loadtest`, as a share of what `wrk` says: {}.",
            shares.join(", ")
        )
    }

    fn text(&self) -> anyhow::Result<String> {
        let mut text = String::new();
        let ReportSetting { machine, versions, command, rounds, .. } = self.setting;
        let versions: Vec<_> = versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        writeln!(
            text,
            "# Beside other caches\n\nMade by `{command}`, medians of {rounds} rounds in which the servers took turns.\n\n\
             **The machine.** {machine}; all servers on its first core, what asks them and the origin (`nearside origin-sim`) on its \
             second, everything on the loopback. One thread each, caches in memory, the same objects. How the others are set:\n\
             [`loadtest/peers`](../../loadtest/peers); this program: `nearside edge --threads 1 --memory 1GiB`, access log and metrics on (into \
             `/dev/null`); theirs are off.\n\n**Versions.** {}.\n\n\
             In brackets the share of it that Nearside takes: below 1 it needs less (of rates: above 1 it gives more). Requests per second and \
             latencies of a machine that others use too say less than the processor's time.",
            versions.join(", ")
        )?;
        for (section, rows) in self.rows() {
            writeln!(text, "\n## {section}\n\n{}\n", self.about(section).replace(" ![", "\n\n!["))?;
            writeln!(text, "| | {} |\n|---|{}", self.names.join(" | "), "---|".repeat(self.names.len()))?;
            for row in rows {
                writeln!(text, "{}", self.line(&row))?;
            }
        }
        writeln!(text, "\n## Where others are better\n")?;
        let losses = self.losses();
        if losses.is_empty() {
            writeln!(text, "In nothing of the above by more than {:.0} %.", 100.0 * NOISE)?;
        }
        losses.iter().try_for_each(|loss| writeln!(text, "* {loss}"))?;
        Ok(text)
    }

    fn line(&self, row: &FigureRow<'_>) -> String {
        let cell = |server: &&str| match (row.of(server), row.ratio(server)) {
            (None, _) => "–".to_owned(),
            (Some(value), Some(ratio)) if *server != OURS => format!("{value:.*} ({ratio:.2})", row.digits),
            (Some(value), _) => format!("{value:.*}", row.digits),
        };
        format!("| {} | {} |", row.what, self.names.iter().map(cell).collect::<Vec<_>>().join(" | "))
    }

    fn losses(&self) -> Vec<String> {
        let mut losses = Vec::new();
        for (section, rows) in self.rows() {
            for row in rows {
                for server in self.names.iter().filter(|server| **server != OURS) {
                    let Some((ours, theirs)) = row.of(OURS).zip(row.of(server)) else { continue };
                    let (better, worse) = if row.more { (ours, theirs) } else { (theirs, ours) };
                    if worse > better * (1.0 + NOISE) {
                        losses.push(format!(
                            "{section}: {}: {server} {theirs:.*}, Nearside {ours:.*}",
                            row.what, row.digits, row.digits
                        ));
                    }
                }
            }
        }
        losses
    }

    /// Ratios for the terminal: our value divided by that of each other server.
    fn ratios(&self) -> String {
        let mut text = format!("\nNearside's share of what others need (of rates: give)\n{:<62}", "");
        for server in self.names.iter().filter(|server| **server != OURS) {
            let _ = write!(text, "{server:>14}");
        }
        for (section, rows) in self.rows() {
            let _ = write!(text, "\n{section}");
            for row in rows {
                let _ = write!(text, "\n  {:<60}", row.what.chars().take(59).collect::<String>());
                for server in self.names.iter().filter(|server| **server != OURS) {
                    let ratio = row.ratio(server).map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
                    let _ = write!(text, "{ratio:>14}");
                }
            }
        }
        text.push('\n');
        text
    }

    fn charts(&self) -> Vec<(&'static str, Bars<'r>)> {
        let CompareResults { full, steady, herd, memory, .. } = self.results;
        let value = |figures: &ServerFigures, server: &str, name: &str| figures.get(server)?.get(name).copied();
        let bars = |heights: &dyn Fn(&str) -> Vec<Option<f64>>| -> Vec<(&'r str, Vec<Option<f64>>)> {
            self.names.iter().map(|name| (*name, heights(name))).collect()
        };
        vec![
            (
                "compare-cpu.svg",
                Bars {
                    y: "µs of processor per hit",
                    groups: vec!["1 KiB", "16 KiB", "128 KiB"],
                    bars: bars(&|server| full.iter().map(|(_, figures)| value(figures, server, "cpu")).collect()),
                },
            ),
            (
                "compare-latency.svg",
                Bars {
                    y: "ms",
                    groups: vec!["p50", "p99", "p99.9"],
                    bars: bars(&|server| ["p50", "p99", "p999"].map(|name| value(steady, server, name)).to_vec()),
                },
            ),
            (
                "compare-herd.svg",
                Bars {
                    y: "requests",
                    groups: vec!["requests to the origin"],
                    bars: bars(&|server| vec![value(herd, server, "origin")]),
                },
            ),
            (
                "compare-memory.svg",
                Bars {
                    y: "bytes",
                    groups: vec!["bytes for each object of 1 KiB"],
                    bars: bars(&|server| vec![value(memory, server, "bytes")]),
                },
            ),
        ]
    }
}
