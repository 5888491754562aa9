//! The access log: one line a request, written by a thread of its own.
//!
//! A serving thread formats into a buffer of its own and hands it over when it is full or a moment old. When the
//! writer cannot keep up, whole buffers are dropped and counted: a slow disk never holds up an answer.

mod form;

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use nearside_config::{AccessLog, Config, LogFormat, LogSink};
use nearside_diagnostics::WatchedTasks;
use nearside_semantics::Timestamp;
use parking_lot::Mutex;

use crate::record::Record;
use form::{Stamp, combined, json, prefix, pretty};

/// A buffer is handed over when it holds this much.
const BUFFER_BYTES: usize = 256 << 10;
/// Room for the line that makes a buffer full.
const LINE_BYTES: usize = 1024;
/// Lines for those who watch go out when they are this much, or a moment old.
const WATCHED_BYTES: usize = 32 << 10;
/// Empty buffers that are kept.
const BUFFERS_KEPT: usize = 8;
/// Buffers that may wait for the writer.
const BUFFERS_WAITING: usize = 64;

/// Where lines go in.
#[derive(Debug)]
pub struct Log {
    format: LogFormat,
    sender: SyncSender<Vec<u8>>,
    /// One per serving thread, so that they do not contend.
    buffers: Vec<Mutex<Buffer>>,
    /// What the writer has written, to be filled again.
    empty: Arc<Mutex<Vec<Vec<u8>>>>,
    dropped: Arc<AtomicU64>,
    /// The writer is to open its file anew.
    reopens: Arc<AtomicBool>,
    live: Arc<dyn LiveLog>,
    /// By site; the last is for requests that belong to none.
    prefixes: Vec<Vec<u8>>,
}

/// Readers of the log that see requests as they end.
pub trait LiveLog: fmt::Debug + Send + Sync {
    /// Whether there is any reader.
    fn is_open(&self) -> bool;

    /// Sends a batch of lines to the readers; each line is a JSON object.
    fn send(&self, lines: &[u8]);
}

#[derive(Debug, Default)]
struct Buffer {
    lines: Vec<u8>,
    count: u64,
    stamp: Stamp,
    /// Lines for those who watch.
    watched: Vec<u8>,
}

impl Log {
    /// Opens the sink and starts the writer.
    ///
    /// # Errors
    ///
    /// The file cannot be opened, or the thread not started.
    pub fn start(config: &Config, live: Arc<dyn LiveLog>, tasks: &WatchedTasks) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(BUFFERS_WAITING);
        let sink = Sink::open(&config.access_log)?;
        let reopens = Arc::new(AtomicBool::new(false));
        let reopen = Arc::clone(&reopens);
        let dropped = Arc::new(AtomicU64::new(0));
        let lost = Arc::clone(&dropped);
        let empty = Arc::new(Mutex::new(Vec::with_capacity(BUFFERS_KEPT)));
        let written = Arc::clone(&empty);
        let guard = tasks.guard("access log");
        let writer = move || {
            let _guard = guard;
            write_all(&receiver, sink, &reopen, &lost, &written);
        };
        std::thread::Builder::new().name("access-log".to_owned()).spawn(writer)?;
        let bytes = if config.access_log.format == LogFormat::Off { 0 } else { BUFFER_BYTES + LINE_BYTES };
        let buffer = || Buffer { lines: Vec::with_capacity(bytes), ..Buffer::default() };
        let buffers = (0..config.threads).map(|_| Mutex::new(buffer())).collect();
        let sites = config.sites.iter().map(|site| site.name.as_str()).chain(["none"]);
        let prefixes = sites.map(|site| prefix(config.id.as_str(), site)).collect();
        Ok(Self { format: config.access_log.format, sender, buffers, empty, dropped, reopens, live, prefixes })
    }

    /// Adds the line of a request that thread `thread` has served.
    pub fn add(&self, thread: usize, record: &Record<'_>, now: Timestamp) {
        let is_watched = self.live.is_open();
        let Some(buffer) = self.buffers.get(thread).filter(|_| is_watched || self.format != LogFormat::Off) else {
            return;
        };
        let mut guard = buffer.lock();
        let buffer = &mut *guard;
        if is_watched {
            self.show(buffer, record, now);
        }
        match self.format {
            LogFormat::Json => json(self.prefix(record), record, buffer.stamp.at(now), &mut buffer.lines),
            LogFormat::Pretty => pretty(record, now, &mut buffer.lines),
            LogFormat::Combined => combined(record, now, &mut buffer.lines),
            LogFormat::Off => return,
        }
        buffer.count += 1;
        if buffer.lines.len() >= BUFFER_BYTES {
            self.hand_over(buffer);
        }
    }

    /// What stands between the time and the client's address.
    fn prefix(&self, record: &Record<'_>) -> &[u8] {
        let site = record.outcome.site.and_then(|site| self.prefixes.get(site.index())).or(self.prefixes.last());
        site.map_or(&[], Vec::as_slice)
    }

    /// Adds a line for those who watch.
    #[cold]
    fn show(&self, buffer: &mut Buffer, record: &Record<'_>, now: Timestamp) {
        json(self.prefix(record), record, buffer.stamp.at(now), &mut buffer.watched);
        if buffer.watched.len() >= WATCHED_BYTES {
            self.live.send(&buffer.watched);
            buffer.watched.clear();
        }
    }

    /// Hands over the lines that thread `thread` has gathered; returns whether there were any.
    pub fn flush(&self, thread: usize) -> bool {
        let Some(buffer) = self.buffers.get(thread) else { return false };
        let mut buffer = buffer.lock();
        let (has_lines, is_watched) = (!buffer.lines.is_empty(), !buffer.watched.is_empty());
        if has_lines {
            self.hand_over(&mut buffer);
        }
        if is_watched {
            self.live.send(&std::mem::take(&mut buffer.watched));
        }
        has_lines || is_watched
    }

    /// Has the writer open its file anew, before the next line.
    pub fn reopen(&self) {
        self.reopens.store(true, Ordering::Release);
        // Nothing to write, but a reason to look. If there is no room, others are.
        let _ = self.sender.try_send(Vec::new());
    }

    /// Lines that were lost because the writer could not keep up, or the sink failed.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn hand_over(&self, buffer: &mut Buffer) {
        let empty = self.empty.lock().pop().unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES + LINE_BYTES));
        let lines = std::mem::replace(&mut buffer.lines, empty);
        let count = std::mem::take(&mut buffer.count);
        if self.sender.try_send(lines).is_err() {
            self.dropped.fetch_add(count, Ordering::Relaxed);
        }
    }
}

