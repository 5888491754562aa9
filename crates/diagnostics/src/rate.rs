//! A limit for lines that repeat: one event per request at a few thousand requests a second says nothing that ten of them
//! do not say.

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::queue::Summaries;

/// Lines with one message about one thing that are written in a second.
const ALIKE_MAX: u32 = 10;
/// Lines of one place in the code that are written in a second, whatever they say.
const PLACE_MAX: u32 = 100;
/// Length of the window in which lines are counted.
const WINDOW: Duration = Duration::from_secs(1);
/// Kinds of lines that are counted at one time; for those beyond only the limit of their place in the code holds.
const KINDS_MAX: usize = 1024;
/// Bytes of a message that are repeated in a summary.
const MESSAGE_BYTES_MAX: usize = 160;
/// The fields that tell what a line is about: a chatty upstream must not hide another one.
const ABOUT: [&str; 5] = ["upstream", "reason", "name", "control", "log.target"];
/// Each change that an operator makes has its line.
const AUDIT: &str = "audit";

/// Suppresses lines that repeat too often within a second. Debug events are never suppressed: they were asked for.
#[derive(Debug)]
pub(crate) struct RateLimit {
    windows: Arc<Mutex<Windows>>,
    suppressed: &'static AtomicU64,
}

impl RateLimit {
    pub(crate) fn new(suppressed: &'static AtomicU64) -> Self {
        Self { windows: Arc::default(), suppressed }
    }

    /// The lines that report what was suppressed, for the writer.
    pub(crate) fn summaries(&self) -> Summaries {
        let windows = Arc::clone(&self.windows);
        Box::new(move || windows.lock().ended(now()))
    }

    fn admits(&self, event: &Event<'_>, now: Instant) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO || metadata.target() == AUDIT {
            return true;
        }
        let mut line = Line::of(metadata);
        event.record(&mut line);
        let place = line.place;
        let mut windows = self.windows.lock();
        let admits = windows.admit(line.alike(), place, &line.message, now);
        drop(windows);
        if !admits {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
        }
        admits
    }
}

impl<S: Subscriber> Layer<S> for RateLimit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        self.admits(event, now())
    }
}

#[expect(clippy::disallowed_methods, reason = "a limit in real time")]
fn now() -> Instant {
    Instant::now()
}

/// The windows of the lines that were written lately.
#[derive(Debug, Default)]
struct Windows {
    /// By what a line says; at most [`KINDS_MAX`].
    alike: HashMap<u64, Window>,
    /// By the place in the code, of which there are not many.
    places: HashMap<u64, Window>,
    /// When windows were last looked through for those that have ended.
    swept: Option<Instant>,
}

#[derive(Debug)]
struct Window {
    since: Instant,
    written: u32,
    suppressed: u64,
    message: String,
}

impl Windows {
    /// Counts a line; whether it is written.
    fn admit(&mut self, alike: u64, place: u64, message: &str, now: Instant) -> bool {
        let has_room = self.alike.len() < KINDS_MAX || self.alike.contains_key(&alike);
        let admits = !has_room || Window::of(&mut self.alike, alike, now).admit(ALIKE_MAX, message, now);
        admits && Window::of(&mut self.places, place, now).admit(PLACE_MAX, message, now)
    }

    /// Takes out the windows that have ended, with a line for each that suppressed something.
    fn ended(&mut self, now: Instant) -> Vec<String> {
        if self.swept.is_some_and(|swept| now.saturating_duration_since(swept) < WINDOW) {
            return Vec::new();
        }
        self.swept = Some(now);
        let mut lines = Vec::new();
        for windows in [&mut self.alike, &mut self.places] {
            windows.retain(|_, window| {
                let is_over = window.is_over(now);
                if is_over && window.suppressed > 0 {
                    let Window { suppressed, message, .. } = window;
                    lines.push(format!("similar log lines suppressed lines={suppressed} message={message:?}"));
                }
                !is_over
            });
        }
        lines
    }
}

impl Window {
    fn of(windows: &mut HashMap<u64, Self>, key: u64, now: Instant) -> &mut Self {
        windows.entry(key).or_insert_with(|| Self { since: now, written: 0, suppressed: 0, message: String::new() })
    }

    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= WINDOW
    }

    fn admit(&mut self, lines_max: u32, message: &str, now: Instant) -> bool {
        // What was suppressed is reported before the next window begins.
        if self.is_over(now) && self.suppressed == 0 {
            self.since = now;
            self.written = 0;
        }
        if self.written < lines_max {
            self.written += 1;
            return true;
        }
        if self.suppressed == 0 {
            message.clone_into(&mut self.message);
        }
        self.suppressed += 1;
        false
    }
}

