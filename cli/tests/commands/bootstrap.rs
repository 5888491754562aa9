//! `script/bootstrap` on systems other than this one: a `PATH` of stubs, and system files below a folder of the test.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../script/bootstrap");
/// Programs that the script itself uses; none of them is what it looks for.
const TOOLS: [&str; 9] = ["awk", "bash", "cut", "dirname", "env", "head", "paste", "sed", "sort"];
const COMPILERS: [&str; 4] = ["cc", "c++", "make", "cmake"];
const FEDORA_AUTHORITIES: &str = "etc/pki/tls/certs/ca-bundle.crt";

/// A system that holds little, and what the script says on it.
struct System {
    folder: tempfile::TempDir,
}

impl System {
    /// With `release` as its os-release and these programs, each of which does nothing and succeeds.
    fn new(release: &str, programs: &[&str]) -> Self {
        let system = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(system.path().join("bin")).unwrap();
        for tool in TOOLS {
            let folders = std::env::var_os("PATH").unwrap();
            let found = std::env::split_paths(&folders).map(|folder| folder.join(tool)).find(|path| path.exists());
            symlink(found.unwrap(), system.path().join("bin").join(tool)).unwrap();
        }
        if !release.is_empty() {
            system.file("etc/os-release", release);
        }
        system.stub("id", "echo 1000");
        system.stub("uname", "echo Linux");
        programs.iter().for_each(|program| system.stub(program, ""));
        system
    }

    fn fedora(programs: &[&str]) -> Self {
        let system = Self::new("ID=fedora\nVERSION_ID=44\n", programs);
        system.stub("dnf", "exit 1");
        system.file(FEDORA_AUTHORITIES, "");
        system
    }

    fn mac(programs: &[&str]) -> Self {
        let system = Self::new("", programs);
        system.stub("uname", "echo Darwin");
        system
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn file(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn stub(&self, name: &str, body: &str) {
        let path = self.path().join("bin").join(name);
        fs::write(&path, format!("#!/usr/bin/env bash\n{body}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn rust(&self) {
        self.stub("cargo", "");
        self.stub("rustc", "echo 'rustc 99.0.0'");
    }

    fn run(&self, programs: &[&str]) -> Output {
        let mut command = Command::new(SCRIPT);
        command.args(programs).env_clear().env("PATH", self.path().join("bin")).env("HOME", self.path());
        command.env("BOOTSTRAP_ROOT", self.path()).output().unwrap()
    }

    /// What the script prints when it refuses.
    fn refuses(&self, programs: &[&str]) -> String {
        let output = self.run(programs);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        said
    }
}

#[track_caller]
fn says(said: &str, words: &[&str], not: &[&str]) {
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
    for word in not {
        assert!(!said.contains(word), "{word:?} is in: {said}");
    }
}

#[test]
fn fedora_is_told_its_own_packages() {
    let said = System::fedora(&[]).refuses(&["curl", "python3-venv"]);
    says(
        &said,
        &["sudo dnf install gcc gcc-c++ make cmake curl python3\n", "https://rustup.rs"],
        &["apt-get", "libc6-dev", "ca-certificates"],
    );
}

#[test]
fn fedora_without_authorities_is_told_their_package() {
    let system = System::fedora(&COMPILERS);
    system.rust();
    fs::remove_file(system.path().join(FEDORA_AUTHORITIES)).unwrap();
    says(&system.refuses(&[]), &["dnf install ca-certificates"], &["apt-get", "gcc"]);
}

#[test]
fn where_nothing_is_missing_nothing_is_asked_for() {
    for system in [System::fedora(&COMPILERS), System::mac(&[&COMPILERS[..], &["xcode-select"]].concat())] {
        system.rust();
        let output = system.run(&[]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stdout.is_empty() && output.stderr.is_empty());
    }
}

#[test]
fn macos_is_told_of_the_command_line_tools_and_of_homebrew() {
    let system = System::mac(&["cc", "c++", "make"]);
    // The programs are there, but only ask for the tools.
    system.stub("xcode-select", "exit 2");
    let said = system.refuses(&["promtool", "taskset"]);
    says(
        &said,
        &[
            "xcode-select --install",
            "    brew install cmake prometheus",
            "https://rustup.rs",
            "taskset: this needs Linux",
        ],
        &["apt-get", "ca-certificates", "sudo"],
    );
    assert_eq!(said.matches("xcode-select --install").count(), 1, "{said}");
}

#[test]
fn kin_of_fedora_and_others_have_their_own_commands() {
    for (release, manager, words) in [
        ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", "dnf", "dnf install gcc gcc-c++ make cmake"),
        ("ID=opensuse-leap\nID_LIKE=\"suse opensuse\"\n", "zypper", "zypper install gcc gcc-c++ make cmake"),
        ("ID=arch\n", "pacman", "pacman -S gcc make cmake"),
        ("ID=alpine\n", "apk", "apk add gcc musl-dev g++ make cmake"),
    ] {
        let system = System::new(release, &[manager]);
        says(&system.refuses(&[]), &[words], &["apt-get"]);
    }
}

#[test]
fn an_unknown_system_is_told_the_programs() {
    let said = System::new("ID=plan9\n", &[]).refuses(&["curl"]);
    says(&said, &["missing: cc c++ make cmake ca-certificates curl rustup", "https://rustup.rs"], &["apt-get", "dnf"]);
}

#[test]
fn debian_without_rights_or_without_apt_is_told_what_to_install() {
    let system = System::new("ID=debian\n", &[]);
    says(&system.refuses(&[]), &["apt-get install gcc libc6-dev g++ make cmake ca-certificates rustup"], &[]);
    system.stub("apt-get", "exit 1");
    says(&system.refuses(&[]), &["sudo apt-get install gcc libc6-dev"], &[]);
}

#[test]
fn debian_installs_what_is_missing() {
    let system = System::new("ID=ubuntu\nID_LIKE=debian\n", &["cc", "c++", "make"]);
    system.rust();
    system.file("etc/ssl/certs/ca-certificates.crt", "");
    system.stub("id", "echo 0");
    system.stub("apt-get", "echo \"$@\" >&2");
    let output = system.run(&["promtool"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    says(&said, &["update -qq", "install -y -qq --no-install-recommends cmake prometheus\n"], &["gcc"]);
}
