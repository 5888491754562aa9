//! What the system tells of processes (proc_pid_stat(5)).

use std::fs;
use std::io;
use std::time::Duration;

/// A process at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProcessStat {
    pub(crate) parent: u32,
    /// What it has used of processors so far, in the system's ticks.
    pub(crate) ticks: u64,
}

impl ProcessStat {
    /// Of the process of this number.
    pub(crate) fn read(pid: u32) -> io::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // Behind the name, which may hold anything: fields 4, 14 and 15.
        let fields: Vec<_> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let number = |place: usize| fields.get(place).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        Ok(Self { parent: u32::try_from(number(1)).unwrap_or(0), ticks: number(11) + number(12) })
    }
}

/// How long so many ticks are.
pub(crate) fn cpu_time(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_a_parent_and_uses_processors() {
        let begin = ProcessStat::read(std::process::id()).unwrap();
        assert!(begin.parent > 0);
        let mut sum = 0_u64;
        while ProcessStat::read(std::process::id()).unwrap().ticks < begin.ticks + 2 {
            sum = std::hint::black_box((0..100_000_u64).fold(sum, u64::wrapping_add));
        }
        assert!(cpu_time(ProcessStat::read(std::process::id()).unwrap().ticks) > cpu_time(begin.ticks));
        assert!(ProcessStat::read(u32::MAX).is_err());
    }
}
