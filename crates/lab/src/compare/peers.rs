//! Servers of the comparison: start, processes, CPU time and memory of each.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use http::Method;
use rustix::process::{Pid, Signal, getuid, kill_process, kill_process_group};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::http_client::send;
use crate::ports::free_ports;
use crate::process_stat::{ProcessStat, cpu_time};

/// Names of the other servers.
pub(super) const NAMES: [&str; 4] = ["nginx", "varnish", "trafficserver", "haproxy"];
/// Name of this program.
pub(super) const OURS: &str = "nearside";

/// Name, program and Debian package of each server.
const PROGRAMS: [(&str, &str, &str); 4] = [
    ("nginx", "nginx", "nginx-light"),
    ("varnish", "varnishd", "varnish"),
    ("trafficserver", "traffic_server", "trafficserver"),
    ("haproxy", "haproxy", "haproxy"),
];
const READY_MAX: Duration = Duration::from_secs(30);
const STOP_MAX: Duration = Duration::from_secs(10);

/// Checks that all programs are installed; the error says which packages are missing.
pub(super) fn are_installed(names: &[String]) -> anyhow::Result<()> {
    let wanted = PROGRAMS.iter().filter(|(name, ..)| names.iter().any(|wanted| wanted == name));
    let wanted = wanted.map(|(_, program, package)| (*program, *package));
    let others = [("wrk", "wrk"), ("taskset", "util-linux")];
    let missing: Vec<_> = wanted.chain(others).filter(|(program, _)| find(program).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let programs: Vec<_> = missing.iter().map(|(program, _)| *program).collect();
    let packages: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
    bail!(
        "not installed: {}\non Debian: apt-get install --no-install-recommends {}\nor leave some out: --with nginx,haproxy",
        programs.join(", "),
        packages.join(" ")
    )
}

/// Finds a program in `PATH`, and where Debian installs servers.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/bin"].map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// All servers of the comparison, and the origin.
pub(super) struct PeerServers {
    folder: PathBuf,
    pub(super) origin: u16,
    pub(super) servers: Vec<PeerServer>,
    children: Vec<Child>,
}

/// Running server.
pub(super) struct PeerServer {
    pub(super) name: String,
    /// Version that the program prints.
    pub(super) version: String,
    pub(super) port: u16,
    pid: u32,
    /// Folder of its cache files on a file system in memory.
    cache: Option<PathBuf>,
}

impl PeerServer {
    pub(super) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// CPU time that all its processes have used so far.
    pub(super) fn processor_time(&self) -> anyhow::Result<Duration> {
        let processes = processes()?;
        ensure!(processes.contains_key(&self.pid), "{} does not run any more", self.name);
        let family = family(&processes, self.pid);
        Ok(cpu_time(family.iter().filter_map(|pid| processes.get(pid)).map(|stat| stat.ticks).sum()))
    }

    /// Memory of all its processes in bytes, in which shared pages count once, plus its cache files
    /// in memory.
    pub(super) fn memory(&self) -> anyhow::Result<u64> {
        let mut bytes = 0;
        for pid in family(&processes()?, self.pid) {
            let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
            let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix("kB"));
            bytes += line.and_then(|kib| kib.trim().parse::<u64>().ok()).unwrap_or(0) * 1024;
        }
        Ok(bytes + self.cache.as_deref().map_or(0, size_of))
    }
}

/// Size of the blocks of all files below a folder, in bytes.
fn size_of(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(about) if about.is_dir() => size_of(&entry.path()),
        Ok(about) => about.blocks() * 512,
        Err(_) => 0,
    };
    entries.map(size).sum()
}

/// All processes of the system by their process ids.
fn processes() -> anyhow::Result<BTreeMap<u32, ProcessStat>> {
    let numbers = fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // One may have ended meanwhile.
    Ok(numbers.filter_map(|pid| Some((pid, ProcessStat::read(pid).ok()?))).collect())
}

/// A process and its descendants.
fn family(processes: &BTreeMap<u32, ProcessStat>, root: u32) -> Vec<u32> {
    let mut family = vec![root];
    let mut place = 0;
    while let Some(parent) = family.get(place).copied() {
        family.extend(processes.iter().filter(|(_, stat)| stat.parent == parent).map(|(pid, _)| *pid));
        place += 1;
    }
    family
}

impl PeerServers {
    /// Creates a comparison without servers, and its folder.
    pub(super) fn new() -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("nearside-compare-{}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(Self { folder, origin: 0, servers: Vec::new(), children: Vec::new() })
    }

