//! The purge log: a file to which lines are added, each with a checksum, and on the disk before it counts.
//!
//! The first line names the log, so that nodes can tell it from another. The file is written anew when it holds twice as many
//! orders as are kept. A line that was not finished (the machine stopped) is taken off at the next start; any other that is
//! damaged stops it, because an order that nodes have seen would be missing.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use nearside_config::Keep;
use nearside_protocol::Order;
use nearside_replication::Record;
use parking_lot::Mutex;

use super::{LogError, new_name, now};
use crate::known::{Known, instant};

/// Permissions of new files: what was purged, and where nodes are, is for the operator and the group of the process.
pub(crate) const MODE: u32 = 0o640;

/// The log of one control process.
#[derive(Debug)]
pub(crate) struct FileLog {
    path: PathBuf,
    name: String,
    /// Fewer lines are not written anew.
    lines_min: usize,
    known: Arc<Known>,
    /// Held while something is written, which may take its time.
    writer: Mutex<Writer>,
}

#[derive(Debug)]
struct Writer {
    file: File,
    /// Bytes of whole lines.
    length: u64,
    /// Lines in the file, beside the first.
    lines: usize,
    /// Something could not be written, and not be taken back either: nothing more is written.
    is_broken: bool,
}

impl FileLog {
    /// Opens a log, or begins one, and makes known what is in it.
    ///
    /// # Errors
    ///
    /// The file cannot be used, or is damaged.
    pub(crate) fn open(path: &Path, keep: Keep, known: Arc<Known>) -> Result<Self, LogError> {
        let fail = |cause| LogError::Io { path: path.to_owned(), cause };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(fail)?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(MODE)
            .open(path)
            .map_err(fail)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(LogError::InUse { path: path.to_owned() }),
            Err(std::fs::TryLockError::Error(cause)) => return Err(fail(cause)),
        }
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(fail)?;
        let read = read(path, &text)?;
        let (name, length) = match read.name {
            Some(name) => {
                file.set_len(read.length).map_err(fail)?;
                (name, read.length)
            }
            None => {
                let name = new_name();
                let line = sealed(&format!("{{\"log\":\"{name}\"}}"));
                file.set_len(0).map_err(fail)?;
                file.seek(SeekFrom::Start(0)).map_err(fail)?;
                file.write_all(line.as_bytes()).map_err(fail)?;
                (name, line.len() as u64)
            }
        };
        file.seek(SeekFrom::Start(length)).map_err(fail)?;
        file.sync_all().map_err(fail)?;
        sync_folder(path).map_err(fail)?;
        let lines = read.records.len();
        known.recent.begin(&name, read.first.saturating_sub(1));
        read.records.into_iter().for_each(|record| known.recent.add(record, || {}));
        known.recent.set_live(true);
        let writer = Mutex::new(Writer { file, length, lines, is_broken: false });
        Ok(Self { path: path.to_owned(), name, lines_min: keep.records / 2, known, writer })
    }

    /// Adds an order: it is on the disk, and has its number, when this returns, and before any node can see it.
    ///
    /// # Errors
    ///
    /// It cannot be written. Then it is not in the log.
    pub(crate) async fn append(self: &Arc<Self>, order: Order) -> Result<Arc<Record>, LogError> {
        let log = Arc::clone(self);
        let accepted = instant();
        let written = tokio::task::spawn_blocking(move || log.append_now(order, accepted)).await;
        written.unwrap_or_else(|panicked| {
            Err(LogError::Io { path: self.path.clone(), cause: io::Error::other(panicked.to_string()) })
        })
    }

    fn append_now(&self, order: Order, accepted: Instant) -> Result<Arc<Record>, LogError> {
        let fail = |cause| LogError::Io { path: self.path.clone(), cause };
        let mut writer = self.writer.lock();
        if writer.is_broken {
            return Err(fail(io::Error::other(
                "what could not be written before could not be taken back; start it again",
            )));
        }
        let record = Record { seq: self.known.recent.at().seq + 1, id: new_name(), at: now(), order };
        let line = sealed(&serde_json::to_string(&record).map_err(|error| fail(error.into()))?);
        let length = writer.length;
        let written = writer.file.write_all(line.as_bytes()).and_then(|()| writer.file.sync_data());
        if let Err(cause) = written {
            // Whatever of the line is there must not stand before the next one.
            let undone = writer.file.set_len(length).and_then(|()| writer.file.seek(SeekFrom::Start(length)));
            writer.is_broken = undone.is_err();
            return Err(fail(cause));
        }
        writer.length += line.len() as u64;
        writer.lines += 1;
        let record = Arc::new(record);
        self.known.takes(Arc::clone(&record), accepted);
        if writer.lines > 2 * self.known.recent.len().max(self.lines_min)
            && let Err(error) = self.rewrite(&mut writer)
        {
            // It only grows.
            tracing::warn!(%error, path = %self.path.display(), "the purge log cannot be written anew");
        }
        Ok(record)
    }

    /// Writes a file of what is kept, and puts it in the place of the old one.
    fn rewrite(&self, writer: &mut Writer) -> io::Result<()> {
        let new = self.path.with_extension("new");
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(MODE).open(&new)?;
        file.lock()?;
        let (records, last) = self.known.recent.records();
        let first = records.first().map_or(last + 1, |record| record.seq);
        let mut text = sealed(&format!("{{\"log\":\"{}\",\"first\":{first}}}", self.name));
        for record in &records {
            text += &sealed(&serde_json::to_string(&**record)?);
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, &self.path)?;
        // From here on the old file is nobody's.
        (writer.file, writer.length, writer.lines) = (file, text.len() as u64, records.len());
        sync_folder(&self.path)
    }
}

