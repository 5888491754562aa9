//! Claims that are checked one after the other, a line each.

use std::process::ExitCode;

/// How many did not hold so far.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    failed: u32,
}

impl Claims {
    /// Says whether a claim holds; if not, why not.
    pub(crate) fn check(&mut self, what: &str, result: anyhow::Result<()>) {
        match result {
            Ok(()) => say!("ok    {what}"),
            Err(error) => {
                self.failed += 1;
                say!("FAIL  {what}: {error:#}");
            }
        }
    }

    /// The last line: `all` if all of them hold, else how many do not, and where to look, if there is such a place.
    pub(crate) fn conclude(&self, all: &str, failed: &str, look: Option<&std::path::Path>) -> ExitCode {
        if self.failed == 0 {
            say!("{all}");
            return ExitCode::SUCCESS;
        }
        let look = look.map_or_else(String::new, |look| format!("; logs: {}", look.display()));
        say!("{} {failed}{look}", self.failed);
        ExitCode::FAILURE
    }
}
