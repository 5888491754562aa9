//! Claims, checked one after the other, with a line of output each.

/// Result of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Every claim holds.
    Passed,
    /// A claim does not hold, or a scenario was stopped before its end.
    Failed,
}

/// Counts of the claims that do not hold.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    failed: u32,
    /// Claims about time that do not hold. They are reported and do not change the verdict.
    slow: u32,
}

impl Claims {
    /// Prints whether a claim holds, and the reason if it does not.
    pub(crate) fn check(&mut self, what: &str, result: anyhow::Result<()>) {
        self.failed += u32::from(!holds(what, result, "FAIL "));
    }

    /// Prints whether a claim about elapsed time or CPU time holds. A busy machine can break such a
    /// claim without a defect in the program, so it does not count as failed.
    pub(crate) fn measure(&mut self, what: &str, result: anyhow::Result<()>) {
        self.slow += u32::from(!holds(what, result, "slow "));
    }

    /// Prints the last line: `all` if every claim holds, else the number that do not, followed by
    /// `failed` and the folder with the logs, if there is one.
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

/// Prints the line of a claim, which begins with `otherwise` if the claim does not hold.
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
