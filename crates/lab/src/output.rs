//! Standard output and standard error of the program.
//!
//! Either can be closed while a command still prints, as in `nearside … | head -1`. Then nothing
//! more is printed, and the command runs to its end and its exit code.
//!
//! **Invariant:** control characters from foreign sources do not reach a terminal. All output of
//! this module is made [`visible`], except that of [`print_styled_error`].

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::OnceLock;

use nearside_diagnostics::visible;
use rustix::event::{PollFd, PollFlags, poll};

/// First error of standard output. Nothing is written after it.
static ERROR: OnceLock<io::Error> = OnceLock::new();

/// Prints a line on standard output.
#[macro_export]
macro_rules! outln {
    () => { $crate::output::print(format_args!("\n")) };
    ($($text:tt)*) => { $crate::output::print(format_args!("{}\n", format_args!($($text)*))) };
}

/// Prints a line on standard error. Errors are ignored.
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

/// Writes to standard error. Errors are ignored: there is no other place to report them.
pub fn print_error(text: fmt::Arguments<'_>) {
    let _ = io::stderr().lock().write_all(visible(&text.to_string()).as_bytes());
}

/// Writes text with colours to standard error. The text must come from this program only.
pub fn print_styled_error(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Whether everything printed so far was written.
pub fn is_open() -> bool {
    ERROR.get().is_none()
}

/// Whether standard output is a pipe whose reader is gone. Needs no write, so commands that wait
/// for something to print can ask.
pub fn is_abandoned() -> bool {
    let out = io::stdout();
    let mut polled = [PollFd::new(&out, PollFlags::empty())];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    let is_ready = poll(&mut polled, Some(&now)).is_ok_and(|ready| ready > 0);
    let [out] = polled;
    is_ready && out.revents().contains(PollFlags::ERR)
}

/// Flushes standard output and returns the exit code of the program: `code`, or failure if
/// something could not be written. A closed pipe is not a failure.
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
