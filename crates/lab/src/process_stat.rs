//! CPU time and parent of processes, from `/proc` (proc_pid_stat(5)).

use std::fs;
use std::io;
use std::time::Duration;

/// State of a process at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProcessStat {
    pub(crate) parent: u32,
    /// CPU time used so far, in clock ticks of the system.
    pub(crate) ticks: u64,
}

impl ProcessStat {
    /// Reads the state of the process `pid`.
    ///
    /// # Errors
    ///
    /// There is no such process.
    pub(crate) fn read(pid: u32) -> io::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // Behind the name, which may hold anything: fields 4, 14 and 15.
        let fields: Vec<_> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let number = |place: usize| fields.get(place).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        Ok(Self { parent: u32::try_from(number(1)).unwrap_or(0), ticks: number(11) + number(12) })
    }
}

/// Converts clock ticks of the system to a duration.
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
