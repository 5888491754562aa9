//! Text of others, made safe for terminals and logs.
//!
//! What a server, a node or a client says may hold characters that terminals obey: escape sequences, and characters that
//! change the direction of what stands beside them. They are shown escaped as in JSON (`\u001b`), so that JSON stays what it is.

use std::borrow::Cow;
use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

/// The text without anything that terminals obey, but the ends of lines and tabs.
#[must_use]
pub fn visible(text: &str) -> Cow<'_, str> {
    escaped(text, |c| obeyed(c) && !matches!(c, '\n' | '\t'))
}

/// The same as one line: it can neither end the line nor look like two columns.
#[must_use]
pub fn visible_line(text: &str) -> Cow<'_, str> {
    escaped(text, obeyed)
}

/// Whether a character does something to what is shown around it: controls (C0, DEL, C1), ends of lines and paragraphs, marks,
/// embeddings, overrides and isolates of the bidirectional algorithm, annotations, and tags, which are invisible.
fn obeyed(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

fn escaped(text: &str, is_obeyed: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(&is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_obeyed(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a string does not fail.
                let _ = write!(safe, "\\u{unit:04x}");
            }
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}

/// Writes the fields of events as tracing-subscriber does, but safe: it escapes messages only, and few characters of these. What
/// follows the end of a line is indented, so that it does not look like another event.
#[derive(Debug)]
pub(crate) struct SafeFields;

impl<'w> FormatFields<'w> for SafeFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut visitor = FieldWriter { writer, is_first: true, result: Ok(()) };
        fields.record(&mut visitor);
        visitor.result
    }
}

struct FieldWriter<'w> {
    writer: Writer<'w>,
    is_first: bool,
    result: fmt::Result,
}

impl FieldWriter<'_> {
    fn write(&mut self, name: &str, value: &str) -> fmt::Result {
        if !std::mem::take(&mut self.is_first) {
            self.writer.write_char(' ')?;
        }
        if name != "message" {
            let name = name.strip_prefix("r#").unwrap_or(name);
            match self.writer.has_ansi_escapes() {
                true => write!(self.writer, "\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m")?,
                false => write!(self.writer, "{name}=")?,
            }
        }
        self.writer.write_str(&visible(value).replace('\n', "\n    "))
    }
}

impl Visit for FieldWriter<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.record_debug(field, &format_args!("{value}"));
        } else {
            self.record_debug(field, &value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // What `log` says of its records is in the event by now.
        if self.result.is_ok() && !field.name().starts_with("log.") {
            self.result = self.write(field.name(), &format!("{value:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_terminals_obey_is_left() {
        for (text, safe) in [
            ("plain ß 日本 👩‍🚀", "plain ß 日本 👩‍🚀"),
            ("a\u{9b}31m\x1b[2J\rb", "a\\u009b31m\\u001b[2J\\u000db"),
            ("\x07\x08\x7f\0", "\\u0007\\u0008\\u007f\\u0000"),
            ("a\u{202e}b\u{2066}c\u{200f}\u{61c}", "a\\u202eb\\u2066c\\u200f\\u061c"),
            ("\u{2028}\u{e0041}", "\\u2028\\udb40\\udc41"),
        ] {
            assert_eq!(visible(text), safe);
            assert_eq!(visible_line(text), safe);
        }
        assert_eq!(visible("a\n\tb"), "a\n\tb");
        assert_eq!(visible_line("a\n\tb"), "a\\u000a\\u0009b");
        // What is safe stays as it is.
        assert_eq!(visible(&visible("\x1b")), "\\u001b");
    }

    #[test]
    fn fields_of_events_are_written_safely_and_as_one_event() {
        use std::io;
        use std::sync::Arc;

        use parking_lot::Mutex;
        use tracing_subscriber::fmt::MakeWriter;

        #[derive(Clone, Default)]
        struct Lines(Arc<Mutex<Vec<u8>>>);

        impl io::Write for Lines {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().extend_from_slice(bytes);
                Ok(bytes.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        impl<'w> MakeWriter<'w> for Lines {
            type Writer = Self;

            fn make_writer(&'w self) -> Self {
                self.clone()
            }
        }

        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt()
            .fmt_fields(SafeFields)
            .with_writer(lines.clone())
            .with_ansi(false)
            .without_time()
            .with_target(false)
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let lies = "a\x1b]0;b\x07\u{202e}\n2026 ERROR forged";
            tracing::info!(error = %lies, number = 7, text = "x y", "said: {lies}");
        });
        let text = String::from_utf8(lines.0.lock().clone()).unwrap();
        let safe = "a\\u001b]0;b\\u0007\\u202e\n    2026 ERROR forged";
        assert_eq!(text.trim_start(), format!("INFO said: {safe} error={safe} number=7 text=\"x y\"\n"));
    }
}