    /// Starts the origin, this program and the other servers.
    pub(super) async fn start(&mut self, names: &[String]) -> anyhow::Result<()> {
        let [port] = free_ports()?;
        self.origin = port;
        let program = std::env::current_exe()?.display().to_string();
        let origin = ["origin-sim", "--listen", &format!("127.0.0.1:{port}")].map(str::to_owned);
        let words = std::iter::once(program.clone()).chain(origin).collect();
        self.spawn("origin", super::CLIENTS, words, port).await?;
        for name in std::iter::once(OURS).chain(names.iter().map(String::as_str)) {
            let [port, admin] = free_ports()?;
            let (words, cache) = match name {
                OURS => (self.ours(&program, port, admin), None),
                "nginx" => self.nginx(port)?,
                "varnish" => (self.varnish(port)?, None),
                "haproxy" => (self.haproxy(port)?, None),
                _ => (self.traffic_server(port)?, None),
            };
            let pid = self.spawn(name, super::SERVERS, words, port).await?;
            let (name, version) = (name.to_owned(), version(name, &program).await?);
            errln!("{name} {version} listens on port {port}");
            self.servers.push(PeerServer { name, version, port, pid, cache });
        }
        Ok(())
    }

    /// Starts a server on a core, and waits until it answers.
    async fn spawn(&mut self, name: &str, core: usize, words: Vec<String>, port: u16) -> anyhow::Result<u32> {
        let log = self.folder.join(format!("{name}.log"));
        let mut command = Command::new("taskset");
        command.args(["-c", &core.to_string()]).args(words);
        // Access logs are written, and go nowhere; what goes wrong is kept.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
        let mut child =
            command.process_group(0).kill_on_drop(true).spawn().with_context(|| format!("cannot start {name}"))?;
        let pid = child.id().with_context(|| format!("{name} has ended at once"))?;
        let end = Instant::now() + READY_MAX;
        let url = format!("http://127.0.0.1:{port}/ready?cc=no-store");
        loop {
            let last_words = || fs::read_to_string(&log).unwrap_or_default();
            if let Some(status) = child.try_wait()? {
                bail!("{name} has ended ({status}):\n{}", last_words());
            }
            if send(Method::GET, &url, None).await.is_ok_and(|reply| reply.status.is_success()) {
                break;
            }
            ensure!(Instant::now() < end, "{name} does not serve after {} s:\n{}", READY_MAX.as_secs(), last_words());
            sleep(Duration::from_millis(100)).await;
        }
        self.children.push(child);
        Ok(pid)
    }

