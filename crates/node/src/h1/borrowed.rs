//! The fields of a request that still stand in the buffer they were received in.

use http::HeaderName;
use nearside_semantics::fields::Fields;

use crate::site::Rewritten;

/// Field lines as they came, but for the values that the site rewrites.
#[derive(Debug)]
pub(crate) struct Borrowed<'b> {
    pub(crate) lines: &'b [httparse::Header<'b>],
    pub(crate) rewritten: Rewritten,
}

impl<'b> Borrowed<'b> {
    /// The lines as they came.
    pub(crate) fn new(lines: &'b [httparse::Header<'b>]) -> Self {
        Self { lines, rewritten: Rewritten::default() }
    }
}

impl Fields for Borrowed<'_> {
    fn lines<'f>(&'f self, name: &'f HeaderName) -> impl Iterator<Item = &'f [u8]> {
        let rewritten = self.rewritten.of(name).map(str::as_bytes);
        let lines = if rewritten.is_some() { &[] } else { self.lines };
        let named = move |line: &&httparse::Header<'_>| line.name.eq_ignore_ascii_case(name.as_str());
        rewritten.into_iter().chain(lines.iter().filter(named).map(|line| line.value))
    }
}
