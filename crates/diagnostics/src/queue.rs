//! A bounded queue of lines, and the thread that writes them.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use crate::text::visible_line;

/// Lines that may wait for the writer.
const LINES_MAX: usize = 1024;
/// Bytes of a line; the rest is cut off. With [`LINES_MAX`] this bounds the memory of the queue to 4 MiB.
const LINE_BYTES_MAX: usize = 4096;
/// How often the writer looks for lines that were suppressed.
const TICK: Duration = Duration::from_secs(1);
/// How long the end of the process waits for what is still in the queue: standard error may be blocked for good.
const FLUSH_MAX: Duration = Duration::from_millis(500);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

enum Message {
    Line(Vec<u8>),
    /// All lines before this have been written.
    Flush(SyncSender<()>),
}

/// Where threads hand in their lines. Never waits.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    sender: SyncSender<Message>,
    dropped: &'static AtomicU64,
}

/// Flushes the queue when it is dropped, but does not wait long for it.
#[derive(Debug)]
pub struct Guard(SyncSender<Message>);

/// Lines that stand for those that were suppressed, with their number.
pub(crate) type Summaries = Box<dyn FnMut() -> Vec<String> + Send>;

impl Queue {
    /// Starts the thread that writes to `sink`.
    pub(crate) fn start(
        sink: impl Write + Send + 'static,
        summaries: Summaries,
        dropped: &'static AtomicU64,
    ) -> io::Result<(Self, Guard)> {
        let (sender, receiver) = sync_channel(LINES_MAX);
        let writer = WriterThread { sink, summaries, dropped, reported: 0 };
        std::thread::Builder::new().name("diagnostics".to_owned()).spawn(move || writer.run(&receiver))?;
        Ok((Self { sender: sender.clone(), dropped }, Guard(sender)))
    }

    fn push(&self, line: Vec<u8>) {
        if self.sender.try_send(Message::Line(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Write for Queue {
    /// Takes a whole line: the formatter writes each event at once.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut kept = line.to_vec();
        if line.len() > LINE_BYTES_MAX {
            kept.truncate(LINE_BYTES_MAX);
            kept.extend_from_slice("…\n".as_bytes());
        }
        self.push(kept);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'q> MakeWriter<'q> for Queue {
    type Writer = Self;

    fn make_writer(&'q self) -> Self {
        self.clone()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let (done, flushed) = sync_channel(1);
        let mut message = Message::Flush(done);
        let mut waited = Duration::ZERO;
        while let Err(TrySendError::Full(back)) = self.0.try_send(message) {
            if waited >= FLUSH_MAX {
                return;
            }
            message = back;
            std::thread::sleep(LOOK_AGAIN);
            waited += LOOK_AGAIN;
        }
        let _ = flushed.recv_timeout(FLUSH_MAX);
    }
}

struct WriterThread<W> {
    sink: W,
    summaries: Summaries,
    dropped: &'static AtomicU64,
    /// Dropped lines that have been reported.
    reported: u64,
}

impl<W: Write> WriterThread<W> {
    fn run(mut self, receiver: &Receiver<Message>) {
        loop {
            match receiver.recv_timeout(TICK) {
                Ok(Message::Line(line)) => self.write(&line),
                Ok(Message::Flush(done)) => {
                    self.summarise();
                    let _ = self.sink.flush();
                    let _ = done.try_send(());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.summarise();
        }
    }

    fn write(&mut self, line: &[u8]) {
        if self.sink.write_all(line).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        // The sink has taken a line again, so it takes the report as well.
        let dropped = self.dropped.load(Ordering::Relaxed);
        if dropped > self.reported {
            let lines = dropped - self.reported;
            self.reported = dropped;
            let _ = self
                .sink
                .write_all(&own(&format!("log lines dropped: standard error was not read in time lines={lines}")));
        }
    }

    /// Reports lines that were suppressed, where their second is over.
    fn summarise(&mut self) {
        for summary in (self.summaries)() {
            self.write(&own(&summary));
        }
    }
}

/// A line of the writer's own, in the form of the others.
fn own(text: &str) -> Vec<u8> {
    let mut time = String::new();
    // Writing to a string does not fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    format!("{time}  WARN {}\n", visible_line(text)).into_bytes()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::{Condvar, Mutex};

    use super::*;

    /// A pipe that nobody reads until it is opened.
    #[derive(Clone, Default)]
    struct Pipe(Arc<(Mutex<State>, Condvar)>);

    #[derive(Default)]
    struct State {
        open: bool,
        text: String,
    }

    impl Pipe {
        fn open(&self) {
            self.0.0.lock().open = true;
            self.0.1.notify_all();
        }

        fn text(&self) -> String {
            self.0.0.lock().text.clone()
        }
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut state = self.0.0.lock();
            while !state.open {
                self.0.1.wait(&mut state);
            }
            state.text.push_str(std::str::from_utf8(bytes).unwrap());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn counter() -> &'static AtomicU64 {
        Box::leak(Box::default())
    }

    #[test]
    fn a_sink_that_is_blocked_holds_up_nobody_and_lines_without_room_are_counted_and_reported() {
        let (pipe, dropped) = (Pipe::default(), counter());
        let (mut queue, guard) = Queue::start(pipe.clone(), Box::new(Vec::new), dropped).unwrap();
        for number in 0..LINES_MAX + 100 {
            queue.write_all(format!("line {number}\n").as_bytes()).unwrap();
        }
        // One line may be in the hands of the writer.
        let lost = dropped.load(Ordering::Relaxed);
        assert!((99..=100).contains(&lost), "{lost}");
        pipe.open();
        drop(guard);
        let text = pipe.text();
        assert!(text.starts_with("line 0\n"), "{text}");
        assert!(text.contains(&format!("line {}\n", LINES_MAX - 1)), "what had room is written");
        assert!(text.contains(&format!("WARN log lines dropped: standard error was not read in time lines={lost}\n")));
        assert_eq!(text.matches("log lines dropped").count(), 1, "once");
    }

    #[test]
    fn the_end_of_the_process_does_not_wait_for_a_sink_that_is_blocked() {
        let (mut queue, guard) = Queue::start(Pipe::default(), Box::new(Vec::new), counter()).unwrap();
        for _ in 0..LINES_MAX * 2 {
            queue.write_all(b"line\n").unwrap();
        }
        // It would hang here.
        drop(guard);
    }

    #[test]
    fn a_line_is_cut_where_it_is_too_long() {
        let pipe = Pipe::default();
        let (mut queue, guard) = Queue::start(pipe.clone(), Box::new(Vec::new), counter()).unwrap();
        queue.write_all("x".repeat(LINE_BYTES_MAX + 1).as_bytes()).unwrap();
        pipe.open();
        drop(guard);
        assert_eq!(pipe.text(), format!("{}…\n", "x".repeat(LINE_BYTES_MAX)));
    }
}
