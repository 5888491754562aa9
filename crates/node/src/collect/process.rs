//! The process itself, under the names that Prometheus' own clients use; read from `/proc`, and left out where there is none.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// `USER_HZ`, in which Linux counts for user space on every platform that this runs on (proc_pid_stat(5)).
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads `/proc/self` at each scrape.
#[derive(Debug)]
pub(super) struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        if let Some(seconds) = cpu_seconds() {
            let help = "CPU time of the process. Set it against the requests: what one costs";
            let metric = encoder.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?;
            ConstCounter::new(seconds).encode(metric)?;
        }
        let gauges = [
            (
                "process_resident_memory_bytes",
                "Memory of the process. cache.memory bounds what is stored of it",
                resident_bytes(),
            ),
            (
                "process_open_fds",
                "Open files and sockets. At process_max_fds no connection is taken any more",
                open_files(),
            ),
            (
                "process_max_fds",
                "Files and sockets that may be open. Raise it by LimitNOFILE or ulimit -n",
                files_max(),
            ),
            (
                "process_start_time_seconds",
                "When the process was started, in seconds since 1970. Where nobody started it anew, look in its log why it ended",
                start_seconds(),
            ),
        ];
        for (name, help, value) in gauges {
            if let Some(value) = value {
                ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
            }
        }
        Ok(())
    }
}

/// The fields of `/proc/self/stat` behind the name, which may hold anything: the first is the third of proc_pid_stat(5).
fn stat(field: usize) -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(field.checked_sub(3)?)?.parse().ok()
}

fn cpu_seconds() -> Option<f64> {
    Some((stat(14)? + stat(15)?) / TICKS_PER_SECOND)
}

fn start_seconds() -> Option<u64> {
    let boot: u64 = line("/proc/stat", "btime")?.parse().ok()?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "seconds since the machine was started"
    )]
    Some(boot + (stat(22)? / TICKS_PER_SECOND) as u64)
}

fn resident_bytes() -> Option<u64> {
    let kib: u64 = line("/proc/self/status", "VmRSS:")?.split(' ').next()?.parse().ok()?;
    Some(kib * 1024)
}

fn open_files() -> Option<u64> {
    let open = std::fs::read_dir("/proc/self/fd").ok()?.count();
    // The folder itself was one of them.
    u64::try_from(open).ok()?.checked_sub(1)
}

fn files_max() -> Option<u64> {
    line("/proc/self/limits", "Max open files")?.split_whitespace().next()?.parse().ok()
}

/// What stands behind `name` on its line of a file.
fn line(path: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_linux_tells_is_read() {
        assert!(cpu_seconds().is_some_and(|seconds| seconds >= 0.0));
        assert!(resident_bytes().is_some_and(|bytes| bytes > 1 << 20));
        assert!(open_files().is_some_and(|open| (3..10_000).contains(&open)));
        assert!(files_max().is_some_and(|most| most >= open_files().unwrap()));
        let now = nearside_telemetry::clock::Clock::System.wall().as_secs();
        assert!(start_seconds().is_some_and(|start| start <= now && now - start < 24 * 3600));
    }
}
