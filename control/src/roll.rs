//! Who is of the fleet, in a file beside the log: after a start, a purge is not acknowledged for nodes that have not come back yet.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nearside_protocol::Member;
use parking_lot::Mutex;

use crate::log::file::{MODE, sync_folder};

/// The file.
#[derive(Debug)]
pub(crate) struct Roll {
    path: PathBuf,
    /// What stands in it.
    written: Mutex<Vec<Member>>,
}

impl Roll {
    /// The file beside a log, and who stands in it.
    ///
    /// # Errors
    ///
    /// It is there, and cannot be read.
    pub(crate) fn open(log: &Path) -> io::Result<Self> {
        let path = log.with_extension("nodes");
        let members = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        Ok(Self { path, written: Mutex::new(members) })
    }

    pub(crate) fn members(&self) -> Vec<Member> {
        self.written.lock().clone()
    }

    /// Writes who there is, if that is new. It is asked for under the lock, so that nobody writes what is older.
    pub(crate) fn write(&self, members: impl FnOnce() -> Vec<Member>) {
        let mut written = self.written.lock();
        let members = members();
        if *written == members {
            return;
        }
        let new = self.path.with_extension("nodes-new");
        let done = serde_json::to_vec(&members)
            .map_err(io::Error::from)
            .and_then(|text| {
                let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(&new)?;
                file.write_all(&text)?;
                file.sync_all()
            })
            .and_then(|()| std::fs::rename(&new, &self.path))
            .and_then(|()| sync_folder(&self.path));
        match done {
            Ok(()) => *written = members,
            Err(error) => {
                tracing::error!(path = %self.path.display(), %error, "who is of the fleet cannot be written down")
            }
        }
    }
}
