//! Whether files that a configuration names can be used: looked at without changing anything.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use crate::flaw::Flaw;
use crate::model::SecretFile;

/// Why a file cannot be appended to, or created; `None` if it can.
#[must_use]
pub fn why_not_appendable(path: &Path) -> Option<String> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => Some("it is a directory".to_owned()),
        Ok(found) if !found.is_file() => None,
        Ok(_) => OpenOptions::new().append(true).open(path).err().map(|error| error.to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => why_not_creatable(folder_of(path)),
        Err(error) => Some(error.to_string()),
    }
}

/// Why no file can be created in a folder; `None` if it can.
#[must_use]
pub fn why_not_creatable(folder: &Path) -> Option<String> {
    let name = folder.display();
    match std::fs::metadata(folder) {
        Ok(found) if !found.is_dir() => Some(format!("{name} is no directory")),
        Ok(_) => {
            let refused = access(folder, Access::WRITE_OK | Access::EXEC_OK).err()?;
            Some(format!("no file can be created in {name}: {}", io::Error::from(refused)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(format!("the directory {name} does not exist")),
        Err(error) => Some(format!("{name}: {error}")),
    }
}

/// The folder of a file; the current one if it names none.
#[must_use]
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Where a file is looked for: a relative path that leads nowhere from the current directory is tried from `beside`, as the directory
/// in which a process will be started is not known when its configuration is checked.
#[must_use]
pub fn found(path: &Path, beside: Option<&Path>) -> PathBuf {
    let other =
        beside.map(|folder| folder.join(path)).filter(|other| path.is_relative() && !path.exists() && other.exists());
    other.unwrap_or_else(|| path.to_owned())
}

/// A note about a file with a secret that every user of the machine can read or change.
#[must_use]
pub fn open_to_others(at: &str, what: &str, path: &Path, beside: Option<&Path>) -> Option<Flaw> {
    // What cannot be looked at is told of where it is read.
    let found = found(path, beside);
    let mode = std::fs::metadata(&found).ok()?.permissions().mode() & 0o777;
    let why = match (mode & 0o004 != 0, mode & 0o002 != 0) {
        (_, true) => "every user of this machine can change it",
        (true, false) => "every user of this machine can read it",
        (false, false) => return None,
    };
    let title = format!("{what} {} is open to others (mode {mode:04o})", path.display());
    Some(Flaw::note(at, title, why, format!("chmod o= {}", path.display())))
}

/// Notes about the files of a configuration that secrets were read from.
#[must_use]
pub fn open_secrets(files: &[SecretFile], beside: Option<&Path>) -> Vec<Flaw> {
    files.iter().filter_map(|SecretFile { at, path }| open_to_others(at, "the secret in", path, beside)).collect()
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    #[test]
    fn secrets_that_others_can_read_are_noted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, "x").unwrap();
        for (mode, why) in [
            (0o600, None),
            (0o640, None),
            (0o644, Some("every user of this machine can read it")),
            (0o602, Some("every user of this machine can change it")),
            (0o666, Some("every user of this machine can change it")),
        ] {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let flaw = open_to_others("nodes.secret", "the secret in", &path, None);
            assert_eq!(flaw.as_ref().map(|flaw| flaw.label.as_str()), why, "{mode:o}");
            assert!(flaw.is_none_or(|flaw| flaw.title.contains(&format!("(mode {mode:04o})"))));
        }
        assert_eq!(open_to_others("a", "b", Path::new("/does/not/exist"), None), None);
        let beside = open_to_others("a", "b", Path::new("secret"), Some(folder.path()));
        assert!(beside.is_some(), "beside the file of the configuration");
    }

    #[test]
    fn it_is_said_why_a_file_cannot_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("there"), "").unwrap();
        assert_eq!(why_not_appendable(&at("there")), None);
        assert_eq!(why_not_appendable(&at("new")), None);
        assert!(!at("new").exists(), "nothing is created");
        assert_eq!(why_not_appendable(Path::new("/dev/null")), None);
        for (name, why) in
            [("no/log", "no does not exist"), ("there/log", "not"), (".", "directory"), ("no/no/log", "does not exist")]
        {
            let said = why_not_appendable(&at(name)).unwrap_or_default().to_lowercase();
            assert!(said.contains(why), "{name}: {said}");
        }
    }
}
