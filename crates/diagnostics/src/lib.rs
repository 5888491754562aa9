//! The diagnostic log of a process: events of `tracing` and `log`, as lines on standard error; and its long-lived tasks
//! ([`WatchedTasks`]).
//!
//! Standard error may be a pipe that nobody reads. A thread that wrote to it would stop there, with all the connections
//! that it serves. So threads hand their lines to a [`Queue`], from which a thread of its own writes them; a line that
//! finds no room is dropped and counted. Lines that repeat are limited ([`RateLimit`]) and counted as well.
//!
//! **Invariant:** no thread but the writer ever waits for standard error.

mod queue;
mod rate;
mod tasks;
mod text;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{EnvFilter, Registry, fmt};

pub use queue::Guard;
use queue::Queue;
use rate::RateLimit;
pub use tasks::{TaskGuard, WatchedTasks};
use text::SafeFields;
pub use text::{visible, visible_line};

/// Counters of the process.
static COUNTS: Counts = Counts { dropped: AtomicU64::new(0), suppressed: AtomicU64::new(0) };

/// The queue of the process, once it is installed.
static QUEUE: OnceLock<Queue> = OnceLock::new();

/// Lines that were not written.
#[derive(Debug, Default)]
struct Counts {
    dropped: AtomicU64,
    suppressed: AtomicU64,
}

/// Lines that were dropped because standard error was not read in time, or could not be written to.
#[must_use]
pub fn dropped() -> u64 {
    COUNTS.dropped.load(Ordering::Relaxed)
}

/// Lines that were left out because they repeated others within a second.
#[must_use]
pub fn suppressed() -> u64 {
    COUNTS.suppressed.load(Ordering::Relaxed)
}

/// Sends the events of this process that `filter` lets through (as in `info,h2=warn`) to standard error, and panics, too.
/// To be called once; the guard flushes when it is dropped.
///
/// # Errors
///
/// Standard error cannot be opened, the writer not be started, or another subscriber is installed.
pub fn install(filter: &str, colours: bool) -> io::Result<Guard> {
    let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let limit = RateLimit::new(&COUNTS.suppressed);
    let (queue, guard) = Queue::start(stderr, limit.summaries(), &COUNTS.dropped)?;
    let subscriber = Registry::default()
        .with(EnvFilter::new(filter))
        .with(limit)
        .with(fmt::layer().fmt_fields(SafeFields).with_writer(queue.clone()).with_ansi(colours).with_target(false));
    // Libraries that log through `log`.
    let _ = tracing_log::LogTracer::init();
    tracing::subscriber::set_global_default(subscriber).map_err(io::Error::other)?;
    let _ = QUEUE.set(queue);
    std::panic::set_hook(Box::new(tell_panic));
    Ok(guard)
}

/// Writes a line that is no event, without waiting if [`install`] was called.
pub fn say(line: &str) {
    let line = format!("{}\n", visible(line));
    let written = match QUEUE.get() {
        Some(queue) => queue.clone().write_all(line.as_bytes()),
        None => io::stderr().write_all(line.as_bytes()),
    };
    // Nobody is left to be told.
    let _ = written;
}

/// The default hook would write to standard error on the thread that has panicked.
fn tell_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let backtrace = std::backtrace::Backtrace::capture();
    let has_backtrace = backtrace.status() == std::backtrace::BacktraceStatus::Captured;
    tracing::error!(
        thread = thread.name().unwrap_or("unnamed"),
        backtrace = has_backtrace.then(|| tracing::field::display(&backtrace)),
        "{panic}"
    );
}
