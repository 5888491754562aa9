//! The fields of a request that still stand in the buffer they were received in.

use http::HeaderName;
use nearside_semantics::fields::Fields;

/// Field lines as they came.
#[derive(Debug)]
pub struct Lines<'b>(pub &'b [httparse::Header<'b>]);

impl Fields for Lines<'_> {
    fn lines<'f>(&'f self, name: &'f HeaderName) -> impl Iterator<Item = &'f [u8]> {
        self.0.iter().filter(move |line| line.name.eq_ignore_ascii_case(name.as_str())).map(|line| line.value)
    }
}