/// What stands in a file.
#[derive(Debug, Default)]
struct Contents {
    name: Option<String>,
    /// The number that the first order has, or would have.
    first: u64,
    records: VecDeque<Arc<Record>>,
    /// Of whole lines.
    length: u64,
}

fn read(path: &Path, text: &[u8]) -> Result<Contents, LogError> {
    let mut contents = Contents { first: 1, ..Contents::default() };
    let mut rest = text;
    let mut number = 0;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let (line, behind) = rest.split_at(end + 1);
        number += 1;
        let damaged = |what: String| LogError::Damaged { path: path.to_owned(), line: number, what };
        let Some(json) = unsealed(line) else { return Err(damaged("its checksum is wrong".to_owned())) };
        if contents.name.is_none() {
            let head: serde_json::Value = serde_json::from_slice(json).map_err(|error| damaged(error.to_string()))?;
            let name =
                head.get("log").and_then(|name| name.as_str()).ok_or_else(|| damaged("it names no log".to_owned()))?;
            contents.name = Some(name.to_owned());
            contents.first = head.get("first").and_then(serde_json::Value::as_u64).unwrap_or(1);
        } else {
            let record: Record = serde_json::from_slice(json).map_err(|error| damaged(error.to_string()))?;
            let expected = contents.first + contents.records.len() as u64;
            if record.seq != expected {
                return Err(damaged(format!("it has the number {}, and {expected} was to come", record.seq)));
            }
            contents.records.push_back(Arc::new(record));
        }
        contents.length += line.len() as u64;
        rest = behind;
    }
    if contents.length < text.len() as u64 && contents.name.is_some() {
        tracing::warn!(path = %path.display(), "the last line of the purge log was not finished, and is taken off");
    }
    Ok(contents)
}

/// A line: its checksum, what it says.
fn sealed(json: &str) -> String {
    format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes()))
}

/// What a line says, if its checksum is right.
fn unsealed(line: &[u8]) -> Option<&[u8]> {
    let (sum, rest) = line.split_at_checked(8)?;
    let json = rest.strip_prefix(b" ")?.strip_suffix(b"\n")?;
    let sum = u32::from_str_radix(std::str::from_utf8(sum).ok()?, 16).ok()?;
    (sum == crc32fast::hash(json)).then_some(json)
}

pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nearside_replication::At;

    use super::*;
    use crate::log::Since;

    const KEEP: Keep = Keep { records: 100, time: Duration::from_secs(3600) };

    fn order(tag: u64) -> Order {
        Order { tags: vec![tag.to_string()], ..Order::default() }
    }

    fn tags(since: Since) -> Option<Vec<String>> {
        match since {
            Since::Unknown => None,
            Since::Records(records) => Some(records.iter().map(|record| record.order.tags[0].clone()).collect()),
        }
    }

    fn at(log: &FileLog, seq: u64) -> At {
        At { seq, ..log.known.recent.at() }
    }

    fn open(path: &Path, keep: Keep) -> Result<FileLog, LogError> {
        FileLog::open(path, keep, Arc::new(Known::new(keep)))
    }

    fn add(log: &FileLog, tag: u64) -> u64 {
        log.append_now(order(tag), instant()).unwrap().seq
    }

    #[test]
    fn what_was_added_is_there_after_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/purges.log");
        let log = open(&path, KEEP).unwrap();
        assert!(matches!(open(&path, KEEP), Err(LogError::InUse { .. })));
        for n in 1..=3 {
            assert_eq!(add(&log, n), n);
        }
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o137, 0, "it is not for every user of the machine");
        let before = log.known.recent.at();
        drop(log);
        let log = open(&path, KEEP).unwrap();
        assert_eq!(log.known.recent.at(), before);
        assert_eq!(tags(log.known.recent.since(&at(&log, 1), "")).unwrap(), ["2", "3"]);
        assert_eq!(tags(log.known.recent.since(&at(&log, 3), "")).unwrap(), [""; 0]);
        assert_eq!(tags(log.known.recent.since(&at(&log, 4), "")), None, "it has not come so far");
        assert_eq!(tags(log.known.recent.since(&At { log: "other".to_owned(), seq: 1 }, "")), None);
        assert_eq!(add(&log, 4), 4);
    }

    #[test]
    fn it_is_bounded_and_numbers_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("purges.log");
        let keep = Keep { records: 10, ..KEEP };
        let log = open(&path, keep).unwrap();
        for n in 1..=105 {
            add(&log, n);
        }
        assert_eq!(tags(log.known.recent.since(&at(&log, 94), "")), None, "it does not reach back so far");
        assert_eq!(tags(log.known.recent.since(&at(&log, 95), "")).unwrap().len(), 10);
        assert!(std::fs::read_to_string(&path).unwrap().lines().count() <= 22);
        drop(log);
        let log = open(&path, keep).unwrap();
        assert_eq!(
            (log.known.recent.at().seq, tags(log.known.recent.since(&at(&log, 103), "")).unwrap()),
            (105, vec!["104".to_owned(), "105".to_owned()])
        );
        drop(log);
        let none = open(&path, Keep { records: 10, time: Duration::ZERO }).unwrap();
        add(&none, 106);
        drop(none);
        assert_eq!(open(&path, KEEP).unwrap().known.recent.at().seq, 106);
    }

    #[test]
    fn a_line_that_was_not_finished_is_taken_off_and_any_other_damage_stops_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("purges.log");
        let log = open(&path, KEEP).unwrap();
        for n in 1..=3 {
            add(&log, n);
        }
        drop(log);
        let whole = std::fs::read(&path).unwrap();
        // Wherever in the last line it stopped.
        let last = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
        for end in last..whole.len() {
            std::fs::write(&path, &whole[..end]).unwrap();
            let log = open(&path, KEEP).unwrap();
            assert_eq!(log.known.recent.at().seq, 2, "{end}");
            assert_eq!(add(&log, 9), 3);
            drop(log);
            assert_eq!(open(&path, KEEP).unwrap().known.recent.at().seq, 3);
        }
        for (place, line) in [(3, 1), (last - 5, 3), (last + 20, 4)] {
            let mut damaged = whole.clone();
            damaged[place] ^= 1;
            std::fs::write(&path, &damaged).unwrap();
            let error = open(&path, KEEP).unwrap_err();
            assert!(matches!(error, LogError::Damaged { line: at, .. } if at == line), "{place}: {error}");
        }
        let without_second: Vec<_> = whole
            .split_inclusive(|byte| *byte == b'\n')
            .enumerate()
            .filter(|(n, _)| *n != 1)
            .flat_map(|(_, l)| l)
            .copied()
            .collect();
        std::fs::write(&path, without_second).unwrap();
        assert!(open(&path, KEEP).unwrap_err().to_string().contains("and 1 was to come"));
    }
}
