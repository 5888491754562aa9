//! The purge log: a file to which lines are added, each with a checksum, and on the disk before it counts.
//!
//! The first line names the log, so that nodes can tell it from another. The file is written anew when it holds twice as many
//! orders as are kept. A line that was not finished (the machine stopped) is taken off at the next start; any other that is
//! damaged stops it, because an order that nodes have seen would be missing.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nearside_api::Order;
use nearside_config::Keep;
use nearside_purge::{At, Record};
use parking_lot::Mutex;
use tokio::sync::watch;

/// Why a log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file cannot be opened, read or written.
    #[error("the purge log {path} cannot be used: {cause}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// A line in the middle is not what was written.
    #[error(
        "the purge log {path} is damaged at line {line}: {what}. Nodes may have seen what is lost; move the file away to begin a \
         new log, and every node makes stale all that it has"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// Another process has it.
    #[error("the purge log {path} is in use by another process")]
    InUse {
        /// The file.
        path: PathBuf,
    },
}

/// The log of one control process.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    name: String,
    keep: Keep,
    /// Held while something is written, which may take its time.
    writer: Mutex<Writer>,
    /// Held for a moment only.
    kept: Mutex<Kept>,
    /// The last number.
    head: watch::Sender<u64>,
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

#[derive(Debug)]
struct Kept {
    /// What is kept, in order.
    records: VecDeque<Arc<Record>>,
    /// The last number that there was.
    last: u64,
}

/// What a node that was at some place gets.
#[derive(Debug)]
pub enum Since {
    /// All that came after it.
    Records(Vec<Arc<Record>>),
    /// The log does not reach back so far, or the place is in another log.
    Unknown,
}

impl Log {
    /// Opens a log, or begins one.
    ///
    /// # Errors
    ///
    /// The file cannot be used, or is damaged.
    pub fn open(path: &Path, keep: Keep) -> Result<Self, LogError> {
        let fail = |cause| LogError::Io { path: path.to_owned(), cause };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(fail)?;
        }
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(fail)?;
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
        let last = read.records.back().map_or(read.first.saturating_sub(1), |record| record.seq);
        let lines = read.records.len();
        let mut kept = Kept { records: read.records, last };
        forget(&mut kept, keep, now());
        Ok(Self {
            path: path.to_owned(),
            name,
            keep,
            writer: Mutex::new(Writer { file, length, lines, is_broken: false }),
            kept: Mutex::new(kept),
            head: watch::Sender::new(last),
        })
    }

    /// Where its end is.
    #[must_use]
    pub fn at(&self) -> At {
        At { log: self.name.clone(), seq: *self.head.borrow() }
    }

    /// The same, with what is just being added: whoever joined before this is asked is waited for by what comes after.
    pub(crate) fn end(&self) -> At {
        At { log: self.name.clone(), seq: self.kept.lock().last }
    }

    /// A name for what this process tells, that no process with this log has had.
    pub(crate) fn new_origin(&self) -> String {
        format!("{}-{}", self.name, new_name())
    }

    /// Tells of each new number.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    /// What came after a place.
    #[must_use]
    pub fn since(&self, at: &At) -> Since {
        let kept = self.kept.lock();
        let first = kept.records.front().map_or(kept.last + 1, |record| record.seq);
        if at.log != self.name || at.seq > kept.last || at.seq + 1 < first {
            return Since::Unknown;
        }
        let skip = usize::try_from(at.seq + 1 - first).unwrap_or(usize::MAX);
        Since::Records(kept.records.iter().skip(skip).cloned().collect())
    }

    /// Adds an order: it is on the disk, and has its number, when this returns. `given` is called before any node can see it.
    ///
    /// # Errors
    ///
    /// It cannot be written. Then it is not in the log.
    pub async fn append(
        self: &Arc<Self>,
        order: Order,
        given: impl FnOnce(&Record) + Send + 'static,
    ) -> Result<Arc<Record>, LogError> {
        let log = Arc::clone(self);
        let written = tokio::task::spawn_blocking(move || log.append_now(order, given)).await;
        written.unwrap_or_else(|panicked| {
            Err(LogError::Io { path: self.path.clone(), cause: io::Error::other(panicked.to_string()) })
        })
    }

    fn append_now(&self, order: Order, given: impl FnOnce(&Record)) -> Result<Arc<Record>, LogError> {
        let fail = |cause| LogError::Io { path: self.path.clone(), cause };
        let mut writer = self.writer.lock();
        if writer.is_broken {
            return Err(fail(io::Error::other(
                "what could not be written before could not be taken back; start it again",
            )));
        }
        let (seq, at) = (self.kept.lock().last + 1, now());
        let record = Record { seq, id: format!("{}-{seq}", self.name), at, order };
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
        let records = {
            let mut kept = self.kept.lock();
            given(&record);
            kept.last = seq;
            kept.records.push_back(Arc::clone(&record));
            forget(&mut kept, self.keep, at);
            kept.records.len()
        };
        self.head.send_replace(seq);
        if writer.lines > 2 * records.max(self.keep.records / 2)
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
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&new)?;
        file.lock()?;
        let (records, last) = {
            let kept = self.kept.lock();
            (kept.records.iter().cloned().collect::<Vec<_>>(), kept.last)
        };
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

