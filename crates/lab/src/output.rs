//! Standard output and standard error of the program. Either may be closed before everything is said, as in `nearside … | head -1`:
//! then nothing more is printed, and the command goes on to its end and its exit code.
//!
//! **Invariant:** nothing that others have said reaches a terminal with characters that it obeys: all that is printed here is made
//! [`visible`], but for [`print_styled_error`].

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::OnceLock;

use nearside_diagnostics::visible;
use rustix::event::{PollFd, PollFlags, poll};

/// The first error of standard output: after it nothing more is written.
static ERROR: OnceLock<io::Error> = OnceLock::new();

/// Prints a line on standard output.
#[macro_export]
macro_rules! outln {
    () => { $crate::output::print(format_args!("\n")) };
    ($($text:tt)*) => { $crate::output::print(format_args!("{}\n", format_args!($($text)*))) };
}

/// Prints a line on standard error, if anybody can read it.
#[macro_export]
macro_rules! errln {
    ($($text:tt)*) => { $crate::output::print_error(format_args!("{}\n", format_args!($($text)*))) };
}

/// Writes to standard output.
pub fn print(text: fmt::Arguments<'_>) {
    if is_open()
        && let Err(error) = io::stdout().lock().write_all(visible(&text.to_string()).as_bytes())
    {
        // Only the first one tells something.
        let _ = ERROR.set(error);
    }
}

/// Writes to standard error; where that cannot be written, nobody can be told.
pub fn print_error(text: fmt::Arguments<'_>) {
    let _ = io::stderr().lock().write_all(visible(&text.to_string()).as_bytes());
}

/// Writes a text of this program with colours of its own to standard error.
pub fn print_styled_error(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Whether everything so far could be printed.
pub fn is_open() -> bool {
    ERROR.get().is_none()
}

/// Whether the other end of a pipe is gone, which is noticed without writing. For commands that wait for something to print.
pub fn is_abandoned() -> bool {
    let out = io::stdout();
    let mut polled = [PollFd::new(&out, PollFlags::empty())];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    let is_ready = poll(&mut polled, Some(&now)).is_ok_and(|ready| ready > 0);
    let [out] = polled;
    is_ready && out.revents().contains(PollFlags::ERR)
}

/// The exit code at the end: what could not be printed is an error, unless it is that nobody reads any more.
pub fn finish(code: ExitCode) -> ExitCode {
    if is_open()
        && let Err(error) = io::stdout().lock().flush()
    {
        let _ = ERROR.set(error);
    }
    match ERROR.get() {
        Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            print_error(format_args!("error: standard output cannot be written: {error}\n"));
            ExitCode::FAILURE
        }
        _ => code,
    }
}
