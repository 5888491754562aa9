//! The memory that this process can have: the machine's, or less where a control group limits it (Linux).

use std::fs;
use std::path::Path;

/// An amount of memory, and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Available {
    pub(super) bytes: u64,
    /// "this machine", or "its control group".
    pub(super) of: &'static str,
}

/// The smallest limit that is known; `None` where the system does not tell.
pub(super) fn available() -> Option<Available> {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let machine = machine(&text("/proc/meminfo")).map(|bytes| Available { bytes, of: "this machine" });
    let group = group(&text("/proc/self/cgroup"), Path::new("/sys/fs/cgroup"))
        .map(|bytes| Available { bytes, of: "the control group of this process" });
    // Without a limit, version 1 tells a number larger than any memory.
    machine.into_iter().chain(group).min_by_key(|available| available.bytes)
}

/// `MemTotal` of `/proc/meminfo` (proc_meminfo(5)).
fn machine(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The limit of the control groups that a process is in (cgroups(7)), as `/proc/self/cgroup` names them: lines of
/// `hierarchy:controllers:path`. Each group above has its limit, too.
fn group(of_process: &str, mounted: &Path) -> Option<u64> {
    let limits = of_process.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
        let (root, file) = match controllers {
            "" => (mounted.to_owned(), "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (mounted.join("memory"), "memory.limit_in_bytes")
            }
            _ => return None,
        };
        // In a container the path may be one of the machine outside: then the group stands at the root.
        let groups = Path::new(path).ancestors().map(|above| root.join(above));
        groups.filter_map(|group| fs::read_to_string(group.join(file)).ok()?.trim().parse::<u64>().ok()).min()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_tells_its_memory() {
        assert_eq!(machine("MemTotal:       24683868 kB\nMemFree:        23521652 kB\n"), Some(24_683_868 * 1024));
        assert_eq!(machine(""), None);
        assert!(available().is_some_and(|available| available.bytes > 1 << 20));
    }

    #[test]
    fn the_smallest_limit_of_all_groups_above_counts() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(group("0::/a/b\n", folder.path()), None);
        write("a/b/memory.max", "max\n");
        write("a/memory.max", "1048576\n");
        assert_eq!(group("0::/a/b\n", folder.path()), Some(1 << 20));
        assert_eq!(group("0::/a\n", folder.path()), Some(1 << 20));
        write("a/b/memory.max", "4096\n");
        assert_eq!(group("0::/a/b\n", folder.path()), Some(4096));
        // Version 1.
        write("memory/docker/x/memory.limit_in_bytes", "8192\n");
        assert_eq!(group("5:cpu,memory:/docker/x\n4:cpuset:/\n", folder.path()), Some(8192));
        // As seen from inside of a container.
        write("memory.max", "2048\n");
        assert_eq!(group("0::/../machine/c\n", folder.path()), Some(2048));
    }
}