/// Forgets what is more, or older, than is kept.
fn forget(kept: &mut Kept, keep: Keep, now: u64) {
    let oldest = now.saturating_sub(millis(keep.time));
    while kept.records.len() > keep.records || kept.records.front().is_some_and(|record| record.at < oldest) {
        kept.records.pop_front();
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

/// A name that no other log has.
fn new_name() -> String {
    let random = ahash::RandomState::new().hash_one(0_u8);
    format!("p{random:012x}").chars().take(13).collect()
}

pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[expect(clippy::disallowed_methods, reason = "the time that stands in the log")]
fn now() -> u64 {
    millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn at(log: &Log, seq: u64) -> At {
        At { seq, ..log.at() }
    }

    #[test]
    fn what_was_added_is_there_after_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/purges.log");
        let log = Log::open(&path, KEEP).unwrap();
        assert!(matches!(Log::open(&path, KEEP), Err(LogError::InUse { .. })));
        for n in 1..=3 {
            assert_eq!(log.append_now(order(n), |_| {}).unwrap().seq, n);
        }
        let before = log.at();
        drop(log);
        let log = Log::open(&path, KEEP).unwrap();
        assert_eq!(log.at(), before);
        assert_eq!(tags(log.since(&at(&log, 1))).unwrap(), ["2", "3"]);
        assert_eq!(tags(log.since(&at(&log, 3))).unwrap(), [""; 0]);
        assert_eq!(tags(log.since(&at(&log, 4))), None, "it has not come so far");
        assert_eq!(tags(log.since(&At { log: "other".to_owned(), seq: 1 })), None);
        assert_eq!(log.append_now(order(4), |_| {}).unwrap().seq, 4);
    }

    #[test]
    fn it_is_bounded_and_numbers_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("purges.log");
        let keep = Keep { records: 10, ..KEEP };
        let log = Log::open(&path, keep).unwrap();
        for n in 1..=105 {
            log.append_now(order(n), |_| {}).unwrap();
        }
        assert_eq!(tags(log.since(&at(&log, 94))), None, "it does not reach back so far");
        assert_eq!(tags(log.since(&at(&log, 95))).unwrap().len(), 10);
        assert!(std::fs::read_to_string(&path).unwrap().lines().count() <= 22);
        drop(log);
        let log = Log::open(&path, keep).unwrap();
        assert_eq!(
            (log.at().seq, tags(log.since(&at(&log, 103))).unwrap()),
            (105, vec!["104".to_owned(), "105".to_owned()])
        );
        drop(log);
        let none = Log::open(&path, Keep { records: 10, time: Duration::ZERO }).unwrap();
        none.append_now(order(106), |_| {}).unwrap();
        drop(none);
        assert_eq!(Log::open(&path, KEEP).unwrap().at().seq, 106);
    }

    #[test]
    fn a_line_that_was_not_finished_is_taken_off_and_any_other_damage_stops_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("purges.log");
        let log = Log::open(&path, KEEP).unwrap();
        for n in 1..=3 {
            log.append_now(order(n), |_| {}).unwrap();
        }
        drop(log);
        let whole = std::fs::read(&path).unwrap();
        // Wherever in the last line it stopped.
        let last = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
        for end in last..whole.len() {
            std::fs::write(&path, &whole[..end]).unwrap();
            let log = Log::open(&path, KEEP).unwrap();
            assert_eq!(log.at().seq, 2, "{end}");
            assert_eq!(log.append_now(order(9), |_| {}).unwrap().seq, 3);
            drop(log);
            assert_eq!(Log::open(&path, KEEP).unwrap().at().seq, 3);
        }
        for (place, line) in [(3, 1), (last - 5, 3), (last + 20, 4)] {
            let mut damaged = whole.clone();
            damaged[place] ^= 1;
            std::fs::write(&path, &damaged).unwrap();
            let error = Log::open(&path, KEEP).unwrap_err();
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
        assert!(Log::open(&path, KEEP).unwrap_err().to_string().contains("and 1 was to come"));
    }
}