/// What tells a line from others.
struct Line {
    /// The place in the code.
    place: u64,
    about: DefaultHasher,
    message: String,
}

impl Line {
    fn of(metadata: &'static Metadata<'static>) -> Self {
        let mut hasher = DefaultHasher::new();
        metadata.callsite().hash(&mut hasher);
        Self { place: hasher.finish(), about: hasher, message: String::new() }
    }

    fn alike(&self) -> u64 {
        let mut hasher = self.about.clone();
        self.message.hash(&mut hasher);
        hasher.finish()
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            // A message that does not fit is cut off by the error.
            let _ = write!(Short(&mut self.message), "{value:?}");
        } else if ABOUT.contains(&field.name()) {
            let mut text = String::new();
            let _ = write!(Short(&mut text), "{value:?}");
            (field.name(), text).hash(&mut self.about);
        }
    }
}

/// Takes the beginning of a text.
struct Short<'s>(&'s mut String);

impl Write for Short<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if self.0.len() >= MESSAGE_BYTES_MAX {
                return Err(fmt::Error);
            }
            self.0.push(character);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::{Registry, fmt};

    use super::*;

    /// Collects lines.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<String>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().push_str(std::str::from_utf8(bytes).unwrap());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// The lines that `log` brings about, and the number of those that were suppressed.
    fn written(log: impl FnOnce()) -> (String, u64) {
        let lines = Lines::default();
        let writer = lines.clone();
        let suppressed: &'static AtomicU64 = Box::leak(Box::default());
        let layer = fmt::layer().with_writer(move || writer.clone()).with_ansi(false);
        let subscriber = Registry::default().with(RateLimit::new(suppressed)).with(layer);
        tracing::subscriber::with_default(subscriber, log);
        let text = lines.0.lock().clone();
        (text, suppressed.load(Ordering::Relaxed))
    }

    #[test]
    fn a_line_that_repeats_is_written_a_few_times_and_hides_no_other() {
        let (text, suppressed) = written(|| {
            for n in 0..60 {
                tracing::warn!(upstream = "loud", path = n, "upstream request failed");
            }
            for n in 0..3 {
                tracing::warn!(upstream = "quiet", path = n, "upstream request failed");
                tracing::info!("another");
            }
        });
        let count = |what: &str| text.lines().filter(|line| line.contains(what)).count();
        assert_eq!((count("loud"), count("quiet"), count("another")), (10, 3, 3), "{text}");
        assert_eq!(suppressed, 50);
    }

    #[test]
    fn neither_the_audit_nor_what_was_asked_for_is_suppressed() {
        let (text, suppressed) = written(|| {
            for n in 0..50 {
                tracing::info!(target: "audit", n, "audit");
                tracing::debug!(n, "detail");
            }
            for n in 0..50 {
                tracing::info!("serving number {n}");
            }
        });
        assert_eq!((text.lines().count(), suppressed), (150, 0));
    }

    #[test]
    fn a_place_in_the_code_has_a_limit_whatever_it_says() {
        let (text, suppressed) = written(|| (0..500).for_each(|n| tracing::warn!("number {n}")));
        assert_eq!((text.lines().count(), suppressed), (100, 400));
    }

    #[test]
    fn what_was_suppressed_is_told_once_its_second_is_over() {
        let mut windows = Windows::default();
        let begin = now();
        let admitted = (0..25).filter(|_| windows.admit(1, 1, "it fails", begin)).count();
        assert_eq!(admitted, 10);
        assert!(windows.ended(begin).is_empty(), "not yet");
        assert_eq!(windows.ended(begin + WINDOW), ["similar log lines suppressed lines=15 message=\"it fails\""]);
        assert!(windows.admit(1, 1, "it fails", begin + WINDOW), "and lines are written again");
        assert!(windows.ended(begin + WINDOW * 3).is_empty());
        assert!(windows.alike.is_empty() && windows.places.is_empty());
    }

    #[test]
    fn the_table_of_windows_is_bounded() {
        let mut windows = Windows::default();
        let begin = now();
        let admitted = (0..10_000).filter(|kind| windows.admit(*kind, 1, "", begin)).count();
        assert_eq!((windows.alike.len(), admitted), (KINDS_MAX, PLACE_MAX as usize));
    }
}