/// Where lines go to.
enum Sink {
    Nowhere,
    Stdout(io::Stdout),
    File(PathBuf, File),
}

impl Sink {
    fn open(config: &AccessLog) -> io::Result<Self> {
        Ok(match (&config.format, &config.sink) {
            (LogFormat::Off, _) => Self::Nowhere,
            (_, LogSink::Stdout) => Self::Stdout(io::stdout()),
            (_, LogSink::File(path)) => Self::File(path.clone(), open(path)?),
        })
    }

    /// Opens a file anew; if that fails, lines go on into the one that is open.
    fn reopen(&mut self) {
        let Self::File(path, file) = self else { return };
        match open(path) {
            Ok(opened) => *file = opened,
            Err(error) => tracing::warn!(%error, "the access log goes on into the file that is open"),
        }
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::Nowhere => Ok(()),
            Self::Stdout(out) => out.write_all(lines).and_then(|()| out.flush()),
            Self::File(_, file) => file.write_all(lines),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    // A FIFO that is opened for writing only waits for a reader, and with it the start of the node. Opened for both it does
    // not; lines wait in the pipe, then at the writer, and are dropped when there is no more room.
    let is_fifo = std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo());
    let mut options = OpenOptions::new();
    if is_fifo {
        options.read(true).write(true);
    } else {
        // Who asked for what is for the operator and the group of the logs.
        options.create(true).append(true).mode(0o640);
    }
    options.open(path).map_err(|error| io::Error::new(error.kind(), format!("access log {}: {error}", path.display())))
}

fn write_all(
    receiver: &Receiver<Vec<u8>>,
    mut sink: Sink,
    reopens: &AtomicBool,
    lost: &AtomicU64,
    written: &Mutex<Vec<Vec<u8>>>,
) {
    for mut lines in receiver {
        if reopens.swap(false, Ordering::AcqRel) {
            sink.reopen();
        }
        if sink.write(&lines).is_err() {
            let count = lines.iter().filter(|b| **b == b'\n').count();
            lost.fetch_add(count as u64, Ordering::Relaxed);
        }
        lines.clear();
        let mut written = written.lock();
        if written.len() < BUFFERS_KEPT {
            written.push(lines);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_new_log_is_not_for_every_user_of_the_machine() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        open(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o137, 0);
    }
}