    /// Stops all servers with their children, and removes their files.
    pub(super) async fn stop(&mut self) {
        for mut child in self.children.drain(..).rev() {
            let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) else { continue };
            // It may have ended already.
            let _ = kill_process(pid, Signal::TERM);
            if timeout(STOP_MAX, child.wait()).await.is_err() {
                let _ = kill_process_group(pid, Signal::KILL);
                let _ = child.wait().await;
            }
        }
        for server in &self.servers {
            if let Some(cache) = &server.cache {
                let _ = fs::remove_dir_all(cache);
            }
        }
        let _ = fs::remove_dir_all(&self.folder);
    }

    fn write(&self, name: &str, template: &str, port: u16, more: &[(&str, &str)]) -> anyhow::Result<String> {
        let folder = self.folder.display().to_string();
        let (port, origin_port) = (port.to_string(), self.origin.to_string());
        let origin = format!("127.0.0.1:{origin_port}");
        let places = [
            ("{port}", &*port),
            ("{origin}", &origin),
            ("{origin_host}", "127.0.0.1"),
            ("{origin_port}", &origin_port),
            ("{folder}", &folder),
        ];
        // The head of each file names the places; it is for whoever reads the template.
        let body = template.lines().skip_while(|line| line.starts_with('#')).collect::<Vec<_>>().join("\n");
        let text = places.iter().chain(more).fold(body, |text, (place, value)| text.replace(place, value));
        let path = self.folder.join(name);
        fs::write(&path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path.display().to_string())
    }

    fn ours(&self, program: &str, port: u16, admin: u16) -> Vec<String> {
        let (listen, admin) = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{admin}"));
        let origin = format!("http://127.0.0.1:{}", self.origin);
        let flags =
            ["edge", "--listen", &listen, "--admin", &admin, "--origin", &origin, "--threads", "1", "--memory", "1GiB"];
        std::iter::once(program).chain(flags).map(str::to_owned).collect()
    }

    fn nginx(&self, port: u16) -> anyhow::Result<(Vec<String>, Option<PathBuf>)> {
        // Its files are to be in memory.
        let memory = Path::new("/dev/shm");
        ensure!(memory.is_dir(), "nginx keeps its cache in files, and there is no /dev/shm for them");
        let cache = memory.join(format!("nearside-compare-{}", std::process::id()));
        fs::create_dir_all(&cache)?;
        let user = if getuid().is_root() { "user root;" } else { "" };
        let more = [("{user}", user), ("{cache}", &*cache.display().to_string())];
        let path = self.write("nginx.conf", include_str!("../../../../loadtest/peers/nginx.conf"), port, &more)?;
        Ok((words("nginx", &["-c", &path])?, Some(cache)))
    }

    fn varnish(&self, port: u16) -> anyhow::Result<Vec<String>> {
        let path = self.write("varnish.vcl", include_str!("../../../../loadtest/peers/varnish.vcl"), port, &[])?;
        let (folder, listen) = (self.folder.join("varnish").display().to_string(), format!("127.0.0.1:{port}"));
        let flags = ["-F", "-j", "none", "-n", &folder, "-a", &listen, "-f", &path, "-s", "malloc,1g"];
        let pools = ["-p", "thread_pools=1", "-p", "thread_pool_min=100", "-p", "thread_pool_max=2000"];
        words("varnishd", &[&flags[..], &pools[..]].concat())
    }

    fn haproxy(&self, port: u16) -> anyhow::Result<Vec<String>> {
        let path = self.write("haproxy.cfg", include_str!("../../../../loadtest/peers/haproxy.cfg"), port, &[])?;
        words("haproxy", &["-db", "-f", &path])
    }

    fn traffic_server(&self, port: u16) -> anyhow::Result<Vec<String>> {
        let root = self.folder.join("ats");
        for folder in ["etc", "var", "log", "cache"] {
            fs::create_dir_all(root.join(folder))?;
        }
        // Debian's own, but for what is written below.
        for entry in fs::read_dir("/etc/trafficserver").context("its configuration")?.flatten() {
            if entry.path().is_file() {
                fs::copy(entry.path(), root.join("etc").join(entry.file_name()))?;
            }
        }
        let ours = self.write("ats/ours", include_str!("../../../../loadtest/peers/records.config"), port, &[])?;
        let ours = fs::read_to_string(ours)?;
        let key = |line: &str| line.split_whitespace().nth(1).map(str::to_owned);
        let changed: Vec<_> = ours.lines().filter_map(key).collect();
        let path = root.join("etc/records.config");
        let theirs = fs::read_to_string(&path)?;
        let kept = theirs.lines().filter(|line| key(line).is_none_or(|key| !changed.contains(&key)));
        let all = kept.chain(ours.lines()).collect::<Vec<_>>().join("\n");
        fs::write(&path, all + "\n")?;
        fs::write(root.join("etc/remap.config"), format!("map / http://127.0.0.1:{}/\n", self.origin))?;
        fs::write(root.join("etc/storage.config"), format!("{} 512M\n", root.join("cache").display()))?;
        let at = |folder: &str| root.join(folder).display().to_string();
        let layout = format!(
            "prefix: {}\nexec_prefix: /usr\nbindir: /usr/bin\nsbindir: /usr/sbin\nsysconfdir: {}\ndatadir: {}\nincludedir: \
             /usr/include\nlibdir: /usr/lib\nlibexecdir: /usr/lib/trafficserver/modules\nlocalstatedir: {}\nruntimedir: {}\nlogdir: \
             {}\ncachedir: {}\n",
            root.display(),
            at("etc"),
            at("cache"),
            at("var"),
            at("var"),
            at("log"),
            at("cache")
        );
        fs::write(root.join("runroot.yaml"), layout)?;
        words("traffic_server", &[&format!("--run-root={}", root.join("runroot.yaml").display())])
    }
}

fn words(program: &str, flags: &[&str]) -> anyhow::Result<Vec<String>> {
    let path = find(program).with_context(|| format!("{program} is not installed"))?;
    Ok(std::iter::once(path.display().to_string()).chain(flags.iter().map(|flag| (*flag).to_owned())).collect())
}

/// Version that a program prints.
async fn version(name: &str, ours: &str) -> anyhow::Result<String> {
    let (program, flag) = match name {
        OURS => (ours, "--version"),
        "nginx" => ("nginx", "-v"),
        "varnish" => ("varnishd", "-V"),
        "haproxy" => ("haproxy", "-v"),
        _ => ("traffic_server", "--version"),
    };
    let path = if name == OURS { PathBuf::from(program) } else { find(program).context("it is installed")? };
    let output = Command::new(path).arg(flag).output().await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Ok(number_in(&text).unwrap_or_else(|| "of a version that it does not tell".to_owned()))
}

/// First word of a text that looks like a version.
fn number_in(text: &str) -> Option<String> {
    let mut words = text.split(|c: char| !(c.is_ascii_digit() || c == '.'));
    let version = words.find(|word| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit()))?;
    Some(version.trim_end_matches('.').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        assert_eq!(number_in("nginx version: nginx/1.22.1").unwrap(), "1.22.1");
        assert_eq!(number_in("varnishd (varnish-7.1.1 revision 7cee1c5)").unwrap(), "7.1.1");
        assert_eq!(number_in("Traffic Server 9.2.5 Sep").unwrap(), "9.2.5");
        assert_eq!(number_in("none"), None);
    }

    #[test]
    fn a_family_is_all_that_come_from_one() {
        let processes = BTreeMap::from(
            [(1, 0), (2, 1), (3, 2), (4, 0), (5, 4)].map(|(pid, parent)| (pid, ProcessStat { parent, ticks: 5 })),
        );
        assert_eq!(family(&processes, 1), [1, 2, 3]);
        assert_eq!(family(&processes, 9), [9]);
    }
}
