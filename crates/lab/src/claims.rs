//! Claims that are checked one after the other, a line each.

/// Result of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// All that was claimed holds.
    Passed,
    /// Something does not hold, or the run was stopped before its end.
    Failed,
}

/// How many did not hold so far.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    failed: u32,
    /// Of the claims about time: they are reported, and decide nothing.
    slow: u32,
}

impl Claims {
    /// Says whether a claim holds; if not, why not.
    pub(crate) fn check(&mut self, what: &str, result: anyhow::Result<()>) {
        self.failed += u32::from(!holds(what, result, "FAIL "));
    }

    /// Says whether a claim about time or processor time holds. On a busy machine it may not, with nothing wrong in the
    /// program: so this is no failure.
    pub(crate) fn measure(&mut self, what: &str, result: anyhow::Result<()>) {
        self.slow += u32::from(!holds(what, result, "slow "));
    }

    /// The last line: `all` if all of them hold, else how many do not, and where to look, if there is such a place.
    pub(crate) fn conclude(&self, all: &str, failed: &str, look: Option<&std::path::Path>) -> Verdict {
        if self.slow > 0 {
            outln!("{} measurement(s) are off: is the machine busy?", self.slow);
        }
        if self.failed == 0 {
            outln!("{all}");
            return Verdict::Passed;
        }
        let look = look.map_or_else(String::new, |look| format!("; logs: {}", look.display()));
        outln!("{} {failed}{look}", self.failed);
        Verdict::Failed
    }
}

/// Prints the line of a claim, with `otherwise` before it if it does not hold.
fn holds(what: &str, result: anyhow::Result<()>, otherwise: &str) -> bool {
    match result {
        Ok(()) => {
            outln!("ok    {what}");
            true
        }
        Err(error) => {
            outln!("{otherwise} {what}: {error:#}");
            false
        }
    }
}
